//! Power loss takes a folder that was never synced, and the journal describes what was in it.

use std::path::Path;
use std::sync::Arc;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, CleanupPolicy, Error, ProducerConfig, Record, TopicConfig, TopicPartition, Verify,
};

use crate::world::{World, all, tp};

fn world() -> World {
    let mut world = World::on(Memory::crash_simulating(1));
    world.config = world.config.stored_append_bytes(100);
    world
}

fn send(broker: &Broker, topic: &str, acks: Acks, bytes: usize) -> grouplog::Result<()> {
    let producer = broker.producer_with(ProducerConfig::new().acks(acks))?;
    producer.send(Record::to(topic).key("k").value(&vec![1; bytes]))?.wait().map(|_| ())
}

fn partition() -> TopicPartition {
    tp("t", 0)
}

fn has_folder(storage: &Memory) -> bool {
    storage.metadata(Path::new("t-0")).unwrap().is_some()
}

/// Returns states after a power loss that has taken the new folder of a topic, and has left the frames that say that
/// one record was in it, and was deleted.
fn lost(topic: &TopicConfig) -> Vec<World> {
    let mut lost = Vec::new();
    for call in 1.. {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", topic.clone()).unwrap();
        send(&broker, "t", Acks::Written, 500).unwrap();
        // The deletion is journaled, and power fails while it is synced.
        world.storage.crash_at(world.storage.ops() + call);
        if broker.admin().delete_records(&partition(), 1).is_ok() {
            break;
        }
        for seed in 0..16 {
            let left = world.storage.crash(Crash::TornUnit, &SeededRandom::new(seed));
            let reader = Broker::open_storage_read_only(Arc::new(left.clone())).unwrap();
            let deleted = reader.log_bounds(&partition()).is_ok_and(|bounds| bounds == (1, 1));
            if deleted && !has_folder(&left) {
                lost.push(World { storage: left, ..world.again() });
            }
        }
    }
    assert!(!lost.is_empty());
    lost
}

/// Checks that the partition is whole and empty, that it takes records again, and that the next power loss leaves
/// them.
fn goes_on(world: &World) {
    let found = Verify::new().run_storage(&(Arc::new(world.storage.clone()) as _)).unwrap();
    assert!(found.findings.is_empty(), "{found:?}");
    for end in 1..4 {
        let broker = world.try_open().unwrap();
        assert!(broker.recovery_report().damaged.is_empty(), "{:?}", broker.recovery_report());
        broker.checkpoint().unwrap();
        assert!(broker.health().is_ok(), "{}", broker.health());
        let described = broker.describe_topic("t").unwrap();
        let bounds = &described.partitions[0];
        assert_eq!((bounds.start_offset, bounds.end_offset), (1, end));
        assert_eq!(all(&broker, "t").len() as i64, end - 1);
        let found = Verify::new().run_storage(&(Arc::new(world.storage.clone()) as _)).unwrap();
        assert!(found.findings.is_empty(), "{found:?}");
        send(&broker, "t", Acks::Synced, if end == 1 { 500 } else { 5 }).unwrap();
        let left = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
        let again = World { storage: left, ..world.again() }.try_open().unwrap();
        assert_eq!(all(&again, "t").len() as i64, end);
        broker.close().unwrap();
    }
    let broker = world.try_open().unwrap();
    broker.delete_topic("t").unwrap();
    broker.close().unwrap();
}

#[test]
fn a_lost_folder_of_deleted_records_is_made_again() {
    for world in lost(&TopicConfig::new()) {
        goes_on(&world);
    }
}

/// The recovery checkpoint is written by a thread.
#[test]
fn a_lost_folder_is_made_again_with_threads() {
    for mut world in lost(&TopicConfig::new()) {
        world.config = world.config.background(true);
        goes_on(&world);
    }
}

#[test]
fn a_lost_folder_is_made_again_where_the_storage_is_synced_whole() {
    for world in lost(&TopicConfig::new()) {
        world.storage.sync_whole_above(0);
        goes_on(&world);
    }
}

#[test]
fn a_lost_folder_of_a_compacted_topic_is_made_again() {
    let policy = TopicConfig::new().cleanup_policy(CleanupPolicy::CompactDelete);
    for world in lost(&policy.min_cleanable_dirty_ratio(0.0)) {
        goes_on(&world);
    }
}

