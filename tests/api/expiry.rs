//! Expiry of committed offsets that are no longer used.

use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::Storage as _;
use grouplog::time::Clock as _;
use grouplog::{
    Admin, Broker, BrokerConfig, Consumer, ConsumerConfig, Error, OffsetScope, Record, ResetTo,
    Timestamp, TopicConfig,
};

use crate::world::{World, drain, refused, tp};

const DAY: Duration = Duration::from_hours(24);
/// Ten minutes, in milliseconds.
const YEARS: i64 = 3_650 * 24 * 3_600_000;

fn world() -> (World, Broker) {
    let world = World::new();
    let broker = world.open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to(topic).value("v")).unwrap();
    }
    (world, broker)
}

/// Creates a member that has read and committed everything, and may be silent without limit.
fn member(broker: &Broker, group: &str, topics: &[&str]) -> Consumer {
    let config = ConsumerConfig::new().group(group).max_poll_interval(DAY * 1_000);
    let mut member = broker.consumer_with(config).unwrap();
    member.subscribe(topics).unwrap();
    drain(&mut member);
    member.commit().unwrap();
    member
}

fn committed(admin: &Admin, group: &str) -> Vec<String> {
    let described = admin.describe_group(group);
    let offsets = described.map(|group| group.offsets).unwrap_or_default();
    offsets
        .iter()
        .filter(|row| row.committed.is_some())
        .map(|row| row.partition.to_string())
        .collect()
}

/// Lets days pass, each with a round of maintenance.
fn days(world: &World, broker: &Broker, count: u32) {
    for _ in 0..count {
        world.clock.advance(DAY);
        broker.maintain().unwrap();
    }
}

#[test]
fn a_static_member_that_does_not_come_back_keeps_no_offsets() {
    let (world, broker) = world();
    let config = ConsumerConfig::new().group("g").group_instance_id("a");
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 1);
    consumer.close().unwrap();
    // No call reads the group in between, which would evict the member as well.
    days(&world, &broker, 9);
    assert!(committed(&broker.admin(), "g").is_empty());
    assert!(broker.list_groups().is_empty());
}

#[test]
fn a_group_is_forgotten_a_week_after_its_last_member_left() {
    let (world, broker) = world();
    let admin = broker.admin();
    let consumer = member(&broker, "g", &["t", "u"]);
    // The member has nothing to commit for a year, and keeps its place.
    days(&world, &broker, 365);
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    drop(consumer);
    // The first round notices that the group is empty.
    days(&world, &broker, 1 + 6);
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    days(&world, &broker, 1);
    assert!(admin.list_groups().is_empty());
}

#[test]
fn when_a_group_was_in_use_survives_closing_and_kills() {
    let (world, broker) = world();
    let consumer = member(&broker, "g", &["t"]);
    days(&world, &broker, 30);
    broker.close().unwrap();
    drop(consumer);
    world.clock.advance(DAY * 6);
    let broker = world.open();
    broker.maintain().unwrap();
    assert_eq!(committed(&broker.admin(), "g"), ["t-0"]);

    // After a kill, the state of the last round counts.
    let consumer = member(&broker, "g", &["t"]);
    days(&world, &broker, 30);
    world.clock.advance(DAY / 2);
    let killed = World {
        storage: world
            .storage
            .crash(grouplog::storage::Crash::Kill, &grouplog::time::SeededRandom::new(1)),
        ..world
    };
    drop((consumer, broker));
    for (days, left) in [(6, 1), (1, 0)] {
        killed.clock.advance(DAY * days);
        let broker = killed.open();
        broker.maintain().unwrap();
        assert_eq!(committed(&broker.admin(), "g").len(), left);
        broker.close().unwrap();
    }
}

#[test]
fn topics_that_members_do_not_read_are_forgotten_by_the_commit() {
    let (world, broker) = world();
    let admin = broker.admin();
    let mut consumer = member(&broker, "g", &["t", "u"]);
    consumer.subscribe(["t"]).unwrap();
    drain(&mut consumer);
    days(&world, &broker, 6);
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    days(&world, &broker, 1);
    assert_eq!(committed(&admin, "g"), ["t-0"]);
    days(&world, &broker, 30);
    assert_eq!(committed(&admin, "g"), ["t-0"]);
    consumer.commit().unwrap();
}

#[test]
fn offsets_that_were_set_from_outside_are_forgotten_by_the_commit() {
    let (world, broker) = world();
    let admin = broker.admin();
    let scope = |topic: &str| OffsetScope::Topic(topic.to_owned());
    admin.reset_offsets("g", &scope("t"), ResetTo::Latest).unwrap();
    days(&world, &broker, 4);
    admin.reset_offsets("g", &scope("u"), ResetTo::Latest).unwrap();
    days(&world, &broker, 3);
    assert_eq!(committed(&admin, "g"), ["u-0"]);
    days(&world, &broker, 4);
    assert!(admin.list_groups().is_empty());
    assert!(matches!(refused(admin.describe_group("g")), Error::UnknownGroup { .. }));
}

