//! Failures of the engine: what each call returns, what continues, and what `health` reports.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, CorruptReason, Error, HealthStatus, JournalMode, Problem, Producer,
    ProducerConfig, Record, Result, TopicConfig,
};

use crate::faulty::{Act, Faulty};
use crate::world::{AT_ONCE, World, all, drain, reader, refused, tp, values};

const EIO: Act = Act::Fail(5);

fn open(storage: &Faulty, config: &BrokerConfig) -> Result<Broker> {
    Broker::open_storage(Arc::new(storage.clone()), config.clone())
}

/// Creates a broker on a manual clock and on a storage whose calls can be made to fail; one topic `t`.
fn world() -> (World, Faulty, Broker) {
    let world = World::new().batch_size(1024);
    let storage = Faulty::new(world.storage.clone());
    let broker = open(&storage, &world.config).unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    (world, storage, broker)
}

fn producer(broker: &Broker, acks: Acks) -> Producer {
    let config = ProducerConfig::new().acks(acks).max_block(Duration::ZERO);
    broker.producer_with(config).unwrap()
}

fn problems(broker: &Broker) -> String {
    broker.health().to_string()
}

#[test]
fn a_failed_journal_sync_is_final_and_reading_goes_on() {
    let (world, storage, broker) = world();
    let sender = producer(&broker, Acks::Synced);
    sender.send(Record::to("t").partition(0).value("synced")).unwrap().wait().unwrap();
    let first = sender.send(Record::to("t").partition(0).value("first")).unwrap();
    let second = sender.send(Record::to("t").partition(0).value("second")).unwrap();
    storage.order("sync", "journal", EIO);
    for waiter in [first, second] {
        match refused(waiter.wait()) {
            Error::Indeterminate { cause } => assert!(matches!(*cause, Error::Io { .. })),
            other => panic!("{other}"),
        }
    }
    // A sync that succeeds now changes nothing.
    storage.heal();
    for error in [
        refused(sender.send(Record::to("t").value("later"))),
        refused(broker.create_topic("u", TopicConfig::new())),
        refused(broker.delete_topic("t")),
        refused(broker.checkpoint()),
    ] {
        assert!(matches!(error, Error::Failed { .. }), "{error}");
        assert!(error.is_fatal() && !error.is_retryable());
    }
    assert!(matches!(refused(sender.flush()), Error::Indeterminate { .. }));
    let health = broker.health();
    assert_eq!(health.status(), HealthStatus::Failed);
    assert!(matches!(health.problems(), [Problem::Failed { .. }]), "{health}");
    assert_eq!(values(&all(&broker, "t")), ["synced", "first", "second"]);
    drop(sender);
    assert!(matches!(refused(broker.close()), Error::Failed { .. }));

    let broker = world.open();
    assert!(broker.health().is_ok());
    let found = values(&all(&broker, "t"));
    assert_eq!(found, ["synced", "first", "second"][..found.len()]);
    assert!(!found.is_empty());
}

#[test]
fn a_commit_that_was_complete_when_the_sync_failed_is_indeterminate_and_later_ones_are_not_applied()
{
    let (_world, storage, broker) = world();
    let sender = producer(&broker, Acks::Written);
    sender.send(Record::to("t").partition(0)).unwrap();
    storage.order("sync", "journal", EIO);
    // The commit is complete in the journal when its sync fails.
    let error = refused(broker.create_topic("u", TopicConfig::new()));
    assert!(matches!(error, Error::Indeterminate { .. }), "{error}");
    let mut consumer = broker.consumer("g").unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    drain(&mut consumer);
    let error = refused(consumer.commit());
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(consumer.committed(&tp("t", 0)).unwrap(), None);
}

