//! A life: a folder is opened, a program uses it, and the life ends at some call that changes
//! files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Memory, Storage};
use grouplog::time::{ManualClock, Random, SeededRandom};
use grouplog::{
    Acks, Broker, BrokerConfig, ConsumerConfig, Delivery, GroupMetadata, JournalMode, OffsetScope,
    Producer, ProducerConfig, ReadMode, Record, ShareRecord, Timestamp, TopicConfig,
    TopicPartition,
};

use crate::gate::{Gated, Turnstile};
use crate::journal_file::{self, FRAME_HEADER};
use crate::observe::observe;
use crate::oracle::{COMPACTED, Change, History, Place, RecordId, RecordModel};
use crate::script::Step;

/// The fixed time of all lives.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Why a life ended before its steps.
#[derive(Debug)]
pub(crate) enum End {
    /// The requested crash happened.
    Crash,
    /// The engine broke a promise.
    Violation(String),
}

/// An open folder, what is known about it, and the means to use it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) memory: Memory,
    pub(crate) history: History,
    pub(crate) broker: Broker,
    turnstile: Arc<Turnstile>,
    setup: Setup,
    /// The clock of this life, if it can be moved.
    clock: Option<Arc<ManualClock>>,
    number: u64,
    /// How many changes existed when the folder was opened.
    pub(crate) found: usize,
    pub(crate) written: Producer,
    synced: Producer,
    owner: Option<Producer>,
    /// The records that members of share groups have kept in this life. Their locks have not ended.
    pub(crate) kept: BTreeSet<(Place, i64)>,
    /// Records that were taken, to be accepted later.
    pub(crate) held: Vec<ShareRecord>,
}

/// The `transactional.id` of transactions.
const OWNER: &str = "o";

/// The records of a transaction, and the offsets that it commits.
type Planned = (Vec<(Place, Arc<RecordModel>)>, Vec<(String, Place, i64)>);

/// The settings that differ between scripts and runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) mode: JournalMode,
    /// The journal's limit, in files of 64 KiB.
    pub(crate) files: u64,
    /// Appends from this size in bytes on go to the segments at once.
    pub(crate) stored_from: u32,
    /// The disk budget in bytes.
    pub(crate) budget: Option<u64>,
}

/// The settings of all scripts. Small sizes, so that little has to be written.
pub(crate) fn config(setup: Setup, seed: u64) -> BrokerConfig {
    config_with(setup, seed, &Arc::new(clock()))
}

/// One week in milliseconds.
const WEEK: u64 = 7 * 24 * 3_600_000;

/// Returns the log start offset of a partition.
fn start(broker: &Broker, (topic, partition): &Place) -> Option<i64> {
    let topic = broker.describe_topic(topic).ok()?;
    Some(topic.partitions.get(*partition as usize)?.start_offset)
}

/// The clock of all lives.
fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(NOW))
}

fn config_with(setup: Setup, seed: u64, clock: &Arc<ManualClock>) -> BrokerConfig {
    let config = match setup.budget {
        Some(budget) => BrokerConfig::new().disk_budget(budget),
        None => BrokerConfig::new(),
    };
    config
        .background(false)
        .journal_mode(setup.mode)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(setup.files * (64 << 10))
        // Read and write modes are independent, so it is enough to try each once.
        .read_mode(match setup.mode {
            JournalMode::Map => ReadMode::Map,
            _ => ReadMode::Pread,
        })
        .batch_size(1024)
        .stored_append_bytes(setup.stored_from)
        .clock(Arc::clone(clock) as _)
        .random(Arc::new(SeededRandom::new(seed)))
}

impl Life {
    /// Opens the folder and reads all of it. `promised`: this many changes must exist.
    ///
    /// If a crash happens, returns the history unchanged. After a complete recovery, everything
    /// found survives power loss.
    pub(crate) fn begin(
        memory: &Memory,
        setup: Setup,
        history: &mut History,
        promised: usize,
        number: u64,
    ) -> Result<Self, End> {
        let turnstile = Arc::new(Turnstile::weighing(memory, setup.budget));
        let gated = Gated { inner: memory.clone(), turnstile };
        let clock = Arc::new(clock());
        let config = config_with(setup, number + 1, &clock);
        let life = Self::begin_with(gated, config, setup, history, promised, number)?;
        Ok(Self { clock: Some(clock), ..life })
    }

