//! `read.durability`: a consumer that reads `Synced` returns nothing that power loss can take back.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{Random, SeededRandom};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Error, OffsetReset, Producer, ProducerConfig, Record,
    TopicConfig,
};

use crate::faulty::{Act, Faulty};
use crate::world::{LONG, Owned, World, all, drain, owned, reader, refused, tp, values};

const EIO: i32 = 5;

fn sender(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

fn synced() -> ConsumerConfig {
    ConsumerConfig::new().read_durability(Acks::Synced)
}

fn assigned(broker: &Broker, config: ConsumerConfig, partitions: u32) -> Consumer {
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign((0..partitions).map(|partition| tp("t", partition))).unwrap();
    consumer
}

/// One life of a program that reads both ways beside a writer, until power fails.
struct Life<'a> {
    random: &'a SeededRandom,
    broker: Broker,
    producer: Producer,
    synced: Consumer,
    written: Consumer,
}

impl Life<'_> {
    fn below(&self, end: u64) -> usize {
        (self.random.next_u64() % end) as usize
    }

    /// Does something at random. Adds what was read to `durable` and to `seen`.
    fn step(&mut self, durable: &mut Vec<Owned>, seen: &mut Vec<Owned>) {
        match self.below(8) {
            0..4 => {
                let records: Vec<_> = (0..=self.below(20))
                    .map(|_| vec![b'a' + self.below(26) as u8; [20, 300, 9_000][self.below(3)]])
                    .collect();
                let partition = self.below(2) as u32;
                let to = |value| Record::to("t").partition(partition).value(value);
                self.producer.send_all(records.iter().map(to)).unwrap();
            }
            4 => self.broker.checkpoint().unwrap(),
            5 => seen.extend(owned(&self.written.poll(Duration::ZERO).unwrap())),
            _ => durable.extend(owned(&self.synced.poll(Duration::ZERO).unwrap())),
        }
    }
}

#[test]
fn power_loss_takes_nothing_that_was_returned() {
    let (mut returned, mut taken) = (0, 0);
    for seed in 0..150 {
        let random = SeededRandom::new(seed);
        let mut world = World::on(Memory::crash_simulating(seed)).batch_size(2048);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().partitions(2).segment_bytes(40_000)).unwrap();
        drop(broker);
        let (mut durable, mut positions) = (Vec::<Owned>::new(), [0, 0]);
        for _ in 0..3 {
            let broker = world.open();
            let now = all(&broker, "t");
            let lost = |read: &&Owned| !now.contains(read);
            assert_eq!(durable.iter().find(lost), None, "seed {seed}");
            let most = 1 + (random.next_u64() % 9) as usize;
            let mut life = Life {
                random: &random,
                producer: sender(&broker),
                synced: assigned(&broker, synced().max_poll_records(most), 2),
                written: reader(&broker, "t", 2),
                broker,
            };
            for (partition, position) in positions.iter().enumerate() {
                life.synced.seek(&tp("t", partition as u32), *position).unwrap();
            }
            let mut seen = Vec::new();
            for _ in 0..60 {
                life.step(&mut durable, &mut seen);
            }
            positions =
                [0, 1].map(|partition| life.synced.position(&tp("t", partition)).unwrap().offset());
            let unit = if life.below(2) == 0 { 512 } else { 4096 };
            let crash = [Crash::LoseAll, Crash::Subset { unit }, Crash::TornUnit][life.below(3)];
            world = World { storage: world.storage.crash(crash, &random), ..world.again() };
            drop(life);
            let left = all(&world.open(), "t");
            taken += seen.iter().filter(|read| !left.contains(read)).count();
        }
        // What is returned is returned once, in order.
        for partition in [0, 1] {
            let offsets = durable.iter().filter(|read| read.partition == partition);
            let offsets: Vec<i64> = offsets.map(|read| read.offset).collect();
            assert!(
                offsets.iter().copied().eq(0..offsets.len() as i64),
                "seed {seed}: {offsets:?}"
            );
        }
        returned += durable.len();
    }
    // The test can fail: those who do not ask for it are returned records that power loss takes.
    assert!(returned > 1_000 && taken > 100, "{returned} {taken}");
}

/// The sync of a reader that waits for it stops at a barrier until the test lets it go on.
#[test]
fn records_come_when_their_sync_has_ended() {
    let mut world = World::new();
    world.config = world.config.background(true);
    let storage = Faulty::new(world.storage.clone());
    let broker = Broker::open_storage(Arc::new(storage.clone()), world.config).unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let producer = sender(&broker);
    let (mut waiting, mut other) = (assigned(&broker, synced(), 1), assigned(&broker, synced(), 1));
    producer.send(Record::to("t").value("1")).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    // The file in use. A thread prepares the next ones.
    storage.order("sync", "1.journal", Act::Meet(Arc::clone(&barrier)));
    std::thread::scope(|scope| {
        let read = scope.spawn(|| values(&owned(&waiting.poll(LONG).unwrap())));
        barrier.wait();
        // The sync has begun. What is sent now is in the next one.
        producer.send(Record::to("t").value("2")).unwrap();
        assert!(other.poll(Duration::ZERO).unwrap().is_empty());
        // The clock stands still, and the poll ends nevertheless.
        assert!(other.poll(Duration::from_millis(50)).unwrap().is_empty());
        assert_eq!(other.position(&tp("t", 0)).unwrap().offset(), 0);
        // A reader that does not ask for it sees them.
        assert_eq!(values(&all(&broker, "t")), ["1", "2"]);
        assert_eq!(other.lag(&tp("t", 0)).unwrap(), 2);
        storage.heal();
        barrier.wait();
        assert_eq!(read.join().unwrap(), ["1"]);
    });
    assert_eq!(values(&owned(&waiting.poll(LONG).unwrap())), ["2"]);
    let mut read = Vec::new();
    while read.len() < 2 {
        read.extend(owned(&other.poll(LONG).unwrap()));
    }
    assert_eq!(values(&read), ["1", "2"]);
    broker.close().unwrap();
}

