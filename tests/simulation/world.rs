//! The life of one seed: folders are opened, used, and left in one way or another, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, FileKind, Memory, OpenMode, Storage};
use grouplog::time::{Clock, ManualClock, Random, SeededRandom};
use grouplog::{Broker, BrokerConfig, Error, Position, Problem, Timestamp, TopicId};

use crate::action::Action;
use crate::disturb::Trouble;
use crate::folder;
use crate::member::Kept;
use crate::observe::observe;
use crate::options::Options;
use crate::oracle::{Change, History, Place};
use crate::session::Session;
use crate::trace::Trace;

/// The size of an ordinary journal file.
pub(crate) const FILE_BYTES: u64 = 64 << 10;

/// The disk budget, and the size of a file that leaves little of it.
pub(crate) const BUDGET: u64 = 2 << 20;
const BALLAST: u64 = 1_000_000;

/// Why a step did not complete.
#[derive(Debug)]
pub(crate) enum End {
    /// The requested crash happened.
    Crash,
    /// The engine broke a promise.
    Violation(String),
}

/// The result of a step.
pub(crate) type Step<T = ()> = Result<T, End>;

pub(crate) fn violation<T>(what: impl Into<String>) -> Step<T> {
    Err(End::Violation(what.into()))
}

/// The program, its machine, and what is known about its data.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) random: SeededRandom,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) memory: Memory,
    pub(crate) history: History,
    pub(crate) trouble: Trouble,
    pub(crate) trace: Trace,
    /// Positions that a program keeps outside of the engine.
    pub(crate) kept: Vec<Kept>,
    /// How often each topic was created. What a consumer knows about an earlier one is useless.
    pub(crate) incarnations: BTreeMap<String, u64>,
    /// The ids of the topics that exist.
    pub(crate) topic_ids: BTreeMap<String, TopicId>,
    /// The topics whose records get the broker's timestamps.
    pub(crate) append_time: BTreeSet<String>,
    /// At least this many changes must exist when the folder is opened next, if fewer than the
    /// history says.
    promised: usize,
    /// Set if the last life ended with a close that reported success.
    closed: bool,
    /// The maximum total size of the journal's files.
    journal_most: u64,
    /// The blocks of a file that was added behind the engine's back since the folder was opened, in bytes.
    uncounted: u64,
    pub(crate) names: u64,
    /// The latest time that the wall clock showed before it was set, in ms.
    pub(crate) latest: i64,
    /// How often the folder has forgotten the names of producers.
    pub(crate) disowned: BTreeMap<&'static str, u64>,
    /// What the last change lacked of the disk budget, in bytes, if that was why it was refused.
    pub(crate) short_of: Option<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        Self {
            options,
            random: SeededRandom::new(seed),
            clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000))),
            memory: Memory::crash_simulating(seed),
            history: History::default(),
            trouble: Trouble::default(),
            trace: Trace::default(),
            kept: Vec::new(),
            incarnations: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            append_time: BTreeSet::new(),
            promised: usize::MAX,
            closed: false,
            journal_most: 0,
            uncounted: 0,
            names: 0,
            latest: 0,
            disowned: BTreeMap::new(),
            short_of: None,
        }
    }

    /// Returns a number below `bound`, which is not 0.
    pub(crate) fn below(&self, bound: usize) -> usize {
        (self.random.next_u64() % bound as u64) as usize
    }

    pub(crate) fn one_in(&self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn note(&mut self, what: impl AsRef<str>) {
        self.trace.note(self.memory.ops(), what.as_ref());
    }

    /// Fails if the machine has crashed.
    pub(crate) fn alive(&self) -> Step {
        if self.memory.has_crashed() { Err(End::Crash) } else { Ok(()) }
    }

    /// Runs the whole life. Returns the broken promise, if any.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.lives {
            self.live().map_err(what_of)?;
        }
        self.last_life().map_err(what_of)
    }

    fn live(&mut self) -> Step {
        self.trace.tally.lives += 1;
        let mut session = self.open(true)?;
        let steps = 1 + self.below(self.options.steps_max);
        let mut done = Ok(());
        for _ in 0..steps {
            let step = self.step(&mut session).and_then(|()| self.check_journal());
            done = step.and_then(|()| self.check_health(&session));
            if done.is_err() {
                break;
            }
        }
        match done.and_then(|()| self.end_life(&mut session)) {
            Ok(()) => Ok(()),
            Err(End::Crash) => {
                self.crash();
                Ok(())
            }
            violation => violation,
        }
    }

    fn step(&mut self, session: &mut Session) -> Step {
        // Without a topic there is little to do.
        let idle = self.history.state().topics.is_empty() && self.one_in(2);
        let action = if idle { Action::CreateTopic } else { self.next_action() };
        self.trace.tally.count(action);
        match action {
            Action::Send => self.send(session),
            Action::SendSynced => self.send_synced(session),
            Action::Wait => self.wait(session),
            Action::SendAll => self.send_all(session),
            Action::Flush => self.flush(session),
            Action::CreateTopic => self.create_topic(session),
            Action::DeleteTopic => self.delete_topic(session),
            Action::RecreateTopic => self.recreate_topic(session),
            Action::DeleteRecords => self.delete_records(session),
            Action::Retain => self.retain(session),
            Action::Compact => self.compact(session),
            Action::Own => self.own(session),
            Action::SendAt => self.send_at(session),
            Action::SendSequenced => self.send_sequenced(session),
            Action::Transact => self.transact(session),
            Action::EndTransaction => self.end_transaction(session),
            Action::Checkpoint => self.checkpoint(session),
            Action::Look => self.look(session),
            Action::LookBeside => self.look_beside(session),
            Action::Subscribe => self.subscribe(session),
            Action::Assign => self.assign(session),
            Action::Poll => self.poll_one(session),
            Action::Commit => self.commit(session),
            Action::CommitOffsets => self.commit_offsets(session),
            Action::Seek => self.seek(session),
            Action::SeekToTimestamp => self.seek_to_timestamp(session),
            Action::Pause => self.pause(session),
            Action::Leave => self.leave(session),
            Action::Stall => self.stall(session),
            _ => {
                self.disturb(action);
                Ok(())
            }
        }
    }

    fn next_action(&self) -> Action {
        let total: u32 = self.options.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total as usize) as u32;
        for (action, weight) in &self.options.weights {
            if at < *weight {
                return *action;
            }
            at -= weight;
        }
        Action::Send
    }

    pub(crate) fn config(&self) -> BrokerConfig {
        let config = BrokerConfig::new();
        let config = if self.options.budget { config.disk_budget(BUDGET) } else { config };
        config
            .background(false)
            .journal_mode(self.options.mode)
            .journal_file_bytes(FILE_BYTES as u32)
            .journal_max_bytes(self.options.journal_files * FILE_BYTES)
            .read_mode(self.options.read_mode)
            .batch_size(self.options.batch_size)
            .stored_append_bytes(self.options.stored_from)
            // Each opening may find that a day has passed, because the wall clock leaps.
            .offsets_retention(Duration::MAX)
            .clock(Arc::clone(&self.clock) as _)
            .random(Arc::new(SeededRandom::new(self.random.next_u64())))
    }

    /// Opens the folder and reads all of it. If `disturbed`, crashes and faults may interrupt that.
    pub(crate) fn open(&mut self, disturbed: bool) -> Step<Session> {
        let may_crash = disturbed && self.options.crash_in_recovery;
        for attempt in 0.. {
            let before = self.journal_bytes();
            if may_crash && attempt < 3 && self.one_in(2) {
                let op = self.memory.ops() + 1 + self.below(60) as u64;
                self.memory.crash_at(op);
                self.note(format!("crash at {op} while opening"));
            }
            if disturbed && attempt < 3 && self.options.reads_fail() && self.one_in(3) {
                let persistent = self.one_in(2);
                self.set_read_fault(60, persistent);
            }
            let mark = self.mark();
            let opened = Broker::open_storage(Arc::new(self.memory.clone()), self.config());
            if self.memory.has_crashed() {
                drop(opened);
                self.crash();
                continue;
            }
            // Far beyond the rest of the work: no crash meant for opening happens later.
            self.memory.crash_at(u64::MAX);
            match opened {
                Ok(broker) => {
                    let unread = self.read_failed_since(mark);
                    self.heal();
                    return self.opened(broker, before, unread);
                }
                Err(error) => {
                    self.note(format!("opening fails: {error}"));
                    self.judge(&error, mark)?;
                    self.end_trouble();
                }
            }
        }
        violation("opening never succeeds")
    }

    /// `before`: the size of the journal before. `unread`: a read failed while the folder was
    /// opened.
    fn opened(&mut self, broker: Broker, before: u64, unread: bool) -> Step<Session> {
        let promised = self.promised.min(self.history.promised(false));
        self.note(format!("opened, promised {promised} of {}", self.history.attempted()));
        let report = broker.recovery_report();
        if self.closed && (report.unclean || report.segment_bytes_cut > 0) {
            return violation(format!("a closed folder needs repair: {report:?}"));
        }
        let seen = observe(&broker).map_err(End::Violation)?;
        let found = self.history.explain(&seen, promised).map_err(End::Violation)?;
        // On a full disk the recovery checkpoint is delayed. Nothing is `Synced` before it.
        let health = broker.health();
        let harmless = |problem: &Problem| matches!(problem, Problem::DiskBudget { .. });
        let settled = health.problems().iter().all(harmless);
        if !settled && !self.is_troubled() && !unread {
            return violation(format!("health after opening: {}", broker.health()));
        }
        self.history.found(found, settled);
        self.history.note_starts(&seen, settled);
        self.promised = usize::MAX;
        self.closed = false;
        // An opening continues in an unneeded file, and keeps another one in which the next opening
        // could continue. If there are none, it creates both beyond the limit, the second one only
        // if there is space. Nothing else creates a file beyond the limit, whatever fails.
        let least = before.max(self.options.journal_files * FILE_BYTES);
        self.journal_most = least + 2 * FILE_BYTES;
        self.check_journal()?;
        if settled {
            let files = least.div_ceil(FILE_BYTES);
            folder::check(&self.memory, &broker, files).map_err(End::Violation)?;
        }
        self.note_topic_ids(&broker);
        self.check_ids(&broker)?;
        self.check_kept(&broker)?;
        self.add_ballast();
        Session::new(broker).or_else(|error| violation(format!("no producer: {error:?}")))
    }

    /// Adds a file that the next opening counts. Otherwise few lives would reach the budget.
    fn add_ballast(&mut self) {
        self.uncounted = 0;
        let path = Path::new("ballast");
        if self.options.budget
            && !self.is_troubled()
            && matches!(self.memory.metadata(path), Ok(None))
        {
            self.uncounted = BALLAST.next_multiple_of(4096);
            let file = self.memory.open(path, OpenMode::CreateNew);
            let _crashed = file.and_then(|file| {
                file.set_len(BALLAST)?;
                file.sync_data()?;
                self.memory.sync_dir(Path::new(""))
            });
        }
    }

    /// Returns the blocks of all files, in bytes.
    fn weight(&self) -> u64 {
        let mut bytes = 0;
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in self.memory.list(&folder).unwrap_or_default() {
                let path = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Dir => folders.push(path),
                    _ => bytes += self.memory.disk_bytes(&path).unwrap_or(0).next_multiple_of(4096),
                }
            }
        }
        bytes
    }

    fn journal_bytes(&self) -> u64 {
        let folder = Path::new("journal");
        let names = self.memory.list(folder).unwrap_or_default().into_iter();
        let names = names.filter(|entry| entry.name.ends_with(".journal"));
        let lens = names.map(|entry| self.memory.metadata(&folder.join(entry.name)));
        lens.map(|file| file.unwrap().map_or(0, |(_, len)| len)).sum()
    }

    /// Checks that the journal keeps its limit, however long calls fail. Only openings may exceed
    /// it.
    fn check_journal(&self) -> Step {
        if self.memory.has_crashed() || !self.can_look() {
            return Ok(());
        }
        let weight = if self.options.budget { self.weight() } else { 0 };
        if weight > BUDGET + self.uncounted {
            return violation(format!("the files take {weight} bytes"));
        }
        let (bytes, most) = (self.journal_bytes(), self.journal_most);
        if bytes > most {
            return violation(format!("the journal takes {bytes} bytes, not {most} at most"));
        }
        Ok(())
    }

    /// Ends the process or the machine here.
    pub(crate) fn crash(&mut self) {
        let power_loss = self.options.power_loss && self.one_in(2);
        let kind = match self.below(5) {
            _ if !power_loss => Crash::Kill,
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            2 => Crash::Subset { unit: 512 },
            3 => Crash::Subset { unit: 4096 },
            _ => Crash::TornUnit,
        };
        self.trace.tally.power_losses += u64::from(power_loss);
        self.trace.tally.kills += u64::from(!power_loss);
        self.note(format!("crash: {kind:?}"));
        self.memory = self.memory.crash(kind, &self.random);
        self.promised = self.promised.min(self.history.promised(power_loss));
        self.end_trouble_of_storage();
    }

    /// Ends the process here.
    pub(crate) fn kill(&mut self) -> End {
        self.memory.crash_at(self.memory.ops() + 1);
        // Ensures that nothing of this call is left over.
        drop(self.memory.sync_dir(Path::new("")));
        End::Crash
    }

    /// Notes that the folder was closed: everything is durable, and nothing is left to repair.
    pub(crate) fn was_closed(&mut self) {
        self.history.synced();
        // If the engine could not remove the file of a deleted segment, the next opening does.
        self.closed = !self.has_ever_failed() && !self.has_read_failed();
    }

    /// Notes a change and tries it. Returns its result, or `None` if it was refused for a good
    /// reason.
    pub(crate) fn change<T>(
        &mut self,
        session: &mut Session,
        change: Change,
        call: impl FnOnce(&mut Session) -> grouplog::Result<T>,
    ) -> Step<Option<T>> {
        let had_failed = session.has_failed();
        let mark = self.mark();
        let needs_journal = !change.is_nothing();
        self.history.attempt(change);
        let result = call(session);
        self.note_short(result.as_ref().err());
        self.alive()?;
        match result {
            Ok(_) if had_failed && needs_journal => {
                violation("a change succeeds although a write had failed")
            }
            Ok(value) => {
                self.history.written();
                Ok(Some(value))
            }
            Err(error @ Error::Indeterminate { .. }) => {
                self.note(format!("  {error}"));
                self.is_undecided(session);
                self.judge(&error, mark)?;
                Ok(None)
            }
            Err(error) => {
                self.take_back();
                self.note(format!("  {error}"));
                self.judge(&error, mark)?;
                Ok(None)
            }
        }
    }

    /// Notes what the disk budget lacks, if an append was refused for that.
    pub(crate) fn note_short(&mut self, error: Option<&Error>) {
        self.short_of = match error {
            Some(Error::DiskBudget { budget, taken, needed }) => Some(taken + needed - budget),
            _ => None,
        };
        self.trace.tally.no_room += u64::from(self.short_of.is_some());
    }

    /// Notes that the last change may or may not survive. If writing continues, the change is in
    /// the journal, and only the checkpoint that `Synced` waits for failed. Otherwise the change
    /// may exist or not, until the folder is opened again.
    pub(crate) fn is_undecided(&mut self, session: &Session) {
        if !session.has_failed() {
            self.history.written();
        }
    }

    /// Notes that the last change was refused.
    pub(crate) fn take_back(&mut self) {
        self.history.cut_to(self.history.attempted().saturating_sub(1));
    }

    /// Returns whether the result of some change is unknown.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.history.attempted() > self.history.promised(false)
    }

    /// Records the ids of the topics that exist now.
    pub(crate) fn note_topic_ids(&mut self, broker: &Broker) {
        let topics = broker.list_topics().into_iter();
        let ids = topics.filter_map(|name| Some((broker.describe_topic(&name).ok()?.id, name)));
        self.topic_ids = ids.map(|(id, name)| (name, id)).collect();
    }

    /// Returns whether a position belongs to the topic that has the name of `place` now.
    pub(crate) fn is_current(&self, place: &Place, position: &Position) -> bool {
        position.topic_id() == self.topic_ids.get(&place.0).copied()
    }

    /// Returns whether a partition exists.
    pub(crate) fn exists(&self, (topic, partition): &Place) -> bool {
        let topics = &self.history.state().topics;
        topics.get(topic).is_some_and(|logs| logs.len() > *partition as usize)
    }

    /// Returns a partition of an existing topic.
    pub(crate) fn any_place(&self) -> Option<Place> {
        let topics = &self.history.state().topics;
        let count = topics.len();
        let (topic, logs) = topics.iter().nth(if count == 0 { 0 } else { self.below(count) })?;
        Some((topic.clone(), self.below(logs.len()) as u32))
    }
}

pub(crate) fn what_of(end: End) -> String {
    match end {
        End::Violation(what) => what,
        End::Crash => "a crash that nobody asked for".to_owned(),
    }
}
