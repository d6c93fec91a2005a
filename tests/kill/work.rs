//! The work until the end comes: appends and commits from several threads.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use grouplog::time::{Random, SeededRandom};
use grouplog::{
    Acks, Broker, BrokerConfig, JournalMode, ProducerConfig, Record, Result, TopicConfig,
    TopicPartition,
};

pub(crate) const TOPIC: &str = "t";
pub(crate) const GROUP: &str = "g";
pub(crate) const PARTITIONS: u32 = 3;
/// Threads 0 and 1 send `Written`, 2 and 3 `Synced`. Thread 4 sends `Synced` to all partitions at
/// once.
pub(crate) const THREADS: u64 = 5;

/// Returns whether the thread's acknowledgements survive power loss.
pub(crate) fn is_synced(thread: u64) -> bool {
    thread >= 2
}

/// Small sizes, so that files are recycled, rolled and checkpointed all the time.
pub(crate) fn config(mode: JournalMode) -> BrokerConfig {
    BrokerConfig::new()
        .journal_mode(mode)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .batch_size(4096)
        // About half of the records go to the segments at once.
        .stored_append_bytes(400)
}

/// An acknowledgement that a thread got.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ack {
    Record { thread: u64, number: u64, partition: u32, offset: i64 },
    Commit { partition: u32, offset: i64 },
}

/// The format that [`Told`](crate::told::Told) reads.
impl fmt::Display for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { thread, number, partition, offset } => {
                write!(f, "r {thread} {number} {partition} {offset}")
            }
            Self::Commit { partition, offset } => write!(f, "c {partition} {offset}"),
        }
    }
}

/// Works until a call fails in each thread. Returns the first error.
pub(crate) fn work(broker: &Broker, run: u64, tell: &(dyn Fn(Ack) + Sync)) -> Result<()> {
    if broker.list_topics().is_empty() {
        let config = TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10);
        broker.create_topic(TOPIC, config)?;
    }
    let ends: [AtomicI64; PARTITIONS as usize] = Default::default();
    std::thread::scope(|scope| {
        let ends = &ends;
        let mut threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || send(broker, ends, run, thread, tell)))
            .collect();
        threads.push(scope.spawn(move || commit(broker, ends, tell)));
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(Ok(()), Result::and)
    })
}

fn send(
    broker: &Broker,
    ends: &[AtomicI64],
    run: u64,
    thread: u64,
    tell: &(dyn Fn(Ack) + Sync),
) -> Result<()> {
    let acks = if is_synced(thread) { Acks::Synced } else { Acks::Written };
    let producer = broker.producer_with(ProducerConfig::new().acks(acks))?;
    let random = SeededRandom::new(run * THREADS + thread);
    for number in 0.. {
        let partition = (random.next_u64() % u64::from(PARTITIONS)) as u32;
        if thread == THREADS - 1 {
            let values: Vec<_> = (0..PARTITIONS).map(|at| value(run, thread, number, at)).collect();
            let records =
                values.iter().zip(0..).map(|(v, at)| Record::to(TOPIC).partition(at).value(v));
            let sent = producer.send_all(records)?;
            let offsets: Vec<i64> = sent.metadata().map(|metadata| metadata.offset()).collect();
            sent.wait()?;
            for (partition, offset) in (0..).zip(offsets) {
                tell(Ack::Record { thread, number, partition, offset });
            }
        } else {
            let value = value(run, thread, number, partition);
            let record = Record::to(TOPIC).partition(partition).value(&value);
            let offset = producer.send(record)?.wait()?.offset();
            ends[partition as usize].fetch_max(offset + 1, Ordering::SeqCst);
            tell(Ack::Record { thread, number, partition, offset });
        }
    }
    Ok(())
}

fn commit(broker: &Broker, ends: &[AtomicI64], tell: &(dyn Fn(Ack) + Sync)) -> Result<()> {
    let mut group = broker.consumer(GROUP)?;
    for partition in (0..PARTITIONS).cycle() {
        let offset = ends[partition as usize].load(Ordering::SeqCst);
        if offset > 0 {
            group.commit_offsets([(TopicPartition::new(TOPIC, partition), offset)])?;
            tell(Ack::Commit { partition, offset });
        } else {
            std::thread::yield_now();
            // If the engine has failed, no further record will arrive.
            if !broker.health().is_ok() {
                break;
            }
        }
    }
    Ok(())
}

/// Returns a record's identity followed by bytes derived from it.
pub(crate) fn value(run: u64, thread: u64, number: u64, partition: u32) -> Vec<u8> {
    let mut value = format!("{run} {thread} {number} {partition} ").into_bytes();
    let random = SeededRandom::new(run ^ thread << 20 ^ number << 24);
    let len = value.len() + (random.next_u64() % 700) as usize;
    while value.len() < len {
        value.extend_from_slice(&random.next_u64().to_be_bytes());
    }
    value
}
