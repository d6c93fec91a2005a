//! Large appends, which go to the segment before they are journaled.

use super::*;

fn log() -> (Memory, Log) {
    let storage = Memory::crash_simulating(1);
    let log = Log::new(identity(), shared(&storage));
    (storage, log)
}

/// Stages and stores records of these sizes.
fn store<'a>(log: &'a Log, sizes: &[usize]) -> AppendGuard<'a> {
    let mut guard = log.prepare_stored_append().unwrap().unwrap().begin().unwrap().unwrap();
    for size in sizes {
        let value = vec![*size as u8; *size];
        let record =
            RecordData { key: None, value: Some(&value), headers: &[], timestamp: None, id: None };
        guard.stage(&record, Timestamp::from_millis(*size as i64)).unwrap();
    }
    assert!(guard.store());
    guard
}

/// Publishes a stored append and returns its section.
fn apply(mut guard: AppendGuard<'_>) -> StoredSection {
    let section = {
        let mut parts = Vec::new();
        guard.sections(&mut parts);
        StoredSection::decode(&parts.concat()[8..]).unwrap()
    };
    let _nobody_waits = guard.apply();
    section
}

fn values(log: &Log) -> Vec<usize> {
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 1000, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(log.start_offset()), 0, limits, &mut fetched).unwrap();
    let mut sizes = Vec::new();
    for chunk in &fetched.chunks {
        let bytes = chunk.source.bytes();
        let records = &fetched.records[sizes.len()..chunk.end];
        sizes.extend(records.iter().map(|record| record.value.get(bytes).unwrap().len()));
    }
    sizes
}

/// Recovers the partition on these files. `known_synced` is the frame below which sections need no proof.
fn recovered(storage: &Memory, sections: &[StoredSection], known_synced: u32) -> Result<Log> {
    let log = Log::new(identity(), shared(storage));
    for (section, frame) in sections.iter().zip(1..) {
        log.replay_stored(section, EPOCH, Lsn::new(1, frame)).unwrap();
    }
    let known_synced = Lsn::new(1, known_synced);
    assert_eq!(log.first_unproven(Path::new("t-0"), known_synced)?, None);
    log.adopt(known_synced)?;
    Ok(log)
}

/// Returns the first frame that the files do not prove.
fn unproven(storage: &Memory, sections: &[StoredSection], known_synced: u32) -> Option<u32> {
    let log = Log::new(identity(), shared(storage));
    for (section, frame) in sections.iter().zip(1..) {
        log.replay_stored(section, EPOCH, Lsn::new(1, frame)).unwrap();
    }
    let first = log.first_unproven(Path::new("t-0"), Lsn::new(1, known_synced)).unwrap();
    first.map(Lsn::position)
}

fn has_adopted(log: &Log) -> bool {
    !log.out.lock().adopted.is_empty()
}

fn open(storage: &Memory, base: i64) -> Arc<dyn StorageFile> {
    let path = Path::new("t-0").join(file_name(SegmentId::first(base), Extension::Log));
    storage.open(&path, OpenMode::Write).unwrap()
}

#[test]
fn readers_see_a_stored_append_when_it_is_applied() {
    let (storage, log) = log();
    let guard = store(&log, &[10, 20]);
    assert!(open(&storage, 0).len().unwrap() > 61 + 30);
    assert_eq!((values(&log), log.end_offset()), (vec![], 0));
    let section = apply(guard);
    assert_eq!((section.first_offset, section.count, section.images.len()), (0, 2, 1));
    assert_eq!((values(&log), log.end_offset()), (vec![10, 20], 2));
    assert_eq!(log.shared.stored.written(), open(&storage, 0).len().unwrap());
    assert_eq!(log.shared.memory.load(Ordering::Relaxed), 0);
}

#[test]
fn a_refused_stored_append_leaves_no_trace() {
    let (storage, log) = log();
    apply(store(&log, &[100]));
    drop(store(&log, &[2000, 7]));
    assert_eq!((values(&log), log.end_offset()), (vec![100], 1));
    let second = apply(store(&log, &[50]));
    let third = apply(store(&log, &[60]));
    assert_eq!(values(&log), [100, 50, 60]);
    // The checksums are those of the bytes in the file.
    let first = SegmentImage::empty(0);
    for image in [second.images[0], third.images[0]] {
        let mut bytes = vec![0; image.len as usize];
        open(&storage, 0).read_at(&mut bytes, 0).unwrap();
        assert_eq!(crc32fast::hash(&bytes), image.checksum);
        assert!(image.len > first.len);
    }
}

