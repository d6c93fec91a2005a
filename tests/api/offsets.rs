//! Positions and committed offsets: what is stored with them, and when they are committed.

use std::path::Path;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Error, IsolationLevel, OffsetAndMetadata, OffsetReset,
    Position, Record, Timestamp, TopicConfig,
};

use crate::world::{World, committed_offset, drain, reader, refused, tp, values};

fn send(broker: &Broker, values: &[&str]) {
    let producer = broker.producer().unwrap();
    for value in values {
        producer.send(Record::to("t").partition(0).value(value)).unwrap();
    }
}

fn assigned(broker: &Broker, config: ConsumerConfig) -> Consumer {
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    consumer
}

fn in_group() -> ConsumerConfig {
    ConsumerConfig::new().group("g").enable_auto_commit(false)
}

#[test]
fn a_position_knows_the_epoch_of_the_record_before_it() {
    let world = World::new();
    let mut broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut epochs = Vec::new();
    for value in ["a", "b", "c"] {
        send(&broker, &[value]);
        broker.close().unwrap();
        broker = world.open(); // the writer gets the next epoch
        let description = broker.describe_topic("t").unwrap();
        epochs.push(description.partitions[0].leader_epoch.unwrap());
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    let partition = tp("t", 0);
    let id = broker.describe_topic("t").unwrap().id;
    let mut consumer = assigned(&broker, in_group().max_poll_records(1));
    assert_eq!(consumer.position(&partition).unwrap(), Position::new(0).with_topic_id(id));
    for (n, epoch) in epochs.iter().enumerate() {
        let records = consumer.poll(Duration::ZERO).unwrap();
        let position = consumer.position(&partition).unwrap();
        let expected = Position::new(n as i64 + 1).with_leader_epoch(*epoch).with_topic_id(id);
        assert_eq!(position, expected);
        assert_eq!(records.iter().next().unwrap().next_position(), position);
        consumer.commit().unwrap();
        let committed = consumer.committed(&partition).unwrap().unwrap();
        assert_eq!(Position::from(committed), position);
    }
    // A chosen offset gets the epoch of the record before it, unless the program gives one.
    for (offset, epoch) in [(0, None), (1, Some(epochs[0])), (3, Some(epochs[2]))] {
        consumer.commit_offsets([(partition.clone(), offset)]).unwrap();
        let committed = consumer.committed(&partition).unwrap().unwrap();
        assert_eq!((committed.offset(), committed.leader_epoch()), (offset, epoch));
    }
    let given = OffsetAndMetadata::new(2).with_leader_epoch(epochs[1]).with_metadata("noted");
    consumer.commit_offsets([(partition.clone(), given.clone())]).unwrap();
    let given = given.with_topic_id(id);
    assert_eq!(consumer.committed(&partition).unwrap(), Some(given.clone()));
    drop(consumer);
    broker.close().unwrap();
    let broker = world.open();
    let consumer = assigned(&broker, in_group());
    assert_eq!(consumer.committed(&partition).unwrap(), Some(given));
}

#[test]
fn a_position_of_a_record_that_is_gone_is_noticed_wherever_it_was_kept() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, &["a", "b"]);
    let partition = tp("t", 0);
    let mut consumer = assigned(&broker, in_group());
    drain(&mut consumer);
    let position = consumer.position(&partition).unwrap();
    // As if another record had been at offset 1 when it was read, in a later epoch.
    let other = Position::new(2).with_leader_epoch(position.leader_epoch().unwrap() + 1);
    let at_end = 2;
    for gone in [other, Position::new(3).with_leader_epoch(position.leader_epoch().unwrap())] {
        match refused(consumer.seek(&partition, gone)) {
            Error::LogTruncated { partition: at, position, end } => {
                assert_eq!((at, position, end), (partition.clone(), gone.offset(), at_end));
            }
            error => panic!("{error}"),
        }
        assert_eq!(consumer.position(&partition).unwrap(), position, "it stays where it was");
        consumer.commit_offsets([(partition.clone(), gone)]).unwrap();
        let mut next = assigned(&broker, in_group());
        assert!(matches!(refused(next.poll(Duration::ZERO)), Error::LogTruncated { .. }));
        assert!(matches!(refused(next.position(&partition)), Error::LogTruncated { .. }));
        next.seek(&partition, 1).unwrap();
        assert_eq!(values(&drain(&mut next)), ["b"]);
    }
    consumer.seek(&partition, position).unwrap();
}

