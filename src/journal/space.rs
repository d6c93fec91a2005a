//! Space: credits, and the files that back them (J3).
//!
//! Frames go into the current file until one does not fit. The journal then continues in the next spare that
//! the frame fits into. A *credit* is space for the frames of an operation that must not be refused half-way.
//! `B` bytes of frames, none larger than `L`, fit in every order if
//! - one file has room for all `B` bytes, or
//! - the rooms of all files, each less `L`, add up to `B`. A file is left only for a frame that does not fit,
//!   so it leaves less than `L` unused.
//!
//! Every reservation, and every frame without a credit, must leave that true for the outstanding credits:
//! - without the last spare. The next opening on a full disk continues there.
//! - and an ordinary one must leave some bytes more, which are held back for urgent ones.
//!
//! Threads that wait for space are served in the order in which they came. Meanwhile every other ordinary
//! frame waits behind them, so small frames cannot eat up the space that a large one waits for. Urgent ones
//! do not wait in this line: deletions and commits make space.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::MutexGuard;
use crate::types::planted;

use super::credits::surely_fit;
use super::frame::{FRAME_HEADER, NEXT_BYTES, frame_bytes};
use super::header::FIRST_FRAME;
use super::slot::room;
use super::state::{Life, State};
use super::trouble::Wait;
use super::{JournalConfig, Shared};

/// Space reserved for frames. Dropping the credit releases the bytes that were not used.
pub(crate) struct Credit<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Credit<'_> {
    /// Returns the bytes left, including frame headers.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Uses `frame` bytes for an append, which takes them out of the outstanding credits.
    #[inline]
    pub(super) fn spend(&mut self, state: &mut State, frame: usize) {
        self.bytes -= frame;
        state.credits.bytes -= frame as u64;
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.credits.give_back(self.bytes as u64);
        self.shared.count_free(&mut state);
        let waiters = state.credits.waiters > 0;
        drop(state);
        if waiters {
            self.shared.space_freed.notify_all();
        }
    }
}

impl fmt::Debug for Credit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Counts a thread as waiting for space until it is dropped.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: Option<u64>,
}

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared, urgent: bool) -> Self {
        let mut state = shared.state.lock();
        state.credits.waiters += 1;
        let ticket = (!urgent).then(|| {
            let ticket = state.credits.next_ticket;
            state.credits.next_ticket += 1;
            state.credits.line.push_back(ticket);
            ticket
        });
        shared.count_free(&mut state);
        Self { shared, ticket }
    }

    fn is_next(&self, state: &State) -> bool {
        let first = state.credits.line.front();
        self.ticket.is_none() || self.ticket.as_ref() == first || planted("nobody_stands_in_line")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.credits.waiters -= 1;
        if state.credits.waiters == 0 {
            state.credits.wanted = 0;
        }
        state.credits.line.retain(|ticket| self.ticket != Some(*ticket));
        self.shared.count_free(&mut state);
        let others = state.credits.waiters > 0;
        drop(state);
        // The next one in line may find its space at once.
        if others {
            self.shared.space_freed.notify_all();
        }
    }
}

impl JournalConfig {
    /// Returns the size of the smallest file in bytes.
    pub(super) fn first_bytes(&self) -> u32 {
        (self.file_bytes / 16).next_multiple_of(4096).clamp(super::FILE_BYTES_MIN, self.file_bytes)
    }

    /// Returns the size up to which files grow if the journal grows, in bytes.
    pub(super) fn largest_bytes(&self) -> u32 {
        let eighth = u32::try_from(self.max_bytes / 8).unwrap_or(u32::MAX);
        self.file_bytes.saturating_mul(4).min(eighth).max(self.file_bytes) & !4095
    }

    /// Returns the bytes of frames after which a checkpoint is due.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        (u64::from(self.file_bytes) * 2).min(self.max_bytes / 2)
    }

    /// Returns the bytes that are held back for urgent frames: the more, the larger the journal is.
    fn held_back(&self, state: &State) -> u64 {
        if planted("nothing_held_back") {
            return 0;
        }
        let least = u64::from(self.first_bytes() / 8);
        (state.total_bytes / 64).clamp(least, u64::from(self.file_bytes / 4))
    }
}

