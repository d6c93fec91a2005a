//! The process that is killed.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use grouplog::time::{Random, SeededRandom};
use grouplog::{
    Acks, Broker, BrokerConfig, JournalMode, ProducerConfig, Record, TopicConfig, TopicPartition,
};

pub(crate) const TOPIC: &str = "t";
pub(crate) const GROUP: &str = "g";
pub(crate) const PARTITIONS: u32 = 3;
/// Threads 0 and 1 send `Written`, 2 and 3 `Synced`, 4 sends over all partitions at once.
pub(crate) const THREADS: u64 = 5;

/// Little of everything, so that files are recycled, rolled and checkpointed all the time.
pub(crate) fn config(mode: JournalMode) -> BrokerConfig {
    BrokerConfig::new()
        .journal_mode(mode)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .batch_size(4096)
}

/// Works until it is killed. Each line on the error output tells an acknowledgement.
pub(crate) fn work(folder: &Path, mode: JournalMode, run: u64) {
    let broker = Broker::open_with(folder, config(mode)).unwrap();
    if broker.list_topics().is_empty() {
        let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10);
        broker.create_topic(TOPIC, config).unwrap();
    }
    let ends: Arc<[AtomicI64]> = (0..PARTITIONS).map(|_| AtomicI64::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (broker, ends) = (broker.clone(), Arc::clone(&ends));
            scope.spawn(move || send(&broker, &ends, run, thread));
        }
        scope.spawn(|| commit(&broker, &ends));
    });
}

fn send(broker: &Broker, ends: &[AtomicI64], run: u64, thread: u64) {
    let acks = if thread < 2 { Acks::Written } else { Acks::Synced };
    let producer = broker.producer_with(ProducerConfig::new().acks(acks)).unwrap();
    let random = SeededRandom::new(run * THREADS + thread);
    for number in 0.. {
        let partition = (random.next_u64() % u64::from(PARTITIONS)) as u32;
        if thread == THREADS - 1 {
            let values: Vec<_> = (0..PARTITIONS).map(|at| value(run, thread, number, at)).collect();
            let records =
                values.iter().zip(0..).map(|(v, at)| Record::to(TOPIC).partition(at).value(v));
            let sent = producer.send_all(records).unwrap();
            let offsets: Vec<i64> = sent.metadata().map(|metadata| metadata.offset()).collect();
            sent.wait().unwrap();
            for (at, offset) in (0..).zip(offsets) {
                tell(&format!("r {thread} {number} {at} {offset}"));
            }
        } else {
            let value = value(run, thread, number, partition);
            let record = Record::to(TOPIC).partition(partition).value(&value);
            let offset = producer.send(record).unwrap().wait().unwrap().offset();
            ends[partition as usize].fetch_max(offset + 1, Ordering::SeqCst);
            tell(&format!("r {thread} {number} {partition} {offset}"));
        }
    }
}

fn commit(broker: &Broker, ends: &[AtomicI64]) {
    let mut group = broker.consumer(GROUP).unwrap();
    for partition in (0..PARTITIONS).cycle() {
        let offset = ends[partition as usize].load(Ordering::SeqCst);
        if offset > 0 {
            group.commit_offsets([(TopicPartition::new(TOPIC, partition), offset)]).unwrap();
            tell(&format!("c {partition} {offset}"));
        } else {
            std::thread::yield_now();
        }
    }
}

/// One write, so that lines of several threads do not mix.
fn tell(line: &str) {
    // Nobody listens any more: the end is near.
    let _told = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// What the record says of itself, and bytes that follow from it.
pub(crate) fn value(run: u64, thread: u64, number: u64, partition: u32) -> Vec<u8> {
    let mut value = format!("{run} {thread} {number} {partition} ").into_bytes();
    let random = SeededRandom::new(run ^ thread << 20 ^ number << 24);
    let len = value.len() + (random.next_u64() % 700) as usize;
    while value.len() < len {
        value.extend_from_slice(&random.next_u64().to_be_bytes());
    }
    value
}
