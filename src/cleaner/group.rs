#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::ops::Range;

use super::SegmentInfo;

/// The limits of a segment that replaces several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupLimits {
    /// `segment.bytes`: the most bytes of batches.
    pub(crate) segment_bytes: u64,
    /// `segment.index.bytes`: the most bytes of each index.
    pub(crate) index_bytes: u64,
}

/// Groups neighbours so that segments do not become ever smaller: each group becomes one segment
/// (`groupSegmentsBySize`).
///
/// Every segment is in exactly one group, in order. A segment that exceeds a limit alone makes a group alone.
/// All sizes are those before cleaning. A batch that gets a delete horizon may grow by some bytes a record, so
/// the new segment may exceed the limit a little.
pub(crate) fn group(segments: &[SegmentInfo], limits: GroupLimits) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sum: Option<SegmentInfo> = None;
    for (at, segment) in segments.iter().enumerate() {
        let after = at.saturating_add(1);
        let joined = sum.and_then(|sum| joined(&sum, segment, limits));
        match groups.last_mut().filter(|_| joined.is_some()) {
            Some(last) => last.end = after,
            None => groups.push(at..after),
        }
        sum = joined.or(Some(*segment));
    }
    groups
}

/// Returns the group with one more segment, or `None` if it would exceed a limit.
fn joined(group: &SegmentInfo, next: &SegmentInfo, limits: GroupLimits) -> Option<SegmentInfo> {
    let joined = SegmentInfo {
        end_offset: next.end_offset,
        log_bytes: group.log_bytes.saturating_add(next.log_bytes),
        index_bytes: group.index_bytes.saturating_add(next.index_bytes),
        time_index_bytes: group.time_index_bytes.saturating_add(next.time_index_bytes),
        ..*group
    };
    // An empty segment has no offsets that an index must reach.
    let reach = next.end_offset.saturating_sub(1).saturating_sub(group.base_offset);
    let is_in_reach = next.log_bytes == 0 || reach <= i64::from(i32::MAX);
    let fits = joined.log_bytes <= limits.segment_bytes
        && joined.index_bytes <= limits.index_bytes
        && joined.time_index_bytes <= limits.index_bytes;
    (is_in_reach && fits).then_some(joined)
}
