//! The state of a partition that a checkpoint records.

use crate::types::Epoch;

/// A partition as a checkpoint records it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogImage {
    pub(crate) start_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) epochs: Vec<(Epoch, i64)>,
    pub(crate) segments: Vec<SegmentImage>,
}

/// A segment as a checkpoint records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentImage {
    /// The offset in the name of the file.
    pub(crate) base_offset: i64,
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
    /// Returns the image of a segment without batches.
    pub(crate) const fn empty(base_offset: i64) -> Self {
        Self {
            base_offset,
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
