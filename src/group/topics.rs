use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::TopicId;

/// The facts about a topic that a group needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    /// Distinguishes a topic from an earlier one of the same name.
    pub(crate) id: TopicId,
    /// The number of partitions.
    pub(crate) partitions: u32,
}

/// Where a group looks up topics.
pub(crate) trait Topics {
    /// Returns the topic with this name, if it exists.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// Returns the names of all topics, in any order. Called only if a member subscribes to a
    /// pattern.
    fn names(&self) -> Vec<Arc<str>>;
}

/// Topics by name.
pub(crate) type TopicsView = BTreeMap<Arc<str>, TopicInfo>;

impl Topics for TopicsView {
    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.get(name).copied()
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.keys().cloned().collect()
    }
}
