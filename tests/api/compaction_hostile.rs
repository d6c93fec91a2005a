//! Compaction beside failures, crashes, other calls, and readers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, CleanupPolicy, Error, Finding, FindingKind, Problem,
    ProducerConfig, Record, Timestamp, TimestampType, TopicConfig, Verify,
};

use crate::compaction::{compacted, files, found, rounds, send, world};
use crate::faulty::{Act, Faulty};
use crate::world::{AT_ONCE, Owned, World, after_crash, all, drain, reader, tp};

fn open_on(world: &World, storage: &Faulty) -> Broker {
    Broker::open_storage(Arc::new(storage.clone()), world.config.clone()).unwrap()
}

fn last_of_each_key(round: usize) -> Vec<(i64, String, Option<String>)> {
    let first = round as i64 * 10;
    (0..10).map(|key| (first + key, format!("k{key}"), Some(format!("{round}-")))).collect()
}

/// The newest record of each key, whatever older ones are there too.
fn newest(broker: &Broker) -> Vec<(i64, String, Option<String>)> {
    let mut newest = BTreeMap::new();
    for record in found(&all(broker, "t")) {
        newest.insert(record.1.clone(), record);
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort();
    newest
}

#[test]
fn a_first_pass_that_ends_early_keeps_what_it_has_replaced() {
    let world = world();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    let third = files(&world)[2].clone();
    let part: &'static str = Box::leak(third.replace(".log", ".1.log").into_boxed_str());
    storage.order("create", part, Act::Fail(5));
    broker.admin().compact("t").unwrap_err();
    storage.heal();
    assert!(files(&world).iter().any(|name| name.contains(".1.log")), "{:?}", files(&world));
    broker.checkpoint().unwrap();
    assert_eq!(newest(&broker), last_of_each_key(19));
    for crash in [Crash::Kill, Crash::LoseAll] {
        let (_, broker) = after_crash(&world, crash);
        assert_eq!(newest(&broker), last_of_each_key(19), "{crash:?}");
    }
}

fn findings(world: &World) -> Vec<Finding> {
    let storage: Arc<dyn Storage> = Arc::new(world.storage.clone());
    Verify::new().run_storage(&storage).unwrap().findings
}

fn copies(world: &World) -> Vec<String> {
    let names = world.storage.list(Path::new("t-0")).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.split('.').count() == 3).collect()
}

#[test]
fn the_first_append_to_a_closed_folder_keeps_the_copy_of_a_pass() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.close().unwrap();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    let barrier = Arc::new(Barrier::new(2));
    storage.order("sync", ".1.log", Act::Meet(Arc::clone(&barrier)));
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| broker.maintain());
        barrier.wait();
        storage.heal();
        rounds(&broker, 20..21);
        barrier.wait();
        pass.join().unwrap().unwrap();
    });
    assert_eq!(newest(&broker), last_of_each_key(20));
    broker.checkpoint().unwrap();
    for crash in [Crash::Kill, Crash::LoseAll] {
        let (_, broker) = after_crash(&world, crash);
        assert_eq!(newest(&broker), last_of_each_key(20), "{crash:?}");
    }
}

#[test]
fn a_deletion_does_not_wait_for_the_rate_of_a_pass() {
    let mut world = world();
    world.config = BrokerConfig::new()
        .clock(Arc::clone(&world.clock) as _)
        .cleaner_interval(Duration::from_millis(1))
        .cleaner_rate(1);
    let storage = Faulty::new(world.storage.clone());
    let broker = Arc::new(open_on(&world, &storage));
    broker.create_topic("t", compacted().segment_bytes(1 << 20)).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    storage.order("read", ".log", Act::Meet(Arc::clone(&barrier)));
    let value = "v".repeat(60 << 10);
    (0..50).for_each(|n| send(&broker, &format!("k{n}"), Some(&value)));
    broker.checkpoint().unwrap();
    // The pass begins, and soon pauses for very long.
    barrier.wait();
    storage.heal();
    barrier.wait();
    let (done, is_done) = std::sync::mpsc::channel();
    let deleting = Arc::clone(&broker);
    std::thread::spawn(move || done.send(deleting.delete_topic("t")));
    is_done.recv_timeout(AT_ONCE).expect("the deletion waits").unwrap();
}

