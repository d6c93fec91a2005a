//! The handles of an open folder: [`Broker`], [`ReadOnlyBroker`] and [`Admin`].
//!
//! Handles hold no logic: each call goes to the engine. They create the other handles, so this module imports
//! `producer` and `consumer`.
//!
//! Imported by `internal`.

mod admin;
#[cfg(all(test, loom))]
mod models;
mod read_only;
mod share;

use std::path::Path;
use std::sync::Arc;

pub use admin::Admin;
pub use read_only::ReadOnlyBroker;

use crate::config::{BrokerConfig, ConsumerConfig, ProducerConfig, TopicConfig};
use crate::consumer::{Consumer, Source};
use crate::engine::{EngineHandle, GroupSummary, Health, RecoveryReport, TopicDescription, open};
use crate::error::Result;
use crate::producer::Producer;
use crate::storage::{Disk, Memory, Storage};

/// A handle of an open folder, which creates topics, producers and consumers. Cloning it is cheap.
///
/// Brokers, producers, consumers and admins are handles of one engine. Dropping the last handle closes the
/// folder, which can be opened again when the drop returns. A drop cannot return an error; [`Broker::close`]
/// does.
///
/// ```
/// use std::time::Duration;
/// use grouplog::{Broker, Record, TopicConfig};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let broker = Broker::open(&path)?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
///
/// let producer = broker.producer()?;
/// producer.send(Record::to("orders").key("alice").value("3 apples"))?;
/// producer.flush()?; // the record survives power loss from here on
///
/// let mut billing = broker.consumer("billing")?; // a member of group "billing"
/// billing.subscribe(["orders"])?;
/// for record in &billing.poll(Duration::from_secs(1))? {
///     assert_eq!(record.value(), Some(&b"3 apples"[..]));
/// }
/// billing.commit()?;
/// broker.close()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) engine: EngineHandle,
    report: Arc<RecoveryReport>,
}

