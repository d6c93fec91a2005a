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
//! A program links the crate and opens a folder. It then has topics with partitions, producers, consumer
//! groups and committed offsets. There is no server, no port, no other process and no async runtime. A crash
//! at any moment loses nothing that was promised. Opening takes as long as reading the journal, not the data.
//! The segment files are byte for byte Kafka's (record batches of version 2), so Kafka's own tools can read
//! them.
//!
//! It is not a network service, and it does not replicate. One process writes a folder, and others may [read
//! it](Broker::open_read_only) meanwhile. The data is as safe as the disk under it. It is not a client of
//! Kafka, and not a table: programs find records by offset and by time.
//!
//! # Five types to know
//!
//! * [`Broker`]: an open folder. It creates topics, makes producers and consumers, and describes both.
//!   [`Broker::open_in_memory`] is the same engine for tests.
//! * [`Producer`]: [`send`](Producer::send) appends a record, [`send_all`](Producer::send_all) appends many
//!   records that appear together or not at all, and [`flush`](Producer::flush) makes them durable. Threads
//!   share it freely. [`begin`](Producer::begin) starts a [`Transaction`] of records and offsets.
//! * [`Record`]: a record to send. It borrows all its parts.
//! * [`Consumer`]: [`subscribe`](Consumer::subscribe) joins a group, or [`assign`](Consumer::assign) chooses
//!   partitions. Then [`poll`](Consumer::poll) reads and [`commit`](Consumer::commit) commits.
//! * [`ConsumerRecords`]: the records that a poll returned. It owns the memory that they point into, so no
//!   record is copied.
//!
//! Keys and values are bytes. [`serialization`] adds producers and consumers of typed keys and values.
//! [`Admin`] manages groups: it describes them and their lag, and resets and deletes their offsets.
//!
//! There is one error type: [`Error`].
//!
//! # Durability
//!
//! | acks | `send` has returned | `wait` or `flush` has returned |
//! |---|---|---|
//! | [`Acks::Written`] | survives a killed process | survives a killed process |
//! | [`Acks::Synced`], the default | survives a killed process | survives power loss |
//!
//! Power loss may take records that were only written. It takes them from the end of one order over all
//! partitions and all commits. It never takes something from the middle, never half of a `send_all` or of a
//! [`Transaction`], and never leaves a commit without the records that it covers. A commit of offsets counts
//! as `Written` when it returns, or as [`Synced`](Acks::Synced) if [`ConsumerConfig::commit_acks`] says so.
//!
//! A change of topics, or of groups through [`Admin`], survives power loss when the call returns.
//!
//! # Differences from Kafka
//!
//! Names, defaults and meanings are Kafka's, except those listed in [`manual::kafka`]. The important
//! differences:
//!
//! * `auto.offset.reset` is `earliest` and not `latest`, so that a new group of an embedded queue does not
//!   miss records sent before it existed.
//! * `acks` is [`Synced`](Acks::Synced), a level that Kafka does not have. 0 and 1 both mean
//!   [`Written`](Acks::Written).
//! * `send` appends before it returns, and returns the offset. A producer neither delays nor retries records,
//!   so it never reorders or duplicates them.
//! * A member is evicted from its group if it does not call `poll` for `max.poll.interval.ms`. It cannot die
//!   without its process.
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
//! * [`manual::exactly_once`]: transactions, sequences, conditional appends, and how a program uses them.
//! * [`manual::failure_modes`]: each fault, what a program sees, and what to do.
//! * [`manual::groups`]: the states of a consumer group, a rebalance step by step, and what is committed
//!   when.
//! * [`manual::kafka`]: all differences from Kafka.
//! * [`manual::limits`]: limits and defaults.
//! * [`manual::measurements`]: the cost of the engine, beside plain system calls.
//! * [`manual::retention`]: how data ends: retention, compaction, and a budget for the disk.
//!
//! # Settings
//!
//! [`config`] has the table of all keys with their defaults and ranges.

// Offsets, timestamps, sizes and durations come from programs and from files that may be damaged. The lint
// makes each sum state what it does at the edge. Each exception gives its reason.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod broker;
mod cleaner;
pub mod config;
mod consumer;
mod dedup;
mod engine;
pub mod error;
mod group;
#[cfg(feature = "__internal")]
#[doc(hidden)]
#[allow(clippy::arithmetic_side_effects, reason = "fuzz targets look for overflows")]
pub mod internal;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the settings bound the sums of sizes; the files that read the journal after a crash have the lint"
)]
mod journal;
mod log;
pub mod manual;
mod producer;
mod producer_state;
pub mod record;
mod redrive;
mod segment;
pub mod serialization;
mod share;
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the memory storage adds up only the sizes of bytes that it holds"
)]
pub mod storage;
mod sync;
pub mod time;
mod transaction;
mod types;

pub use broker::{Admin, Broker, ReadOnlyBroker};
pub use config::{
    Acks, AssignmentStrategy, BrokerConfig, CleanupPolicy, ConsumerConfig, DiskBudgetPolicy,
    IsolationLevel, JournalMode, OffsetReset, ProducerConfig, ReadMode, ShareConsumerConfig,
    ShareGroupConfig, TopicConfig,
};
pub use consumer::{
    Consumer, ConsumerRecord, ConsumerRecords, GroupMetadata, OffsetAndMetadata,
    OffsetAndTimestamp, Polls, Position, Rebalance, RebalanceListener, TypedConsumer,
    TypedConsumerRecord, TypedRecords, WakeupHandle,
};
pub use engine::{
    BudgetUsage, CompactionTotals, DamagedPartition, Deleted, DiskUsage, Entry, EntryValue,
    Finding, FindingKind, GroupOffset, GroupSummary, Health, HealthStatus, MemberSummary,
    NotCompacted, NotDeleted, OffsetScope, OwnerSummary, PartitionCompaction, PartitionDescription,
    PartitionRetention, Problem, RecordUnderWay, RecoveryReport, ResetOffset, ResetTo, Retained,
    ShareGroupSummary, SharePartitionSummary, TopicDescription, Verify, VerifyReport,
};
pub use error::{
    CorruptReason, Corruption, Error, RecordPart, RecordStateReason, Result, SerializationFailure,
    SerializationPlace,
};
pub use producer::{
    Deliveries, Delivery, Producer, Record, RecordMetadata, TypedProducer, TypedRecord,
};
pub use redrive::{NotRedriven, Redriven, SkippedLetter};
pub use share::{
    Job, JobError, ShareConsumer, ShareRecord, ShareRecords, Workers, WorkersHandle, WorkersStats,
};
pub use transaction::{Committed, Transaction};
pub use types::{
    Assignment, Assignor, Backoff, GroupMembershipOperation, GroupSubscription, MemberSubscription,
    NameReason, Timestamp, TimestampType, TopicId, TopicPartition,
};
