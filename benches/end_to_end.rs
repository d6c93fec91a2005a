//! From `send` to `poll`. One thread sends (`Written`) and another polls as the member of a group,
//! until all records of 100 bytes have arrived. Both begin together. The consumer is never far
//! behind, so it reads most records from the open batch or from one that was just sealed.
//!
//! The limit is two threads with a plain file. One writes 64 KiB at a time and notifies the other,
//! which reads them with `pread` and checks every byte.

#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use common::{BLOCK_BYTES, Summary, VALUE, broker, folder, plain_file, time};
use criterion::{Criterion, criterion_group, criterion_main};
use grouplog::{Acks, Consumer, Producer, ProducerConfig, Record, TopicConfig};

const BYTES: u64 = VALUE.len() as u64;
/// The number of records per round.
const RECORDS: u64 = 500_000;
const IN_ONE: u64 = 100;

fn receive(consumer: &mut Consumer) {
    let (mut seen, mut sum) = (0, 0);
    while seen < RECORDS {
        let records = consumer.poll(Duration::from_secs(10)).unwrap();
        for record in &records {
            sum += record.value().unwrap().len();
        }
        seen += records.len() as u64;
    }
    black_box(sum);
}

/// Runs a round: `send` in one thread, polls in this one.
fn round(consumer: &mut Consumer, send: impl FnOnce() + Send) -> Duration {
    time(|| {
        std::thread::scope(|scope| {
            scope.spawn(send);
            receive(consumer);
        });
    })
}

fn send_each(producer: &Producer) {
    for _ in 0..RECORDS {
        producer.send(Record::to("t").value(&VALUE)).unwrap();
    }
}

fn send_many(producer: &Producer) {
    for _ in 0..RECORDS / IN_ONE {
        producer.send_all((0..IN_ONE).map(|_| Record::to("t").value(&VALUE))).unwrap();
    }
}

fn plain(folder: &std::path::Path) -> Duration {
    let file = plain_file(folder, "plain");
    let blocks = RECORDS * BYTES / BLOCK_BYTES as u64;
    let (told, hear) = mpsc::sync_channel(1024);
    time(|| {
        std::thread::scope(|scope| {
            let file = &file;
            scope.spawn(move || {
                let block = vec![b'v'; BLOCK_BYTES];
                for i in 0..blocks {
                    file.write_all_at(&block, i * BLOCK_BYTES as u64).unwrap();
                    told.send(i).unwrap();
                }
            });
            let mut block = vec![0; BLOCK_BYTES];
            let mut sum = 0_u64;
            for i in hear {
                file.read_exact_at(&mut block, i * BLOCK_BYTES as u64).unwrap();
                let (words, _) = block.as_chunks::<8>();
                sum = words.iter().fold(sum, |sum, w| sum.wrapping_add(u64::from_ne_bytes(*w)));
            }
            black_box(sum);
        });
    })
}

fn benches(c: &mut Criterion) {
    let mut summary = Summary::default();
    let mut group = common::group(c, "end_to_end", 5.0);
    let folder = folder();
    let size = (RECORDS, RECORDS * BYTES);
    summary.measure(&mut group, "plain_write_and_read_64k", None, size, |n, _| {
        (0..n).map(|_| plain(folder.path())).sum()
    });
    let broker = broker(folder.path(), TopicConfig::new());
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut consumer = broker.consumer("readers").unwrap();
    consumer.subscribe(["t"]).unwrap();
    let limit = Some("plain_write_and_read_64k");
    summary.measure(&mut group, "send_and_poll", limit, size, |n, _| {
        (0..n).map(|_| round(&mut consumer, || send_each(&producer))).sum()
    });
    summary.measure(&mut group, "send_all_of_100_and_poll", limit, size, |n, _| {
        (0..n).map(|_| round(&mut consumer, || send_many(&producer))).sum()
    });
    consumer.close().unwrap();
    broker.close().unwrap();
    group.finish();
    summary.print("end to end: medians, records of 100 bytes");
}

criterion_group!(end_to_end, benches);
criterion_main!(end_to_end);
