//! The indexes of a segment: read from their files, or rebuilt if the files do not match the log.

use std::sync::Arc;

use super::Segment;
use super::read::{Batches, History};
use crate::error::{CorruptReason, Error, Result};
use crate::record::DecodeError;
use crate::segment::{Extension, IndexBuilder, OffsetIndex, TimeIndex};
use crate::storage::{FileKind, OpenMode};
use crate::sync::{MappedMutexGuard, MutexGuard};

/// The indexes in memory, and how many of their entries are in the files.
#[derive(Debug)]
pub(super) struct Indexes {
    pub(super) builder: IndexBuilder,
    pub(super) written_offsets: usize,
    pub(super) written_times: usize,
}

impl Indexes {
    /// Creates indexes without entries in the files.
    pub(super) fn new(builder: IndexBuilder) -> Self {
        Self { builder, written_offsets: 0, written_times: 0 }
    }
}

impl Segment {
    /// Returns the position of the batch that holds `offset`, or of the first batch after it.
    pub(in crate::log) fn locate(
        self: &Arc<Self>,
        offset: i64,
        history: History<'_>,
    ) -> Result<u64> {
        let found = self.with_indexes(history, |offsets, _, log| offsets.locate(log, offset));
        match found {
            Ok(Some(position)) => Ok(position),
            Ok(None) => self.end_of_batches(offset, history),
            Err(met) => self.locate_behind(met, offset, history),
        }
    }

    /// Returns the position of the first batch with a record of this timestamp or a later one, or the end of
    /// the segment if there is none.
    pub(in crate::log) fn locate_time(
        self: &Arc<Self>,
        timestamp: i64,
        history: History<'_>,
    ) -> Result<u64> {
        let ask = |offsets: &OffsetIndex, times: &TimeIndex, log: &Batches<'_>| {
            times.locate(offsets, log, timestamp)
        };
        match self.with_indexes(history, ask) {
            Ok(found) => Ok(found.unwrap_or(self.len())),
            Err(error) => Err(self.with_range(error, history)),
        }
    }

    /// Queries the indexes. If they prove wrong, rebuilds them and queries them again.
    fn with_indexes<T>(
        self: &Arc<Self>,
        history: History<'_>,
        ask: impl Fn(&OffsetIndex, &TimeIndex, &Batches<'_>) -> Result<Option<(u64, T)>>,
    ) -> Result<Option<u64>> {
        let log = Batches { segment: self, len: self.len(), history };
        if log.len == 0 {
            return Ok(None);
        }
        let mut slot = self.load_indexes()?;
        let mut found = ask(slot.builder.offsets(), slot.builder.times(), &log);
        if matches!(&found, Err(Error::Corrupt(damage)) if damage.reason == CorruptReason::Index) {
            *slot = self.rebuild_indexes(&log)?;
            found = ask(slot.builder.offsets(), slot.builder.times(), &log);
        }
        Ok(found?.map(|(position, _)| position))
    }

    /// Returns the indexes. Reads them from their files, or rebuilds them if the files do not match the log.
    pub(super) fn load_indexes(self: &Arc<Self>) -> Result<MappedMutexGuard<'_, Indexes>> {
        let mut slot = self.indexes.lock();
        if slot.is_none() {
            let log = Batches { segment: self, len: self.len(), history: None };
            let (offsets, times) = self.stored_indexes(true)?;
            let resumed = match (offsets, times) {
                (Ok(offsets), Ok(times)) => {
                    let written = (offsets.len(), times.len());
                    IndexBuilder::resume(offsets, times, self.interval, &log)?
                        .map(|(builder, from)| (builder, from, written))
                }
                _ => None,
            };
            *slot = Some(match resumed {
                Some((mut builder, from, (written_offsets, written_times))) => {
                    builder.extend(&log, from)?;
                    Indexes { builder, written_offsets, written_times }
                }
                None => self.rebuild_indexes(&log)?,
            });
        }
        let made = || Indexes::new(IndexBuilder::new(self.base_offset, self.interval));
        Ok(MutexGuard::map(slot, |slot| slot.get_or_insert_with(made)))
    }

    fn rebuild_indexes(&self, log: &Batches<'_>) -> Result<Indexes> {
        let mut builder = IndexBuilder::new(self.base_offset, self.interval);
        builder.extend(log, 0)?;
        Ok(Indexes::new(builder))
    }

    /// Reads the index files. `last` says that the segment is being written to, or was when a crash occurred.
    /// The entries of lost batches, written after the checkpoint, are then left out.
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

    /// Returns the bytes of an index file, at most as many as its log can need. Empty if the file does not
    /// exist.
    fn read_index(&self, extension: Extension) -> Result<Vec<u8>> {
        let path = self.path(extension);
        let Some((FileKind::File, len)) = self.folder.storage.metadata(&path)? else {
            return Ok(Vec::new());
        };
        // Each entry points to a batch, which has at least 61 bytes.
        let most = (self.len() / 61).saturating_add(1).saturating_mul(12);
        let mut bytes = vec![0; usize::try_from(len.min(most)).unwrap_or(0)];
        let read = self.folder.storage.open(&path, OpenMode::Read)?.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Returns the complete entries of an index file up to the first one that `keep` rejects. The entries from
/// there on point to lost batches.
fn keep_entries<const N: usize>(bytes: &[u8], keep: impl Fn(&[u8; N]) -> bool) -> &[u8] {
    let (entries, _) = bytes.as_chunks::<N>();
    let count = entries.iter().position(|entry| !keep(entry)).unwrap_or(entries.len());
    bytes.get(..count.saturating_mul(N)).unwrap_or_default()
}
