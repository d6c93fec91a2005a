//! What a redrive needs to know of a folder, open for writing or read beside its writer.

use std::sync::Arc;

use crate::config::ShareGroupConfig;
use crate::engine::{Engine, Registry, ShareProgress, Snapshot};
use crate::error::{Error, Result};

pub(crate) trait Folder {
    fn registry(&self) -> &Registry;
    fn share_config(&self, group: &str) -> Result<Arc<ShareGroupConfig>>;
    /// What a share group has finished of a partition of a topic.
    fn progress(&self, group: &str, topic: &str, partition: u32) -> Result<ShareProgress>;
}

impl Folder for Engine {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn share_config(&self, group: &str) -> Result<Arc<ShareGroupConfig>> {
        self.share_config(group)
    }

    fn progress(&self, group: &str, topic: &str, partition: u32) -> Result<ShareProgress> {
        let topic = self.registry.topic(topic)?;
        Ok(self.share_progress(group, topic.log(partition)?))
    }
}

impl Folder for Snapshot {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn share_config(&self, group: &str) -> Result<Arc<ShareGroupConfig>> {
        self.share_config(group)
    }

    fn progress(&self, group: &str, topic: &str, partition: u32) -> Result<ShareProgress> {
        let topic = self.registry.topic(topic)?;
        Ok(self.share_progress(group, topic.log(partition)?))
    }
}

/// Returns the name of the topic that has a group's dead letters.
///
/// # Errors
/// `UnknownGroup`, `NoDeadLetterTopic`.
pub(super) fn topic_of_letters(folder: &impl Folder, group: &str) -> Result<String> {
    let config = folder.share_config(group)?;
    if config.dead_letter_topic.is_empty() {
        return Err(Error::NoDeadLetterTopic { group: group.to_owned() });
    }
    Ok(config.dead_letter_topic.clone())
}

/// Returns the name of the share group that keeps which letters of a group were sent back.
pub(super) fn keeper(group: &str) -> String {
    format!("{group}.redrive")
}
