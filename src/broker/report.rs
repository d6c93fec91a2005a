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
    /// opening fails instead.
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

/// A group, as [`Broker::describe_group`](crate::Broker::describe_group) returns it.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// let group = broker.describe_group("billing")?;
/// assert_eq!(group.members.len(), 1);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// Kafka's name of its state: `Empty`, `Reconciling`, `Stable`; `Unknown` where it is looked
    /// at from another process than the one its members are in.
    pub state: &'static str,
    /// Its members, by id. Those of another process cannot be seen.
    pub members: Vec<MemberSummary>,
    /// The partitions that it has committed offsets for or that its members hold, in order.
    pub offsets: Vec<GroupOffset>,
}

/// A member of a [`GroupSummary`].
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, TopicConfig};
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let config = ConsumerConfig::new().group("billing").client_id("worker");
/// let mut consumer = broker.consumer_with(config)?;
/// consumer.subscribe(["orders"])?;
/// assert_eq!(broker.describe_group("billing")?.members[0].client_id, "worker");
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberSummary {
    /// Its id.
    pub id: String,
    /// Its `client.id`.
    pub client_id: String,
    /// What it holds.
    pub assignment: Vec<TopicPartition>,
}

/// How far a group is in one partition.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// consumer.poll(Duration::from_secs(1))?;
/// consumer.commit()?;
/// assert_eq!(broker.describe_group("billing")?.offsets[0].lag, Some(0));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read, as committed.
    pub committed: Option<i64>,
    /// The log end offset.
    pub end_offset: i64,
    /// How many offsets lie between the two; `None` without a commit.
    pub lag: Option<i64>,
    /// The member that holds the partition.
    pub member: Option<String>,
}