#[test]
fn a_failed_sync_is_reported_after_what_was_synced() {
    for background in [true, false] {
        let mut world = World::new();
        world.config = world.config.background(background);
        let storage = Faulty::new(world.storage.clone());
        let broker = Broker::open_storage(Arc::new(storage.clone()), world.config).unwrap();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let producer = sender(&broker);
        for number in 0..5 {
            producer.send(Record::to("t").value(&number.to_string())).unwrap();
        }
        producer.flush().unwrap();
        let mut consumer = assigned(&broker, synced().max_poll_records(2), 1);
        assert_eq!(consumer.poll(LONG).unwrap().len(), 2);
        storage.order("sync", "journal", Act::Fail(EIO));
        producer.send(Record::to("t").value("5")).unwrap();
        assert_eq!(consumer.poll(LONG).unwrap().len(), 2);
        assert_eq!(consumer.poll(LONG).unwrap().len(), 1);
        for timeout in [LONG, Duration::ZERO, LONG] {
            let error = refused(consumer.poll(timeout).map(|records| records.len()));
            assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        }
        assert_eq!(consumer.position(&tp("t", 0)).unwrap().offset(), 5);
        assert_eq!(drain(&mut reader(&broker, "t", 1)).len(), 6);
    }
}

/// A member of a group gets its records, also those before which it begins.
#[test]
fn members_read_what_comes_after_the_end_where_they_begin() {
    for background in [true, false] {
        let mut world = World::new();
        world.config = world.config.background(background);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().partitions(3)).unwrap();
        let producer = sender(&broker);
        producer.send(Record::to("t").partition(1).value("before")).unwrap();
        let config = synced().group("g").auto_offset_reset(OffsetReset::Latest);
        let mut member = broker.consumer_with(config).unwrap();
        member.subscribe(["t"]).unwrap();
        assert!(member.poll(Duration::ZERO).unwrap().is_empty());
        for partition in 0..3 {
            let value = format!("after {partition}");
            producer.send(Record::to("t").partition(partition).value(&value)).unwrap();
        }
        let mut read = Vec::new();
        while read.len() < 3 {
            read.extend(owned(&member.poll(LONG).unwrap()));
        }
        read.sort_by_key(|record| record.partition);
        assert_eq!(values(&read), ["after 0", "after 1", "after 2"]);
        assert_eq!(member.lag(&tp("t", 1)).unwrap(), 0);
    }
}

/// What recovery has found may be in the cache of the system alone.
#[test]
fn records_of_a_killed_process_are_made_durable_first() {
    for background in [true, false] {
        let world = World::on(Memory::crash_simulating(3));
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        sender(&broker).send(Record::to("t").value("1")).unwrap();
        let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        let mut world = World { storage: killed, ..world.again() };
        world.config = world.config.background(background);
        let broker = world.open();
        let mut consumer = assigned(&broker, synced(), 1);
        assert_eq!(values(&owned(&consumer.poll(LONG).unwrap())), ["1"]);
        let left = world.storage.crash(Crash::LoseAll, &SeededRandom::new(2));
        let world = World { storage: left, ..world.again() };
        assert_eq!(values(&all(&world.open(), "t")), ["1"]);
    }
}

/// On a full disk, recovery cannot make durable what it has found. Nothing of it is returned before there is space.
#[test]
fn a_full_disk_holds_back_what_recovery_has_found() {
    for background in [true, false] {
        let world = World::on(Memory::crash_simulating(3)).batch_size(1024);
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let producer = sender(&broker);
        producer.send(Record::to("t").value("1")).unwrap();
        broker.checkpoint().unwrap();
        for value in ["2", "3"] {
            producer.send(Record::to("t").value(value)).unwrap();
        }
        let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        killed.set_capacity(0);
        let mut world = World { storage: killed, ..world.again() };
        world.config = world.config.background(background);
        let broker = world.open();
        let after_loss = || {
            let left = world.storage.crash(Crash::LoseAll, &SeededRandom::new(2));
            left.set_capacity(u64::MAX);
            values(&all(&World { storage: left, ..world.again() }.open(), "t"))
        };
        let mut consumer = assigned(&broker, synced(), 1);
        for timeout in [Duration::ZERO, Duration::from_millis(50), Duration::ZERO] {
            match consumer.poll(timeout) {
                Ok(records) => assert!(background && records.is_empty(), "{records:?}"),
                Err(error) => assert!(matches!(error, Error::DiskFull { .. }), "{error:?}"),
            }
        }
        assert_eq!(values(&all(&broker, "t")), ["1", "2", "3"]);
        assert_eq!(after_loss(), ["1"]);
        assert_eq!(consumer.position(&tp("t", 0)).unwrap().offset(), 0);
        world.storage.set_capacity(u64::MAX);
        let mut read = Vec::new();
        while read.len() < 3 {
            read.extend(owned(&consumer.poll(LONG).unwrap()));
        }
        assert_eq!(values(&read), ["1", "2", "3"]);
        assert_eq!(after_loss(), ["1", "2", "3"]);
    }
}

#[test]
fn only_the_writer_of_a_folder_knows_what_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open(&path).unwrap();
    let beside = Broker::open_read_only(&path).unwrap();
    let error = refused(beside.consumer_with(synced()).map(drop));
    assert!(matches!(error, Error::Misuse(what) if what.contains("synced")), "{error:?}");
    broker.close().unwrap();
}
