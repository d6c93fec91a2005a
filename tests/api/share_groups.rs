//! Share groups: what members and operators see.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Backoff, Broker, CleanupPolicy, Error, NotDeleted, OffsetScope, Problem, ProducerConfig,
    Record, RecordStateReason, ResetTo, ShareConsumer, ShareConsumerConfig, ShareGroupConfig,
    TopicConfig, TopicDescription,
};

use crate::faulty::{Act, Faulty};
use crate::retention;
use crate::world::{AT_ONCE, LONG, World, after_crash, all, tp};

const LOCK: Duration = Duration::from_secs(30);

fn send(broker: &Broker, topic: &str, values: impl IntoIterator<Item = String>) {
    let producer = broker.producer().unwrap();
    for value in values {
        producer.send(Record::to(topic).key(&value).value(&value)).unwrap();
    }
}

fn jobs(broker: &Broker, count: usize) {
    broker.ensure_topic("jobs", TopicConfig::new()).unwrap();
    send(broker, "jobs", (0..count).map(|number| format!("j{number}")));
}

fn member(broker: &Broker, group: &str) -> ShareConsumer {
    let mut member = broker.share_consumer(group).unwrap();
    member.subscribe(["jobs"]).unwrap();
    member
}

fn offsets(records: grouplog::ShareRecords) -> Vec<(i64, u16)> {
    let taken: Vec<_> = records.collect();
    let offsets = taken.iter().map(|record| (record.offset(), record.delivery_count())).collect();
    // They stay with the member until its locks end.
    taken.into_iter().for_each(std::mem::forget);
    offsets
}

#[test]
fn each_record_goes_to_one_member_and_is_done_when_it_is_accepted() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 5);
    let (mut first, mut second) = (member(&broker, "g"), member(&broker, "g"));
    let mut taken = first.poll(Duration::ZERO).unwrap();
    assert_eq!(taken.len(), 5);
    assert!(second.poll(Duration::ZERO).unwrap().is_empty());
    taken.next().unwrap().accept().unwrap();
    taken.next().unwrap().release().unwrap();
    let again = second.poll(Duration::ZERO).unwrap();
    assert_eq!(offsets(again), [(1, 2)]);
    drop(taken);
    assert_eq!(offsets(second.poll(Duration::ZERO).unwrap()), [(2, 2), (3, 2), (4, 2)]);
    let summary = broker.admin().describe_share_group("g").unwrap();
    assert_eq!((summary.lag(), summary.partitions[0].under_way), (4, 4));
    assert_eq!(summary.members, Some(2));
}

/// Opens what is left after a way to end.
fn again(world: World, broker: Broker, end: &str) -> (World, Broker) {
    match end {
        "close" => {
            broker.close().unwrap();
            let broker = world.open();
            (world, broker)
        }
        "kill" => after_crash(&world, Crash::Kill),
        _ => {
            // A topic that is created is synced, and all before it.
            broker.create_topic("synced", TopicConfig::new()).unwrap();
            after_crash(&world, Crash::LoseAll)
        }
    }
}

const ENDS: [&str; 3] = ["close", "kill", "power"];

#[test]
fn acknowledgements_and_counts_survive_every_end() {
    for end in ENDS {
        for checkpoint in [false, true] {
            let world = World::new();
            let broker = world.open();
            jobs(&broker, 3);
            let mut first = member(&broker, "g");
            let mut taken = first.poll(Duration::ZERO).unwrap();
            taken.next().unwrap().accept().unwrap();
            taken.for_each(std::mem::forget);
            std::mem::forget(first);
            if checkpoint {
                broker.checkpoint().unwrap();
            }
            let (_world, broker) = again(world, broker, end);
            let mut first = member(&broker, "g");
            let taken = offsets(first.poll(Duration::ZERO).unwrap());
            assert_eq!(taken, [(1, 2), (2, 2)], "{end} {checkpoint}");
        }
    }
}

