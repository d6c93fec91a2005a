//! Manages a folder: topics, groups, offsets.

use std::collections::BTreeMap;

use crate::config::TopicConfig;
use crate::engine::{
    CompactionTotals, DiskUsage, EngineHandle, GroupSummary, OffsetScope, OwnerSummary,
    ResetOffset, ResetTo, Retained, TopicDescription,
};
use crate::error::Result;
use crate::types::{Timestamp, TopicPartition};

/// Manages topics, groups and their offsets, as Kafka's `Admin` and its command line tools do.
///
/// [`Broker::admin`](crate::Broker::admin) creates it. For a folder that another process has open,
/// [`ReadOnlyBroker`](crate::ReadOnlyBroker) has the methods that only read. A change survives power loss
/// when the call returns. An error other than `Indeterminate` means that nothing was changed.
///
/// ```
/// use grouplog::{Broker, Error, OffsetScope, Record, ResetTo, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// let admin = broker.admin();
/// admin.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
///
/// let mut billing = broker.consumer("billing")?;
/// billing.subscribe(["orders"])?;
/// assert_eq!(billing.poll(Duration::from_secs(1))?.len(), 1);
/// billing.commit()?;
/// assert_eq!(admin.describe_group("billing")?.lag(), 0);
///
/// // Read everything again. The group must have no members.
/// let refused = admin.reset_offsets("billing", &OffsetScope::Committed, ResetTo::Earliest);
/// assert!(matches!(refused, Err(Error::GroupNotEmpty { .. })));
/// billing.close()?;
/// admin.reset_offsets("billing", &OffsetScope::Committed, ResetTo::Earliest)?;
/// assert_eq!(admin.describe_group("billing")?.lag(), 1);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    pub(super) engine: EngineHandle,
}

/// Topics.
impl Admin {
    pub(crate) fn new(engine: EngineHandle) -> Self {
        Self { engine }
    }

