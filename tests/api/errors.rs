use std::path::{Path, PathBuf};
use std::time::Duration;

use grouplog::record::{Batch, BatchHeader};
use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, CorruptReason, Error, HealthStatus,
    OffsetAndMetadata, Position, ProducerConfig, Record, TopicConfig,
};

use crate::world::{Owned, World, all, drain, owned, reader, refused, tp};

#[test]
fn a_second_open_fails_and_names_the_lock_holder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = refused(Broker::open(path));
        let Error::Locked { pid, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(error.to_string().contains("this process has it open"), "{error}");
    }
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.close().unwrap();
    assert_eq!(Broker::open(&link).unwrap().list_topics(), ["t"]);
}

#[test]
fn a_foreign_folder_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = tempfile::Builder::new().prefix("theirs").tempfile_in(folder.path()).unwrap();
    let error = refused(Broker::open(folder.path()));
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    assert!(matches!(refused(Broker::open_read_only(folder.path())), Error::NotADatabase { .. }));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(theirs);
    let config = BrokerConfig::new().create(false);
    let error = refused(Broker::open_with(folder.path(), config.clone()));
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
    assert!(Broker::open_with(folder.path().join("not there"), config).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let world = World::new();
    world.open().close().unwrap();
    let names = ["checkpoint.a", "checkpoint.b"];
    let mut changed = Vec::new();
    for name in names {
        let Ok(file) = world.storage.open(Path::new(name), OpenMode::Write) else { continue };
        let mut bytes = contents(&world, name);
        bytes[8..12].copy_from_slice(&4u32.to_be_bytes());
        let body = u32::from_be_bytes(bytes[36..40].try_into().unwrap()) as usize;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..40]);
        crc.update(&bytes[44..44 + body]);
        bytes[40..44].copy_from_slice(&crc.finalize().to_be_bytes());
        file.write_at(&bytes, 0).unwrap();
        changed.push((name, bytes));
    }
    match refused(world.try_open()) {
        Error::UnsupportedFormat { path, found: 4, max: 3, .. } => {
            assert!(path.to_string_lossy().contains("checkpoint"), "{path:?}");
        }
        other => panic!("{other}"),
    }
    for (name, bytes) in changed {
        assert_eq!(contents(&world, name), bytes);
    }
}

fn contents(world: &World, name: &str) -> Vec<u8> {
    let file = world.storage.open(Path::new(name), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

#[test]
fn limits_are_refused_before_anything_is_applied() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().max_message_bytes(1024)).unwrap();
    let producer = broker.producer().unwrap();
    match refused(producer.send(Record::to("t").value(&[0; 1024]))) {
        Error::RecordTooLarge { size, max } => assert!(size > max && max == 1024, "{size}"),
        other => panic!("{other}"),
    }
    producer.send(Record::to("t").value(&[0; 900])).unwrap();
    broker.create_topic("u", TopicConfig::new()).unwrap();
    let mut many = Record::to("u");
    for _ in 0..1025 {
        many = many.null_header("h");
    }
    assert!(matches!(refused(producer.send(many)), Error::LimitExceeded { .. }));
    // A quarter of a journal of 1 MiB.
    let large = [0; 10_000];
    let error = refused(producer.send_all((0..100).map(|_| Record::to("u").value(&large))));
    assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
    assert_eq!((all(&broker, "t").len(), all(&broker, "u").len()), (1, 0));
}

#[test]
fn calls_that_make_no_sense_are_misuse() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut no_group = broker.consumer_with(ConsumerConfig::new()).unwrap();
    let mut assigned = reader(&broker, "t", 1);
    let mut subscribed = broker.consumer("g").unwrap();
    subscribed.subscribe(["t"]).unwrap();
    for error in [
        refused(no_group.poll(Duration::ZERO)),
        refused(no_group.subscribe(["t"])),
        refused(no_group.committed(&tp("t", 0))),
        refused(assigned.subscribe(["t"])),
        refused(subscribed.assign([tp("t", 0)])),
    ] {
        assert!(matches!(error, Error::Misuse(_)), "{error}");
    }
    assert!(matches!(refused(no_group.assign([tp("u", 0)])), Error::UnknownTopic { .. }));
    assert!(matches!(refused(no_group.assign([tp("t", 9)])), Error::UnknownPartition { .. }));
    assert!(matches!(refused(broker.consumer("")), Error::InvalidName { .. }));
    assert!(matches!(refused(subscribed.subscribe(["a/b"])), Error::InvalidName { .. }));
    let config = ConsumerConfig::new().max_poll_records(0);
    assert!(matches!(refused(broker.consumer_with(config)), Error::InvalidConfig { .. }));
}

