//! Recovery from sections, folders and side files that do not match.

use super::*;

pub(super) fn section(base_offset: i64, first_delta: u32) -> AppendSection {
    AppendSection {
        partition: PartitionNumber(0),
        count: 1,
        base_offset,
        base_timestamp: 1000,
        max_timestamp: 1000,
        first_delta,
        timestamp_type: TimestampType::CreateTime,
    }
}

pub(super) fn record(delta: i32) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    let len = encode_record(&mut bytes, 0, delta, None, Some(&[delta as u8]), &[]).unwrap();
    bytes.truncate(len);
    bytes
}

fn count(log: &Log) -> usize {
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(log.start_offset()), 0, limits, &mut fetched).unwrap();
    fetched.records.len()
}

#[test]
fn sections_follow_each_other_or_are_damage() {
    let log = Log::new(identity(), shared(&Memory::new()));
    let refused = |section: AppendSection, epoch| {
        let end = log.end_offset();
        let result = log.replay(&section, &record(section.first_delta as i32), epoch);
        assert_eq!(result, Err(CorruptReason::Offsets), "{section:?}");
        assert_eq!((log.end_offset(), count(&log) as i64), (end, end));
    };
    // Not at the log end; inside a batch that was never begun.
    refused(section(5, 0), EPOCH);
    refused(section(-1, 1), EPOCH);
    log.replay(&section(0, 0), &record(0), EPOCH).unwrap();
    refused(section(0, 0), EPOCH);
    refused(section(0, 2), EPOCH);
    // The batch of an earlier opening is not continued.
    refused(section(0, 1), EPOCH + 1);
    log.replay(&section(0, 1), &record(1), EPOCH).unwrap();
    log.replay(&section(2, 0), &record(0), EPOCH + 1).unwrap();
    assert_eq!((log.end_offset(), count(&log)), (3, 3));
    assert_eq!(log.epochs(), [(EPOCH, 0), (EPOCH + 1, 2)]);
}

#[test]
fn a_log_start_moves_within_the_log_and_never_back() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for offset in 0..3 {
        log.replay(&section(offset, 0), &record(0), EPOCH).unwrap();
    }
    log.replay_start(2).unwrap();
    for start in [-1, 1, 4, i64::MAX] {
        assert_eq!(log.replay_start(start), Err(CorruptReason::Offsets), "{start}");
        assert_eq!(log.start_offset(), 2);
    }
    log.replay_start(3).unwrap();
    assert_eq!(count(&log), 0);
}

#[test]
fn a_new_opening_begins_a_new_batch() {
    let log = Log::new(identity(), shared(&Memory::new()));
    for epoch in [EPOCH, EPOCH, EPOCH + 1] {
        log.shared.epoch.store(epoch, Ordering::Relaxed);
        append(&log, b"value").unwrap();
    }
    assert_eq!(log.epochs(), [(EPOCH, 0), (EPOCH + 1, 2)]);
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(0), 0, limits, &mut fetched).unwrap();
    let batches: Vec<_> = fetched.chunks.iter().map(|c| (c.base_offset, c.epoch)).collect();
    assert_eq!(batches, [(0, EPOCH), (2, EPOCH + 1)]);
}

fn append(log: &Log, value: &[u8]) -> Result<()> {
    let mut guard = log.begin_append()?;
    let record =
        RecordData { key: None, value: Some(value), headers: &[], timestamp: None, id: None };
    guard.stage(&record, Timestamp::from_millis(1))?;
    assert!(guard.single_section().is_some());
    let _nothing_filled = guard.apply();
    Ok(())
}

#[derive(Debug)]
struct Sleeper;

impl Wake for Sleeper {
    fn wake(&self) {}
}

#[test]
fn nothing_is_appended_to_a_deleted_partition_and_nobody_sleeps_on_it() {
    let log = Log::new(identity(), shared(&Memory::new()));
    append(&log, b"value").unwrap();
    let sleeper: Arc<dyn Wake> = Arc::new(Sleeper);
    assert!(!log.sleep_on(0, &sleeper), "there is a record");
    assert!(log.sleep_on(1, &sleeper));
    drop(log.delete());
    assert!(matches!(append(&log, b"late"), Err(Error::UnknownTopic { .. })));
    assert!(!log.sleep_on(1, &sleeper));
    assert_eq!(log.end_offset(), 1);
}