#[test]
fn a_failed_journal_write_is_indeterminate_for_its_frame_alone() {
    let (world, storage, broker) = world();
    drop(broker);
    let config = world.config.clone().journal_mode(JournalMode::Write);
    let broker = open(&storage, &config).unwrap();
    let sender = producer(&broker, Acks::Written);
    sender.send(Record::to("t").partition(0).value("a")).unwrap();
    storage.order("write", "journal", EIO);
    let error = refused(sender.send(Record::to("t").partition(0).value("b")));
    assert!(matches!(error, Error::Indeterminate { .. }), "{error}");
    storage.heal();
    let error = refused(sender.send(Record::to("t").partition(0).value("c")));
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(values(&all(&broker, "t")), ["a"]);
}

#[test]
fn a_failed_segment_sync_stops_checkpoints_and_appends_go_on_while_the_journal_takes_them() {
    let (world, storage, broker) = world();
    let sender = producer(&broker, Acks::Synced);
    let value = [7; 900];
    sender.send(Record::to("t").partition(0).value(&value)).unwrap();
    storage.order("sync", "t-0", EIO);
    assert!(matches!(refused(broker.checkpoint()), Error::Failed { .. }));
    storage.heal();
    // No later success is trusted.
    assert!(matches!(refused(broker.checkpoint()), Error::Failed { .. }));
    let health = broker.health();
    assert_eq!(health.status(), HealthStatus::Degraded);
    assert!(matches!(health.problems(), [Problem::CheckpointsStopped { .. }]), "{health}");

    let mut sent = 1;
    let error = loop {
        match sender.send(Record::to("t").partition(0).value(&value)) {
            // The journal is whole, and so is everything that it promises.
            Ok(delivery) => drop(delivery.wait().unwrap()),
            Err(error) => break error,
        }
        sent += 1;
        assert!(sent < 5_000, "the journal is never full");
    };
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert!(sent > 500, "{sent}");
    assert_eq!(all(&broker, "t").len(), sent);
    drop((sender, broker));
    assert_eq!(all(&world.open(), "t").len(), sent);
}

