//! The content of a folder after a kill, and the checks on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, GroupSummary, ReadOnlyBroker, Result as Answer,
    TopicDescription, TopicPartition,
};

use crate::told::Told;
use crate::work::{GROUP, PARTITIONS, THREADS, TOPIC, value};

/// The identity that a record contains: run, thread, number.
type Name = (u64, u64, u64);

/// The parts of a folder that both a writer and a concurrent reader can see.
pub(crate) trait Folder {
    fn topic(&self) -> Answer<TopicDescription>;
    fn group(&self) -> Answer<GroupSummary>;
    fn reader(&self) -> Answer<Consumer>;
}

impl Folder for Broker {
    fn topic(&self) -> Answer<TopicDescription> {
        self.describe_topic(TOPIC)
    }

    fn group(&self) -> Answer<GroupSummary> {
        self.describe_group(GROUP)
    }

    fn reader(&self) -> Answer<Consumer> {
        self.consumer_with(ConsumerConfig::new())
    }
}

impl Folder for ReadOnlyBroker {
    fn topic(&self) -> Answer<TopicDescription> {
        self.describe_topic(TOPIC)
    }

    fn group(&self) -> Answer<GroupSummary> {
        self.describe_group(GROUP)
    }

    fn reader(&self) -> Answer<Consumer> {
        self.consumer()
    }
}

/// All records by partition, and all offsets.
#[derive(Debug, Default)]
pub(crate) struct Found {
    logs: BTreeMap<u32, Vec<Name>>,
    commits: BTreeMap<u32, i64>,
}

impl Found {
    pub(crate) fn count(&self) -> usize {
        self.logs.values().map(Vec::len).sum()
    }

    /// Reads everything. It must contain what was found before and what the run acknowledged.
    pub(crate) fn verify(
        &self,
        folder: &impl Folder,
        told: &Told,
        run: u64,
    ) -> Result<Self, String> {
        if folder.topic().is_err() {
            let nothing = self.count() == 0 && told.records.is_empty();
            return if nothing {
                Ok(Self::default())
            } else {
                Err("the topic is missing".to_owned())
            };
        }
        let found = Self { logs: read(folder)?, commits: commits(folder)? };
        for (partition, before) in &self.logs {
            if !found.logs[partition].starts_with(before) {
                return Err(format!("partition {partition} lost records that it had before"));
            }
        }
        for ((thread, number, partition), offset) in &told.records {
            let record = found.logs[partition].get(*offset as usize);
            if record != Some(&(run, *thread, *number)) {
                return Err(format!(
                    "record {number} of thread {thread} was acknowledged at offset {offset} of \
                     partition {partition}, where now is {record:?}"
                ));
            }
        }
        for (partition, offset) in told.commits.iter().chain(&self.commits) {
            // Each commit is of an end, which only rises.
            if found.commits.get(partition).is_none_or(|committed| committed < offset) {
                let now = found.commits.get(partition);
                return Err(format!("{offset} was committed for {partition}, now it is {now:?}"));
            }
        }
        (0..THREADS).try_for_each(|thread| found.check_thread(run, thread))?;
        Ok(found)
    }

    /// Checks one thread, which sends sequentially: its records form a prefix, and each transaction
    /// has all its parts.
    fn check_thread(&self, run: u64, thread: u64) -> Result<(), String> {
        let mut numbers: BTreeMap<u64, u32> = BTreeMap::new();
        for log in self.logs.values() {
            let mut last = None;
            for (_, _, number) in log.iter().filter(|name| (name.0, name.1) == (run, thread)) {
                if last >= Some(number) {
                    return Err(format!("record {number} of thread {thread} is doubled or late"));
                }
                last = Some(number);
                *numbers.entry(*number).or_default() += 1;
            }
        }
        let parts = if thread == THREADS - 1 { PARTITIONS } else { 1 };
        for ((number, count), expected) in numbers.iter().zip(0..) {
            if *number != expected || *count != parts {
                return Err(format!(
                    "of thread {thread} there are {count} parts of {number}, where {expected} was due"
                ));
            }
        }
        Ok(())
    }
}

/// Reads and checks every byte of every record. There must be no gap.
fn read(folder: &impl Folder) -> Result<BTreeMap<u32, Vec<Name>>, String> {
    let mut logs: BTreeMap<u32, Vec<Name>> = (0..PARTITIONS).map(|p| (p, Vec::new())).collect();
    let mut reader = folder.reader().map_err(told)?;
    reader.assign((0..PARTITIONS).map(|p| TopicPartition::new(TOPIC, p))).map_err(told)?;
    let mut names = BTreeSet::new();
    loop {
        let records = reader.poll(Duration::ZERO).map_err(told)?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            let bytes = record.value().unwrap_or_default();
            let text = String::from_utf8_lossy(bytes);
            let numbers: Vec<u64> = text.split(' ').map_while(|word| word.parse().ok()).collect();
            let &[run, thread, number, partition, ..] = numbers.as_slice() else {
                return Err(format!("no thread sent {text:?}"));
            };
            let log = logs.entry(record.partition()).or_default();
            let right = bytes == value(run, thread, number, record.partition())
                && partition == u64::from(record.partition())
                && record.offset() == log.len() as i64
                && names.insert((run, thread, number, partition));
            if !right {
                return Err(format!("{} of {}: {text:?}", record.offset(), record.partition()));
            }
            log.push((run, thread, number));
        }
    }
    let ends = folder.topic().map_err(told)?.partitions;
    for partition in ends {
        let read = logs[&partition.partition.partition()].len() as i64;
        if read != partition.end_offset {
            return Err(format!("{read} records, but the log end is {}", partition.end_offset));
        }
    }
    Ok(logs)
}

fn commits(folder: &impl Folder) -> Result<BTreeMap<u32, i64>, String> {
    let rows = folder.group().map_or(Vec::new(), |group| group.offsets);
    let mut commits = BTreeMap::new();
    for row in rows {
        if row.committed > Some(row.end_offset) {
            return Err(format!("committed beyond the end: {row:?}"));
        }
        commits.extend(row.committed.map(|offset| (row.partition.partition(), offset)));
    }
    Ok(commits)
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn told(error: grouplog::Error) -> String {
    format!("reading fails: {error:?}")
}
