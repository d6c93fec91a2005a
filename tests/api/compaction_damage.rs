//! Cleaned segments that are damaged, missing or replaced, and readers beside a writer that compacts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, OpenMode, Storage};
use grouplog::time::{Clock, SeededRandom, SystemClock};
use grouplog::{Broker, BrokerConfig, Error, HealthStatus, Problem, TopicConfig, Verify};

use crate::compaction::{compacted, files, found, rounds, send, world};
use crate::world::{AT_ONCE, World, all, drain, reader, refused, tp};

/// Compacts twice, so that a cleaned segment has an older self. Returns both: the name and the bytes of the old and
/// of the new one.
fn two_generations(world: &World, broker: &Broker) -> [(PathBuf, Vec<u8>); 2] {
    let largest = || {
        let name = files(world).into_iter().max_by_key(|name| read(world, name).len()).unwrap();
        (Path::new("t-0").join(&name), read(world, &name))
    };
    rounds(broker, 0..5);
    send(broker, "k3", None);
    send(broker, "deleted", Some("for ever"));
    broker.admin().compact("t").unwrap();
    let before = largest();
    send(broker, "deleted", None);
    rounds(broker, 5..6);
    broker.admin().compact("t").unwrap();
    [before, largest()]
}

fn read(world: &World, name: &str) -> Vec<u8> {
    let file = world.storage.open(&Path::new("t-0").join(name), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn write(world: &World, path: &Path, bytes: &[u8]) {
    if world.storage.metadata(path).unwrap().is_some() {
        world.storage.remove(path).unwrap();
    }
    let file = world.storage.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
}

/// Reads until the end or the first error.
fn read_all(broker: &Broker) -> Result<Vec<(i64, String, Option<String>)>, Error> {
    let mut reader = reader(broker, "t", 1);
    let mut seen = Vec::new();
    loop {
        let records = reader.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(found(&seen));
        }
        seen.extend(crate::world::owned(&records));
    }
}

#[test]
fn a_cleaned_segment_that_is_not_what_it_was_is_damage() {
    for closed in [true, false] {
        for case in 0..5 {
            let world = world();
            let broker = world.open();
            broker.create_topic("t", compacted().segment_bytes(1 << 20)).unwrap();
            let [(old, old_bytes), (path, bytes)] = two_generations(&world, &broker);
            assert!(old != path && old_bytes != bytes && path.to_str().unwrap().contains(".2.log"));
            let before = read_all(&broker).unwrap();
            assert!(before.iter().all(|(_, _, value)| value.as_deref() != Some("for ever")));
            if closed {
                broker.clone().close().unwrap();
            }
            match case {
                0 => world.storage.remove(&path).unwrap(),
                1 => write(&world, &path, &bytes[..bytes.len() - 1]),
                // The older self, under the name of the newer one.
                2 => write(&world, &path, &old_bytes),
                3 => world.storage.rename(&path, &old).unwrap(),
                _ => write(&world, &path, &[bytes.as_slice(), &bytes].concat()),
            }
            // A kill, unless it was closed.
            let left = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
            drop(broker);
            let broker = World { storage: left, ..world.again() }.open();
            let error = read_all(&broker).unwrap_err();
            assert!(error.is_corruption(), "case {case}, closed {closed}: {error:?}");
            // Compaction copies nothing of it, and says so. Other topics are not affected.
            broker.create_topic("other", compacted()).unwrap();
            let refused = broker.admin().compact("t");
            assert!(refused.is_err_and(|error| error.is_corruption()), "case {case}");
            assert!(broker.admin().compact("other").is_ok());
            let error = read_all(&broker).unwrap_err();
            assert!(error.is_corruption(), "case {case} afterwards: {error:?}");
        }
    }
}

#[test]
fn health_names_the_partition_that_cannot_be_compacted_and_the_others_go_on() {
    let world = world();
    let broker = world.open();
    let config = compacted().partitions(2).min_cleanable_dirty_ratio(0.0);
    broker.create_topic("t", config).unwrap();
    let producer = broker.producer().unwrap();
    for round in 0..40 {
        for partition in 0..2 {
            let value = format!("{round} {}", "x".repeat(300));
            let record = grouplog::Record::to("t").partition(partition).key("k").value(&value);
            producer.send(record).unwrap();
        }
    }
    broker.checkpoint().unwrap();
    let path = Path::new("t-0").join("00000000000000000000.log");
    let file = world.storage.open(&path, OpenMode::Write).unwrap();
    file.write_at(&[1; 9], 400).unwrap();
    assert!(broker.maintain().unwrap_err().is_corruption());
    let health = broker.health();
    assert_eq!(health.status(), HealthStatus::Degraded);
    assert!(
        matches!(health.problems(), [Problem::Compaction { partition, cause }]
            if *partition == tp("t", 0) && cause.is_corruption()),
        "{health}"
    );
    let described = broker.describe_topic("t").unwrap().partitions;
    let passes: Vec<_> = described
        .iter()
        .map(|partition| partition.compaction.as_ref().unwrap().done.passes)
        .collect();
    assert_eq!(passes, [0, 1]);
    let waits = described[0].compaction.clone().unwrap().waits_for.unwrap();
    assert!(matches!(waits, grouplog::NotCompacted::Damage(_)), "{waits}");
    // It is not read again and again, but stays known.
    broker.maintain().unwrap();
    assert!(matches!(broker.health().problems(), [Problem::Compaction { .. }]));
}

#[test]
fn a_reader_beside_a_writer_that_compacts_is_told_to_refresh() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    let mut beside = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    let mut early = beside.consumer().unwrap();
    early.assign([tp("t", 0)]).unwrap();
    let position = early.position(&tp("t", 0)).unwrap();
    broker.admin().compact("t").unwrap();
    let stale = refused(early.poll(Duration::ZERO));
    assert!(matches!(&stale, Error::Stale { partition } if *partition == tp("t", 0)), "{stale:?}");
    let by_time = early.seek_to_timestamp(&tp("t", 0), grouplog::Timestamp::from_millis(0));
    assert!(matches!(by_time, Err(Error::Stale { .. })), "{by_time:?}");

    assert!(beside.refresh().unwrap());
    let mut later = beside.consumer().unwrap();
    later.assign([tp("t", 0)]).unwrap();
    later.seek(&tp("t", 0), position).unwrap();
    assert_eq!(found(&drain(&mut later)), found(&all(&broker, "t")));
    let storage: Arc<dyn Storage> = Arc::new(world.storage.clone());
    let report = Verify::new().run_storage(&storage).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    // Missing although the folder still lists it: that is damage.
    let largest = files(&world).into_iter().max_by_key(|name| read(&world, name).len());
    let listed = Path::new("t-0").join(largest.unwrap());
    world.storage.remove(&listed).unwrap();
    // One that has no file open yet.
    let beside = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    let mut reader = beside.consumer().unwrap();
    reader.assign([tp("t", 0)]).unwrap();
    let mut seen = Ok(());
    while seen.is_ok() {
        seen = reader.poll(Duration::ZERO).map(|records| assert!(!records.is_empty()));
    }
    assert!(seen.is_err_and(|error| error.is_corruption()));
}

