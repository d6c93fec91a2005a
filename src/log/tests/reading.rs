//! Reading sound, damaged, foreign and missing segments.

use std::ops::Range;

use super::*;
use crate::config::ReadMode;

const MODES: [ReadMode; 2] = [ReadMode::Map, ReadMode::Pread];

/// Reads from `from` on, up to the end or the first error. Returns offsets and first value bytes.
fn read(log: &Log, from: i64) -> (Vec<(i64, u8)>, Option<Error>) {
    let mut cursor = Cursor::new(from);
    let mut all = Vec::new();
    while cursor.position() < log.end_offset() {
        let mut fetched = Fetched::default();
        let limits = FetchLimits { records: 7, bytes: usize::MAX, until: i64::MAX };
        if let Err(error) = log.fetch(&mut cursor, 0, limits, &mut fetched) {
            assert!(fetched.records.is_empty());
            return (all, Some(error));
        }
        let mut at = 0;
        for chunk in &fetched.chunks {
            for record in &fetched.records[at..chunk.end] {
                let value = record.value.get(chunk.source.bytes()).unwrap();
                all.push((chunk.base_offset + i64::from(record.offset_delta), value[0]));
            }
            at = chunk.end;
        }
    }
    (all, None)
}

fn expected(range: Range<i64>) -> Vec<(i64, u8)> {
    range.map(|offset| (offset, offset as u8)).collect()
}

fn damage(error: Option<Error>) -> (CorruptReason, u64, Option<(i64, i64)>) {
    match error {
        Some(Error::Corrupt(found)) => (found.reason, found.position, found.offsets),
        other => panic!("{other:?}"),
    }
}

/// Returns a file with the same offsets, epochs and lengths, with valid checksums, and with other values in
/// the first `batches` batches.
fn foreign(world: &World, base: i64, batches: usize) -> Vec<u8> {
    let mut bytes = world.bytes(base, Extension::Log);
    let size = batch(base, 10, 100).len();
    for number in 0..batches {
        let place = number * size..(number + 1) * size;
        let mut header = BatchHeader::parse(&bytes[place.clone()]).unwrap();
        let other = batch(header.base_offset + 10, 10, 100);
        header.length = 0;
        let payload = &other[HEADER_BYTES..];
        let sealed = seal(&header, payload).unwrap();
        bytes[place].copy_from_slice(&[&sealed[..], payload].concat());
    }
    bytes
}

#[test]
fn both_modes_read_the_same_from_every_offset() {
    let world = World::of(&[150, 3, 40], 100);
    for mode in MODES {
        let log = world.log_with(&BrokerConfig::new().read_mode(mode));
        for from in (0..1930).step_by(13) {
            let (seen, error) = read(&log, from);
            assert!(error.is_none() && seen == expected(from..1930), "{from} {mode:?}");
        }
    }
}

/// Kafka's checksum does not cover the leader epoch. The sum of the block does, and the epoch shows which
/// batch of the block is damaged.
#[test]
fn a_batch_of_another_epoch_is_named_and_those_before_it_are_read() {
    for mode in MODES {
        let world = World::of(&[4], 100);
        let log = world.log_with(&BrokerConfig::new().read_mode(mode));
        let size = batch(0, 10, 100).len() as u64;
        world.flip(0, Extension::Log, 2 * size + 15);
        let (seen, error) = read(&log, 0);
        assert_eq!(seen, expected(0..20), "{mode:?}");
        assert_eq!(damage(error), (CorruptReason::Epoch, 2 * size, Some((20, 29))), "{mode:?}");
    }
}

#[test]
fn a_foreign_segment_is_refused_however_right_it_looks_and_the_others_are_read() {
    for (mode, batches) in MODES.into_iter().zip([200, 1]) {
        let world = World::of(&[200, 200, 2], 100);
        let bytes = foreign(&world, 2000, batches);
        world.file(2000, Extension::Log).write_at(&bytes, 0).unwrap();
        let log = world.log_with(&BrokerConfig::new().read_mode(mode));
        let (seen, error) = read(&log, 0);
        assert_eq!(seen, expected(0..2000));
        assert_eq!(damage(error), (CorruptReason::Checksum, 0, Some((2000, 3999))));
        assert_eq!(read(&log, 4000).0, expected(4000..4020));
        // Only the first block is foreign. The others are read.
        if batches == 1 {
            let (seen, error) = read(&log, 3500);
            assert!(error.is_none() && seen == expected(3500..4020));
        }
    }
}

