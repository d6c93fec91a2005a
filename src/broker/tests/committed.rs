//! What readers of committed records meet beside the worked cases: files of other writers, damage, deletion,
//! compaction, and records that this engine adds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::kafka::{BOTH, Batch, folder, from, open, partition, reader, rest, segments, settings};
use crate::engine::KafkaSegment;
use crate::error::Error;
use crate::segment::{Extension, SegmentId, file_name};
use crate::storage::{Memory, OpenMode, Storage};
use crate::time::ManualClock;
use crate::{
    Broker, CleanupPolicy, ConsumerConfig, IsolationLevel, OffsetReset, Record, Timestamp,
    TopicConfig, TopicPartition,
};

const COMMITTED: IsolationLevel = IsolationLevel::ReadCommitted;
const UNCOMMITTED: IsolationLevel = IsolationLevel::ReadUncommitted;

/// Two transactions between plain records, the first one aborted, and an open one.
fn open_transaction() -> Vec<Batch> {
    vec![
        Batch::plain(0, 1),
        Batch::of(1, 2, 3),
        Batch::of(2, 4, 4),
        Batch::abort(1, 5),
        Batch::commit(2, 6),
        Batch::plain(7, 7),
        Batch::of(3, 8, 9),
        Batch::plain(10, 11),
    ]
}

/// A segment file of `tests/vectors`.
fn fixture(name: &str, base_offset: i64, end_offset: i64) -> KafkaSegment {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    #[expect(clippy::disallowed_methods, reason = "fixtures are not files of the engine")]
    let log = std::fs::read(path).unwrap();
    KafkaSegment { id: SegmentId::first(base_offset), log, end_offset }
}

#[test]
fn files_of_other_writers_show_what_their_transactions_say() {
    let idempotent: Vec<i64> = (0..16).collect();
    for (name, base, end, uncommitted, committed, stable) in [
        // One aborted, one committed, a plain record, and one left open.
        (
            "jv_transactions.log",
            5000,
            5008,
            vec![5000, 5001, 5002, 5003, 5005, 5007],
            vec![5002, 5003, 5005],
            5007,
        ),
        (
            "rs_transactions.log",
            1000,
            1009,
            vec![1000, 1001, 1002, 1004, 1005, 1007],
            vec![1000, 1001, 1002, 1007],
            1009,
        ),
        // Sequences wrap; the last batch begins a transaction.
        ("py_idempotent.log", 0, 18, (0..18).collect(), idempotent, 16),
    ] {
        let broker = open(&folder(&[fixture(name, base, end)], TopicConfig::new()));
        let mut reads = reader(&broker, UNCOMMITTED);
        assert_eq!(rest(&mut reads).unwrap(), (uncommitted, end), "{name}");
        let mut reads = reader(&broker, COMMITTED);
        for offset in base..=end {
            let shown = committed.iter().copied().filter(|shown| *shown >= offset).collect();
            assert_eq!(from(&mut reads, offset).unwrap(), (shown, offset.max(stable)), "{name}");
        }
        assert_eq!(reads.end_offsets([&partition()]).unwrap()[&partition()], stable, "{name}");
    }
}

/// What this engine appends behind an open transaction is stable only once that has ended, which it never does.
#[test]
fn own_records_behind_an_open_transaction_wait() {
    let broker = open(&folder(&segments(&open_transaction(), &[4]), TopicConfig::new()));
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("own")).unwrap();
    let mut committed = reader(&broker, COMMITTED);
    assert_eq!(rest(&mut committed).unwrap(), (vec![0, 1, 4, 7], 8));
    assert_eq!(from(&mut committed, 12).unwrap(), (vec![], 12));
    assert_eq!(from(&mut committed, 10).unwrap(), (vec![], 10));
    let mut uncommitted = reader(&broker, UNCOMMITTED);
    let all = vec![0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 12];
    assert_eq!(rest(&mut uncommitted).unwrap(), (all, 13));
}

