use std::fmt;

use super::Position;
use crate::log::{Chunk, Fetched, FetchedRecord, Log};
use crate::record::Headers;
use crate::types::{Timestamp, TopicId, TopicPartition};

/// The records that one `poll` returned.
///
/// It owns the memory that its records point into. The consumer stays free to commit and seek while they are
/// read.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").key("alice").value("3 apples"))?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// let records = consumer.poll(Duration::from_secs(1))?;
/// assert_eq!(records.len(), 1);
/// for record in &records {
///     assert_eq!(record.value(), Some(&b"3 apples"[..]));
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Default)]
pub struct ConsumerRecords {
    pub(super) fetched: Fetched,
    /// The partitions that `Chunk::partition` is an index of.
    pub(super) partitions: Vec<Origin>,
}

/// The partition and topic that records come from.
#[derive(Debug)]
pub(super) struct Origin {
    partition: TopicPartition,
    topic_id: TopicId,
}

impl Origin {
    pub(super) fn of(log: &Log) -> Self {
        Self { partition: log.partition().clone(), topic_id: log.topic_id() }
    }
}

impl ConsumerRecords {
    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.fetched.records.len()
    }

    /// Returns whether there are no records, because `timeout` passed.
    pub fn is_empty(&self) -> bool {
        self.fetched.records.is_empty()
    }

    /// Returns the records partition by partition, each in the order of its offsets.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self, 0, self.fetched.chunks.len())
    }

    /// Returns the partitions that the records come from.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = &TopicPartition> {
        self.partitions.iter().map(|origin| &origin.partition)
    }

    /// Returns the records of one partition in the order of their offsets; none if it has none here.
    pub fn records(&self, partition: &TopicPartition) -> Iter<'_> {
        let chunks = &self.fetched.chunks;
        let number = self.partitions.iter().position(|known| known.partition == *partition);
        // Chunks of one partition are adjacent, in the order of `partitions`.
        let first = |number| chunks.partition_point(|chunk| chunk.partition < number);
        match number {
            Some(number) => Iter::new(self, first(number), first(number.saturating_add(1))),
            None => Iter::new(self, 0, 0),
        }
    }
}

impl fmt::Debug for ConsumerRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = ConsumerRecord<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// An iterator over records, from [`ConsumerRecords::iter`].
///
/// ```
/// let records = grouplog::ConsumerRecords::default();
/// assert_eq!(records.iter().count(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    records: &'a ConsumerRecords,
    chunk: Option<&'a Chunk>,
    bytes: &'a [u8],
    rest: std::slice::Iter<'a, FetchedRecord>,
    next_chunk: usize,
    end_chunk: usize,
    left: usize,
}

impl<'a> Iter<'a> {
    /// Creates an iterator over the records of the chunks `first..end`.
    fn new(records: &'a ConsumerRecords, first: usize, end: usize) -> Self {
        let left = start_of(records, end).saturating_sub(start_of(records, first));
        let rest = [].iter();
        Iter { records, chunk: None, bytes: &[], rest, next_chunk: first, end_chunk: end, left }
    }

    fn enter_chunk(&mut self) -> bool {
        if self.next_chunk >= self.end_chunk {
            return false;
        }
        let start = start_of(self.records, self.next_chunk);
        let fetched = &self.records.fetched;
        let Some(chunk) = fetched.chunks.get(self.next_chunk) else { return false };
        self.next_chunk = self.next_chunk.saturating_add(1);
        self.bytes = chunk.source.bytes();
        self.rest = fetched.records.get(start..chunk.end).unwrap_or_default().iter();
        self.chunk = Some(chunk);
        true
    }
}

/// Returns the index of a chunk's first record among all fetched records.
fn start_of(records: &ConsumerRecords, chunk: usize) -> usize {
    let before = chunk.checked_sub(1).and_then(|before| records.fetched.chunks.get(before));
    before.map_or(0, |before| before.end)
}

impl<'a> Iterator for Iter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(raw) = self.rest.next() {
                self.left = self.left.saturating_sub(1);
                let chunk = self.chunk?;
                let origin = self.records.partitions.get(chunk.partition)?;
                return Some(ConsumerRecord { origin, chunk, raw, bytes: self.bytes });
            }
            if !self.enter_chunk() {
                return None;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// A record that a consumer read. Its key, value and headers borrow from [`ConsumerRecords`].
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let record = Record::to("orders").key("alice").header("source", "shop");
/// broker.producer()?.send(record)?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.subscribe(["orders"])?;
/// let records = consumer.poll(Duration::from_secs(1))?;
/// let record = records.iter().next().unwrap();
/// assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 0, 0));
/// assert_eq!(record.value(), None); // a tombstone
/// let header = record.headers().next().unwrap();
/// assert_eq!((header.name(), header.value()), (Ok("source"), Some(&b"shop"[..])));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct ConsumerRecord<'a> {
    origin: &'a Origin,
    chunk: &'a Chunk,
    raw: &'a FetchedRecord,
    bytes: &'a [u8],
}

/// Shows keys, values and headers as text, with escapes for what is not ASCII.
impl fmt::Debug for ConsumerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let text = |bytes: Option<&[u8]>| bytes.map(name);
        let headers: Vec<_> = self
            .headers()
            .map(|header| (name(header.name_bytes()), text(header.value())))
            .collect();
        f.debug_struct("ConsumerRecord")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("leader_epoch", &self.leader_epoch())
            .field("timestamp", &self.timestamp())
            .field("key", &text(self.key()))
            .field("value", &text(self.value()))
            .field("headers", &headers)
            .finish()
    }
}

impl<'a> ConsumerRecord<'a> {
    /// Returns the name of the topic.
    pub fn topic(&self) -> &'a str {
        self.origin.partition.topic()
    }

    /// Returns the number of the partition.
    pub fn partition(&self) -> u32 {
        self.origin.partition.partition()
    }

    /// Returns topic and partition together.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.origin.partition
    }

    /// Returns the id of the topic. A topic created later under the same name has another id.
    pub fn topic_id(&self) -> TopicId {
        self.origin.topic_id
    }

    /// Returns the offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.chunk.base_offset.saturating_add(i64::from(self.raw.offset_delta))
    }

    /// Returns the epoch of the writer that appended the record.
    ///
    /// A program that stores positions outside of the engine stores the epoch with the offset.
    /// [`ConsumerRecord::next_position`] has both, and the topic id.
    pub fn leader_epoch(&self) -> i32 {
        self.chunk.epoch
    }

    /// Returns the position behind this record.
    ///
    /// When the record is done, a program commits this position or stores it elsewhere.
    /// [`Consumer::seek`](super::Consumer::seek) continues at it.
    pub fn next_position(&self) -> Position {
        Position::of(self.offset().saturating_add(1), Some(self.leader_epoch()), self.topic_id())
    }

    /// Returns whether the record is of this partition.
    pub(super) fn is_of(&self, partition: &TopicPartition) -> bool {
        self.origin.partition == *partition
    }

    /// Returns the timestamp.
    #[inline]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(self.chunk.timestamp_of(self.raw))
    }

    /// Returns the key, or `None` if the record has none.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key.get(self.bytes)
    }

    /// Returns the value, or `None` for a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value.get(self.bytes)
    }

    /// Returns the headers in their order. Names may repeat.
    pub fn headers(&self) -> Headers<'a> {
        self.raw.headers(self.bytes)
    }
}
