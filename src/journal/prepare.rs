//! The files behind the space: spares are made of slots that nothing needs, or of new files.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;

use crate::error::{Error, Result};
use crate::types::{Lsn, planted};

use super::frame::NEXT_BYTES;
use super::header::{FIRST_FRAME, FileHeader, sequence_after};
use super::slot::{Slot, free_number, slot_path};
use super::state::{Life, SPARES_AT_FIRST, State, Unneeded};
use super::{JournalConfig, Shared};

/// What the one thread that prepares files keeps.
#[derive(Debug)]
pub(super) struct Preparing {
    /// All slot numbers in the folder.
    pub(super) numbers: BTreeSet<u32>,
}

/// Where the next spare comes from.
enum Source {
    Unneeded(Unneeded),
    New(u32),
}

impl Shared {
    /// The size of a new file: a larger one where the journal grows because somebody had to wait. Each
    /// life of a file begins with a sync of its header, which takes ten milliseconds and more on a disk
    /// that checkpoints keep busy.
    fn new_file_bytes(&self, state: &State) -> u32 {
        let large = self.config.file_bytes.saturating_mul(LARGE);
        let fits = state.total_bytes + u64::from(large) <= self.config.max_bytes;
        let waited = state.spare_target > SPARES_AT_FIRST;
        if waited && (fits || planted("large_file_beyond_limit")) {
            large
        } else {
            self.config.file_bytes
        }
    }

    /// Whether the thread should prepare a file now.
    pub(super) fn wants_spare(&self) -> bool {
        let state = self.state.lock();
        if state.exclusive {
            return false;
        }
        let few = state.spares.len() < state.spare_target || state.waiters > 0;
        state.can_recycle() || few && self.may_get_more(&state)
    }

