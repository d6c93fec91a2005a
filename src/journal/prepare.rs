//! Prepares spares, the files that space comes from. A spare is a recycled slot or a new file.
//!
//! Preparing a file syncs nothing, unless threads wait for syncs: then the file is filled and synced here, so
//! that their syncs only write frames.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;
use crate::types::{Lsn, planted};

use super::header::{FileHeader, sequence_after};
use super::slot::{FOLDER, Slot, free_number, slot_path};
use super::space::file_with_room;
use super::state::{Life, State, Unneeded};
use super::{JournalMode, Shared};

/// The state of the one thread that prepares files.
#[derive(Debug)]
pub(super) struct Preparing {
    /// All slot numbers in the folder.
    pub(super) numbers: BTreeSet<u32>,
}

/// How long the preparation of a file pauses after each piece of work.
const PAUSE: Duration = Duration::from_micros(100);

/// How the next spare is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// From the free slot at this index.
    Free(usize),
    /// From the unopened slot at this index.
    Unopened(usize),
    /// From a slot that could not be used before.
    Aside,
    /// As a new file of this size.
    New(u32),
    /// As a new file of this size, after other files have been removed.
    Replace(u32),
}

/// The source of the next spare.
pub(super) enum Source {
    Unneeded(Unneeded),
    New(u32),
}

impl Shared {
    /// Returns how the next spare would be made, or `None` if only a checkpoint makes room for one.
    fn plan(&self, state: &State) -> Option<Plan> {
        let wanted = state.credits.wanted;
        let mut large = state.spares.iter().rev().map(|spare| spare.room() >= wanted);
        let last_is_large = large.next().unwrap_or(false);
        let followed = large.any(|large| large);
        if wanted > 0 && !last_is_large && !followed {
            return self.plan_large(state, wanted);
        }
        if let Some(last) = state.free.len().checked_sub(1) {
            return Some(Plan::Free(last));
        }
        if !state.unopened.is_empty() {
            return Some(Plan::Unopened(0));
        }
        if let Some(size) = self.new_file_bytes(state) {
            return Some(Plan::New(size));
        }
        if !state.aside.is_empty() {
            return Some(Plan::Aside);
        }
        // Nothing may follow the last spare, so its room cannot be promised. Make another order of them.
        if wanted > 0 && !followed && !planted("large_spare_stays_last") {
            return self.plan_replacement(state, file_with_room(wanted));
        }
        // Without any spare no append could switch files, so exceed the limit by one file.
        state.spares.is_empty().then(|| Plan::New(self.config.first_bytes()))
    }

    /// As `plan`, for a spare with this much room. Another spare must be able to follow it.
    fn plan_large(&self, state: &State, wanted: u32) -> Option<Plan> {
        let first = u64::from(self.config.first_bytes());
        let max = self.config.max_bytes;
        let size = file_with_room(wanted);
        let others = state.free.len() + state.unopened.len();
        let behind =
            |others| if others > 0 || planted("nothing_behind_large_frame") { 0 } else { first };
        if state.total_bytes + behind(others.saturating_sub(1)) <= max {
            if let Some(at) = state.free.iter().position(|slot| slot.size >= size) {
                return Some(Plan::Free(at));
            }
            if let Some(at) = state.unopened.iter().position(|(_, len)| *len >= u64::from(size)) {
                return Some(Plan::Unopened(at));
            }
        }
        if state.total_bytes + u64::from(size) + behind(others) <= max
            || planted("large_file_beyond_limit")
        {
            return Some(Plan::New(size));
        }
        self.plan_replacement(state, size)
    }

    /// Returns a plan that removes files for one of `size` bytes, if it and another one then fit.
    fn plan_replacement(&self, state: &State, size: u32) -> Option<Plan> {
        let (removable, smallest) = state.removable_bytes();
        let left = smallest.unwrap_or_else(|| u64::from(self.config.first_bytes()));
        let needed = state.total_bytes.saturating_sub(removable) + left + u64::from(size);
        (needed <= self.config.max_bytes).then_some(Plan::Replace(size))
    }

    /// Returns the size of a new file that makes the journal grow, in bytes. The more the journal holds, the
    /// larger is its next file.
    fn new_file_bytes(&self, state: &State) -> Option<u32> {
        let first = self.config.first_bytes();
        let half = u32::try_from(state.total_bytes / 2).unwrap_or(u32::MAX) & !4095;
        let grown = half.clamp(first, self.config.largest_bytes());
        let left = self.config.max_bytes.saturating_sub(state.total_bytes);
        let left = u32::try_from(left).unwrap_or(u32::MAX) & !4095;
        let size = grown.min(left);
        (size >= first).then_some(size)
    }

