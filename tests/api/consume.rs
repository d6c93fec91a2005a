use std::path::Path;
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::storage::{OpenMode, Storage};
use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Broker, ConsumerConfig, Error, OffsetReset, Record, Timestamp, TimestampType, TopicConfig,
};
use proptest::prelude::*;

use crate::world::{
    AT_ONCE, LONG, Owned, World, all, committed_offset, drain, owned, reader, refused, tp, values,
};

/// A step in the life of a partition.
#[derive(Debug, Clone)]
enum Step {
    /// Sends records with values of these lengths and with these timestamps.
    Send(Vec<(u16, u16)>),
    SendAll(Vec<(u16, u16)>),
    Checkpoint,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = || prop::collection::vec((0..600u16, 0..1000u16), 1..30);
    let step = prop_oneof![
        4 => records().prop_map(Step::Send),
        2 => records().prop_map(Step::SendAll),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

fn topic_config() -> impl Strategy<Value = TopicConfig> {
    let codec = prop_oneof![Just(Compression::None), Just(Compression::Zstd)];
    let kind = prop_oneof![Just(TimestampType::CreateTime), Just(TimestampType::LogAppendTime)];
    let segment = prop_oneof![Just(1024u32), Just(4096), Just(1 << 30)];
    let interval = prop_oneof![Just(0u32), Just(1000), Just(4096)];
    (codec, kind, segment, interval).prop_map(|(codec, kind, segment, interval)| {
        TopicConfig::new()
            .compression(codec)
            .timestamp_type(kind)
            .segment_bytes(segment)
            .index_interval_bytes(interval)
    })
}

/// Reads from every offset and every timestamp, and compares the result with what was sent.
fn check_reads(broker: &Broker, model: &[Owned], max_poll_records: usize) {
    let partition = tp("t", 0);
    let config = ConsumerConfig::new().max_poll_records(max_poll_records);
    let mut reader = broker.consumer_with(config).unwrap();
    reader.assign([partition.clone()]).unwrap();
    assert_eq!(drain(&mut reader), model);
    for offset in 0..=model.len() {
        reader.seek(&partition, offset as i64).unwrap();
        let found = owned(&reader.poll(Duration::ZERO).unwrap());
        let end = (offset + max_poll_records).min(model.len());
        assert!(found.len() <= max_poll_records);
        assert_eq!(found, model[offset..offset + found.len()], "from {offset}");
        assert_eq!(found.is_empty(), offset == end);
        assert_eq!(reader.position(&partition).unwrap().offset(), (offset + found.len()) as i64);
    }
    let mut times: Vec<i64> = model.iter().map(|record| record.timestamp).collect();
    times.sort_unstable();
    times.dedup();
    for time in times.iter().flat_map(|time| [*time, time + 1]) {
        reader.seek_to_timestamp(&partition, Timestamp::from_millis(time)).unwrap();
        let first = model.iter().position(|record| record.timestamp >= time);
        let expected = first.unwrap_or(model.len()) as i64;
        assert_eq!(reader.position(&partition).unwrap().offset(), expected, "time {time}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_and_time_is_found_whatever_was_sent(
        steps in steps(),
        config in topic_config(),
        max_poll_records in 1usize..60,
    ) {
        let world = World::new().batch_size(1024);
        let mut broker = world.open();
        broker.create_topic("t", config).unwrap();
        let mut model: Vec<Owned> = Vec::new();
        for step in steps {
            world.clock.advance(Duration::from_millis(5));
            match &step {
                Step::Send(records) | Step::SendAll(records) => {
                    let producer = broker.producer().unwrap();
                    let bytes: Vec<Vec<u8>> = records
                        .iter()
                        .map(|(len, time)| vec![(len ^ time) as u8; usize::from(*len)])
                        .collect();
                    let made = records.iter().zip(&bytes).map(|((_, time), value)| {
                        let time = Timestamp::from_millis(i64::from(*time));
                        Record::to("t").value(value).timestamp(time)
                    });
                    let placed: Vec<_> = match step {
                        Step::SendAll(_) => producer.send_all(made).unwrap().metadata().collect(),
                        _ => made
                            .map(|record| producer.send(record).unwrap().metadata().clone())
                            .collect(),
                    };
                    for (metadata, value) in placed.iter().zip(bytes) {
                        prop_assert_eq!(metadata.offset(), model.len() as i64);
                        model.push(Owned {
                            partition: 0,
                            offset: metadata.offset(),
                            timestamp: metadata.timestamp().as_millis(),
                            key: None,
                            value: Some(value),
                            headers: Vec::new(),
                        });
                    }
                }
                Step::Checkpoint => broker.checkpoint().unwrap(),
                Step::Reopen => {
                    broker.close().unwrap();
                    broker = world.open();
                }
            }
        }
        check_reads(&broker, &model, max_poll_records);
        broker.close().unwrap();
        check_reads(&world.open(), &model, max_poll_records);
    }
}

/// Creates and closes a topic of several segments with at least two index entries in each.
fn stored() -> (World, Vec<Owned>) {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    let config = TopicConfig::new().segment_bytes(8192).index_interval_bytes(1000);
    broker.create_topic("t", config).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..300 {
        let time = Timestamp::from_millis(1000 + n * 7 % 300);
        producer.send(Record::to("t").value(&[n as u8; 150]).timestamp(time)).unwrap();
    }
    let model = all(&broker, "t");
    assert!(broker.describe_topic("t").unwrap().partitions[0].segments >= 4);
    broker.close().unwrap();
    (world, model)
}

fn index_files(world: &World) -> Vec<std::path::PathBuf> {
    let folder = Path::new("t-0");
    let entries = world.storage.list(folder).unwrap();
    let names = entries.iter().filter(|entry| entry.name.ends_with("index"));
    names.map(|entry| folder.join(&entry.name)).collect()
}

#[test]
fn indexes_that_are_deleted_or_scrambled_change_no_result() {
    type Harm = fn(&World, &Path);
    let remove: Harm = |world, path| world.storage.remove(path).unwrap();
    let fill: Harm = |world, path| {
        let file = world.storage.open(path, OpenMode::Write).unwrap();
        file.write_at(&vec![0x5a; file.len().unwrap() as usize], 0).unwrap();
    };
    let flip: Harm = |world, path| {
        let file = world.storage.open(path, OpenMode::Write).unwrap();
        if file.len().unwrap() >= 8 {
            file.write_at(&[0, 0, 0, 1], 4).unwrap();
        }
    };
    let cut: Harm = |world, path| {
        let file = world.storage.open(path, OpenMode::Write).unwrap();
        file.set_len(file.len().unwrap() / 2 + 1).unwrap();
    };
    let grow: Harm = |world, path| {
        let file = world.storage.open(path, OpenMode::Write).unwrap();
        file.set_len(file.len().unwrap() + 4096).unwrap();
    };
    for (name, harm) in
        [("remove", remove), ("fill", fill), ("flip", flip), ("cut", cut), ("grow", grow)]
    {
        let (world, model) = stored();
        let files = index_files(&world);
        assert!(files.len() >= 8, "{files:?}");
        for path in &files {
            harm(&world, path);
        }
        let broker = world.open();
        check_reads(&broker, &model, 40);
        let next = broker.producer().unwrap().send(Record::to("t")).unwrap();
        assert_eq!(next.metadata().offset(), 300, "{name}");
    }
}

#[test]
fn a_poll_returns_no_more_than_asked_and_partitions_take_turns() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(3)).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..300 {
        producer.send(Record::to("t").partition(n % 3).value("v")).unwrap();
    }
    let config = ConsumerConfig::new().max_poll_records(10);
    let mut reader = broker.consumer_with(config).unwrap();
    reader.assign((0..3).map(|partition| tp("t", partition))).unwrap();
    let mut seen = [0; 3];
    for _ in 0..9 {
        let records = reader.poll(Duration::ZERO).unwrap();
        assert_eq!(records.len(), 10);
        for partition in records.partitions() {
            seen[partition.partition() as usize] += records.records(partition).count();
        }
    }
    assert_eq!(seen, [30; 3]);
}

#[test]
fn seek_position_lag_pause_and_resume() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..10 {
        producer.send(Record::to("t").partition(0).value(&format!("{n}"))).unwrap();
    }
    let (p0, p1) = (tp("t", 0), tp("t", 1));
    let mut reader = reader(&broker, "t", 2);
    assert_eq!(reader.position(&p0).unwrap().offset(), 0);
    assert_eq!(reader.lag(&p0).unwrap(), 10);
    assert_eq!(reader.beginning_offsets([&p0, &p1]).unwrap()[&p0], 0);
    assert_eq!(reader.end_offsets([&p0, &p1]).unwrap()[&p0], 10);
    reader.seek(&p0, 7).unwrap();
    assert_eq!(values(&drain(&mut reader)), ["7", "8", "9"]);
    assert_eq!(reader.lag(&p0).unwrap(), 0);
    reader.seek_to_beginning(&p0).unwrap();
    reader.pause(&p0).unwrap();
    producer.send(Record::to("t").partition(1).value("other")).unwrap();
    assert_eq!(values(&drain(&mut reader)), ["other"]);
    reader.resume(&p0).unwrap();
    assert_eq!(drain(&mut reader).len(), 10);
    reader.seek_to_end(&p0).unwrap();
    assert!(drain(&mut reader).is_empty());
    assert_eq!(reader.position(&p1).unwrap().offset(), 1);
    for refusal in [
        refused(reader.seek(&p0, -1)),
        refused(reader.seek(&tp("t", 7), 0)),
        refused(reader.position(&tp("t", 7))),
        refused(reader.commit()),
    ] {
        assert!(matches!(refusal, Error::Misuse(_)), "{refusal}");
    }
}

