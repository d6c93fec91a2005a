//! How many jobs of 100 bytes share groups run in a second, everything `Written`:
//!
//! * 8 `Workers` threads, and one acknowledgement for each job;
//! * one `ShareConsumer`, and one acknowledgement for each 100 jobs;
//! * beside them, 8 threads and a channel in memory (crossbeam), which keeps nothing: the limit;
//! * and a queue in SQLite (WAL, `synchronous=NORMAL`, which survives a kill as `Written` does): 8 threads, and one thread,
//!   which claim a job and delete it when it is done, one at a time or a hundred;
//! * and the crate queue-file, a first-in-first-out file without locks, retries or a second reader: one thread reads the
//!   oldest job and removes it when it is done (not synced, so it survives a kill, too).
//!
//! The jobs are in the queue before the clock starts. Then the time from `send` to the handler, at 1,000 and 20,000 jobs a
//! second.
//!
//! ```text
//! cargo bench --bench share
//! ```

#![allow(clippy::disallowed_methods, reason = "the clock it measures by")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{broker, folder};
use grouplog::{Broker, Record, ShareConsumerConfig, TopicConfig};
use queue_file::QueueFile;
use rusqlite::{Connection, params};

const JOB: [u8; 100] = [b'j'; 100];
const JOBS: usize = 1_000_000;
const THREADS: usize = 8;
const ROUNDS: usize = 5;
/// Others take longer.
const SQLITE_JOBS: usize = 10_000;
const QUEUE_FILE_JOBS: usize = 100_000;

fn fill(broker: &Broker) {
    let producer = broker.producer().unwrap();
    for _ in 0..JOBS / 1000 {
        producer.send_all((0..1000).map(|_| Record::to("t").value(&JOB))).unwrap();
    }
    producer.flush().unwrap();
}

fn workers(partitions: u32) -> Duration {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new().partitions(partitions));
    fill(&broker);
    let left = AtomicUsize::new(JOBS);
    let (done, is_done) = crossbeam_channel::bounded(1);
    let start = Instant::now();
    let workers = broker.workers("g").topics(["t"]).threads(THREADS).run(move |job| {
        black_box(job.value());
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            done.send(())?;
        }
        Ok(())
    });
    is_done.recv().unwrap();
    let stats = workers.unwrap().shutdown(Duration::from_secs(10)).unwrap();
    let took = start.elapsed();
    assert_eq!(stats.accepted, JOBS as u64);
    took
}

fn batches() -> Duration {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    fill(&broker);
    let config = ShareConsumerConfig::new().max_poll_records(100);
    let mut member = broker.share_consumer_with("g", config).unwrap();
    member.subscribe(["t"]).unwrap();
    let (start, mut done) = (Instant::now(), 0);
    while done < JOBS {
        let jobs = member.poll(Duration::from_secs(10)).unwrap();
        done += jobs.len();
        jobs.accept_all().unwrap();
    }
    start.elapsed()
}

fn channel() -> Duration {
    let (sender, receiver) = crossbeam_channel::unbounded();
    (0..JOBS).for_each(|_| sender.send(JOB).unwrap());
    drop(sender);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for job in &receiver {
                    black_box(job);
                }
            });
        }
    });
    start.elapsed()
}

fn queue_file() -> Duration {
    let folder = folder();
    let mut queue = QueueFile::open(folder.path().join("queue")).unwrap();
    queue.set_sync_writes(false);
    queue.set_overwrite_on_remove(false);
    queue.add_n((0..QUEUE_FILE_JOBS).map(|_| JOB)).unwrap();
    let (start, mut job) = (Instant::now(), Vec::new());
    while queue.peek_into(&mut job).unwrap() {
        black_box(&job);
        queue.remove().unwrap();
    }
    start.elapsed()
}

fn connect(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("queue.db")).unwrap();
    connection.busy_timeout(Duration::from_mins(1)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "NORMAL").unwrap();
    connection
}

