//! Topics that are deleted and created again under their old name. No position in the old topic says anything
//! about the new one.

use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Broker, Consumer, ConsumerConfig, Error, OffsetReset, OffsetScope, Position, Rebalance,
    RebalanceListener, Record, ResetTo, TopicConfig, TopicId, TopicPartition,
};

use crate::world::{AT_ONCE, LONG, World, drain, reader, refused, tp, values};

/// Sends the numbers to `t-0`.
fn send(broker: &Broker, numbers: std::ops::Range<u32>) {
    let producer = broker.producer().unwrap();
    let texts: Vec<String> = numbers.map(|n| n.to_string()).collect();
    producer.send_all(texts.iter().map(|n| Record::to("t").partition(0).value(n))).unwrap();
}

fn recreate(broker: &Broker) {
    broker.delete_topic("t").unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
}

fn id(broker: &Broker) -> TopicId {
    broker.describe_topic("t").unwrap().id
}

fn strings(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// Creates a topic with the numbers 1 to 10, and another one with a record.
fn ten() -> Broker {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.create_topic("u", TopicConfig::new()).unwrap();
    send(&broker, 1..11);
    broker.producer().unwrap().send(Record::to("u").value("u")).unwrap();
    broker
}

fn in_group() -> ConsumerConfig {
    ConsumerConfig::new().group("g").enable_auto_commit(false)
}

fn assigned(broker: &Broker, config: ConsumerConfig, topics: &[&str]) -> Consumer {
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign(topics.iter().map(|topic| tp(topic, 0))).unwrap();
    consumer
}

fn is_inconsistent(result: grouplog::Result<()>, id: TopicId, begins: i64) -> bool {
    matches!(
        result.unwrap_err(),
        Error::InconsistentTopicId { partition, given, start }
            if partition == tp("t", 0) && given == id && start == begins
    )
}

fn names_topic<T: std::fmt::Debug>(result: grouplog::Result<T>) -> bool {
    matches!(refused(result), Error::UnknownTopic { topic } if topic == "t")
}

#[test]
fn an_assigned_consumer_goes_on_with_the_new_topic_where_the_reset_policy_says() {
    for (reset, expected) in [
        (OffsetReset::Earliest, Some(strings(101..116))),
        (OffsetReset::Latest, Some(Vec::new())),
        (OffsetReset::None, None),
    ] {
        let broker = ten();
        let config = ConsumerConfig::new().auto_offset_reset(reset);
        let mut consumer = assigned(&broker, config, &["t"]);
        consumer.seek_to_beginning(&tp("t", 0)).unwrap();
        assert_eq!(values(&drain(&mut consumer)), strings(1..11));
        // More records than the old position, and fewer.
        recreate(&broker);
        send(&broker, 101..116);
        if let Some(expected) = expected {
            assert_eq!(values(&drain(&mut consumer)), expected, "{reset:?}");
        } else {
            let polled = refused(consumer.poll(Duration::ZERO));
            assert!(matches!(polled, Error::NoOffsetForPartition { .. }), "{polled}");
        }
        recreate(&broker);
        send(&broker, 201..203);
        if reset == OffsetReset::Earliest {
            assert_eq!(values(&drain(&mut consumer)), strings(201..203));
        }
    }
}

#[test]
fn an_assigned_consumer_waits_for_the_topic_and_reads_the_others() {
    let broker = ten();
    let mut consumer = assigned(&broker, ConsumerConfig::new().max_poll_records(10), &["t", "u"]);
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 10);
    broker.delete_topic("t").unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        match consumer.poll(Duration::ZERO) {
            Ok(records) => seen.extend(records.iter().map(|r| r.topic().to_owned())),
            error => assert!(names_topic(error)),
        }
    }
    assert_eq!(seen, ["u"]);
    assert!(names_topic(consumer.poll(Duration::ZERO)));
    broker.create_topic("t", TopicConfig::new()).unwrap();
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    send(&broker, 101..116);
    assert_eq!(values(&drain(&mut consumer)), strings(101..116));
    // A partition that the new topic does not have.
    broker.admin().add_partitions("t", 2).unwrap();
    consumer.assign([tp("t", 1)]).unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    recreate(&broker);
    let polled = refused(consumer.poll(Duration::ZERO));
    assert!(matches!(polled, Error::UnknownPartition { partitions: 1, .. }), "{polled}");
}

