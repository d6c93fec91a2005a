//! Transactions: records and offsets together or not at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use grouplog::storage::Crash;
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, DiskBudgetPolicy, Error, GroupMetadata, OffsetScope,
    Producer, ProducerConfig, Record, ResetTo, TopicConfig, Transaction,
};

use crate::faulty::{Act, Faulty};
use crate::world::{LONG, World, after_crash, all, drain, tp};

fn producer(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

fn member(broker: &Broker, group: &str, topic: &str) -> Consumer {
    let config = ConsumerConfig::new().group(group).enable_auto_commit(false);
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.subscribe([topic]).unwrap();
    consumer
}

fn topics(broker: &Broker, names: &[&str]) {
    for name in names {
        broker.create_topic(name, TopicConfig::new().partitions(2)).unwrap();
    }
}

fn values(broker: &Broker, topic: &str) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    all(broker, topic).into_iter().map(|record| text(record.value)).collect()
}

fn committed(broker: &Broker, group: &str, topic: &str, partition: u32) -> Option<i64> {
    let offsets = broker.describe_group(group).map(|group| group.offsets).unwrap_or_default();
    let partition = tp(topic, partition);
    offsets.iter().find(|offset| offset.partition == partition).and_then(|offset| offset.committed)
}

fn ends(broker: &Broker, topic: &str) -> Vec<i64> {
    let described = broker.describe_topic(topic).unwrap();
    described.partitions.iter().map(|partition| partition.end_offset).collect()
}

/// Sends a record to partition 0.
fn put(transaction: &mut Transaction, topic: &str, value: &str) {
    transaction.send(Record::to(topic).partition(0).value(value)).unwrap();
}

fn fill(broker: &Broker, topic: &str, count: usize) {
    let producer = producer(broker);
    for n in 0..count {
        producer.send(Record::to(topic).partition(0).value(&format!("{n}"))).unwrap();
    }
}

/// A broker with the topics `in` and `out`, a member of `g` that reads `in`, and a producer.
fn reading() -> (Broker, Consumer, Producer) {
    let broker = World::new().open();
    topics(&broker, &["in", "out"]);
    let mut consumer = member(&broker, "g", "in");
    consumer.poll(Duration::ZERO).unwrap();
    let producer = producer(&broker);
    (broker, consumer, producer)
}

#[test]
fn records_and_offsets_of_many_partitions_and_groups_appear_together() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out", "audit"]);
    fill(&broker, "in", 3);
    let mut first = member(&broker, "first", "in");
    let mut second = member(&broker, "second", "in");
    let read = first.poll(Duration::ZERO).unwrap();
    second.poll(Duration::ZERO).unwrap();
    let producer = producer(&broker);
    let mut transaction = producer.begin().unwrap();
    for record in &read {
        transaction
            .send(Record::to("out").partition(1).key("k").value(record.value().unwrap()))
            .unwrap();
    }
    let audit = Record::to("audit").partition(0).header("from", "test").null_header("empty");
    transaction.send(audit.value("3 records")).unwrap();
    transaction.commit_offsets(&mut first).unwrap();
    transaction.commit_offsets(&mut second).unwrap();
    // Nobody sees anything yet, and nobody waits.
    assert_eq!((values(&broker, "out").len(), committed(&broker, "first", "in", 0)), (0, None));
    producer.send(Record::to("out").partition(1).value("between")).unwrap();
    let done = transaction.commit().unwrap();
    let placed: Vec<_> = done
        .metadata()
        .map(|metadata| (metadata.topic().to_owned(), metadata.partition(), metadata.offset()))
        .collect();
    let out = |offset| ("out".to_owned(), 1, offset);
    assert_eq!(placed, [out(1), out(2), out(3), ("audit".to_owned(), 0, 0)]);
    assert_eq!(values(&broker, "out"), ["between", "0", "1", "2"]);
    let audit = all(&broker, "audit");
    let headers = [("from".to_owned(), Some(b"test".to_vec())), ("empty".to_owned(), None)];
    assert_eq!(audit[0].headers, headers);
    for group in ["first", "second"] {
        assert_eq!(committed(&broker, group, "in", 0), Some(3));
    }
    drop((first, second, broker));
    // A killed process, too.
    let (_, broker) = after_crash(&world, Crash::Kill);
    assert_eq!(values(&broker, "out"), ["between", "0", "1", "2"]);
    assert_eq!(committed(&broker, "second", "in", 0), Some(3));
}