/// Runs the engine's own threads on a real folder.
fn threads(path: &Path) -> Broker {
    let config = BrokerConfig::new()
        .batch_size(1024)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(1 << 20)
        .cleaner_interval(Duration::from_millis(1));
    Broker::open_with(path, config).unwrap()
}

fn wait_for(what: impl Fn() -> bool) {
    let clock = SystemClock::new();
    while !what() {
        assert!(clock.monotonic() < AT_ONCE, "it does not come to it");
        std::thread::yield_now();
    }
}

#[test]
fn the_thread_compacts_by_itself_beside_producers_and_readers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = threads(&folder.path().join("data"));
    broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).unwrap();
    rounds(&broker, 0..20);
    // The thread starts with the first compacted topic.
    broker.admin().alter_topic("t", [("cleanup.policy", "compact")]).unwrap();
    let passes = || {
        let partition = broker.describe_topic("t").unwrap().partitions[0].clone();
        partition.compaction.unwrap().done.passes
    };
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| rounds(&broker, 20..300));
        while !sender.is_finished() {
            let seen = found(&all(&broker, "t"));
            assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
        }
    });
    wait_for(|| passes() > 0);
    let last: Vec<_> = found(&all(&broker, "t")).into_iter().rev().take(10).collect();
    assert!(last.iter().all(|(_, _, value)| value.as_deref() == Some("299-")), "{last:?}");
    assert!(broker.health().is_ok(), "{}", broker.health());
    broker.close().unwrap();
    let broker = threads(&folder.path().join("data"));
    assert!(all(&broker, "t").len() >= 10);
}

#[test]
fn a_pass_ends_when_its_topic_is_deleted_or_the_folder_closed() {
    for round in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let broker = threads(&folder.path().join("data"));
        broker.create_topic("t", compacted()).unwrap();
        rounds(&broker, 0..60);
        let compacting = broker.clone();
        let pass = std::thread::spawn(move || compacting.admin().compact("t"));
        if round % 2 == 0 {
            broker.delete_topic("t").unwrap();
            let done = pass.join().unwrap();
            let ended = matches!(&done, Ok(_) | Err(Error::UnknownTopic { .. }));
            assert!(ended, "{done:?}");
            broker.create_topic("t", compacted()).unwrap();
            assert!(all(&broker, "t").is_empty());
        } else {
            broker.clone().close().unwrap();
            let done = pass.join().unwrap();
            assert!(matches!(&done, Ok(_) | Err(Error::Closed)), "{done:?}");
            let broker = threads(&folder.path().join("data"));
            assert!(!broker.recovery_report().unclean);
            let last = all(&broker, "t").len();
            assert!((10..=600).contains(&last));
        }
    }
}