/// Nothing is in the way of deleting a topic, or of closing the folder, before anything else happens.
#[test]
fn a_topic_without_its_folder_is_deleted() {
    for deletes in [false, true] {
        for world in lost(&TopicConfig::new()) {
            let broker = world.try_open().unwrap();
            if deletes {
                broker.delete_topic("t").unwrap();
            }
            broker.close().unwrap();
            let broker = world.try_open().unwrap();
            assert!(!broker.recovery_report().unclean);
            assert_eq!(broker.list_topics().is_empty(), deletes);
            broker.ensure_topic("t", TopicConfig::new()).unwrap();
            send(&broker, "t", Acks::Synced, 500).unwrap();
        }
    }
}

/// The journal knows that the folder was synced, so somebody has removed it. That is damage of this partition, and the
/// others go on.
#[test]
fn a_removed_folder_of_synced_records_is_damage_of_its_partition() {
    for deletes in [false, true] {
        let world = world();
        let broker = world.open();
        for topic in ["t", "u"] {
            broker.create_topic(topic, TopicConfig::new()).unwrap();
        }
        send(&broker, "t", Acks::Written, 500).unwrap();
        send(&broker, "u", Acks::Synced, 500).unwrap();
        if deletes {
            broker.admin().delete_records(&partition(), 1).unwrap();
        }
        // It knows of the syncs.
        send(&broker, "u", Acks::Written, 5).unwrap();
        let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
        for entry in killed.list(Path::new("t-0")).unwrap() {
            killed.remove(&Path::new("t-0").join(entry.name)).unwrap();
        }
        killed.remove_dir(Path::new("t-0")).unwrap();
        let world = World { storage: killed, ..world.again() };
        let broker = world.try_open().unwrap();
        let damaged = &broker.recovery_report().damaged;
        assert_eq!(damaged.len(), usize::from(!deletes), "{damaged:?}");
        assert_eq!(all(&broker, "u").len(), 2);
        send(&broker, "u", Acks::Synced, 500).unwrap();
        let sent = send(&broker, "t", Acks::Synced, 500);
        assert_eq!(matches!(sent, Err(Error::MissingSegment { .. })), !deletes, "{sent:?}");
        broker.close().unwrap();
        let opened = world.try_open().unwrap();
        assert_eq!(all(&opened, "u").len(), 3);
    }
}

/// Power loss may leave an old disk block in a file that was not synced: the id of a deleted topic of the same name. All
/// records are deleted, so nothing else says whose the folder is.
#[test]
fn an_old_block_in_the_folder_of_deleted_records_is_no_other_topic() {
    let metadata = Path::new("t-0/partition.metadata");
    let mut mended = 0;
    for call in 1.. {
        let world = world();
        let broker = world.open();
        let create_and_send = || {
            broker.create_topic("t", TopicConfig::new()).unwrap();
            send(&broker, "t", Acks::Written, 500).unwrap();
            let (mut id, file) = ([0; 40], world.storage.open(metadata, OpenMode::Read).unwrap());
            assert_eq!(file.read_at(&mut id, 0).unwrap(), id.len());
            id
        };
        let old = create_and_send();
        broker.delete_topic("t").unwrap();
        // Nobody remembers the deletion then.
        broker.checkpoint().unwrap();
        assert_ne!(create_and_send(), old);
        world.storage.crash_at(world.storage.ops() + call);
        if broker.admin().delete_records(&partition(), 1).is_ok() {
            break;
        }
        let left = world.storage.crash(Crash::Kill, &SeededRandom::new(call));
        let lost = left.crash(Crash::LoseAll, &SeededRandom::new(call));
        if lost.metadata(metadata).unwrap().is_some() {
            continue;
        }
        left.open(metadata, OpenMode::Write).unwrap().write_at(&old, 0).unwrap();
        let again = World { storage: left, ..world };
        for records in 1..3 {
            let broker = again.open();
            assert!(broker.health().is_ok(), "call {call}: {}", broker.health());
            send(&broker, "t", Acks::Written, 500).unwrap();
            mended += usize::from(all(&broker, "t").len() == records);
        }
    }
    assert!(mended > 0);
}
