//! Makes room in the disk budget for appends, as the policies of their topics say.
//!
//! `storage::budget` keeps the account, and says what holds (B1 to B7). An append that the account refuses has
//! released all its locks when it comes here (B6):
//!
//! * `refuse`: it fails. The first such append also requests a checkpoint, because open batches are charged for
//!   more than they take in the end.
//! * `block`: it waits until something is freed, and then tries again.
//! * `drop-oldest`: its thread deletes the oldest segments, one thread at a time. An append that leaves more than
//!   nine tenths of the budget taken has the thread of [`crate::engine::dropper`] do so, so few appends are ever
//!   refused, and few wait. Without background threads it does so itself. A deletion is that of retention: a synced
//!   frame with the new log start, then the unlinks. One sync covers the frames of all partitions, and none of
//!   their locks is held over it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::DiskBudgetPolicy;
use crate::engine::dropper::Drops;
use crate::engine::health::Problem;
use crate::engine::report::{Deleted, Retained};
use crate::engine::state::Engine;
use crate::engine::usage::BudgetUsage;
use crate::error::{Error, Result};
use crate::log::{Droppable, Log};
use crate::storage::{Account, Ledger};
use crate::types::{Lsn, planted};

/// The longest time between two looks of a waiting append at the state of the engine.
const LOOK: Duration = Duration::from_millis(100);
/// How often an append deletes for itself before it is refused. Others may take what it frees.
const DROPS: u32 = 100;

/// What an append still may do to get room.
#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    deadline: Duration,
    drops: u32,
}

/// What deleting the oldest segments has led to.
#[derive(Debug, Default)]
struct Dropped {
    /// Whether some have gone.
    some: bool,
    /// Whether there is room for what was needed.
    room: bool,
    /// Whether some could not go at that moment.
    postponed: bool,
}

impl Engine {
    /// Returns the patience of an append that waits up to `max_block`.
    #[cold]
    pub(crate) fn patience(&self, max_block: Duration) -> Patience {
        let deadline = self.clock().monotonic().saturating_add(max_block);
        Patience { left: max_block, deadline, drops: DROPS }
    }

    /// Makes room for an append that failed, if the failure is a lack of room and the policies of the topics allow
    /// it. The caller holds no lock, and tries again.
    ///
    /// # Errors
    /// The failure, if there is nothing else to try; those of deletions.
    #[cold]
    pub(crate) fn make_room(
        &self,
        logs: &[Arc<Log>],
        failure: Error,
        patience: &mut Patience,
    ) -> Result<()> {
        let (Error::DiskBudget { needed, .. }, Some(ledger)) = (&failure, &self.logs.ledger) else {
            return Err(failure);
        };
        let has = |policy| logs.iter().any(|log| log.config().disk_budget_policy == policy);
        if has(DiskBudgetPolicy::Refuse) || logs.is_empty() {
            self.settle_charges();
            return Err(failure);
        }
        if has(DiskBudgetPolicy::DropOldest) && patience.drops > 0 {
            patience.drops = patience.drops.saturating_sub(1);
            if self.drop_oldest(ledger, *needed)?.room {
                return Ok(());
            }
        }
        if has(DiskBudgetPolicy::Block) && self.wait_for_room(ledger, *needed, patience)? {
            return Ok(());
        }
        Err(failure)
    }

    /// Waits until there is room. Returns false if there is none in time.
    fn wait_for_room(&self, ledger: &Ledger, needed: u64, patience: &mut Patience) -> Result<bool> {
        if !self.config.background {
            // Nobody else does this. What is due may only be in memory before the checkpoint.
            let turns = if planted("retention_has_one_turn") { 1 } else { 2 };
            for _ in 0..turns {
                self.run_retention(None)?;
                self.checkpoint()?;
                if ledger.has_room(needed) {
                    return Ok(patience.take_drop());
                }
            }
            return Ok(false);
        }
        self.background.request_retention();
        self.background.request_checkpoint();
        loop {
            self.check_appends()?;
            if let Some(cause) = self.journal.state() {
                return Err(Error::Failed { cause });
            }
            let until = patience.deadline.saturating_sub(self.clock().monotonic());
            let step = patience.left.min(until).min(LOOK);
            if ledger.wait(needed, step) {
                return Ok(true);
            }
            if step.is_zero() {
                return Ok(false);
            }
            // Not by the clock alone, which a program may have stopped.
            patience.left = patience.left.saturating_sub(step);
        }
    }

    /// Has the oldest segments deleted after an append, if its topic allows it.
    #[cold]
    pub(crate) fn request_drop(&self, log: &Log) {
        if log.config().disk_budget_policy == DiskBudgetPolicy::DropOldest
            && !planted("drop_only_when_refused")
            && !self.dropper.request()
        {
            self.drop_early();
        }
    }

