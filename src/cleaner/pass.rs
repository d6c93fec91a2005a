//! A whole pass over a log: the map of the dirty part, then a copy of all segments up to its end.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::ops::ControlFlow;

use super::segment_info::wholly_below;
use super::{
    BatchError, CleanError, Filter, FilterSettings, Filtered, GroupLimits, KeyMap, OffsetMap,
    Outcome, SegmentInfo, Stats, group,
};
use crate::error::{CorruptReason, Error};
use crate::producer_state::{AbortedIndex, AbortedTransaction, ProducerStates};
use crate::record::{Batch, BatchHeader, DecodeError};

/// Where a pass reads segments.
pub(crate) trait Source {
    /// A reader of one segment.
    type Batches<'a>: Batches
    where
        Self: 'a;

    /// Returns a reader of the batches of `segment`. It may leave out batches that end before `from_offset`.
    fn batches(
        &self,
        segment: &SegmentInfo,
        from_offset: i64,
    ) -> Result<Self::Batches<'_>, CleanError>;
}

/// Reads the batches of one segment, one at a time.
pub(crate) trait Batches {
    /// Returns the next batch and its position in the segment, or `None` at the end. Bytes that are no batch
    /// are an error: a sealed segment ends where a batch ends.
    fn next(&mut self) -> Result<Option<(u64, Batch<'_>)>, CleanError>;
}

/// Takes the new segments. After any error the segment that was begun is to be discarded.
pub(crate) trait Sink {
    /// Begins the segment that replaces `group`, which is not empty. It has the base offset of the first and the
    /// end offset of the last one.
    fn begin(&mut self, group: &[SegmentInfo]) -> Result<(), Error>;
    /// Takes the next batch. Offsets rise.
    fn batch(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), Error>;
    /// Takes the next entry of the segment's transaction index, after the batch of its marker.
    fn aborted(&mut self, transaction: &AbortedTransaction) -> Result<(), Error>;
    /// Ends the segment. If `stats` says that nothing has changed, the source may stay in its place.
    fn end(&mut self, stats: &Stats) -> Result<(), Error>;
}

/// A pass, and all that it depends on. The same values give the same result.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// The segments from the log start on, oldest first, without gaps between them. Segments that do not end at
    /// or below `first_uncleanable_offset` are ignored.
    pub(crate) segments: &'a [SegmentInfo],
    /// Where the last pass ended, or the log start offset.
    pub(crate) first_dirty_offset: i64,
    /// The offset from which on nothing is touched.
    pub(crate) first_uncleanable_offset: i64,
    /// The aborted transactions of all these segments.
    pub(crate) aborted: &'a AbortedIndex,
    /// The producers whose state must survive.
    pub(crate) producers: &'a ProducerStates,
    /// Time, retention of tombstones, and limits.
    pub(crate) settings: FilterSettings,
    /// The limits of a new segment.
    pub(crate) limits: GroupLimits,
    /// The most memory that the map takes in bytes.
    pub(crate) map_bytes: usize,
    /// A random key for the hashes of the map.
    pub(crate) hash_key: &'a [u8; 16],
    /// Asked before each batch whether the pass should stop.
    pub(crate) interrupted: &'a dyn Fn() -> bool,
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// The next first dirty offset. At most the first uncleanable offset, unless nothing was dirty. Smaller if
    /// the map was full; then another pass is due.
    pub(crate) next_dirty_offset: i64,
    /// How many of the given segments were replaced. The others are as they were.
    pub(crate) segments: usize,
    /// The sums over all new segments.
    pub(crate) stats: Stats,
}

