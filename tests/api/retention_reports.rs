//! What retention waits for is said, and is the truth.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{OpenMode, Storage};
use grouplog::time::Clock;
use grouplog::{
    Broker, NotDeleted, OffsetScope, PartitionRetention, Problem, Record, ResetTo, Timestamp,
};

use crate::retention::{DAY, files, send, small, start, world};
use crate::world::{refused, tp};

fn report(broker: &Broker) -> PartitionRetention {
    broker.describe_topic("t").unwrap().partitions[0].retention.clone().unwrap()
}

/// Checks that a check deletes exactly what was due, and that the segment that stays is the one that was named.
fn check(broker: &Broker) {
    let before = report(broker);
    let retained = broker.admin().run_retention().unwrap();
    let gone = retained.total();
    assert_eq!((gone.segments, gone.bytes), (before.due_segments, before.due_bytes));
    if let Some(segment) = before.segment {
        assert_eq!(start(broker), segment);
    }
    assert_eq!(report(broker).due_segments, 0);
}

#[test]
fn a_topic_that_keeps_everything_waits_for_nothing() {
    let broker = world().open();
    broker.create_topic("t", small()).unwrap();
    send(&broker, 10);
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].retention, None);
    broker.admin().alter_topic("t", [("retention.ms", "1d")]).unwrap();
    let broker = world().open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    // Nothing is in a segment yet.
    let PartitionRetention { due_segments, segment, waits_for, .. } = report(&broker);
    assert_eq!((due_segments, segment, waits_for), (0, None, Vec::new()));
}

#[test]
fn a_young_segment_says_when_it_is_due() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    send(&broker, 10);
    broker.checkpoint().unwrap();
    let first = report(&broker);
    assert_eq!((first.due_segments, first.segment, first.is_active), (0, Some(0), false));
    let [NotDeleted::Time { until }] = &*first.waits_for else { panic!("{first:?}") };
    let left = until.as_millis() - world.clock.now().as_millis();
    world.clock.advance(Duration::from_millis(left as u64));
    assert_eq!(report(&broker).due_segments, 0);
    check(&broker);
    assert_eq!(start(&broker), 0);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(report(&broker).due_segments, files(&world).len() as u64);
    assert_eq!(report(&broker).segment, None);
    check(&broker);
    assert_eq!(start(&broker), 10);
}

#[test]
fn a_partition_below_its_bytes_says_how_many_are_missing() {
    let broker = world().open();
    broker.create_topic("t", small().retention_bytes(6_000)).unwrap();
    send(&broker, 10);
    broker.checkpoint().unwrap();
    let PartitionRetention { waits_for, .. } = report(&broker);
    let [NotDeleted::Bytes { behind, limit: 6_000 }] = &*waits_for else { panic!("{waits_for:?}") };
    assert!((3_000..6_000).contains(behind), "{behind}");
    send(&broker, 20);
    check(&broker);
    let PartitionRetention { segment, waits_for, .. } = report(&broker);
    assert!(segment.unwrap() > 0 && matches!(&*waits_for, [NotDeleted::Bytes { .. }]));
}

#[test]
fn the_slowest_group_is_named_with_its_offset() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention_consumed(["fast", "slow"])).unwrap();
    send(&broker, 10);
    broker.checkpoint().unwrap();
    let waits = |group: &str, committed, end_offset| {
        let group = group.to_owned();
        vec![NotDeleted::Group { group, committed, end_offset }]
    };
    let commit = |group: &str, offset| {
        let scope = OffsetScope::Partitions(vec![tp("t", 0)]);
        broker.admin().reset_offsets(group, &scope, ResetTo::Offset(offset)).unwrap();
    };
    let ends = files(&world);
    commit("fast", 10);
    assert_eq!(report(&broker).waits_for, waits("slow", None, ends[1]));
    commit("slow", 1);
    assert_eq!(report(&broker).waits_for, waits("slow", Some(1), ends[1]));
    check(&broker);
    assert_eq!(start(&broker), 0);
    commit("slow", ends[1]);
    assert_eq!(report(&broker).due_segments, 1);
    check(&broker);
    assert_eq!(start(&broker), ends[1]);
    // The last segment is the active one, and is only read in part.
    let last = *ends.last().unwrap();
    commit("slow", 10);
    commit("fast", last + 1);
    let report = report(&broker);
    assert_eq!((report.segment, report.is_active), (Some(last), true));
    assert_eq!(report.waits_for, waits("fast", Some(last + 1), 10));
    check(&broker);
    broker.close().unwrap();
    // A reader says the same.
    let reader = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    let seen = reader.describe_topic("t").unwrap().partitions[0].retention.clone().unwrap();
    assert_eq!(seen.waits_for, waits("fast", Some(last + 1), 10));
}

#[test]
fn each_setting_has_its_own_reason() {
    let broker = world().open();
    let config = small().retention(DAY).retention_bytes(1 << 20).retention_consumed(["g"]);
    broker.create_topic("t", config).unwrap();
    send(&broker, 10);
    broker.checkpoint().unwrap();
    let waits_for = report(&broker).waits_for;
    assert!(
        matches!(
            &*waits_for,
            [NotDeleted::Bytes { .. }, NotDeleted::Time { .. }, NotDeleted::Group { .. }]
        ),
        "{waits_for:?}"
    );
}

#[test]
fn records_without_a_timestamp_age_from_the_next_check() {
    let reason = NotDeleted::NoTimestamp.to_string();
    assert!(reason.contains("next check"), "{reason}");
    // One in the future is noticed by a check, and is due later.
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    let far = Timestamp::from_millis(world.clock.now().as_millis() + 10 * DAY.as_millis() as i64);
    let record = Record::to("t").value("x").timestamp(far);
    broker.producer().unwrap().send(record).unwrap();
    broker.checkpoint().unwrap();
    let until = |broker: &Broker| match &*report(broker).waits_for {
        [NotDeleted::Time { until }] => *until,
        other => panic!("{other:?}"),
    };
    assert!(until(&broker) > far);
    check(&broker);
    assert!(until(&broker) < far);
}

#[test]
fn a_failed_check_is_what_a_partition_waits_for() {
    let world = world();
    let broker = world.open();
    broker.create_topic("t", small().retention(DAY)).unwrap();
    send(&broker, 10);
    broker.close().unwrap();
    // The folder is that of another topic, whose files must stay.
    let path = Path::new("t-0/partition.metadata");
    let metadata = world.storage.open(path, OpenMode::Write).unwrap();
    metadata.write_at(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n", 0).unwrap();
    let broker = world.open();
    world.clock.advance(2 * DAY);
    refused(broker.admin().run_retention());
    let PartitionRetention { due_segments, waits_for, .. } = report(&broker);
    assert!(due_segments > 0);
    assert!(matches!(&waits_for[0], NotDeleted::Failure(text) if text.contains("t-0")));
    let health = broker.health();
    let told = health.problems().iter().any(|problem| matches!(problem, Problem::Retention { .. }));
    assert!(told, "{health}");
}
