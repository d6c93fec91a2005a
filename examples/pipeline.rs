//! The whole way of data through a folder. One thread sends the lines of a file into four
//! partitions, and three members of a group count the words of each key. One of them leaves
//! half-way, and its partition moves to another one. In the end every line was counted exactly
//! once.
//!
//! ```text
//! cargo run --release --example pipeline -- [FILE] [--data DIR]
//! ```
//!
//! Run it again with the same folder: the group continues where it was and counts only new lines.
//! Kill it in the middle: the next run also counts what was sent and not yet counted.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it found")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Broker, Consumer, ConsumerConfig, ConsumerRecord, Error, Producer, Record, Result, TopicConfig,
    TopicPartition, WakeupHandle,
};

const TOPIC: &str = "lines";
const GROUP: &str = "counters";
const PARTITIONS: u32 = 4;
/// The key of a line is its fifth word. In the log that comes with the crate that is mostly the
/// package.
const KEY_WORD: usize = 4;

/// The number of words by key.
type Counts = BTreeMap<Vec<u8>, u64>;

/// The work of one member: words by key, lines by partition.
#[derive(Default)]
struct Tally {
    words: Counts,
    lines: BTreeMap<u32, u64>,
}

impl Tally {
    fn add(&mut self, record: &ConsumerRecord<'_>) {
        let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
        count(&mut self.words, key, value);
        *self.lines.entry(record.partition()).or_default() += 1;
    }

    fn total(&self) -> u64 {
        self.lines.values().sum()
    }
}

fn main() -> ExitCode {
    let (file, data) = match arguments(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) if text == USAGE => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(text) => return failure(&text, 2),
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) if text.is_empty() => return failure(&format!("{} is empty", file.display()), 1),
        Ok(text) => text,
        Err(error) => return failure(&format!("cannot read {}: {error}", file.display()), 1),
    };
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let data = data.unwrap_or_else(|| temporary.path().join("data"));
    match run(&text, &data) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error.to_string(), 1),
    }
}

fn failure(text: &str, code: u8) -> ExitCode {
    eprintln!("pipeline: {text}");
    ExitCode::from(code)
}

fn run(text: &str, data: &Path) -> Result<()> {
    let lines: Vec<&str> = text.lines().collect();
    let broker = Broker::open(data)?;
    match broker.create_topic(TOPIC, TopicConfig::new().partitions(PARTITIONS)) {
        Ok(()) | Err(Error::TopicExists { .. }) => {}
        Err(error) => return Err(error),
    }

    // The expected result, counted without the engine: the file, and what an earlier run left
    // uncounted.
    let mut expected = backlog(&broker)?;
    let due = expected.total() + lines.len() as u64;
    for line in &lines {
        count(&mut expected.words, key(line).as_bytes(), line.as_bytes());
    }

    // All three join before there is anything to read, so that each of them gets its share.
    let mut members = Vec::new();
    for number in 0..3 {
        let config = ConsumerConfig::new().group(GROUP).client_id(format!("member-{number}"));
        let mut member = broker.consumer_with(config.max_poll_records(100))?;
        member.subscribe([TOPIC])?;
        members.push(member);
    }
    let producer = broker.producer()?;
    let clock = SystemClock::new();
    let counted = AtomicU64::new(0);
    let handles: Vec<_> = members.iter().map(Consumer::wakeup_handle).collect();
    let stop = || handles.iter().for_each(WakeupHandle::wakeup);
    let (sent, tallies) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&producer, &lines, &clock).inspect_err(|_| stop()));
        // The third member leaves after about half of its part.
        let work = |(member, leave_at)| {
            let done = |lines| {
                if counted.fetch_add(lines, SeqCst) + lines == due {
                    stop();
                }
            };
            scope.spawn(move || work(member, leave_at, done).inspect_err(|_| stop()))
        };
        let members: Vec<_> =
            members.into_iter().zip([u64::MAX, u64::MAX, due / 8]).map(work).collect();
        let sent = sender.join().expect("the sender does not panic");
        let tallies = members.into_iter().map(|m| m.join().expect("a member does not panic"));
        (sent, tallies.collect::<Result<Vec<_>>>())
    });
    let (sent, tallies) = (sent?, tallies?);
    println!("sent       {:>8} lines, {:.0} records/s", lines.len(), lines.len() as f64 / sent);
    let counting = clock.monotonic().as_secs_f64();
    println!("counted    {due:>8} lines, {:.0} records/s", due as f64 / counting);
    report(&broker, &tallies)?;
    let mut words = Counts::new();
    for (key, found) in tallies.into_iter().flat_map(|tally| tally.words) {
        *words.entry(key).or_default() += found;
    }
    assert_eq!(words, expected.words, "every line is counted exactly once");
    broker.close()
}