#[test]
fn a_lock_ends_at_its_time_and_its_word_comes_too_late() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 2);
    let (mut first, mut second) = (member(&broker, "g"), member(&broker, "g"));
    let mut taken = first.poll(Duration::ZERO).unwrap();
    let (late, renewed) = (taken.next().unwrap(), taken.next().unwrap());
    world.clock.advance(Duration::from_millis(29_999));
    assert!(second.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(renewed.renew().unwrap(), LOCK);
    world.clock.advance(Duration::from_millis(1));
    let refused = late.accept();
    let Err(Error::InvalidRecordState { offset: 0, reason, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(reason, RecordStateReason::LockEnded);
    let mut again = second.poll(Duration::ZERO).unwrap();
    let again = again.next().unwrap();
    assert_eq!((again.offset(), again.last_reason()), (0, Some("the lock ended")));
    again.accept().unwrap();
    renewed.accept().unwrap();
    assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
}

/// A poll looked twice at the first partition that had something, and not at the one behind it.
#[test]
fn a_poll_looks_at_each_partition_once() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new().partitions(3)).unwrap();
    let producer = broker.producer().unwrap();
    for partition in [0, 0, 1, 2] {
        producer.send(Record::to("jobs").partition(partition).value("j")).unwrap();
    }
    let config = ShareGroupConfig::new().delivery_count_limit(3);
    broker.admin().alter_share_group("g", config).unwrap();
    let mut member = member(&broker, "g");
    for delivery in 1..=2 {
        let taken = member.poll(Duration::ZERO).unwrap();
        let places: Vec<_> = taken.map(|record| (record.partition(), record.offset())).collect();
        assert_eq!(places.len(), 4, "delivery {delivery}: {places:?}");
    }
    // On its last try each comes alone.
    let last = member.poll(Duration::ZERO).unwrap();
    let mut places: Vec<_> = last.map(|record| (record.partition(), record.offset())).collect();
    places.sort_unstable();
    assert_eq!(places, [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn all_are_accepted_however_many_were_taken_out() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new().partitions(2)).unwrap();
    for taken_out in 0..=4 {
        let producer = broker.producer().unwrap();
        for partition in [0, 0, 1, 1] {
            producer.send(Record::to("jobs").partition(partition).value("j")).unwrap();
        }
        let mut member = member(&broker, "g");
        let mut records = member.poll(Duration::ZERO).unwrap();
        let taken: Vec<_> = records.by_ref().take(taken_out).collect();
        assert_eq!((taken.len(), records.len()), (taken_out, 4 - taken_out));
        records.accept_all().unwrap();
        drop(taken);
        let lag = broker.admin().describe_share_group("g").unwrap().lag();
        assert_eq!(lag, 0, "{taken_out} were taken out");
    }
}

fn headers(record: &grouplog::ShareRecord) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    record
        .headers()
        .map(|header| (text(header.name_bytes()), header.value().map(text).unwrap_or_default()))
        .collect()
}

#[test]
fn what_is_rejected_or_out_of_tries_becomes_a_dead_letter() {
    for end in ENDS {
        let world = World::new();
        let broker = world.open();
        let config = ShareGroupConfig::new().delivery_count_limit(2).dead_letter_topic("dead");
        broker.admin().alter_share_group("g", config).unwrap();
        jobs(&broker, 4);
        let mut first = member(&broker, "g");
        let mut taken = first.poll(Duration::ZERO).unwrap();
        taken.next().unwrap().reject("no such customer").unwrap();
        taken.next().unwrap().release_because("503").unwrap();
        taken.next().unwrap().cancel().unwrap();
        taken.next().unwrap().accept().unwrap();
        let mut second = first.poll(Duration::ZERO).unwrap();
        let last = second.next().unwrap();
        assert_eq!((last.offset(), last.delivery_count(), last.last_reason()), (1, 2, Some("503")));
        last.release().unwrap();
        drop(second);
        drop(first);
        let (_world, broker) = again(world, broker, end);
        assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0, "{end}");
        let mut undertaker = broker.share_consumer("undertaker").unwrap();
        undertaker.subscribe(["dead"]).unwrap();
        let letters: Vec<_> = undertaker.poll(Duration::ZERO).unwrap().collect();
        let whole = |offset: &str, message: &str, count: &str| {
            [
                ("__dlq.errors.topic", "jobs"),
                ("__dlq.errors.partition", "0"),
                ("__dlq.errors.offset", offset),
                ("__dlq.errors.group", "g"),
                ("__dlq.errors.message", message),
                ("__dlq.errors.delivery.count", count),
                ("__dlq.copied", "true"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(letters.len(), 2, "{end}");
        assert_eq!(headers(&letters[0]), whole("0", "no such customer", "1"));
        assert_eq!(letters[0].value(), Some(&b"j0"[..]));
        let mut second = whole("1", "delivery count exceeded", "2").to_vec();
        second.push(("__dlq.reason".to_owned(), "503".to_owned()));
        assert_eq!(headers(&letters[1]), second);
        assert_eq!(letters[1].key(), Some(&b"j1"[..]));
    }
}

#[test]
fn a_lock_that_ends_at_the_limit_makes_a_dead_letter_when_a_member_looks() {
    let world = World::new();
    let broker = world.open();
    let config = ShareGroupConfig::new().delivery_count_limit(1).dead_letter_topic("dead");
    broker.admin().alter_share_group("g", config).unwrap();
    jobs(&broker, 3);
    let mut first = member(&broker, "g");
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()).len(), 3);
    world.clock.advance(LOCK);
    assert!(first.poll(Duration::ZERO).unwrap().is_empty());
    assert_eq!(broker.describe_topic("dead").unwrap().partitions[0].end_offset, 3);
    assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
}

