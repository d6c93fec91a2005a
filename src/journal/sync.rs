//! Group commit (J4, J5). A waiter that finds no sync running runs one for all waiters. It does not hand the
//! work to a syncer thread, so a single producer pays only for its own sync.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::StorageFile;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::{Lsn, planted};

use super::header::NOTE_AT;
use super::outside::{Outside, Relied};
use super::slot::{FOLDER, rewrite};
use super::state::Life;
use super::trouble::Attempts;
use super::{PanicGuard, Shared};

#[derive(Debug, Default)]
pub(super) struct SyncState {
    running: bool,
    held: bool,
    /// Whether the journal is closed, so that nothing ends the hold any more.
    ended: bool,
    /// The checkpoints attempted. The first durable one ends the hold.
    pub(super) checkpoints: Attempts,
}

impl SyncState {
    pub(super) fn new(held: bool) -> Self {
        Self { held, ..Self::default() }
    }
}

/// A file with unsynced frames below `position`.
struct Dirty {
    file: Arc<dyn StorageFile>,
    sequence: u32,
    position: u32,
}

impl Dirty {
    fn of(life: &Life) -> Self {
        let file = Arc::clone(&life.slot.file);
        Self { file, sequence: life.sequence, position: life.position }
    }
}

impl Shared {
    /// Returns the position below which everything is durable, perhaps except for frames before the first
    /// one of this journal.
    pub(super) fn covered(&self) -> Lsn {
        Lsn::from_u64(self.covered.load(Ordering::Acquire))
    }

    pub(super) fn requested(&self) -> Lsn {
        Lsn::from_u64(self.requested.load(Ordering::SeqCst))
    }

    #[inline]
    pub(super) fn request_sync(&self, lsn: Lsn) {
        if planted("only_waiters_sync") {
            return;
        }
        self.requested.fetch_max(lsn.to_u64(), Ordering::SeqCst);
        self.requested_lately.store(true, Ordering::Relaxed);
        if self.config.background {
            self.signal.hurry();
        }
    }

