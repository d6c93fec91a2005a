//! The view: the part of a partition that readers see.

use std::sync::Arc;

use super::batch::MemBatch;
use super::segment::Segment;
use crate::types::{Epoch, planted};

/// Segments, then frozen batches, then the open batch. Offsets rise through them without a gap.
///
/// A batch that is being written out is in the last segment and among the frozen batches at once. Readers
/// search by offset and prefer the batch in memory.
#[derive(Debug, Default, Clone)]
pub(super) struct View {
    pub(super) segments: Arc<Vec<Arc<Segment>>>,
    pub(super) frozen: Vec<Arc<MemBatch>>,
    pub(super) open: Option<Arc<MemBatch>>,
    /// The epochs of all offsets, each with its first offset.
    pub(super) epochs: Arc<Vec<(Epoch, i64)>>,
}

impl View {
    /// Returns the batches in memory in order.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Arc<MemBatch>> {
        self.frozen.iter().chain(&self.open)
    }

    /// Returns the offset up to which records were written to segments, including segments that were deleted
    /// since. `end` is the log end.
    pub(super) fn stored_end(&self, end: i64) -> i64 {
        self.batches().next().map_or(end, |first| first.base_offset)
    }

    /// Returns the batch in memory that holds `offset`, if the segments do not.
    pub(super) fn batch_of(&self, offset: i64) -> Option<&Arc<MemBatch>> {
        let frozen = self.frozen.partition_point(|batch| batch.base_offset <= offset);
        if let Some(open) = &self.open
            && open.base_offset <= offset
        {
            return Some(open);
        }
        self.frozen.get(frozen.checked_sub(1)?)
    }

    /// Returns the segment whose range includes `offset`, and its index.
    pub(super) fn segment_of(&self, offset: i64) -> Option<(usize, &Arc<Segment>)> {
        let later = self.segments.partition_point(|segment| segment.base_offset() <= offset);
        // Offsets below the first base (after compaction removed the first batches) begin there.
        let at = later.saturating_sub(1);
        self.segments.get(at).map(|segment| (at, segment))
    }

    /// Returns whether a reader must read `offset` from the segments.
    ///
    /// While the batch is in memory, a reader reads it there. Its segment may already show the end of the
    /// batch but not its bytes. A batch leaves memory when its segment shows all of it.
    pub(super) fn is_stored(&self, offset: i64) -> bool {
        let written = self.segments.last().is_some_and(|last| offset < last.end_offset());
        let first = self.batches().next();
        let in_front = first.is_none_or(|first| offset < first.base_offset);
        written && (in_front || planted("prefer_segments"))
    }
}
