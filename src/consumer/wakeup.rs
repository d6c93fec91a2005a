use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Consumer;
use crate::engine::Event;
use crate::error::{Error, Result};
use crate::log::Wake as _;

/// Ends another thread's `poll`: the one part of a consumer that any thread may use at any time.
///
/// Any thread, so also one that waits for signals, as the crates `signal-hook` and `ctrlc` start it. But
/// not the handler that the system calls in the midst of any thread's work: it may do nothing that takes
/// a lock, and this does.
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
    pub(super) fn new(event: Arc<Event>) -> Self {
        Self { event, called: Arc::default() }
    }

    /// Makes the running `poll` return [`Error::Wakeup`], or the next one if none runs. Several calls
    /// before that count as one. After the consumer is gone it does nothing.
    pub fn wakeup(&self) {
        self.called.store(true, Ordering::Release);
        self.event.wake();
    }

    /// Whether `wakeup` was called since this was asked last.
    pub(super) fn take(&self) -> Result<()> {
        // Read first: a poll that nobody wakes writes nothing that other threads read.
        if self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::AcqRel) {
            return Err(Error::Wakeup);
        }
        Ok(())
    }
}

impl Consumer {
    /// A handle that ends `poll` from another thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.clone()
    }
}
