//! Records that share groups deliver later.

use std::time::Duration;

use grouplog::serialization::{Bytes, Text};
use grouplog::storage::Crash;
use grouplog::{
    Broker, CleanupPolicy, Error, Record, ShareGroupConfig, Timestamp, TopicConfig, TypedRecord,
};

use crate::world::{World, after_crash, all};

const START: i64 = 1_700_000_000_000;

fn delivered(broker: &Broker) -> Vec<String> {
    let mut member = broker.share_consumer("g").unwrap();
    member.subscribe(["jobs"]).unwrap();
    let records: Vec<_> = member.poll(Duration::ZERO).unwrap().collect();
    let text = |record: grouplog::ShareRecord| {
        let text = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        record.accept().unwrap();
        text
    };
    records.into_iter().map(text).collect()
}

/// Sends a record in each way, one second apart from the first one on.
fn send_in_each_way(broker: &Broker) {
    let producer = broker.producer().unwrap();
    let record = |value| Record::to("jobs").header("own", "header").value(value);
    let seconds = Duration::from_secs;
    let at = Timestamp::from_millis(START + 1000);
    producer.send(record("at").deliver_at(at)).unwrap();
    producer.send(record("after").deliver_after(seconds(2))).unwrap();
    producer
        .send_all([
            record("at once"),
            record("among many").deliver_after(seconds(3)),
            record("at once too"),
            record("late among many").deliver_after(seconds(4)),
        ])
        .unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send(record("in a transaction").deliver_after(seconds(5))).unwrap();
    transaction.commit().unwrap();
    let typed = producer.typed::<Bytes, Text>();
    let record = || TypedRecord::to("jobs").header("own", "header");
    typed.send(record().value("typed").deliver_after(seconds(6))).unwrap();
    typed.send_all([record().value("typed too").deliver_after(seconds(7))]).unwrap();
}

#[test]
fn share_groups_deliver_at_the_time_and_consumers_at_once() {
    for end in ["run on", "close", "kill"] {
        let mut world = World::new();
        let mut broker = world.open();
        broker.create_topic("jobs", TopicConfig::new()).unwrap();
        send_in_each_way(&broker);
        let seen = all(&broker, "jobs");
        assert_eq!(seen.len(), 9);
        let first = seen.first().unwrap().headers.clone();
        let text = (START + 1000).to_string().into_bytes();
        let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
        assert_eq!(first, [header("__deliver.at", &text), header("own", b"header")]);
        assert_eq!(delivered(&broker), ["at once", "at once too"]);
        match end {
            "close" => {
                broker.close().unwrap();
                broker = world.open();
            }
            "kill" => (world, broker) = after_crash(&world, Crash::Kill),
            _ => {}
        }
        let later = [
            "at",
            "after",
            "among many",
            "late among many",
            "in a transaction",
            "typed",
            "typed too",
        ];
        for value in later {
            world.clock.advance(Duration::from_millis(999));
            assert!(delivered(&broker).is_empty(), "{end} {value}");
            world.clock.advance(Duration::from_millis(1));
            assert_eq!(delivered(&broker), [value], "{end}");
        }
    }
}

#[test]
fn a_time_before_1970_is_refused_and_one_beyond_all_times_never_comes() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let record = || Record::to("jobs").value("v");
    let before = || record().deliver_at(Timestamp::from_millis(-1));
    assert!(matches!(producer.send(before()), Err(Error::Misuse(_))));
    assert!(matches!(producer.send_all([record(), before()]), Err(Error::Misuse(_))));
    let mut transaction = producer.begin().unwrap();
    assert!(matches!(transaction.send(before()), Err(Error::Misuse(_))));
    transaction.commit().unwrap();
    assert!(all(&broker, "jobs").is_empty());
    producer.send(record().deliver_after(Duration::MAX)).unwrap();
    producer
        .send(record().deliver_after(Duration::from_secs(9)).deliver_after(Duration::ZERO))
        .unwrap();
    assert_eq!(delivered(&broker), ["v"]);
    world.clock.advance(Duration::from_hours(24 * 365 * 100));
    assert!(delivered(&broker).is_empty());
}

