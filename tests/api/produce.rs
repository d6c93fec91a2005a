use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::serialization::Text;
use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, Error, JournalMode, Producer, ProducerConfig, Record, Timestamp,
    TimestampType, TopicConfig, TypedRecord,
};

use crate::world::{Owned, World, all, drain, reader, refused, values};

/// Sends records of every shape. Returns the records that must be read.
fn send_every_shape(broker: &Broker) -> Vec<Owned> {
    let producer = broker.producer().unwrap();
    let mut sent = Vec::new();
    for (key, value) in [
        (None, None),
        (Some(""), Some("")),
        (None, Some("value")),
        (Some("key"), None),
        (Some("key"), Some("value")),
    ] {
        for headers in 0..3 {
            let mut record =
                Record::to("t").partition(headers).timestamp(Timestamp::from_millis(7));
            if let Some(key) = key {
                record = record.key(key);
            }
            if let Some(value) = value {
                record = record.value(value);
            }
            for _ in 0..headers {
                record = record.header("same", "1").null_header("null").header("", "");
            }
            let metadata = producer.send(record).unwrap().wait().unwrap();
            let one = [("same", Some("1")), ("null", None), ("", Some(""))];
            let one = one.map(|(name, value)| (name.to_owned(), value.map(Into::into)));
            sent.push(Owned {
                partition: metadata.partition(),
                offset: metadata.offset(),
                timestamp: metadata.timestamp().as_millis(),
                key: key.map(Into::into),
                value: value.map(Into::into),
                headers: vec![one; headers as usize].concat(),
            });
        }
    }
    sent.sort_by_key(|record| (record.partition, record.offset));
    sent
}

