use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::shared::Shared;
use super::stats::WorkersStats;
use crate::error::{Error, Result};

/// The running threads of [`Workers`](super::Workers).
///
/// Dropping it is [`WorkersHandle::shutdown`] with 25 seconds, without the error that this returns.
#[must_use = "dropping it ends the workers"]
pub struct WorkersHandle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    has_ended: bool,
}

/// How long a drop waits for running handlers.
const GRACE: Duration = Duration::from_secs(25);

impl WorkersHandle {
    /// Starts the threads.
    pub(super) fn start(shared: Arc<Shared>, count: usize) -> Result<Self> {
        let mut handle = Self { shared, threads: Vec::new(), has_ended: false };
        for thread in 0..count {
            let shared = Arc::clone(&handle.shared);
            handle.shared.add_thread();
            // Ends with the thread, after a panic too.
            let running = Running { shared };
            let name = format!("grouplog-worker-{thread}");
            handle.spawn(name, move || running.shared.work(thread))?;
        }
        let shared = Arc::clone(&handle.shared);
        handle.spawn("grouplog-renewal".to_owned(), move || shared.renewal.run())?;
        Ok(handle)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawned = std::thread::Builder::new().name(name).spawn(body);
        self.threads
            .push(spawned.map_err(|error| Error::io("start a thread of", "workers", error))?);
        Ok(())
    }

    /// Returns what the workers have done so far.
    pub fn stats(&self) -> WorkersStats {
        self.shared.stats()
    }

    /// Returns the last error among those that [`WorkersStats::errors`] counts. It may have passed.
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("emails", TopicConfig::new())?;
    /// let workers = broker.workers("emails").threads(1).run(|_job| Ok(()))?;
    /// assert!(workers.last_error().is_none());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn last_error(&self) -> Option<Error> {
        self.shared.last_error()
    }

    /// Takes no more jobs, waits up to `grace` for the handlers that run, and leaves the group. Jobs that were fetched but
    /// not begun are given back, and this counts as no delivery. Jobs whose handlers run on after `grace` are released
    /// without delay: other members get them. Such a handler cannot be stopped; its thread ends when it returns, and
    /// what it returns counts no more. It keeps the folder open.
    ///
    /// For Ctrl-C, call this from the thread that waits for the signal, as the crates `ctrlc` and `signal-hook` have
    /// one.
    ///
    /// # Errors
    /// The error that had ended the workers before, such as `Failed` or `Closed`. Otherwise those of leaving a group:
    /// the jobs come again all the same.
    pub fn shutdown(mut self, grace: Duration) -> Result<WorkersStats> {
        self.end(Some(grace))
    }

    /// Waits until the workers end by an error: the folder was closed, or it failed.
    ///
    /// # Errors
    /// The error that has ended them.
    pub fn join(mut self) -> Result<WorkersStats> {
        self.end(None)
    }

    fn end(&mut self, grace: Option<Duration>) -> Result<WorkersStats> {
        self.has_ended = true;
        // A forked child has none of the threads.
        self.shared.engine.check_fork()?;
        if grace.is_some() {
            self.shared.close();
        }
        let left = self.shared.wait(grace);
        self.shared.renewal.stop();
        let did_leave = self.shared.member.leave();
        for thread in self.threads.drain(..) {
            let is_this_thread = thread.thread().id() == std::thread::current().id();
            // A handler does not panic through its thread.
            let _cannot_fail = (left == 0 && !is_this_thread).then(|| thread.join());
        }
        match self.shared.failure() {
            Some(error) => Err(error),
            None => {
                did_leave.map(|()| WorkersStats { abandoned: left as u64, ..self.shared.stats() })
            }
        }
    }
}

impl Drop for WorkersHandle {
    fn drop(&mut self) {
        if !self.has_ended {
            // A drop cannot return it; `shutdown` does.
            let _unreported = self.end(Some(GRACE));
        }
    }
}

impl fmt::Debug for WorkersHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Notes the end of a thread when it is dropped.
struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.remove_thread();
    }
}