    /// Creates a topic. See [`Broker::create_topic`](crate::Broker::create_topic).
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.engine.create_topic(name, config)
    }

    /// Creates a topic unless it exists. See [`Broker::ensure_topic`](crate::Broker::ensure_topic).
    pub fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<bool> {
        self.engine.ensure_topic(name, config)
    }

    /// Deletes a topic. See [`Broker::delete_topic`](crate::Broker::delete_topic).
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.engine.delete_topic(name)
    }

    /// Changes settings of a topic, all of them or none. They take effect at once for appends and for
    /// segments written from now on. Existing segments stay as they are.
    ///
    /// # Errors
    /// - `UnknownTopic` if the topic does not exist.
    /// - `InvalidConfig` if a key does not exist, or a value is not allowed.
    /// - `UnsupportedCodec` if this build lacks the codec.
    /// - `Misuse` if a key is `partitions`. See [`Admin::add_partitions`].
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let admin = broker.admin();
    /// admin.alter_topic("orders", [("segment.bytes", "1048576"), ("compression.type", "zstd")])?;
    /// let config = admin.describe_topic("orders")?.config;
    /// assert!(config.contains(&("segment.bytes", "1048576".to_owned())));
    /// assert!(admin.alter_topic("orders", [("segment.bytes", "7")]).is_err());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn alter_topic<K: AsRef<str>, V: AsRef<str>>(
        &self,
        name: &str,
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        // The iterator is the caller's code, so it runs before any lock. Only the last value of each existing
        // key is kept, which bounds the memory even for an endless iterator.
        let mut last = BTreeMap::new();
        for (key, value) in settings {
            let _valid = TopicConfig::new().set(key.as_ref(), value.as_ref())?;
            last.insert(key.as_ref().to_owned(), value);
        }
        self.engine.alter_topic(|catalogue| {
            catalogue.decide_alter(name, |config| {
                let set = |config: TopicConfig, (key, value): (&String, &V)| {
                    config.set(key, value.as_ref())
                };
                last.iter().try_fold(config, set)
            })
        })
    }

    /// Adds partitions to a topic, up to `total`. Groups that subscribe to the topic assign them in their
    /// next polls.
    ///
    /// As in Kafka, later records of a key may go to another partition than earlier ones. If the order of a
    /// key's records matters, let the groups read everything first.
    ///
    /// # Errors
    /// - `UnknownTopic` if the topic does not exist.
    /// - `InvalidConfig` if the topic has that many partitions already, or if `total` is above the limit of
    ///   100,000.
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
    /// broker.admin().add_partitions("orders", 3)?;
    /// assert_eq!(broker.describe_topic("orders")?.partitions.len(), 3);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn add_partitions(&self, name: &str, total: u32) -> Result<()> {
        self.engine.alter_topic(|catalogue| catalogue.decide_add_partitions(name, total))
    }

    /// Deletes the records of a partition below the offset `before`, or all of them if it is -1. Returns the log
    /// start offset: `before`, or the old log start offset if that is higher.
    ///
    /// A consumer that reads a deleted offset gets `OffsetOutOfRange`, or continues where `auto.offset.reset`
    /// says. Records that `poll` has returned stay readable.
    ///
    /// The call removes the segments that lie wholly below `before`. Deleting up to the log end removes all of
    /// them. If a segment holds records on both sides of `before`, its deleted records keep their space.
    ///
    /// # Errors
    /// - `OffsetOutOfRange` if `before` is beyond the log end, or below -1.
    /// - `PolicyViolation` if the topic is compacted and does not delete as well: see
    ///   [`CleanupPolicy`](crate::CleanupPolicy).
    /// - `UnknownTopic` or `UnknownPartition` if the partition does not exist.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// for value in ["a", "b", "c"] {
    ///     producer.send(Record::to("orders").value(value))?;
    /// }
    /// let partition = TopicPartition::new("orders", 0);
    /// assert_eq!(broker.admin().delete_records(&partition, 2)?, 2);
    /// assert_eq!(broker.describe_topic("orders")?.partitions[0].start_offset, 2);
    /// assert!(broker.admin().delete_records(&partition, 4).is_err());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<i64> {
        self.engine.delete_records(partition, before)
    }

    /// Checks the retention of all topics, and deletes what is due. Returns what it deleted. The engine does this
    /// by itself at intervals, unless [`BrokerConfig::background`](crate::BrokerConfig::background) is off.
    ///
    /// See [`TopicConfig::retention`], [`TopicConfig::retention_bytes`] and
    /// [`TopicConfig::retention_consumed`] for what is due.
    ///
    /// # Errors
    /// The first failure. The other partitions are checked nevertheless, and
    /// [`Health`](crate::Health) keeps the failure until a check succeeds.
    ///
    /// ```
    /// use grouplog::time::ManualClock;
    /// use grouplog::{Broker, BrokerConfig, Record, Timestamp, TopicConfig};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    /// let memory = grouplog::storage::Memory::new();
    /// let config = BrokerConfig::new().clock(clock.clone()).background(false);
    /// let broker = Broker::open_storage(Arc::new(memory), config)?;
    /// broker.create_topic("orders", TopicConfig::new().retention(Duration::from_hours(24)))?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    /// clock.advance(Duration::from_hours(25));
    /// let admin = broker.admin();
    /// assert_eq!(admin.run_retention()?.time.segments, 1);
    /// assert_eq!(admin.describe_topic("orders")?.partitions[0].start_offset, 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn run_retention(&self) -> Result<Retained> {
        self.engine.run_retention(None)
    }

    /// As [`Admin::run_retention`], for the partitions of one topic.
    ///
    /// # Errors
    /// `UnknownTopic` if the topic does not exist; those of [`Admin::run_retention`].
    pub fn run_retention_of(&self, topic: &str) -> Result<Retained> {
        self.engine.run_retention(Some(topic))
    }

    /// Compacts a topic now, and waits for it. The engine does this by itself at intervals, unless
    /// [`BrokerConfig::background`](crate::BrokerConfig::background) is off.
    ///
    /// The call also ends the active segments, and compacts however little is dirty. Records that are younger than
    /// `min.compaction.lag.ms` stay. When the call returns, the replaced files are gone.
    ///
    /// # Errors
    /// - `UnknownTopic` if the topic does not exist.
    /// - `PolicyViolation` if [`TopicConfig::cleanup_policy`] does not compact it.
    /// - `Corrupt` or `MissingSegment` if a partition is damaged; other errors of reading and writing. The other
    ///   partitions are compacted nevertheless.
    /// - `DiskFull`, or `DiskBudget`, if there is no room for the compacted copies.
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
    /// assert_eq!(broker.admin().compact("prices")?.records_out, 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn compact(&self, topic: &str) -> Result<CompactionTotals> {
        self.engine.compact_topic(topic)
    }

    /// Returns the names of the topics. See [`Broker::list_topics`](crate::Broker::list_topics).
    pub fn list_topics(&self) -> Vec<String> {
        self.engine.list_topics()
    }

    /// Returns a topic's settings and partitions. See
    /// [`Broker::describe_topic`](crate::Broker::describe_topic).
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.engine.describe_topic(name)
    }

    /// Returns the offset and timestamp of the first record, by offset, whose timestamp is `timestamp` or
    /// later. Returns `None` if there is none.
    ///
    /// # Errors
    /// - `UnknownTopic` or `UnknownPartition` if the partition does not exist.
    /// - `Corrupt` if the search meets a damaged batch.
    ///
    /// ```
    /// use grouplog::{Broker, Record, Timestamp, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// for ms in [1_000, 2_000, 3_000] {
    ///     producer.send(Record::to("orders").value("v").timestamp(Timestamp::from_millis(ms)))?;
    /// }
    /// let partition = TopicPartition::new("orders", 0);
    /// let found = broker.admin().offset_for_time(&partition, Timestamp::from_millis(1_500))?;
    /// assert_eq!(found, Some((1, Timestamp::from_millis(2_000))));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn offset_for_time(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<(i64, Timestamp)>> {
        self.engine.check_fork()?;
        self.engine.registry.log(partition)?.offset_for_time(timestamp)
    }

    /// Returns the space that the folder takes.
    ///
    /// # Errors
    /// `Io` if a file or folder cannot be examined.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.engine.disk_usage()
    }
}