/// Hazard H9: the folder may belong to another topic. Its metadata file says so, and nothing is written to
/// it.
#[test]
fn the_folder_of_another_topic_is_not_written_to() {
    let storage = Memory::new();
    let folder = Path::new("t-0");
    storage.create_dir(folder).unwrap();
    let metadata = storage.open(&folder.join(METADATA_FILE), OpenMode::CreateNew).unwrap();
    let theirs = write_out::metadata_text(TopicId::from_bytes([8; 16]));
    metadata.write_at(theirs.as_bytes(), 0).unwrap();
    let log = Log::new(identity(), shared(&storage));
    append(&log, b"value").unwrap();
    log.lock_for_checkpoint().freeze();
    let Err(Error::Corrupt(damage)) = log.capture() else { panic!() };
    assert_eq!(damage.reason, CorruptReason::TopicId);
    assert!(damage.path.ends_with(METADATA_FILE));
    assert_eq!(storage.list(folder).unwrap().len(), 1);
    assert_eq!(count(&log), 1);
}

#[test]
fn settling_believes_no_folder_without_the_topics_name() {
    for text in ["", "version: 0\n", "version: 0\ntopic_id: no id\n"] {
        let world = World::of(&[2], 100);
        let path = Path::new("t-0").join(METADATA_FILE);
        let file = world.storage.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(text.as_bytes(), 0).unwrap();
        let Err(Error::Corrupt(damage)) = world.log().check_files() else { panic!() };
        assert_eq!(damage.reason, CorruptReason::Field);
    }
}

#[test]
fn segments_without_their_folder_are_missing() {
    let world = World::of(&[2, 1], 100);
    let image = LogImage {
        start_offset: 0,
        end_offset: 30,
        epochs: vec![(EPOCH, 0)],
        segments: world.images.clone(),
        first_dirty_offset: None,
    };
    let log = Log::restore(identity(), shared(&Memory::new()), &image);
    let found = log.check_files();
    // The first segment is reported, because all segments are missing.
    assert!(matches!(found, Err(Error::MissingSegment { offsets: (0, 19), .. })), "{found:?}");
    assert_eq!(log.cut_files(false).unwrap(), 0);
}

/// Nothing is appended to a file that does not match the checkpoint. The next batch begins another segment.
#[test]
fn a_damaged_segment_is_not_continued() {
    for sums in [false, true] {
        let world = World::of(&[300], 100);
        world.flip(0, Extension::Log, world.images[0].len - 50);
        if !sums {
            let sums = Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Sums));
            world.storage.remove(&sums).unwrap();
        }
        let log = world.log();
        append(&log, b"new").unwrap();
        log.lock_for_checkpoint().freeze();
        let captured = log.capture().unwrap().whole().segments;
        let ends: Vec<_> = captured.iter().map(|s| (s.base_offset, s.end_offset)).collect();
        assert_eq!(ends, [(0, 3000), (3000, 3001)]);
        assert_eq!(captured[0], world.images[0]);
        let limits = FetchLimits { records: 100, bytes: 1 << 20, until: i64::MAX };
        let mut fetched = Fetched::default();
        log.fetch(&mut Cursor::new(3000), 0, limits, &mut fetched).unwrap();
        assert_eq!(fetched.records.len(), 1);
        let damaged = log.fetch(&mut Cursor::new(2990), 0, limits, &mut Fetched::default());
        assert!(matches!(damaged, Err(Error::Corrupt(_))), "{damaged:?}");
    }
}

/// Index files and sums are rebuilt from the log alone, whichever of them exist.
#[test]
fn side_files_are_rebuilt_as_they_were() {
    let world = World::of(&[300], 100);
    let kinds = [Extension::Index, Extension::TimeIndex, Extension::Sums];
    let before = kinds.map(|kind| world.bytes(0, kind));
    assert!(before.iter().all(|bytes| !bytes.is_empty()));
    for gone in kinds {
        let path = Path::new("t-0").join(file_name(SegmentId::first(0), gone));
        world.storage.remove(&path).unwrap();
        let other = world.storage.display_path(Path::new("t-0/00000000000000000009.index"));
        assert!(!world.log().rebuild_side_files(&other).unwrap());
        assert!(world.log().rebuild_side_files(&world.storage.display_path(&path)).unwrap());
        assert_eq!(kinds.map(|kind| world.bytes(0, kind)), before, "without {gone:?}");
    }
}

/// Sums of a damaged log would vouch for the damage.
#[test]
fn no_sums_are_built_from_a_damaged_log() {
    let world = World::of(&[300], 100);
    let size = batch(0, 10, 100).len() as u64;
    world.flip(0, Extension::Log, 150 * size + 99);
    let sums = Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Sums));
    assert!(world.log().rebuild_side_files(&world.storage.display_path(&sums)).unwrap());
    assert!(world.storage.metadata(&sums).unwrap().is_none());
    let (reason, position, _) = world.finding();
    assert_eq!((reason, position), (CorruptReason::Checksum, 150 * size));
}