#[test]
fn delays_are_kept_and_do_not_hold_up_others() {
    for end in ENDS {
        let world = World::new();
        let broker = world.open();
        let backoff = Backoff::fixed(Duration::from_secs(10));
        broker
            .admin()
            .alter_share_group("g", ShareGroupConfig::new().retry_backoff(backoff))
            .unwrap();
        jobs(&broker, 4);
        let mut first = member(&broker, "g");
        let mut taken = first.poll(Duration::ZERO).unwrap();
        taken.next().unwrap().release().unwrap();
        taken.next().unwrap().release_after(Duration::from_secs(20)).unwrap();
        taken.next().unwrap().snooze(Duration::from_secs(30)).unwrap();
        taken.next().unwrap().accept().unwrap();
        let summary = broker.admin().describe_share_group("g").unwrap();
        assert_eq!((summary.lag(), summary.partitions[0].delayed), (3, 3));
        drop(first);
        let (world, broker) = again(world, broker, end);
        let mut first = member(&broker, "g");
        assert!(first.poll(Duration::ZERO).unwrap().is_empty(), "{end}");
        for due in [[(0, 2)], [(1, 2)], [(2, 1)]] {
            world.clock.advance(Duration::from_secs(10));
            assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), due, "{end}");
        }
    }
}

#[test]
fn a_record_is_not_delivered_before_its_time() {
    for end in ENDS {
        let world = World::new();
        let broker = world.open();
        broker.create_topic("jobs", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        let at = 1_700_000_005_000_i64;
        producer
            .send(
                Record::to("jobs").value("later").header("__deliver.at", at.to_string().as_bytes()),
            )
            .unwrap();
        producer.send(Record::to("jobs").value("now")).unwrap();
        drop(producer);
        let mut first = member(&broker, "g");
        let now = first.poll(Duration::ZERO).unwrap();
        assert_eq!(now.len(), 1);
        now.accept_all().unwrap();
        drop(first);
        let (world, broker) = again(world, broker, end);
        let mut first = member(&broker, "g");
        world.clock.advance(Duration::from_millis(4_999));
        assert!(first.poll(Duration::ZERO).unwrap().is_empty());
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(0, 1)], "{end}");
    }
}

#[test]
fn records_of_a_key_come_one_after_the_other() {
    let world = World::new();
    let broker = world.open();
    broker.admin().alter_share_group("g", ShareGroupConfig::new().ordered_by_key(true)).unwrap();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5")] {
        producer.send(Record::to("jobs").key(key).value(value)).unwrap();
    }
    let (mut first, mut second) = (member(&broker, "g"), member(&broker, "g"));
    let mut seen: Vec<i64> = Vec::new();
    for _ in 0..3 {
        for member in [&mut first, &mut second] {
            let records: Vec<_> = member.poll(Duration::ZERO).unwrap().collect();
            seen.extend(records.iter().map(grouplog::ShareRecord::offset));
            for record in records {
                record.accept().unwrap();
            }
        }
    }
    let of = |key: &[i64]| seen.iter().copied().filter(|at| key.contains(at)).collect::<Vec<_>>();
    assert_eq!((of(&[0, 1, 3]), of(&[2, 4])), (vec![0, 1, 3], vec![2, 4]));
}

