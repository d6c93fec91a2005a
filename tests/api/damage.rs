//! Damage and its look-alikes: what `verify` finds and repairs, and what a reader beside a writer gets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::record::{BatchHeader, HEADER_BYTES, seal};
use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Broker, Error, Finding, FindingKind, Position, ReadOnlyBroker, Record, Timestamp, TopicConfig,
    Verify,
};

use crate::world::{World, drain, reader, refused, tp};

fn send(broker: &Broker, from: usize, to: usize) {
    let producer = broker.producer().unwrap();
    for n in from..to {
        let time = Timestamp::from_millis(1_000 + n as i64);
        producer.send(Record::to("t").value(&format!("{n:0500}")).timestamp(time)).unwrap();
    }
}

/// Creates topic `t` with one partition, in some segments of more than one block each.
fn filled(world: &World) -> Broker {
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().segment_bytes(150_000)).unwrap();
    send(&broker, 0, 1_000);
    broker
}

fn verify(storage: &Memory) -> Vec<Finding> {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Verify::new().threads(1).run_storage(&storage).unwrap().findings
}

fn repair(storage: &Memory, findings: &[Finding]) {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    Verify::repair_storage(&storage, findings).unwrap();
}

fn copy(storage: &Memory) -> Memory {
    storage.crash(Crash::KeepAll, &SeededRandom::new(0))
}

fn put(storage: &Memory, path: &str) {
    let file = storage.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_at(b"x", 0).unwrap();
}

fn names(storage: &Memory) -> Vec<String> {
    storage.list(Path::new("t-0")).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn each_file_that_can_be_made_again_is_missed_and_made_again() {
    let storage = Memory::crash_simulating(1);
    let world = World::on(storage.clone());
    filled(&world).close().unwrap();
    assert!(verify(&storage).is_empty(), "{:?}", verify(&storage));
    let side_file = |name: &String| {
        [".index", ".timeindex", ".sums", "checkpoint"].iter().any(|end| name.ends_with(end))
    };
    let names: Vec<_> = names(&storage).into_iter().filter(side_file).collect();
    assert!(names.len() > 9, "{names:?}");
    for name in names {
        let damaged = copy(&storage);
        damaged.remove(&Path::new("t-0").join(&name)).unwrap();
        let findings = verify(&damaged);
        let [finding] = findings.as_slice() else { panic!("{name}: {findings:?}") };
        assert_eq!(finding.kind, FindingKind::Derived, "{name}");
        assert!(finding.path.ends_with(&name), "{name}: {finding}");
        assert!(finding.to_string().ends_with("is missing"), "{finding}");
        repair(&damaged, &findings);
        assert!(verify(&damaged).is_empty(), "{name}: {:?}", verify(&damaged));
        damaged.metadata(&Path::new("t-0").join(&name)).unwrap().unwrap();
    }
}

#[test]
fn nothing_is_missed_that_is_not_written_yet() {
    let storage = Memory::crash_simulating(1);
    let world = World::on(storage.clone());
    let broker = filled(&world);
    assert!(verify(&storage).is_empty(), "beside a writer: {:?}", verify(&storage));
    broker.checkpoint().unwrap();
    send(&broker, 1_000, 1_003);
    assert!(verify(&storage).is_empty(), "behind a checkpoint: {:?}", verify(&storage));
    let killed = copy(&storage);
    drop(broker);
    assert!(verify(&killed).is_empty(), "after a kill: {:?}", verify(&killed));
    // After another open and close without a send, every file that belongs there exists.
    let world = World::on(killed.clone());
    world.open().close().unwrap();
    assert!(verify(&killed).is_empty(), "after the next close: {:?}", verify(&killed));
}

#[test]
fn what_nothing_refers_to_is_found_and_only_what_is_ours_is_removed() {
    let storage = Memory::crash_simulating(1);
    let world = World::on(storage.clone());
    filled(&world).close().unwrap();
    let ours =
        ["t-0/00000000000000000007.log", "t-0/00000000000000009999.log", "meta.properties.new"];
    let foreign = ["letter.txt", "t-0/notes.txt", "t-1", "photos"];
    for path in ["t-1", "photos", ".git"] {
        storage.create_dir(Path::new(path)).unwrap();
    }
    put(&storage, "t-1/00000000000000000000.log");
    for path in ours.iter().chain(&foreign[..2]) {
        put(&storage, path);
    }
    let findings = verify(&storage);
    let of = |kind| {
        let found = findings.iter().filter(move |finding| finding.kind == kind);
        found.map(|finding| finding.path.clone()).collect::<Vec<_>>()
    };
    for (kind, expected) in [(FindingKind::Leftover, &ours[..]), (FindingKind::Foreign, &foreign)] {
        let found = of(kind);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for path in expected {
            assert!(found.iter().any(|found| found.ends_with(path)), "{path}: {found:?}");
        }
    }
    repair(&storage, &findings);
    let left = verify(&storage);
    assert_eq!(left.len(), foreign.len(), "{left:?}");
    assert!(left.iter().all(|finding| finding.kind == FindingKind::Foreign), "{left:?}");
}

/// Opens a reader of a folder, and a consumer of it at offset 0.
fn beside(world: &World) -> (ReadOnlyBroker, grouplog::Consumer) {
    let beside = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    reader.seek(&tp("t", 0), Position::new(0)).unwrap();
    (beside, reader)
}

fn small_segments(world: &World) -> Broker {
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().segment_bytes(2_048)).unwrap();
    send(&broker, 0, 40);
    broker.checkpoint().unwrap();
    broker
}

