use std::collections::BTreeSet;
use std::time::Duration;

use grouplog::{Broker, Consumer, ConsumerConfig, Error, Record, TopicConfig, TopicPartition};

use crate::world::{World, committed_offset, drain, refused, tp, values};

fn member(broker: &Broker, config: ConsumerConfig) -> Consumer {
    let mut member = broker.consumer_with(config.group("g")).unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

fn send(broker: &Broker, partition: u32, value: &str) {
    broker.producer().unwrap().send(Record::to("t").partition(partition).value(value)).unwrap();
}

/// Checks that no partition is held twice. Returns how many are held.
fn held(members: &[&Consumer]) -> usize {
    let all: Vec<TopicPartition> = members.iter().flat_map(|m| m.assignment()).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:?}");
    all.len()
}

#[test]
fn partitions_move_one_by_one_and_only_after_they_were_given_up() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(6)).unwrap();
    let mut a = member(&broker, ConsumerConfig::new());
    a.poll(Duration::ZERO).unwrap();
    assert_eq!(a.assignment().len(), 6);
    let mut b = member(&broker, ConsumerConfig::new());
    b.poll(Duration::ZERO).unwrap();
    assert_eq!((a.assignment().len(), b.assignment().len()), (6, 0));
    let before = a.assignment();
    a.poll(Duration::ZERO).unwrap();
    assert_eq!(a.assignment(), before[..3]);
    assert_eq!(b.assignment().len(), 0);
    b.poll(Duration::ZERO).unwrap();
    assert_eq!(b.assignment(), before[3..]);

    let mut c = member(&broker, ConsumerConfig::new());
    for _ in 0..3 {
        for who in 0..3 {
            [&mut c, &mut b, &mut a][who].poll(Duration::ZERO).unwrap();
            held(&[&a, &b, &c]);
        }
    }
    assert_eq!([&a, &b, &c].map(|m| m.assignment().len()), [2, 2, 2]);
    let group = broker.describe_group("g").unwrap();
    assert_eq!((group.state, group.members.len()), ("Stable", 3));

    drop(b);
    for _ in 0..2 {
        a.poll(Duration::ZERO).unwrap();
        c.poll(Duration::ZERO).unwrap();
        held(&[&a, &c]);
    }
    assert_eq!((a.assignment().len(), c.assignment().len()), (3, 3));
    c.close().unwrap();
    a.poll(Duration::ZERO).unwrap();
    assert_eq!(a.assignment().len(), 6);
}

#[test]
fn what_was_returned_is_committed_when_a_partition_moves() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    for partition in 0..2 {
        for n in 0..5 {
            send(&broker, partition, &format!("{partition}.{n}"));
        }
    }
    let mut a = member(&broker, ConsumerConfig::new().max_poll_records(8));
    assert_eq!(a.poll(Duration::ZERO).unwrap().len(), 8);
    let mut b = member(&broker, ConsumerConfig::new());
    let mut rest = values(&drain(&mut a));
    rest.extend(values(&drain(&mut b)));
    rest.sort();
    assert_eq!(rest.len(), 2, "nothing twice, nothing left out: {rest:?}");

    // Without auto-commit the next owner begins at the last committed offset.
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    send(&broker, 0, "0");
    send(&broker, 1, "1");
    let mut a = member(&broker, ConsumerConfig::new().enable_auto_commit(false));
    assert_eq!(drain(&mut a).len(), 2);
    let mut b = member(&broker, ConsumerConfig::new());
    assert!(drain(&mut a).is_empty());
    assert_eq!(values(&drain(&mut b)), ["1"]);
}

#[test]
fn a_silent_member_is_evicted_and_what_it_commits_later_is_refused() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    send(&broker, 0, "0");
    send(&broker, 1, "1");
    let interval = Duration::from_secs(10);
    let config = ConsumerConfig::new().max_poll_interval(interval).enable_auto_commit(false);
    let mut silent = member(&broker, config.clone());
    assert_eq!(drain(&mut silent).len(), 2);
    let mut other = member(&broker, config);
    world.clock.advance(Duration::from_secs(9));
    other.poll(Duration::ZERO).unwrap();
    assert!(other.assignment().is_empty(), "not evicted before its time");
    world.clock.advance(Duration::from_secs(2));
    let mut taken = values(&drain(&mut other));
    taken.sort();
    assert_eq!(taken, ["0", "1"], "read again: nothing was committed");
    other.commit().unwrap();

    for _ in 0..2 {
        match refused(silent.commit()) {
            Error::Fenced { group, .. } => assert_eq!(group, "g"),
            error => panic!("{error}"),
        }
    }
    let late = silent.commit_offsets([(tp("t", 0), 0)]);
    assert!(matches!(refused(late), Error::Fenced { .. }));
    assert_eq!(committed_offset(&other, &tp("t", 0)), Some(1));

    // Its next poll joins again.
    for _ in 0..2 {
        assert!(drain(&mut silent).is_empty());
        assert!(drain(&mut other).is_empty());
    }
    assert_eq!((silent.assignment().len(), other.assignment().len()), (1, 1));
    silent.commit().unwrap();
}

