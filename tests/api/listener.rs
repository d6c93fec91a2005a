//! The calls that a rebalance listener gets, when it gets them, and what it may do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::time::ManualClock;
use grouplog::{
    Broker, Consumer, ConsumerConfig, Error, Rebalance, RebalanceListener, Record, TopicConfig,
    TopicPartition,
};

use crate::world::{World, committed_offset, drain, owned, refused, tp, values};

/// The calls in order: the member's name, `+`, `-` or `!` (lost), the partition numbers.
type Log = Arc<Mutex<Vec<String>>>;

/// What a listener does besides recording its calls.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Nothing,
    /// Commits the positions of revoked partitions.
    Commit,
    /// Seeks assigned partitions to offset 3.
    Seek,
    Fail,
    Panic,
}

struct Scribe {
    name: &'static str,
    log: Log,
    act: Act,
}

impl Scribe {
    fn write(&self, sign: char, partitions: &[TopicPartition]) {
        let numbers: Vec<String> = partitions.iter().map(|p| p.partition().to_string()).collect();
        self.log.lock().unwrap().push(format!("{}{sign}{}", self.name, numbers.join(",")));
    }
}

impl RebalanceListener for Scribe {
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        self.write('+', partitions);
        for partition in partitions {
            assert!(consumer.assignment().contains(partition));
            if self.act == Act::Seek {
                consumer.seek(partition, 3)?;
            }
        }
        Ok(())
    }

    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        self.write('-', partitions);
        match self.act {
            Act::Commit => consumer.commit(),
            Act::Fail => Err(Error::Misuse("as planned")),
            Act::Panic => panic!("as planned"),
            Act::Nothing | Act::Seek => Ok(()),
        }
    }

    fn on_partitions_lost(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        self.write('!', partitions);
        match consumer.commit() {
            Err(Error::Fenced { .. }) => Ok(()),
            other => panic!("{other:?}"),
        }
    }
}

fn member(
    broker: &Broker,
    name: &'static str,
    log: &Log,
    act: Act,
    config: ConsumerConfig,
) -> Consumer {
    let mut member = broker.consumer_with(config.group("g").client_id(name)).unwrap();
    member.set_rebalance_listener(Scribe { name, log: Arc::clone(log), act });
    member.subscribe(["t"]).unwrap();
    member
}

fn by_hand() -> ConsumerConfig {
    ConsumerConfig::new().enable_auto_commit(false)
}

/// Creates topic `t` of two partitions, each with records `<partition>.0` to `<partition>.4`.
fn two_partitions(world: &World) -> Broker {
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer().unwrap();
    for n in 0..5 {
        for partition in 0..2 {
            let value = format!("{partition}.{n}");
            producer.send(Record::to("t").partition(partition).value(&value)).unwrap();
        }
    }
    broker
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

#[test]
fn a_hand_over_is_revoked_by_the_old_owner_before_it_is_assigned_to_the_new_one() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let mut a = member(&broker, "a", &log, Act::Nothing, by_hand());
    assert!(taken(&log).is_empty(), "subscribing tells nothing yet");
    drain(&mut a);
    assert_eq!(taken(&log), ["a+0,1"]);
    let mut b = member(&broker, "b", &log, Act::Nothing, by_hand());
    b.poll(Duration::ZERO).unwrap();
    assert!(taken(&log).is_empty(), "nothing is free");
    a.poll(Duration::ZERO).unwrap();
    b.poll(Duration::ZERO).unwrap();
    assert_eq!(taken(&log), ["a-1", "b+1"]);
    a.poll(Duration::ZERO).unwrap();
    assert!(taken(&log).is_empty(), "what did not move is not told");
    a.unsubscribe().unwrap();
    b.poll(Duration::ZERO).unwrap();
    assert_eq!(taken(&log), ["a-0", "b+0"]);
    b.close().unwrap();
    assert_eq!(taken(&log), ["b-0,1"]);
    let c = member(&broker, "c", &log, Act::Nothing, by_hand());
    drop(c);
    assert!(taken(&log).is_empty());
}

#[test]
fn what_is_committed_when_a_partition_is_revoked_is_where_the_next_owner_begins() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let mut a = member(&broker, "a", &log, Act::Commit, by_hand().max_poll_records(7));
    let mut seen = values(&owned(&a.poll(Duration::ZERO).unwrap()));
    assert_eq!(seen.len(), 7);
    let mut b = member(&broker, "b", &log, Act::Commit, by_hand());
    // The rebalance, and then all remaining records.
    for _ in 0..3 {
        for member in [&mut a, &mut b] {
            seen.extend(values(&owned(&member.poll(Duration::ZERO).unwrap())));
        }
    }
    seen.sort();
    let all: Vec<_> = (0..2).flat_map(|p| (0..5).map(move |n| format!("{p}.{n}"))).collect();
    assert_eq!(seen, all, "each exactly once");
    assert_eq!(taken(&log).last().map(String::as_str), Some("b+1"));
}