#[test]
fn a_failed_partition_does_not_keep_the_files_of_another() {
    let world = world();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    broker.create_topic("t", compacted()).unwrap();
    broker.create_topic("u", compacted()).unwrap();
    rounds(&broker, 0..20);
    let producer = broker.producer().unwrap();
    for n in 0..100 {
        producer.send(Record::to("u").key("k").value(&format!("{n:060}"))).unwrap();
    }
    broker.checkpoint().unwrap();
    let before = files(&world);
    storage.order("create", "u-0/", Act::Fail(28));
    broker.maintain().unwrap_err();
    storage.heal();
    let left: Vec<_> = files(&world).into_iter().filter(|name| before.contains(name)).collect();
    assert!(left.len() <= 1, "{left:?}");
}

#[test]
fn a_pass_that_fails_lets_go_of_what_it_has_replaced() {
    let world = world();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    let before = files(&world);
    storage.order("create", "90.1.log", Act::Fail(28));
    broker.maintain().unwrap_err();
    storage.heal();
    let left: Vec<_> = files(&world).into_iter().filter(|name| before.contains(name)).collect();
    assert_eq!(left, before[3..], "those before offset 90 are replaced");
    assert_eq!(newest(&broker), last_of_each_key(19));
}

#[test]
fn a_clean_log_is_left_alone() {
    let world = world();
    let broker = world.open();
    let config = compacted()
        .min_cleanable_dirty_ratio(0.0)
        .delete_retention(Duration::ZERO)
        .max_compaction_lag(Duration::from_millis(1));
    broker.create_topic("t", config).unwrap();
    rounds(&broker, 0..20);
    (0..10).for_each(|key| send(&broker, &format!("k{key}"), None));
    world.clock.advance(Duration::from_secs(1));
    let passes = || broker.describe_topic("t").unwrap().partitions[0].compaction.clone().unwrap();
    // The first one ends the active segment.
    for _ in 0..2 {
        broker.checkpoint().unwrap();
        broker.maintain().unwrap();
    }
    let settled = passes();
    assert!((1..=2).contains(&settled.done.passes), "{settled:?}");
    for _ in 0..5 {
        broker.maintain().unwrap();
    }
    assert_eq!(passes(), settled);
}

#[test]
fn verify_beside_a_writer_knows_the_files_that_wait_to_be_removed() {
    let world = world();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    // Two passes, so that one segment is in the range of another, and one has its base offset.
    for (segment_bytes, kept) in [("2048", "0.log"), ("1048576", "1.log")] {
        broker.admin().alter_topic("t", [("segment.bytes", segment_bytes)]).unwrap();
        storage.order("remove", kept, Act::Fail(13));
        broker.admin().compact("t").unwrap();
        storage.heal();
        assert!(files(&world).len() > 2, "{:?}", files(&world));
        assert_eq!(findings(&world).len(), 0, "{:?}", findings(&world));
    }
    broker.close().unwrap();
    assert_eq!(newest(&world.open()), last_of_each_key(19));
}

#[test]
fn a_lookup_by_time_finds_a_record_that_is_there() {
    let world = world();
    let broker = world.open();
    let config = compacted().timestamp_type(TimestampType::LogAppendTime);
    broker.create_topic("t", config).unwrap();
    rounds(&broker, 0..20);
    broker.admin().compact("t").unwrap();
    let first = all(&broker, "t")[0].offset;
    let at = Timestamp::from_millis(1);
    let found = broker.admin().offset_for_time(&tp("t", 0), at).unwrap().unwrap();
    assert_eq!(found.0, first);
}

#[test]
fn a_close_interrupts_a_pass_and_leaves_nothing() {
    for op in ["create", "sync"] {
        let world = world();
        let storage = Faulty::new(world.storage.clone());
        let broker = open_on(&world, &storage);
        broker.create_topic("t", compacted()).unwrap();
        rounds(&broker, 0..20);
        broker.checkpoint().unwrap();
        let barrier = Arc::new(Barrier::new(2));
        storage.order(op, ".1.log", Act::Meet(Arc::clone(&barrier)));
        let admin = broker.admin();
        std::thread::scope(|scope| {
            let pass = scope.spawn(|| admin.compact("t"));
            barrier.wait();
            storage.heal();
            let closing = scope.spawn(|| broker.close());
            while !matches!(admin.run_retention(), Err(Error::Closed)) {
                std::thread::yield_now();
            }
            barrier.wait();
            let ended = pass.join().unwrap();
            assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
            closing.join().unwrap().unwrap();
        });
        assert_eq!(findings(&world).len(), 0, "{:?}", findings(&world));
        let broker = world.open();
        assert_eq!(newest(&broker), last_of_each_key(19));
    }
}