/// On a full disk, the folder of a partition is made whole or not at all: perhaps nobody tries again.
#[test]
fn a_refused_first_append_leaves_no_half_folder() {
    let (storage, log) = log();
    let mut refused = 0;
    for free in (0..).step_by(8) {
        storage.set_capacity(u64::MAX);
        // Until a crash is out of question, removed files take their space.
        let used = u64::MAX - storage.free_space().unwrap();
        storage.set_capacity(used + free);
        let mut guard = log.prepare_stored_append().unwrap().unwrap().begin().unwrap().unwrap();
        let record = RecordData {
            key: None,
            value: Some(&[7; 900]),
            headers: &[],
            timestamp: None,
            id: None,
        };
        guard.stage(&record, Timestamp::from_millis(7)).unwrap();
        let stored = guard.store();
        let path = Path::new("t-0").join(METADATA_FILE);
        if storage.metadata(&path).unwrap().is_some() {
            let mut text = vec![0; 100];
            let file = storage.open(&path, OpenMode::Read).unwrap();
            let read = file.read_at(&mut text, 0).unwrap();
            assert_eq!(
                text[..read],
                *write_out::metadata_text(log.topic_id()).as_bytes(),
                "{free}"
            );
        } else {
            assert!(!stored && storage.metadata(Path::new("t-0")).unwrap().is_none());
            refused += 1;
        }
        if stored {
            apply(guard);
            break;
        }
        drop(guard);
        // A checkpoint finds the names that it syncs.
        log.lock_for_checkpoint().freeze();
        let captured = log.capture().unwrap().whole();
        storage.sync_all(&captured.files).unwrap();
        captured.folder.map(|folder| storage.sync_dir(&folder)).transpose().unwrap();
        log.checkpoint_failed();
    }
    assert!(refused > 3);
    assert_eq!(values(&log), [900]);
}

/// A roll and a close leave nothing of it in the file.
#[test]
fn a_finished_segment_ends_with_its_last_batch() {
    let (storage, log) = log();
    let image = apply(store(&log, &[100])).images[0];
    drop(store(&log, &[2000]));
    assert!(open(&storage, 0).len().unwrap() > image.len);
    assert!(log.finish().unwrap());
    assert_eq!(open(&storage, 0).len().unwrap(), image.len);
    assert_eq!(values(&log), [100]);
}

#[test]
fn a_small_append_before_a_stored_one_is_in_the_segment_too() {
    let (storage, log) = log();
    let mut guard = log.begin_append().unwrap();
    let record =
        RecordData { key: None, value: Some(b"small"), headers: &[], timestamp: None, id: None };
    guard.stage(&record, Timestamp::from_millis(1)).unwrap();
    assert!(guard.store());
    assert!(guard.outside().is_none() && guard.single_section().is_some());
    let _nobody_waits = guard.apply();
    let guard = store(&log, &[300]);
    let outside = guard.outside().unwrap().clone();
    let section = apply(guard);
    assert_eq!((section.first_offset, section.count), (1, 1));
    // The segment and `partition.metadata`.
    assert_eq!((outside.files.len(), outside.folder.as_path()), (2, Path::new("t-0")));
    assert_eq!(values(&log), [5, 300]);

    // Replay meets the small append in its own frame, and drops it when it meets the stored one.
    let again = Log::new(identity(), shared(&storage));
    again.replay(&recovering::section(0, 0), &recovering::record(0), EPOCH).unwrap();
    again.replay_stored(&section, EPOCH, Lsn::new(1, 9)).unwrap();
    assert_eq!(again.first_unproven(Path::new("t-0"), Lsn::ZERO).unwrap(), None);
    again.adopt(Lsn::ZERO).unwrap();
    assert_eq!(values(&again), [5, 300]);
    assert_eq!(again.shared.memory.load(Ordering::Relaxed), 0);
}

