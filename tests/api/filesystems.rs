//! Real file systems that are full, read-only, or fail: tmpfs and an ext4 image on a loop device if the tests
//! run as root and may mount, otherwise a limit of the file size. A test that cannot mount says so and is
//! skipped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, Error, HealthStatus, JournalMode, Problem,
    Producer, ProducerConfig, Record, TopicConfig,
};

use crate::fork::in_child;
use crate::mounted::{Kind, Mounted, run};
use crate::world::{all, drain, refused, tp};

/// Makes an ext4 read-only under open files, as an error of its device does.
pub(crate) fn abort(disk: &Mounted) {
    let mut mount = Command::new("mount");
    // The call reports failure although it succeeded.
    let _told = mount.args(["-o", "remount,abort"]).arg(disk.root()).output().unwrap();
}

fn remount(disk: &Mounted, options: &str) {
    run(Command::new("mount").args(["-o", options]).arg(disk.root())).unwrap();
}

fn config(mode: JournalMode) -> BrokerConfig {
    BrokerConfig::new()
        .journal_mode(mode)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(512 << 10)
        .batch_size(16 << 10)
}

const MODES: [JournalMode; 2] = [JournalMode::Map, JournalMode::Write];

fn producer(broker: &Broker, acks: Acks) -> Producer {
    // Long enough for a checkpoint, but bounded if none can succeed.
    let config = ProducerConfig::new().acks(acks).max_block(Duration::from_secs(5));
    broker.producer_with(config).unwrap()
}

/// Sends to `topic` until an error. Returns the number of records sent before it, and the error.
fn fill(broker: &Broker, topic: &str, value: &[u8]) -> (usize, Error) {
    let producer = producer(broker, Acks::Written);
    for sent in 0..100_000 {
        match producer.send(Record::to(topic).partition(0).value(value)) {
            Ok(_) => {}
            Err(error) => return (sent, error),
        }
    }
    panic!("it is never full");
}

fn commit(broker: &Broker, topic: &str, group: &str) {
    let mut consumer = broker.consumer(group).unwrap();
    consumer.assign([tp(topic, 0)]).unwrap();
    consumer.seek(&tp(topic, 0), 5).unwrap();
    consumer.commit().unwrap();
}

/// There is space again, and the journal's thread checks every 100 ms.
fn heals(broker: &Broker) {
    soon(|| match broker.health() {
        health if health.is_ok() => Ok(()),
        health => Err(health.to_string()),
    });
}

/// Tries for ten seconds until the attempt succeeds.
fn soon(mut attempt: impl FnMut() -> Result<(), String>) {
    let clock = SystemClock::new();
    while let Err(why) = attempt() {
        assert!(clock.monotonic() < Duration::from_secs(10), "{why}");
        std::thread::yield_now();
    }
}

/// The life of a full disk: appends stop, everything else continues, and deleting brings appends back.
fn full_disk(path: &Path, config: &BrokerConfig) {
    let value = [9; 700];
    let broker = Broker::open_with(path, config.clone()).unwrap();
    for topic in ["keep", "ballast"] {
        broker.create_topic(topic, TopicConfig::new().segment_bytes(64 << 10)).unwrap();
    }
    let kept = producer(&broker, Acks::Synced);
    for _ in 0..20 {
        kept.send(Record::to("keep").partition(0).value(&value)).unwrap();
    }
    kept.flush().unwrap();
    let (ballast, error) = fill(&broker, "ballast", &value);
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(broker.health().status(), HealthStatus::Degraded, "{}", broker.health());

    // Stored records can be read. Commits and deletions are recorded, and survive.
    assert_eq!(all(&broker, "ballast").len(), ballast);
    commit(&broker, "keep", "g");
    drop(kept);
    // The journal keeps what cannot be written out.
    if let Err(error) = broker.close() {
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    }
    let broker = Broker::open_with(path, config.clone()).unwrap();
    assert_eq!(all(&broker, "keep").len(), 20);
    assert_eq!(all(&broker, "ballast").len(), ballast);
    commit(&broker, "keep", "h");
    broker.delete_topic("ballast").unwrap();

    // With space again, appends resume without opening the folder again.
    let producer = producer(&broker, Acks::Synced);
    let mut sent = 20;
    for _ in 0..20 {
        let record = || Record::to("keep").partition(0).value(&value);
        soon(|| match producer.send(record()) {
            // The file system releases freed space with a delay.
            Err(Error::DiskFull { .. }) => Err("the disk stays full".to_owned()),
            sent => {
                sent.unwrap().wait().unwrap();
                Ok(())
            }
        });
        sent += 1;
    }
    broker.checkpoint().unwrap();
    heals(&broker);
    drop(producer);
    broker.close().unwrap();
    let broker = Broker::open_with(path, config.clone()).unwrap();
    assert_eq!(all(&broker, "keep").len(), sent);
    for group in ["g", "h"] {
        let offsets = broker.describe_group(group).unwrap().offsets;
        assert_eq!(offsets.first().unwrap().committed, Some(5), "{group}");
    }
}

