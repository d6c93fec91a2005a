mod share;
mod transact;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::input::Input;
use crate::broker::Broker;
use crate::config::{
    Acks, BrokerConfig, CleanupPolicy, ConsumerConfig, DiskBudgetPolicy, JournalMode,
    ProducerConfig, TopicConfig,
};
use crate::error::{Error, Result};
use crate::producer::{Delivery, Producer, Record};
use crate::storage::{Crash, FileKind, Memory, OpenMode, Storage};
use crate::time::{ManualClock, Random, SeededRandom};
use crate::types::{Timestamp, TopicPartition};

const TOPICS: [&str; 2] = ["a", "b"];
const GROUP: &str = "g";
/// The topic that is compacted, in inputs that compact.
const COMPACTED: usize = 1;
/// The number of its keys.
const KEYS: u64 = KEY_NAMES.len() as u64;
const KEY_NAMES: [&str; 3] = ["x", "y", "z"];
const STEPS_MAX: usize = 80;

/// The disk budget of some runs, and the size in bytes of a file that takes a part of it.
const BUDGET: u64 = 2 << 20;
const BALLAST: u64 = 800 << 10;
/// The topic that drops its oldest records if there is a budget. The other one refuses appends.
const DROPPING: usize = 1;

/// Runs operations beside a model, with crashes, failing calls and full disks among them. After each crash,
/// the folder holds what a prefix of the changes made, and all that was promised is in it.
pub fn fuzz_ops_vs_model(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.u8(), data.len() as u64);
    for _ in 0..STEPS_MAX {
        if input.rest.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.memory.heal();
    world.memory.set_capacity(u64::MAX);
    world.crash(Crash::LoseAll);
    world.open();
    world.look();
}

#[derive(Debug, Clone)]
enum Change {
    Create(usize, u32),
    Delete(usize),
    /// Records of a topic, each with its partition and number.
    Append(usize, Vec<(u32, u64)>),
    /// Deletes the records of a partition below an offset.
    DeleteRecords(usize, u32, usize),
    /// Compaction may remove what is in the compacted topic now.
    MayCompact,
    Commit(usize, u32, i64),
    /// What one frame changes together.
    Transaction(transact::Plan),
    /// A producer takes the name over.
    Own,
    /// The share group finishes a record.
    Finish(usize, u32, i64),
}

/// Topics with the numbers of their records, and committed offsets.
#[derive(Debug, Clone, Default)]
struct State {
    topics: BTreeMap<usize, Vec<Vec<u64>>>,
    /// The log start offsets that are not 0.
    starts: BTreeMap<(usize, u32), usize>,
    /// The offsets of the compacted topic below which compaction has run.
    compacted: BTreeMap<u32, usize>,
    offsets: BTreeMap<(usize, u32), i64>,
    /// The epoch and the last sequence of the named owner.
    owner: Option<(i32, Option<i64>)>,
    /// The idempotency ids, each with the place of its record.
    ids: BTreeMap<(usize, u8), (u32, i64)>,
    /// What the share group has finished.
    finished: BTreeMap<(usize, u32), BTreeSet<i64>>,
}