/// Sends every line with its key. Returns the seconds until all of them were safe on disk.
fn send(producer: &Producer, lines: &[&str], clock: &SystemClock) -> Result<f64> {
    let bar = indicatif::ProgressBar::new(lines.len() as u64);
    for line in lines {
        producer.send(Record::to(TOPIC).key(key(line)).value(line))?;
        bar.inc(1);
    }
    producer.flush()?;
    bar.finish_and_clear();
    Ok(clock.monotonic().as_secs_f64())
}

/// Runs a member, which counts until it is woken because all is counted, or until it leaves.
///
/// It commits what it has counted before it polls again or leaves. It gives up a partition that
/// moves inside `poll`. So the next owner starts exactly where this one ended.
fn work(mut member: Consumer, leave_at: u64, done: impl Fn(u64)) -> Result<Tally> {
    let mut tally = Tally::default();
    while tally.total() < leave_at {
        let records = match member.poll(Duration::from_mins(1)) {
            Err(Error::Wakeup) => break,
            records => records?,
        };
        records.iter().for_each(|record| tally.add(&record));
        member.commit()?;
        done(records.len() as u64);
    }
    Ok(tally) // `member` is dropped here: it leaves the group, and its partitions go to the others.
}

/// Returns what the group has not counted yet: nothing, unless an earlier run was interrupted.
fn backlog(broker: &Broker) -> Result<Tally> {
    let mut left = Tally::default();
    let mut reader =
        broker.consumer_with(ConsumerConfig::new().group(GROUP).enable_auto_commit(false))?;
    reader.assign((0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition)))?;
    let partitions = reader.assignment();
    let positions = partitions.iter().map(|partition| reader.position(partition));
    let offsets: Vec<i64> =
        positions.map(|position| Ok(position?.offset())).collect::<Result<_>>()?;
    let mut records = reader.poll(Duration::ZERO)?;
    while !records.is_empty() {
        records.iter().for_each(|record| left.add(&record));
        records = reader.poll(Duration::ZERO)?;
    }
    if left.total() > 0 || offsets != [0; PARTITIONS as usize] {
        println!("resumed at offsets {offsets:?}, {} lines not counted before", left.total());
    }
    Ok(left)
}

fn report(broker: &Broker, tallies: &[Tally]) -> Result<()> {
    for p in broker.describe_topic(TOPIC)?.partitions {
        println!("{} {:>15} records, {:>8} bytes", p.partition, p.end_offset, p.bytes);
    }
    for (n, tally) in tallies.iter().enumerate() {
        println!("member {n}   {:>8} lines, by partition {:?}", tally.total(), tally.lines);
    }
    let lags: Vec<_> = broker.describe_group(GROUP)?.offsets.iter().map(|o| o.lag).collect();
    assert!(lags.iter().all(|lag| *lag == 0), "{lags:?}");
    println!("lag               0");
    Ok(())
}

fn key(line: &str) -> &str {
    line.split_whitespace().nth(KEY_WORD).unwrap_or("(none)")
}

fn count(words: &mut Counts, key: &[u8], line: &[u8]) {
    let found = String::from_utf8_lossy(line).split_whitespace().count();
    *words.entry(key.to_vec()).or_default() += found as u64;
}

const USAGE: &str = "\
usage: pipeline [FILE] [--data DIR]

  FILE        a text file to count; by default the log of a package manager that comes with the crate
  --data DIR  a folder that stays; by default a temporary one
";

/// Returns the text file and the folder, if one is named. Otherwise returns the text to end with.
fn arguments(
    mut arguments: impl Iterator<Item = OsString>,
) -> std::result::Result<(PathBuf, Option<PathBuf>), String> {
    let (mut file, mut data) = (None, None);
    while let Some(argument) = arguments.next() {
        if argument == "--help" || argument == "-h" {
            return Err(USAGE.to_owned());
        }
        if argument == "--data" {
            let folder = arguments.next().ok_or("--data needs a folder; see --help")?;
            data = Some(folder.into());
        } else if argument.as_encoded_bytes().starts_with(b"-") || file.is_some() {
            return Err(format!("unexpected argument {}; see --help", argument.display()));
        } else {
            file = Some(argument.into());
        }
    }
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dpkg.log");
    Ok((file.unwrap_or_else(|| default.into()), data))
}
