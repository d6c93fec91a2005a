//! How far a share group is in a partition, for those who only look.

use std::sync::Arc;

use super::state::ShareStates;
use crate::config::ShareGroupConfig;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::SharePartition;
use crate::log::Log;

/// What a share group has finished of one partition.
#[derive(Debug)]
pub(crate) struct ShareProgress(Option<Arc<SharePartition>>);

impl ShareProgress {
    /// Returns the first offset that may be unfinished.
    pub(crate) fn start(&self) -> i64 {
        self.0.as_ref().map_or(0, |state| state.oldest_unfinished())
    }

    /// Returns whether the group has not finished a record.
    pub(crate) fn is_unfinished(&self, offset: i64) -> bool {
        let Some(partition) = &self.0 else { return true };
        match partition.state(offset) {
            Some(state) => !state.is_finished(),
            None => offset > partition.end(),
        }
    }
}

fn unknown(group: &str) -> Error {
    Error::UnknownGroup { group: group.to_owned() }
}

impl Engine {
    /// Returns the settings of a share group.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub(crate) fn share_config(&self, group: &str) -> Result<Arc<ShareGroupConfig>> {
        self.check_open()?;
        let found = self.shares.find(group).ok_or_else(|| unknown(group))?;
        Ok(found.settings()?.config)
    }

    /// Returns what a share group has finished of a partition: nothing if the group does not exist.
    pub(crate) fn share_progress(&self, group: &str, log: &Log) -> ShareProgress {
        let part = self.shares.find(group).and_then(|group| {
            let partitions = group.partitions.lock();
            partitions.get(&log.number()).cloned()
        });
        ShareProgress(part.and_then(|part| part.state.lock().clone().map(Arc::new)))
    }
}

impl ShareStates {
    /// As [`Engine::share_config`].
    pub(in crate::engine) fn config(&self, group: &str) -> Result<Arc<ShareGroupConfig>> {
        let state = self.get(group).ok_or_else(|| unknown(group))?;
        Ok(Arc::clone(&state.settings.config))
    }

    /// As [`Engine::share_progress`].
    pub(in crate::engine) fn progress(&self, group: &str, log: &Log) -> ShareProgress {
        let state = self.get(group);
        ShareProgress(state.and_then(|state| state.partitions.get(&log.number()).cloned()))
    }
}
