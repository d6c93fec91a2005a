//! The process that is killed: a job queue, and a producer.

use std::cell::Cell;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

use grouplog::time::{Random, SeededRandom};
use grouplog::{
    Acks, Backoff, Broker, BrokerConfig, Job, JobError, JournalMode, ProducerConfig, Record,
    Result, ShareConsumerConfig, ShareGroupConfig, ShareRecord, TopicConfig,
};

use crate::work;

/// The topic of the jobs and the group.
pub(super) const JOBS: &str = "jobs";
pub(super) const DEAD: &str = "dead";
pub(super) const PARTITIONS: u32 = 2;
/// The most deliveries of a job.
pub(super) const LIMIT: u16 = 4;
pub(super) const REASON: &str = "no such customer";
const THREADS: u64 = 8;
/// How many jobs are sent ahead of those that have ended.
const AHEAD: usize = 200;
/// How long a thread waits for something that nobody tells it.
const TICK: Duration = Duration::from_millis(2);

/// How all lives of a folder work.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a choice of its own")]
pub(super) struct Setup {
    /// `Workers`, or share consumers.
    workers: bool,
    synced: bool,
    write: bool,
    ordered: bool,
    backoff: bool,
}

/// The format that [`Setup::parse`] reads.
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, synced, write, ordered, backoff } = *self;
        [workers, synced, write, ordered, backoff]
            .into_iter()
            .try_for_each(|is| write!(f, "{}", u8::from(is)))
    }
}

impl Setup {
    /// Workers and consumers, `Written` and `Synced` in turn; the others by chance.
    pub(super) fn of(folder: u64, random: &dyn Random) -> Self {
        let bits = random.next_u64();
        let by_chance = |bit: u32| bits >> bit & 1 == 1;
        Self {
            workers: folder & 1 == 0,
            synced: folder & 2 == 0,
            write: by_chance(0),
            ordered: by_chance(1),
            backoff: by_chance(2),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let is = |at: usize| text.as_bytes()[at] == b'1';
        Self { workers: is(0), synced: is(1), write: is(2), ordered: is(3), backoff: is(4) }
    }

    fn acks(self) -> Acks {
        if self.synced { Acks::Synced } else { Acks::Written }
    }

    pub(super) fn config(self) -> BrokerConfig {
        work::config(if self.write { JournalMode::Write } else { JournalMode::Auto })
    }

    fn group(self) -> ShareGroupConfig {
        let backoff = Backoff::fixed(Duration::from_millis(1));
        ShareGroupConfig::new()
            .delivery_count_limit(LIMIT)
            // No handler takes as long.
            .record_lock_duration(Duration::from_hours(1))
            .ordered_by_key(self.ordered)
            .retry_backoff(if self.backoff { backoff } else { Backoff::none() })
            .dead_letter_topic(DEAD)
    }
}

/// What a handler is about to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Accept,
    Release,
    Snooze,
    Reject,
    Cancel,
}

impl Plan {
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::Accept, "accept"),
        (Self::Release, "release"),
        (Self::Snooze, "snooze"),
        (Self::Reject, "reject"),
        (Self::Cancel, "cancel"),
    ];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Most jobs are accepted at once, and some never.
    fn of(value: &[u8], count: u16, random: &dyn Random) -> Self {
        let sum = u64::from(crc32fast::hash(value));
        match sum % 16 {
            0 => Self::Reject,
            1 => Self::Release,
            2..=4 if u64::from(count) < sum % 16 => Self::Release,
            5..=6 if random.next_u64().is_multiple_of(2) => Self::Snooze,
            7 => Self::Cancel,
            _ => Self::Accept,
        }
    }

    /// Returns whether the job never comes again.
    pub(super) fn is_final(self, count: u16) -> bool {
        match self {
            Self::Accept | Self::Reject | Self::Cancel => true,
            Self::Release => count >= LIMIT,
            Self::Snooze => false,
        }
    }
}