#[test]
fn waits_for_journal_space_fail_once_checkpoints_have_stopped() {
    let world = World::new().batch_size(1024);
    let storage = Faulty::new(world.storage.clone());
    let broker = open(&storage, &world.config.clone().background(true)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    storage.order("sync", "t-0", EIO);
    // The producer has no limit that ends within the test.
    let config = ProducerConfig::new().acks(Acks::Written).max_block(crate::world::LONG);
    let sender = broker.producer_with(config).unwrap();
    let began = std::thread::spawn(move || {
        loop {
            if let Err(error) = sender.send(Record::to("t").value(&[7; 900])) {
                return error;
            }
        }
    });
    let error = began.join().unwrap();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
}

#[test]
fn a_checkpoint_that_cannot_write_is_tried_again() {
    for fault in
        [("create", "t-0"), ("write", "t-0"), ("write", "checkpoint."), ("open", "checkpoint.")]
    {
        let (_world, storage, broker) = world();
        let sender = producer(&broker, Acks::Synced);
        sender.send(Record::to("t").partition(0).value("a")).unwrap();
        storage.order(fault.0, fault.1, EIO);
        let error = refused(broker.checkpoint());
        assert!(matches!(error, Error::Io { .. }), "{fault:?}: {error}");
        let health = broker.health();
        assert_eq!(health.status(), HealthStatus::Degraded, "{fault:?}");
        assert!(matches!(health.problems(), [Problem::Checkpoint { .. }]), "{fault:?}: {health}");
        sender.send(Record::to("t").partition(0).value("b")).unwrap().wait().unwrap();
        storage.heal();
        broker.checkpoint().unwrap();
        assert!(broker.health().is_ok(), "{fault:?}: {}", problems(&broker));
        assert_eq!(values(&all(&broker, "t")), ["a", "b"]);
        broker.close().unwrap();
    }
}

#[test]
fn a_panic_in_a_checkpoint_stops_all_writing_and_ends_all_waits() {
    let (world, storage, broker) = world();
    let sender = producer(&broker, Acks::Synced);
    sender.send(Record::to("t").partition(0).value("a")).unwrap();
    storage.order("write", "checkpoint.", Act::Panic);
    assert!(catch_unwind(AssertUnwindSafe(|| broker.checkpoint())).is_err());
    storage.heal();
    let Error::Failed { cause } = refused(sender.send(Record::to("t"))) else { panic!() };
    assert!(matches!(*cause, Error::Poisoned { .. }), "{cause}");
    assert_eq!(broker.health().status(), HealthStatus::Failed);
    assert_eq!(values(&all(&broker, "t")), ["a"]);
    drop((sender, broker));

    // In the engine's thread: the recovery checkpoint, which `Synced` waits for.
    storage.order("create", "t-0", Act::Panic);
    let config = world.config.clone().background(true);
    let broker = open(&storage, &config).unwrap();
    let sender = producer(&broker, Acks::Synced);
    let error = match sender.send(Record::to("t").partition(0).value("b")) {
        Ok(delivery) => refused(delivery.wait()),
        Err(error) => error,
    };
    assert!(error.is_fatal(), "{error}");
    assert!(problems(&broker).contains("a panic stopped"), "{}", problems(&broker));
}

#[test]
fn a_panic_in_the_writer_thread_stops_all_writing() {
    let (world, storage, broker) = world();
    broker.close().unwrap();
    storage.order("create", "t-0", Act::Panic);
    let broker = open(&storage, &world.config.clone().background(true)).unwrap();
    let sender = producer(&broker, Acks::Written);
    // Several filled batches: enough to hand over, too few for this thread to write them itself.
    for _ in 0..100 {
        if sender.send(Record::to("t").partition(0).value(&[b'a'; 100])).is_err() {
            break;
        }
    }
    drop(sender);
    let Error::Failed { cause } = refused(broker.close()) else { panic!() };
    assert!(cause.to_string().contains("writer thread"), "{cause}");
}

/// What a kill left may be in the cache alone, and a sync of it may have failed. The deletion relies on all
/// of it, and there is no space for a checkpoint.
#[test]
fn a_topic_is_deleted_for_good_from_a_folder_that_opens_on_a_full_disk() {
    for mode in [JournalMode::Map, JournalMode::Write] {
        let random = SeededRandom::new(1);
        let on = |storage: Memory| {
            let mut world = World::on(storage).batch_size(1024);
            world.config = world.config.journal_mode(mode);
            world
        };
        let world = on(Memory::crash_simulating(1));
        let broker = world.open();
        for topic in ["t", "u"] {
            broker.create_topic(topic, TopicConfig::new()).unwrap();
        }
        let sender = producer(&broker, Acks::Written);
        for n in 0..20 {
            let topic = if n % 2 == 0 { "t" } else { "u" };
            sender.send(Record::to(topic).value(&[b'a'; 100])).unwrap();
        }
        world.storage.fail_at(world.storage.ops() + 1, ErrorKind::Other, false);
        let failed = producer(&broker, Acks::Synced).flush();
        assert!(matches!(failed, Err(Error::Indeterminate { .. })), "{failed:?}");

        let world = on(world.storage.crash(Crash::Kill, &random));
        world.storage.set_capacity(0);
        let broker = world.open();
        assert_eq!(all(&broker, "u").len(), 10);
        broker.delete_topic("t").unwrap();

        let world = on(world.storage.crash(Crash::LoseAll, &random));
        world.storage.set_capacity(u64::MAX);
        let broker = world.open();
        assert_eq!(broker.list_topics(), ["u"], "{mode:?}");
        assert_eq!(all(&broker, "u").len(), 10, "{mode:?}");
    }
}

/// H9: a folder records which topic it belongs to, and its name alone does not count.
#[test]
fn the_folder_of_another_topic_is_damage_however_right_it_looks() {
    let world = World::new();
    let broker = world.open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
        producer(&broker, Acks::Synced).send(Record::to(topic).value("the same")).unwrap();
    }
    broker.close().unwrap();
    for (from, to) in [("t-0", "x"), ("u-0", "t-0"), ("x", "u-0")] {
        world.storage.rename(Path::new(from), Path::new(to)).unwrap();
    }
    let strict =
        Broker::open_storage(Arc::new(world.storage.clone()), world.config.clone().strict(true));
    let Err(Error::Corrupt(damage)) = strict else { panic!("{strict:?}") };
    assert_eq!(damage.reason, CorruptReason::TopicId);
    assert!(damage.path.ends_with("t-0/partition.metadata"), "{damage:?}");
}

