//! Compacts topics: see [`crate::log`], `compaction`.
//!
//! The thread of [`crate::engine::cleaner`] runs rounds. A round takes all partitions that are due, those with the
//! largest share of dirty bytes first, then looks again. Only what a durable checkpoint lists may be compacted, so a round asks for a checkpoint if
//! that is what is missing, and after each pass: the checkpoint lets the replaced files go.

use std::sync::Arc;

use crate::cleaner::NotCleaned;
use crate::engine::cleaner::{AtOnce, Rounds, Throttle};
use crate::engine::compaction_report::CompactionTotals;
use crate::engine::registry::Topic;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::log::{Compacted, CompactionJob, Log, Pace, Totals};
use crate::storage::Ledger;
use crate::types::TopicPartition;

/// How often a pass is tried again whose segments were deleted meanwhile.
const ATTEMPTS: usize = 8;

impl Engine {
    /// Compacts a topic now, as far as its settings allow: rolls the active segments, and cleans all that is dirty, however little it is. Returns what the passes did.
    ///
    /// # Errors
    /// `UnknownTopic`; `PolicyViolation` if the topic is not compacted; the first failure. The other partitions are
    /// compacted nevertheless.
    pub(crate) fn compact_topic(&self, name: &str) -> Result<CompactionTotals> {
        self.check_open()?;
        let topic = self.registry.topic(name)?;
        if !topic.config.cleanup_policy.compacts() {
            return Err(Error::PolicyViolation {
                topic: name.to_owned(),
                reason: "the topic is not compacted; set cleanup.policy to compact first",
            });
        }
        let _one = self.cleaner.hurry();
        self.check_open()?;
        let before = totals(&topic);
        let mut first = None;
        for log in &topic.logs {
            let rolled = log.roll().map(|_| ());
            first = first.or(failure(log, rolled));
        }
        // Only what is durable may be compacted, and only then are the old files removed.
        self.checkpoint()?;
        for log in &topic.logs {
            let compacted = self.compact_whole(log);
            first = first.or(failure(log, compacted));
        }
        self.checkpoint()?;
        self.check_open()?;
        match first {
            Some((_, error)) => Err(error),
            None => Ok(CompactionTotals::between(&before, &totals(&topic))),
        }
    }

    /// Runs passes over a partition until all of it is clean.
    fn compact_whole(&self, log: &Log) -> Result<()> {
        let mut interrupted = 0;
        loop {
            match self.compact_partition(log, true, &AtOnce(&self.cleaner))? {
                Compacted::Done { again: true } => {}
                Compacted::Done { again: false } | Compacted::NotCleaned(_) => return Ok(()),
                Compacted::Interrupted if interrupted < ATTEMPTS && self.check_open().is_ok() => {
                    interrupted = interrupted.saturating_add(1);
                }
                Compacted::Interrupted => return self.check_open(),
            }
        }
    }

    fn compact_partition(&self, log: &Log, forced: bool, pace: &dyn Pace) -> Result<Compacted> {
        let mut hash_key = [0; 16];
        hash_key.chunks_mut(8).for_each(|half| {
            half.copy_from_slice(&self.random().next_u64().to_ne_bytes());
        });
        let job = CompactionJob {
            now: self.now_for_ages(),
            map_bytes: self.config.cleaner_memory,
            hash_key,
            forced,
            // The reserve, should it have to be set aside again, is as large as the journal.
            keep_free: self.journal.total_bytes(),
            pace,
        };
        loop {
            match log.compact(&job) {
                // A checkpoint lets go of what the pass has replaced so far, which makes room for the rest.
                Err(Error::DiskBudget { .. }) if log.has_replaced() => self.checkpoint()?,
                compacted => return compacted,
            }
        }
    }

