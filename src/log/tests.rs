//! One partition over a storage in memory: what is written, damaged, and read again.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::error::CorruptReason;
use crate::record::{BatchHeader, HEADER_BYTES, encode_record, seal};
use crate::segment::{BLOCK_BYTES, Extension, file_name};
use crate::storage::{Memory, OpenMode, StorageFile};

const EPOCH: Epoch = 3;

/// A partition of segments that were written batch by batch and then given to a checkpoint.
struct World {
    storage: Memory,
    images: Vec<SegmentImage>,
}

fn shared(storage: &Memory) -> Arc<LogShared> {
    Arc::new(LogShared::new(Arc::new(storage.clone()), EPOCH, 64 << 10))
}

fn identity() -> LogIdentity {
    LogIdentity {
        number: PartitionNumber(0),
        partition: TopicPartition::new("t", 0),
        topic_id: TopicId::from_bytes([7; 16]),
        config: Arc::new(TopicConfig::new()),
    }
}

fn batch(base_offset: i64, count: i32, value: usize) -> Vec<u8> {
    let mut payload = vec![0; (value + 30) * count as usize];
    let mut at = 0;
    for delta in 0..count {
        let value = vec![(base_offset + i64::from(delta)) as u8; value];
        at += encode_record(&mut payload[at..], 0, delta, None, Some(&value), &[]).unwrap();
    }
    payload.truncate(at);
    let header = BatchHeader {
        base_offset,
        leader_epoch: EPOCH,
        count,
        last_offset_delta: count - 1,
        base_timestamp: 1000 + base_offset,
        max_timestamp: 1000 + base_offset,
        ..BatchHeader::default()
    };
    [&seal(&header, &payload).unwrap()[..], &payload].concat()
}

impl World {
    /// Segments of so many batches, of 10 records of `value` bytes each.
    fn of(segments: &[usize], value: usize) -> Self {
        let storage = Memory::new();
        storage.create_dir(Path::new("t-0")).unwrap();
        let log = Log::new(identity(), shared(&storage));
        let mut images = Vec::new();
        let mut next = 0;
        for batches in segments {
            let segment = segment::Segment::create(log.segment_folder(), next, 4096).unwrap();
            for _ in 0..*batches {
                segment.append(&batch(next, 10, value), next + 10, 1000 + next).unwrap();
                next += 10;
            }
            segment.finish().unwrap();
            images.push(segment.image());
        }
        Self { storage, images }
    }

    fn log(&self) -> Log {
        let image = LogImage {
            start_offset: 0,
            end_offset: self.images.last().unwrap().end_offset,
            epochs: vec![(EPOCH, 0)],
            segments: self.images.clone(),
        };
        Log::restore(identity(), shared(&self.storage), &image)
    }

    fn file(&self, base: i64, extension: Extension) -> Arc<dyn StorageFile> {
        let path = Path::new("t-0").join(file_name(base, extension));
        self.storage.open(&path, OpenMode::Write).unwrap()
    }

    fn bytes(&self, base: i64, extension: Extension) -> Vec<u8> {
        let file = self.file(base, extension);
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn flip(&self, base: i64, extension: Extension, at: u64) {
        let file = self.file(base, extension);
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 0x04], at).unwrap();
    }

    fn findings(&self) -> Vec<Error> {
        let log = self.log();
        let mut told = 0;
        let verified = log.verify(&mut |bytes| told += bytes);
        assert_eq!(told, verified.bytes.max(told));
        verified.findings
    }

    /// The one finding, as reason, position and offsets.
    fn finding(&self) -> (CorruptReason, u64, Option<(i64, i64)>) {
        let findings = self.findings();
        match findings.as_slice() {
            [Error::Corrupt(found)] => (found.reason, found.position, found.offsets),
            other => panic!("{other:?}"),
        }
    }
}

/// Index files that grow from one checkpoint to the next end up as if they were written at once.
#[test]
fn indexes_that_are_written_in_pieces_are_whole() {
    let whole = World::of(&[40], 1000);
    let pieces = World::of(&[], 0);
    let log = Log::new(identity(), shared(&pieces.storage));
    let segment = segment::Segment::create(log.segment_folder(), 0, 4096).unwrap();
    for number in 0..40 {
        let next = number * 10;
        segment.append(&batch(next, 10, 1000), next + 10, 1000 + next).unwrap();
        if number % 7 == 6 {
            segment.flush_side_files().unwrap();
        }
        if number == 20 {
            // Somebody removed it: what is written next begins at the beginning.
            pieces.storage.remove(&Path::new("t-0").join(file_name(0, Extension::Index))).unwrap();
        }
    }
    segment.finish().unwrap();
    for extension in [Extension::Index, Extension::TimeIndex] {
        assert!(whole.bytes(0, extension).len() > 300);
        assert_eq!(pieces.bytes(0, extension), whole.bytes(0, extension), "{extension:?}");
    }
}

mod verifying {
    use super::*;

