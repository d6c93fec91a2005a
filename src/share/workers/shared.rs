//! What the threads of one `Workers` share, and what each of them does.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::fetcher::{Fetcher, ends};
use super::job::Job;
use super::queue::{Queue, Reserved};
use super::renewal::Renewal;
use super::stats::{Counters, End, WorkersStats};
use crate::engine::{EngineHandle, Event, Said, Word};
use crate::error::Error;
use crate::log::Wake as _;
use crate::share::member::Member;
use crate::sync::{Condvar, Mutex};

/// The function that is called for each job.
pub(super) type Handler = Box<dyn Fn(&Job) -> Result<(), JobError> + Send + Sync>;

/// What the threads share.
pub(super) struct Shared {
    pub(super) engine: EngineHandle,
    pub(super) member: Arc<Member>,
    handler: Handler,
    queue: Queue,
    fetcher: Mutex<Fetcher>,
    /// Ends the sleep of the thread that fetches.
    event: Arc<Event>,
    pub(super) renewal: Renewal,
    counters: Counters,
    threads: Mutex<Threads>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Threads {
    running: usize,
    /// The first error that ended the workers.
    failed: Option<Error>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        engine: &EngineHandle,
        member: Arc<Member>,
        handler: Handler,
        fetcher: Fetcher,
        renewal: Renewal,
    ) -> Self {
        Self {
            engine: engine.clone(),
            member,
            handler,
            queue: Queue::new(),
            event: Arc::clone(fetcher.event()),
            fetcher: Mutex::new(fetcher),
            renewal,
            counters: Counters::default(),
            threads: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.counters.last_error()
    }

    pub(super) fn stats(&self) -> WorkersStats {
        self.counters.stats()
    }

    /// Notes that a thread is about to begin.
    pub(super) fn add_thread(&self) {
        let mut threads = self.threads.lock();
        threads.running = threads.running.saturating_add(1);
    }

    /// Notes that a thread has ended.
    pub(super) fn remove_thread(&self) {
        let mut threads = self.threads.lock();
        threads.running = threads.running.saturating_sub(1);
        self.ended.notify_all();
    }

    /// Waits until all threads have ended, or until `grace` has passed. Returns how many run on.
    pub(super) fn wait(&self, grace: Option<Duration>) -> usize {
        let now = || self.engine.clock().monotonic();
        let end = grace.map(|grace| now().saturating_add(grace));
        let mut threads = self.threads.lock();
        while threads.running > 0 {
            let Some(end) = end else {
                self.ended.wait(&mut threads);
                continue;
            };
            let left = end.saturating_sub(now());
            if left.is_zero() || self.ended.wait_for(&mut threads, left).timed_out() {
                break;
            }
        }
        threads.running
    }

    /// Returns the error that has ended the workers, if one has.
    pub(super) fn failure(&self) -> Option<Error> {
        self.threads.lock().failed.take()
    }

    /// Takes no more jobs. Those that were not begun are given back.
    pub(super) fn close(&self) {
        self.queue.close();
        self.event.wake();
    }

    /// What a thread does.
    pub(super) fn work(&self, thread: usize) {
        loop {
            let next = self.queue.next(|| {
                let is_closed = || self.queue.is_closed();
                self.fetcher.lock().fetch(is_closed, |error| self.counters.error(error))
            });
            match next {
                Ok(Some(next)) => {
                    let mut begun = self.begin(next);
                    while let Some(job) = begun {
                        begun = self.run(thread, &job);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Runs a job that was begun, and says what became of it. Returns another one if there was one at hand, which was
    /// begun in the same frame.
    fn run(&self, thread: usize, job: &Reserved) -> Option<Reserved> {
        self.renewal.begin(thread, job, self.engine.clock().monotonic());
        let (said, end) = self.call(job);
        self.renewal.end(thread);
        let word = job.batch.word(job.at, said);
        let next = self.queue.next_of(job.batch.part()).and_then(Reserved::unless_paused);
        let Some(next) = next else {
            self.end(job, word, end);
            return None;
        };
        match job.batch.send(std::slice::from_ref(&word), &[next.span()]) {
            Ok(()) => {
                self.counters.ended(end);
                Some(next)
            }
            // One of the two was refused, and both with it.
            Err(Error::InvalidRecordState { .. }) => {
                self.end(job, word, end);
                self.begin(next)
            }
            Err(error) => {
                next.unreserve();
                self.report(error);
                None
            }
        }
    }

    /// Calls the handler. Returns how the job ends.
    fn call(&self, job: &Reserved) -> (Said, End) {
        let view = Job::new(&job.batch, job.at);
        // What a handler leaves behind when it panics is its own matter, as with threads that share something.
        match catch_unwind(AssertUnwindSafe(|| (self.handler)(&view))) {
            Ok(Ok(())) => (Said::Accept, End::Accepted),
            Ok(Err(error)) => {
                let said = error.into_said();
                let end = End::of(&said);
                (said, end)
            }
            Err(panic) => {
                let reason = Some(text_of(&*panic));
                // Its drop is the handler's, too, and could panic here.
                let _dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
                (Said::Release { delay: None, reason }, End::Panicked)
            }
        }
    }

    /// Begins a job: its delivery counts from here on. Returns `None` if its lock has ended meanwhile, if the group is
    /// paused, or on an error.
    fn begin(&self, reserved: Reserved) -> Option<Reserved> {
        let reserved = reserved.unless_paused()?;
        match reserved.batch.send(&[], &[reserved.span()]) {
            Ok(()) => Some(reserved),
            Err(error) => {
                reserved.unreserve();
                let is_gone =
                    matches!(error, Error::InvalidRecordState { .. } | Error::UnknownTopic { .. });
                if !is_gone {
                    self.report(error);
                }
                None
            }
        }
    }

    fn end(&self, job: &Reserved, word: Word, end: End) {
        match job.batch.send(&[word], &[]) {
            Ok(()) => self.counters.ended(end),
            Err(Error::InvalidRecordState { .. }) => self.counters.late(),
            Err(error) => self.report(error),
        }
    }

    fn report(&self, error: Error) {
        match error {
            // The topic was deleted, and its jobs with it.
            Error::UnknownTopic { .. } => self.counters.late(),
            error if ends(&error) => self.fail(error),
            error => self.counters.error(error),
        }
    }

    fn fail(&self, error: Error) {
        self.threads.lock().failed.get_or_insert(error);
        self.close();
    }
}

/// Returns the text of a panic.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no text"))
}
