//! Deleting records from the front of a partition.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{OpenMode, Storage};
use grouplog::{
    Broker, ConsumerConfig, Error, OffsetReset, Record, Timestamp, TopicConfig, Verify,
};

use crate::world::{World, all, drain, reader, refused, tp};

/// Sends records of half a kilobyte each, a few to a segment.
fn filled(world: &World, count: usize) -> Broker {
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().segment_bytes(2048)).unwrap();
    send(&broker, 0, count);
    broker
}

fn send(broker: &Broker, from: usize, to: usize) {
    let producer = broker.producer().unwrap();
    for n in from..to {
        let time = Timestamp::from_millis(1_000 + n as i64);
        producer.send(Record::to("t").value(&format!("{n:0500}")).timestamp(time)).unwrap();
    }
}

fn offsets(broker: &Broker) -> Vec<i64> {
    all(broker, "t").iter().map(|record| record.offset).collect()
}

fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

/// Returns the segment files of the partition.
fn files(world: &World) -> Vec<String> {
    let names = world.storage.list(Path::new("t-0")).unwrap();
    names.into_iter().map(|entry| entry.name).filter(|name| is_log(name)).collect()
}

#[test]
fn deleted_records_and_their_files_stay_deleted() {
    let world = World::new().batch_size(1024);
    let broker = filled(&world, 40);
    let admin = broker.admin();
    broker.checkpoint().unwrap();
    let before = files(&world).len();
    assert!(before > 8, "{before}");
    // Readers keep the records that they hold.
    let mut early = reader(&broker, "t", 1);
    let held = early.poll(Duration::ZERO).unwrap();
    assert_eq!(admin.delete_records(&tp("t", 0), 23).unwrap(), 23);
    assert_eq!(held.iter().count(), 40);
    assert_eq!(held.iter().next().unwrap().value().map(<[u8]>::len), Some(500));
    assert_eq!(offsets(&broker), (23..40).collect::<Vec<_>>());
    broker.checkpoint().unwrap();
    assert!(files(&world).len() < before / 2 + 2, "{:?}", files(&world));

    // The same or a lower offset changes nothing; an offset beyond the end is refused.
    assert_eq!(admin.delete_records(&tp("t", 0), 5).unwrap(), 23);
    let below = refused(admin.delete_records(&tp("t", 0), -2));
    assert!(matches!(below, Error::OffsetOutOfRange { requested: -2, start: 23, end: 40, .. }));
    let beyond = refused(admin.delete_records(&tp("t", 0), 41));
    assert!(matches!(beyond, Error::OffsetOutOfRange { requested: 41, start: 23, end: 40, .. }));
    assert!(matches!(
        refused(admin.delete_records(&tp("t", 1), 0)),
        Error::UnknownPartition { .. }
    ));

    // Deletes all records, then appends more.
    assert_eq!(admin.delete_records(&tp("t", 0), 40).unwrap(), 40);
    assert!(offsets(&broker).is_empty());
    send(&broker, 40, 43);
    assert_eq!(offsets(&broker), [40, 41, 42]);
    broker.close().unwrap();
    let broker = world.open();
    assert_eq!(offsets(&broker), [40, 41, 42]);
    assert_eq!(files(&world), [log_name(40)]);
    assert!(!broker.recovery_report().unclean);
}

fn log_name(base_offset: i64) -> String {
    format!("{base_offset:020}.log")
}

/// Returns the bytes of all files of the partition, except the text that names its topic.
fn bytes(world: &World) -> u64 {
    let entries = world.storage.list(Path::new("t-0")).unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    let counted = names.filter(|name| name != "partition.metadata");
    counted
        .map(|name| world.storage.metadata(&Path::new("t-0").join(name)).unwrap().unwrap().1)
        .sum()
}