#[test]
fn a_commit_that_is_refused_commits_nothing_of_it() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    send(&broker, &["a"]);
    let mut consumer = assigned(&broker, in_group());
    let good = || (tp("t", 0), OffsetAndMetadata::new(1));
    let long = OffsetAndMetadata::new(1).with_metadata("m".repeat(4097));
    let epoch = OffsetAndMetadata::new(1).with_leader_epoch(-1);
    for (bad, is) in
        [(long, "too long"), (epoch, "not negative"), (OffsetAndMetadata::new(-1), "not negative")]
    {
        let error = refused(consumer.commit_offsets([good(), (tp("t", 1), bad)]));
        assert!(matches!(error, Error::LimitExceeded { .. } | Error::Misuse(_)), "{is}: {error}");
    }
    let unknown = consumer.commit_offsets([good(), (tp("t", 2), OffsetAndMetadata::new(0))]);
    assert!(matches!(refused(unknown), Error::UnknownPartition { .. }));
    assert_eq!(committed_offset(&consumer, &tp("t", 0)), None);
    let most = OffsetAndMetadata::new(1).with_metadata("m".repeat(4096));
    consumer.commit_offsets([(tp("t", 0), most)]).unwrap();
}

#[test]
fn by_duration_begins_with_the_first_record_that_is_young_enough() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    for value in ["old", "older", "young", "new"] {
        send(&broker, &[value]);
        world.clock.advance(Duration::from_hours(1));
    }
    let first = |reset: &str| {
        let config = ConsumerConfig::new().auto_offset_reset(reset.parse().unwrap());
        values(&drain(&mut assigned(&broker, config)))
    };
    assert_eq!(first("by_duration:PT2H"), ["young", "new"]);
    assert_eq!(first("by_duration:PT3H30M"), ["older", "young", "new"]);
    assert_eq!(first("by_duration:P1D"), ["old", "older", "young", "new"]);
    assert!(first("by_duration:PT1M").is_empty(), "none: the end");
    assert!(first("by_duration:P30000000D").len() == 4, "before 1970 is 1970");
    for text in ["by_duration", "by_duration:", "by_duration:-PT1H", "by_duration:1h"] {
        let error = refused(text.parse::<OffsetReset>());
        assert!(error.to_string().contains("auto.offset.reset"), "{error}");
    }
    // The same rule applies when the offset is out of range.
    let reset = OffsetReset::ByDuration(Duration::from_hours(2));
    let mut consumer = assigned(&broker, ConsumerConfig::new().auto_offset_reset(reset));
    consumer.seek(&tp("t", 0), 99).unwrap();
    assert_eq!(values(&drain(&mut consumer)), ["young", "new"]);
}

#[test]
fn offsets_are_found_by_time_in_any_partition_without_moving_the_position() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer().unwrap();
    for (partition, millis) in [(0, 100), (0, 50), (0, 300), (1, 200)] {
        let time = Timestamp::from_millis(millis);
        producer.send(Record::to("t").partition(partition).timestamp(time)).unwrap();
    }
    let mut consumer = reader(&broker, "t", 1);
    let times = |millis: i64| [0, 1].map(|p| (tp("t", p), Timestamp::from_millis(millis)));
    let found = |millis: i64| {
        let found = consumer.offsets_for_times(times(millis)).unwrap();
        [0, 1].map(|p| found[&tp("t", p)].map(|at| (at.offset, at.timestamp.as_millis())))
    };
    assert_eq!(found(0), [Some((0, 100)), Some((0, 200))]);
    assert_eq!(found(101), [Some((2, 300)), Some((0, 200))], "the first by offset");
    assert_eq!(found(201), [Some((2, 300)), None]);
    assert_eq!(found(301), [None, None]);
    assert!(matches!(refused(consumer.offsets_for_times(times(-1))), Error::Misuse(_)));
    assert!(matches!(refused(consumer.end_offsets([&tp("t", 2)])), Error::UnknownPartition { .. }));
    assert_eq!(consumer.position(&tp("t", 0)).unwrap().offset(), 0);
}