#[test]
fn what_is_aborted_or_dropped_leaves_no_trace() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 1);
    let mut consumer = member(&broker, "g", "in");
    consumer.poll(Duration::ZERO).unwrap();
    for abort in [true, false] {
        let mut transaction = producer(&broker).begin().unwrap();
        put(&mut transaction, "out", "never");
        if abort {
            transaction.commit_offsets(&mut consumer).unwrap();
            transaction.abort();
        }
    }
    assert_eq!(ends(&broker, "out"), [0, 0]);
    assert_eq!(committed(&broker, "g", "in", 0), None);
    assert_eq!(producer(&broker).begin().unwrap().commit().unwrap().len(), 0);
}

#[test]
fn a_failed_or_aborted_transaction_gives_the_records_back() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 3);
    let mut consumer = member(&broker, "g", "in");
    let producer = producer(&broker);
    for fails in [true, false] {
        assert_eq!(drain(&mut consumer).len(), 3);
        let mut transaction = producer.begin().unwrap();
        put(&mut transaction, "out", "x");
        transaction.commit_offsets(&mut consumer).unwrap();
        if fails {
            transaction.expect_end(&tp("out", 0), 7).unwrap();
            let refused = transaction.commit();
            assert!(matches!(refused, Err(Error::UnexpectedEnd { expected: 7, end: 0, .. })));
        } else {
            drop(transaction);
        }
        assert_eq!(ends(&broker, "out"), [0, 0]);
        // Before the next poll, no other transaction may call these records done.
        let mut hasty = producer.begin().unwrap();
        assert!(matches!(hasty.commit_offsets(&mut consumer), Ok(()) | Err(Error::Misuse(_))));
        drop(hasty);
        assert_eq!(consumer.position(&tp("in", 0)).unwrap().offset(), 0);
    }
    assert_eq!(drain(&mut consumer).len(), 3);
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    transaction.commit().unwrap();
    fill(&broker, "in", 1);
    assert_eq!(drain(&mut consumer).len(), 1);
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    drop(transaction);
    // Not to the very beginning: the first three are done.
    assert_eq!(consumer.position(&tp("in", 0)).unwrap().offset(), 3);
}

/// A transaction may not call records done that another one holds.
#[test]
fn transactions_of_one_consumer_commit_in_order() {
    let (broker, mut consumer, producer) = reading();
    let take = |consumer: &mut Consumer, name: &str| {
        fill(&broker, "in", 2);
        assert_eq!(drain(consumer).len(), 2);
        let mut transaction = producer.begin().unwrap();
        put(&mut transaction, "out", name);
        transaction.commit_offsets(consumer).unwrap();
        transaction
    };
    let first = take(&mut consumer, "first");
    let second = take(&mut consumer, "second");
    first.commit().unwrap();
    second.commit().unwrap();
    assert_eq!(committed(&broker, "g", "in", 0), Some(4));
    // The other way round.
    let first = take(&mut consumer, "third");
    let second = take(&mut consumer, "fourth");
    assert!(matches!(second.commit(), Err(Error::Misuse(_))), "the earlier one is open");
    assert!(first.commit().is_ok());
    assert_eq!(committed(&broker, "g", "in", 0), Some(6));
    assert_eq!(drain(&mut consumer).len(), 2, "those of the refused one");
    // The earlier one fails.
    let first = take(&mut consumer, "fifth");
    let second = take(&mut consumer, "sixth");
    drop(first);
    assert!(matches!(second.commit(), Err(Error::Misuse(_))));
    assert_eq!(committed(&broker, "g", "in", 0), Some(6));
    assert_eq!(drain(&mut consumer).len(), 6);
    let mut last = producer.begin().unwrap();
    last.commit_offsets(&mut consumer).unwrap();
    last.commit().unwrap();
    assert_eq!(committed(&broker, "g", "in", 0), Some(12));
    assert_eq!(values(&broker, "out"), ["first", "second", "third"]);
}

/// If they came back while the earlier transaction is open, and it were committed then, what the program makes of
/// them would be there twice.
#[test]
fn records_of_an_open_transaction_do_not_come_back_with_those_of_a_later_one() {
    let (broker, mut consumer, producer) = reading();
    let take = |consumer: &mut Consumer, count: usize| {
        let offsets: Vec<i64> = drain(consumer).iter().map(|record| record.offset).collect();
        assert_eq!(offsets.len(), count, "{offsets:?}");
        let mut transaction = producer.begin().unwrap();
        transaction.commit_offsets(consumer).unwrap();
        transaction
    };
    for earlier_commits in [true, false] {
        let begin = committed(&broker, "g", "in", 0).unwrap_or(0);
        fill(&broker, "in", 3);
        let earlier = take(&mut consumer, 3);
        fill(&broker, "in", 2);
        drop(take(&mut consumer, 2));
        let again = take(&mut consumer, 2);
        if earlier_commits {
            earlier.commit().unwrap();
            again.commit().unwrap();
        } else {
            drop(earlier);
            assert!(matches!(again.commit(), Err(Error::Misuse(_))), "the earlier one has failed");
            take(&mut consumer, 5).commit().unwrap();
        }
        assert_eq!(committed(&broker, "g", "in", 0), Some(begin + 5));
    }
}

