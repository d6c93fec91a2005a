//! The background thread that compacts topics, and the pace of its passes.
//!
//! The thread is started by the first compacted topic, and ends after the last one. It sleeps between rounds, and holds the engine only while it
//! works. It does not wait by the program's clock, which a program may have stopped.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{JoinHandle, current};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::log::{LogShared, Pace};
use crate::time::{Clock, SystemClock};

/// What the thread does.
pub(super) trait Rounds: Send + Sync {
    /// Compacts what is due. Returns whether it should look again at once.
    fn compact_round(&self) -> bool;

    /// Returns whether there is anything that may ever be due.
    fn is_needed(&self) -> bool;
}

/// The thread, if it was started, and the lock that lets one pass run at a time.
#[derive(Debug)]
pub(crate) struct Cleaner {
    /// Held by whoever compacts. The outermost lock of the engine.
    one: Mutex<()>,
    shared: Arc<Shared>,
    /// What the thread does. Unset where there are no background threads.
    rounds: OnceLock<(Weak<dyn Rounds>, Duration)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and its callers share.
#[derive(Debug, Default)]
struct Shared {
    /// Set once no pass may go on.
    stopped: AtomicBool,
    /// How many callers wait for a pass of the thread to end, which then takes no pauses.
    hurries: AtomicU64,
    /// Whether the thread is to look at once. Whoever asks sees whether the thread is about to end.
    asked: Mutex<Asked>,
    /// Ends the thread's pauses.
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    at_once: bool,
    /// Whether a thread is there that will look.
    runs: bool,
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits between two rounds.
    fn rest(&self, time: Duration) {
        let mut asked = self.asked.lock();
        if !asked.at_once && !self.is_stopped() {
            self.wake.wait_for(&mut asked, time);
        }
        asked.at_once = false;
    }

    /// Lets the thread end, unless somebody has asked meanwhile. Returns whether it ends.
    fn ends(&self) -> bool {
        let mut asked = self.asked.lock();
        asked.runs = asked.at_once;
        !asked.runs
    }

    /// Waits in the middle of a pass. Returns false if it must not wait any more.
    fn pause(&self, time: Duration) -> bool {
        let mut asked = self.asked.lock();
        let goes_on = || !self.is_stopped() && self.hurries.load(Ordering::Acquire) == 0;
        if goes_on() {
            self.wake.wait_for(&mut asked, time);
        }
        goes_on()
    }

    /// Ends pauses. The lock is taken so that no pause begins in between.
    fn wake(&self, asks: bool) {
        self.asked.lock().at_once |= asks;
        self.wake.notify_all();
    }
}

impl Cleaner {
    pub(super) fn new() -> Self {
        Self {
            one: Mutex::new(()),
            shared: Arc::default(),
            rounds: OnceLock::new(),
            thread: Mutex::new(None),
        }
    }

    /// Waits until no pass runs, and keeps others from beginning.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.one.lock()
    }

    /// As [`Cleaner::lock`]. A pass of the thread takes no pauses meanwhile.
    pub(super) fn hurry(&self) -> MutexGuard<'_, ()> {
        let _hurry = self.without_pauses();
        self.one.lock()
    }

    /// Lets a pass of the thread take no pauses, for a caller who may wait for it.
    pub(super) fn without_pauses(&self) -> Hurry<'_> {
        self.shared.hurries.fetch_add(1, Ordering::AcqRel);
        self.shared.wake(false);
        Hurry(&self.shared)
    }

    /// Lets a thread compact once there is a compacted topic: it runs a round per `interval`.
    pub(super) fn set_rounds(&self, rounds: Weak<dyn Rounds>, interval: Duration) {
        let first = self.rounds.set((rounds, interval)).is_ok();
        debug_assert!(first, "a folder is started once");
    }

    /// Lets the thread look at once, because a compacted topic has come or was changed. Starts the thread unless it
    /// runs.
    pub(super) fn request(&self) -> io::Result<()> {
        self.shared.wake(true);
        let mut thread = self.thread.lock();
        let Some((rounds, interval)) = self.rounds.get() else { return Ok(()) };
        let mut asked = self.shared.asked.lock();
        if asked.runs || self.is_stopped() {
            return Ok(());
        }
        let (shared, rounds, interval) = (Arc::clone(&self.shared), Weak::clone(rounds), *interval);
        let builder = std::thread::Builder::new().name("grouplog-cleaner".to_owned());
        // One that has ended before holds nothing any more.
        *thread = Some(builder.spawn(move || run(&shared, &rounds, interval))?);
        asked.runs = true;
        Ok(())
    }

    /// Stops the thread and waits for it and every other pass, unless the caller is that thread.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.wake(false);
        let thread = self.thread.lock().take();
        if thread.as_ref().is_some_and(|thread| thread.thread().id() == current().id()) {
            return;
        }
        if let Some(thread) = thread {
            // A panic of the thread has left no change unfinished: a copy that nothing lists is removed later.
            let _ended = thread.join();
        }
        drop(self.one.lock());
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.is_stopped()
    }
}

