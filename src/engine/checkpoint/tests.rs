//! Tests of checkpoints.

use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::config::{BrokerConfig, CleanupPolicy, TopicConfig};
use crate::engine::cleaner::AtOnce;
use crate::engine::recovery::open;
use crate::group::{CommittedOffset, OffsetChange, OffsetCommit};
use crate::log::{Cursor, FetchLimits, Fetched, RecordData};
use crate::storage::{Crash, Memory, Storage};
use crate::time::SeededRandom;
use crate::types::{Timestamp, TopicPartition};

const NOW: Timestamp = Timestamp::from_millis(7);

fn append(engine: &Engine, log: &Log, key: Option<&[u8]>, value: Option<&[u8]>) {
    let record = RecordData { key, value, headers: &[], timestamp: None, id: None };
    let mut credit = engine.reserve(record.bound() + 100, Duration::ZERO).unwrap();
    let mut guard = log.begin_append().unwrap();
    guard.stage(&record, NOW).unwrap();
    engine.journal.append(&mut credit, &guard.single_section().unwrap()).unwrap();
    guard.apply().wake();
}

/// As if its batch were full.
fn append_batch(engine: &Engine, log: &Log, key: Option<&[u8]>) {
    append(engine, log, key, Some(&[1; 700]));
    log.lock_for_checkpoint().freeze();
    log.write_out_some();
}

/// Appends five records, deletes the records below `offset`, and commits `offset`.
fn append_delete_commit(engine: &Engine, partition: &TopicPartition, offset: i64) {
    let log = engine.registry.log(partition).unwrap();
    for _ in 0..5 {
        append(engine, &log, None, None);
    }
    engine.delete_records(partition, offset).unwrap();
    let committed = CommittedOffset {
        offset,
        leader_epoch: None,
        metadata: Arc::default(),
        commit_timestamp: NOW,
        owner: None,
    };
    let group = engine.groups.get("g").unwrap();
    let change = OffsetChange::Set(vec![(log.number(), Some(committed))]);
    let commit = OffsetCommit { group: Arc::clone(group.name()), change };
    engine.commit_offsets(&group, None, [&*log], &commit).unwrap();
}

/// Files that a failed checkpoint closed unsynced are synced by the next one, even if that would not
/// close any.
#[test]
fn what_a_failed_checkpoint_left_is_synced_by_the_next() {
    let mut failed = 0;
    for change in 1.. {
        let memory = Memory::crash_simulating(1);
        memory.sync_whole_above(0);
        let config = BrokerConfig::new().background(false);
        let (engine, _) = open(Arc::new(memory.clone()), config.clone()).unwrap();
        engine.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
        for partition in 0..2 {
            append_delete_commit(&engine, &TopicPartition::new("t", partition), 1);
        }
        memory.fail_at(memory.ops() + change, ErrorKind::Other, false);
        let result = engine.checkpoint();
        memory.heal();
        memory.sync_whole_above(usize::MAX);
        failed += usize::from(result.is_err());
        if engine.checkpoint().is_err() {
            continue; // The failed call was a sync, which is final.
        }
        let left = memory.crash(Crash::LoseAll, &SeededRandom::new(1));
        let (_, report) = open(Arc::new(left), config).unwrap();
        assert_eq!(report.damaged.len(), 0, "change {change}: {:?}", report.damaged);
        if result.is_ok() {
            break;
        }
    }
    assert!(failed > 5, "{failed}");
}

/// H4: a checkpoint does not contain what happens while it is written, however long that takes.
#[test]
fn a_checkpoint_holds_the_frozen_state() {
    let config = BrokerConfig::new().background(false);
    let (engine, _) = open(Arc::new(Memory::new()), config).unwrap();
    engine.create_topic("t", TopicConfig::new()).unwrap();
    let partition = TopicPartition::new("t", 0);
    append_delete_commit(&engine, &partition, 3);
    let freeze = engine.freeze(0);
    append_delete_commit(&engine, &partition, 8);

    let mut state = engine.checkpoint.lock();
    engine.finish_checkpoint(&mut state, &freeze).unwrap();
    let (number, log) = state.logs.iter().next().unwrap();
    assert_eq!((log.start_offset, log.end_offset), (3, 5));
    assert_eq!(log.segments.last().unwrap().end_offset, 5);
    let file = state.offsets.unwrap();
    let offsets = files::read_offsets(&*engine.storage, engine.directory_id, file).unwrap();
    assert_eq!(offsets.get("g", *number).unwrap().offset, 3);
}