    /// As `begin`, with other settings.
    pub(crate) fn begin_with(
        gated: Gated,
        config: BrokerConfig,
        setup: Setup,
        history: &mut History,
        promised: usize,
        number: u64,
    ) -> Result<Self, End> {
        let (memory, turnstile) = (gated.inner.clone(), Arc::clone(&gated.turnstile));
        let opened = Broker::open_storage(Arc::new(gated), config);
        if memory.has_crashed() {
            return Err(End::Crash);
        }
        let violation = |what: String| End::Violation(format!("life {number}: {what}"));
        let broker = opened.map_err(|error| violation(format!("opening fails: {error:?}")))?;
        let seen = observe(&broker).map_err(violation)?;
        if let Some(weight) = turnstile.excess() {
            return Err(violation(format!("the files take {weight} bytes")));
        }
        let found = history.explain(&seen, promised).map_err(violation)?;
        history.found(found, true);
        let producer =
            |acks| broker.producer_with(ProducerConfig::new().acks(acks)).map_err(unexpected);
        let (written, synced) = (producer(Acks::Written)?, producer(Acks::Synced)?);
        Ok(Self {
            memory,
            history: history.clone(),
            broker,
            turnstile,
            setup,
            clock: None,
            number,
            found,
            written,
            synced,
            owner: None,
            kept: BTreeSet::new(),
            held: Vec::new(),
        })
    }

