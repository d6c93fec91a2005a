//! Crashes and failures at every change of a storage. The checkpoint that counts afterwards loads exactly the entries
//! that were frozen for it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::dedup::entry::Entry;
use crate::dedup::{
    DedupSettings, DedupTable, IdHash, Place, decode_topics, encode_topics, load, remove_unlisted,
    write_out,
};
use crate::error::Result;
use crate::storage::{Crash, Memory, OpenMode, Storage};
use crate::time::SeededRandom;
use crate::types::{PartitionNumber, TopicId};

const SETTINGS: DedupSettings = DedupSettings { window_ms: 100, max_ids: 50 };
const TOPICS: [TopicId; 2] = [TopicId::from_bytes([1; 16]), TopicId::from_bytes([2; 16])];
const CHECKPOINTS: [&str; 2] = ["checkpoint.a", "checkpoint.b"];

/// The entries of all topics, by the generation of the checkpoint that was to list them.
type History = BTreeMap<u64, Vec<Vec<Entry>>>;

/// Two tables, and checkpoints in two files in turn, as the engine writes them.
struct World {
    storage: Memory,
    tables: Vec<DedupTable>,
    generation: u64,
    /// The generation of the last checkpoint that is durable.
    durable: u64,
    history: History,
    next: u64,
}

impl World {
    fn create(storage: Memory) -> Self {
        for name in CHECKPOINTS {
            storage.open(Path::new(name), OpenMode::CreateNew).unwrap();
        }
        storage.sync_dir(Path::new("")).unwrap();
        let tables = TOPICS.map(|topic| DedupTable::new(topic, SETTINGS)).into();
        let history = History::from([(0, vec![Vec::new(); TOPICS.len()])]);
        Self::with(storage, tables, 0, history, 0)
    }

    fn with(
        storage: Memory,
        mut tables: Vec<DedupTable>,
        generation: u64,
        history: History,
        next: u64,
    ) -> Self {
        for table in &mut tables {
            table.files.bucket_entries = 4;
        }
        Self { storage, tables, generation, durable: generation, history, next }
    }

    /// Opens what a crash has left. Checks that it is what was frozen.
    fn open(storage: Memory, history: History, at_least: u64, next: u64) -> Self {
        let (generation, bytes) = newest(&storage);
        assert!(generation >= at_least, "{generation} is older than the durable {at_least}");
        let images = decode_topics(&bytes).unwrap();
        let mut tables = Vec::new();
        for (at, topic) in TOPICS.into_iter().enumerate() {
            let table = match images.iter().find(|image| image.topic == topic) {
                Some(image) => load(&storage, image, SETTINGS, 0).unwrap(),
                None => DedupTable::new(topic, SETTINGS),
            };
            assert_eq!(table.entries(), history[&generation][at], "generation {generation}");
            tables.push(table);
        }
        Self::with(storage, tables, generation, history, next)
    }

    fn insert(&mut self, topic: usize, count: u64, time: i64) {
        for _ in 0..count {
            self.next += 1;
            let hash = IdHash { high: self.next, low: self.next };
            let place = Place { partition: PartitionNumber(4), offset: self.next as i64 };
            self.tables[topic].insert(hash, place, time);
        }
    }