impl Broker {
    /// Opens a folder for writing with the default settings. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// An error changes nothing.
    ///
    /// - `Locked` if the folder is open already, in this or another process.
    /// - `NotADatabase` if the folder holds something else.
    /// - `UnsupportedFormat` if a newer version wrote it.
    /// - `Corrupt` or `MissingSegment` if files that recovery needs are damaged or missing.
    /// - `Io` if a file cannot be read or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, BrokerConfig::default())
    }

    /// Opens a folder for writing with these settings. See [`Broker::open`].
    pub fn open_with(path: impl AsRef<Path>, config: BrokerConfig) -> Result<Self> {
        let path = path.as_ref();
        let disk = if config.create {
            Disk::open_or_create_with(path, config.access)
        } else {
            Disk::open_with(path, config.access)
        };
        Self::open_storage(Arc::new(disk?), config)
    }

    /// Opens a new folder in memory, for tests. It runs the same engine. Dropping the last handle discards
    /// the folder.
    pub fn open_in_memory() -> Result<Self> {
        Self::open_storage(Arc::new(Memory::new()), BrokerConfig::default())
    }

    /// Opens the folder in a [`Storage`] for writing.
    ///
    /// ```
    /// use grouplog::storage::Memory;
    /// use grouplog::{Broker, BrokerConfig};
    /// use std::sync::Arc;
    ///
    /// let broker = Broker::open_storage(Arc::new(Memory::new()), BrokerConfig::new())?;
    /// assert!(broker.list_topics().is_empty());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn open_storage(storage: Arc<dyn Storage>, config: BrokerConfig) -> Result<Self> {
        let (engine, report) = open(storage, config)?;
        Ok(Self { engine, report: Arc::new(report) })
    }

    /// Opens a folder for reading, also beside a running writer.
    ///
    /// # Errors
    /// `NotADatabase`, `UnsupportedFormat`, `Corrupt` and `Io` as for [`Broker::open`], and `Busy` if the
    /// writer overtook the reader several times in a row.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<ReadOnlyBroker> {
        ReadOnlyBroker::open_disk(path.as_ref())
    }

    /// Opens the folder in a [`Storage`] for reading. See [`Broker::open_read_only`].
    pub fn open_storage_read_only(storage: Arc<dyn Storage>) -> Result<ReadOnlyBroker> {
        ReadOnlyBroker::open(storage)
    }

    /// Closes the folder for all handles, after writing everything out of the journal. Calls in progress get
    /// a result; later calls return [`Error::Closed`](crate::Error::Closed).
    ///
    /// Waits for topics that are being created or deleted, and for large appends that are being written. When
    /// it returns, no call that began earlier changes the folder any more, so another broker can open it.
    ///
    /// # Errors
    /// An error if something could not be written out. Nothing is lost: the journal holds it, and the next
    /// opening replays it.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }

    /// Returns what opening the folder found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Returns all current problems, including those that no call has reported.
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Creates a topic. It survives power loss when the call returns.
    ///
    /// # Errors
    /// - `TopicExists` if there is a topic of this name.
    /// - `InvalidName` if the name is not a legal topic name, or differs from another topic's only in case,
    ///   or only in `.` against `_`.
    /// - `InvalidConfig` if a setting is out of its range.
    /// - `UnsupportedCodec` if this build lacks the codec.
    /// - `DiskFull` if there is no space.
    /// - `Failed` if all writing has stopped.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.engine.create_topic(name, config)
    }

    /// Creates a topic unless it exists. Returns whether this call created it.
    ///
    /// An existing topic keeps its settings and partitions, even if `config` differs.
    /// [`Admin::alter_topic`] and [`Admin::add_partitions`] change them. A topic that this call created
    /// survives power loss when the call returns.
    ///
    /// # Errors
    /// The errors of [`Broker::create_topic`] except `TopicExists`.
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// assert!(broker.ensure_topic("orders", TopicConfig::new().partitions(4))?);
    /// assert!(!broker.ensure_topic("orders", TopicConfig::new())?);
    /// assert_eq!(broker.describe_topic("orders")?.partitions.len(), 4);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<bool> {
        self.engine.ensure_topic(name, config)
    }

    /// Deletes a topic, its records and its committed offsets. Records that `poll` has returned stay
    /// readable. The deletion survives power loss when the call returns.
    ///
    /// # Errors
    /// - `UnknownTopic` if there is no topic of this name.
    /// - `Failed` if all writing has stopped.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.engine.delete_topic(name)
    }

    /// Returns the names of the topics in order. The list is empty in a forked child.
    pub fn list_topics(&self) -> Vec<String> {
        self.engine.list_topics()
    }

    /// Returns a topic's settings and partitions.
    ///
    /// # Errors
    /// `UnknownTopic` if there is no topic of this name.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.engine.describe_topic(name)
    }

    /// Creates a producer with the default settings, whose acks are `Synced`.
    pub fn producer(&self) -> Result<Producer> {
        self.producer_with(ProducerConfig::default())
    }

    /// Creates a producer with these settings.
    ///
    /// With [`transactional.id`](crate::ProducerConfig::transactional_id), it takes the name over: an older producer
    /// of this name can write nothing more.
    ///
    /// # Errors
    /// - `InvalidName` if the `transactional.id` is not legal.
    /// - `InvalidConfig` if a setting is out of its range.
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer> {
        self.engine.check_open()?;
        Producer::new(self.engine.clone(), config)
    }

    /// Creates a consumer of the group `group` with the default settings.
    ///
    /// # Errors
    /// `InvalidName` if `group` is not a legal group name.
    pub fn consumer(&self, group: &str) -> Result<Consumer> {
        self.consumer_with(ConsumerConfig::new().group(group))
    }

    /// Creates a consumer with these settings.
    ///
    /// # Errors
    /// - `InvalidName` if the name of the group is not legal.
    /// - `InvalidConfig` if a setting is out of its range.
    pub fn consumer_with(&self, config: ConsumerConfig) -> Result<Consumer> {
        self.engine.check_open()?;
        Consumer::new(Source::Live(self.engine.clone()), config)
    }

    /// Returns a handle that manages topics, groups and their offsets.
    pub fn admin(&self) -> Admin {
        Admin::new(self.engine.clone())
    }

    /// Returns the names of the groups that have members or committed offsets, in order. The list is empty in
    /// a forked child.
    pub fn list_groups(&self) -> Vec<String> {
        self.engine.list_groups()
    }

    /// Returns a group's members, committed offsets and lag, for every partition that the group reads. See
    /// [`GroupOffset::lag`](crate::GroupOffset::lag) for partitions without a committed offset.
    ///
    /// # Errors
    /// `UnknownGroup` if the group has neither members nor committed offsets.
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.engine.describe_group(name)
    }

    /// Writes everything out of the journal to segments and offset files. The engine does this by itself when
    /// the journal is half full.
    ///
    /// # Errors
    /// - `DiskFull` if there is no space.
    /// - `Failed` if a write or sync failed, which ends all writing.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.check_open()?;
        self.engine.checkpoint()
    }

    /// Runs maintenance once: removes committed offsets that have expired, and records that
    /// [retention](crate::TopicConfig::retention) does not keep, and compacts topics. The engine does this by itself
    /// at intervals, unless [`BrokerConfig::background`] is off.
    ///
    /// Only what a [`checkpoint`](Self::checkpoint) has made durable is compacted.
    ///
    /// # Errors
    /// - `DiskFull`, or `DiskBudget`, if there is no space.
    /// - `Failed` if all writing has stopped.
    ///
    /// ```
    /// use grouplog::time::ManualClock;
    /// use grouplog::{Broker, BrokerConfig, OffsetScope, ResetTo, Timestamp, TopicConfig};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    /// let memory = grouplog::storage::Memory::new();
    /// let config = BrokerConfig::new().clock(clock.clone());
    /// let broker = Broker::open_storage(Arc::new(memory), config)?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let orders = OffsetScope::Topic("orders".to_owned());
    /// broker.admin().reset_offsets("billing", &orders, ResetTo::Latest)?;
    /// clock.advance(Duration::from_hours(7 * 24)); // offsets.retention.minutes
    /// broker.maintain()?;
    /// assert!(broker.list_groups().is_empty());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn maintain(&self) -> Result<()> {
        self.engine.maintain()
    }
}

#[cfg(test)]
mod tests;
