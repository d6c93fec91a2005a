//! From checkpoint and journal back to a partition.

use std::path::Path;
use std::sync::Arc;

use super::append::Appender;
use super::batch::{OpenBatch, OpenFields};
use super::segment::Segment;
use super::view::View;
use super::write_out::{METADATA_FILE, SegmentImage};
use super::{AppendSection, Log, LogIdentity, LogShared};
use crate::error::{CorruptReason, Error, Result};
use crate::record::HEADER_BYTES;
use crate::segment::parse_file_name;
use crate::storage::{FileKind, OpenMode, Storage};
use crate::sync::atomic::Ordering;
use crate::types::{Epoch, TopicId};

/// A partition as a checkpoint records it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogImage {
    pub(crate) start_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) epochs: Vec<(Epoch, i64)>,
    pub(crate) segments: Vec<SegmentImage>,
}

/// What [`Log::settle_files`] did and found.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Bytes cut or removed.
    pub(crate) cut: u64,
    /// A segment before the active one that is gone or too short.
    pub(crate) damage: Option<Error>,
}

impl Log {
    /// The partition as the checkpoint knows it. No file is touched.
    pub(crate) fn restore(identity: LogIdentity, shared: Arc<LogShared>, image: &LogImage) -> Self {
        let log = Self::new(identity, shared);
        let interval = log.config().index_interval_bytes;
        let segments: Vec<_> = image
            .segments
            .iter()
            .map(|segment| Arc::new(Segment::existing(log.segment_folder(), *segment, interval)))
            .collect();
        if let Some((_, sealed)) = segments.split_last() {
            for segment in sealed {
                segment.seal();
            }
        }
        *log.view.write() = Arc::new(View {
            segments: Arc::new(segments),
            epochs: Arc::new(image.epochs.clone()),
            ..View::default()
        });
        {
            let mut appender = log.appender.lock();
            *appender = Appender::new(image.end_offset);
            appender.epochs.clone_from(&image.epochs);
        }
        log.start.store(image.start_offset, Ordering::Release);
        log.end.store(image.end_offset, Ordering::Release);
        log
    }

    /// Adds the records of a journal frame. They are in the open batch they were in before, so that
    /// sealing gives the same bytes.
    pub(crate) fn replay(
        &self,
        section: &AppendSection,
        records: &[u8],
        epoch: Epoch,
    ) -> Result<(), CorruptReason> {
        let mut appender = self.appender.lock();
        if section.first_offset() != appender.next_offset {
            return Err(CorruptReason::Offsets);
        }
        let continues = appender.open.as_ref().is_some_and(|open| {
            open.shared.base_offset == section.base_offset && open.shared.epoch == epoch
        });
        if !continues {
            if section.first_delta != 0 {
                return Err(CorruptReason::Offsets);
            }
            let fields = OpenFields {
                id: appender.take_batch_id(),
                base_offset: section.base_offset,
                base_timestamp: section.base_timestamp,
                timestamp_type: section.timestamp_type,
                epoch,
            };
            let memory = self.shared.buffers.take(HEADER_BYTES + records.len());
            let fresh = OpenBatch::new(fields, memory);
            self.open_fresh(&mut appender, fresh);
        }
        if appender.epochs.last().is_none_or(|&(last, _)| last < epoch) {
            let first = appender.next_offset;
            self.begin_epoch(&mut appender, epoch, first);
        }
        self.extend_replayed(&mut appender, section, records);
        self.enter_dirty_list(&mut appender);
        self.end.store(appender.next_offset, Ordering::Release);
        Ok(())
    }

    fn extend_replayed(&self, appender: &mut Appender, section: &AppendSection, records: &[u8]) {
        let Appender { open: Some(open), next_offset, .. } = appender else { return };
        if open.writer.spare().len() < records.len() {
            let capacity = open.shared.capacity();
            let needed = HEADER_BYTES + open.shared.records().len() + records.len();
            // A batch never grew beyond the batch size but for its first record.
            let larger = needed.max((capacity * 4).min(self.shared.batch_size));
            let grown = open.grown(self.shared.buffers.take(larger), 0);
            self.shared.memory.fetch_add((larger - capacity) as u64, Ordering::Relaxed);
            let shared = Arc::clone(&grown.shared);
            self.swap_view(|view| view.open = Some(shared));
            *open = grown;
        }
        if let Some(room) = open.writer.spare().get_mut(..records.len()) {
            room.copy_from_slice(records);
            open.writer.publish(records.len());
        }
        open.count += section.count;
        open.max_timestamp = open.max_timestamp.max(section.max_timestamp);
        *next_offset += i64::from(section.count);
    }