#[test]
fn the_sums_of_a_foreign_segment_do_not_help_it() {
    for with_sums in [false, true] {
        let world = World::of(&[200, 2], 100);
        let other = World::of(&[200, 2], 100);
        let bytes = foreign(&other, 0, 200);
        let file = other.file(0, Extension::Log);
        file.write_at(&bytes, 0).unwrap();
        world.file(0, Extension::Log).write_at(&bytes, 0).unwrap();
        let mut sums = crate::segment::Sums::new();
        sums.push(&bytes);
        let (entries, at) = sums.encode_entries(0);
        let path = Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Sums));
        if with_sums {
            world.file(0, Extension::Sums).write_at(&entries, at).unwrap();
            world.file(0, Extension::Sums).write_at(&sums.encode_header(), 0).unwrap();
        } else {
            world.storage.remove(&path).unwrap();
        }
        let (seen, error) = read(&world.log(), 0);
        assert_eq!(seen, []);
        assert_eq!(damage(error), (CorruptReason::Checksum, 0, Some((0, 1999))));
        assert_eq!(read(&world.log(), 2000).0, expected(2000..2020));
    }
}

#[test]
fn sums_that_are_missing_or_damaged_change_nothing() {
    let world = World::of(&[200, 200], 100);
    let path = Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Sums));
    for at in 0..world.bytes(0, Extension::Sums).len() as u64 {
        world.flip(0, Extension::Sums, at);
        assert_eq!(read(&world.log(), 0).0, expected(0..4000), "byte {at}");
        world.flip(0, Extension::Sums, at);
    }
    world.storage.remove(&path).unwrap();
    for mode in MODES {
        let log = world.log_with(&BrokerConfig::new().read_mode(mode));
        assert_eq!(read(&log, 0).0, expected(0..4000));
    }
    // Damage to a batch is still attributed to that batch.
    let size = batch(0, 10, 100).len() as u64;
    world.flip(0, Extension::Log, 70 * size + 80);
    let (seen, error) = read(&world.log(), 0);
    assert_eq!(seen, expected(0..700));
    assert_eq!(damage(error), (CorruptReason::Checksum, 70 * size, Some((700, 709))));
    assert_eq!(read(&world.log(), 710).0, expected(710..4000));
}

#[test]
fn a_missing_short_or_long_segment_is_told_with_its_offsets_and_the_others_are_read() {
    for mode in MODES {
        let world = World::of(&[10, 10, 10], 100);
        let len = world.images[1].len;
        let config = BrokerConfig::new().read_mode(mode);
        let last = len - batch(190, 10, 100).len() as u64;
        for (cut, reason, position, first) in
            [(len - 1, CorruptReason::Short, last, 190), (len + 1, CorruptReason::Length, len, 100)]
        {
            world.file(100, Extension::Log).set_len(cut).unwrap();
            let log = world.log_with(&config);
            let (seen, error) = read(&log, 0);
            assert_eq!(seen, expected(0..first));
            assert_eq!(damage(error), (reason, position, Some((first, 199))));
            assert_eq!(read(&log, 200).0, expected(200..300));
        }
        let path = Path::new("t-0").join(file_name(SegmentId::first(100), Extension::Log));
        world.storage.remove(&path).unwrap();
        let (_, error) = read(&world.log_with(&config), 150);
        assert!(matches!(error, Some(Error::MissingSegment { offsets: (100, 199), .. })));
    }
}

#[test]
fn appended_batches_are_vouched_for_as_well() {
    let world = World::of(&[100], 100);
    let log = world.log();
    let view = log.view();
    let active = view.segments.last().unwrap();
    for next in (1000..2000).step_by(10) {
        active.append(&batch(next, 10, 100), next + 10, 1000 + next).unwrap();
    }
    active.finish(true).unwrap();
    let world = World { images: vec![active.image()], ..world };
    assert!(world.findings().is_empty());
    assert_eq!(read(&world.log(), 0).0, expected(0..2000));
    let bytes = foreign(&world, 0, 200);
    world.file(0, Extension::Log).write_at(&bytes, 0).unwrap();
    assert_eq!(read(&world.log(), 1500).0, []);
}

