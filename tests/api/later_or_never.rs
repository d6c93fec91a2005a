//! Waits for journal space or for `Synced` end at once when waiting cannot help.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{Clock, SeededRandom, SystemClock};
use grouplog::{
    Acks, Broker, BrokerConfig, Error, JournalMode, Problem, Producer, ProducerConfig, Record,
    TopicConfig,
};

use crate::faulty::{Act, Faulty};
use crate::filesystems::abort;
use crate::mounted::{Kind, Mounted};
use crate::world::{AT_ONCE, World, all, refused, tp};

/// Longer than the test may take.
const PATIENCE: Duration = Duration::from_secs(40);
const EIO: i32 = 5;
const ENOENT: i32 = 2;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
/// ENOENT, EIO, EACCES, ENFILE, EMFILE, EFBIG, EROFS.
const FINAL: [i32; 7] = [ENOENT, EIO, 13, 23, 24, 27, EROFS];
const MODES: [JournalMode; 2] = [JournalMode::Map, JournalMode::Write];

/// A configuration with the engine's threads and a small journal.
fn config(mode: JournalMode) -> BrokerConfig {
    BrokerConfig::new()
        .journal_mode(mode)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .batch_size(1024)
}

fn open(mode: JournalMode) -> (Faulty, Broker) {
    let storage = Faulty::new(Memory::new());
    let broker = Broker::open_storage(Arc::new(storage.clone()), config(mode)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    (storage, broker)
}

/// Creates a producer that waits longer than the test may take.
fn patient(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written).max_block(PATIENCE)).unwrap()
}

/// Sends until an error comes.
fn fill(producer: &Producer) -> Error {
    for _ in 0..100_000 {
        if let Err(error) = producer.send(Record::to("t").partition(0).value(&[7; 900])) {
            return error;
        }
    }
    panic!("the journal is never full");
}

/// Commits until an error comes.
fn commit(broker: &Broker) -> Error {
    let mut consumer = broker.consumer("g").unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    for _ in 0..100_000 {
        if let Err(error) = consumer.commit_offsets([(tp("t", 0), 1)]) {
            return error;
        }
    }
    panic!("the journal is never full");
}

fn errno(error: &Error) -> Option<i32> {
    let Error::Io { source, .. } = error else { return None };
    source.raw_os_error()
}

fn journal_problem(broker: &Broker) -> Option<Error> {
    broker.health().problems().iter().find_map(|problem| match problem {
        Problem::Journal { cause } => Some(cause.clone()),
        _ => None,
    })
}

/// Tries until it succeeds, which must take less time than the waits are allowed to.
fn soon(mut succeeds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !succeeds() {
        assert!(clock.monotonic() < AT_ONCE, "it does not settle");
        std::thread::yield_now();
    }
}

/// Runs `work`, which must take less time than the waits in it are allowed to.
fn at_once<T>(work: impl FnOnce() -> T) -> T {
    let clock = SystemClock::new();
    let result = work();
    assert!(clock.monotonic() < AT_ONCE, "it waited for {:?}", clock.monotonic());
    result
}

#[test]
fn a_final_failure_to_prepare_files_ends_all_waits_at_once_and_health_names_it() {
    for number in FINAL {
        for mode in MODES {
            let (storage, broker) = open(mode);
            for op in ["create", "open"] {
                storage.order(op, "", Act::Fail(number));
            }
            let producer = patient(&broker);
            at_once(|| {
                for _ in 0..3 {
                    let error = fill(&producer);
                    assert_eq!(errno(&error), Some(number), "{error}");
                }
                let committed = commit(&broker);
                assert_eq!(errno(&committed), Some(number), "{committed}");
                // By now nothing has room in the urgent part of the journal.
                let created = refused(broker.create_topic("u", TopicConfig::new()));
                assert_eq!(errno(&created), Some(number), "{created}");
                let named = journal_problem(&broker).unwrap();
                assert_eq!(errno(&named), Some(number), "{named}");
            });
            // Everything continues by itself once the cause is mended.
            storage.heal();
            let sent = all(&broker, "t").len();
            // An attempt that was under way when the cause was mended may still fail.
            soon(|| producer.send(Record::to("t").partition(0).value("after")).is_ok());
            assert_eq!(all(&broker, "t").len(), sent + 1);
            broker.checkpoint().unwrap();
            soon(|| journal_problem(&broker).is_none());
        }
    }
}

#[test]
fn a_failure_names_what_failed_first_and_not_the_cleanup() {
    for mode in MODES {
        let (storage, broker) = open(mode);
        storage.order("resize", "journal", Act::Fail(EROFS));
        storage.order("remove", "", Act::Fail(EIO));
        storage.order("create", "t-0", Act::Fail(EROFS));
        let producer = patient(&broker);
        at_once(|| {
            for _ in 0..3 {
                let error = fill(&producer);
                assert_eq!(errno(&error), Some(EROFS), "{error}");
                let named = journal_problem(&broker).unwrap().to_string();
                assert!(named.starts_with("cannot resize "), "{named}");
            }
        });
        storage.heal();
        producer.send(Record::to("t").partition(0).value("after")).unwrap();
    }
}

