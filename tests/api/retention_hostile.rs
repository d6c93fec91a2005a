//! Faults of retention that a hostile review found.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, OpenMode, Storage};
use grouplog::time::{Clock, SeededRandom};
use grouplog::{Acks, Broker, Error, ProducerConfig, Record, Timestamp, TopicConfig};

use crate::retention::{DAY, files, offsets, send, small, start, world};
use crate::world::{World, all};

fn after(world: &World, crash: Crash, seed: u64) -> World {
    let left = world.storage.crash(crash, &SeededRandom::new(seed));
    World { storage: left, clock: Arc::clone(&world.clock), config: world.config.clone() }
}

/// Group names may hold spaces, but the setting loses them: after a restart it names another group.
#[test]
fn the_names_of_retention_consumed_survive_a_restart() {
    let world = world();
    let broker = world.open();
    if broker.create_topic("t", small().retention_consumed([" a"])).is_err() {
        return;
    }
    let before = broker.describe_topic("t").unwrap().config;
    broker.close().unwrap();
    assert_eq!(world.open().describe_topic("t").unwrap().config, before);
}

/// Names that differ in spaces alone make the folder unreadable.
#[test]
fn names_that_differ_in_spaces_do_not_damage_the_folder() {
    let world = world();
    let broker = world.open();
    if broker.create_topic("t", small().retention_consumed(["a", "a "])).is_err() {
        return;
    }
    broker.close().unwrap();
    world.try_open().unwrap();
}

/// Retention of a partition whose last segment is damaged must not keep the whole folder from being opened.
#[test]
fn a_kill_after_a_deletion_from_a_damaged_partition_leaves_a_folder_that_opens() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    broker.create_topic("other", small()).unwrap();
    send(&broker, 12);
    world.clock.advance(DAY / 2);
    send(&broker, 12);
    broker.close().unwrap();
    let last = *files(&world).last().unwrap();
    let path = format!("t-0/{last:020}.log");
    let file = world.storage.open(Path::new(&path), OpenMode::Write).unwrap();
    file.set_len(100).unwrap();
    file.sync_data().unwrap();

    let broker = world.open();
    world.clock.advance(DAY / 2 + Duration::from_secs(1));
    let retained = broker.admin().run_retention().unwrap();
    assert!(retained.time.segments > 0, "{retained:?}");
    for crash in [Crash::Kill, Crash::LoseAll] {
        let again = after(&world, crash, 1);
        let broker = again.try_open().unwrap();
        assert_eq!(broker.recovery_report().damaged.len(), 1);
    }
    broker.checkpoint().unwrap();
    broker.close().unwrap();
    world.try_open().unwrap();
}

/// A producer that always sends the same future timestamp: nothing rolls, and each append makes all young.
#[test]
fn a_few_future_timestamps_again_and_again_age_too() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().retention(DAY)).unwrap();
    let late = Timestamp::from_millis(world.clock.now().as_millis() * 1000);
    let producer = broker.producer().unwrap();
    for _ in 0..100 {
        producer.send(Record::to("t").value("x").timestamp(late)).unwrap();
        world.clock.advance(DAY / 10);
        broker.maintain().unwrap();
    }
    assert!(start(&broker) > 0, "ten days, and nothing was deleted");
}

/// Returns what verifying finds.
fn findings(world: &World) -> Vec<grouplog::Finding> {
    let storage = Arc::new(world.storage.clone()) as Arc<dyn Storage>;
    grouplog::Verify::new().run_storage(&storage).unwrap().findings
}