    /// Deletes the oldest segments of all topics that allow it, until `needed` bytes have room and less than nine
    /// tenths of the budget are taken. Does not wait for a checkpoint if `needed` is 0, nor then for a busy partition
    /// if this may be an append's own thread.
    fn drop_oldest(&self, ledger: &Ledger, needed: u64) -> Result<Dropped> {
        let _one = self.dropping.lock();
        let mut dropped = Dropped::default();
        for left in (0..ATTEMPTS).rev() {
            self.check_open()?;
            // Another thread may have made room meanwhile.
            let excess = ledger.excess(needed);
            if excess == 0 {
                dropped.postponed = false;
                break;
            }
            // Files that could not be removed still take space. Nothing more goes before they are gone.
            if !planted("drop_before_removal") && self.remove_left_files()? {
                continue;
            }
            // A journal that is too large shrinks by itself.
            let over = ledger.overdrawn();
            let least = ledger.shortage(needed).saturating_sub(over);
            let oldest = self.oldest_segments(excess.saturating_sub(over), least);
            dropped.postponed =
                !self.drop_segments(&oldest, needed > 0 || self.config.background)?;
            dropped.some |= !oldest.is_empty() && !dropped.postponed;
            let more = dropped.postponed || oldest.is_empty() && !ledger.has_room(needed);
            if more && needed == 0 {
                // There still is room, and the next append tries again.
                break;
            }
            if more && left > 0 {
                // Records in memory become segments, and the journal gets space for the next log start.
                self.checkpoint()?;
            } else if oldest.is_empty() {
                break;
            }
        }
        Ok(Dropped { room: ledger.has_room(needed), ..dropped })
    }

