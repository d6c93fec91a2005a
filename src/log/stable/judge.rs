//! What a reader of committed records asks, and who starts a scan.

use std::sync::Arc;

use super::{Stable, TransactionIndex};
use crate::config::IsolationLevel;
use crate::error::Result;
use crate::log::Log;
use crate::log::read::Verdict;
use crate::record::BatchHeader;
use crate::sync::atomic::Ordering;
use crate::types::planted;

impl Log {
    fn stable(&self) -> &Stable {
        self.stable.get_or_init(|| Arc::new(Stable::new(&self.view())))
    }

    /// Returns what a scan has found, if there was one since segments changed.
    pub(in crate::log) fn known_transactions(&self) -> Option<Arc<TransactionIndex>> {
        self.stable.get().and_then(|stable| stable.index())
    }

    /// Returns what a scan finds. Scans, unless one has found it already.
    ///
    /// # Errors
    /// Errors of reading that are no damage; those of [`Log::look_again`]; damage, if it may come from segments that
    /// have changed meanwhile.
    pub(in crate::log) fn transactions(&self) -> Result<Arc<TransactionIndex>> {
        let stable = self.stable();
        if let Some(index) = stable.index() {
            return Ok(index);
        }
        let _scanning = stable.scanning.lock();
        let changes = {
            let known = stable.known.lock();
            if let Some(index) = &known.index {
                return Ok(Arc::clone(index));
            }
            known.changes
        };
        let index = Arc::new(self.scan_transactions(&self.view())?);
        stable.keep(changes, &index);
        Ok(index)
    }

    /// Takes note that segments were removed or replaced (T4).
    pub(in crate::log) fn forget_transactions(&self) {
        if let Some(stable) = self.stable.get()
            && !planted("index_not_refreshed")
        {
            stable.forget();
        }
    }

    /// Takes note that a reader came from one offset to another and met nothing of a transaction (T2).
    pub(in crate::log) fn has_passed_plain(&self, from: i64, to: i64) {
        let below = &self.stable().plain_below;
        let known = below.load(Ordering::Acquire);
        // Store only a change: many readers share this.
        if (from..to).contains(&known) {
            below.fetch_max(to, Ordering::AcqRel);
        }
    }

    /// Returns whether a reader of committed records may read on at `position`.
    ///
    /// # Errors
    /// Those of [`Log::transactions`], and what keeps the log from being read further.
    pub(in crate::log) fn is_stable(&self, position: i64) -> Result<bool> {
        let stable = self.stable();
        let index = match stable.index() {
            Some(index) => index,
            None if position <= stable.plain_below() => return Ok(true),
            None => self.transactions()?,
        };
        index.is_stable(position)
    }

    /// Judges a batch that a reader of committed records has reached, at `position`.
    ///
    /// # Errors
    /// As [`Log::is_stable`].
    pub(in crate::log) fn judge(&self, header: &BatchHeader, position: i64) -> Result<Verdict> {
        if header.producer_id < 0 || !header.attributes.is_transactional() {
            self.has_passed_plain(position, header.next_offset());
            return Ok(Verdict::Shown);
        }
        let index = self.transactions()?;
        Ok(if !index.is_stable(header.base_offset.max(position))? {
            Verdict::Unstable
        } else if index.hides(header) && !planted("aborted_batch_shown") {
            Verdict::Hidden
        } else {
            Verdict::Shown
        })
    }

    /// Returns the last stable offset, unless only a scan could tell it.
    pub(crate) fn known_stable_end(&self) -> Option<i64> {
        let (end, stable) = (self.end_offset(), self.stable());
        match stable.index() {
            Some(index) => Some(index.last_stable_offset(end).ok()?.max(self.start_offset())),
            None => (stable.plain_below() >= end).then_some(end),
        }
    }

    /// Returns the offset at which a reader of this level ends: the log end, or the last stable offset.
    ///
    /// # Errors
    /// As [`Log::is_stable`], for a reader of committed records.
    pub(crate) fn end_for(&self, level: IsolationLevel) -> Result<i64> {
        let end = self.end_offset();
        if level == IsolationLevel::ReadUncommitted || self.stable().plain_below() >= end {
            return Ok(end);
        }
        let index = self.beside_deletions(|| self.transactions())?;
        Ok(index.last_stable_offset(end)?.max(self.start_offset()))
    }
}
