//! The thread that writes checkpoints, and looks from time to time for what is to be removed by age.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::error::Result;
use crate::time::Clock;

/// The work that the thread does when it is told to. A failure is kept for `health`; a panic stops all
/// writing before it ends the thread.
pub(super) trait Chores: Send + Sync {
    /// Writes a checkpoint.
    fn checkpoint(&self) -> Result<()>;

    /// Writes the recovery checkpoint.
    fn finish_recovery(&self) -> Result<()>;

    /// Does what is to be done from time to time.
    fn maintain(&self) -> Result<()>;
}

/// What the thread is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Checkpoint,
    Recovery,
    Stop,
}

/// The thread, if there is one, and the way to it.
#[derive(Debug)]
pub(crate) struct Background {
    signals: Sender<Signal>,
    receiver: Receiver<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    pub(super) fn new() -> Self {
        // Two places: a request that is being worked on does not swallow the next one, and `Stop`
        // blocks for a moment at most.
        let (signals, receiver) = bounded(2);
        Self { signals, receiver, thread: Mutex::new(None) }
    }

    /// A way to ask for checkpoints, for the journal.
    pub(super) fn requester(&self) -> impl Fn() + Send + Sync + 'static {
        let signals = self.signals.clone();
        move || {
            // Full means that somebody asked already.
            let _asked = signals.try_send(Signal::Checkpoint);
        }
    }

    pub(super) fn request_checkpoint(&self) {
        let _asked = self.signals.try_send(Signal::Checkpoint);
    }

    pub(super) fn request_recovery(&self) {
        let _asked = self.signals.try_send(Signal::Recovery);
    }

    /// Starts the thread, which maintains the engine once per `interval`. It holds the engine only while it works.
    pub(super) fn start(
        &self,
        chores: Weak<dyn Chores>,
        clock: Arc<dyn Clock>,
        interval: Duration,
    ) -> std::io::Result<()> {
        let receiver = self.receiver.clone();
        let thread = std::thread::Builder::new()
            .name("grouplog-checkpoint".to_owned())
            .spawn(move || run(&receiver, &chores, &*clock, interval))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// Ends the thread and waits for it, unless it is the caller.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        // The thread takes signals until it is told to stop, or finds the engine gone.
        let _told = self.signals.send(Signal::Stop);
        // If it panicked, it has stopped all writing.
        let _ended = thread.join();
    }
}

fn run(
    receiver: &Receiver<Signal>,
    chores: &Weak<dyn Chores>,
    clock: &dyn Clock,
    interval: Duration,
) {
    let mut next = clock.monotonic().saturating_add(interval);
    let mut failed = false;
    loop {
        let wait = next.saturating_sub(clock.monotonic());
        let wait = if failed { wait.min(RETRY) } else { wait };
        let signal = match receiver.recv_timeout(wait) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(signal) => Some(signal),
            // `Synced` may wait for a checkpoint that failed, and then nobody asks for another one.
            Err(RecvTimeoutError::Timeout) => failed.then_some(Signal::Checkpoint),
        };
        let Some(chores) = chores.upgrade() else { return };
        if let Some(signal) = signal {
            let done = match signal {
                Signal::Recovery => chores.finish_recovery(),
                _ => chores.checkpoint(),
            };
            failed = done.is_err_and(|error| !error.is_fatal());
        }
        if clock.monotonic() >= next {
            // What could not be done is for the next round.
            let _later = chores.maintain();
            next = clock.monotonic().saturating_add(interval);
        }
    }
}

/// How long after a checkpoint that failed the next one is tried, if nobody asks for it earlier.
const RETRY: Duration = Duration::from_millis(500);
