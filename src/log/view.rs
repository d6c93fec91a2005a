//! What readers see of a partition.

use std::sync::Arc;

use super::batch::MemBatch;
use super::segment::Segment;
use crate::types::{Epoch, planted};

/// Segments, then frozen batches, then the open batch: offsets rise through them without a gap.
///
/// A batch that is being written stands in the last segment and among the frozen ones at once; readers go
/// by offset and prefer the memory.
#[derive(Debug, Default, Clone)]
pub(super) struct View {
    pub(super) segments: Arc<Vec<Arc<Segment>>>,
    pub(super) frozen: Vec<Arc<MemBatch>>,
    pub(super) open: Option<Arc<MemBatch>>,
    /// The epochs of all offsets, each with its first one.
    pub(super) epochs: Arc<Vec<(Epoch, i64)>>,
}

impl View {
    /// The batches in memory in order.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Arc<MemBatch>> {
        self.frozen.iter().chain(&self.open)
    }

    /// The offset up to which records were written to segments, also to those that were deleted since;
    /// `end` is the log end.
    pub(super) fn stored_end(&self, end: i64) -> i64 {
        self.batches().next().map_or(end, |first| first.base_offset)
    }

    /// The batch in memory that holds `offset`, if the segments do not.
    pub(super) fn batch_of(&self, offset: i64) -> Option<&Arc<MemBatch>> {
        let frozen = self.frozen.partition_point(|batch| batch.base_offset <= offset);
        if let Some(open) = &self.open
            && open.base_offset <= offset
        {
            return Some(open);
        }
        self.frozen.get(frozen.checked_sub(1)?)
    }

    /// The segment that holds `offset`, or would.
    pub(super) fn segment_of(&self, offset: i64) -> Option<(usize, &Arc<Segment>)> {
        let later = self.segments.partition_point(|segment| segment.base_offset() <= offset);
        // Offsets below the first base (after compaction took the first batches) begin there.
        let at = later.saturating_sub(1);
        self.segments.get(at).map(|segment| (at, segment))
    }

    /// Whether `offset` is to be read from the segments. Not while it is in memory: a batch leaves that when
    /// its segment shows all of it, and before may show its end without its bytes.
    pub(super) fn is_stored(&self, offset: i64) -> bool {
        let written = self.segments.last().is_some_and(|last| offset < last.end_offset());
        let first = self.batches().next();
        let in_front = first.is_none_or(|first| offset < first.base_offset);
        written && (in_front || planted("prefer_segments"))
    }
}