#[test]
fn a_final_failure_of_the_checkpoint_that_a_full_journal_waits_for_is_told_at_once() {
    for mode in MODES {
        let (storage, broker) = open(mode);
        storage.order("create", "t-0", Act::Fail(ENOENT));
        let producer = patient(&broker);
        let error = at_once(|| fill(&producer));
        assert!(error.to_string().starts_with("cannot create t-0"), "{error}");
        assert!(!error.is_retryable());
        let committed = at_once(|| commit(&broker));
        assert!(committed.to_string().starts_with("cannot create t-0"), "{committed}");
        // A frame with a file of its own waits for the same checkpoint.
        let config = ProducerConfig::new().acks(Acks::Written).max_block(PATIENCE);
        let large = broker.producer_with(config).unwrap();
        let error = at_once(|| {
            refused(large.send(Record::to("t").partition(0).value(&vec![7; 200 << 10])))
        });
        assert!(error.to_string().starts_with("cannot create t-0"), "{error}");
        assert!(matches!(broker.health().problems(), [Problem::Checkpoint { .. }]));
        storage.heal();
        producer.send(Record::to("t").partition(0).value("after")).unwrap();
    }
}

/// The opposite case: a wait continues for failures that time mends.
#[test]
fn a_full_disk_is_waited_for() {
    let (storage, broker) = open(JournalMode::Write);
    storage.order("create", "", Act::Fail(ENOSPC));
    let config = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_millis(50));
    let impatient = broker.producer_with(config).unwrap();
    let error = fill(&impatient);
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    let producer = patient(&broker);
    let waiter = std::thread::spawn(move || {
        producer.send(Record::to("t").partition(0).value("waited")).map(|_| ())
    });
    storage.heal();
    waiter.join().unwrap().unwrap();
}

#[test]
fn waits_for_synced_after_a_kill_fail_with_the_recovery_checkpoint() {
    let world = World::on(Memory::crash_simulating(1));
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.producer().unwrap().send(Record::to("t").value("before")).unwrap();
    let storage = Faulty::new(world.storage.crash(Crash::Kill, &SeededRandom::new(1)));
    drop(broker);
    storage.order("create", "t-0", Act::Fail(EROFS));
    let broker =
        Broker::open_storage(Arc::new(storage.clone()), config(JournalMode::Auto)).unwrap();
    let producer = broker.producer().unwrap();
    let sent = producer.send(Record::to("t").value("after")).unwrap();
    at_once(|| {
        let Error::Indeterminate { cause } = refused(sent.wait()) else { panic!() };
        assert_eq!(errno(&cause), Some(EROFS), "{cause}");
        let created = refused(broker.create_topic("u", TopicConfig::new()));
        assert!(matches!(created, Error::Indeterminate { .. }), "{created}");
    });
    // The checkpoint is tried again, and the sent records are there.
    storage.heal();
    producer.send(Record::to("t").value("last")).unwrap().wait().unwrap();
    assert_eq!(all(&broker, "t").len(), 3);
}

fn open_on_disk(path: &Path, mode: JournalMode) -> Broker {
    let broker = Broker::open_with(path, config(mode)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker
}

#[test]
fn a_folder_that_vanishes_is_reported_at_once() {
    for part in ["", "journal"] {
        for mode in MODES {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data");
            let broker = open_on_disk(&path, mode);
            // The journal thread may be creating a file.
            while path.join(part).exists() {
                drop(Command::new("rm").arg("-rf").arg(path.join(part)).output().unwrap());
            }
            let producer = patient(&broker);
            at_once(|| {
                for _ in 0..2 {
                    let error = fill(&producer);
                    let told = error.to_string();
                    let gone = told.contains("No such file") || told.contains("entity not found");
                    assert!(gone && !told.contains("remove"), "{part:?} {mode:?}: {told}");
                }
                assert!(!broker.health().is_ok());
                assert!(journal_problem(&broker).unwrap().to_string().contains("No such file"));
                // The space that a checkpoint frees is gone, too, although the files are still open.
                // Without the journal's folder, this depends on whether the name of its current file is durable.
                if let Err(error) = broker.checkpoint() {
                    assert!(error.to_string().contains("No such file"), "{error}");
                } else {
                    assert_eq!(part, "journal");
                }
                let sent = all(&broker, "t").len();
                let error = fill(&producer);
                // Without the whole folder, the checkpoint may be the first to fail.
                let named = error.to_string().contains("journal");
                assert!(named || part.is_empty(), "{error}");
                let more = all(&broker, "t").len() - sent;
                assert!(more < 100, "{more} records went into files that nobody will find");
            });
        }
    }
}

/// As a failing device causes it. Written by calls, since a store through a map of such a file ends the
/// process.
#[test]
fn a_file_system_that_turns_read_only_is_reported_at_once() {
    let Some(below) = Mounted::tmpfs("32m") else { return };
    let Some(disk) = Mounted::image(Kind::Ext4WithoutJournal, 24 << 20, below) else { return };
    let broker = open_on_disk(&disk.path("data"), JournalMode::Write);
    let producer = patient(&broker);
    producer.send(Record::to("t").partition(0).value("before")).unwrap();
    abort(&disk);
    at_once(|| {
        for _ in 0..2 {
            let error = fill(&producer);
            let told = error.to_string();
            assert!(told.contains("Read-only") && !told.contains("remove"), "{told}");
        }
        assert!(broker.health().to_string().contains("Read-only"), "{}", broker.health());
    });
    assert!(!all(&broker, "t").is_empty());
}
