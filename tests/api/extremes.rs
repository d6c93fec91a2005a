//! Numbers and durations at the edges of their types. Every public function that takes one refuses it with a
//! typed error or handles it sensibly. In a debug build, sums that overflow panic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::storage::{Crash, Memory};
use grouplog::time::{Clock as _, ManualClock, Random as _, SeededRandom};
use grouplog::{
    Broker, BrokerConfig, Consumer, ConsumerConfig, Error, OffsetAndMetadata, OffsetReset,
    OffsetScope, Position, ProducerConfig, Record, ResetTo, Timestamp, TimestampType, TopicConfig,
};
use proptest::prelude::*;

use crate::world::{World, drain, reader, refused, tp};

#[derive(Debug, Clone)]
enum Step {
    Send(i64),
    SendAll(Vec<i64>),
    Commit(i64, Option<i32>),
    CommitPositions,
    Seek(i64, Option<i32>),
    SeekToTime(i64),
    FindTime(i64),
    DeleteRecords(i64),
    Reset(ResetTo),
    Join(OffsetReset, Duration),
    SetClock(i64),
    Advance(Duration),
    Poll(Duration),
    Checkpoint,
}

/// Mostly offsets in the log or near its end, and the edges.
fn number() -> impl Strategy<Value = i64> {
    let edges = vec![
        i64::MIN,
        i64::MIN + 1,
        i64::from(i32::MIN) - 1,
        -1,
        i64::from(i32::MAX),
        i64::from(u32::MAX) + 1,
        i64::MAX / 2,
        i64::MAX - 1,
        i64::MAX,
    ];
    prop_oneof![0..8_i64, prop::sample::select(edges), any::<i64>()]
}

fn epoch() -> impl Strategy<Value = Option<i32>> {
    let some = prop::sample::select(vec![i32::MIN, -1, 0, 1, 2, i32::MAX]);
    prop::option::weighted(0.3, some)
}

fn duration() -> impl Strategy<Value = Duration> {
    let edges = vec![
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_secs(1),
        Duration::from_millis(i64::MAX as u64),
        Duration::from_millis(u64::MAX),
        Duration::from_secs(u64::MAX / 1_000 + 1),
        Duration::MAX,
    ];
    prop::sample::select(edges)
}

fn reset_to() -> impl Strategy<Value = ResetTo> {
    prop_oneof![
        Just(ResetTo::Earliest),
        Just(ResetTo::Latest),
        Just(ResetTo::Current),
        number().prop_map(ResetTo::Offset),
        number().prop_map(ResetTo::Shift),
        number().prop_map(|millis| ResetTo::Timestamp(Timestamp::from_millis(millis))),
        duration().prop_map(ResetTo::Ago),
    ]
}

fn policy() -> impl Strategy<Value = OffsetReset> {
    prop_oneof![
        Just(OffsetReset::Earliest),
        Just(OffsetReset::Latest),
        Just(OffsetReset::None),
        duration().prop_map(OffsetReset::ByDuration),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => number().prop_map(Step::Send),
        1 => prop::collection::vec(number(), 0..4).prop_map(Step::SendAll),
        3 => (number(), epoch()).prop_map(|(offset, epoch)| Step::Commit(offset, epoch)),
        1 => Just(Step::CommitPositions),
        2 => (number(), epoch()).prop_map(|(offset, epoch)| Step::Seek(offset, epoch)),
        1 => number().prop_map(Step::SeekToTime),
        1 => number().prop_map(Step::FindTime),
        1 => number().prop_map(Step::DeleteRecords),
        2 => reset_to().prop_map(Step::Reset),
        1 => (policy(), duration()).prop_map(|(reset, time)| Step::Join(reset, time)),
        1 => number().prop_map(Step::SetClock),
        1 => duration().prop_map(Step::Advance),
        2 => duration().prop_map(Step::Poll),
        1 => Just(Step::Checkpoint),
    ]
}

