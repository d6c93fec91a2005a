use std::fmt;
use std::sync::Arc;

use crate::types::TopicPartition;

/// The error that a serializer or deserializer returns, in its own words.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A key or value that could not be serialized or deserialized. Part of
/// [`Error::Serialization`](super::Error::Serialization).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SerializationFailure {
    /// The part of the record.
    pub part: RecordPart,
    /// The record.
    pub place: SerializationPlace,
    /// The error of the serializer or deserializer.
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

/// The record whose key or value failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SerializationPlace {
    /// A record for this topic. It was not sent.
    ToSend {
        /// The topic.
        topic: String,
    },
    /// A record that was read. It stays in the log. To skip it, continue at the next offset (KIP-334).
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
