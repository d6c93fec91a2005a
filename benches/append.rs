//! Cost of appending records of 100 bytes without a key, compared with plain files on the same
//! disk.
//!
//! The bench compares `Written` with plain writes without a sync: one `pwrite` per record, and one
//! per 64 KiB, which is the best that a program with its own buffer could reach. It compares
//! `Synced` with `pwrite` and `fdatasync` per record: one file and thread, and 16 of each. The
//! plain files grow, as a program's log would. The engine's runs include all checkpoints that fall
//! due.

#![allow(clippy::disallowed_methods, reason = "the clocks that the engine is measured with")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::{BLOCK_BYTES, Summary, VALUE, broker, folder, plain_file, time};
use criterion::{Criterion, criterion_group, criterion_main};
use grouplog::{Acks, ProducerConfig, Record, TopicConfig};

const THREADS: u32 = 16;
const BYTES: u64 = VALUE.len() as u64;
const IN_ONE: u64 = 1000;

fn written(c: &mut Criterion, summary: &mut Summary) {
    let mut group = common::group(c, "append_written", 2.0);
    {
        let folder = folder();
        let file = plain_file(folder.path(), "plain");
        let mut position = 0;
        summary.measure(&mut group, "plain_write_each", None, (1, BYTES), |n, _| {
            time(|| {
                for _ in 0..n {
                    file.write_all_at(&VALUE, position).unwrap();
                    position += BYTES;
                }
            })
        });
    }
    {
        let folder = folder();
        let file = plain_file(folder.path(), "plain");
        let block = vec![b'v'; BLOCK_BYTES];
        let mut position = 0;
        let records = BLOCK_BYTES as u64 / BYTES;
        let size = (records, BLOCK_BYTES as u64);
        summary.measure(&mut group, "plain_write_64k", None, size, |n, _| {
            time(|| {
                for _ in 0..n {
                    file.write_all_at(&block, position).unwrap();
                    position += BLOCK_BYTES as u64;
                }
            })
        });
    }
    let acks = ProducerConfig::new().acks(Acks::Written);
    {
        let folder = folder();
        let broker = broker(folder.path(), TopicConfig::new());
        let producer = broker.producer_with(acks.clone()).unwrap();
        let limit = Some("plain_write_each");
        summary.measure(&mut group, "send", limit, (1, BYTES), |n, _| {
            time(|| {
                for _ in 0..n {
                    producer.send(Record::to("t").value(&VALUE)).unwrap();
                }
            })
        });
        broker.close().unwrap();
    }
    {
        let folder = folder();
        let broker = broker(folder.path(), TopicConfig::new());
        let producer = broker.producer_with(acks).unwrap();
        let limit = Some("plain_write_64k");
        let size = (IN_ONE, IN_ONE * BYTES);
        summary.measure(&mut group, "send_all_of_1000", limit, size, |n, _| {
            time(|| {
                for _ in 0..n {
                    let records = (0..IN_ONE).map(|_| Record::to("t").value(&VALUE));
                    producer.send_all(records).unwrap();
                }
            })
        });
        broker.close().unwrap();
    }
    group.finish();
}

/// Runs `one` n times and records the duration of each run.
fn each(n: u64, latencies: &mut Vec<Duration>, mut one: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut last = begin;
    for _ in 0..n {
        one();
        let now = Instant::now();
        latencies.push(now - last);
        last = now;
    }
    last - begin
}

/// Runs `one` n times in each of the threads.
fn in_threads(n: u64, one: impl Fn(u32, u64) + Sync) -> Duration {
    time(|| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let one = &one;
                scope.spawn(move || (0..n).for_each(|i| one(thread, i)));
            }
        });
    })
}

fn synced(c: &mut Criterion, summary: &mut Summary) {
    let mut group = common::group(c, "append_synced", 2.0);
    let folder = folder();
    {
        let file = plain_file(folder.path(), "plain");
        let mut position = 0;
        let size = (1, BYTES);
        summary.measure(&mut group, "plain_write_and_fdatasync", None, size, |n, latencies| {
            each(n, latencies, || {
                file.write_all_at(&VALUE, position).unwrap();
                file.sync_data().unwrap();
                position += BYTES;
            })
        });
    }
    let all = (u64::from(THREADS), u64::from(THREADS) * BYTES);
    {
        let files: Vec<_> =
            (0..THREADS).map(|i| plain_file(folder.path(), &format!("plain-{i}"))).collect();
        let mut done = 0;
        summary.measure(&mut group, "plain_16_threads_16_files", None, all, |n, _| {
            let elapsed = in_threads(n, |thread, i| {
                let file = &files[thread as usize];
                file.write_all_at(&VALUE, (done + i) * BYTES).unwrap();
                file.sync_data().unwrap();
            });
            done += n;
            elapsed
        });
    }
    let broker = broker(folder.path(), TopicConfig::new().partitions(THREADS));
    let producer = broker.producer().unwrap();
    let send = |partition| {
        let record = Record::to("t").partition(partition).value(&VALUE);
        producer.send(record).unwrap().wait().unwrap();
    };
    let limit = Some("plain_write_and_fdatasync");
    summary.measure(&mut group, "send_and_wait", limit, (1, BYTES), |n, latencies| {
        each(n, latencies, || send(0))
    });
    let limit = Some("plain_16_threads_16_files");
    summary.measure(&mut group, "16_threads_16_partitions", limit, all, |n, _| {
        in_threads(n, |thread, _| send(thread))
    });
    summary.measure(&mut group, "16_threads_1_partition", limit, all, |n, _| {
        in_threads(n, |_, _| send(0))
    });
    broker.close().unwrap();
    group.finish();
}

fn benches(c: &mut Criterion) {
    let mut summary = Summary::default();
    written(c, &mut summary);
    synced(c, &mut summary);
    summary.print("append: medians, records of 100 bytes");
}

criterion_group!(append, benches);
criterion_main!(append);
