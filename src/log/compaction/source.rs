//! Reads segments for a pass: with plain reads, a piece at a time, each block compared with its sum.
//!
//! No map and no handle stays open, so a pass takes little memory whatever the size of the log. Nothing explains a
//! wrong block here: a pass copies only what is proven.

use std::sync::Arc;

use super::Pace;
use crate::cleaner::{Batches, CleanError, SegmentInfo, Source};
use crate::error::{CorruptReason, Result};
use crate::log::segment::Segment;
use crate::record::{Batch, BatchHeader, DecodeError, HEADER_BYTES};
use crate::segment::{BLOCK_BYTES, Sums};
use crate::storage::StorageFile;
use crate::sync::atomic::{AtomicBool, Ordering};

/// How many bytes are read at a time, if the segment has as many: 16 blocks.
const READ_BYTES: u64 = 1 << 20;

pub(super) struct FileSource<'a> {
    segments: &'a [Arc<Segment>],
    pace: &'a dyn Pace,
    /// Whether the pass knows of producers and their transactions. Otherwise it ends at a batch of one.
    knows_producers: bool,
    met_producer: AtomicBool,
}

impl<'a> FileSource<'a> {
    pub(super) fn new(
        segments: &'a [Arc<Segment>],
        pace: &'a dyn Pace,
        knows_producers: bool,
    ) -> Self {
        Self { segments, pace, knows_producers, met_producer: AtomicBool::new(false) }
    }

    pub(super) fn segments(&self) -> &'a [Arc<Segment>] {
        self.segments
    }

    /// Returns whether the pass ended at a batch of a producer of which it knows nothing.
    pub(super) fn has_met_producer(&self) -> bool {
        self.met_producer.load(Ordering::Relaxed)
    }
}

impl Source for FileSource<'_> {
    type Batches<'a>
        = FileBatches<'a>
    where
        Self: 'a;

    fn batches(&self, segment: &SegmentInfo, _: i64) -> Result<FileBatches<'_>, CleanError> {
        let known = self.segments.iter().find(|known| known.base_offset() == segment.base_offset);
        let segment = known.ok_or(CleanError::Interrupted)?;
        let file = segment.open_to_read()?;
        let there = file.len()?;
        if there != segment.len() {
            // A complete segment ends where the checkpoint says, as readers demand too.
            let short = there < segment.len();
            let reason = if short { CorruptReason::Short } else { CorruptReason::Length };
            return Err(damaged(segment, there.min(segment.len()), reason));
        }
        let sums = segment.proven_sums()?;
        Ok(FileBatches { source: self, segment, file, sums, buffer: Vec::new(), start: 0, at: 0 })
    }
}

/// The batches of one segment.
pub(super) struct FileBatches<'a> {
    source: &'a FileSource<'a>,
    segment: &'a Segment,
    file: Arc<dyn StorageFile>,
    sums: Sums,
    /// Checked bytes of the segment. They end where a block ends.
    buffer: Vec<u8>,
    /// The position of the first of them.
    start: u64,
    /// Where the next batch begins in the buffer.
    at: usize,
}

impl FileBatches<'_> {
    fn position(&self) -> u64 {
        self.start.saturating_add(self.at as u64)
    }

    /// Reads on until the buffer holds the next `bytes` bytes.
    fn fill(&mut self, bytes: usize) -> Result<(), CleanError> {
        let position = self.position();
        if position.saturating_add(bytes as u64) > self.segment.len() {
            return Err(damaged(self.segment, position, CorruptReason::Length));
        }
        if self.buffer.len().saturating_sub(self.at) >= bytes {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        (self.start, self.at) = (position, 0);
        let from = self.start.saturating_add(self.buffer.len() as u64);
        let until = self.start.saturating_add(bytes as u64).max(from.saturating_add(READ_BYTES));
        let until = until.next_multiple_of(BLOCK_BYTES).min(self.segment.len());
        self.read(from, until)
    }

    fn read(&mut self, from: u64, until: u64) -> Result<(), CleanError> {
        let before = self.buffer.len();
        self.buffer.resize(before.saturating_add(until.saturating_sub(from) as usize), 0);
        let new = self.buffer.get_mut(before..).unwrap_or_default();
        if self.file.read_at(new, from)? < new.len() {
            return Err(damaged(self.segment, from, CorruptReason::Short));
        }
        for (block, bytes) in (from / BLOCK_BYTES..).zip(new.chunks(BLOCK_BYTES as usize)) {
            let expected = self.sums.block(block).map(|(_, sum)| sum);
            if expected != Some(crc32fast::hash(bytes)) {
                let at = block.saturating_mul(BLOCK_BYTES);
                return Err(damaged(self.segment, at, CorruptReason::Checksum));
            }
        }
        self.source.pace.spend(until.saturating_sub(from));
        Ok(())
    }
}

impl Batches for FileBatches<'_> {
    fn next(&mut self) -> Result<Option<(u64, Batch<'_>)>, CleanError> {
        let position = self.position();
        if position >= self.segment.len() {
            return Ok(None);
        }
        self.fill(HEADER_BYTES)?;
        let damaged = |error| not_decoded(self.segment, position, error);
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let header = BatchHeader::parse(rest).map_err(damaged)?;
        if header.producer_id >= 0 && !self.source.knows_producers {
            self.source.met_producer.store(true, Ordering::Relaxed);
            return Err(CleanError::Interrupted);
        }
        let bytes = header.total_bytes();
        self.fill(bytes)?;
        let batch = self.at..self.at.saturating_add(bytes);
        self.at = batch.end;
        let bytes = self.buffer.get(batch).unwrap_or_default();
        let segment = self.segment;
        let batch = Batch::parse(bytes).map_err(|error| not_decoded(segment, position, error))?;
        Ok(Some((position, batch)))
    }
}

fn not_decoded(segment: &Segment, position: u64, error: DecodeError) -> CleanError {
    CleanError::Undecodable { segment: segment.base_offset(), position, error }
}

/// Returns damage of a segment that a pass has met.
fn damaged(segment: &Segment, position: u64, reason: CorruptReason) -> CleanError {
    CleanError::Failed(segment.lost(position, reason))
}
