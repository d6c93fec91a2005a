//! Members of a group: how long they stay, and which topics they read. Patterns, static members, timeouts,
//! assignors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grouplog::{
    Acks, Assignment, AssignmentStrategy, Assignor, Broker, Consumer, ConsumerConfig, Error,
    GroupMembershipOperation, GroupSubscription, Record, TopicConfig, TopicPartition,
};

use crate::faulty::{Act, Faulty};
use crate::world::{World, committed_offset, drain, refused, tp, values};

const S: fn(u64) -> Duration = Duration::from_secs;

fn config() -> ConsumerConfig {
    ConsumerConfig::new().group("g").enable_auto_commit(false)
}

fn member(broker: &Broker, config: ConsumerConfig) -> Consumer {
    let mut member = broker.consumer_with(config).unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

/// Polls the members in turn until no partition moves any more.
fn settle(members: &mut [&mut Consumer]) {
    for _ in 0..3 {
        for member in &mut *members {
            member.poll(Duration::ZERO).unwrap();
        }
    }
}

fn with_topic(world: &World, partitions: u32) -> Broker {
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(partitions)).unwrap();
    broker
}

fn members_of(broker: &Broker) -> usize {
    broker.describe_group("g").map_or(0, |group| group.members.len())
}

#[test]
fn a_pattern_takes_in_topics_that_are_created_later_and_drops_those_that_go() {
    let broker = World::new().open();
    for topic in ["orders.eu", "orders", "my-orders.eu", "invoices"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let mut consumer = broker.consumer_with(config()).unwrap();
    consumer.subscribe_pattern(r"orders\.(eu|us)").unwrap();
    let topics = |consumer: &mut Consumer| {
        consumer.poll(Duration::ZERO).unwrap();
        consumer.poll(Duration::ZERO).unwrap();
        consumer.assignment().iter().map(|p| p.topic().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(topics(&mut consumer), ["orders.eu"], "whole names");
    broker.create_topic("orders.us", TopicConfig::new()).unwrap();
    broker.create_topic("orders.usa", TopicConfig::new()).unwrap();
    assert_eq!(topics(&mut consumer), ["orders.eu", "orders.us"]);
    broker.producer().unwrap().send(Record::to("orders.us").value("v")).unwrap();
    assert_eq!(values(&drain(&mut consumer)), ["v"]);
    broker.delete_topic("orders.eu").unwrap();
    assert_eq!(topics(&mut consumer), ["orders.us"]);
    // Created again under its old name it is another topic, read from its start.
    broker.create_topic("orders.eu", TopicConfig::new()).unwrap();
    assert_eq!(topics(&mut consumer), ["orders.eu", "orders.us"]);
    consumer.subscribe(["invoices"]).unwrap();
    assert_eq!(topics(&mut consumer), ["invoices"]);
    match refused(consumer.subscribe_pattern("orders(")) {
        Error::InvalidPattern { pattern, .. } => assert_eq!(pattern, "orders("),
        error => panic!("{error}"),
    }
    assert_eq!(topics(&mut consumer), ["invoices"], "a refused pattern changes nothing");
}

#[test]
fn a_static_member_comes_back_to_its_partitions_and_nobody_else_notices() {
    let world = World::new();
    let broker = with_topic(&world, 4);
    let instance = |id: &str| config().group_instance_id(id).session_timeout(S(30));
    let mut a = member(&broker, instance("a"));
    let mut b = member(&broker, instance("b"));
    settle(&mut [&mut a, &mut b]);
    let (of_a, of_b) = (a.assignment(), b.assignment());
    let before = a.group_metadata().unwrap();
    assert_eq!(before.instance_id.as_deref(), Some("a"));
    assert_eq!((of_a.len(), of_b.len()), (2, 2));
    a.commit_offsets(of_a.iter().map(|partition| (partition.clone(), 0))).unwrap();
    a.close().unwrap();
    world.clock.advance(S(29));
    settle(&mut [&mut b]);
    assert_eq!(b.assignment(), of_b, "its place is kept");
    assert_eq!(members_of(&broker), 2);

    let mut a = member(&broker, instance("a"));
    a.poll(Duration::ZERO).unwrap();
    assert_eq!(a.assignment(), of_a, "at once, and the same");
    let after = a.group_metadata().unwrap();
    assert_eq!(after.member_epoch, before.member_epoch, "no rebalance");
    assert_ne!(after.member_id, before.member_id);
    settle(&mut [&mut b, &mut a]);
    assert_eq!((a.assignment(), b.assignment()), (of_a, of_b));

    drop(a);
    world.clock.advance(S(31));
    settle(&mut [&mut b]);
    assert_eq!(b.assignment().len(), 4, "not for longer than the session");

    let mut a = member(&broker, instance("a"));
    settle(&mut [&mut b, &mut a]);
    assert_eq!(b.assignment().len(), 2);
    a.close_with(GroupMembershipOperation::LeaveGroup).unwrap();
    settle(&mut [&mut b]);
    assert_eq!(b.assignment().len(), 4, "it said that it will not come back");
}

#[test]
fn the_double_of_a_static_member_fences_it() {
    let world = World::new();
    let broker = with_topic(&world, 2);
    broker.producer().unwrap().send(Record::to("t").partition(0).value("v")).unwrap();
    let instance = || config().group_instance_id("a");
    let mut first = member(&broker, instance());
    assert_eq!(drain(&mut first).len(), 1);
    let mut second = member(&broker, instance());
    assert_eq!(drain(&mut second).len(), 1, "nothing was committed: read again");
    assert_eq!(second.assignment().len(), 2);
    for _ in 0..2 {
        for refusal in [
            refused(first.commit()),
            refused(first.commit_offsets([(tp("t", 0), 1)])),
            refused(first.poll(Duration::ZERO)),
        ] {
            match refusal {
                Error::FencedInstanceId { group, instance_id } => {
                    assert_eq!((group.as_str(), instance_id.as_str()), ("g", "a"));
                }
                error => panic!("{error}"),
            }
        }
        assert!(first.assignment().is_empty());
    }
    assert_eq!(committed_offset(&second, &tp("t", 0)), None);
    drop(first);
    second.commit().unwrap();
    assert_eq!(members_of(&broker), 1, "the first one's end does not touch the second");
}

#[test]
fn a_session_is_kept_by_commits_and_ends_without_them() {
    let world = World::new();
    let broker = with_topic(&world, 1);
    let mut consumer = member(&broker, config().session_timeout(S(10)));
    consumer.poll(Duration::ZERO).unwrap();
    for _ in 0..5 {
        world.clock.advance(S(9));
        consumer.commit_offsets([(tp("t", 0), 0)]).unwrap();
        assert_eq!(members_of(&broker), 1);
    }
    world.clock.advance(S(10));
    assert_eq!(members_of(&broker), 0);
    assert!(matches!(refused(consumer.commit()), Error::Fenced { .. }));
    consumer.poll(Duration::ZERO).unwrap();
    assert_eq!((members_of(&broker), consumer.assignment().len()), (1, 1));
}

#[test]
fn commits_are_no_polls_but_the_time_inside_them_is_no_silence() {
    let world = World::new();
    let storage = Faulty::new(world.storage.clone());
    let broker = Broker::open_storage(Arc::new(storage.clone()), world.config.clone()).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let config = config().max_poll_interval(S(10)).commit_acks(Acks::Synced);
    let mut consumer = member(&broker, config);
    consumer.poll(Duration::ZERO).unwrap();
    world.clock.advance(S(6));
    // A disk that takes half a minute for a sync.
    storage.order("sync", "journal", Act::Take(Arc::clone(&world.clock), S(30)));
    consumer.commit_offsets([(tp("t", 0), 0)]).unwrap();
    storage.heal();
    world.clock.advance(S(3));
    assert_eq!(members_of(&broker), 1, "9 seconds of its own");
    world.clock.advance(S(1));
    assert_eq!(members_of(&broker), 0);
}

#[test]
fn a_member_that_is_forgotten_is_evicted_in_its_time() {
    let world = World::new();
    let broker = with_topic(&world, 2);
    let mut forgotten = member(&broker, config().max_poll_interval(S(10)));
    forgotten.poll(Duration::ZERO).unwrap();
    std::mem::forget(forgotten);
    let mut other = member(&broker, config().max_poll_interval(S(10)));
    other.poll(Duration::ZERO).unwrap();
    assert!(other.assignment().is_empty());
    world.clock.advance(S(9));
    other.poll(Duration::ZERO).unwrap();
    assert!(other.assignment().is_empty());
    world.clock.advance(S(1));
    other.poll(Duration::ZERO).unwrap();
    assert_eq!(other.assignment().len(), 2);
}

#[test]
fn a_group_has_no_more_members_than_it_may_and_the_refused_one_is_none() {
    let mut world = World::new();
    world.config = world.config.group_max_size(2);
    let broker = with_topic(&world, 4);
    let mut members: Vec<_> = (0..2).map(|_| member(&broker, config())).collect();
    let mut third = broker.consumer_with(config()).unwrap();
    match refused(third.subscribe(["t"])) {
        Error::GroupMaxSizeReached { group, max: 2 } => assert_eq!(group, "g"),
        error => panic!("{error}"),
    }
    assert!(matches!(refused(third.poll(Duration::ZERO)), Error::Misuse(_)));
    members.pop();
    third.subscribe(["t"]).unwrap();
    settle(&mut [&mut members[0], &mut third]);
    assert_eq!((members[0].assignment().len(), third.assignment().len()), (2, 2));
}

#[test]
fn a_member_that_left_does_not_count_against_the_limit() {
    let world = World::new();
    let storage = Arc::new(world.storage.clone());
    let broker = Broker::open_storage(storage, world.config.clone().group_max_size(1)).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    std::mem::forget(member(&broker, config()));
    world.clock.advance(S(300));
    let mut next = member(&broker, config().group_instance_id("a"));
    settle(&mut [&mut next]);
    let epoch = broker.describe_group("g").unwrap().epoch;
    drop(next);
    // A member that returns too late joins like any other, and the group computes a new assignment.
    world.clock.advance(S(45));
    let mut late = member(&broker, config().group_instance_id("a"));
    settle(&mut [&mut late]);
    assert_eq!(late.assignment().len(), 1);
    assert!(broker.describe_group("g").unwrap().epoch > epoch);
}

#[test]
fn members_stand_by_when_there_are_more_than_partitions_and_topics_may_be_missing() {
    let world = World::new();
    let broker = world.open();
    let mut members: Vec<_> = (0..3).map(|_| member(&broker, config())).collect();
    let mut settled = |count: usize| {
        let mut all: Vec<_> = members.iter_mut().collect();
        settle(&mut all);
        let mut owned: Vec<TopicPartition> = all.iter().flat_map(|m| m.assignment()).collect();
        owned.sort();
        let expected: Vec<_> = (0..count as u32).map(|number| tp("t", number)).collect();
        assert_eq!(owned, expected);
        assert!(all.iter().all(|m| m.assignment().len() <= count.div_ceil(3)));
    };
    settled(0);
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    settled(2);
    broker.delete_topic("t").unwrap();
    settled(0);
    broker.create_topic("t", TopicConfig::new().partitions(7)).unwrap();
    settled(7);
}

#[test]
fn a_member_that_shares_no_assignor_with_the_others_cannot_join() {
    use AssignmentStrategy::{Range, Sticky, Uniform};
    let world = World::new();
    let broker = with_topic(&world, 2);
    let with = |strategies: Vec<AssignmentStrategy>| config().assignment_strategies(strategies);
    let mut first = member(&broker, with(vec![Sticky, Uniform]));
    let mut odd = broker.consumer_with(with(vec![Range])).unwrap();
    match refused(odd.subscribe(["t"])) {
        Error::InconsistentGroupProtocol { group, proposed } => {
            assert_eq!((group.as_str(), proposed.as_str()), ("g", "range"));
        }
        error => panic!("{error}"),
    }
    assert_eq!(members_of(&broker), 1);
    let mut second = member(&broker, with(vec![Range, Uniform]));
    settle(&mut [&mut first, &mut second]);
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
}

#[test]
fn an_own_assignor_is_used_and_runs_again_on_request() {
    /// Assigns all partitions to the member whose turn it is.
    #[derive(Debug)]
    struct Turns(AtomicUsize);

    impl Assignor for Turns {
        fn name(&self) -> &'static str {
            "turns"
        }

        fn assign(&self, group: &GroupSubscription) -> Assignment {
            let mut lists = vec![Vec::new(); group.members().len()];
            let turn = self.0.load(Ordering::Relaxed) % lists.len();
            lists[turn] = group.partitions().collect();
            lists
        }
    }
    let world = World::new();
    let broker = with_topic(&world, 3);
    let turns = Arc::new(Turns(AtomicUsize::new(0)));
    let config = config().assignment_strategies([AssignmentStrategy::Own(Arc::clone(&turns) as _)]);
    let mut a = member(&broker, config.clone());
    let mut b = member(&broker, config);
    settle(&mut [&mut a, &mut b]);
    assert_eq!((a.assignment().len(), b.assignment().len()), (3, 0));
    turns.0.store(1, Ordering::Relaxed);
    settle(&mut [&mut a, &mut b]);
    assert_eq!((a.assignment().len(), b.assignment().len()), (3, 0), "not by itself");
    b.enforce_rebalance().unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!((a.assignment().len(), b.assignment().len()), (0, 3));
    let mut alone = broker.consumer("h").unwrap();
    assert!(matches!(refused(alone.enforce_rebalance()), Error::Misuse(_)));
}

#[test]
fn a_panic_in_an_own_assignor_goes_to_the_caller_and_the_group_goes_on_as_it_was() {
    /// Assigns all partitions to the first member, unless it is to panic.
    #[derive(Debug, Default)]
    struct Nervous(AtomicUsize);

    impl Assignor for Nervous {
        fn name(&self) -> &'static str {
            "nervous"
        }

        fn assign(&self, group: &GroupSubscription) -> Assignment {
            if self.0.load(Ordering::Relaxed) > 0 {
                // Like `panic!`, without a message.
                std::panic::resume_unwind(Box::new("as planned"));
            }
            vec![group.partitions().collect()]
        }
    }
    let broker = with_topic(&World::new(), 3);
    let nervous = Arc::new(Nervous::default());
    let own = AssignmentStrategy::Own(Arc::clone(&nervous) as _);
    let config = config().assignment_strategies([own]);
    let mut a = member(&broker, config.clone());
    settle(&mut [&mut a]);
    nervous.0.store(1, Ordering::Relaxed);
    let join = std::panic::AssertUnwindSafe(|| member(&broker, config.clone()));
    assert!(std::panic::catch_unwind(join).is_err());
    assert_eq!(a.assignment().len(), 3);
    a.commit().unwrap();
    // While a thread unwinds, a further panic would end the process.
    let dropped = std::thread::spawn(move || {
        let _unwound = a;
        std::panic::resume_unwind(Box::new("as planned"));
    });
    assert!(dropped.join().is_err());
    nervous.0.store(0, Ordering::Relaxed);
    let mut b = member(&broker, config);
    settle(&mut [&mut b]);
    assert_eq!((b.assignment().len(), members_of(&broker)), (3, 1));
}
