//! Large appends: their records go to the segment at once, and the journal says where they are.

use std::path::{Path, PathBuf};

use grouplog::record::Compression;
use grouplog::storage::{Crash, FileKind, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, Entry, Error, Producer, ProducerConfig, Record,
    TopicConfig, TopicPartition,
};

use crate::world::World;

fn world() -> World {
    let mut world = World::on(Memory::crash_simulating(1));
    world.config = world.config.stored_append_bytes(1000);
    world
}

fn written(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

/// Returns the lengths of the values of a topic with one partition.
fn lengths(broker: &Broker, topic: &str) -> Vec<usize> {
    let config = ConsumerConfig::new();
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign([TopicPartition::new(topic, 0)]).unwrap();
    let mut lengths = Vec::new();
    loop {
        let records = consumer.poll(std::time::Duration::ZERO).unwrap();
        if records.is_empty() {
            return lengths;
        }
        lengths.extend(records.iter().map(|record| record.value().unwrap().len()));
    }
}

/// Returns the length of a topic's first segment file, which may be longer than its content.
fn segment_bytes(storage: &Memory, topic: &str) -> u64 {
    let path = PathBuf::from(format!("{topic}-0/00000000000000000000.log"));
    match storage.metadata(&path).unwrap() {
        Some((FileKind::File, len)) => len,
        _ => 0,
    }
}

#[test]
fn a_large_append_is_in_the_segment_when_the_call_returns() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = written(&broker);
    producer.send(Record::to("t").value(&[1; 500])).unwrap();
    assert_eq!(segment_bytes(&world.storage, "t"), 0);
    let sent = producer.send(Record::to("t").value(&[2; 5000])).unwrap();
    assert_eq!(sent.metadata().offset(), 1);
    assert!(segment_bytes(&world.storage, "t") > 5500);
    let sent = producer.send_all((0..10).map(|_| Record::to("t").value(&[3; 300]))).unwrap();
    assert_eq!(
        sent.metadata().map(|m| m.offset()).collect::<Vec<_>>(),
        (2..12).collect::<Vec<_>>()
    );
    assert!(segment_bytes(&world.storage, "t") > 8500);
    producer.send(Record::to("t").value(&[4; 10])).unwrap();
    let all = [&[500, 5000][..], &[300; 10], &[10]].concat();
    assert_eq!(lengths(&broker, "t"), all);

    // A kill keeps all of it.
    let killed =
        World { storage: world.storage.crash(Crash::Kill, &SeededRandom::new(0)), ..world };
    assert_eq!(lengths(&killed.open(), "t"), all);
}

#[test]
fn power_loss_takes_what_was_not_synced_from_the_end() {
    let world = world();
    let broker = world.open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let producer = written(&broker);
    let all = |size: usize| {
        let (t, u) = (vec![1; size], vec![2; size + 1]);
        let records = [Record::to("t").value(&t), Record::to("u").value(&u)];
        producer.send_all(records).unwrap().wait().unwrap();
    };
    all(2000);
    all(3000);
    let synced = broker.producer_with(ProducerConfig::new().acks(Acks::Synced)).unwrap();
    synced.flush().unwrap();
    broker.checkpoint().unwrap();
    all(4000);
    synced.flush().unwrap();
    broker.checkpoint().unwrap();
    all(5000);
    all(6000);
    for (kind, most) in [(Crash::LoseAll, 3), (Crash::KeepAll, 5)] {
        let storage = world.storage.crash(kind, &SeededRandom::new(0));
        let lost = World { storage, ..world.again() };
        let broker = lost.open();
        let found = lengths(&broker, "t");
        assert_eq!(found, [2000, 3000, 4000, 5000, 6000][..most]);
        assert_eq!(lengths(&broker, "u"), found.iter().map(|n| n + 1).collect::<Vec<_>>());
    }
}

