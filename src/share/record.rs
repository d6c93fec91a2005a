use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::batch::ShareBatch;
use crate::engine::{EngineHandle, Said, SharePart};
use crate::error::Result;
use crate::group::share::{MemberNumber, Span};
use crate::record::Headers;
use crate::types::{Timestamp, TopicPartition};

/// The records that one poll of a [`ShareConsumer`](super::ShareConsumer) returned. Take them out one by one, or accept
/// them all at once.
///
/// Dropping it releases the records that were not taken out.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send_all(["a", "b"].map(|to| Record::to("emails").value(to)))?;
/// let mut member = broker.share_consumer("mailers")?;
/// member.subscribe(["emails"])?;
/// let jobs = member.poll(Duration::from_secs(1))?;
/// assert_eq!(jobs.len(), 2);
/// jobs.accept_all()?;
/// assert_eq!(broker.admin().describe_share_group("mailers")?.lag(), 0);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Default)]
#[must_use = "records that are dropped are released"]
pub struct ShareRecords {
    batches: Vec<Arc<ShareBatch>>,
    /// How many batches were taken out whole: `accept_all` may still accept what is in them.
    passed: usize,
    /// How many records of the next batch were taken out.
    taken: usize,
}

impl ShareRecords {
    pub(super) fn push(&mut self, batch: Arc<ShareBatch>) {
        self.batches.push(batch);
    }

    /// Returns the number of records that are left.
    pub fn len(&self) -> usize {
        let left = self.batches.iter().skip(self.passed);
        let all = left.map(|batch| batch.len()).fold(0, usize::saturating_add);
        all.saturating_sub(self.taken)
    }

    /// Returns whether no record is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Accepts all records that are left, and those that were taken out and about which nothing was said. There is one
    /// frame for each partition.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`]. The records of the other partitions are accepted.
    pub fn accept_all(mut self) -> Result<()> {
        let mut failed = Ok(());
        for batch in std::mem::take(&mut self.batches) {
            failed = failed.and(batch.accept_rest());
        }
        failed
    }
}

impl Iterator for ShareRecords {
    type Item = ShareRecord;

    fn next(&mut self) -> Option<ShareRecord> {
        loop {
            let batch = self.batches.get(self.passed)?;
            if self.taken < batch.len() {
                let record = ShareRecord { batch: Arc::clone(batch), at: self.taken, ended: false };
                self.taken = self.taken.saturating_add(1);
                return Some(record);
            }
            self.passed = self.passed.saturating_add(1);
            self.taken = 0;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for ShareRecords {}

impl Drop for ShareRecords {
    fn drop(&mut self) {
        let mut first = self.taken;
        for batch in self.batches.drain(..).skip(self.passed) {
            if !batch.implicit {
                batch.release_rest(first);
            }
            first = 0;
        }
    }
}

impl fmt::Debug for ShareRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareRecords").field("len", &self.len()).finish()
    }
}

/// A record that a share group has delivered to this member, and to no other. The program says what became of it.
///
/// It may go to any thread. A record that is dropped without a word is released: it is delivered again after the group's
/// backoff, and so is one whose lock ends first.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").value("hello"))?;
/// let mut member = broker.share_consumer("mailers")?;
/// member.subscribe(["emails"])?;
/// let job = member.poll(Duration::from_secs(1))?.next().unwrap();
/// assert_eq!((job.value(), job.delivery_count()), (Some(&b"hello"[..]), 1));
/// job.release_because("the server was down")?;
/// let again = member.poll(Duration::from_secs(1))?.next().unwrap();
/// assert_eq!((again.delivery_count(), again.last_reason()), (2, Some("the server was down")));
/// again.accept()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[must_use = "a record that is dropped is released"]
pub struct ShareRecord {
    batch: Arc<ShareBatch>,
    at: usize,
    ended: bool,
}

impl ShareRecord {
    /// Returns the name of the topic.
    pub fn topic(&self) -> &str {
        self.topic_partition().topic()
    }

    /// Returns the number of the partition.
    pub fn partition(&self) -> u32 {
        self.topic_partition().partition()
    }

    /// Returns topic and partition together.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.batch.part().log().partition()
    }

    /// Returns the offset.
    pub fn offset(&self) -> i64 {
        self.batch.offset(self.at)
    }

    /// Returns the timestamp.
    pub fn timestamp(&self) -> Timestamp {
        let millis = self.batch.get(self.at).map_or(0, |(chunk, raw, _)| chunk.timestamp_of(raw));
        Timestamp::from_millis(millis)
    }

    /// Returns the key, or `None` if the record has none.
    pub fn key(&self) -> Option<&[u8]> {
        self.batch.get(self.at).and_then(|(_, raw, bytes)| raw.key.get(bytes))
    }

