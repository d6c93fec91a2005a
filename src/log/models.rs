//! Model checks of readers beside appends, write-outs and deletions. They run the partition itself on a
//! storage in memory whose calls are atomic. The bytes of each record are its number, so that no record can
//! pass for another.

use std::sync::Arc;

use super::{Cursor, FetchLimits, Fetched, Log, LogIdentity, LogImage, LogShared, RecordData};
use crate::config::{BrokerConfig, TopicConfig};
use crate::error::Error;
use crate::segment::SegmentId;
use crate::storage::Memory;
use crate::sync::atomic::Ordering;
use crate::sync::{check, spawn};
use crate::types::{PartitionNumber, Timestamp, TopicId, TopicPartition};

/// The size of a record that gets its own batch if the batch size is the smallest, in bytes.
const VALUE: usize = 64;

/// Creates a partition with batches of at most `batch_size` bytes, each in its own segment.
fn log(batch_size: usize) -> Arc<Log> {
    let mut shared = LogShared::new(Arc::new(Memory::new()), 3, &BrokerConfig::new());
    shared.batch_size = batch_size;
    let identity = LogIdentity {
        number: PartitionNumber(0),
        partition: TopicPartition::new("t", 0),
        topic_id: TopicId::from_bytes([7; 16]),
        config: Arc::new(TopicConfig::new().segment_bytes(1)),
    };
    Arc::new(Log::new(identity, Arc::new(shared)))
}

/// Appends the record `number`, and writes out the batches that it fills, as a producer does.
fn append(log: &Log, number: u8, bytes: usize) -> Result<(), Error> {
    let value = vec![number; bytes];
    let record =
        RecordData { key: None, value: Some(&value), headers: &[], timestamp: None, id: None };
    let mut guard = log.begin_append()?;
    let placed = guard.stage(&record, Timestamp::from_millis(1))?;
    assert_eq!(placed.offset, i64::from(number));
    assert!(guard.single_section().is_some());
    if guard.apply().wake() {
        log.write_out_some();
    }
    Ok(())
}

/// Fetches once. Checks that it returns all records appended before the call, whole and without gaps.
fn fetch(log: &Log, cursor: &mut Cursor) -> Result<usize, Error> {
    let (position, end) = (cursor.position(), log.end_offset());
    let mut fetched = Fetched::default();
    log.fetch(
        cursor,
        0,
        FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX },
        &mut fetched,
    )?;
    let mut at = 0;
    for chunk in &fetched.chunks {
        for record in &fetched.records[at..chunk.end] {
            let offset = chunk.base_offset + i64::from(record.offset_delta);
            let value = record.value.get(chunk.source.bytes()).unwrap();
            assert!(value.iter().all(|byte| i64::from(*byte) == offset), "a torn record");
            assert_eq!(offset, position + at as i64, "a gap");
            at += 1;
        }
    }
    assert_eq!(cursor.position(), position + at as i64);
    // Records deleted meanwhile may be missing at the end. The next fetch reports that.
    let whole = log.start_offset() <= position && !log.is_deleted();
    assert!(
        !whole || cursor.position() >= end,
        "the log end was {end}, but a fetch at {position} returned only {at} records"
    );
    Ok(at)
}

/// L1, L2 at the tip: a reader finds every record below the published end, and finds it whole. This holds
/// also when the open batch moves into a larger buffer.
#[test]
fn a_reader_at_the_tip_sees_whole_records() {
    check(|| {
        let log = log(16 << 10);
        let reading = {
            let log = Arc::clone(&log);
            spawn(move || {
                let mut cursor = Cursor::new(0);
                for _ in 0..2 {
                    fetch(&log, &mut cursor).unwrap();
                }
            })
        };
        for number in 0..3 {
            append(&log, number, 3000).unwrap();
        }
        reading.join().unwrap();
        assert_eq!(fetch(&log, &mut Cursor::new(0)).unwrap(), 3);
    });
}