    /// Does the steps in turn, until one of them meets the crash.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), End> {
        for step in steps {
            let done = self.step(step);
            if let Some(weight) = self.turnstile.excess() {
                let what = format!("life {}: {step:?}: the files take {weight} bytes", self.number);
                return Err(End::Violation(what));
            }
            if self.memory.has_crashed() {
                return Err(End::Crash);
            }
            done.map_err(|end| match end {
                End::Violation(what) => {
                    End::Violation(format!("life {}: {step:?}: {what}", self.number))
                }
                End::Crash => End::Crash,
            })?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Create { topic, config, partitions } => self.create(topic, config, *partitions),
            Step::Delete(topic) => {
                self.history.attempt(Change::Delete { topic: (*topic).to_owned() });
                self.broker.delete_topic(topic).map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::Alter(topic, segment_bytes) => {
                // Its effect shows in where segments end. That it succeeded shows in the steps that
                // follow.
                let setting = ("segment.bytes", segment_bytes.to_string());
                self.broker.admin().alter_topic(topic, [setting]).map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::DeleteRecords(topic, partition, before) => {
                let place = place(topic, *partition);
                self.history.attempt(Change::DeleteRecords { place, before: *before });
                let partition = TopicPartition::new(*topic, *partition);
                self.broker.admin().delete_records(&partition, *before).map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::Compact(topic) => {
                self.history.attempt(Change::MayCompact { topic: (*topic).to_owned() });
                self.broker.admin().compact(topic).map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::Maintain => {
                self.history.attempt(Change::MayCompact { topic: COMPACTED.to_owned() });
                self.broker.maintain().map_err(unexpected)?;
                self.acknowledge(Acks::Written)
            }
            Step::Retain(topic, partition) => self.retain(&place(topic, *partition)),
            Step::AddPartitions(topic, total) => {
                let change = Change::AddPartitions { topic: (*topic).to_owned(), total: *total };
                self.history.attempt(change);
                self.broker.admin().add_partitions(topic, *total).map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::Send(topic, partition, bytes) => {
                self.send_new(&place(topic, *partition), *bytes, Acks::Written)
            }
            Step::SendSynced(topic, number, bytes) => {
                self.send_new(&place(topic, *number), *bytes, Acks::Synced)
            }
            Step::SendId(topic, number, id) => self.send_id(&place(topic, *number), id),
            Step::SendLookAlike(topic, number) => self.send_look_alike(&place(topic, *number)),
            Step::SendAll(records) => self.send_all(records),
            Step::Share(step) => self.share_step(*step),
            Step::Transact(records) => self.transact(records, Acks::Written),
            Step::TransactSynced(records) => self.transact(records, Acks::Synced),
            Step::Abort(records) => self.abort(records),
            Step::Flush => {
                self.synced.flush().map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::Commit { group, topic, partition, behind } => {
                self.commit(group, &place(topic, *partition), *behind)
            }
            Step::DeleteOffsets { group, topic, partition } => {
                self.delete_offsets(group, Some(&place(topic, *partition)))
            }
            Step::DeleteGroup(group) => self.delete_offsets(group, None),
            Step::Expire => self.expire(),
            Step::Checkpoint => {
                self.broker.checkpoint().map_err(unexpected)?;
                self.acknowledge(Acks::Synced)
            }
            Step::DuringCheckpoint { pause, steps } => self.during_checkpoint(*pause, steps),
            Step::DuringCompaction { pause, steps } => self.during_compaction(*pause, steps),
            Step::Reopen => self.reopen(),
        }
    }

    /// Notes that the attempted changes were acknowledged, unless the crash happened. A store
    /// through a map cannot report a crash.
    pub(crate) fn acknowledge(&mut self, acks: Acks) -> Result<(), End> {
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        if acks == Acks::Synced {
            self.history.synced();
        } else {
            self.history.written();
        }
        Ok(())
    }

    pub(crate) fn create(
        &mut self,
        topic: &'static str,
        config: &TopicConfig,
        partitions: u32,
    ) -> Result<(), End> {
        self.history.attempt(Change::Create { topic: topic.to_owned(), partitions });
        self.broker
            .create_topic(topic, config.clone().partitions(partitions))
            .map_err(unexpected)?;
        self.acknowledge(Acks::Synced)
    }

    /// Returns bytes that no other record has.
    pub(crate) fn value(&mut self, bytes: usize) -> Vec<u8> {
        let random = SeededRandom::new(self.history.next_id());
        let mut value = Vec::with_capacity(bytes + 8);
        while value.len() < bytes {
            value.extend_from_slice(&random.next_u64().to_be_bytes());
        }
        value.truncate(bytes);
        value
    }

    /// Returns a record around `value`. In turn the records use every feature.
    pub(crate) fn model(&mut self, place: &Place, value: Vec<u8>) -> RecordModel {
        let id = self.history.next_id();
        let key = match &*place.0 {
            COMPACTED => Some(format!("key {}", id / 2 % 3).into_bytes()),
            _ => (id % 4 != 3).then(|| format!("key {id}").into_bytes()),
        };
        let headers = match id % 3 {
            0 => vec![("id".to_owned(), Some(id.to_be_bytes().to_vec())), ("id".to_owned(), None)],
            _ => Vec::new(),
        };
        let value = (!value.is_empty()).then_some(value);
        let own_time = self.broker.describe_topic(&place.0).is_ok_and(|topic| {
            topic.config.contains(&("message.timestamp.type", "CreateTime".to_owned()))
        });
        let timestamp = if own_time && !id.is_multiple_of(5) { NOW - id as i64 } else { NOW };
        RecordModel { key, value, headers, timestamp: Some(timestamp), id: None }
    }

    fn send_new(&mut self, place: &Place, bytes: usize, acks: Acks) -> Result<(), End> {
        let value = self.value(bytes);
        self.send(place, value, acks)
    }

    pub(crate) fn send(&mut self, place: &Place, value: Vec<u8>, acks: Acks) -> Result<(), End> {
        let model = self.model(place, value);
        self.send_model(place, model, acks)
    }

    fn send_model(&mut self, place: &Place, model: RecordModel, acks: Acks) -> Result<(), End> {
        let expected = self.history.state().end(place);
        let model = Arc::new(model);
        self.history.attempt(Change::Append(vec![(place.clone(), Arc::clone(&model))]));
        let producer = if acks == Acks::Synced { &self.synced } else { &self.written };
        let sent = producer.send(record(place, &model)).and_then(Delivery::wait);
        let metadata = sent.map_err(unexpected)?;
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        if metadata.offset() != expected
            || Some(metadata.timestamp().as_millis()) != model.timestamp
        {
            return Err(End::Violation(format!("{metadata:?}, but the log end was {expected}")));
        }
        self.acknowledge(acks)
    }

    fn send_all(&mut self, records: &[(&'static str, u32, usize)]) -> Result<(), End> {
        let mut all = Vec::new();
        for (topic, partition, bytes) in records {
            let place = place(topic, *partition);
            let value = self.value(*bytes);
            let model = Arc::new(self.model(&place, value));
            all.push((place, model));
        }
        self.history.attempt(Change::Append(all.clone()));
        let records = all.iter().map(|(place, model)| record(place, model));
        self.written.send_all(records).map_err(unexpected)?;
        self.acknowledge(Acks::Written)
    }

    /// Sends a record with an id. It must be stored if and only if the id is new.
    fn send_id(&mut self, place: &Place, id: &'static str) -> Result<(), End> {
        let known = self.history.state().ids.get(&place.0).and_then(|ids| {
            ids.iter().find(|(known, _)| known.name == id).map(|(_, place)| *place)
        });
        let end = self.history.state().end(place);
        let value = self.value(100);
        let mut model = self.model(place, value);
        model.id = Some(RecordId { name: id, times: (0, 0) });
        let model = Arc::new(model);
        if known.is_none() {
            self.history.attempt(Change::Append(vec![(place.clone(), Arc::clone(&model))]));
        }
        let sent = self.written.send(record(place, &model).id(id)).map_err(unexpected)?;
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        let metadata = sent.metadata();
        let expected = known.unwrap_or((place.1, end));
        if (metadata.partition(), metadata.offset()) != expected
            || metadata.is_duplicate() != known.is_some()
        {
            return Err(End::Violation(format!("{metadata:?}, but {expected:?} of {known:?}")));
        }
        self.acknowledge(Acks::Written)
    }

    /// Returns the producer that owns the name `o`. It takes the name over once in a life.
    fn owner(&mut self) -> Result<Producer, End> {
        if let Some(owner) = &self.owner {
            return Ok(owner.clone());
        }
        self.history.attempt(Change::Own { owner: OWNER.to_owned() });
        let config = ProducerConfig::new().acks(Acks::Synced).transactional_id(OWNER);
        let owner = self.broker.producer_with(config).map_err(unexpected)?;
        self.acknowledge(Acks::Written)?;
        Ok(self.owner.insert(owner).clone())
    }

    /// Returns records of a transaction, and the offsets that it commits: the end of each partition before it, for two
    /// groups.
    fn planned(&mut self, records: &[(&'static str, u32, usize)]) -> Planned {
        let mut all = Vec::new();
        let mut offsets = Vec::new();
        for (topic, partition, bytes) in records {
            let place = place(topic, *partition);
            let value = self.value(*bytes);
            let model = Arc::new(self.model(&place, value));
            let end = self.history.state().end(&place);
            offsets.push(("g".to_owned(), place.clone(), end));
            offsets.push(("other".to_owned(), place.clone(), end));
            all.push((place, model));
        }
        (all, offsets)
    }

    fn transact(&mut self, records: &[(&'static str, u32, usize)], acks: Acks) -> Result<(), End> {
        let owner = self.owner()?;
        let (all, offsets) = self.planned(records);
        let last = self.history.state().owners.get(OWNER).and_then(|(_, last)| *last);
        let sequence = last.map_or(0, |last| last + 3);
        // A transaction without records changes nothing but offsets.
        let noted = (!all.is_empty()).then(|| (OWNER.to_owned(), sequence));
        let change =
            Change::Transaction { records: all.clone(), offsets: offsets.clone(), sequence: noted };
        let changes_something = !all.is_empty();
        if changes_something {
            self.history.attempt(change);
        }
        let mut transaction = owner.begin().map_err(unexpected)?;
        for ((place, model), sequence) in all.iter().zip(sequence + 1 - all.len() as i64..) {
            // Only the last sequence counts, and those before may be negative at first.
            if sequence >= 0 && last.is_none_or(|last| sequence > last) {
                transaction.send_sequenced(sequence, record(place, model)).map_err(unexpected)?;
            } else {
                transaction.send(record(place, model)).map_err(unexpected)?;
            }
        }
        for (group, place, offset) in offsets {
            let group = GroupMetadata::of_group(group);
            let partition = TopicPartition::new(place.0.as_str(), place.1);
            transaction.send_offsets(&group, [(partition, offset)]).map_err(unexpected)?;
        }
        let committed = transaction.commit().map_err(unexpected)?;
        if acks == Acks::Synced {
            committed.wait().map_err(unexpected)?;
        }
        self.acknowledge(acks)
    }

    fn abort(&mut self, records: &[(&'static str, u32, usize)]) -> Result<(), End> {
        let owner = self.owner()?;
        let (all, _) = self.planned(records);
        let mut transaction = owner.begin().map_err(unexpected)?;
        for (place, model) in &all {
            transaction.send(record(place, model)).map_err(unexpected)?;
        }
        transaction.abort();
        self.acknowledge(Acks::Written)
    }

    fn commit(&mut self, group: &str, place: &Place, behind: i64) -> Result<(), End> {
        let offset = (self.history.state().end(place) - behind).max(0);
        let group = group.to_owned();
        let offsets = vec![(place.clone(), offset)];
        self.history.attempt(Change::Commit { group: group.clone(), offsets });
        let config = ConsumerConfig::new().group(group);
        let mut consumer = self.broker.consumer_with(config).map_err(unexpected)?;
        let partition = TopicPartition::new(place.0.as_str(), place.1);
        consumer.commit_offsets([(partition, offset)]).map_err(unexpected)?;
        self.acknowledge(Acks::Written)
    }

    fn delete_offsets(&mut self, group: &str, place: Option<&Place>) -> Result<(), End> {
        let forgotten = Change::Forget { group: group.to_owned(), place: place.cloned() };
        self.history.attempt(forgotten);
        let admin = self.broker.admin();
        let done = match place {
            None => admin.delete_group(group),
            Some((topic, partition)) => {
                let partition = TopicPartition::new(topic.as_str(), *partition);
                admin.delete_offsets(group, &OffsetScope::Partitions(vec![partition]))
            }
        };
        done.map_err(unexpected)?;
        self.acknowledge(Acks::Synced)
    }

    /// Lets retention delete what the group `g` has read. What it deletes depends on where segments end.
    fn retain(&mut self, place: &Place) -> Result<(), End> {
        let read = self.history.state().offsets.get(&("g".to_owned(), place.clone())).copied();
        let before = read.unwrap_or(0);
        let first = start(&self.broker, place);
        self.history.attempt(Change::MayDelete(vec![(place.clone(), before)]));
        self.broker.admin().run_retention().map_err(unexpected)?;
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        match start(&self.broker, place) {
            Some(before) if first != Some(before) => {
                self.history.attempt(Change::DeleteRecords { place: place.clone(), before });
                self.acknowledge(Acks::Synced)
            }
            _ => self.acknowledge(Acks::Written),
        }
    }

    /// Lets a week pass in which all groups are away. The engine forgets one after the other, in
    /// the order of their names.
    fn expire(&mut self) -> Result<(), End> {
        let groups: BTreeSet<String> =
            self.history.state().offsets.keys().map(|(group, _)| group.clone()).collect();
        // Timestamps may be later than the wall clock, which is set back after each week.
        let stamps = groups.iter().filter_map(|group| self.broker.describe_group(group).ok());
        let stamps = stamps.flat_map(|group| group.offsets).filter_map(|row| row.commit_timestamp);
        let last = stamps.map(Timestamp::as_millis).max().unwrap_or(NOW);
        for group in groups {
            self.history.attempt(Change::Forget { group, place: None });
        }
        let Some(clock) = self.clock.clone() else {
            return Err(End::Violation("the time of this life cannot be moved".into()));
        };
        clock.advance(Duration::from_millis((last - NOW) as u64 + WEEK));
        clock.set_wall(Timestamp::from_millis(last + WEEK as i64));
        let done = self.broker.maintain();
        clock.set_wall(Timestamp::from_millis(NOW));
        done.map_err(unexpected)?;
        self.acknowledge(Acks::Written)
    }

    /// Sends a record to find where in the journal its value lies. Then sends one of the same size,
    /// with bytes at those places that would be frames without the salt.
    fn send_look_alike(&mut self, place: &Place) -> Result<(), End> {
        const BYTES: usize = 640;
        let plain = |value| RecordModel {
            key: None,
            value: Some(value),
            headers: vec![],
            timestamp: Some(NOW),
            id: None,
        };
        let probe = self.value(BYTES);
        self.send_model(place, plain(probe.clone()), Acks::Written)?;
        let mut files = journal_file::read(&self.memory).into_iter();
        let found = files.find_map(|file| {
            let at = file.bytes.windows(BYTES).position(|bytes| bytes == probe)?;
            let frame = *file.frames.iter().find(|frame| frame.end > at)?;
            Some((file.sequence, at + frame.end - frame.position))
        });
        let (sequence, start) =
            found.ok_or_else(|| End::Violation("the journal does not hold the record".into()))?;
        let mut value = vec![0; BYTES];
        let first = start.next_multiple_of(8) - start;
        for frame in value[first..].chunks_exact_mut(FRAME_HEADER).enumerate() {
            let position = start + first + frame.0 * FRAME_HEADER;
            frame.1.copy_from_slice(&journal_file::look_alike(sequence, position));
        }
        self.send_model(place, plain(value.clone()), Acks::Written)?;
        let lies_there = journal_file::read(&self.memory).iter().any(|file| {
            file.sequence == sequence && file.bytes.get(start..start + BYTES) == Some(&value)
        });
        let elsewhere = || End::Violation("the value lies elsewhere than its probe".into());
        lies_there.then_some(()).ok_or_else(elsewhere)
    }

    fn during_checkpoint(&mut self, pause: u32, steps: &[Step]) -> Result<(), End> {
        let before = self.history.attempted();
        self.beside(pause, steps, Broker::checkpoint, |_| {})?;
        // Everything from before it is in the checkpoint.
        self.history.synced_up_to(before);
        Ok(())
    }

    fn during_compaction(&mut self, pause: u32, steps: &[Step]) -> Result<(), End> {
        // A pass may follow over what the steps have sent.
        let may = |history: &mut History| {
            history.attempt(Change::MayCompact { topic: COMPACTED.to_owned() });
        };
        may(&mut self.history);
        self.beside(pause, steps, Broker::maintain, may)
    }

    /// Does the steps while another thread, which does the work, is stopped before its `pause`-th call. `may_follow`
    /// notes what the thread may change after the steps.
    fn beside(
        &mut self,
        pause: u32,
        steps: &[Step],
        work: fn(&Broker) -> grouplog::Result<()>,
        may_follow: fn(&mut History),
    ) -> Result<(), End> {
        let (broker, turnstile) = (self.broker.clone(), Arc::clone(&self.turnstile));
        turnstile.arm(pause);
        let (inner, done) = std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                turnstile.watch_me();
                let done = work(&broker);
                turnstile.done();
                done
            });
            turnstile.wait_stopped();
            let inner = self.run(steps);
            may_follow(&mut self.history);
            turnstile.open();
            (inner, working.join())
        });
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        inner?;
        let done = done.map_err(|_| End::Violation("the other thread panics".into()))?;
        done.map_err(unexpected)
    }

    fn reopen(&mut self) -> Result<(), End> {
        self.broker.clone().close().map_err(unexpected)?;
        self.acknowledge(Acks::Synced)?;
        let all = self.history.attempted();
        let mut history = self.history.clone();
        let next = Self::begin(&self.memory, self.setup, &mut history, all, self.number + 1000)?;
        *self = Self { number: self.number, found: self.found, ..next };
        if self.broker.recovery_report().unclean {
            return Err(End::Violation("a closed folder is unclean".into()));
        }
        Ok(())
    }

    /// Closes the folder, as a program does that ends normally.
    pub(crate) fn close(&mut self) -> Result<(), End> {
        let closed = self.broker.clone().close();
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        closed.map_err(unexpected)?;
        self.acknowledge(Acks::Synced)
    }

    /// Ends the process here. Dropping the engine changes nothing any more.
    pub(crate) fn kill(self) {
        self.memory.crash_at(self.memory.ops() + 1);
        // Ensures that nothing of this call is left over.
        drop(self.memory.sync_dir(Path::new("")));
    }
}

pub(crate) fn place(topic: &str, partition: u32) -> Place {
    (topic.to_owned(), partition)
}

pub(crate) fn record<'a>((topic, partition): &'a Place, model: &'a RecordModel) -> Record<'a> {
    let mut record = Record::to(topic).partition(*partition);
    if let Some(key) = &model.key {
        record = record.key(key);
    }
    if let Some(value) = &model.value {
        record = record.value(value);
    }
    for (name, value) in &model.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    // A record without a timestamp has the time of the clock, which does not advance.
    match model.timestamp {
        None | Some(NOW) => record,
        Some(timestamp) => record.timestamp(Timestamp::from_millis(timestamp)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(crate) fn unexpected(error: grouplog::Error) -> End {
    End::Violation(format!("unexpected: {error:?}"))
}
