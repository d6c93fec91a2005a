//! Segments that compaction has written: offsets may be missing in them, and nothing else may.

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::log::segment::{BatchPlace, Segment};
use crate::record::encode_record;

/// A batch of a cleaned segment: base offset, last offset, and each record's offset and timestamp.
type Described = (i64, i64, Vec<(i64, i64)>);

fn cleaned_batch((base, last, records): &Described) -> Vec<u8> {
    let mut payload = vec![0; 100 * records.len()];
    let first = records.first().map_or(0, |(_, timestamp)| *timestamp);
    let mut at = 0;
    for (offset, timestamp) in records {
        let delta = (offset - base) as i32;
        let (key, room) = (offset.to_be_bytes(), &mut payload[at..]);
        at += encode_record(room, timestamp - first, delta, Some(&key), Some(b"v"), &[]).unwrap();
    }
    payload.truncate(at);
    let header = BatchHeader {
        base_offset: *base,
        leader_epoch: EPOCH,
        count: records.len() as i32,
        last_offset_delta: (last - base) as i32,
        base_timestamp: first,
        max_timestamp: records.iter().map(|(_, timestamp)| *timestamp).max().unwrap_or(-1),
        ..BatchHeader::default()
    };
    [&seal(&header, &payload).unwrap()[..], &payload].concat()
}

/// Creates a partition with one cleaned segment, which ends at `end`.
fn cleaned(batches: &[Described], end: i64) -> World {
    let storage = Memory::crash_simulating(1);
    storage.create_dir(Path::new("t-0")).unwrap();
    let log = Log::new(identity(), shared(&storage));
    let id = SegmentId { base_offset: 0, generation: 1 };
    let segment = Arc::new(Segment::create_cleaned(log.segment_folder(), id, 64).unwrap());
    for described in batches {
        let bytes = cleaned_batch(described);
        let times = described.2.iter().map(|(_, timestamp)| *timestamp);
        let place = BatchPlace {
            bytes: bytes.len() as u64,
            end_offset: described.1 + 1,
            max_timestamp: times.max().unwrap_or(-1),
        };
        segment.append_places(&bytes, &[place]).unwrap();
    }
    segment.complete(end).unwrap();
    World { storage, images: vec![segment.image()] }
}

fn fetch_all(log: &Log, from: i64) -> Result<(Vec<i64>, i64)> {
    let (mut cursor, mut offsets) = (Cursor::new(from), Vec::new());
    let limits = FetchLimits { records: 2, bytes: 1 << 20, until: i64::MAX };
    loop {
        let (before, mut fetched) = (cursor.position(), Fetched::default());
        log.fetch(&mut cursor, 0, limits, &mut fetched)?;
        let chunk = |offset: i64, record: &FetchedRecord| offset + i64::from(record.offset_delta);
        let mut at = 0;
        for part in &fetched.chunks {
            let records = &fetched.records[at..part.end];
            offsets.extend(records.iter().map(|record| chunk(part.base_offset, record)));
            at = part.end;
        }
        if cursor.position() == before {
            return Ok((offsets, before));
        }
    }
}

fn cases(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../tests/vectors/compaction.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap().iter();
    let cases: Vec<_> = cases.filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "{kind}");
    cases
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

#[test]
fn every_position_over_holes_is_legal() {
    for case in cases("fetch") {
        let batches: Vec<Described> = case["batches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|batch| {
                let offset = |at: usize| batch[at].as_i64().unwrap();
                let records = numbers(&batch[2]).into_iter().map(|offset| (offset, 1)).collect();
                (offset(0), offset(1), records)
            })
            .collect();
        let end = batches.last().unwrap().1 + 1;
        // The last records of the segment may have gone too.
        for more in [0, 3] {
            for maps in [crate::config::ReadMode::Map, crate::config::ReadMode::Pread] {
                let world = cleaned(&batches, end + more);
                let log = world.log_with(&BrokerConfig::new().read_mode(maps));
                for expected in case["expect"].as_array().unwrap() {
                    let from = expected["from"].as_i64().unwrap();
                    let records = numbers(&expected["records"]);
                    let position = expected["position"].as_i64().unwrap() + more;
                    assert_eq!(fetch_all(&log, from).unwrap(), (records, position), "{from}");
                }
                assert_eq!(fetch_all(&log, end + more).unwrap(), (vec![], end + more));
                assert!(world.findings().is_empty(), "{:?}", world.findings());
            }
        }
    }
}

