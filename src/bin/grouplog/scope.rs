use grouplog::{OffsetScope, TopicPartition};

/// The offsets that `--topic` and `--partition` name.
pub(crate) fn scope(topic: Option<&str>, partitions: &[u32]) -> OffsetScope {
    match (topic, partitions) {
        (None, _) => OffsetScope::Committed,
        (Some(topic), []) => OffsetScope::Topic(topic.to_owned()),
        (Some(topic), _) => {
            let partition = |&partition| TopicPartition::new(topic, partition);
            OffsetScope::Partitions(partitions.iter().map(partition).collect())
        }
    }
}
