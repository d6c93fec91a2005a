//! Steps of the engine around each append: journal space before it, wakeups and write-out after it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::Acks;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::Credit;
use crate::log::{Afterwards, Log};
use crate::types::planted;

impl Engine {
    /// Rejects appends after `close` and on a full disk.
    #[inline]
    pub(crate) fn check_appends(&self) -> Result<()> {
        self.check_open()?;
        let full = self.reserve.is_given_up() && !planted("append_on_full_disk");
        if full { self.refill_reserve().map_err(|error| self.by_budget(error)) } else { Ok(()) }
    }

    /// Returns whether an append of `bytes` bytes to one partition goes to its segment at once.
    ///
    /// If other producers send `Synced`, it goes to the journal, which is synced in one piece. If the journal
    /// has failed, it goes there to be refused before it leaves anything in a segment.
    #[inline]
    pub(crate) fn stores(&self, bytes: usize, acks: Acks) -> bool {
        bytes >= self.config.stored_append_bytes as usize
            && acks == Acks::Written
            && !self.journal.is_sync_requested()
            && self.journal.space_stopped().is_none()
            && self.journal.state().is_none()
            && !self.logs.stored.is_full()
    }

    /// Reserves journal space for a frame of records. May wait; the caller must hold no lock.
    pub(crate) fn reserve(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.check_appends()?;
        if self.config.background {
            return self.journal.reserve(bytes, max_block);
        }
        self.reserve_alone(|| self.journal.reserve(bytes, Duration::ZERO))
    }

    /// Reserves space where no thread of the engine makes some.
    fn reserve_alone<'e>(&self, reserve: impl Fn() -> Result<Credit<'e>>) -> Result<Credit<'e>> {
        match reserve() {
            Err(Error::Timeout { .. }) => {
                self.checkpoint()?;
                reserve()
            }
            other => other,
        }
    }

    /// Reserves space for a frame that must fit even when records have filled the journal.
    pub(super) fn reserve_urgent(&self, bytes: usize) -> Result<Credit<'_>> {
        self.check_open()?;
        if self.config.background {
            return self.journal.reserve_urgent(bytes, URGENT_MAX_BLOCK);
        }
        self.reserve_alone(|| self.journal.reserve_urgent(bytes, Duration::ZERO))
    }

    /// Refills the reserve. After a full disk, appends resume only with it, because the engine must be able
    /// to write out the journal.
    #[cold]
    pub(super) fn refill_reserve(&self) -> Result<()> {
        self.reserve.fit(self.journal.total_bytes())
    }

    /// Finishes an append, without locks: wakes pollers, writes out full batches, and requests a checkpoint
    /// if open batches take too much memory.
    #[inline]
    pub(crate) fn after_append(&self, log: &Arc<Log>, afterwards: Afterwards) {
        if afterwards.wake() {
            self.write_out(log);
        }
        if self.logs.memory.load(Ordering::Relaxed) > self.config.open_batches_max_bytes
            || self.logs.write_failed.load(Ordering::Relaxed)
            || self.logs.stored.is_due()
        {
            self.relieve();
        }
        if let Some(ledger) = &self.logs.ledger
            && ledger.is_high()
        {
            self.request_drop(log);
        }
    }

    #[cold]
    fn write_out(&self, log: &Arc<Log>) {
        if self.config.background && !log.is_behind() {
            let little =
                self.logs.memory.load(Ordering::Relaxed) < self.config.open_batches_max_bytes / 2;
            if little && log.waiting_batches() < GATHERED
                || self.writer.hand_over(log, &self.journal)
            {
                return;
            }
        }
        let _guard = self.journal.fail_on_panic("writing out a partition");
        log.write_out_some();
    }

    #[cold]
    fn relieve(&self) {
        if self.config.background {
            self.background.request_checkpoint();
        } else {
            // `health` keeps the failure. The next call reports a failure of the journal.
            let _reported_later = self.checkpoint();
        }
    }
}

/// How many full batches of a partition are gathered before the writer thread is woken. Waking a thread costs
/// as much as writing a batch.
const GATHERED: usize = 4;

/// Kafka's `max.block.ms`, for frames that no producer sends.
const URGENT_MAX_BLOCK: Duration = Duration::from_mins(1);