/// What the refused transaction was made of comes back, also where no transaction has failed: it was made of records
/// of several partitions.
#[test]
fn a_refused_taking_gives_all_records_back() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    let mut consumer = member(&broker, "g", "in");
    let producer = producer(&broker);
    let send = |partition: u32| {
        let record = Record::to("in").partition(partition).value("x");
        producer.send(record).unwrap();
    };
    for by_record in [false, true] {
        let begin = |at: u32| committed(&broker, "g", "in", at).unwrap_or(0);
        let (first, second) = (begin(0), begin(1));
        send(1);
        assert_eq!(drain(&mut consumer).len(), 1);
        let mut fails = producer.begin().unwrap();
        fails.commit_offsets(&mut consumer).unwrap();
        send(0);
        send(1);
        let records = consumer.poll(Duration::ZERO).unwrap();
        assert_eq!(records.len(), 2);
        drop(fails);
        let mut refused = producer.begin().unwrap();
        let taken = if by_record {
            let late = records.iter().find(|record| record.partition() == 1).unwrap();
            refused.commit_through(&mut consumer, &late)
        } else {
            refused.commit_offsets(&mut consumer)
        };
        assert!(matches!(taken, Err(Error::Misuse(_))));
        drop(refused);
        // Asking for the position takes the consumer back, and the old records are still at hand.
        assert_eq!(consumer.position(&tp("in", 1)).unwrap().offset(), second);
        let mut hasty = producer.begin().unwrap();
        for record in &records {
            let taken = hasty.commit_through(&mut consumer, &record);
            assert!(matches!(taken, Err(Error::Misuse(_))), "the consumer has gone back");
        }
        drop(hasty);
        assert_eq!(drain(&mut consumer).len(), 3, "by record: {by_record}");
        let mut transaction = producer.begin().unwrap();
        transaction.commit_offsets(&mut consumer).unwrap();
        transaction.commit().unwrap();
        assert_eq!((begin(0), begin(1)), (first + 1, second + 2));
    }
}

#[test]
fn records_of_one_poll_are_done_one_by_one() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 5);
    let mut consumer = member(&broker, "g", "in");
    let producer = producer(&broker);
    let records = consumer.poll(Duration::ZERO).unwrap();
    for record in records.iter().take(3) {
        let mut transaction = producer.begin().unwrap();
        put(&mut transaction, "out", std::str::from_utf8(record.value().unwrap()).unwrap());
        transaction.commit_through(&mut consumer, &record).unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed(&broker, "g", "in", 0), Some(record.offset() + 1));
    }
    let fourth = records.iter().nth(3).unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.commit_through(&mut consumer, &fourth).unwrap();
    drop(transaction);
    let again: Vec<_> = drain(&mut consumer).iter().map(|record| record.offset).collect();
    assert_eq!(again, [3, 4]);
    // A record of a partition that the consumer does not read.
    let mut other = broker.consumer_with(ConsumerConfig::new()).unwrap();
    other.assign([tp("out", 0)]).unwrap();
    let foreign = other.poll(Duration::ZERO).unwrap();
    let mut transaction = producer.begin().unwrap();
    let refused = transaction.commit_through(&mut consumer, &foreign.iter().next().unwrap());
    assert!(matches!(refused, Err(Error::Misuse(_))));
}

/// The zombie: A reads, is evicted, B reads the same and commits. A's commit comes too late.
#[test]
fn an_evicted_member_commits_nothing() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 2);
    let mut zombie = member(&broker, "g", "in");
    zombie.poll(Duration::ZERO).unwrap();
    let producer = producer(&broker);
    let mut late = producer.begin().unwrap();
    put(&mut late, "out", "of the zombie");
    late.commit_offsets(&mut zombie).unwrap();
    world.clock.advance(Duration::from_mins(6));
    let mut heir = member(&broker, "g", "in");
    assert_eq!(drain(&mut heir).len(), 2);
    let mut transaction = producer.begin().unwrap();
    put(&mut transaction, "out", "of the heir");
    transaction.commit_offsets(&mut heir).unwrap();
    transaction.commit().unwrap();
    assert!(matches!(late.commit(), Err(Error::Fenced { .. })));
    assert_eq!(values(&broker, "out"), ["of the heir"]);
    assert_eq!(committed(&broker, "g", "in", 0), Some(2));
}

