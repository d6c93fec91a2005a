//! The journal thread. It prepares files before they are needed, syncs frames that no thread waits for, and
//! appends a witness for the last frames.
//!
//! With nothing to do it sleeps without a timeout. Frames do not wake it one by one: while sync requests come
//! in, it checks for them every millisecond.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::types::{Lsn, planted};

use super::{PanicGuard, Shared};

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Signal {
    flags: Mutex<Flags>,
    woken: Condvar,
    /// Whether the thread checks for requests every millisecond, or was just woken to do so.
    hurried: AtomicBool,
}

#[derive(Debug, Default)]
struct Flags {
    wake: bool,
    stop: bool,
}

impl Signal {
    pub(super) fn wake(&self) {
        self.flags.lock().wake = true;
        self.woken.notify_one();
    }

    pub(super) fn stop(&self) {
        self.flags.lock().stop = true;
        self.woken.notify_one();
    }

    /// Wakes the thread, unless it checks for requests anyway.
    #[inline]
    pub(super) fn hurry(&self) {
        if !self.hurried.load(Ordering::SeqCst) && !self.hurried.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Sleeps for `time`, or until the thread has something else to do. Does not take the wakeup away.
    pub(super) fn pause(&self, time: Duration) {
        let mut flags = self.flags.lock();
        if !flags.wake && !flags.stop {
            self.woken.wait_for(&mut flags, time);
        }
    }

    /// Sleeps until woken, or for `limit` at most. Returns `false` if the thread must stop.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let mut flags = self.flags.lock();
        if !flags.wake && !flags.stop {
            match limit {
                Some(limit) => {
                    self.woken.wait_for(&mut flags, limit);
                }
                None => self.woken.wait(&mut flags),
            }
        }
        flags.wake = false;
        !flags.stop
    }
}

pub(super) fn start(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let for_thread = Arc::clone(shared);
    let body = move || {
        let _guard = PanicGuard::new(&for_thread, "the journal thread");
        let mut pace = Pace::default();
        let mut more = true;
        while more {
            let prepared = for_thread.try_prepare();
            let limit = for_thread.tick(&mut pace);
            if limit.is_none() {
                // A file that cannot be removed is removed another time.
                let _smaller = for_thread.shrink_idle();
            }
            let again = limit.map_or(RETRY, |limit| limit.min(RETRY));
            more = for_thread.signal.wait(if prepared { limit } else { Some(again) });
        }
    };
    std::thread::Builder::new()
        .name("grouplog-journal".into())
        .spawn(body)
        .map_err(|error| Error::io("start the thread of", "journal", error))
}

/// What the thread remembers from one tick to the next.
#[derive(Debug, Default)]
struct Pace {
    /// The highest request seen, and the time when it was first seen.
    request: (Lsn, Duration),
    /// The end of the journal when the thread last found unsynced frames without a request, and the time.
    unsynced: Option<(Lsn, Duration)>,
}

impl Shared {
    /// Prepares the spares that are wanted. Returns whether that succeeded.
    ///
    /// A success clears an earlier failure, also if no spare is wanted any more.
    pub(super) fn try_prepare(&self) -> bool {
        let could = self.prepare_wanted().is_ok();
        if could {
            self.state.lock().trouble.files.succeed();
        }
        could
    }

    fn prepare_wanted(&self) -> Result<()> {
        while self.failure.get().is_none() && self.wants_spare() {
            if !self.prepare_one()? {
                break;
            }
        }
        Ok(())
    }

    /// Runs the syncs that are due. Returns the time until the next one is due, or `None` if none is.
    fn tick(&self, pace: &mut Pace) -> Option<Duration> {
        if self.failure.get().is_some() {
            return None;
        }
        // The journal keeps a failed sync as its failure. No thread waits for this sync.
        self.hurried_tick(pace).or_else(|| self.calm_tick(pace))
    }

    /// Serves sync requests. A request that no thread waits for is served after about a millisecond.
    fn hurried_tick(&self, pace: &mut Pace) -> Option<Duration> {
        let now = self.clock.monotonic();
        let (requested, covered) = (self.requested(), self.covered());
        let (seen, since) = pace.request;
        if requested > seen && seen <= covered {
            pace.request = (requested, now);
            self.signal.hurried.store(true, Ordering::SeqCst);
            return Some(REQUEST_WAIT);
        }
        let age = now.saturating_sub(since);
        if seen > covered {
            if age < REQUEST_WAIT {
                return Some(REQUEST_WAIT);
            }
            drop(self.sync_now());
            pace.request = (self.requested(), now);
            return Some(REQUEST_WAIT);
        }
        if age < QUIET_AFTER && self.signal.hurried.load(Ordering::SeqCst) {
            return Some(REQUEST_WAIT);
        }
        self.signal.hurried.store(false, Ordering::SeqCst);
        // A request that still saw the flag set woke no thread, so check for it here.
        (self.requested() > self.covered()).then_some(Duration::ZERO)
    }

    /// Syncs without requests, so that no frame stays unsynced for longer than the interval.
    fn calm_tick(&self, pace: &mut Pace) -> Option<Duration> {
        let half = self.config.sync_interval / 2;
        let now = self.clock.monotonic();
        let covered = self.covered();
        match pace.unsynced {
            Some((mark, since)) if mark > covered => {
                let age = now.saturating_sub(since);
                if age < half {
                    return Some(half.saturating_sub(age));
                }
                pace.unsynced = None;
                drop(self.sync_now());
            }
            _ => {}
        }
        drop(self.leave_witness());
        let mut state = self.state.lock();
        if state.current.end() <= self.covered() {
            state.parked = true;
            pace.unsynced = None;
            return None;
        }
        pace.unsynced = Some((state.current.end(), now));
        Some(half)
    }

    /// Appends a SyncMark after the last synced frames, if they have no witness yet.
    ///
    /// A frame can only vouch for frames before it. The mark vouches for the last ones, so replay never takes
    /// damage to them for a torn tail.
    fn leave_witness(&self) -> Result<()> {
        if planted("no_witness") {
            return Ok(());
        }
        {
            let state = self.state.lock();
            let synced = self.synced();
            if state.last_witness >= state.data_end
                || synced < state.data_end
                || synced < state.current.end()
            {
                return Ok(());
            }
        }
        if self.append_mark()?.is_none() {
            return Ok(());
        }
        self.sync_now()
    }

    #[cfg(any(test, feature = "__internal"))]
    pub(super) fn step(&self) -> Result<()> {
        self.prepare_wanted()?;
        if self.requested() > self.covered() {
            self.sync_now()?;
        }
        if self.covered() == self.end() { self.leave_witness() } else { Ok(()) }
    }
}

/// How long the thread leaves a requested sync to a waiter before it runs the sync itself.
const REQUEST_WAIT: Duration = Duration::from_millis(1);
/// How long the thread keeps checking for requests after the last one.
const QUIET_AFTER: Duration = Duration::from_millis(20);
/// The delay between a failed preparation and the next attempt.
const RETRY: Duration = Duration::from_millis(100);