#[test]
fn a_full_tmpfs_is_an_error_that_ends_when_there_is_space() {
    for mode in MODES {
        let Some(disk) = Mounted::tmpfs("4m") else { return };
        full_disk(&disk.path("data"), &config(mode));
    }
}

#[test]
fn a_full_ext4_is_an_error_that_ends_when_there_is_space() {
    for mode in MODES {
        let Some(below) = Mounted::tmpfs("16m") else { return };
        let Some(disk) = Mounted::image(Kind::Ext4WithoutJournal, 8 << 20, below) else { return };
        full_disk(&disk.path("data"), &config(mode));
    }
}

/// Another program fills the disk while the folder is closed. The folder opens, can be read, and can be
/// deleted from.
#[test]
fn a_folder_on_a_disk_that_others_filled_opens_and_can_be_deleted_from() {
    for mode in MODES {
        let Some(disk) = Mounted::tmpfs("4m") else { return };
        let path = disk.path("data");
        // Without threads nothing changes during the copy.
        let broker = Broker::open_with(&path, config(mode).background(false)).unwrap();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        for n in 0..500 {
            let value = [n as u8; 500];
            producer(&broker, Acks::Written).send(Record::to("t").value(&value)).unwrap();
        }
        // As a kill leaves it, with a journal to replay.
        let copy = disk.path("copy");
        run(Command::new("cp").arg("-r").arg(&path).arg(&copy)).unwrap();
        drop(broker);
        run(Command::new("rm").arg("-r").arg(&path)).unwrap();
        let full = Command::new("dd")
            .args(["if=/dev/zero", "bs=4k", "status=none"])
            .arg(format!("of={}", disk.path("filler").display()))
            .output()
            .unwrap();
        assert!(!full.status.success(), "the disk is full");

        let broker = Broker::open_with(&copy, config(mode)).unwrap();
        assert_eq!(all(&broker, "t").len(), 500);
        // The opening may have freed some space.
        let (_, error) = fill(&broker, "t", &[9; 700]);
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        assert_eq!(broker.health().status(), HealthStatus::Degraded, "{}", broker.health());
        commit(&broker, "t", "g");
        broker.delete_topic("t").unwrap();
        run(Command::new("rm").arg(disk.path("filler"))).unwrap();
        broker.create_topic("u", TopicConfig::new()).unwrap();
        producer(&broker, Acks::Synced).send(Record::to("u").value("x")).unwrap().wait().unwrap();
        broker.checkpoint().unwrap();
        heals(&broker);
    }
}

