//! Space: credits, and the files that back them (J3).
//!
//! `slack` counts the bytes that the current file and the spares surely take, less the outstanding credits.
//! It is part of the state. So an append without a credit checks for room under the lock that it takes
//! anyway. A credit is for operations that must not be refused half-way. Each reservation, and each frame
//! without a credit, must leave some bytes in `slack`:
//! - an ordinary one leaves a whole file (for the next opening on a full disk) and a quarter of a file.
//! - an urgent one leaves a whole file. So the quarter is held back for urgent ones.
//!
//! A frame of more than a quarter of an ordinary file is *exclusive*. Its reservation waits until no other
//! credit is outstanding and blocks all others. It gets a file that the frame fits into as the only spare.
//! That file is never smaller than an ordinary one, because ordinary frames use it later. Small files would
//! use up the limit without backing a credit, whatever a checkpoint frees.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::MutexGuard;
use crate::types::planted;

use super::frame::{FRAME_HEADER, frame_bytes};
use super::header::FIRST_FRAME;
use super::slot::sure_bytes;
use super::state::State;
use super::trouble::Wait;
use super::{JournalConfig, Shared};

/// Space reserved for frames. Dropping the credit releases the bytes that were not used.
pub(crate) struct Credit<'a> {
    shared: &'a Shared,
    bytes: usize,
    exclusive: bool,
}

impl Credit<'_> {
    /// Returns the bytes left, including frame headers.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Uses `frame` bytes for an append. Returns the bytes that this gives back to the slack.
    #[inline]
    pub(super) fn spend(&mut self, frame: usize) -> i64 {
        self.bytes -= frame;
        if self.exclusive { 0 } else { frame as i64 }
    }
}

impl Drop for Credit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.exclusive {
            self.shared.end_exclusive();
        } else if self.bytes > 0 {
            let mut state = self.shared.state.lock();
            state.slack += self.bytes as i64;
            let waiters = state.waiters > 0;
            drop(state);
            if waiters {
                self.shared.space_freed.notify_all();
            }
        }
    }
}

impl fmt::Debug for Credit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("bytes", &self.bytes)
            .field("exclusive", &self.exclusive)
            .finish_non_exhaustive()
    }
}

/// Counts a thread as waiting for space until it is dropped.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state.lock().waiters += 1;
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiters -= 1;
    }
}

impl JournalConfig {
    /// Returns the size of the largest frame that shares a file with others.
    #[inline]
    pub(super) fn frame_max(&self) -> u32 {
        self.file_bytes / 4
    }

    /// Returns the bytes that one spare surely takes. They are never granted.
    fn floor(&self) -> i64 {
        if planted("grant_last_spare") {
            return 0;
        }
        sure_bytes(self.file_bytes, FIRST_FRAME, self.frame_max())
    }

    /// Returns the bytes that ordinary frames must leave in the slack.
    #[inline]
    pub(super) fn held_back(&self) -> i64 {
        let urgent = if planted("nothing_held_back") { 0 } else { self.frame_max() };
        self.floor() + i64::from(urgent)
    }
}