    /// Deletes what lies below these new log starts. One sync covers all of their frames, and nothing is written out
    /// less meanwhile. Returns false if some have to wait for a checkpoint, or for a busy partition that this is not to
    /// `wait` for.
    fn drop_segments(&self, oldest: &[(Arc<Log>, i64)], wait: bool) -> Result<bool> {
        let _guard = self.journal.fail_on_panic("deleting for the disk budget");
        let (mut moved, mut all) = (Vec::new(), true);
        let mut failed = Ok(());
        for (log, start) in oldest {
            if !wait && log.is_written_out() {
                all = false;
                continue;
            }
            match self.begin_drop(log, *start) {
                Ok(Some(end)) => moved.push((log, *start, end)),
                Ok(None) => all = false,
                Err(_) if log.is_deleted() => {}
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        if let Some(end) = moved.iter().map(|(.., end)| *end).max() {
            self.sync_starts(end)?;
        }
        for (log, start, _) in moved {
            failed = failed.and(log.remove_dropped(start));
        }
        failed.map(|()| all)
    }

    /// Journals a new log start for the budget. Returns the position up to which the journal has to be synced, or
    /// `None` if that has to wait for a checkpoint.
    fn begin_drop(&self, log: &Log, start: i64) -> Result<Option<Lsn>> {
        log.check_deletable()?;
        // Once the log start is seen, other threads may remove the segments, which have to be counted before.
        self.try_journal_start(log, start, || log.count_dropped(start))
    }

    /// Removes the files of segments that were deleted before, if some are left. Returns whether there were any.
    fn remove_left_files(&self) -> Result<bool> {
        let mut some = false;
        for topic in self.registry.topics() {
            for log in &topic.logs {
                some |= log.remove_left()?;
            }
        }
        Ok(some)
    }

    /// Chooses the oldest segments over all partitions of topics that allow it. Returns the new log start of each
    /// partition.
    ///
    /// They have `goal` bytes, or only the `least` that an append needs, if other topics hold so much that the goal
    /// is out of reach. None go if that is out of reach too.
    fn oldest_segments(&self, goal: u64, least: u64) -> Vec<(Arc<Log>, i64)> {
        let now = self.now_for_ages();
        let topics = self.registry.topics();
        let allows =
            |policy| policy == DiskBudgetPolicy::DropOldest || planted("drop_from_all_topics");
        let drops = topics.iter().filter(|topic| allows(topic.config.disk_budget_policy));
        let logs: Vec<&Arc<Log>> = drops.flat_map(|topic| &topic.logs).collect();
        let segments: Vec<_> = logs.iter().map(|log| log.droppable(now)).collect();
        let there: u64 = segments.iter().flatten().map(|segment| segment.bytes).sum();
        let bytes = if there >= goal || planted("drop_in_vain") { goal } else { least };
        if there < bytes && !planted("drop_in_vain") {
            return Vec::new();
        }
        choose(&segments, bytes)
            .into_iter()
            .filter_map(|(at, start)| Some((Arc::clone(logs.get(at)?), start)))
            .collect()
    }

    /// Deletes for the budget at a check of retention: a folder may have been opened with a lower one. Returns what
    /// went, and whether more has to go at another check.
    pub(super) fn drop_at_check(&self) -> Result<(Deleted, bool)> {
        let Some(ledger) = self.logs.ledger.as_ref().filter(|ledger| ledger.is_high()) else {
            return Ok((Deleted::default(), false));
        };
        let gone = || {
            let topics = self.registry.topics();
            let logs = topics.iter().flat_map(|topic| &topic.logs);
            logs.fold(Deleted::default(), |sum, log| sum.plus(Retained::of(log).budget))
        };
        let before = gone();
        let Dropped { postponed, .. } = self.drop_oldest(ledger, 0)?;
        Ok((gone().minus(before), postponed))
    }

    /// Has open batches written out, once after each append that got room: they are charged for more than they
    /// take.
    fn settle_charges(&self) {
        let first = self.logs.ledger.as_ref().is_some_and(|ledger| ledger.first_refusal());
        if first && self.config.background {
            self.background.request_checkpoint();
        } else if first {
            // `health` keeps the failure.
            let _reported_later = self.checkpoint();
        }
    }

    /// Returns the lack of room in the budget instead of a full disk, if that is what refuses an append.
    pub(super) fn by_budget(&self, error: Error) -> Error {
        match (&error, &self.logs.ledger) {
            (Error::DiskFull { .. }, Some(ledger)) if !ledger.has_room(self.full_batch()) => {
                ledger.refusal(self.full_batch())
            }
            _ => error,
        }
    }

    fn full_batch(&self) -> u64 {
        Ledger::batch_space(self.logs.batch_size)
    }

    /// Returns the account of the budget.
    pub(super) fn budget(&self) -> Option<BudgetUsage> {
        let Account { budget, used, taken } = self.logs.ledger.as_ref()?.account();
        Some(BudgetUsage { limit: budget, used, taken })
    }

    pub(super) fn budget_problem(&self) -> Option<Problem> {
        let ledger = self.logs.ledger.as_ref()?;
        let Account { budget, taken, .. } = ledger.account();
        ledger.is_exhausted(self.full_batch()).then_some(Problem::DiskBudget { budget, taken })
    }

    /// Ends the waits of appends for room: the engine is being closed.
    pub(super) fn end_waits_for_room(&self) {
        if let Some(ledger) = &self.logs.ledger {
            ledger.wake_all();
        }
    }
}

impl Drops for Engine {
    fn drop_early(&self) {
        let Some(ledger) = &self.logs.ledger else { return };
        // The next append that finds no room reports a failure.
        let some = self.drop_oldest(ledger, 0).is_ok_and(|dropped| dropped.some);
        if !some && ledger.excess(0) > 0 {
            ledger.dropped_in_vain();
        }
    }
}

/// How often deletions are tried for one append. A checkpoint may have to come between two of them.
const ATTEMPTS: u32 = 4;

impl Patience {
    fn take_drop(&mut self) -> bool {
        self.drops = self.drops.saturating_sub(1);
        self.drops > 0
    }
}

/// Chooses the oldest of the `segments` of some logs, each list from the front, until they have `bytes`. Returns for
/// each log that loses some its index and its new start.
fn choose(segments: &[Vec<Droppable>], bytes: u64) -> Vec<(usize, i64)> {
    let mut rest: Vec<_> = segments.iter().map(|list| list.iter()).collect();
    let mut starts: Vec<Option<i64>> = vec![None; segments.len()];
    let mut fronts = BinaryHeap::new();
    let mut push = |fronts: &mut BinaryHeap<_>, at: usize| {
        if let Some(first) = rest.get_mut(at).and_then(Iterator::next) {
            fronts.push((Reverse((first.since, at)), first.bytes, first.end_offset));
        }
    };
    (0..segments.len()).for_each(|at| push(&mut fronts, at));
    let mut chosen: u64 = 0;
    while chosen < bytes
        && let Some((Reverse((_, at)), size, end_offset)) = fronts.pop()
    {
        chosen = chosen.saturating_add(size);
        if let Some(start) = starts.get_mut(at) {
            *start = Some(end_offset);
        }
        push(&mut fronts, at);
    }
    starts.into_iter().enumerate().filter_map(|(at, start)| Some((at, start?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(segments: &[(i64, u64)]) -> Vec<Droppable> {
        let with_end = |(at, &(since, bytes)): (usize, &(i64, u64))| Droppable {
            since,
            bytes,
            end_offset: 10 * (at as i64 + 1),
        };
        segments.iter().enumerate().map(with_end).collect()
    }

    #[test]
    fn the_oldest_go_first_over_all_logs_and_each_from_its_front() {
        let logs = [list(&[(5, 10), (2, 10), (9, 10)]), list(&[(4, 10), (6, 10)]), list(&[])];
        assert_eq!(choose(&logs, 0), []);
        assert_eq!(choose(&logs, 1), [(1, 10)]);
        assert_eq!(choose(&logs, 11), [(0, 10), (1, 10)]);
        // The second of the first log is older than its first, and goes right after it.
        assert_eq!(choose(&logs, 21), [(0, 20), (1, 10)]);
        assert_eq!(choose(&logs, 1_000), [(0, 30), (1, 20)]);
        // The same age: the lower number.
        assert_eq!(choose(&[list(&[(1, 5)]), list(&[(1, 5)])], 1), [(0, 10)]);
    }
}
