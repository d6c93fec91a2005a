//! Positions in a partition, and the metadata committed with them.

use crate::types::{Timestamp, TopicId};

/// The position of a consumer in a partition.
///
/// It holds the next offset to read. If known, it also holds the leader epoch of the record before that
/// offset, and the id of the topic. Epoch and id make a position safe to store outside of the engine:
///
/// * After power loss another record may have the offset of one that was read. The epoch tells the two apart
///   (KIP-320).
/// * A topic that was deleted and created again under its old name begins at offset 0 again, and may have the
///   same epochs. The id tells the two topics apart (KIP-516).
///
/// [`Consumer::seek`](super::Consumer::seek) and
/// [`Consumer::commit_offsets`](super::Consumer::commit_offsets) check both. Every position that the engine
/// returns has the id. A program that stores positions should store all three parts. A position without id
/// counts as one of the topic that the consumer reads now under that name. If that topic was created again,
/// reading may skip records.
///
/// ```
/// use grouplog::{Position, TopicId};
///
/// let position = Position::new(42).with_leader_epoch(3);
/// assert_eq!((position.offset(), position.leader_epoch()), (42, Some(3)));
/// assert_eq!(Position::from(42), Position::new(42));
///
/// let id: TopicId = "AAAAAAAAAAAAAAAAAAAAAQ".parse().unwrap(); // from the program's store
/// assert_eq!(position.topic_id(), None);
/// assert_eq!(position.with_topic_id(id).topic_id(), Some(id));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct Position {
    offset: i64,
    leader_epoch: Option<i32>,
    topic_id: Option<TopicId>,
}

impl Position {
    /// Creates a position before the record at `offset`. Calls that use a negative offset refuse it.
    pub const fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, topic_id: None }
    }

    /// Sets the leader epoch of the record before the offset.
    pub const fn with_leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// Sets the id of the topic that the offset belongs to.
    pub const fn with_topic_id(mut self, id: TopicId) -> Self {
        self.topic_id = Some(id);
        self
    }

    /// Returns the next offset to read.
    pub const fn offset(self) -> i64 {
        self.offset
    }

    /// Returns the leader epoch of the record before the offset, if it is known.
    pub const fn leader_epoch(self) -> Option<i32> {
        self.leader_epoch
    }

    /// Returns the id of the topic that the offset belongs to, if it is known.
    pub const fn topic_id(self) -> Option<TopicId> {
        self.topic_id
    }

    pub(super) const fn of(offset: i64, leader_epoch: Option<i32>, topic_id: TopicId) -> Self {
        Self { offset, leader_epoch, topic_id: Some(topic_id) }
    }
}

impl From<i64> for Position {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

impl From<OffsetAndMetadata> for Position {
    fn from(committed: OffsetAndMetadata) -> Self {
        committed.position
    }
}

/// An offset to commit or already committed, with a text that the program stores beside it.
///
/// ```
/// use grouplog::{Broker, OffsetAndMetadata, TopicConfig, TopicPartition};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let partition = TopicPartition::new("orders", 0);
/// let mut consumer = broker.consumer("billing")?;
/// consumer.assign([partition.clone()])?;
/// let done = OffsetAndMetadata::new(0).with_metadata("by the night run");
/// consumer.commit_offsets([(partition.clone(), done)])?;
/// let committed = consumer.committed(&partition)?.unwrap();
/// assert_eq!((committed.offset(), committed.metadata()), (0, "by the night run"));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use]
pub struct OffsetAndMetadata {
    position: Position,
    metadata: String,
}

impl OffsetAndMetadata {
    /// Creates an offset without metadata. `offset` is the next one to read.
    pub const fn new(offset: i64) -> Self {
        Self { position: Position::new(offset), metadata: String::new() }
    }

    /// Sets the leader epoch of the record before the offset. Without it, a commit takes that record's epoch
    /// from the log.
    pub const fn with_leader_epoch(mut self, epoch: i32) -> Self {
        self.position = self.position.with_leader_epoch(epoch);
        self
    }

    /// Sets the id of the topic that the offset belongs to.
    ///
    /// With it, a commit is refused if the topic was deleted and created again. [`Position`] says what an
    /// offset without id means.
    pub const fn with_topic_id(mut self, id: TopicId) -> Self {
        self.position = self.position.with_topic_id(id);
        self
    }

    /// Sets the text to store beside the offset, at most 4096 bytes (Kafka's `offset.metadata.max.bytes`).
    pub fn with_metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Returns the next offset to read.
    pub const fn offset(&self) -> i64 {
        self.position.offset()
    }

    /// Returns the leader epoch of the record before the offset, if it is known.
    pub const fn leader_epoch(&self) -> Option<i32> {
        self.position.leader_epoch()
    }

    /// Returns the id of the topic that the offset belongs to, if it is known.
    pub const fn topic_id(&self) -> Option<TopicId> {
        self.position.topic_id()
    }

    /// Returns the text beside the offset; empty if there is none.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

impl From<Position> for OffsetAndMetadata {
    fn from(position: Position) -> Self {
        Self { position, metadata: String::new() }
    }
}

/// A record found by its timestamp, from [`Consumer::offsets_for_times`](super::Consumer::offsets_for_times).
///
/// ```
/// use grouplog::{Broker, Record, Timestamp, TopicConfig, TopicPartition};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let record = Record::to("orders").timestamp(Timestamp::from_millis(2_000));
/// broker.producer()?.send(record)?;
/// let partition = TopicPartition::new("orders", 0);
/// let consumer = broker.consumer("billing")?;
/// let found = consumer.offsets_for_times([(partition.clone(), Timestamp::from_millis(1_000))])?;
/// let found = found[&partition].unwrap();
/// assert_eq!((found.offset, found.timestamp.as_millis()), (0, 2_000));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The offset of the record.
    pub offset: i64,
    /// The timestamp of the record.
    pub timestamp: Timestamp,
    /// The leader epoch of the record, if it is known.
    pub leader_epoch: Option<i32>,
    /// The id of the topic. `Position::new(offset).with_topic_id(topic_id)` is the position before the
    /// record.
    pub topic_id: TopicId,
}
