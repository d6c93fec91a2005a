use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Consumer;
use crate::engine::Event;
use crate::error::{Error, Result};
use crate::log::Wake as _;

/// Ends a `poll` that runs in another thread. Any thread may use it at any time.
///
/// A thread that waits for signals may use it, as the crates `signal-hook` and `ctrlc` start one. A signal
/// handler itself must not: the system calls it in the middle of any thread's work, where taking a lock is
/// not allowed, and `wakeup` takes one.
///
/// ```
/// use grouplog::{Broker, Error, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// let handle = consumer.wakeup_handle();
/// std::thread::spawn(move || handle.wakeup());
/// assert!(matches!(consumer.poll(Duration::from_secs(60)), Err(Error::Wakeup)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WakeupHandle {
    event: Arc<Event>,
    called: Arc<AtomicBool>,
}

impl WakeupHandle {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        Self { event, called: Arc::default() }
    }

    /// Makes the running `poll` return [`Error::Wakeup`], or the next one if none is running.
    ///
    /// Several calls before that count as one. After the consumer is gone, this does nothing.
    pub fn wakeup(&self) {
        self.called.store(true, Ordering::Release);
        self.event.wake();
    }

    /// Returns `Wakeup` if `wakeup` was called since the last call.
    pub(crate) fn take(&self) -> Result<()> {
        // Load first, so that an ordinary poll does not write memory that other threads read.
        if self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::AcqRel) {
            return Err(Error::Wakeup);
        }
        Ok(())
    }
}

impl Consumer {
    /// Returns a handle that ends `poll` from another thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.clone()
    }
}
