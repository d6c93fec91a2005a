//! Idempotency ids: a record that is sent again is stored once, over restarts too.

use std::path::Path;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, Error, HealthStatus, Problem, Producer, ProducerConfig, Record, RecordMetadata,
    Timestamp, TopicConfig,
};
use serde_json::Value;

use crate::world::{World, after_crash, all};

fn sender(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

fn topic(broker: &Broker, config: TopicConfig) {
    broker.create_topic("t", config).unwrap();
}

/// Sends a record with an id. Returns whether it is a duplicate, the partition and the offset.
fn send(producer: &Producer, id: &str, partition: u32) -> (bool, u32, i64) {
    let record = Record::to("t").partition(partition).value(id).id(id);
    place(producer.send(record).unwrap().metadata())
}

fn place(metadata: &RecordMetadata) -> (bool, u32, i64) {
    (metadata.is_duplicate(), metadata.partition(), metadata.offset())
}

fn advance(world: &World, millis: i64) {
    world.clock.advance(Duration::from_millis(millis as u64));
}

#[test]
fn the_worked_cases() {
    let given = include_str!("../vectors/transactions.json");
    let more = include_str!("../vectors/transactions_more.json");
    let all = [given, more].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let cases = all.iter().flat_map(|all| all["cases"].as_array().unwrap());
    let cases: Vec<_> = cases.filter(|case| case["kind"] == "dedup").collect();
    assert!(!cases.is_empty());
    for case in cases {
        for restart in [Restart::Close, Restart::Kill, Restart::KillAfterCheckpoint] {
            run_case(case, restart);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Restart {
    Close,
    Kill,
    KillAfterCheckpoint,
}

fn run_case(case: &Value, restart: Restart) {
    let mut world = World::new();
    let mut broker = world.open();
    let mut config = TopicConfig::new();
    if let Some(window) = case["config"]["windowMs"].as_u64() {
        config = config.dedup_window(Duration::from_millis(window));
    }
    if let Some(ids) = case["config"]["maxIds"].as_u64() {
        config = config.dedup_max_ids(ids as u32);
    }
    topic(&broker, config);
    for step in case["steps"].as_array().unwrap() {
        let context = format!("{}, {restart:?}: {step}", case["name"]);
        let at = step["at"].as_i64().unwrap();
        world.clock.set_wall(Timestamp::from_millis(1_700_000_000_000 + at));
        match step["op"].as_str().unwrap() {
            "send" => {
                let record = Record::to("t").value("x");
                let record = match step["id"].as_str() {
                    Some(id) => record.id(id),
                    None => record,
                };
                let (duplicate, _, offset) =
                    place(sender(&broker).send(record).unwrap().metadata());
                let expect = &step["expect"];
                assert_eq!(Some(duplicate), expect["duplicate"].as_bool(), "{context}");
                assert_eq!(Some(offset), expect["offset"].as_i64(), "{context}");
            }
            "restart" => {
                (world, broker) = reopened(&world, broker, restart);
                let remembered = step["expect"]["remembered"].as_array().unwrap().len() as u64;
                assert_eq!(broker.describe_topic("t").unwrap().ids, remembered, "{context}");
            }
            other => panic!("{context}: {other} is not known"),
        }
    }
}

fn reopened(world: &World, broker: Broker, restart: Restart) -> (World, Broker) {
    match restart {
        Restart::Close => {
            broker.close().unwrap();
            (world.again(), world.open())
        }
        Restart::Kill => {
            drop(broker);
            after_crash(world, Crash::Kill)
        }
        Restart::KillAfterCheckpoint => {
            broker.checkpoint().unwrap();
            // A checkpoint with nothing new, and one after a frame.
            broker.checkpoint().unwrap();
            after_crash(world, Crash::Kill)
        }
    }
}

#[test]
fn an_id_counts_in_all_partitions_and_only_in_its_topic() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new().partitions(3));
    broker.create_topic("u", TopicConfig::new()).unwrap();
    let producer = sender(&broker);
    assert_eq!(send(&producer, "a", 2), (false, 2, 0));
    assert_eq!(send(&producer, "b", 0), (false, 0, 0));
    assert_eq!(send(&producer, "a", 0), (true, 2, 0));
    broker.admin().add_partitions("t", 4).unwrap();
    assert_eq!(send(&producer, "a", 3), (true, 2, 0));
    let other = producer.send(Record::to("u").id("a")).unwrap();
    assert_eq!(place(other.metadata()), (false, 0, 0));
    let plain = producer.send(Record::to("t").partition(2).value("a")).unwrap();
    assert_eq!(place(plain.metadata()), (false, 2, 1));
    assert_eq!(all(&broker, "t").len(), 3);
    // A topic that was deleted has forgotten its ids.
    broker.delete_topic("t").unwrap();
    topic(&broker, TopicConfig::new());
    assert_eq!(send(&producer, "a", 0), (false, 0, 0));
    broker.close().unwrap();
    let broker = world.open();
    let again = sender(&broker);
    assert_eq!(send(&again, "a", 0), (true, 0, 0));
    assert_eq!(send(&again, "b", 0), (false, 0, 1));
}

#[test]
fn duplicates_are_left_out_one_by_one() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new().partitions(2));
    let producer = sender(&broker);
    send(&producer, "a", 1);
    let record = |id: &'static str| Record::to("t").partition(0).value(id).id(id);
    let sent = producer.send_all([
        record("b"),
        record("a"),
        Record::to("t").partition(0).value("plain"),
        record("b"),
        record("c"),
    ]);
    let places: Vec<_> = sent.unwrap().metadata().map(|metadata| place(&metadata)).collect();
    let expected = [(false, 0, 0), (true, 1, 0), (false, 0, 1), (true, 0, 0), (false, 0, 2)];
    assert_eq!(places, expected);
    let mut transaction = producer.begin().unwrap();
    for id in ["c", "d", "d"] {
        transaction.send(record(id)).unwrap();
    }
    let done = transaction.commit().unwrap();
    let places: Vec<_> = done.metadata().map(|metadata| place(&metadata)).collect();
    assert_eq!(places, [(true, 0, 2), (false, 0, 3), (true, 0, 3)]);
    // Nothing but duplicates.
    assert_eq!(send(&producer, "d", 1), (true, 0, 3));
    // An aborted or refused transaction registers nothing.
    let mut transaction = producer.begin().unwrap();
    transaction.send(record("e")).unwrap();
    transaction.expect_end(&crate::world::tp("t", 0), 0).unwrap();
    assert!(transaction.commit().is_err());
    let mut transaction = producer.begin().unwrap();
    transaction.send(record("e")).unwrap();
    transaction.abort();
    assert_eq!(send(&producer, "e", 0), (false, 0, 4));
    let conditional = producer.send_at(5, record("e")).unwrap();
    assert_eq!(place(conditional.metadata()), (true, 0, 4));
}

