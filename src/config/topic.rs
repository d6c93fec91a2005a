use std::time::Duration;

use super::{in_range, number};
use crate::error::{Error, Result};
use crate::record::Compression;
use crate::types::TimestampType;

/// The settings of a topic.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4).segment_bytes(64 << 20))?;
/// assert_eq!(broker.describe_topic("orders")?.partitions.len(), 4);
/// assert!(broker.create_topic("none", TopicConfig::new().partitions(0)).is_err());
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct TopicConfig {
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: u64,
    pub(crate) index_interval_bytes: u32,
    pub(crate) max_message_bytes: u32,
    pub(crate) compression: Compression,
    pub(crate) timestamp_type: TimestampType,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            segment_bytes: 64 << 20,
            segment_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}

impl TopicConfig {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of partitions. Default 1.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the size in bytes at which the log starts the next segment file: 1 KiB to 2 GiB - 1.
    /// Default 64 MiB. Deleting records frees space in whole segments.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets how much record time a segment may cover before the log rolls. Default 7 days.
    pub fn segment_ms(mut self, time: Duration) -> Self {
        self.segment_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how many bytes of batches lie between two entries of the offset index. Default 4096.
    pub fn index_interval_bytes(mut self, bytes: u32) -> Self {
        self.index_interval_bytes = bytes;
        self
    }

    /// Sets the largest batch, in bytes before compression, that one record may make.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the codec that compresses batches when they are sealed. Default none.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the source of timestamps. Default [`TimestampType::CreateTime`].
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Sets a value by its Kafka key.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the key is unknown or the value cannot be parsed.
    ///
    /// ```
    /// let config = grouplog::TopicConfig::new().set("segment.bytes", "1048576")?;
    /// assert_eq!(config, grouplog::TopicConfig::new().segment_bytes(1 << 20));
    /// assert!(grouplog::TopicConfig::new().set("colour", "red").is_err());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        match key {
            "partitions" => self.partitions = number("partitions", value, "a number")?,
            "segment.bytes" => {
                self.segment_bytes = number("segment.bytes", value, "a number of bytes")?;
            }
            "segment.ms" => {
                self.segment_ms = number("segment.ms", value, "a number of milliseconds")?;
            }
            "index.interval.bytes" => {
                self.index_interval_bytes =
                    number("index.interval.bytes", value, "a number of bytes")?;
            }
            "max.message.bytes" => {
                self.max_message_bytes = number("max.message.bytes", value, "a number of bytes")?;
            }
            "compression.type" => {
                self.compression = value.parse().map_err(|_| Error::InvalidConfig {
                    key: "compression.type",
                    value: value.to_owned(),
                    expected: "none, gzip, snappy, lz4 or zstd",
                })?;
            }
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "CreateTime" => TimestampType::CreateTime,
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => {
                        return Err(Error::InvalidConfig {
                            key: "message.timestamp.type",
                            value: value.to_owned(),
                            expected: "CreateTime or LogAppendTime",
                        });
                    }
                }
            }
            _ => {
                return Err(Error::InvalidConfig {
                    key: "topic configuration",
                    value: key.to_owned(),
                    expected: "a key of the table in the documentation of grouplog::config",
                });
            }
        }
        Ok(self)
    }

    /// Returns all values except the number of partitions, by their Kafka keys, in the order of the
    /// table.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let timestamp_type = match self.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        vec![
            ("segment.bytes", self.segment_bytes.to_string()),
            ("segment.ms", self.segment_ms.to_string()),
            ("index.interval.bytes", self.index_interval_bytes.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("compression.type", self.compression.to_string()),
            ("message.timestamp.type", timestamp_type.to_owned()),
        ]
    }

    pub(crate) fn validate(&self) -> Result<()> {
        in_range("partitions", self.partitions, 1..=100_000, "1 to 100000")?;
        in_range(
            "segment.bytes",
            self.segment_bytes,
            1024..=i32::MAX as u32,
            "1024 to 2147483647 bytes",
        )?;
        in_range("segment.ms", self.segment_ms, 1.., "1 or more milliseconds")?;
        in_range(
            "index.interval.bytes",
            self.index_interval_bytes,
            0..=i32::MAX as u32,
            "0 to 2147483647 bytes",
        )?;
        in_range(
            "max.message.bytes",
            self.max_message_bytes,
            1024..=16 << 20,
            "1024 to 16777216 bytes",
        )?;
        if !self.compression.is_built_in() {
            return Err(Error::UnsupportedCodec { codec: self.compression.name() });
        }
        Ok(())
    }
}
