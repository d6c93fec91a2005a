//! Writes frozen batches to segments in order, rolls segments, and captures the written state for
//! checkpoints.

use std::path::PathBuf;
use std::sync::Arc;

use super::batch::MemBatch;
use super::folder::{METADATA_FILE, check_not_foreign};
use super::image::{LogImage, SegmentImage, is_deleted};
use super::segment::{Segment, SegmentFolder};
use super::stored::{Adopted, Claim};
use super::view::View;
use super::{Log, TopicConfig};
use crate::config::DiskBudgetPolicy;
use crate::error::{Error, Result};
use crate::record::Compression;
use crate::storage::{OpenMode, StorageFile};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// The number of frozen batches of a partition that may wait before an append waits for the thread that
/// writes them out.
const MAX_WAITING: usize = 256;

/// The state of a partition that a checkpoint needs, at exactly the marked offset (L5).
#[derive(Debug, Clone, Default)]
pub(crate) struct Captured {
    pub(crate) segments: Vec<SegmentImage>,
    /// See [`LogImage::first_dirty_offset`].
    pub(crate) first_dirty_offset: Option<i64>,
    /// Files written to since the last checkpoint.
    pub(crate) files: Vec<Arc<dyn StorageFile>>,
    /// The partition's folder, if names in it changed.
    pub(crate) folder: Option<PathBuf>,
    /// Whether the partition's folder itself is new.
    pub(crate) folder_created: bool,
    /// Whether files were closed that are not synced, so that only a sync of the whole storage covers them.
    pub(crate) left: bool,
}

/// A part of the records that a partition has to write. Their files must be synced before more are opened.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) files: Vec<Arc<dyn StorageFile>>,
    /// Every record below this offset is in these files, or synced already.
    end_offset: i64,
}

/// The result of [`Log::capture`].
#[derive(Debug)]
pub(crate) enum Capture {
    /// Everything up to the mark.
    Whole(Captured),
    /// A part, because too many files are open. Once the caller has synced these, [`Log::written_synced`]
    /// closes them.
    Part(Written),
}

#[cfg(test)]
impl Capture {
    /// Returns the whole capture, which the test expects.
    pub(crate) fn whole(self) -> Captured {
        match self {
            Self::Whole(captured) => captured,
            Self::Part(part) => panic!("{part:?}"),
        }
    }
}

/// How many files a write-out may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opens {
    /// At most the share of appends.
    Some,
    /// The share of a checkpoint, which syncs and closes them.
    More,
}

/// Whether a write-out deletes what `retention.bytes` does not allow any more. It waits for a sync, so nobody who
/// holds an append lock may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletes {
    Yes,
    No,
}

/// The state that the write-out lock of a partition protects.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(super) struct WriteOut {
    folder_ready: bool,
    pub(super) folder_created: bool,
    pub(super) names_changed: bool,
    pub(super) unsynced: Vec<Arc<dyn StorageFile>>,
    /// See [`Captured::left`].
    left: bool,
    captured: Option<Captured>,
    /// Segments that were removed since the mark was set and are not captured (L5).
    removed: Vec<SegmentImage>,
    /// Segments that are deleted, with files that could not be removed.
    pub(super) unremoved: Vec<Arc<Segment>>,
    /// Stored sections that replay found, until they are judged.
    pub(super) claims: Vec<Claim>,
    /// Whether the folder is new, and no sync is known to cover it.
    pub(super) folder_unproven: bool,
    /// Bytes that recovery believes by their checksums, to be written again.
    pub(super) adopted: Vec<Adopted>,
    /// The offset below which a replay knows the segments: from the checkpoint, or from a stored section.
    pub(super) claimed: i64,
    /// Segments that compaction has replaced, with files that a durable checkpoint may list.
    pub(super) replaced: Vec<Arc<Segment>>,
    /// A scratch buffer for compressed payloads.
    compressed: Vec<u8>,
}

impl WriteOut {
    /// Returns whether files were closed that no checkpoint has covered yet ([`Captured::left`]).
    pub(super) fn has_left(&self) -> bool {
        self.left || self.captured.as_ref().is_some_and(|captured| captured.left)
    }

