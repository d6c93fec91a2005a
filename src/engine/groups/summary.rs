//! Descriptions of groups, for the public API.

use std::time::Duration;

use crate::types::{Timestamp, TopicPartition};

/// The members, committed offsets and lag of a group, as
/// [`Broker::describe_group`](crate::Broker::describe_group) returns them.
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
    /// The name of the group.
    pub name: String,
    /// The state of the group, by Kafka's name: `Empty`, `Assigning`, `Reconciling` or `Stable`. It is
    /// `Unknown` in a process other than that of the members.
    pub state: &'static str,
    /// The epoch of the group. It rises with every change of members, subscriptions and topics. It is 0
    /// before the first member since the folder was opened, and `None` in a process other than that of the
    /// members.
    pub epoch: Option<i32>,
    /// The assignor of the group, by Kafka's name, such as `range`. It is `None` without members, and in a
    /// process other than that of the members.
    pub assignor: Option<String>,
    /// The members of the group, ordered by id. Members in another process are not visible.
    pub members: Vec<MemberSummary>,
    /// The partitions that the group reads, in order, with or without a committed offset. These are:
    ///
    /// - all partitions of the topics that a member subscribes to,
    /// - the partitions that a member holds,
    /// - all partitions of the topics in which the group has committed an offset.
    pub offsets: Vec<GroupOffset>,
}

impl GroupSummary {
    /// Returns the sum of [`GroupOffset::lag`] over all partitions in [`GroupSummary::offsets`], or
    /// `i64::MAX` if the sum is larger.
    ///
    /// The sum is 0 only if no partition has anything left to read. A partition that is ahead does not make
    /// up for one that is behind.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.subscribe(["orders"])?;
    /// // One record waits to be read.
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
    /// The id of the member, which the engine chose.
    pub id: String,
    /// The `client.id` of the member.
    pub client_id: String,
    /// The `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The state of the member, by Kafka's name. `Stable`: it holds what it is assigned.
    /// `UnrevokedPartitions`: it must give up partitions in its next poll. `UnreleasedPartitions`: it will
    /// get partitions that other members still hold, or that it has not taken over in a poll yet.
    pub state: &'static str,
    /// The epoch that the member has reconciled to. It is -2 for a static member that is away.
    pub epoch: i32,
    /// The topics that the member subscribes to, in order.
    pub subscription: Vec<String>,
    /// The partitions that the member holds, in order.
    pub assignment: Vec<TopicPartition>,
}

/// The committed offset and the lag of a group in one partition.
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
    /// The committed offset: the offset of the next record to read. `None` if none is committed.
    pub committed: Option<i64>,
    /// The leader epoch that was committed with the offset: that of the last record read, if it was known.
    pub leader_epoch: Option<i32>,
    /// The metadata that was committed with the offset, or an empty string.
    pub metadata: String,
    /// The `transactional.id` of the producer whose transaction committed the offset. `None` if it was committed
    /// otherwise, or by a producer without one.
    pub transactional_id: Option<String>,
    /// The epoch of that producer: how many with this id there were before it.
    pub producer_epoch: Option<i32>,
    /// The time of the commit, by the wall clock. If the wall clock was set back, it is the time that the
    /// engine has counted.
    pub commit_timestamp: Option<Timestamp>,
    /// The log end offset of the partition.
    pub end_offset: i64,
    /// The number of offsets that the group has still to read: from the committed offset to the log end. It
    /// is never negative. A committed offset beyond the log end has lag 0.
    ///
    /// Without a committed offset, the count begins where the group would begin if it started now. The
    /// `auto.offset.reset` of the member that holds the partition decides this. If no member holds it, and
    /// its subscribers have different policies, the lowest of their starting points counts. The count begins
    /// at the log start for the policy `none`, in a topic without subscribers, and where members are not
    /// visible. A member with the policy `latest` has lag 0 until its first commit.
    ///
    /// Offsets below the log start do not count, because their records are gone. Offsets without a record do
    /// count, as in Kafka. Those are control batches, and records that compaction removed from imported
    /// segments.
    pub lag: i64,
    /// The age of the first record that is still to be read, by its timestamp. Zero if `lag` is 0, and `None`
    /// if that record cannot be read.
    pub time_lag: Option<Duration>,
    /// The id of the member that holds the partition, if any.
    pub member: Option<String>,
}
