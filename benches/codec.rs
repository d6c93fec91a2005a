//! Cost of the record codec: records of 100 bytes without a key, in batches of 64 KiB.
//!
//! `memcpy` moves the same bytes and is the upper limit. All numbers are per batch. criterion
//! converts them into records and bytes per second.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use criterion::{criterion_group, criterion_main};
use grouplog::record::{
    Batch, BatchHeader, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, compress, decode_records,
    decompress, encode_record, read_record, seal,
};

const VALUE: [u8; 100] = [b'v'; 100];
const BATCH_BYTES: usize = 64 << 10;

fn encode_batch(out: &mut [u8]) -> (usize, i32) {
    let (mut at, mut count) = (0, 0);
    while let Some(room) = out.get_mut(at..)
        && let Some(size) = encode_record(room, i64::from(count), count, None, Some(&VALUE), &[])
    {
        at += size;
        count += 1;
    }
    (at, count)
}

fn per_record(c: &mut Criterion) {
    let mut buffer = vec![0; BATCH_BYTES];
    let (size, count) = encode_batch(&mut buffer);
    let records = buffer[..size].to_vec();
    let header = BatchHeader { count, last_offset_delta: count - 1, ..BatchHeader::default() };
    let sealed = seal(&header, &records).expect("a small batch");
    let whole = [&sealed[..], &records].concat();
    let batch = Batch::parse(&whole).expect("a good batch");

    for (unit, throughput) in
        [("records", Throughput::Elements(count as u64)), ("bytes", Throughput::Bytes(size as u64))]
    {
        let mut group: BenchmarkGroup<'_, WallTime> = c.benchmark_group(format!("codec_{unit}"));
        group.throughput(throughput);
        group.bench_function("memcpy", |b| {
            b.iter(|| buffer[..size].copy_from_slice(black_box(&records)));
        });
        group.bench_function("encode", |b| b.iter(|| encode_batch(black_box(&mut buffer))));
        group.bench_function("encode_and_seal", |b| {
            b.iter(|| {
                let (size, _) = encode_batch(black_box(&mut buffer));
                seal(&header, &buffer[..size])
            });
        });
        group.bench_function("read_record", |b| {
            b.iter(|| {
                let (mut at, mut sum) = (0, 0);
                while at < records.len() {
                    let (record, next) = read_record(black_box(&records), at).expect("good");
                    sum += record.value.len();
                    at = next;
                }
                sum
            });
        });
        let mut raw = Vec::new();
        group.bench_function("decode_records", |b| {
            b.iter(|| {
                raw.clear();
                decode_records(&header, black_box(&records), &mut raw).expect("good");
                raw.len()
            });
        });
        group.bench_function("verify_crc", |b| b.iter(|| black_box(&batch).verify_crc()));
        group.bench_function("parse_verify_decode", |b| {
            b.iter(|| {
                let batch = Batch::parse(black_box(&whole)).expect("good");
                batch.verify_crc().expect("good");
                batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES).expect("good").len()
            });
        });
        group.finish();
    }
}

/// Text-like input: random bytes do not compress, and repeated ones compress too well.
fn text() -> Vec<u8> {
    let words = ["offset ", "commit ", "group ", "lag ", "partition ", "alpha ", "beta ", "42 "];
    let mut state = 1_u64;
    let mut out = Vec::with_capacity(BATCH_BYTES);
    while out.len() < BATCH_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(words[(state >> 61) as usize].as_bytes());
    }
    out
}

fn codecs(c: &mut Criterion) {
    let input = text();
    let mut group = c.benchmark_group("compression_64k");
    group.throughput(Throughput::Bytes(input.len() as u64));
    for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
        let mut packed = Vec::new();
        compress(codec, None, &input, &mut packed).expect("built in");
        let mut out = Vec::new();
        group.bench_function(format!("compress_{codec}"), |b| {
            b.iter(|| {
                out.clear();
                compress(codec, None, black_box(&input), &mut out).expect("built in");
            });
        });
        group.bench_function(format!("decompress_{codec}"), |b| {
            b.iter(|| {
                out.clear();
                decompress(codec, black_box(&packed), 1 << 20, &mut out).expect("good");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, per_record, codecs);
criterion_main!(benches);
