//! Reports of compaction.

use std::fmt;

use crate::cleaner::NotCleaned;
use crate::log::{Log, Totals};
use crate::types::Timestamp;

/// What passes of compaction have done. [`Admin::compact`](crate::Admin::compact) returns it for one call, and
/// [`PartitionCompaction::done`] since the folder was opened.
///
/// ```
/// use grouplog::{Broker, CleanupPolicy, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("prices", TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))?;
/// let producer = broker.producer()?;
/// for price in ["1", "2", "3"] {
///     producer.send(Record::to("prices").key("pear").value(price))?;
/// }
/// let done = broker.admin().compact("prices")?;
/// assert_eq!((done.records_in, done.records_out), (3, 1));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionTotals {
    /// The number of passes over a partition.
    pub passes: u64,
    /// The number of records that they read.
    pub records_in: u64,
    /// The number of records that they kept.
    pub records_out: u64,
    /// The size of the batches that they read, in bytes.
    pub bytes_in: u64,
    /// The size of the batches that they wrote, in bytes.
    pub bytes_out: u64,
    /// The number of records without a value that left because `delete.retention.ms` had passed.
    pub tombstones_removed: u64,
}

impl CompactionTotals {
    /// Returns what was done to partitions between two looks at them.
    pub(super) fn between(before: &[Totals], after: &[Totals]) -> Self {
        let sum = |all: &[Totals]| all.iter().fold(Self::default(), Self::plus);
        let (before, after) = (sum(before), sum(after));
        Self {
            passes: after.passes.saturating_sub(before.passes),
            records_in: after.records_in.saturating_sub(before.records_in),
            records_out: after.records_out.saturating_sub(before.records_out),
            bytes_in: after.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: after.bytes_out.saturating_sub(before.bytes_out),
            tombstones_removed: after.tombstones_removed.saturating_sub(before.tombstones_removed),
        }
    }

    fn plus(self, Totals { passes, stats }: &Totals) -> Self {
        Self {
            passes: self.passes.saturating_add(*passes),
            records_in: self.records_in.saturating_add(stats.records_in),
            records_out: self.records_out.saturating_add(stats.records_out),
            bytes_in: self.bytes_in.saturating_add(stats.bytes_in),
            bytes_out: self.bytes_out.saturating_add(stats.bytes_out),
            tombstones_removed: self.tombstones_removed.saturating_add(stats.tombstones_removed),
        }
    }
}

/// How far a partition of a compacted topic is compacted, and what it waits for.
///
/// ```
/// use grouplog::{Broker, CleanupPolicy, NotCompacted, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("prices", TopicConfig::new().cleanup_policy(CleanupPolicy::Compact))?;
/// broker.producer()?.send(Record::to("prices").key("pear").value("1"))?;
/// let partition = &broker.describe_topic("prices")?.partitions[0];
/// let compaction = partition.compaction.as_ref().unwrap();
/// assert_eq!(compaction.waits_for, Some(NotCompacted::OnlyActiveSegment));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionCompaction {
    /// The first offset that no pass has covered.
    pub first_dirty_offset: i64,
    /// The size of the segments that a pass has covered, in bytes.
    pub clean_bytes: u64,
    /// The size of the segments that the next pass would cover, in bytes.
    pub dirty_bytes: u64,
    /// Why no pass runs now, or `None` if one is due.
    pub waits_for: Option<NotCompacted>,
    /// What passes have done since the folder was opened. Zero for a folder of another process.
    pub done: CompactionTotals,
}

impl PartitionCompaction {
    /// Returns the share of dirty bytes, 0 to 1, which `min.cleanable.dirty.ratio` is compared with.
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes.saturating_add(self.dirty_bytes) {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Describes a partition. Returns `None` if its topic is not compacted.
    pub(super) fn of(log: &Log, now: Timestamp) -> Option<Self> {
        if !log.config().cleanup_policy.compacts() {
            return None;
        }
        let selection = log.cleanable(now);
        let damage = log.compaction_damage().map(|damage| NotCompacted::Damage(damage.to_string()));
        Some(Self {
            first_dirty_offset: selection.first_dirty_offset,
            clean_bytes: selection.clean_bytes,
            dirty_bytes: selection.cleanable_bytes,
            waits_for: damage.or(selection.not_cleaned.map(NotCompacted::of)),
            done: CompactionTotals::default().plus(&log.compacted()),
        })
    }
}

/// Why a partition is not compacted now. Its `Display` is a sentence for people.
///
/// ```
/// use grouplog::NotCompacted;
/// assert_eq!(NotCompacted::NothingDirty.to_string(), "everything below the active segment is clean");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCompacted {
    /// All records are in the active segment, which is never compacted.
    OnlyActiveSegment,
    /// Nothing was added to the complete segments since the last pass.
    NothingDirty,
    /// The oldest dirty segment holds a record that is younger than `min.compaction.lag.ms`.
    MinCompactionLag {
        /// The base offset of the segment.
        segment: i64,
        /// The time from which it is old enough.
        until: Timestamp,
    },
    /// The dirty segments are behind the end of the last checkpoint, so power loss could still take them. The next
    /// checkpoint ends it.
    NotDurable {
        /// The end of what is durable.
        end_offset: i64,
    },
    /// A transaction is open that began in the oldest dirty segment or before it.
    OpenTransaction {
        /// The first offset of the transaction.
        offset: i64,
    },
    /// The share of dirty bytes is not above `min.cleanable.dirty.ratio`.
    DirtyRatio,
    /// A pass has met damage. The text names it.
    Damage(String),
}

impl NotCompacted {
    fn of(reason: NotCleaned) -> Self {
        match reason {
            NotCleaned::OnlyActiveSegment => Self::OnlyActiveSegment,
            NotCleaned::NothingDirty => Self::NothingDirty,
            NotCleaned::MinCompactionLag { segment, until } => {
                Self::MinCompactionLag { segment, until: Timestamp::from_millis(until) }
            }
            NotCleaned::OpenTransaction { last_stable_offset } => {
                Self::OpenTransaction { offset: last_stable_offset }
            }
            NotCleaned::NotDurable { durable_end_offset } => {
                Self::NotDurable { end_offset: durable_end_offset }
            }
            NotCleaned::DirtyRatio { .. } => Self::DirtyRatio,
        }
    }
}

impl fmt::Display for NotCompacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyActiveSegment => f.write_str("all records are in the active segment"),
            Self::NothingDirty => f.write_str("everything below the active segment is clean"),
            Self::MinCompactionLag { segment, until } => write!(
                f,
                "segment {segment} holds a record younger than min.compaction.lag.ms, until {}",
                until.as_millis()
            ),
            Self::NotDurable { end_offset } => {
                write!(
                    f,
                    "the next checkpoint, because only offsets below {end_offset} are durable"
                )
            }
            Self::OpenTransaction { offset } => {
                write!(f, "the transaction that is open since offset {offset}")
            }
            Self::DirtyRatio => f.write_str("too little is dirty for min.cleanable.dirty.ratio"),
            Self::Damage(damage) => f.write_str(damage),
        }
    }
}
