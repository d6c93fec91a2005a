use std::path::Path;

use grouplog::TopicPartition;
use serde_json::json;

use crate::args::Records;
use crate::before::Before;
use crate::failure::Failure;
use crate::folder::with_writer;
use crate::output::Output;
use crate::scope::check_partition;

pub(crate) fn run(data: &Path, command: &Records, out: &mut Output) -> Result<(), Failure> {
    match command {
        Records::Delete { topic, partition, before } => {
            let partition = TopicPartition::new(topic.as_str(), *partition);
            delete(data, &partition, *before, out)
        }
    }
}

fn delete(
    data: &Path,
    partition: &TopicPartition,
    before: Before,
    out: &mut Output,
) -> Result<(), Failure> {
    let start = with_writer(data, |broker| {
        let topic = broker.describe_topic(partition.topic())?;
        check_partition(&topic, partition.partition())?;
        let described = topic.partitions.iter().find(|known| known.partition == *partition);
        let before = match before {
            Before::Offset(offset) => offset,
            Before::Latest => described.map_or(0, |known| known.end_offset),
        };
        Ok(broker.admin().delete_records(partition, before)?)
    })?;
    if out.json {
        return out.object(&json!({
            "topic": partition.topic(),
            "partition": partition.partition(),
            "start_offset": start,
        }));
    }
    out.text(&format!("{partition} starts at offset {start} now\n"))
}