#[test]
fn sections_are_proven_one_by_one() {
    let (storage, log) = log();
    let sections = [&[100][..], &[200, 201], &[300]].map(|sizes| apply(store(&log, sizes)));
    assert_eq!(values(&recovered(&storage, &sections, 0).unwrap()), [100, 200, 201, 300]);

    let end = sections[1].images[0].len;
    let flip = |at: u64| {
        let file = open(&storage, 0);
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 1], at).unwrap();
    };
    flip(end);
    assert_eq!(
        [0, 3, 4].map(|known| unproven(&storage, &sections, known)),
        [Some(3), Some(3), None]
    );
    assert_eq!(values(&recovered(&storage, &sections[..2], 0).unwrap()), [100, 200, 201]);
    flip(end - 1);
    assert_eq!(unproven(&storage, &sections, 0), Some(2));
    // A section above a synced one is proven by its own bytes.
    assert_eq!([3, 4].map(|known| unproven(&storage, &sections, known)), [Some(3), None]);
    flip(0);
    assert_eq!(unproven(&storage, &sections, 1), Some(1));

    open(&storage, 0).set_len(10).unwrap();
    assert_eq!(unproven(&storage, &sections, 1), Some(1));
    storage.remove(&Path::new("t-0").join(file_name(SegmentId::first(0), Extension::Log))).unwrap();
    assert_eq!([1, 4].map(|known| unproven(&storage, &sections, known)), [Some(1), None]);
}

/// A synced section is believed without proof. Readers then report what is wrong with its bytes.
#[test]
fn damage_of_synced_bytes_is_damage() {
    let (storage, log) = log();
    let sections = [&[100][..], &[200]].map(|sizes| apply(store(&log, sizes)));
    open(&storage, 0).write_at(b"x", sections[0].images[0].len + 70).unwrap();
    let log = recovered(&storage, &sections, 9).unwrap();
    let limits = FetchLimits { records: 10, bytes: 1 << 20, until: i64::MAX };
    let error = log.fetch(&mut Cursor::new(1), 0, limits, &mut Fetched::default()).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(!has_adopted(&log));
}

#[test]
fn adopted_bytes_survive_power_loss_after_the_next_checkpoint() {
    let (storage, log) = log();
    let sections = [&[100][..], &[200]].map(|sizes| apply(store(&log, sizes)));
    drop(log);
    let log = recovered(&storage, &sections, 0).unwrap();
    assert!(has_adopted(&log));
    assert!(log.needs_metadata(|_| Ok(true)).unwrap());
    log.write_metadata().unwrap();
    log.lock_for_checkpoint().freeze();
    let captured = log.capture().unwrap().whole();
    assert!(!has_adopted(&log) && captured.folder_created);
    storage.sync_all(&captured.files).unwrap();
    storage.sync_dir(Path::new("t-0")).unwrap();
    storage.sync_dir(Path::new("")).unwrap();
    let lost = storage.crash(Crash::LoseAll, &SeededRandom::new(0));
    assert_eq!(values(&recovered(&lost, &sections, 0).unwrap()), [100, 200]);
}

#[test]
fn sections_over_a_roll_name_each_changed_segment() {
    let storage = Memory::crash_simulating(1);
    let config = Arc::new(TopicConfig::new().segment_bytes(1024));
    let identity = || LogIdentity { config: Arc::clone(&config), ..identity() };
    let log = Log::new(identity(), shared(&storage));
    let sections: Vec<_> =
        [300, 400, 500, 600].iter().map(|size| apply(store(&log, &[*size]))).collect();
    let images = |section: &StoredSection| {
        section.images.iter().map(|image| image.base_offset).collect::<Vec<_>>()
    };
    // A rolled segment is named only if a batch that no section names made it grow.
    assert_eq!(sections.iter().map(images).collect::<Vec<_>>(), [[0], [0], [2], [3]]);
    assert_eq!(values(&recovered(&storage, &sections, 0).unwrap()), [300, 400, 500, 600]);
    // More than a segment holds goes to the journal.
    let mut guard = log.prepare_stored_append().unwrap().unwrap().begin().unwrap().unwrap();
    let value = [0; 2000];
    let record =
        RecordData { key: None, value: Some(&value), headers: &[], timestamp: None, id: None };
    guard.stage(&record, Timestamp::from_millis(1)).unwrap();
    assert!(!guard.store());
    drop(guard);
    assert_eq!(log.end_offset(), 4);
}

