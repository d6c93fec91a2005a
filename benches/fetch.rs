//! Cost of reading a log in the page cache, with 500 records a poll (the default), where each value is read.
//!
//! `poll`: a group reads 1 million records of 100 bytes through maps that it has used before. The limit is to
//! map the same files and add up all their bytes, without decoding records. For zstd the batches are first
//! decompressed, one after the other, into one buffer.
//!
//! `fresh`: 0.5 GB of records of 100 bytes and of 1 KiB, through maps that nobody has used. A broker that was
//! just opened polls everything, once with `assign` and `seek_to_beginning`, once as a new group. The limit is
//! to map the same files freshly, to walk from batch to batch, and to compute the CRC-32C of each, without
//! decoding records. Opening, closing and unmapping are not measured.

#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use common::{Summary, broker, folder, time};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use grouplog::record::{Batch, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, decompress};
use grouplog::storage::{Disk, OpenMode, ReadMap, Storage};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, ProducerConfig, Record, TopicConfig, TopicPartition,
};

const RECORDS: u64 = 1_000_000;
const IN_ONE: u64 = 1000;
const BYTES: u64 = 100;
/// The values that are read through fresh maps, in bytes.
const FRESH_BYTES: u64 = 512 << 20;

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
    let sum = read_all(&mut consumer, RECORDS);
    consumer.close().unwrap();
    sum
}

fn read_all(consumer: &mut Consumer, count: u64) -> u64 {
    let (mut seen, mut sum) = (0, 0);
    while seen < count {
        let records = consumer.poll(Duration::from_secs(10)).unwrap();
        for record in &records {
            let value = record.value().unwrap();
            sum += u64::from(value[0]) + value.len() as u64;
        }
        seen += records.len() as u64;
    }
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

/// Maps the segments one after the other.
fn maps(folder: &Path) -> impl Iterator<Item = ReadMap> {
    let disk = Disk::open(folder).unwrap();
    disk.list(Path::new("t-0")).unwrap().into_iter().filter_map(move |entry| {
        let path = Path::new("t-0").join(entry.name);
        path.extension().is_some_and(|extension| extension == "log").then(|| {
            let file = disk.open(&path, OpenMode::Read).unwrap();
            let len = file.len().unwrap();
            file.map(len, len).unwrap()
        })
    })
}

/// Maps the segments and adds up all bytes.
fn touch_all(folder: &Path, codec: Compression) -> u64 {
    let sums = maps(folder).map(|map| {
        let log = map.slice(0..map.len()).unwrap();
        match codec {
            Compression::None => sum_of(log),
            _ => sum_decompressed(log),
        }
    });
    sums.fold(0, u64::wrapping_add)
}

/// Maps the segments and checks the CRC-32C of each batch. Returns the maps, and the number of records
/// according to the headers.
fn check_all(folder: &Path) -> (Vec<ReadMap>, u64) {
    let mut records = 0;
    let maps = maps(folder).inspect(|map| {
        let mut log = map.slice(0..map.len()).unwrap();
        while !log.is_empty() {
            let batch = Batch::parse(log).unwrap();
            batch.verify_crc().unwrap();
            records += batch.header().count as u64;
            log = &log[batch.bytes().len()..];
        }
    });
    (maps.collect(), records)
}

/// Writes values of `bytes` bytes and closes the folder. Returns their number.
fn fill_fresh(folder: &Path, bytes: u64) -> u64 {
    let broker = broker(folder, TopicConfig::new());
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let value = vec![b'v'; bytes as usize];
    let in_one = (100 << 10) / bytes;
    let calls = FRESH_BYTES / bytes / in_one;
    for _ in 0..calls {
        producer.send_all((0..in_one).map(|_| Record::to("t").value(&value))).unwrap();
    }
    broker.close().unwrap();
    calls * in_one
}

/// Opens the folder, so that no segment is mapped, and reads all records. Returns the time of the reading.
fn poll_fresh(data: &Path, records: u64, group: Option<&str>) -> Duration {
    let broker = Broker::open(data).unwrap();
    let mut consumer = match group {
        Some(group) => broker.consumer(group).unwrap(),
        None => broker.consumer_with(ConsumerConfig::new()).unwrap(),
    };
    if group.is_some() {
        consumer.subscribe(["t"]).unwrap();
    } else {
        let partition = TopicPartition::new("t", 0);
        consumer.assign([partition.clone()]).unwrap();
        consumer.seek_to_beginning(&partition).unwrap();
    }
    let elapsed = time(|| {
        black_box(read_all(&mut consumer, records));
    });
    consumer.close().unwrap();
    broker.close().unwrap();
    elapsed
}

fn fresh(summary: &mut Summary, group: &mut BenchmarkGroup<'_, WallTime>, bytes: u64) {
    let folder = folder();
    let records = fill_fresh(folder.path(), bytes);
    let data = folder.path().join("data");
    let size = (records, records * bytes);
    let limit = format!("fresh_map_crc32c_{bytes}");
    summary.measure(group, &limit, None, size, |n, _| {
        let checked = || {
            let mut read = None;
            let elapsed = time(|| read = Some(check_all(&data)));
            assert_eq!(read.map(|(_, seen)| seen), Some(records));
            elapsed
        };
        (0..n).map(|_| checked()).sum()
    });
    let name = format!("fresh_poll_assign_{bytes}");
    summary.measure(group, &name, Some(&limit), size, |n, _| {
        (0..n).map(|_| poll_fresh(&data, records, None)).sum()
    });
    let mut groups = 0;
    let name = format!("fresh_poll_group_{bytes}");
    summary.measure(group, &name, Some(&limit), size, |n, _| {
        let mut poll = || {
            groups += 1;
            poll_fresh(&data, records, Some(&format!("g{groups}")))
        };
        (0..n).map(|_| poll()).sum()
    });
}

fn benches(c: &mut Criterion) {
    let mut summary = Summary::default();
    let mut group = common::group(c, "fetch", 4.0);
    for bytes in [BYTES, 1024] {
        fresh(&mut summary, &mut group, bytes);
    }
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
    summary.print("fetch: medians, records of 100 bytes, or of the size in the name");
}

criterion_group!(fetch, benches);
criterion_main!(fetch);
