//! Readers that refresh from where their last look ended: when they can, and that they show what a complete
//! look shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, Consumer, Error, Producer, ProducerConfig, ReadOnlyBroker, Record,
    TopicConfig,
};
use proptest::prelude::*;

use crate::faulty::{Act, Faulty};
use crate::world::tp;

/// A folder in memory, and its writer.
struct World {
    memory: Memory,
    broker: Broker,
    producer: Producer,
}

impl World {
    fn new() -> Self {
        let world = Self::open(Memory::new());
        for topic in ["a", "b"] {
            world.broker.create_topic(topic, TopicConfig::new().partitions(2)).unwrap();
        }
        // From now on there is an offset file.
        world.commit("first", 0);
        world.broker.checkpoint().unwrap();
        world
    }

    fn open(memory: Memory) -> Self {
        let config = BrokerConfig::new()
            .background(false)
            .journal_file_bytes(64 << 10)
            .journal_max_bytes(512 << 10)
            .batch_size(1024)
            .stored_append_bytes(500);
        let broker = Broker::open_storage(Arc::new(memory.clone()), config).unwrap();
        let acks = ProducerConfig::new().acks(Acks::Written).max_block(Duration::ZERO);
        let producer = broker.producer_with(acks).unwrap();
        Self { memory, broker, producer }
    }

    fn send(&self, topic: &str, partition: u32, bytes: usize) {
        let value = vec![7; bytes];
        self.producer.send(Record::to(topic).partition(partition).value(&value)).unwrap();
    }

    fn commit(&self, group: &str, offset: i64) {
        let mut member = self.broker.consumer(group).unwrap();
        member.assign([tp("a", 0)]).unwrap();
        member.commit_offsets([(tp("a", 0), offset)]).unwrap();
    }

    fn reader(&self) -> Reader {
        let storage = Faulty::new(self.memory.clone());
        let broker = Broker::open_storage_read_only(Arc::new(storage.clone())).unwrap();
        Reader { storage, broker }
    }
}

/// The way that a look went.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    OnlyNews,
    Everything,
}

struct Reader {
    storage: Faulty,
    broker: ReadOnlyBroker,
}

impl Reader {
    /// Looks again, and compares the result with a complete look. Only the complete look reads offset files.
    fn look(&mut self) -> Look {
        self.storage.order("look up", "offsets.", Act::Fail(5));
        let refreshed = self.broker.refresh();
        self.storage.heal();
        let went = match refreshed {
            Ok(false) => Look::Nothing,
            Ok(true) => Look::OnlyNews,
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                assert!(self.broker.refresh().unwrap());
                Look::Everything
            }
        };
        let everything = Broker::open_storage_read_only(Arc::new(self.storage.clone())).unwrap();
        assert_eq!(seen(&self.broker), seen(&everything));
        went
    }

    fn end(&self) -> i64 {
        self.broker.log_bounds(&tp("a", 0)).unwrap().1
    }
}

/// Returns all that a reader shows.
fn seen(broker: &ReadOnlyBroker) -> Vec<String> {
    let mut all = Vec::new();
    for name in broker.list_topics() {
        let mut topic = broker.describe_topic(&name).unwrap();
        // It depends on what a reader has read before.
        topic.partitions.iter_mut().for_each(|partition| partition.last_stable_offset = None);
        all.push(format!("{topic:?}"));
        for described in &topic.partitions {
            let mut consumer = broker.consumer().unwrap();
            consumer.assign([described.partition.clone()]).unwrap();
            poll(&mut consumer, &mut all);
        }
    }
    for name in broker.list_groups() {
        let group = broker.describe_group(&name).unwrap();
        let committed = group.offsets.iter().map(|at| (&at.partition, at.committed, at.lag));
        all.push(format!("{name} {:?}", committed.collect::<Vec<_>>()));
    }
    all
}

fn poll(consumer: &mut Consumer, all: &mut Vec<String>) {
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return;
        }
        all.extend(records.iter().map(|record| {
            let bytes = record.value().map_or(0, <[u8]>::len);
            format!("{}@{} {bytes}", record.topic_partition(), record.offset())
        }));
    }
}

