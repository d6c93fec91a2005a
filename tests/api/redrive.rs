//! Dead letters go back to where they came from, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grouplog::storage::Crash;
use grouplog::time::{Clock, SeededRandom};
use grouplog::{
    Broker, CleanupPolicy, Error, NotRedriven, OffsetScope, Record, ResetTo, ShareGroupConfig,
    Timestamp, TopicConfig,
};

use crate::world::{Owned, World, after_crash, all, refused, tp, values};

const ALL: u64 = u64::MAX;

/// Makes a group whose letters go to "dead".
fn group(broker: &Broker, name: &str) {
    let config = ShareGroupConfig::new().dead_letter_topic("dead");
    broker.admin().alter_share_group(name, config).unwrap();
}

fn jobs(broker: &Broker, count: usize) {
    broker.ensure_topic("jobs", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for number in 0..count {
        producer.send(Record::to("jobs").value(&format!("j{number}"))).unwrap();
    }
}

/// Lets a group reject all that it can get.
fn reject(broker: &Broker, name: &str, topic: &str) {
    let mut member = broker.share_consumer(name).unwrap();
    member.subscribe([topic]).unwrap();
    loop {
        let jobs = member.poll(Duration::ZERO).unwrap();
        if jobs.is_empty() {
            return;
        }
        jobs.for_each(|job| job.reject("bad").unwrap());
    }
}

/// Returns what a record has, without its place and time.
fn content(record: &Owned) -> (u32, Option<Vec<u8>>, Option<Vec<u8>>) {
    (record.partition, record.key.clone(), record.value.clone())
}

#[test]
fn a_record_comes_back_as_it_was_and_once() {
    for crash in [None, Some(Crash::Kill), Some(Crash::LoseAll)] {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("jobs", TopicConfig::new().partitions(3)).unwrap();
        group(&broker, "g");
        let producer = broker.producer().unwrap();
        let record = |partition| Record::to("jobs").partition(partition);
        producer.send(record(2).key("k").value("v").header("a", "1").header("a", "2")).unwrap();
        producer.send(record(0).key("tombstone").null_header("none")).unwrap();
        producer.send(record(2).value("")).unwrap();
        drop(producer);
        reject(&broker, "g", "jobs");
        let sent = all(&broker, "jobs");
        let redriven = broker.admin().redrive("g", ALL).unwrap();
        let counts: Vec<_> = redriven.sent.into_iter().collect();
        assert_eq!(counts, [(tp("jobs", 0), 1), (tp("jobs", 2), 2)]);
        assert_eq!(redriven.skipped, 0);
        let (_world, broker) = match crash {
            Some(crash) => after_crash(&world, crash),
            None => (world, broker),
        };
        let now = all(&broker, "jobs");
        assert_eq!(now.len(), 6);
        let again: Vec<_> = now.iter().filter(|record| !sent.contains(record)).collect();
        let pairs = again.iter().zip(&sent);
        for (again, sent) in pairs {
            assert_eq!(content(again), content(sent));
            assert_eq!(again.headers, sent.headers);
        }
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 0);
        let mut member = broker.share_consumer("g").unwrap();
        member.subscribe(["jobs"]).unwrap();
        let jobs: Vec<_> = member.poll(Duration::ZERO).unwrap().collect();
        assert_eq!(jobs.len(), 3);
        assert!(jobs.iter().all(|job| job.delivery_count() == 1));
        // What fails again is another letter.
        for job in jobs {
            job.reject("still").unwrap();
        }
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 3);
        assert_eq!(all(&broker, "dead").len(), 6);
    }
}

#[test]
fn each_group_gets_its_own_letters_back() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 2);
    for name in ["g", "h"] {
        group(&broker, name);
        reject(&broker, name, "jobs");
    }
    broker.producer().unwrap().send(Record::to("dead").value("no letter")).unwrap();
    let admin = broker.admin();
    assert_eq!(admin.plan_redrive("g", ALL).unwrap().records(), 2);
    assert_eq!(admin.redrive("g", ALL).unwrap().records(), 2);
    assert_eq!(values(&all(&broker, "jobs")), ["j0", "j1", "j0", "j1"]);
    assert_eq!(admin.describe_share_group("g.redrive").unwrap().lag(), 0);
    assert_eq!(admin.plan_redrive("h", ALL).unwrap().records(), 2);
    assert_eq!(admin.redrive("h", ALL).unwrap().records(), 2);
    // An operator may begin anew.
    admin.reset_share_group("g.redrive", &OffsetScope::Committed, ResetTo::Earliest).unwrap();
    assert_eq!(admin.redrive("g", ALL).unwrap().records(), 2);
}