/// A description reads no segments, so it has what a reader of committed records has found.
#[test]
fn a_description_has_the_last_stable_offset_once_it_is_known() {
    let memory = folder(&segments(&open_transaction(), &[2]), TopicConfig::new());
    let broker = open(&memory);
    let stable = |broker: &Broker, topic: &str| {
        broker.describe_topic(topic).unwrap().partitions[0].last_stable_offset
    };
    assert_eq!(stable(&broker, "t"), None);
    let ends = |broker: &Broker| reader(broker, COMMITTED).end_offsets([&partition()]).unwrap();
    assert_eq!(ends(&broker)[&partition()], 8);
    assert_eq!(stable(&broker, "t"), Some(8));
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("own")).unwrap();
    assert_eq!(stable(&broker, "t"), Some(8));
    // What this process has appended needs no look.
    broker.create_topic("own", TopicConfig::new()).unwrap();
    producer.send(Record::to("own").value("own")).unwrap();
    assert_eq!(stable(&broker, "own"), Some(1));
    drop(producer);
    broker.close().unwrap();

    let broker = open(&memory);
    assert_eq!((stable(&broker, "t"), stable(&broker, "own")), (None, None));
    assert_eq!(ends(&broker)[&partition()], 8);
    let mut plain = reader(&broker, COMMITTED);
    plain.assign([TopicPartition::new("own", 0)]).unwrap();
    assert_eq!(plain.poll(Duration::ZERO).unwrap().len(), 1);
    assert!(plain.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!((stable(&broker, "t"), stable(&broker, "own")), (Some(8), Some(1)));
}

/// A poll sleeps at the last stable offset, instead of looking again and again until its time is over.
#[test]
fn a_reader_that_is_held_back_sleeps() {
    let memory = folder(&segments(&open_transaction(), &[]), TopicConfig::new());
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1)));
    let config = settings().clock(clock);
    let broker = Broker::open_storage(Arc::new(memory), config).unwrap();
    let mut committed = reader(&broker, COMMITTED);
    assert_eq!(rest(&mut committed).unwrap().1, 8);
    let handle = committed.wakeup_handle();
    // The clock stands still, so a poll that did not sleep would never end.
    let polls = std::thread::spawn(move || {
        let polled = committed.poll(Duration::from_hours(1));
        assert!(matches!(polled, Err(Error::Wakeup)), "{polled:?}");
    });
    let producer = broker.producer().unwrap();
    producer.send(Record::to("t").value("own")).unwrap();
    handle.wakeup();
    polls.join().unwrap();
}

#[test]
fn ends_times_and_resets_follow_the_last_stable_offset() {
    let broker = open(&folder(&segments(&open_transaction(), &[2]), TopicConfig::new()));
    for (level, end) in [(COMMITTED, 8), (UNCOMMITTED, 12)] {
        let config =
            ConsumerConfig::new().isolation_level(level).auto_offset_reset(OffsetReset::Latest);
        let mut consumer = broker.consumer_with(config).unwrap();
        consumer.assign([partition()]).unwrap();
        assert_eq!(consumer.position(&partition()).unwrap().offset(), end);
        for (time, found) in [(1007, Some(7)), (1008, Some(8)), (1010, Some(10))] {
            let time = Timestamp::from_millis(time);
            let found = found.filter(|found| *found < end);
            let at = consumer.offsets_for_times([(partition(), time)]).unwrap();
            assert_eq!(at[&partition()].as_ref().map(|at| at.offset), found);
            consumer.seek_to_timestamp(&partition(), time).unwrap();
            assert_eq!(consumer.position(&partition()).unwrap().offset(), found.unwrap_or(end));
        }
        consumer.seek(&partition(), 3).unwrap();
        assert_eq!(consumer.lag(&partition()).unwrap(), end - 3);
    }
}