#[test]
fn a_retention_that_is_too_short_is_refused() {
    let config = BrokerConfig::new().background(false);
    for (config, key) in [
        (config.clone().offsets_retention(Duration::from_secs(59)), "offsets.retention.minutes"),
        (
            config.clone().offsets_retention_check_interval(Duration::ZERO),
            "offsets.retention.check.interval.ms",
        ),
    ] {
        let opened = Broker::open_storage(Arc::new(grouplog::storage::Memory::new()), config);
        assert!(matches!(refused(opened), Error::InvalidConfig { key: k, .. } if k == key));
    }
}

/// A group is an entry in one file, not a handle, a file or a thread.
#[test]
fn ten_thousand_groups_are_one_small_file() {
    const GROUPS: usize = 10_000;
    let (world, mut broker) = world();
    for n in 0..GROUPS {
        let mut consumer = broker.consumer(&format!("group {n}")).unwrap();
        consumer.commit_offsets([(tp("t", 0), n as i64 % 2), (tp("u", 0), 1)]).unwrap();
    }
    broker.checkpoint().unwrap();
    let bytes = |name| world.storage.metadata(name).unwrap().map_or(0, |(_, bytes)| bytes);
    let file = bytes("offsets.a".as_ref()).max(bytes("offsets.b".as_ref()));
    // Name, time and count, and 26 bytes for each of two offsets.
    let expected = (GROUPS * (2 + 10 + 8 + 4 + 2 * 26)) as u64;
    assert!(file <= expected + 56, "{file} bytes, expected about {expected}");
    broker.close().unwrap();
    broker = world.open();
    let admin = broker.admin();
    assert_eq!(admin.list_groups().len(), GROUPS);
    assert_eq!(admin.describe_group("group 77").unwrap().lag(), 0);
    days(&world, &broker, 6);
    // One of the groups is in use again.
    let consumer = member(&broker, "group 7", &["t"]);
    days(&world, &broker, 1);
    assert_eq!(admin.list_groups(), ["group 7"]);
    assert_eq!(committed(&admin, "group 7"), ["t-0"]);
    drop(consumer);
    broker.close().unwrap();
    let broker = world.open();
    assert_eq!(broker.list_groups(), ["group 7"]);
}

/// Sets the wall clock for one round of maintenance.
fn round_at(world: &World, broker: &Broker, wall: Timestamp) {
    let before = world.clock.now();
    world.clock.set_wall(wall);
    broker.maintain().unwrap();
    world.clock.set_wall(before);
    broker.maintain().unwrap();
}

#[test]
fn a_jump_of_the_wall_clock_is_not_elapsed_time() {
    let (world, broker) = world();
    let admin = broker.admin();
    drop(member(&broker, "g", &["t", "u"]));
    days(&world, &broker, 3);
    round_at(&world, &broker, Timestamp::from_millis(world.clock.now().as_millis() + YEARS));
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    round_at(&world, &broker, Timestamp::from_millis(0));
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    // The group is in use until the first round. Then a week passes as usual.
    days(&world, &broker, 3);
    assert_eq!(committed(&admin, "g"), ["t-0", "u-0"]);
    days(&world, &broker, 2);
    assert!(admin.list_groups().is_empty());
}

#[test]
fn what_is_committed_while_the_clock_stands_in_1970_is_not_from_1970() {
    let (world, broker) = world();
    let right = world.clock.now();
    world.clock.set_wall(Timestamp::from_millis(5));
    drop(member(&broker, "g", &["t"]));
    let scope = OffsetScope::Topic("t".to_owned());
    broker.admin().reset_offsets("h", &scope, ResetTo::Latest).unwrap();
    broker.maintain().unwrap();
    world.clock.set_wall(right);
    broker.maintain().unwrap();
    assert_eq!(broker.list_groups(), ["g", "h"]);
}

#[test]
fn a_jump_over_a_restart_ages_by_a_day_at_most() {
    let (world, broker) = world();
    drop(member(&broker, "g", &["t"]));
    broker.maintain().unwrap();
    broker.close().unwrap();
    let right = world.clock.now().as_millis();
    // The clock is ahead at each start until it is corrected, or shows 1970.
    for wall in [right + YEARS, right + YEARS + 60_000, 5, right + 2 * YEARS] {
        world.clock.set_wall(Timestamp::from_millis(wall));
        let broker = world.open();
        broker.maintain().unwrap();
        world.clock.set_wall(Timestamp::from_millis(right));
        broker.maintain().unwrap();
        assert_eq!(broker.list_groups(), ["g"], "{wall}");
        broker.close().unwrap();
    }
    // Time that passes counts as usual.
    let broker = world.open();
    days(&world, &broker, 8);
    assert!(broker.list_groups().is_empty());
}

#[test]
fn short_runs_once_a_day_expire_what_nobody_uses() {
    let (world, mut broker) = world();
    drop(member(&broker, "g", &["t"]));
    for day in 1..=8 {
        broker.close().unwrap();
        world.clock.advance(DAY);
        broker = world.open();
        broker.maintain().unwrap();
        assert_eq!(broker.list_groups().is_empty(), day >= 7, "{day}");
    }
}