#[test]
fn assign_commits_the_positions_when_auto_commit_is_on_and_unsubscribe_does_not() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    send(&broker, &["a", "b"]);
    let mut consumer = assigned(&broker, ConsumerConfig::new().group("g"));
    assert_eq!(drain(&mut consumer).len(), 2);
    consumer.unsubscribe().unwrap();
    assert_eq!(committed_offset(&consumer, &tp("t", 0)), None);
    consumer.assign([tp("t", 0)]).unwrap();
    assert_eq!(drain(&mut consumer).len(), 2, "from the start: nothing was committed");
    consumer.assign([tp("t", 0), tp("t", 1)]).unwrap();
    assert_eq!(committed_offset(&consumer, &tp("t", 0)), Some(2));
    assert!(drain(&mut consumer).is_empty(), "what stays assigned keeps its position");
    let refusal = consumer.assign([tp("t", 1), tp("t", 2)]);
    assert!(matches!(refused(refusal), Error::UnknownPartition { .. }));
    assert_eq!(consumer.assignment().len(), 2, "a refused assignment changes nothing");
}

#[test]
fn the_limits_of_bytes_bound_a_poll_and_starve_no_partition() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(3)).unwrap();
    let producer = broker.producer().unwrap();
    let (small, large) = ([0; 100], [1; 5000]);
    for _ in 0..40 {
        for partition in [0, 2] {
            producer.send(Record::to("t").partition(partition).value(&small)).unwrap();
        }
    }
    for _ in 0..3 {
        producer.send(Record::to("t").partition(1).value(&large)).unwrap();
    }
    let config = ConsumerConfig::new().max_partition_fetch_bytes(1000).fetch_max_bytes(1500);
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign((0..3).map(|partition| tp("t", partition))).unwrap();
    let mut polls = 0;
    let mut seen = [0; 3];
    while seen != [40, 3, 40] {
        let records = consumer.poll(Duration::ZERO).unwrap();
        let bytes: usize = records.iter().map(|record| record.value().unwrap().len()).sum();
        // One record may exceed the limit.
        assert!((1..1500 + large.len()).contains(&bytes), "{bytes}");
        for partition in records.partitions() {
            let of_it = records.records(partition);
            let bytes: usize = of_it.clone().map(|record| record.value().unwrap().len()).sum();
            assert!(bytes <= 1000 + large.len());
            assert!(of_it.len() <= 10, "{}", of_it.len());
            seen[partition.partition() as usize] += of_it.len();
        }
        polls += 1;
        assert!(polls < 20, "{seen:?}");
    }
}

#[test]
fn records_are_given_by_partition_without_those_of_the_others() {
    let broker = World::new().batch_size(1024).open();
    broker.create_topic("t", TopicConfig::new().partitions(4)).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..60 {
        let value = [n as u8; 90];
        producer.send(Record::to("t").partition(n % 3).value(&value)).unwrap();
    }
    let mut consumer = reader(&broker, "t", 4);
    let records = consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(records.partitions().len(), 3);
    for partition in records.partitions() {
        let offsets: Vec<_> = records.records(partition).map(|record| record.offset()).collect();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
        assert!(records.records(partition).all(|r| r.topic_partition() == partition));
        assert_eq!(records.records(partition).len(), 20);
    }
    assert_eq!(records.records(&tp("t", 3)).count(), 0);
    assert_eq!(records.iter().len(), 60);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_their_key() {
    let broker = World::new().open();
    for (config, key) in [
        (ConsumerConfig::new().fetch_max_bytes(0), "fetch.max.bytes"),
        (ConsumerConfig::new().max_partition_fetch_bytes(0), "max.partition.fetch.bytes"),
        (ConsumerConfig::new().enable_auto_commit(true), "enable.auto.commit"),
    ] {
        match refused(broker.consumer_with(config)) {
            Error::InvalidConfig { key: found, .. } => assert_eq!(found, key),
            error => panic!("{error}"),
        }
    }
    assert!("read_everything".parse::<IsolationLevel>().is_err());
    let config = in_group().isolation_level(IsolationLevel::ReadCommitted);
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, &["a"]);
    assert_eq!(drain(&mut assigned(&broker, config)).len(), 1);
}

