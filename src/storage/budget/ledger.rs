//! The account of a folder's space.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::files::{Extent, Files, Size, batch_space, space};
use crate::error::{Error, Result};
use crate::storage::{FileKind, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::types::planted;

/// Of the budget, a share for what never asks, and one for space ahead of segments (B4, B5).
const SHARE: u64 = 64;
/// Deleting the oldest records begins when this many tenths of the budget are taken.
const HIGH_TENTHS: u64 = 9;
/// Once it has begun, it goes on until this share more of the budget is free. Segments may be twice as large, so
/// 85 % of the budget stay taken.
const DROP_SHARE: u64 = 64;
/// The share of the budget of a segment whose topic drops its oldest.
const ROLL_SHARE: u64 = 32;

/// The account. Its lock is the innermost of all.
pub(crate) struct Ledger {
    budget: u64,
    /// The space in bytes that journal and reserve may take.
    system: u64,
    state: Mutex<State>,
    /// Notified when space becomes free while somebody waits.
    freed: Condvar,
    /// What is taken, for readers without the lock.
    taken: AtomicU64,
    /// Above this, the oldest records should go. It rises for a while if that was in vain.
    drop_from: AtomicU64,
    /// Whether the last append that asked was refused.
    refused: AtomicBool,
    /// Whether a refusal was noticed since an append last got room.
    noticed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    /// Charged and not yet in files, in bytes.
    promised: u64,
    /// Kept for copies that the engine makes of segments, in bytes.
    for_copies: u64,
    /// Whether the limit of B1 holds. It does once the folder is below it (B7).
    limited: bool,
    waiters: u32,
}

/// What the account says, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) budget: u64,
    /// What all files take.
    pub(crate) used: u64,
    /// What appends cannot have: files, charges, and what is set aside.
    pub(crate) taken: u64,
}

/// Space that is charged and not yet in a file. Dropping it gives it back.
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    bytes: AtomicU64,
}