#[test]
fn a_time_is_found_behind_a_hole() {
    for case in cases("offsetsForTimes") {
        let records = case["records"].as_array().unwrap().iter().map(numbers);
        let records: Vec<_> = records.map(|pair| (pair[0], pair[1])).collect();
        let end = records.last().unwrap().0 + 1;
        let each = records.iter().map(|record| (record.0, record.0, vec![*record])).collect();
        let together = vec![(0, end - 1, records.clone())];
        for batches in [each, together] {
            let log = cleaned(&batches, end).log();
            let expected = case["expect"].as_array().unwrap();
            for (time, expected) in numbers(&case["query"]).into_iter().zip(expected) {
                let found = log.offset_for_time(Timestamp::from_millis(time)).unwrap();
                let found = found.map(|(offset, at)| vec![offset, at.as_millis()]);
                let expected = (!expected.is_null()).then(|| numbers(expected));
                assert_eq!(found, expected, "{} at {time}", case["name"]);
            }
        }
    }
}

#[test]
fn records_are_deleted_as_in_kafka() {
    for case in cases("deleteRecords") {
        if case["config"].get("cleanup.policy").is_some() {
            // The engine refuses it, before it asks the log.
            assert_eq!(case["expect"]["error"], "PolicyViolation");
            continue;
        }
        let bases = numbers(&case["log"]["segments"]);
        let world = World::of(&[1, 1, 0], 9);
        let images: Vec<_> = world.images.iter().map(|image| image.base_offset).collect();
        assert_eq!(images, bases);
        let log = world.log();
        log.start.store(case["log"]["logStart"].as_i64().unwrap(), Ordering::Release);
        assert_eq!(log.end_offset(), case["log"]["highWatermark"].as_i64().unwrap());
        let offset = match case["offset"].as_i64().unwrap() {
            // The engine makes it the log end.
            -1 => log.end_offset(),
            offset => offset,
        };
        let deleted = log.delete_records(offset, |_| Ok(()));
        if case["expect"]["error"] == "OffsetOutOfRange" {
            assert!(matches!(deleted, Err(Error::OffsetOutOfRange { .. })));
        } else {
            deleted.unwrap();
            let start = log.start_offset();
            assert!(log.remove_below(start));
            let expected = numbers(&case["expect"]["segmentsAfterRetention"]);
            let kept: Vec<_> = log.segment_ids().iter().map(|id| id.base_offset).collect();
            assert_eq!(kept, expected, "{}", case["name"]);
        }
        let start = case["expect"]["logStart"].as_i64().unwrap();
        assert_eq!(log.start_offset(), start, "{}", case["name"]);
    }
}

/// Batches of many blocks, each with one record, and every second offset missing.
fn large() -> World {
    let batches: Vec<Described> = (0..4000)
        .map(|number| (number * 2, number * 2, vec![(number * 2, 1000 + number)]))
        .collect();
    cleaned(&batches, 8000)
}

fn log_path() -> PathBuf {
    let id = SegmentId { base_offset: 0, generation: 1 };
    Path::new("t-0").join(file_name(id, Extension::Log))
}

fn flip(world: &World, at: u64) {
    let file = world.storage.open(&log_path(), OpenMode::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 4], at).unwrap();
}

/// Nothing but a checksum tells that a record of a cleaned segment is missing or another. So a wrong block is never
/// explained by a batch of it that is damaged.
#[test]
fn a_damaged_block_is_damage_whatever_is_in_it() {
    let len = large().images[0].len;
    assert!(len > 3 * BLOCK_BYTES);
    for at in [3, 20, 70, BLOCK_BYTES + 9, 2 * BLOCK_BYTES + 100, len - 1] {
        let world = large();
        flip(&world, at);
        let log = world.log();
        let damage = fetch_all(&log, 0).unwrap_err();
        assert!(matches!(&damage, Error::Corrupt(found) if found.offsets == Some((0, 7999))));
        assert!(!world.findings().is_empty(), "byte {at}");
        // Other blocks are read nevertheless.
        let (far, expected) = if at < len / 2 { (7990, 5) } else { (0, 100) };
        let mut fetched = Fetched::default();
        let limits = FetchLimits { records: expected, bytes: 1 << 20, until: i64::MAX };
        let read = log.fetch(&mut Cursor::new(far), 0, limits, &mut fetched);
        assert!(read.is_ok() && fetched.records.len() == expected, "byte {at}: {read:?}");
    }
}