/// A section names few segments. What a checkpoint lists, it need not name.
#[test]
fn a_checkpoint_makes_stored_appends_possible_again() {
    let storage = Memory::crash_simulating(1);
    let config = Arc::new(TopicConfig::new().segment_bytes(1024));
    let log = Log::new(LogIdentity { config, ..identity() }, shared(&storage));
    let small = |count: usize| {
        for _ in 0..count {
            let mut guard = log.begin_append().unwrap();
            let value = [7; 700];
            let record = RecordData {
                key: None,
                value: Some(&value),
                headers: &[],
                timestamp: None,
                id: None,
            };
            guard.stage(&record, Timestamp::from_millis(1)).unwrap();
            assert!(guard.single_section().is_some());
            let _nobody_waits = guard.apply();
            log.lock_for_checkpoint().freeze();
            log.write_out_some();
        }
    };
    small(20);
    assert!(log.segment_count() > 8);
    let mut guard = log.prepare_stored_append().unwrap().unwrap().begin().unwrap().unwrap();
    let record =
        RecordData { key: None, value: Some(&[1]), headers: &[], timestamp: None, id: None };
    guard.stage(&record, Timestamp::from_millis(1)).unwrap();
    assert!(!guard.store());
    drop(guard);

    log.lock_for_checkpoint().freeze();
    let captured = log.capture().unwrap().whole();
    let (end_offset, segments) = (log.end_offset(), captured.segments);
    log.checkpointed(&LogImage {
        start_offset: 0,
        end_offset,
        epochs: vec![],
        segments,
        first_dirty_offset: None,
    });
    assert_eq!(apply(store(&log, &[300])).images.len(), 1);
}

#[test]
fn sections_that_contradict_the_checkpoint_are_damage() {
    let world = World::of(&[1, 1], 10);
    let last = world.images[1];
    let claim = |change: &dyn Fn(&mut SegmentImage)| {
        let log = world.log();
        let mut image = SegmentImage { end_offset: 21, len: last.len + 9, ..last };
        change(&mut image);
        let section = StoredSection {
            partition: PartitionNumber(0),
            count: 1,
            first_offset: 20,
            images: vec![image],
        };
        log.replay_stored(&section, EPOCH, Lsn::new(1, 1)).unwrap();
        log.first_unproven(Path::new("t-0"), Lsn::ZERO)
    };
    assert!(matches!(claim(&|_| {}), Ok(Some(_))));
    for contradicts in [
        &(|image: &mut SegmentImage| image.len = last.len - 1) as &dyn Fn(&mut SegmentImage),
        &|image| image.base_offset = 19,
        &|image| image.base_offset = 0,
    ] {
        let error = claim(contradicts).unwrap_err();
        assert!(error.is_corruption(), "{error}");
    }
    let log = world.log();
    let elsewhere = StoredSection {
        partition: PartitionNumber(0),
        count: 1,
        first_offset: 21,
        images: vec![SegmentImage { end_offset: 22, len: last.len + 9, ..last }],
    };
    let refused = log.replay_stored(&elsewhere, EPOCH, Lsn::new(1, 1));
    assert_eq!(refused, Err(CorruptReason::Offsets));
}