#[test]
fn auto_offset_reset_decides_where_nothing_was_committed() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("before")).unwrap();
    let consumer = |reset| {
        let config = ConsumerConfig::new().group(format!("{reset:?}")).auto_offset_reset(reset);
        let mut consumer = broker.consumer_with(config).unwrap();
        consumer.subscribe(["t"]).unwrap();
        consumer
    };
    let mut earliest = consumer(OffsetReset::Earliest);
    let mut latest = consumer(OffsetReset::Latest);
    let mut none = consumer(OffsetReset::None);
    assert_eq!(values(&drain(&mut earliest)), ["before"]);
    assert!(drain(&mut latest).is_empty());
    match refused(none.poll(Duration::ZERO)) {
        Error::NoOffsetForPartition { partition } => assert_eq!(partition, tp("t", 0)),
        other => panic!("{other}"),
    }
    producer.send(Record::to("t").value("after")).unwrap();
    assert_eq!(values(&drain(&mut earliest)), ["after"]);
    assert_eq!(values(&drain(&mut latest)), ["after"]);
    none.seek_to_beginning(&tp("t", 0)).unwrap();
    assert_eq!(values(&drain(&mut none)), ["before", "after"]);
}

#[test]
fn an_offset_out_of_range_follows_the_same_policy() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for value in ["a", "b"] {
        producer.send(Record::to("t").value(value)).unwrap();
    }
    let at_nine = |reset| {
        let config = ConsumerConfig::new().auto_offset_reset(reset);
        let mut reader = broker.consumer_with(config).unwrap();
        reader.assign([tp("t", 0)]).unwrap();
        reader.seek(&tp("t", 0), 9).unwrap();
        reader
    };
    assert_eq!(values(&drain(&mut at_nine(OffsetReset::Earliest))), ["a", "b"]);
    let mut latest = at_nine(OffsetReset::Latest);
    assert!(drain(&mut latest).is_empty());
    assert_eq!(latest.position(&tp("t", 0)).unwrap().offset(), 2);
    match refused(at_nine(OffsetReset::None).poll(Duration::ZERO)) {
        Error::OffsetOutOfRange { partition, requested, start, end } => {
            assert_eq!((partition, requested, start, end), (tp("t", 0), 9, 0, 2));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_sleeping_poll_returns_as_soon_as_a_record_is_sent() {
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let clock = SystemClock::new();
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    std::thread::scope(|scope| {
        let (ready, go) = std::sync::mpsc::channel();
        let sleeper = scope.spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < 100 {
                ready.send(()).unwrap();
                seen.extend(values(&owned(&consumer.poll(LONG).unwrap())));
            }
            seen
        });
        let producer = broker.producer().unwrap();
        for n in 0..100 {
            go.recv().unwrap();
            producer.send(Record::to("t").partition(n % 2).value(&format!("{n}"))).unwrap();
        }
        let expected: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
        assert_eq!(sleeper.join().unwrap(), expected);
    });
    assert!(clock.monotonic() < AT_ONCE);
}