/// A failed sync may lose bytes, and the next one does not tell. The journal does not hold them.
#[test]
fn a_checkpoint_that_lost_stored_records_stops_all_writing() {
    let mut failed = 0;
    for call in 1.. {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let producer = written(&broker);
        producer.send(Record::to("t").value(&[1; 2000])).unwrap();
        world.storage.fail_at(world.storage.ops() + call, std::io::ErrorKind::Other, false);
        let checkpoint = broker.checkpoint();
        let was_reached = checkpoint.is_err();
        failed += usize::from(was_reached);
        // The fault is over. What is acknowledged from now on must survive power loss.
        world.storage.heal();
        let synced = broker.producer_with(ProducerConfig::new().acks(Acks::Synced)).unwrap();
        let told = synced.flush();
        let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
        let lost = World { storage: lost, ..world.again() };
        if told.is_ok() {
            assert_eq!(lengths(&lost.open(), "t"), [2000], "call {call}");
        }
        if !was_reached {
            break;
        }
    }
    assert!(failed > 3, "{failed}");
}

/// What the journal knows as synced needs no proof. A damaged segment then costs its own records only.
#[test]
fn damage_of_synced_records_is_reported_and_takes_nothing_else() {
    let world = world();
    let broker = world.open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let producer = written(&broker);
    producer.send(Record::to("t").value(&[1; 2000])).unwrap();
    producer.send(Record::to("u").value(&[2; 2000])).unwrap();
    let synced = broker.producer_with(ProducerConfig::new().acks(Acks::Synced)).unwrap();
    synced.flush().unwrap();
    // Frames after the sync know of it.
    producer.send(Record::to("u").value(&[3; 10])).unwrap();
    let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
    let path = Path::new("t-0/00000000000000000000.log");
    killed.open(path, OpenMode::Write).unwrap().write_at(b"damage", 1000).unwrap();
    let world = World { storage: killed, ..world.again() };
    let broker = world.open();
    assert_eq!(lengths(&broker, "u"), [2000, 10]);
    let mut consumer = broker.consumer_with(ConsumerConfig::new()).unwrap();
    consumer.assign([TopicPartition::new("t", 0)]).unwrap();
    let error = consumer.poll(std::time::Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}

#[test]
fn what_must_be_compressed_or_synced_goes_to_the_journal() {
    let world = world();
    let broker = world.open();
    broker.create_topic("zstd", TopicConfig::new().compression(Compression::Zstd)).unwrap();
    broker.create_topic("synced", TopicConfig::new()).unwrap();
    broker.create_topic("small", TopicConfig::new().segment_bytes(1024)).unwrap();
    written(&broker).send(Record::to("zstd").value(&[1; 5000])).unwrap();
    // More than a segment may hold.
    written(&broker).send(Record::to("small").value(&[1; 5000])).unwrap();
    let synced = broker.producer_with(ProducerConfig::new().acks(Acks::Synced)).unwrap();
    synced.send(Record::to("synced").value(&[1; 5000])).unwrap().wait().unwrap();
    for topic in ["zstd", "synced", "small"] {
        assert_eq!(segment_bytes(&world.storage, topic), 0, "{topic}");
        assert_eq!(lengths(&broker, topic), [5000]);
    }
}

/// If the write fails, the records go to the journal, and nothing is lost.
#[test]
fn a_segment_that_cannot_be_written_is_no_failure_of_the_append() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = written(&broker);
    producer.send(Record::to("t").value(&[1; 2000])).unwrap();
    world.storage.fail_at(world.storage.ops() + 1, std::io::ErrorKind::StorageFull, false);
    producer.send(Record::to("t").value(&[2; 3000])).unwrap();
    producer.send(Record::to("t").value(&[3; 4000])).unwrap();
    assert_eq!(lengths(&broker, "t"), [2000, 3000, 4000]);
    let killed =
        World { storage: world.storage.crash(Crash::Kill, &SeededRandom::new(0)), ..world };
    assert_eq!(lengths(&killed.open(), "t"), [2000, 3000, 4000]);
}

