//! The background thread: writes checkpoints on request, and runs maintenance at intervals. It checks retention
//! at once when the settings of a topic change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::error::Result;
use crate::time::Clock;

/// The work of the thread. An implementation keeps failures for `health`. A panic stops all writing before it
/// ends the thread.
pub(super) trait Chores: Send + Sync {
    /// Writes a checkpoint.
    fn checkpoint(&self) -> Result<()>;

    /// Writes the recovery checkpoint.
    fn finish_recovery(&self) -> Result<()>;

    /// Removes committed offsets that have expired.
    fn expire_offsets(&self) -> Result<()>;

    /// Deletes what retention does not keep. Returns the time until the next check.
    fn retain(&self) -> Duration;
}

/// Requests to the thread. Each is made once, however often it is asked for.
#[derive(Debug, Default)]
struct Requests {
    checkpoint: AtomicBool,
    recovery: AtomicBool,
    /// The settings of a topic have changed, so that its retention must be checked.
    retention: AtomicBool,
    stop: AtomicBool,
}

/// The thread, if it was started, and the requests to it.
#[derive(Debug)]
pub(crate) struct Background {
    requests: Arc<Requests>,
    /// Wakes the thread after a request was made.
    wake: Sender<()>,
    woken: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn new() -> Self {
        let (wake, woken) = bounded(1);
        // The settings have changed from none when the folder is opened.
        let requests = Requests { retention: AtomicBool::new(true), ..Requests::default() };
        Self { requests: Arc::new(requests), wake, woken, thread: Mutex::new(None) }
    }

    /// Returns a function that requests a checkpoint, for the journal.
    pub(super) fn requester(&self) -> impl Fn() + Send + Sync + 'static {
        let (requests, wake) = (Arc::clone(&self.requests), self.wake.clone());
        move || request(&requests.checkpoint, &wake)
    }

    pub(super) fn request_checkpoint(&self) {
        request(&self.requests.checkpoint, &self.wake);
    }

    /// Requests a check of retention, because the settings of a topic have changed.
    pub(super) fn request_retention(&self) {
        request(&self.requests.retention, &self.wake);
    }

    pub(super) fn request_recovery(&self) {
        request(&self.requests.recovery, &self.wake);
    }

    /// Starts the thread. It expires offsets once per `interval`, and holds the engine only while it works.
    pub(super) fn start(
        &self,
        chores: Weak<dyn Chores>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> std::io::Result<()> {
        let (requests, woken) = (Arc::clone(&self.requests), self.woken.clone());
        let thread = std::thread::Builder::new()
            .name("grouplog-checkpoint".to_owned())
            .spawn(move || run(&requests, &woken, &chores, &*clock, interval))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Stops the thread and waits for it, unless the caller is that thread.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        request(&self.requests.stop, &self.wake);
        // A panic of the thread has stopped all writing.
        let _ended = thread.join();
    }
}

fn request(what: &AtomicBool, wake: &Sender<()>) {
    what.store(true, Ordering::SeqCst);
    // A full channel wakes the thread as well.
    let _woken = wake.try_send(());
}

fn run(
    requests: &Requests,
    woken: &Receiver<()>,
    chores: &Weak<dyn Chores>,
    clock: &dyn Clock,
    interval: Duration,
) {
    let mut expiry = clock.monotonic().saturating_add(interval);
    let mut retention = Duration::MAX;
    // The rest of the delay before a failed checkpoint is tried again: `Synced` may wait for it, and no other
    // request may come. It does not go by the clock, which a program may have stopped.
    let mut retry: Option<Duration> = None;
    loop {
        let wait = expiry.min(retention).saturating_sub(clock.monotonic());
        let wait = retry.map_or(wait, |left| wait.min(left));
        match woken.recv_timeout(wait) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => retry = retry.map(|left| left.saturating_sub(wait)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if requests.stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(chores) = chores.upgrade() else { return };
        let recovery = requests.recovery.swap(false, Ordering::SeqCst);
        let checkpoint = requests.checkpoint.swap(false, Ordering::SeqCst);
        let due = retry == Some(Duration::ZERO);
        if checkpoint || recovery || due {
            let more = checkpoint || due;
            let done = if more { chores.checkpoint() } else { chores.finish_recovery() };
            retry = done.is_err_and(|error| !error.is_fatal()).then_some(RETRY);
        }
        // The next round retries what failed.
        if clock.monotonic() >= expiry {
            let _later = chores.expire_offsets();
            expiry = clock.monotonic().saturating_add(interval);
        }
        if requests.retention.swap(false, Ordering::SeqCst) || clock.monotonic() >= retention {
            let next = chores.retain();
            retention = clock.monotonic().saturating_add(next);
        }
    }
}

/// The delay between a failed checkpoint and the retry, unless a request comes earlier.
const RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::error::Error;
    use crate::time::SystemClock;

    /// Counts what it is asked to do. Its checkpoints fail if it says so.
    #[derive(Default)]
    struct Counted {
        checkpoints: AtomicU64,
        checks: AtomicU64,
        fails: bool,
    }

    impl Chores for Counted {
        fn checkpoint(&self) -> Result<()> {
            self.checkpoints.fetch_add(1, Ordering::SeqCst);
            if self.fails { Err(Error::DiskFull { path: PathBuf::new() }) } else { Ok(()) }
        }

        fn finish_recovery(&self) -> Result<()> {
            self.checkpoint()
        }

        fn expire_offsets(&self) -> Result<()> {
            Ok(())
        }

        fn retain(&self) -> Duration {
            self.checks.fetch_add(1, Ordering::SeqCst);
            Duration::from_millis(50)
        }
    }

    /// Runs the thread until it has done what `done` says.
    fn run_until(background: &Background, chores: &Arc<Counted>, done: impl Fn(&Counted) -> bool) {
        let weak: Weak<Counted> = Arc::downgrade(chores);
        let clock = SystemClock::new();
        background.start(weak, Arc::new(SystemClock::new()), Duration::from_hours(1)).unwrap();
        while !done(chores) {
            assert!(clock.monotonic() < Duration::from_secs(20), "it does not come to it");
            std::thread::yield_now();
        }
        background.stop();
    }

    /// Requests for retention do not take the place of a request for a checkpoint, which the journal makes once.
    #[test]
    fn a_request_for_a_checkpoint_is_not_lost_behind_changes_of_topics() {
        let background = Background::new();
        let chores = Arc::new(Counted::default());
        // The thread is busy meanwhile.
        background.request_retention();
        background.request_retention();
        background.requester()();
        run_until(&background, &chores, |done| done.checkpoints.load(Ordering::SeqCst) > 0);
        assert_eq!(chores.checkpoints.load(Ordering::SeqCst), 1);
    }

    /// Checks of retention do not make the retries of a failed checkpoint more frequent.
    #[test]
    fn a_failed_checkpoint_is_retried_after_the_delay_beside_retention() {
        let background = Background::new();
        let chores = Arc::new(Counted { fails: true, ..Counted::default() });
        background.request_checkpoint();
        // Eight checks take at least 350 ms.
        run_until(&background, &chores, |done| done.checks.load(Ordering::SeqCst) >= 8);
        let retried = chores.checkpoints.load(Ordering::SeqCst);
        assert!(retried < 8, "{retried} checkpoints");
    }
}
