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

/// A request to the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Checkpoint,
    Recovery,
    Retention,
    Stop,
}

/// The thread, if it was started, and the channel to it.
#[derive(Debug)]
pub(crate) struct Background {
    signals: Sender<Signal>,
    receiver: Receiver<Signal>,
    settings_changed: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn new() -> Self {
        // Two slots: a request in progress does not swallow the next one, and `Stop` blocks only briefly.
        let (signals, receiver) = bounded(2);
        let settings_changed = Arc::new(AtomicBool::new(true));
        Self { signals, receiver, settings_changed, thread: Mutex::new(None) }
    }

    /// Returns a function that requests a checkpoint, for the journal.
    pub(super) fn requester(&self) -> impl Fn() + Send + Sync + 'static {
        let signals = self.signals.clone();
        move || {
            // A full channel holds a request already.
            let _requested = signals.try_send(Signal::Checkpoint);
        }
    }

    pub(super) fn request_checkpoint(&self) {
        let _requested = self.signals.try_send(Signal::Checkpoint);
    }

    /// Requests a check of retention, because the settings of a topic have changed.
    pub(super) fn request_retention(&self) {
        self.settings_changed.store(true, Ordering::Release);
        // A full channel holds a request that ends the wait as well.
        let _requested = self.signals.try_send(Signal::Retention);
    }

    pub(super) fn request_recovery(&self) {
        let _requested = self.signals.try_send(Signal::Recovery);
    }

    /// Starts the thread. It expires offsets once per `interval`, and holds the engine only while it works.
    pub(super) fn start(
        &self,
        chores: Weak<dyn Chores>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> std::io::Result<()> {
        let receiver = self.receiver.clone();
        let changed = Arc::clone(&self.settings_changed);
        let thread = std::thread::Builder::new()
            .name("grouplog-checkpoint".to_owned())
            .spawn(move || run(&receiver, &changed, &chores, &*clock, interval))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Stops the thread and waits for it, unless the caller is that thread.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        // The thread receives until it gets `Stop` or the engine is gone.
        let _sent = self.signals.send(Signal::Stop);
        // A panic of the thread has stopped all writing.
        let _ended = thread.join();
    }
}

fn run(
    receiver: &Receiver<Signal>,
    settings_changed: &AtomicBool,
    chores: &Weak<dyn Chores>,
    clock: &dyn Clock,
    interval: Duration,
) {
    let mut expiry = clock.monotonic().saturating_add(interval);
    // The settings have changed from none when the folder is opened.
    let mut retention = Duration::MAX;
    let mut failed = false;
    loop {
        let wait = expiry.min(retention).saturating_sub(clock.monotonic());
        let wait = if failed { wait.min(RETRY) } else { wait };
        let signal = match receiver.recv_timeout(wait) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(signal) => Some(signal),
            // `Synced` may wait for a checkpoint that failed, and no other request may come.
            Err(RecvTimeoutError::Timeout) => failed.then_some(Signal::Checkpoint),
        };
        let Some(chores) = chores.upgrade() else { return };
        let checkpoint = match signal {
            Some(Signal::Recovery) => Some(chores.finish_recovery()),
            Some(Signal::Checkpoint) => Some(chores.checkpoint()),
            Some(Signal::Retention | Signal::Stop) | None => None,
        };
        if let Some(done) = checkpoint {
            failed = done.is_err_and(|error| !error.is_fatal());
        }
        // The next round retries what failed.
        if clock.monotonic() >= expiry {
            let _later = chores.expire_offsets();
            expiry = clock.monotonic().saturating_add(interval);
        }
        if settings_changed.swap(false, Ordering::AcqRel) || clock.monotonic() >= retention {
            let next = chores.retain();
            retention = clock.monotonic().saturating_add(next);
        }
    }
}

/// The delay between a failed checkpoint and the retry, unless a request comes earlier.
const RETRY: Duration = Duration::from_millis(500);