/// Each batch has ten records of one time, and each batch has a later time than the previous one.
#[test]
fn a_time_is_found_in_the_batch_that_has_it() {
    let world = World::of(&[30, 10], 20);
    let found = |log: &Log, target| {
        let found = log.offset_for_time(Timestamp::from_millis(target)).unwrap();
        found.map(|(offset, timestamp)| (offset, timestamp.as_millis()))
    };
    let log = world.log();
    for (target, expected) in [
        (-1, Some((0, 1000))),
        (1000, Some((0, 1000))),
        (1001, Some((10, 1010))),
        (1111, Some((120, 1120))),
        (1290, Some((290, 1290))),
        (1291, Some((300, 1300))),
        (1390, Some((390, 1390))),
        (1391, None),
    ] {
        assert_eq!(found(&log, target), expected, "{target}");
    }
    // Deleted records are not found: neither a whole batch nor the first part of one.
    let image = LogImage {
        start_offset: 115,
        end_offset: 400,
        epochs: vec![(EPOCH, 0)],
        segments: world.images.clone(),
        first_dirty_offset: None,
    };
    let log = Log::restore(identity(), shared(&world.storage), &image);
    assert_eq!(found(&log, 1000), Some((115, 1110)));
    assert_eq!(found(&log, 1111), Some((120, 1120)));
}

/// A failed attempt to create the folder leaves the metadata file that names the topic, perhaps empty.
#[test]
fn a_folder_of_our_own_is_continued() {
    for text in ["", &write_out::metadata_text(identity().topic_id)] {
        let storage = Memory::new();
        let folder = Path::new("t-0");
        storage.create_dir(folder).unwrap();
        let metadata = storage.open(&folder.join(METADATA_FILE), OpenMode::CreateNew).unwrap();
        metadata.write_at(text.as_bytes(), 0).unwrap();
        let log = Log::new(identity(), shared(&storage));
        append(&log, b"value").unwrap();
        log.lock_for_checkpoint().freeze();
        assert_eq!(log.capture().unwrap().whole().segments.len(), 1);
        assert_eq!(read_topic_id(&storage, folder).unwrap(), Some(identity().topic_id));
    }
}

/// The first append checks files whose settling was deferred.
#[test]
fn a_folder_that_does_not_name_its_topic_rejects_appends() {
    let world = World::of(&[1], 100);
    let log = world.log();
    log.settle_later();
    let Err(Error::Corrupt(damage)) = append(&log, b"value") else { panic!() };
    assert_eq!(damage.reason, CorruptReason::Absent);
    assert_eq!((log.end_offset(), count(&log)), (10, 10));
}

/// Returns a batch of one record per time in `times`.
fn timed(base_offset: i64, times: &[i64]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (delta, time) in times.iter().enumerate() {
        let mut record = [0; 40];
        let len = encode_record(&mut record, *time, delta as i32, None, Some(b"v"), &[]).unwrap();
        payload.extend_from_slice(&record[..len]);
    }
    let header = BatchHeader {
        base_offset,
        leader_epoch: EPOCH,
        base_timestamp: 0,
        count: times.len() as i32,
        last_offset_delta: times.len() as i32 - 1,
        max_timestamp: *times.iter().max().unwrap(),
        ..BatchHeader::default()
    };
    [&seal(&header, &payload).unwrap()[..], &payload].concat()
}

/// Times need not rise with offsets. A deleted record is not found, although its batch still exists and its
/// maximum timestamp promises that time.
#[test]
fn a_search_skips_deleted_records_in_a_batch_that_still_exists() {
    let world = World::of(&[], 0);
    let log = Log::new(identity(), shared(&world.storage));
    let segment = Segment::create(log.segment_folder(), 0, 4096).unwrap();
    let segment = Arc::new(segment);
    let batches: [&[i64]; 4] = [&[50, 10, 20], &[30, 20], &[5], &[40, 60, 70]];
    let mut next = 0;
    for times in batches {
        let end = next + times.len() as i64;
        segment.append(&timed(next, times), end, *times.iter().max().unwrap()).unwrap();
        next = end;
    }
    let image = LogImage {
        start_offset: 0,
        end_offset: next,
        epochs: vec![(EPOCH, 0)],
        segments: vec![segment.image()],
        first_dirty_offset: None,
    };
    for (start_offset, target, expected) in [
        (0, 50, Some((0, 50))),
        (1, 50, Some((7, 60))),
        (1, 15, Some((2, 20))),
        (1, 30, Some((3, 30))),
        (4, 30, Some((6, 40))),
        (1, 71, None),
        (9, 1, None),
    ] {
        let image = LogImage { start_offset, ..image.clone() };
        let log = Log::restore(identity(), shared(&world.storage), &image);
        let found = log.offset_for_time(Timestamp::from_millis(target)).unwrap();
        let found = found.map(|(offset, timestamp)| (offset, timestamp.as_millis()));
        assert_eq!(found, expected, "{target} from {start_offset} on");
    }
}
