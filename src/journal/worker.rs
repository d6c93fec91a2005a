//! The journal thread: prepares files before they are needed, syncs what nobody waits for, and leaves a
//! witness for the last frames. It sleeps without a timeout when there is nothing to do, and is not
//! woken per frame: while requests come in it looks every millisecond.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::types::{Lsn, planted};

use super::{PanicGuard, Shared};

/// How the thread is woken.
#[derive(Debug, Default)]
pub(super) struct Signal {
    flags: Mutex<Flags>,
    woken: Condvar,
    /// The thread looks for requests every millisecond, or was just told to.
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

    /// Wakes the thread, unless it looks for requests anyway.
    #[inline]
    pub(super) fn hurry(&self) {
        if !self.hurried.load(Ordering::SeqCst) && !self.hurried.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Sleeps until woken or for `limit`; `false` if the thread is to end.
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
            let again = limit.map_or(RETRY, |limit| limit.min(RETRY));
            more = for_thread.signal.wait(if prepared { limit } else { Some(again) });
        }
    };
    std::thread::Builder::new()
        .name("grouplog-journal".into())
        .spawn(body)
        .map_err(|error| Error::io("start the thread of", "journal", error))
}

/// What the thread remembers from one look to the next.
#[derive(Debug, Default)]
struct Pace {
    /// The highest request seen, and when it was first seen.
    request: (Lsn, Duration),
    /// Frames below this were there at that time, without a request.
    unsynced: Option<(Lsn, Duration)>,
}

impl Shared {
    /// Prepares what is wanted; whether it could. Where nothing is wanted any more, nothing is wrong either.
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

    /// Runs the syncs that are due; how long nothing will be due.
    fn tick(&self, pace: &mut Pace) -> Option<Duration> {
        if self.failure.get().is_some() {
            return None;
        }
        // A failed sync is kept as the journal's failure; nobody waits for this one.
        self.hurried_tick(pace).or_else(|| self.calm_tick(pace))
    }

    /// While requests come in: one that nobody waits for is served after about a millisecond.
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
        // A request that saw the flag before this must not be missed.
        (self.requested() > self.covered()).then_some(Duration::ZERO)
    }

    /// Without requests: no frame stays unsynced for longer than the interval.
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

    /// A frame can only vouch for those before it: after the last group comes a mark that knows it to be
    /// synced, so that damage to it is never taken for a torn tail.
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

/// How long a requested sync waits for somebody who waits for it.
const REQUEST_WAIT: Duration = Duration::from_millis(1);
/// How long the thread goes on looking for requests after the last one.
const QUIET_AFTER: Duration = Duration::from_millis(20);
/// How long after a failed preparation the next one is tried.
const RETRY: Duration = Duration::from_millis(100);
