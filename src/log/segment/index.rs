//! The indexes of a segment: read from their files, or made anew where those do not fit the log.

use super::Segment;
use crate::error::{CorruptReason, Error, Result};
use crate::record::DecodeError;
use crate::segment::{Extension, IndexBuilder, OffsetIndex, TimeIndex};
use crate::storage::{FileKind, OpenMode};

/// The indexes in memory, and how much of them stands in their files.
#[derive(Debug)]
pub(super) struct Indexes {
    pub(super) builder: IndexBuilder,
    pub(super) written_offsets: usize,
    pub(super) written_times: usize,
}

impl Indexes {
    /// Indexes of which nothing is in the files.
    pub(super) fn new(builder: IndexBuilder) -> Self {
        Self { builder, written_offsets: 0, written_times: 0 }
    }
}

impl Segment {
    /// The position of the batch that holds `offset`, or of the first one after it.
    pub(in crate::log) fn locate(&self, offset: i64) -> Result<u64> {
        self.with_indexes(|offsets, _, log| offsets.locate(log, offset))
    }

    /// The position of the first batch with a record of this timestamp or a later one.
    pub(in crate::log) fn locate_time(&self, timestamp: i64) -> Result<u64> {
        self.with_indexes(|offsets, times, log| times.locate(offsets, log, timestamp))
    }

    /// Asks the indexes; where they turn out to be wrong they are made anew and asked again.
    fn with_indexes<T>(
        &self,
        ask: impl Fn(&OffsetIndex, &TimeIndex, &[u8]) -> Result<Option<(u64, T)>, DecodeError>,
    ) -> Result<u64> {
        self.load_indexes()?;
        let len = self.len();
        if len == 0 {
            return Ok(0);
        }
        let map = self.map(len)?;
        let log = map.slice(0..len).unwrap_or_default();
        let mut slot = self.indexes.lock();
        let Some(indexes) = &*slot else { return Ok(0) };
        let mut found = ask(indexes.builder.offsets(), indexes.builder.times(), log);
        if matches!(found, Err(DecodeError::Corrupt { reason: CorruptReason::Index, .. })) {
            let mut builder = IndexBuilder::new(self.base_offset, self.interval);
            builder.scan(log, 0);
            found = ask(builder.offsets(), builder.times(), log);
            *slot = Some(Indexes::new(builder));
        }
        match found {
            Ok(Some((position, _))) => Ok(position),
            Ok(None) => Ok(len),
            Err(DecodeError::Corrupt { reason, position }) => {
                Err(Error::Corrupt(Box::new(crate::error::Corruption {
                    path: self.log_path(),
                    position: position as u64,
                    partition: Some(self.folder.partition.clone()),
                    offsets: None,
                    reason,
                })))
            }
            Err(error) => Err(error.into_error(&self.log_path(), 0)),
        }
    }

    /// Reads the index files, or rebuilds what does not fit the log.
    pub(super) fn load_indexes(&self) -> Result<()> {
        let mut slot = self.indexes.lock();
        if slot.is_some() {
            return Ok(());
        }
        let len = self.len();
        let (offsets, times) = self.stored_indexes(true)?;
        let parsed = offsets.and_then(|offsets| Ok((offsets, times?)));
        let map = self.map(len.max(1)).ok().filter(|_| len > 0);
        let log = map.as_ref().and_then(|map| map.slice(0..len)).unwrap_or_default();
        let resumed = parsed.ok().and_then(|(offsets, times)| {
            let written = (offsets.len(), times.len());
            Some((written, IndexBuilder::resume(offsets, times, self.interval, log)?))
        });
        let indexes = if let Some(((written_offsets, written_times), resumed)) = resumed {
            let (mut builder, from) = resumed;
            builder.scan(log, from);
            Indexes { builder, written_offsets, written_times }
        } else {
            let mut builder = IndexBuilder::new(self.base_offset, self.interval);
            builder.scan(log, 0);
            Indexes::new(builder)
        };
        *slot = Some(indexes);
        Ok(())
    }

    /// What the index files say. Of a segment that is written to, or was when a crash came, entries of
    /// batches that are gone are left out: those were written behind the checkpoint.
    pub(in crate::log) fn stored_indexes(
        &self,
        last: bool,
    ) -> Result<(Result<OffsetIndex, DecodeError>, Result<TimeIndex, DecodeError>)> {
        let (len, end_offset) = (self.len(), self.end_offset());
        let offsets = self.read_index(Extension::Index)?;
        let times = self.read_index(Extension::TimeIndex)?;
        let offsets = keep_entries(&offsets, |entry: &[u8; 8]| {
            let [_, _, _, _, p0, p1, p2, p3] = *entry;
            !last || u64::from(u32::from_be_bytes([p0, p1, p2, p3])) < len
        });
        let times = keep_entries(&times, |entry: &[u8; 12]| {
            let [.., o0, o1, o2, o3] = *entry;
            let relative = i64::from(i32::from_be_bytes([o0, o1, o2, o3]));
            !last || self.base_offset.saturating_add(relative) < end_offset
        });
        Ok((
            OffsetIndex::parse(offsets, self.base_offset, len),
            TimeIndex::parse(times, self.base_offset, end_offset),
        ))
    }

    /// The bytes of an index file, none if it is not there. No more are read than its log can need.
    fn read_index(&self, extension: Extension) -> Result<Vec<u8>> {
        let path = self.path(extension);
        let Some((FileKind::File, len)) = self.folder.storage.metadata(&path)? else {
            return Ok(Vec::new());
        };
        // Each entry speaks of a batch, which has at least 61 bytes.
        let most = (self.len() / 61 + 1).saturating_mul(12);
        let mut bytes = vec![0; usize::try_from(len.min(most)).unwrap_or(0)];
        let read = self.folder.storage.open(&path, OpenMode::Read)?.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The whole entries of an index file up to the first that does not qualify: those behind it are of
/// batches that are gone.
fn keep_entries<const N: usize>(bytes: &[u8], keep: impl Fn(&[u8; N]) -> bool) -> &[u8] {
    let (entries, _) = bytes.as_chunks::<N>();
    let count = entries.iter().position(|entry| !keep(entry)).unwrap_or(entries.len());
    bytes.get(..count * N).unwrap_or_default()
}