impl State {
    /// Returns whether the files surely take the outstanding credits (J3).
    #[cfg(test)]
    pub(super) fn backs_credits(&self) -> bool {
        let granted = self.spares.len().saturating_sub(1);
        let rooms = self.spares.iter().take(granted).map(Life::room);
        let rooms = [self.current.room()].into_iter().chain(rooms);
        surely_fit(rooms, self.credits.bytes, self.credits.largest)
    }
}

impl Shared {
    /// Returns whether a frame of `bytes` more may be promised.
    fn can_promise(&self, state: &State, bytes: u64, urgent: bool) -> bool {
        let spares = state.spares.len();
        if spares == 0 && !urgent && !planted("grant_last_spare") {
            return false;
        }
        let granted = if planted("grant_last_spare") { spares } else { spares.saturating_sub(1) };
        let held_back = if urgent { 0 } else { self.config.held_back(state) };
        let total = state.credits.bytes + bytes + held_back;
        let largest = state.credits.largest.max(bytes).max(held_back);
        let rooms = state.spares.iter().take(granted).map(Life::room);
        surely_fit([state.current.room()].into_iter().chain(rooms), total, largest)
    }

    /// Whether a frame without a credit may be appended, although it reaches beyond `free_until`.
    #[cold]
    pub(super) fn may_append_freely(&self, state: &State, frame: u32) -> bool {
        state.credits.line.is_empty() && self.can_promise(state, u64::from(frame), false)
    }

    /// Computes `free_until`. Called after every change of the files, the credits and the line.
    ///
    /// Frames below that position stay in the current file. So they take nothing from a credit that the
    /// spares alone can hold.
    pub(super) fn count_free(&self, state: &mut State) {
        let credits = &state.credits;
        let last = state.spares.len().saturating_sub(1);
        let held_back = self.config.held_back(state);
        let promised = credits.bytes + held_back;
        let largest = credits.largest.max(held_back);
        let rooms = state.spares.iter().take(last).map(Life::room);
        let keep = if !credits.line.is_empty() || state.spares.is_empty() {
            u64::MAX
        } else if surely_fit(rooms, promised, largest) {
            0
        } else {
            promised
        };
        let full = u64::from(state.current.slot.size.saturating_sub(NEXT_BYTES));
        state.free_until = full.saturating_sub(keep) as u32;
    }

