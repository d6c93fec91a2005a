use std::time::Duration;

/// Where to start reading a partition if its group has no committed offset, or if the position lies
/// outside the log: Kafka's `auto.offset.reset`.
///
/// ```
/// assert_eq!(grouplog::OffsetReset::default(), grouplog::OffsetReset::Earliest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// From the log start offset. The default, unlike Kafka's `latest`: a new group of an embedded
    /// queue must not miss records that were sent before it existed.
    #[default]
    Earliest,
    /// From the log end offset.
    Latest,
    /// From the first record whose age is at most this duration, by the wall clock when the
    /// position is decided. From the log end offset if there is no such record (KIP-1106).
    ByDuration(Duration),
    /// Nowhere: `poll` fails with [`Error::NoOffsetForPartition`](crate::Error::NoOffsetForPartition) or
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange).
    None,
}