/// An open transaction goes with its segment. What follows becomes stable.
#[test]
fn deletion_ends_an_open_transaction() {
    let batches = [Batch::plain(0, 0), Batch::of(1, 1, 2), Batch::plain(3, 4), Batch::plain(5, 5)];
    let broker = open(&folder(&segments(&batches, &[2, 3]), TopicConfig::new()));
    let mut committed = reader(&broker, COMMITTED);
    assert_eq!(rest(&mut committed).unwrap(), (vec![0], 1));
    broker.admin().delete_records(&partition(), 3).unwrap();
    broker.checkpoint().unwrap();
    assert_eq!(rest(&mut committed).unwrap(), (vec![3, 4, 5], 6));
    assert_eq!(committed.end_offsets([&partition()]).unwrap()[&partition()], 6);
}

fn log_file(memory: &Memory, base_offset: i64) -> Arc<dyn crate::storage::StorageFile> {
    let name = file_name(SegmentId::first(base_offset), Extension::Log);
    memory.open(&Path::new("t-0").join(name), OpenMode::Write).unwrap()
}

fn flip(memory: &Memory, base_offset: i64, at: u64) {
    let file = log_file(memory, base_offset);
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();
}

/// Every byte of a log, changed alone: a reader of committed records is told, or sees what it saw before.
#[test]
fn no_damage_shows_an_aborted_record_or_hides_a_committed_one() {
    let batches = open_transaction();
    let segments = segments(&batches, &[4]);
    let right = [0, 1, 4, 7];
    for segment in &segments {
        for at in 0..segment.log.len() as u64 {
            let memory = folder(&segments, TopicConfig::new());
            flip(&memory, segment.id.base_offset, at);
            let broker = open(&memory);
            for offset in [0, 4, 7] {
                let mut committed = reader(&broker, COMMITTED);
                committed.seek(&partition(), offset).unwrap();
                let mut seen = Vec::new();
                let error = loop {
                    match committed.poll(Duration::ZERO) {
                        Ok(records) if records.is_empty() => break None,
                        Ok(records) => seen.extend(records.iter().map(|record| record.offset())),
                        Err(error) => break Some(error),
                    }
                };
                let wanted: Vec<_> = right.iter().copied().filter(|o| *o >= offset).collect();
                let place = format!("byte {at} of {}", segment.id.base_offset);
                assert!(wanted.starts_with(&seen), "{place}: {seen:?} from {offset}");
                let Some(Error::Corrupt(damage)) = error else {
                    assert_eq!((error.is_none(), &seen), (true, &wanted), "{place}");
                    continue;
                };
                // All that follows is lost to it, so that a reader that goes on behind comes to the end.
                let last = damage.offsets.unwrap().1;
                let (more, _) = from(&mut committed, last + 1).unwrap_or_default();
                assert!(more.is_empty(), "{place}: {more:?}");
            }
        }
    }
}

/// Damage of a log without transactions hides no marker. A reader goes on behind it, as at the other level.
#[test]
fn a_log_without_transactions_is_read_behind_damage() {
    let batches: Vec<_> = (0..6).map(|at| Batch::plain(at * 2, at * 2 + 1)).collect();
    for level in BOTH {
        let memory = folder(&segments(&batches, &[3]), TopicConfig::new());
        flip(&memory, 0, batches[0].encode(None).len() as u64 + 70);
        let broker = open(&memory);
        let mut consumer = reader(&broker, level);
        assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 2);
        let damage = consumer.poll(Duration::ZERO).unwrap_err();
        assert!(matches!(&damage, Error::Corrupt(found) if found.offsets == Some((2, 3))));
        assert_eq!(from(&mut consumer, 4).unwrap(), ((4..12).collect(), 12));
        assert_eq!(from(&mut reader(&broker, level), 9).unwrap(), (vec![9, 10, 11], 12));
    }
}

