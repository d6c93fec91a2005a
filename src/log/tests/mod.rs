//! Tests of one partition over a storage in memory: writing, damaging, and reading again.

mod appending;
mod cleaned;
mod compacting;
mod damage;
mod going_on;
mod lies;
mod positions;
mod reading;
mod recovering;
mod storing;
mod verifying;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::error::CorruptReason;
use crate::record::{BatchHeader, HEADER_BYTES, encode_record, seal};
use crate::segment::{BLOCK_BYTES, Extension, file_name};
use crate::storage::{Crash, Memory, OpenMode, StorageFile};
use crate::time::SeededRandom;
use crate::types::Timestamp;

const EPOCH: Epoch = 3;

/// A partition whose segments were written batch by batch and then checkpointed.
struct World {
    storage: Memory,
    images: Vec<SegmentImage>,
}

fn shared(storage: &Memory) -> Arc<LogShared> {
    Arc::new(LogShared::new(Arc::new(storage.clone()), EPOCH, &BrokerConfig::new()))
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
    /// Creates a segment for each entry of `segments`, which is its number of batches. Each batch has 10
    /// records of `value` bytes.
    fn of(segments: &[usize], value: usize) -> Self {
        let storage = Memory::crash_simulating(1);
        storage.create_dir(Path::new("t-0")).unwrap();
        let log = Log::new(identity(), shared(&storage));
        let mut images = Vec::new();
        let mut next = 0;
        for batches in segments {
            let segment = Segment::create(log.segment_folder(), next, 4096).unwrap();
            let segment = Arc::new(segment);
            for _ in 0..*batches {
                segment.append(&batch(next, 10, value), next + 10, 1000 + next).unwrap();
                next += 10;
            }
            segment.finish(false).unwrap();
            images.push(segment.image());
        }
        Self { storage, images }
    }

    fn log(&self) -> Log {
        self.log_with(&BrokerConfig::new())
    }

    fn log_with(&self, config: &BrokerConfig) -> Log {
        let image = LogImage {
            start_offset: 0,
            end_offset: self.images.last().unwrap().end_offset,
            epochs: vec![(EPOCH, 0)],
            segments: self.images.clone(),
            first_dirty_offset: None,
        };
        let shared = LogShared::new(Arc::new(self.storage.clone()), EPOCH, config);
        Log::restore(identity(), Arc::new(shared), &image)
    }

    fn file(&self, base: i64, extension: Extension) -> Arc<dyn StorageFile> {
        let path = Path::new("t-0").join(file_name(SegmentId::first(base), extension));
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
        let verified = log.verify(true, &mut |bytes| told += bytes);
        assert_eq!(told, verified.bytes.max(told));
        verified.findings
    }

    /// Returns the only finding, as reason, position and offsets.
    fn finding(&self) -> (CorruptReason, u64, Option<(i64, i64)>) {
        let findings = self.findings();
        match findings.as_slice() {
            [Error::Corrupt(found)] => (found.reason, found.position, found.offsets),
            other => panic!("{other:?}"),
        }
    }
}

/// Index files that grow from checkpoint to checkpoint equal index files that are written at once.
#[test]
fn indexes_that_are_written_in_pieces_are_whole() {
    let whole = World::of(&[40], 1000);
    let pieces = World::of(&[], 0);
    let log = Log::new(identity(), shared(&pieces.storage));
    let segment = Segment::create(log.segment_folder(), 0, 4096).unwrap();
    let segment = Arc::new(segment);
    for number in 0..40 {
        let next = number * 10;
        segment.append(&batch(next, 10, 1000), next + 10, 1000 + next).unwrap();
        if number % 7 == 6 {
            segment.flush_side_files().unwrap();
        }
        if number == 20 {
            // The file is removed from outside. The next write must write all entries.
            pieces
                .storage
                .remove(&Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Index)))
                .unwrap();
        }
    }
    segment.finish(false).unwrap();
    for extension in [Extension::Index, Extension::TimeIndex] {
        assert!(whole.bytes(0, extension).len() > 300);
        assert_eq!(pieces.bytes(0, extension), whole.bytes(0, extension), "{extension:?}");
    }
}

/// An append publishes the bytes of its records and then the log end. A read in between must not move the
/// reader beyond the end: its next fetch would be out of range and start again at the log start.
#[test]
fn records_beyond_the_published_end_are_not_read_yet() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for value in [b"a", b"b", b"c"] {
        let mut guard = log.begin_append().unwrap();
        let record =
            RecordData { key: None, value: Some(value), headers: &[], timestamp: None, id: None };
        guard.stage(&record, Timestamp::from_millis(1)).unwrap();
        assert!(guard.single_section().is_some());
        let _nothing_filled = guard.apply();
    }
    let limits = FetchLimits { records: 10, bytes: 1 << 20, until: i64::MAX };
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

