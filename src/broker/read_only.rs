//! Looking at a folder without writing to it, beside its writer in another process.

use std::path::Path;
use std::sync::Arc;

use crate::config::ConsumerConfig;
use crate::consumer::{Consumer, Source};
use crate::engine::{
    DiskUsage, GroupSummary, OffsetScope, ResetOffset, ResetTo, Snapshot, TopicDescription,
};
use crate::error::Result;
use crate::storage::{Disk, ReadOnly, Storage};
use crate::types::{Timestamp, TopicPartition};

/// A folder that is open for reading: no lock, no write, no repair. Works beside the process that
/// writes, and shows everything it had written, up to the moment of opening, or of the last
/// [`ReadOnlyBroker::refresh`].
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
/// let beside = Broker::open_read_only(&path)?; // while the writer goes on
/// let mut reader = beside.consumer()?;
/// reader.assign([TopicPartition::new("orders", 0)])?;
/// assert_eq!(reader.poll(Duration::ZERO)?.len(), 1);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReadOnlyBroker {
    storage: Arc<dyn Storage>,
    snapshot: Arc<Snapshot>,
}

impl ReadOnlyBroker {
    pub(super) fn open_disk(path: &Path) -> Result<Self> {
        Self::open(Arc::new(ReadOnly::new(Disk::open(path)?)))
    }

    pub(super) fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let snapshot = Arc::new(Snapshot::load(&storage)?);
        Ok(Self { storage, snapshot })
    }

    /// Looks at the folder again; whether anything was written since the last time. What has come is read
    /// from the journal alone, or the whole folder anew where the writer has made a checkpoint, or created,
    /// changed or deleted a topic. Consumers that were made before go on seeing what they saw.
    ///
    /// # Errors
    /// `Busy` if the writer recycled the journal faster than it could be read, several times.
    pub fn refresh(&mut self) -> Result<bool> {
        let Some(next) = self.snapshot.refreshed(&self.storage)? else { return Ok(false) };
        self.snapshot = Arc::new(next);
        Ok(true)
    }

    /// The names of the topics, in order.
    pub fn list_topics(&self) -> Vec<String> {
        self.snapshot.list_topics()
    }

    /// A topic and its partitions.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.snapshot.describe_topic(name)
    }

    /// The names of the groups that have committed offsets, in order.
    pub fn list_groups(&self) -> Vec<String> {
        self.snapshot.list_groups()
    }

    /// A group's committed offsets and lag. Its members are in the memory of the process that they
    /// run in.
    ///
    /// # Errors
    /// `UnknownGroup`: it has no committed offsets.
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.snapshot.describe_group(name)
    }

    /// As [`Admin::plan_reset`](crate::Admin::plan_reset): where a reset would bring a group's committed
    /// offsets.
    pub fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.snapshot.plan_reset(group, scope, to)
    }

    /// As [`Admin::offset_for_time`](crate::Admin::offset_for_time).
    pub fn offset_for_time(
        &self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<(i64, Timestamp)>> {
        self.snapshot.registry.log(partition)?.offset_for_time(timestamp)
    }

    /// As [`Admin::disk_usage`](crate::Admin::disk_usage), of the folder as it is now.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.snapshot.disk_usage(&*self.storage)
    }

    /// A consumer without group, for [`Consumer::assign`]. It sees what the snapshot has; its `poll`
    /// never waits.
    pub fn consumer(&self) -> Result<Consumer> {
        Consumer::new(Source::Snapshot(Arc::clone(&self.snapshot)), ConsumerConfig::new())
    }

    /// The log start offset and the log end offset of a partition.
    pub fn log_bounds(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        let log = self.snapshot.registry.log(partition)?;
        Ok((log.start_offset(), log.end_offset()))
    }
}