/// A partition went to another member after its position was taken. The member itself is still there.
#[test]
fn a_partition_that_was_given_up_is_not_committed() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 2);
    producer(&broker).send(Record::to("in").partition(1).value("other")).unwrap();
    let mut first = member(&broker, "g", "in");
    drain(&mut first);
    let producer = producer(&broker);
    let mut late = producer.begin().unwrap();
    put(&mut late, "out", "late");
    late.commit_offsets(&mut first).unwrap();
    let mut second = member(&broker, "g", "in");
    first.poll(Duration::ZERO).unwrap();
    second.poll(Duration::ZERO).unwrap();
    assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
    assert!(matches!(late.commit(), Err(Error::Fenced { .. })));
    assert_eq!(ends(&broker, "out"), [0, 0]);
    // Also with the member's present epoch, which Kafka would accept.
    let metadata = first.group_metadata().unwrap();
    let lost = second.assignment().remove(0);
    let mut transaction = producer.begin().unwrap();
    transaction.send_offsets(&metadata, [(lost.clone(), 1)]).unwrap();
    assert!(matches!(transaction.commit(), Err(Error::Fenced { .. })));
    let kept = first.assignment().remove(0);
    let mut transaction = producer.begin().unwrap();
    transaction.send_offsets(&metadata, [(kept.clone(), 1)]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&broker, "g", "in", kept.partition()), Some(1));
    assert_eq!(committed(&broker, "g", "in", lost.partition()), None);
}

#[test]
fn offsets_without_a_member_need_a_group_without_members() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in"]);
    let group = GroupMetadata::of_group("g");
    let commit = |offset: i64| {
        let mut transaction = producer(&broker).begin().unwrap();
        transaction.send_offsets(&group, [(tp("in", 0), 1), (tp("in", 0), offset)]).unwrap();
        transaction.commit().map(drop)
    };
    commit(5).unwrap();
    assert_eq!(committed(&broker, "g", "in", 0), Some(5));
    let consumer = member(&broker, "g", "in");
    assert!(matches!(commit(6), Err(Error::Fenced { .. })));
    drop(consumer);
    commit(7).unwrap();
    assert_eq!(committed(&broker, "g", "in", 0), Some(7));
}

#[test]
fn bad_calls_change_nothing_and_the_transaction_stays_usable() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    let config = ProducerConfig::new().acks(Acks::Written).transaction_max_bytes(10_000);
    let producer = broker.producer_with(config).unwrap();
    let mut transaction = producer.begin().unwrap();
    put(&mut transaction, "out", "good");
    let unknown = transaction.send(Record::to("nowhere"));
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
    let unknown = transaction.send(Record::to("out").partition(2));
    assert!(matches!(unknown, Err(Error::UnknownPartition { .. })));
    let large = transaction.send(Record::to("out").partition(0).value(&[0; 9_990]));
    assert!(matches!(large, Err(Error::LimitExceeded { max: 10_000, .. })), "{large:?}");
    let group = GroupMetadata::of_group("g");
    for offsets in [vec![(tp("in", 0), 1), (tp("nowhere", 0), 1)], vec![(tp("in", 0), -1)]] {
        assert!(transaction.send_offsets(&group, offsets).is_err());
    }
    let unnamed = transaction.send_offsets(&GroupMetadata::of_group(""), [(tp("in", 0), 1)]);
    assert!(matches!(unnamed, Err(Error::InvalidName { .. })));
    let sequenced = transaction.send_sequenced(1, Record::to("out"));
    assert!(matches!(sequenced, Err(Error::Misuse(_))));
    let mut automatic = broker.consumer("auto").unwrap();
    automatic.subscribe(["in"]).unwrap();
    automatic.poll(Duration::ZERO).unwrap();
    let refused = transaction.commit_offsets(&mut automatic);
    assert!(matches!(refused, Err(Error::Misuse(_))), "it commits by itself");
    let other = World::new().open();
    topics(&other, &["in"]);
    let mut elsewhere = member(&other, "g", "in");
    elsewhere.poll(Duration::ZERO).unwrap();
    assert!(matches!(transaction.commit_offsets(&mut elsewhere), Err(Error::Misuse(_))));
    transaction.expect_end(&tp("out", 0), 0).unwrap();
    assert!(matches!(transaction.expect_end(&tp("out", 0), 1), Err(Error::Misuse(_))));
    assert_eq!(transaction.commit().unwrap().len(), 1);
    assert_eq!(values(&broker, "out"), ["good"]);
    assert_eq!(committed(&broker, "g", "in", 0), None);
    let config = ProducerConfig::new().transaction_max_bytes(0);
    assert!(matches!(broker.producer_with(config), Err(Error::InvalidConfig { .. })));
}

