//! The state of a partition that a checkpoint records.

use crate::segment::SegmentId;
use crate::types::Epoch;

/// A partition as a checkpoint records it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogImage {
    pub(crate) start_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) epochs: Vec<(Epoch, i64)>,
    pub(crate) segments: Vec<SegmentImage>,
    /// Where the last pass of compaction ended, if there was one: the first dirty offset of the next pass.
    pub(crate) first_dirty_offset: Option<i64>,
}

/// A segment as a checkpoint records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentImage {
    /// The offset in the name of the file.
    pub(crate) base_offset: i64,
    /// How often compaction has replaced the segment. Also in the name of the file, unless it is 0. Offsets may
    /// be missing between and in the batches of a segment that is not of generation 0.
    pub(crate) generation: u32,
    /// The offset after the last batch.
    pub(crate) end_offset: i64,
    /// The hard length in bytes. These bytes are synced and hold exactly the batches below `end_offset`.
    pub(crate) len: u64,
    /// The CRC-32 of these bytes.
    pub(crate) checksum: u32,
    /// The largest timestamp of the first batch, for rolling by time, or -1 if there is none.
    pub(crate) first_timestamp: i64,
    /// The largest timestamp of all batches, or -1 if there is none.
    pub(crate) max_timestamp: i64,
}

impl SegmentImage {
    /// Returns what tells the segment's files from those of others.
    pub(crate) const fn id(&self) -> SegmentId {
        SegmentId { base_offset: self.base_offset, generation: self.generation }
    }

    /// Returns the image of a segment without batches.
    pub(crate) const fn empty(base_offset: i64) -> Self {
        Self {
            base_offset,
            generation: 0,
            end_offset: base_offset,
            len: 0,
            checksum: 0,
            first_timestamp: -1,
            max_timestamp: -1,
        }
    }
}

/// Returns whether a segment holds records and all of them are below the log start. Checkpoints no longer
/// list such a segment, so no batch may be added to it.
pub(crate) fn is_deleted(segment: &SegmentImage, log_start: i64) -> bool {
    segment.base_offset < segment.end_offset && segment.end_offset <= log_start
}
