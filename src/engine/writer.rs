//! The thread that writes full batches to their segments, so that appending threads do not have to.
//!
//! It starts with the first batch. When the queue is full, or the thread cannot be started, the appending
//! thread writes the batch itself. That is the back-pressure.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::journal::Journal;
use crate::log::Log;
use crate::types::planted;

/// How many partitions with full batches may wait: 4 MiB with the default batch size.
const MAX_QUEUED: usize = 64;

/// With at most this many full batches of a partition, the thread pauses after each of them.
const FEW: usize = 8;
const PAUSE: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(super) struct Writer {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    NotStarted,
    /// The queue, a channel that ends the thread's pauses when it is dropped, and the thread.
    Running(Sender<Arc<Log>>, Sender<()>, JoinHandle<()>),
    Stopped,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::NotStarted) }
    }

    /// Queues the full batches of `log` for the thread. Returns `false` if the caller has to write them.
    /// A panic of the thread fails `journal`.
    pub(super) fn hand_over(&self, log: &Arc<Log>, journal: &Arc<Journal>) -> bool {
        let mut state = self.state.lock();
        if matches!(*state, State::NotStarted) {
            *state = start(Arc::clone(journal));
        }
        match &*state {
            State::Running(queue, ..) => queue.try_send(Arc::clone(log)).is_ok(),
            State::NotStarted | State::Stopped => false,
        }
    }

    /// Waits until the thread has written its queue and has ended.
    pub(super) fn stop(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        if let State::Running(queue, calm, thread) = state {
            drop((queue, calm));
            // A panic of the thread has stopped all writing.
            let _ended = thread.join();
        }
    }
}

fn start(journal: Arc<Journal>) -> State {
    let (queue, filled) = bounded(MAX_QUEUED);
    let (calm, hurry) = bounded(0);
    std::thread::Builder::new()
        .name("grouplog-writer".to_owned())
        .spawn(move || run(&filled, &hurry, &journal))
        .map_or(State::NotStarted, |thread| State::Running(queue, calm, thread))
}

fn run(filled: &Receiver<Arc<Log>>, hurry: &Receiver<()>, journal: &Journal) {
    let guard = journal.fail_on_panic("the writer thread");
    let _guard = (!planted("writer_dies_silently")).then_some(guard);
    for log in filled {
        while log.write_out_one() {
            if log.waiting_batches() <= FEW {
                // Producers and consumers may need all processors. See the journal's preparation of files.
                let _told_to_hurry = hurry.recv_timeout(PAUSE);
            }
        }
    }
}
