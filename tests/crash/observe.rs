//! Everything that can be seen of a broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, ConsumerRecord, GroupSummary, OwnerSummary, ReadOnlyBroker,
    Result, ShareGroupSummary, TopicDescription, TopicPartition,
};

use crate::oracle::{COMPACTED, RecordModel, State, gone};

/// The information that both kinds of brokers provide.
pub(crate) trait Readable {
    fn topics(&self) -> Vec<String>;
    fn topic(&self, name: &str) -> Result<TopicDescription>;
    fn groups(&self) -> Vec<String>;
    fn group(&self, name: &str) -> Result<GroupSummary>;
    fn owners(&self) -> Result<Vec<OwnerSummary>>;
    fn share_groups(&self) -> Vec<String>;
    fn share_group(&self, name: &str) -> Result<ShareGroupSummary>;
    fn reader(&self) -> Result<Consumer>;
}

impl Readable for Broker {
    fn topics(&self) -> Vec<String> {
        self.list_topics()
    }

    fn topic(&self, name: &str) -> Result<TopicDescription> {
        self.describe_topic(name)
    }

    fn groups(&self) -> Vec<String> {
        self.list_groups()
    }

    fn group(&self, name: &str) -> Result<GroupSummary> {
        self.describe_group(name)
    }

    fn owners(&self) -> Result<Vec<OwnerSummary>> {
        self.admin().list_owners()
    }

    fn share_groups(&self) -> Vec<String> {
        self.admin().list_share_groups()
    }

    fn share_group(&self, name: &str) -> Result<ShareGroupSummary> {
        self.admin().describe_share_group(name)
    }

    fn reader(&self) -> Result<Consumer> {
        self.consumer_with(ConsumerConfig::new())
    }
}

impl Readable for ReadOnlyBroker {
    fn topics(&self) -> Vec<String> {
        self.list_topics()
    }

    fn topic(&self, name: &str) -> Result<TopicDescription> {
        self.describe_topic(name)
    }

    fn groups(&self) -> Vec<String> {
        self.list_groups()
    }

    fn group(&self, name: &str) -> Result<GroupSummary> {
        self.describe_group(name)
    }

    fn owners(&self) -> Result<Vec<OwnerSummary>> {
        Ok(self.list_owners())
    }

    fn share_groups(&self) -> Vec<String> {
        self.list_share_groups()
    }

    fn share_group(&self, name: &str) -> Result<ShareGroupSummary> {
        self.describe_share_group(name)
    }

    fn reader(&self) -> Result<Consumer> {
        self.consumer()
    }
}

/// Reads all topics, records and offsets. Checks what needs no oracle: offsets without gaps (I3),
/// and no group beyond the log end (I4).
pub(crate) fn observe(broker: &impl Readable) -> Result<State, String> {
    let mut state = State::default();
    let mut partitions = Vec::new();
    let mut ends = BTreeMap::new();
    for name in broker.topics() {
        let topic = broker.topic(&name).map_err(failed)?;
        let mut logs = Vec::new();
        for partition in &topic.partitions {
            logs.push(vec![gone(); partition.start_offset as usize]);
            if partition.start_offset > 0 {
                let place = (name.clone(), partition.partition.partition());
                state.starts.insert(place, partition.start_offset);
            }
            ends.insert(partition.partition.clone(), partition.end_offset);
            partitions.push(partition.partition.clone());
        }
        state.topics.insert(name, logs);
    }
    read_records(broker, partitions, &mut state)?;
    for (partition, end) in ends.iter().filter(|(partition, _)| partition.topic() == COMPACTED) {
        // Compaction may have removed the last ones.
        let logs = state.topics.get_mut(COMPACTED);
        let log = logs.and_then(|logs| logs.get_mut(partition.partition() as usize));
        if let Some(log) = log.filter(|log| (log.len() as i64) < *end) {
            log.resize(*end as usize, gone());
        }
    }
    for (partition, end) in &ends {
        let read = state.topics[partition.topic()][partition.partition() as usize].len() as i64;
        if read != *end {
            return Err(format!("{partition} has {read} records, its log end is {end}"));
        }
    }
    for name in broker.groups() {
        for row in broker.group(&name).map_err(failed)?.offsets {
            let Some(committed) = row.committed else { continue };
            if committed > row.end_offset || ends.get(&row.partition) != Some(&row.end_offset) {
                return Err(format!("group {name} is beyond the log end: {row:?}"));
            }
            let place = (row.partition.topic().to_owned(), row.partition.partition());
            state.offsets.insert((name.clone(), place), committed);
        }
    }
    for name in broker.share_groups() {
        for row in broker.share_group(&name).map_err(failed)?.partitions {
            let held = row.records.iter().flat_map(|held| {
                (held.first_offset..=held.last_offset).map(|offset| (offset, held.delivery_count))
            });
            let held: BTreeMap<i64, u16> = held.collect();
            if held.is_empty() && row.lag == row.end_offset as u64 {
                continue;
            }
            let place = (row.partition.topic().to_owned(), row.partition.partition());
            state.seen_shares.insert((name.clone(), place), (row.lag, held));
        }
    }
    for owner in broker.owners().map_err(failed)? {
        state.owners.insert(owner.transactional_id, (owner.epoch, owner.last_sequence));
    }
    Ok(state)
}

fn read_records(
    broker: &impl Readable,
    partitions: Vec<TopicPartition>,
    state: &mut State,
) -> Result<(), String> {
    let mut reader = broker.reader().map_err(failed)?;
    reader.assign(partitions).map_err(failed)?;
    loop {
        let records = reader.poll(Duration::ZERO).map_err(failed)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            let topic = state.topics.get_mut(record.topic());
            let log = topic.and_then(|topic| topic.get_mut(record.partition() as usize));
            let log = log.ok_or("a record of a partition that is not there")?;
            if record.topic() == COMPACTED && record.offset() > log.len() as i64 {
                log.resize(record.offset() as usize, gone());
            }
            if record.offset() != log.len() as i64 {
                return Err(format!(
                    "offset {} follows {} records of {}",
                    record.offset(),
                    log.len(),
                    record.topic_partition()
                ));
            }
            log.push(Arc::new(model_of(&record)));
        }
    }
}

/// Returns the model of a record that was read.
pub(crate) fn model_of(record: &ConsumerRecord<'_>) -> RecordModel {
    let header = |header: grouplog::record::RecordHeader<'_>| {
        let name = String::from_utf8_lossy(header.name_bytes()).into_owned();
        (name, header.value().map(<[u8]>::to_vec))
    };
    RecordModel {
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(header).collect(),
        timestamp: Some(record.timestamp().as_millis()),
        id: None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn failed(error: grouplog::Error) -> String {
    format!("reading fails: {error:?}")
}