/// A file name that a failed attempt left is not durable, although the next attempt finds the file.
#[test]
fn a_file_that_a_failed_checkpoint_left_is_there_after_a_power_loss() {
    let world = World::on(Memory::crash_simulating(1));
    let storage = Faulty::new(world.storage.clone());
    let broker = open(&storage, &world.config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    // Both checkpoint files exist, so only the name of the offset file is new.
    for _ in 0..2 {
        producer(&broker, Acks::Synced).send(Record::to("t").value("a")).unwrap();
        broker.checkpoint().unwrap();
    }
    let mut consumer = broker.consumer("g").unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    consumer.commit_offsets([(tp("t", 0), 1)]).unwrap();
    storage.order("write", "offsets.a", EIO);
    assert!(matches!(refused(broker.checkpoint()), Error::Io { .. }));
    storage.heal();
    broker.checkpoint().unwrap();

    let world = World::on(world.storage.crash(Crash::LoseAll, &SeededRandom::new(1)));
    let offsets = world.open().describe_group("g").unwrap().offsets;
    assert_eq!(offsets[0].committed, Some(1));
}

#[test]
fn a_folder_opens_though_there_is_no_space_for_its_reserve() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    producer(&broker, Acks::Synced).send(Record::to("t").value("before")).unwrap();
    broker.close().unwrap();
    assert_eq!(world.storage.metadata(Path::new("reserve")).unwrap(), None);
    world.storage.set_capacity(0);
    let broker = world.open();
    assert!(matches!(broker.health().problems()[0], Problem::DiskFull), "{}", problems(&broker));
    let sender = producer(&broker, Acks::Written);
    let error = refused(sender.send(Record::to("t").value("refused")));
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    world.storage.set_capacity(u64::MAX);
    sender.send(Record::to("t").value("after")).unwrap();
    broker.checkpoint().unwrap();
    assert!(broker.health().is_ok(), "{}", problems(&broker));
    assert_eq!(values(&all(&broker, "t")), ["before", "after"]);
}

#[test]
fn files_that_cannot_be_opened_fail_that_call_and_later_ones_work() {
    const EMFILE: Act = Act::Fail(24);
    let (world, storage, broker) = world();
    let sender = producer(&broker, Acks::Written);
    for n in 0..20 {
        sender.send(Record::to("t").partition(n % 2).value(&[n as u8; 500])).unwrap();
    }
    drop(sender);
    broker.close().unwrap();
    let broker = open(&storage, &world.config).unwrap();
    let mut reader = reader(&broker, "t", 2);
    storage.order("open", "t-0", EMFILE);
    let mut errors = 0;
    let mut records = 0;
    for _ in 0..4 {
        match reader.poll(Duration::ZERO) {
            Ok(polled) => records += polled.len(),
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors > 0);
    assert_eq!(records, 10, "the other partition is not affected");
    storage.heal();
    assert_eq!(drain(&mut reader).len(), 10);
}

/// Returns the segments of partition 0 of `t`, in order, after a clean stop. Partition 1 has records, too.
fn stopped() -> (World, Vec<String>, Vec<crate::world::Owned>) {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2).segment_bytes(4096)).unwrap();
    let sender = producer(&broker, Acks::Written);
    for n in 0..60 {
        sender.send(Record::to("t").partition(n % 2).value(&[n as u8; 400])).unwrap();
    }
    let records = all(&broker, "t");
    broker.close().unwrap();
    let segments = world.storage.list(Path::new("t-0")).unwrap();
    let logs = segments.into_iter().map(|entry| entry.name).filter(|name| name.contains(".log"));
    let logs: Vec<String> = logs.collect();
    assert!(logs.len() >= 3, "{logs:?}");
    (world, logs, records)
}