/// A sync that really fails: the image is sparse, and the file system that holds it is full.
#[test]
fn a_real_failed_sync_is_final_and_loses_nothing_acknowledged() {
    let Some(below) = Mounted::tmpfs("12m") else { return };
    let Some(disk) = Mounted::image(Kind::Ext4WithoutJournal, 64 << 20, below) else { return };
    let path = disk.path("data");
    // Written by calls, since a dying disk under a map may end the process, as the README says.
    let config = config(JournalMode::Write).journal_max_bytes(2 << 20);
    let broker = Broker::open_with(&path, config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let patient = ProducerConfig::new().acks(Acks::Synced).max_block(Duration::from_millis(200));
    let producer = broker.producer_with(patient).unwrap();
    let mut value = vec![0; 8000];
    let (mut acknowledged, mut without_space) = (0, 0);
    let is_final = |problem: &Problem| {
        matches!(problem, Problem::Failed { .. } | Problem::CheckpointsStopped { .. })
    };
    while !broker.health().problems().iter().any(is_final) {
        // No two records are alike, so that the layers below cannot share blocks.
        value.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7 + acknowledged) as u8);
        let sent = producer.send(Record::to("t").value(&value));
        match sent.and_then(grouplog::Delivery::wait) {
            Ok(_) => acknowledged += 1,
            // A new journal file reached the end first, by a write or by its own sync; the existing ones continue.
            Err(error) if error.is_retryable() || matches!(error, Error::Io { .. }) => {
                without_space += 1;
            }
            Err(error) => assert!(error.is_fatal(), "{error}"),
        }
        let health = broker.health();
        assert!(acknowledged < 20_000 && without_space < 50, "no failed sync: {health}");
    }
    assert!(acknowledged > 100, "{acknowledged}");
    // No later success is trusted.
    for _ in 0..3 {
        assert!(matches!(refused(broker.checkpoint()), Error::Failed { .. }));
    }
    assert!(broker.health().problems().iter().any(is_final), "{}", broker.health());
    // Reading continues.
    assert!(all(&broker, "t").len() >= acknowledged);
}

#[test]
fn read_only_media_can_be_read() {
    let Some(disk) = Mounted::tmpfs("8m") else { return };
    let path = disk.path("data");
    let broker = Broker::open_with(&path, config(JournalMode::Auto)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    producer(&broker, Acks::Written).send(Record::to("t").value("v")).unwrap();
    broker.close().unwrap();
    remount(&disk, "remount,ro");
    let error = refused(Broker::open_with(&path, config(JournalMode::Auto)));
    let is_read_only =
        |source: &std::io::Error| source.kind() == std::io::ErrorKind::ReadOnlyFilesystem;
    assert!(matches!(&error, Error::Io { source, .. } if is_read_only(source)), "{error}");
    assert!(error.to_string().contains("grouplog.lock"), "{error}");
    let beside = Broker::open_read_only(&path).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    assert_eq!(drain(&mut reader).len(), 1);
}

/// Without root: a file may grow to 1 MiB and no further (EFBIG), as with a quota.
#[test]
fn a_limit_of_the_file_size_is_an_error_of_a_checkpoint_and_the_journal_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    assert!(in_child(|| {
        let limit = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        // SAFETY: the default action would end the process; ignored, the write fails with EFBIG.
        #[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        let config = config(JournalMode::Write).background(false);
        let broker = Broker::open_with(&path, config).unwrap();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let config = ProducerConfig::new().acks(Acks::Synced).max_block(Duration::ZERO);
        let producer = broker.producer_with(config).unwrap();
        let mut sent = 0;
        let error = loop {
            match producer.send(Record::to("t").value(&[3; 1000])) {
                Ok(delivery) => drop(delivery.wait().unwrap()),
                Err(error) => break error,
            }
            sent += 1;
        };
        let read = broker.consumer_with(ConsumerConfig::new()).and_then(|mut reader| {
            reader.assign([tp("t", 0)])?;
            Ok(drain(&mut reader).len())
        });
        matches!(error, Error::Io { .. })
            && broker.health().status() == HealthStatus::Degraded
            && read.unwrap() == sent
            && sent > 1000
    }));
    // Acknowledged records are there once the limit is gone.
    let broker = Broker::open(&path).unwrap();
    assert!(all(&broker, "t").len() > 1000);
    assert!(broker.health().is_ok());
    broker.checkpoint().unwrap();
}