impl Shared {
    #[inline]
    pub(super) fn reserve(&self, payload: usize, max_block: Duration) -> Result<Credit<'_>> {
        let bytes = payload.saturating_add(FRAME_HEADER + 7) & !7;
        if bytes <= self.config.frame_max() as usize {
            let taken = self.state.lock().take(bytes, self.config.held_back());
            if taken {
                return Ok(Credit { shared: self, bytes, exclusive: false });
            }
        }
        self.reserve_slow(payload, false, max_block)
    }

    pub(super) fn reserve_urgent(&self, payload: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.reserve_slow(payload, true, max_block)
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
        let _waiting = Waiting::new(self);
        if bytes > u64::from(self.config.frame_max()) {
            return self.reserve_exclusive(bytes as u32, &mut wait);
        }
        loop {
            self.check_writable()?;
            let mut state = self.state.lock();
            let leave = match urgent {
                true if state.spares.is_empty() => 0,
                true => self.config.floor(),
                false => self.config.held_back(),
            };
            if state.take(bytes as usize, leave) {
                return Ok(Credit { shared: self, bytes: bytes as usize, exclusive: false });
            }
            if !self.config.background {
                drop(state);
                if !self.prepare_one()? {
                    return Err(NO_SPACE);
                }
                continue;
            }
            let deadline = wait.deadline;
            let there = |state: &State| state.slack - bytes as i64 >= leave;
            if !self.wait_for_space(state, &mut wait, deadline, there)? {
                return Err(self.why_no_space());
            }
        }
    }

    /// Asks the thread to make space, then waits until something changes or `there` is true. Returns `false`
    /// if nothing changed by `deadline`. An error means that further waiting would not help.
    fn wait_for_space(
        &self,
        mut state: MutexGuard<'_, State>,
        wait: &mut Wait,
        deadline: Duration,
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
            let most = self.config.max_bytes / u64::from(self.config.file_bytes);
            state.spare_target = (state.spare_target * 2).min(most as usize);
        }
        let checkpoint = !gets_more || state.trouble.files.error().is_some() || state.exclusive;
        MutexGuard::unlocked(&mut state, || {
            self.signal.wake();
            if checkpoint {
                (self.on_half_full)();
            }
        });
        // Check again: a change while the lock was released notified no one, as this thread did not wait yet.
        let told = self.no_more_space(&state).is_some() || self.check_writable().is_err();
        let ended = wait.ended_by(&state.trouble, self.may_get_more(&state)).is_some();
        if there(&state) || told || ended {
            return Ok(true);
        }
        let left = deadline.saturating_sub(self.clock.monotonic());
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

    /// Returns whether one more spare can be prepared without a checkpoint.
    pub(super) fn may_get_more(&self, state: &State) -> bool {
        state.can_recycle() || !state.aside.is_empty() || self.may_grow(state)
    }

    pub(super) fn may_grow(&self, state: &State) -> bool {
        state.total_bytes + u64::from(self.config.file_bytes) <= self.config.max_bytes
    }

    fn reserve_exclusive(&self, bytes: u32, wait: &mut Wait) -> Result<Credit<'_>> {
        wait.stalled = true;
        loop {
            let mut state = self.state.lock();
            if !state.exclusive {
                state.exclusive = true;
                state.slack -= BLOCK;
                break;
            }
            self.wait_exclusive(state, wait)?;
        }
        // From here on dropping the credit ends the exclusive state.
        let credit = Credit { shared: self, bytes: bytes as usize, exclusive: true };
        loop {
            let state = self.state.lock();
            let alone = state.sure_bytes(self.config.frame_max()) == state.slack + BLOCK;
            if alone || planted("large_frame_not_alone") {
                break;
            }
            self.wait_exclusive(state, wait)?;
        }
        loop {
            self.check_writable()?;
            if self.prepare_exclusive(bytes)? {
                return Ok(credit);
            }
            wait.needs_checkpoint = true;
            self.wait_exclusive(self.state.lock(), wait)?;
        }
    }

    fn wait_exclusive(&self, state: MutexGuard<'_, State>, wait: &mut Wait) -> Result<()> {
        if !self.config.background {
            return Err(NO_SPACE);
        }
        // Not every change sends a notification, so check again from time to time.
        let soon = self.clock.monotonic().saturating_add(RECHECK);
        let until = wait.deadline.min(soon);
        if self.wait_for_space(state, wait, until, |_| false)?
            || self.clock.monotonic() < wait.deadline
        {
            return Ok(());
        }
        Err(self.why_no_space())
    }

    fn end_exclusive(&self) {
        let mut state = self.state.lock();
        state.exclusive = false;
        state.slack += BLOCK;
        drop(state);
        self.space_freed.notify_all();
        self.signal.wake();
    }
}

const NO_SPACE: Error = Error::Timeout { what: "journal space" };
/// More bytes than the slack can ever have.
const BLOCK: i64 = 1 << 60;
const RECHECK: Duration = Duration::from_millis(10);