#[test]
fn only_news_is_read_while_the_checkpoint_and_the_topics_are_the_same() {
    let world = World::new();
    let mut reader = world.reader();
    assert_eq!(reader.look(), Look::Nothing);
    world.send("a", 0, 10);
    assert_eq!(reader.look(), Look::OnlyNews);
    assert_eq!(reader.look(), Look::Nothing);
    // Several batches, so that the batch open before is filled, and a journal file as well.
    (0..60).for_each(|n| world.send("a", n % 2, 400));
    world.commit("g", 3);
    assert_eq!(reader.look(), Look::OnlyNews);
    world.broker.admin().delete_records(&tp("a", 0), 5).unwrap();
    assert_eq!(reader.look(), Look::OnlyNews);
    assert_eq!(reader.look(), Look::Nothing);

    for change in 0..4 {
        match change {
            0 => world.broker.checkpoint().unwrap(),
            1 => world.broker.create_topic("c", TopicConfig::new()).unwrap(),
            2 => world.broker.admin().add_partitions("c", 2).unwrap(),
            _ => world.broker.delete_topic("c").unwrap(),
        }
        assert_eq!(reader.look(), Look::Everything, "{change}");
        world.send("b", 0, 10);
        assert_eq!(reader.look(), Look::OnlyNews, "{change}");
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let world = World::new();
    world.send("a", 0, 10);
    world.commit("g", 1);
    let mut reader = world.reader();
    let mut before = vec![(reader.broker.clone(), seen(&reader.broker))];
    let mut consumer = reader.broker.consumer().unwrap();
    consumer.assign([tp("a", 0)]).unwrap();
    let mut read = Vec::new();
    poll(&mut consumer, &mut read);
    for n in 0..12 {
        world.send("a", 0, 300);
        world.commit("g", n);
        assert_eq!(reader.look(), Look::OnlyNews);
        before.push((reader.broker.clone(), seen(&reader.broker)));
    }
    for (snapshot, then) in &before {
        assert_eq!(seen(snapshot), *then);
    }
    // Two readers that continue from the same snapshot.
    let (mut first, _) = before.swap_remove(0);
    assert!(first.refresh().unwrap());
    assert_eq!(seen(&first), seen(&reader.broker));
    poll(&mut consumer, &mut read);
    assert_eq!(read.len(), 1, "made of the first snapshot");
}

/// Writes the frame of a writer that is in the middle of it.
#[test]
fn half_a_frame_is_no_news_and_is_noticed_when_it_is_whole() {
    let world = World::new();
    world.send("a", 0, 10);
    let before = journals(&world.memory);
    world.send("a", 0, 500);
    let after = journals(&world.memory);
    let changed = |path: &PathBuf| -> Vec<usize> {
        (0..after[path].len()).filter(|&at| after[path][at] != before[path][at]).collect()
    };
    let path = after.keys().find(|path| !changed(path).is_empty()).unwrap();
    let (whole, old) = (&after[path], &before[path]);
    let (first, last) = (changed(path)[0], *changed(path).last().unwrap());
    let header = first..first - first % 8 + 32;
    let file = world.memory.open(path, OpenMode::Write).unwrap();
    for header_last in [false, true] {
        file.write_at(old, 0).unwrap();
        let mut reader = world.reader();
        let mut half = old.clone();
        let rest = header.end..last + 1;
        let parts = if header_last { [rest, header.clone()] } else { [header.clone(), rest] };
        for at in parts.into_iter().flatten() {
            let is_whole = half[first..=last] == whole[first..=last];
            half[at] = whole[at];
            file.write_at(&half, 0).unwrap();
            reader.look();
            let news = reader.end() == 2;
            assert!(news || !is_whole);
        }
        assert_eq!(reader.end(), 2);
    }
}

fn journals(memory: &Memory) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = memory.list(Path::new("journal")).unwrap().into_iter().map(|entry| entry.name);
    let read = |path: &Path| {
        let file = memory.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    names
        .map(|name| Path::new("journal").join(name))
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Send {
        topic: usize,
        partition: u32,
        bytes: usize,
        times: usize,
    },
    Commit(i64),
    DeleteRecords(u32),
    Checkpoint,
    Create,
    Delete,
    Kill,
    Close,
    /// One of two readers looks; the other one lags behind.
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize, 0..2u32, 0..6000usize, 1..12usize)
            .prop_map(|(topic, partition, bytes, times)| Step::Send { topic, partition, bytes, times }),
        2 => (0..9i64).prop_map(Step::Commit),
        1 => (0..2u32).prop_map(Step::DeleteRecords),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Create),
        1 => Just(Step::Delete),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
        8 => (0..2usize).prop_map(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The writer may do anything between two looks, including a kill and a restart.
    #[test]
    fn a_refresh_shows_what_a_complete_look_shows(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut readers = [world.reader(), world.reader()];
        for step in steps {
            match step {
                Step::Send { topic, partition, bytes, times } => {
                    (0..times).for_each(|_| world.send(["a", "b"][topic], partition, bytes));
                }
                Step::Commit(offset) => world.commit("g", offset),
                Step::DeleteRecords(partition) => {
                    let partition = tp("a", partition);
                    let end = world.reader().broker.log_bounds(&partition).unwrap().1;
                    world.broker.admin().delete_records(&partition, end / 2).unwrap();
                }
                Step::Checkpoint => world.broker.checkpoint().unwrap(),
                // The same name again is refused.
                Step::Create => drop(world.broker.create_topic("c", TopicConfig::new())),
                Step::Delete => drop(world.broker.delete_topic("c")),
                Step::Kill => {
                    let memory = world.memory.crash(Crash::Kill, &SeededRandom::new(1));
                    for reader in &mut readers {
                        reader.storage.replace(memory.clone());
                        reader.look();
                    }
                    world = World::open(memory);
                }
                Step::Close => {
                    let World { memory, broker, producer } = world;
                    drop(producer);
                    broker.close().unwrap();
                    world = World::open(memory);
                }
                Step::Look(which) => _ = readers[which].look(),
            }
        }
        for mut reader in readers {
            reader.look();
        }
    }
}