#[test]
fn names_of_groups_are_of_one_kind() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 1);
    let mut consumer = broker.consumer("c").unwrap();
    consumer.subscribe(["jobs"]).unwrap();
    let refused = broker.share_consumer("c");
    assert!(matches!(refused, Err(Error::GroupKind { is_share: false, .. })), "{refused:?}");
    let _share = member(&broker, "s");
    let mut late = broker.consumer("s").unwrap();
    let refused = late.subscribe(["jobs"]);
    assert!(matches!(refused, Err(Error::GroupKind { is_share: true, .. })), "{refused:?}");
    assert_eq!(broker.admin().list_share_groups(), ["s"]);
}

#[test]
fn wrong_settings_are_refused_before_anything_changes() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 1);
    let _member = member(&broker, "g");
    let admin = broker.admin();
    for config in [
        ShareGroupConfig::new().dead_letter_topic("jobs"),
        ShareGroupConfig::new().delivery_count_limit(0),
        ShareGroupConfig::new().record_lock_duration(Duration::from_hours(13)),
    ] {
        let refused = admin.alter_share_group("g", config);
        assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{refused:?}");
    }
    assert!(admin.describe_share_group("g").unwrap().config.is_empty());
    admin.alter_share_group("h", ShareGroupConfig::new().dead_letter_topic("jobs")).unwrap();
    let mut own = broker.share_consumer("h").unwrap();
    assert!(matches!(own.subscribe(["jobs"]), Err(Error::InvalidConfig { .. })));
}

#[test]
fn an_operator_pauses_resets_finishes_and_deletes() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 4);
    let admin = broker.admin();
    let mut first = member(&broker, "g");
    admin.pause_share_group("g", true).unwrap();
    assert!(first.poll(Duration::ZERO).unwrap().is_empty());
    admin.pause_share_group("g", false).unwrap();
    let mut taken = first.poll(Duration::ZERO).unwrap();
    let job = taken.next().unwrap();
    admin.finish_share_records("g", &tp("jobs", 0), 0..=0).unwrap();
    let late = job.accept();
    let finished = RecordStateReason::Finished;
    assert!(matches!(late, Err(Error::InvalidRecordState { reason, .. }) if reason == finished));
    taken.accept_all().unwrap();
    let reset = admin.reset_share_group("g", &OffsetScope::Committed, ResetTo::Earliest);
    assert!(matches!(reset, Err(Error::GroupNotEmpty { .. })), "{reset:?}");
    assert!(matches!(admin.delete_share_group("g"), Err(Error::GroupNotEmpty { .. })));
    first.close().unwrap();
    let moves = admin.reset_share_group("g", &OffsetScope::Committed, ResetTo::Offset(2)).unwrap();
    assert_eq!((moves[0].committed, moves[0].target), (Some(4), 2));
    let (world, broker) = again(world, broker, "kill");
    let mut first = member(&broker, "g");
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(2, 1), (3, 1)]);
    first.close().unwrap();
    broker.admin().delete_share_group("g").unwrap();
    for end in ENDS {
        assert!(broker.admin().list_share_groups().is_empty(), "{end}");
        broker.checkpoint().unwrap();
    }
    let (_world, broker) = again(world, broker, "close");
    assert!(broker.admin().list_share_groups().is_empty());
    assert!(matches!(broker.admin().delete_share_group("g"), Err(Error::UnknownGroup { .. })));
}

#[test]
fn a_topic_that_is_created_again_is_another() {
    for checkpoint in [false, true] {
        let world = World::new();
        let broker = world.open();
        jobs(&broker, 3);
        let mut first = member(&broker, "g");
        first.poll(Duration::ZERO).unwrap().accept_all().unwrap();
        jobs(&broker, 1);
        let held = first.poll(Duration::ZERO).unwrap().next().unwrap();
        broker.delete_topic("jobs").unwrap();
        assert!(matches!(held.accept(), Err(Error::UnknownTopic { .. })));
        assert!(first.poll(Duration::ZERO).unwrap().is_empty());
        jobs(&broker, 2);
        assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(0, 1), (1, 1)]);
        std::mem::forget(first);
        if checkpoint {
            broker.checkpoint().unwrap();
        }
        let (_world, broker) = again(world, broker, "kill");
        let mut first = member(&broker, "g");
        assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(0, 2), (1, 2)]);
    }
}