/// Nothing else would wake the poll.
#[test]
fn a_poll_that_sleeps_learns_that_its_topic_was_deleted() {
    let broker = ten();
    let mut consumer = assigned(&broker, ConsumerConfig::new(), &["t"]);
    drain(&mut consumer);
    let clock = SystemClock::new();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || consumer.poll(LONG));
        broker.delete_topic("t").unwrap();
        assert!(names_topic(sleeper.join().unwrap()));
    });
    assert!(clock.monotonic() < AT_ONCE);
}

#[test]
fn a_partition_stays_paused_in_the_new_topic() {
    let broker = ten();
    let mut consumer = assigned(&broker, ConsumerConfig::new(), &["t"]);
    drain(&mut consumer);
    consumer.pause(&tp("t", 0)).unwrap();
    recreate(&broker);
    send(&broker, 101..103);
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    consumer.seek_to_beginning(&tp("t", 0)).unwrap();
    assert_eq!(consumer.paused(), [tp("t", 0)]);
    assert!(consumer.poll(Duration::ZERO).unwrap().is_empty());
    consumer.resume(&tp("t", 0)).unwrap();
    assert_eq!(values(&drain(&mut consumer)), strings(101..103));
}

#[test]
fn a_position_of_the_deleted_topic_is_refused() {
    let broker = ten();
    let partition = tp("t", 0);
    let mut consumer = assigned(&broker, ConsumerConfig::new(), &["t"]);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let old = id(&broker);
    let kept = records.iter().last().unwrap().next_position();
    assert_eq!((kept.offset(), kept.leader_epoch(), kept.topic_id()), (10, Some(1), Some(old)));
    assert_eq!(consumer.position(&partition).unwrap(), kept);
    consumer.seek(&partition, kept).unwrap();

    recreate(&broker);
    send(&broker, 101..116);
    broker.admin().delete_records(&partition, 2).unwrap();
    let mut other = reader(&broker, "t", 1);
    for consumer in [&mut consumer, &mut other] {
        assert!(is_inconsistent(consumer.seek(&partition, kept), old, 2));
        let told = refused(consumer.seek(&partition, kept)).to_string();
        assert!(told.contains("t-0") && told.contains("offset 2"), "{told}");
    }
    // A position without an id counts as one of the topic that is read.
    let epoch_only = Position::new(10).with_leader_epoch(1);
    other.seek(&partition, epoch_only).unwrap();
    assert_eq!(values(&drain(&mut other)), strings(111..116));
    assert!(is_inconsistent(consumer.seek(&partition, epoch_only), old, 2));
    assert!(is_inconsistent(consumer.seek(&partition, 3), old, 2));
    // `position` still returns the old position, until the consumer continues in the new topic.
    assert_eq!(consumer.position(&partition).unwrap(), kept);
    assert!(is_inconsistent(consumer.lag(&partition).map(|_| ()), old, 2));

    // A position in the new topic still works.
    let new = Position::new(5).with_topic_id(id(&broker));
    consumer.seek(&partition, new).unwrap();
    assert_eq!(values(&drain(&mut consumer)), strings(106..116));
    consumer.seek(&partition, 4).unwrap();

    broker.delete_topic("t").unwrap();
    assert!(names_topic(consumer.seek(&partition, 4)));
    assert!(names_topic(consumer.seek(&partition, new)));
    assert!(names_topic(consumer.seek_to_beginning(&partition)));
    assert!(names_topic(consumer.seek_to_end(&partition)));
    assert!(names_topic(consumer.lag(&partition)));
    assert!(names_topic(consumer.beginning_offsets([&partition])));
}