#[test]
fn after_close_every_handle_says_so() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["t"]).unwrap();
    broker.clone().close().unwrap();
    for error in [
        refused(producer.send(Record::to("t"))),
        refused(producer.send_all([Record::to("t")])),
        refused(producer.flush()),
        refused(consumer.poll(Duration::ZERO)),
        refused(consumer.commit()),
        refused(broker.create_topic("u", TopicConfig::new())),
        refused(broker.delete_topic("t")),
        refused(broker.producer()),
        refused(broker.consumer("g")),
        refused(broker.checkpoint()),
    ] {
        assert!(matches!(error, Error::Closed), "{error}");
    }
    broker.close().unwrap();
}

/// The text of `LogTruncated` claims no more than the leader epochs prove.
#[test]
fn a_position_whose_epoch_does_not_match_is_reported_and_not_skipped() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.producer().unwrap().send(Record::to("t").value("v")).unwrap();
    let mut consumer = broker.consumer("g").unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    let epoch = broker.describe_topic("t").unwrap().partitions[0].leader_epoch.unwrap();
    let beyond = OffsetAndMetadata::new(100).with_leader_epoch(epoch);
    consumer.commit_offsets([(tp("t", 0), beyond)]).unwrap();
    let error = refused(consumer.poll(Duration::ZERO));
    match &error {
        Error::LogTruncated { partition, position: 100, end: 1 } => {
            assert_eq!(partition, &tp("t", 0));
        }
        other => panic!("{other}"),
    }
    let text = error.to_string();
    assert!(text.contains("100") && text.contains("offset 1 "), "{text}");
    assert!(!text.contains("crash") && !text.contains("power"), "{text}");
    consumer.seek_to_beginning(&tp("t", 0)).unwrap();
    assert_eq!(drain(&mut consumer).len(), 1);
    let epoch = consumer.seek(&tp("t", 0), Position::new(1).with_leader_epoch(77));
    assert!(matches!(refused(epoch), Error::LogTruncated { .. }));
}

#[test]
fn a_full_disk_refuses_appends_loses_nothing_and_ends_without_a_restart() {
    let world = World::new().batch_size(4096);
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    world.storage.set_capacity(8 << 20);
    let value = [5; 1000];
    let mut sent = 0;
    let error = loop {
        match producer.send(Record::to("t").value(&value)) {
            Ok(delivery) => {
                assert_eq!(delivery.metadata().offset(), sent);
                sent += 1;
            }
            Err(error) => break error,
        }
        assert!(sent < 20_000, "the disk is never full");
    };
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(error.is_retryable());
    assert!(sent > 100, "{sent}");
    assert_eq!(all(&broker, "t").len() as i64, sent);
    assert_eq!(broker.health().status(), HealthStatus::Degraded);

    world.storage.set_capacity(u64::MAX);
    for _ in 0..100 {
        let delivery = producer.send(Record::to("t").value(&value)).unwrap();
        assert_eq!(delivery.wait().unwrap().offset(), sent);
        sent += 1;
    }
    assert!(broker.health().is_ok());
    assert_eq!(all(&broker, "t").len() as i64, sent);
    broker.close().unwrap();
    assert_eq!(all(&world.open(), "t").len() as i64, sent);
}

/// Creates two partitions of several batches. Returns the batches of partition 0 with their positions.
fn two_partitions() -> (World, Vec<(u64, BatchHeader)>, Vec<Owned>) {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..60 {
        let value = [n as u8; 100];
        producer.send(Record::to("t").partition(n % 2).value(&value)).unwrap();
    }
    let model = all(&broker, "t");
    broker.close().unwrap();
    let bytes = contents(&world, "t-0/00000000000000000000.log");
    let mut batches = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let header = *Batch::parse(&bytes[at..]).unwrap().header();
        batches.push((at as u64, header));
        at += header.total_bytes();
    }
    assert!(batches.len() >= 3);
    (world, batches, model)
}