#[test]
fn a_full_disk_leaves_no_copy() {
    for op in ["create", "write", "sync"] {
        let world = world();
        let storage = Faulty::new(world.storage.clone());
        let broker = open_on(&world, &storage);
        broker.create_topic("t", compacted().segment_bytes(1 << 20)).unwrap();
        rounds(&broker, 0..20);
        storage.order(op, ".1.", Act::Fail(28));
        let full = broker.admin().compact("t").unwrap_err();
        assert!(matches!(full, Error::DiskFull { .. }), "{op}: {full}");
        storage.heal();
        assert_eq!(copies(&world), Vec::<String>::new(), "{op}");
        assert_eq!(all(&broker, "t").len(), 200);
        broker.admin().compact("t").unwrap();
        broker.close().unwrap();
        assert_eq!(findings(&world).len(), 0, "{op}: {:?}", findings(&world));
    }
}

/// Beside its copy, a pass leaves room for a reserve as large as the journal.
#[test]
fn a_pass_begins_only_if_the_disk_has_room_for_it() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted().segment_bytes(1 << 20)).unwrap();
    rounds(&broker, 0..20);
    // The copies of the first pass are much smaller than this.
    let used = u64::MAX - world.storage.free_space().unwrap();
    world.storage.set_capacity(used + (48 << 10));
    let full = broker.admin().compact("t").unwrap_err();
    assert!(matches!(full, Error::DiskFull { .. }), "{full}");
    assert_eq!(copies(&world), Vec::<String>::new());
    let failed = broker.maintain().unwrap_err();
    assert!(matches!(failed, Error::DiskFull { .. }), "{failed}");
    let health = broker.health();
    assert!(
        matches!(health.problems(), [Problem::Compaction { cause: Error::DiskFull { .. }, .. }]),
        "{health}"
    );
    // Nothing else suffers.
    send(&broker, "k0", Some("new"));
    broker.checkpoint().unwrap();
    assert_eq!(all(&broker, "t").len(), 201);
    world.storage.set_capacity(u64::MAX);
    broker.maintain().unwrap();
    assert!(broker.health().is_ok(), "{}", broker.health());
    assert_eq!(all(&broker, "t").len(), 11);
}

#[test]
fn a_discarded_copy_does_not_come_back() {
    let world = world();
    let storage = Faulty::new(world.storage.clone());
    let broker = open_on(&world, &storage);
    let config = compacted().cleanup_policy(CleanupPolicy::CompactDelete);
    broker.create_topic("t", config).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    broker.admin().alter_topic("t", [("segment.bytes", "1048576")]).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    storage.order("sync", ".1.log", Act::Meet(Arc::clone(&barrier)));
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| broker.maintain());
        barrier.wait();
        storage.heal();
        rounds(&broker, 20..40);
        broker.checkpoint().unwrap();
        broker.admin().delete_records(&tp("t", 0), 100).unwrap();
        barrier.wait();
        pass.join().unwrap().unwrap();
    });
    let newest_now = newest(&broker);
    broker.close().unwrap();
    let left = world.storage.crash(Crash::LoseAll, &SeededRandom::new(1));
    let again =
        World { storage: left, clock: Arc::clone(&world.clock), config: world.config.clone() };
    let left = |finding: &Finding| finding.kind != FindingKind::Derived;
    let left: Vec<_> = findings(&again).into_iter().filter(left).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(newest(&again.open()), newest_now);
}

