//! Cost of reading: a group polls a log in the page cache, with 100 bytes a record and 500 records
//! a poll (the default), and reads each value.
//!
//! The limit is to map the same files and add up all their bytes, without decoding records. For
//! zstd the batches are first decompressed, one after the other, into one buffer.

#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use common::{Summary, broker, folder, time};
use criterion::{Criterion, criterion_group, criterion_main};
use grouplog::record::{Batch, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, decompress};
use grouplog::storage::{Disk, OpenMode, Storage};
use grouplog::{Acks, Broker, ProducerConfig, Record, TopicConfig};

const RECORDS: u64 = 1_000_000;
const IN_ONE: u64 = 1000;
const BYTES: u64 = 100;

/// Makes values that compress about as well as text: some words, and digits that differ.
fn value(state: &mut u64, out: &mut [u8; BYTES as usize]) {
    let words = [*b"offset: ", *b"commit: ", *b"group 7 ", *b"region: "];
    for chunk in out.chunks_mut(16) {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let text = format!("{:08x}", *state >> 36);
        let word = words[(*state >> 62) as usize];
        let both = word.into_iter().chain(text.bytes());
        chunk.iter_mut().zip(both).for_each(|(byte, new)| *byte = new);
    }
}

fn fill(broker: &Broker) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut state = 1;
    for _ in 0..RECORDS / IN_ONE {
        let values: Vec<[u8; 100]> = (0..IN_ONE)
            .map(|_| {
                let mut out = [0; 100];
                value(&mut state, &mut out);
                out
            })
            .collect();
        producer.send_all(values.iter().map(|v| Record::to("t").value(v))).unwrap();
    }
    broker.checkpoint().unwrap();
}

/// Reads the whole topic as a new member of a new group.
fn poll_all(broker: &Broker, group: &str) -> u64 {
    let mut consumer = broker.consumer(group).unwrap();
    consumer.subscribe(["t"]).unwrap();
    let (mut seen, mut sum) = (0, 0);
    while seen < RECORDS {
        let records = consumer.poll(Duration::from_secs(10)).unwrap();
        for record in &records {
            let value = record.value().unwrap();
            sum += u64::from(value[0]) + value.len() as u64;
        }
        seen += records.len() as u64;
    }
    consumer.close().unwrap();
    sum
}

fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

/// Decompresses batch after batch and adds up all bytes.
fn sum_decompressed(mut log: &[u8]) -> u64 {
    let (mut out, mut sum) = (Vec::new(), 0_u64);
    while !log.is_empty() {
        let batch = Batch::parse(log).unwrap();
        out.clear();
        let codec = batch.header().attributes.compression();
        decompress(codec, batch.payload(), DEFAULT_MAX_DECOMPRESSED_BYTES, &mut out).unwrap();
        sum = sum.wrapping_add(sum_of(&out));
        log = &log[batch.bytes().len()..];
    }
    sum
}

/// Maps the segments and adds up all bytes.
fn touch_all(folder: &Path, codec: Compression) -> u64 {
    let disk = Disk::open(folder).unwrap();
    let mut sum = 0_u64;
    for entry in disk.list(Path::new("t-0")).unwrap() {
        let path = Path::new("t-0").join(entry.name);
        if path.extension().is_some_and(|extension| extension == "log") {
            let file = disk.open(&path, OpenMode::Read).unwrap();
            let len = file.len().unwrap();
            let map = file.map(len, len).unwrap();
            let log = map.slice(0..len).unwrap();
            sum = sum.wrapping_add(match codec {
                Compression::None => sum_of(log),
                _ => sum_decompressed(log),
            });
        }
    }
    sum
}

fn benches(c: &mut Criterion) {
    let mut summary = Summary::default();
    let mut group = common::group(c, "fetch", 4.0);
    let mut groups = 0;
    for codec in [Compression::None, Compression::Zstd] {
        let folder = folder();
        let broker = broker(folder.path(), TopicConfig::new().compression(codec));
        fill(&broker);
        let stored = broker.describe_topic("t").unwrap().partitions[0].bytes;
        println!("{codec}: {stored} bytes stored for {} of values", RECORDS * BYTES);
        let data = folder.path().join("data");
        let limit = format!("map_{codec}");
        let size = (RECORDS, RECORDS * BYTES);
        summary.measure(&mut group, &limit, None, size, |n, _| {
            time(|| {
                for _ in 0..n {
                    black_box(touch_all(&data, codec));
                }
            })
        });
        let name = format!("poll_{codec}");
        summary.measure(&mut group, &name, Some(&limit), size, |n, _| {
            time(|| {
                for _ in 0..n {
                    groups += 1;
                    black_box(poll_all(&broker, &format!("g{groups}")));
                }
            })
        });
        broker.close().unwrap();
    }
    group.finish();
    summary.print("fetch: medians, records of 100 bytes");
}

criterion_group!(fetch, benches);
criterion_main!(fetch);
