use grouplog::{Error, OffsetScope, TopicDescription, TopicPartition};

/// Returns the offsets that `--topic` and `--partition` select.
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

/// Returns an error if the topic does not have this partition.
pub(crate) fn check_partition(topic: &TopicDescription, number: u32) -> grouplog::Result<()> {
    let partitions = topic.partitions.len() as u32;
    if number < partitions {
        return Ok(());
    }
    let partition = TopicPartition::new(topic.name.as_str(), number);
    Err(Error::UnknownPartition { partition, partitions })
}
