//! Ranges of lost offsets. Readers and `verify` report the same ranges, and a reader that seeks past one can
//! continue.

use std::ops::Range;

use super::*;
use crate::config::ReadMode;
use crate::time::Random;

const MODES: [ReadMode; 2] = [ReadMode::Map, ReadMode::Pread];
/// The records read: each offset, and the first byte of the value.
type Seen = Vec<(i64, u8)>;

/// Reads from `from` on, up to the end or the first error, a few records at a time.
fn read(log: &Log, from: i64) -> (Seen, Option<Error>) {
    let mut cursor = Cursor::new(from);
    let mut seen = Vec::new();
    while cursor.position() < log.end_offset() {
        let mut fetched = Fetched::default();
        let limits = FetchLimits { records: 7, bytes: usize::MAX, until: i64::MAX };
        if let Err(error) = log.fetch(&mut cursor, 0, limits, &mut fetched) {
            assert!(fetched.records.is_empty());
            return (seen, Some(error));
        }
        let mut at = 0;
        for chunk in &fetched.chunks {
            for record in &fetched.records[at..chunk.end] {
                let value = record.value.get(chunk.source.bytes()).unwrap();
                seen.push((chunk.base_offset + i64::from(record.offset_delta), value[0]));
            }
            at = chunk.end;
        }
    }
    (seen, None)
}

fn expected(range: Range<i64>) -> Seen {
    range.map(|offset| (offset, offset as u8)).collect()
}

fn offsets_of(error: &Error) -> (i64, i64) {
    match error {
        Error::Corrupt(damage) => damage.offsets.expect("damage is reported with its offsets"),
        other => panic!("{other:?}"),
    }
}

/// Reads all readable records from `from` on, and seeks past each range that is reported as lost.
fn salvage(log: &Log, from: i64) -> (Seen, Vec<(i64, i64)>) {
    let (mut position, mut all, mut lost) = (from, Vec::new(), Vec::new());
    loop {
        let (seen, error) = read(log, position);
        let reached = seen.last().map_or(position, |(offset, _)| offset + 1);
        all.extend(seen);
        let Some(error) = error else { return (all, lost) };
        let (first, last) = offsets_of(&error);
        assert!(first <= reached && reached <= last, "{error} does not contain {reached}");
        lost.push((first, last));
        position = last + 1;
        assert!(lost.len() <= 1_000, "{error}");
    }
}

fn verified(log: &Log) -> Vec<(i64, i64)> {
    let findings = log.verify(false, &mut |_| {}).findings;
    let is_log = |error: &&Error| matches!(error, Error::Corrupt(damage) if damage.path.extension().is_some_and(|e| e == "log"));
    findings.iter().filter(is_log).map(offsets_of).collect()
}

fn remove(world: &World, extensions: &[Extension]) {
    for extension in extensions {
        world
            .storage
            .remove(&Path::new("t-0").join(file_name(SegmentId::first(0), *extension)))
            .unwrap();
    }
}