#[test]
fn to_seek_to_the_ends_is_to_seek_in_the_new_topic() {
    let broker = ten();
    let partition = tp("t", 0);
    let mut consumer = assigned(&broker, ConsumerConfig::new(), &["t"]);
    drain(&mut consumer);
    recreate(&broker);
    send(&broker, 101..104);
    consumer.seek_to_end(&partition).unwrap();
    let end = Position::new(3).with_topic_id(id(&broker));
    assert_eq!(consumer.position(&partition).unwrap(), end);
    recreate(&broker);
    send(&broker, 201..203);
    consumer.seek_to_beginning(&partition).unwrap();
    assert_eq!(consumer.lag(&partition).unwrap(), 2);
    assert_eq!(values(&drain(&mut consumer)), strings(201..203));
}

#[test]
fn a_commit_of_positions_in_a_deleted_topic_is_refused() {
    let broker = ten();
    let old = id(&broker);
    let mut consumer = assigned(&broker, in_group(), &["t", "u"]);
    assert_eq!(drain(&mut consumer).len(), 11);
    broker.delete_topic("t").unwrap();
    assert!(names_topic(consumer.commit()));
    // All offsets are committed or none.
    assert!(consumer.committed(&tp("u", 0)).unwrap().is_none());
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 101..116);
    assert!(is_inconsistent(consumer.commit(), old, 0));
    assert!(broker.list_groups().is_empty());
    assert_eq!(values(&drain(&mut consumer)), strings(101..116));
    consumer.commit().unwrap();
    let committed = consumer.committed(&tp("t", 0)).unwrap().unwrap();
    assert_eq!((committed.offset(), committed.topic_id()), (15, Some(id(&broker))));

    // Offsets committed in time were deleted with the topic, so a commit can miss nothing.
    recreate(&broker);
    consumer.commit().unwrap();
    assert!(consumer.committed(&tp("t", 0)).unwrap().is_none());
    assert_eq!(consumer.committed(&tp("u", 0)).unwrap().unwrap().offset(), 1);
    // The group does not begin at its old committed offset either.
    send(&broker, 201..216);
    let mut next = assigned(&broker, in_group(), &["t"]);
    assert_eq!(values(&drain(&mut next)), strings(201..216));
}

/// A pattern may match topics that come and go. Where nothing was read, nothing is lost.
#[test]
fn a_deleted_topic_of_which_nothing_was_read_does_not_fail_a_commit() {
    let broker = ten();
    broker.create_topic("empty", TopicConfig::new()).unwrap();
    let mut consumer = broker.consumer_with(in_group()).unwrap();
    consumer.subscribe(["t", "empty"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 10);
    broker.delete_topic("empty").unwrap();
    consumer.commit().unwrap();
    assert_eq!(consumer.committed(&tp("t", 0)).unwrap().unwrap().offset(), 10);
}

#[test]
fn chosen_offsets_are_those_of_the_topic_that_is_read() {
    let broker = ten();
    let (t, old) = (tp("t", 0), id(&broker));
    let mut consumer = assigned(&broker, in_group(), &["t"]);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let next = records.iter().last().unwrap().next_position();
    let u = (tp("u", 0), Position::new(1));
    recreate(&broker);
    send(&broker, 101..116);
    let new = id(&broker);
    let mut other = broker.consumer_with(in_group()).unwrap();
    for offsets in [vec![(t.clone(), next)], vec![u.clone(), (t.clone(), next)]] {
        assert!(is_inconsistent(consumer.commit_offsets(offsets.clone()), old, 0));
        assert!(is_inconsistent(other.commit_offsets(offsets), old, 0));
    }
    // A number alone, from a program that still has the old topic's records.
    assert!(is_inconsistent(consumer.commit_offsets([(t.clone(), 10)]), old, 0));
    assert!(broker.list_groups().is_empty());
    // With the new topic's id, from a consumer that does not read it.
    consumer.commit_offsets([(t.clone(), Position::new(3).with_topic_id(new))]).unwrap();
    other.commit_offsets([(t.clone(), 4)]).unwrap();
    assert_eq!(other.committed(&t).unwrap().unwrap().offset(), 4);
    assert_eq!(values(&drain(&mut consumer)), strings(105..116));
    consumer.commit_offsets([(t.clone(), 10)]).unwrap();

    broker.delete_topic("t").unwrap();
    assert!(names_topic(consumer.commit_offsets([(t.clone(), 10)])));
    assert!(names_topic(other.commit_offsets([(t, next)])));
}

/// Auto-commit must not wait for offsets that nobody can commit.
#[test]
fn auto_commit_leaves_deleted_topics_out() {
    let world = World::new();
    let broker = world.open();
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to(topic).value("1")).unwrap();
    }
    let config = ConsumerConfig::new().group("g").auto_commit_interval(Duration::from_secs(1));
    let mut consumer = assigned(&broker, config.clone(), &["t", "u"]);
    assert_eq!(drain(&mut consumer).len(), 2);
    broker.delete_topic("t").unwrap();
    world.clock.advance(Duration::from_secs(2));
    assert!(names_topic(consumer.poll(Duration::ZERO)));
    assert_eq!(consumer.committed(&tp("u", 0)).unwrap().unwrap().offset(), 1);
    consumer.close().unwrap();

    broker.producer().unwrap().send(Record::to("u").value("2")).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.producer().unwrap().send(Record::to("t").value("2")).unwrap();
    let mut consumer = assigned(&broker, config, &["t", "u"]);
    assert_eq!(drain(&mut consumer).len(), 2);
    broker.delete_topic("t").unwrap();
    consumer.close().unwrap();
    assert_eq!(broker.describe_group("g").unwrap().offsets[0].committed, Some(2));
}

