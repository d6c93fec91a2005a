//! A log in memory, for tests.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::{Batches, CleanError, SegmentInfo, Sink, Source, Stats};
use crate::error::Error;
use crate::producer_state::AbortedTransaction;
use crate::record::{Batch, BatchHeader};

/// A segment in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemorySegment {
    pub(crate) base_offset: i64,
    /// The offset after the segment.
    pub(crate) end_offset: i64,
    /// The batches, back to back.
    pub(crate) log: Vec<u8>,
    /// The transaction index.
    pub(crate) aborted: Vec<AbortedTransaction>,
}

impl MemorySegment {
    /// Creates an empty segment.
    pub(crate) const fn new(base_offset: i64) -> Self {
        Self { base_offset, end_offset: base_offset, log: Vec::new(), aborted: Vec::new() }
    }

    /// Returns the description of the segment. It has no indexes and no timestamps.
    pub(crate) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            base_offset: self.base_offset,
            end_offset: self.end_offset,
            log_bytes: self.log.len() as u64,
            index_bytes: 0,
            time_index_bytes: 0,
            first_timestamp: -1,
            largest_timestamp: -1,
        }
    }

    /// Returns a reader of the batches.
    pub(crate) fn batches(&self) -> MemoryBatches<'_> {
        MemoryBatches { segment: self.base_offset, log: &self.log, position: 0 }
    }
}

/// The batches of a segment in memory.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBatches<'a> {
    segment: i64,
    log: &'a [u8],
    position: usize,
}

impl Batches for MemoryBatches<'_> {
    fn next(&mut self) -> Result<Option<(u64, Batch<'_>)>, CleanError> {
        let position = self.position as u64;
        let rest = self.log.get(self.position..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let batch = Batch::parse(rest).map_err(|error| CleanError::Undecodable {
            segment: self.segment,
            position,
            error,
        })?;
        self.position = self.position.saturating_add(batch.bytes().len());
        Ok(Some((position, batch)))
    }
}

impl Source for Vec<MemorySegment> {
    type Batches<'a> = MemoryBatches<'a>;

    fn batches(&self, segment: &SegmentInfo, _from: i64) -> Result<MemoryBatches<'_>, CleanError> {
        // An empty segment may have the base offset of the next one.
        let same = |s: &&MemorySegment| s.info() == *segment;
        let empty = MemoryBatches { segment: segment.base_offset, log: &[], position: 0 };
        Ok(self.iter().find(same).map_or(empty, MemorySegment::batches))
    }
}

/// The new segments of a pass.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    /// Each with what the pass said at its end, once it has ended.
    pub(crate) segments: Vec<(MemorySegment, Option<Stats>)>,
}

impl Sink for MemorySink {
    fn begin(&mut self, group: &[SegmentInfo]) -> Result<(), Error> {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            let mut segment = MemorySegment::new(first.base_offset);
            segment.end_offset = last.end_offset;
            self.segments.push((segment, None));
        }
        Ok(())
    }

    fn batch(&mut self, _header: &BatchHeader, bytes: &[u8]) -> Result<(), Error> {
        if let Some((segment, _)) = self.segments.last_mut() {
            segment.log.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn aborted(&mut self, transaction: &AbortedTransaction) -> Result<(), Error> {
        if let Some((segment, _)) = self.segments.last_mut() {
            segment.aborted.push(*transaction);
        }
        Ok(())
    }

    fn end(&mut self, stats: &Stats) -> Result<(), Error> {
        if let Some((_, ended)) = self.segments.last_mut() {
            *ended = Some(*stats);
        }
        Ok(())
    }
}
