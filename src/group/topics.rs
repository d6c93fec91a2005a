use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::TopicId;

/// What a group must know of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    /// Tells a topic from an earlier one of the same name.
    pub(crate) id: TopicId,
    /// How many partitions it has.
    pub(crate) partitions: u32,
}

/// Where a group looks topics up.
pub(crate) trait Topics {
    /// The topic of this name, if it exists.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// The names of all topics, in any order; asked for only where somebody subscribes to a pattern.
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