#[test]
fn a_damaged_batch_is_reported_and_everything_else_is_read() {
    let (world, batches, model) = two_partitions();
    let (position, header) = batches[1];
    let path = PathBuf::from("t-0/00000000000000000000.log");
    let pristine = contents(&world, path.to_str().unwrap());
    let lost = header.base_offset..=header.last_offset();
    for byte in (0..header.total_bytes() as u64).step_by(5) {
        // Leader epoch and bytes check only each other; nothing else covers them.
        if (12..16).contains(&byte) {
            continue;
        }
        let at = position + byte;
        let file = world.storage.open(&path, OpenMode::Write).unwrap();
        file.write_at(&[pristine[at as usize] ^ 0x10], at).unwrap();

        let broker = world.open();
        let mut reader = reader(&broker, "t", 2);
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            match reader.poll(Duration::ZERO) {
                Ok(polled) => records.extend(owned(&polled)),
                Err(error) => errors.push(error),
            }
        }
        // Records sent below, in earlier rounds, do not count.
        records.retain(|record: &Owned| record.offset < 30);
        records.sort_by_key(|record| (record.partition, record.offset));
        let expected: Vec<_> = model
            .iter()
            .filter(|record| record.partition == 1 || record.offset < *lost.start())
            .cloned()
            .collect();
        assert!(records == expected, "byte {byte}: {} records", records.len());
        assert!(!errors.is_empty(), "byte {byte}");
        for error in errors {
            assert!(error.is_corruption(), "byte {byte}: {error}");
            let Error::Corrupt(corruption) = error else { panic!("byte {byte}: {error}") };
            assert!(corruption.path.ends_with(&path), "{corruption}");
            assert_eq!(corruption.position, position, "byte {byte}: {corruption}");
            assert_eq!(corruption.partition, Some(tp("t", 0)));
            if byte >= 61 {
                assert_eq!(corruption.offsets, Some((*lost.start(), *lost.end())));
            }
        }
        assert_eq!(reader.position(&tp("t", 0)).unwrap().offset(), *lost.start());
        // Continuing behind the damage is a decision of the program.
        if byte >= 61 {
            reader.seek(&tp("t", 0), lost.end() + 1).unwrap();
            let behind = drain(&mut reader);
            assert_eq!(behind.first().unwrap().offset, lost.end() + 1);
        }
        let next = broker.producer().unwrap().send(Record::to("t").partition(1)).unwrap();
        assert!(next.metadata().offset() >= 30);
        drop((reader, broker));
        file.write_at(&pristine, 0).unwrap();
    }
}

/// Later records must not share the fate of the damage, so they go into a segment of their own.
#[test]
fn records_behind_a_damaged_segment_are_kept_apart_from_it() {
    let path = "t-0/00000000000000000000.log";
    for (what, at) in [("a record", 80), ("a leader epoch", 14), ("the last byte", usize::MAX)] {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let send = |broker: &Broker, value: &str| {
            broker.producer().unwrap().send(Record::to("t").value(value)).unwrap();
        };
        send(&broker, "before");
        broker.close().unwrap();
        let bytes = contents(&world, path);
        let at = at.min(bytes.len() - 1);
        let file = world.storage.open(Path::new(path), OpenMode::Write).unwrap();
        file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();

        let broker = world.open();
        send(&broker, "behind");
        broker.checkpoint().unwrap();
        send(&broker, "later");
        broker.close().unwrap();
        let broker = world.open();
        assert_eq!(broker.describe_topic("t").unwrap().partitions[0].segments, 2, "{what}");
        let mut reader = reader(&broker, "t", 1);
        assert!(refused(reader.poll(Duration::ZERO)).is_corruption(), "{what}");
        reader.seek(&tp("t", 0), 1).unwrap();
        let values: Vec<_> = drain(&mut reader).into_iter().map(|record| record.value).collect();
        assert_eq!(values, [Some(b"behind".to_vec()), Some(b"later".to_vec())], "{what}");
    }
}

/// No crash makes a journal file shorter, so nobody can know what the missing part held. The manual says what
/// to do: once filled up with zeros, the file is judged like one with a torn end.
#[test]
fn a_journal_file_that_was_cut_short_is_damage_until_it_is_filled_up() {
    let mut world = World::on(Memory::crash_simulating(1));
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for n in 0..10 {
        producer.send(Record::to("t").value(&[n; 100])).unwrap();
    }
    world.storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
    drop((producer, broker));
    let lengths = |world: &World| -> Vec<(PathBuf, u64)> {
        let names = world.storage.list(Path::new("journal")).unwrap();
        let paths = names.iter().map(|entry| Path::new("journal").join(&entry.name));
        let length = |path: PathBuf| {
            let (_, len) = world.storage.metadata(&path).unwrap().unwrap();
            (path, len)
        };
        paths.map(length).collect()
    };
    let before = lengths(&world);
    let set = |path: &Path, len: u64| {
        let file = world.storage.open(path, OpenMode::Write).unwrap();
        file.set_len(len).unwrap();
    };
    // Frames begin at byte 4096. The topic lies before the cut, most records behind it.
    for (path, _) in &before {
        set(path, 4096 + 1000);
    }
    let cut = lengths(&world);
    let Error::Corrupt(damage) = refused(world.try_open()) else { panic!() };
    assert_eq!(damage.reason, CorruptReason::Short);
    assert!(damage.path.to_string_lossy().contains("journal/"), "{damage:?}");
    assert_eq!(lengths(&world), cut, "nothing was changed");
    for (path, len) in &before {
        set(path, *len);
    }
    let broker = world.open();
    let found = all(&broker, "t");
    assert!((1..10).contains(&found.len()), "{}", found.len());
}
