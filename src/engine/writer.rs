//! The thread that writes filled batches to their segments, so that the threads that append need not.
//!
//! It starts with the first batch that is handed to it. What it cannot take, because the queue is full or
//! it could not be started, the thread that filled the batch writes itself: that is the back-pressure.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::journal::Journal;
use crate::log::Log;
use crate::types::planted;

/// How many filled batches may wait: with the default batch size 4 MiB.
const MAX_QUEUED: usize = 64;

#[derive(Debug)]
pub(super) struct Writer {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    NotStarted,
    Running(Sender<Arc<Log>>, JoinHandle<()>),
    Stopped,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::NotStarted) }
    }

    /// Has the thread write out the filled batches of `log`; false if the caller has to. Should the
    /// thread panic, it fails `journal`.
    pub(super) fn hand_over(&self, log: &Arc<Log>, journal: &Arc<Journal>) -> bool {
        let mut state = self.state.lock();
        if matches!(*state, State::NotStarted) {
            *state = start(Arc::clone(journal));
        }
        match &*state {
            State::Running(queue, _) => queue.try_send(Arc::clone(log)).is_ok(),
            State::NotStarted | State::Stopped => false,
        }
    }

    /// Lets the thread finish what it was given, and joins it.
    pub(super) fn stop(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        if let State::Running(queue, thread) = state {
            drop(queue);
            // If it panicked, it has stopped all writing.
            let _ended = thread.join();
        }
    }
}

fn start(journal: Arc<Journal>) -> State {
    let (queue, filled) = bounded(MAX_QUEUED);
    std::thread::Builder::new()
        .name("grouplog-writer".to_owned())
        .spawn(move || run(&filled, &journal))
        .map_or(State::NotStarted, |thread| State::Running(queue, thread))
}

fn run(filled: &Receiver<Arc<Log>>, journal: &Journal) {
    let guard = journal.fail_on_panic("writer thread");
    let _guard = (!planted("writer_dies_silently")).then_some(guard);
    for log in filled {
        log.write_out_some();
    }
}
