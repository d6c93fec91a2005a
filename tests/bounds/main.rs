//! Many partitions in a process that may open only a few files.
//!
//! The test runs 500 partitions by default. The promise is for 10,000:
//!
//! ```sh
//! GROUPLOG_PARTITIONS=10000 cargo test --release --test bounds -- --nocapture
//! ```
//!
//! The test measures in separate processes, each with at most 1,024 open files. They print their
//! results as lines of `name value`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "the processes tell what they measured")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, ProducerConfig, ReadMode, Record, TopicConfig,
    TopicPartition,
};

const MAX_FILES: u64 = 1024;
const CONSUMERS: usize = 200;
const MIB: f64 = 1024.0 * 1024.0;

fn partitions() -> u32 {
    std::env::var("GROUPLOG_PARTITIONS").map_or(500, |text| text.parse().unwrap())
}

/// Returns all partitions, in topics of up to 100 partitions each.
fn all() -> Vec<TopicPartition> {
    let count = partitions();
    (0..count).map(|n| TopicPartition::new(format!("t{}", n / 100), n % 100)).collect()
}

/// A new process of this program that does one thing to a folder.
struct Process {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(what: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process", "--exact", "--nocapture"])
            .env("GROUPLOG_BOUNDS_PROCESS", what)
            .env("GROUPLOG_BOUNDS_FOLDER", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Returns the measured values, up to the line "done".
    fn measured(&mut self) -> BTreeMap<String, f64> {
        let mut measured = BTreeMap::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended: {measured:?}");
            if line.trim_end() == "done" {
                return measured;
            }
            if let Some((name, value)) = line.trim_end().split_once(' ')
                && let Ok(value) = value.parse()
            {
                println!("    {name} {value}");
                measured.insert(name.to_owned(), value);
            }
        }
    }

    /// Lets the process end by itself.
    fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills the process with SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn run(what: &str, folder: &Path) -> BTreeMap<String, f64> {
    println!("  {what}");
    let mut process = Process::start(what, folder);
    let measured = process.measured();
    process.finish();
    measured
}

#[test]
fn many_partitions_take_few_files_little_memory_and_open_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    println!("{} partitions, at most {MAX_FILES} files", partitions());
    run("create", &path);
    check(&run("open", &path), 1.0);
    check(&run("use", &path), 1.0);

    println!("  use, then SIGKILL");
    let mut process = Process::start("use", &path);
    check(&process.measured(), 1.0);
    process.kill();
    check(&run("open", &path), 3.0);
    check(&run("use by pread", &path), 1.0);
    check(&run("consumers", &path), 1.0);
}

/// Checks the promises: seconds to open, memory with all partitions known, files.
fn check(measured: &BTreeMap<String, f64>, open_seconds: f64) {
    // Debug builds and busy machines are slower.
    let patience = if cfg!(debug_assertions) { 5.0 } else { 1.0 };
    assert!(measured["open_s"] < open_seconds * patience, "{measured:?}");
    assert!(measured["open_mib"] < 100.0, "{measured:?}");
    assert!(measured["open_files"] < 100.0, "{measured:?}");
    if let Some(files) = measured.get("most_files") {
        assert!(*files < MAX_FILES as f64, "{measured:?}");
    }
    if let Some(threads) = measured.get("threads") {
        assert!(*threads < 20.0, "{measured:?}");
    }
}

/// Runs in the processes that the test starts. On its own it does nothing.
#[test]
fn process() {
    let Ok(what) = std::env::var("GROUPLOG_BOUNDS_PROCESS") else { return };
    let folder = std::env::var_os("GROUPLOG_BOUNDS_FOLDER").unwrap();
    let limit = rustix::process::Rlimit { current: Some(MAX_FILES), maximum: Some(MAX_FILES) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mode = if what == "use by pread" { ReadMode::Pread } else { ReadMode::Map };
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let broker =
        Broker::open_with(Path::new(&folder), BrokerConfig::new().read_mode(mode)).unwrap();
    if what != "create" {
        tell("open_s", clock.monotonic().saturating_sub(began).as_secs_f64());
        tell("open_mib", resident_mib());
        tell("open_files", open_files());
        assert_eq!(broker.list_topics().len(), partitions().div_ceil(100) as usize);
    }
    let began = clock.monotonic();
    match what.as_str() {
        "create" => create(&broker),
        "open" => {}
        "consumers" => consume(&broker),
        _ => append_and_read(&broker),
    }
    tell("work_s", clock.monotonic().saturating_sub(began).as_secs_f64());
    tell("work_mib", resident_mib());
    println!("done");
    std::io::stdout().flush().unwrap();
    // Waits until the test ends this process, one way or the other.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    broker.close().unwrap();
}

fn tell(name: &str, value: f64) {
    println!("{name} {value:.3}");
}

/// Returns the resident memory of this process in MiB. Pages of mapped files do not count: they are
/// the system's cache.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    tell("resident_with_maps_mib", kib("VmRSS:") * 1024.0 / MIB);
    kib("RssAnon:") * 1024.0 / MIB
}

fn open_files() -> f64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as f64
}

fn threads() -> f64 {
    std::fs::read_dir("/proc/self/task").unwrap().count() as f64
}

fn create(broker: &Broker) {
    let count = partitions();
    for topic in 0..count.div_ceil(100) {
        let config = TopicConfig::new().partitions((count - topic * 100).min(100));
        broker.create_topic(&format!("t{topic}"), config).unwrap();
    }
    append(broker);
}

/// Sends one record to each partition.
fn append(broker: &Broker) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for partition in all() {
        let record = Record::to(partition.topic()).partition(partition.partition());
        producer.send(record.value("an event like any other, of some 50 bytes or so")).unwrap();
    }
    producer.flush().unwrap();
}

fn append_and_read(broker: &Broker) {
    append(broker);
    let mut most = 0.0_f64;
    for (n, partition) in all().into_iter().enumerate() {
        let mut reader = broker.consumer_with(ConsumerConfig::new()).unwrap();
        reader.assign([partition.clone()]).unwrap();
        let end = reader.end_offsets([&partition]).unwrap()[&partition];
        assert!(end > 1);
        let records = reader.poll(Duration::ZERO).unwrap();
        // Partly from the segments, partly from memory.
        let mut seen = records.len() as i64;
        while seen < end {
            seen += reader.poll(Duration::from_secs(10)).unwrap().len() as i64;
        }
        assert_eq!(seen, end);
        if n % 100 == 0 {
            most = most.max(open_files());
        }
    }
    tell("most_files", most);
    tell("threads", threads());
}

/// Lets 200 members of a group share all partitions and read everything.
fn consume(broker: &Broker) {
    let topics: Vec<String> = broker.list_topics();
    let expected: i64 = topics
        .iter()
        .flat_map(|topic| broker.describe_topic(topic).unwrap().partitions)
        .map(|partition| partition.end_offset)
        .sum();
    let config = ConsumerConfig::new().group("many").max_poll_interval(Duration::from_mins(10));
    let mut members: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let mut member = broker.consumer_with(config.clone()).unwrap();
            member.subscribe(topics.iter().map(String::as_str)).unwrap();
            member
        })
        .collect();
    let (mut seen, mut rounds, mut most) = (0, 0, 0.0_f64);
    while seen < expected {
        for member in &mut members {
            seen += member.poll(Duration::ZERO).unwrap().len() as i64;
        }
        most = most.max(open_files());
        rounds += 1;
        assert!(rounds < 10_000, "{seen} of {expected}");
    }
    assert_eq!(seen, expected);
    tell("rounds", f64::from(rounds));
    tell("most_files", most);
    tell("threads", threads());
}
