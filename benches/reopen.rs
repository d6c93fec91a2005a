//! Opening a folder whose writer was killed: `cargo bench --bench reopen -- [GiB]` (1 by default).
//!
//! A second process appends records of 100 bytes with `Written` to four partitions. It is killed
//! with SIGKILL when the folder has grown to the given size. Then this process opens the folder
//! with default settings, reads the first record and appends one with `Written`. It does so five
//! times with the same folder, which grows each time. Afterwards it checks that every record
//! acknowledged before the kill still exists.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(clippy::print_stdout, reason = "a bench reports")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{VALUE, folder};
use grouplog::{Acks, Broker, ConsumerConfig, ProducerConfig, Record, TopicConfig, TopicPartition};

const PARTITIONS: u32 = 4;
const ROUNDS: usize = 5;
/// The child reports its progress after this number of records.
const STEP: u64 = 100_000;
/// Added in each round after the first.
const MORE_BYTES: u64 = 64 << 20;
/// Set for the process that fills the folder.
const CHILD: &str = "GROUPLOG_REOPEN_DATA";

/// Appends until it is killed.
fn fill(data: &str) {
    let broker = Broker::open(data).unwrap();
    if broker.list_topics().is_empty() {
        broker.create_topic("t", TopicConfig::new().partitions(PARTITIONS)).unwrap();
    }
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut out = std::io::stdout().lock();
    for n in 1.. {
        producer.send(Record::to("t").value(&VALUE)).unwrap();
        if n % STEP == 0 {
            writeln!(out, "{n}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Runs `fill` in a separate process and kills it once `bytes` bytes were acknowledged. Returns the
/// number of records.
fn fill_and_kill(data: &Path, bytes: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = told.map(|line| line.unwrap().parse::<u64>().unwrap());
    let records = acknowledged.find(|n| n * VALUE.len() as u64 >= bytes).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    records
}

struct Reopened {
    open: Duration,
    read: Duration,
    append: Duration,
    records: u64,
}

fn reopen(data: &Path) -> Reopened {
    let begin = Instant::now();
    let broker = Broker::open(data).unwrap();
    let open = begin.elapsed();

    let mut reader = broker.consumer_with(ConsumerConfig::new()).unwrap();
    let partitions: Vec<_> = (0..PARTITIONS).map(|n| TopicPartition::new("t", n)).collect();
    reader.assign(partitions.clone()).unwrap();
    assert!(!reader.poll(Duration::from_secs(10)).unwrap().is_empty());
    let read = begin.elapsed();

    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    producer.send(Record::to("t").value(&VALUE)).unwrap();
    let append = begin.elapsed();
    let ends = reader.end_offsets(&partitions).unwrap();
    let records = ends.values().map(|end| *end as u64).sum();
    drop((reader, producer));
    broker.close().unwrap();
    Reopened { open, read, append, records }
}

fn main() {
    if let Ok(data) = std::env::var(CHILD) {
        return fill(&data);
    }
    let gib: u64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1);
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    let folder = folder();
    let data = folder.path().join("data");
    let mut there = 0;
    for round in 0..ROUNDS {
        let bytes = if round == 0 { gib << 30 } else { MORE_BYTES };
        let acknowledged = fill_and_kill(&data, bytes);
        let reopened = reopen(&data);
        // `reopen` itself appended one.
        assert!(reopened.records > there + acknowledged, "acknowledged records are missing");
        there = reopened.records;
        println!(
            "{there} records: opened in {:?}, first record read after {:?}, one appended after {:?}",
            reopened.open, reopened.read, reopened.append
        );
    }
}
