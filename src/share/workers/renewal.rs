//! Renews the locks of the jobs that run.

use std::sync::Arc;
use std::time::Duration;

use super::queue::Reserved;
use crate::engine::{EngineHandle, ShareGroup};
use crate::sync::{Condvar, Mutex};
use crate::types::planted;

/// The running job of each thread, and when its lock is renewed next.
#[derive(Debug)]
pub(super) struct Renewal {
    engine: EngineHandle,
    group: Arc<ShareGroup>,
    /// How long a job may run before its lock is renewed no more.
    max: Duration,
    threads: Vec<Mutex<Option<Running>>>,
    pace: Mutex<Pace>,
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// How long after its begin a lock is renewed: half of its duration. The settings of the group may change meanwhile.
#[derive(Debug, Default)]
struct Pace {
    half: Duration,
    /// After the duration grew: the half before, and until when there may be locks of that duration.
    shorter: Option<(Duration, Duration)>,
}

impl Pace {
    /// Returns how long after its begin a lock is renewed, if locks that begin now have this duration.
    fn half(&mut self, duration: Duration, now: Duration) -> Duration {
        let half = duration.checked_div(2).unwrap_or(duration);
        if half > self.half && !self.half.is_zero() && !planted("share_renews_late") {
            let least = self.shorter.map_or(self.half, |(least, _)| least.min(self.half));
            self.shorter = Some((least, now.saturating_add(self.half.saturating_mul(2))));
        }
        self.half = half;
        self.shorter = self.shorter.filter(|(least, until)| *until > now && *least < half);
        self.shorter.map_or(half, |(least, _)| least)
    }
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
/// The longest wait: so late it finds that locks have become shorter.
const MOST: Duration = Duration::from_secs(1);

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
        Self { engine, group, max, threads, pace: Mutex::default(), stopped, changed }
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

    /// Renews the locks that are due. Returns how long there is nothing to do: no job that begins meanwhile is due before,
    /// unless the settings change.
    fn renew_due(&self) -> Duration {
        let duration = self.group.settings().map_or(self.max, |it| it.share.lock_duration);
        let half = self.pace.lock().half(duration, self.engine.clock().monotonic());
        let mut wait = half.min(MOST);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_that_began_before_a_change_are_renewed_in_time() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::default();
        assert_eq!(pace.half(seconds(30), seconds(100)), seconds(15));
        // Locks become longer: those that there are stay short until they are renewed.
        assert_eq!(pace.half(seconds(600), seconds(110)), seconds(15));
        assert_eq!(pace.half(seconds(600), seconds(139)), seconds(15));
        assert_eq!(pace.half(seconds(600), seconds(140)), seconds(300));
        // Shorter at once.
        assert_eq!(pace.half(seconds(10), seconds(150)), seconds(5));
        // Longer twice: the shortest counts, for as long as there may be one of the longer ones.
        assert_eq!(pace.half(seconds(20), seconds(151)), seconds(5));
        assert_eq!(pace.half(seconds(40), seconds(152)), seconds(5));
        assert_eq!(pace.half(seconds(40), seconds(171)), seconds(5));
        assert_eq!(pace.half(seconds(40), seconds(172)), seconds(20));
        // Longer, and soon shorter than ever.
        assert_eq!(pace.half(seconds(80), seconds(180)), seconds(20));
        assert_eq!(pace.half(seconds(2), seconds(181)), seconds(1));
    }
}