/// A segment publishes the end offset of a batch and then its bytes. In between, readers find the batch in
/// memory, by offset and by time.
#[test]
fn a_batch_that_is_being_written_is_read_from_memory() {
    let mut shared = LogShared::new(Arc::new(Memory::new()), EPOCH, &BrokerConfig::new());
    shared.batch_size = 1;
    let log = Log::new(identity(), Arc::new(shared));
    for value in [[1; 64], [2; 64]] {
        let mut guard = log.begin_append().unwrap();
        let record =
            RecordData { key: None, value: Some(&value), headers: &[], timestamp: None, id: None };
        guard.stage(&record, Timestamp::from_millis(1)).unwrap();
        assert!(guard.single_section().is_some());
        let _not_written_out = guard.apply();
    }
    assert_eq!(log.waiting_batches(), 1);
    let image = SegmentImage {
        base_offset: 0,
        generation: 0,
        end_offset: 1,
        len: 0,
        checksum: 0,
        first_timestamp: 1,
        max_timestamp: 1,
    };
    let half_written = Segment::existing(log.segment_folder(), image, 4096);
    log.swap_view(|view| Arc::make_mut(&mut view.segments).push(Arc::new(half_written)));

    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 10, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(0), 0, limits, &mut fetched).unwrap();
    assert_eq!(fetched.records.len(), 2);
    let found = log.offset_for_time(Timestamp::from_millis(1)).unwrap();
    assert_eq!(found, Some((0, Timestamp::from_millis(1))));
}

/// If an opening is killed, its truncation of a segment may be only in the system's cache. The next opening
/// finds nothing to truncate. Once it begins another segment, the length must be final.
#[test]
fn a_cut_is_durable_before_the_next_segment_begins() {
    let world = World::of(&[2], 100);
    let hard = world.images[0].len;
    let metadata = Path::new("t-0").join(METADATA_FILE);
    let metadata = world.storage.open(&metadata, OpenMode::CreateNew).unwrap();
    metadata.write_at(write_out::metadata_text(identity().topic_id).as_bytes(), 0).unwrap();
    metadata.sync_data().unwrap();
    let file = world.file(0, Extension::Log);
    file.write_at(&[7; 50], hard).unwrap();
    file.sync_data().unwrap();
    world.storage.sync_dir(Path::new("t-0")).unwrap();
    world.storage.sync_dir(Path::new("")).unwrap();
    assert_eq!(world.log().cut_files(false).unwrap(), 50);

    let image = LogImage {
        start_offset: 0,
        end_offset: 20,
        epochs: vec![(EPOCH, 0)],
        segments: world.images.clone(),
        first_dirty_offset: None,
    };
    let config = Arc::new(TopicConfig::new().segment_bytes(1024));
    let log = Log::restore(LogIdentity { config, ..identity() }, shared(&world.storage), &image);
    assert_eq!(log.cut_files(false).unwrap(), 0);
    let value = [1; 1000];
    let mut guard = log.begin_append().unwrap();
    let record =
        RecordData { key: None, value: Some(&value), headers: &[], timestamp: None, id: None };
    guard.stage(&record, Timestamp::from_millis(5000)).unwrap();
    assert!(!guard.apply().wake());
    log.lock_for_checkpoint().freeze();
    let captured = log.capture().unwrap().whole();
    assert_eq!(captured.segments.len(), 2);
    captured.files.iter().for_each(|file| file.sync_data().unwrap());

    let survived = world.storage.crash(Crash::LoseAll, &SeededRandom::new(1));
    let path = Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Log));
    assert_eq!(survived.metadata(&path).unwrap().unwrap().1, hard);
}

/// A partition is deleted before it was settled. Its folder may already belong to the next topic of that
/// name.
#[test]
fn the_files_of_a_deleted_partition_are_not_settled() {
    let world = World::of(&[2], 100);
    let log = world.log();
    log.settle_later();
    drop(log.delete());
    let next = Path::new("t-0").join(file_name(SegmentId::first(777), Extension::Log));
    world.storage.open(&next, OpenMode::CreateNew).unwrap();
    assert!(matches!(log.begin_append(), Err(Error::UnknownTopic { .. })));
    assert!(world.storage.metadata(&next).unwrap().is_some());
}
