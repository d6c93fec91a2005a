//! Data that ends: records go by age, by size, or once groups have read them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::{Clock, ManualClock, SeededRandom, SystemClock};
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, Error, OffsetReset, OffsetScope, Problem,
    ProducerConfig, Record, ResetTo, Timestamp, TopicConfig, Verify,
};

use crate::world::{AT_ONCE, World, after_crash, all, drain, reader, refused, tp};

pub(crate) const DAY: Duration = Duration::from_hours(24);

/// A world whose segments hold four records of half a kilobyte.
pub(crate) fn world() -> World {
    World::on(Memory::crash_simulating(1)).batch_size(1024)
}

pub(crate) fn small() -> TopicConfig {
    TopicConfig::new().segment_bytes(2400)
}

pub(crate) fn send(broker: &Broker, count: usize) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for _ in 0..count {
        producer.send(Record::to("t").value(&[b'x'; 500])).unwrap();
    }
}

pub(crate) fn offsets(broker: &Broker) -> Vec<i64> {
    all(broker, "t").iter().map(|record| record.offset).collect()
}

/// Returns the base offsets of the segment files.
pub(crate) fn files(world: &World) -> Vec<i64> {
    let names = world.storage.list(Path::new("t-0")).unwrap();
    let mut files: Vec<i64> = names
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(".log"))
        .map(|digits| digits.parse().unwrap())
        .collect();
    files.sort_unstable();
    files
}

/// Returns the bytes of the partition's segment files.
fn stored(world: &World) -> u64 {
    let path = |base: &i64| format!("t-0/{base:020}.log");
    let len = |base| world.storage.metadata(Path::new(&path(base))).unwrap().unwrap().1;
    files(world).iter().map(len).sum()
}

pub(crate) fn start(broker: &Broker) -> i64 {
    broker.describe_topic("t").unwrap().partitions[0].start_offset
}

#[test]
fn records_older_than_retention_ms_go_with_their_segments() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    let mut early = broker
        .consumer_with(ConsumerConfig::new().auto_offset_reset(OffsetReset::Earliest))
        .unwrap();
    early.assign([tp("t", 0)]).unwrap();
    send(&broker, 10);
    let held = early.poll(Duration::ZERO).unwrap();
    early.seek(&tp("t", 0), 3).unwrap();
    world.clock.advance(DAY / 2);
    send(&broker, 10);
    broker.checkpoint().unwrap();
    assert_eq!(broker.admin().run_retention().unwrap().total().segments, 0);
    let before = files(&world);
    world.clock.advance(DAY / 2 + Duration::from_millis(1));
    let retained = broker.admin().run_retention().unwrap();
    assert!(retained.time.segments >= 2 && retained.time.bytes > 4000, "{retained:?}");
    assert_eq!(retained.total(), retained.time);

    // The files are gone without a checkpoint. Only segments whose records are all old are.
    let first = start(&broker);
    assert!((8..=10).contains(&first), "{first}");
    assert_eq!(files(&world)[0], first);
    assert_eq!(files(&world).len() as u64, before.len() as u64 - retained.time.segments);
    assert_eq!(offsets(&broker), (first..20).collect::<Vec<_>>());
    // A reader keeps what it holds, and continues as its policy says.
    assert_eq!(
        held.iter().filter(|record| record.value().map(<[u8]>::len) == Some(500)).count(),
        10
    );
    assert_eq!(drain(&mut early)[0].offset, first);
    let described = &broker.describe_topic("t").unwrap().partitions[0];
    assert_eq!(described.deleted, retained);

    // An idle partition becomes empty.
    world.clock.advance(DAY);
    broker.admin().run_retention().unwrap();
    assert_eq!((start(&broker), files(&world)), (20, vec![]));
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("synced")).unwrap().wait().unwrap();
    assert_eq!(offsets(&broker), [20]);
    let (_, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!((start(&broker), offsets(&broker)), (20, vec![20]));
}