#[test]
fn readers_beside_the_writer_see_stored_appends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    // Without threads, no file changes while the test looks at the journal.
    let broker = Broker::open_with(&path, BrokerConfig::new().background(false)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = written(&broker);
    let mut reader = Broker::open_read_only(&path).unwrap();
    for round in 0..20 {
        let value = vec![round; 30_000 - usize::from(round) * 1000];
        producer.send(Record::to("t").value(&value)).unwrap();
        producer.send(Record::to("t").value(b"small")).unwrap();
        reader.refresh().unwrap();
        let mut consumer = reader.consumer().unwrap();
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        let records = consumer.poll(std::time::Duration::ZERO).unwrap();
        let offsets: Vec<_> = records.iter().map(|record| record.offset()).collect();
        assert_eq!(offsets, (0..2 * (i64::from(round) + 1)).collect::<Vec<_>>());
    }
    let journal = std::fs::read_dir(path.join("journal")).unwrap();
    let mut stored = 0;
    for file in journal {
        Entry::visit(&file.unwrap().path(), |entry| stored += usize::from(entry.kind == "stored"))
            .unwrap();
    }
    assert_eq!(stored, 20);
}

/// A clock that runs a hook, once, when it is read.
#[derive(Debug)]
struct Hooked {
    inner: std::sync::Arc<grouplog::time::ManualClock>,
    hook: Hook,
}

type Run = Box<dyn FnOnce() + Send>;

#[derive(Default, Clone)]
struct Hook(std::sync::Arc<std::sync::Mutex<Option<Run>>>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Hook {
    fn set(&self, hook: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(hook));
    }

    fn run(&self) {
        let hook = self.0.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn is_set(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }
}

impl grouplog::time::Clock for Hooked {
    fn now(&self) -> grouplog::Timestamp {
        self.hook.run();
        self.inner.now()
    }

    fn monotonic(&self) -> std::time::Duration {
        self.inner.monotonic()
    }
}

/// The clock is read after the checks and before the locks: a thread may lose the processor there. Another thread
/// closes the broker meanwhile, and the next writer of the folder appends.
#[test]
fn a_late_stored_append_of_a_closed_broker_leaves_the_next_writer_alone() {
    let world = world();
    let hook = Hook::default();
    let clock = Hooked { inner: std::sync::Arc::clone(&world.clock), hook: hook.clone() };
    let config = world.config.clone().clock(std::sync::Arc::new(clock));
    let broker = Broker::open_storage(std::sync::Arc::new(world.storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = written(&broker);
    producer.send(Record::to("t").value(&[1; 2000])).unwrap();
    let next = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (again, opened) = (world.again(), std::sync::Arc::clone(&next));
    hook.set(move || {
        broker.close().unwrap();
        let next = again.open();
        written(&next).send(Record::to("t").value(&[2; 3000])).unwrap();
        let synced = next.producer_with(ProducerConfig::new().acks(Acks::Synced)).unwrap();
        synced.flush().unwrap();
        *opened.lock().unwrap() = Some(next);
    });
    let late = producer.send(Record::to("t").value(&[3; 4000]));
    assert!(!hook.is_set());
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    let next = next.lock().unwrap().take().unwrap();
    let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
    assert_eq!(lengths(&next, "t"), [2000, 3000]);
    let killed = World { storage: killed, ..world.again() };
    assert_eq!(lengths(&killed.open(), "t"), [2000, 3000]);
}

/// The same without another writer: the folder is as its closing checkpoint says.
#[test]
fn a_late_stored_append_leaves_a_closed_folder_alone() {
    let world = world();
    let hook = Hook::default();
    let clock = Hooked { inner: std::sync::Arc::clone(&world.clock), hook: hook.clone() };
    let config = world.config.clone().clock(std::sync::Arc::new(clock));
    let broker = Broker::open_storage(std::sync::Arc::new(world.storage.clone()), config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = written(&broker);
    producer.send(Record::to("t").value(&[1; 2000])).unwrap();
    let (storage, len) = (world.storage.clone(), std::sync::Arc::new(std::sync::Mutex::new(0)));
    let closed_len = std::sync::Arc::clone(&len);
    hook.set(move || {
        broker.close().unwrap();
        *closed_len.lock().unwrap() = segment_bytes(&storage, "t");
    });
    let late = producer.send(Record::to("t").value(&[3; 4000]));
    assert!(late.is_err());
    assert_eq!(segment_bytes(&world.storage, "t"), *len.lock().unwrap());
}