    #[test]
    fn a_sound_log_has_no_findings() {
        let world = World::of(&[300, 2, 40], 100);
        let log = world.log();
        let verified = log.verify(&mut |_| {});
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        assert_eq!((verified.segments, verified.batches, verified.records), (3, 342, 3420));
        assert_eq!(verified.bytes, world.images.iter().map(|image| image.len).sum::<u64>());
        assert!(world.images[0].len > 4 * BLOCK_BYTES);
    }

    #[test]
    fn every_bit_of_a_batch_header_and_some_of_its_records_are_found() {
        let world = World::of(&[200, 1], 100);
        let size = batch(0, 10, 100).len() as u64;
        // In the middle of the first segment, at an index entry and behind one.
        for number in [0, 100, 101, 102, 103, 199] {
            let position = number * size;
            for at in (0..HEADER_BYTES as u64).chain([70, size - 1]) {
                world.flip(0, Extension::Log, position + at);
                let (_, found, offsets) = world.finding();
                assert_eq!(found, position, "byte {at} of batch {number}");
                let first = number as i64 * 10;
                // What is lost ends where the next index entry is.
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
        // The same offsets, lengths, epochs and valid checksums, other values.
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
        let path = |base| Path::new("t-0").join(file_name(base, Extension::Log));
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
        assert_eq!(world.finding(), (CorruptReason::Short, len - 1, Some((100, 199))));
        world.file(100, Extension::Log).set_len(len + 1).unwrap();
        assert_eq!(world.finding(), (CorruptReason::Length, len, Some((100, 199))));
        // The last one is written to: what lies behind its end is no finding.
        let world = World::of(&[10], 100);
        world.file(0, Extension::Log).set_len(world.images[0].len + 9).unwrap();
        assert!(world.findings().is_empty());
    }

    #[test]
    fn side_files_that_are_wrong_are_found_and_missing_ones_are_not() {
        for extension in [Extension::Index, Extension::TimeIndex, Extension::Sums] {
            let world = World::of(&[200, 1], 100);
            let bytes = world.bytes(0, extension);
            for at in (0..bytes.len() as u64).step_by(7) {
                world.flip(0, extension, at);
                let findings = world.findings();
                assert!(!findings.is_empty(), "byte {at} of {extension:?}");
                for finding in &findings {
                    let Error::Corrupt(found) = finding else { panic!("{finding:?}") };
                    assert_eq!(found.reason, CorruptReason::Index);
                    assert!(found.path.ends_with(file_name(0, extension)));
                }
                world.flip(0, extension, at);
            }
            let path = Path::new("t-0").join(file_name(0, extension));
            world.storage.remove(&path).unwrap();
            assert!(world.findings().is_empty(), "without {extension:?}");
        }
    }
}

mod positions {
    use super::*;

    #[test]
    fn a_position_whose_epoch_is_gone_is_told_where_the_log_parts_from_it() {
        let storage = Memory::new();
        let image = LogImage {
            start_offset: 4,
            end_offset: 40,
            epochs: vec![(2, 0), (3, 10), (6, 25)],
            segments: Vec::new(),
        };
        let log = Log::restore(identity(), shared(&storage), &image);
        for (offset, epoch, expected) in [
            // The record before is the one that was read.
            (40, Some(6), None),
            (26, Some(6), None),
            (25, Some(3), None),
            (11, Some(3), None),
            // Nothing before the log start can be told; nothing was read.
            (4, Some(99), None),
            (20, None, None),
            // Epoch 5 wrote 25 and 26, power loss took them, epoch 6 wrote others.
            (27, Some(5), Some(25)),
            // The end of the log was lost, and nothing was appended since.
            (50, Some(6), Some(40)),
            (50, None, Some(40)),
            (41, Some(7), Some(40)),
            // Epoch 3 reached further once.
            (27, Some(3), Some(25)),
            // An older copy of the folder was put back.
            (12, Some(2), Some(10)),
            (12, Some(6), Some(12)),
            (12, Some(1), Some(4)),
        ] {
            assert_eq!(log.divergence(offset, epoch), expected, "{offset} {epoch:?}");
        }
    }
}

/// An append publishes the bytes of its records and then the log end. A reader that comes in between must
/// not be brought beyond the end: its next fetch would be out of range, and begin anew at the log start.
#[test]
fn records_beyond_the_published_end_are_not_read_yet() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for value in [b"a", b"b", b"c"] {
        let mut guard = log.begin_append().unwrap();
        let record = RecordData { key: None, value: Some(value), headers: &[], timestamp: None };
        guard.stage(&record, crate::types::Timestamp::from_millis(1)).unwrap();
        assert!(guard.single_section().is_some());
        let _nothing_filled = guard.apply();
    }
    let limits = FetchLimits { records: 10, bytes: 1 << 20 };
    let mut cursor = Cursor::new(0);
    let mut read = |end: i64| {
        log.end.store(end, Ordering::Release);
        let mut fetched = Fetched::default();
        log.fetch(&mut cursor, 0, limits, &mut fetched).unwrap();
        (fetched.records.len(), cursor.position())
    };
    assert_eq!(read(1), (1, 1));
    assert_eq!(read(1), (0, 1));
    assert_eq!(read(3), (2, 3));
}
