//! What becomes of single batches: bytes, timestamps, headers, codecs, control batches.

use super::world::{NewRecord, encode, horizon, read};
use crate::cleaner::newest::Newest;
use crate::cleaner::rebuild::{Kept, Output, empty, rebuild};
use crate::cleaner::{Filter, FilterSettings, Filtered, KeyMap, MemorySegment, OffsetMap, Outcome};
use crate::producer_state::{AbortedIndex, AbortedTransaction, ProducerStates};
use crate::record::{
    Attributes, Batch, BatchHeader, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, RawRecord,
    decode_records,
};
use crate::types::TimestampType;

const NOW: i64 = 5_000;
const SETTINGS: FilterSettings = FilterSettings {
    now: NOW,
    delete_retention_ms: 100,
    high_watermark: i64::MAX,
    max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
};

fn map_of(batches: &[&[u8]], end_offset: i64) -> OffsetMap {
    let mut map = OffsetMap::new(KeyMap::new(10_000, u64::MAX, &[1; 16]), 0);
    for bytes in batches {
        let batch = Batch::parse(bytes).unwrap();
        assert!(map.add(&batch, &AbortedIndex::default(), usize::MAX).unwrap());
    }
    map.end_segment(end_offset);
    map
}

/// Filters a batch with a map that the batch and then `newer` fill.
fn filter<T>(bytes: &[u8], newer: &[&[u8]], body: impl FnOnce(Filtered<'_>) -> T) -> T {
    let map = map_of(&[&[bytes], newer].concat(), i64::MAX - 1);
    let (aborted, producers) = (AbortedIndex::default(), ProducerStates::default());
    let mut filter = Filter::new(&map, SETTINGS, &aborted, &producers);
    body(filter.batch(&Batch::parse(bytes).unwrap()).unwrap())
}

fn segment(bytes: &[u8]) -> MemorySegment {
    MemorySegment { log: bytes.to_vec(), ..MemorySegment::new(0) }
}

fn record(offset: i64, timestamp: i64, key: &str, value: Option<&str>) -> NewRecord {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let (key, value) = (Some(bytes(key)), value.map(bytes));
    NewRecord { offset, timestamp, key, value, header: None }
}

fn header(attributes: Attributes) -> BatchHeader {
    BatchHeader { attributes, last_offset_delta: 9, ..BatchHeader::default() }
}

/// Returns the records of a batch with their places.
fn kept(header: &BatchHeader, payload: &[u8]) -> Vec<Kept> {
    let mut raw = Vec::new();
    decode_records(header, payload, &mut raw).unwrap();
    let mut start = 0;
    let mut place = |record: RawRecord| {
        let kept = Kept { start, end: record.end(), timestamp_delta: record.timestamp_delta };
        start = record.end();
        kept
    };
    raw.into_iter().map(&mut place).collect()
}

/// Kafka's filter wrote `jv_compacted.log`. Made again from batches that it may have read, it has the same bytes.
#[test]
fn a_compacted_batch_has_the_bytes_that_kafka_writes() {
    let log = segment(include_bytes!("../../../tests/vectors/jv_compacted.log"));
    let mut batches = log.batches();
    let (mut seen, mut out) = (Vec::new(), Output::default());
    while let Some((_, batch)) = crate::cleaner::Batches::next(&mut batches).unwrap() {
        let (header, codec) = (*batch.header(), batch.header().attributes.compression());
        seen.push((header.count, horizon(&header).is_some()));
        if !codec.is_built_in() {
            continue;
        }
        if header.count == 0 {
            let attributes = header.attributes.with_compression(Compression::Zstd);
            let source = BatchHeader { attributes, base_timestamp: 17, count: 5, ..header };
            empty(&source, &mut out).unwrap();
            assert_eq!(out.bytes(), batch.bytes());
            continue;
        }
        let records = batch.records(usize::MAX).unwrap();
        let mut source: Vec<_> = records
            .iter()
            .map(|record| NewRecord {
                offset: record.offset(),
                timestamp: record.timestamp().as_millis(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                header: None,
            })
            .collect();
        if header.count == 1 {
            source.push(record(5012, 1_710_000_000_099, "dropped", Some("v")));
        }
        let attributes = header.attributes.with_delete_horizon(false);
        let source = encode(BatchHeader { attributes, ..header }, &source);
        let source = Batch::parse(&source).unwrap();
        let payload = source.decompressed(usize::MAX).unwrap();
        let mut kept = kept(source.header(), &payload);
        kept.truncate(header.count as usize);
        rebuild(source.header(), &payload, &kept, horizon(&header), usize::MAX, &mut out).unwrap();
        // Compressors differ, what they compress does not.
        let rebuilt = Batch::parse(out.bytes()).unwrap();
        let same = BatchHeader { length: header.length, crc: header.crc, ..*rebuilt.header() };
        assert_eq!(same, header);
        assert_eq!(rebuilt.decompressed(usize::MAX), batch.decompressed(usize::MAX));
        assert!(codec != Compression::None || out.bytes() == batch.bytes());
    }
    assert_eq!(seen, [(0, false), (0, false), (1, false), (5, true)]);
}

/// A map that covers nothing keeps every record of every writer. Batches with tombstones get a horizon.
#[test]
fn batches_of_other_writers_keep_their_records() {
    let logs: [&[u8]; 9] = [
        include_bytes!("../../../tests/vectors/py_none.log"),
        include_bytes!("../../../tests/vectors/py_zstd.log"),
        include_bytes!("../../../tests/vectors/py_gzip.log"),
        include_bytes!("../../../tests/vectors/py_extremes.log"),
        include_bytes!("../../../tests/vectors/rs_snappy.log"),
        include_bytes!("../../../tests/vectors/rs_lz4.log"),
        include_bytes!("../../../tests/vectors/jv_none.log"),
        include_bytes!("../../../tests/vectors/jv_log_append_time.log"),
        include_bytes!("../../../tests/vectors/jv_leader_change.log"),
    ];
    let (aborted, producers) = (AbortedIndex::default(), ProducerStates::default());
    let (map, mut rebuilt) = (map_of(&[], 0), 0);
    for log in logs {
        let mut filter = Filter::new(&map, SETTINGS, &aborted, &producers);
        let log = segment(log);
        let mut batches = log.batches();
        while let Some((_, batch)) = crate::cleaner::Batches::next(&mut batches).unwrap() {
            let codec = batch.header().attributes.compression();
            if !codec.is_built_in() {
                continue;
            }
            let filtered = filter.batch(&batch).unwrap();
            let (_, bytes) = filtered.batch.unwrap();
            let (old, new) = (read(&segment(batch.bytes())), read(&segment(bytes)));
            assert_eq!(old[0].1, new[0].1);
            let has_tombstone = old[0].1.iter().any(|record| record.3.is_none());
            assert_eq!(horizon(&new[0].0), has_tombstone.then_some(NOW + 100));
            let expected = if has_tombstone { Outcome::Rebuilt } else { Outcome::Unchanged };
            assert_eq!(filtered.outcome, expected);
            rebuilt += usize::from(has_tombstone);
        }
    }
    assert!(rebuilt >= 2, "{rebuilt}");
}

#[test]
fn every_codec_returns_what_stays() {
    for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
        let records = [
            record(0, 40, "a", Some("old")),
            record(3, -1, "b", Some("new")),
            record(4, 90, "c", None),
            record(9, 70, "d", Some("new")),
        ];
        let attributes = Attributes::default().with_compression(codec);
        let bytes = encode(header(attributes), &records);
        let newer = encode(header(attributes), &[record(5, 0, "a", Some("newer"))]);
        filter(&bytes, &[&newer], |filtered| {
            assert_eq!((filtered.outcome, filtered.records), (Outcome::Rebuilt, 3));
            let (head, bytes) = filtered.batch.unwrap();
            assert_eq!(head.attributes, attributes.with_delete_horizon(true));
            assert_eq!((head.base_timestamp, head.max_timestamp), (NOW + 100, 90));
            assert_eq!((head.base_offset, head.last_offset(), head.count), (0, 9, 3));
            let read = read(&segment(bytes));
            let seen: Vec<_> = read[0].1.iter().map(|record| (record.0, record.1)).collect();
            assert_eq!(seen, [(3, -1), (4, 90), (9, 70)]);
        });
    }
}

#[test]
fn timestamps_survive_any_base() {
    for timestamp in [i64::MIN, -1, 0, i64::MAX] {
        let records = [record(0, 7, "a", Some("old")), record(1, timestamp, "b", None)];
        let bytes = encode(header(Attributes::default()), &records);
        let newer = encode(header(Attributes::default()), &[record(5, 0, "a", Some("newer"))]);
        filter(&bytes, &[&newer], |filtered| {
            let (head, bytes) = filtered.batch.unwrap();
            assert_eq!(read(&segment(bytes))[0].1[0].1, timestamp);
            assert_eq!(head.max_timestamp, timestamp.max(-1));
        });
    }
}

#[test]
fn the_append_time_of_a_batch_stays() {
    let attributes = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
    let source = BatchHeader { max_timestamp: 777, ..header(attributes) };
    let records = [record(0, 40, "a", Some("old")), record(1, 50, "b", Some("new"))];
    let newer = encode(source, &[record(5, 0, "a", Some("newer"))]);
    filter(&encode(source, &records), &[&newer], |filtered| {
        let (head, bytes) = filtered.batch.unwrap();
        assert_eq!(filtered.outcome, Outcome::Rebuilt);
        assert_eq!((head.base_timestamp, head.max_timestamp), (777, 777));
        assert_eq!(read(&segment(bytes))[0].1[0].1, 777);
    });
}

#[test]
fn names_of_headers_need_not_be_text() {
    let mut tombstone = record(1, 5, "b", None);
    tombstone.header = Some(("xyz".to_owned(), vec![1]));
    let mut bytes = encode(header(Attributes::default()), &[tombstone]);
    let at = bytes.windows(3).position(|window| window == b"xyz").unwrap();
    bytes[at] = 0xFF;
    let batch = Batch::parse(&bytes).unwrap();
    let sealed = crate::record::seal(batch.header(), batch.payload()).unwrap();
    let bytes = [&sealed[..], batch.payload()].concat();
    filter(&bytes, &[], |filtered| {
        assert_eq!(filtered.outcome, Outcome::Rebuilt);
        let (_, bytes) = filtered.batch.unwrap();
        assert_eq!(read(&segment(bytes))[0].1[0].4, [(vec![0xFF, b'y', b'z'], vec![1])]);
    });
}

#[test]
fn records_without_key_go_below_the_end_of_the_map() {
    let mut records = [record(0, 1, "a", Some("v")), record(1, 1, "", Some("v"))];
    records[0].key = None;
    let bytes = encode(header(Attributes::default()), &records);
    filter(&bytes, &[], |filtered| assert_eq!(filtered.records, 1));
    let (aborted, producers) = (AbortedIndex::default(), ProducerStates::default());
    let map = map_of(&[], 0);
    let mut beyond = Filter::new(&map, SETTINGS, &aborted, &producers);
    let filtered = beyond.batch(&Batch::parse(&bytes).unwrap()).unwrap();
    assert_eq!((filtered.outcome, filtered.records), (Outcome::Unchanged, 2));
}

#[test]
fn control_batches_that_end_no_transaction_stay() {
    for (kind, outcome) in [
        (0, Outcome::Rebuilt),
        (1, Outcome::Rebuilt),
        (2, Outcome::Unchanged),
        (9, Outcome::Unchanged),
    ] {
        let attributes = Attributes::default().with_control(true);
        let mut control = record(0, 1, "", Some("\0\0\0\0\0\0"));
        control.key = Some(vec![0, 0, 0, kind]);
        let bytes = encode(header(attributes), &[control]);
        filter(&bytes, &[], |filtered| assert_eq!(filtered.outcome, outcome, "{kind}"));
    }
}

/// As a reader of committed records: a batch without the transactional bit belongs to no transaction.
#[test]
fn plain_records_of_a_producer_survive_its_abort() {
    let transaction = AbortedTransaction {
        producer_id: 8,
        first_offset: 0,
        last_offset: 100,
        last_stable_offset: 101,
    };
    let aborted: AbortedIndex = [transaction].into_iter().collect();
    for (is_transactional, outcome) in [(false, Outcome::Unchanged), (true, Outcome::Removed)] {
        let attributes = Attributes::default().with_transactional(is_transactional);
        let source = BatchHeader { producer_id: 8, producer_epoch: 0, ..header(attributes) };
        let bytes = encode(source, &[record(0, 1, "a", Some("v"))]);
        let batch = Batch::parse(&bytes).unwrap();
        let mut map = OffsetMap::new(KeyMap::new(10_000, u64::MAX, &[1; 16]), 0);
        assert!(map.add(&batch, &aborted, usize::MAX).unwrap());
        assert_eq!(map.is_newest(map.keys().hash(b"a"), -1), is_transactional);
        let producers = ProducerStates::default();
        let mut filter = Filter::new(&map, SETTINGS, &aborted, &producers);
        assert_eq!(filter.batch(&batch).unwrap().outcome, outcome);
    }
}

/// With offsets without gaps, the window moves with the batches. With large gaps, it is seldom worth it.
#[test]
fn the_window_says_of_each_record_what_the_map_says() {
    for (step, expected) in [(1, 100..=100), (1000, 3..=30)] {
        let keys = ["a", "b", "c", "d", "e", "f", "g"];
        let batches: Vec<_> = (0..100_i64)
            .map(|n| {
                let source =
                    BatchHeader { base_offset: n * 4 * step, ..header(Attributes::default()) };
                let key = |k: i64| keys[((n * n + k * k) % 7) as usize];
                let records = [0, 1, 2, 3].map(|k| record(source.base_offset + k, 1, key(k), None));
                encode(BatchHeader { last_offset_delta: 3, ..source }, &records)
            })
            .collect();
        let bytes: Vec<_> = batches.iter().map(Vec::as_slice).collect();
        let map = map_of(&bytes, 0);
        let (mut newest, mut covered) = (Newest::default(), 0);
        for batch in bytes.iter().map(|bytes| Batch::parse(bytes).unwrap()) {
            if !newest.covers(batch.header(), &map) {
                continue;
            }
            covered += 1;
            for record in batch.records(usize::MAX).unwrap().iter() {
                let key = map.keys().hash(record.key().unwrap());
                assert_eq!(newest.contains(record.offset()), map.is_newest(key, record.offset()));
            }
        }
        assert!(expected.contains(&covered), "{covered} of 100 batches, step {step}");
    }
}

/// A transaction says nothing about batches behind its marker, even if the marker is gone.
#[test]
fn an_index_entry_ends_with_its_marker() {
    let transaction = AbortedTransaction {
        producer_id: 8,
        first_offset: 0,
        last_offset: 3,
        last_stable_offset: 4,
    };
    let aborted: AbortedIndex = [transaction].into_iter().collect();
    let attributes = Attributes::default().with_transactional(true);
    for (base_offset, expected) in [(0, true), (2, true), (4, false), (100, false)] {
        let source = BatchHeader { base_offset, producer_id: 8, ..header(attributes) };
        assert_eq!(aborted.transaction_of(&source).is_some(), expected, "{base_offset}");
        let other = BatchHeader { producer_id: 9, ..source };
        assert!(aborted.transaction_of(&other).is_none());
    }
}

/// A batch that no reader would take is never written, even if its tombstones must then live on.
#[test]
fn a_batch_does_not_grow_beyond_the_limit_of_readers() {
    let attributes = Attributes::default().with_compression(Compression::Zstd);
    let records = [
        record(0, 1_000_000, "a", Some("old")),
        record(1, 1_000_001, "b", None),
        record(2, 1_000_002, "c", Some("new")),
    ];
    let bytes = encode(header(attributes), &records);
    let batch = Batch::parse(&bytes).unwrap();
    let size = batch.decompressed(usize::MAX).unwrap().len();
    let (aborted, producers) = (AbortedIndex::default(), ProducerStates::default());
    let map = map_of(&[&bytes], i64::MAX - 1);
    // Each timestamp takes two bytes more, counted from the horizon.
    for (max_decompressed_bytes, outcome, expected) in [
        (size + 6, Outcome::Rebuilt, Some(NOW + 100)),
        (size + 5, Outcome::Unchanged, None),
        (size, Outcome::Unchanged, None),
    ] {
        let settings = FilterSettings { max_decompressed_bytes, ..SETTINGS };
        let mut filter = Filter::new(&map, settings, &aborted, &producers);
        let filtered = filter.batch(&batch).unwrap();
        assert_eq!(filtered.outcome, outcome);
        let (head, bytes) = filtered.batch.unwrap();
        assert_eq!(horizon(&head), expected);
        let decompressed = Batch::parse(bytes).unwrap().decompressed(max_decompressed_bytes);
        assert!(decompressed.is_ok());
        assert_eq!(read(&segment(bytes))[0].1, read(&segment(batch.bytes()))[0].1);
    }
}