/// The checkpoint lists a segment that a refused large append has left empty. Batches fill it. Retention deletes it, but
/// its file cannot be removed. A large append goes to the next segment. After a kill, the folder must open, again and
/// again.
#[test]
fn an_empty_segment_of_the_checkpoint_that_was_filled_and_deleted_does_no_harm() {
    let mut met = 0;
    for fill in 900..960 {
        for removal in 1.. {
            let mut world = world();
            world.config = world.config.stored_append_bytes(10_000);
            let broker = world.open();
            let config = TopicConfig::new().segment_bytes(100_000).retention(DAY);
            broker.create_topic("t", config).unwrap();
            broker.create_topic("other", TopicConfig::new()).unwrap();
            let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
            producer.send(Record::to("t").value(&vec![1; 60_000])).unwrap();
            broker.checkpoint().unwrap();
            for _ in 0..fill {
                producer.send(Record::to("other").value(&[2; 900])).unwrap();
            }
            // The append goes to the journal instead, for which a checkpoint makes room.
            world.storage.fail_at(world.storage.ops() + 2, std::io::ErrorKind::StorageFull, false);
            producer.send(Record::to("t").value(&vec![3; 60_000])).unwrap();
            world.storage.heal();
            let empty = Path::new("t-0/00000000000000000001.log");
            if world.storage.metadata(empty).unwrap().is_none_or(|(_, len)| len > 60_000) {
                break;
            }
            // Writes the large record out.
            send(&broker, 5);
            world.clock.advance(2 * DAY);
            let before = world.storage.ops();
            world.storage.fail_at(before + removal, std::io::ErrorKind::Other, true);
            let retained = broker.admin().run_retention();
            let done = world.storage.ops() < before + removal;
            world.storage.heal();
            if done {
                break;
            }
            if matches!(retained, Err(Error::Failed { .. } | Error::Indeterminate { .. }))
                || producer.send(Record::to("t").value(&vec![4; 60_000])).is_err()
            {
                continue;
            }
            met += u64::from(world.storage.metadata(empty).unwrap().is_some());
            let context = format!("fill {fill}, removal {removal}, {:?}", files(&world));
            let again = after(&world, Crash::Kill, 1);
            let broker = again.try_open().unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(broker.recovery_report().damaged.is_empty(), "{context}");
            assert_eq!(offsets(&broker).last(), Some(&7), "{context}");
            drop(broker);
            let broker = again.try_open();
            assert!(broker.is_ok(), "{context}: opened once, and never again: {broker:?}");
        }
    }
    assert!(met > 0, "no case");
}

/// The limit counts what the partition takes once it is written.
#[test]
fn a_compressed_topic_keeps_as_many_bytes_as_the_limit_says() {
    let mut world = world();
    world.config = world.config.journal_max_bytes(64 << 20).batch_size(64 << 10);
    let broker = world.open();
    let config = TopicConfig::new()
        .compression(grouplog::record::Compression::Zstd)
        .segment_bytes(1024)
        .retention_bytes(100_000);
    broker.create_topic("t", config).unwrap();
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let value = vec![b'x'; 30_000];
    for _ in 0..20 {
        producer.send_all((0..20).map(|_| Record::to("t").value(&value))).unwrap();
    }
    broker.checkpoint().unwrap();
    let described = &broker.describe_topic("t").unwrap().partitions[0];
    assert!(
        described.deleted.bytes.bytes == 0 || described.bytes >= 100_000,
        "{} bytes are left, and {:?} were deleted",
        described.bytes,
        described.deleted.bytes
    );
}

/// A kill at any step of a removal is no damage, and once a folder is closed nothing is left over.
#[test]
fn verify_reports_no_damage_after_a_crash_in_a_removal() {
    for stored in [400, 1 << 20] {
        for whole in [false, true] {
            for kind in [Crash::Kill, Crash::LoseAll, Crash::KeepAll, Crash::Subset { unit: 512 }] {
                for change in 1.. {
                    let mut world = world();
                    if whole {
                        world.storage.sync_whole_above(0);
                    }
                    world.config = world.config.stored_append_bytes(stored);
                    let broker = world.open();
                    broker.create_topic("t", small().retention(DAY)).unwrap();
                    send(&broker, 10);
                    if change % 2 == 0 {
                        broker.checkpoint().unwrap();
                    }
                    send(&broker, 8);
                    world.clock.advance(2 * DAY);
                    if change % 3 == 0 {
                        send(&broker, 3);
                    }
                    broker.producer().unwrap().flush().unwrap();
                    world.storage.crash_at(world.storage.ops() + change);
                    let _crashes = broker.admin().run_retention();
                    if !world.storage.has_crashed() {
                        break;
                    }
                    let again = after(&world, kind, change);
                    let context = format!("{stored} {whole} {kind:?} {change}");
                    let damage: Vec<_> = findings(&again)
                        .into_iter()
                        .filter(|finding| finding.kind == grouplog::FindingKind::Damage)
                        .collect();
                    assert!(damage.is_empty(), "{context}: {damage:?}");
                    let reader =
                        Broker::open_storage_read_only(Arc::new(again.storage.clone())).unwrap();
                    let mut reads = reader.consumer().unwrap();
                    reads.assign([crate::world::tp("t", 0)]).unwrap();
                    crate::world::drain(&mut reads);
                    let broker = again.open();
                    broker.close().unwrap();
                    assert!(findings(&again).is_empty(), "{context}: {:?}", findings(&again));
                    assert!(!again.open().recovery_report().unclean);
                }
            }
        }
    }
}