#[test]
fn every_offset_is_a_position() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted().delete_retention(Duration::ZERO)).unwrap();
    rounds(&broker, 0..20);
    (0..10).for_each(|key| send(&broker, &format!("k{key}"), None));
    // The last segment holds nothing any more, and neither do those before it.
    for _ in 0..3 {
        broker.admin().compact("t").unwrap();
    }
    let check = |broker: &Broker| {
        let records = all(broker, "t");
        let state = broker.describe_topic("t").unwrap().partitions[0].clone();
        assert_eq!(state.end_offset, 210);
        let mut one = reader(broker, "t", 1);
        for offset in 0..=210 {
            one.seek(&tp("t", 0), offset).unwrap();
            let expected: Vec<_> =
                records.iter().filter(|record| record.offset >= offset).cloned().collect();
            assert_eq!(drain(&mut one), expected, "{offset}");
            assert_eq!(one.position(&tp("t", 0)).unwrap().offset(), 210);
        }
        let time = broker.admin().offset_for_time(&tp("t", 0), Timestamp::from_millis(0)).unwrap();
        assert_eq!(time.map(|found| found.0), records.first().map(|first| first.offset));
    };
    check(&broker);
    broker.close().unwrap();
    assert_eq!(findings(&world).len(), 0, "{:?}", findings(&world));
    let broker = world.open();
    check(&broker);
    send(&broker, "new", Some("v"));
    assert_eq!(all(&broker, "t").last().unwrap().offset, 210);
    for crash in [Crash::Kill, Crash::LoseAll] {
        let (again, broker) = after_crash(&world, crash);
        drop(all(&broker, "t"));
        send(&broker, "new", Some("w"));
        broker.admin().compact("t").unwrap();
        assert_eq!(all(&broker, "t").len(), 1);
        broker.close().unwrap();
        let damage: Vec<_> = findings(&again)
            .into_iter()
            .filter(|finding| finding.kind != FindingKind::Derived)
            .collect();
        assert!(damage.is_empty(), "{damage:?}");
    }
}

#[test]
fn a_record_larger_than_a_new_table_is_taken() {
    let world = world();
    let broker = world.open();
    let config = TopicConfig::new().max_message_bytes(16 << 20);
    broker.create_topic("plain", config.clone()).unwrap();
    broker.create_topic("t", config.cleanup_policy(CleanupPolicy::Compact)).unwrap();
    let value = vec![b'v'; 8 << 20];
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for topic in ["plain", "t"] {
        for _ in 0..3 {
            let sent = producer.send(Record::to(topic).key("k").value(&value));
            assert!(sent.is_ok(), "{topic}: {:?}", sent.err());
        }
    }
    broker.admin().compact("t").unwrap();
    assert_eq!(all(&broker, "t").len(), 1);
}

/// Reads the topic to its end, or to an error. Each record that it finds must be right.
fn first_error(broker: &Broker, is_right: impl Fn(&Owned) -> bool) -> Option<Error> {
    let mut one = reader(broker, "t", 1);
    loop {
        match one.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => return None,
            Ok(records) => {
                let records = crate::world::owned(&records);
                let wrong = records.into_iter().find(|record| !is_right(record));
                assert!(wrong.is_none(), "{wrong:?}");
            }
            Err(error) => return Some(error),
        }
    }
}