#[test]
fn a_limited_number_of_segments_stays_open_and_records_keep_their_bytes() {
    for mode in MODES {
        let world = World::of(&[2; 100], 10);
        let log = world.log_with(&BrokerConfig::new().read_mode(mode).max_open_files(64));
        let mut first = Fetched::default();
        let limits = FetchLimits { records: 1, bytes: 1, until: i64::MAX };
        log.fetch(&mut Cursor::new(0), 0, limits, &mut first).unwrap();
        for _ in 0..2 {
            assert_eq!(read(&log, 0).0, expected(0..2000));
            assert!(log.shared.reads.open() <= 16, "{}", log.shared.reads.open());
        }
        let view = log.view();
        let open = view.segments.iter().filter(|segment| segment.has_reader()).count();
        assert_eq!(open, 16);
        let value = first.records[0].value.get(first.chunks[0].source.bytes());
        assert_eq!(value, Some(&[0; 10][..]));
    }
}

/// A fetch takes records as long as those before them have fewer bytes than the limit, wherever in a batch it
/// begins.
#[test]
fn limits_hold_inside_a_batch_as_between_batches() {
    let world = World::of(&[3], 100);
    let size = (batch(0, 10, 100).len() - HEADER_BYTES).div_ceil(10);
    for mode in MODES {
        let log = world.log_with(&BrokerConfig::new().read_mode(mode));
        for (first, bytes) in
            (0..14).flat_map(|first| (0..3_600).step_by(19).map(move |b| (first, b)))
        {
            let mut cursor = Cursor::new(0);
            let mut fetched = Fetched::default();
            if first > 0 {
                let limits = FetchLimits { records: first, bytes: usize::MAX, until: i64::MAX };
                log.fetch(&mut cursor, 0, limits, &mut fetched).unwrap();
            }
            let mut fetched = Fetched::default();
            let limits = FetchLimits { records: usize::MAX, bytes, until: i64::MAX };
            log.fetch(&mut cursor, 0, limits, &mut fetched).unwrap();
            let expected = bytes.div_ceil(size).clamp(1, 30 - first);
            assert_eq!(fetched.records.len(), expected, "{bytes} bytes after {first} records");
            assert_eq!(fetched.bytes, expected * size);
            assert_eq!(cursor.position(), (first + expected) as i64);
        }
    }
}

/// The checksum of a batch that spans blocks is computed along with their sums.
#[test]
fn a_flip_anywhere_in_a_batch_of_several_blocks_is_told() {
    let size = batch(0, 10, 20_000).len() as u64;
    assert!(size > 3 * BLOCK_BYTES);
    for (number, at) in (21..size).step_by(19_991).enumerate() {
        let world = World::of(&[3], 20_000);
        let log = world.log_with(&BrokerConfig::new().read_mode(MODES[number % 2]));
        world.flip(0, Extension::Log, size + at);
        let (seen, error) = read(&log, 0);
        assert_eq!(seen, expected(0..10), "byte {at}");
        assert_eq!(damage(error), (CorruptReason::Checksum, size, Some((10, 19))), "byte {at}");
        assert_eq!(read(&log, 20).0, expected(20..30), "byte {at}");
    }
}

/// A reader checks each batch, whoever checked its block before. What happens to a mapped file meanwhile is
/// noticed.
#[cfg(all(unix, not(miri)))]
#[test]
fn a_block_that_was_checked_before_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(crate::storage::Disk::open(folder.path()).unwrap());
    storage.create_dir(Path::new("t-0")).unwrap();
    let shared = || Arc::new(LogShared::new(Arc::clone(&storage), EPOCH, &BrokerConfig::new()));
    let log = Log::new(identity(), shared());
    let segment = Arc::new(Segment::create(log.segment_folder(), 0, 4096).unwrap());
    for next in (0..2_000).step_by(10) {
        segment.append(&batch(next, 10, 100), next + 10, 1000 + next).unwrap();
    }
    segment.finish(false).unwrap();
    let image = LogImage {
        start_offset: 0,
        end_offset: 2_000,
        epochs: vec![(EPOCH, 0)],
        segments: vec![segment.image()],
        first_dirty_offset: None,
    };
    let size = batch(0, 10, 100).len() as u64;
    let in_block = 30;
    assert!((in_block + 1) * size < BLOCK_BYTES);
    let log = Log::restore(identity(), shared(), &image);
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 7, bytes: usize::MAX, until: i64::MAX };
    log.fetch(&mut Cursor::new(0), 0, limits, &mut fetched).unwrap();

    let file = segment.file().unwrap();
    let mut byte = [0];
    let at = in_block * size + 80;
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 4], at).unwrap();
    let (seen, error) = read(&log, 0);
    assert_eq!(seen, expected(0..300));
    assert_eq!(damage(error), (CorruptReason::Checksum, in_block * size, Some((300, 309))));
    assert_eq!(read(&log, 310).0, expected(310..2_000));
}
