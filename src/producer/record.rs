use std::time::Duration;

use super::deliver::Deliver;
use crate::dedup::check_id;
use crate::engine::FrameRecord;
use crate::error::{Error, Result};
use crate::log::RecordData;
use crate::record::Header;
use crate::types::Timestamp;

/// A record to send. It borrows everything. `send` copies it once, into the open batch.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(3))?;
/// let sent = broker.producer()?.send(
///     Record::to("orders").key("alice").value("3 apples").header("source", b"shop").partition(2),
/// )?;
/// assert_eq!(sent.metadata().partition(), 2);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Record<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<u32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) id: Option<&'a [u8]>,
    /// Becomes a header when the record is sent.
    pub(super) deliver: Option<Deliver>,
}

impl<'a> Record<'a> {
    /// Creates a record for `topic` without key, headers or value. A record without value is a
    /// tombstone.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
            id: None,
            deliver: None,
        }
    }

    /// Sets the key. Records with equal keys go to one partition, the one that Kafka would choose.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header. Names may repeat, and their order is kept.
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a V) -> Self {
        self.headers.push(Header { name, value: Some(value.as_ref()) });
        self
    }

    /// Adds a header without a value.
    pub fn null_header(mut self, name: &'a str) -> Self {
        self.headers.push(Header { name, value: None });
        self
    }

    /// Sets the partition, instead of one chosen by the key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, instead of the time of `send`. Must not be negative.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Sets the idempotency id, 1 to 128 bytes. A record that is sent with the id of an earlier one of its topic,
    /// less than `dedup.window.ms` ago, is not stored: the sender gets the place of the earlier record, and
    /// [`RecordMetadata::is_duplicate`](crate::RecordMetadata::is_duplicate) says so. A restart forgets no id.
    ///
    /// The id counts in all partitions of the topic, and its window begins with the first record. It is not stored
    /// with the record. The topic remembers up to `dedup.max.ids` ids; beyond, it forgets the oldest.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("payments", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// let pay = || Record::to("payments").value("10").id("request-7");
    /// assert!(!producer.send(pay())?.metadata().is_duplicate());
    /// let again = producer.send(pay())?;
    /// assert!(again.metadata().is_duplicate());
    /// assert_eq!(again.metadata().offset(), 0);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn id<I: AsRef<[u8]> + ?Sized>(mut self, id: &'a I) -> Self {
        self.id = Some(id.as_ref());
        self
    }

    /// Lets share groups deliver the record at this time, and not before. Without it they deliver it at once. Consumers
    /// and their groups see it at once in any case. Must not be negative.
    ///
    /// The record gets a header for it, before its others: `__deliver.at` with the milliseconds since 1970 as decimal
    /// text. A later call replaces an earlier one.
    ///
    /// ```
    /// use grouplog::{Broker, Record, Timestamp, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("emails", TopicConfig::new())?;
    /// let at = Timestamp::from_millis(4_000_000_000_000);
    /// broker.producer()?.send(Record::to("emails").value("2096!").deliver_at(at))?;
    /// let mut member = broker.share_consumer("mailers")?;
    /// member.subscribe(["emails"])?;
    /// assert!(member.poll(Duration::ZERO)?.is_empty());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn deliver_at(mut self, at: Timestamp) -> Self {
        self.deliver = Some(Deliver::At(at));
        self
    }

    /// As [`Record::deliver_at`], counted from the time of the send; within a transaction that is
    /// [`Transaction::send`](crate::Transaction::send), not the commit. A record that is sent again and again, as a
    /// clone, gets a time from each send.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("reminders", TopicConfig::new())?;
    /// let tomorrow = Duration::from_secs(24 * 3600);
    /// broker.producer()?.send(Record::to("reminders").value("call").deliver_after(tomorrow))?;
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn deliver_after(mut self, delay: Duration) -> Self {
        self.deliver = Some(Deliver::After(delay));
        self
    }

    /// Creates a record for one partition of a topic.
    pub(crate) fn of_data(topic: &'a str, partition: u32, data: &RecordData<'a>) -> Self {
        let RecordData { key, value, headers, timestamp, id } = *data;
        let headers = headers.to_vec();
        let (partition, deliver) = (Some(partition), None);
        Self { topic, partition, key, value, headers, timestamp, id, deliver }
    }

    pub(crate) fn topic_name(&self) -> &str {
        self.topic
    }

    /// Returns whether any partition may get the record.
    pub(crate) fn is_spread(&self) -> bool {
        self.partition.is_none() && self.key.is_none()
    }

    /// Rejects records that Kafka's producer rejects, and those that fit into no batch. `bound` is
    /// an upper bound for the encoded size in bytes, as [`RecordData::bound`] returns it.
    #[inline]
    pub(super) fn check(&self, bound: usize, max_message_bytes: usize) -> Result<()> {
        if self.timestamp.is_some_and(|timestamp| timestamp.as_millis() < 0) {
            return Err(Error::Misuse("a record's timestamp must not be negative"));
        }
        if self.headers.len() > MAX_HEADERS {
            return Err(Error::LimitExceeded {
                what: "headers of one record",
                found: self.headers.len() as u64,
                max: MAX_HEADERS as u64,
            });
        }
        if let Some(id) = self.id {
            check_id(id)?;
        }
        if bound > max_message_bytes.saturating_sub(crate::record::HEADER_BYTES) {
            let size = crate::record::HEADER_BYTES.saturating_add(self.data().bytes_alone());
            if size > max_message_bytes {
                return Err(Error::RecordTooLarge { size, max: max_message_bytes });
            }
        }
        Ok(())
    }
}

impl FrameRecord for Record<'_> {
    #[inline]
    fn data(&self) -> RecordData<'_> {
        RecordData {
            key: self.key,
            value: self.value,
            headers: &self.headers,
            timestamp: self.timestamp,
            id: self.id,
        }
    }
}

impl Record<'_> {
    /// Rejects a timestamp that lies farther from `now` than the topic allows, in milliseconds before and after
    /// it.
    pub(super) fn check_timestamp(&self, limits: (u64, u64), now: Timestamp) -> Result<()> {
        let Some(timestamp) = self.timestamp else { return Ok(()) };
        let after = i128::from(timestamp.as_millis()).saturating_sub(i128::from(now.as_millis()));
        let (before_max, after_max) = limits;
        if after > i128::from(after_max) || after < i128::from(before_max).saturating_neg() {
            return Err(Error::InvalidTimestamp { timestamp, now });
        }
        Ok(())
    }
}

/// The maximum number of headers of a record.
const MAX_HEADERS: usize = 1024;
