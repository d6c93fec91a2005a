use std::time::Duration;

use super::in_range;
use crate::error::{Error, Result};

/// Where a partition is read from when its group has no committed offset, or when the position lies
/// outside the log: Kafka's `auto.offset.reset`.
///
/// ```
/// assert_eq!(grouplog::OffsetReset::default(), grouplog::OffsetReset::Earliest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OffsetReset {
    /// From the log start offset. The default, unlike Kafka's `latest`: a new group of an embedded
    /// queue must not miss what was sent before it was born.
    #[default]
    Earliest,
    /// From the log end offset.
    Latest,
    /// Not at all: `poll` fails with [`Error::NoOffsetForPartition`] or
    /// [`Error::OffsetOutOfRange`].
    None,
}

impl std::str::FromStr for OffsetReset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            "none" => Ok(Self::None),
            _ => Err(Error::InvalidConfig {
                key: "auto.offset.reset",
                value: text.to_owned(),
                expected: "earliest, latest or none",
            }),
        }
    }
}

/// The settings of a consumer.
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, OffsetReset, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut tail = broker.consumer_with(
///     ConsumerConfig::new().group("tail").auto_offset_reset(OffsetReset::Latest),
/// )?;
/// tail.subscribe(["orders"])?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ConsumerConfig {
    pub(crate) group: Option<String>,
    pub(crate) client_id: String,
    pub(crate) auto_offset_reset: OffsetReset,
    pub(crate) enable_auto_commit: bool,
    pub(crate) auto_commit_interval: Duration,
    pub(crate) max_poll_records: usize,
    pub(crate) max_poll_interval: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            client_id: "consumer".to_owned(),
            auto_offset_reset: OffsetReset::default(),
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            max_poll_records: 500,
            max_poll_interval: Duration::from_mins(5),
        }
    }
}

impl ConsumerConfig {
    /// The defaults, without a group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kafka's `group.id`. Without one, only `assign` can be used and nothing can be committed.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Kafka's `client.id`: shown in descriptions, and the first part of the member id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Kafka's `auto.offset.reset`.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.auto_offset_reset = reset;
        self
    }

    /// Kafka's `enable.auto.commit`: `poll` commits what earlier polls returned, every
    /// `auto.commit.interval.ms`; so do giving up a partition and `close`.
    pub fn enable_auto_commit(mut self, enable: bool) -> Self {
        self.enable_auto_commit = enable;
        self
    }

    /// Kafka's `auto.commit.interval.ms`.
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.auto_commit_interval = interval;
        self
    }

    /// Kafka's `max.poll.records`: how many records one `poll` returns at most.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Kafka's `max.poll.interval.ms`: how long a member may stay away from `poll` before its
    /// partitions are given to others.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        in_range("max.poll.records", self.max_poll_records, 1.., "1 or more")?;
        let interval = self.max_poll_interval.as_millis();
        in_range("max.poll.interval.ms", interval, 1.., "1 or more milliseconds")
    }
}
