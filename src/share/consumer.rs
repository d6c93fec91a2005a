use std::sync::Arc;
use std::time::Duration;

use super::batch::ShareBatch;
use super::member::Member;
use super::record::ShareRecords;
use crate::config::ShareConsumerConfig;
use crate::consumer::WakeupHandle;
use crate::engine::{EngineHandle, Event, ShareGroup, ShareLimits, SharePart};
use crate::error::{Error, Result};
use crate::log::Wake;
use crate::types::check_topic_name;

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
    topics: Vec<String>,
    parts: Vec<Source>,
    /// The index in `parts` where the next fetch begins.
    next: usize,
    event: Arc<Event>,
    wakeup: WakeupHandle,
    /// In implicit mode: what the last poll returned.
    last: Vec<Arc<ShareBatch>>,
}

#[derive(Debug)]
struct Source {
    part: Arc<SharePart>,
    /// The log end beyond which there may be more to read, if all was read.
    waits_at: Option<i64>,
    /// Whether the log knows the event.
    sleeps: bool,
}

impl ShareConsumer {
    pub(crate) fn new(
        engine: EngineHandle,
        group: &str,
        config: ShareConsumerConfig,
    ) -> Result<Self> {
        config.validate()?;
        let group = engine.share_group(group)?;
        let event = Arc::default();
        Ok(Self {
            engine,
            group,
            config,
            member: None,
            topics: Vec::new(),
            parts: Vec::new(),
            next: 0,
            wakeup: WakeupHandle::new(Arc::clone(&event)),
            event,
            last: Vec::new(),
        })
    }