    /// Writes a checkpoint, as far as `end` says.
    fn checkpoint(&mut self, end: End) -> Result<()> {
        let frozen: Vec<_> = self.tables.iter_mut().map(DedupTable::freeze).collect();
        self.generation += 1;
        let entries = self.tables.iter().map(DedupTable::entries).collect();
        self.history.insert(self.generation, entries);
        let images = write_out(&frozen, &self.storage)?;
        if end == End::Stops {
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode_topics(&images, &mut bytes);
        let holds_durable =
            read(&self.storage, CHECKPOINTS[0]).is_some_and(|(g, _)| g == self.durable);
        let slot = CHECKPOINTS[usize::from(holds_durable)];
        let file = self.storage.open(Path::new(slot), OpenMode::Write)?;
        let mut whole = self.generation.to_be_bytes().to_vec();
        whole.extend((bytes.len() as u32).to_be_bytes());
        whole.extend(bytes);
        whole.extend(crc32fast::hash(&whole).to_be_bytes());
        file.write_at(&whole, 0)?;
        if end == End::Unsynced {
            return Ok(());
        }
        file.sync_data()?;
        self.durable = self.generation;
        self.tables.iter_mut().zip(&images).for_each(|(table, image)| table.committed(image));
        remove_unlisted(&images, &self.storage)
    }

    /// Goes on with a few checkpoints after an opening. Stops at the first error.
    fn go_on(&mut self, time: i64) -> Result<()> {
        self.insert(0, 3, time);
        self.checkpoint(End::Durable)?;
        self.insert(1, 6, time + 60);
        self.checkpoint(End::Durable)?;
        self.checkpoint(End::Durable)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Durable,
    /// Its own file is written and not synced, so that it may count or not.
    Unsynced,
    /// Its own file is not written.
    Stops,
}

fn read(storage: &Memory, name: &str) -> Option<(u64, Vec<u8>)> {
    let file = storage.open(Path::new(name), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().ok()? as usize];
    file.read_at(&mut bytes, 0).ok()?;
    let (generation, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    let crc: [u8; 4] = rest.get(length..length + 4)?.try_into().ok()?;
    if crc32fast::hash(&bytes[..12 + length]).to_be_bytes() != crc {
        return None;
    }
    Some((u64::from_be_bytes(*generation), rest[..length].to_vec()))
}

/// Returns the checkpoint that counts: its generation and its list of ids.
fn newest(storage: &Memory) -> (u64, Vec<u8>) {
    let found = CHECKPOINTS.into_iter().filter_map(|name| read(storage, name));
    found.max_by_key(|(generation, _)| *generation).unwrap_or((0, vec![1, 0, 0, 0, 0]))
}

const STEPS: usize = 9;

/// Makes a step of the script. It has every kind of checkpoint: with and without new entries, in old and new buckets,
/// after ones that stopped or are not synced, and with buckets to remove.
fn step(world: &mut World, number: usize) -> Result<()> {
    let ends = |world: &mut World, end| world.checkpoint(end);
    match number {
        0 => {
            world.insert(0, 3, 10);
            ends(world, End::Durable)
        }
        1 => {
            world.insert(0, 4, 20);
            world.insert(1, 1, 20);
            ends(world, End::Durable)
        }
        2 => ends(world, End::Durable),
        3 => {
            world.insert(0, 2, 60);
            ends(world, End::Stops)
        }
        4 => {
            // The first bucket is over.
            world.insert(0, 1, 115);
            ends(world, End::Durable)
        }
        5 => {
            world.insert(0, 6, 130);
            world.insert(1, 2, 130);
            ends(world, End::Unsynced)
        }
        6 => {
            world.insert(0, 1, 200);
            ends(world, End::Durable)
        }
        7 => {
            // All but the newest entries are over, also those of the checkpoint that follows.
            world.insert(1, 9, 310);
            ends(world, End::Unsynced)
        }
        _ => {
            world.insert(1, 1, 420);
            ends(world, End::Durable)
        }
    }
}

fn run(world: &mut World) -> Result<()> {
    (0..STEPS).try_for_each(|number| step(world, number))
}

fn crashes() -> impl Iterator<Item = (Crash, u64)> {
    let fixed = [Crash::Kill, Crash::LoseAll, Crash::KeepAll].map(|crash| (crash, 1));
    let random = (0..4).flat_map(|seed| {
        [
            (Crash::Subset { unit: 512 }, seed),
            (Crash::Subset { unit: 4096 }, seed),
            (Crash::TornUnit, seed),
        ]
    });
    fixed.into_iter().chain(random)
}

/// Runs the script until it crashes at a change.
fn crashed_at(op: u64) -> World {
    let mut world = World::create(Memory::crash_simulating(op));
    world.storage.crash_at(op);
    run(&mut world).unwrap_err();
    assert!(world.storage.has_crashed());
    world
}

/// Returns the first change of the script and the one after its last.
fn ops() -> (u64, u64) {
    let mut world = World::create(Memory::crash_simulating(1));
    let first = world.storage.ops() + 1;
    run(&mut world).unwrap();
    (first, world.storage.ops() + 1)
}

#[test]
fn after_a_crash_anywhere_the_checkpoint_loads_what_was_frozen() {
    let (first, end) = ops();
    assert!(end - first > 30, "{first}..{end}");
    for op in first..end {
        let world = crashed_at(op);
        for (crash, seed) in crashes() {
            let left = world.storage.crash(crash, &SeededRandom::new(seed));
            let mut next = World::open(left, world.history.clone(), world.durable, world.next);
            next.go_on(430).unwrap();
            let durable = next.durable;
            let World { storage, history, next, .. } = next;
            World::open(storage, history, durable, next);
        }
    }
}

/// A killed process leaves what is not durable. The next one goes on with it, and the power fails.
#[test]
fn a_second_crash_harms_nothing_either() {
    let (first, end) = ops();
    for op in first..end {
        let world = crashed_at(op);
        for kind in [Crash::Kill, Crash::Subset { unit: 512 }] {
            let reopen = || {
                let left = world.storage.crash(kind, &SeededRandom::new(op));
                World::open(left, world.history.clone(), world.durable, world.next)
            };
            let mut whole = reopen();
            let before = whole.storage.ops();
            whole.go_on(430).unwrap();
            for second in before + 1..=whole.storage.ops() {
                let mut again = reopen();
                // What the opening has read may not be durable.
                again.durable = world.durable;
                again.storage.crash_at(second);
                again.go_on(430).unwrap_err();
                for (crash, seed) in crashes().take(6) {
                    let left = again.storage.crash(crash, &SeededRandom::new(seed));
                    World::open(left, again.history.clone(), again.durable, again.next);
                }
            }
        }
    }
}

/// A failed checkpoint is dropped, and the next one writes what it has not.
#[test]
fn a_failure_anywhere_costs_one_checkpoint() {
    let (first, end) = ops();
    for op in first..end {
        let mut world = World::create(Memory::crash_simulating(op));
        world.storage.fail_at(op, io::ErrorKind::Other, false);
        let failures = (0..STEPS).filter(|number| step(&mut world, *number).is_err()).count();
        assert_eq!(failures, 1, "op {op}");
        for (crash, seed) in crashes() {
            let left = world.storage.crash(crash, &SeededRandom::new(seed));
            World::open(left, world.history.clone(), world.durable, world.next);
        }
        world.storage.heal();
        world.checkpoint(End::Durable).unwrap();
        let World { storage, history, durable, next, .. } = world;
        let left = storage.crash(Crash::LoseAll, &SeededRandom::new(1));
        World::open(left, history, durable, next);
    }
}

#[test]
fn only_listed_buckets_stay_and_strangers_are_left_alone() {
    let mut world = World::create(Memory::new());
    run(&mut world).unwrap();
    let stranger = Path::new("dedup/notes.txt");
    world.storage.open(stranger, OpenMode::CreateNew).unwrap();
    world.checkpoint(End::Durable).unwrap();
    let images = decode_topics(&newest(&world.storage).1).unwrap();
    let listed: usize = images.iter().map(|image| image.buckets.len()).sum();
    assert_eq!(world.storage.list(Path::new("dedup")).unwrap().len(), listed + 1);
    // A topic that is deleted is not listed any more.
    remove_unlisted(&[], &world.storage).unwrap();
    assert_eq!(world.storage.list(Path::new("dedup")).unwrap().len(), 1);
}

/// A checkpoint with few new ids writes little, however many there are.
#[test]
fn a_checkpoint_writes_only_what_is_new() {
    let storage = Memory::crash_simulating(1);
    let mut table = DedupTable::new(TOPICS[0], DedupSettings { window_ms: 100, max_ids: 200_000 });
    let place = Place { partition: PartitionNumber(4), offset: 1 };
    (0..150_000).for_each(|n| table.insert(IdHash { high: n, low: n }, place, 10));
    let frozen = table.freeze();
    let images = write_out(&[frozen], &storage).unwrap();
    assert_eq!(images[0].buckets.len(), 3);
    table.committed(&images[0]);
    let before = storage.ops();
    let frozen = table.freeze();
    assert_eq!(write_out(&[frozen], &storage).unwrap(), images);
    assert_eq!(storage.ops(), before);
    table.insert(IdHash { high: 1 << 40, low: 1 }, place, 10);
    let frozen = table.freeze();
    assert_eq!(frozen.new.len(), 1);
    write_out(&[frozen], &storage).unwrap();
    // A write and a sync.
    assert_eq!(storage.ops(), before + 2);
}