/// Each thread claims up to `batch` jobs in one transaction, and deletes them in another.
fn sqlite(threads: usize, batch: u32) -> Duration {
    const CLAIM: &str = "UPDATE jobs SET deliveries = deliveries + 1, locked = 1 WHERE id IN \
        (SELECT id FROM jobs WHERE locked = 0 ORDER BY id LIMIT ?1) RETURNING id, job";
    let folder = folder();
    let mut connection = connect(folder.path());
    connection
        .execute_batch(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY, job BLOB, deliveries INTEGER, locked INTEGER);
             CREATE INDEX waiting ON jobs (id) WHERE locked = 0;",
        )
        .unwrap();
    let fill = connection.transaction().unwrap();
    for _ in 0..SQLITE_JOBS {
        fill.execute("INSERT INTO jobs (job, deliveries, locked) VALUES (?1, 0, 0)", params![&JOB])
            .unwrap();
    }
    fill.commit().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut connection = connect(folder.path());
                loop {
                    let mut claim = connection.prepare_cached(CLAIM).unwrap();
                    let claimed: Vec<i64> = claim
                        .query_map([batch], |row| {
                            black_box(row.get::<_, Vec<u8>>(1)?);
                            row.get(0)
                        })
                        .unwrap()
                        .map(Result::unwrap)
                        .collect();
                    drop(claim);
                    if claimed.is_empty() {
                        return;
                    }
                    let done = connection
                        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                        .unwrap();
                    let mut delete = done.prepare_cached("DELETE FROM jobs WHERE id = ?1").unwrap();
                    for id in claimed {
                        delete.execute([id]).unwrap();
                    }
                    drop(delete);
                    done.commit().unwrap();
                }
            });
        }
    });
    start.elapsed()
}

/// The times from when each job was due to be sent to its handler, sorted.
fn latency(each: Duration, jobs: usize) -> Vec<Duration> {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    let (told, heard) = crossbeam_channel::bounded(jobs);
    let start = Instant::now();
    let workers = broker.workers("g").topics(["t"]).threads(THREADS).run(move |job| {
        let due = u64::from_le_bytes(*job.value().unwrap().first_chunk().unwrap());
        told.send(start.elapsed().saturating_sub(Duration::from_nanos(due)))?;
        Ok(())
    });
    let producer = broker.producer().unwrap();
    for number in 0..jobs {
        let due = each * number as u32;
        while start.elapsed() < due {
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let mut job = JOB;
        job[..8].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
        producer.send(Record::to("t").value(&job)).unwrap();
    }
    let mut times: Vec<_> = (0..jobs).map(|_| heard.recv().unwrap()).collect();
    workers.unwrap().shutdown(Duration::from_secs(10)).unwrap();
    times.sort_unstable();
    times
}

fn report_latency(what: &str, each: Duration, jobs: usize) {
    let times = latency(each, jobs);
    let at = |share: f64| times[((jobs - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let (p50, p99, p999, longest) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!(
        "{what:<52} p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, longest {longest:.0} us"
    );
}

fn report(what: &str, run: impl FnMut() -> Duration) {
    report_of(JOBS, what, run);
}

fn report_of(jobs: usize, what: &str, mut run: impl FnMut() -> Duration) {
    let mut speeds: Vec<_> =
        (0..ROUNDS).map(|_| jobs as f64 / run().as_secs_f64() / 1000.0).collect();
    speeds.sort_unstable_by(f64::total_cmp);
    let (least, median, most) = (speeds[0], speeds[ROUNDS / 2], speeds[ROUNDS - 1]);
    println!("{what:<52} {median:>8.0} thousand jobs/s ({least:.0} to {most:.0})");
}

fn main() {
    println!("{JOBS} jobs of 100 bytes, median of {ROUNDS} runs");
    report("8 workers, one acknowledgement each, 1 partition", || workers(1));
    report("8 workers, one acknowledgement each, 8 partitions", || workers(8));
    report("one member, one acknowledgement for 100 jobs", batches);
    report("8 threads and a channel in memory, nothing is kept", channel);
    report_of(SQLITE_JOBS, "SQLite, 8 threads, one job at a time", || sqlite(THREADS, 1));
    report_of(SQLITE_JOBS, "SQLite, 1 thread, one job at a time", || sqlite(1, 1));
    report_of(SQLITE_JOBS, "SQLite, 1 thread, 100 jobs at a time", || sqlite(1, 100));
    report_of(QUEUE_FILE_JOBS, "queue-file, 1 thread, one job at a time", queue_file);
    report_latency("from send to handler, a job each 1 ms", Duration::from_millis(1), 5_000);
    report_latency("from send to handler, a job each 50 us", Duration::from_micros(50), 100_000);
}