#[test]
fn a_partition_never_holds_much_more_than_retention_bytes() {
    for stored_appends in [false, true] {
        let mut world = world();
        world.config = world.config.stored_append_bytes(if stored_appends { 400 } else { 1 << 20 });
        let broker = world.open();
        let config = small().retention_bytes(10_000);
        broker.create_topic("t", config).unwrap();
        let mut most = 0;
        for sent in 1..=200 {
            send(&broker, 1);
            let now = if sent > 4 { stored(&world) } else { 0 };
            // Without any maintenance: the limit, a segment and a batch.
            assert!(now <= 10_000 + 2_400 + 1_100, "{now} after {sent}");
            most = most.max(now);
        }
        assert!(most > 10_000, "it deletes what it could keep: {most}");
        let left = offsets(&broker);
        assert!(left.len() >= 18, "{left:?}");
        assert_eq!(left, (start(&broker)..200).collect::<Vec<_>>());
        let deleted = broker.describe_topic("t").unwrap().partitions[0].deleted;
        assert!(deleted.bytes.segments > 30, "{deleted:?}");
        assert_eq!(deleted.total(), deleted.bytes);
        drop(broker);
        let (_, broker) = after_crash(&world, Crash::LoseAll);
        assert_eq!(offsets(&broker).last(), Some(&199), "no sync was asked for, but many happened");
    }
}

#[test]
fn a_segment_goes_when_all_named_groups_have_read_it() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention_consumed(["fast", "slow"])).unwrap();
    send(&broker, 20);
    broker.checkpoint().unwrap();
    let commit = |group: &str, offset| {
        let scope = OffsetScope::Topic("t".to_owned());
        let to = ResetTo::Offset(offset);
        broker.admin().reset_offsets(group, &scope, to).unwrap();
        broker.admin().run_retention().unwrap();
        start(&broker)
    };
    assert_eq!(commit("fast", 20), 0, "the other group has committed nothing");
    let first = files(&world)[1];
    assert_eq!(commit("slow", first - 1), 0, "a record of the first segment is not read");
    assert_eq!(commit("slow", first), first);
    assert_eq!(commit("slow", 20), 20);
    assert_eq!(files(&world), [0; 0]);
    let deleted = broker.describe_topic("t").unwrap().partitions[0].deleted;
    assert_eq!(deleted.total(), deleted.consumed);
}

#[test]
fn few_records_age_although_they_fill_no_batch() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().retention(DAY)).unwrap();
    for _ in 0..100 {
        send(&broker, 1);
        world.clock.advance(DAY / 20);
        broker.maintain().unwrap();
        let oldest = all(&broker, "t")[0].timestamp;
        let age = world.clock.now().as_millis() - oldest;
        assert!(age as u128 <= DAY.as_millis() * 5 / 4, "{age}");
    }
    assert!(start(&broker) > 70);
}

#[test]
fn a_future_timestamp_ages_from_when_it_is_noticed() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    let late = Timestamp::from_millis(world.clock.now().as_millis() * 1000);
    let producer = broker.producer().unwrap();
    for _ in 0..6 {
        producer.send(Record::to("t").value(&[7; 500]).timestamp(late)).unwrap();
    }
    broker.maintain().unwrap();
    let second = Duration::from_secs(1);
    world.clock.advance(DAY.saturating_sub(second));
    broker.maintain().unwrap();
    assert_eq!(offsets(&broker).len(), 6);
    world.clock.advance(2 * second);
    broker.maintain().unwrap();
    assert_eq!((start(&broker), offsets(&broker)), (6, vec![]));
}