#[test]
fn records_of_every_shape_come_back_over_restarts_on_disk() {
    for mode in [JournalMode::Map, JournalMode::Write] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let config = BrokerConfig::new().journal_mode(mode);
        let broker = Broker::open_with(&path, config.clone()).unwrap();
        broker.create_topic("t", TopicConfig::new().partitions(3)).unwrap();
        let sent = send_every_shape(&broker);
        assert_eq!(all(&broker, "t"), sent);
        broker.checkpoint().unwrap();
        assert_eq!(all(&broker, "t"), sent);
        for _ in 0..2 {
            broker.clone().close().unwrap();
            let broker = Broker::open_with(&path, config.clone()).unwrap();
            assert_eq!(all(&broker, "t"), sent);
            broker.close().unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_sent() {
    let world = World::on(Memory::crash_simulating(1));
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(3)).unwrap();
    let sent = send_every_shape(&broker);
    let after = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
    let broker = World::on(after).open();
    assert!(broker.recovery_report().unclean);
    assert_eq!(broker.recovery_report().records_replayed, sent.len() as u64);
    assert_eq!(all(&broker, "t"), sent);
    let next = broker.producer().unwrap().send(Record::to("t").partition(0)).unwrap();
    assert_eq!(next.metadata().offset(), 5);
}

#[test]
fn keys_choose_the_partition_that_kafka_chooses() {
    let text = include_str!("../vectors/murmur2.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let broker = World::new().open();
    for count in [1, 2, 3, 6, 7, 10, 12, 16, 50, 100] {
        let topic = format!("t{count}");
        broker.create_topic(&topic, TopicConfig::new().partitions(count)).unwrap();
    }
    let producer = broker.producer().unwrap();
    let mut checked = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let hex = vector["keyHex"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let key: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        for (count, expected) in vector["partition"].as_object().unwrap() {
            let topic = format!("t{count}");
            if count == "1000" {
                continue;
            }
            let sent = producer.send(Record::to(&topic).key(&key)).unwrap();
            assert_eq!(u64::from(sent.metadata().partition()), expected.as_u64().unwrap(), "{hex}");
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked}");
}

#[test]
fn a_named_partition_wins_over_the_key() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(4)).unwrap();
    let producer = broker.producer().unwrap();
    for partition in 0..4 {
        let sent = producer.send(Record::to("t").key("k").partition(partition)).unwrap();
        assert_eq!((sent.metadata().partition(), sent.metadata().offset()), (partition, 0));
    }
    match refused(producer.send(Record::to("t").partition(4))) {
        Error::UnknownPartition { partition, partitions } => {
            assert_eq!((partition.to_string().as_str(), partitions), ("t-4", 4));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn records_without_key_stay_together_and_still_spread() {
    let broker = World::new().batch_size(4096).open();
    broker.create_topic("t", TopicConfig::new().partitions(4)).unwrap();
    let producer = broker.producer().unwrap();
    let mut used = Vec::new();
    for _ in 0..2000 {
        used.push(producer.send(Record::to("t").value(&[1; 100])).unwrap().metadata().partition());
    }
    let changes = used.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes < 100, "{changes} changes of partition");
    for partition in 0..4 {
        assert!(used.iter().filter(|p| **p == partition).count() > 100, "{partition}");
    }
}

#[test]
fn create_time_is_the_records_own_or_that_of_send() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for given in [Some(5), None, Some(0), Some(i64::from(u32::MAX) << 10), None, Some(3)] {
        world.clock.advance(Duration::from_millis(10));
        let mut record = Record::to("t");
        if let Some(given) = given {
            record = record.timestamp(Timestamp::from_millis(given));
        }
        producer.send(record).unwrap();
    }
    let times = |broker: &Broker| all(broker, "t").iter().map(|r| r.timestamp).collect::<Vec<_>>();
    let base = 1_700_000_000_000;
    let expected = [5, base + 20, 0, i64::from(u32::MAX) << 10, base + 50, 3];
    assert_eq!(times(&broker), expected);
    broker.close().unwrap();
    assert_eq!(times(&world.open()), expected);

    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let negative = Record::to("t").timestamp(Timestamp::from_millis(-1));
    assert!(matches!(refused(broker.producer().unwrap().send(negative)), Error::Misuse(_)));
}

#[test]
fn log_append_time_is_the_same_at_the_tip_after_sealing_and_after_a_restart() {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    let config = TopicConfig::new().timestamp_type(TimestampType::LogAppendTime);
    broker.create_topic("t", config).unwrap();
    let producer = broker.producer().unwrap();
    let mut told = Vec::new();
    for n in 0..50 {
        world.clock.advance(Duration::from_millis(3));
        let own = Timestamp::from_millis(n);
        let sent = producer.send(Record::to("t").value(&[0; 100]).timestamp(own)).unwrap();
        told.push(sent.metadata().timestamp().as_millis());
    }
    let read = |broker: &Broker| all(broker, "t").iter().map(|r| r.timestamp).collect::<Vec<_>>();
    assert!(told[0] > 1_700_000_000_000 && told[49] > told[0]);
    assert_eq!(read(&broker), told);
    broker.checkpoint().unwrap();
    assert_eq!(read(&broker), told);
    broker.close().unwrap();
    assert_eq!(read(&world.open()), told);
}

#[test]
fn every_codec_reads_alike_at_the_tip_and_from_segments() {
    let mut codecs = vec![Compression::None, Compression::Zstd];
    for (codec, built_in) in [
        (Compression::Gzip, cfg!(feature = "gzip")),
        (Compression::Snappy, cfg!(feature = "snappy")),
        (Compression::Lz4, cfg!(feature = "lz4")),
    ] {
        if built_in {
            codecs.push(codec);
        } else {
            let topic =
                World::new().open().create_topic("t", TopicConfig::new().compression(codec));
            assert!(matches!(refused(topic), Error::UnsupportedCodec { .. }));
        }
    }
    for codec in codecs {
        let world = World::new().batch_size(4096);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().compression(codec)).unwrap();
        let producer = broker.producer().unwrap();
        for n in 0..500 {
            let value = format!("the same words again and again {n}");
            producer.send(Record::to("t").key("k").value(&value).header("h", &value)).unwrap();
        }
        let tip = all(&broker, "t");
        assert_eq!(tip.len(), 500);
        broker.close().unwrap();
        let broker = world.open();
        assert_eq!(all(&broker, "t"), tip, "{codec}");
        let bytes = broker.describe_topic("t").unwrap().partitions[0].bytes;
        assert_eq!(bytes < 20_000, codec != Compression::None, "{codec}: {bytes}");
        let mut from = reader(&broker, "t", 1);
        for offset in [0, 1, 63, 250, 499] {
            from.seek(&crate::world::tp("t", 0), offset as i64).unwrap();
            assert_eq!(drain(&mut from), tip[offset..], "{codec} {offset}");
        }
    }
}

#[test]
fn send_all_is_all_or_nothing_and_keeps_the_order() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("a", TopicConfig::new().partitions(2)).unwrap();
    broker.create_topic("b", TopicConfig::new().max_message_bytes(1024)).unwrap();
    let producer = broker.producer().unwrap();
    let names: Vec<String> = (0..300).map(|n| format!("{n}")).collect();
    let records = names.iter().enumerate().map(|(n, name)| match n % 3 {
        0 => Record::to("b").value(name),
        n => Record::to("a").partition(n as u32 - 1).value(name),
    });
    let sent = producer.send_all(records).unwrap();
    assert_eq!(sent.len(), 300);
    let placed: Vec<_> = sent.metadata().map(|m| (m.topic().to_owned(), m.offset())).collect();
    assert_eq!(placed[299], ("a".to_owned(), 99));
    assert!(placed.iter().enumerate().all(|(n, (_, offset))| *offset == n as i64 / 3));
    sent.wait().unwrap();

    let large = [0; 2000];
    let failed = producer.send_all([Record::to("a").value("x"), Record::to("b").value(&large)]);
    assert!(matches!(refused(failed), Error::RecordTooLarge { .. }));
    let failed = producer.send_all([Record::to("a").value("x"), Record::to("nobody")]);
    assert!(matches!(refused(failed), Error::UnknownTopic { .. }));
    assert!(producer.send_all([]).unwrap().is_empty());
    let expected: Vec<_> = (0..100).map(|n| format!("{}", n * 3)).collect();
    assert_eq!(values(&all(&broker, "b")), expected);
    assert_eq!(all(&broker, "a").len(), 200);
}

