//! Topics that change while they are in use.

use std::time::Duration;

use grouplog::record::Compression;
use grouplog::{Broker, ConsumerConfig, Error, Record, TimestampType, TopicConfig};

use crate::world::{World, all, drain, refused, values};

fn setting(broker: &Broker, key: &str) -> String {
    let config = broker.describe_topic("t").unwrap().config;
    config.into_iter().find(|(known, _)| *known == key).unwrap().1
}

#[test]
fn what_is_written_from_now_on_follows_the_new_settings() {
    let world = World::new().batch_size(1024);
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let admin = broker.admin();
    let producer = broker.producer().unwrap();
    let send = |count: usize| {
        for n in 0..count {
            producer.send(Record::to("t").value(&format!("{n:0500}"))).unwrap();
        }
        broker.checkpoint().unwrap();
    };
    send(20);
    assert_eq!(broker.describe_topic("t").unwrap().partitions[0].segments, 1);
    admin.alter_topic("t", [("segment.bytes", "2048")]).unwrap();
    send(20);
    let segments = broker.describe_topic("t").unwrap().partitions[0].segments;
    assert!(segments > 4, "{segments}");
    let before = broker.describe_topic("t").unwrap().partitions[0].bytes;
    admin.alter_topic("t", [("compression.type", "zstd")]).unwrap();
    send(20);
    let grown = broker.describe_topic("t").unwrap().partitions[0].bytes - before;
    assert!(grown < 20 * 250, "{grown} bytes for 20 records of 500 zeros");

    admin.alter_topic("t", [("max.message.bytes", "1024")]).unwrap();
    let large = producer.send(Record::to("t").value(&[0; 2_000]));
    assert!(matches!(refused(large), Error::RecordTooLarge { max: 1024, .. }));
    admin.alter_topic("t", [("max.message.bytes", "4096")]).unwrap();
    producer.send(Record::to("t").value(&[0; 2_000])).unwrap();

    let early = grouplog::Timestamp::from_millis(5);
    admin.alter_topic("t", [("message.timestamp.type", "LogAppendTime")]).unwrap();
    producer.send(Record::to("t").value(&[0; 600]).timestamp(early)).unwrap();
    producer.send(Record::to("t").value(&[0; 600]).timestamp(early)).unwrap();
    let last = all(&broker, "t").pop().unwrap();
    assert_eq!((last.offset, last.timestamp), (62, 1_700_000_000_000));
    broker.close().unwrap();
    assert_eq!(all(&world.open(), "t").len(), 63);
}

#[test]
fn settings_survive_kills_and_checkpoints() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let admin = broker.admin();
    admin.alter_topic("t", [("segment.bytes", "5000"), ("segment.ms", "60000")]).unwrap();
    admin.add_partitions("t", 3).unwrap();
    broker.producer().unwrap().send(Record::to("t").partition(2).value("new")).unwrap();
    // Replayed from the journal first, then read from the checkpoint that the close wrote.
    let killed = World {
        storage: world
            .storage
            .crash(grouplog::storage::Crash::Kill, &grouplog::time::SeededRandom::new(1)),
        ..World::new()
    };
    for _ in 0..2 {
        let broker = killed.open();
        assert_eq!(setting(&broker, "segment.bytes"), "5000");
        assert_eq!(setting(&broker, "segment.ms"), "60000");
        assert_eq!(broker.describe_topic("t").unwrap().partitions.len(), 3);
        assert_eq!(values(&all(&broker, "t")), ["new"]);
        broker.close().unwrap();
    }
    let broker = killed.open();
    broker.admin().add_partitions("t", 5).unwrap();
    broker.delete_topic("t").unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(5)).unwrap();
    assert!(all(&broker, "t").is_empty());
}

#[test]
fn all_settings_are_changed_or_none() {
    let broker = World::new().open();
    let config = TopicConfig::new()
        .compression(Compression::Zstd)
        .timestamp_type(TimestampType::LogAppendTime);
    broker.create_topic("t", config).unwrap();
    let admin = broker.admin();
    let before = broker.describe_topic("t").unwrap();
    for settings in [
        [("segment.bytes", "5000"), ("colour", "red")],
        [("segment.bytes", "5000"), ("segment.ms", "soon")],
        [("segment.bytes", "5000"), ("max.message.bytes", "7")],
    ] {
        let altered = admin.alter_topic("t", settings);
        assert!(matches!(refused(altered), Error::InvalidConfig { .. }));
    }
    let partitions = admin.alter_topic("t", [("partitions", "7")]);
    assert!(matches!(refused(partitions), Error::Misuse(_)));
    let unknown = admin.alter_topic("u", [("segment.bytes", "5000")]);
    assert!(matches!(refused(unknown), Error::UnknownTopic { .. }));
    for total in [0, 1, 100_001] {
        let refused = refused(admin.add_partitions("t", total));
        assert!(matches!(refused, Error::InvalidConfig { key: "partitions", .. }), "{refused:?}");
    }
    assert_eq!(broker.describe_topic("t").unwrap(), before);
}

#[test]
fn new_partitions_are_written_to_and_read_at_once() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    let send = || {
        for n in 0..64 {
            producer.send(Record::to("t").key(&format!("key {n}")).value("v")).unwrap();
        }
    };
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = broker.consumer_with(ConsumerConfig::new().group("g")).unwrap();
        member.subscribe(["t"]).unwrap();
        members.push(member);
    }
    send();
    // The producer remembers the old state of the topic.
    broker.admin().add_partitions("t", 4).unwrap();
    send();
    producer.send_all((0..4).map(|p| Record::to("t").partition(p).value("v"))).unwrap();
    let filled = broker.describe_topic("t").unwrap().partitions;
    assert!(filled.iter().all(|partition| partition.end_offset > 1), "{filled:?}");
    let mut read = 0;
    for _ in 0..3 {
        read += members.iter_mut().map(|member| drain(member).len()).sum::<usize>();
    }
    assert_eq!(read, 64 + 64 + 4);
    assert_eq!(members.iter().map(|member| member.assignment().len()).sum::<usize>(), 4);
    assert_eq!(members[0].assignment().len(), 2);
}

#[test]
fn a_sleeping_member_is_woken_for_a_new_partition() {
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut member = broker.consumer("g").unwrap();
    member.subscribe(["t"]).unwrap();
    drain(&mut member);
    let asleep = std::thread::spawn(move || member.poll(Duration::from_mins(5)).unwrap().len());
    broker.admin().add_partitions("t", 2).unwrap();
    broker.producer().unwrap().send(Record::to("t").partition(1).value("v")).unwrap();
    assert_eq!(asleep.join().unwrap(), 1);
}

#[test]
fn of_a_setting_that_is_given_twice_the_last_value_counts_and_all_must_be_valid() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let admin = broker.admin();
    let twice = [("segment.bytes", "4096"), ("segment.ms", "7000"), ("segment.bytes", "8192")];
    admin.alter_topic("t", twice).unwrap();
    let config = admin.describe_topic("t").unwrap().config;
    assert!(config.contains(&("segment.bytes", "8192".to_owned())), "{config:?}");
    let error = refused(admin.alter_topic("t", [("segment.ms", "x"), ("segment.ms", "9000")]));
    assert!(matches!(error, Error::InvalidConfig { key: "segment.ms", .. }), "{error}");
    // The first invalid setting ends the check, although more would follow.
    let endless = std::iter::repeat(("no.such.key", "1"));
    assert!(matches!(refused(admin.alter_topic("t", endless)), Error::InvalidConfig { .. }));
}