    #[inline]
    pub(super) fn reserve(&self, payload: usize, max_block: Duration) -> Result<Credit<'_>> {
        match self.try_reserve(payload, false) {
            Some(credit) => Ok(credit),
            None => self.reserve_slow(payload, false, max_block),
        }
    }

    #[inline]
    pub(super) fn try_reserve(&self, payload: usize, urgent: bool) -> Option<Credit<'_>> {
        let bytes = (payload.saturating_add(FRAME_HEADER + 7) & !7) as u64;
        if bytes > self.config.max_bytes / 4 {
            return None;
        }
        let mut state = self.state.lock();
        let there = state.credits.line.is_empty() && self.can_promise(&state, bytes, urgent);
        there.then(|| self.promise(&mut state, bytes))
    }

    pub(super) fn reserve_urgent(&self, payload: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.reserve_slow(payload, true, max_block)
    }

    fn promise(&self, state: &mut State, bytes: u64) -> Credit<'_> {
        state.credits.give_out(bytes);
        self.count_free(state);
        Credit { shared: self, bytes: bytes as usize }
    }

    #[cold]
    fn reserve_slow(
        &self,
        payload: usize,
        urgent: bool,
        max_block: Duration,
    ) -> Result<Credit<'_>> {
        let max = self.config.max_bytes / 4;
        let bytes = frame_bytes(payload as u64).unwrap_or(u64::MAX);
        if bytes > max {
            return Err(Error::LimitExceeded {
                what: "bytes of a journal frame",
                found: bytes,
                max,
            });
        }
        let mut wait = Wait::until(self.clock.monotonic().saturating_add(max_block));
        let waiting = Waiting::new(self, urgent);
        loop {
            self.check_writable()?;
            let mut state = self.state.lock();
            if waiting.is_next(&state) && self.can_promise(&state, bytes, urgent) {
                return Ok(self.promise(&mut state, bytes));
            }
            let room = self.room_wanted(&state, bytes);
            if urgent {
                state.credits.wanted = state.credits.wanted.max(room);
            } else if waiting.is_next(&state) {
                state.credits.wanted = room;
            }
            if !self.config.background {
                let is_next = waiting.is_next(&state);
                drop(state);
                if self.prepare_one()? {
                    continue;
                }
                if is_next {
                    return Err(NO_SPACE);
                }
                // The thread ahead waits for nothing.
                std::thread::yield_now();
                continue;
            }
            let there =
                |state: &State| waiting.is_next(state) && self.can_promise(state, bytes, urgent);
            if !self.wait_for_space(state, &mut wait, there)? {
                return Err(self.why_no_space());
            }
        }
    }

    /// Returns the room that one file needs, or 0 if ordinary files will do.
    ///
    /// Of a small file, frames of more than half of it might leave most unused.
    fn room_wanted(&self, state: &State, bytes: u64) -> u32 {
        let largest = state.credits.largest.max(bytes);
        if largest * 2 <= u64::from(whole_room(self.config.first_bytes())) {
            return 0;
        }
        let room = state.credits.bytes + bytes + self.config.held_back(state);
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// Asks the thread to make space, then waits until something changes or `there` is true. Returns `false`
    /// if nothing changed by the end of the wait. An error means that further waiting would not help.
    fn wait_for_space(
        &self,
        mut state: MutexGuard<'_, State>,
        wait: &mut Wait,
        there: impl Fn(&State) -> bool,
    ) -> Result<bool> {
        self.check_writable()?;
        if let Some(cause) = self.no_more_space(&state) {
            return Err(Error::Failed { cause: Arc::clone(cause) });
        }
        let gets_more = self.may_get_more(&state);
        if let Some(error) = wait.ended_by(&state.trouble, gets_more) {
            return Err(error.clone());
        }
        if !std::mem::replace(&mut wait.stalled, true) {
            state.spare_target = (state.spare_target * 2).min(SPARES_AT_MOST);
        }
        let checkpoint = !gets_more || state.trouble.files.error().is_some();
        MutexGuard::unlocked(&mut state, || {
            self.signal.wake();
            if checkpoint {
                (self.on_checkpoint_due)();
            }
        });
        // Check again: a change while the lock was released notified no one, as this thread did not wait yet.
        let told = self.no_more_space(&state).is_some() || self.check_writable().is_err();
        let ended = wait.ended_by(&state.trouble, self.may_get_more(&state)).is_some();
        if there(&state) || told || ended {
            return Ok(true);
        }
        let left = wait.deadline.saturating_sub(self.clock.monotonic());
        let late = left.is_zero() || self.space_freed.wait_for(&mut state, left).timed_out();
        // A cause that arrived in the last moment is a better answer than a timeout.
        let ended = wait.ended_by(&state.trouble, self.may_get_more(&state)).is_some();
        Ok(!late || there(&state) || ended)
    }

    /// Returns the reason why a wait for space took too long.
    fn why_no_space(&self) -> Error {
        let state = self.state.lock();
        let files = state.trouble.files.error();
        let checkpoints = state.trouble.checkpoints.error();
        files.or(checkpoints.filter(|_| !self.may_get_more(&state))).cloned().unwrap_or(NO_SPACE)
    }

    pub(super) fn checkpoint_failed(&self, error: &Error) {
        self.state.lock().trouble.checkpoints.fail(error.clone());
        self.sync.lock().checkpoints.fail(error.clone());
        // If the failure is retryable, waiters keep waiting.
        if !error.is_retryable() {
            self.space_freed.notify_all();
            self.sync_done.notify_all();
        }
    }

    /// Returns why there will be no more space, if no checkpoint will free some and the journal has its
    /// largest size.
    fn no_more_space(&self, state: &State) -> Option<&Arc<Error>> {
        self.space_stopped.get().filter(|_| !self.may_get_more(state))
    }

    /// Wakes the threads that wait for space. Called when there may be more space, or never any again.
    pub(super) fn notify_space(&self) {
        // Take and release the lock, so that no waiter between its check and its wait misses this.
        drop(self.state.lock());
        self.space_freed.notify_all();
    }
}

/// Returns the size of a file with this much room, in bytes.
pub(super) fn file_with_room(wanted: u32) -> u32 {
    (FIRST_FRAME + NEXT_BYTES).saturating_add(wanted).saturating_add(4095) & !4095
}

/// Returns the room of an unused file in bytes.
pub(super) fn whole_room(size: u32) -> u32 {
    room(size, FIRST_FRAME)
}

const NO_SPACE: Error = Error::Timeout { what: "journal space" };
const SPARES_AT_MOST: usize = 8;