impl State {
    fn of(changes: &[Change]) -> Self {
        let mut state = Self::default();
        for change in changes {
            state.apply(change);
        }
        state
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(topic, partitions) => {
                self.topics.insert(*topic, vec![Vec::new(); *partitions as usize]);
            }
            Change::Delete(topic) => {
                self.topics.remove(topic);
                self.starts.retain(|(of, _), _| of != topic);
                if *topic == COMPACTED {
                    self.compacted.clear();
                }
                self.offsets.retain(|(of, _), _| of != topic);
                self.ids.retain(|(of, _), _| of != topic);
                self.finished.retain(|(of, _), _| of != topic);
            }
            Change::Append(topic, records) => {
                for (partition, number) in records {
                    let logs = self.topics.get_mut(topic).expect("it is there");
                    logs[*partition as usize].push(*number);
                }
            }
            Change::DeleteRecords(topic, partition, before) => {
                let logs = self.topics.get_mut(topic).expect("it is there");
                logs[*partition as usize]
                    .iter_mut()
                    .take(*before)
                    .for_each(|number| *number = GONE);
                if *before > 0 {
                    let start = self.starts.entry((*topic, *partition)).or_default();
                    *start = (*start).max(*before);
                }
            }
            Change::MayCompact => {
                let logs = self.topics.get(&COMPACTED).into_iter().flatten();
                self.compacted = (0..).zip(logs.map(Vec::len)).collect();
            }
            Change::Commit(topic, partition, offset) => {
                self.offsets.insert((*topic, *partition), *offset);
            }
            Change::Transaction(plan) => self.apply_plan(plan),
            Change::Own => {
                let (epoch, last) = self.owner.unwrap_or((-1, None));
                self.owner = Some((epoch + 1, last));
            }
            Change::Finish(topic, partition, offset) => {
                self.finished.entry((*topic, *partition)).or_default().insert(*offset);
            }
        }
    }

    /// Returns whether this is what was seen.
    fn is(&self, seen: &Self) -> bool {
        let logs = |state: &Self| -> Vec<(usize, u32, usize)> {
            let all = state.topics.iter();
            all.flat_map(|(topic, logs)| (0..).zip(logs).map(|(at, log)| (*topic, at, log.len())))
                .collect()
        };
        self.offsets == seen.offsets
            && self.owner == seen.owner
            && self.starts == seen.starts
            && self.topics.keys().eq(seen.topics.keys())
            && logs(self) == logs(seen)
            && self.has_finished_as(seen)
            && logs(self).iter().all(|(topic, partition, _)| {
                let log = |state: &Self| state.topics[topic][*partition as usize].clone();
                let end = self.compacted.get(partition).copied().filter(|_| *topic == COMPACTED);
                is_log(&log(self), &log(seen), end.unwrap_or(0))
            })
    }
}

/// Returns whether a log is what was seen, if compaction has run below `end`.
fn is_log(log: &[u64], seen: &[u64], end: usize) -> bool {
    let mut all = log.iter().zip(seen).enumerate();
    all.all(|(offset, (a, b))| a == b || *b == GONE && may_be_missing(log, seen, offset, end))
}

/// Returns whether compaction may have removed a record, if it has run below `end`.
fn may_be_missing(log: &[u64], seen: &[u64], offset: usize, end: usize) -> bool {
    let same_key = |a: u64, b: u64| a != GONE && b != GONE && a % KEYS == b % KEYS;
    let number = log[offset];
    let newer = (offset + 1..end).any(|at| same_key(log[at], number));
    let mut older = (0..offset).filter(|at| same_key(log[*at], number));
    offset < end && (newer || is_tombstone(number) && older.all(|at| seen[at] == GONE))
}