#[test]
fn a_topic_that_is_deleted_or_changed_meanwhile_refuses_the_whole() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out", "gone"]);
    let producer = producer(&broker);
    let mut records = producer.begin().unwrap();
    put(&mut records, "out", "x");
    put(&mut records, "gone", "x");
    let mut offsets = producer.begin().unwrap();
    put(&mut offsets, "out", "y");
    offsets.send_offsets(&GroupMetadata::of_group("g"), [(tp("gone", 0), 1)]).unwrap();
    let mut keyless = producer.begin().unwrap();
    put(&mut keyless, "in", "z");
    broker.delete_topic("gone").unwrap();
    topics(&broker, &["gone"]);
    assert!(matches!(records.commit(), Err(Error::UnknownTopic { .. })));
    assert!(matches!(offsets.commit(), Err(Error::InconsistentTopicId { .. })));
    broker.admin().alter_topic("in", [("cleanup.policy", "compact")]).unwrap();
    assert!(matches!(keyless.commit(), Err(Error::NullKey { .. })));
    for topic in ["in", "out", "gone"] {
        assert_eq!(ends(&broker, topic), [0, 0]);
    }
}

#[test]
fn an_expected_end_lets_one_of_two_writers_pass() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["out"]);
    let producer = producer(&broker);
    let at = |expected| producer.send_at(expected, Record::to("out").partition(0).value("x"));
    assert_eq!(at(0).unwrap().metadata().offset(), 0);
    for wrong in [-1, 0, 2, i64::MAX] {
        let refused = at(wrong);
        assert!(matches!(refused, Err(Error::UnexpectedEnd { end: 1, .. })), "{refused:?}");
    }
    assert!(matches!(producer.send_at(1, Record::to("out").value("x")), Err(Error::Misuse(_))));
    // A transaction that only reads a partition may expect its end, too.
    let mut transaction = producer.begin().unwrap();
    transaction.expect_end(&tp("out", 0), 1).unwrap();
    transaction.send(Record::to("out").partition(1).value("y")).unwrap();
    transaction.commit().unwrap();
    let mut late = producer.begin().unwrap();
    late.expect_end(&tp("out", 0), 1).unwrap();
    late.send(Record::to("out").partition(1).value("z")).unwrap();
    at(1).unwrap();
    assert!(matches!(late.commit(), Err(Error::UnexpectedEnd { expected: 1, end: 2, .. })));
    assert_eq!(ends(&broker, "out"), [2, 1]);
    // Nothing but an expectation: it is a question.
    let mut question = producer.begin().unwrap();
    question.expect_end(&tp("out", 1), 1).unwrap();
    assert!(question.commit().unwrap().is_empty());
}

#[test]
fn an_expected_commit_lets_one_of_two_writers_pass() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in"]);
    let group = GroupMetadata::of_group("g");
    let step = |expected: Option<i64>, next: i64| {
        let mut transaction = producer(&broker).begin().unwrap();
        transaction.expect_committed("g", &tp("in", 0), expected).unwrap();
        transaction.send_offsets(&group, [(tp("in", 0), next)]).unwrap();
        transaction.commit().map(drop)
    };
    step(None, 4).unwrap();
    let refused = step(None, 5);
    assert!(matches!(refused, Err(Error::UnexpectedCommit { committed: Some(4), .. })));
    step(Some(4), 5).unwrap();
    assert_eq!(committed(&broker, "g", "in", 0), Some(5));
    let mut transaction = producer(&broker).begin().unwrap();
    let unnamed = transaction.expect_committed("", &tp("in", 0), None);
    assert!(matches!(unnamed, Err(Error::InvalidName { .. })));
    let unknown = transaction.expect_committed("g", &tp("nowhere", 0), None);
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
}

fn named(broker: &Broker, id: &str) -> Producer {
    let config = ProducerConfig::new().acks(Acks::Written).transactional_id(id);
    broker.producer_with(config).unwrap()
}

fn epochs(broker: &Broker) -> Vec<(String, i32)> {
    let owners = broker.admin().list_owners().unwrap();
    owners.into_iter().map(|owner| (owner.transactional_id, owner.epoch)).collect()
}

/// The owner and the epoch of a group's committed offset.
fn committed_by(broker: &Broker, group: &str) -> Option<(String, i32)> {
    let offset = broker.describe_group(group).unwrap().offsets.into_iter().next().unwrap();
    Some((offset.transactional_id?, offset.producer_epoch?))
}