#[test]
fn a_partition_without_a_segment_is_damaged_and_everything_else_goes_on() {
    let (world, logs, records) = stopped();
    let lost = Path::new("t-0").join(&logs[1]);
    world.storage.remove(&lost).unwrap();
    let first: i64 = logs[1].trim_end_matches(".log").parse().unwrap();
    let next: i64 = logs[2].trim_end_matches(".log").parse().unwrap();

    let strict =
        Broker::open_storage(Arc::new(world.storage.clone()), world.config.clone().strict(true));
    assert!(matches!(refused(strict), Error::MissingSegment { .. }));
    for (world, was_killed) in [(killed(&world), true), (world, false)] {
        let broker = world.open();
        let cause = damage(&broker, was_killed);
        assert!(matches!(&cause, Error::MissingSegment { path, .. } if path.ends_with(&lost)));
        let health = broker.health();
        assert_eq!(health.status(), HealthStatus::Degraded);
        assert!(matches!(health.problems(), [Problem::Partition { .. }]), "{health}");
        assert!(health.to_string().contains(&logs[1]), "{health}");

        let sender = producer(&broker, Acks::Synced);
        let error = refused(sender.send(Record::to("t").partition(0)));
        assert!(matches!(error, Error::MissingSegment { .. }), "{error}");
        sender.send(Record::to("t").partition(1).value("more")).unwrap().wait().unwrap();

        let mut reader = reader(&broker, "t", 1);
        let before = drain_until_error(&mut reader);
        let expected = |from: i64, to: i64| {
            let keep =
                |r: &&crate::world::Owned| r.partition == 0 && (from..to).contains(&r.offset);
            records.iter().filter(keep).cloned().collect::<Vec<_>>()
        };
        assert_eq!(before.0, expected(0, first));
        assert!(matches!(before.1, Error::MissingSegment { .. }), "{}", before.1);
        reader.seek(&tp("t", 0), next).unwrap();
        assert_eq!(drain(&mut reader), expected(next, i64::MAX));
        drop(reader);
        broker.close().unwrap();
    }
}

#[test]
fn a_partition_with_a_short_segment_is_damaged() {
    let (world, logs, _) = stopped();
    for name in [&logs[0], &logs[logs.len() - 1]] {
        let path = Path::new("t-0").join(name);
        let file = world.storage.open(&path, OpenMode::Write).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
        for (world, was_killed) in [(killed(&world), true), (world.again(), false)] {
            let broker = world.open();
            let cause = damage(&broker, was_killed);
            assert!(matches!(cause, Error::Corrupt(_)), "{name}: {cause}");
            assert!(matches!(problems(&broker), text if text.contains("t-0")));
            assert_eq!(all_of(&broker, 1).len(), 30);
        }
    }
}

/// Returns the folder after an open that was killed.
fn killed(world: &World) -> World {
    let broker = world.open();
    let storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
    drop(broker);
    World { storage, ..world.again() }
}

/// Returns the damage of partition 0 of `t`. After a kill the open reports it, after a close the first
/// append.
fn damage(broker: &Broker, was_killed: bool) -> Error {
    let report = broker.recovery_report();
    assert_eq!(report.damaged.len(), usize::from(was_killed));
    assert_eq!(broker.health().is_ok(), !was_killed);
    if let [damaged] = &report.damaged[..] {
        assert_eq!(damaged.partition, tp("t", 0));
        return damaged.cause.clone();
    }
    refused(producer(broker, Acks::Synced).send(Record::to("t").partition(0)))
}

fn all_of(broker: &Broker, partition: u32) -> Vec<crate::world::Owned> {
    let mut reader = broker.consumer_with(grouplog::ConsumerConfig::new()).unwrap();
    reader.assign([tp("t", partition)]).unwrap();
    drain(&mut reader)
}