/// The files are missing because the writer deleted the records: out of range, not damage.
#[test]
fn a_reader_that_deletions_overtook_goes_on_where_the_log_begins_by_now() {
    let world = World::new().batch_size(1024);
    let broker = small_segments(&world);
    let (beside, mut reader) = beside(&world);
    broker.admin().delete_records(&tp("t", 0), 23).unwrap();
    broker.checkpoint().unwrap();
    // The same by time.
    let found = beside.offset_for_time(&tp("t", 0), Timestamp::from_millis(1_005)).unwrap();
    assert_eq!(found, Some((23, Timestamp::from_millis(1_023))));
    // `auto.offset.reset` decides, as with a live log. The default is the first record that exists.
    let offsets: Vec<_> = drain(&mut reader).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (23..40).collect::<Vec<_>>());
    assert_eq!(beside.log_bounds(&tp("t", 0)).unwrap(), (23, 40));
}

#[test]
fn a_reader_whose_whole_view_was_deleted_is_at_its_end() {
    let world = World::new().batch_size(1024);
    let broker = small_segments(&world);
    let (mut beside, mut reader) = beside(&world);
    send(&broker, 40, 60);
    broker.admin().delete_records(&tp("t", 0), 55).unwrap();
    broker.checkpoint().unwrap();
    assert!(reader.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(reader.position(&tp("t", 0)).unwrap().offset(), 40);
    assert!(beside.refresh().unwrap());
    assert_eq!(beside.log_bounds(&tp("t", 0)).unwrap(), (55, 60));
}

#[test]
fn a_reader_whose_topic_was_deleted_gets_unknown_topic() {
    for again in [false, true] {
        let world = World::new().batch_size(1024);
        let broker = small_segments(&world);
        let (_beside, mut reader) = beside(&world);
        broker.delete_topic("t").unwrap();
        broker.checkpoint().unwrap();
        if again {
            broker.create_topic("t", TopicConfig::new().segment_bytes(2_048)).unwrap();
            send(&broker, 100, 140);
            broker.checkpoint().unwrap();
        }
        let error = refused(reader.poll(Duration::ZERO));
        assert!(matches!(error, Error::UnknownTopic { .. }), "{error}");
    }
}

/// Damage that is not a deletion is still reported as damage.
#[test]
fn a_missing_segment_is_missing_to_a_reader_beside_the_writer_too() {
    let world = World::new().batch_size(1024);
    let _broker = small_segments(&world);
    let (_beside, mut reader) = beside(&world);
    let first = Path::new("t-0/00000000000000000000.log");
    world.storage.remove(first).unwrap();
    let error = refused(reader.poll(Duration::ZERO));
    assert!(matches!(error, Error::MissingSegment { .. }), "{error}");
}

/// Changes the header of the second batch of the second segment of `t`, with the right checksum for it. Returns
/// its path, and its first and last offset.
fn lie(storage: &Memory, change: fn(&mut BatchHeader)) -> (String, (i64, i64)) {
    let logs = names(storage).into_iter().filter(|name| name.contains(".log"));
    let path = format!("t-0/{}", logs.collect::<Vec<_>>()[1]);
    let file = storage.open(Path::new(&path), OpenMode::Write).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let at = BatchHeader::parse(&bytes).unwrap().total_bytes();
    let mut header = BatchHeader::parse(&bytes[at..]).unwrap();
    let offsets = (header.base_offset, header.last_offset());
    let end = at + header.total_bytes();
    change(&mut header);
    let sealed = seal(&header, &bytes[at + HEADER_BYTES..end]).unwrap();
    file.write_at(&sealed, at as u64).unwrap();
    (path, offsets)
}

#[test]
fn a_batch_that_lies_costs_no_other_batch() {
    let storage = Memory::crash_simulating(1);
    let world = World::on(storage.clone());
    filled(&world).close().unwrap();
    let (_, (first, last)) = lie(&storage, |header| header.count -= 1);
    let findings = verify(&storage);
    let damage: Vec<_> = findings.iter().filter(|f| f.kind == FindingKind::Damage).collect();
    let Error::Corrupt(found) = &damage[0].cause else { panic!("{:?}", damage[0]) };
    assert_eq!((damage.len(), found.offsets), (1, Some((first, last))), "{findings:?}");

    let broker = world.open();
    let mut consumer = reader(&broker, "t", 1);
    let mut seen: Vec<i64> = Vec::new();
    let met = loop {
        match consumer.poll(Duration::ZERO) {
            Ok(records) => seen.extend(records.iter().map(|record| record.offset())),
            Err(Error::Corrupt(met)) => break met,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(seen, (0..first).collect::<Vec<_>>());
    assert_eq!(met.offsets, Some((first, last)));
    consumer.seek(&tp("t", 0), last + 1).unwrap();
    assert_eq!(drain(&mut consumer).len() as i64, 1_000 - last - 1);
}

#[test]
fn a_repair_keeps_the_indexes_of_a_damaged_segment() {
    let storage = Memory::crash_simulating(1);
    let world = World::on(storage.clone());
    filled(&world).close().unwrap();
    let (path, _) = lie(&storage, |header| header.count -= 1);
    let times = storage.open(Path::new(&path.replace("log", "timeindex")), OpenMode::Write);
    times.unwrap().write_at(&[7; 12], 0).unwrap();
    let read = |extension: &str| {
        let path = path.replace("log", extension);
        let file = storage.open(Path::new(&path), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let before = (read("index"), read("timeindex"));
    let findings = verify(&storage);
    for kind in [FindingKind::Damage, FindingKind::Derived] {
        assert!(findings.iter().any(|finding| finding.kind == kind), "{findings:?}");
    }
    repair(&storage, &findings);
    assert!((read("index"), read("timeindex")) == before);
}

#[test]
fn a_lost_partition_metadata_is_written_again() {
    for empty in [false, true] {
        let storage = Memory::crash_simulating(1);
        let world = World::on(storage.clone());
        filled(&world).close().unwrap();
        let path = Path::new("t-0/partition.metadata");
        storage.remove(path).unwrap();
        if empty {
            storage.open(path, OpenMode::CreateNew).unwrap();
        }
        let findings = verify(&storage);
        let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::Derived], "{findings:?}");
        repair(&storage, &findings);
        assert!(verify(&storage).is_empty());
        let broker = world.open();
        send(&broker, 1_000, 1_001);
        assert_eq!(drain(&mut reader(&broker, "t", 1)).len(), 1_001);
    }
}
