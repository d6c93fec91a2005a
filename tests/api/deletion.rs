//! Deleting a topic while each of its file operations may fail.

use std::io::ErrorKind;
use std::path::Path;

use grouplog::storage::{Crash, Memory, Storage};
use grouplog::time::SeededRandom;
use grouplog::{Acks, HealthStatus, ProducerConfig, Record, TopicConfig};

use crate::world::{World, all};

#[test]
fn files_of_a_deleted_topic_do_not_come_back_by_power_loss_whatever_failed_at_first() {
    let mut deleted = 0;
    for op in 1.. {
        let world = World::on(Memory::crash_simulating(op));
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
        let synced = ProducerConfig::new().acks(Acks::Synced);
        for partition in 0..2 {
            let record = Record::to("t").partition(partition).value("x");
            broker.producer_with(synced.clone()).unwrap().send(record).unwrap().wait().unwrap();
        }
        // Both checkpoint and offset files exist, so nothing later syncs their names.
        for _ in 0..4 {
            broker.create_topic("other", TopicConfig::new()).unwrap();
            broker.delete_topic("other").unwrap();
            broker.checkpoint().unwrap();
        }
        let fault = world.storage.ops() + op;
        world.storage.fail_at(fault, ErrorKind::Other, false);
        let told = broker.delete_topic("t");
        if world.storage.ops() < fault {
            told.unwrap();
            break;
        }
        world.storage.heal();
        if broker.health().status() == HealthStatus::Failed {
            continue;
        }
        // Each checkpoint tries again, until the deletion itself is forgotten.
        for _ in 0..3 {
            broker.checkpoint().unwrap();
        }
        assert!(broker.health().is_ok(), "change {op}: {}", broker.health());
        let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(op));
        let after = World::on(lost);
        assert!(after.open().list_topics().is_empty());
        let names = after.storage.list(Path::new("")).unwrap().into_iter().map(|entry| entry.name);
        let left: Vec<_> = names.filter(|name| name.starts_with("t-")).collect();
        assert!(left.is_empty(), "change {op} failed: {left:?}");
        deleted += 1;
    }
    assert!(deleted > 5, "{deleted}");
}

/// Returns a folder whose writer was killed after it had written the deletion of a topic, and before that was
/// synced.
fn killed_in_a_deletion() -> Memory {
    for change in 1.. {
        let world = World::on(Memory::crash_simulating(1));
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to("t").value("x")).unwrap().wait().unwrap();
        broker.checkpoint().unwrap();
        world.storage.crash_at(world.storage.ops() + change);
        assert!(broker.delete_topic("t").is_err());
        let storage = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
        let again = World { storage: storage.crash(Crash::Kill, &SeededRandom::new(0)), ..world };
        if again.open().list_topics().is_empty() {
            return storage;
        }
    }
    unreachable!()
}

/// A kill leaves a deletion in the cache of the system only. The next opening renames the folders of the topic. Then
/// power loss takes the deletion, but not the new names.
#[test]
fn a_topic_is_whole_when_power_loss_takes_its_deletion_and_not_the_new_name_of_its_folder() {
    let mut renamed = 0;
    for step in 1.. {
        let killed = killed_in_a_deletion();
        killed.crash_at(killed.ops() + step);
        let opened = World::on(killed.clone()).try_open().is_ok();
        let lost = killed.crash(Crash::LoseAll, &SeededRandom::new(step));
        let was_renamed = lost.metadata(Path::new("t-0")).unwrap().is_none();
        let broker = World::on(lost).open();
        if !broker.list_topics().is_empty() {
            renamed += usize::from(was_renamed);
            assert_eq!(all(&broker, "t").len(), 1, "step {step}");
        }
        if opened {
            break;
        }
    }
    assert!(renamed > 0);
}