#[test]
fn a_limit_stops_and_a_plan_changes_nothing() {
    let world = World::new();
    let broker = world.open();
    group(&broker, "g");
    jobs(&broker, 10);
    reject(&broker, "g", "jobs");
    let admin = broker.admin();
    let reader = || Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    for (max, left) in [(0, 10), (4, 10), (1, 6), (100, 5), (ALL, 0)] {
        let expected = max.min(left);
        for _ in 0..2 {
            assert_eq!(admin.plan_redrive("g", max).unwrap().records(), expected);
            assert_eq!(reader().plan_redrive("g", max).unwrap().records(), expected);
        }
        assert_eq!(admin.redrive("g", max).unwrap().records(), expected, "{max}");
    }
    assert_eq!(values(&all(&broker, "jobs"))[10..], values(&all(&broker, "jobs"))[..10]);
}

#[test]
fn a_letter_in_a_compacted_topic_keeps_the_key_of_its_record() {
    let world = World::new();
    let broker = world.open();
    let compacted = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    broker.create_topic("dead", compacted).unwrap();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    group(&broker, "g");
    let producer = broker.producer().unwrap();
    producer.send(Record::to("jobs").value("no key")).unwrap();
    producer.send(Record::to("jobs").key("k").value("key").header("a", "1")).unwrap();
    reject(&broker, "g", "jobs");
    let sent = all(&broker, "jobs");
    broker.admin().delete_records(&tp("jobs", 0), 2).unwrap();
    assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 2);
    let again = all(&broker, "jobs");
    assert_eq!(again.len(), 2);
    for (again, sent) in again.iter().zip(&sent) {
        assert_eq!((content(again), &again.headers), (content(sent), &sent.headers));
    }
}

/// Returns the reasons of a plan and of a redrive, which must be the same.
fn reasons(broker: &Broker) -> Vec<NotRedriven> {
    let plan = broker.admin().plan_redrive("g", ALL).unwrap();
    let redriven = broker.admin().redrive("g", ALL).unwrap();
    assert_eq!(plan, redriven);
    assert_eq!(redriven.skipped, redriven.first_skipped.len() as u64);
    redriven.first_skipped.into_iter().map(|letter| letter.reason).collect()
}

#[test]
fn a_letter_without_a_copy_needs_its_record() {
    let world = World::new();
    let broker = world.open();
    let config = ShareGroupConfig::new()
        .dead_letter_topic("dead")
        .set("errors.deadletterqueue.copy.record.enable", "false");
    broker.admin().alter_share_group("g", config.unwrap()).unwrap();
    jobs(&broker, 4);
    reject(&broker, "g", "jobs");
    assert!(all(&broker, "dead").iter().all(|letter| letter.value.is_none()));
    broker.admin().delete_records(&tp("jobs", 0), 2).unwrap();
    assert_eq!(reasons(&broker), [NotRedriven::RecordGone, NotRedriven::RecordGone]);
    assert_eq!(values(&all(&broker, "jobs")), ["j2", "j3", "j2", "j3"]);
    broker.delete_topic("jobs").unwrap();
    assert_eq!(reasons(&broker), [NotRedriven::UnknownTopic, NotRedriven::UnknownTopic]);
    // Another record has the offset now.
    jobs(&broker, 9);
    assert_eq!(reasons(&broker), [NotRedriven::TopicReplaced, NotRedriven::TopicReplaced]);
    assert_eq!(all(&broker, "jobs").len(), 9);
}