/// A broker with the largest allowed settings, and the records that were sent to it.
struct Run {
    world: World,
    broker: Broker,
    consumer: Consumer,
    /// The timestamps sent, by offset.
    sent: BTreeMap<i64, i64>,
}

fn largest(config: BrokerConfig) -> BrokerConfig {
    config
        .open_batches_max_bytes(u64::MAX)
        .max_open_files(u32::MAX)
        .sync_interval(Duration::MAX)
        .group_max_size(i32::MAX as u32)
        .offsets_retention(Duration::MAX)
        .offsets_retention_check_interval(Duration::MAX)
}

fn patient(reset: OffsetReset, time: Duration) -> ConsumerConfig {
    let least = time.max(Duration::from_millis(1));
    ConsumerConfig::new()
        .group("g")
        .auto_offset_reset(reset)
        .auto_commit_interval(time)
        .max_poll_interval(least)
        .session_timeout(least)
        .max_poll_records(usize::MAX)
        .fetch_max_bytes(u32::MAX)
        .max_partition_fetch_bytes(u32::MAX)
}

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        world.config = largest(world.config);
        let broker = world.open();
        let topic = TopicConfig::new().segment_ms(Duration::MAX).segment_bytes(i32::MAX as u32);
        broker.create_topic("t", topic.index_interval_bytes(i32::MAX as u32)).unwrap();
        let consumer = Self::join(&broker, OffsetReset::Earliest, Duration::MAX);
        Self { world, broker, consumer, sent: BTreeMap::new() }
    }

    fn join(broker: &Broker, reset: OffsetReset, time: Duration) -> Consumer {
        let mut consumer = broker.consumer_with(patient(reset, time)).unwrap();
        consumer.assign([tp("t", 0)]).unwrap();
        consumer
    }

    fn end(&self) -> i64 {
        self.broker.describe_topic("t").unwrap().partitions[0].end_offset
    }

    /// A record that is refused must be refused for its timestamp, and change nothing.
    fn send(&mut self, millis: &[i64]) {
        let config = ProducerConfig::new().max_block(Duration::MAX);
        let producer = self.broker.producer_with(config).unwrap();
        let record = |&millis: &i64| Record::to("t").timestamp(Timestamp::from_millis(millis));
        let end = self.end();
        match producer.send_all(millis.iter().map(record)) {
            Ok(_) => {
                assert!(millis.iter().all(|millis| *millis >= 0), "{millis:?}");
                self.sent.extend((end..).zip(millis.iter().copied()));
            }
            Err(Error::Misuse(_)) if millis.iter().any(|millis| *millis < 0) => {}
            Err(error) => panic!("{millis:?}: {error}"),
        }
        assert_eq!(self.end(), self.sent.len() as i64);
    }

    fn run(&mut self, step: &Step) {
        let p = tp("t", 0);
        let admin = self.broker.admin();
        match step {
            Step::Send(millis) => self.send(&[*millis]),
            Step::SendAll(millis) => self.send(millis),
            Step::Commit(offset, epoch) => {
                let mut at = OffsetAndMetadata::new(*offset);
                if let Some(epoch) = epoch {
                    at = at.with_leader_epoch(*epoch);
                }
                let legal = *offset >= 0 && epoch.is_none_or(|epoch| epoch >= 0);
                match self.consumer.commit_offsets([(p.clone(), at)]) {
                    Ok(()) => {
                        assert!(legal, "{step:?}");
                        let committed = self.consumer.committed(&p).unwrap().unwrap();
                        assert_eq!(committed.offset(), *offset);
                    }
                    Err(Error::Misuse(_)) if !legal => {}
                    Err(error) => panic!("{step:?}: {error}"),
                }
            }
            Step::CommitPositions => self.consumer.commit().unwrap(),
            Step::Seek(offset, epoch) => {
                let mut at = Position::new(*offset);
                if let Some(epoch) = epoch {
                    at = at.with_leader_epoch(*epoch);
                }
                match self.consumer.seek(&p, at) {
                    Ok(()) => {
                        let now = self.consumer.position(&p).unwrap();
                        assert_eq!(now.offset(), at.offset());
                        assert_eq!(now.leader_epoch(), at.leader_epoch());
                    }
                    Err(Error::Misuse(_)) => assert!(*offset < 0 || epoch.unwrap_or(0) < 0),
                    Err(Error::LogTruncated { .. }) => assert!(epoch.is_some()),
                    Err(error) => panic!("{step:?}: {error}"),
                }
            }
            Step::SeekToTime(millis) => {
                self.consumer.seek_to_timestamp(&p, Timestamp::from_millis(*millis)).unwrap();
            }
            Step::FindTime(millis) => self.find(*millis),
            Step::DeleteRecords(before) => match admin.delete_records(&p, *before) {
                Ok(start) => assert!(start >= *before && start <= self.end(), "{start}"),
                Err(Error::OffsetOutOfRange { end, .. }) => {
                    assert!(*before > end || *before < -1, "{step:?}");
                }
                Err(error) => panic!("{step:?}: {error}"),
            },
            Step::Reset(to) => self.reset(*to),
            Step::Join(reset, time) => self.consumer = Self::join(&self.broker, *reset, *time),
            Step::SetClock(millis) => self.world.clock.set_wall(Timestamp::from_millis(*millis)),
            Step::Advance(time) => {
                self.world.clock.advance(*time);
                self.broker.maintain().unwrap();
            }
            Step::Poll(time) => self.poll(*time),
            Step::Checkpoint => self.broker.checkpoint().unwrap(),
        }
    }

    fn find(&self, millis: i64) {
        let p = tp("t", 0);
        let timestamp = Timestamp::from_millis(millis);
        let start = self.broker.describe_topic("t").unwrap().partitions[0].start_offset;
        let expected = self.sent.range(start..).find(|(_, sent)| **sent >= millis);
        let found = self.broker.admin().offset_for_time(&p, timestamp);
        match found {
            Ok(found) => {
                let found = found.map(|(offset, at)| (offset, at.as_millis()));
                assert_eq!(found, expected.map(|(offset, sent)| (*offset, *sent)), "{millis}");
            }
            Err(Error::Misuse(_)) if millis < 0 => {}
            Err(error) => panic!("{millis}: {error}"),
        }
        match self.consumer.offsets_for_times([(p, timestamp)]) {
            Ok(found) => assert_eq!(found.len(), 1),
            Err(error) => assert!(matches!(error, Error::Misuse(_)) && millis < 0, "{error}"),
        }
    }

    fn reset(&self, to: ResetTo) {
        let scope = OffsetScope::Topic("t".to_owned());
        let planned = self.broker.admin().plan_reset("g", &scope, to);
        match self.broker.admin().reset_offsets("g", &scope, to) {
            Ok(done) => {
                assert_eq!(planned.unwrap(), done);
                assert!((0..=self.end()).contains(&done[0].target), "{done:?}");
            }
            Err(Error::NoOffsetForPartition { .. }) => {
                assert!(matches!(to, ResetTo::Shift(_)), "{to:?}");
            }
            Err(error) => panic!("{to:?}: {error}"),
        }
    }

    fn poll(&mut self, time: Duration) {
        // This ends a poll of any length that finds nothing.
        self.consumer.wakeup_handle().wakeup();
        assert!(matches!(refused(self.consumer.poll(time)), Error::Wakeup));
        match self.consumer.poll(Duration::ZERO) {
            Ok(records) => {
                for record in &records {
                    let sent = self.sent.get(&record.offset());
                    assert_eq!(sent, Some(&record.timestamp().as_millis()));
                    assert_eq!(record.next_position().offset(), record.offset() + 1);
                }
            }
            Err(
                Error::LogTruncated { .. }
                | Error::OffsetOutOfRange { .. }
                | Error::NoOffsetForPartition { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// No given number makes a lag negative or larger than the log.
    fn check(&mut self) {
        let topic = self.broker.describe_topic("t").unwrap();
        let most = topic.partitions[0].end_offset - topic.partitions[0].start_offset;
        match self.consumer.lag(&tp("t", 0)) {
            Ok(lag) => assert!((0..=most).contains(&lag), "{lag} of {most}"),
            Err(Error::LogTruncated { .. } | Error::NoOffsetForPartition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        match self.broker.describe_group("g") {
            Ok(group) => {
                let row = &group.offsets[0];
                assert!((0..=most).contains(&row.lag), "{row:?} of {most}");
                assert!(row.lag > 0 || row.time_lag == Some(Duration::ZERO), "{row:?}");
                assert_eq!(group.lag(), row.lag);
            }
            Err(error) => assert!(matches!(error, Error::UnknownGroup { .. }), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_number_or_duration_breaks_anything(steps in prop::collection::vec(step(), 1..25)) {
        let mut run = Run::new();
        for step in &steps {
            run.run(step);
            run.check();
        }
        // Stored values read back unchanged.
        let Run { world, broker, consumer, sent } = run;
        drop(consumer);
        let described = broker.describe_group("g").ok();
        broker.close().unwrap();
        let broker = world.open();
        let start = broker.describe_topic("t").unwrap().partitions[0].start_offset;
        let read = drain(&mut reader(&broker, "t", 1));
        let read: Vec<_> = read.iter().map(|record| (record.offset, record.timestamp)).collect();
        let expected: Vec<_> = sent.range(start..).map(|(offset, sent)| (*offset, *sent)).collect();
        prop_assert_eq!(read, expected);
        let again = broker.describe_group("g").ok();
        let committed = |group: Option<grouplog::GroupSummary>| {
            group.map(|group| (group.offsets[0].committed, group.offsets[0].lag))
        };
        prop_assert_eq!(committed(again), committed(described));
    }
}

/// A group member, not an assigned reader, with times as long as possible, and threads that wait as long.
#[test]
fn the_longest_times_are_never_over() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
    let config = largest(BrokerConfig::new()).clock(Arc::clone(&clock) as _).background(true);
    let memory = Memory::new();
    let broker = Broker::open_storage(Arc::new(memory), config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let longest = patient(OffsetReset::ByDuration(Duration::MAX), Duration::MAX);
    for config in [longest.clone(), longest.group_instance_id("static")] {
        let mut member = broker.consumer_with(config).unwrap();
        member.subscribe(["t"]).unwrap();
        let producer =
            broker.producer_with(ProducerConfig::new().max_block(Duration::MAX)).unwrap();
        producer.send(Record::to("t").value("v")).unwrap().wait().unwrap();
        assert_eq!(member.poll(Duration::MAX).unwrap().len(), 1);
        clock.advance(Duration::from_secs(u64::MAX / 1_000_000_000));
        broker.maintain().unwrap();
        member.commit().unwrap();
        assert_eq!(member.assignment().len(), 1);
        assert_eq!(broker.describe_group("g").unwrap().lag(), 0);
        member.close_with(grouplog::GroupMembershipOperation::LeaveGroup).unwrap();
    }
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Timestamp::from_millis(i64::MAX));
    assert_eq!(clock.monotonic(), Duration::from_micros(u64::MAX));
    broker.close().unwrap();
}

/// A program's own clock may show any time. Records get no time before 1970, which Kafka's format cannot
/// hold.
#[test]
fn a_clock_before_1970_stamps_records_with_1970() {
    for kind in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let world = World::new();
        let broker = world.open();
        let config = TopicConfig::new().timestamp_type(kind).compression(Compression::Zstd);
        broker.create_topic("t", config).unwrap();
        let producer = broker.producer().unwrap();
        for now in [i64::MIN, -1, i64::MAX, i64::MIN] {
            world.clock.set_wall(Timestamp::from_millis(now));
            let sent = producer.send(Record::to("t").value("v")).unwrap();
            assert!(sent.metadata().timestamp().as_millis() >= 0);
            let record = Record::to("t").value("v").timestamp(Timestamp::from_millis(i64::MAX));
            producer.send_all([record, Record::to("t").value("v")]).unwrap();
        }
        broker.checkpoint().unwrap();
        let records = drain(&mut reader(&broker, "t", 1));
        assert_eq!(records.len(), 12);
        assert!(records.iter().all(|record| record.timestamp >= 0), "{records:?}");
    }
}

/// A setting at an edge is either accepted, and the topic works, or refused by its name.
#[test]
fn settings_at_their_edges_are_taken_or_refused_by_name() {
    let world = World::new();
    let broker = world.open();
    let keys = TopicConfig::new().entries().into_iter().map(|(key, _)| key);
    let numbers = ["0", "1", "-1", "2147483647", "4294967295", "9223372036854775807"];
    let mut taken = 0;
    for (at, key) in keys.chain(["partitions"]).enumerate() {
        for (n, value) in numbers.iter().chain(&["18446744073709551615", "1e9"]).enumerate() {
            let name = format!("t{at}-{n}");
            let config = TopicConfig::new().set(key, value);
            match config.and_then(|config| broker.create_topic(&name, config)) {
                Ok(()) => {
                    broker.producer().unwrap().send(Record::to(&name).value("v")).unwrap();
                    broker.checkpoint().unwrap();
                    assert_eq!(drain(&mut reader(&broker, &name, 1)).len(), 1, "{key} {value}");
                    taken += 1;
                }
                Err(Error::InvalidConfig { key: named, .. }) => assert_eq!(named, key),
                Err(error) => panic!("{key} {value}: {error}"),
            }
        }
    }
    assert!(taken > 5, "{taken}");
    broker.create_topic("t", TopicConfig::new()).unwrap();
    for total in [0, 1, 100_001, u32::MAX] {
        let refusal = refused(broker.admin().add_partitions("t", total));
        assert!(matches!(refusal, Error::InvalidConfig { key: "partitions", .. }), "{total}");
    }
    for config in [
        BrokerConfig::new().journal_max_bytes(u64::MAX),
        BrokerConfig::new().journal_file_bytes(u32::MAX),
        BrokerConfig::new().batch_size(u32::MAX),
        BrokerConfig::new().group_max_size(u32::MAX),
        BrokerConfig::new().offsets_retention(Duration::ZERO),
    ] {
        let memory = Arc::new(Memory::new());
        let refusal = refused(Broker::open_storage(memory, config));
        assert!(matches!(refusal, Error::InvalidConfig { .. }), "{refusal}");
    }
}

/// The files of a journal have many sizes after large frames and openings. Whatever their order, a frame that
/// may be written at all finds room once a checkpoint has freed everything.
#[test]
fn an_append_that_may_fit_finds_room_in_a_journal_of_many_sizes() {
    for seed in 0..150 {
        let random = SeededRandom::new(seed);
        let mut world = World::on(Memory::crash_simulating(seed));
        world.config = world.config.journal_max_bytes(256 << 10).stored_append_bytes(1 << 20);
        let mut broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        for _ in 0..60 {
            let bytes = random.next_u64()
                % if random.next_u64().is_multiple_of(3) { 60_000 } else { 25_000 };
            let producer = broker.producer().unwrap();
            let value = vec![7; bytes as usize];
            producer.send(Record::to("t").value(&value)).unwrap_or_else(|e| panic!("{seed}: {e}"));
            drop(producer);
            if random.next_u64().is_multiple_of(8) {
                // As a kill.
                let left = world.storage.crash(Crash::Kill, &random);
                world = World { storage: left, ..world };
                broker = world.open();
            }
        }
    }
}