    pub(super) fn wait_synced(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<()> {
        if lsn <= self.synced() || planted("ack_before_sync") {
            return Ok(());
        }
        self.waited.store(true, Ordering::Relaxed);
        if lsn > self.end() {
            return Err(Error::Misuse("a wait for a journal position that was never written"));
        }
        let deadline = timeout.map(|timeout| self.clock.monotonic().saturating_add(timeout));
        self.sync_until(lsn, deadline, Self::synced)
    }

    /// Syncs all frames written so far, whether or not `synced` is held.
    pub(super) fn sync_now(&self) -> Result<()> {
        self.sync_until(self.end(), None, Self::covered)
    }

    /// Runs syncs, or waits for syncs of other threads, until `reached` is at least `lsn`.
    fn sync_until(
        &self,
        lsn: Lsn,
        deadline: Option<Duration>,
        reached: fn(&Self) -> Lsn,
    ) -> Result<()> {
        let mut sync = self.sync.lock();
        let failed = sync.checkpoints.failed();
        loop {
            if lsn <= reached(self) {
                return Ok(());
            }
            if let Some(cause) = self.failure.get() {
                let cause = Arc::clone(cause);
                let known = planted("failed_sync_is_known");
                return Err(if known {
                    Error::Failed { cause }
                } else {
                    Error::Indeterminate { cause }
                });
            }
            if !sync.running && self.covered() < lsn {
                sync.running = true;
                let synced = MutexGuard::unlocked(&mut sync, || self.run_sync());
                sync.running = false;
                if let Some(end) = synced {
                    self.cover(&sync, end);
                    if !sync.held {
                        MutexGuard::unlocked(&mut sync, || self.note_in_spare());
                    }
                }
                if !planted("sync_wakes_nobody") {
                    self.sync_done.notify_all();
                }
                continue;
            }
            // Everything is synced, but while it is held only a checkpoint counts, and that one has failed.
            if sync.held
                && self.covered() >= lsn
                && let Some(error) = sync.checkpoints.ended_after(failed)
            {
                return Err(Error::Indeterminate { cause: Arc::new(error.clone()) });
            }
            if sync.ended && self.covered() >= lsn && !planted("waits_outlive_close") {
                let error = sync.checkpoints.error().cloned().unwrap_or(Error::Closed);
                return Err(Error::Indeterminate { cause: Arc::new(error) });
            }
            let Some(deadline) = deadline else {
                self.sync_done.wait(&mut sync);
                continue;
            };
            let left = deadline.saturating_sub(self.clock.monotonic());
            let late = left.is_zero() || self.sync_done.wait_for(&mut sync, left).timed_out();
            if late && lsn > reached(self) && self.failure.get().is_none() {
                return Err(Error::Timeout { what: "journal sync" });
            }
        }
    }

    /// Syncs all files with unsynced frames, oldest first, and their names. So if power fails in between, a
    /// later frame is not durable without the earlier ones. Returns `None` after a failure, which is final.
    fn run_sync(&self) -> Option<Lsn> {
        let _guard = PanicGuard::new(self, "a sync of the journal");
        let (end, dirty, unnamed, relied) = {
            let state = self.state.lock();
            let lives = state.sealed.iter().chain([&state.current]);
            let unnamed: Vec<u32> = lives.clone().filter_map(Life::unnamed).collect();
            let last_only = planted("sync_last_file_only");
            let lives = lives.skip(if last_only { state.sealed.len() } else { 0 });
            let dirty: Vec<Dirty> = lives.filter(|life| life.is_dirty()).map(Dirty::of).collect();
            for life in state.sealed.iter().chain([&state.current]) {
                life.slot.release(life.synced, life.position);
            }
            (state.current.end(), dirty, unnamed, state.relied.clone())
        };
        self.sync_relied(&relied)?;
        if !unnamed.is_empty() && self.sync_names(&unnamed).is_none() {
            return None;
        }
        for life in &dirty {
            if let Err(error) = life.file.sync_data()
                && !planted("forget_failed_sync")
            {
                if planted("retry_failed_sync") && life.file.sync_data().is_ok() {
                    continue;
                }
                self.fail(Arc::new(error));
                return None;
            }
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for life in state.sealed.iter_mut().chain([&mut state.current]) {
            if let Some(done) = dirty.iter().find(|done| done.sequence == life.sequence) {
                life.synced = life.synced.max(done.position);
                state.note_in_spare |= !std::mem::replace(&mut life.anchored, true);
            }
        }
        state.relied.settle(end);
        let end = if planted("sync_covers_later") { state.current.end() } else { end };
        drop(guard);
        self.failure.get().is_none().then_some(end)
    }

    /// Makes what frames rely on durable. Returns `None` after a failure, which is final.
    fn sync_relied(&self, relied: &Relied) -> Option<()> {
        if relied.is_empty() {
            return Some(());
        }
        let _alone = (!planted("syncs_overlap")).then(|| self.outside_syncs.lock());
        if self.failure.get().is_some() {
            return None;
        }
        relied.sync(&*self.storage).map_err(|error| self.fail(Arc::new(error))).ok()
    }

    /// Notes in the last spare what is durable, after a file was synced for the first time. So a replay notices
    /// if that file is missing, although all frames that knew of the sync are in it.
    ///
    /// Does it later if the spares are changing, and never reports a failure: nothing relies on it.
    fn note_in_spare(&self) {
        if !self.state.lock().note_in_spare {
            return;
        }
        let Some(_preparing) = self.prepare.try_lock() else { return };
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let spare = {
            let mut state = self.state.lock();
            let spare = state.spares.back();
            let Some(spare) = spare.map(|spare| (Arc::clone(&spare.slot.file), spare.header))
            else {
                return;
            };
            state.note_in_spare = false;
            spare
        };
        let (file, header) = spare;
        if !planted("spare_does_not_vouch") {
            drop(file.write_at(&header.encode_note(self.synced()), NOTE_AT as u64));
        }
    }

    /// Makes the names of the given slots durable. Returns `None` after a failure, which is final.
    fn sync_names(&self, slots: &[u32]) -> Option<()> {
        if planted("names_not_synced") {
            return Some(());
        }
        if let Err(error) = self.storage.sync_dir(Path::new(FOLDER)) {
            self.fail(Arc::new(error));
            return None;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for life in state.sealed.iter_mut().chain([&mut state.current]) {
            life.slot.named |= slots.contains(&life.slot.number);
        }
        Some(())
    }

    /// Makes the header and the name of the file that holds `lsn` durable (J2). Its frames need not be.
    pub(super) fn anchor(&self, lsn: Lsn) -> Result<()> {
        let (file, header, named) = {
            let state = self.state.lock();
            let mut lives = state.sealed.iter().chain([&state.current]);
            let Some(life) = lives.find(|life| life.sequence == lsn.sequence()) else {
                return Ok(());
            };
            if life.anchored && life.slot.named {
                return Ok(());
            }
            (Arc::clone(&life.slot.file), life.header, life.slot.named)
        };
        if let Err(error) = file.write_at_durable(&header.encode(), 0) {
            let cause = Arc::new(error);
            self.fail(Arc::clone(&cause));
            return Err(Error::Failed { cause });
        }
        if !named {
            let slot = header.slot.unwrap_or_default();
            self.sync_names(&[slot]).ok_or_else(|| self.failed())?;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for life in state.sealed.iter_mut().chain([&mut state.current]) {
            life.anchored |= life.sequence == lsn.sequence();
        }
        Ok(())
    }

    /// Returns the error of a journal that has failed.
    fn failed(&self) -> Error {
        match self.failure.get() {
            Some(cause) => Error::Failed { cause: Arc::clone(cause) },
            None => Error::Misuse("a journal that has not failed"),
        }
    }

    fn cover(&self, sync: &SyncFlags<'_>, end: Lsn) {
        self.covered.fetch_max(end.to_u64(), Ordering::AcqRel);
        if !sync.held {
            self.synced.fetch_max(self.covered().to_u64(), Ordering::AcqRel);
        }
    }

    pub(super) fn release_synced(&self) {
        let mut sync = self.sync.lock();
        sync.held = false;
        self.cover(&sync, Lsn::ZERO);
        if !planted("release_wakes_nobody") {
            self.sync_done.notify_all();
        }
    }

    /// Ends waits that only a checkpoint would end. None will be written any more.
    pub(super) fn end_waits(&self) {
        self.sync.lock().ended = true;
        self.sync_done.notify_all();
    }

    pub(super) fn is_held(&self) -> bool {
        self.sync.lock().held
    }

    pub(super) fn keep_replayed(&self, outside: &[Outside]) -> Result<()> {
        // Directly: another thread may have synced all frames, and then a sync would find nothing to do.
        let mut relied = Relied::default();
        relied.add(outside, Lsn::ZERO);
        if !planted("adopted_bytes_not_kept") {
            self.sync_relied(&relied).ok_or_else(|| self.failed())?;
        }
        let kept = self.state.lock().kept.clone();
        for (number, _) in kept {
            rewrite(&*self.storage, number)?;
        }
        self.storage.sync_dir(Path::new(FOLDER))?;
        self.sync_now()
    }

    pub(super) fn checkpointed(&self, end: Lsn) {
        let end = end.min(self.end());
        self.requested_lately.store(false, Ordering::Relaxed);
        {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            while state.sealed.front().is_some_and(|life| {
                life.sequence < end.sequence()
                    || planted("recycle_file_of_checkpoint") && life.sequence == end.sequence()
            }) {
                state.free.extend(state.sealed.pop_front().map(Life::into_slot));
            }
            if end.sequence() >= state.first_sequence {
                state.kept_bytes = 0;
                state.unopened.extend(state.kept.drain(..));
            }
            for life in state.sealed.iter_mut().chain([&mut state.current]) {
                if life.sequence == end.sequence() {
                    life.synced = life.synced.max(end.position());
                }
            }
            state.relied.settle(end);
            state.checkpoint_due_told = false;
            state.trouble.checkpoints.succeed();
            if !self.config.background {
                // Without a thread the next attempt comes only when a caller wants space.
                state.trouble.files.succeed();
            }
        }
        {
            let early = planted("checkpoint_wakes_early");
            let sync = (!early).then(|| self.sync.lock());
            self.covered.fetch_max(end.to_u64(), Ordering::AcqRel);
            // Also while held: a checkpoint makes everything that it covers durable.
            self.synced.fetch_max(end.to_u64(), Ordering::AcqRel);
            drop(sync);
        }
        self.sync_done.notify_all();
        self.space_freed.notify_all();
        self.signal.wake();
    }
}

/// The guard, which proves that the caller holds the lock.
type SyncFlags<'a> = MutexGuard<'a, SyncState>;
