//! Model checks of a transaction's commit beside the loss of the partitions whose offsets it commits. They run
//! the engine itself, through its handles, on a storage in memory whose calls are atomic.
//!
//! Replaced are the files, the clock, which only the model moves, and the threads of the engine, of which there are
//! none. The lock of the registry and others that are held for one access alone are plain ones: no other thread comes
//! between there. So is the lock of the ids, which these transactions do not have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::broker::Broker;
use crate::config::{BrokerConfig, ConsumerConfig, TopicConfig};
use crate::consumer::Consumer;
use crate::error::{Error, Result};
use crate::producer::{Producer, Record};
use crate::storage::Memory;
use crate::sync::{check, spawn};
use crate::time::ManualClock;
use crate::types::{Timestamp, TopicPartition};

/// Longer than a member may be silent.
const SILENCE: Duration = Duration::from_mins(6);
/// The partitions of `in`, each with one record, its number.
const PARTITIONS: u32 = 2;

/// Commits a transaction.
type Commit = Box<dyn FnOnce() -> Result<()> + Send>;

/// A group with two members in an open folder.
struct World {
    clock: Arc<ManualClock>,
    broker: Broker,
    producer: Producer,
    /// Holds all partitions, and has polled their records.
    old: Option<Consumer>,
    /// Has joined, and waits for partitions.
    new: Consumer,
}

impl World {
    /// Also returns the commit of a transaction that passes on the records of the old member. With `instance`, that
    /// one is a static member.
    fn new(instance: Option<&str>) -> (Self, Commit) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1)));
        let config = BrokerConfig::new()
            .clock(Arc::clone(&clock) as _)
            .journal_file_bytes(64 << 10)
            .journal_max_bytes(1 << 20)
            .background(false);
        let broker = Broker::open_storage(Arc::new(Memory::new()), config).unwrap();
        broker.create_topic("in", TopicConfig::new().partitions(PARTITIONS)).unwrap();
        broker.create_topic("out", TopicConfig::new()).unwrap();
        let producer = broker.producer().unwrap();
        for number in 0..PARTITIONS {
            producer.send(Record::to("in").partition(number).value(&number.to_string())).unwrap();
        }
        let mut old = member(&broker, instance);
        let commit = pass_on(&producer, &mut old).expect("the only member gets all");
        let new = member(&broker, None);
        (Self { clock, broker, producer, old: Some(old), new }, commit)
    }

    /// Returns for how many records the group has committed an offset.
    fn committed(&self) -> usize {
        let covered = |number: &u32| {
            let committed = self.new.committed(&TopicPartition::new("in", *number)).unwrap();
            committed.is_some_and(|committed| committed.offset() > 0)
        };
        (0..PARTITIONS).filter(covered).count()
    }

    /// Returns how many records `out` has.
    fn passed(&self) -> usize {
        self.broker.describe_topic("out").unwrap().partitions[0].end_offset as usize
    }

    /// Lets the new member pass on what it reads, and checks that what is committed by now is in `out`.
    fn go_on(&mut self) {
        let commit = pass_on(&self.producer, &mut self.new);
        // After the poll, because a look at the end may wait for a commit, and no commit would come between then.
        let committed = self.committed();
        assert!(self.passed() >= committed, "an offset without its records");
        if let Some(commit) = commit {
            commit().unwrap();
        }
    }

    /// Lets the old member poll, which gives up what it is to give up, and pass on what it reads.
    fn go_on_with_old(&mut self) {
        if let Some(old) = &mut self.old
            && let Some(commit) = pass_on(&self.producer, old)
        {
            commit().unwrap();
        }
    }

    /// Checks that `out` has each record once.
    fn verify(&self) {
        let mut reader = self.broker.consumer_with(ConsumerConfig::new()).unwrap();
        reader.assign([TopicPartition::new("out", 0)]).unwrap();
        let records = reader.poll(Duration::ZERO).unwrap();
        let values = records.iter().map(|record| record.value().unwrap().to_vec());
        let mut values: Vec<_> = values.collect();
        values.sort();
        assert_eq!(values, [b"0", b"1"], "the offsets do not cover the records");
        assert_eq!(self.committed(), PARTITIONS as usize);
    }
}

fn member(broker: &Broker, instance: Option<&str>) -> Consumer {
    let mut config = ConsumerConfig::new().group("g").enable_auto_commit(false);
    if let Some(instance) = instance {
        config = config.group_instance_id(instance);
    }
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.subscribe(["in"]).unwrap();
    consumer
}

/// Creates a transaction that passes on what a poll returns, if that is anything.
fn pass_on(producer: &Producer, consumer: &mut Consumer) -> Option<Commit> {
    let records = consumer.poll(Duration::ZERO).unwrap();
    if records.is_empty() {
        return None;
    }
    let mut transaction = producer.begin().unwrap();
    for record in &records {
        transaction.send(Record::to("out").value(record.value().unwrap())).unwrap();
    }
    transaction.commit_offsets(consumer).unwrap();
    Some(Box::new(|| transaction.commit().map(drop)))
}

/// F1 to F4: `lose` takes partitions from the old member while its transaction is committed. The transaction comes
/// whole before the new member begins, or is refused whole. Both must occur.
fn a_commit_beside(
    instance: Option<&'static str>,
    lose: impl Fn(&mut World) + Send + Sync + 'static,
) {
    let seen: Arc<[AtomicBool; 2]> = Arc::default();
    let note = Arc::clone(&seen);
    check(move || {
        let (mut world, commit) = World::new(instance);
        let committing = spawn(move || match commit() {
            Ok(()) => true,
            Err(Error::Fenced { .. } | Error::FencedInstanceId { .. }) => false,
            Err(other) => panic!("{other:?}"),
        });
        lose(&mut world);
        world.go_on();
        let committed = committing.join().unwrap();
        note[usize::from(committed)].store(true, Ordering::Relaxed);
        // What a refused transaction held comes back.
        world.go_on_with_old();
        world.go_on();
        world.verify();
    });
    assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed)), "not both occurred: {seen:?}");
}

/// The member is silent unless its commit has to wait, so it may be evicted at any moment outside the group's lock.
#[test]
fn a_commit_beside_an_eviction_is_whole_or_refused() {
    a_commit_beside(None, |world| world.clock.advance(SILENCE));
}

#[test]
fn a_commit_beside_a_leaving_is_whole_or_refused() {
    a_commit_beside(None, |world| world.old = None);
}

#[test]
fn a_commit_beside_a_handing_over_is_whole_or_refused() {
    a_commit_beside(None, World::go_on_with_old);
}

#[test]
fn a_commit_beside_a_replacement_is_whole_or_refused() {
    a_commit_beside(Some("worker"), |world| {
        world.new = member(&world.broker, Some("worker"));
        world.old = None;
    });
}
