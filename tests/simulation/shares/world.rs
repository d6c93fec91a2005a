//! The life of one seed: folders are opened, used by members of share groups, and left in one way or another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use grouplog::storage::{Crash, Memory, Storage};
use grouplog::time::{Clock, ManualClock, Random, SeededRandom};
use grouplog::{Broker, BrokerConfig, Error, Timestamp, TopicConfig};

use super::action::Action;
use super::fate::{Job, Number};
use super::history::History;
use super::member::Session;
use super::options::Options;
use super::tally::Tally;
use super::{GROUPS, RESULTS, TOPICS};
use crate::oracle::Place;
use crate::trace::Trace;
use crate::world::{End, FILE_BYTES, Step, violation, what_of};

/// The program, its machine, and what is known of its jobs.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Options,
    pub(super) random: SeededRandom,
    pub(super) clock: Arc<ManualClock>,
    pub(super) memory: Memory,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    /// All jobs that were sent, or may have been.
    pub(super) jobs: BTreeMap<Number, Job>,
    /// The log ends.
    pub(super) ends: BTreeMap<Place, i64>,
    /// How often each topic was deleted. What members have of an earlier one is nothing any more.
    pub(super) deletions: BTreeMap<&'static str, u64>,
    /// Jobs of a group whose attempt has ended, or will, without a word that says when they come again: the latest time for
    /// that, in ms, once a member has looked.
    pub(super) loose: BTreeMap<(usize, Number), Option<i64>>,
    pub(super) is_paused: [bool; 2],
    /// The change of files at which calls begin to fail.
    pub(super) fault: Option<u64>,
    /// The latest time that the wall clock showed, in ms.
    pub(super) latest: i64,
    pub(super) names: u64,
    /// At least this many calls must have left what they did when the folder is opened next, if fewer than the history
    /// says.
    promised: usize,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        Self {
            options,
            random: SeededRandom::new(seed),
            clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000))),
            memory: Memory::crash_simulating(seed),
            history: History::default(),
            trace: Trace::default(),
            tally: Tally::default(),
            jobs: BTreeMap::new(),
            ends: BTreeMap::new(),
            deletions: BTreeMap::new(),
            loose: BTreeMap::new(),
            is_paused: [false; 2],
            fault: None,
            latest: 0,
            names: 0,
            promised: usize::MAX,
        }
    }

    /// Returns a number below `bound`, which is not 0.
    pub(super) fn below(&self, bound: usize) -> usize {
        (self.random.next_u64() % bound as u64) as usize
    }

    pub(super) fn one_in(&self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// Returns what the wall clock shows, in ms.
    pub(super) fn wall(&self) -> i64 {
        self.clock.now().as_millis()
    }

    pub(super) fn note(&mut self, what: impl AsRef<str>) {
        self.trace.note(self.memory.ops(), what.as_ref());
    }

    /// Fails if the machine has crashed. Also ends the process if a call to the storage was made to fail: what came of it
    /// is not certain any more.
    pub(super) fn alive(&mut self) -> Step {
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        if self.fault.is_some_and(|at| at <= self.memory.ops()) {
            self.tally.count("faults met");
            self.note("a fault was met");
            return Err(self.kill());
        }
        Ok(())
    }

    /// Notes that a call has failed. Returns whether it has done nothing, as its error says: all but one kind do. What a
    /// program is told after its machine has stopped does not count.
    pub(super) fn has_failed(&mut self, error: &Error) -> bool {
        let is_certain =
            !matches!(error, Error::Indeterminate { .. }) && !self.memory.has_crashed();
        if is_certain {
            self.history.take_back();
        }
        is_certain
    }

    /// Runs the whole life. Returns the broken promise, if any.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.options.lives {
            self.live().map_err(what_of)?;
        }
        self.last_life().map_err(what_of)
    }

    fn live(&mut self) -> Step {
        self.tally.count("lives");
        let mut session = self.open(true)?;
        let steps = 1 + self.below(self.options.steps_max);
        let mut done = Ok(());
        for _ in 0..steps {
            done = self.step(&mut session);
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
        let action = self.possible(session, self.next_action());
        self.tally.count(format!("{action:?}"));
        match action {
            Action::Send => self.send(session, false),
            Action::SendSynced => self.send_synced(session),
            Action::SendDelayed => self.send(session, true),
            Action::SendAll => self.send_all(session),
            Action::Flush => self.flush(session),
            Action::CreateTopic => self.create_topic(session),
            Action::DeleteTopic => self.delete_topic(session),
            Action::DeleteRecords => self.delete_records(session),
            Action::Retain => self.retain(session),
            Action::Checkpoint => self.checkpoint(session),
            Action::Look => self.look(session),
            Action::LookBehind => self.look_behind(),
            Action::Join => self.join(session),
            Action::Poll => self.poll_one(session),
            Action::PollAll => self.poll_all(session),
            Action::Say => self.say_something(session),
            Action::Renew => self.renew(session),
            Action::Transact => self.transact(session),
            Action::Leave => self.leave_one(session),
            Action::Pause => self.pause(session),
            Action::Reset => self.reset(session),
            Action::DeleteGroup => self.delete_group(session),
            Action::ByHand => self.end_by_hand(session),
            Action::Vanish => {
                self.vanish(session);
                Ok(())
            }
            _ => {
                self.disturb(action);
                Ok(())
            }
        }
    }

    /// Returns the action, or what comes before it: jobs need topics, and words need jobs in hands.
    fn possible(&self, session: &Session, action: Action) -> Action {
        let needs_jobs = [Action::Say, Action::Transact, Action::Renew].contains(&action);
        let has_jobs = || session.members.iter().any(|member| !member.held.is_empty());
        if self.ends.is_empty() && self.one_in(2) {
            Action::CreateTopic
        } else if session.members.is_empty() && self.one_in(2) {
            Action::Join
        } else if needs_jobs && !has_jobs() {
            Action::Poll
        } else {
            action
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

    pub(super) fn config(&self, clock: &Arc<ManualClock>) -> BrokerConfig {
        BrokerConfig::new()
            .background(false)
            .journal_mode(self.options.mode)
            .journal_file_bytes(FILE_BYTES as u32)
            .journal_max_bytes(self.options.journal_files * FILE_BYTES)
            .read_mode(self.options.read_mode)
            .batch_size(self.options.batch_size)
            .stored_append_bytes(self.options.stored_from)
            .clock(Arc::clone(clock) as _)
            .random(Arc::new(SeededRandom::new(self.random.next_u64())))
    }

    /// Opens the folder. If `disturbed`, crashes may interrupt that.
    pub(super) fn open(&mut self, disturbed: bool) -> Step<Session> {
        let may_crash = disturbed && self.options.crash_in_recovery;
        for attempt in 0.. {
            if may_crash && attempt < 3 && self.one_in(2) {
                let op = self.memory.ops() + 1 + self.below(60) as u64;
                self.memory.crash_at(op);
                self.note(format!("crash at {op} while opening"));
            }
            let config = self.config(&self.clock);
            let opened = Broker::open_storage(Arc::new(self.memory.clone()), config);
            if self.memory.has_crashed() {
                drop(opened);
                self.crash();
                continue;
            }
            // Far beyond the rest of the work: no crash meant for opening happens later.
            self.memory.crash_at(u64::MAX);
            return match opened {
                Ok(broker) => self.opened(broker),
                Err(error) => violation(format!("opening fails: {error:?}")),
            };
        }
        violation("opening never succeeds")
    }

    fn opened(&mut self, broker: Broker) -> Step<Session> {
        let promised = self.promised.min(self.history.promised(false));
        self.note(format!("opened, {promised} calls promised"));
        if !broker.health().problems().is_empty() {
            return violation(format!("health after opening: {}", broker.health()));
        }
        let seen = self.observe(self.memory.crash(Crash::Kill, &self.random))?;
        let found = self.history.explain(&seen, promised).or_else(violation)?;
        self.loose.clear();
        for (number, fate) in &found {
            let begun = |group: &usize| fate.groups[*group].open.is_some_and(|count| count > 0);
            self.loose.extend((0..2).filter(begun).map(|group| ((group, *number), None)));
        }
        self.history = History::begin(found);
        self.promised = usize::MAX;
        self.settle_in(&broker)?;
        let session = Session::new(broker);
        let mut session = session.or_else(|error| violation(format!("no producer: {error:?}")))?;
        // Those of earlier lives have been seen.
        self.new_letters(&mut session)?;
        Ok(session)
    }

    /// Creates what the program needs in each folder, and finds out what there is.
    fn settle_in(&mut self, broker: &Broker) -> Step {
        let admin = broker.admin();
        let made = admin.ensure_topic(RESULTS, TopicConfig::new());
        made.or_else(|error| violation(format!("{RESULTS}: {error:?}")))?;
        for (group, name) in GROUPS.into_iter().enumerate() {
            let config = self.options.groups[group].config();
            let altered = admin.alter_share_group(name, config);
            altered.or_else(|error| violation(format!("{name}: {error:?}")))?;
            let summary = admin.describe_share_group(name);
            self.is_paused[group] = summary.is_ok_and(|summary| summary.paused);
        }
        self.ends.clear();
        for topic in TOPICS {
            let partitions =
                broker.describe_topic(topic).map_or(Vec::new(), |told| told.partitions);
            for told in partitions {
                let place = (topic.to_owned(), told.partition.partition());
                self.ends.insert(place, told.end_offset);
            }
        }
        Ok(())
    }

    /// Ends the process or the machine here.
    pub(super) fn crash(&mut self) {
        let kind = self.kind_of_crash();
        let power_loss = !matches!(kind, Crash::Kill);
        self.tally.count(if power_loss { "power losses" } else { "kills" });
        self.note(format!("crash: {kind:?}"));
        self.memory = self.memory.crash(kind, &self.random);
        self.promised = self.promised.min(self.history.promised(power_loss));
        self.fault = None;
    }

    pub(super) fn kind_of_crash(&self) -> Crash {
        let power_loss = self.options.power_loss && self.one_in(2);
        match self.below(5) {
            _ if !power_loss => Crash::Kill,
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            2 => Crash::Subset { unit: 512 },
            3 => Crash::Subset { unit: 4096 },
            _ => Crash::TornUnit,
        }
    }

    /// Ends the process here.
    pub(super) fn kill(&mut self) -> End {
        self.memory.crash_at(self.memory.ops() + 1);
        // Ensures that nothing of this call is left over.
        drop(self.memory.sync_dir(Path::new("")));
        End::Crash
    }
}