/// Works in the folder until it is killed, or without a life's number until no job is left. Each line on stderr reports
/// something.
pub(super) fn work_in(folder: &Path, setup: Setup, life: Option<u64>) {
    if let Err(error) = try_work_in(folder, setup, life) {
        tell(format_args!("error {error:?}"));
    }
}

/// One write, so that lines of several threads do not mix.
fn tell(line: fmt::Arguments<'_>) {
    // A failure means that the parent is gone.
    let _told = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Waits where nobody tells anything.
fn pause(time: Duration) {
    let (_nobody, never) = channel::<()>();
    let _timed_out = never.recv_timeout(time);
}

/// What the threads of the child share.
struct Work {
    setup: Setup,
    random: SeededRandom,
    /// The next delivery's number.
    next: AtomicU64,
    is_over: AtomicBool,
    /// Gets something for each job that has ended.
    ended: SyncSender<()>,
}

impl Work {
    /// Tells of a delivery. Returns its number and what becomes of it.
    fn begin(&self, job: &ShareRecord) -> (u64, Plan) {
        let (count, value) = (job.delivery_count(), job.value().unwrap());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::of(value, count, &self.random);
        let (partition, offset, name) = (job.partition(), job.offset(), plan.name());
        // The value begins with the life that sent it.
        let born = String::from_utf8_lossy(value.split(|byte| *byte == b' ').next().unwrap());
        let sum = crc32fast::hash(value);
        tell(format_args!("begun {number} {partition} {offset} {count} {sum} {born} {name}"));
        (number, plan)
    }

    /// Tells that what was said of a delivery is acknowledged.
    fn end(&self, number: u64) {
        tell(format_args!("ended {number}"));
        // The producer is as far ahead as it may be.
        let _full = self.ended.try_send(());
    }
}

fn try_work_in(folder: &Path, setup: Setup, life: Option<u64>) -> Result<()> {
    let broker = Broker::open_with(folder, setup.config())?;
    broker.ensure_topic(JOBS, TopicConfig::new().partitions(PARTITIONS).segment_bytes(64 << 10))?;
    broker.admin().alter_share_group(JOBS, setup.group())?;
    let (ended, permits) = sync_channel(AHEAD);
    let (random, next) = (SeededRandom::from_os(), AtomicU64::new(0));
    let work = Work { setup, random, next, is_over: AtomicBool::new(false), ended };
    let work = &Arc::new(work);
    std::thread::scope(|scope| {
        let broker = &broker;
        if let Some(life) = life {
            scope.spawn(move || report(send(broker, life, work, &permits)));
        }
        scope.spawn(move || report(checkpoint(broker, work)));
        let worked = if setup.workers {
            run_workers(broker, work, life.is_none())
        } else {
            (0..THREADS).for_each(|thread| {
                scope.spawn(move || report(consume(broker, thread, work)));
            });
            wait_for_end(broker, life.is_none())
        };
        work.is_over.store(true, Ordering::Relaxed);
        worked
    })?;
    broker.close()?;
    tell(format_args!("over"));
    Ok(())
}

fn report(worked: Result<()>) {
    if let Err(error) = worked {
        tell(format_args!("error {error:?}"));
    }
}

/// Sends jobs, alone and several at once, as far ahead of the workers as it may.
fn send(broker: &Broker, life: u64, work: &Work, permits: &Receiver<()>) -> Result<()> {
    let producer = broker.producer_with(ProducerConfig::new().acks(work.setup.acks()))?;
    let mut numbers = 0..;
    let mut sent = 0;
    while !work.is_over.load(Ordering::Relaxed) {
        if sent >= AHEAD {
            // Now and then without a permit: what an earlier life has left may not end for long.
            let _permit = permits.recv_timeout(TICK);
        }
        let many = if work.random.next_u64().is_multiple_of(8) { 5 } else { 1 };
        let jobs: Vec<(u32, String, Vec<u8>)> = numbers
            .by_ref()
            .take(many)
            .map(|number| {
                let partition = (work.random.next_u64() % u64::from(PARTITIONS)) as u32;
                let key = format!("key {}", work.random.next_u64() % 50);
                (partition, key, work::value(life, 0, number, partition))
            })
            .collect();
        let records = jobs.iter().map(|(partition, key, value)| {
            let record = Record::to(JOBS).partition(*partition).key(key).value(value);
            if value.len() % 16 == 0 { record.deliver_after(TICK) } else { record }
        });
        let delivery = producer.send_all(records)?;
        let places: Vec<_> = delivery.metadata().map(|at| (at.partition(), at.offset())).collect();
        delivery.wait()?;
        for ((partition, offset), (.., value)) in places.into_iter().zip(&jobs) {
            tell(format_args!("sent {partition} {offset} {}", crc32fast::hash(value)));
        }
        sent += many;
    }
    Ok(())
}

fn checkpoint(broker: &Broker, work: &Work) -> Result<()> {
    while !work.is_over.load(Ordering::Relaxed) {
        broker.checkpoint()?;
        pause(TICK * (work.random.next_u64() % 5) as u32);
    }
    Ok(())
}

/// Returns once no job is left, in the last life of the folder.
fn wait_for_end(broker: &Broker, is_last: bool) -> Result<()> {
    while !is_last || !is_done(broker)? {
        pause(TICK);
    }
    Ok(())
}

fn is_done(broker: &Broker) -> Result<bool> {
    let group = broker.admin().describe_share_group(JOBS)?;
    Ok(group.lag() == 0 && group.partitions.len() == PARTITIONS as usize)
}

thread_local! {
    /// The delivery that this thread was called with before.
    static BEFORE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A worker's thread takes its next job only once the end of the one before is acknowledged, or counted as late or as an
/// error. There must be none of these.
fn run_workers(broker: &Broker, work: &Arc<Work>, is_last: bool) -> Result<()> {
    let shared = Arc::clone(work);
    let handler = move |job: &Job| {
        if let Some(before) = BEFORE.take() {
            shared.end(before);
        }
        let (number, plan) = shared.begin(job);
        BEFORE.set(Some(number));
        match plan {
            Plan::Accept => Ok(()),
            Plan::Release => Err(JobError::retry("503")),
            Plan::Snooze => Err(JobError::snooze(TICK / 2)),
            Plan::Reject => Err(JobError::reject(REASON)),
            Plan::Cancel => Err(JobError::cancel()),
        }
    };
    let workers = broker.workers(JOBS).threads(THREADS as usize).acks(work.setup.acks());
    let workers = workers.run(handler)?;
    while !is_last || !is_done(broker)? {
        let stats = workers.stats();
        if (stats.late, stats.errors) != (0, 0) {
            tell(format_args!("error {stats:?}"));
        }
        pause(TICK);
    }
    let stats = workers.shutdown(Duration::from_mins(1))?;
    if (stats.late, stats.errors, stats.abandoned) != (0, 0, 0) {
        tell(format_args!("error {stats:?}"));
    }
    Ok(())
}

/// What a thread does that has a share consumer of its own. The word returns once it is acknowledged.
fn consume(broker: &Broker, thread: u64, work: &Work) -> Result<()> {
    let config = ShareConsumerConfig::new().acks(work.setup.acks());
    // Some hold one job at a time, and some many.
    let config = config.max_poll_records(1 + 7 * (thread as u32 % 3));
    let mut member = broker.share_consumer_with(JOBS, config)?;
    member.subscribe([JOBS])?;
    while !work.is_over.load(Ordering::Relaxed) {
        for job in member.poll(10 * TICK)? {
            let (number, plan) = work.begin(&job);
            match plan {
                Plan::Accept => job.accept()?,
                Plan::Release => job.release_because("503")?,
                Plan::Snooze => job.snooze(TICK / 2)?,
                Plan::Reject => job.reject(REASON)?,
                Plan::Cancel => job.cancel()?,
            }
            work.end(number);
        }
    }
    member.close()
}