fn keyed(batches: &[(Batch, Option<&str>)]) -> KafkaSegment {
    let log = batches.iter().flat_map(|(batch, key)| batch.encode(key.map(str::as_bytes)));
    let id = SegmentId::first(batches[0].0.base);
    KafkaSegment { id, log: log.collect(), end_offset: batches[batches.len() - 1].0.last + 1 }
}

/// A pass removes aborted records, lets them supersede nothing, and ends at the first open transaction.
#[test]
fn compaction_knows_the_transactions() {
    let first = keyed(&[
        (Batch::plain(0, 0), Some("a")),
        (Batch::plain(1, 1), Some("b")),
        (Batch::of(1, 2, 2), Some("a")),
        (Batch::abort(1, 3), None),
        (Batch::of(2, 4, 4), Some("b")),
        (Batch::commit(2, 5), None),
    ]);
    let second = keyed(&[(Batch::of(3, 6, 6), Some("c")), (Batch::plain(7, 7), Some("c"))]);
    let third = keyed(&[(Batch::plain(8, 8), Some("a")), (Batch::plain(9, 9), Some("z"))]);
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    let memory = folder(&[first, second, third], config);
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(2000)));
    let broker = Broker::open_storage(Arc::new(memory.clone()), settings().clock(clock)).unwrap();
    let mut committed = reader(&broker, COMMITTED);
    assert_eq!(rest(&mut committed).unwrap(), (vec![0, 1, 4], 6));
    broker.admin().compact("t").unwrap();
    // The aborted 2 has not superseded 0. Nothing from the open transaction on has changed: 6 and 7 stay.
    let check = |broker: Broker| {
        assert_eq!(from(&mut reader(&broker, COMMITTED), 0).unwrap(), (vec![0, 4], 6));
        let all = vec![0, 4, 6, 7, 8, 9];
        assert_eq!(from(&mut reader(&broker, UNCOMMITTED), 0).unwrap(), (all, 10));
        broker.close().unwrap();
    };
    check(broker);
    check(open(&memory));
}

/// A reader of committed records of this engine's own records starts no scan, wherever it begins.
#[test]
fn own_records_are_not_scanned() {
    let memory = Memory::new();
    let broker = open(&memory);
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for value in 0..100 {
        producer.send(Record::to("t").value(&value.to_string())).unwrap();
    }
    broker.checkpoint().unwrap();
    let reads = memory.reads();
    let mut committed = reader(&broker, COMMITTED);
    committed.seek(&partition(), 100).unwrap();
    assert_eq!(rest(&mut committed).unwrap(), (vec![], 100));
    assert_eq!(committed.end_offsets([&partition()]).unwrap()[&partition()], 100);
    assert_eq!(memory.reads(), reads);
    for level in BOTH {
        assert_eq!(from(&mut reader(&broker, level), 0).unwrap(), ((0..100).collect(), 100));
    }
}

/// A snapshot that follows the writer keeps what it knows, and sees what is new.
#[test]
fn a_snapshot_beside_the_writer_shows_committed_records() {
    let batches = [Batch::plain(0, 1), Batch::of(1, 2, 3), Batch::abort(1, 4), Batch::plain(5, 5)];
    let memory = folder(&segments(&batches, &[1]), TopicConfig::new());
    let broker = open(&memory);
    let mut beside = Broker::open_storage_read_only(Arc::new(memory)).unwrap();
    let config = ConsumerConfig::new().isolation_level(COMMITTED);
    for sent in 0..3 {
        let mut committed = beside.consumer_with(config.clone()).unwrap();
        committed.assign([partition()]).unwrap();
        let shown: Vec<i64> = [0, 1].into_iter().chain(5..6 + sent).collect();
        assert_eq!(rest(&mut committed).unwrap(), (shown, 6 + sent));
        broker.producer().unwrap().send(Record::to("t").value("own")).unwrap();
        assert!(beside.refresh().unwrap());
    }
    let in_group = ConsumerConfig::new().group("g");
    assert!(matches!(beside.consumer_with(in_group), Err(Error::Misuse(_))));
}
