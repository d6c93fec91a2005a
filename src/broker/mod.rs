//! What a program holds of an open folder: [`Broker`], [`ReadOnlyBroker`] and [`Admin`].
//!
//! Handles alone, without logic: each call goes to the engine. They also make the other handles, so this
//! module imports `producer` and `consumer`; only `internal` imports it.

mod admin;
mod read_only;

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

/// An open folder: topics, producers and consumers. A handle that is cheap to clone.
///
/// Producers, consumers and admins are handles, too. Who drops the last one closes the folder, without a word of
/// what failed, and it can be opened again when that returns.
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
/// producer.flush()?; // everything sent so far is on disk
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
    engine: EngineHandle,
    report: Arc<RecoveryReport>,
}

impl Broker {
    /// Opens a folder for writing with the default settings, and creates it if it is not there.
    ///
    /// # Errors
    /// `Locked` if it is open already, here or in another process; `NotADatabase`,
    /// `UnsupportedFormat`, `Corrupt`, `MissingSegment`, `Io`. Nothing is changed then.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, BrokerConfig::default())
    }

    /// As [`Broker::open`], with these settings.
    pub fn open_with(path: impl AsRef<Path>, config: BrokerConfig) -> Result<Self> {
        let path = path.as_ref();
        let disk = if config.create {
            Disk::open_or_create_with(path, config.access)
        } else {
            Disk::open_with(path, config.access)
        };
        Self::open_storage(Arc::new(disk?), config)
    }

    /// The same engine on memory: for tests, fast and gone with the last handle.
    pub fn open_in_memory() -> Result<Self> {
        Self::open_storage(Arc::new(Memory::new()), BrokerConfig::default())
    }

    /// Opens what a [`Storage`] holds.
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

    /// Opens a folder for reading, beside its writer if there is one.
    ///
    /// # Errors
    /// `NotADatabase`, `UnsupportedFormat`, `Corrupt`, `Busy`, `Io`.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<ReadOnlyBroker> {
        ReadOnlyBroker::open_disk(path.as_ref())
    }

    /// As [`Broker::open_read_only`], of what a [`Storage`] holds.
    pub fn open_storage_read_only(storage: Arc<dyn Storage>) -> Result<ReadOnlyBroker> {
        ReadOnlyBroker::open(storage)
    }

    /// Writes everything out and ends the engine for all handles. Calls under way get a definite
    /// result, later ones [`Error::Closed`](crate::Error::Closed).
    ///
    /// # Errors
    /// What could not be written; the journal still holds it, and the next open replays it.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }

    /// What opening found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }

    /// What is wrong now, whether calls have reported it or not.
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// Creates a topic. It survives power loss when this returns.
    ///
    /// # Errors
    /// `TopicExists`, `InvalidName`, `InvalidConfig`, `UnsupportedCodec`, `DiskFull`, `Failed`.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.engine.create_topic(name, config)
    }

    /// Creates a topic unless it exists, and returns whether it was created. What a program calls that may be
    /// started again.
    ///
    /// A topic that exists stays as it is, also if `config` says something else:
    /// [`Admin::alter_topic`] and [`Admin::add_partitions`] change it. A topic that this call created
    /// survives power loss when the call returns.
    ///
    /// # Errors
    /// Those of [`Broker::create_topic`] but for `TopicExists`. A name that differs from another topic's only in
    /// case, or only in `.` against `_`, is an `InvalidName`.
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

    /// Deletes a topic with its records and committed offsets, for good. Records that were returned by
    /// `poll` stay readable.
    ///
    /// # Errors
    /// `UnknownTopic`, `Failed`.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.engine.delete_topic(name)
    }

    /// The names of the topics, in order. A forked child sees none.
    pub fn list_topics(&self) -> Vec<String> {
        self.engine.list_topics()
    }

    /// A topic and its partitions.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.engine.describe_topic(name)
    }

    /// A producer with the default settings: `Synced`.
    pub fn producer(&self) -> Result<Producer> {
        self.producer_with(ProducerConfig::default())
    }

    /// A producer.
    pub fn producer_with(&self, config: ProducerConfig) -> Result<Producer> {
        self.engine.check_open()?;
        Ok(Producer::new(self.engine.clone(), config))
    }

    /// A consumer of the group `group` with the default settings.
    ///
    /// # Errors
    /// `InvalidName`.
    pub fn consumer(&self, group: &str) -> Result<Consumer> {
        self.consumer_with(ConsumerConfig::new().group(group))
    }

    /// A consumer.
    ///
    /// # Errors
    /// `InvalidName`, `InvalidConfig`.
    pub fn consumer_with(&self, config: ConsumerConfig) -> Result<Consumer> {
        self.engine.check_open()?;
        Consumer::new(Source::Live(self.engine.clone()), config)
    }

    /// Looks after topics, groups and their offsets.
    pub fn admin(&self) -> Admin {
        Admin::new(self.engine.clone())
    }

    /// The names of the groups that have members or committed offsets, in order. A forked child sees none.
    pub fn list_groups(&self) -> Vec<String> {
        self.engine.list_groups()
    }

    /// A group's members, committed offsets and lag.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.engine.describe_group(name)
    }

    /// Writes everything out of the journal, as the engine does by itself when it is half full.
    ///
    /// # Errors
    /// `DiskFull`; `Failed` if a write or sync failed, which ends all writing.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.check_open()?;
        self.engine.checkpoint()
    }

    /// Looks for what is to be removed by age, as the engine does by itself from time to time: committed
    /// offsets that nobody uses. With [`BrokerConfig::background`] off nobody else does it.
    ///
    /// # Errors
    /// `DiskFull`, `Failed`.
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