/// Groups.
impl Admin {
    /// Returns the names of the groups. See [`Broker::list_groups`](crate::Broker::list_groups).
    pub fn list_groups(&self) -> Vec<String> {
        self.engine.list_groups()
    }

    /// Returns a group's members, committed offsets and lag.
    /// See [`Broker::describe_group`](crate::Broker::describe_group).
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.engine.describe_group(name)
    }

    /// Deletes a group and its committed offsets. The group must not have members.
    ///
    /// # Errors
    /// - `GroupNotEmpty` if the group has members.
    /// - `UnknownGroup` if it has no committed offsets.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.engine.delete_group(group)
    }

    /// Deletes committed offsets of a group. In those partitions, the group then starts where
    /// `auto.offset.reset` says. The group may have members, but none that subscribes to one of the topics or
    /// holds one of their partitions. Deleting the last offset deletes the group.
    ///
    /// # Errors
    /// - `GroupNotEmpty` if a member subscribes to one of the topics, or holds one of their partitions.
    /// - `UnknownGroup` if the group has no committed offsets.
    /// - `UnknownTopic` or `UnknownPartition` if the scope names a partition that does not exist.
    ///
    /// ```
    /// use grouplog::{Broker, OffsetScope, ResetTo, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let (admin, orders) = (broker.admin(), OffsetScope::Topic("orders".to_owned()));
    /// admin.reset_offsets("billing", &orders, ResetTo::Latest)?;
    /// admin.delete_offsets("billing", &orders)?;
    /// assert!(admin.list_groups().is_empty());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn delete_offsets(&self, group: &str, scope: &OffsetScope) -> Result<()> {
        self.engine.delete_offsets(group, scope)
    }

    /// Returns where a reset would move a group's committed offsets. Changes nothing. The group may have
    /// members.
    ///
    /// # Errors
    /// - `UnknownGroup` if the scope is [`OffsetScope::Committed`] and the group has no committed offsets.
    /// - `UnknownTopic` or `UnknownPartition` if the scope names a partition that does not exist.
    /// - `NoOffsetForPartition` if [`ResetTo::Shift`] meets a partition without a committed offset.
    /// - `Corrupt` if the search for a time meets a damaged batch.
    pub fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.engine.plan_reset(group, scope, to)
    }

    /// Moves a group's committed offsets, all of them or none, and returns the moves. The group must not have
    /// members. If the group does not exist, the call creates it.
    ///
    /// # Errors
    /// The errors of [`Admin::plan_reset`], and `GroupNotEmpty` if the group has members.
    pub fn reset_offsets(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.engine.reset_offsets(group, scope, to)
    }
}

/// Named producers.
impl Admin {
    /// Returns the `transactional.id`s that the folder knows, in order, each with its epoch and last sequence.
    ///
    /// # Errors
    /// `ForkedChild`.
    pub fn list_owners(&self) -> Result<Vec<OwnerSummary>> {
        self.engine.list_owners()
    }

    /// Forgets a `transactional.id` with its last sequence. A producer that has it can write nothing more.
    ///
    /// # Errors
    /// `UnknownOwner` if no producer had it.
    ///
    /// ```
    /// use grouplog::{Broker, Error, ProducerConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// let importer = broker.producer_with(ProducerConfig::new().transactional_id("importer"))?;
    /// broker.admin().delete_owner("importer")?;
    /// assert!(matches!(importer.begin(), Err(Error::ProducerFenced { current: None, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn delete_owner(&self, transactional_id: &str) -> Result<()> {
        self.engine.delete_owner(transactional_id)
    }
}