/// Returns whether a record of the compacted topic has no value.
fn is_tombstone(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// Stands for a deleted record; numbers begin at 1.
const GONE: u64 = 0;

#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
struct World {
    memory: Memory,
    mode: JournalMode,
    /// Appends from this size in bytes on go to the segments at once.
    stored_from: u32,
    /// Whether one topic is compacted.
    compacts: bool,
    broker: Option<Broker>,
    /// The producer that has the name, since the folder was opened.
    owner: Option<Producer>,
    random: SeededRandom,
    changes: Vec<Change>,
    /// The number of changes that survive a kill, and the number that survive power loss.
    written: usize,
    synced: usize,
    numbers: u64,
    /// Whether calls were made to fail since the folder was opened.
    troubled: bool,
    /// Whether the process ends at a later call.
    crash_comes: bool,
    /// Whether there is a disk budget.
    budget: bool,
}

impl World {
    fn new(flags: u8, seed: u64) -> Self {
        let mode = if flags & 1 == 0 { JournalMode::Map } else { JournalMode::Write };
        let mut world = Self {
            memory: Memory::crash_simulating(seed),
            mode,
            stored_from: if flags & 2 == 0 { u32::MAX } else { 40 },
            compacts: flags & 0x80 != 0,
            broker: None,
            owner: None,
            random: SeededRandom::new(seed),
            changes: Vec::new(),
            written: 0,
            synced: 0,
            numbers: 0,
            troubled: false,
            crash_comes: false,
            budget: flags & 4 != 0,
        };
        world.open();
        if world.budget {
            world.add_ballast();
        }
        world.create(0, 2);
        world
    }

    /// Adds a file that nobody uses. Otherwise it takes very many steps to reach the budget.
    fn add_ballast(&mut self) {
        self.broker = None;
        let path = std::path::Path::new("ballast");
        let file = self.memory.open(path, OpenMode::CreateNew).expect("a new file");
        file.set_len(BALLAST).and_then(|()| file.sync_data()).expect("there is space");
        self.memory.sync_dir(std::path::Path::new("")).expect("it is a folder");
        self.open();
    }

    /// Opens the folder. It must hold what a prefix of the changes made.
    fn open(&mut self) {
        for _ in 0..4 {
            let config = BrokerConfig::new()
                .background(false)
                .journal_mode(self.mode)
                .journal_file_bytes(64 << 10)
                .journal_max_bytes(256 << 10)
                .batch_size(1024)
                .stored_append_bytes(self.stored_from)
                .clock(Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000))))
                .random(Arc::new(SeededRandom::new(self.random.next_u64())));
            let config = if self.budget { config.disk_budget(BUDGET) } else { config };
            match Broker::open_storage(Arc::new(self.memory.clone()), config) {
                Ok(broker) => {
                    let seen = observe(&broker).expect("what opens can be read");
                    let found = (self.written..=self.changes.len())
                        .find(|count| self.explains(*count, &seen));
                    let found = found.unwrap_or_else(|| panic!("{self:?} shows {seen:?}"));
                    self.changes.truncate(found);
                    self.written = found;
                    // On a full disk the recovery checkpoint comes later, and nothing more is safe before it.
                    let settled = broker.health().is_ok();
                    assert!(settled || self.troubled, "{}", broker.health());
                    self.synced = if settled { found } else { self.synced.min(found) };
                    self.broker = Some(broker);
                    self.note_drops();
                    return;
                }
                Err(_) if self.memory.has_crashed() => self.crash(Crash::Kill),
                Err(error) => {
                    assert!(self.troubled, "{error:?}");
                    self.memory.heal();
                    self.memory.set_capacity(u64::MAX);
                }
            }
        }
        panic!("it never opens: {self:?}");
    }

    fn crash(&mut self, kind: Crash) {
        // Handles that are dropped now write nothing more.
        self.memory.crash_at(self.memory.ops() + 1);
        drop(self.memory.sync_dir(std::path::Path::new("")));
        (self.broker, self.owner) = (None, None);
        self.memory = self.memory.crash(kind, &self.random);
        if kind != Crash::Kill {
            self.written = self.synced;
        }
        self.crash_comes = false;
        // A disk that was full still is.
        self.troubled = self.memory.free_space().is_ok_and(|free| free < u64::MAX / 2);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        let (topic, partition) = (usize::from(kind & 0x80 != 0), u32::from(kind & 0x40 != 0));
        match kind & 15 {
            0 if kind & 0x30 == 0x30 => self.send_sequenced(topic, partition, input.u8()),
            1 if kind & 0x30 == 0x30 => self.transact(topic, partition, input.u8()),
            2 if kind & 0x30 == 0x30 => self.send_id(topic, partition, input.u8()),
            0..=3 => {
                let factor = if self.budget { 120 } else { 8 };
                self.send(topic, partition, usize::from(input.u8()) * factor, kind & 15 == 3);
            }
            4 => self.send_all(topic, usize::from(input.u8())),
            5 if kind & 0x30 == 0x30 => self.share(topic, input.u8()),
            5 => self.commit(topic, partition, i64::from(input.u8())),
            6 => self.call(true, Broker::checkpoint),
            7 => {
                self.call(true, |broker| broker.producer()?.flush());
            }
            8 => self.create(topic, partition + 1),
            9 if kind & 0x20 != 0 => self.delete_records(topic, partition, usize::from(input.u8())),
            9 => self.delete(topic),
            10 if kind & 0x20 != 0 => {
                self.retain(|broker| broker.admin().run_retention().map(|_| ()));
            }
            10 => self.look(),
            11 => {
                let at = self.memory.ops() + 1 + u64::from(input.u8() % 32);
                self.memory.fail_at(at, io::ErrorKind::Other, kind & 0x20 != 0);
                self.troubled = true;
            }
            12 => {
                let used = u64::MAX - self.memory.free_space().expect("memory");
                self.memory.set_capacity(used.saturating_add(u64::from(input.u16())));
                self.troubled = true;
            }
            13 if self.compacts && kind & 0x10 != 0 => self.compact(kind & 0x20 != 0),
            13 => {
                self.memory.heal();
                self.memory.set_capacity(u64::MAX);
            }
            14 => {
                let at = self.memory.ops() + 1 + u64::from(input.u8() % 64);
                self.memory.crash_at(at);
                self.crash_comes = true;
            }
            _ => self.crash(
                [Crash::Kill, Crash::LoseAll, Crash::Subset { unit: 512 }, Crash::TornUnit]
                    [usize::from(kind >> 4) % 4],
            ),
        }
        if self.memory.has_crashed() {
            self.crash(Crash::Kill);
        }
        if self.broker.is_none() {
            self.open();
        }
        self.note_drops();
        self.weigh();
    }

    /// Returns whether the first changes explain what was seen. Some records of a topic that drops its oldest may be
    /// gone.
    fn explains(&self, count: usize, seen: &State) -> bool {
        let mut state = State::of(&self.changes[..count]);
        let dropped =
            seen.starts.iter().filter(|((topic, _), _)| self.budget && *topic == DROPPING);
        for ((topic, partition), start) in dropped {
            let logs = state.topics.get(topic);
            if logs.and_then(|logs| logs.get(*partition as usize)).is_some() {
                state.apply(&Change::DeleteRecords(*topic, *partition, *start));
            }
        }
        state.is(seen)
    }

    /// Notes what the engine has dropped for the budget.
    fn note_drops(&mut self) {
        let Some(broker) = self.broker.as_ref().filter(|_| self.budget) else { return };
        let Ok(described) = broker.describe_topic(TOPICS[DROPPING]) else { return };
        let State { topics, starts, .. } = State::of(&self.changes);
        let Some(logs) = topics.get(&DROPPING) else { return };
        if self.memory.has_crashed()
            || !self.is_settled()
            || logs.len() != described.partitions.len()
        {
            return;
        }
        for (number, partition) in (0..).zip(&described.partitions) {
            let gone = starts.get(&(DROPPING, number)).copied().unwrap_or(0);
            let start = partition.start_offset as usize;
            if start > gone {
                self.changes.push(Change::DeleteRecords(DROPPING, number, start));
                self.written = self.changes.len();
            }
        }
    }

    /// Checks that the files keep the budget.
    fn weigh(&self) {
        if !self.budget {
            return;
        }
        let mut bytes = 0;
        let mut folders = vec![std::path::PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in self.memory.list(&folder).unwrap_or_default() {
                let path = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Dir => folders.push(path),
                    _ => bytes += self.memory.disk_bytes(&path).unwrap_or(0).next_multiple_of(4096),
                }
            }
        }
        assert!(bytes <= BUDGET, "the files take {bytes} bytes: {self:?}");
    }

    /// Makes a call that changes nothing. If it succeeds and `syncs`, everything acknowledged before is
    /// `Synced`.
    fn call(&mut self, syncs: bool, call: impl FnOnce(&Broker) -> Result<()>) {
        let Some(broker) = &self.broker else { return };
        match call(broker) {
            _ if self.memory.has_crashed() => {}
            Ok(()) if syncs => self.synced = self.written,
            Ok(()) => {}
            Err(error) => assert!(self.troubled, "{error:?}"),
        }
    }

    /// Records a change and tries it. Updates the model by whether it was acknowledged.
    fn change(&mut self, change: Change, synced: bool, call: impl FnOnce(&Broker) -> Result<()>) {
        let Some(broker) = &self.broker else { return };
        self.changes.push(change);
        match call(broker) {
            _ if self.memory.has_crashed() => {}
            Ok(()) => {
                self.written = self.changes.len();
                if synced {
                    self.synced = self.written;
                }
            }
            Err(error @ Error::Indeterminate { .. }) => assert!(self.troubled, "{error:?}"),
            Err(error) => {
                let refused = self.budget && matches!(error, Error::DiskBudget { .. });
                assert!(self.troubled || refused, "{error:?}");
                self.changes.pop();
            }
        }
    }

    fn send(&mut self, topic: usize, partition: u32, bytes: usize, synced: bool) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let number = self.number();
        let value = value(number, bytes);
        let compacts = self.compacts;
        self.change(Change::Append(topic, vec![(partition, number)]), synced, |broker| {
            let producer = producer(broker, synced)?;
            let record = record(topic, partition, &value, compacts);
            producer.send(record).and_then(Delivery::wait).map(|_| ())
        });
    }

    fn send_all(&mut self, topic: usize, shape: usize) {
        let Some(other) = self.partition(topic, 1) else { return };
        let records: Vec<(u32, u64)> =
            (0..=shape % 4).map(|at| (other * (at as u32 % 2), self.number())).collect();
        let compacts = self.compacts;
        let values: Vec<_> = records.iter().map(|(_, number)| value(*number, shape * 4)).collect();
        self.change(Change::Append(topic, records.clone()), false, |broker| {
            let all = records.iter().zip(&values);
            let all = all.map(|((at, _), value)| record(topic, *at, value, compacts));
            producer(broker, false)?.send_all(all).map(|_| ())
        });
    }

    fn commit(&mut self, topic: usize, partition: u32, offset: i64) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let end = State::of(&self.changes).topics[&topic][partition as usize].len() as i64;
        let offset = offset % (end + 1);
        self.change(Change::Commit(topic, partition, offset), false, |broker| {
            let at = TopicPartition::new(TOPICS[topic], partition);
            broker.consumer(GROUP)?.commit_offsets([(at, offset)])
        });
    }

    fn create(&mut self, topic: usize, partitions: u32) {
        if self.is_settled() && self.partition(topic, 0).is_none() {
            let config = TopicConfig::new().partitions(partitions).segment_bytes(2048);
            let mut config = config.retention_consumed([GROUP]);
            if topic == DROPPING {
                config = config.disk_budget_policy(DiskBudgetPolicy::DropOldest);
            }
            let config = if self.compacts && topic == COMPACTED {
                config
                    .cleanup_policy(CleanupPolicy::CompactDelete)
                    .min_cleanable_dirty_ratio(0.0)
                    .delete_retention(Duration::ZERO)
            } else {
                config
            };
            self.change(Change::Create(topic, partitions), true, |broker| {
                broker.create_topic(TOPICS[topic], config)
            });
        }
    }

    fn delete(&mut self, topic: usize) {
        if self.partition(topic, 0).is_some() {
            self.change(Change::Delete(topic), true, |broker| broker.delete_topic(TOPICS[topic]));
        }
    }

    /// Deletes the records of a partition below an offset, and every other time all of them.
    fn delete_records(&mut self, topic: usize, partition: u32, before: usize) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let end = State::of(&self.changes).topics[&topic][partition as usize].len();
        let before = if before.is_multiple_of(2) { end } else { before / 2 % (end + 1) };
        self.change(Change::DeleteRecords(topic, partition, before), true, |broker| {
            let at = TopicPartition::new(TOPICS[topic], partition);
            broker.admin().delete_records(&at, before as i64).map(|_| ())
        });
    }

    /// Compacts the compacted topic, or runs all maintenance unless something may keep retention from its work.
    fn compact(&mut self, maintains: bool) {
        if self.partition(COMPACTED, 0).is_none() || self.broker.is_none() {
            return;
        }
        self.changes.push(Change::MayCompact);
        self.written = self.changes.len();
        if maintains {
            return self.retain(Broker::maintain);
        }
        // The copies may have no room in the disk budget.
        let (budget, synced, mut refused) = (self.budget, self.synced, false);
        self.call(true, |broker| match broker.admin().compact(TOPICS[COMPACTED]) {
            Err(Error::DiskBudget { .. }) if budget => {
                refused = true;
                Ok(())
            }
            done => done.map(|_| ()),
        });
        if refused {
            self.synced = synced;
        }
        let undisturbed = !self.troubled && !self.crash_comes && !refused;
        if let Some(broker) = self.broker.as_ref().filter(|_| undisturbed) {
            let seen = observe(broker).expect("reading continues");
            for log in &seen.topics[&COMPACTED] {
                let mut keys = BTreeSet::new();
                let mut left = log.iter().filter(|number| **number != GONE);
                assert!(left.all(|number| keys.insert(number % KEYS)), "a key twice: {log:?}");
            }
        }
    }

    /// Deletes by retention what the group has read, unless something may keep it from that. What it deletes depends on
    /// where segments end.
    fn retain(&mut self, call: impl FnOnce(&Broker) -> Result<()>) {
        if self.troubled || self.crash_comes || !self.is_settled() {
            return;
        }
        let Some(broker) = &self.broker else { return };
        let refused = match call(broker) {
            // The copies of a compaction may have no room in the disk budget.
            Err(Error::DiskBudget { .. }) if self.budget => true,
            done => {
                done.expect("nothing else is in the way");
                false
            }
        };
        let may_drop = self.budget;
        let State { topics, offsets, starts, .. } = State::of(&self.changes);
        for (topic, logs) in topics {
            let described = broker.describe_topic(TOPICS[topic]).expect("it is there");
            for partition in 0..logs.len() as u32 {
                let start = described.partitions[partition as usize].start_offset;
                let gone = starts.get(&(topic, partition)).copied().unwrap_or(0);
                if start > gone as i64 {
                    let read = offsets.get(&(topic, partition)).copied();
                    let dropped = may_drop && topic == DROPPING;
                    assert!(
                        Some(start) <= read || dropped,
                        "{start} of {topic}-{partition}, read {read:?}"
                    );
                    self.changes.push(Change::DeleteRecords(topic, partition, start as usize));
                    self.written = self.changes.len();
                    if !refused {
                        self.synced = self.written;
                    }
                }
            }
        }
    }

    /// Checks that the folder holds what all changes made, except one whose outcome is unknown.
    fn look(&mut self) {
        let Some(broker) = &self.broker else { return };
        let seen = observe(broker).expect("reading continues");
        let shows = |count: usize| self.explains(count, &seen);
        assert!((self.written..=self.changes.len()).any(shows), "{self:?} shows {seen:?}");
    }

    /// Returns the partition, or the topic's only one, if the topic certainly exists.
    fn partition(&self, topic: usize, partition: u32) -> Option<u32> {
        if !self.is_settled() {
            return None;
        }
        let count = State::of(&self.changes).topics.get(&topic)?.len() as u32;
        Some(partition % count)
    }

    fn is_settled(&self) -> bool {
        self.written == self.changes.len()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { changes, written, synced, .. } = self;
        write!(f, "{written} written, {synced} synced of {changes:?}")
    }
}