#[test]
fn what_is_skipped_is_tried_again() {
    let world = World::new();
    let broker = world.open();
    group(&broker, "g");
    let two = || TopicConfig::new().partitions(2);
    broker.create_topic("jobs", two()).unwrap();
    let producer = broker.producer().unwrap();
    let large = "x".repeat(4_000);
    producer.send(Record::to("jobs").partition(0).value(&large)).unwrap();
    producer.send(Record::to("jobs").partition(1).value("small")).unwrap();
    reject(&broker, "g", "jobs");
    broker.delete_topic("jobs").unwrap();
    for _ in 0..3 {
        assert_eq!(reasons(&broker), [NotRedriven::UnknownTopic, NotRedriven::UnknownTopic]);
    }
    // To be skipped does not count as a delivery.
    let mut member = broker.share_consumer("g.redrive").unwrap();
    member.subscribe(["dead"]).unwrap();
    for letter in member.poll(Duration::ZERO).unwrap() {
        assert_eq!(letter.delivery_count(), 1);
        letter.snooze(Duration::ZERO).unwrap();
    }
    member.close().unwrap();
    let small = TopicConfig::new().set("max.message.bytes", "1024").unwrap();
    broker.create_topic("jobs", small).unwrap();
    let redriven = broker.admin().redrive("g", ALL).unwrap();
    let why: Vec<_> = redriven.first_skipped.iter().map(|letter| &letter.reason).collect();
    assert!(
        matches!(why[0], NotRedriven::Refused { error } if error.contains("max.message.bytes")),
        "{why:?}"
    );
    assert_eq!(*why[1], NotRedriven::UnknownPartition { partitions: 1 });
    let text = redriven.first_skipped[1].to_string();
    assert!(text.starts_with("letter 1 of dead-0, record 0 of jobs-1: "), "{text}");
    broker.admin().add_partitions("jobs", 2).unwrap();
    assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 1);
    broker.admin().alter_topic("jobs", [("max.message.bytes", "10000")]).unwrap();
    assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 1);
    assert_eq!(values(&all(&broker, "jobs")), [large, "small".to_owned()]);
    // A letter that another program has written.
    let broken = Record::to("dead").header("__dlq.errors.topic", "jobs");
    producer.send(broken.header("__dlq.errors.group", "g")).unwrap();
    assert_eq!(reasons(&broker), [NotRedriven::Malformed]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let world = World::new();
    let broker = world.open();
    let admin = broker.admin();
    for redrive in [true, false] {
        let redrive = |group: &str| {
            if redrive { admin.redrive(group, ALL) } else { admin.plan_redrive(group, ALL) }
        };
        let error = refused(redrive("nobody"));
        assert!(matches!(error, Error::UnknownGroup { .. }), "{error:?}");
        admin.alter_share_group("bare", ShareGroupConfig::new()).unwrap();
        let error = refused(redrive("bare"));
        assert!(matches!(&error, Error::NoDeadLetterTopic { group } if group == "bare"));
        // Nothing was given up yet.
        group(&broker, "g");
        assert_eq!(redrive("g").unwrap().records(), 0);
        assert!(broker.list_topics().is_empty());
    }
    jobs(&broker, 1);
    reject(&broker, "g", "jobs");
    let scope = OffsetScope::Topic("jobs".to_owned());
    admin.reset_offsets("g.redrive", &scope, ResetTo::Earliest).unwrap();
    let error = refused(admin.redrive("g", ALL));
    assert!(matches!(&error, Error::GroupKind { group, .. } if group == "g.redrive"), "{error:?}");
}

/// More letters than one transaction takes, and than one poll returns.
#[test]
fn many_letters_take_several_transactions() {
    for bytes in [10, 40_000] {
        let world = World::new();
        let broker = world.open();
        group(&broker, "g");
        broker.create_topic("jobs", TopicConfig::new()).unwrap();
        let count = if bytes == 10 { 1_200 } else { 40 };
        let producer = broker.producer().unwrap();
        for _ in 0..count {
            producer.send(Record::to("jobs").value(&vec![7; bytes])).unwrap();
        }
        reject(&broker, "g", "jobs");
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), count, "{bytes}");
        assert_eq!(all(&broker, "jobs").len() as u64, 2 * count, "{bytes}");
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 0, "{bytes}");
    }
}

/// What is sent back leaves room for the end of its letter. Each partition of letters takes some hundred bytes for that.
#[test]
fn letters_that_just_fill_a_transaction_are_sent_back() {
    for bytes in (1_000..1_800).step_by(20) {
        let mut world = World::new();
        world.config = world.config.journal_max_bytes(256 << 10);
        let broker = world.open();
        group(&broker, "g");
        for topic in ["jobs", "dead"] {
            broker.create_topic(topic, TopicConfig::new().partitions(40)).unwrap();
        }
        let producer = broker.producer().unwrap();
        for number in 0..60 {
            let key = number.to_string();
            producer.send(Record::to("jobs").key(&key).value(&vec![7; bytes])).unwrap();
        }
        reject(&broker, "g", "jobs");
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 60, "{bytes}");
        assert_eq!(all(&broker, "jobs").len(), 120, "{bytes}");
    }
}

