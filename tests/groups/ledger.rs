use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use grouplog::{ConsumerRecords, TopicPartition};

pub(crate) const PARTITIONS: u32 = 64;

/// What was sent, processed and owned, as reported by the threads that did it.
pub(crate) struct Ledger {
    partitions: Vec<Partition>,
    outstanding: AtomicI64,
}

#[derive(Default)]
struct Partition {
    /// How often each offset was processed.
    processed: Mutex<Vec<u32>>,
    sent: AtomicU64,
    /// The number of the member that holds it, or 0 for none.
    owner: AtomicU64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let partitions = (0..PARTITIONS).map(|_| Partition::default()).collect();
        Self { partitions, outstanding: AtomicI64::new(0) }
    }

    fn partition(&self, partition: &TopicPartition) -> &Partition {
        &self.partitions[partition.partition() as usize]
    }

    pub(crate) fn sent(&self, partition: &TopicPartition) {
        self.partition(partition).sent.fetch_add(1, Ordering::Relaxed);
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many records were sent and not processed yet.
    pub(crate) fn outstanding(&self) -> i64 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Processes the records of topic `t` that a poll returned.
    pub(crate) fn process(&self, records: &ConsumerRecords) {
        for record in records.iter().filter(|record| record.topic() == "t") {
            let partition = &self.partitions[record.partition() as usize];
            let mut processed = partition.processed.lock().unwrap();
            let offset = record.offset() as usize;
            assert_eq!(record.value(), Some(offset.to_string().as_bytes()));
            assert!(offset <= processed.len(), "{offset} came before {}", processed.len());
            if offset == processed.len() {
                processed.push(0);
                self.outstanding.fetch_sub(1, Ordering::Relaxed);
            }
            processed[offset] += 1;
        }
    }

    pub(crate) fn check_owner(&self, records: &ConsumerRecords, member: u64) {
        for partition in records.partitions() {
            let owner = self.partition(partition).owner.load(Ordering::Acquire);
            assert_eq!(owner, member, "{partition} is read by its owner");
        }
    }

    pub(crate) fn take(&self, partitions: &[TopicPartition], member: u64) {
        for partition in partitions {
            let before = self.partition(partition).owner.swap(member, Ordering::AcqRel);
            assert_eq!(before, 0, "{partition} has two owners: {before} and {member}");
        }
    }

    pub(crate) fn give_up(&self, partitions: &[TopicPartition], member: u64) {
        for partition in partitions {
            let before = self.partition(partition).owner.swap(0, Ordering::AcqRel);
            assert_eq!(before, member, "{partition}");
        }
    }

    /// Returns how many records were processed more than once. Checks that all were processed.
    pub(crate) fn repeated(&self) -> usize {
        let mut repeated = 0;
        for (number, partition) in self.partitions.iter().enumerate() {
            let processed = partition.processed.lock().unwrap();
            let sent = partition.sent.load(Ordering::Relaxed);
            assert_eq!(processed.len() as u64, sent, "of partition {number}");
            repeated += processed.iter().filter(|times| **times > 1).count();
        }
        repeated
    }

    pub(crate) fn total(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.sent.load(Ordering::Relaxed)).sum()
    }
}
