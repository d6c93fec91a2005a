//! Renews the locks of the jobs that run.

use std::sync::Arc;
use std::time::Duration;

use super::queue::Reserved;
use crate::engine::{EngineHandle, ShareGroup};
use crate::sync::{Condvar, Mutex};

/// The running job of each thread, and when its lock is renewed next.
#[derive(Debug)]
pub(super) struct Renewal {
    engine: EngineHandle,
    group: Arc<ShareGroup>,
    /// How long a job may run before its lock is renewed no more.
    max: Duration,
    threads: Vec<Mutex<Option<Running>>>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

#[derive(Debug)]
struct Running {
    job: Reserved,
    begun: Duration,
    /// When its lock began, or began anew. `None` if it is renewed no more.
    locked: Option<Duration>,
}

/// The shortest wait.
const LEAST: Duration = Duration::from_millis(1);

impl Renewal {
    pub(super) fn new(
        engine: &EngineHandle,
        group: &Arc<ShareGroup>,
        threads: usize,
        max: Duration,
    ) -> Self {
        let threads = std::iter::repeat_with(Mutex::default).take(threads).collect();
        let (engine, group) = (engine.clone(), Arc::clone(group));
        let (stopped, changed) = (Mutex::new(false), Condvar::new());
        Self { engine, group, max, threads, stopped, changed }
    }

    /// Notes that a thread runs a job.
    pub(super) fn begin(&self, thread: usize, job: &Reserved, now: Duration) {
        if let Some(slot) = self.threads.get(thread) {
            *slot.lock() = Some(Running { job: job.clone(), begun: now, locked: Some(now) });
        }
    }

    /// Notes that the job of a thread has ended.
    pub(super) fn end(&self, thread: usize) {
        if let Some(slot) = self.threads.get(thread) {
            *slot.lock() = None;
        }
    }

    /// Renews locks, until it is stopped. A thread of its own does that.
    pub(super) fn run(&self) {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            drop(stopped);
            let wait = self.renew_due();
            stopped = self.stopped.lock();
            if !*stopped {
                // It looks after each wake-up.
                let _timed_out = self.changed.wait_for(&mut stopped, wait);
            }
        }
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Renews the locks that are due. Returns how long there is nothing to do: no job that begins meanwhile is due before.
    fn renew_due(&self) -> Duration {
        let half = self.group.settings().map_or(self.max, |it| half_of(it.share.lock_duration));
        let mut wait = half;
        for slot in &self.threads {
            let now = self.engine.clock().monotonic();
            let mut running = slot.lock();
            let Some(running) = running.as_mut() else { continue };
            let Some(locked) = running.locked else { continue };
            let due = locked.saturating_add(half);
            if due > now {
                wait = wait.min(due.saturating_sub(now));
            } else if now.saturating_sub(running.begun) > self.max {
                running.locked = None;
            } else {
                running.locked = running.job.renew().is_ok().then_some(now);
            }
        }
        wait.max(LEAST)
    }
}

fn half_of(duration: Duration) -> Duration {
    duration.checked_div(2).unwrap_or(duration)
}