impl Ledger {
    /// Counts the files of a folder. `journal` is the space in bytes that the journal may take; the reserve takes as
    /// much.
    pub(crate) fn open(storage: &dyn Storage, budget: u64, journal: u64) -> Result<Arc<Self>> {
        let mut files = Files::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in storage.list(&folder)? {
                let path = folder.join(entry.name);
                match entry.kind {
                    FileKind::Dir => folders.push(path),
                    FileKind::File => drop(files.add(&path, size_of(storage, &path)?)),
                    FileKind::Other => {}
                }
            }
        }
        let limited = files.sums.used <= budget || planted("limit_from_the_start");
        let state = State { files, limited, ..State::default() };
        let ledger = Self {
            budget,
            system: journal.saturating_mul(2),
            state: Mutex::new(state),
            freed: Condvar::new(),
            taken: AtomicU64::new(0),
            drop_from: AtomicU64::new(budget / 10 * HIGH_TENTHS),
            refused: AtomicBool::new(false),
            noticed: AtomicBool::new(false),
        };
        ledger.publish(&mut ledger.state.lock());
        Ok(Arc::new(ledger))
    }

    /// Returns the space in bytes that a batch with a buffer of `capacity` bytes is charged.
    pub(crate) fn batch_space(capacity: usize) -> u64 {
        if planted("budget_ignores_batches") { 0 } else { batch_space(capacity) }
    }

    /// Charges `bytes` if the budget has room for them beside everything that is set aside.
    pub(crate) fn try_charge(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let mut state = self.state.lock();
        let aside = state.for_copies;
        let charged = self.charge_within(&mut state, bytes, aside);
        self.refused.store(charged.is_none(), Ordering::Relaxed);
        if charged.is_some() {
            self.noticed.store(false, Ordering::Relaxed);
        }
        charged
    }

    /// As [`Ledger::try_charge`], for a copy of segments. It may also take what is kept for copies.
    ///
    /// While the copy is written, [`Charge::spend`] what it takes. Dropping the charge gives the rest back.
    pub(crate) fn try_charge_copy(self: &Arc<Self>, bytes: u64) -> Option<Charge> {
        let bytes = if planted("budget_ignores_copies") { 0 } else { bytes };
        self.charge_within(&mut self.state.lock(), bytes, 0)
    }

    /// Returns the most bytes of records that a copy of segments may take: an eighth of the budget, which is set aside
    /// while topics are compacted.
    pub(crate) fn copy_limit(&self) -> u64 {
        self.budget / 8
    }

    /// Returns what a copy of segments of `bytes` takes with its side files, and with what a batch may grow.
    pub(crate) fn copy_room(bytes: u64) -> u64 {
        bytes.saturating_add(bytes / 64).saturating_add(64 << 10)
    }

    /// Keeps `bytes` for copies of segments: appends cannot have them, a copy can.
    pub(crate) fn keep_for_copies(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.for_copies = bytes;
        self.publish(&mut state);
    }

    fn charge_within(
        self: &Arc<Self>,
        state: &mut State,
        bytes: u64,
        aside: u64,
    ) -> Option<Charge> {
        let taken = self.taken_by(state).saturating_add(aside);
        let fits = taken.saturating_add(bytes) <= self.budget || planted("budget_never_refuses");
        fits.then(|| self.promise(state, bytes))
    }

    /// Charges `bytes` without asking, for what recovery finds.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Charge {
        self.promise(&mut self.state.lock(), bytes)
    }

    fn promise(self: &Arc<Self>, state: &mut State, bytes: u64) -> Charge {
        state.promised = state.promised.saturating_add(bytes);
        self.publish(state);
        Charge { ledger: Arc::clone(self), bytes: AtomicU64::new(bytes) }
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.promised = state.promised.saturating_sub(bytes);
        self.freed(state);
    }

    /// Returns what is taken, without what is kept for copies.
    fn taken_by(&self, state: &State) -> u64 {
        let sums = &state.files.sums;
        let aside = if planted("budget_ignores_journal") { sums.system } else { self.system };
        let spare = self.budget / SHARE;
        [sums.system.max(aside), state.promised, spare]
            .into_iter()
            .fold(sums.claims, u64::saturating_add)
    }

    fn publish(&self, state: &mut State) {
        state.limited |= state.files.sums.used <= self.budget;
        let taken = self.taken_by(state).saturating_add(state.for_copies);
        self.taken.store(taken, Ordering::Relaxed);
        if taken <= self.high() {
            self.drop_from.store(self.high(), Ordering::Relaxed);
        }
    }

    fn freed(&self, mut state: MutexGuard<'_, State>) {
        self.publish(&mut state);
        let wake = state.waiters > 0;
        drop(state);
        if wake {
            self.freed.notify_all();
        }
    }

    /// Returns what the account says.
    pub(crate) fn account(&self) -> Account {
        let state = self.state.lock();
        let taken = self.taken_by(&state).saturating_add(state.for_copies);
        Account { budget: self.budget, used: state.files.sums.used, taken }
    }

    /// Returns the error of an append that needs `bytes` for which there is no room.
    pub(crate) fn refusal(&self, needed: u64) -> Error {
        let Account { budget, taken, .. } = self.account();
        Error::DiskBudget { budget, taken, needed }
    }

    /// Returns whether `bytes` would be charged now.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.taken.load(Ordering::Relaxed).saturating_add(bytes) <= self.budget
    }

    /// Returns whether this is the first call since an append got room.
    pub(crate) fn first_refusal(&self) -> bool {
        !self.noticed.swap(true, Ordering::Relaxed)
    }

    /// Returns whether the last append that asked was refused, and `bytes` would still be.
    pub(crate) fn is_exhausted(&self, bytes: u64) -> bool {
        let over = self.taken.load(Ordering::Relaxed) > self.budget;
        over || self.refused.load(Ordering::Relaxed) && !self.has_room(bytes)
    }

    /// Returns whether so much is taken that the oldest records should go.
    #[inline]
    pub(crate) fn is_high(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.drop_from.load(Ordering::Relaxed)
    }

    /// Notes that nothing could go. Until more is taken, the next appends need not try again.
    pub(crate) fn dropped_in_vain(&self) {
        let later = self.taken.load(Ordering::Relaxed).saturating_add(self.budget / 256);
        self.drop_from.store(later, Ordering::Relaxed);
    }

    fn high(&self) -> u64 {
        self.budget / 10 * HIGH_TENTHS
    }

    /// Returns how many bytes must go, so that `needed` fit and some more, or 0.
    pub(crate) fn excess(&self, needed: u64) -> u64 {
        let goal = self.high().saturating_sub(self.budget / DROP_SHARE);
        let goal = goal.min(self.budget.saturating_sub(needed));
        let taken = self.taken.load(Ordering::Relaxed);
        if taken > self.high() || !self.has_room(needed) { taken.saturating_sub(goal) } else { 0 }
    }

    /// Returns how many bytes must go, so that `needed` fit, or 0.
    pub(crate) fn shortage(&self, needed: u64) -> u64 {
        self.taken.load(Ordering::Relaxed).saturating_add(needed).saturating_sub(self.budget)
    }

    /// Returns how many bytes journal and reserve take beyond their share, as they may until a journal that was
    /// larger has shrunk.
    pub(crate) fn overdrawn(&self) -> u64 {
        self.state.lock().files.sums.system.saturating_sub(self.system)
    }

    /// Returns the size in bytes at which a segment ends whose topic drops its oldest.
    pub(crate) fn roll_bytes(&self) -> u64 {
        (self.budget / ROLL_SHARE).max(64 << 10)
    }

    /// Waits until something becomes free, or `bytes` have room, or for `timeout`. Returns whether there is room.
    pub(crate) fn wait(&self, bytes: u64, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if !self.has_room(bytes) {
            state.waiters = state.waiters.saturating_add(1);
            let _late = self.freed.wait_for(&mut state, timeout);
            state.waiters = state.waiters.saturating_sub(1);
        }
        drop(state);
        self.has_room(bytes)
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> u32 {
        self.state.lock().waiters
    }

    /// Wakes all that wait for room, because they should look around.
    pub(crate) fn wake_all(&self) {
        drop(self.state.lock());
        self.freed.notify_all();
    }
}