fn producer(broker: &Broker, synced: bool) -> Result<Producer> {
    let acks = if synced { Acks::Synced } else { Acks::Written };
    broker.producer_with(ProducerConfig::new().acks(acks))
}

/// Returns a record. In the compacted topic it has one of few keys, and perhaps no value.
fn record(topic: usize, partition: u32, value: &[u8], compacts: bool) -> Record<'_> {
    let record = Record::to(TOPICS[topic]).partition(partition);
    let number = value.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
    if !compacts || topic != COMPACTED {
        return record.value(value);
    }
    let record = record.key(KEY_NAMES[(number % KEYS) as usize]);
    if is_tombstone(number) { record.header("value", value) } else { record.value(value) }
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + bytes, number as u8);
    value
}

fn observe(broker: &Broker) -> Result<State> {
    let mut state = State::default();
    for (topic, name) in TOPICS.iter().enumerate() {
        let Ok(described) = broker.describe_topic(name) else { continue };
        let mut logs = Vec::new();
        for partition in described.partitions {
            let mut reader = broker.consumer_with(ConsumerConfig::new())?;
            reader.assign([partition.partition.clone()])?;
            let mut log = vec![GONE; partition.start_offset as usize];
            if partition.start_offset > 0 {
                let place = (topic, partition.partition.partition());
                state.starts.insert(place, partition.start_offset as usize);
            }
            while reader.position(&partition.partition)?.offset() < partition.end_offset {
                for record in &reader.poll(Duration::ZERO)? {
                    if record.key().is_some() {
                        // Compaction may have removed records before it.
                        log.resize(log.len().max(record.offset() as usize), GONE);
                    }
                    assert_eq!(record.offset(), log.len() as i64, "no gap");
                    let header = || record.headers().next().and_then(|header| header.value());
                    let bytes = record.value().or_else(header).expect("all have one");
                    let number = bytes.first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
                    assert_eq!(bytes, value(number, bytes.len() - 8), "every byte");
                    log.push(number);
                }
            }
            // The state says where holes may be: also at the end.
            log.resize(partition.end_offset as usize, GONE);
            logs.push(log);
            let (number, end) = (partition.partition.partition(), partition.end_offset);
            state.finished.insert((topic, number), share::finished(broker, topic, number, end));
        }
        state.topics.insert(topic, logs);
    }
    let owner = broker.admin().list_owners()?.pop();
    state.owner = owner.map(|owner| (owner.epoch, owner.last_sequence));
    for row in broker.describe_group(GROUP).map_or(Vec::new(), |group| group.offsets) {
        let topic = TOPICS.iter().position(|name| *name == row.partition.topic());
        if let (Some(topic), Some(offset)) = (topic, row.committed) {
            assert!(offset <= row.end_offset, "never beyond the end");
            state.offsets.insert((topic, row.partition.partition()), offset);
        }
    }
    Ok(state)
}
