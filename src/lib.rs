//! An embedded log and consumer-group engine.

mod broker;
pub mod config;
mod consumer;
pub mod error;
mod group;
mod journal;
mod log;
mod producer;
pub mod record;
mod segment;
pub mod storage;
pub mod time;
mod types;

pub use broker::{
    Broker, GroupOffset, GroupSummary, Health, MemberSummary, PartitionDescription, ReadOnlyBroker,
    RecoveryReport, TopicDescription,
};
pub use config::{
    Acks, BrokerConfig, ConsumerConfig, JournalMode, OffsetReset, ProducerConfig, TopicConfig,
};
pub use consumer::{Consumer, ConsumerRecord, ConsumerRecords, WakeupHandle};
pub use error::{CorruptReason, Corruption, Error, Result};
pub use producer::{Deliveries, Delivery, Producer, Record, RecordMetadata};
pub use types::{NameReason, Timestamp, TimestampType, TopicId, TopicPartition};