/// Keeps a pass from pausing.
pub(super) struct Hurry<'a>(&'a Shared);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurries.fetch_sub(1, Ordering::AcqRel);
    }
}

fn run(shared: &Shared, rounds: &Weak<dyn Rounds>, interval: Duration) {
    while !shared.is_stopped() {
        shared.rest(interval);
        while !shared.is_stopped() {
            let Some(rounds) = rounds.upgrade() else { return };
            if !rounds.is_needed() && shared.ends() {
                return;
            }
            if !rounds.compact_round() {
                break;
            }
        }
    }
}

/// The rate that passes may always read and write with, in bytes a second.
const LEAST_RATE: u64 = 64 << 20;
/// The bytes after which the rate is measured and compared. Short slices leave the processor to others.
const SLICE: u64 = 1 << 20;

/// The pace of the thread: so many bytes a second, or twice as many as producers write.
pub(super) struct Throttle<'a> {
    cleaner: &'a Cleaner,
    logs: &'a LogShared,
    /// The rate that the program has set.
    rate: Option<u64>,
    clock: SystemClock,
    slice: Mutex<Slice>,
}

/// The present slice.
struct Slice {
    began: Duration,
    spent: u64,
    written_before: u64,
}

impl<'a> Throttle<'a> {
    pub(super) fn new(cleaner: &'a Cleaner, logs: &'a LogShared, rate: Option<u64>) -> Self {
        let clock = SystemClock::new();
        let slice =
            Slice { began: clock.monotonic(), spent: 0, written_before: logs.written_bytes() };
        Self { cleaner, logs, rate, clock, slice: Mutex::new(slice) }
    }

    /// Waits until the bytes of the present slice are within the rate.
    fn pause(&self, slice: &mut Slice) {
        loop {
            let took = self.clock.monotonic().saturating_sub(slice.began);
            let written = self.logs.written_bytes().saturating_sub(slice.written_before);
            let inflow = per_second(written, took).saturating_mul(2);
            let rate = self.rate.unwrap_or_else(|| LEAST_RATE.max(inflow));
            let due = Duration::from_secs_f64(slice.spent as f64 / rate as f64);
            let left = due.saturating_sub(took);
            if left.is_zero() || !self.cleaner.shared.pause(left) {
                break;
            }
        }
        *slice = Slice {
            began: self.clock.monotonic(),
            spent: 0,
            written_before: self.logs.written_bytes(),
        };
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(1e-3)) as u64
}

impl Pace for Throttle<'_> {
    fn spend(&self, bytes: u64) {
        let mut slice = self.slice.lock();
        slice.spent = slice.spent.saturating_add(bytes);
        if slice.spent >= SLICE {
            self.pause(&mut slice);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.cleaner.is_stopped()
    }
}

/// The pace of a caller who waits for the pass.
pub(super) struct AtOnce<'a>(pub(super) &'a Cleaner);

impl Pace for AtOnce<'_> {
    fn spend(&self, _: u64) {}

    fn is_interrupted(&self) -> bool {
        self.0.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Topics {
        are_compacted: AtomicBool,
        rounds: AtomicU64,
    }

    impl Rounds for Topics {
        fn compact_round(&self) -> bool {
            self.rounds.fetch_add(1, Ordering::SeqCst);
            false
        }

        fn is_needed(&self) -> bool {
            self.are_compacted.load(Ordering::SeqCst)
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        let clock = SystemClock::new();
        while !what() {
            assert!(clock.monotonic() < Duration::from_secs(20), "it does not come to it");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_thread_ends_after_the_last_compacted_topic_and_starts_with_the_next() {
        let (cleaner, topics) = (Cleaner::new(), Arc::new(Topics::default()));
        let weak: Weak<Topics> = Arc::downgrade(&topics);
        cleaner.set_rounds(weak, Duration::from_millis(1));
        for _ in 0..3 {
            let before = topics.rounds.load(Ordering::SeqCst);
            topics.are_compacted.store(true, Ordering::SeqCst);
            cleaner.request().unwrap();
            wait_for(|| topics.rounds.load(Ordering::SeqCst) > before);
            topics.are_compacted.store(false, Ordering::SeqCst);
            wait_for(|| !cleaner.shared.asked.lock().runs);
        }
        cleaner.stop();
        cleaner.request().unwrap();
        assert!(!cleaner.shared.asked.lock().runs);
    }
}