#[test]
fn a_listener_may_seek_what_it_gets() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let mut a = member(&broker, "a", &log, Act::Seek, by_hand());
    assert_eq!(values(&drain(&mut a)), ["0.3", "0.4", "1.3", "1.4"]);
}

#[test]
fn an_evicted_member_loses_its_partitions_and_cannot_commit_them() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let config = by_hand().max_poll_interval(Duration::from_secs(10));
    let mut silent = member(&broker, "a", &log, Act::Nothing, config.clone());
    assert_eq!(drain(&mut silent).len(), 10);
    world.clock.advance(Duration::from_secs(11));
    let mut b = member(&broker, "b", &log, Act::Nothing, config);
    assert_eq!(drain(&mut b).len(), 10);
    assert_eq!(taken(&log), ["a+0,1", "b+0,1"]);
    silent.poll(Duration::ZERO).unwrap();
    assert_eq!(taken(&log), ["a!0,1"]);
    b.poll(Duration::ZERO).unwrap();
    silent.poll(Duration::ZERO).unwrap();
    assert_eq!(taken(&log), ["b-0", "a+0"]);
    assert_eq!(committed_offset(&b, &tp("t", 0)), None);

    // Evicted and gone: lost as well, at the end.
    world.clock.advance(Duration::from_secs(11));
    b.poll(Duration::ZERO).unwrap();
    assert_eq!(taken(&log), ["b!1", "b+0,1"]);
    silent.unsubscribe().unwrap();
    assert_eq!(taken(&log), ["a!0"]);
}

/// As in Kafka: a listener without its own method for lost partitions gets them as revoked.
#[test]
fn lost_is_revoked_unless_it_is_written() {
    struct Revoked(Log);
    impl RebalanceListener for Revoked {
        fn on_partitions_revoked(
            &mut self,
            partitions: &[TopicPartition],
            consumer: &mut Rebalance<'_>,
        ) -> grouplog::Result<()> {
            self.0.lock().unwrap().push(format!("{partitions:?}"));
            consumer.commit()
        }
    }
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let interval = Duration::from_secs(10);
    let config = by_hand().group("g").max_poll_interval(interval);
    let mut silent = broker.consumer_with(config.clone()).unwrap();
    silent.set_rebalance_listener(Revoked(Arc::clone(&log)));
    silent.subscribe(["t"]).unwrap();
    drain(&mut silent);
    world.clock.advance(interval);
    let mut other = broker.consumer_with(config).unwrap();
    other.subscribe(["t"]).unwrap();
    drain(&mut other);
    // Its commit is refused, and `poll` returns that error; the member has joined again.
    assert!(matches!(refused(silent.poll(Duration::ZERO)), Error::Fenced { .. }));
    assert_eq!(taken(&log), ["[t-0, t-1]"]);
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 2);
    silent.poll(Duration::ZERO).unwrap();
}

#[test]
fn an_error_of_a_listener_comes_out_of_poll_and_the_hand_over_is_done() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let mut a = member(&broker, "a", &log, Act::Fail, by_hand());
    drain(&mut a);
    let mut b = member(&broker, "b", &log, Act::Nothing, by_hand());
    assert!(matches!(refused(a.poll(Duration::ZERO)), Error::Misuse("as planned")));
    assert_eq!(drain(&mut b).len(), 5);
    assert_eq!((a.assignment().len(), b.assignment().len()), (1, 1));
    a.poll(Duration::ZERO).unwrap();
    assert!(matches!(refused(a.close()), Error::Misuse("as planned")));
    b.poll(Duration::ZERO).unwrap();
    assert_eq!(b.assignment().len(), 2);
}

#[test]
fn a_panic_of_a_listener_poisons_its_consumer_alone() {
    let world = World::new();
    let broker = two_partitions(&world);
    let log = Log::default();
    let mut a = member(&broker, "a", &log, Act::Panic, ConsumerConfig::new());
    assert_eq!(drain(&mut a).len(), 10);
    let mut b = member(&broker, "b", &log, Act::Nothing, by_hand());
    b.poll(Duration::ZERO).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| a.poll(Duration::ZERO))).is_err());
    for error in [
        refused(a.poll(Duration::ZERO)),
        refused(a.commit()),
        refused(a.subscribe(["t"])),
        refused(a.assign([tp("t", 0)])),
        refused(a.close()),
    ] {
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    }
    // Offsets that auto-commit committed before the call stay. The partitions are b's.
    assert!(drain(&mut b).is_empty());
    assert_eq!(b.assignment().len(), 2);
    assert_eq!(committed_offset(&b, &tp("t", 0)), Some(5));
    assert_eq!(broker.describe_group("g").unwrap().members.len(), 1);
}