    /// Adds a file to those that the next checkpoint must sync.
    pub(super) fn add_unsynced(&mut self, file: &Arc<dyn StorageFile>) {
        if !is_in(&self.unsynced, file) {
            self.unsynced.push(Arc::clone(file));
        }
    }

    /// Drops the handles of removed files, which need no sync.
    pub(super) fn forget_files(&mut self, removed: &[Arc<dyn StorageFile>]) {
        self.unsynced.retain(|file| !is_in(removed, file));
    }
}

/// Says that its thread holds the write-out lock to write out what waits. Drop it before the lock.
pub(super) struct Busy<'a>(&'a Log);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.writes_out.store(false, Ordering::Relaxed);
    }
}

impl Log {
    /// Writes out the first frozen batch. Returns whether more of them wait.
    ///
    /// As [`Log::write_out_some`] otherwise.
    pub(crate) fn write_out_one(&self) -> bool {
        let Some(mut out) = self.out.try_lock() else { return false };
        let _busy = self.begin_write_out();
        let full = self.shared.open_files.is_full() && !self.is_open();
        if full || !matches!(self.drain_some(&mut out, Opens::Some, Deletes::Yes, 1), Ok(true)) {
            self.shared.write_failed.store(true, Ordering::Release);
            return false;
        }
        self.waiting_batches() > 0
    }

