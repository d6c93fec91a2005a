use super::{Acks, in_range};
use crate::error::Result;

/// The settings of a share consumer.
///
/// ```
/// use grouplog::{Acks, ShareConsumerConfig};
///
/// let config = ShareConsumerConfig::new().max_poll_records(50).acks(Acks::Synced);
/// # let _ = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConsumerConfig {
    pub(crate) max_poll_records: u32,
    pub(crate) fetch_max_bytes: u32,
    pub(crate) acks: Acks,
    pub(crate) implicit: bool,
}

impl Default for ShareConsumerConfig {
    fn default() -> Self {
        Self {
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            acks: Acks::Written,
            implicit: false,
        }
    }
}

impl ShareConsumerConfig {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many records one poll returns at most (`max.poll.records`): 1 and more, 500 by default.
    #[must_use]
    pub fn max_poll_records(mut self, records: u32) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Sets how many bytes of records one poll returns at most (`fetch.max.bytes`): 1 and more, 50 MiB by default. One
    /// record is always returned.
    #[must_use]
    pub fn fetch_max_bytes(mut self, bytes: u32) -> Self {
        self.fetch_max_bytes = bytes;
        self
    }

    /// Sets what an acknowledgement waits for. [`Acks::Written`] by default: it survives the process. With
    /// [`Acks::Synced`] it survives power loss. A lost acknowledgement means that the record is delivered again.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// Sets whether the next poll accepts what the program has said nothing about (Kafka's
    /// `share.acknowledgement.mode=implicit`). False by default: a record that is dropped without a word is released.
    #[must_use]
    pub fn implicit_acknowledgement(mut self, implicit: bool) -> Self {
        self.implicit = implicit;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        in_range("max.poll.records", self.max_poll_records, 1.., "1 and more")?;
        in_range("fetch.max.bytes", self.fetch_max_bytes, 1.., "1 and more")
    }
}