#[test]
fn a_sleeping_poll_ends_by_wakeup_by_close_and_by_a_new_topic() {
    let broker = Broker::open_in_memory().unwrap();
    let clock = SystemClock::new();
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["later"]).unwrap();
    let handle = consumer.wakeup_handle();
    handle.wakeup();
    assert!(matches!(refused(consumer.poll(LONG)), Error::Wakeup));
    std::thread::scope(|scope| {
        let (ready, go) = std::sync::mpsc::channel();
        let sleeper = scope.spawn(move || {
            ready.send(()).unwrap();
            let woken = refused(consumer.poll(LONG));
            ready.send(()).unwrap();
            let records = owned(&consumer.poll(LONG).unwrap());
            ready.send(()).unwrap();
            (woken, values(&records), refused(consumer.poll(LONG)))
        });
        go.recv().unwrap();
        handle.wakeup();
        go.recv().unwrap();
        broker.create_topic("later", TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to("later").value("first")).unwrap();
        go.recv().unwrap();
        broker.clone().close().unwrap();
        let (woken, records, closed) = sleeper.join().unwrap();
        assert!(matches!(woken, Error::Wakeup), "{woken}");
        assert_eq!(records, ["first"]);
        assert!(matches!(closed, Error::Closed), "{closed}");
    });
    assert!(clock.monotonic() < AT_ONCE);
}

