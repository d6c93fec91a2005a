//! Looking at a folder without writing to it, beside its writer in another process.

use std::path::Path;
use std::sync::Arc;

use super::follow::{self, Seen};
use super::group_summary::GroupSummary;
use super::open::Loaded;
use super::registry::Registry;
use super::report::TopicDescription;
use super::reset::{self, OffsetScope, ResetOffset, ResetTo};
use super::usage::{self, DiskUsage};
use super::{describe, files};
use crate::config::{BrokerConfig, ConsumerConfig};
use crate::consumer::{Consumer, Source};
use crate::error::{Error, Result};
use crate::group::OffsetStore;
use crate::storage::{Disk, ReadOnly, Storage};
use crate::time::Clock;
use crate::types::{Timestamp, TopicPartition};

/// A folder as it was at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) registry: Arc<Registry>,
    pub(crate) offsets: OffsetStore,
    pub(crate) clock: Arc<dyn Clock>,
    /// What was there, to find out later what has come since.
    pub(super) seen: Seen,
}

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

/// How often a folder is read again when its writer was faster.
const ATTEMPTS: usize = 10;

impl ReadOnlyBroker {
    pub(super) fn open_disk(path: &Path) -> Result<Self> {
        Self::open(Arc::new(ReadOnly::new(Disk::open(path)?)))
    }

    pub(super) fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let snapshot = Arc::new(load(&storage)?);
        Ok(Self { storage, snapshot })
    }

    /// Looks at the folder again; whether anything was written since the last time. What has come is read
    /// from the journal alone, or the whole folder anew where the writer has made a checkpoint, or created,
    /// changed or deleted a topic. Consumers that were made before go on seeing what they saw.
    ///
    /// # Errors
    /// `Busy` if the writer recycled the journal faster than it could be read, several times.
    pub fn refresh(&mut self) -> Result<bool> {
        let next = match follow::follow(&self.storage, &self.snapshot) {
            Ok(None) => return Ok(false),
            Ok(Some(next)) => next,
            // From the checkpoint on it works, or says what is wrong.
            Err(_) => load(&self.storage)?,
        };
        self.snapshot = Arc::new(next);
        Ok(true)
    }

    /// The names of the topics, in order.
    pub fn list_topics(&self) -> Vec<String> {
        self.snapshot.registry.topics().iter().map(|topic| topic.name.to_string()).collect()
    }

    /// A topic and its partitions.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        Ok(describe::topic(&*self.snapshot.registry.topic(name)?))
    }

    /// The names of the groups that have committed offsets, in order.
    pub fn list_groups(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.snapshot.offsets.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    }

    /// A group's committed offsets and lag. Its members are in the memory of the process that they
    /// run in.
    ///
    /// # Errors
    /// `UnknownGroup`: it has no committed offsets.
    pub fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        let Snapshot { registry, offsets, clock, .. } = &*self.snapshot;
        let offsets = offsets.group(name);
        let offsets = offsets.ok_or_else(|| Error::UnknownGroup { group: name.to_owned() })?;
        Ok(describe::group(name, None, Some(offsets), registry, clock.now()))
    }

    /// As [`Admin::plan_reset`](crate::Admin::plan_reset): where a reset would bring a group's committed
    /// offsets.
    pub fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        let Snapshot { registry, offsets, clock, .. } = &*self.snapshot;
        let offsets = offsets.group(group).map(|offsets| &**offsets);
        let logs = reset::scope(registry, group, offsets, scope)?;
        reset::plan(&logs, offsets, to, clock.now())
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
        usage::of(&*self.storage, &self.snapshot.registry)
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

fn load(storage: &Arc<dyn Storage>) -> Result<Snapshot> {
    let config = BrokerConfig::new();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match look(storage, &config) {
            Ok(snapshot) => return Ok(snapshot),
            // The writer may have gone on to another checkpoint or journal file meanwhile: what looks
            // like damage is believed when it stays.
            Err(error @ (Error::Busy { .. } | Error::Corrupt(_))) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(Error::Busy { path: storage.display_path(Path::new("")) }))
}

fn look(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<Snapshot> {
    // First, so that a checkpoint that comes meanwhile is noticed later.
    let heads = files::checkpoint_heads(&**storage)?;
    let loaded = Loaded::read(storage, config)?;
    Ok(Snapshot {
        registry: loaded.registry,
        offsets: loaded.offsets,
        clock: Arc::clone(&config.clock),
        seen: Seen::new(heads, loaded.image.directory_id, loaded.replayed.mark),
    })
}