/// One wrong timestamp must not keep a partition for ever.
#[test]
fn one_future_timestamp_does_not_keep_what_comes_after_it() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().retention(DAY)).unwrap();
    // Microseconds, for example.
    let late = Timestamp::from_millis(world.clock.now().as_millis() * 1000);
    broker.producer().unwrap().send(Record::to("t").value("x").timestamp(late)).unwrap();
    for _ in 0..200 {
        send(&broker, 1);
        world.clock.advance(DAY / 20);
        broker.maintain().unwrap();
    }
    let found = all(&broker, "t");
    let old = found.iter().filter(|record| {
        record.timestamp + (DAY * 2).as_millis() as i64 <= world.clock.now().as_millis()
    });
    assert_eq!(old.count(), 0, "records that are more than two days old, of {}", found.len());
}

/// A file that could not be removed is removed later, or `health` tells of it.
#[test]
fn a_removal_that_fails_is_tried_again_or_told() {
    for change in 1.. {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small().retention(DAY)).unwrap();
        send(&broker, 18);
        broker.checkpoint().unwrap();
        world.clock.advance(2 * DAY);
        let before = world.storage.ops();
        world.storage.fail_at(before + change, std::io::ErrorKind::ResourceBusy, false);
        let retained = broker.admin().run_retention();
        if world.storage.ops() < before + change {
            break;
        }
        world.storage.heal();
        if retained.is_err() {
            continue;
        }
        let told = !broker.health().problems().is_empty();
        broker.admin().run_retention().unwrap();
        broker.checkpoint().unwrap();
        broker.admin().run_retention().unwrap();
        assert!(files(&world).is_empty() || told, "change {change}: {:?}", files(&world));
    }
}

/// A damaged partition can be deleted from, checkpointed, closed and opened.
#[test]
fn a_checkpoint_after_a_deletion_from_a_damaged_partition_works() {
    for damaged in 0..3 {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small().retention(DAY)).unwrap();
        send(&broker, 12);
        world.clock.advance(DAY / 2);
        send(&broker, 12);
        broker.close().unwrap();
        let names = files(&world);
        let victim = names[[names.len() - 1, names.len() - 2, 1][damaged]];
        let path = format!("t-0/{victim:020}.log");
        world.storage.open(Path::new(&path), OpenMode::Write).unwrap().set_len(100).unwrap();
        let broker = world.open();
        world.clock.advance(DAY / 2 + Duration::from_secs(1));
        let retained = broker.admin().run_retention().unwrap();
        assert!(retained.time.segments > 0, "{retained:?}");
        broker.checkpoint().unwrap();
        broker.close().unwrap();
        world.try_open().unwrap();
    }
}

/// Two crashes in a row: in a removal, and in the opening after it.
#[test]
fn a_second_crash_in_the_opening_after_a_removal_damages_nothing() {
    for (stored, whole) in [(400, false), (1 << 20, false), (400, true), (1 << 20, true)] {
        for change in 1.. {
            let mut world = world();
            if whole {
                world.storage.sync_whole_above(0);
            }
            world.config = world.config.stored_append_bytes(stored);
            let broker = world.open();
            broker.create_topic("t", small().retention(DAY)).unwrap();
            send(&broker, 10);
            if change % 2 == 0 {
                broker.checkpoint().unwrap();
            }
            send(&broker, 8);
            world.clock.advance(2 * DAY);
            if change % 3 == 0 {
                send(&broker, 3);
            }
            broker.producer().unwrap().flush().unwrap();
            let end = broker.describe_topic("t").unwrap().partitions[0].end_offset;
            world.storage.crash_at(world.storage.ops() + change);
            let _crashes = broker.admin().run_retention();
            if !world.storage.has_crashed() {
                break;
            }
            for (kind, seed) in
                [(Crash::Kill, 0), (Crash::Subset { unit: 512 }, change), (Crash::LoseAll, 0)]
            {
                for second in 1.. {
                    let again = after(&world, kind, seed);
                    again.storage.crash_at(again.storage.ops() + second);
                    let opened = again.try_open().map(|broker| {
                        let _crashes = broker.admin().run_retention();
                        send_some(&broker);
                        let _crashes = broker.checkpoint();
                    });
                    if !again.storage.has_crashed() {
                        opened.unwrap();
                        break;
                    }
                    for last in [Crash::Kill, Crash::LoseAll, Crash::Subset { unit: 512 }] {
                        let third = after(&again, last, second);
                        let context =
                            format!("{stored} {whole} {kind:?} {change} {second} {last:?}");
                        let broker =
                            third.try_open().unwrap_or_else(|error| panic!("{context}: {error}"));
                        let report = broker.recovery_report();
                        assert!(report.damaged.is_empty(), "{context}: {:?}", report.damaged);
                        let found = offsets(&broker);
                        let begin = start(&broker);
                        assert!(
                            found.iter().copied().eq(begin..begin + found.len() as i64),
                            "{context}"
                        );
                        assert!(begin + found.len() as i64 >= end, "{context}: {begin} {found:?}");
                        broker.close().unwrap();
                        assert!(findings(&third).is_empty(), "{context}: {:?}", findings(&third));
                    }
                }
            }
        }
    }
}

