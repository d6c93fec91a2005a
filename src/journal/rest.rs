//! Makes a journal small while it is idle, and before its folder is closed.

use std::path::Path;

use crate::error::Result;
use crate::sync::atomic::Ordering;
use crate::types::planted;

use super::Shared;
use super::prepare::{Preparing, Source};
use super::slot::FOLDER;
use super::state::{Life, SPARES_AT_FIRST, State, Unneeded};

impl Shared {
    /// Continues in a small file, unless all files together are small, and prepares a small spare for the next
    /// opening. Appends have stopped. The next checkpoint frees everything before that file.
    ///
    /// A failure changes nothing but the size.
    pub(super) fn rest(&self) -> Result<()> {
        let mut preparing = self.prepare.lock();
        {
            let mut state = self.state.lock();
            if state.total_bytes <= SMALL {
                return Ok(());
            }
            self.free_spares(&mut state);
        }
        for _ in 0..SPARES_AT_FIRST {
            self.make_small_spare(&mut preparing)?;
        }
        let mut state = self.state.lock();
        self.seal(&mut state)?;
        let end = state.current.end();
        self.end.store(end.to_u64(), Ordering::Release);
        Ok(())
    }

    fn make_small_spare(&self, preparing: &mut Preparing) -> Result<()> {
        let first = self.config.first_bytes();
        let small = {
            let mut state = self.state.lock();
            let small = state.free.iter().position(|slot| slot.size <= first);
            small.map(|at| state.free.remove(at))
        };
        match small {
            Some(slot) => self.make_spare(preparing, Source::Unneeded(Unneeded::Open(slot))),
            None => self.make_spare(preparing, Source::New(first)).or_else(|error| {
                // On a full disk the file takes the place of a larger one.
                let Some(large) = self.state.lock().take_unneeded() else { return Err(error) };
                self.remove(preparing, large)?;
                self.make_spare(preparing, Source::New(first))
            }),
        }
    }

    /// Gives back what a burst took: replaces the spares of an idle journal by two small ones, and removes files
    /// that nothing needs until all together are as large as two ordinary files.
    pub(super) fn shrink_idle(&self) -> Result<()> {
        let before = self.state.lock().total_bytes;
        let shrunk = self.try_shrink_idle();
        let smaller = self.state.lock().total_bytes < before;
        if smaller && !planted("shrink_tells_nobody") {
            // Its checkpoint makes the reserve smaller too.
            (self.on_checkpoint_due)();
        }
        shrunk
    }

    fn try_shrink_idle(&self) -> Result<()> {
        let enough = u64::from(self.config.file_bytes) * 2;
        let mut preparing = self.prepare.lock();
        {
            let mut state = self.state.lock();
            let relied_on = state.credits.bytes > 0 || state.credits.waiters > 0;
            if state.total_bytes <= enough || relied_on {
                return Ok(());
            }
            state.spare_target = SPARES_AT_FIRST;
            self.free_spares(&mut state);
        }
        for _ in 0..SPARES_AT_FIRST {
            self.make_small_spare(&mut preparing)?;
        }
        loop {
            let unneeded = {
                let mut state = self.state.lock();
                let large = state.total_bytes > enough;
                large.then(|| state.take_unneeded()).flatten()
            };
            let Some(unneeded) = unneeded else { return Ok(()) };
            self.remove(&mut preparing, unneeded)?;
        }
    }

    /// Frees the slots of all spares. Nothing may rely on them.
    pub(super) fn free_spares(&self, state: &mut State) {
        let spares: Vec<Life> = state.spares.drain(..).collect();
        state.free.extend(spares.into_iter().map(Life::into_slot));
        self.count_free(state);
    }

    /// Removes the files that nothing needs from a journal whose files are all small. A larger one soon needs
    /// them again.
    pub(super) fn trim_small(&self) -> Result<()> {
        let is_small = self.state.lock().total_bytes <= SMALL * 2;
        if is_small && !planted("last_file_stays") { self.trim() } else { Ok(()) }
    }

    /// Removes the files that nothing needs. Keeps the spares, so that the folder can be opened on a full disk.
    pub(super) fn trim(&self) -> Result<()> {
        let mut preparing = self.prepare.lock();
        {
            let mut state = self.state.lock();
            if state.spares.is_empty() {
                return Ok(());
            }
            if planted("trim_the_last_file") {
                self.free_spares(&mut state);
            }
        }
        loop {
            let unneeded = self.state.lock().take_unneeded();
            let Some(unneeded) = unneeded else { return self.storage.sync_dir(Path::new(FOLDER)) };
            self.remove(&mut preparing, unneeded)?;
        }
    }
}

/// The size of all files up to which a journal stays as it is, in bytes.
const SMALL: u64 = 1 << 20;