#[test]
fn a_partition_whose_records_are_all_deleted_keeps_no_bytes() {
    for closes in [false, true] {
        let world = World::new();
        let mut broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        send(&broker, 0, 40);
        broker.checkpoint().unwrap();
        assert_eq!(files(&world), [log_name(0)]);
        assert!(bytes(&world) > 20_000);
        assert_eq!(broker.admin().delete_records(&tp("t", 0), 40).unwrap(), 40);
        broker.checkpoint().unwrap();
        assert_eq!(bytes(&world), 0, "{:?}", files(&world));
        let topic = broker.describe_topic("t").unwrap();
        let partition = &topic.partitions[0];
        assert_eq!((partition.start_offset, partition.end_offset), (40, 40));
        assert_eq!((partition.segments, partition.bytes), (0, 0));
        if closes {
            broker.close().unwrap();
            broker = world.open();
        }
        // An empty log that does not begin at 0 can be read, appended to and closed.
        let mut early = reader(&broker, "t", 1);
        assert!(early.poll(Duration::ZERO).unwrap().is_empty());
        send(&broker, 40, 42);
        assert_eq!(drain(&mut early).len(), 2);
        broker.checkpoint().unwrap();
        assert_eq!(files(&world), [log_name(40)]);
        broker.close().unwrap();
        let broker = world.open();
        assert_eq!(offsets(&broker), [40, 41], "closes: {closes}");
        assert!(!broker.recovery_report().unclean);
    }
}

#[test]
fn a_batch_behind_a_deleted_segment_begins_a_new_one() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 0, 4);
    broker.checkpoint().unwrap();
    broker.admin().delete_records(&tp("t", 0), 4).unwrap();
    // Appended before the next checkpoint, which writes it out.
    send(&broker, 4, 5);
    broker.checkpoint().unwrap();
    assert_eq!(files(&world), [log_name(4)]);
    assert_eq!(offsets(&broker), [4]);
}

#[test]
fn readers_from_outside_see_a_partition_without_segments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 0, 4);
    broker.checkpoint().unwrap();
    let mut beside = Broker::open_read_only(&path).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    assert_eq!(drain(&mut reader).len(), 4);
    broker.admin().delete_records(&tp("t", 0), 4).unwrap();
    broker.checkpoint().unwrap();
    for sent in [4, 6, 9] {
        send(&broker, beside.log_bounds(&tp("t", 0)).unwrap().1 as usize, sent);
        beside.refresh().unwrap();
        assert_eq!(beside.log_bounds(&tp("t", 0)).unwrap(), (4, sent as i64));
        let mut reader = beside.consumer().unwrap();
        reader.assign([tp("t", 0)]).unwrap();
        assert_eq!(drain(&mut reader).len(), sent - 4);
        let checked = Verify::new().run(&path).unwrap();
        assert!(checked.findings.is_empty(), "{checked:?}");
        broker.checkpoint().unwrap();
    }
}

#[test]
fn a_position_at_deleted_records_fails_or_follows_the_policy() {
    let world = World::new();
    let broker = filled(&world, 10);
    for (group, reset, next) in [
        ("earliest", OffsetReset::Earliest, Some(6)),
        ("latest", OffsetReset::Latest, None),
        ("none", OffsetReset::None, None),
    ] {
        let config = ConsumerConfig::new().group(group).auto_offset_reset(reset);
        let mut consumer = broker.consumer_with(config).unwrap();
        consumer.commit_offsets([(tp("t", 0), 2)]).unwrap();
        consumer.assign([tp("t", 0)]).unwrap();
        broker.admin().delete_records(&tp("t", 0), 6).unwrap();
        let polled = consumer.poll(Duration::ZERO);
        if reset == OffsetReset::None {
            assert!(matches!(refused(polled), Error::OffsetOutOfRange { requested: 2, .. }));
        } else {
            let first = polled.unwrap().iter().next().map(|record| record.offset());
            assert_eq!(first, next, "{group}");
        }
    }
}