#[test]
fn a_group_says_which_named_producer_has_committed_its_offsets() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 3);
    let commit = |producer: &Producer, offset: i64| {
        let mut transaction = producer.begin().unwrap();
        transaction.send_offsets(&GroupMetadata::of_group("g"), [(tp("in", 0), offset)]).unwrap();
        transaction.commit().unwrap();
    };
    commit(&producer(&broker), 1);
    assert_eq!(committed_by(&broker, "g"), None, "the producer has no name");
    drop(named(&broker, "T"));
    commit(&named(&broker, "T"), 2);
    let owner = Some(("T".to_owned(), 1));
    assert_eq!(committed_by(&broker, "g"), owner);
    let reader = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    assert_eq!(reader.describe_group("g").unwrap().offsets[0].producer_epoch, Some(1));
    // From the journal, and from the offset file, after every end.
    drop(broker);
    let (world, broker) = after_crash(&world, Crash::Kill);
    assert_eq!(committed_by(&broker, "g"), owner);
    broker.checkpoint().unwrap();
    drop(broker);
    let (world, broker) = after_crash(&world, Crash::LoseAll);
    assert_eq!(committed_by(&broker, "g"), owner);
    broker.close().unwrap();
    let broker = world.open();
    assert_eq!(committed_by(&broker, "g"), owner);
    // Whoever commits next replaces it.
    let scope = OffsetScope::Topic("in".to_owned());
    broker.admin().reset_offsets("g", &scope, ResetTo::Offset(3)).unwrap();
    assert_eq!(committed_by(&broker, "g"), None);
}

#[test]
fn a_newer_producer_of_the_name_fences_the_older_one() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["out"]);
    let old = named(&broker, "T");
    let mut open = old.begin().unwrap();
    put(&mut open, "out", "old");
    let other = named(&broker, "U");
    let new = named(&broker, "T");
    let fenced = |result: grouplog::Result<()>| {
        let current = Some(1);
        assert!(
            matches!(&result, Err(Error::ProducerFenced { epoch: 0, current: c, .. }) if *c == current),
            "{result:?}"
        );
    };
    let record = || Record::to("out").partition(0).value("x");
    fenced(open.commit().map(drop));
    fenced(old.begin().map(drop));
    fenced(old.send(record()).map(drop));
    fenced(old.send_all([record()]).map(drop));
    fenced(old.send_at(0, record()).map(drop));
    fenced(old.send_sequenced(7, record()).map(drop));
    fenced(old.last_sequence().map(drop));
    assert_eq!(ends(&broker, "out"), [0, 0]);
    new.send(record()).unwrap();
    other.send(record()).unwrap();
    assert_eq!(ends(&broker, "out"), [2, 0]);
    // The epoch survives a kill and a close.
    drop((old, new, other, broker));
    let (again, broker) = after_crash(&world, Crash::Kill);
    assert_eq!(epochs(&broker), [("T".to_owned(), 1), ("U".to_owned(), 0)]);
    named(&broker, "T");
    broker.close().unwrap();
    let broker = again.open();
    assert_eq!(epochs(&broker), [("T".to_owned(), 2), ("U".to_owned(), 0)]);
    broker.admin().delete_owner("T").unwrap();
    let unknown = broker.admin().delete_owner("T");
    assert!(matches!(unknown, Err(Error::UnknownOwner { .. })));
    assert_eq!(epochs(&broker), [("U".to_owned(), 0)]);
    let config = ProducerConfig::new().transactional_id("");
    assert!(matches!(broker.producer_with(config), Err(Error::InvalidName { .. })));
}

/// The epochs of a name that was deleted begin at 0 again. A producer from before is fenced all the same.
#[test]
fn a_producer_stays_fenced_when_its_name_is_deleted_and_taken_again() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["out"]);
    let record = || Record::to("out").partition(0).value("x");
    let old = named(&broker, "T");
    let mut late = old.begin().unwrap();
    late.send_sequenced(7, record()).unwrap();
    broker.admin().delete_owner("T").unwrap();
    let new = named(&broker, "T");
    assert_eq!(epochs(&broker), [("T".to_owned(), 0)]);
    let fenced =
        |error: &Error| matches!(error, Error::ProducerFenced { epoch: 0, current: None, .. });
    assert!(fenced(&late.commit().unwrap_err()));
    assert!(fenced(&old.send(record()).unwrap_err()));
    assert!(fenced(&old.last_sequence().unwrap_err()));
    new.send_sequenced(0, record()).unwrap();
    // Whoever takes it over next fences both.
    named(&broker, "T").send_sequenced(1, record()).unwrap();
    let fenced = new.send(record()).unwrap_err();
    assert!(matches!(fenced, Error::ProducerFenced { epoch: 0, current: Some(1), .. }));
    assert!(old.begin().is_err());
    assert_eq!(ends(&broker, "out"), [2, 0]);
}