#[test]
fn timestamps_beyond_the_limits_are_refused() {
    let world = world();
    let broker = world.open();
    let config = TopicConfig::new().timestamp_before_max(DAY).timestamp_after_max(DAY);
    broker.create_topic("t", config).unwrap();
    let producer = broker.producer().unwrap();
    let now = world.clock.now().as_millis();
    let day = DAY.as_millis() as i64;
    let send = |at: i64| {
        producer.send(Record::to("t").value("x").timestamp(Timestamp::from_millis(at))).map(|_| ())
    };
    for at in [now - day, now, now + day] {
        send(at).unwrap();
    }
    for at in [now - day - 1, now + day + 1, 0, i64::MAX] {
        let error = refused(send(at));
        assert!(
            matches!(error, Error::InvalidTimestamp { timestamp, .. } if timestamp.as_millis() == at)
        );
    }
    let two = [now, now + day + 1]
        .map(|at| Record::to("t").value("x").timestamp(Timestamp::from_millis(at)));
    assert!(producer.send_all(two).is_err());
    assert_eq!(offsets(&broker).len(), 3);
    // They act at once, and not where the engine sets the timestamp.
    let admin = broker.admin();
    admin.alter_topic("t", [("message.timestamp.after.max.ms", "-1")]).unwrap();
    send(i64::MAX / 2).unwrap();
    admin.alter_topic("t", [("message.timestamp.type", "LogAppendTime")]).unwrap();
    send(0).unwrap();
}

/// R1 and R2: at every change of files from the frame on, power loss leaves a folder without damage, and with
/// everything that retention keeps.
#[test]
fn power_loss_at_any_step_of_a_deletion_damages_nothing() {
    for stored_appends in [false, true] {
        for kind in [Crash::LoseAll, Crash::KeepAll] {
            for change in 1.. {
                let mut world = world();
                let threshold = if stored_appends { 400 } else { 1 << 20 };
                world.config = world.config.stored_append_bytes(threshold);
                let broker = world.open();
                broker.create_topic("t", small().retention(DAY)).unwrap();
                send(&broker, 10);
                if change % 2 == 0 {
                    broker.checkpoint().unwrap();
                }
                send(&broker, 8);
                world.clock.advance(2 * DAY);
                send(&broker, 3);
                broker
                    .producer()
                    .unwrap()
                    .send(Record::to("t").value("synced"))
                    .unwrap()
                    .wait()
                    .unwrap();
                world.storage.crash_at(world.storage.ops() + change);
                let retained = broker.admin().run_retention();
                if !world.storage.has_crashed() {
                    assert!(retained.unwrap().time.segments > 2);
                    break;
                }
                let left = world.storage.crash(kind, &SeededRandom::new(change));
                let again =
                    World { storage: left, clock: Arc::clone(&world.clock), config: world.config };
                let broker = again.open();
                let report = broker.recovery_report();
                let context = format!("stored {stored_appends}, {kind:?}, change {change}");
                assert!(report.damaged.is_empty(), "{context}: {:?}", report.damaged);
                let left = offsets(&broker);
                assert_eq!(left, (start(&broker)..22).collect::<Vec<_>>(), "{context}");
                assert!(start(&broker) <= 18, "{context}");
                broker.close().unwrap();
                assert!(!again.open().recovery_report().unclean);
            }
        }
    }
}

#[test]
fn a_checkpoint_after_a_deletion_lists_what_is_left() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    send(&broker, 16);
    world.clock.advance(2 * DAY);
    broker.admin().run_retention().unwrap();
    send(&broker, 2);
    broker.checkpoint().unwrap();
    let (again, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!(offsets(&broker), [16, 17]);
    broker.close().unwrap();
    let broker = again.open();
    assert!(!broker.recovery_report().unclean);
    drop(broker);
    let report =
        Verify::new().run_storage(&(Arc::new(again.storage.clone()) as Arc<dyn Storage>)).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn deleting_records_frees_space_at_once() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small()).unwrap();
    send(&broker, 20);
    broker.checkpoint().unwrap();
    let middle = files(&world)[2] + 1;
    broker.admin().delete_records(&tp("t", 0), middle).unwrap();
    assert_eq!(files(&world)[0], middle - 1);
    let (_, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!(start(&broker), middle);
}