/// Commits when partitions are revoked, and seeks to a stored position when they are assigned.
#[derive(Debug)]
struct Keeper {
    kept: Option<Position>,
    told: std::sync::mpsc::Sender<(&'static str, Option<Error>)>,
}

impl RebalanceListener for Keeper {
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        if let Some(kept) = self.kept.take() {
            let sought = consumer.seek(&partitions[0], kept);
            self.told.send(("assigned", sought.err())).unwrap();
        }
        Ok(())
    }

    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        let position = consumer.position(&partitions[0])?;
        self.kept = Some(position);
        let committed = consumer.commit();
        let chosen = consumer.commit_offsets([(partitions[0].clone(), position.offset())]);
        assert_eq!(committed.is_err(), chosen.is_err());
        self.told.send(("revoked", committed.err())).unwrap();
        Ok(())
    }
}

#[test]
fn a_member_of_a_group_reads_the_new_topic_from_its_beginning() {
    let broker = ten();
    let (t, old) = (tp("t", 0), id(&broker));
    let (told, heard) = std::sync::mpsc::channel();
    let mut member = broker.consumer_with(in_group()).unwrap();
    member.set_rebalance_listener(Keeper { kept: None, told });
    member.subscribe(["t"]).unwrap();
    let records = member.poll(Duration::ZERO).unwrap();
    let next = records.iter().last().unwrap().next_position();
    member.commit().unwrap();
    member.seek(&t, 9).unwrap();
    recreate(&broker);
    send(&broker, 101..116);
    assert!(is_inconsistent(member.commit(), old, 0));
    assert!(is_inconsistent(member.commit_offsets([(t.clone(), next)]), old, 0));
    assert!(is_inconsistent(member.commit_offsets([(t.clone(), 10)]), old, 0));
    assert!(is_inconsistent(member.seek(&t, next), old, 0));
    assert!(is_inconsistent(member.seek(&t, 9), old, 0));
    assert!(is_inconsistent(member.seek_to_end(&t), old, 0));
    // It has that partition with its next poll.
    let early = member.seek(&t, Position::new(5).with_topic_id(id(&broker)));
    assert!(matches!(early, Err(Error::Misuse(_))), "{early:?}");
    assert!(member.committed(&t).unwrap().is_none());

    assert_eq!(values(&drain(&mut member)), strings(101..116));
    let events: Vec<_> = heard.try_iter().collect();
    let names: Vec<_> = events.iter().map(|(event, _)| *event).collect();
    assert_eq!(names, ["revoked", "assigned"]);
    for (_, error) in events {
        assert!(matches!(error, Some(Error::InconsistentTopicId { start: 0, .. })), "{error:?}");
    }
    member.commit().unwrap();
    member.close().unwrap();
    assert_eq!(broker.describe_group("g").unwrap().offsets[0].committed, Some(15));
}