#[test]
fn the_header_counts_for_the_size_of_a_record() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new().max_message_bytes(1024)).unwrap();
    let producer = broker.producer().unwrap();
    // The batch header takes 61 bytes, and the record around its value 9.
    let value = vec![b'v'; 1024 - 61 - 10];
    let record = || Record::to("jobs").value(&value);
    producer.send(record()).unwrap();
    let delayed = || record().deliver_after(Duration::ZERO);
    assert!(matches!(producer.send(delayed()), Err(Error::RecordTooLarge { .. })));
    assert!(matches!(producer.send_all([delayed()]), Err(Error::RecordTooLarge { .. })));
    assert_eq!(all(&broker, "jobs").len(), 1);
}

/// Compaction removes a record that waits for its time, and leaves the others of its batch. When the time comes there is
/// nothing to deliver, and the group goes on behind it.
#[test]
fn a_delayed_record_that_compaction_has_removed_stops_nothing() {
    for ordered in [false, true] {
        let world = World::new();
        let broker = world.open();
        let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
        broker.create_topic("jobs", config).unwrap();
        let config = ShareGroupConfig::new().ordered_by_key(ordered);
        broker.admin().alter_share_group("g", config).unwrap();
        let producer = broker.producer().unwrap();
        let record = |key, value| Record::to("jobs").key(key).value(value);
        let late = |key| record(key, "late").deliver_after(Duration::from_secs(1));
        let batch = [record("a", "a"), late("b"), record("c", "c"), late("d"), late("e")];
        producer.send_all(batch).unwrap();
        assert_eq!(delivered(&broker), ["a", "c"]);
        producer.send_all([record("b", "new b"), record("d", "new d")]).unwrap();
        assert_eq!(broker.admin().compact("jobs").unwrap().records_out, 5);
        world.clock.advance(Duration::from_secs(1));
        let mut polls: Vec<_> = (0..4).flat_map(|_| delivered(&broker)).collect();
        polls.sort_unstable();
        assert_eq!(polls, ["late", "new b", "new d"]);
        assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
    }
}

/// Compaction removes many records that wait for their time, each beside one that comes again. One section has no room for
/// all that is found to be gone.
#[test]
fn very_many_delayed_records_that_compaction_has_removed_stop_nothing() {
    let world = World::new();
    let broker = world.open();
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(64 << 10);
    broker.create_topic("jobs", config).unwrap();
    let producer = broker.producer().unwrap();
    let send = |number: usize, is_late: bool, value: &str| {
        let key = number.to_string();
        let record = Record::to("jobs").key(&key).value(value);
        let late = Duration::from_secs(1);
        producer.send(if is_late { record.deliver_after(late) } else { record }).unwrap();
    };
    (0..6000).for_each(|number| send(number, number % 2 == 0, "old"));
    let settings = ShareGroupConfig::new().max_record_locks(10_000);
    broker.admin().alter_share_group("g", settings).unwrap();
    let mut member = broker.share_consumer("g").unwrap();
    member.subscribe(["jobs"]).unwrap();
    let taken: Vec<_> = (0..30).flat_map(|_| member.poll(Duration::ZERO).unwrap()).collect();
    assert_eq!(taken.len(), 3000);
    drop((taken, member));
    (0..6000).for_each(|number| send(number, false, "new"));
    assert_eq!(broker.admin().compact("jobs").unwrap().records_out, 6000);
    world.clock.advance(Duration::from_secs(1));
    let mut found = Vec::new();
    while let values = delivered(&broker)
        && !values.is_empty()
    {
        found.extend(values);
    }
    assert_eq!(found, vec!["new"; 6000]);
    assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
}
