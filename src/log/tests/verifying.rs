//! The findings of verifying.

use super::*;

#[test]
fn a_sound_log_has_no_findings() {
    let world = World::of(&[300, 2, 40], 100);
    let log = world.log();
    let verified = log.verify(true, &mut |_| {});
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert_eq!((verified.segments, verified.batches, verified.records), (3, 342, 3420));
    assert_eq!(verified.bytes, world.images.iter().map(|image| image.len).sum::<u64>());
    assert!(world.images[0].len > 4 * BLOCK_BYTES);
}

#[test]
fn every_bit_of_a_batch_header_and_some_of_its_records_are_found() {
    let world = World::of(&[200, 1], 100);
    let size = batch(0, 10, 100).len() as u64;
    // At the start, in the middle and at the end of the first segment, at and after an index entry.
    for number in [0, 100, 101, 102, 103, 199] {
        let position = number * size;
        for at in (0..HEADER_BYTES as u64).chain([70, size - 1]) {
            world.flip(0, Extension::Log, position + at);
            let (_, found, offsets) = world.finding();
            assert_eq!(found, position, "byte {at} of batch {number}");
            let first = number as i64 * 10;
            // The lost range ends at the next index entry at the latest.
            let (lost, last) = offsets.unwrap();
            assert_eq!(lost, first, "byte {at} of batch {number}");
            assert!((first + 9..first + 60).contains(&last), "byte {at}: {last}");
            world.flip(0, Extension::Log, position + at);
        }
    }
}