#[test]
fn a_damaged_partition_is_deleted_from_too() {
    let world = world();
    let broker = world.open();
    let config = small().partitions(2).retention(DAY);
    broker.create_topic("t", config).unwrap();
    for partition in [0, 1] {
        let producer = broker.producer().unwrap();
        for _ in 0..12 {
            let record = Record::to("t").partition(partition).value(&[1; 500]);
            producer.send(record).unwrap().wait().unwrap();
        }
    }
    broker.close().unwrap();
    // The last segment of the first partition is cut short.
    let last = *files(&world).last().unwrap();
    let path = format!("t-0/{last:020}.log");
    let file = world.storage.open(Path::new(&path), OpenMode::Write).unwrap();
    file.set_len(100).unwrap();
    let broker = world.open();
    let damaged = broker.producer().unwrap().send(Record::to("t").partition(0).value("x"));
    assert!(refused(damaged).is_corruption());
    world.clock.advance(2 * DAY);
    let retained = broker.admin().run_retention().unwrap();
    assert!(retained.time.segments >= 6, "{retained:?}");
    assert_eq!(files(&world), [0; 0]);
    // Without the damage it can be used again, once the folder is opened again.
    broker.close().unwrap();
    let broker = world.open();
    broker.producer().unwrap().send(Record::to("t").partition(0).value("x")).unwrap();
}

#[test]
fn the_files_of_another_topic_are_left_alone() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    send(&broker, 12);
    broker.close().unwrap();
    let path = Path::new("t-0/partition.metadata");
    let metadata = world.storage.open(path, OpenMode::Write).unwrap();
    metadata.write_at(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n", 0).unwrap();
    let before = files(&world);
    let broker = world.open();
    world.clock.advance(2 * DAY);
    let error = refused(broker.admin().run_retention());
    assert!(error.is_corruption(), "{error}");
    let health = broker.health();
    let told = health.problems().iter().any(|problem| matches!(problem, Problem::Retention { .. }));
    assert!(told, "{health}");
    assert_eq!(files(&world), before);
}

#[test]
fn a_reader_beside_the_writer_continues_at_the_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    let config = BrokerConfig::new().clock(clock.clone()).background(false).batch_size(1024);
    let broker = Broker::open_with(&path, config).unwrap();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    send(&broker, 20);
    broker.checkpoint().unwrap();
    let beside = Broker::open_read_only(&path).unwrap();
    clock.advance(2 * DAY);
    send(&broker, 2);
    broker.admin().run_retention().unwrap();
    let mut late = beside.consumer().unwrap();
    late.assign([tp("t", 0)]).unwrap();
    let read = drain(&mut late);
    assert!(read.iter().all(|record| record.offset >= start(&broker)), "{read:?}");
    let fresh = Broker::open_read_only(&path).unwrap();
    assert_eq!(fresh.describe_topic("t").unwrap().partitions[0].start_offset, start(&broker));
    assert_eq!(fresh.describe_topic("t").unwrap().partitions[0].segments, 0);
}

#[test]
fn settings_act_at_once_and_are_checked() {
    let broker = Broker::open_storage(Arc::new(Memory::new()), BrokerConfig::new()).unwrap();
    broker.create_topic("t", TopicConfig::new().segment_bytes(1 << 20)).unwrap();
    send(&broker, 8000);
    broker.checkpoint().unwrap();
    let admin = broker.admin();
    for (key, value) in [
        ("retention.ms", "0"),
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("retention.ms", "1.5ms"),
        ("retention.ms", "1us"),
        ("retention.bytes", "10"),
        ("retention.bytes", "ten"),
        ("retention.bytes", "99999999999999999999GiB"),
        ("retention.consumed", "a,b,a"),
    ] {
        let error = refused(admin.alter_topic("t", [(key, value)]));
        assert!(
            matches!(&error, Error::InvalidConfig { key: named, .. } if *named == key),
            "{error}"
        );
    }
    admin.alter_topic("t", [("retention.bytes", "1MiB"), ("retention.ms", "7d")]).unwrap();
    let config = broker.describe_topic("t").unwrap().config;
    assert!(config.contains(&("retention.bytes", "1048576".to_owned())));
    assert!(config.contains(&("retention.ms", "604800000".to_owned())));
    // The thread was told.
    let clock = SystemClock::new();
    while start(&broker) == 0 {
        assert!(clock.monotonic() < AT_ONCE, "{}", broker.health());
        std::thread::yield_now();
    }
    assert_eq!(drain(&mut reader(&broker, "t", 1)).last().map(|last| last.offset), Some(7999));
}
