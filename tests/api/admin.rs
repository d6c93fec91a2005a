//! Managing groups from outside.

use std::time::Duration;

use grouplog::{
    Admin, Broker, ConsumerConfig, Error, OffsetScope, Record, ResetTo, Timestamp, TopicConfig,
};

use crate::world::{World, drain, refused, tp, values};

fn topic(name: &str) -> OffsetScope {
    OffsetScope::Topic(name.to_owned())
}

fn send(broker: &Broker, topic: &str, values: &[&str]) {
    let producer = broker.producer().unwrap();
    for value in values {
        producer.send(Record::to(topic).value(value)).unwrap();
    }
}

/// Returns the offset that a group has committed for the first partition of a topic.
fn committed(admin: &Admin, group: &str, topic: &str) -> Option<i64> {
    let group = admin.describe_group(group).ok()?;
    group.offsets.iter().find(|row| row.partition == tp(topic, 0))?.committed
}

#[test]
fn a_description_names_members_offsets_and_lag() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").partition(0).value("old")).unwrap();
    let config = ConsumerConfig::new().group("g").client_id("worker");
    let mut member = broker.consumer_with(config).unwrap();
    member.subscribe(["t"]).unwrap();
    assert_eq!(drain(&mut member).len(), 1);
    member.commit().unwrap();
    world.clock.advance(Duration::from_secs(5));
    producer.send(Record::to("t").partition(0).value("first unread")).unwrap();
    world.clock.advance(Duration::from_secs(2));
    producer.send(Record::to("t").partition(0).value("second")).unwrap();
    world.clock.advance(Duration::from_secs(1));

    let group = broker.admin().describe_group("g").unwrap();
    assert_eq!((group.state, group.lag()), ("Stable", 2));
    assert_eq!(group.assignor.as_deref(), Some("range"));
    let member_of = &group.members[0];
    assert_eq!(group.epoch, Some(member_of.epoch));
    assert_eq!((member_of.client_id.as_str(), member_of.state), ("worker", "Stable"));
    assert_eq!(member_of.subscription, ["t"]);
    assert_eq!(member_of.assignment, [tp("t", 0), tp("t", 1)]);
    let [first, second] = group.offsets.as_slice() else { panic!("{group:?}") };
    assert_eq!((first.committed, first.end_offset, first.lag), (Some(1), 3, 2));
    assert_eq!(first.time_lag, Some(Duration::from_secs(3)));
    assert_eq!(first.commit_timestamp, Some(Timestamp::from_millis(1_700_000_000_000)));
    assert_eq!(first.member.as_deref(), Some(member_of.id.as_str()));
    assert_eq!((second.lag, second.time_lag), (0, Some(Duration::ZERO)));

    // A record with a future timestamp has waited for no time.
    let future = Timestamp::from_millis(1_900_000_000_000);
    drain(&mut member);
    member.commit().unwrap();
    producer.send(Record::to("t").partition(0).value("v").timestamp(future)).unwrap();
    let group = broker.describe_group("g").unwrap();
    assert_eq!((group.lag(), group.offsets[0].time_lag), (1, Some(Duration::ZERO)));
}

#[test]
fn a_group_with_members_is_not_changed_from_outside() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, "t", &["0", "1", "2"]);
    let admin = broker.admin();
    let config = ConsumerConfig::new().group("g").enable_auto_commit(false);
    let mut member = broker.consumer_with(config).unwrap();
    member.subscribe(["t"]).unwrap();
    drain(&mut member);
    member.commit_offsets([(tp("t", 0), 1)]).unwrap();
    for result in [
        admin.reset_offsets("g", &topic("t"), ResetTo::Earliest).map(|_| ()),
        admin.delete_offsets("g", &topic("t")),
        admin.delete_group("g"),
    ] {
        assert!(matches!(refused(result), Error::GroupNotEmpty { group } if group == "g"));
    }
    // A plan changes nothing, so it is allowed.
    assert_eq!(admin.plan_reset("g", &topic("t"), ResetTo::Latest).unwrap()[0].target, 3);
    assert_eq!(committed(&admin, "g", "t"), Some(1));

    // A member that was silent for too long is no longer a member.
    world.clock.advance(Duration::from_mins(6));
    admin.reset_offsets("g", &topic("t"), ResetTo::Latest).unwrap();
    assert_eq!(committed(&admin, "g", "t"), Some(3));
    assert!(matches!(refused(member.commit()), Error::Fenced { .. }));
    assert_eq!(committed(&admin, "g", "t"), Some(3));
}

#[test]
fn offsets_that_no_member_reads_may_go_while_the_group_has_members() {
    let broker = World::new().open();
    for name in ["t", "old"] {
        broker.create_topic(name, TopicConfig::new()).unwrap();
        send(&broker, name, &["0"]);
    }
    let admin = broker.admin();
    admin.reset_offsets("g", &topic("old"), ResetTo::Latest).unwrap();
    let mut member = broker.consumer("g").unwrap();
    member.subscribe(["t"]).unwrap();
    drain(&mut member);
    member.commit().unwrap();
    admin.delete_offsets("g", &topic("old")).unwrap();
    assert!(matches!(
        refused(admin.delete_offsets("g", &OffsetScope::Committed)),
        Error::GroupNotEmpty { .. }
    ));
    assert_eq!((committed(&admin, "g", "old"), committed(&admin, "g", "t")), (None, Some(1)));
    member.subscribe(["t", "old"]).unwrap();
    drain(&mut member);
    member.commit().unwrap();
    assert!(admin.delete_offsets("g", &topic("old")).is_err());
}

