use std::fmt;
use std::sync::Arc;

use crate::config::Acks;
use crate::engine::Engine;
use crate::error::Result;
use crate::log::{Log, Placed};
use crate::types::{Lsn, Timestamp, TopicId};

/// A sent record: it has its offset and is `Written`.
///
/// Dropping it is fine. The record still reaches the producer's ack level, and `flush` or `close`
/// report if it does not.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let delivery = broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// assert_eq!(delivery.metadata().offset(), 0);
/// let metadata = delivery.wait()?; // survives power loss from here on
/// assert_eq!(metadata.topic(), "orders");
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct Delivery {
    pub(super) metadata: RecordMetadata,
    pub(super) acks: Acks,
    pub(super) lsn: Lsn,
}

impl Delivery {
    /// Returns where the record went. Known at once.
    pub fn metadata(&self) -> &RecordMetadata {
        &self.metadata
    }

    /// Waits until the record has the producer's ack level. Returns at once for [`Acks::Written`].
    ///
    /// # Errors
    /// [`Error::Indeterminate`](crate::Error::Indeterminate) if the sync failed.
    pub fn wait(self) -> Result<RecordMetadata> {
        if self.acks == Acks::Synced {
            self.metadata.log.wait_synced(self.lsn)?;
        }
        Ok(self.metadata)
    }
}

/// The records of one [`Producer::send_all`](crate::Producer::send_all). All of them are `Written`.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// let sent = producer.send_all([Record::to("orders").value("a"), Record::to("orders").value("b")])?;
/// assert_eq!(sent.len(), 2);
/// assert_eq!(sent.metadata().map(|m| m.offset()).collect::<Vec<_>>(), [0, 1]);
/// sent.wait()?; // all of them survive power loss from here on
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Deliveries {
    /// The partitions, each once, ordered by number.
    pub(super) logs: Vec<Arc<Log>>,
    /// Where each record went: an index into `logs`, and the place there.
    pub(super) placed: Vec<(usize, Placed)>,
    pub(super) acks: Acks,
    pub(super) lsn: Lsn,
}

impl Deliveries {
    /// Returns the number of records sent.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Returns whether no records were sent.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Returns the delivery of the first record.
    pub(crate) fn into_first(self) -> Option<Delivery> {
        let Self { logs, placed, acks, lsn } = self;
        let (at, placed) = placed.into_iter().next()?;
        let log = logs.into_iter().nth(at)?;
        Some(Delivery { metadata: RecordMetadata { log, placed }, acks, lsn })
    }

    /// Returns where the records went, in the order in which the caller passed them.
    pub fn metadata(&self) -> impl Iterator<Item = RecordMetadata> + '_ {
        self.placed.iter().filter_map(|(at, placed)| {
            self.logs.get(*at).map(|log| RecordMetadata { log: Arc::clone(log), placed: *placed })
        })
    }

    /// As [`Deliveries::wait`], also for what has no records.
    pub(crate) fn wait_on(self, engine: &Engine) -> Result<()> {
        if self.acks == Acks::Synced { engine.wait_synced(self.lsn) } else { Ok(()) }
    }

    /// Waits until the records have the producer's ack level. Returns at once for
    /// [`Acks::Written`].
    ///
    /// # Errors
    /// [`Error::Indeterminate`](crate::Error::Indeterminate) if the sync failed.
    pub fn wait(self) -> Result<()> {
        match self.logs.first() {
            Some(log) if self.acks == Acks::Synced => log.wait_synced(self.lsn),
            _ => Ok(()),
        }
    }
}

/// Where the engine placed a record.
///
/// ```
/// use grouplog::{Broker, Record, Timestamp, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let record = Record::to("orders").value("1 pear").timestamp(Timestamp::from_millis(7));
/// let producer = broker.producer()?;
/// let sent = producer.send(record)?;
/// let metadata = sent.metadata();
/// assert_eq!((metadata.partition(), metadata.offset()), (0, 0));
/// assert_eq!(metadata.timestamp(), Timestamp::from_millis(7));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Clone)]
pub struct RecordMetadata {
    pub(super) log: Arc<Log>,
    pub(super) placed: Placed,
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMetadata")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .finish_non_exhaustive()
    }
}

impl RecordMetadata {
    /// Returns the topic.
    pub fn topic(&self) -> &str {
        self.log.partition().topic()
    }

    /// Returns the id of the topic. A topic that is created later under the same name has another
    /// id, and there the offset means another record:
    /// [`Position::with_topic_id`](crate::Position::with_topic_id).
    pub fn topic_id(&self) -> TopicId {
        self.log.topic_id()
    }

    /// Returns the partition.
    pub fn partition(&self) -> u32 {
        self.log.partition().partition()
    }

    /// Returns the offset.
    pub fn offset(&self) -> i64 {
        self.placed.offset
    }

    /// Returns whether nothing was stored, because an earlier record has the same
    /// [id](crate::Record::id). Partition and offset are those of the earlier record.
    pub fn is_duplicate(&self) -> bool {
        self.placed.duplicate
    }

    /// Returns the timestamp with which the record was stored, or -1 ms for a duplicate, whose first record is not
    /// read.
    pub fn timestamp(&self) -> Timestamp {
        self.placed.timestamp
    }
}
