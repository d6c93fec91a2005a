use std::time::Duration;

use crate::types::{Timestamp, TopicPartition};

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
/// assert_eq!(group.lag(), 0);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// Kafka's name of its state: `Empty`, `Assigning`, `Reconciling`, `Stable`; `Unknown` where it is looked
    /// at from another process than the one its members are in.
    pub state: &'static str,
    /// Its epoch, which rises with every change of members, subscriptions and topics; 0 before the first
    /// member since the folder was opened. `None` where it cannot be seen.
    pub epoch: Option<i32>,
    /// Kafka's name of the assignor, as `range`; `None` without members, or where it cannot be seen.
    pub assignor: Option<String>,
    /// Its members, by id. Those of another process cannot be seen.
    pub members: Vec<MemberSummary>,
    /// The partitions that it has committed offsets for or that its members hold, in order.
    pub offsets: Vec<GroupOffset>,
}

impl GroupSummary {
    /// The lag in records over all partitions that have a commit.
    pub fn lag(&self) -> i64 {
        self.offsets.iter().filter_map(|offset| offset.lag).sum()
    }
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
/// let group = broker.describe_group("billing")?;
/// assert_eq!(group.members[0].client_id, "worker");
/// assert_eq!(group.members[0].subscription, ["orders"]);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberSummary {
    /// Its id, given by the engine.
    pub id: String,
    /// Its `client.id`.
    pub client_id: String,
    /// Its `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// Kafka's name of its state: `Stable`, `UnrevokedPartitions` (it must give some up in its next
    /// poll), `UnreleasedPartitions` (it is to get some).
    pub state: &'static str,
    /// The epoch it has reconciled to; -2 of a static member that is away.
    pub epoch: i32,
    /// The topics it subscribes to, in order.
    pub subscription: Vec<String>,
    /// What it holds, in order.
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
/// let row = &broker.describe_group("billing")?.offsets[0];
/// assert_eq!((row.committed, row.lag), (Some(1), Some(0)));
/// assert_eq!(row.time_lag, Some(Duration::ZERO));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read, as committed.
    pub committed: Option<i64>,
    /// The leader epoch committed with it: that of the last record read, if it was known.
    pub leader_epoch: Option<i32>,
    /// The metadata committed with it; empty if there is none.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp: Option<Timestamp>,
    /// The log end offset.
    pub end_offset: i64,
    /// How many offsets lie between the two; `None` without a commit. As in Kafka, offsets that
    /// retention has removed count.
    pub lag: Option<i64>,
    /// How long the first record that is still to be read has been there, by its timestamp; zero when
    /// there is none. `None` without a commit, or if that record cannot be read.
    pub time_lag: Option<Duration>,
    /// The member that holds the partition.
    pub member: Option<String>,
}