fn flip(world: &World, at: u64, bit: u32) {
    let file = world.file(0, Extension::Log);
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

/// Each damaged bit of a header loses the batch's ten records. Only damage to the length loses more records,
/// and most of all without an index.
#[test]
fn every_bit_of_a_header_is_told_with_the_offsets_that_are_lost() {
    let side_files: [&[Extension]; 4] = [
        &[],
        &[Extension::Sums],
        &[Extension::Index, Extension::TimeIndex],
        &[Extension::Index, Extension::TimeIndex, Extension::Sums],
    ];
    let size = batch(0, 10, 100).len() as u64;
    for without in side_files {
        let world = World::of(&[60, 2], 100);
        remove(&world, without);
        let has_index = !without.contains(&Extension::Index);
        for (byte, bit) in (0..HEADER_BYTES as u64).flat_map(|byte| (0..8).map(move |b| (byte, b)))
        {
            let what = format!("bit {bit} of byte {byte} without {without:?}");
            flip(&world, 30 * size + byte, bit);
            let told = verified(&world.log());
            let [(first, last)] = told[..] else { panic!("{what}: {told:?}") };
            let in_length = (8..12).contains(&byte);
            assert_eq!(first, 300, "{what}");
            let most = match (in_length, has_index) {
                (false, _) => 309,
                (true, true) => 349,
                (true, false) => 599,
            };
            assert!((309..=most).contains(&last), "{what}: {last}");
            for mode in MODES {
                let log = world.log_with(&BrokerConfig::new().read_mode(mode));
                let (seen, error) = read(&log, 0);
                assert!(seen == expected(0..300), "{what} {mode:?}: {} records", seen.len());
                assert_eq!(offsets_of(&error.unwrap()), (first, last), "{what} {mode:?}");
                // A reader that starts inside the range reports the same. One that starts after it continues.
                let (_, error) = read(&log, 305);
                assert_eq!(offsets_of(&error.unwrap()), (first, last), "{what} {mode:?}");
                for log in [log, world.log_with(&BrokerConfig::new().read_mode(mode))] {
                    let (seen, error) = read(&log, last + 1);
                    assert!(error.is_none(), "{what} {mode:?}: {error:?}");
                    assert!(seen == expected(last + 1..620), "{what} {mode:?}");
                }
            }
            flip(&world, 30 * size + byte, bit);
        }
    }
}

/// With several damaged bits anywhere, no delivered record is wrong, every record outside the reported ranges
/// is read, and `verify` reports the same ranges.
#[test]
fn what_is_in_no_reported_range_is_read_whatever_is_damaged() {
    let size = batch(0, 10, 100).len() as u64;
    for seed in 0..400 {
        let random = SeededRandom::new(seed);
        let world = World::of(&[60, 2], 100);
        if seed % 3 == 0 {
            remove(&world, &[Extension::Index]);
        }
        if seed % 5 == 0 {
            remove(&world, &[Extension::Sums]);
        }
        for _ in 0..=random.next_u64() % 5 {
            // Damage mostly headers, and mostly close to each other.
            let batch = 20 + random.next_u64() % if seed % 2 == 0 { 10 } else { 40 };
            let byte = random.next_u64() % if seed % 7 == 0 { size } else { HEADER_BYTES as u64 };
            flip(&world, batch * size + byte, (random.next_u64() % 8) as u32);
        }
        for mode in MODES {
            let log = world.log_with(&BrokerConfig::new().read_mode(mode));
            let (seen, lost) = salvage(&log, 0);
            let is_lost =
                |offset: i64| lost.iter().any(|(first, last)| (*first..=*last).contains(&offset));
            let right: Seen = expected(0..620).into_iter().filter(|(o, _)| !is_lost(*o)).collect();
            assert!(seen == right, "seed {seed}, {mode:?}: lost {lost:?}");
            assert_eq!(verified(&log), lost, "seed {seed}, {mode:?}");
        }
    }
}

/// Returns a segment of another topic with the same base offset and the same size.
fn foreign(base: i64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = base;
    while len - bytes.len() > 4_000 {
        bytes.extend(batch(next, 7, 300));
        next += 7;
    }
    let rest = len - bytes.len();
    let value = (0..rest).find(|value| batch(next, 1, *value).len() == rest).unwrap();
    bytes.extend(batch(next, 1, value));
    bytes
}

#[test]
fn a_seek_behind_the_range_gets_through_a_foreign_segment_from_any_offset() {
    for with_index in [true, false] {
        let world = World::of(&[20, 200, 20], 100);
        let len = world.images[1].len as usize;
        world.file(200, Extension::Log).write_at(&foreign(200, len), 0).unwrap();
        if !with_index {
            let index = Path::new("t-0").join(file_name(SegmentId::first(200), Extension::Index));
            world.storage.remove(&index).unwrap();
        }
        for mode in MODES {
            let log = world.log_with(&BrokerConfig::new().read_mode(mode));
            for from in (0..2_400).step_by(11) {
                let (seen, lost) = salvage(&log, from);
                assert!(lost.len() <= 2, "from {from}: {lost:?}");
                assert!(lost.iter().all(|(_, last)| *last <= 2_199), "from {from}: {lost:?}");
                let behind: Seen =
                    seen.into_iter().filter(|(offset, _)| *offset >= 2_200).collect();
                assert_eq!(behind, expected(from.max(2_200)..2_400), "from {from}");
            }
        }
    }
}

#[test]
fn of_a_segment_that_was_cut_all_whole_batches_are_read() {
    let size = batch(0, 10, 100).len() as u64;
    let len = 80 * size;
    let cuts = (len - size..len).step_by(97).chain([len - 1, len - size - 1, 70 * size + 5, 61, 0]);
    for cut in cuts {
        let world = World::of(&[80, 2], 100);
        world.file(0, Extension::Log).set_len(cut).unwrap();
        let whole = (cut / size) as i64 * 10;
        for mode in MODES {
            let log = world.log_with(&BrokerConfig::new().read_mode(mode));
            let (seen, error) = read(&log, 0);
            assert!(seen == expected(0..whole), "cut to {cut}, {mode:?}: {} records", seen.len());
            assert_eq!(offsets_of(&error.unwrap()), (whole, 799), "cut to {cut}, {mode:?}");
            let (_, error) = read(&log, 795);
            assert_eq!(offsets_of(&error.unwrap()), (whole, 799), "cut to {cut}, {mode:?}");
            assert_eq!(read(&log, 800).0, expected(800..820));
            assert_eq!(verified(&log), [(whole, 799)], "cut to {cut}");
            // Opening reports the same range, and reads only the end of the segment.
            let damage = log.view().segments[0].check_file().unwrap_err();
            assert_eq!(offsets_of(&damage), (whole, 799), "cut to {cut}");
        }
    }
}