    /// Returns whether one more spare can be prepared without a checkpoint.
    pub(super) fn may_get_more(&self, state: &State) -> bool {
        self.plan(state).is_some()
    }

    /// Returns whether the thread should prepare a file now.
    pub(super) fn wants_spare(&self) -> bool {
        let state = self.state.lock();
        let few = state.spares.len() < state.spare_target || state.credits.waiters > 0;
        few && self.may_get_more(&state)
    }

    /// Prepares one more spare. Returns `false` if the journal has its largest size and no slot is free.
    ///
    /// The journal keeps a failure. A failure that time does not mend ends the waits for space.
    pub(super) fn prepare_one(&self) -> Result<bool> {
        let prepared = self.try_prepare_one();
        if let Err(error) = &prepared {
            self.state.lock().trouble.files.fail(error.clone());
            if !error.is_retryable() {
                self.space_freed.notify_all();
            }
        }
        prepared
    }

    fn try_prepare_one(&self) -> Result<bool> {
        let mut preparing = self.prepare.lock();
        if self.closed.load(Ordering::Acquire) {
            // The folder may belong to its next writer.
            return Ok(false);
        }
        self.shrink(&mut preparing);
        let (source, removed) = {
            let mut state = self.state.lock();
            let Some(plan) = self.plan(&state) else { return Ok(false) };
            self.take_source(&mut state, plan)
        };
        let mut all_removed = Ok(());
        for unneeded in removed {
            all_removed = all_removed.and(self.remove(&mut preparing, unneeded));
        }
        all_removed?;
        self.make_spare(&mut preparing, source)?;
        Ok(true)
    }

    /// Takes what `plan` names out of the state. Also returns the files to be removed before.
    fn take_source(&self, state: &mut State, plan: Plan) -> (Source, Vec<(u32, u64)>) {
        let new = |size| Source::New(size);
        let first = || self.config.first_bytes();
        let unneeded = match plan {
            Plan::Free(at) => Some(Unneeded::Open(state.free.remove(at))),
            Plan::Unopened(at) => {
                state.unopened.remove(at).map(|(number, len)| Unneeded::Unopened(number, len))
            }
            Plan::Aside => state.aside.pop_front(),
            Plan::New(size) => return (new(size), Vec::new()),
            Plan::Replace(size) => return (new(size), self.make_room(state, u64::from(size))),
        };
        (unneeded.map_or_else(|| new(first()), Source::Unneeded), Vec::new())
    }

    /// Takes files out of the state until a file of `size` bytes fits below the limit. Leaves one, because a
    /// journal without any could not be opened on a full disk. Returns their numbers and lengths.
    fn make_room(&self, state: &mut State, size: u64) -> Vec<(u32, u64)> {
        if state.credits.bytes == 0 {
            // Sequence numbers only need to rise along the chain, so spares may be left out of it.
            self.free_spares(state);
            state.free.sort_unstable_by_key(|slot| slot.size);
        }
        let mut removed = Vec::new();
        while state.total_bytes + size > self.config.max_bytes && state.unneeded() > 1 {
            removed.extend(state.take_unneeded());
        }
        self.count_free(state);
        removed
    }

    /// Removes unneeded files while the journal exceeds its limit. Each opening after a crash with a full
    /// journal adds one file. If power loss brings a removed file back, it is a free slot again.
    fn shrink(&self, preparing: &mut Preparing) {
        loop {
            let unneeded = {
                let mut state = self.state.lock();
                let enough = state.total_bytes <= self.config.max_bytes;
                if enough || state.spares.is_empty() {
                    return;
                }
                let Some(unneeded) = state.take_unneeded() else { return };
                unneeded
            };
            // A file that cannot be removed can still be reused. The next spare tries to remove it again.
            if self.remove(preparing, unneeded).is_err() {
                return;
            }
        }
    }

    /// Removes a file that `take_unneeded` returned. If that fails, the file counts again.
    pub(super) fn remove(
        &self,
        preparing: &mut Preparing,
        (number, bytes): (u32, u64),
    ) -> Result<()> {
        let removed = self.storage.remove(&slot_path(number));
        if removed.is_ok() {
            preparing.numbers.remove(&number);
        } else {
            let mut state = self.state.lock();
            state.total_bytes += bytes;
            state.aside.push_front(Unneeded::Unopened(number, bytes));
        }
        removed
    }