#[test]
fn records_outlive_their_topic_their_consumer_and_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::open(folder.path().join("data")).unwrap();
    let zstd = TopicConfig::new().compression(Compression::Zstd);
    broker.create_topic("plain", TopicConfig::new()).unwrap();
    broker.create_topic("zstd", zstd).unwrap();
    let producer = broker.producer().unwrap();
    let topics = ["plain", "zstd"];
    for topic in topics {
        for n in 0..100 {
            producer.send(Record::to(topic).value(&format!("sealed {n}"))).unwrap();
        }
    }
    broker.checkpoint().unwrap();
    for topic in topics {
        for n in 0..100 {
            producer.send(Record::to(topic).value(&format!("open {n}"))).unwrap();
        }
    }
    let mut kept = Vec::new();
    for topic in topics {
        let mut reader = reader(&broker, topic, 1);
        for _ in 0..2 {
            kept.push(reader.poll(Duration::ZERO).unwrap());
        }
    }
    let before: Vec<_> = kept.iter().flat_map(owned).collect();
    assert_eq!(before.len(), 400);
    for topic in topics {
        broker.delete_topic(topic).unwrap();
    }
    broker.close().unwrap();
    drop(producer);
    drop(folder);
    assert_eq!(kept.iter().flat_map(owned).collect::<Vec<_>>(), before);
}

#[test]
fn a_reader_beside_a_sender_sees_every_record_once_and_in_order() {
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new().segment_bytes(64 << 10)).unwrap();
    let mut reader = reader(&broker, "t", 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer = broker.producer().unwrap();
            for n in 0..5000u32 {
                producer.send(Record::to("t").value(&n.to_be_bytes())).unwrap();
                if n % 1000 == 999 {
                    broker.checkpoint().unwrap();
                }
            }
        });
        let mut next = 0u32;
        while next < 5000 {
            for record in &reader.poll(AT_ONCE).unwrap() {
                assert_eq!(record.offset(), i64::from(next));
                assert_eq!(record.value(), Some(&next.to_be_bytes()[..]));
                next += 1;
            }
        }
    });
}

/// A position does not count as committed because another commit came later.
#[test]
fn commit_commits_the_position_whatever_was_committed_after_it() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for value in ["a", "b", "c"] {
        producer.send(Record::to("t").value(value)).unwrap();
    }
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 3);
    consumer.commit().unwrap();
    consumer.commit_offsets([(tp("t", 0), 1)]).unwrap();
    assert_eq!(committed_offset(&consumer, &tp("t", 0)), Some(1));
    consumer.commit().unwrap();
    assert_eq!(committed_offset(&consumer, &tp("t", 0)), Some(3));
}

/// Programs print what they send and receive.
#[test]
fn records_and_handles_print_what_a_reader_wants_to_know() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let record = Record::to("t").key("k").value(b"v\xff").header("h", "1");
    let sent = producer.send(record.timestamp(Timestamp::from_millis(7))).unwrap();
    let printed = format!("{:?}", sent.metadata());
    let known =
        "RecordMetadata { topic: \"t\", partition: 0, offset: 0, timestamp: Timestamp(7), .. }";
    assert_eq!(printed, known);
    let mut consumer = reader(&broker, "t", 1);
    let records = consumer.poll(Duration::ZERO).unwrap();
    let printed = format!("{records:?}");
    let known = "[ConsumerRecord { topic: \"t\", partition: 0, offset: 0, leader_epoch: 1, \
                 timestamp: Timestamp(7), key: Some(\"k\"), value: Some(\"v\\\\xff\"), \
                 headers: [(\"h\", Some(\"1\"))] }]";
    assert_eq!(printed, known);
    for printed in [format!("{broker:?}"), format!("{producer:?}"), format!("{consumer:?}")] {
        assert!(printed.len() < 4_000, "{printed}");
    }
}
