use std::fmt;
use std::sync::Arc;

/// A topic's name and one of its partitions, ordered by name, then number.
///
/// ```
/// use grouplog::TopicPartition;
/// let tp = TopicPartition::new("orders", 3);
/// assert_eq!((tp.topic(), tp.partition()), ("orders", 3));
/// assert_eq!(tp.to_string(), "orders-3");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: u32,
}

impl TopicPartition {
    /// Creates the partition number `partition` of the topic `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// Returns the topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the topic's name as a shared string.
    pub(crate) fn topic_name(&self) -> &Arc<str> {
        &self.topic
    }

    /// Returns the partition's number within the topic, from 0.
    pub fn partition(&self) -> u32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