/// The calls of [`super::Metered`].
impl Ledger {
    /// Returns the count of an open file, which another program may have created.
    pub(super) fn find(&self, storage: &dyn Storage, path: &Path) -> Result<Arc<Extent>> {
        let known = self.state.lock().files.get(path);
        match known {
            Some(extent) => Ok(extent),
            None => Ok(self.add(path, size_of(storage, path)?)),
        }
    }

    pub(super) fn add(&self, path: &Path, size: Size) -> Arc<Extent> {
        let mut state = self.state.lock();
        let extent = state.files.add(path, size);
        self.publish(&mut state);
        extent
    }

    /// Counts a file as larger, before it is.
    pub(super) fn grow(&self, extent: &Extent, size: Size) -> Result<()> {
        let mut state = self.state.lock();
        let before = extent.end.load(Ordering::Relaxed);
        let added = space(size.end).saturating_sub(space(before));
        let used = state.files.sums.used.saturating_add(added);
        if added > 0 && used > self.budget && state.limited && !planted("budget_without_limit") {
            return Err(Error::DiskFull { path: extent.name().unwrap_or_default() });
        }
        state.files.resize(extent, size);
        self.publish(&mut state);
        Ok(())
    }

    /// Counts a file as smaller, after it has become so.
    pub(super) fn shrink(&self, extent: &Extent, size: Size) {
        let mut state = self.state.lock();
        state.files.resize(extent, size);
        self.freed(state);
    }

    /// Counts space ahead of a segment. Returns its end, which is lower than the requested one if there is no room
    /// for all of it (B5).
    pub(super) fn reserve_ahead(&self, extent: &Extent, end: u64) -> u64 {
        let mut state = self.state.lock();
        let before = extent.end.load(Ordering::Relaxed);
        let ahead = (self.budget / SHARE).saturating_sub(state.files.sums.ahead);
        let taken = self.taken_by(&state).saturating_add(state.for_copies);
        let free = self.high().saturating_sub(taken);
        let free = if planted("budget_ignores_space_ahead") { u64::MAX } else { free.min(ahead) };
        // The block for the list of pieces comes on top.
        let granted = free.saturating_sub(2 * super::files::BLOCK);
        let end = end.min(before.saturating_add(granted));
        if end > before {
            let len = extent.len.load(Ordering::Relaxed);
            state.files.resize(extent, Size { len, end });
            self.publish(&mut state);
        }
        end
    }

    pub(super) fn remove(&self, path: &Path) {
        let mut state = self.state.lock();
        state.files.remove(path);
        self.freed(state);
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) {
        let mut state = self.state.lock();
        state.files.rename(from, to);
        self.freed(state);
    }
}

/// Returns the size of an existing file. Holes count, because they are filled later.
pub(super) fn size_of(storage: &dyn Storage, path: &Path) -> Result<Size> {
    let len = storage.metadata(path)?.map_or(0, |(_, len)| len);
    Ok(Size { len, end: len.max(storage.disk_bytes(path)?) })
}

impl Charge {
    /// Gives back what has become space of a file, or is not needed.
    pub(crate) fn spend(&self, bytes: u64) {
        let take = |held: u64| Some(held.saturating_sub(bytes));
        let held = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let spent = held.unwrap_or(0).min(bytes);
        if spent > 0 {
            self.ledger.give_back(spent);
        }
    }

    /// Gives back all of it.
    pub(crate) fn release(&self) {
        self.spend(u64::MAX);
    }

    /// Returns what it is now, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes all of another charge.
    pub(crate) fn join(&self, other: &Self) {
        let bytes = other.bytes.swap(0, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !planted("budget_keeps_refused") {
            self.release();
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("account", &self.account()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Charge").field(&self.bytes()).finish()
    }
}