#[test]
fn the_log_start_passes_what_nobody_has() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 6);
    let config = ShareConsumerConfig::new().max_poll_records(2);
    let mut first = broker.share_consumer_with("g", config).unwrap();
    first.subscribe(["jobs"]).unwrap();
    let mut held = first.poll(Duration::ZERO).unwrap();
    broker.admin().delete_records(&tp("jobs", 0), 4).unwrap();
    held.next().unwrap().accept().unwrap();
    held.next().unwrap().release().unwrap();
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(4, 1), (5, 1)]);
    std::mem::forget(first);
    let (_world, broker) = again(world, broker, "kill");
    let mut first = member(&broker, "g");
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(4, 2), (5, 2)]);
}

#[test]
fn the_next_poll_accepts_in_implicit_mode() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 3);
    let config = ShareConsumerConfig::new().implicit_acknowledgement(true).max_poll_records(2);
    let mut first = broker.share_consumer_with("g", config).unwrap();
    first.subscribe(["jobs"]).unwrap();
    let mut taken = first.poll(Duration::ZERO).unwrap();
    taken.next().unwrap().release().unwrap();
    drop(taken);
    let lag = || broker.admin().describe_share_group("g").unwrap().lag();
    assert_eq!(lag(), 3);
    assert_eq!(first.poll(Duration::ZERO).unwrap().len(), 1);
    assert_eq!(lag(), 2, "the second is accepted, the first is back");
    first.commit().unwrap();
    assert_eq!(lag(), 1);
    assert_eq!(first.poll(Duration::ZERO).unwrap().len(), 1);
    first.commit().unwrap();
    drop(first);
    jobs(&broker, 1);
    let mut first = member(&broker, "g");
    assert_eq!(first.poll(Duration::ZERO).unwrap().len(), 1);
    first.close().unwrap();
    assert_eq!(lag(), 1);
}

#[test]
fn a_poll_waits_until_there_is_a_record() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 1);
    let mut first = member(&broker, "g");
    let held = first.poll(Duration::ZERO).unwrap();
    let mut second = member(&broker, "g");
    let (got, next) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || {
            let released = offsets(second.poll(LONG).unwrap());
            got.send(()).unwrap();
            let sent = offsets(second.poll(LONG).unwrap());
            let handle = second.wakeup_handle();
            handle.wakeup();
            (released, sent, matches!(second.poll(LONG), Err(Error::Wakeup)))
        });
        held.for_each(|record| record.release().unwrap());
        next.recv_timeout(AT_ONCE).unwrap();
        jobs(&broker, 1);
        assert_eq!(waits.join().unwrap(), (vec![(0, 2)], vec![(1, 1)], true));
    });
}

#[test]
fn a_transaction_that_fails_gives_its_records_back() {
    for implicit in [false, true] {
        let world = World::new();
        let broker = world.open();
        jobs(&broker, 2);
        let producer = broker.producer().unwrap();
        let config = ShareConsumerConfig::new().implicit_acknowledgement(implicit);
        let mut first = broker.share_consumer_with("g", config).unwrap();
        first.subscribe(["jobs"]).unwrap();
        let mut taken = first.poll(Duration::ZERO).unwrap();
        let mut failed = producer.begin().unwrap();
        failed.accept(taken.next().unwrap()).unwrap();
        failed.expect_end(&tp("jobs", 0), 99).unwrap();
        // Those that a transaction has are not accepted with the others.
        taken.accept_all().unwrap();
        assert!(matches!(failed.commit(), Err(Error::UnexpectedEnd { .. })), "{implicit}");
        let again: Vec<_> = first.poll(Duration::ZERO).unwrap().collect();
        let found: Vec<_> = again.iter().map(|job| (job.offset(), job.delivery_count())).collect();
        assert_eq!(found, [(0, 2)], "{implicit}");
        let mut done = producer.begin().unwrap();
        for job in again {
            done.accept(job).unwrap();
        }
        done.commit().unwrap();
        assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
    }
}