/// A batch that was cut out moves those behind it, or the length no longer fits. Offsets rise nevertheless.
#[test]
fn a_batch_that_is_missing_is_noticed_by_the_checksums_alone() {
    let world = large();
    let file = world.storage.open(&log_path(), OpenMode::Write).unwrap();
    let len = world.images[0].len as usize;
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).unwrap();
    let size = len / 4000;
    bytes.drain(size..2 * size);
    file.set_len(0).unwrap();
    file.write_at(&bytes, 0).unwrap();
    assert!(fetch_all(&world.log(), 0).is_err());
    // Filled up with a batch that is a copy of the last one, or with zeros.
    for fill in [bytes[bytes.len() - size..].to_vec(), vec![0; size]] {
        let whole = [bytes.as_slice(), &fill].concat();
        file.write_at(&whole, 0).unwrap();
        assert!(fetch_all(&world.log(), 0).is_err());
        assert!(!world.findings().is_empty());
    }
}

#[test]
fn a_segment_without_batches_is_skipped() {
    let world = cleaned(&[], 12);
    let log = world.log();
    for from in [0, 5, 12] {
        assert_eq!(fetch_all(&log, from).unwrap(), (vec![], 12));
    }
    assert_eq!(log.offset_for_time(Timestamp::from_millis(0)).unwrap(), None);
    assert!(world.findings().is_empty());
    world.storage.remove(&log_path()).unwrap();
    let missing = world.log().view().segments[0].check_file();
    assert!(matches!(missing, Err(Error::MissingSegment { .. })));
}

/// Reads on up to each of these limits in turn. Returns the offsets read up to each.
fn read_in_steps(log: &Log, limits: &[i64], records: usize) -> Vec<Vec<i64>> {
    let mut cursor = Cursor::new(0);
    let read_to = |&until: &i64| {
        let mut offsets = Vec::new();
        loop {
            let (before, mut fetched) = (cursor.position(), Fetched::default());
            let limits = FetchLimits { records, bytes: 1 << 20, until };
            log.fetch(&mut cursor, 0, limits, &mut fetched).unwrap();
            let mut at = 0;
            for part in &fetched.chunks {
                let offset =
                    |record: &FetchedRecord| part.base_offset + i64::from(record.offset_delta);
                offsets.extend(fetched.records[at..part.end].iter().map(offset));
                at = part.end;
            }
            if cursor.position() == before {
                return offsets;
            }
        }
    };
    limits.iter().map(read_to).collect()
}

/// Also inside a batch, and where compaction has removed the records around the limit.
#[test]
fn no_record_is_read_from_a_limit_on_and_reading_goes_on_behind_it() {
    let holes: Vec<Described> = vec![
        (0, 19, [0, 7, 8, 19].map(|offset| (offset, 1)).to_vec()),
        (20, 29, vec![]),
        (30, 49, [33, 34, 35].map(|offset| (offset, 1)).to_vec()),
    ];
    // More records than are decoded ahead.
    let long: Vec<Described> = vec![(0, 9_099, (0..9_000).map(|offset| (offset, 1)).collect())];
    for (batches, end, steps) in [(holes, 55, [1, 3, 10]), (long, 9_105, [997, 4_000, 9_104])] {
        let offsets = batches.iter().flat_map(|(_, _, records)| records.iter().map(|(at, _)| *at));
        let offsets: Vec<i64> = offsets.collect();
        for maps in [crate::config::ReadMode::Map, crate::config::ReadMode::Pread] {
            let world = cleaned(&batches, end);
            let log = world.log_with(&BrokerConfig::new().read_mode(maps));
            for (step, records) in steps.into_iter().flat_map(|step| [(step, 2), (step, 10_000)]) {
                let limits: Vec<i64> = (0..end).step_by(step).chain([end]).collect();
                let mut before = 0;
                for (limit, read) in limits.iter().zip(read_in_steps(&log, &limits, records)) {
                    let here = offsets.iter().copied().filter(|at| (before..*limit).contains(at));
                    assert_eq!(read, here.collect::<Vec<_>>(), "{limit} by {step}");
                    before = *limit;
                }
            }
        }
    }
}