#[test]
fn a_reset_of_offsets_is_one_of_the_topic_that_there_is() {
    let broker = ten();
    let scope = OffsetScope::Topic("t".to_owned());
    broker.admin().reset_offsets("g", &scope, ResetTo::Latest).unwrap();
    recreate(&broker);
    assert!(broker.list_groups().is_empty());
    send(&broker, 101..104);
    let plan = broker.admin().reset_offsets("g", &scope, ResetTo::Offset(9)).unwrap();
    assert_eq!((plan[0].committed, plan[0].target), (None, 3));
}

#[test]
fn search_and_send_results_have_the_topic_id() {
    let broker = ten();
    let sent = broker.producer().unwrap().send(Record::to("t").value("11")).unwrap();
    let old = id(&broker);
    assert_eq!(sent.metadata().topic_id(), old);
    let mut consumer = assigned(&broker, ConsumerConfig::new(), &["t", "u"]);
    let time = sent.metadata().timestamp();
    let found = consumer.offsets_for_times([(tp("t", 0), time)]).unwrap()[&tp("t", 0)].unwrap();
    assert_eq!(found.topic_id, old);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let ids: Vec<_> = [tp("t", 0), tp("u", 0)]
        .iter()
        .map(|partition| records.records(partition).next().unwrap().topic_id())
        .collect();
    assert_eq!(ids, [old, broker.describe_topic("u").unwrap().id]);
    let own = Position::new(sent.metadata().offset()).with_topic_id(sent.metadata().topic_id());
    consumer.seek(&tp("t", 0), own).unwrap();
    assert_eq!(values(&drain(&mut consumer)), ["11"]);
    recreate(&broker);
    assert!(is_inconsistent(consumer.seek(&tp("t", 0), own), old, 0));
}

#[test]
fn a_reader_beside_the_writer_tells_the_topics_apart() {
    for between in [false, true] {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        send(&broker, 1..11);
        let storage = std::sync::Arc::new(world.storage.clone());
        let mut beside = Broker::open_storage_read_only(storage).unwrap();
        let t = tp("t", 0);
        let mut before = beside.consumer().unwrap();
        before.assign([t.clone()]).unwrap();
        assert_eq!(values(&drain(&mut before)), strings(1..11));
        let reached = before.position(&t).unwrap();
        let old = reached.topic_id().unwrap();

        broker.delete_topic("t").unwrap();
        if between {
            assert!(beside.refresh().unwrap());
            assert!(names_topic(beside.describe_topic("t")));
            assert!(names_topic(beside.consumer().unwrap().assign([t.clone()])));
        }
        broker.create_topic("t", TopicConfig::new()).unwrap();
        send(&broker, 101..116);
        assert!(beside.refresh().unwrap());
        let mut after = beside.consumer().unwrap();
        after.assign([t.clone()]).unwrap();
        assert!(is_inconsistent(after.seek(&t, reached), old, 0));
        assert_eq!(values(&drain(&mut after)), strings(101..116));
        let reached = after.position(&t).unwrap();
        send(&broker, 116..118);
        assert!(beside.refresh().unwrap());
        let mut after = beside.consumer().unwrap();
        after.assign([t.clone()]).unwrap();
        after.seek(&t, reached).unwrap();
        assert_eq!(values(&drain(&mut after)), strings(116..118));
        // The reader that looked before still sees what it saw.
        assert_eq!(before.position(&t).unwrap().topic_id(), Some(old));
        before.seek(&t, 10).unwrap();
        assert!(before.poll(Duration::ZERO).unwrap().is_empty());
    }
}
