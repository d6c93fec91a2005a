//! Shared by the tests: brokers on a clock that only the test moves, and records that own their bytes.

use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{ManualClock, SeededRandom};
use grouplog::{
    Broker, BrokerConfig, Consumer, ConsumerConfig, ConsumerRecord, ConsumerRecords, Error,
    ReadMode, Timestamp, TopicPartition,
};

/// Longer than any test takes. A wait of this length must be ended by an event.
pub(crate) const LONG: Duration = Duration::from_mins(5);
/// Generous, but far below [`LONG`].
pub(crate) const AT_ONCE: Duration = Duration::from_secs(20);

/// A folder in memory that can be opened again, with a clock that only the test moves.
pub(crate) struct World {
    pub(crate) storage: Memory,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: BrokerConfig,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(Memory::new())
    }

    pub(crate) fn on(storage: Memory) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        let config = BrokerConfig::new()
            .clock(Arc::clone(&clock) as _)
            .journal_file_bytes(64 << 10)
            .journal_max_bytes(1 << 20)
            .read_mode(read_mode())
            .background(false);
        Self { storage, clock, config }
    }

    /// Returns a world on the same folder.
    pub(crate) fn again(&self) -> Self {
        let (storage, clock) = (self.storage.clone(), Arc::clone(&self.clock));
        Self { storage, clock, config: self.config.clone() }
    }

    pub(crate) fn batch_size(mut self, bytes: u32) -> Self {
        self.config = self.config.batch_size(bytes);
        self
    }

    pub(crate) fn open(&self) -> Broker {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> grouplog::Result<Broker> {
        Broker::open_storage(Arc::new(self.storage.clone()), self.config.clone())
    }
}

/// Opens what a crash leaves, and checks that nothing is damaged.
pub(crate) fn after_crash(world: &World, crash: Crash) -> (World, Broker) {
    let left = world.storage.crash(crash, &SeededRandom::new(1));
    let again =
        World { storage: left, clock: Arc::clone(&world.clock), config: world.config.clone() };
    let broker = again.open();
    let report = broker.recovery_report();
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    (again, broker)
}

/// The read mode of the tests; all of them hold in both. `GROUPLOG_READ_MODE=pread` runs them in the other
/// one.
pub(crate) fn read_mode() -> ReadMode {
    match std::env::var("GROUPLOG_READ_MODE").as_deref() {
        Ok("pread") => ReadMode::Pread,
        Ok("map") | Err(_) => ReadMode::Map,
        Ok(other) => panic!("GROUPLOG_READ_MODE is map or pread, not {other}"),
    }
}

/// A record that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl From<ConsumerRecord<'_>> for Owned {
    fn from(record: ConsumerRecord<'_>) -> Self {
        let headers = record
            .headers()
            .map(|header| (header.name().unwrap().to_owned(), header.value().map(<[u8]>::to_vec)));
        Self {
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().as_millis(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

pub(crate) fn tp(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub(crate) fn owned(records: &ConsumerRecords) -> Vec<Owned> {
    records.iter().map(Owned::from).collect()
}

/// Polls until there are no more records.
pub(crate) fn drain(consumer: &mut Consumer) -> Vec<Owned> {
    let mut all = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(owned(&records));
    }
}

/// Creates a consumer without group that reads these partitions of a topic from the start.
pub(crate) fn reader(broker: &Broker, topic: &str, partitions: u32) -> Consumer {
    let mut reader = broker.consumer_with(ConsumerConfig::new()).unwrap();
    reader.assign((0..partitions).map(|partition| tp(topic, partition))).unwrap();
    reader
}

/// Returns all records of a topic, by partition and offset.
pub(crate) fn all(broker: &Broker, topic: &str) -> Vec<Owned> {
    let partitions = broker.describe_topic(topic).unwrap().partitions.len() as u32;
    let mut all = drain(&mut reader(broker, topic, partitions));
    all.sort_by_key(|record| (record.partition, record.offset));
    all
}

pub(crate) fn values(records: &[Owned]) -> Vec<String> {
    let text = |record: &Owned| String::from_utf8(record.value.clone().unwrap()).unwrap();
    records.iter().map(text).collect()
}

/// Returns the offset that the consumer's group has committed for a partition of a topic.
pub(crate) fn committed_offset(consumer: &Consumer, partition: &TopicPartition) -> Option<i64> {
    consumer.committed(partition).unwrap().map(|committed| committed.offset())
}

/// Returns the error of a result that must be one.
pub(crate) fn refused<T: std::fmt::Debug>(result: grouplog::Result<T>) -> Error {
    result.unwrap_err()
}