#[test]
fn a_member_that_finds_a_full_window_wakes_when_there_is_room() {
    let world = World::new();
    let broker = world.open();
    let config = ShareGroupConfig::new().max_record_locks(2);
    let config = config.record_lock_duration(Duration::from_hours(1));
    broker.admin().alter_share_group("g", config).unwrap();
    jobs(&broker, 3);
    let (mut first, mut second) = (member(&broker, "g"), member(&broker, "g"));
    let held = first.poll(Duration::ZERO).unwrap();
    assert_eq!(held.len(), 2);
    let (tells, told) = std::sync::mpsc::channel();
    let handle = second.wakeup_handle();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            tells.send(Vec::new()).unwrap();
            tells.send(second.poll(LONG).map(offsets).unwrap_or_default()).unwrap();
        });
        told.recv_timeout(AT_ONCE).unwrap();
        held.accept_all().unwrap();
        let found = told.recv_timeout(AT_ONCE);
        handle.wakeup();
        assert_eq!(found, Ok(vec![(2, 1)]));
    });
}

#[test]
fn what_one_record_is_refused_does_not_keep_the_others() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 3);
    let mut first = member(&broker, "g");
    let taken = first.poll(Duration::ZERO).unwrap();
    broker.admin().finish_share_records("g", &tp("jobs", 0), 1..=1).unwrap();
    let refused = taken.accept_all();
    assert!(matches!(refused, Err(Error::InvalidRecordState { offset: 1, .. })), "{refused:?}");
    assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
}

/// Attempts that end together become dead letters in parts, each whole: with their contents, and once.
#[test]
fn many_dead_letters_are_written_in_parts() {
    for bytes in [10, 3_000, 40_000] {
        let world = World::new();
        let broker = world.open();
        let config = ShareGroupConfig::new().delivery_count_limit(1).dead_letter_topic("dead");
        broker.admin().alter_share_group("g", config).unwrap();
        broker.create_topic("jobs", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        let count = 300.min(6_000_000 / bytes / 10);
        for _ in 0..count {
            producer.send(Record::to("jobs").value(&vec![7; bytes])).unwrap();
        }
        let mut first = member(&broker, "g");
        assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()).len(), count);
        world.clock.advance(LOCK);
        assert!(first.poll(Duration::ZERO).unwrap().is_empty());
        assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0, "{bytes}");
        let mut undertaker = broker.share_consumer("undertaker").unwrap();
        undertaker.subscribe(["dead"]).unwrap();
        let letters: Vec<_> = undertaker.poll(Duration::ZERO).unwrap().collect();
        assert_eq!(letters.len(), count, "{bytes}");
        for (offset, letter) in letters.iter().enumerate() {
            let source = ("__dlq.errors.offset".to_owned(), offset.to_string());
            assert!(headers(letter).contains(&source));
            assert_eq!(letter.value().map(<[u8]>::len), Some(bytes), "{bytes}: {offset}");
        }
    }
}