#[test]
fn time_in_a_listener_is_silence() {
    struct Slow(Broker, Arc<ManualClock>);
    impl RebalanceListener for Slow {
        fn on_partitions_revoked(
            &mut self,
            _: &[TopicPartition],
            consumer: &mut Rebalance<'_>,
        ) -> grouplog::Result<()> {
            self.1.advance(Duration::from_secs(11));
            // The other member notices, as it would in its own thread.
            assert_eq!(self.0.describe_group("g").unwrap().members.len(), 1);
            assert!(matches!(consumer.commit(), Err(Error::Fenced { .. })));
            Ok(())
        }
    }
    let world = World::new();
    let broker = two_partitions(&world);
    let config = by_hand().group("g").max_poll_interval(Duration::from_secs(10));
    let mut slow = broker.consumer_with(config).unwrap();
    slow.set_rebalance_listener(Slow(broker.clone(), Arc::clone(&world.clock)));
    slow.subscribe(["t"]).unwrap();
    assert_eq!(drain(&mut slow).len(), 10);
    let mut other = broker.consumer_with(by_hand().group("g")).unwrap();
    other.subscribe(["t"]).unwrap();
    let again = slow.poll(Duration::ZERO).unwrap().len();
    assert_eq!(again + drain(&mut other).len(), 10, "read again: nothing was committed");
}

/// The engine holds no lock while a listener runs, so it may do what the program may.
#[test]
fn a_listener_may_use_the_whole_engine_but_for_its_own_consumer() {
    struct Busy(Broker, Consumer);
    impl Busy {
        fn work(&mut self) -> grouplog::Result<()> {
            let Self(broker, other) = self;
            let name = format!("topic-{}", broker.list_topics().len());
            broker.create_topic(&name, TopicConfig::new())?;
            broker.producer()?.send(Record::to(&name).value("v"))?.wait()?;
            broker.producer()?.send(Record::to("t").partition(0).value("v"))?;
            broker.describe_group("g")?;
            broker.checkpoint()?;
            // Another member of the same group joins, polls, commits and leaves.
            other.subscribe(["t"])?;
            other.poll(Duration::ZERO)?;
            other.commit()?;
            other.unsubscribe()
        }
    }
    impl RebalanceListener for Busy {
        fn on_partitions_assigned(
            &mut self,
            _: &[TopicPartition],
            _: &mut Rebalance<'_>,
        ) -> grouplog::Result<()> {
            self.work()
        }

        fn on_partitions_revoked(
            &mut self,
            _: &[TopicPartition],
            consumer: &mut Rebalance<'_>,
        ) -> grouplog::Result<()> {
            self.work()?;
            consumer.commit()
        }
    }
    let world = World::new();
    let broker = two_partitions(&world);
    let other = broker.consumer_with(by_hand().group("g")).unwrap();
    let mut a = broker.consumer_with(by_hand().group("g")).unwrap();
    a.set_rebalance_listener(Busy(broker.clone(), other));
    a.subscribe(["t"]).unwrap();
    let seen = drain(&mut a).len();
    assert!(seen >= 11, "{seen}");
    let mut b = member(&broker, "b", &Log::default(), Act::Nothing, by_hand());
    drain(&mut a);
    drain(&mut b);
    assert_eq!((a.assignment().len(), b.assignment().len()), (1, 1));
    a.close().unwrap();
    assert!(broker.list_topics().len() >= 3);
}

#[test]
fn a_panic_in_any_call_of_a_listener_poisons() {
    struct OnAssigned;
    impl RebalanceListener for OnAssigned {
        fn on_partitions_assigned(
            &mut self,
            _: &[TopicPartition],
            _: &mut Rebalance<'_>,
        ) -> grouplog::Result<()> {
            panic!("as planned")
        }
    }
    let world = World::new();
    let broker = two_partitions(&world);
    let interval = Duration::from_secs(10);
    let mut on_assigned = broker.consumer("g").unwrap();
    on_assigned.set_rebalance_listener(OnAssigned);
    on_assigned.subscribe(["t"]).unwrap();
    // A lost call becomes a revoked call.
    let mut on_lost =
        broker.consumer_with(by_hand().group("h").max_poll_interval(interval)).unwrap();
    on_lost.set_rebalance_listener(Revoking);
    on_lost.subscribe(["t"]).unwrap();
    drain(&mut on_lost);
    world.clock.advance(interval);
    for (group, consumer) in [("g", &mut on_assigned), ("h", &mut on_lost)] {
        assert!(catch_unwind(AssertUnwindSafe(|| consumer.poll(Duration::ZERO))).is_err());
        assert!(matches!(refused(consumer.poll(Duration::ZERO)), Error::Poisoned { .. }));
        assert!(consumer.assignment().is_empty());
        assert!(!broker.list_groups().contains(&group.to_owned()), "it is a member no more");
    }
}

struct Revoking;

impl RebalanceListener for Revoking {
    fn on_partitions_revoked(
        &mut self,
        _: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        panic!("as planned")
    }
}