fn send_some(broker: &Broker) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for _ in 0..3 {
        let _crashes = producer.send(Record::to("t").value(&[b'x'; 500]));
    }
}

/// As the documentation says, no record stays longer than the limit and a quarter of it, if the engine checks as often as
/// it says.
#[test]
fn no_record_stays_longer_than_the_limit_and_a_quarter() {
    let mut worst = (0, 0);
    for phase in 0..12_u32 {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().retention(DAY)).unwrap();
        let step = DAY / 192;
        for n in 0..192 * 4 {
            world.clock.advance(step / 2);
            send(&broker, 1);
            world.clock.advance(step / 2);
            if (n + phase) % 12 == 0 {
                let oldest = all(&broker, "t").first().map(|first| first.timestamp);
                let age = world.clock.now().as_millis() - oldest.unwrap_or(i64::MAX);
                worst = worst.max((age, phase));
                broker.maintain().unwrap();
            }
        }
    }
    let day = DAY.as_millis() as i64;
    assert!(worst.0 <= day / 4 * 5, "{} % of the limit, phase {}", worst.0 * 100 / day, worst.1);
}

/// A reader can open the folder beside a writer that deletes all the time.
#[test]
fn readers_open_beside_a_writer_that_deletes_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let config = grouplog::BrokerConfig::new().batch_size(4096).stored_append_bytes(2048);
    let broker = Broker::open_with(&path, config).unwrap();
    broker.create_topic("t", small().segment_bytes(16 << 10).retention_bytes(40_000)).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writes = {
        let (broker, stop) = (broker.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                producer.send(Record::to("t").value(&[b'x'; 3000])).unwrap();
            }
        })
    };
    let mut errors = Vec::new();
    for _ in 0..300 {
        if let Err(error) = Broker::open_read_only(&path) {
            errors.push(error.to_string());
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writes.join().unwrap();
    assert!(
        errors.is_empty(),
        "{} of 300 failed: {:#?}",
        errors.len(),
        &errors[..errors.len().min(4)]
    );
}

/// Somebody has removed the folder of a partition while the broker was closed. Retention of it must not stop the others.
#[test]
fn retention_of_a_partition_without_a_folder_stops_nothing_else() {
    for by_hand in [false, true] {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small().retention(DAY)).unwrap();
        broker.create_topic("other", small()).unwrap();
        send(&broker, 12);
        broker.close().unwrap();
        for entry in world.storage.list(Path::new("t-0")).unwrap() {
            world.storage.remove(&Path::new("t-0").join(&entry.name)).unwrap();
        }
        world.storage.remove_dir(Path::new("t-0")).unwrap();
        let broker = world.open();
        world.clock.advance(2 * DAY);
        // Whether it succeeds does not matter here.
        let _either = if by_hand {
            broker.admin().delete_records(&crate::world::tp("t", 0), 12).map(|_| ())
        } else {
            broker.admin().run_retention().map(|_| ())
        };
        broker.producer().unwrap().send(Record::to("other").value("x")).unwrap();
        let checkpoint = broker.checkpoint();
        assert!(checkpoint.is_ok(), "by hand {by_hand}: {checkpoint:?}, {}", broker.health());
        broker.close().unwrap();
        world.try_open().unwrap();
    }
}

/// Retention of a partition whose segment files somebody has removed.
#[test]
fn retention_of_a_partition_without_files_stops_nothing_else() {
    for kill in [false, true] {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small().retention(DAY)).unwrap();
        broker.create_topic("other", small()).unwrap();
        send(&broker, 12);
        world.clock.advance(DAY / 2);
        send(&broker, 12);
        broker.close().unwrap();
        for base in files(&world).into_iter().rev().take(2) {
            let path = format!("t-0/{base:020}.log");
            world.storage.remove(Path::new(&path)).unwrap();
        }
        let broker = world.open();
        world.clock.advance(DAY / 2 + Duration::from_secs(1));
        let _either = broker.admin().run_retention();
        broker.producer().unwrap().send(Record::to("other").value("x")).unwrap();
        broker.checkpoint().unwrap();
        world.clock.advance(DAY);
        let _either = broker.admin().run_retention();
        if kill {
            let again = after(&world, Crash::LoseAll, 1);
            again.try_open().unwrap();
        }
        broker.checkpoint().unwrap();
        broker.close().unwrap();
        let broker = world.try_open().unwrap();
        send(&broker, 1);
        assert_eq!(offsets(&broker), [24]);
    }
}