#[test]
fn a_synced_commit_survives_power_loss_and_shares_its_sync_with_what_was_sent_before() {
    let world = World::on(Memory::crash_simulating(1));
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, &["a", "b", "c"]);
    let mut written = assigned(&broker, in_group());
    drain(&mut written);
    let config = ConsumerConfig::new().group("h").commit_acks(Acks::Synced);
    let mut synced = assigned(&broker, config);
    drain(&mut synced);
    let cost = |consumer: &mut Consumer| {
        let before = world.storage.ops();
        consumer.commit().unwrap();
        world.storage.ops() - before
    };
    let writes = cost(&mut written);
    assert_eq!(cost(&mut synced), writes + 1, "one sync for both commits and the records");
    assert_eq!(cost(&mut synced), 0, "nothing new: nothing to write or sync");

    let after = world.storage.crash(Crash::LoseAll, &SeededRandom::new(1));
    let broker = World::on(after).open();
    for group in ["g", "h"] {
        assert_eq!(broker.describe_group(group).unwrap().offsets[0].committed, Some(3), "{group}");
    }
    assert_eq!(values(&drain(&mut reader(&broker, "t", 1))), ["a", "b", "c"]);
}

/// An offset file has its own checksum, which cannot tell whether it is the file that the checkpoint means.
#[test]
fn an_offset_file_of_another_time_is_damage() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut consumer = assigned(&broker, in_group());
    for offset in [1, 2] {
        consumer.commit_offsets([(tp("t", 0), offset)]).unwrap();
        broker.checkpoint().unwrap();
    }
    drop(consumer);
    broker.close().unwrap();
    let open = |name, mode| world.storage.open(Path::new(name), mode).unwrap();
    let read = |name| {
        let file = open(name, OpenMode::Read);
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    };
    let (a, b) = (read("offsets.a"), read("offsets.b"));
    assert!(a.len() == b.len() && a != b);
    for (name, own, other) in [("offsets.a", &a, &b), ("offsets.b", &b, &a)] {
        open(name, OpenMode::Write).write_at(other, 0).unwrap();
        match world.try_open() {
            Err(Error::Corrupt(damage)) => assert!(damage.path.ends_with(name), "{damage:?}"),
            // This file is not the current one.
            opened => {
                let offsets = opened.unwrap().describe_group("g").unwrap().offsets;
                assert_eq!(offsets[0].committed, Some(2), "{name}");
            }
        }
        open(name, OpenMode::Write).write_at(own, 0).unwrap();
    }
}

/// The bench `commit` makes a million commits. The files do not depend on their number.
#[test]
fn offset_files_hold_what_is_committed_and_not_how_often() {
    let sizes = [10, 20_000].map(|commits| {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().partitions(4)).unwrap();
        let config = in_group().commit_acks(Acks::Written);
        let mut consumer = broker.consumer_with(config).unwrap();
        consumer.subscribe(["t"]).unwrap();
        consumer.poll(Duration::ZERO).unwrap();
        for n in 0..commits {
            consumer.commit_offsets([(tp("t", n as u32 % 4), n)]).unwrap();
        }
        drop(consumer);
        broker.close().unwrap();
        let broker = world.open();
        let offsets = broker.describe_group("g").unwrap().offsets;
        let committed: Vec<_> = offsets.iter().map(|offset| offset.committed.unwrap()).collect();
        let last: Vec<_> = (0..4).map(|p| (0..commits).rfind(|n| n % 4 == p).unwrap()).collect();
        assert_eq!(committed, last);
        broker.close().unwrap();
        let size = |name| world.storage.metadata(Path::new(name)).unwrap().map_or(0, |(_, n)| n);
        size("offsets.a").max(size("offsets.b"))
    });
    assert!(sizes[0] == sizes[1] && (1..1024).contains(&sizes[0]), "{sizes:?}");
}

#[test]
fn of_a_partition_that_is_named_twice_the_last_offset_is_committed() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let mut consumer = broker.consumer("g").unwrap();
    let (a, b) = (tp("t", 0), tp("t", 1));
    consumer.assign([b.clone(), a.clone(), b.clone(), a.clone()]).unwrap();
    assert_eq!(consumer.assignment(), [a.clone(), b.clone()]);
    consumer.commit_offsets([(a.clone(), 1), (b.clone(), 2), (a.clone(), 3)]).unwrap();
    assert_eq!(consumer.committed(&a).unwrap().unwrap().offset(), 3);
    assert_eq!(consumer.committed(&b).unwrap().unwrap().offset(), 2);
}
