use std::fmt;
use std::sync::Arc;

use crate::types::TopicPartition;

/// Why something cannot be made into bytes or read from them, in the words of whoever tried.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A key or value that has no bytes, or bytes that are no key or value: what
/// [`Error::Serialization`](super::Error::Serialization) holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SerializationFailure {
    /// What of the record.
    pub part: RecordPart,
    /// Where.
    pub place: SerializationPlace,
    /// Why.
    pub cause: Arc<dyn std::error::Error + Send + Sync>,
}

/// A part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// The record that something is wrong with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SerializationPlace {
    /// One that was to be sent to this topic; it was not.
    ToSend {
        /// The topic.
        topic: String,
    },
    /// One that was read. It stays where it is, and can be skipped: to go on behind it is to go on at the
    /// next offset (KIP-334).
    Read {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: i64,
    },
}

impl fmt::Display for SerializationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            RecordPart::Key => "key",
            RecordPart::Value => "value",
        };
        match &self.place {
            SerializationPlace::ToSend { topic } => {
                write!(f, "cannot serialize the {part} of a record for topic {topic:?}: ")?;
            }
            SerializationPlace::Read { partition, offset } => {
                write!(f, "cannot deserialize the {part} of {partition} at offset {offset}: ")?;
            }
        }
        fmt::Display::fmt(&self.cause, f)
    }
}