    pub(super) fn begin_write_out(&self) -> Busy<'_> {
        self.writes_out.store(true, Ordering::Relaxed);
        Busy(self)
    }

    /// Returns whether another thread writes out what waits, which may take long.
    pub(crate) fn is_written_out(&self) -> bool {
        self.lock_out_for_append().is_none()
    }

    /// Takes the write-out lock for one append. Returns `None` if another thread writes out what waits: the
    /// append must not wait for that.
    pub(super) fn lock_out_for_append(&self) -> Option<MutexGuard<'_, WriteOut>> {
        match self.out.try_lock() {
            None if self.writes_out.load(Ordering::Relaxed) => None,
            None => Some(self.out.lock()),
            locked => locked,
        }
    }

    /// Writes out frozen batches, unless another thread does so already. If many batches wait, waits for
    /// that thread.
    ///
    /// A failure leaves the batch readable in memory and its frames in the journal. It requests a
    /// checkpoint, which tries again and reports the error. A write-out that would open too many files
    /// requests one too, because checkpoints close files.
    pub(crate) fn write_out_some(&self) {
        let out = if self.is_behind() { Some(self.out.lock()) } else { self.out.try_lock() };
        let Some(mut out) = out else { return };
        let _busy = self.begin_write_out();
        let full = self.shared.open_files.is_full() && !self.is_open();
        if full || !matches!(self.drain(&mut out, Opens::Some), Ok(true)) {
            self.shared.write_failed.store(true, Ordering::Release);
        }
    }

    /// Returns the number of batches that wait to be written out.
    pub(crate) fn waiting_batches(&self) -> usize {
        self.view.read().frozen.len()
    }

    /// Returns whether records of the partition have to be written to its files. Recovery asks.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.view().batches().next().is_some() || !self.out.lock().adopted.is_empty()
    }

    /// Returns whether so many batches wait that an append should wait too.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting_batches() > MAX_WAITING
    }

    /// Returns whether the active segment's file is open.
    pub(crate) fn is_open(&self) -> bool {
        self.view.read().segments.last().is_some_and(|active| active.open_file().is_some())
    }

    /// Writes out everything up to the mark that `FreezeGuard::freeze` set, and captures the state at the
    /// mark.
    ///
    /// Writes only a part if too many files are open. The mark stays until [`Log::checkpointed`] or
    /// [`Log::checkpoint_failed`].
    pub(crate) fn capture(&self) -> Result<Capture> {
        let mut out = self.out.lock();
        let _busy = self.begin_write_out();
        if !self.drain(&mut out, Opens::More)? {
            return Ok(Capture::Part(self.written_locked(&out)));
        }
        self.capture_at_mark(&mut out)?;
        out.captured.clone().map(Capture::Whole).ok_or(Error::Closed)
    }

    /// Closes captured files that hold nothing newer. The caller has synced them but has not written the
    /// checkpoint yet. Closes the active segment's file only if many files are open.
    pub(crate) fn synced(&self) {
        let mut out = self.out.lock();
        let Some(captured) = &mut out.captured else { return };
        let end = captured.segments.last().map_or(0, |segment| segment.end_offset);
        // These need no further sync, and each one holds a handle.
        let synced = std::mem::take(&mut captured.files);
        self.close_synced(&mut out, &synced, end);
    }

    /// Closes captured files that hold nothing newer, before they are synced, as [`Log::synced`] does
    /// afterwards. Returns the capture without files and folders: the caller makes them durable by a sync of
    /// the whole storage.
    pub(crate) fn leave_captured(&self) -> Captured {
        let mut out = self.out.lock();
        let Some(captured) = &mut out.captured else { return Captured::default() };
        let files = std::mem::take(&mut captured.files);
        let names = captured.folder.is_some() || captured.folder_created;
        captured.left |= (names || !files.is_empty()) && !planted("forget_files_left");
        let bare = Captured { folder: None, folder_created: false, ..captured.clone() };
        let end = captured.segments.last().map_or(0, |segment| segment.end_offset);
        self.close_synced(&mut out, &files, end);
        bare
    }

    /// Returns the files that were written and not synced.
    pub(crate) fn written(&self) -> Written {
        self.written_locked(&self.out.lock())
    }

    fn written_locked(&self, out: &WriteOut) -> Written {
        let end = self.view().segments.last().map_or(0, |active| active.end_offset());
        Written { files: out.unsynced.clone(), end_offset: end }
    }

    /// As [`Log::synced`], for a part.
    pub(crate) fn written_synced(&self, part: &Written) {
        let mut out = self.out.lock();
        if let Some(captured) = &mut out.captured {
            captured.files.retain(|file| !is_in(&part.files, file));
        }
        self.close_synced(&mut out, &part.files, part.end_offset);
    }

    /// Closes written files before they are synced, if the next checkpoint syncs the whole storage.
    pub(crate) fn leave_written(&self, part: &Written) {
        if !part.files.is_empty() {
            self.out.lock().left |= !planted("forget_files_left");
            self.written_synced(part);
        }
    }

    /// Adds a file to those that the next checkpoint syncs.
    pub(crate) fn sync_later(&self, file: Arc<dyn StorageFile>) {
        self.out.lock().unsynced.push(file);
        self.mark_dirty();
    }

    /// Records that the `synced` files are synced, which hold everything below `end`. Closes the segments
    /// without batches beyond `end`, the active one only if many files are open.
    fn close_synced(&self, out: &mut WriteOut, synced: &[Arc<dyn StorageFile>], end: i64) {
        let view = self.view();
        let many = self.shared.open_files.are_many();
        let mut newer = Vec::new();
        for (back, segment) in view.segments.iter().rev().enumerate() {
            let Some(file) = segment.open_file() else { continue };
            if segment.end_offset() > end {
                newer.push(file);
            } else if many || back > 0 {
                segment.close_file();
            }
        }
        out.unsynced.retain(|file| !is_in(synced, file) || is_in(&newer, file));
    }

    /// Records that a durable checkpoint holds the captured state and lists these segments. Removes segments
    /// that it does not list.
    pub(crate) fn checkpointed(&self, listed: &LogImage) {
        let mut out = self.out.lock();
        self.mark.store(-1, Ordering::Release);
        out.captured = None;
        out.removed.clear();
        // Otherwise the next stored section would name all segments since the last one, or not be possible.
        out.claimed = out.claimed.max(listed.end_offset);
        self.listed_end.store(listed.end_offset, Ordering::Release);
        self.remove_unlisted(&mut out, listed);
        self.remove_replaced(&mut out, listed);
    }

    /// Discards the captured state after a failed checkpoint. The next checkpoint includes the partition
    /// again.
    pub(crate) fn checkpoint_failed(&self) {
        let mut out = self.out.lock();
        self.mark.store(-1, Ordering::Release);
        out.removed.clear();
        if let Some(captured) = out.captured.take() {
            out.names_changed |= captured.folder.is_some();
            out.folder_created |= captured.folder_created;
            out.left |= captured.left && !planted("forget_left_after_failure");
        }
        drop(out);
        self.mark_dirty();
    }

    /// Finishes the active segment at a clean close: writes the last index entries and releases preallocated
    /// space. Returns whether the partition was in use.
    pub(crate) fn finish(&self) -> Result<bool> {
        let _out = self.out.lock();
        match self.view().segments.last() {
            Some(active) => active.finish(false),
            None => Ok(false),
        }
    }

    /// Writes out all frozen batches. Returns `false` if too many files are open for that.
    pub(super) fn drain(&self, out: &mut WriteOut, opens: Opens) -> Result<bool> {
        self.drain_some(out, opens, Deletes::Yes, usize::MAX)
    }

    /// As `drain`, under the append lock.
    pub(super) fn drain_for_append(&self, out: &mut WriteOut) -> Result<bool> {
        self.drain_some(out, Opens::Some, Deletes::No, usize::MAX)
    }

    /// As `drain`, but writes out at most this many batches.
    fn drain_some(
        &self,
        out: &mut WriteOut,
        opens: Opens,
        deletes: Deletes,
        most: usize,
    ) -> Result<bool> {
        for _ in 0..most {
            let Some(batch) = self.view.read().frozen.first().cloned() else { return Ok(true) };
            if self.is_deleted() {
                return Ok(true);
            }
            if self.shared.given_up.load(Ordering::Acquire) {
                return Err(Error::Closed);
            }
            self.capture_below(out, batch.base_offset)?;
            if planted("budget_released_before_write") {
                batch.release_charge();
            }
            if !self.write_batch(out, &batch, opens)? {
                return Ok(false);
            }
            self.release_memory(batch.capacity());
            self.give_back(batch);
            if deletes == Deletes::Yes {
                self.retain_bytes(out);
            }
        }
        Ok(true)
    }

    /// Gives the buffer of a batch back, unless a reader still uses it.
    pub(super) fn give_back(&self, batch: Arc<MemBatch>) {
        batch.release_charge();
        if let Some(buffer) = MemBatch::reclaim(batch) {
            self.shared.buffers.give_back(buffer);
        }
    }

    /// Captures the state at the mark, if a batch that begins at `base_offset` is beyond the mark. Called
    /// before that batch is written (L5).
    pub(super) fn capture_below(&self, out: &mut WriteOut, base_offset: i64) -> Result<()> {
        let mark = self.mark.load(Ordering::Acquire);
        let beyond = mark >= 0 && base_offset >= mark;
        if beyond && !planted("checkpoint_above_e") { self.capture_at_mark(out) } else { Ok(()) }
    }

    fn capture_at_mark(&self, out: &mut WriteOut) -> Result<()> {
        if self.mark.load(Ordering::Acquire) < 0 || out.captured.is_some() {
            return Ok(());
        }
        // Also if an append captures the state: the checkpoint lists them (S4).
        out.write_adopted_again()?;
        let view = self.view();
        if let Some(active) = view.segments.last() {
            active.flush_side_files()?;
        }
        let removed = std::mem::take(&mut out.removed);
        let present = view.segments.iter().map(|segment| segment.image());
        out.captured = Some(Captured {
            segments: removed.into_iter().chain(present).collect(),
            first_dirty_offset: Some(self.first_dirty.load(Ordering::Relaxed))
                .filter(|offset| *offset >= 0),
            files: out.unsynced.clone(),
            folder: std::mem::take(&mut out.names_changed).then(|| self.dir().to_owned()),
            folder_created: std::mem::take(&mut out.folder_created),
            left: std::mem::take(&mut out.left),
        });
        Ok(())
    }

    /// Keeps the images of segments that are being removed for a checkpoint that has not captured them yet.
    pub(super) fn capture_removed(&self, out: &mut WriteOut, removed: &[Arc<Segment>]) {
        if self.mark.load(Ordering::Acquire) >= 0 && out.captured.is_none() {
            out.removed.extend(removed.iter().map(|segment| segment.image()));
        }
    }

    fn write_batch(&self, out: &mut WriteOut, batch: &MemBatch, opens: Opens) -> Result<bool> {
        let remove = |view: &mut View| drop(view.frozen.remove(0));
        let before = planted("remove_before_write");
        if before {
            self.swap_view(remove);
        }
        let mut scratch = std::mem::take(&mut out.compressed);
        let result = self.write_bytes(out, batch, &mut scratch, opens);
        out.compressed = scratch;
        if !planted("forget_failed_batch") && !result? {
            return Ok(false);
        }
        if !before {
            self.swap_view(remove);
        }
        Ok(true)
    }

    fn write_bytes(
        &self,
        out: &mut WriteOut,
        batch: &MemBatch,
        scratch: &mut Vec<u8>,
        opens: Opens,
    ) -> Result<bool> {
        let bytes = if self.compress(batch, scratch)? {
            scratch.as_slice()
        } else {
            batch.sealed().ok_or(Error::Closed)?
        };
        let end_offset = batch.end_offset().ok_or(Error::Closed)?;
        let max_timestamp = batch.max_timestamp().ok_or(Error::Closed)?;
        let incoming = Incoming { bytes: bytes.len() as u64, end_offset, max_timestamp };
        let Some(segment) = self.segment_for(out, batch.base_offset, &incoming, opens)? else {
            return Ok(false);
        };
        let file = segment.append(bytes, end_offset, max_timestamp)?;
        self.shared.written_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        out.add_unsynced(&file);
        Ok(true)
    }

    /// Writes the header and the compressed records into `scratch`. Returns `false` if the topic does not
    /// compress, or if compression would not make the batch smaller.
    fn compress(&self, batch: &MemBatch, scratch: &mut Vec<u8>) -> Result<bool> {
        let codec = self.config().compression;
        if codec == Compression::None {
            return Ok(false);
        }
        scratch.clear();
        scratch.resize(crate::record::HEADER_BYTES, 0);
        let records = batch.records();
        if crate::record::compress(codec, None, records, scratch).is_err()
            || scratch.len() >= crate::record::HEADER_BYTES.saturating_add(records.len())
        {
            return Ok(false);
        }
        let (head, payload) = scratch.split_at_mut(crate::record::HEADER_BYTES);
        let header = batch.compressed_header(codec, payload).ok_or(Error::Closed)?;
        head.copy_from_slice(&header);
        Ok(true)
    }

    /// Returns the segment for the next batch. Returns `None` if that would open too many files.
    ///
    /// This is the active segment. It is a new one if the active segment must roll, or if it would refuse the
    /// batch because of damage before it.
    pub(super) fn segment_for(
        &self,
        out: &mut WriteOut,
        base_offset: i64,
        incoming: &Incoming,
        opens: Opens,
    ) -> Result<Option<Arc<Segment>>> {
        // Not inside the condition: the view would stay locked, and appends would wait for the roll's I/O.
        let active = self.view.read().segments.last().cloned();
        if let Some(active) = active {
            let active_image = active.image();
            let roll_bytes = self.roll_bytes();
            let roll = should_roll(&active_image, incoming, roll_bytes, &self.config())
                || active.must_roll() && active_image.len > 0
                || is_deleted(&active_image, self.start_offset())
                    && !planted("append_to_deleted_segment");
            // A roll that failed half-way has already sealed the segment.
            active.set_limit(roll_bytes);
            if !roll && !active.is_sealed() && active.can_go_on()? {
                return Ok(Some(active));
            }
            if self.opens_too_many(out, opens) {
                return Ok(None);
            }
            active.finish(true)?;
            active.seal();
            // An interrupted opening may have truncated the file, perhaps only in the cache of the system.
            // Sync the file before a checkpoint lists the segment with a final length.
            let file = active.file()?;
            if !is_in(&out.unsynced, &file) && !planted("cut_not_synced") {
                out.unsynced.push(file);
            }
        }
        self.prepare_folder(out)?;
        let segment = Segment::create(
            self.segment_folder(),
            base_offset,
            self.config().index_interval_bytes,
        )?;
        out.names_changed = true;
        segment.set_limit(self.roll_bytes());
        let segment = Arc::new(segment);
        // Add it to the view at once, so that the retry of a failed first write finds the file.
        self.swap_view(|view| Arc::make_mut(&mut view.segments).push(Arc::clone(&segment)));
        Ok(Some(segment))
    }

    /// Returns the size in bytes at which a segment ends: those of a topic that drops its oldest must be small
    /// beside the disk budget, and those of a compacted one beside the others.
    pub(super) fn roll_bytes(&self) -> u64 {
        let most = self.largest_segment();
        let compacts = self.config().cleanup_policy.compacts();
        if compacts { self.compacted_roll_bytes(most) } else { most }
    }

    /// Returns the most bytes that a segment may take.
    pub(super) fn largest_segment(&self) -> u64 {
        let config = self.config();
        let drops = config.disk_budget_policy == DiskBudgetPolicy::DropOldest;
        let budget = self.shared.ledger.as_ref().filter(|_| drops);
        budget.map_or(u64::MAX, |ledger| ledger.roll_bytes()).min(config.roll_bytes())
    }

    /// Returns whether the partition must sync and close some files before it opens another one.
    fn opens_too_many(&self, out: &WriteOut, opens: Opens) -> bool {
        let files = &self.shared.open_files;
        let many = match opens {
            Opens::Some => files.is_full(),
            Opens::More => files.is_overfull(),
        };
        many && out.unsynced.len() > 1 && !planted("all_files_are_ours")
    }

    pub(super) fn segment_folder(&self) -> Arc<SegmentFolder> {
        Arc::clone(&self.folder)
    }

    /// Writes Kafka's `partition.metadata` again, and syncs it. Only while no other process has the folder.
    pub(crate) fn write_metadata(&self) -> Result<()> {
        let storage = &self.shared.storage;
        let path = self.dir().join(METADATA_FILE);
        let there = storage.metadata(&path)?.is_some();
        let file =
            storage.open(&path, if there { OpenMode::Write } else { OpenMode::CreateNew })?;
        let text = metadata_text(self.topic_id());
        file.set_len(text.len() as u64)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        storage.sync_dir(self.dir())
    }

    /// Creates the partition's folder with Kafka's `partition.metadata` for the first batch.
    fn prepare_folder(&self, out: &mut WriteOut) -> Result<()> {
        if out.folder_ready {
            return Ok(());
        }
        if self.view().segments.is_empty() {
            self.create_folder(out)?;
        }
        out.folder_ready = true;
        Ok(())
    }

    /// Creates the folder and its metadata file. Records each step for the next sync as soon as it is done,
    /// so the next attempt can continue after one that failed half-way.
    fn create_folder(&self, out: &mut WriteOut) -> Result<()> {
        let storage = &self.shared.storage;
        let metadata = self.dir().join(METADATA_FILE);
        let is_new = storage.metadata(&metadata)?.is_none();
        let mode = if is_new {
            storage.create_dir(self.dir())?;
            out.folder_created = true;
            OpenMode::CreateNew
        } else {
            check_not_foreign(&**storage, self.dir(), self.topic_id())?;
            OpenMode::Write
        };
        let file = storage.open(&metadata, mode)?;
        out.names_changed = true;
        out.unsynced.push(Arc::clone(&file));
        let written = file.write_at(metadata_text(self.topic_id()).as_bytes(), 0);
        if written.is_err() && is_new && !planted("half_a_folder_stays") {
            // The append is refused, and perhaps nobody tries again.
            out.forget_files(&[file]);
            let removed = storage.remove(&metadata).and_then(|()| storage.remove_dir(self.dir()));
            if removed.is_ok() {
                (out.folder_created, out.names_changed) = (false, false);
            }
        }
        written
    }
}

