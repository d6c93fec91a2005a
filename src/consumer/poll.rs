use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Consumer, ConsumerRecords};
use crate::error::{Error, Result};
use crate::log::{FetchLimits, Wake};

impl Consumer {
    /// Returns records as soon as there are some, at most `max.poll.records`, or none when `timeout` is
    /// over. The position moves behind what is returned.
    ///
    /// # Errors
    /// `Wakeup`; `Corrupt` for a damaged batch, whose partition stays where it is while the others go
    /// on; `LogTruncated`, `NoOffsetForPartition`, `OffsetOutOfRange`; `Misuse` before `subscribe` or
    /// `assign`; `Closed`.
    pub fn poll(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        self.source.check_open()?;
        if self.membership.is_none() && !self.assigned {
            return Err(Error::Misuse("poll needs subscribe or assign first"));
        }
        self.enter_poll()?;
        let result = self.poll_until(timeout);
        self.exit_poll();
        result
    }

    fn poll_until(&mut self, timeout: Duration) -> Result<ConsumerRecords> {
        let deadline = self.source.clock().monotonic().saturating_add(timeout);
        self.auto_commit();
        loop {
            if self.wakeup.swap(false, Ordering::AcqRel) {
                return Err(Error::Wakeup);
            }
            self.source.check_open()?;
            self.reconcile()?;
            let records = self.fetch()?;
            let now = self.source.clock().monotonic();
            if !records.is_empty() || now >= deadline || !self.source.is_live() {
                return Ok(records);
            }
            if self.sleep(deadline.saturating_sub(now)) {
                return Ok(records);
            }
        }
    }

    /// Sleeps until there may be something to do; true when all of `left` has passed.
    fn sleep(&mut self, left: Duration) -> bool {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        for held in &self.held {
            let Some(position) = held.position() else { continue };
            if !held.paused && !held.log.is_deleted() && !held.log.sleep_on(position, &sleeper) {
                return false;
            }
        }
        let mut wait = left;
        if let Some(member) = &self.membership {
            // Nobody else looks after silent members while all others sleep.
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

    fn fetch(&mut self) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        let count = self.held.len();
        let limits = FetchLimits { records: self.config.max_poll_records, bytes: FETCH_MAX_BYTES };
        for step in 0..count {
            let at = (self.next + step) % count;
            if records.fetched.records.len() >= limits.records
                || records.fetched.bytes >= limits.bytes
            {
                break;
            }
            match self.fetch_one(at, limits, &mut records) {
                Ok(()) => {}
                // What the other partitions gave is returned first; the error comes again.
                Err(_) if !records.is_empty() => break,
                Err(error) => {
                    self.next = (at + 1) % count;
                    return Err(error);
                }
            }
        }
        if let Some(last) = records.fetched.chunks.last()
            && let Some(partition) = records.partitions.get(last.partition)
        {
            // Partitions take turns: the one that filled the poll is drained further only after the
            // others had their chance.
            let at = self.held.iter().position(|held| held.partition() == partition);
            self.next = at.map_or(0, |at| (at + 1) % count.max(1));
        }
        Ok(records)
    }

    fn fetch_one(
        &mut self,
        at: usize,
        limits: FetchLimits,
        records: &mut ConsumerRecords,
    ) -> Result<()> {
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if held.paused {
            return Ok(());
        }
        if held.log.is_deleted() {
            // A group takes the partition back by itself.
            let topic = held.partition().topic().to_owned();
            return if self.assigned { Err(Error::UnknownTopic { topic }) } else { Ok(()) };
        }
        if held.position().is_none() {
            self.start(at)?;
        }
        let reset = self.config.auto_offset_reset;
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        let before = records.fetched.records.len();
        let index = records.partitions.len();
        let result = held.fetch(index, limits, reset, &mut records.fetched);
        if records.fetched.records.len() > before {
            records.partitions.push(held.partition().clone());
        }
        result
    }

    /// Decides where a partition is read from.
    pub(super) fn start(&mut self, at: usize) -> Result<()> {
        let reset = self.config.auto_offset_reset;
        let Some(held) = self.held.get(at) else { return Ok(()) };
        let committed = match &self.config.group {
            Some(group) => self.committed_offset(group, held.log.number()),
            None => None,
        };
        match self.held.get_mut(at) {
            Some(held) => held.start(committed, reset),
            None => Ok(()),
        }
    }
}

/// Kafka's default of `fetch.max.bytes`.
const FETCH_MAX_BYTES: usize = 50 << 20;