/// R3: retention empties the partition after the state was frozen, and before it is captured.
#[test]
fn a_checkpoint_lists_segments_that_retention_has_removed_meanwhile() {
    for appends in [false, true] {
        let memory = Memory::crash_simulating(1);
        let config = BrokerConfig::new().background(false);
        let (engine, _) = open(Arc::new(memory.clone()), config.clone()).unwrap();
        let week = Duration::from_hours(7 * 24);
        engine.create_topic("t", TopicConfig::new().retention(week)).unwrap();
        let partition = TopicPartition::new("t", 0);
        // The records are of 1970.
        append_delete_commit(&engine, &partition, 1);
        engine.checkpoint().unwrap();
        if appends {
            append_delete_commit(&engine, &partition, 2);
        } else {
            engine.delete_records(&partition, 2).unwrap();
        }
        let freeze = engine.freeze(0);
        assert_eq!(engine.run_retention(None).unwrap().time.segments, 1);
        let log = engine.registry.log(&partition).unwrap();
        assert_eq!((log.segment_count(), log.start_offset()), (0, 5));
        engine.finish_checkpoint(&mut engine.checkpoint.lock(), &freeze).unwrap();

        let left = memory.crash(Crash::LoseAll, &SeededRandom::new(1));
        let image = files::read_checkpoint(&left).unwrap();
        assert_eq!(image.generation, engine.checkpoint.lock().generation, "it is valid");
        let (again, report) = open(Arc::new(left), config).unwrap();
        assert_eq!(report.damaged.len(), 0, "{:?}", report.damaged);
        let log = again.registry.log(&partition).unwrap();
        let end = if appends { 10 } else { 5 };
        assert_eq!((log.start_offset(), log.end_offset()), (5, end));
    }
}

/// K1: a record that was appended after the state was frozen supersedes nothing in a pass that this checkpoint lists.
#[test]
fn a_pass_beside_a_checkpoint_keeps_what_the_checkpoint_needs() {
    let memory = Memory::crash_simulating(1);
    let config = BrokerConfig::new().background(false).batch_size(1024);
    let (engine, _) = open(Arc::new(memory.clone()), config.clone()).unwrap();
    let policy = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    let topic = policy.segment_bytes(1024).min_cleanable_dirty_ratio(0.0);
    engine.create_topic("t", topic).unwrap();
    let partition = TopicPartition::new("t", 0);
    let log = engine.registry.log(&partition).unwrap();
    let send_all = || {
        for key in [b"a", b"b", b"c"] {
            append_batch(&engine, &log, Some(key));
        }
    };
    send_all();
    engine.checkpoint().unwrap();
    let freeze = engine.freeze(0);
    send_all();
    let _nothing_or_something = engine.compact_due(&AtOnce(&engine.cleaner));
    engine.finish_checkpoint(&mut engine.checkpoint.lock(), &freeze).unwrap();

    let left = memory.crash(Crash::LoseAll, &SeededRandom::new(1));
    let (again, report) = open(Arc::new(left), config).unwrap();
    assert_eq!(report.damaged.len(), 0, "{:?}", report.damaged);
    let log = again.registry.log(&partition).unwrap();
    assert_eq!(log.end_offset(), 3);
    let mut fetched = Fetched::default();
    let limits = FetchLimits { records: 10, bytes: 1 << 20, until: i64::MAX };
    log.fetch(&mut Cursor::new(0), 0, limits, &mut fetched).unwrap();
    assert_eq!(fetched.records.len(), 3);
}

/// A kill comes after the files were removed. Power loss after the next close must not bring them back: nobody
/// would remove them.
#[test]
fn a_removal_that_a_kill_interrupted_becomes_durable() {
    let memory = Memory::crash_simulating(1);
    let config = BrokerConfig::new().background(false);
    let (engine, _) = open(Arc::new(memory.clone()), config.clone()).unwrap();
    engine.create_topic("t", TopicConfig::new()).unwrap();
    let partition = TopicPartition::new("t", 0);
    append_delete_commit(&engine, &partition, 1);
    engine.checkpoint().unwrap();
    engine.delete_records(&partition, 5).unwrap();
    let killed = memory.crash(Crash::Kill, &SeededRandom::new(1));
    let (engine, _) = open(Arc::new(killed.clone()), config).unwrap();
    engine.close().unwrap();
    let left = killed.crash(Crash::LoseAll, &SeededRandom::new(1));
    let path = Path::new("t-0/00000000000000000000.log");
    assert_eq!(left.metadata(path).unwrap(), None);
}