    /// Compacts what is due. A failure of one partition does not keep the others from being compacted. `health` keeps
    /// the first one until a round succeeds. Returns whether anything was compacted, and the first failure.
    pub(in crate::engine) fn compact_due(&self, pace: &dyn Pace) -> (bool, Result<()>) {
        let _one = self.cleaner.lock();
        let (mut first, mut done) = (None, false);
        self.roll_old_segments(&mut first);
        for log in self.due() {
            let mut again = true;
            while again && self.check_open().is_ok() {
                let compacted = self.compact_partition(&log, false, pace);
                done |= matches!(compacted, Ok(Compacted::Done { .. }));
                again = matches!(compacted, Ok(Compacted::Done { again: true }));
                first = first.or(failure(&log, compacted.map(|_| ())));
            }
        }
        self.troubles.compaction.lock().clone_from(&first);
        (done, first.map_or(Ok(()), |(_, error)| Err(error)))
    }

    fn roll_old_segments(&self, first: &mut Option<(TopicPartition, Error)>) {
        let now = self.now_for_ages();
        for topic in self.compacted_topics() {
            for log in &topic.logs {
                let rolled = log.roll_old(now);
                *first = first.take().or(failure(log, rolled));
            }
        }
    }

    /// Returns the partitions that are due, those with the largest share of dirty bytes first.
    fn due(&self) -> Vec<Arc<Log>> {
        let now = self.now_for_ages();
        let mut due: Vec<(f64, Arc<Log>)> = Vec::new();
        let mut waits = false;
        for topic in self.compacted_topics() {
            for log in &topic.logs {
                let selection = log.cleanable(now);
                waits |= matches!(selection.not_cleaned, Some(NotCleaned::NotDurable { .. }));
                if selection.not_cleaned.is_none() && log.compaction_damage().is_none() {
                    due.push((selection.ratio(), Arc::clone(log)));
                }
            }
        }
        if waits && self.config.background {
            self.background.request_checkpoint();
        }
        due.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        due.into_iter().map(|(_, log)| log).collect()
    }

    /// Sets the room in the disk budget aside that a pass needs for its copy, while topics are compacted. Otherwise a
    /// full folder could never become smaller.
    pub(in crate::engine) fn keep_room_for_copies(&self) {
        let Some(ledger) = &self.logs.ledger else { return };
        let topics = self.compacted_topics();
        let most = topics.iter().map(|topic| u64::from(topic.config.segment_bytes)).max();
        let room = |bytes: u64| Ledger::copy_room(bytes.min(ledger.copy_limit()));
        ledger.keep_for_copies(most.map_or(0, room));
    }

    /// Returns whether replaced files wait for a checkpoint. A failed pass may have replaced some: on a full disk,
    /// they are the space that is missing.
    pub(super) fn has_replaced(&self) -> bool {
        let topics = self.compacted_topics();
        topics.iter().flat_map(|topic| &topic.logs).any(|log| log.has_replaced())
    }

    fn compacted_topics(&self) -> Vec<Arc<Topic>> {
        let mut topics = self.registry.topics();
        topics.retain(|topic| topic.config.cleanup_policy.compacts());
        topics
    }
}

fn totals(topic: &Topic) -> Vec<Totals> {
    topic.logs.iter().map(|log| log.compacted()).collect()
}

fn failure(log: &Log, result: Result<()>) -> Option<(TopicPartition, Error)> {
    let error = result.err().filter(|_| !log.is_deleted())?;
    Some((log.partition().clone(), error))
}

impl Rounds for Engine {
    fn compact_round(&self) -> bool {
        let pace = Throttle::new(&self.cleaner, &self.logs, self.config.cleaner_rate);
        let guard = self.journal.fail_on_panic("compaction");
        // `health` keeps a failure.
        let (done, failed) = self.compact_due(&pace);
        drop(guard);
        if done || failed.is_err() && self.has_replaced() {
            self.background.request_checkpoint();
        }
        done && failed.is_ok()
    }

    fn is_needed(&self) -> bool {
        !self.compacted_topics().is_empty()
    }
}