/// An append beyond the mark captures the state at the mark. The checkpoint that follows must still sync what
/// recovery believed by its checksums (S4).
#[test]
fn adopted_bytes_are_in_a_checkpoint_that_an_append_overtook() {
    for stored in [true, false] {
        let storage = Memory::crash_simulating(1);
        let config = Arc::new(TopicConfig::new().segment_bytes(1024));
        let new = |storage: &Memory| {
            Log::new(LogIdentity { config: Arc::clone(&config), ..identity() }, shared(storage))
        };
        let log = new(&storage);
        let sections = [600, 700].map(|size| apply(store(&log, &[size])));
        drop(log);
        let recovered = |storage: &Memory| {
            let log = new(storage);
            for (section, frame) in sections.iter().zip(1..) {
                log.replay_stored(section, EPOCH, Lsn::new(1, frame)).unwrap();
            }
            assert_eq!(log.first_unproven(Path::new("t-0"), Lsn::ZERO).unwrap(), None);
            log.adopt(Lsn::ZERO).unwrap();
            log
        };
        let log = recovered(&storage);
        assert!(has_adopted(&log) && log.needs_metadata(|_| Ok(true)).unwrap());
        log.write_metadata().unwrap();
        log.lock_for_checkpoint().freeze();
        if stored {
            apply(store(&log, &[800]));
        } else {
            let mut guard = log.begin_append().unwrap();
            let record = RecordData {
                key: None,
                value: Some(b"x"),
                headers: &[],
                timestamp: None,
                id: None,
            };
            guard.stage(&record, Timestamp::from_millis(1)).unwrap();
            assert!(guard.single_section().is_some());
            let _nobody_waits = guard.apply();
            log.freeze_open(&mut log.appender.lock());
            log.write_out_some();
        }
        let captured = log.capture().unwrap().whole();
        assert_eq!(captured.segments.last().unwrap().end_offset, 2);
        storage.sync_all(&captured.files).unwrap();
        storage.sync_dir(Path::new("t-0")).unwrap();
        storage.sync_dir(Path::new("")).unwrap();
        // The checkpoint lists both segments now.
        let lost = storage.crash(Crash::LoseAll, &SeededRandom::new(0));
        for image in &captured.segments {
            let path = Path::new("t-0")
                .join(file_name(SegmentId::first(image.base_offset), Extension::Log));
            let found = lost.metadata(&path).unwrap().map_or(0, |(_, len)| len);
            assert!(found >= image.len, "stored {stored}: {image:?} has {found} bytes");
        }
    }
}

/// A checkpoint wrote them again and failed before it synced them.
#[test]
fn adopted_bytes_are_kept_after_a_failed_checkpoint() {
    let (storage, log) = log();
    let sections = [&[100][..], &[200]].map(|sizes| apply(store(&log, sizes)));
    drop(log);
    let log = recovered(&storage, &sections, 0).unwrap();
    log.write_metadata().unwrap();
    log.lock_for_checkpoint().freeze();
    let _unsynced = log.capture().unwrap();
    log.checkpoint_failed();
    if let Some(outside) = log.keep_adopted().unwrap() {
        let files: Vec<_> = outside.files.iter().filter_map(std::sync::Weak::upgrade).collect();
        storage.sync_all(&files).unwrap();
        storage.sync_dir(&outside.folder).unwrap();
        storage.sync_dir(Path::new("")).unwrap();
    }
    let lost = storage.crash(Crash::LoseAll, &SeededRandom::new(0));
    assert_eq!(unproven(&lost, &sections, 0), None);
}

/// Power loss has taken the folder of stored records that are all deleted. There is nothing to sync then, until the next
/// record makes the folder again.
#[test]
fn a_lost_folder_is_synced_once_it_is_made_again() {
    let (_, log) = log();
    let sections = [&[100][..], &[200]].map(|sizes| apply(store(&log, sizes)));
    for appends in [false, true] {
        let lost = Memory::crash_simulating(1);
        let log = Log::new(identity(), shared(&lost));
        for (section, frame) in sections.iter().zip(1..) {
            log.replay_stored(section, EPOCH, Lsn::new(1, frame)).unwrap();
        }
        log.replay_start(2).unwrap();
        assert_eq!(log.first_unproven(Path::new("t-0"), Lsn::ZERO).unwrap(), None);
        log.adopt(Lsn::ZERO).unwrap();
        log.drop_removed().unwrap();
        assert!(!log.needs_metadata(|_| Ok(false)).unwrap());
        log.forget_lost_folder().unwrap();
        assert!(log.check_files().unwrap().is_none());
        assert_eq!(log.cut_files(true).unwrap(), 0);
        if appends {
            apply(store(&log, &[300]));
        }
        log.lock_for_checkpoint().freeze();
        let captured = log.capture().unwrap().whole();
        assert_eq!((captured.folder.is_some(), captured.folder_created), (appends, appends));
        assert_eq!(
            (captured.segments.len(), captured.files.is_empty()),
            (usize::from(appends), !appends)
        );
    }
}
