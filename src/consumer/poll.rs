use std::sync::Arc;
use std::time::Duration;

use super::held::{Held, Policy};
use super::records::Origin;
use super::source::Source;
use super::{Consumer, ConsumerRecords};
use crate::error::{Error, Result};
use crate::log::{FetchLimits, Wake};
use crate::types::Lsn;

/// The longest wait for a sync without a look at what else there is to do: at a wakeup, a deadline, the group.
const SYNC_SLICE: Duration = Duration::from_millis(20);

impl Consumer {
    /// Returns records as soon as there are some, or none after `timeout`.
    ///
    /// One poll returns at most `max.poll.records` records, and moves the position past them. If a topic was
    /// deleted and created again, the consumer reads the new topic. It begins at the offset committed in the
    /// new topic, or where `auto.offset.reset` says. It never begins at the offset that it had reached in the
    /// old topic. With the default, `Earliest`, it misses no record of the new topic.
    ///
    /// # Errors
    /// * `Wakeup` if [`WakeupHandle::wakeup`](super::WakeupHandle::wakeup) was called.
    /// * `Corrupt` if a batch is damaged. The partition stays at its position, and the other partitions
    ///   continue. To continue behind the damage, seek past the last of
    ///   [`Corruption::offsets`](crate::Corruption::offsets).
    /// * `Io` if a file cannot be read. Nothing is lost by it, and the next poll reads again.
    /// * `LogTruncated` if the committed offset does not match the log.
    /// * `NoOffsetForPartition` or `OffsetOutOfRange` if `auto.offset.reset` is `none` and no position can be
    ///   found.
    /// * `UnknownTopic` or `UnknownPartition` after [`Consumer::assign`] while the partition is deleted. The
    ///   other partitions continue.
    /// * `FencedInstanceId`, `InconsistentGroupProtocol` or `GroupMaxSizeReached` if an evicted member cannot join
    ///   again.
    /// * `Misuse` before `subscribe` or `assign`.
    /// * `Failed` if only synced records are asked for
    ///   ([`read_durability`](crate::ConsumerConfig::read_durability)), and an earlier write or sync has failed. Other
    ///   errors of writing if a checkpoint that the records need fails; another poll tries again.
    /// * `Closed` if the broker is closed.
    /// * `Poisoned` after a panic of the [`RebalanceListener`](super::RebalanceListener).
    /// * Any error that the listener returns.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        self.check_not_poisoned()?;
        self.source.check_open()?;
        self.follow_transactions();
        if self.membership.is_none() && !self.assigned {
            return Err(Error::Misuse("poll needs subscribe or assign first"));
        }
        let result = self.enter_poll().and_then(|()| self.poll_until(timeout));
        self.leave_engine();
        result
    }

    fn poll_until(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let deadline = self.source.clock().monotonic().saturating_add(timeout);
        // What is left for waits for syncs. Not by the clock alone, which a program may have stopped.
        let mut patience = timeout;
        loop {
            self.auto_commit();
            self.wakeup.take()?;
            self.source.check_open()?;
            self.reconcile()?;
            let records = self.fetch()?;
            if !records.is_empty() || !self.source.is_live() {
                return Ok(records);
            }
            let now = self.source.clock().monotonic();
            let left = deadline.saturating_sub(now);
            let over = match self.awaited_sync() {
                Some(lsn) => {
                    let wait = left.min(patience).min(SYNC_SLICE);
                    let synced = self.sync(lsn, wait)?;
                    if !synced {
                        patience = patience.saturating_sub(wait);
                    }
                    !synced && (left.is_zero() || patience.is_zero())
                }
                None => left.is_zero() || self.sleep(left),
            };
            if over {
                return Ok(records);
            }
        }
    }

    /// Sleeps until there may be something to do. Returns true if all of `left` has passed.
    fn sleep(&mut self, left: Duration) -> bool {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        if !self.held.iter_mut().all(|held| held.sleep_on(&sleeper)) || self.has_lost_topic() {
            return false;
        }
        let mut wait = left;
        if self.held.iter().any(|held| held.to_commit().is_some()) {
            wait = wait.min(self.until_auto_commit());
        }
        if let Some(member) = &self.membership {
            // While all other members sleep, only this one can evict silent members.
            let now = self.source.clock().monotonic();
            if let Some(silent) = member.group.expire(now) {
                wait = wait.min(silent.saturating_sub(now).max(Duration::from_millis(1)));
            }
            if self.has_news() {
                return false;
            }
        }
        let woken = self.event.wait(wait);
        !woken && wait == left
    }

    /// Returns how far the journal has to be synced for the next records, if only durable ones are returned.
    fn awaited_sync(&self) -> Option<Lsn> {
        self.held.iter().filter_map(Held::awaited_sync).min()
    }

    /// Waits until the journal is synced, but not for much longer than `wait`. Returns whether it is. Only where no
    /// thread does so, this also syncs if there is no time to wait.
    fn sync(&self, lsn: Lsn, wait: Duration) -> Result<bool> {
        let engine = self.source.engine()?;
        if let Some(member) = &self.membership {
            // As in `sleep`: perhaps no other member looks for silent ones.
            member.group.expire(engine.clock().monotonic());
        }
        if wait.is_zero() && engine.config.background && engine.journal.state().is_none() {
            return Ok(false);
        }
        match engine.wait_synced_for(lsn, wait) {
            Ok(()) => Ok(true),
            Err(Error::Timeout { .. }) => Ok(false),
            Err(Error::Indeterminate { cause }) if engine.journal.state().is_some() => {
                Err(Error::Failed { cause })
            }
            // A poll changes nothing, so nothing is indeterminate: another one may find the records synced.
            Err(Error::Indeterminate { cause }) => {
                engine.check_open()?;
                Err((*cause).clone())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether a partition given to `assign` was deleted. Its log wakes no sleeper. A group member
    /// learns of a deletion from its group.
    fn has_lost_topic(&self) -> bool {
        self.assigned && self.held.iter().any(|held| !held.paused && held.log.is_deleted())
    }

    fn fetch(&mut self) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        let count = self.held.len();
        let first = self.next;
        for step in 0..count {
            let at = first.saturating_add(step).checked_rem(count).unwrap_or(0);
            if records.fetched.records.len() >= self.config.max_poll_records
                || records.fetched.bytes >= self.config.fetch_max_bytes as usize
            {
                break;
            }
            let nothing_before = records.is_empty();
            match self.fetch_one(at, &mut records) {
                Ok(()) => {}
                // Records of the other partitions are returned first. The next poll meets the error again.
                Err(_) if !records.is_empty() => break,
                Err(error) => {
                    self.next = at.saturating_add(1);
                    return Err(error);
                }
            }
            if nothing_before && !records.is_empty() {
                // Partitions take turns. The next poll begins behind the partition served first, so each
                // partition is first at some time. The byte limits then cannot starve it.
                self.next = at.saturating_add(1);
            }
        }
        Ok(records)
    }

    /// Returns the limits for one more partition.
    fn limits(&self, fetched: usize) -> FetchLimits {
        let partition = fetched.saturating_add(self.config.max_partition_fetch_bytes as usize);
        let bytes = partition.min(self.config.fetch_max_bytes as usize);
        FetchLimits { records: self.config.max_poll_records, bytes, until: i64::MAX }
    }

    fn fetch_one(&mut self, at: usize, records: &mut ConsumerRecords) -> Result<()> {
        let fetched = self.fetch_from(at, records);
        match self.held.get(at) {
            // The group takes the partition back by itself.
            Some(held) if !self.assigned && held.log.is_deleted() => Ok(()),
            _ => fetched,
        }
    }

    fn fetch_from(&mut self, at: usize, records: &mut ConsumerRecords) -> Result<()> {
        match self.held.get(at) {
            Some(held) if !held.paused => {}
            _ => return Ok(()),
        }
        if self.held_now(at)?.offset().is_none() {
            self.start(at)?;
        }
        let mut limits = self.limits(records.fetched.bytes);
        let policy = Policy { reset: self.config.auto_offset_reset, clock: self.source.clock() };
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if let Source::Live(engine) = &self.source {
            limits.until = held.readable_end(engine);
        }
        let before = records.fetched.records.len();
        let index = records.partitions.len();
        let result = held.fetch(index, limits, policy, &mut records.fetched);
        if records.fetched.records.len() > before {
            records.partitions.push(Origin::of(&held.log));
        }
        result
    }

    /// Decides where reading of a partition begins.
    pub(super) fn start(&mut self, at: usize) -> Result<()> {
        let Some(held) = self.held.get(at) else { return Ok(()) };
        let committed = self.committed_position(&held.log);
        let policy = Policy { reset: self.config.auto_offset_reset, clock: self.source.clock() };
        match self.held.get_mut(at) {
            Some(held) => held.start(committed, policy),
            None => Ok(()),
        }
    }
}
