use std::sync::Arc;
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::{
    Acks, Broker, Error, NameReason, ProducerConfig, Record, TimestampType, TopicConfig,
};

use crate::world::{AT_ONCE, World, all, committed_offset, drain, refused, tp};

#[test]
fn topics_keep_name_id_and_settings_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    let config = TopicConfig::new()
        .partitions(3)
        .segment_bytes(1 << 20)
        .segment_ms(Duration::from_secs(7))
        .compression(Compression::Zstd)
        .timestamp_type(TimestampType::LogAppendTime);
    broker.create_topic("orders", config.clone()).unwrap();
    broker.create_topic("audit", TopicConfig::new()).unwrap();
    assert_eq!(broker.list_topics(), ["audit", "orders"]);
    let before = broker.describe_topic("orders").unwrap();
    assert_eq!(before.config, config.entries());
    broker.close().unwrap();

    let broker = Broker::open(&path).unwrap();
    assert!(!broker.recovery_report().unclean);
    assert_eq!(broker.list_topics(), ["audit", "orders"]);
    assert_eq!(broker.describe_topic("orders").unwrap(), before);
}

#[test]
fn a_topic_is_ensured_once_and_then_left_as_it_is() {
    let world = World::new();
    let broker = world.open();
    assert!(broker.ensure_topic("orders", TopicConfig::new().partitions(3)).unwrap());
    let id = broker.describe_topic("orders").unwrap().id;
    assert!(!broker.admin().ensure_topic("orders", TopicConfig::new().partitions(7)).unwrap());
    let now = broker.describe_topic("orders").unwrap();
    assert_eq!((now.id, now.partitions.len()), (id, 3));
    for name in ["Orders", "a/b"] {
        let refused = broker.ensure_topic(name, TopicConfig::new());
        assert!(matches!(refused, Err(Error::InvalidName { .. })), "{refused:?}");
    }

    broker.close().unwrap();
    let broker = world.open();
    assert!(!broker.ensure_topic("orders", TopicConfig::new()).unwrap());
    assert_eq!(broker.describe_topic("orders").unwrap().id, id);
}

#[test]
fn of_threads_that_ensure_a_topic_one_creates_it() {
    let broker = Broker::open_in_memory().unwrap();
    let created: usize = std::thread::scope(|scope| {
        let ensure = || usize::from(broker.ensure_topic("t", TopicConfig::new()).unwrap());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ensure)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(created, 1);
}

#[test]
fn a_deleted_topic_is_gone_with_its_records_and_offsets() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("orders", TopicConfig::new()).unwrap();
    broker.create_topic("audit", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for topic in ["orders", "audit"] {
        producer.send(Record::to(topic).value("old")).unwrap();
    }
    let mut consumer = broker.consumer("billing").unwrap();
    consumer.subscribe(["orders", "audit"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 2);
    consumer.commit().unwrap();
    broker.checkpoint().unwrap();
    let id = broker.describe_topic("orders").unwrap().id;
    broker.delete_topic("orders").unwrap();
    assert!(matches!(refused(broker.delete_topic("orders")), Error::UnknownTopic { .. }));
    assert!(drain(&mut consumer).is_empty());
    assert_eq!(consumer.assignment(), [tp("audit", 0)]);
    let sent = producer.send(Record::to("orders").value("nowhere"));
    assert!(matches!(refused(sent), Error::UnknownTopic { topic } if topic == "orders"));

    broker.create_topic("orders", TopicConfig::new()).unwrap();
    assert_ne!(broker.describe_topic("orders").unwrap().id, id);
    let sent = producer.send(Record::to("orders").value("new")).unwrap();
    assert_eq!(sent.metadata().offset(), 0);
    assert_eq!(committed_offset(&consumer, &tp("orders", 0)), None);
    assert_eq!(committed_offset(&consumer, &tp("audit", 0)), Some(1));
    drop(consumer);
    broker.close().unwrap();

    let broker = world.open();
    assert_eq!(crate::world::values(&all(&broker, "orders")), ["new"]);
    assert_eq!(broker.describe_group("billing").unwrap().offsets.len(), 1);
}

#[test]
fn names_are_checked_and_nothing_is_made_for_a_bad_one() {
    let broker = World::new().open();
    broker.create_topic("Orders.eu", TopicConfig::new()).unwrap();
    let long = "x".repeat(250);
    for (name, expected) in [
        ("", NameReason::Empty),
        ("..", NameReason::Dots),
        ("a/b", NameReason::Character),
        ("nul", NameReason::Reserved),
        (&long, NameReason::TooLong),
        ("orders.EU", NameReason::Collides),
        ("Orders_eu", NameReason::Collides),
    ] {
        match refused(broker.create_topic(name, TopicConfig::new())) {
            Error::InvalidName { reason, .. } => assert_eq!(reason, expected, "{name:?}"),
            other => panic!("{name:?}: {other}"),
        }
    }
    let again = broker.create_topic("Orders.eu", TopicConfig::new());
    assert!(matches!(refused(again), Error::TopicExists { .. }));
    assert_eq!(broker.list_topics(), ["Orders.eu"]);
}

#[test]
fn a_setting_out_of_range_is_named_by_its_key() {
    let broker = World::new().open();
    for (config, expected) in [
        (TopicConfig::new().partitions(0), "partitions"),
        (TopicConfig::new().segment_bytes(1), "segment.bytes"),
        (TopicConfig::new().max_message_bytes(u32::MAX), "max.message.bytes"),
    ] {
        let error = refused(broker.create_topic("t", config));
        assert!(matches!(error, Error::InvalidConfig { key, .. } if key == expected), "{error}");
    }
    assert!(TopicConfig::new().set("segment.bytes", "many").is_err());
    assert!(broker.list_topics().is_empty());
}

#[test]
fn a_description_counts_records_bytes_and_segments() {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2).segment_bytes(4096)).unwrap();
    let producer = broker.producer().unwrap();
    for _ in 0..100 {
        producer.send(Record::to("t").partition(1).value(&[7; 200])).unwrap();
    }
    broker.checkpoint().unwrap();
    let topic = broker.describe_topic("t").unwrap();
    let [empty, full] = topic.partitions.as_slice() else { panic!("{topic:?}") };
    assert_eq!((empty.start_offset, empty.end_offset, empty.bytes), (0, 0, 0));
    assert_eq!((full.start_offset, full.end_offset), (0, 100));
    assert!(full.bytes > 20_000 && full.segments >= 5, "{full:?}");
}

