//! Partitions of a closed folder, which the engine does not check before their first use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, Error, HealthStatus, Problem, Producer, ProducerConfig, Record, Result,
    TopicConfig,
};

use crate::faulty::{Act, Faulty};
use crate::world::{World, all, refused, tp, values};

const EIO: Act = Act::Fail(5);

fn producer(broker: &Broker) -> Producer {
    let config = ProducerConfig::new().acks(Acks::Written).max_block(Duration::ZERO);
    broker.producer_with(config).unwrap()
}

/// Creates and closes topics `t` and `u` of two partitions with a record each.
fn closed() -> World {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    let sender = producer(&broker);
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new().partitions(2)).unwrap();
        for partition in 0..2 {
            sender.send(Record::to(topic).partition(partition).value(topic)).unwrap();
        }
    }
    drop(sender);
    broker.close().unwrap();
    world
}

fn open(world: &World, storage: &Faulty) -> Result<Broker> {
    Broker::open_storage(Arc::new(storage.clone()), world.config.clone())
}

fn lengths(storage: &Memory, folder: &str) -> Vec<(String, u64)> {
    let length = |name: &str| storage.metadata(&Path::new(folder).join(name)).unwrap().unwrap().1;
    let names = storage.list(Path::new(folder)).unwrap().into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), length(&name))).collect()
}

#[test]
fn opening_looks_into_no_folder_and_each_partition_is_looked_at_by_its_first_append() {
    let world = closed();
    let storage = Faulty::new(world.storage.clone());
    let forbid = || {
        for op in ["look up", "open", "list", "read"] {
            storage.order(op, "t-", EIO);
        }
    };
    forbid();
    let broker = open(&world, &storage).unwrap();
    assert_eq!(broker.describe_topic("t").unwrap().partitions[1].end_offset, 1);
    let sender = producer(&broker);
    sender.send(Record::to("u").partition(1).value("more")).unwrap();
    // An error that prevents the check is not damage: the next attempt checks again.
    let error = refused(sender.send(Record::to("t").partition(0).value("more")));
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(broker.health().is_ok(), "{}", broker.health());
    storage.heal();
    sender.send(Record::to("t").partition(0).value("more")).unwrap();
    assert_eq!(values(&all(&broker, "t")), ["t", "more", "t"]);
    assert_eq!(values(&all(&broker, "u")), ["u", "u", "more"]);

    // After a crash, the state of the partitions' folders is unknown, so opening checks all of them.
    let after = Faulty::new(world.storage.crash(Crash::Kill, &SeededRandom::new(1)));
    after.order("look up", "u-0", EIO);
    assert!(matches!(refused(open(&world, &after)), Error::Io { .. }));
    after.heal();
    assert_eq!(values(&all(&open(&world, &after).unwrap(), "t")), ["t", "more", "t"]);
}

#[test]
fn strict_opening_looks_at_all() {
    let world = closed();
    let storage = Faulty::new(world.storage.clone());
    storage.order("look up", "t-1", EIO);
    let strict = Broker::open_storage(Arc::new(storage), world.config.clone().strict(true));
    assert!(matches!(refused(strict), Error::Io { .. }));
}

#[test]
fn a_folder_of_another_topic_takes_no_appends_and_stays_as_it_is() {
    let world = closed();
    world.storage.rename(Path::new("t-0"), Path::new("old")).unwrap();
    world.storage.rename(Path::new("u-0"), Path::new("t-0")).unwrap();
    let stranger =
        world.storage.open(Path::new("t-0/00000000000000000007.log"), OpenMode::CreateNew);
    stranger.unwrap().write_at(b"begun by the other topic", 0).unwrap();
    let before = lengths(&world.storage, "t-0");

    let broker = world.open();
    let admin = broker.admin();
    for error in [
        refused(producer(&broker).send(Record::to("t").partition(0))),
        refused(admin.delete_records(&tp("t", 0), 1)),
    ] {
        assert!(matches!(&error, Error::Corrupt(_)), "{error}");
        assert!(error.to_string().contains("partition.metadata"), "{error}");
    }
    assert_eq!(broker.health().status(), HealthStatus::Degraded);
    let health = broker.health();
    assert!(matches!(health.problems(), [Problem::Partition { .. }]), "{health}");
    broker.checkpoint().unwrap();
    assert_eq!(lengths(&world.storage, "t-0"), before);
    producer(&broker).send(Record::to("t").partition(1).value("more")).unwrap();
}

#[test]
fn records_for_several_partitions_are_refused_together() {
    let world = closed();
    let [log] = &lengths(&world.storage, "t-1")
        .into_iter()
        .filter(|(name, _)| name.contains(".log"))
        .collect::<Vec<_>>()[..]
    else {
        panic!()
    };
    world.storage.remove(&PathBuf::from("t-1").join(&log.0)).unwrap();
    let broker = world.open();
    let sender = producer(&broker);
    let both = || (0..2).map(|partition| Record::to("t").partition(partition).value("more"));
    for _ in 0..2 {
        let error = refused(sender.send_all(both()));
        assert!(matches!(error, Error::MissingSegment { .. }), "{error}");
        assert_eq!(broker.describe_topic("t").unwrap().partitions[0].end_offset, 1);
    }
    sender.send_all(both().take(1)).unwrap();
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].end_offset, 2);
}

/// The header of its journal file may be the only trace of a writer that opened the closed folder.
#[test]
fn what_power_loss_leaves_of_a_later_writer_is_cut_although_the_folder_was_closed() {
    let world = closed();
    let storage = Faulty::new(world.storage.clone());
    let before = lengths(&world.storage, "t-0");
    // The checkpoint of the close stays the last one.
    storage.order("write", "checkpoint.a", Act::Fail(28));
    let broker = open(&world, &storage).unwrap();
    let sender = producer(&broker);
    for _ in 0..10 {
        sender.send(Record::to("t").partition(0).value(&[7; 500])).unwrap();
    }
    let written = lengths(&world.storage, "t-0");
    assert_ne!(written, before, "batches were written out");

    let after = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
    for entry in after.list(Path::new("journal")).unwrap() {
        let path = Path::new("journal").join(entry.name);
        let file = after.open(&path, OpenMode::Write).unwrap();
        let frames = vec![0; (file.len().unwrap() - 4096) as usize];
        file.write_at(&frames, 4096).unwrap();
    }
    let world = World { storage: after, ..world.again() };
    let broker = world.open();
    assert!(broker.recovery_report().segment_bytes_cut > 0);
    let logs = |all: Vec<(String, u64)>| all.into_iter().filter(|(name, _)| name.contains(".log"));
    assert!(logs(lengths(&world.storage, "t-0")).eq(logs(before)));
    assert_eq!(values(&all(&broker, "t")), ["t", "t"]);
}
