//! How many jobs of 100 bytes share groups run in a second, everything `Written`:
//!
//! * 8 `Workers` threads, and one acknowledgement for each job;
//! * one `ShareConsumer`, and one acknowledgement for each 100 jobs;
//! * beside them, 8 threads and a channel in memory (crossbeam), which keeps nothing: the limit.
//!
//! The jobs are in the log before the clock starts.
//!
//! ```text
//! cargo bench --bench share
//! ```

#![allow(clippy::disallowed_methods, reason = "the clock it measures by")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{broker, folder};
use grouplog::{Broker, Record, ShareConsumerConfig, TopicConfig};

const JOB: [u8; 100] = [b'j'; 100];
const JOBS: usize = 1_000_000;
const THREADS: usize = 8;
const ROUNDS: usize = 5;

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

fn report(what: &str, mut run: impl FnMut() -> Duration) {
    let mut speeds: Vec<_> =
        (0..ROUNDS).map(|_| JOBS as f64 / run().as_secs_f64() / 1000.0).collect();
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
}