    /// Makes one more spare; `false` if the journal is as large as it may be and no slot is free. A
    /// failure is kept, and ends the waits of those for whom it is final.
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
        self.shrink(&mut preparing);
        let source = {
            let mut state = self.state.lock();
            if state.exclusive {
                return Ok(false);
            }
            let Some(source) = self.next_source(&mut state) else { return Ok(false) };
            source
        };
        self.make_spare(&mut preparing, source)?;
        Ok(true)
    }

    fn next_source(&self, state: &mut State) -> Option<Source> {
        if let Some(slot) = state.free.pop() {
            Some(Source::Unneeded(Unneeded::Open(slot)))
        } else if let Some((number, bytes)) = state.unopened.pop_front() {
            Some(Source::Unneeded(Unneeded::Unopened(number, bytes)))
        } else if self.may_grow(state) {
            Some(Source::New(self.new_file_bytes(state)))
        } else if let Some(aside) = state.aside.pop_front() {
            Some(Source::Unneeded(aside))
        } else {
            // Without any spare a file beyond the limit is the smaller evil.
            state.spares.is_empty().then(|| Source::New(self.new_file_bytes(state)))
        }
    }

    /// Removes files that nothing needs while there are more than there should be: each opening after a
    /// crash with a full journal makes one more. A name that power loss brings back is a free slot again.
    fn shrink(&self, preparing: &mut Preparing) {
        loop {
            let unneeded = {
                let mut state = self.state.lock();
                let enough = state.total_bytes <= self.config.max_bytes;
                if enough || state.exclusive || state.spares.is_empty() {
                    return;
                }
                let Some(unneeded) = state.take_unneeded() else { return };
                unneeded
            };
            // One that cannot be removed can still be used; it is tried again with the next spare.
            if self.remove(preparing, unneeded).is_err() {
                return;
            }
        }
    }

    /// Removes a file that was taken out. One that stays is still counted.
    fn remove(&self, preparing: &mut Preparing, (number, bytes): (u32, u64)) -> Result<()> {
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

    /// What goes wrong with a slot that is there puts it aside, still open if it is: its header is written
    /// anew at the next attempt, with another sequence, so that nothing hangs on what became of this one.
    fn make_spare(&self, preparing: &mut Preparing, source: Source) -> Result<()> {
        let slot = self.obtain(preparing, source)?;
        let begun = self.begin(&slot);
        let mut state = self.state.lock();
        let header = match begun {
            Ok(header) => header,
            Err(error) => {
                state.aside.push_back(Unneeded::Open(slot));
                return Err(error);
            }
        };
        let life = Life::new(slot, &header);
        let sure = life.sure_bytes(self.config.frame_max());
        state.spares.push_back(life);
        state.trouble.files.succeed();
        state.slack += sure;
        drop(state);
        self.space_freed.notify_all();
        Ok(())
    }

    /// Begins the slot's next life. A file that somebody removed would take everything and keep nothing.
    fn begin(&self, slot: &Slot) -> Result<FileHeader> {
        if self.storage.metadata(&slot_path(slot.number))?.is_none() {
            let gone = io::ErrorKind::NotFound.into();
            return Err(Error::io("find", slot.file.path(), gone));
        }
        let header = self.next_header(slot.size)?;
        slot.begin(&header)?;
        Ok(header)
    }

    fn next_header(&self, size: u32) -> Result<FileHeader> {
        let sequence = {
            let mut state = self.state.lock();
            let sequence = state.next_sequence;
            state.next_sequence = sequence_after(sequence)?;
            sequence
        };
        Ok(FileHeader {
            size,
            directory_id: self.config.directory_id,
            salt: self.random.next_u64(),
            sequence,
            epoch: self.config.epoch,
            continues_from: Lsn::ZERO,
            known_synced: self.synced(),
        })
    }

    fn obtain(&self, preparing: &mut Preparing, source: Source) -> Result<Slot> {
        let mode = self.config.mode;
        let slot = match source {
            Source::Unneeded(Unneeded::Open(slot)) => return Ok(slot),
            Source::Unneeded(Unneeded::Unopened(number, bytes)) => {
                let opened = Slot::open(&*self.storage, number, self.config.file_bytes, mode);
                let mut state = self.state.lock();
                match opened {
                    Ok(slot) => {
                        state.total_bytes += u64::from(slot.size).saturating_sub(bytes);
                        slot
                    }
                    Err(error) => {
                        state.aside.push_back(Unneeded::Unopened(number, bytes));
                        return Err(error);
                    }
                }
            }
            Source::New(size) => {
                let number = free_number(&preparing.numbers);
                let slot = Slot::create(&*self.storage, number, size, mode)?;
                preparing.numbers.insert(number);
                self.state.lock().total_bytes += u64::from(size);
                slot
            }
        };
        Ok(slot)
    }

    /// Sees to it that the next frame of `bytes` fits into the current file or the only spare.
    /// `false` if only a checkpoint can make space for it, and for an ordinary file behind it: each such
    /// frame would take the last spare, and each spare after it be a file beyond the limit.
    pub(super) fn prepare_exclusive(&self, bytes: u32) -> Result<bool> {
        let mut preparing = self.prepare.lock();
        let size = (FIRST_FRAME + bytes + NEXT_BYTES).next_multiple_of(4096);
        let least = if planted("small_large_file") { 0 } else { self.config.file_bytes };
        let size = size.max(least);
        let (source, removed) = {
            let mut state = self.state.lock();
            if state.current.room() >= bytes {
                return Ok(true);
            }
            // Sequence numbers rise along the chain, so spares prepared before cannot follow it.
            for spare in std::mem::take(&mut state.spares) {
                let sure = spare.sure_bytes(self.config.frame_max());
                state.slack -= sure;
                state.free.push(spare.slot);
            }
            state.free.sort_unstable_by_key(|slot| Reverse(slot.size));
            let others = state.free.len() + state.unopened.len() > 1 || self.may_grow(&state);
            let fits = state.free.iter().rposition(|slot| slot.size >= size);
            if let Some(at) = fits.filter(|_| others || planted("nothing_behind_large_frame")) {
                let slot = state.free.swap_remove(at);
                (Source::Unneeded(Unneeded::Open(slot)), Vec::new())
            } else {
                let Some(removed) = make_room(&mut state, &self.config, u64::from(size)) else {
                    return Ok(false);
                };
                (Source::New(size), removed)
            }
        };
        let mut all_removed = Ok(());
        for unneeded in removed {
            all_removed = all_removed.and(self.remove(&mut preparing, unneeded));
        }
        all_removed?;
        self.make_spare(&mut preparing, source)?;
        Ok(true)
    }
}

/// Takes free slots out until a file of `size` bytes fits below the limit, and an ordinary one can
/// follow it; their numbers and lengths.
fn make_room(state: &mut State, config: &JournalConfig, size: u64) -> Option<Vec<(u32, u64)>> {
    let behind = if planted("nothing_behind_large_frame") { 0 } else { config.file_bytes };
    let both = size + u64::from(behind);
    if state.total_bytes.saturating_sub(state.unneeded_bytes()) + both > config.max_bytes {
        return None;
    }
    let mut removed = Vec::new();
    while state.total_bytes + size > config.max_bytes {
        removed.push(state.take_unneeded()?);
    }
    Some(removed)
}

/// How many times as large as an ordinary file a large one is.
const LARGE: u32 = 4;