#[test]
fn times_are_searched_among_the_remaining_records() {
    for kind in ["CreateTime", "LogAppendTime"] {
        let world = World::new().batch_size(1024);
        let broker = filled(&world, 0);
        let admin = broker.admin();
        admin.alter_topic("t", [("message.timestamp.type", kind)]).unwrap();
        send(&broker, 0, 12);
        broker.checkpoint().unwrap();
        admin.delete_records(&tp("t", 0), 7).unwrap();
        let zero = Timestamp::from_millis(0);
        let found = admin.offset_for_time(&tp("t", 0), zero).unwrap().unwrap();
        assert_eq!(found.0, 7, "{kind}");
        admin.delete_records(&tp("t", 0), 12).unwrap();
        assert_eq!(admin.offset_for_time(&tp("t", 0), zero).unwrap(), None, "{kind}");
    }
}

#[test]
fn readers_beside_deletions_see_records_or_out_of_range_never_damage() {
    let world = World::new().batch_size(1024);
    let mut config = world.config.clone();
    config = config.background(true);
    let broker = Broker::open_storage(Arc::new(world.storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new().segment_bytes(2048)).unwrap();
    send(&broker, 0, 400);
    broker.checkpoint().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let config = ConsumerConfig::new().auto_offset_reset(OffsetReset::Earliest);
                let mut reader = broker.consumer_with(config.max_poll_records(3)).unwrap();
                reader.assign([tp("t", 0)]).unwrap();
                let mut last = -1;
                while last < 399 {
                    for record in &reader.poll(Duration::from_secs(20)).unwrap() {
                        assert!(record.offset() > last);
                        last = record.offset();
                        let value = format!("{last:0500}");
                        assert_eq!(record.value(), Some(value.as_bytes()));
                    }
                }
            });
        }
        for before in (0..396).step_by(4) {
            broker.admin().delete_records(&tp("t", 0), before).unwrap();
            broker.checkpoint().unwrap();
        }
    });
    assert_eq!(drain(&mut reader(&broker, "t", 1)).len(), 400 - 392);
}

/// Returns the length of the body of the newer checkpoint.
fn checkpoint_bytes(world: &World) -> u32 {
    let heads = ["checkpoint.a", "checkpoint.b"].map(|name| {
        let file = world.storage.open(Path::new(name), OpenMode::Read).unwrap();
        let mut head = [0; 44];
        assert_eq!(file.read_at(&mut head, 0).unwrap(), 44);
        let generation = u64::from_be_bytes(head[28..36].try_into().unwrap());
        (generation, u32::from_be_bytes(head[36..40].try_into().unwrap()))
    });
    heads.into_iter().max().unwrap().1
}

/// Each open that appends begins an epoch. Epochs without records are forgotten.
#[test]
fn epochs_of_records_that_are_gone_go_too() {
    let world = World::new().batch_size(1024);
    filled(&world, 0).close().unwrap();
    let mut lengths = Vec::new();
    for opening in 0..24 {
        let broker = world.open();
        send(&broker, opening * 10, (opening + 1) * 10);
        let end = (opening as i64 + 1) * 10;
        broker.checkpoint().unwrap();
        // The second opening leaves two epochs, so it exports them. Later ones shorten the export.
        if opening > 1 {
            assert_eq!(broker.admin().delete_records(&tp("t", 0), end - 2).unwrap(), end - 2);
            assert_eq!(offsets(&broker), [end - 2, end - 1]);
        }
        broker.close().unwrap();
        lengths.push(checkpoint_bytes(&world));
        let storage: Arc<dyn Storage> = Arc::new(world.storage.clone());
        let verified = Verify::new().run_storage(&storage).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    }
    assert_eq!(lengths.iter().max(), lengths[..3].iter().max(), "{lengths:?}");
    let export = world.storage.open(Path::new("t-0/leader-epoch-checkpoint"), OpenMode::Read);
    let mut text = [0; 100];
    let read = export.unwrap().read_at(&mut text, 0).unwrap();
    let text = std::str::from_utf8(&text[..read]).unwrap();
    assert!(text.lines().count() <= 4, "{text}");
}