#[test]
fn a_compacted_topic_keeps_every_dead_letter() {
    let world = World::new();
    let broker = world.open();
    let compacted = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact);
    broker.create_topic("dead", compacted).unwrap();
    let config = ShareGroupConfig::new().dead_letter_topic("dead");
    broker.admin().alter_share_group("g", config).unwrap();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    producer.send(Record::to("jobs").value("without a key")).unwrap();
    producer.send(Record::to("jobs").key("k").value("with one")).unwrap();
    let mut first = member(&broker, "g");
    for job in first.poll(Duration::ZERO).unwrap() {
        job.reject("bad").unwrap();
    }
    let mut undertaker = broker.share_consumer("undertaker").unwrap();
    undertaker.subscribe(["dead"]).unwrap();
    let keys: Vec<_> = undertaker
        .poll(Duration::ZERO)
        .unwrap()
        .map(|letter| String::from_utf8(letter.key().unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(keys, ["g@jobs-0-0", "g@jobs-0-1"]);
}

/// Records that are to be given up wait until their dead letters can be written. Others come again meanwhile.
#[test]
fn an_implicit_member_goes_on_after_its_topic_was_deleted() {
    let world = World::new();
    let broker = world.open();
    jobs(&broker, 1);
    broker.create_topic("others", TopicConfig::new()).unwrap();
    let config = ShareConsumerConfig::new().implicit_acknowledgement(true);
    let mut member = broker.share_consumer_with("g", config).unwrap();
    member.subscribe(["jobs", "others"]).unwrap();
    assert_eq!(member.poll(Duration::ZERO).unwrap().len(), 1);
    broker.delete_topic("jobs").unwrap();
    send(&broker, "others", ["x".to_owned()]);
    let gone = member.poll(Duration::ZERO);
    assert!(matches!(gone, Err(Error::UnknownTopic { .. })), "{gone:?}");
    assert_eq!(member.poll(Duration::ZERO).unwrap().len(), 1);
}

#[test]
fn a_segment_goes_when_a_share_group_has_finished_it() {
    let world = retention::world();
    let broker = world.open();
    broker.create_topic("t", retention::small().retention_consumed(["g"])).unwrap();
    retention::send(&broker, 20);
    broker.checkpoint().unwrap();
    let ends = retention::files(&world);
    let waits_for =
        |topic: &TopicDescription| topic.partitions[0].retention.clone().unwrap().waits_for;
    let waits = || waits_for(&broker.describe_topic("t").unwrap());
    let for_group =
        |committed| NotDeleted::Group { group: "g".to_owned(), committed, end_offset: ends[1] };
    assert_eq!(waits(), [for_group(None)]);
    let mut member = broker.share_consumer("g").unwrap();
    member.subscribe(["t"]).unwrap();
    let mut taken = member.poll(Duration::ZERO).unwrap();
    taken.next().unwrap().accept().unwrap();
    let held = taken.next().unwrap();
    taken.for_each(|record| record.accept().unwrap());
    broker.admin().run_retention().unwrap();
    assert_eq!(retention::start(&broker), 0, "a record of the first segment is under way");
    assert_eq!(waits(), [for_group(Some(1))]);
    let reader = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    assert_eq!(waits_for(&reader.describe_topic("t").unwrap()), [for_group(Some(1))]);
    held.accept().unwrap();
    broker.admin().run_retention().unwrap();
    assert_eq!(retention::start(&broker), 20);
}

#[test]
fn what_cannot_be_given_up_is_a_problem_until_it_can() {
    for end in ["it can", "the topic is deleted", "the group is deleted"] {
        what_cannot_be_given_up(end);
    }
}

fn what_cannot_be_given_up(end: &str) {
    let world = World::new();
    let storage = Faulty::new(world.storage.clone());
    let broker = Broker::open_storage(Arc::new(storage.clone()), world.config.clone()).unwrap();
    let config = ShareGroupConfig::new().delivery_count_limit(2).dead_letter_topic("dead");
    broker.admin().alter_share_group("g", config).unwrap();
    jobs(&broker, 2);
    let mut first = member(&broker, "g");
    let mut taken = first.poll(Duration::ZERO).unwrap();
    taken.next().unwrap().release().unwrap();
    std::mem::forget(taken);
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(0, 2)]);
    // The journal is full, and nothing makes room in it.
    for op in ["create", "resize", "preallocate"] {
        storage.order(op, "journal", Act::Fail(28));
    }
    storage.order("write", "checkpoint.", Act::Fail(5));
    broker.create_topic("filler", TopicConfig::new()).unwrap();
    let impatient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::ZERO);
    let filler = broker.producer_with(impatient).unwrap();
    while filler.send(Record::to("filler").value(&[0; 900])).is_ok() {}
    while filler.send(Record::to("filler").value("")).is_ok() {}
    world.clock.advance(LOCK);
    assert_eq!(offsets(first.poll(Duration::ZERO).unwrap()), [(1, 2)], "it comes again");
    let problems = broker.health();
    let shown = problems
        .problems()
        .iter()
        .any(|problem| matches!(problem, Problem::ShareGroup { group, .. } if group == "g"));
    assert!(shown, "{problems}");
    let lag = || broker.admin().describe_share_group("g").unwrap().lag();
    assert_eq!(lag(), 2);
    storage.heal();
    match end {
        "the topic is deleted" => broker.delete_topic("jobs").unwrap(),
        "the group is deleted" => {
            first.close().unwrap();
            broker.admin().delete_share_group("g").unwrap();
        }
        _ => {
            world.clock.advance(LOCK);
            assert!(first.poll(Duration::ZERO).unwrap().is_empty());
            assert_eq!(lag(), 0);
            assert_eq!(broker.describe_topic("dead").unwrap().partitions[0].end_offset, 2);
        }
    }
    let shown = broker.health();
    let shown = shown.problems().iter().any(|p| matches!(p, Problem::ShareGroup { .. }));
    assert!(!shown, "{end}");
}