/// A call of another thread that began before `close` runs late.
#[test]
fn a_closed_folder_is_left_alone() {
    // The others count no changes.
    let memory = Memory::crash_simulating(1);
    let config = BrokerConfig::new().background(false);
    let (engine, _) = open(Arc::new(memory.clone()), config).unwrap();
    engine.create_topic("t", TopicConfig::new()).unwrap();
    append_delete_commit(&engine, &TopicPartition::new("t", 0), 1);
    engine.close().unwrap();
    let changes = memory.ops();
    assert!(matches!(engine.checkpoint(), Err(Error::Closed)));
    assert!(matches!(engine.reserve.fit(9_000), Err(Error::Closed)));
    engine.finish_deletions(&[]);
    assert_eq!(memory.ops(), changes);
}

/// A checkpoint of a call that began before `close` gets the lock between the last checkpoint and the end of
/// `close`, whose steps these are.
#[test]
fn a_checkpoint_after_the_last_one_leaves_the_folder_closed() {
    let memory = Memory::crash_simulating(1);
    let config = BrokerConfig::new().background(false);
    let (engine, _) = open(Arc::new(memory.clone()), config).unwrap();
    engine.create_topic("t", TopicConfig::new()).unwrap();
    append_delete_commit(&engine, &TopicPartition::new("t", 0), 1);
    engine.journal.stop_appends();
    engine.checkpoint().unwrap();
    engine.last_checkpoint().unwrap();
    engine.journal.close().unwrap();
    engine.journal.trim().unwrap();
    engine.reserve.remove_at_close().unwrap();
    assert!(engine.checkpoint.lock().closed);
    let _late = engine.checkpoint();
    let reserve = memory.metadata(Path::new(files::RESERVE_FILE)).unwrap();
    let closed = engine.checkpoint.lock().closed;
    assert_eq!((closed, reserve), (true, None));
}

/// Stores one large record and returns the end of its frame.
fn store(engine: &Engine, partition: &TopicPartition, value: &[u8]) -> crate::types::Lsn {
    let log = engine.registry.log(partition).unwrap();
    let record =
        RecordData { key: None, value: Some(value), headers: &[], timestamp: None, id: None };
    let mut credit = engine.reserve(10_000, Duration::ZERO).unwrap();
    let mut guard = log.prepare_stored_append().unwrap().unwrap().begin().unwrap().unwrap();
    guard.stage(&record, NOW).unwrap();
    assert!(guard.store());
    let outside = vec![guard.outside().unwrap().clone()];
    let mut parts = Vec::new();
    guard.sections(&mut parts);
    let lsn = engine.journal.append_relying_on(&mut credit, &parts, &outside).unwrap();
    guard.apply().wake();
    lsn
}

/// A checkpoint has closed files that it has not synced yet. Meanwhile a stored append names their segments, and
/// is synced.
fn store_while_files_are_left(stored_before: bool) {
    let memory = Memory::crash_simulating(1);
    memory.sync_whole_above(0);
    let config = BrokerConfig::new().background(false);
    let (engine, _) = open(Arc::new(memory.clone()), config.clone()).unwrap();
    engine.create_topic("t", TopicConfig::new().segment_bytes(1024)).unwrap();
    let partition = TopicPartition::new("t", 0);
    let log = engine.registry.log(&partition).unwrap();
    for _ in 0..3 {
        if stored_before {
            store(&engine, &partition, &[1; 700]);
            continue;
        }
        append_batch(&engine, &log, None);
    }
    let freeze = engine.freeze(0);
    let some: Vec<_> = freeze.logs.iter().collect();
    let Ok(captured) = engine.capture_all(&some, some.len()) else { panic!() };
    assert!(captured[0].left);

    let lsn = store(&engine, &partition, &[2; 700]);
    engine.journal.wait_synced(lsn, None).unwrap();
    let left = memory.crash(Crash::LoseAll, &SeededRandom::new(1));
    let (again, report) = open(Arc::new(left), config).unwrap();
    assert_eq!(report.damaged.len(), 0, "{:?}", report.damaged);
    assert_eq!(again.registry.log(&partition).unwrap().end_offset(), 4);
    put_back(&freeze);
}

#[test]
fn a_synced_stored_append_needs_what_a_checkpoint_left() {
    store_while_files_are_left(false);
}

#[test]
fn a_synced_stored_append_needs_what_a_checkpoint_left_of_stored_ones() {
    store_while_files_are_left(true);
}