fn drain_until_error(reader: &mut grouplog::Consumer) -> (Vec<crate::world::Owned>, Error) {
    let mut all = Vec::new();
    loop {
        match reader.poll(Duration::ZERO) {
            Ok(polled) => all.extend(crate::world::owned(&polled)),
            Err(error) => return (all, error),
        }
    }
}

#[test]
fn a_topic_whose_files_cannot_be_moved_is_deleted_all_the_same() {
    for fault in [("rename", "t-"), ("remove", "-delete")] {
        let (world, storage, broker) = world();
        producer(&broker, Acks::Written).send(Record::to("t").partition(0).value("old")).unwrap();
        broker.checkpoint().unwrap();
        storage.order(fault.0, fault.1, EIO);
        broker.delete_topic("t").unwrap();
        assert!(broker.list_topics().is_empty());
        assert!(matches!(broker.health().problems(), [Problem::Deletion { .. }]), "{fault:?}");
        if fault.0 == "rename" {
            // The old folder is in the way of a new topic, and must not become its folder.
            let error = refused(broker.create_topic("t", TopicConfig::new()));
            assert!(matches!(error, Error::Io { .. }), "{error}");
        }
        storage.heal();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        producer(&broker, Acks::Written).send(Record::to("t").value("new")).unwrap();
        broker.checkpoint().unwrap();
        assert!(broker.health().is_ok(), "{fault:?}: {}", problems(&broker));
        assert_eq!(values(&all(&broker, "t")), ["new"]);
        broker.close().unwrap();
        assert_eq!(values(&all(&world.open(), "t")), ["new"]);
        let folders = world.storage.list(Path::new("")).unwrap();
        assert!(!folders.iter().any(|entry| entry.name.contains("-delete")), "{folders:?}");
    }
}

#[test]
fn retryable_errors_are_those_that_waiting_mends() {
    let full = Error::DiskFull { path: "a".into() };
    let cause = Arc::new(full.clone());
    for error in [full, Error::Timeout { what: "space" }, Error::Busy { path: "a".into() }] {
        assert!(error.is_retryable() && !error.is_fatal(), "{error}");
    }
    let locked = Error::Locked { path: "a".into(), pid: None };
    let failed = Error::Failed { cause: Arc::clone(&cause) };
    for error in [locked, failed, Error::Indeterminate { cause }, Error::Closed, Error::ForkedChild]
    {
        assert!(!error.is_retryable(), "{error}");
    }
}

/// Opens on memory that takes no more bytes.
#[test]
fn a_new_folder_on_a_full_disk_is_an_error_and_leaves_an_empty_folder() {
    let memory = Memory::new();
    memory.set_capacity(10_000);
    let config = BrokerConfig::new().background(false);
    let error = refused(Broker::open_storage(Arc::new(memory.clone()), config.clone()));
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    memory.set_capacity(u64::MAX);
    let broker = Broker::open_storage(Arc::new(memory), config).unwrap();
    assert!(broker.health().is_ok() && broker.list_topics().is_empty());
}

#[test]
fn a_destructor_that_sends_while_its_thread_unwinds_breaks_nothing() {
    struct LastWords(Producer);
    impl Drop for LastWords {
        fn drop(&mut self) {
            self.0.send(Record::to("t").partition(0).value("last words")).unwrap().wait().unwrap();
        }
    }

    let (_world, _storage, broker) = world();
    let last_words = LastWords(producer(&broker, Acks::Synced));
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _last_words = last_words;
        panic!("the program's own");
    }));
    assert!(unwound.is_err());
    assert!(broker.health().is_ok(), "{}", broker.health());
    producer(&broker, Acks::Synced).send(Record::to("t").partition(0).value("more")).unwrap();
    assert_eq!(values(&all(&broker, "t")), ["last words", "more"]);
}