/// A producer may remember a topic that no longer exists.
#[test]
fn producers_follow_a_topic_that_was_created_again_with_other_settings() {
    let broker = World::new().open();
    let producer = broker.producer().unwrap();
    let config = TopicConfig::new().max_message_bytes(1 << 20);
    let again = |partitions, config: TopicConfig| {
        if !broker.list_topics().is_empty() {
            broker.delete_topic("orders").unwrap();
        }
        broker.create_topic("orders", config.partitions(partitions)).unwrap();
    };
    let to = |partition| Record::to("orders").partition(partition).value("x");
    let by_key = || Record::to("orders").key("alice").value("x");
    let partition_of_key = |partitions| {
        let other = World::new().open();
        other.create_topic("orders", TopicConfig::new().partitions(partitions)).unwrap();
        let sent = other.producer().unwrap().send(by_key()).unwrap();
        sent.metadata().partition()
    };
    again(1, config.clone());
    producer.send(by_key()).unwrap();
    assert_ne!(partition_of_key(7), 0);
    again(7, config.clone());
    assert_eq!(producer.send(by_key()).unwrap().metadata().partition(), partition_of_key(7));
    again(8, config.clone());
    producer.send(to(7)).unwrap();
    again(9, config.clone());
    let sent = producer.send_all([by_key(), to(8)]).unwrap();
    let partitions: Vec<u32> = sent.metadata().map(|metadata| metadata.partition()).collect();
    assert_eq!(partitions, [partition_of_key(9), 8]);
    again(2, config.clone());
    let refused = refused(producer.send(to(8)));
    assert!(matches!(refused, Error::UnknownPartition { partitions: 2, .. }), "{refused}");

    let large = vec![b'x'; 2000];
    let large = || Record::to("orders").partition(0).value(&large);
    again(1, config.clone().max_message_bytes(1024));
    assert!(matches!(producer.send(large()), Err(Error::RecordTooLarge { max: 1024, .. })));
    again(1, config);
    producer.send(large()).unwrap();
    again(1, TopicConfig::new().max_message_bytes(1024));
    assert!(matches!(producer.send(large()), Err(Error::RecordTooLarge { max: 1024, .. })));
}

/// Hazard H6: a deletion needs journal space, and a checkpoint may have to make it.
#[test]
fn a_topic_can_be_deleted_whatever_the_journal_holds() {
    for background in [false, true] {
        let (told, heard) = std::sync::mpsc::channel();
        let deleting = std::thread::spawn(move || {
            let world = World::new();
            let config = world.config.clone().background(background).journal_max_bytes(256 << 10);
            let broker = Broker::open_storage(Arc::new(world.storage.clone()), config).unwrap();
            let written = ProducerConfig::new().acks(Acks::Written);
            let producer = broker.producer_with(written).unwrap();
            let mut outside = broker.consumer("g").unwrap();
            let value = vec![b'x'; 10_000];
            for count in 0..300 {
                broker.create_topic("t", TopicConfig::new()).unwrap();
                // Space reserved for commits and deletions, used up by commits.
                for _ in 0..20 {
                    producer.send(Record::to("t").value(&value)).unwrap();
                }
                for offset in 0..count {
                    outside.commit_offsets([(tp("t", 0), offset)]).unwrap();
                }
                broker.delete_topic("t").unwrap();
            }
            told.send(()).unwrap();
        });
        assert!(heard.recv_timeout(AT_ONCE).is_ok(), "background: {background}");
        deleting.join().unwrap();
    }
}
