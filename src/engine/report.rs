use std::time::Duration;

use crate::error::Error;
use crate::types::{TopicId, TopicPartition};

/// What opening a folder found and did: returned by [`Broker::recovery_report`](crate::Broker::recovery_report).
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
    /// Journal frames that were applied again.
    pub frames_replayed: u64,
    /// Records that were in those frames.
    pub records_replayed: u64,
    /// Bytes of torn frames at the journal's end. Nobody was promised that they survive power loss.
    pub journal_bytes_discarded: u64,
    /// Bytes of segments that were cut or removed because the journal holds them, or nothing does.
    pub segment_bytes_cut: u64,
    /// Partitions whose files are damaged or gone: they take no appends, and of their records only
    /// those that are there can be read. With [`BrokerConfig::strict`](crate::BrokerConfig::strict)
    /// opening fails instead. In a folder whose last writer closed it no partition is looked at before its
    /// first use: an append or a read says what is wrong then, and [`Health`](crate::Health) from the first
    /// append on.
    pub damaged: Vec<DamagedPartition>,
    /// How long opening took.
    pub duration: Duration,
}

/// A partition whose files were found damaged, in a [`RecoveryReport`].
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
    /// `Corrupt` or `MissingSegment`, with the file.
    pub cause: Error,
}

/// A topic, as [`Broker::describe_topic`](crate::Broker::describe_topic) returns it.
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
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its configuration, by Kafka's keys.
    pub config: Vec<(&'static str, String)>,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
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
    /// Topic and number.
    pub partition: TopicPartition,
    /// The first offset that can be read.
    pub start_offset: i64,
    /// The offset that the next record gets.
    pub end_offset: i64,
    /// The epoch of the newest record.
    pub leader_epoch: Option<i32>,
    /// Bytes of its batches, on disk and in memory.
    pub bytes: u64,
    /// Segment files.
    pub segments: usize,
}