#[test]
fn records_of_a_send_all_may_be_made_by_code_that_sends() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let records = ["a", "b"].into_iter().map(|value| {
        producer.send(Record::to("t").value("while they are made")).unwrap();
        Record::to("t").value(value)
    });
    assert_eq!(producer.send_all(records).unwrap().len(), 2);
    assert_eq!(values(&all(&broker, "t"))[2..], ["a", "b"]);
}

#[test]
fn callbacks_come_in_order_and_flush_waits_for_them() {
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    for acks in [Acks::Written, Acks::Synced] {
        let producer = broker.producer_with(ProducerConfig::new().acks(acks)).unwrap();
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        for _ in 0..200 {
            let heard = Arc::clone(&heard);
            let done = move |result: grouplog::Result<grouplog::RecordMetadata>| {
                heard.lock().unwrap().push(result.unwrap().offset());
            };
            producer.send_with(Record::to("t").value("v"), done).unwrap();
        }
        producer.flush().unwrap();
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 200);
        assert!(heard.is_sorted());
        let never = producer.send_with(Record::to("nobody"), |_| panic!("it was refused"));
        assert!(never.is_err());
    }
}

#[test]
fn threads_share_a_producer_and_each_ones_order_is_kept() {
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = producer.clone();
            scope.spawn(move || {
                for n in 0..500 {
                    let (key, value) = (format!("{thread}"), format!("{n}"));
                    producer.send(Record::to("t").key(&key).value(&value)).unwrap();
                }
            });
        }
    });
    let records = all(&broker, "t");
    assert_eq!(records.len(), 2000);
    for thread in 0..4 {
        let key = format!("{thread}").into_bytes();
        let own: Vec<_> =
            records.iter().filter(|record| record.key.as_ref() == Some(&key)).cloned().collect();
        assert_eq!(values(&own), (0..500).map(|n| format!("{n}")).collect::<Vec<_>>());
    }
    for partition in 0..2 {
        let offsets = records.iter().filter(|r| r.partition == partition).map(|r| r.offset);
        assert!(offsets.enumerate().all(|(n, offset)| n as i64 == offset));
    }
}

/// Sends when the thread that made it ends.
struct Farewell(Producer);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.send(Record::to("t").value("farewell")).unwrap();
        // Serializers have buffers of their own.
        let typed = self.0.clone().typed::<Text, Text>();
        typed.send(TypedRecord::to("t").value("farewell")).unwrap();
    }
}

#[test]
fn a_thread_can_send_until_it_is_gone() {
    thread_local! {
        static FAREWELL: RefCell<Option<Farewell>> = const { RefCell::new(None) };
    }
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    // The engine drops its state for the thread before the farewell is sent, or after it.
    for sends_first in [false, true] {
        let producer = broker.producer().unwrap();
        let greet = move || {
            let typed = producer.clone().typed::<Text, Text>();
            let send = || drop(typed.send(TypedRecord::to("t").value("hello")).unwrap());
            if sends_first {
                send();
            }
            FAREWELL.set(Some(Farewell(producer.clone())));
            send();
        };
        std::thread::spawn(greet).join().unwrap();
    }
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].end_offset, 7);
}

/// Gathering ends once the frame is full, however many records would follow.
#[test]
fn a_send_all_without_an_end_is_refused_when_it_is_too_large() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let (mut empty, mut large) = (0, 0);
    let endless = std::iter::repeat_with(|| {
        empty += 1;
        Record::to("t")
    });
    let refused_empty = refused(producer.send_all(endless));
    let value = vec![7; 10_000];
    let endless = std::iter::repeat_with(|| {
        large += 1;
        Record::to("t").value(&value)
    });
    let refused_large = refused(producer.send_all(endless));
    // A frame may take a quarter of a journal of 1 MiB.
    for error in [refused_empty, refused_large] {
        assert!(
            matches!(error, Error::LimitExceeded { found, max: 262_144, .. } if found > 262_144),
            "{error}"
        );
    }
    assert!((1_000..50_000).contains(&empty), "{empty}");
    assert_eq!(large, 27);
    // None of it was applied, and a batch that fits succeeds.
    assert!(all(&broker, "t").is_empty());
    producer.send_all((0..20).map(|_| Record::to("t").value(&value))).unwrap();
    assert_eq!(all(&broker, "t").len(), 20);
}

#[test]
fn record_too_large_names_the_size_of_the_record() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().max_message_bytes(1024)).unwrap();
    let producer = broker.producer().unwrap();
    let send = |bytes: usize| producer.send(Record::to("t").value(&vec![7; bytes])).map(|_| ());
    let largest = (900..1024).rev().find(|bytes| send(*bytes).is_ok()).unwrap();
    let Error::RecordTooLarge { size, max: 1024 } = refused(send(largest + 1)) else { panic!() };
    assert_eq!(size, 1025, "one byte more than fits");
    // It is the size of the batch in the segment.
    broker.checkpoint().unwrap();
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].bytes, 1024);
}