    /// Joins the group and subscribes to these topics, in place of any earlier subscription. A topic may not exist yet.
    ///
    /// # Errors
    /// `InvalidName` if a topic name is not allowed. `InvalidConfig` if one of the topics is the group's topic for dead
    /// letters. `UnknownGroup` if the group was deleted meanwhile.
    pub fn subscribe<T: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let mut names = Vec::new();
        for topic in topics {
            let name = topic.as_ref();
            check_topic_name(name)
                .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
            names.push(name.to_owned());
        }
        names.sort();
        names.dedup();
        match &self.member {
            Some(member) => member.read(names.clone())?,
            None => self.member = Some(Member::join(&self.engine, &self.group, names.clone())?),
        }
        self.topics = names;
        self.forget_parts(|_| false);
        self.follow_topics()
    }

    /// Returns records as soon as there are some, or none after `timeout`.
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
        let result = self.poll_until(&member, deadline);
        self.group.signals().remove(&self.event);
        result
    }

    /// Accepts what the last poll returned and nothing was said about. Only in implicit mode; otherwise it does nothing.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`](super::ShareRecord::accept).
    pub fn commit(&mut self) -> Result<()> {
        let mut failed = Ok(());
        for batch in std::mem::take(&mut self.last) {
            failed = failed.and(batch.accept_rest());
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

    fn poll_until(&mut self, member: &Arc<Member>, deadline: Duration) -> Result<ShareRecords> {
        loop {
            self.wakeup.take()?;
            self.engine.check_open()?;
            self.follow_topics()?;
            // Before the look, so that what happens after it wakes.
            self.group.signals().add(&self.event);
            let (records, again) = self.fetch(member)?;
            if !records.is_empty() {
                return Ok(records);
            }
            let left = deadline.saturating_sub(self.engine.clock().monotonic());
            if left.is_zero() && !again {
                return Ok(records);
            }
            if !again && self.sleep(left) {
                return Ok(records);
            }
        }
    }

    /// Sleeps until there may be a record. Returns true if all of `left` has passed.
    fn sleep(&mut self, left: Duration) -> bool {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        let mut wait = left;
        for part in &mut self.parts {
            if let Some(position) = part.waits_at {
                if !part.part.log().sleep_on(position, &sleeper) {
                    return false;
                }
                part.sleeps = true;
            }
            if let Some(deadline) = self.engine.share_deadline(&part.part) {
                wait = wait.min(deadline.max(Duration::from_millis(1)));
            }
        }
        let woken = self.event.wait(wait);
        !woken && wait == left
    }

    /// Reads from all partitions in turn. Also returns whether there may be more at once.
    fn fetch(&mut self, member: &Arc<Member>) -> Result<(ShareRecords, bool)> {
        let mut records = ShareRecords::default();
        let mut again = false;
        let count = self.parts.len();
        let mut bytes = self.config.fetch_max_bytes as usize;
        for step in 0..count {
            let at = self.next.saturating_add(step).checked_rem(count).unwrap_or(0);
            let left = (self.config.max_poll_records as usize).saturating_sub(records.len());
            if left == 0 || bytes == 0 {
                break;
            }
            let limits = ShareLimits { records: left as u32, bytes };
            match self.fetch_part(at, member, limits) {
                Ok((Some(batch), used)) => {
                    bytes = bytes.saturating_sub(used);
                    if records.is_empty() {
                        self.next = at.saturating_add(1);
                    }
                    if self.config.implicit {
                        self.last.push(Arc::clone(&batch));
                    }
                    records.push(batch);
                }
                Ok((None, used)) => again |= used > 0,
                // The topic was deleted. The next look finds that out.
                Err(Error::UnknownTopic { .. }) => {}
                Err(_) if !records.is_empty() => break,
                Err(error) => {
                    self.next = at.saturating_add(1);
                    return Err(error);
                }
            }
        }
        Ok((records, again))
    }

    /// Reads from one partition. Also returns how many bytes were read.
    fn fetch_part(
        &mut self,
        at: usize,
        member: &Arc<Member>,
        limits: ShareLimits,
    ) -> Result<(Option<Arc<ShareBatch>>, usize)> {
        let Some(held) = self.parts.get_mut(at) else { return Ok((None, 0)) };
        let taken =
            self.engine.share_fetch(&self.group, &held.part, member.number, limits, &self.event)?;
        held.waits_at = taken.waits_at;
        let read = if taken.has_read { taken.fetched.bytes.max(1) } else { 0 };
        let (acks, implicit) = (self.config.acks, self.config.implicit);
        let Some(batch) = ShareBatch::of(member, &held.part, taken, acks, implicit) else {
            return Ok((None, read));
        };
        match batch.start() {
            Ok(()) => Ok((Some(Arc::new(batch)), read)),
            // Its lock has ended meanwhile.
            Err(Error::InvalidRecordState { .. }) => {
                batch.unreserve();
                Ok((None, read))
            }
            Err(error) => {
                batch.unreserve();
                Err(error)
            }
        }
    }

    /// Looks for the partitions of the topics.
    fn follow_topics(&mut self) -> Result<()> {
        let mut logs = Vec::new();
        for name in &self.topics {
            if let Ok(topic) = self.engine.registry.topic(name) {
                logs.extend(topic.logs.iter().cloned());
            }
        }
        let same = logs.len() == self.parts.len()
            && logs.iter().zip(&self.parts).all(|(log, part)| Arc::ptr_eq(log, part.part.log()));
        if same {
            return Ok(());
        }
        self.forget_parts(|part| logs.iter().any(|log| Arc::ptr_eq(log, part.part.log())));
        let mut parts = Vec::with_capacity(logs.len());
        for log in &logs {
            let known = self.parts.iter().position(|part| Arc::ptr_eq(log, part.part.log()));
            let part = match known {
                Some(at) => self.parts.swap_remove(at),
                None => match self.engine.share_part(&self.group, log) {
                    Ok(part) => Source { part, waits_at: None, sleeps: false },
                    // It was deleted just now.
                    Err(Error::UnknownTopic { .. } | Error::InconsistentTopicId { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            parts.push(part);
        }
        self.parts = parts;
        Ok(())
    }

    /// Forgets partitions, except those that `keep` says. Their logs would keep the event.
    fn forget_parts(&mut self, keep: impl Fn(&Source) -> bool) {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        self.parts.retain(|part| {
            let keeps = keep(part);
            if !keeps && part.sleeps {
                part.part.log().wake_no_more(&sleeper);
            }
            keeps
        });
    }
}

impl Drop for ShareConsumer {
    fn drop(&mut self) {
        self.group.signals().remove(&self.event);
        self.forget_parts(|_| false);
    }
}
