//! The thread that deletes the oldest segments for the disk budget, so that appends do not wait for that.
//!
//! The first request starts it. It sleeps between requests, and holds the engine only while it works.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{Builder, JoinHandle, current};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

/// What the thread does.
pub(super) trait Drops: Send + Sync {
    /// Deletes the oldest segments until less than nine tenths of the budget are taken.
    fn drop_early(&self);
}

#[derive(Debug)]
pub(crate) struct Dropper {
    /// What the thread does. Unset where there are no background threads.
    drops: OnceLock<Weak<dyn Drops>>,
    /// Whether the thread was asked and has not begun yet. At full speed, every append asks.
    asked: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    NotStarted,
    /// Wakes the thread, and ends it when it is dropped; and the thread.
    Running(Sender<()>, JoinHandle<()>),
    Stopped,
}

impl Dropper {
    pub(super) fn new() -> Self {
        Self { drops: OnceLock::new(), asked: Arc::default(), state: Mutex::new(State::NotStarted) }
    }

    /// Lets a thread work once it is requested.
    pub(super) fn set_drops(&self, drops: Weak<dyn Drops>) {
        let first = self.drops.set(drops).is_ok();
        debug_assert!(first, "a folder is started once");
    }

    /// Lets the thread work. Returns false if there is none, and the caller has to do it.
    pub(super) fn request(&self) -> bool {
        let Some(drops) = self.drops.get() else { return false };
        if self.asked.load(Ordering::Relaxed) || self.asked.swap(true, Ordering::AcqRel) {
            return true;
        }
        let mut state = self.state.lock();
        if matches!(*state, State::NotStarted) {
            *state = start(Weak::clone(drops), Arc::clone(&self.asked));
        }
        match &*state {
            State::Running(wake, _) => wake.try_send(()).is_ok(),
            State::Stopped => true,
            State::NotStarted => {
                self.asked.store(false, Ordering::Release);
                false
            }
        }
    }

    /// Stops the thread and waits for it, unless the caller is that thread.
    pub(super) fn stop(&self) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        if let State::Running(wake, thread) = state
            && thread.thread().id() != current().id()
        {
            drop(wake);
            // A panic of the thread has stopped all writing.
            let _ended = thread.join();
        }
    }
}

fn start(drops: Weak<dyn Drops>, asked: Arc<AtomicBool>) -> State {
    let (wake, woken) = bounded(1);
    Builder::new()
        .name("grouplog-dropper".to_owned())
        .spawn(move || run(&woken, &drops, &asked))
        .map_or(State::NotStarted, |thread| State::Running(wake, thread))
}

fn run(woken: &Receiver<()>, drops: &Weak<dyn Drops>, asked: &AtomicBool) {
    for () in woken {
        // Before the look at the account: what is taken after that asks again.
        asked.store(false, Ordering::Release);
        let Some(drops) = drops.upgrade() else { return };
        drops.drop_early();
    }
}
