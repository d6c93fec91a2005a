//! Lag: how much a group has still to read, before its first commit and after any commit.

use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, Error, GroupOffset, OffsetAndMetadata, OffsetReset,
    OffsetScope, Record, ResetTo, Timestamp, TopicConfig,
};

use crate::world::{World, drain, refused, tp, values};

fn topic(broker: &Broker, partitions: u32) {
    broker.create_topic("t", TopicConfig::new().partitions(partitions)).unwrap();
}

fn send(broker: &Broker, partition: u32, count: usize) {
    let producer = broker.producer().unwrap();
    for n in 0..count {
        let value = n.to_string();
        producer.send(Record::to("t").partition(partition).value(&value)).unwrap();
    }
}

fn member(broker: &Broker, reset: OffsetReset) -> Consumer {
    let config = ConsumerConfig::new().group("g").auto_offset_reset(reset);
    let mut member = broker.consumer_with(config.enable_auto_commit(false)).unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

/// Returns the group's rows as (committed, lag), and their sum.
fn lags(broker: &Broker) -> (Vec<(Option<i64>, i64)>, i64) {
    let group = broker.describe_group("g").unwrap();
    let row = |row: &GroupOffset| (row.committed, row.lag);
    (group.offsets.iter().map(row).collect(), group.lag())
}

#[test]
fn a_group_that_has_committed_nothing_lags_by_all_that_it_would_read() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, 3);
    send(&broker, 0, 600);
    world.clock.advance(Duration::from_secs(5));
    send(&broker, 2, 400);
    world.clock.advance(Duration::from_secs(2));
    // Before the first poll nobody holds the partitions; after it the member does.
    let mut reader = member(&broker, OffsetReset::Earliest);
    for held in [false, true] {
        let group = broker.describe_group("g").unwrap();
        assert_eq!(group.lag(), 1_000, "held: {held}");
        assert!(group.offsets.iter().all(|row| row.member.is_some() == held), "{group:?}");
        let waited: Vec<_> =
            group.offsets.iter().map(|row| row.time_lag.unwrap().as_secs()).collect();
        assert_eq!(waited, [7, 0, 2]);
        reader.poll(Duration::ZERO).unwrap();
    }
    // Partitions are added one by one; a committed one does not hide the others.
    reader.commit_offsets([(tp("t", 0), 600)]).unwrap();
    assert_eq!(lags(&broker), (vec![(Some(600), 0), (None, 0), (None, 400)], 400));
    // The result is the same without members, and for a reader in another process.
    reader.close().unwrap();
    assert_eq!(lags(&broker).1, 400);
    send(&broker, 1, 1);
    assert_eq!(lags(&broker), (vec![(Some(600), 0), (None, 1), (None, 400)], 401));
}

#[test]
fn before_the_first_commit_lag_counts_from_where_the_members_would_begin() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, 1);
    for _ in 0..4 {
        send(&broker, 0, 10);
        world.clock.advance(Duration::from_hours(1));
    }
    broker.admin().delete_records(&tp("t", 0), 5).unwrap();
    let by_duration = OffsetReset::ByDuration(Duration::from_hours(2));
    for (reset, lag) in [
        (OffsetReset::Earliest, 35),
        (OffsetReset::Latest, 0),
        (by_duration, 20),
        (OffsetReset::ByDuration(Duration::MAX), 35),
        (OffsetReset::ByDuration(Duration::ZERO), 0),
        (OffsetReset::None, 35),
    ] {
        let mut reader = member(&broker, reset);
        assert_eq!(lags(&broker), (vec![(None, lag)], lag), "{reset:?}");
        if reset != OffsetReset::None {
            assert_eq!(drain(&mut reader).len() as i64, lag, "{reset:?}");
        }
    }
    // Members may differ. The member that holds the partition decides. While no member holds it, the one that
    // would read most decides.
    let mut latest = member(&broker, OffsetReset::Latest);
    let earliest = member(&broker, OffsetReset::Earliest);
    assert_eq!(lags(&broker).1, 35, "nobody polled yet");
    latest.poll(Duration::ZERO).unwrap();
    assert_eq!(latest.assignment(), [tp("t", 0)]);
    assert_eq!(lags(&broker).1, 0, "held by the one that begins at the end");
    drop((latest, earliest));
    // Without members and commits there is no group.
    assert!(matches!(refused(broker.describe_group("g")), Error::UnknownGroup { .. }));
}

#[test]
fn a_partition_that_is_added_to_a_topic_counts_from_its_start() {
    let broker = World::new().open();
    topic(&broker, 1);
    send(&broker, 0, 3);
    let scope = OffsetScope::Topic("t".to_owned());
    broker.admin().reset_offsets("g", &scope, ResetTo::Latest).unwrap();
    assert_eq!(lags(&broker), (vec![(Some(3), 0)], 0));
    broker.admin().add_partitions("t", 2).unwrap();
    send(&broker, 1, 4);
    assert_eq!(lags(&broker), (vec![(Some(3), 0), (None, 4)], 4));
}

