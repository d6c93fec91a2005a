use std::time::Duration;

/// Where a partition is read from when its group has no committed offset, or when the position lies
/// outside the log: Kafka's `auto.offset.reset`.
///
/// ```
/// assert_eq!(grouplog::OffsetReset::default(), grouplog::OffsetReset::Earliest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// From the log start offset. The default, unlike Kafka's `latest`: a new group of an embedded
    /// queue must not miss what was sent before it was born.
    #[default]
    Earliest,
    /// From the log end offset.
    Latest,
    /// From the first record that is not older than this, by the wall clock when the position is
    /// decided; from the log end offset if there is none (KIP-1106).
    ByDuration(Duration),
    /// Not at all: `poll` fails with [`Error::NoOffsetForPartition`](crate::Error::NoOffsetForPartition) or
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange).
    None,
}
