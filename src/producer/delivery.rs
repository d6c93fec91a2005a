use std::sync::Arc;

use crate::broker::Engine;
use crate::config::Acks;
use crate::error::Result;
use crate::log::{Log, Placed};
use crate::types::{Lsn, Timestamp};

/// A record that was sent: it has its offset and is `Written`.
///
/// Dropping it is fine: the record is on its way to the producer's ack level all the same, and
/// `flush` or `close` report if it does not get there.
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
pub struct Delivery<'p> {
    pub(super) engine: &'p Engine,
    pub(super) metadata: RecordMetadata,
    pub(super) acks: Acks,
    pub(super) lsn: Lsn,
}

impl Delivery<'_> {
    /// Where the record went; known at once.
    pub fn metadata(&self) -> &RecordMetadata {
        &self.metadata
    }

    /// Waits until the producer's ack level is reached: at once for [`Acks::Written`].
    ///
    /// # Errors
    /// [`Error::Indeterminate`](crate::Error::Indeterminate) if the sync failed.
    pub fn wait(self) -> Result<RecordMetadata> {
        if self.acks == Acks::Synced {
            self.engine.wait_synced(self.lsn)?;
        }
        Ok(self.metadata)
    }
}

/// Where a record was put.
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
#[derive(Debug, Clone)]
pub struct RecordMetadata {
    pub(super) log: Arc<Log>,
    pub(super) placed: Placed,
}

impl RecordMetadata {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.log.partition().topic()
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.log.partition().partition()
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.placed.offset
    }

    /// The timestamp that the record was stored with.
    pub fn timestamp(&self) -> Timestamp {
        self.placed.timestamp
    }
}