#[test]
fn a_damaged_cleaned_segment_never_shows_older_values() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted().segment_bytes(4 << 20)).unwrap();
    let rounds = |rounds: std::ops::Range<usize>| {
        for round in rounds {
            let value = format!("{round}").repeat(20 << 10);
            (0..10).for_each(|key| send(&broker, &format!("k{key}"), Some(&value)));
        }
    };
    rounds(0..5);
    broker.admin().compact("t").unwrap();
    let bytes_of = |name: &str| {
        let file = world.storage.open(&Path::new("t-0").join(name), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let logs = files(&world);
    assert_eq!(logs.len(), 1, "{logs:?}");
    let older = bytes_of(&logs[0]);
    let older_sums = bytes_of(&logs[0].replace(".log", ".sums"));
    rounds(5..10);
    broker.admin().compact("t").unwrap();
    let logs = files(&world);
    assert_eq!(logs.len(), 1, "{logs:?}");
    broker.close().unwrap();
    let whole = bytes_of(&logs[0]);
    let mut lengthened = whole.clone();
    lengthened.extend_from_slice(&older);
    for (what, bytes) in [
        ("older", older.clone()),
        ("longer", lengthened),
        ("shorter", whole[..whole.len() - 100].to_vec()),
        ("empty", Vec::new()),
        ("gone", vec![0xFF]),
        ("older with its sums", older.clone()),
    ] {
        let left = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        let again =
            World { storage: left, clock: Arc::clone(&world.clock), config: world.config.clone() };
        let path = Path::new("t-0").join(&logs[0]);
        again.storage.remove(&path).unwrap();
        let put = |path: &Path, bytes: &[u8]| {
            let file = again.storage.open(path, OpenMode::CreateNew).unwrap();
            file.write_at(bytes, 0).unwrap();
        };
        if what != "gone" {
            put(&path, &bytes);
        }
        if what == "older with its sums" {
            let sums = Path::new("t-0").join(logs[0].replace(".log", ".sums"));
            again.storage.remove(&sums).unwrap();
            put(&sums, &older_sums);
        }
        assert!(!findings(&again).is_empty(), "{what}");
        let broker = again.open();
        let read = first_error(&broker, |record| record.offset >= 90);
        let read = read.unwrap_or_else(|| panic!("{what}: no damage was reported"));
        assert!(matches!(read, Error::Corrupt(_) | Error::MissingSegment { .. }), "{what}: {read}");
        let failed = broker.admin().compact("t");
        assert!(!matches!(failed, Err(Error::Closed)), "{what}: {failed:?}");
    }
}

#[test]
fn a_small_map_needs_several_passes_and_keeps_everything() {
    let mut world = world();
    world.config = world.config.clone().cleaner_memory(64 << 10);
    let broker = world.open();
    broker
        .create_topic("t", compacted().segment_bytes(64 << 10).delete_retention(Duration::ZERO))
        .unwrap();
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut expected = BTreeMap::new();
    for n in 0..12_000_u32 {
        let key = format!("k{}", n.wrapping_mul(2_654_435_761) % 6_000);
        let value = format!("{n}");
        let record = Record::to("t").key(&key);
        if n % 5 == 0 {
            producer.send(record).unwrap();
            expected.remove(&key);
        } else {
            producer.send(record.value(&value)).unwrap();
            expected.insert(key.clone(), value.clone());
        }
    }
    let state = |broker: &Broker| {
        let mut table = BTreeMap::new();
        for (_, key, value) in found(&all(broker, "t")) {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        table
    };
    let done = broker.admin().compact("t").unwrap();
    assert!(done.passes > 2, "{done:?}");
    assert_eq!(state(&broker), expected);
    for _ in 0..2 {
        broker.admin().compact("t").unwrap();
        assert_eq!(state(&broker), expected);
    }
    let (_, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!(state(&broker), expected);
    assert_eq!(all(&broker, "t").len(), expected.len());
}

#[test]
fn a_reader_of_another_process_is_told_to_refresh() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    let storage = Arc::new(world.storage.clone());
    let mut beside = Broker::open_storage_read_only(storage).unwrap();
    broker.admin().compact("t").unwrap();
    let mut one = beside.consumer().unwrap();
    one.assign([tp("t", 0)]).unwrap();
    one.seek(&tp("t", 0), 0).unwrap();
    let error = one.poll(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("refresh"), "{error}");
    assert!(beside.refresh().unwrap());
    let mut one = beside.consumer().unwrap();
    one.assign([tp("t", 0)]).unwrap();
    one.seek(&tp("t", 0), 0).unwrap();
    assert_eq!(one.poll(Duration::ZERO).unwrap().iter().count(), 10);
}

/// How many rounds of values are written, and how many survive power loss.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    written: usize,
    synced: usize,
}

/// Writes rounds of values around passes that end early, until something fails.
fn around_passes(world: &World, storage: &Faulty, kept: &mut Kept) -> grouplog::Result<()> {
    let open = || Broker::open_storage(Arc::new(storage.clone()), world.config.clone());
    let write = |broker: &Broker, rounds: usize, kept: &mut Kept| {
        let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written))?;
        for _ in 0..rounds {
            for key in 0..10 {
                let (key, value) = (format!("k{key}"), format!("{:050}", kept.written));
                producer.send(Record::to("t").key(&key).value(&value))?;
            }
            // Stores through maps do not fail after a crash.
            kept.written += usize::from(!world.storage.has_crashed());
        }
        Ok(())
    };
    let checkpoint = |broker: &Broker, kept: &mut Kept| {
        broker.checkpoint()?;
        kept.synced = kept.written;
        Ok(())
    };
    let broker = open()?;
    broker.create_topic("t", compacted())?;
    write(&broker, 12, kept)?;
    checkpoint(&broker, kept)?;
    // The first pass ends in the middle, and so do two more.
    for (part, rounds) in [("60.1.log", 1), ("90.1.log", 4), ("90.2.log", 0)] {
        storage.order("create", part, Act::Fail(28));
        drop(broker.admin().compact("t"));
        storage.heal();
        write(&broker, rounds, kept)?;
        if rounds > 0 {
            checkpoint(&broker, kept)?;
        }
    }
    broker.close()?;
    kept.synced = kept.written;
    // A pass comes before the first append.
    let broker = open()?;
    broker.maintain()?;
    write(&broker, 5, kept)?;
    broker.admin().compact("t")?;
    write(&broker, 1, kept)?;
    broker.close()?;
    kept.synced = kept.written;
    Ok(())
}

