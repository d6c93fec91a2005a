//! Reads a folder without writing to it, also beside a writer in another process.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Acks, ConsumerConfig};
use crate::consumer::{Consumer, Source};
use crate::engine::{
    DiskUsage, GroupSummary, OffsetScope, OwnerSummary, ResetOffset, ResetTo, Snapshot,
    TopicDescription,
};
use crate::error::{Error, Result};
use crate::storage::{Disk, ReadOnly, Storage};
use crate::types::{Timestamp, TopicPartition};

/// A folder that is open for reading. It takes no lock, writes nothing and repairs nothing.
///
/// It works beside the process that writes. It shows everything that process had written when the folder was
/// opened, or at the last call of [`ReadOnlyBroker::refresh`].
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, Record, TopicConfig, TopicPartition};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let broker = Broker::open(&path)?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
///
/// let beside = Broker::open_read_only(&path)?; // beside the writer
/// let mut reader = beside.consumer()?;
/// reader.assign([TopicPartition::new("orders", 0)])?;
/// assert_eq!(reader.poll(Duration::ZERO)?.len(), 1);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReadOnlyBroker {
    storage: Arc<dyn Storage>,
    pub(super) snapshot: Arc<Snapshot>,
}

impl ReadOnlyBroker {
    pub(super) fn open_disk(path: &Path) -> Result<Self> {
        Self::open(Arc::new(ReadOnly::new(Disk::open(path)?)))
    }

    pub(super) fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let snapshot = Arc::new(Snapshot::load(&storage)?);
        Ok(Self { storage, snapshot })
    }

    /// Reads everything that was written since the opening or the last refresh. Returns whether there was
    /// anything.
    ///
    /// The call reads only the journal, unless the writer has written a checkpoint, or has created, changed
    /// or deleted a topic. Then it loads the whole folder. Existing consumers keep showing what they showed
    /// before.
    ///
    /// # Errors
    /// The errors of [`Broker::open_read_only`](crate::Broker::open_read_only).
    pub fn refresh(&mut self) -> Result<bool> {
        let Some(next) = self.snapshot.refreshed(&self.storage)? else { return Ok(false) };
        self.snapshot = Arc::new(next);
        Ok(true)
    }

    /// Returns the names of the topics in order.
    pub fn list_topics(&self) -> Vec<String> {
        self.snapshot.list_topics()
    }

    /// Returns a topic's settings and partitions.
    ///
    /// # Errors
    /// `UnknownTopic` if there is no topic of this name.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.snapshot.describe_topic(name)
    }

    /// Returns the names of the groups that have committed offsets, in order.
    pub fn list_groups(&self) -> Vec<String> {
        self.snapshot.list_groups()
    }

    /// Returns a group's committed offsets and lag. Members live in the memory of their process and are not
    /// visible here, so the lag of a partition without a committed offset counts from the log start, whatever
    /// their `auto.offset.reset` is. See [`GroupOffset::lag`](crate::GroupOffset::lag).
    ///
    /// # Errors
    /// `UnknownGroup` if the group has no committed offsets.
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.snapshot.describe_group(name)
    }

    /// Returns the `transactional.id`s of producers. See [`Admin::list_owners`](crate::Admin::list_owners).
    pub fn list_owners(&self) -> Vec<OwnerSummary> {
        self.snapshot.list_owners()
    }

    /// Returns where a reset would move a group's committed offsets. See
    /// [`Admin::plan_reset`](crate::Admin::plan_reset).
    pub fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.snapshot.plan_reset(group, scope, to)
    }

    /// Finds a record by time. See [`Admin::offset_for_time`](crate::Admin::offset_for_time).
    pub fn offset_for_time(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<(i64, Timestamp)>> {
        self.snapshot.registry.log(partition)?.offset_for_time(timestamp)
    }

    /// Returns the space that the folder takes now. See [`Admin::disk_usage`](crate::Admin::disk_usage).
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.snapshot.disk_usage(&*self.storage)
    }

    /// Creates a consumer without a group, for [`Consumer::assign`]. It reads the state of the opening or of
    /// the last refresh. Its `poll` never waits, and fails with [`Error::Stale`](crate::Error::Stale) where the
    /// writer has replaced files by compaction since.
    pub fn consumer(&self) -> Result<Consumer> {
        self.consumer_with(ConsumerConfig::new())
    }

    /// Creates a consumer with these settings, without a group. See [`ReadOnlyBroker::consumer`].
    ///
    /// # Errors
    /// `Misuse` if the settings name a group, or ask for `Synced` records: only the process that writes the folder
    /// has groups, and knows what is synced.
    ///
    /// ```
    /// use grouplog::{Broker, ConsumerConfig, IsolationLevel, Record, TopicConfig, TopicPartition};
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("data");
    /// let broker = Broker::open(&path)?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    ///
    /// let beside = Broker::open_read_only(&path)?;
    /// let config = ConsumerConfig::new().isolation_level(IsolationLevel::ReadCommitted);
    /// let mut reader = beside.consumer_with(config)?;
    /// reader.assign([TopicPartition::new("orders", 0)])?;
    /// assert_eq!(reader.poll(Duration::ZERO)?.len(), 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn consumer_with(&self, config: ConsumerConfig) -> Result<Consumer> {
        if config.group.is_some() {
            return Err(Error::Misuse(
                "the folder is open read-only: open it with Broker::open for a consumer with a group",
            ));
        }
        if config.read_durability == Acks::Synced {
            return Err(Error::Misuse(
                "the folder is open read-only: only its writer knows which records are synced",
            ));
        }
        Consumer::new(Source::Snapshot(Arc::clone(&self.snapshot)), config)
    }

    /// Returns the log start offset and the log end offset of a partition.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition` if the partition does not exist.
    pub fn log_bounds(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        let log = self.snapshot.registry.log(partition)?;
        Ok((log.start_offset(), log.end_offset()))
    }
}