    /// Returns the value, or `None` for a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.batch.get(self.at).and_then(|(_, raw, bytes)| raw.value.get(bytes))
    }

    /// Returns the headers in their order. Names may repeat.
    pub fn headers(&self) -> impl Iterator<Item = crate::record::RecordHeader<'_>> {
        self.batch
            .get(self.at)
            .into_iter()
            .flat_map(|(_, raw, bytes)| -> Headers<'_> { raw.headers(bytes) })
    }

    /// Returns which delivery of the record this is, from 1. It never falls, over restarts too.
    pub fn delivery_count(&self) -> u16 {
        self.batch.delivery(self.at)
    }

    /// Returns how the delivery before this one ended, if there was one: the words of the handler, or why it was
    /// delivered again.
    pub fn last_reason(&self) -> Option<&str> {
        self.batch.reason(self.at)
    }

    /// Accepts the record: it is done, and never delivered again. With [`Acks::Synced`](crate::Acks::Synced) this waits
    /// until that survives power loss.
    ///
    /// # Errors
    /// `InvalidRecordState` with the reason, such as that the lock has ended. Then the record is not accepted.
    /// `UnknownTopic` if the topic or the group was deleted. `DiskFull`, `Failed`, `Closed` as a commit. Whatever the
    /// error, the record is delivered again, except as `Indeterminate` says.
    pub fn accept(self) -> Result<()> {
        self.end(Said::Accept)
    }

    /// Releases the record: it is delivered again after the group's backoff, or becomes a dead letter if this was its
    /// last delivery.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`].
    pub fn release(self) -> Result<()> {
        self.end(Said::Release { delay: None, reason: None })
    }

    /// As [`ShareRecord::release`], with a reason that the next handler sees, and the dead letter if there is one. Of a
    /// long one, the first 200 bytes are kept; of the last one, the dead letter has 4,096. A partition keeps 240 different
    /// texts: name the kind of failure, and leave out what differs each time.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`].
    pub fn release_because(self, reason: impl Into<String>) -> Result<()> {
        self.end(Said::Release { delay: None, reason: Some(reason.into()) })
    }

    /// As [`ShareRecord::release`], but the record is delivered again after `delay`, whatever the group's backoff is.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`].
    pub fn release_after(self, delay: Duration) -> Result<()> {
        self.end(Said::Release { delay: Some(delay), reason: None })
    }

    /// Rejects the record: it is never delivered again, and becomes a dead letter with this reason if the group has a topic
    /// for them ([`ShareGroupConfig::dead_letter_topic`](crate::ShareGroupConfig::dead_letter_topic)). Of a long reason, the
    /// first 4,096 bytes are kept.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`], and those of an append of the dead letter.
    pub fn reject(self, reason: impl Into<String>) -> Result<()> {
        self.end(Said::Reject { reason: Some(reason.into()) })
    }

    /// Cancels the record: as [`ShareRecord::reject`], without a dead letter.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`].
    pub fn cancel(self) -> Result<()> {
        self.end(Said::Cancel)
    }

    /// Puts the record off: it is delivered again after `delay`, and this delivery does not count.
    ///
    /// # Errors
    /// As [`ShareRecord::accept`].
    pub fn snooze(self, delay: Duration) -> Result<()> {
        self.end(Said::Snooze { delay })
    }

    /// Lets the lock of the record begin anew (KIP-1222). Returns how long it lasts. Nothing is stored.
    ///
    /// # Errors
    /// `InvalidRecordState` if the lock has ended, or if the group does not let locks be renewed.
    pub fn renew(&self) -> Result<Duration> {
        self.batch.renew(self.at)
    }

    /// Returns a view of a record of which others say what became.
    pub(super) fn ended(batch: &Arc<ShareBatch>, at: usize) -> Self {
        Self { batch: Arc::clone(batch), at, ended: true }
    }

    /// Returns whether the record is of this folder.
    pub(crate) fn is_of(&self, engine: &EngineHandle) -> bool {
        Arc::ptr_eq(&self.batch.member().engine, engine)
    }

    /// Returns the share-partition, the member that has the record, its offset and its delivery count.
    pub(crate) fn place(&self) -> (&Arc<SharePart>, MemberNumber, Span, u16) {
        let span = Span { first: self.offset(), last: self.offset() };
        (self.batch.part(), self.batch.member().number, span, self.delivery_count())
    }

    /// Returns whether nothing was said about the record, and notes that something will be.
    pub(crate) fn claim(&self) -> bool {
        self.batch.claim(self.at)
    }

    /// Leaves the record as it is: what became of it is journaled elsewhere.
    pub(crate) fn leave(mut self) {
        self.ended = true;
    }

    /// Lets a record that was claimed come again, without a wait. This delivery does not count.
    pub(crate) fn put_back(mut self) {
        self.ended = true;
        self.batch.put_back_one(self.at);
    }

    /// Releases a record that was claimed, without a wait.
    pub(crate) fn give_back(mut self) {
        self.ended = true;
        self.batch.release_one(self.at);
    }

    fn end(mut self, said: Said) -> Result<()> {
        self.ended = true;
        self.batch.say(self.at, said)
    }
}

impl Drop for ShareRecord {
    fn drop(&mut self) {
        if !self.ended && !self.batch.implicit && self.batch.claim(self.at) {
            self.batch.release_one(self.at);
        }
    }
}

impl fmt::Debug for ShareRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareRecord")
            .field("partition", self.topic_partition())
            .field("offset", &self.offset())
            .field("delivery_count", &self.delivery_count())
            .finish_non_exhaustive()
    }
}
