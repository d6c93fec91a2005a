//! Prepares spares, the files that space comes from. A spare is a recycled slot or a new file.

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

/// The state of the one thread that prepares files.
#[derive(Debug)]
pub(super) struct Preparing {
    /// All slot numbers in the folder.
    pub(super) numbers: BTreeSet<u32>,
}

/// The source of the next spare.
enum Source {
    Unneeded(Unneeded),
    New(u32),
}

impl Shared {
    /// Returns the size of a new file in bytes. The file is larger if the journal grows because a thread had
    /// to wait.
    ///
    /// Each life of a file begins with a sync of its header. On a disk that checkpoints keep busy that takes
    /// ten milliseconds and more.
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

    /// Returns whether the thread should prepare a file now.
    pub(super) fn wants_spare(&self) -> bool {
        let state = self.state.lock();
        if state.exclusive {
            return false;
        }
        let few = state.spares.len() < state.spare_target || state.waiters > 0;
        state.can_recycle() || few && self.may_get_more(&state)
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
            // Without any spare no append could switch files, so exceed the limit by one file.
            state.spares.is_empty().then(|| Source::New(self.new_file_bytes(state)))
        }
    }

    /// Removes unneeded files while the journal exceeds its limit. Each opening after a crash with a full
    /// journal adds one file. If power loss brings a removed file back, it is a free slot again.
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
            // A file that cannot be removed can still be reused. The next spare tries to remove it again.
            if self.remove(preparing, unneeded).is_err() {
                return;
            }
        }
    }

    /// Removes a file that `take_unneeded` returned. If that fails, the file counts again.
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

    /// Makes a spare from `source`.
    ///
    /// If that fails, an existing slot is put aside, open if it was opened. The next attempt writes its
    /// header again with another sequence, so the outcome of the failed write does not matter.
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

    /// Begins the slot's next life. Checks first that the file still has its name: frames in a removed file
    /// would be lost.
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

    /// Ensures that the next frame of `bytes` bytes fits into the current file or into the only spare.
    ///
    /// Returns `false` if only a checkpoint can make space for that file and for an ordinary one after it.
    /// Without space for the ordinary one each such frame would take the last spare, and each spare after
    /// it would exceed the limit.
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
            // Sequence numbers rise along the chain, so spares prepared earlier cannot follow the new file.
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

/// Takes unneeded slots out of the state until a file of `size` bytes fits below the limit. Returns their
/// numbers and lengths, or `None` if that file and an ordinary one after it cannot both fit.
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

/// The size of a large file in ordinary files.
const LARGE: u32 = 4;
