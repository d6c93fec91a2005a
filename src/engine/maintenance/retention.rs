//! Deletes records that retention does not keep: see [`crate::log`], `retention`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::TopicConfig;
use crate::engine::registry::Topic;
use crate::engine::report::{Deleted, Retained};
use crate::engine::retention_report::Slowest;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::log::{Checked, LOG_START_SECTION_BYTES, Log};
use crate::types::{Lsn, Timestamp, planted};

/// The time between two checks of a topic with `retention.consumed`.
const CONSUMED_INTERVAL: Duration = Duration::from_secs(10);
/// The least time between two checks.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// Checks all partitions, or those of one topic, and deletes what is due. Returns what it deleted.
    ///
    /// A failure of one partition does not keep the others from being checked. `health` keeps it until a check
    /// of all partitions succeeds.
    ///
    /// # Errors
    /// The first failure. `UnknownTopic` if there is no such topic.
    pub(crate) fn run_retention(&self, topic: Option<&str>) -> Result<Retained> {
        self.check_open()?;
        let topics = match topic {
            Some(name) => vec![self.registry.topic(name)?],
            None => self.registry.topics(),
        };
        let now = self.now_for_ages();
        let mut retained = Retained::default();
        let mut first = None;
        for topic in topics.iter().filter(|topic| topic.config.has_retention()) {
            for log in &topic.logs {
                self.check_open()?;
                let before = Retained::of(log);
                let result = self.retain_partition(topic, log, now);
                let deleted = Retained::of(log).combine(before, Deleted::minus);
                retained = retained.combine(deleted, Deleted::plus);
                match result {
                    Ok(true) => {}
                    Ok(false) => retained.postponed = retained.postponed.saturating_add(1),
                    Err(_) if log.is_deleted() || first.is_some() => {}
                    Err(error) => first = Some((log.partition().clone(), error)),
                }
            }
        }
        if retained.postponed > 0 && first.is_none() && self.is_held_by_full_disk() {
            self.free_full_disk(&topics, now)?;
        }
        let dropped = if topic.is_none() { self.drop_at_check() } else { Ok(Default::default()) };
        if topic.is_none() || first.is_some() {
            self.troubles.retention.lock().clone_from(&first);
        }
        if let Some((_, error)) = first {
            return Err(error);
        }
        let (dropped, again) = dropped?;
        let postponed = retained.postponed.saturating_add(u64::from(again));
        Ok(Retained { budget: retained.budget.plus(dropped), postponed, ..retained })
    }

    fn retain_partition(&self, topic: &Topic, log: &Log, now: Timestamp) -> Result<bool> {
        let guard = self.journal.fail_on_panic("retention");
        let consumed = self.consumed(&topic.config, log);
        let retained = log.retain(Checked { now, consumed });
        drop(guard);
        retained
    }

    /// Returns whether nothing can be deleted before a checkpoint for which there is no space.
    fn is_held_by_full_disk(&self) -> bool {
        let failed = self.troubles.checkpoint.lock();
        self.journal.is_held()
            && matches!(&*failed, Some(Error::DiskFull { .. }))
            && !planted("retention_needs_space")
    }

    /// Deletes what is due before the recovery checkpoint, which needs the very space that this frees. The log
    /// starts become durable where they are, without a checkpoint, as the deletion of a topic does then.
    fn free_full_disk(&self, topics: &[Arc<Topic>], now: Timestamp) -> Result<()> {
        let mut moved = Vec::new();
        for topic in topics.iter().filter(|topic| topic.config.has_retention()) {
            for log in &topic.logs {
                let consumed = self.consumed(&topic.config, log);
                if let Some(start) = log.due_start(Checked { now, consumed }) {
                    log.check_deletable()?;
                    self.journal_start(log, start, || {})?;
                    moved.push((log, start));
                }
            }
        }
        if !moved.is_empty() {
            self.keep_replayed()?;
            for (log, start) in moved {
                log.remove_below(start);
            }
            self.background.request_checkpoint();
        }
        Ok(())
    }

    /// Returns the offset below which all groups of `retention.consumed` have committed.
    fn consumed(&self, config: &TopicConfig, log: &Log) -> Option<i64> {
        Slowest::of(config, log, &|group, log| self.read_by(group, log))?.committed
    }

    /// Returns the offset below which a group has read a partition.
    pub(in crate::engine) fn read_by(&self, group: &str, log: &Log) -> Option<i64> {
        match self.shares.find(group) {
            Some(group) => group.oldest_unfinished(log.number()),
            None => self.offsets.lock().store.get(group, log.number()).map(|at| at.offset),
        }
    }

    /// Returns the time until the next check. `again` says that the last one has postponed something.
    pub(super) fn retention_interval(&self, again: bool) -> Duration {
        if again {
            return LEAST_INTERVAL;
        }
        let mut interval = self.config.retention_check_interval;
        for topic in self.registry.topics() {
            if let Some(limit) = topic.config.kept_ms() {
                interval = interval.min(Duration::from_millis(limit / 16));
            }
            if !topic.config.kept_for().is_empty() {
                interval = interval.min(CONSUMED_INTERVAL);
            }
        }
        interval.max(LEAST_INTERVAL)
    }

    /// Moves a log start for retention. The caller holds the write-out lock of the partition, which checkpoints
    /// need. So this does not wait for one: not for journal space, and not while `Synced` waits for the recovery
    /// checkpoint. Returns false then.
    pub(in crate::engine) fn move_start(&self, log: &Log, before: i64) -> Result<bool> {
        match self.try_journal_start(log, before, || {})? {
            Some(end) => self.sync_starts(end).map(|()| true),
            None => Ok(false),
        }
    }

    /// Journals a log start, without waiting for a checkpoint. Returns the position up to which the journal has to
    /// be synced before files go (R1), or `None` if only a checkpoint makes that possible. Calls `moves` if the log
    /// start moves, before anybody can see that.
    pub(in crate::engine) fn try_journal_start(
        &self,
        log: &Log,
        before: i64,
        moves: impl FnOnce(),
    ) -> Result<Option<Lsn>> {
        if self.journal.is_held() {
            return Ok(None);
        }
        match self.journal_start(log, before, moves) {
            Err(Error::Timeout { .. }) => Ok(None),
            // Another call may have moved the log start, and its frame may not be synced yet.
            journaled => Ok(Some(journaled?.unwrap_or_else(|| self.journal.end()))),
        }
    }

    /// Makes log starts durable whose frames lie below `end`.
    pub(in crate::engine) fn sync_starts(&self, end: Lsn) -> Result<()> {
        if planted("removed_before_sync") { Ok(()) } else { self.journal.wait_synced(end, None) }
    }

    /// Journals a log start without waiting for space. Returns the end of the frame, or `None` if the records are
    /// already deleted.
    fn journal_start(&self, log: &Log, before: i64, moves: impl FnOnce()) -> Result<Option<Lsn>> {
        let bytes = SECTION_HEADER.saturating_add(LOG_START_SECTION_BYTES);
        let mut credit = self.journal.reserve_urgent(bytes, Duration::ZERO)?;
        log.delete_records(before, |section| {
            let body = section.encode();
            let header = section_header(SectionKind::LOG_START, body.len() as u32);
            let end = self.journal.append(&mut credit, &[&header, &body])?;
            moves();
            Ok(end)
        })
    }
}