    /// Makes the folder hold exactly what the checkpoint lists: cuts segments to their hard length
    /// and removes those begun after it. What was cut becomes durable with the recovery checkpoint,
    /// before anything is acknowledged as `Synced`.
    ///
    /// # Errors
    /// `MissingSegment`, or `Corrupt` for a short file or the folder of another topic, where the next
    /// batch has no place to be written to; nothing is changed then. Such damage of an earlier segment
    /// is returned with what was done.
    pub(crate) fn settle_files(&self) -> Result<Settled> {
        let storage = &*self.shared.storage;
        let mut settled = Settled::default();
        if storage.metadata(self.dir())?.is_none() {
            return match self.view().segments.first() {
                Some(segment) => Err(segment.missing()),
                None => Ok(settled),
            };
        }
        let view = self.view();
        if !view.segments.is_empty() {
            check_topic_id(storage, self.dir(), self.topic_id())?;
        }
        if let Some((active, sealed)) = view.segments.split_last() {
            active.check_file()?;
            settled.damage = first_damage(sealed)?;
        }
        let mut out = self.out.lock();
        for entry in storage.list(self.dir())? {
            let Some(name) = parse_file_name(&entry.name) else { continue };
            let listed =
                view.segments.iter().any(|segment| segment.base_offset() == name.base_offset);
            let planted = cfg!(planted_fault = "keep_unlisted_segment");
            if entry.kind == FileKind::File && !listed && !planted {
                let path = self.dir().join(&entry.name);
                settled.cut += storage.metadata(&path)?.map_or(0, |(_, len)| len);
                storage.remove(&path)?;
                out.names_changed = true;
            }
        }
        // A crash leaves bytes behind the end of the segment that was written to. Behind that of another one
        // they are damage, and told when it is read.
        if let Some(active) = view.segments.last()
            && !cfg!(planted_fault = "believe_segment")
            && let Some((bytes, file)) = active.cut_to_hard_length()?
        {
            settled.cut += bytes;
            out.unsynced.push(file);
        }
        if view.segments.is_empty() {
            // The folder was being made when the crash came; it is made again with the first batch.
            if storage.metadata(&self.dir().join(METADATA_FILE))?.is_some() {
                storage.remove(&self.dir().join(METADATA_FILE))?;
                out.names_changed = true;
            }
        }
        if out.names_changed || !out.unsynced.is_empty() {
            self.mark_dirty();
        }
        Ok(settled)
    }
}

/// What is wrong with the first segment that is gone or too short.
fn first_damage(segments: &[Arc<Segment>]) -> Result<Option<Error>> {
    for segment in segments {
        match segment.check_file() {
            Ok(()) => {}
            Err(error) if error.is_corruption() => return Ok(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The topic id in the `partition.metadata` of a folder, if there is a readable one.
pub(crate) fn read_topic_id(storage: &dyn Storage, dir: &Path) -> Result<Option<TopicId>> {
    let path = dir.join(METADATA_FILE);
    if !matches!(storage.metadata(&path)?, Some((FileKind::File, _))) {
        return Ok(None);
    }
    let file = storage.open(&path, OpenMode::Read)?;
    let mut text = [0; 128];
    let len = file.read_at(&mut text, 0)?;
    let text = std::str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
    Ok(id.and_then(|id| id.trim().parse().ok()))
}

/// Refuses a folder that does not say that it is the topic's.
fn check_topic_id(storage: &dyn Storage, dir: &Path, expected: TopicId) -> Result<()> {
    match read_topic_id(storage, dir)? {
        Some(id) if id == expected => Ok(()),
        _ => Err(foreign(storage, dir)),
    }
}

/// Refuses a folder that says that it is another topic's.
pub(super) fn check_not_foreign(
    storage: &dyn Storage,
    dir: &Path,
    expected: TopicId,
) -> Result<()> {
    match read_topic_id(storage, dir)? {
        Some(id) if id != expected => Err(foreign(storage, dir)),
        _ => Ok(()),
    }
}

fn foreign(storage: &dyn Storage, dir: &Path) -> Error {
    let path = storage.display_path(&dir.join(METADATA_FILE));
    Error::corrupt(path, 0, CorruptReason::TopicId)
}