#[test]
fn no_crash_around_passes_that_end_early_loses_a_value() {
    for_every_crash(|world| world);
    // The same with one sync for all files, and with records that appends store themselves.
    for_every_crash(|world| {
        world.storage.sync_whole_above(0);
        world
    });
    for_every_crash(|mut world| {
        world.config = world.config.stored_append_bytes(1);
        world
    });
}

fn for_every_crash(set: impl Fn(World) -> World) {
    let fresh = |seed| set(World::on(Memory::crash_simulating(seed)).batch_size(1024));
    let whole = fresh(1);
    let mut kept = Kept::default();
    around_passes(&whole, &Faulty::new(whole.storage.clone()), &mut kept).unwrap();
    let every = if std::env::var("GROUPLOG_SEEDS").is_ok() { 1 } else { 13 };
    for op in (1..=whole.storage.ops()).step_by(every) {
        let world = fresh(op);
        world.storage.crash_at(op);
        let mut kept = Kept::default();
        drop(around_passes(&world, &Faulty::new(world.storage.clone()), &mut kept));
        for crash in [Crash::Kill, Crash::LoseAll, Crash::Subset { unit: 512 }] {
            let least = if matches!(crash, Crash::Kill) { kept.written } else { kept.synced };
            let left = world.storage.crash(crash, &SeededRandom::new(op));
            let again = World {
                storage: left,
                clock: Arc::clone(&world.clock),
                config: world.config.clone(),
            };
            let context = format!("op {op}, {crash:?}, {kept:?}");
            let broker = again.open();
            let damaged = broker.recovery_report().damaged.clone();
            assert!(damaged.is_empty(), "{context}: {damaged:?}");
            if least == 0 {
                continue;
            }
            let check = |broker: &Broker| {
                let newest = newest(broker);
                assert_eq!(newest.len(), 10, "{context}");
                for (offset, key, _) in newest {
                    assert!(offset / 10 >= least as i64 - 1, "{context}: {key} at {offset}");
                }
            };
            check(&broker);
            broker.admin().compact("t").unwrap();
            check(&broker);
            broker.close().unwrap();
            let found: Vec<_> = findings(&again)
                .into_iter()
                .filter(|finding| finding.kind != FindingKind::Derived)
                .collect();
            assert!(found.is_empty(), "{context}: {found:?}");
            check(&again.open());
        }
    }
}

#[test]
fn everything_at_once_ends_and_loses_nothing() {
    let mut world = world();
    world.config = BrokerConfig::new()
        .clock(Arc::clone(&world.clock) as _)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .batch_size(1024)
        .cleaner_memory(64 << 10)
        .cleaner_interval(Duration::from_millis(1));
    let broker = world.open();
    let config = compacted().min_cleanable_dirty_ratio(0.1).delete_retention(Duration::ZERO);
    broker.create_topic("t", config.clone()).unwrap();
    let both = config.clone().cleanup_policy(CleanupPolicy::CompactDelete);
    broker.create_topic("u", both).unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let goes_on = || !ended.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on() {
                match broker.admin().compact("t") {
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            let admin = broker.admin();
            while goes_on() {
                let state = broker.describe_topic("u").unwrap().partitions[0].clone();
                let middle = i64::midpoint(state.start_offset, state.end_offset);
                admin.delete_records(&tp("u", 0), middle).unwrap();
                admin.compact("u").unwrap();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                broker.create_topic("v", config.clone()).unwrap();
                let producer = broker.producer().unwrap();
                for n in 0..100 {
                    producer.send(Record::to("v").key("k").value(&format!("{n:060}"))).unwrap();
                }
                broker.checkpoint().unwrap();
                broker.delete_topic("v").unwrap();
            }
        });
        scope.spawn(|| {
            while goes_on() {
                let records = all(&broker, "t");
                assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
            }
        });
        let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
        for round in 0..400 {
            for key in 0..10 {
                let (key, value) = (format!("k{key}"), format!("{round}-"));
                for topic in ["t", "u"] {
                    producer.send(Record::to(topic).key(&key).value(&value)).unwrap();
                }
            }
        }
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(broker.health().is_ok(), "{}", broker.health());
    assert_eq!(newest(&broker), last_of_each_key(399));
    assert_eq!(all(&broker, "u").last().unwrap().offset, 3999);
    broker.close().unwrap();
    let damage: Vec<_> =
        findings(&world).into_iter().filter(|found| found.kind != FindingKind::Derived).collect();
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!(newest(&world.open()), last_of_each_key(399));
}
