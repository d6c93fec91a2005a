use std::sync::Arc;
use std::time::Duration;

use super::batch::ShareBatch;
use super::member::Member;
use super::record::ShareRecords;
use super::sources::{Sources, check_topics};
use crate::config::ShareConsumerConfig;
use crate::consumer::WakeupHandle;
use crate::engine::{EngineHandle, ShareGroup, ShareLimits};
use crate::error::{Error, Result};

/// A member of a share group: it gets records that no other member has, and says of each what became of it.
///
/// All members of a group draw from all partitions of their topics, so there may be more members than partitions. A record
/// is delivered to one member at a time. It comes again if the member releases or drops it, leaves, or keeps it longer than
/// `share.record.lock.duration.ms`; at most `share.delivery.count.limit` times. Records are delivered in the order of
/// their offsets, as far as none comes again.
///
/// A delivery is counted in the journal before the record is returned. So a record that kills the process is counted, too.
///
/// One thread uses a consumer at a time. The records may go to any thread.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").value("hello"))?;
///
/// let mut member = broker.share_consumer("mailers")?;
/// member.subscribe(["emails"])?;
/// for job in member.poll(Duration::from_secs(1))? {
///     assert_eq!(job.value(), Some(&b"hello"[..]));
///     job.accept()?;
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct ShareConsumer {
    engine: EngineHandle,
    group: Arc<ShareGroup>,
    config: ShareConsumerConfig,
    /// `None` before `subscribe`.
    member: Option<Arc<Member>>,
    sources: Sources,
    wakeup: WakeupHandle,
    /// In implicit mode: what the last poll returned.
    last: Vec<Arc<ShareBatch>>,
}

/// How long a poll goes on behind its timeout while it reads records that are not to be delivered yet.
const MOST_LATE: Duration = Duration::from_millis(100);

impl ShareConsumer {
    pub(crate) fn new(
        engine: EngineHandle,
        group: &str,
        config: ShareConsumerConfig,
    ) -> Result<Self> {
        config.validate()?;
        let group = engine.share_group(group)?;
        let sources = Sources::new(&engine, &group);
        let wakeup = WakeupHandle::new(Arc::clone(sources.event()));
        Ok(Self { engine, group, config, member: None, sources, wakeup, last: Vec::new() })
    }

    /// Joins the group and subscribes to these topics, in place of any earlier subscription. A topic may not exist yet.
    ///
    /// # Errors
    /// `InvalidName` if a topic name is not allowed. `InvalidConfig` if one of the topics is the group's topic for dead
    /// letters. `UnknownGroup` if the group was deleted meanwhile.
    pub fn subscribe<T: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let names = check_topics(topics)?;
        match &self.member {
            Some(member) => member.read(names.clone())?,
            None => self.member = Some(Member::join(&self.engine, &self.group, names.clone())?),
        }
        self.sources.read(names)
    }

    /// Returns records as soon as there are some, or none after `timeout`. It takes up to 100 ms more while it reads
    /// records that are new and not to be delivered yet, such as delayed ones; the next call goes on behind them. With a
    /// timeout of zero it goes on until it has a record or has looked at all that are there.
    ///
    /// In implicit mode this accepts what the last poll returned and nothing was said about.
    ///
    /// # Errors
    /// * `Wakeup` if [`WakeupHandle::wakeup`] was called.
    /// * `Corrupt` or `Io` if a batch cannot be read. The other partitions continue.
    /// * `Misuse` before `subscribe`. `UnknownGroup` if the group was deleted.
    /// * `DiskFull`, `Failed`, `Closed` as a commit: no record is delivered that could not be counted.
    pub fn poll(&mut self, timeout: Duration) -> Result<ShareRecords> {
        self.engine.check_open()?;
        let Some(member) = self.member.clone() else {
            return Err(Error::Misuse("poll needs subscribe first"));
        };
        self.commit()?;
        let deadline = self.engine.clock().monotonic().saturating_add(timeout);
        let result = self.poll_until(&member, deadline, !timeout.is_zero());
        self.sources.end_wait();
        result
    }

    /// Accepts what the last poll returned and nothing was said about. Only in implicit mode; otherwise it does nothing.
    /// After an error that may pass, such as a full disk, another call tries again.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`](super::ShareRecord::accept).
    pub fn commit(&mut self) -> Result<()> {
        let mut failed = Ok(());
        for batch in std::mem::take(&mut self.last) {
            let accepted = batch.accept_rest();
            if accepted.is_err() {
                // The next call tries again what may still be accepted.
                self.last.push(batch);
            }
            failed = failed.and(accepted);
        }
        failed
    }

    /// Returns a handle that ends `poll` from another thread.
    pub fn wakeup_handle(&self) -> WakeupHandle {
        self.wakeup.clone()
    }

    /// Leaves the group. All records that this member has come again at once, except those of the last poll in implicit
    /// mode that [`ShareConsumer::commit`] has accepted.
    ///
    /// # Errors
    /// As [`ShareRecord::release`](super::ShareRecord::release). The records come again all the same.
    pub fn close(mut self) -> Result<()> {
        self.member.take().map_or(Ok(()), |member| member.leave())
    }

    /// `gives_up`: whether a long look ends some time after the deadline.
    fn poll_until(
        &mut self,
        member: &Arc<Member>,
        deadline: Duration,
        gives_up: bool,
    ) -> Result<ShareRecords> {
        loop {
            self.wakeup.take()?;
            let (records, again) = self.fetch(member)?;
            if !records.is_empty() {
                return Ok(records);
            }
            let now = self.engine.clock().monotonic();
            let left = deadline.saturating_sub(now);
            // Many records may have a later time, and those behind them are worth a look.
            let late = gives_up && now.saturating_sub(deadline) >= MOST_LATE;
            if left.is_zero() && (!again || late) {
                return Ok(records);
            }
            if !again && self.sources.sleep(left) {
                return Ok(records);
            }
        }
    }

    /// Reads from all partitions in turn. Also returns whether there may be more at once.
    fn fetch(&mut self, member: &Arc<Member>) -> Result<(ShareRecords, bool)> {
        let Self { config, sources, last, .. } = self;
        let (max_poll_records, bytes) = (config.max_poll_records, config.fetch_max_bytes as usize);
        let limits = ShareLimits { records: max_poll_records, bytes };
        let mut records = ShareRecords::default();
        let (_, again) = sources.look(member, limits, |part, taken| {
            let batch = ShareBatch::of(member, part, taken, config.acks, config.implicit);
            let Some(batch) = batch else { return Ok(0) };
            match batch.start() {
                Ok(()) => {}
                Err(error) => {
                    batch.unreserve();
                    // Its lock has ended meanwhile.
                    let is_late = matches!(error, Error::InvalidRecordState { .. });
                    return if is_late { Ok(0) } else { Err(error) };
                }
            }
            let batch = Arc::new(batch);
            if config.implicit {
                last.push(Arc::clone(&batch));
            }
            let count = batch.len();
            records.push(batch);
            Ok(count)
        })?;
        Ok((records, again))
    }
}