fn is_in(files: &[Arc<dyn StorageFile>], file: &Arc<dyn StorageFile>) -> bool {
    files.iter().any(|known| Arc::ptr_eq(known, file))
}

/// Returns the content of `partition.metadata`.
pub(crate) fn metadata_text(id: crate::types::TopicId) -> String {
    format!("version: 0\ntopic_id: {id}\n")
}

/// A batch that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming {
    pub(super) bytes: u64,
    pub(super) end_offset: i64,
    pub(super) max_timestamp: i64,
}

/// Returns whether the active segment must roll before the batch: by size, by record time, or by the range of
/// the relative offsets in the indexes.
///
/// This is Kafka's `LogSegment.shouldRoll`. An empty segment does not roll.
fn should_roll(
    active: &SegmentImage,
    batch: &Incoming,
    roll_bytes: u64,
    config: &TopicConfig,
) -> bool {
    if active.len == 0 {
        return false;
    }
    let full = active.len.saturating_add(batch.bytes) > roll_bytes;
    let waited = batch.max_timestamp.saturating_sub(active.first_timestamp);
    let aged = active.first_timestamp >= 0
        && batch.max_timestamp >= 0
        && u64::try_from(waited).is_ok_and(|waited| waited > config.roll_ms());
    let last = batch.end_offset.saturating_sub(1);
    let far = last.saturating_sub(active.base_offset) > i64::from(i32::MAX);
    full || aged || far
}