#[test]
fn changes_of_offsets_survive_and_a_deleted_group_begins_anew() {
    let world = World::new();
    let mut broker = world.open();
    for name in ["t", "u"] {
        broker.create_topic(name, TopicConfig::new()).unwrap();
        send(&broker, name, &["0", "1", "2", "3"]);
    }
    for group in ["reset", "partly", "deleted"] {
        let mut member = broker.consumer(group).unwrap();
        member.subscribe(["t", "u"]).unwrap();
        assert_eq!(drain(&mut member).len(), 8);
        member.close().unwrap();
    }
    let admin = broker.admin();
    admin.reset_offsets("reset", &OffsetScope::Committed, ResetTo::Shift(-3)).unwrap();
    admin.delete_offsets("partly", &OffsetScope::Partitions(vec![tp("t", 0)])).unwrap();
    admin.delete_group("deleted").unwrap();
    for _ in 0..2 {
        let admin = broker.admin();
        assert_eq!(admin.list_groups(), ["partly", "reset"]);
        assert_eq!(
            (committed(&admin, "reset", "t"), committed(&admin, "reset", "u")),
            (Some(1), Some(1))
        );
        assert_eq!(
            (committed(&admin, "partly", "t"), committed(&admin, "partly", "u")),
            (None, Some(4))
        );
        assert!(matches!(refused(admin.delete_group("deleted")), Error::UnknownGroup { .. }));
        broker.close().unwrap();
        broker = world.open();
    }
    let mut member = broker.consumer("deleted").unwrap();
    member.subscribe(["t"]).unwrap();
    assert_eq!(values(&drain(&mut member)), ["0", "1", "2", "3"]);
    let mut member = broker.consumer("reset").unwrap();
    member.subscribe(["t"]).unwrap();
    assert_eq!(values(&drain(&mut member)), ["1", "2", "3"]);
}

#[test]
fn a_reset_goes_where_it_is_told_within_the_log() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let admin = broker.admin();
    let began = 1_700_000_000_000;
    for n in 0..10 {
        send(&broker, "t", &[&n.to_string()]);
        world.clock.advance(Duration::from_secs(10));
    }
    // 100 seconds have passed; the records are 100, 90, ... 10 seconds old.
    let at = |seconds: i64| Timestamp::from_millis(began + seconds * 1_000);
    for (to, target) in [
        (ResetTo::Current, 10),
        (ResetTo::Earliest, 0),
        (ResetTo::Shift(3), 3),
        (ResetTo::Shift(i64::MAX), 10),
        (ResetTo::Shift(i64::MIN), 0),
        (ResetTo::Current, 0),
        (ResetTo::Latest, 10),
        (ResetTo::Shift(-2), 8),
        (ResetTo::Offset(5), 5),
        (ResetTo::Offset(-5), 0),
        (ResetTo::Offset(11), 10),
        (ResetTo::Timestamp(at(20)), 2),
        (ResetTo::Timestamp(at(21)), 3),
        (ResetTo::Timestamp(at(-5)), 0),
        (ResetTo::Timestamp(at(91)), 10),
        (ResetTo::Ago(Duration::from_secs(30)), 7),
        (ResetTo::Ago(Duration::from_secs(5)), 10),
        (ResetTo::Ago(Duration::MAX), 0),
    ] {
        let planned = admin.plan_reset("g", &topic("t"), to).unwrap();
        let before = committed(&admin, "g", "t");
        let done = admin.reset_offsets("g", &topic("t"), to).unwrap();
        assert_eq!(planned, done);
        assert_eq!((done[0].committed, done[0].target), (before, target), "{to:?}");
        assert_eq!(committed(&admin, "g", "t"), Some(target), "{to:?}");
    }
    let shift = admin.reset_offsets("new", &topic("t"), ResetTo::Shift(1));
    assert!(
        matches!(refused(shift), Error::NoOffsetForPartition { partition } if partition == tp("t", 0))
    );
    assert!(matches!(
        refused(admin.reset_offsets("new", &OffsetScope::Committed, ResetTo::Latest)),
        Error::UnknownGroup { .. }
    ));
    let nowhere = OffsetScope::Partitions(vec![tp("t", 1)]);
    assert!(matches!(
        refused(admin.reset_offsets("new", &nowhere, ResetTo::Latest)),
        Error::UnknownPartition { .. }
    ));
    assert!(matches!(
        refused(admin.reset_offsets("a\nb", &topic("t"), ResetTo::Latest)),
        Error::InvalidName { .. }
    ));
}

#[test]
fn a_folder_that_is_open_elsewhere_can_be_asked_the_same_questions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, "t", &["0", "1", "2"]);
    let admin = broker.admin();
    admin.reset_offsets("g", &topic("t"), ResetTo::Offset(1)).unwrap();
    broker.checkpoint().unwrap();
    let beside = Broker::open_read_only(&path).unwrap();
    let (here, there) = (admin.describe_group("g").unwrap(), beside.describe_group("g").unwrap());
    assert_eq!((there.state, there.epoch, there.lag()), ("Unknown", None, 2));
    assert_eq!(there.offsets[0].committed, here.offsets[0].committed);
    let to = ResetTo::Shift(1);
    let planned = beside.plan_reset("g", &topic("t"), to).unwrap();
    assert_eq!(planned, admin.plan_reset("g", &topic("t"), to).unwrap());
    let zero = Timestamp::from_millis(0);
    assert_eq!(
        beside.offset_for_time(&tp("t", 0), zero).unwrap(),
        admin.offset_for_time(&tp("t", 0), zero).unwrap()
    );
    let usage = beside.disk_usage().unwrap();
    assert_eq!(usage, admin.disk_usage().unwrap());
    assert!(usage.topics["t"] > 0 && usage.journal > 0 && usage.other > 0);
}
