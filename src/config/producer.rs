use std::time::Duration;

use crate::error::{Error, Result};

/// What must have happened before the engine acknowledges a record.
///
/// ```
/// use grouplog::Acks;
/// assert_eq!(Acks::default(), Acks::Synced);
/// assert_eq!("all".parse::<Acks>()?, Acks::Synced);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Acks {
    /// The record survives a killed process. Power loss may take back the newest records.
    Written,
    /// The record survives power loss.
    #[default]
    Synced,
}

impl std::str::FromStr for Acks {
    type Err = Error;

    /// Parses `written` or `synced`, or Kafka's `0`, `1` and `all` (`-1`).
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "written" | "0" | "1" => Ok(Self::Written),
            "synced" | "all" | "-1" => Ok(Self::Synced),
            _ => Err(Error::InvalidConfig {
                key: "acks",
                value: text.to_owned(),
                expected: "written or synced",
            }),
        }
    }
}

/// The settings of a producer.
///
/// ```
/// use grouplog::{Acks, Broker, ProducerConfig, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("metrics", TopicConfig::new())?;
/// let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written))?;
/// assert_eq!(producer.send(Record::to("metrics").value("cpu=3"))?.metadata().offset(), 0);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ProducerConfig {
    pub(crate) acks: Acks,
    pub(crate) max_block: Duration,
    pub(crate) transactional_id: Option<String>,
    pub(crate) transaction_max_bytes: u64,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::default(),
            max_block: Duration::from_mins(1),
            transactional_id: None,
            transaction_max_bytes: 16 << 20,
        }
    }
}

impl ProducerConfig {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets Kafka's `acks`: the level that `Delivery::wait` and `flush` wait for. Default
    /// [`Acks::Synced`].
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets Kafka's `max.block.ms`: how long `send` may wait for space before it fails with
    /// [`Error::Timeout`]. Default 60 s. It also limits the wait for room in the disk budget
    /// ([`DiskBudgetPolicy::Block`](crate::DiskBudgetPolicy::Block)), which ends with
    /// [`Error::DiskBudget`].
    ///
    /// `send` waits only if time can help. It returns any other failure at once, such as a folder
    /// that was removed.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.max_block = time;
        self
    }

    /// Sets Kafka's `transactional.id`: the name of this producer, which the folder remembers. 1 to 249 bytes without
    /// control characters. Default none.
    ///
    /// The newest producer of a name owns it. Each call of an older one fails with [`Error::ProducerFenced`]. So a
    /// part of a program that was replaced, but does not know it yet, can do no harm. The name also keeps the last
    /// sequence of [`Producer::send_sequenced`](crate::Producer::send_sequenced). Transactions need no name.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.transactional_id = Some(id.into());
        self
    }

    /// Sets `transaction.max.bytes`: how many bytes the records of one transaction may take. Default 16 MiB. A
    /// transaction is one frame of the journal, so it takes at most a quarter of `journal.max.bytes` as well, with its
    /// offsets and accepted jobs. Several records leave a sixteenth of that for them. At least 1.
    pub fn transaction_max_bytes(mut self, bytes: u64) -> Self {
        self.transaction_max_bytes = bytes;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.transaction_max_bytes == 0 {
            return Err(Error::InvalidConfig {
                key: "transaction.max.bytes",
                value: self.transaction_max_bytes.to_string(),
                expected: "at least 1",
            });
        }
        Ok(())
    }
}
