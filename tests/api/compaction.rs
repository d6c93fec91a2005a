//! Compaction: the newest record of each key stays, and the files of the others go.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, Storage};
use grouplog::time::Clock;
use grouplog::{
    Acks, Broker, CleanupPolicy, ConsumerConfig, Error, NotCompacted, ProducerConfig, Record,
    Timestamp, TopicConfig, TopicPartition,
};

use crate::world::{Owned, World, after_crash, all, drain, reader, refused, tp};

/// A world whose batches hold few records.
pub(crate) fn world() -> World {
    World::on(Memory::crash_simulating(1)).batch_size(1024)
}

pub(crate) fn compacted() -> TopicConfig {
    TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(2048)
}

pub(crate) fn send(broker: &Broker, key: &str, value: Option<&str>) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let record = Record::to("t").key(key);
    let record = match value {
        Some(value) => record.value(value),
        None => record,
    };
    producer.send(record).unwrap();
}

/// Sends a value of each of ten keys, `rounds` times.
pub(crate) fn rounds(broker: &Broker, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for key in 0..10 {
            send(broker, &format!("k{key}"), Some(&format!("{round}-{}", "x".repeat(50))));
        }
    }
}

fn partition() -> TopicPartition {
    tp("t", 0)
}

/// Returns the names of the partition's segment files.
pub(crate) fn files(world: &World) -> Vec<String> {
    let names = world.storage.list(Path::new("t-0")).unwrap();
    let logs = names
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| name.split('.').next_back() == Some("log"));
    logs.collect()
}

pub(crate) fn found(records: &[Owned]) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let found = records.iter().map(|record| {
        let value = record.value.as_ref().map(|value| text(value).replace('x', ""));
        (record.offset, text(record.key.as_ref().unwrap()), value)
    });
    found.collect()
}

#[test]
fn the_newest_value_of_each_key_stays_at_its_offset() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    let before = broker.describe_topic("t").unwrap().partitions[0].bytes;
    let done = broker.admin().compact("t").unwrap();
    assert_eq!((done.passes, done.records_in, done.records_out), (1, 200, 10));
    let expected: Vec<_> =
        (0..10).map(|key| (190 + key, format!("k{key}"), Some("19-".to_owned()))).collect();
    assert_eq!(found(&all(&broker, "t")), expected);
    let after_it = &broker.describe_topic("t").unwrap().partitions[0];
    assert!(after_it.bytes < before / 10, "{} of {before}", after_it.bytes);
    assert_eq!((after_it.start_offset, after_it.end_offset), (0, 200));
    // The old files are gone, and the new ones are of the next generation.
    assert!(files(&world).iter().all(|name| name.contains(".1.log")), "{:?}", files(&world));

    // Writing goes on, and so does compaction.
    rounds(&broker, 20..22);
    let done = broker.admin().compact("t").unwrap();
    assert_eq!((done.records_in, done.records_out), (30, 10));
    broker.close().unwrap();
    let broker = world.open();
    let expected: Vec<_> =
        (0..10).map(|key| (210 + key, format!("k{key}"), Some("21-".to_owned()))).collect();
    assert_eq!(found(&all(&broker, "t")), expected);
    for crash in [Crash::Kill, Crash::LoseAll] {
        let (_, broker) = after_crash(&world, crash);
        assert_eq!(found(&all(&broker, "t")), expected);
        rounds(&broker, 22..23);
        assert_eq!(all(&broker, "t").len(), 20);
    }
}

#[test]
fn a_tombstone_stays_for_delete_retention_ms_and_then_goes() {
    let world = world();
    let broker = world.open();
    let kept = Duration::from_mins(1);
    broker.create_topic("t", compacted().delete_retention(kept)).unwrap();
    rounds(&broker, 0..3);
    send(&broker, "k3", None);
    let admin = broker.admin();
    admin.compact("t").unwrap();
    let keys = |broker: &Broker| found(&all(broker, "t"));
    assert_eq!(keys(&broker).len(), 10);
    assert_eq!(keys(&broker)[9], (30, "k3".to_owned(), None));

    world.clock.advance(Duration::from_millis(59_999));
    assert_eq!(admin.compact("t").unwrap().tombstones_removed, 0);
    assert_eq!(keys(&broker).len(), 10);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(admin.compact("t").unwrap().tombstones_removed, 1);
    assert_eq!(keys(&broker).len(), 9);
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].end_offset, 31);
    let (_, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!(keys(&broker).len(), 9);
}