/// L2, L3: batches move from memory to segments, and new segments enter the list, while a reader reads.
#[test]
fn a_reader_beside_a_roll_misses_nothing() {
    check(|| {
        let log = log(1);
        append(&log, 0, VALUE).unwrap();
        let reading = {
            let log = Arc::clone(&log);
            spawn(move || {
                let mut cursor = Cursor::new(0);
                for _ in 0..2 {
                    fetch(&log, &mut cursor).unwrap();
                }
            })
        };
        for number in 1..3 {
            append(&log, number, VALUE).unwrap();
        }
        reading.join().unwrap();
        assert_eq!(log.segment_ids(), [0, 1].map(SegmentId::first));
        assert_eq!(fetch(&log, &mut Cursor::new(0)).unwrap(), 3);
    });
}

/// Retention: the log start moves, a checkpoint follows, segments and files are removed. A reader below the
/// start gets `OffsetOutOfRange`, and never an error about damage or a missing file.
#[test]
fn a_reader_beside_retention_is_told_the_truth() {
    check(|| {
        let log = log(1);
        for number in 0..4 {
            append(&log, number, VALUE).unwrap();
        }
        let reading = {
            let log = Arc::clone(&log);
            spawn(move || {
                let mut cursor = Cursor::new(0);
                while cursor.position() < 4 {
                    match fetch(&log, &mut cursor) {
                        Ok(came) => assert!(came > 0),
                        Err(Error::OffsetOutOfRange { start: 2, requested: 0..2, .. }) => {
                            cursor = Cursor::new(2);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        delete_below_2(&log);
        reading.join().unwrap();
        assert_eq!(log.segment_ids(), [2, 3].map(SegmentId::first));
    });
}

/// A search by time beside retention finds the old first record or the new first record.
#[test]
fn a_search_by_time_beside_retention_finds_a_record() {
    check(|| {
        let log = log(1);
        for number in 0..4 {
            append(&log, number, VALUE).unwrap();
        }
        let searching = {
            let log = Arc::clone(&log);
            spawn(move || {
                let found = log.offset_for_time(Timestamp::from_millis(1)).unwrap();
                assert!(matches!(found, Some((0 | 2, _))), "{found:?}");
                let first = log.timestamp_at(0).unwrap();
                assert_eq!(first, Some(Timestamp::from_millis(1)));
            })
        };
        delete_below_2(&log);
        searching.join().unwrap();
    });
}

/// Deletes the first two records, and writes the checkpoint that releases their files.
fn delete_below_2(log: &Log) {
    log.delete_records(2, |_| Ok(())).unwrap();
    log.lock_for_checkpoint().freeze();
    let mut segments = log.capture().unwrap().whole().segments;
    segments.retain(|segment| segment.base_offset >= 2);
    let (start_offset, end_offset) = (2, log.end_offset());
    log.checkpointed(&LogImage {
        start_offset,
        end_offset,
        epochs: Vec::new(),
        segments,
        first_dirty_offset: None,
    });
}

/// Deletion: an append comes before it or is refused, a reader gets records or nothing, and the partition
/// accounts for no buffer afterwards.
#[test]
fn a_deletion_beside_appends_and_readers_is_clean() {
    check(|| {
        let log = log(1);
        append(&log, 0, VALUE).unwrap();
        let reading = {
            let log = Arc::clone(&log);
            spawn(move || match fetch(&log, &mut Cursor::new(0)) {
                Ok(_) | Err(Error::UnknownTopic { .. }) => {}
                Err(other) => panic!("{other:?}"),
            })
        };
        let appending = {
            let log = Arc::clone(&log);
            spawn(move || match append(&log, 1, VALUE) {
                Ok(()) | Err(Error::UnknownTopic { .. }) => {}
                Err(other) => panic!("{other:?}"),
            })
        };
        drop(log.delete());
        reading.join().unwrap();
        appending.join().unwrap();
        assert_eq!(log.shared.memory.load(Ordering::Relaxed), 0);
        assert_eq!((log.waiting_batches(), log.segment_count()), (0, 0));
    });
}
