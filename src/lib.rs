//! An embedded log and consumer-group engine: what SQLite is to a database server, grouplog is to Kafka.
//!
//! ```
//! use grouplog::{Broker, Record, TopicConfig};
//! use std::time::Duration;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("data");
//! let broker = Broker::open(&path)?;
//! broker.ensure_topic("orders", TopicConfig::new().partitions(4))?;
//!
//! let producer = broker.producer()?;
//! producer.send(Record::to("orders").key("alice").value("3 apples"))?;
//! producer.flush()?; // the record survives power loss from here on
//!
//! let mut billing = broker.consumer("billing")?; // a member of group "billing"
//! billing.subscribe(["orders"])?;
//! for record in &billing.poll(Duration::from_secs(1))? {
//!     assert_eq!(record.value(), Some(&b"3 apples"[..]));
//! }
//! billing.commit()?;
//! broker.close()?;
//! # Ok::<(), grouplog::Error>(())
//! ```
//!
//! # What it is, and what it is not
//!
//! A program links the crate, opens a folder, and has topics with partitions, producers, consumer groups and
//! committed offsets: no server, no port, no other process, no async runtime. A crash at any moment leaves
//! what was promised, and opening takes as long as reading the journal, not the data. The segment files are
//! byte for byte Kafka's (record batches of version 2), so Kafka's own tools can read them.
//!
//! It is not a network service, and not replicated: one process writes a folder, others may
//! [look at it](Broker::open_read_only) meanwhile, and the data is as safe as the disk under it. It is no
//! client of Kafka, and no table: records are found by offset and by time.
//!
//! # Five types to know
//!
//! * [`Broker`]: an open folder. Creates topics, makes producers and consumers, describes both.
//!   [`Broker::open_in_memory`] is the same engine for tests.
//! * [`Producer`]: [`send`](Producer::send), [`send_all`](Producer::send_all) for many records that appear
//!   together or not at all, [`flush`](Producer::flush). Shared freely between threads.
//! * [`Record`]: what is sent. It borrows all it is made of.
//! * [`Consumer`]: [`subscribe`](Consumer::subscribe) as a member of a group or
//!   [`assign`](Consumer::assign) partitions, then [`poll`](Consumer::poll) and
//!   [`commit`](Consumer::commit).
//! * [`ConsumerRecords`]: what a poll returned. It owns what its records lie in; no record is copied.
//!
//! Keys and values are bytes; [`serialization`] makes them typed, for a producer and a consumer of one's own
//! types. [`Admin`] looks after groups: describes them and their lag, resets and deletes their offsets.
//!
//! What goes wrong is one type too: [`Error`].
//!
//! # Durability
//!
//! | acks | `send` has returned | `wait` or `flush` has returned |
//! |---|---|---|
//! | [`Acks::Written`] | survives a killed process | survives a killed process |
//! | [`Acks::Synced`], the default | survives a killed process | survives power loss |
//!
//! What power loss takes of records that were only written is the end of one global order, over all
//! partitions and all commits: never something from the middle, never half of a `send_all`, never a commit
//! without the records it speaks of. A commit of offsets counts as `Written` when it returns, or as
//! [`Synced`](Acks::Synced) if [`ConsumerConfig::commit_acks`] says so.
//!
//! What changes topics, and groups from outside ([`Admin`]), survives power loss when the call returns.
//!
//! # Differences from Kafka
//!
//! Names, defaults and meanings are Kafka's, but for those in [`manual::kafka`]. The important ones:
//!
//! * `auto.offset.reset` is `earliest` and not `latest`: a new group of an embedded queue must not miss what
//!   was sent before it existed.
//! * `acks` is [`Synced`](Acks::Synced), which Kafka has no level for. 0 and 1 both mean
//!   [`Written`](Acks::Written).
//! * `send` appends before it returns, and knows the offset. Nothing lingers in a producer or is retried, so
//!   nothing is ever reordered or doubled.
//! * A member leaves its group when it does not call `poll` for `max.poll.interval.ms`. It cannot die without its
//!   process.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `gzip`, `snappy`, `lz4` | Kafka's other codecs; `zstd` is always there |
//! | `json` | [`serialization::Json`]: keys and values of any type that serde knows |
//! | `cli` | the command line `grouplog` |
//!
//! # Chapters
//!
//! * [`manual::failure_modes`]: each fault, what a program sees, and what there is to do.
//! * [`manual::groups`]: the states of a consumer group, a hand-over step by step, what is committed when.
//! * [`manual::kafka`]: all differences from Kafka.
//! * [`manual::limits`]: limits and defaults.
//! * [`manual::measurements`]: what the engine costs, beside plain system calls.
//!
//! # Settings
//!
//! [`config`] has the table of all keys with their defaults and ranges.

// Offsets, timestamps, sizes and durations come from programs and from files that may be damaged: each sum
// says what it does at the edge. What is left out says why.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod broker;
pub mod config;
mod consumer;
mod engine;
pub mod error;
mod group;
#[cfg(feature = "__internal")]
#[doc(hidden)]
#[allow(clippy::arithmetic_side_effects, reason = "fuzz targets look for what overflows")]
pub mod internal;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "sums of sizes that the settings bound; files that read what a crash left have the lint"
)]
mod journal;
mod log;
pub mod manual;
mod producer;
pub mod record;
mod segment;
pub mod serialization;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the storage in memory counts bytes that it holds"
)]
pub mod storage;
mod sync;
pub mod time;
mod types;

pub use broker::{Admin, Broker, ReadOnlyBroker};
pub use config::{
    Acks, AssignmentStrategy, BrokerConfig, ConsumerConfig, IsolationLevel, JournalMode,
    OffsetReset, ProducerConfig, ReadMode, TopicConfig,
};
pub use consumer::{
    Consumer, ConsumerRecord, ConsumerRecords, GroupMetadata, OffsetAndMetadata,
    OffsetAndTimestamp, Polls, Position, Rebalance, RebalanceListener, TypedConsumer,
    TypedConsumerRecord, TypedRecords, WakeupHandle,
};
pub use engine::{
    DamagedPartition, DiskUsage, Entry, EntryValue, Finding, FindingKind, GroupOffset,
    GroupSummary, Health, HealthStatus, MemberSummary, OffsetScope, PartitionDescription, Problem,
    RecoveryReport, ResetOffset, ResetTo, TopicDescription, Verify, VerifyReport,
};
pub use error::{
    CorruptReason, Corruption, Error, RecordPart, Result, SerializationFailure, SerializationPlace,
};
pub use producer::{
    Deliveries, Delivery, Producer, Record, RecordMetadata, TypedProducer, TypedRecord,
};
pub use types::{
    Assignment, Assignor, GroupMembershipOperation, GroupSubscription, MemberSubscription,
    NameReason, Timestamp, TimestampType, TopicId, TopicPartition,
};