#[test]
fn maintenance_compacts_what_is_dirty_enough() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted().min_cleanable_dirty_ratio(0.5)).unwrap();
    let state = || broker.describe_topic("t").unwrap().partitions[0].compaction.clone().unwrap();
    rounds(&broker, 0..1);
    assert_eq!(state().waits_for, Some(NotCompacted::OnlyActiveSegment));
    rounds(&broker, 1..10);
    // Nothing was written out durably yet.
    assert!(matches!(state().waits_for, Some(NotCompacted::NotDurable { end_offset: 0 })));
    broker.maintain().unwrap();
    assert_eq!(state().done.passes, 0);
    broker.checkpoint().unwrap();
    assert_eq!((state().waits_for, state().dirty_ratio()), (None, 1.0));
    broker.maintain().unwrap();
    let after_it = state();
    assert_eq!(after_it.done.passes, 1);
    assert_eq!(after_it.waits_for, Some(NotCompacted::NothingDirty));
    assert!(after_it.clean_bytes > 0 && after_it.first_dirty_offset > 50, "{after_it:?}");

    // Few new records are not worth a pass.
    broker.admin().alter_topic("t", [("min.cleanable.dirty.ratio", "0.99")]).unwrap();
    rounds(&broker, 10..20);
    broker.checkpoint().unwrap();
    assert_eq!(state().waits_for, Some(NotCompacted::DirtyRatio));
    broker.maintain().unwrap();
    assert_eq!(state().done.passes, 1);
    // Unless they are old.
    let lag = Duration::from_mins(1);
    broker.admin().alter_topic("t", [("max.compaction.lag.ms", "60000")]).unwrap();
    world.clock.advance(lag + Duration::from_millis(1));
    broker.maintain().unwrap();
    assert_eq!(state().done.passes, 2);
}

#[test]
fn the_lag_keeps_young_records() {
    let world = world();
    let broker = world.open();
    let lag = Duration::from_mins(1);
    broker.create_topic("t", compacted().min_compaction_lag(lag)).unwrap();
    rounds(&broker, 0..10);
    let done = broker.admin().compact("t").unwrap();
    assert_eq!(done.passes, 0);
    assert_eq!(all(&broker, "t").len(), 100);
    let state = broker.describe_topic("t").unwrap().partitions[0].compaction.clone().unwrap();
    assert!(
        matches!(state.waits_for, Some(NotCompacted::MinCompactionLag { segment: 0, .. })),
        "{state:?}"
    );
    world.clock.advance(lag);
    assert_eq!(broker.admin().compact("t").unwrap().records_out, 10);
}

/// Their time says nothing of their age. It counts from the first look at the complete segment.
#[test]
fn records_from_the_future_do_not_wait_for_it() {
    let world = world();
    let broker = world.open();
    let lag = Duration::from_mins(1);
    broker.create_topic("t", compacted().min_compaction_lag(lag)).unwrap();
    let producer = broker.producer().unwrap();
    let future = Timestamp::from_millis(world.clock.now().as_millis() + 1_800_000);
    for value in ["1", "2"] {
        producer.send(Record::to("t").key("k").value(value).timestamp(future)).unwrap();
    }
    for passes in [0, 1] {
        assert_eq!(broker.admin().compact("t").unwrap().passes, passes);
        world.clock.advance(lag);
    }
    assert_eq!(all(&broker, "t").len(), 1);
}

#[test]
fn bad_input_is_refused_before_anything_changes() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    let producer = broker.producer().unwrap();
    let no_key = producer.send(Record::to("t").value("v")).unwrap_err();
    assert!(matches!(no_key, Error::NullKey { topic } if topic == "t"));
    let some = [Record::to("t").key("k").value("v"), Record::to("t").value("v")];
    assert!(matches!(producer.send_all(some), Err(Error::NullKey { .. })));
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].end_offset, 0);
    // An empty key is a key.
    producer.send(Record::to("t").key("").value("v")).unwrap();

    let admin = broker.admin();
    let violation = refused(admin.delete_records(&partition(), 1));
    assert!(matches!(violation, Error::PolicyViolation { .. }));
    for (key, value) in [
        ("cleanup.policy", "shred"),
        ("cleanup.policy", "compact;delete"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.cleanable.dirty.ratio", "half"),
        ("max.compaction.lag.ms", "0"),
        ("min.compaction.lag.ms", "-1"),
        ("delete.retention.ms", "-1"),
    ] {
        let invalid = refused(admin.alter_topic("t", [(key, value)]));
        assert!(
            matches!(invalid, Error::InvalidConfig { key: named, .. } if named == key),
            "{key}"
        );
    }
    let both = [("min.compaction.lag.ms", "2000"), ("max.compaction.lag.ms", "1000")];
    assert!(matches!(refused(admin.alter_topic("t", both)), Error::InvalidConfig { .. }));
    let both = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "1000"),
        ("min.compaction.lag.ms", "2000"),
    ];
    assert!(matches!(refused(admin.alter_topic("t", both)), Error::InvalidConfig { .. }));

    broker.create_topic("plain", TopicConfig::new()).unwrap();
    assert!(matches!(refused(admin.compact("plain")), Error::PolicyViolation { .. }));
    assert!(matches!(refused(admin.compact("none")), Error::UnknownTopic { .. }));
    // With both policies, the front can be deleted.
    admin.alter_topic("t", [("cleanup.policy", "compact,delete")]).unwrap();
    assert_eq!(admin.delete_records(&partition(), -1).unwrap(), 1);
}

