//! The state of a folder at one moment, for readers.
//!
//! Imported by `engine`.

mod follow;
mod look;

use std::sync::Arc;

use crate::config::ShareGroupConfig;
use crate::engine::describe;
use crate::engine::files::CheckpointHeads;
use crate::engine::groups::reset::{self, OffsetScope, ResetOffset, ResetTo};
use crate::engine::groups::summary::GroupSummary;
use crate::engine::owners::{OwnerSummary, Owners};
use crate::engine::registry::Registry;
use crate::engine::report::TopicDescription;
use crate::engine::retention_report::Circumstances;
use crate::engine::shares::{ShareGroupSummary, ShareProgress, ShareStates};
use crate::engine::usage::{self, DiskUsage};
use crate::error::{Error, Result};
use crate::group::OffsetStore;
use crate::journal::Mark;
use crate::log::Log;
use crate::storage::Storage;
use crate::time::Clock;

/// The state of a folder at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Reads the segments. It closes files that it keeps open if too many are.
    storage: Arc<dyn Storage>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) offsets: OffsetStore,
    owners: Arc<Owners>,
    shares: Arc<ShareStates>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where loading ended, so that the next refresh can continue from there.
    seen: Seen,
}

/// The position where loading ended.
#[derive(Debug)]
struct Seen {
    heads: CheckpointHeads,
    directory_id: [u8; 16],
    mark: Mark,
}

impl Seen {
    fn new(heads: CheckpointHeads, directory_id: [u8; 16], mark: Mark) -> Self {
        Self { heads, directory_id, mark }
    }
}

impl Snapshot {
    /// Loads a whole folder.
    pub(crate) fn load(storage: &Arc<dyn Storage>) -> Result<Self> {
        look::load(storage)
    }

    /// Returns the folder as it is now, or `None` if nothing was written since.
    pub(crate) fn refreshed(&self, storage: &Arc<dyn Storage>) -> Result<Option<Self>> {
        // Where following fails, loading everything either works or reports the reason.
        follow::follow(&self.storage, self).or_else(|_| look::load(storage).map(Some))
    }

    /// Returns the names of the topics in order.
    pub(crate) fn list_topics(&self) -> Vec<String> {
        self.registry.topics().iter().map(|topic| topic.name.to_string()).collect()
    }

    /// Describes a topic.
    pub(crate) fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let read = |group: &str, log: &Log| match self.shares.get(group) {
            Some(state) => Some(state.partitions.get(&log.number())?.oldest_unfinished()),
            None => self.offsets.get(group, log.number()).map(|at| at.offset),
        };
        let by = Circumstances { now: self.clock.now(), read: &read, opening: false };
        Ok(describe::topic(&*self.registry.topic(name)?, by, None))
    }

    /// Returns the names of the groups that have committed offsets, in order.
    pub(crate) fn list_groups(&self) -> Vec<String> {
        let mut names: Vec<_> = self.offsets.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    }

    /// Describes a group. Members live in the memory of their own process and are not visible here.
    pub(crate) fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        let offsets = self.offsets.group(name);
        let offsets = offsets.ok_or_else(|| Error::UnknownGroup { group: name.to_owned() })?;
        Ok(describe::group(name, None, Some(offsets), &self.registry, self.clock.now()))
    }

    /// Returns the named owners in order.
    pub(crate) fn list_owners(&self) -> Vec<OwnerSummary> {
        self.owners.summaries()
    }

    /// Returns the names of the share groups in order.
    pub(crate) fn list_share_groups(&self) -> Vec<String> {
        self.shares.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// Describes a share group. Its members are not visible here.
    pub(crate) fn describe_share_group(&self, name: &str) -> Result<ShareGroupSummary> {
        self.shares.describe(name, &self.registry, self.clock.now().as_millis())
    }

    /// Returns the settings of a share group.
    pub(crate) fn share_config(&self, group: &str) -> Result<Arc<ShareGroupConfig>> {
        self.shares.config(group)
    }

    /// Returns what a share group has finished of a partition: nothing if the group does not exist.
    pub(crate) fn share_progress(&self, group: &str, log: &Log) -> ShareProgress {
        self.shares.progress(group, log)
    }

    /// Returns where a reset would move a group's committed offsets.
    pub(crate) fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        let offsets = self.offsets.group(group).map(|offsets| &**offsets);
        let logs = reset::scope(&self.registry, group, offsets, scope)?;
        reset::plan(&logs, offsets, to, self.clock.now())
    }

    /// Measures the folder as it is now.
    pub(crate) fn disk_usage(&self, storage: &dyn Storage) -> Result<DiskUsage> {
        usage::of(storage, &self.registry)
    }
}
