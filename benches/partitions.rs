//! Many partitions with little in each:
//! `cargo bench --bench partitions -- [partitions] [rounds] [records]` (1,000, 5 and 10 by default).
//!
//! Each round begins with a fresh folder. It creates one topic with that many partitions, sends that
//! many records of 100 bytes to each, and closes. Then it opens the folder again, sends to each
//! partition once more, and closes. At last a second process sends to each partition and is killed
//! with SIGKILL, and the folder is opened. Each step is timed by itself, and the median of the
//! rounds is printed beside the fastest one and the slowest one.
//!
//! A close syncs the file system, so it also waits for what other programs write there meanwhile.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(clippy::print_stdout, reason = "a bench reports")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{VALUE, folder};
use grouplog::{Acks, Broker, Producer, ProducerConfig, Record, TopicConfig};

const RECORDS_EACH: u32 = 10;
const ROUNDS: usize = 5;
/// With more partitions, a round ends with the first close.
const MANY: u32 = 20_000;
/// May name another folder to work in, on another file system.
const DIR: &str = "GROUPLOG_PARTITIONS_DIR";
/// Set for the process that is killed: the folder.
const CHILD: &str = "GROUPLOG_PARTITIONS_DATA";

fn producer(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

/// Sends some records to each partition.
fn fill(broker: &Broker, records: u32) {
    let partitions = broker.describe_topic("t").unwrap().partitions.len() as u32;
    let producer = producer(broker);
    for _ in 0..records {
        for partition in 0..partitions {
            producer.send(Record::to("t").partition(partition).value(&VALUE)).unwrap();
        }
    }
}

/// Runs `fill` in a separate process, and kills it.
fn fill_and_kill(data: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    told.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

fn be_killed(data: &str) {
    let broker = Broker::open(data).unwrap();
    fill(&broker, RECORDS_EACH);
    let mut out = std::io::stdout();
    writeln!(out, "filled").unwrap();
    out.flush().unwrap();
    loop {
        std::thread::park();
    }
}

/// The steps of a round, with the time that each took in each round.
#[derive(Default)]
struct Steps {
    steps: Vec<(&'static str, Vec<Duration>)>,
}

impl Steps {
    fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        let took = begin.elapsed();
        match self.steps.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(took),
            None => self.steps.push((name, vec![took])),
        }
        done
    }

    fn print(mut self) {
        for (name, times) in &mut self.steps {
            times.sort_unstable();
            let (fastest, slowest) = (times[0], times[times.len() - 1]);
            let median = times[times.len() / 2];
            println!("{name:32} {median:>10.3?}   {fastest:>10.3?} to {slowest:>10.3?}");
        }
    }
}

fn round((partitions, records): (u32, u32), data: &Path, steps: &mut Steps) {
    let broker = steps.time("open a new folder", || Broker::open(data).unwrap());
    let config = TopicConfig::new().partitions(partitions);
    steps.time("create the topic", || broker.create_topic("t", config).unwrap());
    steps.time("send to each", || fill(&broker, records));
    steps.time("close", || broker.close().unwrap());
    if partitions > MANY {
        return;
    }

    let broker = steps.time("open the closed folder", || Broker::open(data).unwrap());
    steps.time("send to each again", || fill(&broker, records));
    steps.time("close again", || broker.close().unwrap());

    fill_and_kill(data);
    let broker = steps.time("open after a kill", || Broker::open(data).unwrap());
    steps.time("first synced record", || {
        let producer = broker.producer().unwrap();
        producer.send(Record::to("t").value(&VALUE)).unwrap();
        producer.flush().unwrap();
    });
    steps.time("close after the kill", || broker.close().unwrap());
}

fn main() {
    if let Ok(data) = std::env::var(CHILD) {
        return be_killed(&data);
    }
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let partitions = numbers.first().copied().unwrap_or(1_000);
    let rounds = numbers.get(1).map_or(ROUNDS, |rounds| *rounds as usize);
    let records = numbers.get(2).copied().unwrap_or(RECORDS_EACH);
    let mut steps = Steps::default();
    // Folders are removed at the end: ext4 without a journal does not use a removed file's inode
    // again for minutes, and looks at each such inode whenever it creates a file.
    let parent =
        std::env::var(DIR).map_or_else(|_| folder(), |dir| tempfile::tempdir_in(dir).unwrap());
    for number in 0..rounds {
        round((partitions, records), &parent.path().join(number.to_string()), &mut steps);
    }
    println!("{partitions} partitions, {records} records each: medians of {rounds} rounds");
    steps.print();
}
