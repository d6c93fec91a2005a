//! An embedded log and consumer-group engine.

pub mod error;
pub mod storage;
pub mod time;
mod types;

pub use error::{CorruptReason, Corruption, Error, Result};
pub use types::{NameReason, Timestamp, TimestampType, TopicId, TopicPartition};