#[test]
fn sequences_store_each_record_once_over_restarts() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["out"]);
    let send = |producer: &Producer, sequence: i64| {
        let record = Record::to("out").partition(0).value("x");
        producer.send_sequenced(sequence, record).unwrap().map(|sent| sent.metadata().offset())
    };
    let importer = named(&broker, "importer");
    assert_eq!(importer.last_sequence().unwrap(), None);
    assert_eq!(send(&importer, 0), Some(0));
    assert_eq!(send(&importer, 5), Some(1));
    for known in [0, 3, 5] {
        assert_eq!(send(&importer, known), None);
    }
    let negative = importer.send_sequenced(-1, Record::to("out"));
    assert!(matches!(negative, Err(Error::Misuse(_))));
    let nameless = producer(&broker).send_sequenced(1, Record::to("out"));
    assert!(matches!(nameless, Err(Error::Misuse(_))));
    // A refused record does not use its sequence up.
    let unknown = importer.send_sequenced(6, Record::to("nowhere"));
    assert!(matches!(unknown, Err(Error::UnknownTopic { .. })));
    drop((importer, broker));
    let (again, broker) = after_crash(&world, Crash::Kill);
    let importer = named(&broker, "importer");
    assert_eq!(importer.last_sequence().unwrap(), Some(5));
    assert_eq!((send(&importer, 5), send(&importer, 6)), (None, Some(2)));
    drop(importer);
    broker.close().unwrap();
    let broker = again.open();
    let importer = named(&broker, "importer");
    assert_eq!(importer.last_sequence().unwrap(), Some(6));
    // In transactions, those that are known are left out.
    let mut transaction = importer.begin().unwrap();
    let mut sent =
        |sequence| transaction.send_sequenced(sequence, Record::to("out").partition(0).value("y"));
    assert!(!sent(6).unwrap());
    assert!(sent(8).unwrap());
    assert!(matches!(sent(8), Err(Error::OutOfOrderSequence { sequence: 8, last: 8, .. })));
    assert!(sent(9).unwrap());
    // Another transaction of the same producer was faster.
    assert_eq!(send(&importer, 8), Some(3));
    let refused = transaction.commit();
    assert!(matches!(refused, Err(Error::OutOfOrderSequence { sequence: 8, last: 8, .. })));
    assert_eq!((ends(&broker, "out"), importer.last_sequence().unwrap()), (vec![4, 0], Some(8)));
    broker.admin().delete_owner("importer").unwrap();
    assert_eq!(named(&broker, "importer").last_sequence().unwrap(), None);
}

#[test]
fn a_reader_beside_the_writer_sees_transactions_and_owners() {
    let world = World::new();
    let broker = world.open();
    topics(&broker, &["out"]);
    let mut reader = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    assert_eq!(reader.list_owners(), []);
    let owner = named(&broker, "T");
    let mut transaction = owner.begin().unwrap();
    transaction.send_sequenced(3, Record::to("out").partition(0).value("x")).unwrap();
    transaction.send_offsets(&GroupMetadata::of_group("g"), [(tp("out", 0), 1)]).unwrap();
    transaction.commit().unwrap();
    assert!(reader.refresh().unwrap());
    let owners = reader.list_owners();
    assert_eq!((owners[0].epoch, owners[0].last_sequence), (0, Some(3)));
    assert_eq!(reader.log_bounds(&tp("out", 0)).unwrap(), (0, 1));
    assert_eq!(reader.describe_group("g").unwrap().offsets[0].committed, Some(1));
    broker.checkpoint().unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.list_owners(), owners);
}