impl Pass<'_> {
    /// Runs the pass. Memory is bounded by the map and by one batch.
    ///
    /// # Errors
    /// The source is unchanged after any error, and the first dirty offset stays. Segments that the sink has ended
    /// may replace their sources even then, the oldest first: a tombstone must not go before older values of its
    /// key.
    pub(crate) fn run(
        &self,
        source: &impl Source,
        sink: &mut impl Sink,
    ) -> Result<Cleaned, CleanError> {
        let count = wholly_below(self.segments, self.first_uncleanable_offset);
        let cleanable = self.segments.get(..count).unwrap_or_default();
        let map = self.map(source, cleanable)?;
        let count = cleanable.partition_point(|s| s.base_offset < map.end_offset());
        let covered = cleanable.get(..count).unwrap_or_default();

        let mut filter = Filter::new(&map, self.settings, self.aborted, self.producers);
        let mut stats = Stats::default();
        for range in group(covered, self.limits) {
            let segments = covered.get(range).unwrap_or_default();
            stats.add(&self.copy(source, segments, &mut filter, sink)?);
        }
        Ok(Cleaned { next_dirty_offset: map.end_offset(), segments: count, stats })
    }

    /// Makes the map of the dirty part.
    fn map(
        &self,
        source: &impl Source,
        cleanable: &[SegmentInfo],
    ) -> Result<OffsetMap, CleanError> {
        let first = self.first_dirty_offset;
        let end = cleanable.last().map_or(first, |segment| segment.end_offset);
        let offsets = u64::try_from(end.saturating_sub(first)).unwrap_or(0);
        let keys = KeyMap::new(self.map_bytes, offsets, self.hash_key);
        if offsets > 0 && keys.max_keys() == 0 {
            return Err(CleanError::MapTooSmall { max_bytes: self.map_bytes });
        }
        let mut map = OffsetMap::new(keys, first);
        let limit = self.settings.max_decompressed_bytes;
        for segment in cleanable.iter().filter(|segment| segment.end_offset > first) {
            let went_on = self.each_batch(source, segment, first, |batch| {
                let goes_on = map.add(batch, self.aborted, limit)?;
                Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            if went_on.is_break() {
                break;
            }
            map.end_segment(segment.end_offset);
        }
        Ok(map)
    }

    /// Copies a group into one new segment.
    fn copy(
        &self,
        source: &impl Source,
        segments: &[SegmentInfo],
        filter: &mut Filter<'_>,
        sink: &mut impl Sink,
    ) -> Result<Stats, CleanError> {
        let mut stats = Stats::default();
        sink.begin(segments)?;
        for segment in segments {
            let _ends = self.each_batch(source, segment, segment.base_offset, |batch| {
                let filtered = filter.batch(batch)?;
                stats.add(&stats_of(batch.header(), &filtered));
                if let Some((header, bytes)) = &filtered.batch {
                    sink.batch(header, bytes)?;
                }
                if let Some(transaction) = &filtered.aborted {
                    sink.aborted(transaction)?;
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        sink.end(&stats)?;
        Ok(stats)
    }

    /// Passes the batches of a segment to `each`, in order, until it breaks.
    ///
    /// Checks that offsets rise and lie in the segment. The map and the rules on transactions rest on it.
    fn each_batch(
        &self,
        source: &impl Source,
        segment: &SegmentInfo,
        from_offset: i64,
        mut each: impl FnMut(&Batch<'_>) -> Result<ControlFlow<()>, BatchError>,
    ) -> Result<ControlFlow<()>, CleanError> {
        let mut batches = source.batches(segment, from_offset)?;
        let mut next_offset = segment.base_offset;
        loop {
            if (self.interrupted)() {
                return Err(CleanError::Interrupted);
            }
            let Some((position, batch)) = batches.next()? else {
                return Ok(ControlFlow::Continue(()));
            };
            let header = batch.header();
            let is_in_place =
                header.base_offset >= next_offset && header.next_offset() <= segment.end_offset;
            let result = if is_in_place {
                next_offset = header.next_offset();
                each(&batch)
            } else {
                Err(DecodeError::corrupt(CorruptReason::Offsets, 0).into())
            };
            if result.map_err(|error| error.at(segment.base_offset, position))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

/// Returns what the filter has done with one batch.
fn stats_of(source: &BatchHeader, filtered: &Filtered<'_>) -> Stats {
    let has = |outcome| u64::from(filtered.outcome == outcome);
    Stats {
        batches_in: 1,
        records_in: u64::try_from(source.count).unwrap_or(0),
        bytes_in: source.total_bytes() as u64,
        batches_unchanged: has(Outcome::Unchanged),
        batches_rebuilt: has(Outcome::Rebuilt),
        batches_emptied: has(Outcome::Emptied),
        batches_removed: has(Outcome::Removed),
        records_out: filtered.records,
        bytes_out: filtered.batch.map_or(0, |(_, bytes)| bytes.len() as u64),
        tombstones_removed: filtered.tombstones_removed,
    }
}