    /// Makes a spare from `source`.
    ///
    /// If that fails, an existing slot is put aside, open if it was opened. The next attempt writes its
    /// header again with another sequence, so the outcome of the failed write does not matter.
    pub(super) fn make_spare(&self, preparing: &mut Preparing, source: Source) -> Result<()> {
        let mut slot = self.obtain(preparing, source)?;
        let (begun, anchored) = match self.begin(&mut slot) {
            Ok(begun) => begun,
            Err(error) => {
                self.state.lock().aside.push_back(Unneeded::Open(slot));
                return Err(error);
            }
        };
        let mut state = self.state.lock();
        state.spares.push_back(Life::new(slot, begun, anchored));
        state.trouble.files.succeed();
        self.count_free(&mut state);
        drop(state);
        self.space_freed.notify_all();
        Ok(())
    }

    /// Begins the slot's next life. Returns its header, and whether that is durable.
    ///
    /// Checks first that the file still has its name: frames in a removed file would be lost.
    fn begin(&self, slot: &mut Slot) -> Result<(FileHeader, bool)> {
        if self.storage.metadata(&slot_path(slot.number))?.is_none() {
            let gone = io::ErrorKind::NotFound.into();
            return Err(Error::io("find", slot.file.path(), gone));
        }
        // Threads wait for syncs: make all that a sync would have to write besides frames durable now.
        let anchored = self.waited.swap(false, Ordering::Relaxed);
        let stores = self.config.mode == JournalMode::Map && self.suits_stores(slot);
        if anchored || stores {
            slot.fill(anchored, &|| self.pause())?;
        }
        if anchored {
            slot.file.sync_data()?;
            if !slot.named {
                self.storage.sync_dir(FOLDER.as_ref())?;
                slot.named = true;
            }
        }
        let header = self.next_header(slot)?;
        if anchored {
            slot.file.write_at_durable(&header.encode(), 0)?;
        } else {
            slot.file.write_at(&header.encode(), 0)?;
        }
        if stores {
            slot.map(&|| self.pause())?;
        }
        Ok((header, anchored))
    }

    /// Pauses the preparation of a file while there is time for that.
    ///
    /// On a machine whose processors are all in use, a thread that works for milliseconds takes one of them
    /// away from a producer or a consumer for as long. A thread that works for some microseconds at a time is
    /// hardly noticed.
    fn pause(&self) {
        let calm = {
            let state = self.state.lock();
            let current = &state.current;
            let much_left = current.position < current.slot.size / 2 || state.spares.len() > 1;
            state.credits.waiters == 0 && much_left
        };
        if calm && self.config.background {
            self.signal.pause(PAUSE);
        }
    }

    /// Returns whether frames cost less as stores in this slot than as writes.
    fn suits_stores(&self, slot: &Slot) -> bool {
        let made_for_one = slot.size > self.config.largest_bytes();
        slot.is_mapped() || !made_for_one && !self.state.lock().frames.are_large
    }

    fn next_header(&self, slot: &Slot) -> Result<FileHeader> {
        let sequence = {
            let mut state = self.state.lock();
            let sequence = state.next_sequence;
            state.next_sequence = sequence_after(sequence)?;
            sequence
        };
        Ok(FileHeader {
            size: slot.size,
            directory_id: self.config.directory_id,
            salt: self.random.next_u64(),
            sequence,
            epoch: self.config.epoch,
            continues_from: Lsn::ZERO,
            known_synced: self.synced(),
            slot: Some(slot.number),
        })
    }

    fn obtain(&self, preparing: &mut Preparing, source: Source) -> Result<Slot> {
        match source {
            Source::Unneeded(Unneeded::Open(slot)) => Ok(slot),
            Source::Unneeded(Unneeded::Unopened(number, bytes)) => {
                let least = self.config.first_bytes();
                let opened = Slot::open(&*self.storage, number, least);
                let mut state = self.state.lock();
                match opened {
                    Ok(slot) => {
                        let before = state.total_bytes.saturating_sub(bytes);
                        state.total_bytes = before + u64::from(slot.size);
                        Ok(slot)
                    }
                    Err(error) => {
                        state.aside.push_back(Unneeded::Unopened(number, bytes));
                        Err(error)
                    }
                }
            }
            Source::New(size) => {
                let number = free_number(&preparing.numbers);
                let slot = Slot::create(&*self.storage, number, size)?;
                preparing.numbers.insert(number);
                self.state.lock().total_bytes += u64::from(size);
                Ok(slot)
            }
        }
    }
}