#[cfg(test)]
mod tests {
    use super::*;

    fn should_roll(active: &SegmentImage, batch: &Incoming, config: &TopicConfig) -> bool {
        super::should_roll(active, batch, config.roll_bytes(), config)
    }

    fn active() -> SegmentImage {
        SegmentImage {
            base_offset: 100,
            generation: 0,
            end_offset: 200,
            len: 1_000,
            checksum: 0,
            first_timestamp: 5_000,
            max_timestamp: 6_000,
        }
    }

    fn incoming() -> Incoming {
        Incoming { bytes: 24, end_offset: 210, max_timestamp: 6_000 }
    }

    #[test]
    fn a_segment_is_deleted_when_the_log_start_has_passed_it_whole() {
        assert!(!is_deleted(&active(), 199));
        assert!(is_deleted(&active(), 200));
        // An empty segment accepts the next batch.
        assert!(!is_deleted(&SegmentImage { end_offset: 100, len: 0, ..active() }, 100));
    }

    #[test]
    fn a_segment_rolls_as_in_kafka() {
        let text = include_str!("../../tests/vectors/compaction.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["cases"].as_array().unwrap().iter();
        let mut run = 0;
        for case in cases.filter(|case| case["kind"] == "roll") {
            let number = |part: &str, key: &str| case[part][key].as_i64().unwrap();
            // A unit below what `validate` allows is fine here.
            let settings = case["config"].as_object().unwrap().iter();
            let config = settings.fold(TopicConfig::new(), |config, (key, value)| {
                config.set(key, &value.to_string()).unwrap()
            });
            let size = number("active", "size") as u64;
            let active = SegmentImage {
                end_offset: 101,
                len: size,
                first_timestamp: number("active", "firstBatchTs"),
                ..SegmentImage::empty(100)
            };
            let incoming = Incoming {
                bytes: number("incoming", "bytes") as u64,
                end_offset: 102,
                max_timestamp: number("incoming", "maxTs"),
            };
            let rolls = case["expect"]["roll"].as_bool().unwrap();
            assert_eq!(should_roll(&active, &incoming, &config), rolls, "{}", case["name"]);
            run += 1;
        }
        assert_eq!(run, 5);
    }

    #[test]
    fn a_segment_rolls_by_size_time_and_offset_range_alone() {
        let config =
            TopicConfig::new().segment_bytes(1_024).segment_ms(std::time::Duration::from_secs(1));
        assert!(!should_roll(&active(), &incoming(), &config));
        assert!(should_roll(&active(), &Incoming { bytes: 25, ..incoming() }, &config));
        assert!(should_roll(&active(), &Incoming { max_timestamp: 6_001, ..incoming() }, &config));
        let far = 100 + i64::from(i32::MAX) + 1;
        assert!(!should_roll(&active(), &Incoming { end_offset: far, ..incoming() }, &config));
        assert!(should_roll(&active(), &Incoming { end_offset: far + 1, ..incoming() }, &config));
        assert!(!should_roll(&active(), &Incoming { max_timestamp: -1, ..incoming() }, &config));
        // A segment without a time of its first batch does not age.
        let timeless = SegmentImage { first_timestamp: -1, ..active() };
        assert!(!should_roll(
            &timeless,
            &Incoming { max_timestamp: i64::MAX, ..incoming() },
            &config
        ));
        let empty = SegmentImage { len: 0, ..active() };
        assert!(!should_roll(&empty, &Incoming { bytes: 9_999, ..incoming() }, &config));
    }
}