/// No member can read a damaged batch. An operator finishes it, and the group goes on behind it.
#[test]
fn a_group_gets_past_damaged_bytes_by_hand() {
    let world = World::new();
    let broker = world.open();
    for _ in 0..3 {
        jobs(&broker, 2);
        broker.checkpoint().unwrap();
    }
    broker.close().unwrap();
    let path = Path::new("jobs-0/00000000000000000000.log");
    let file = world.storage.open(path, OpenMode::Write).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let second = 12 + i32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    file.write_at(&[bytes[second + 70] ^ 1], second as u64 + 70).unwrap();
    let broker = world.open();
    let mut first = member(&broker, "g");
    let front = first.poll(Duration::ZERO).unwrap();
    assert_eq!(front.len(), 2);
    front.accept_all().unwrap();
    for _ in 0..2 {
        let failed = first.poll(Duration::ZERO).unwrap_err();
        assert!(failed.is_corruption(), "{failed}");
    }
    broker.admin().finish_share_records("g", &tp("jobs", 0), 2..=3).unwrap();
    let rest = first.poll(Duration::ZERO).unwrap();
    assert_eq!(rest.len(), 2);
    rest.accept_all().unwrap();
    assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
    drop(first);
    for crash in [Crash::Kill, Crash::LoseAll] {
        let left = world.storage.crash(crash, &SeededRandom::new(1));
        let broker = World { storage: left, ..world.again() }.open();
        assert_eq!(broker.admin().describe_share_group("g").unwrap().lag(), 0);
        jobs(&broker, 1);
        assert_eq!(offsets(member(&broker, "g").poll(Duration::ZERO).unwrap()), [(6, 1)]);
    }
}

/// A letter says why the last attempts failed, if a handler has said it.
#[test]
fn a_dead_letter_has_the_reason_of_its_last_failure() {
    let world = World::new();
    let broker = world.open();
    let config = ShareGroupConfig::new().delivery_count_limit(2).dead_letter_topic("dead");
    broker.admin().alter_share_group("g", config).unwrap();
    jobs(&broker, 3);
    let one = ShareConsumerConfig::new().max_poll_records(1);
    let mut first = broker.share_consumer_with("g", one).unwrap();
    first.subscribe(["jobs"]).unwrap();
    for _ in 0..5 {
        let record = first.poll(Duration::ZERO).unwrap().next().unwrap();
        match (record.offset(), record.delivery_count()) {
            (0, count) => record.release_because(format!("HTTP {}", 500 + count)).unwrap(),
            (1, 1) => record.release_because("disk full").unwrap(),
            (1, _) => record.release().unwrap(),
            _ => record.reject("x".repeat(2 << 20)).unwrap(),
        }
    }
    let said: BTreeMap<_, _> = all(&broker, "dead")
        .into_iter()
        .map(|letter| {
            let find = |wanted: &str| {
                let found = letter.headers.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap())
            };
            (
                find("__dlq.errors.offset").unwrap(),
                (find("__dlq.errors.message"), find("__dlq.reason")),
            )
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    let limit = || text("delivery count exceeded");
    assert_eq!(said["0"], (limit(), text("HTTP 502")));
    assert_eq!(said["1"], (limit(), text("disk full")));
    assert_eq!(said["2"], (text(&"x".repeat(4096)), None));
}

/// Each record of a key may be something to note, and the space for that is reserved before.
#[test]
fn a_small_journal_takes_what_a_large_fetch_notes() {
    for late in [false, true] {
        let mut world = World::new();
        world.config = world.config.journal_max_bytes(256 << 10);
        let broker = world.open();
        let config = ShareGroupConfig::new().ordered_by_key(!late).max_record_locks(100_000);
        broker.admin().alter_share_group("g", config).unwrap();
        broker.create_topic("jobs", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        for n in 0..5000 {
            let key = n.to_string();
            let record = Record::to("jobs").key(&key).value("");
            let wait = Duration::from_secs(n % 2);
            producer.send(if late { record.deliver_after(wait) } else { record }).unwrap();
        }
        let all = ShareConsumerConfig::new().max_poll_records(u32::MAX);
        let mut member = broker.share_consumer_with("g", all).unwrap();
        member.subscribe(["jobs"]).unwrap();
        world.clock.advance(Duration::from_millis(500));
        let mut found = 0;
        for _ in 0..2 {
            while let records = member.poll(Duration::ZERO).unwrap()
                && !records.is_empty()
            {
                found += records.len();
                records.accept_all().unwrap();
            }
            world.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(found, 5000);
    }
}