#[test]
fn a_window_of_nothing_turns_it_off_and_settings_act_at_once() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new().dedup_window(Duration::ZERO));
    let producer = sender(&broker);
    assert_eq!((send(&producer, "a", 0), send(&producer, "a", 0)), ((false, 0, 0), (false, 0, 1)));
    broker.admin().alter_topic("t", [("dedup.window.ms", "1h")]).unwrap();
    assert_eq!((send(&producer, "a", 0), send(&producer, "a", 0)), ((false, 0, 2), (true, 0, 2)));
    advance(&world, 60_000);
    broker.admin().alter_topic("t", [("dedup.window.ms", "1m")]).unwrap();
    assert_eq!(send(&producer, "a", 0), (false, 0, 3));
    broker.admin().alter_topic("t", [("dedup.max.ids", "1")]).unwrap();
    send(&producer, "b", 0);
    let described = broker.describe_topic("t").unwrap();
    assert_eq!((described.ids, described.forgotten_ids), (1, 1));
    assert_eq!(send(&producer, "a", 0), (false, 0, 5));
}

#[test]
fn ids_have_bounds() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new());
    let producer = sender(&broker);
    let longest = "x".repeat(128);
    assert_eq!(send(&producer, &longest, 0), (false, 0, 0));
    let long = "x".repeat(129);
    let refused = producer.send(Record::to("t").id(&long));
    assert!(matches!(refused, Err(Error::LimitExceeded { found: 129, max: 128, .. })));
    assert!(matches!(producer.send(Record::to("t").id("")), Err(Error::Misuse(_))));
    let mut transaction = producer.begin().unwrap();
    assert!(transaction.send(Record::to("t").id(&long)).is_err());
    assert!(transaction.commit().unwrap().is_empty());
    assert_eq!(all(&broker, "t").len(), 1);
}

#[test]
fn threads_that_send_one_id_at_once_store_it_once() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new().partitions(4));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = sender(&broker);
            scope.spawn(move || {
                for n in 0..200 {
                    send(&producer, &format!("id {n}"), thread);
                }
            });
        }
    });
    let mut values: Vec<_> = all(&broker, "t").into_iter().map(|record| record.value).collect();
    assert_eq!(values.len(), 200);
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 200);
}

/// The ids of a topic are lost with their file, and nothing else is.
#[test]
fn damaged_files_are_reported_and_the_folder_opens() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, TopicConfig::new());
    send(&sender(&broker), "a", 0);
    broker.close().unwrap();
    let folder = Path::new("dedup");
    let name = world.storage.list(folder).unwrap().remove(0).name;
    let file = world.storage.open(&folder.join(name), OpenMode::Write).unwrap();
    let at = file.len().unwrap() - 1;
    file.write_at(&[0x55], at).unwrap();
    drop(file);
    let broker = world.open();
    let health = broker.health();
    assert_eq!(health.status(), HealthStatus::Degraded);
    assert!(
        matches!(&health.problems()[0], Problem::Ids { topic, cause } if topic == "t" && cause.is_corruption()),
        "{health}"
    );
    let twice = sender(&broker);
    assert_eq!((send(&twice, "a", 0), send(&twice, "a", 0)), ((false, 0, 1), (true, 0, 1)));
    broker.close().unwrap();
    let broker = world.open();
    assert!(broker.health().is_ok());
    assert_eq!(send(&sender(&broker), "a", 0), (true, 0, 1));
}

/// Power loss brings back the name of a file that was removed. Who opens the folder removes it again.
#[test]
fn a_bucket_of_a_deleted_topic_does_not_stay() {
    let buckets = |storage: &Memory| {
        let entries = storage.list(Path::new("dedup")).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let world = World::on(Memory::crash_simulating(1));
    let broker = world.open();
    topic(&broker, TopicConfig::new());
    send(&sender(&broker), "a", 0);
    broker.checkpoint().unwrap();
    broker.delete_topic("t").unwrap();
    broker.checkpoint().unwrap();
    assert_eq!(buckets(&world.storage), Vec::<String>::new());

    let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(1));
    assert_eq!(buckets(&lost).len(), 1, "it is back");
    let world = World::on(lost);
    let broker = world.open();
    broker.checkpoint().unwrap();
    assert_eq!(buckets(&world.storage), Vec::<String>::new());
}
