/// What the cleaner must know about a segment before it reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    /// The base offset. Rises from segment to segment.
    pub(crate) base_offset: i64,
    /// The offset after the segment: the base offset of the next one, or the log end offset.
    pub(crate) end_offset: i64,
    /// The size of the batches in bytes.
    pub(crate) log_bytes: u64,
    /// The size of the offset index in bytes.
    pub(crate) index_bytes: u64,
    /// The size of the time index in bytes.
    pub(crate) time_index_bytes: u64,
    /// The largest timestamp of the first batch in ms, -1 if there is none.
    pub(crate) first_timestamp: i64,
    /// The largest timestamp in ms, but at most the time of the last append where that is known. -1 if neither is.
    pub(crate) largest_timestamp: i64,
}

/// Returns how many segments at the front of the list end at or below `offset`. A segment that begins at
/// `offset` does not count, even if it is empty.
pub(super) fn wholly_below(segments: &[SegmentInfo], offset: i64) -> usize {
    let is_below =
        |segment: &&SegmentInfo| segment.end_offset <= offset && segment.base_offset < offset;
    segments.iter().take_while(is_below).count()
}