/// As a `send` does.
#[test]
fn a_commit_with_offsets_waits_on_a_full_disk() {
    let mut world = World::new();
    world.config = world.config.background(true).journal_max_bytes(256 << 10);
    let storage = Faulty::new(world.storage.clone());
    let broker = Broker::open_storage(Arc::new(storage.clone()), world.config.clone()).unwrap();
    topics(&broker, &["in", "out"]);
    fill(&broker, "in", 1);
    let mut consumer = member(&broker, "g", "in");
    assert_eq!(consumer.poll(LONG).unwrap().len(), 1);
    let patient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_hours(1));
    let mut transaction = broker.producer_with(patient).unwrap().begin().unwrap();
    put(&mut transaction, "out", &"done".repeat(1_000));
    transaction.commit_offsets(&mut consumer).unwrap();

    // The disk is full, and so is the journal. The checkpoint that would make room fails in another way: after a full
    // disk it gives its reserve up, and a commit that begins then is refused at once.
    for op in ["create", "resize", "preallocate"] {
        storage.order(op, "journal", Act::Fail(28));
    }
    storage.order("write", "checkpoint.", Act::Fail(5));
    let impatient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::ZERO);
    let filler = broker.producer_with(impatient).unwrap();
    while filler.send(Record::to("in").value(&[0; 900])).is_ok() {}
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    storage.spy(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    std::thread::scope(|scope| {
        let before = calls.load(Ordering::Relaxed);
        let committing = scope.spawn(|| transaction.commit().map(|committed| committed.len()));
        // It asks the threads of the engine for space.
        while calls.load(Ordering::Relaxed) < before + 3 && !committing.is_finished() {
            std::thread::yield_now();
        }
        storage.heal();
        assert_eq!(committing.join().unwrap().unwrap(), 1);
    });
    assert_eq!(committed(&broker, "g", "in", 0), Some(1));
    broker.close().unwrap();
}

/// A broker without threads, so that a commit makes room itself. Neither the journal has room, nor the disk budget if
/// there is one, until a checkpoint that the next commit waits for. That stands still at the barrier.
fn without_room(world: &World, budget: bool) -> (Broker, Faulty, Arc<Barrier>) {
    let storage = Faulty::new(world.storage.clone());
    let mut config = world.config.clone().journal_max_bytes(256 << 10);
    if budget {
        config = config.disk_budget(2 << 20);
    }
    let broker = Broker::open_storage(Arc::new(storage.clone()), config).unwrap();
    topics(&broker, &["in"]);
    fill(&broker, "in", 2);
    let kept = TopicConfig::new().segment_bytes(50_000).retention(Duration::from_mins(1));
    broker.create_topic("out", kept.disk_budget_policy(DiskBudgetPolicy::Block)).unwrap();
    if !budget {
        storage.order("write", "checkpoint.", Act::Fail(28));
    }
    let impatient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::ZERO);
    let filler = broker.producer_with(impatient).unwrap();
    while filler.send(Record::to("out").value(&[0; 7_000])).is_ok() {}
    world.clock.advance(Duration::from_mins(2));
    storage.heal();
    let barrier = Arc::new(Barrier::new(2));
    storage.order("write", "checkpoint.", Act::Meet(Arc::clone(&barrier)));
    (broker, storage, barrier)
}

/// A member whose commit waits for space is not silent, however long that takes. When it has returned, it may be.
#[test]
fn a_member_is_not_evicted_while_its_own_commit_waits() {
    for budget in [false, true] {
        let world = World::new();
        let (broker, storage, barrier) = without_room(&world, budget);
        let mut consumer = member(&broker, "g", "in");
        assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 2);
        let patient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_hours(1));
        let patient = broker.producer_with(patient).unwrap();
        let mut transaction = patient.begin().unwrap();
        put(&mut transaction, "out", &"done".repeat(5_000));
        transaction.commit_offsets(&mut consumer).unwrap();
        let mut late = patient.begin().unwrap();
        put(&mut late, "out", "late");
        let mut other = member(&broker, "g", "in");
        let members = |broker: &Broker| broker.describe_group("g").unwrap().members.len();
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| transaction.commit().map(|committed| committed.len()));
            barrier.wait();
            // It makes the room that it waits for. Whoever polls looks for silent members.
            world.clock.advance(Duration::from_mins(6));
            let polled = other.poll(Duration::ZERO);
            let there = members(&broker);
            storage.heal();
            barrier.wait();
            assert!(polled.unwrap().is_empty());
            assert_eq!(there, 2, "budget {budget}");
            assert_eq!(committing.join().unwrap().unwrap(), 1);
        });
        assert_eq!(committed(&broker, "g", "in", 0), Some(2));
        // From now on its silence counts again.
        world.clock.advance(Duration::from_mins(4));
        other.poll(Duration::ZERO).unwrap();
        assert_eq!(members(&broker), 2, "budget {budget}");
        fill(&broker, "in", 1);
        assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 1);
        late.commit_offsets(&mut consumer).unwrap();
        world.clock.advance(Duration::from_mins(6));
        other.poll(Duration::ZERO).unwrap();
        assert_eq!(members(&broker), 1, "budget {budget}");
        let refused = late.commit().map(|committed| committed.len());
        assert!(matches!(refused, Err(Error::Fenced { .. })), "budget {budget}: {refused:?}");
    }
}
