use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::fetcher::Fetcher;
use super::handle::WorkersHandle;
use super::job::Job;
use super::renewal::Renewal;
use super::shared::Shared;
use crate::config::{Acks, ShareGroupConfig};
use crate::engine::EngineHandle;
use crate::error::{Error, Result};
use crate::share::member::Member;
use crate::share::sources::{Sources, check_topics};
use crate::types::Backoff;

/// Threads that run a function for each record of a share group: a job queue. Created by
/// [`Broker::workers`](crate::Broker::workers).
///
/// The function returns what becomes of the job. `Ok` accepts it: it is done. An error releases it: it comes again after
/// the group's backoff, with the text of the error, and becomes a dead letter after its last delivery. [`JobError`] has
/// the other ends. A panic releases the job as an error does, with the text of the panic, and the thread goes on.
///
/// While a function runs, the lock of its job is renewed. So a job is run again only if its function failed, if the
/// process ended, if an operator released it, if what it returned could not be written (a full disk), or if its lock could
/// not be renewed: the group does not allow it, or the job ran longer than [`Workers::renew_for`].
///
/// A job counts as delivered when its function is called. Those that were only fetched do not count.
///
/// ```
/// use grouplog::{Backoff, Broker, Record, ShareGroupConfig, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").key("alice").value("hello"))?;
///
/// let (told, heard) = std::sync::mpsc::channel();
/// let workers = broker
///     .workers("emails")
///     .threads(4)
///     .config(
///         ShareGroupConfig::new()
///             .ordered_by_key(true)
///             .delivery_count_limit(3)
///             .retry_backoff(Backoff::exponential(Duration::from_millis(10)))
///             .dead_letter_topic("emails.dead"),
///     )
///     .run(move |job| {
///         if job.delivery_count() == 1 {
///             // Any error will do: the job comes again.
///             "no number".parse::<u32>()?;
///         }
///         told.send(job.last_reason().map(str::to_owned))?;
///         Ok(())
///     })?;
/// assert_eq!(heard.recv().unwrap().unwrap(), "invalid digit found in string");
/// let stats = workers.shutdown(Duration::from_secs(10))?;
/// assert_eq!((stats.accepted, stats.released), (1, 1));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Workers {
    engine: EngineHandle,
    group: String,
    /// `None`: the topic with the name of the group.
    topics: Option<Vec<String>>,
    /// `None`: one for each processor.
    threads: Option<usize>,
    acks: Acks,
    config: Option<ShareGroupConfig>,
    renew_for: Duration,
}

/// The most threads of one `Workers`.
const MAX_THREADS: usize = 1024;
/// The backoff of a group that `Workers` create.
const BACKOFF: Duration = Duration::from_secs(1);

impl Workers {
    pub(crate) fn new(engine: EngineHandle, group: &str) -> Self {
        Self {
            engine,
            group: group.to_owned(),
            topics: None,
            threads: None,
            acks: Acks::Written,
            config: None,
            renew_for: Duration::from_hours(12),
        }
    }

    /// Sets the topics. By default it is the one with the name of the group. A topic may not exist yet.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = Some(topics.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how many jobs run at a time, each in a thread of its own: 1 to 1,024. One for each processor by default.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets what the end of a job waits for. [`Acks::Written`] by default: it survives the process. With
    /// [`Acks::Synced`] it survives power loss, and a thread takes its next job only then. If an end is lost, the job
    /// runs again.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets the settings of the group, in place of all earlier ones, as
    /// [`Admin::alter_share_group`](crate::Admin::alter_share_group). Without this, a group keeps its settings, and a
    /// group that does not exist gets the defaults and a backoff of 1 s, 2 s, 4 s and so on.
    pub fn config(mut self, config: ShareGroupConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// Sets how long a job may run before its lock is renewed no more: 12 hours by default. Then it is delivered again
    /// when its lock ends, though its function may run on. Locks are renewed at half of
    /// `share.record.lock.duration.ms`, and never if the group does not allow it
    /// ([`ShareGroupConfig::renew_acknowledge_enable`]).
    pub fn renew_for(mut self, longest: Duration) -> Self {
        self.renew_for = longest;
        self
    }

    /// Joins the group and starts the threads, which call `handler` for each job.
    ///
    /// # Errors
    /// * `InvalidName` if a topic or the group has a name that is not allowed. `GroupKind` if a consumer group has the
    ///   name.
    /// * `InvalidConfig` if a setting or the number of threads is out of its range, or if one of the topics is the
    ///   group's topic for dead letters.
    /// * `Io` if a thread cannot be started. `DiskFull`, `Failed`, `Closed` as a commit.
    pub fn run(
        self,
        handler: impl Fn(&Job) -> std::result::Result<(), JobError> + Send + Sync + 'static,
    ) -> Result<WorkersHandle> {
        let Self { engine, group: name, topics, threads, acks, config, renew_for } = self;
        let topics = check_topics(topics.unwrap_or_else(|| vec![name.clone()]))?;
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(|| processors().min(MAX_THREADS));
        if !(1..=MAX_THREADS).contains(&threads) {
            let (key, value) = ("threads", threads.to_string());
            return Err(Error::InvalidConfig { key, value, expected: "1 to 1024" });
        }
        if let Some(config) = &config {
            // Before the group changes.
            config.validate(topics.iter().map(String::as_str))?;
            engine.alter_share_group(&name, config)?;
        }
        let new = ShareGroupConfig::new().retry_backoff(Backoff::exponential(BACKOFF));
        let group = engine.share_group_or(&name, &new)?;
        let member = Member::join(&engine, &group, topics.clone())?;
        let mut sources = Sources::new(&engine, &group);
        sources.read(topics)?;
        let fetcher = Fetcher::new(&engine, &group, &member, sources, (acks, threads));
        let renewal = Renewal::new(&engine, &group, threads, renew_for);
        let shared = Shared::new(&engine, member, Box::new(handler), fetcher, renewal);
        WorkersHandle::start(Arc::new(shared), threads)
    }
}
