//! Reports of recovery, and descriptions of topics and partitions.

use std::time::Duration;

use crate::engine::compaction_report::PartitionCompaction;
use crate::engine::retention_report::PartitionRetention;
use crate::error::Error;
use crate::log::{Amount, Log, Reason};
use crate::types::{TopicId, TopicPartition};

/// What opening a folder found and did. [`Broker::recovery_report`](crate::Broker::recovery_report) returns
/// it.
///
/// ```
/// let broker = grouplog::Broker::open_in_memory()?;
/// assert!(!broker.recovery_report().unclean);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the last writer did not close the folder.
    pub unclean: bool,
    /// The number of journal frames that recovery replayed.
    pub frames_replayed: u64,
    /// The number of records in those frames.
    pub records_replayed: u64,
    /// Bytes of torn frames that recovery discarded at the end of the journal. None of them was acknowledged
    /// as `Synced`.
    pub journal_bytes_discarded: u64,
    /// Bytes that recovery truncated from segments or removed with them. The journal holds them, or nothing
    /// refers to them.
    pub segment_bytes_cut: u64,
    /// Partitions with damaged or missing files. They reject appends, and only their undamaged records can be
    /// read. With [`BrokerConfig::strict`](crate::BrokerConfig::strict), opening fails instead.
    ///
    /// If the last writer closed the folder, opening without `strict` checks no partition. The first append
    /// to a partition, or a read of the damaged place, then returns the damage. [`Health`](crate::Health)
    /// reports it after the first append.
    pub damaged: Vec<DamagedPartition>,
    /// The time that opening took.
    pub duration: Duration,
}

/// A partition with damaged or missing files, in a [`RecoveryReport`].
///
/// ```
/// let broker = grouplog::Broker::open_in_memory()?;
/// for damaged in &broker.recovery_report().damaged {
///     println!("{}: {}", damaged.partition, damaged.cause);
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DamagedPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// `Corrupt` or `MissingSegment`, with the path of the file.
    pub cause: Error,
}

/// The settings and partitions of a topic, as [`Broker::describe_topic`](crate::Broker::describe_topic)
/// returns them.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// let topic = broker.describe_topic("orders")?;
/// assert_eq!(topic.partitions[1].end_offset, 0);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The name of the topic.
    pub name: String,
    /// The id of the topic. A topic that is deleted and created again has another id.
    pub id: TopicId,
    /// All settings of the topic: Kafka's key and the value of each.
    pub config: Vec<(&'static str, String)>,
    /// The partitions of the topic, by number.
    pub partitions: Vec<PartitionDescription>,
    /// How many idempotency ids the topic remembers ([`Record::id`](crate::Record::id)). 0 for a reader beside the
    /// writer, which does not know them.
    pub ids: u64,
    /// How many ids it forgot before `dedup.window.ms` had passed, because there were more than `dedup.max.ids`.
    pub forgotten_ids: u64,
}

/// A partition of a [`TopicDescription`].
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// let partition = &broker.describe_topic("orders")?.partitions[0];
/// assert_eq!((partition.start_offset, partition.end_offset), (0, 1));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// The topic and the number of the partition.
    pub partition: TopicPartition,
    /// The log start offset: the lowest offset that can be read.
    pub start_offset: i64,
    /// The log end offset: the offset of the next record.
    pub end_offset: i64,
    /// The last stable offset: where readers of committed records
    /// ([`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted)) end. It lies below the log end only if
    /// a Kafka broker wrote segments with a transaction that is still open.
    ///
    /// `None` if it is not known without reading the segments from before the folder was opened. A reader of committed
    /// records finds it as it reads, or at once with [`Consumer::end_offsets`](crate::Consumer::end_offsets).
    pub last_stable_offset: Option<i64>,
    /// The leader epoch of the newest record; `None` if it is not known.
    pub leader_epoch: Option<i32>,
    /// The size of its batches in bytes, on disk and in memory.
    pub bytes: u64,
    /// The number of its segment files.
    pub segments: usize,
    /// What was deleted from its front since the folder was opened. Zero for a folder of another process.
    pub deleted: Retained,
    /// What the next check of retention deletes and what it waits for, if its topic has a limit.
    pub retention: Option<PartitionRetention>,
    /// How far it is compacted, if its topic is.
    pub compaction: Option<PartitionCompaction>,
}

/// What retention has deleted, by reason. [`Admin::run_retention`](crate::Admin::run_retention) returns it for
/// one run, and [`PartitionDescription::deleted`](crate::PartitionDescription::deleted) since the folder was
/// opened.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().retention_bytes(100 << 20))?;
/// assert_eq!(broker.admin().run_retention()?.total().segments, 0);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// Segments below a log start that `delete_records` has moved.
    pub log_start: Deleted,
    /// Segments beyond `retention.bytes`.
    pub bytes: Deleted,
    /// Segments older than `retention.ms`.
    pub time: Deleted,
    /// Segments that all groups of `retention.consumed` have read.
    pub consumed: Deleted,
    /// Segments that went to make room in the disk budget
    /// ([`DiskBudgetPolicy::DropOldest`](crate::DiskBudgetPolicy::DropOldest)).
    pub budget: Deleted,
    /// The number of partitions that could not be deleted from at that moment, because another thread was writing
    /// them out, or because the opening of the folder was not finished. The engine checks them again soon.
    pub postponed: u64,
}

/// Deleted segments.
///
/// ```
/// assert_eq!(grouplog::Deleted::default().bytes, 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The number of segments.
    pub segments: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl Retained {
    /// Returns the sum over all reasons.
    pub fn total(&self) -> Deleted {
        let each = [self.log_start, self.bytes, self.time, self.consumed, self.budget];
        each.into_iter().fold(Deleted::default(), Deleted::plus)
    }

    /// Returns what a partition has deleted since the folder was opened.
    pub(super) fn of(log: &Log) -> Self {
        let mut retained = Self::default();
        for (reason, Amount { segments, bytes }) in log.deleted() {
            *retained.reason(reason) = Deleted { segments, bytes };
        }
        retained
    }

    fn reason(&mut self, reason: Reason) -> &mut Deleted {
        match reason {
            Reason::LogStart => &mut self.log_start,
            Reason::Bytes => &mut self.bytes,
            Reason::Time => &mut self.time,
            Reason::Consumed => &mut self.consumed,
            Reason::Budget => &mut self.budget,
        }
    }

    pub(super) fn combine(self, other: Self, with: fn(Deleted, Deleted) -> Deleted) -> Self {
        Self {
            log_start: with(self.log_start, other.log_start),
            bytes: with(self.bytes, other.bytes),
            time: with(self.time, other.time),
            consumed: with(self.consumed, other.consumed),
            budget: with(self.budget, other.budget),
            postponed: self.postponed,
        }
    }
}

impl Deleted {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            segments: self.segments.saturating_add(other.segments),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            segments: self.segments.saturating_sub(other.segments),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}