/// Returns how often each value is in a topic.
fn counts(broker: &Broker) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for value in values(&all(broker, "jobs")) {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

#[test]
fn a_crash_in_the_middle_neither_loses_nor_doubles() {
    const JOBS: usize = 3_000;
    let world = World::new();
    let broker = world.open();
    group(&broker, "g");
    jobs(&broker, JOBS);
    reject(&broker, "g", "jobs");
    let (done, random) = (AtomicBool::new(false), SeededRandom::new(3));
    let mut left = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                broker.admin().redrive("g", 97).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            left.push(world.storage.crash(Crash::Kill, &random));
            if left.len() > 24 {
                let mut at = 0;
                left.retain(|_| {
                    at += 1;
                    at % 2 == 0
                });
            }
        }
    });
    left.push(world.storage.crash(Crash::Kill, &random));
    for storage in left {
        let left = World { storage, clock: Arc::clone(&world.clock), config: world.config.clone() };
        let broker = left.open();
        let before = all(&broker, "jobs").len() - JOBS;
        let plan = broker.admin().plan_redrive("g", ALL).unwrap().records() as usize;
        assert_eq!(before + plan, JOBS);
        assert_eq!(broker.admin().redrive("g", ALL).unwrap().records() as usize, plan);
        assert!(counts(&broker).values().all(|count| *count == 2), "after {before}");
    }
}

#[test]
fn two_redrives_at_once_share_the_letters() {
    const JOBS: usize = 3_000;
    let world = World::new();
    let broker = world.open();
    group(&broker, "g");
    jobs(&broker, JOBS);
    reject(&broker, "g", "jobs");
    let redrive = || broker.admin().redrive("g", ALL).unwrap().records();
    let sent = std::thread::scope(|scope| {
        let both = [scope.spawn(redrive), scope.spawn(redrive)];
        both.map(|one| one.join().unwrap())
    });
    assert_eq!(sent[0] + sent[1], JOBS as u64);
    assert!(counts(&broker).values().all(|count| *count == 2));
}

#[test]
fn the_letter_of_a_delayed_record_waits_for_nothing() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    group(&broker, "g");
    let day = Duration::from_hours(24);
    let record = Record::to("jobs").value("later");
    let at = world.clock.now().as_millis() + day.as_millis() as i64;
    let record = record.deliver_at(Timestamp::from_millis(at));
    broker.producer().unwrap().send(record).unwrap();
    let mut member = broker.share_consumer("g").unwrap();
    member.subscribe(["jobs"]).unwrap();
    assert!(member.poll(Duration::ZERO).unwrap().is_empty());
    broker.admin().reject_share_records("g", &tp("jobs", 0), 0..=0).unwrap();
    let mut undertaker = broker.share_consumer("undertaker").unwrap();
    undertaker.subscribe(["dead"]).unwrap();
    let letter = undertaker.poll(Duration::ZERO).unwrap().next().expect("it sees it at once");
    // A program may send a letter back by itself, with all headers and a new time.
    let mut again = Record::to("jobs").value("by hand").deliver_after(Duration::from_secs(1));
    for header in letter.headers() {
        again = again.header(header.name().unwrap(), header.value().unwrap());
    }
    let position = |wanted| letter.headers().position(|header| header.name().unwrap() == wanted);
    assert_eq!((position("__deliver.at"), position("__dlq.deliver.at")), (None, Some(7)));
    broker.producer().unwrap().send(again).unwrap();
    assert_eq!(broker.admin().redrive("g", ALL).unwrap().records(), 1);
    // The record has its time again.
    assert!(member.poll(Duration::ZERO).unwrap().is_empty());
    world.clock.advance(Duration::from_secs(1));
    let polled = |member: &mut grouplog::ShareConsumer| -> Vec<_> {
        let records = member.poll(Duration::ZERO).unwrap();
        records.map(|record| record.value().unwrap().to_vec()).collect()
    };
    assert_eq!(polled(&mut member), [b"by hand"]);
    world.clock.advance(day);
    let sent_back = all(&broker, "jobs").pop().unwrap();
    let first = all(&broker, "jobs").remove(0);
    assert_eq!(sent_back.headers, first.headers);
    assert!(polled(&mut member).contains(&b"later".to_vec()));
}
