//! Appending to one partition.

use super::*;

fn record(value: &[u8]) -> RecordData<'_> {
    RecordData { key: None, value: Some(value), headers: &[], timestamp: None, id: None }
}

fn read(log: &Log) -> Vec<Vec<u8>> {
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(log.start_offset()), 0, limits, &mut fetched).unwrap();
    let mut values = Vec::new();
    for chunk in &fetched.chunks {
        for record in &fetched.records[values.len()..chunk.end] {
            values.push(record.value.get(chunk.source.bytes()).unwrap().to_vec());
        }
    }
    values
}

/// An append that ends one batch and begins another has a section for each, and is published as a whole.
#[test]
fn an_append_over_two_batches_has_two_sections() {
    let mut shared = LogShared::new(Arc::new(Memory::new()), EPOCH, &BrokerConfig::new());
    shared.batch_size = 4096;
    let log = Log::new(identity(), Arc::new(shared));
    let values = [&[1; 100][..], &[2; 100], &[3; 4000]];
    let mut guard = log.begin_append().unwrap();
    guard.stage(&record(values[0]), Timestamp::from_millis(1)).unwrap();
    let _nothing_filled = guard.apply();
    let mut guard = log.begin_append().unwrap();
    for value in &values[1..] {
        guard.stage(&record(value), Timestamp::from_millis(1)).unwrap();
    }
    assert!(guard.single_section().is_none());
    let mut parts = Vec::new();
    guard.sections(&mut parts);
    let sections = parts.chunks(2).map(|section| [&section[0][8..], section[1]].concat());
    let pieces: Vec<_> = sections
        .map(|body| {
            let (section, records) = AppendSection::decode(&body).unwrap();
            (section.count, section.base_offset, section.first_delta, records.len())
        })
        .collect();
    // One section after the existing record, and one at the start of a batch.
    assert!(matches!(pieces[..], [(1, 0, 1, 100..), (1, 2, 0, 4000..)]), "{pieces:?}");
    assert_eq!(read(&log), values[..1]);
    assert!(guard.apply().wake(), "a batch was filled");
    assert_eq!(read(&log), values);
}

#[test]
fn an_append_that_is_dropped_leaves_no_trace() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for value in [b"kept", b"next"] {
        let mut dropped = log.begin_append().unwrap();
        dropped.stage(&record(b"dropped"), Timestamp::from_millis(1)).unwrap();
        drop(dropped);
        let mut guard = log.begin_append().unwrap();
        let placed = guard.stage(&record(value), Timestamp::from_millis(1)).unwrap();
        assert_eq!(placed.offset, log.end_offset());
        assert!(guard.single_section().is_some());
        let _nothing_filled = guard.apply();
    }
    assert_eq!(read(&log), [b"kept", b"next"]);
}

#[test]
fn a_partition_rejects_appends_after_a_panic() {
    let log = Log::new(identity(), shared(&Memory::new()));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut guard = log.begin_append().unwrap();
        guard.stage(&record(b"half done"), Timestamp::from_millis(1)).unwrap();
        panic!("in the middle of an append");
    }));
    assert!(panicked.is_err());
    assert!(matches!(log.begin_append(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.failure(), Some(Error::Poisoned { .. })));
    assert!(read(&log).is_empty());
}

#[test]
fn appends_are_rejected_with_the_first_damage() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for position in [7, 8] {
        log.set_damaged(Error::corrupt("first", position, CorruptReason::Short));
    }
    for error in [log.begin_append().unwrap_err(), log.failure().unwrap()] {
        let Error::Corrupt(damage) = error else { panic!("{error:?}") };
        assert_eq!((damage.position, damage.reason), (7, CorruptReason::Short));
    }
}

#[test]
fn offsets_end_before_they_wrap_around() {
    let last = i64::MAX - 1;
    let image = LogImage { start_offset: last, end_offset: last, ..LogImage::default() };
    let log = Log::restore(identity(), shared(&Memory::new()), &image);
    let mut guard = log.begin_append().unwrap();
    let now = Timestamp::from_millis(1);
    assert_eq!(guard.stage(&record(b"the last one"), now).unwrap().offset, last);
    assert!(matches!(guard.stage(&record(b"no more"), now), Err(Error::LimitExceeded { .. })));
    assert!(guard.single_section().is_some());
    let _nothing_filled = guard.apply();
    assert_eq!(log.end_offset(), i64::MAX);
}

/// A capture needs the mark of a checkpoint.
#[test]
fn nothing_is_captured_without_a_mark() {
    let storage = Memory::new();
    let log = Log::new(identity(), shared(&storage));
    let mut guard = log.begin_append().unwrap();
    guard.stage(&record(b"value"), Timestamp::from_millis(1)).unwrap();
    assert!(guard.single_section().is_some());
    let _nothing_filled = guard.apply();
    assert!(matches!(log.capture(), Err(Error::Closed)));
    log.synced();
    log.lock_for_checkpoint().freeze();
    let captured = log.capture().unwrap().whole();
    assert_eq!(captured.segments.last().unwrap().end_offset, 1);
    // A second capture is the same. After the checkpoint, there is no mark again.
    assert_eq!(log.capture().unwrap().whole().segments, captured.segments);
    let listed = LogImage { end_offset: 1, segments: captured.segments, ..LogImage::default() };
    log.checkpointed(&listed);
    assert!(matches!(log.capture(), Err(Error::Closed)));
}

/// A kept buffer may be larger than the record needs.
#[test]
fn a_record_that_exceeds_a_batch_stays_alone() {
    let mut shared = LogShared::new(Arc::new(Memory::new()), EPOCH, &BrokerConfig::new());
    shared.batch_size = 1024;
    let log = Log::new(identity(), Arc::new(shared));
    for size in [200_000, 120_000, 500, 90_000, 60_000] {
        let value = vec![size as u8; size];
        let mut guard = log.begin_append().unwrap();
        guard.stage(&record(&value), Timestamp::from_millis(1)).unwrap();
        assert!(guard.single_section().is_some());
        let _nobody_waits = guard.apply();
        log.write_out_some();
    }
    let sizes: Vec<_> = read(&log).iter().map(Vec::len).collect();
    assert_eq!(sizes, [200_000, 120_000, 500, 90_000, 60_000]);
    log.lock_for_checkpoint().freeze();
    log.write_out_some();
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(0), 0, limits, &mut fetched).unwrap();
    assert_eq!(fetched.chunks.len(), 5);
}