/// If giving up the reserve fails as well, nothing that a checkpoint was to hold may be forgotten.
#[test]
fn a_checkpoint_that_cannot_have_the_reserve_is_made_up_for_by_the_next() {
    let world = World::on(Memory::crash_simulating(1)).batch_size(1024);
    let storage = Faulty::new(world.storage.clone());
    let broker = open(&storage, &world.config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let sender = producer(&broker, Acks::Written);
    for value in ["first", "second"] {
        sender.send(Record::to("t").value(value)).unwrap();
    }
    storage.order("write", "checkpoint", Act::Fail(28));
    storage.order("remove", "reserve", EIO);
    assert!(matches!(refused(broker.checkpoint()), Error::Io { .. }));
    storage.heal();
    broker.checkpoint().unwrap();
    sender.send(Record::to("t").value("third")).unwrap();
    assert!(broker.health().is_ok(), "{}", problems(&broker));
    let random = SeededRandom::new(1);
    let world = World::on(world.storage.crash(Crash::Kill, &random)).batch_size(1024);
    assert_eq!(values(&all(&world.open(), "t")), ["first", "second", "third"]);
}

/// After an open on a full disk, the recovery checkpoint is still to come. Without threads the waiter must
/// write it, and the attempt after the append may fail, too.
#[test]
fn without_threads_a_wait_for_synced_writes_the_recovery_checkpoint() {
    let mut waited = 0;
    for read in 1.. {
        let mut world = World::on(Memory::crash_simulating(1)).batch_size(1024);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        producer(&broker, Acks::Written).send(Record::to("t").value(&[1; 900])).unwrap();
        world.storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        world.storage.set_capacity(0);
        let broker = world.open();
        assert_eq!(broker.health().status(), HealthStatus::Degraded);
        world.storage.set_capacity(u64::MAX);

        let fault = world.storage.reads() + read;
        world.storage.fail_read_at(fault, ErrorKind::Other, false);
        let sent = producer(&broker, Acks::Synced).send(Record::to("t").value("synced"));
        let met = world.storage.reads() >= fault;
        world.storage.heal();
        match sent {
            Ok(delivery) => {
                let (tell, told) = mpsc::channel();
                let waiter = std::thread::spawn(move || tell.send(delivery.wait()));
                told.recv_timeout(AT_ONCE).expect("it waits for ever").unwrap();
                waiter.join().unwrap().unwrap();
                let left = world.storage.crash(Crash::LoseAll, &SeededRandom::new(1));
                assert_eq!(all(&World::on(left).open(), "t").len(), 2);
                waited += 1;
            }
            Err(error) => assert!(met && matches!(error, Error::Io { .. }), "{error:?}"),
        }
        if !met {
            break;
        }
    }
    assert!(waited > 2, "{waited}");
}

/// A topic is deleted before the recovery checkpoint, which a read keeps from being written. Creating it again
/// fails for that time, and not for good.
#[test]
fn a_read_that_fails_beside_a_deletion_stops_nothing() {
    for read in 1.. {
        let mut world = World::on(Memory::crash_simulating(1)).batch_size(1024);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        producer(&broker, Acks::Written).send(Record::to("t").value("x")).unwrap();
        world.storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        world.storage.set_capacity(0);
        let broker = world.open();
        assert_eq!(broker.health().status(), HealthStatus::Degraded);
        world.storage.set_capacity(u64::MAX);

        world.storage.fail_read_at(world.storage.reads() + 1, ErrorKind::Other, true);
        let deleted = refused(broker.delete_topic("t"));
        assert!(matches!(deleted, Error::Indeterminate { .. }), "{deleted:?}");
        world.storage.heal();
        world.storage.fail_read_at(world.storage.reads() + read, ErrorKind::Other, true);
        let created = broker.create_topic("t", TopicConfig::new());
        world.storage.heal();
        match created {
            Ok(()) => break,
            Err(error) => assert!(matches!(error, Error::Io { .. }), "read {read}: {error:?}"),
        }
        broker.create_topic("t", TopicConfig::new()).unwrap();
        broker.close().unwrap();
    }
}