#[test]
fn a_policy_can_change_while_the_topic_is_in_use() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().segment_bytes(2048)).unwrap();
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("without a key")).unwrap();
    rounds(&broker, 0..10);
    broker.admin().alter_topic("t", [("cleanup.policy", "compact")]).unwrap();
    // The producer knows at once. Compaction removes what nothing could replace.
    assert!(matches!(producer.send(Record::to("t").value("v")), Err(Error::NullKey { .. })));
    broker.admin().compact("t").unwrap();
    assert_eq!(all(&broker, "t").len(), 10);
    broker.admin().alter_topic("t", [("cleanup.policy", "delete")]).unwrap();
    producer.send(Record::to("t").value("v")).unwrap();
    assert_eq!(all(&broker, "t").len(), 11);
}

#[test]
fn a_reader_in_the_middle_goes_on() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", compacted()).unwrap();
    rounds(&broker, 0..20);
    broker.checkpoint().unwrap();
    // One reader is inside of a batch, one before a batch, and one at an offset that disappears.
    let config = || ConsumerConfig::new().max_poll_records(7);
    let mut readers: Vec<_> = [0, 1, 45]
        .into_iter()
        .map(|offset| {
            let mut reader = broker.consumer_with(config()).unwrap();
            reader.assign([partition()]).unwrap();
            reader.seek(&partition(), offset).unwrap();
            reader
        })
        .collect();
    let mut seen: Vec<Vec<Owned>> = readers
        .iter_mut()
        .map(|reader| crate::world::owned(&reader.poll(Duration::ZERO).unwrap()))
        .collect();
    let held = readers[0].poll(Duration::ZERO).unwrap();
    for _ in 0..2 {
        broker.admin().compact("t").unwrap();
        rounds(&broker, 20..21);
    }
    assert_eq!(held.iter().count(), 7, "records that were delivered stay readable");
    seen[0].extend(crate::world::owned(&held));
    for (reader, seen) in readers.iter_mut().zip(&mut seen) {
        seen.extend(drain(reader));
        assert!(seen.is_sorted_by(|a, b| a.offset < b.offset));
        let last = |key: u8| {
            let of_key = seen.iter().rev().find(|record| record.key == Some(vec![b'k', key]));
            String::from_utf8(of_key.unwrap().value.clone().unwrap()).unwrap()
        };
        assert!((b'0'..=b'9').all(|key| last(key).starts_with("20-")));
    }
    // A position in a hole is legal.
    let mut reader = reader(&broker, "t", 1);
    reader.seek(&partition(), 3).unwrap();
    let first = drain(&mut reader)[0].offset;
    assert!(first >= 200, "{first}");
}

#[test]
fn compact_and_delete_both_apply() {
    let world = world();
    let broker = world.open();
    let day = Duration::from_hours(24);
    let config = compacted().cleanup_policy(CleanupPolicy::CompactDelete).retention(day);
    broker.create_topic("t", config).unwrap();
    rounds(&broker, 0..10);
    broker.admin().compact("t").unwrap();
    assert_eq!(all(&broker, "t").len(), 10);
    world.clock.advance(day + Duration::from_millis(1));
    assert!(broker.admin().run_retention().unwrap().time.segments > 0);
    assert_eq!(all(&broker, "t").len(), 0);
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].start_offset, 100);
    rounds(&broker, 10..11);
    let (_, broker) = after_crash(&world, Crash::Kill);
    assert_eq!(all(&broker, "t").len(), 10);
}

#[test]
fn compression_is_kept() {
    let world = world();
    let broker = world.open();
    let config = compacted().compression(grouplog::record::Compression::Zstd);
    broker.create_topic("t", config).unwrap();
    rounds(&broker, 0..20);
    assert_eq!(broker.admin().compact("t").unwrap().records_out, 10);
    assert_eq!(all(&broker, "t").len(), 10);
}

#[test]
fn what_a_failed_pass_has_replaced_is_found_again() {
    // A pass over several groups of segments, of whose calls each one fails once.
    for nth in 1.. {
        let world = world();
        let broker = world.open();
        broker.create_topic("t", compacted()).unwrap();
        for key in 0..100 {
            send(&broker, &format!("k{}", key % 90), Some(&"x".repeat(50)));
        }
        broker.checkpoint().unwrap();
        let before = all(&broker, "t");
        assert!(files(&world).len() > 3, "{:?}", files(&world));
        let at = world.storage.ops() + nth;
        world.storage.fail_at(at, ErrorKind::StorageFull, false);
        let compacted = broker.admin().compact("t");
        let was_met = world.storage.ops() >= at;
        world.storage.heal();
        // Fails after a failed sync, which is final.
        drop(broker.close());
        let (_, broker) = after_crash(&world, Crash::LoseAll);
        let found = all(&broker, "t");
        assert!(found.iter().all(|record| before.contains(record)), "call {nth}");
        let keys: BTreeSet<_> = found.iter().map(|record| record.key.clone()).collect();
        assert_eq!(keys.len(), 90, "call {nth}");
        if !was_met {
            assert!(compacted.is_ok());
            break;
        }
    }
}