/// The disk is full, the program was killed, and the records are too old: retention frees the space.
#[test]
fn retention_frees_a_full_disk_after_a_kill() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().segment_bytes(50_000).retention(DAY / 2)).unwrap();
    send(&broker, 200);
    broker.checkpoint().unwrap();
    let used = u64::MAX - world.storage.free_space().unwrap();
    world.storage.set_capacity(used + 300_000);
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut sent = 0;
    let full = loop {
        match producer.send(Record::to("t").value(&[b'x'; 500])) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000);
    };
    assert!(matches!(full, Error::DiskFull { .. }), "{full} after {sent}");
    let again = after(&world, Crash::Kill, 1);
    // Another program has taken the space of the reserve.
    if again.storage.metadata(Path::new("reserve")).unwrap().is_some() {
        again.storage.remove(Path::new("reserve")).unwrap();
    }
    again.storage.set_capacity(0);
    again.clock.advance(2 * DAY);
    let broker = again.open();
    for _ in 0..5 {
        broker.admin().run_retention().unwrap();
        let _space_comes = broker.checkpoint();
    }
    assert!(start(&broker) >= 200, "{}", start(&broker));
    assert!(files(&again).iter().all(|base| *base >= start(&broker)), "{:?}", files(&again));
    again.storage.set_capacity(u64::MAX);
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    producer.send(Record::to("t").value("there is space again")).unwrap();
}

/// The largest and smallest values survive a kill and a close, and overflow nothing.
#[test]
fn extreme_settings_survive_and_overflow_nothing() {
    let max = u64::MAX.to_string();
    for (ms, bytes, stamps) in [
        (max.as_str(), max.as_str(), [0, i64::MAX, 1]),
        ("1", "1024", [i64::MAX, 0, i64::MAX - 1]),
        ("9223372036854775807", "9223372036854775807", [0, 0, 0]),
        ("-1", "1KiB", [-5, i64::MIN, 7]),
    ] {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small()).unwrap();
        let admin = broker.admin();
        admin
            .alter_topic(
                "t",
                [
                    ("retention.ms", ms),
                    ("retention.bytes", bytes),
                    ("message.timestamp.before.max.ms", max.as_str()),
                    ("message.timestamp.after.max.ms", max.as_str()),
                ],
            )
            .unwrap();
        let config = broker.describe_topic("t").unwrap().config;
        for at in stamps {
            let record = Record::to("t").value(&[1; 600]).timestamp(Timestamp::from_millis(at));
            let _refused = broker.producer().unwrap().send(record);
            broker.maintain().unwrap();
            world.clock.advance(DAY);
        }
        send(&broker, 10);
        broker.maintain().unwrap();
        let again = after(&world, Crash::Kill, 3);
        let broker = again.open();
        assert_eq!(broker.describe_topic("t").unwrap().config, config);
        broker.maintain().unwrap();
        broker.close().unwrap();
        let broker = again.open();
        assert_eq!(broker.describe_topic("t").unwrap().config, config);
        send(&broker, 3);
        assert!(offsets(&broker).is_sorted());
    }
}

/// What could not be removed is gone after the next opening, and the close before did not call the folder clean.
#[test]
fn a_closed_folder_with_files_left_over_is_cleaned_by_the_next_opening() {
    for change in 1.. {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", small().retention(DAY)).unwrap();
        send(&broker, 18);
        broker.checkpoint().unwrap();
        world.clock.advance(2 * DAY);
        let before = world.storage.ops();
        world.storage.fail_at(before + change, std::io::ErrorKind::ResourceBusy, false);
        let retained = broker.admin().run_retention();
        if world.storage.ops() < before + change {
            break;
        }
        world.storage.heal();
        if retained.is_err() {
            continue;
        }
        broker.close().unwrap();
        let broker = world.open();
        assert!(files(&world).is_empty(), "change {change}: {:?}", files(&world));
        broker.close().unwrap();
        assert!(findings(&world).is_empty(), "change {change}: {:?}", findings(&world));
    }
}