#[test]
fn auto_commit_takes_what_earlier_polls_returned_when_the_interval_is_over() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    for n in 0..6 {
        send(&broker, 0, &format!("{n}"));
    }
    let committed = |broker: &Broker| {
        broker.describe_group("g").unwrap().offsets.first().and_then(|o| o.committed)
    };
    let config = ConsumerConfig::new().max_poll_records(2);
    let mut consumer = member(&broker, config.clone());
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 2);
    world.clock.advance(Duration::from_millis(4_900));
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 2);
    assert_eq!(committed(&broker), None, "the interval is 5 s");
    world.clock.advance(Duration::from_millis(200));
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 2);
    assert_eq!(committed(&broker), Some(4), "not what this poll returned");
    drop(consumer);
    assert_eq!(committed(&broker), Some(4), "dropping commits nothing");

    let mut consumer = member(&broker, config.clone());
    assert_eq!(values(&drain(&mut consumer)), ["4", "5"]);
    consumer.close().unwrap();
    assert_eq!(committed(&broker), Some(6), "closing does");

    send(&broker, 0, "6");
    let mut consumer = member(&broker, config.enable_auto_commit(false));
    assert_eq!(drain(&mut consumer).len(), 1);
    world.clock.advance(Duration::from_mins(1));
    consumer.poll(Duration::ZERO).unwrap();
    consumer.close().unwrap();
    assert_eq!(committed(&broker), Some(6));
}

#[test]
fn commits_are_kept_over_a_restart_and_the_group_goes_on_behind_them() {
    let world = World::new();
    let mut broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    for round in 0..4i64 {
        for partition in 0..2 {
            send(&broker, partition, &format!("{round}.{partition}"));
        }
        let mut consumer = member(&broker, ConsumerConfig::new());
        let mut seen = values(&drain(&mut consumer));
        seen.sort();
        assert_eq!(seen, [format!("{round}.0"), format!("{round}.1")]);
        consumer.commit().unwrap();
        assert_eq!(committed_offset(&consumer, &tp("t", 1)), Some(round + 1));
        if round == 1 {
            broker.checkpoint().unwrap();
        }
        drop(consumer);
        broker.close().unwrap();
        broker = world.open();
        let group = broker.describe_group("g").unwrap();
        assert_eq!(group.state, "Empty");
        assert!(group.offsets.iter().all(|offset| offset.lag == 0));
    }
    assert_eq!(broker.list_groups(), ["g"]);
    assert!(matches!(refused(broker.describe_group("nobody")), Error::UnknownGroup { .. }));
}

#[test]
fn chosen_offsets_can_be_committed_forwards_and_back() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    for n in 0..5 {
        send(&broker, 0, &format!("{n}"));
    }
    let mut consumer = member(&broker, ConsumerConfig::new().enable_auto_commit(false));
    assert_eq!(drain(&mut consumer).len(), 5);
    for offset in [3, 1] {
        consumer.commit_offsets([(tp("t", 0), offset)]).unwrap();
        assert_eq!(committed_offset(&consumer, &tp("t", 0)), Some(offset));
    }
    assert!(matches!(refused(consumer.commit_offsets([(tp("t", 0), -1)])), Error::Misuse(_)));
    let unknown = consumer.commit_offsets([(tp("nobody", 0), 1)]);
    assert!(matches!(refused(unknown), Error::UnknownTopic { .. }));

    // A caller outside must not move a group that has members.
    let config = ConsumerConfig::new().group("g").enable_auto_commit(false);
    let mut outside = broker.consumer_with(config).unwrap();
    outside.assign([tp("t", 0)]).unwrap();
    let moved = outside.commit_offsets([(tp("t", 0), 5)]);
    assert!(matches!(refused(moved), Error::Fenced { .. }));
    drop(consumer);
    assert_eq!(values(&drain(&mut outside)), ["1", "2", "3", "4"]);
    outside.commit_offsets([(tp("t", 0), 4)]).unwrap();
    let mut consumer = member(&broker, ConsumerConfig::new());
    assert_eq!(values(&drain(&mut consumer)), ["4"]);
}

#[test]
fn a_member_whose_thread_panics_leaves_without_committing() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    send(&broker, 0, "0");
    send(&broker, 1, "1");
    let mut doomed = member(&broker, ConsumerConfig::new());
    let thread = std::thread::spawn(move || {
        assert_eq!(drain(&mut doomed).len(), 2);
        std::panic::resume_unwind(Box::new("as planned"));
    });
    assert!(thread.join().is_err());
    let mut next = member(&broker, ConsumerConfig::new());
    assert_eq!(drain(&mut next).len(), 2);
    assert_eq!(next.assignment().len(), 2);
}

#[test]
fn members_get_partitions_of_the_topics_that_they_subscribed_to() {
    let broker = World::new().open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new().partitions(2)).unwrap();
    }
    let mut a = broker.consumer("g").unwrap();
    a.subscribe(["t", "u"]).unwrap();
    let mut b = broker.consumer("g").unwrap();
    b.subscribe(["u"]).unwrap();
    for _ in 0..2 {
        a.poll(Duration::ZERO).unwrap();
        b.poll(Duration::ZERO).unwrap();
    }
    assert_eq!(held(&[&a, &b]), 4);
    assert!(b.assignment().iter().all(|partition| partition.topic() == "u"));
    a.subscribe(["u"]).unwrap();
    for _ in 0..2 {
        a.poll(Duration::ZERO).unwrap();
        b.poll(Duration::ZERO).unwrap();
    }
    assert_eq!((a.assignment().len(), b.assignment().len()), (1, 1));
    b.unsubscribe().unwrap();
    assert!(b.assignment().is_empty());
    a.poll(Duration::ZERO).unwrap();
    assert_eq!(a.assignment().len(), 2);
    assert!(matches!(refused(b.poll(Duration::ZERO)), Error::Misuse(_)));
}

#[test]
fn groups_do_not_see_each_other() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 0, "v");
    for group in ["one", "two"] {
        let mut consumer = broker.consumer(group).unwrap();
        consumer.subscribe(["t"]).unwrap();
        assert_eq!(drain(&mut consumer).len(), 1);
        consumer.commit().unwrap();
    }
    assert_eq!(broker.list_groups(), ["one", "two"]);
}
