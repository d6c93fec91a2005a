//! Cost of committing offsets: the call alone, one at a time.
//!
//! * `Written`, of a member's position in one partition and in 16;
//! * `Synced`, alone, and concurrently with threads that send `Synced`: all share the journal's
//!   syncs;
//! * the size of the offset files after a million commits.
//!
//! ```text
//! cargo bench --bench commit
//! ```

#![allow(clippy::disallowed_methods, reason = "the clock it measures by, and file sizes")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{broker, folder};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, ProducerConfig, Record, TopicConfig, TopicPartition,
};

const COMMITS: usize = 200_000;
const SYNCED_COMMITS: usize = 3_000;
const MILLION: i64 = 1_000_000;

/// Returns a member that holds all partitions of the topic, with its positions at their starts.
fn member(broker: &Broker, group: &str, acks: Acks) -> (Consumer, Vec<TopicPartition>) {
    let config = ConsumerConfig::new().group(group).enable_auto_commit(false).commit_acks(acks);
    let mut member = broker.consumer_with(config.max_poll_records(1)).unwrap();
    member.subscribe(["t"]).unwrap();
    member.poll(Duration::ZERO).unwrap();
    let partitions = member.assignment();
    (member, partitions)
}

/// Moves every position and commits the positions. Returns the duration of each commit.
fn commits(member: &mut Consumer, partitions: &[TopicPartition], count: usize) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(count);
    for n in 0..count {
        // Alternates between two positions, so that there is always something new to commit.
        for partition in partitions {
            member.seek(partition, (n % 2) as i64).unwrap();
        }
        let begin = Instant::now();
        member.commit().unwrap();
        taken.push(begin.elapsed());
    }
    taken
}

fn report(name: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |part: f64| {
        let taken = taken[((taken.len() - 1) as f64 * part) as usize];
        format!("{:.2}", taken.as_nanos() as f64 / 1000.0)
    };
    println!("{name:<40} {:>9} {:>9} {:>9}", at(0.5), at(0.99), at(0.999));
}

fn written(partitions: u32) {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new().partitions(partitions));
    send(&broker, partitions);
    let (mut member, held) = member(&broker, "g", Acks::Written);
    assert_eq!(held.len(), partitions as usize);
    commits(&mut member, &held, 1_000);
    report(
        &format!("Written, {partitions} partition(s)"),
        commits(&mut member, &held, COMMITS / partitions as usize),
    );
    broker.close().unwrap();
}

fn send(broker: &Broker, partitions: u32) {
    let producer = broker.producer().unwrap();
    for partition in 0..partitions {
        producer.send(Record::to("t").partition(partition).value("v")).unwrap();
    }
}

fn synced(senders: u32) {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    send(&broker, 1);
    let (mut member, held) = member(&broker, "g", Acks::Synced);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (taken, elapsed) = std::thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| {
                let config = ProducerConfig::new().acks(Acks::Synced);
                let producer = broker.producer_with(config).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    producer.send(Record::to("t").value("v")).unwrap().wait().unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begin = Instant::now();
        let taken = commits(&mut member, &held, SYNCED_COMMITS);
        let elapsed = begin.elapsed();
        stop.store(true, Ordering::Relaxed);
        (taken, elapsed)
    });
    report(&format!("Synced, {senders} thread(s) send Synced"), taken);
    if senders > 0 {
        let rate = sent.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64();
        println!("    {rate:.0} records/s were sent meanwhile");
    }
    broker.close().unwrap();
}

fn size_of_offset_files(folder: &Path) -> u64 {
    let size = |name| std::fs::metadata(folder.join("data").join(name)).map_or(0, |m| m.len());
    ["offsets.a", "offsets.b"].into_iter().map(size).sum()
}

fn a_million() {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new().partitions(16));
    let (mut member, held) = member(&broker, "g", Acks::Written);
    let begin = Instant::now();
    for n in 0..MILLION {
        let partition = held[(n % 16) as usize].clone();
        member.commit_offsets([(partition, n)]).unwrap();
    }
    let elapsed = begin.elapsed();
    drop(member);
    broker.close().unwrap();
    let bytes = size_of_offset_files(folder.path());
    assert!(bytes > 0 && bytes < 1 << 20, "offset files of {bytes} bytes");
    println!(
        "a million commits to 16 partitions: {:.2} us each, offset files of {bytes} bytes",
        elapsed.as_secs_f64() * 1e6 / MILLION as f64
    );
}

fn main() {
    println!("{:<40} {:>9} {:>9} {:>9}", "commit; microseconds", "p50", "p99", "p99.9");
    written(1);
    written(16);
    synced(0);
    synced(4);
    a_million();
}
