//! An event that one thread waits for.

use std::time::Duration;

use crate::log::Wake;
use crate::sync::{Condvar, Mutex};

/// An event that one consumer waits for. Any thread sets it, and the waiting thread clears it.
#[derive(Debug, Default)]
pub(crate) struct Event {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    /// Waits until the event is set or `timeout` has passed, and clears it. Returns whether it was set.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut set = self.set.lock();
        if !*set {
            // A spurious wakeup is harmless: the caller checks for work anyway.
            let _timed_out = self.changed.wait_for(&mut set, timeout);
        }
        std::mem::take(&mut *set)
    }
}

impl Wake for Event {
    fn wake(&self) {
        let mut set = self.set.lock();
        if !*set {
            *set = true;
            self.changed.notify_one();
        }
    }
}
