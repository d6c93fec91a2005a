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
    /// The partitions that it reads, in order, whether it has committed an offset in them or not: all
    /// partitions of the topics that a member subscribes to, those that a member holds, and all partitions
    /// of the topics that the group has committed an offset in.
    pub offsets: Vec<GroupOffset>,
}

impl GroupSummary {
    /// The sum of [`GroupOffset::lag`] over all partitions in [`GroupSummary::offsets`]; `i64::MAX` if it
    /// is larger. It is 0 only if no partition has anything left to read: a partition that is ahead does
    /// not make up for one that is behind.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.subscribe(["orders"])?;
    /// // Nothing was read yet, and one record waits.
    /// assert_eq!(broker.describe_group("billing")?.lag(), 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn lag(&self) -> i64 {
        self.offsets.iter().fold(0, |sum: i64, offset| sum.saturating_add(offset.lag))
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
/// assert_eq!((row.committed, row.lag), (Some(1), 0));
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
    /// When it was committed. By the wall clock, unless that was set back: then by the time that the engine has
    /// counted.
    pub commit_timestamp: Option<Timestamp>,
    /// The log end offset.
    pub end_offset: i64,
    /// How many offsets the group has still to read: those from the committed offset to the log end. Never
    /// negative: an offset that was committed beyond the log end has lag 0.
    ///
    /// Without a committed offset the count begins where the group would begin if it started now: where
    /// `auto.offset.reset` of the member that holds the partition says. If no member holds it, and its
    /// subscribers have different policies, the count begins at the first of their places. It begins at
    /// the log start for the policy `none`, in a topic that no member subscribes to, and where the members
    /// cannot be seen. A member whose policy is `latest` has lag 0 until its first commit.
    ///
    /// Offsets below the log start do not count: their records are gone. Offsets without a record count, as
    /// in Kafka: control batches, and what compaction left out of imported segments.
    pub lag: i64,
    /// How long the first record that is still to be read has been there, by its timestamp; zero if
    /// `lag` is 0. `None` if that record cannot be read.
    pub time_lag: Option<Duration>,
    /// The member that holds the partition.
    pub member: Option<String>,
}
