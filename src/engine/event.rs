use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::log::Wake;

/// What one consumer sleeps on: set once by anybody, taken by the sleeper.
#[derive(Debug, Default)]
pub(crate) struct Event {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    /// Sleeps until the event is set, at most for `timeout`, and takes it; whether it was set.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut set = self.set.lock();
        if !*set {
            // A spurious return is harmless: the caller looks whether there is something to do.
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