#[test]
fn a_commit_beyond_the_end_hides_no_backlog() {
    let broker = World::new().open();
    topic(&broker, 3);
    send(&broker, 0, 100);
    send(&broker, 1, 100);
    let mut reader = member(&broker, OffsetReset::Earliest);
    reader.poll(Duration::ZERO).unwrap();
    let commits = [(tp("t", 0), 0), (tp("t", 1), 200), (tp("t", 2), i64::MAX)];
    reader.commit_offsets(commits).unwrap();
    assert_eq!(lags(&broker), (vec![(Some(0), 100), (Some(200), 0), (Some(i64::MAX), 0)], 100));
    let rows = broker.describe_group("g").unwrap().offsets;
    assert_eq!(rows[2].time_lag, Some(Duration::ZERO));
    for (at, lag) in [(i64::MAX, 0), (101, 0), (100, 0), (99, 1), (0, 100)] {
        reader.seek(&tp("t", 0), at).unwrap();
        assert_eq!(reader.lag(&tp("t", 0)).unwrap(), lag, "{at}");
    }
    // Negative offsets are refused, alone and beside others.
    for offset in [-1, i64::MIN] {
        let refusal = reader.commit_offsets([(tp("t", 0), 7), (tp("t", 1), offset)]);
        assert!(matches!(refused(refusal), Error::Misuse(_)), "{offset}");
        assert!(matches!(refused(reader.seek(&tp("t", 0), offset)), Error::Misuse(_)), "{offset}");
    }
    let epoch = OffsetAndMetadata::new(1).with_leader_epoch(i32::MIN);
    assert!(matches!(
        refused(reader.commit_offsets([(tp("t", 0), epoch.clone())])),
        Error::Misuse(_)
    ));
    assert!(matches!(refused(reader.seek(&tp("t", 0), epoch)), Error::Misuse(_)));
    assert_eq!(lags(&broker).0[0], (Some(0), 100));
}

#[test]
fn offsets_below_the_log_start_are_gone_and_do_not_count() {
    let broker = World::new().open();
    topic(&broker, 1);
    send(&broker, 0, 10);
    let mut reader = member(&broker, OffsetReset::Earliest);
    reader.poll(Duration::ZERO).unwrap();
    reader.commit_offsets([(tp("t", 0), 2)]).unwrap();
    reader.seek(&tp("t", 0), 2).unwrap();
    assert_eq!((lags(&broker).1, reader.lag(&tp("t", 0)).unwrap()), (8, 8));
    broker.admin().delete_records(&tp("t", 0), 7).unwrap();
    assert_eq!((lags(&broker).1, reader.lag(&tp("t", 0)).unwrap()), (3, 3));
    broker.admin().delete_records(&tp("t", 0), 10).unwrap();
    assert_eq!((lags(&broker).1, reader.lag(&tp("t", 0)).unwrap()), (0, 0));
}

#[test]
fn a_commit_beyond_the_end_is_answered_by_the_reset_policy() {
    let broker = World::new().open();
    topic(&broker, 1);
    send(&broker, 0, 3);
    let scope = OffsetScope::Topic("t".to_owned());
    for beyond in [4, 200, i64::MAX] {
        for reset in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None] {
            let mut writer = member(&broker, reset);
            writer.poll(Duration::ZERO).ok();
            writer.commit_offsets([(tp("t", 0), beyond)]).unwrap();
            drop(writer);
            let mut next = member(&broker, reset);
            match reset {
                OffsetReset::Earliest => assert_eq!(values(&drain(&mut next)), ["0", "1", "2"]),
                OffsetReset::Latest => assert!(drain(&mut next).is_empty()),
                _ => match refused(next.poll(Duration::ZERO)) {
                    Error::OffsetOutOfRange { requested, start: 0, end: 3, .. } => {
                        assert_eq!(requested, beyond);
                    }
                    error => panic!("{error}"),
                },
            }
            drop(next);
            broker.admin().delete_offsets("g", &scope).unwrap();
        }
    }
}

#[test]
fn what_a_group_reads_is_described_the_same_to_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    topic(&broker, 2);
    send(&broker, 0, 3);
    send(&broker, 1, 5);
    let mut reader = member(&broker, OffsetReset::Earliest);
    reader.poll(Duration::ZERO).unwrap();
    reader.commit_offsets([(tp("t", 0), 1)]).unwrap();
    let beside = Broker::open_read_only(&path).unwrap();
    let there = beside.describe_group("g").unwrap();
    let lags: Vec<i64> = there.offsets.iter().map(|row| row.lag).collect();
    assert_eq!((lags, there.lag()), (vec![2, 5], 7));
    assert_eq!(broker.describe_group("g").unwrap().lag(), 7);
}

#[test]
fn a_time_that_no_clock_shows_does_not_break_the_time_lag() {
    let world = World::new();
    let broker = world.open();
    topic(&broker, 1);
    let record = Record::to("t").timestamp(Timestamp::from_millis(i64::MAX));
    broker.producer().unwrap().send(record).unwrap();
    let _reader = member(&broker, OffsetReset::Earliest);
    for now in [i64::MIN, -1, 0, i64::MAX] {
        world.clock.set_wall(Timestamp::from_millis(now));
        let row = &broker.describe_group("g").unwrap().offsets[0];
        assert_eq!((row.lag, row.time_lag), (1, Some(Duration::ZERO)), "{now}");
    }
}