#[test]
fn what_lies_behind_damage_is_verified_too() {
    let world = World::of(&[200], 100);
    let size = batch(0, 10, 100).len() as u64;
    world.flip(0, Extension::Log, 8);
    world.flip(0, Extension::Log, 150 * size + 99);
    let positions: Vec<u64> = world
        .findings()
        .iter()
        .map(|finding| match finding {
            Error::Corrupt(found) => found.position,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(positions, [0, 150 * size]);
}

#[test]
fn another_file_in_the_place_of_a_segment_is_found() {
    let world = World::of(&[100, 100, 1], 100);
    let other = World::of(&[100, 100, 1], 100);
    // The same offsets, lengths and epochs, valid checksums, and other values.
    let foreign = batch(500, 10, 100);
    let mut changed = other.bytes(0, Extension::Log);
    let payload = HEADER_BYTES..foreign.len();
    changed[payload.clone()].copy_from_slice(&foreign[payload.clone()]);
    let header = BatchHeader::parse(&changed).unwrap();
    let sealed = seal(&header, &changed[payload]).unwrap();
    changed[..HEADER_BYTES].copy_from_slice(&sealed);
    world.file(0, Extension::Log).write_at(&changed, 0).unwrap();
    assert_eq!(world.finding(), (CorruptReason::Checksum, 0, None));

    let world = World::of(&[100, 100, 1], 100);
    let second = world.bytes(1000, Extension::Log);
    world.file(0, Extension::Log).write_at(&second, 0).unwrap();
    assert!(!world.findings().is_empty());
}

#[test]
fn a_missing_short_or_long_segment_is_found_with_its_offsets() {
    let path = |base| Path::new("t-0").join(file_name(SegmentId::first(base), Extension::Log));
    let world = World::of(&[10, 10, 10], 100);
    world.storage.remove(&path(100)).unwrap();
    let findings = world.findings();
    let [Error::MissingSegment { offsets: (100, 199), path: found }] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert!(found.ends_with(path(100)));

    let world = World::of(&[10, 10, 10], 100);
    let len = world.images[1].len;
    world.file(100, Extension::Log).set_len(len - 1).unwrap();
    let last = len - batch(190, 10, 100).len() as u64;
    assert_eq!(world.finding(), (CorruptReason::Short, last, Some((190, 199))));
    world.file(100, Extension::Log).set_len(len + 1).unwrap();
    assert_eq!(world.finding(), (CorruptReason::Length, len, Some((100, 199))));
    // The last segment is being written to. Bytes after its end are no finding.
    let world = World::of(&[10], 100);
    world.file(0, Extension::Log).set_len(world.images[0].len + 9).unwrap();
    assert!(world.findings().is_empty());
}

#[test]
fn side_files_that_are_wrong_or_missing_are_found() {
    for extension in [Extension::Index, Extension::TimeIndex, Extension::Sums] {
        let world = World::of(&[200, 1], 100);
        let bytes = world.bytes(0, extension);
        for at in (0..bytes.len() as u64).step_by(7) {
            world.flip(0, extension, at);
            let findings = world.findings();
            assert!(!findings.is_empty(), "byte {at} of {extension:?}");
            for finding in &findings {
                let Error::Corrupt(found) = finding else { panic!("{finding:?}") };
                let sums = extension == Extension::Sums;
                let reason = if sums { CorruptReason::Sums } else { CorruptReason::Index };
                assert_eq!(found.reason, reason);
                assert!(found.path.ends_with(file_name(SegmentId::first(0), extension)));
            }
            world.flip(0, extension, at);
        }
        let path = Path::new("t-0").join(file_name(SegmentId::first(0), extension));
        world.storage.remove(&path).unwrap();
        assert_eq!(world.finding(), (CorruptReason::Absent, 0, None), "without {extension:?}");
        let log = world.log();
        assert!(log.rebuild_side_files(&world.storage.display_path(&path)).unwrap());
        assert!(world.findings().is_empty(), "rebuilt {extension:?}");
    }
}

/// The side files of the last segment need not exist while it grows, and a small segment needs none.
#[test]
fn side_files_that_need_not_be_there_yet_are_not_missed() {
    let world = World::of(&[1, 200], 100);
    for extension in [Extension::Index, Extension::TimeIndex, Extension::Sums] {
        let path = Path::new("t-0").join(file_name(SegmentId::first(10), extension));
        world.storage.remove(&path).unwrap();
    }
    assert!(world.log().verify(false, &mut |_| {}).findings.is_empty());
    assert_eq!(world.log().verify(true, &mut |_| {}).findings.len(), 3);
}

/// A crash leaves the side files of the last segment as the last checkpoint wrote them, or removes them.
#[test]
fn side_files_that_a_crash_left_incomplete_are_completed_at_the_next_close() {
    let world = World::of(&[1, 200], 100);
    for extension in [Extension::Index, Extension::TimeIndex, Extension::Sums] {
        let path = Path::new("t-0").join(file_name(SegmentId::first(10), extension));
        world.storage.remove(&path).unwrap();
    }
    let log = world.log();
    assert!(!log.finish().unwrap());
    log.cut_files(false).unwrap();
    assert!(log.finish().unwrap());
    assert!(world.findings().is_empty(), "{:?}", world.findings());
}

/// Verifying reads a MiB at a time. Batches and their headers may lie across that border.
#[test]
fn batches_across_the_pieces_that_are_read_are_whole() {
    let piece = 1 << 20;
    let size_of = |value| batch(0, 10, value).len() as u64;
    let behind = |value: &usize| piece % size_of(*value);
    // One value size puts the border inside the records of a batch, the other inside a header.
    let in_header = (1_000..2_000).find(|value| (1..60).contains(&behind(value))).unwrap();
    for value in [1_000, in_header] {
        let world = World::of(&[300], value);
        let log = world.log();
        let verified = log.verify(true, &mut |_| {});
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        assert_eq!((verified.batches, verified.records), (300, 3_000));
        let size = size_of(value);
        for border in (piece..world.images[0].len).step_by(piece as usize) {
            let position = border / size * size;
            world.flip(0, Extension::Log, position + 70);
            assert_eq!(world.finding().1, position);
            world.flip(0, Extension::Log, position + 70);
            // A length that reaches beyond the end of the file is damage, not a batch to wait for.
            world.flip(0, Extension::Log, position + 8);
            let (reason, found, _) = world.finding();
            assert_eq!((reason, found), (CorruptReason::Length, position));
            world.flip(0, Extension::Log, position + 8);
        }
    }
}

#[test]
fn offsets_beyond_the_segments_end_are_found() {
    let mut world = World::of(&[3], 100);
    world.images[0].end_offset = 25;
    let (reason, position, _) = world.finding();
    assert_eq!((reason, position), (CorruptReason::Offsets, 2 * batch(0, 10, 100).len() as u64));
}
