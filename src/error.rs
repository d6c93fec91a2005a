//! The one error type of the crate.
//!
//! Imported by `record`, `serialization`, `storage`, `config`, `producer_state`, `segment`, `cleaner`, `journal`,
//! `log`, `dedup`, `group`, `engine`, `producer`, `consumer`, `share`, `transaction`, `redrive`, `broker` and
//! `internal`.

mod corruption;
mod record_state;
mod serialization;
mod unreadable;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use corruption::{CorruptReason, Corruption};
pub use record_state::RecordStateReason;
pub use serialization::{BoxError, RecordPart, SerializationFailure, SerializationPlace};
pub(crate) use unreadable::Unreadable;

use crate::types::{NameReason, Timestamp, TopicId, TopicPartition};

/// The result of every fallible call of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error type of the crate: what failed, where, and which bound was broken.
///
/// An error of a call that changes something (`send`, `commit` and others) means *not applied*: no part of
/// the change will ever appear. The one exception is [`Error::Indeterminate`]. [`Error::is_retryable`],
/// [`Error::is_corruption`] and [`Error::is_fatal`] say what kind of error it is. The [chapter on failure
/// modes](crate::manual::failure_modes) lists each fault and what to do.
///
/// ```
/// use grouplog::{Broker, Error};
///
/// let broker = Broker::open_in_memory()?;
/// match broker.describe_topic("nobody") {
///     Err(Error::UnknownTopic { topic }) => assert_eq!(topic, "nobody"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another `Broker` of this process, has the folder open for writing.
    ///
    /// Nothing was changed. Close the other broker, or open the folder with
    /// [`Broker::open_read_only`](crate::Broker::open_read_only).
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds the lock, if it could be read.
        pid: Option<u32>,
    },
    /// The folder holds files that are not grouplog's. Nothing was changed; check the path.
    NotADatabase {
        /// The folder, or the file in it that shows this.
        path: PathBuf,
        /// Why it is not a grouplog folder.
        reason: &'static str,
    },
    /// Another version of grouplog wrote the folder, and this build cannot read all of it.
    ///
    /// The folder is as it was before the call. Use a version of grouplog that knows the format.
    UnsupportedFormat {
        /// The file that holds the unknown version or number.
        path: PathBuf,
        /// What is unknown: "format version", "journal section kind", ...
        what: String,
        /// The version or number in the file.
        found: u32,
        /// The highest version or number that this build knows.
        max: u32,
    },
    /// Stored bytes are damaged. No record of the damaged part was delivered.
    ///
    /// Restore the file from a backup, or seek behind [`Corruption::offsets`] to continue. `grouplog verify`
    /// finds all damage in a folder.
    Corrupt(Box<Corruption>),
    /// A segment file that the checkpoint lists does not exist.
    ///
    /// The partition rejects appends. Restore the file from a backup.
    MissingSegment {
        /// The file.
        path: PathBuf,
        /// The offsets that are lost with it, first and last inclusive.
        offsets: (i64, i64),
    },
    /// The leader epoch of a position or committed offset does not match the log (KIP-320).
    ///
    /// Records that were read are no longer in the log, and other records may have their offsets. There are
    /// three causes. Power loss took records that were `Written` but not `Synced`. An older copy of the
    /// folder was restored. Or the position was made from numbers that never belonged together. Seek to `end`
    /// to continue, and undo what the lost records caused.
    ///
    /// An offset beyond the log end without a leader epoch is [`Error::OffsetOutOfRange`].
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The position that does not match.
        position: i64,
        /// The first offset where the log differs from what was read. From there on it holds other records,
        /// or none.
        end: i64,
    },
    /// A position or offset belongs to a deleted topic, and another topic has its name now (KIP-516).
    ///
    /// The offset says nothing about the other topic. Seek to `start`, or to [the
    /// beginning](crate::Consumer::seek_to_beginning), to read the other topic.
    InconsistentTopicId {
        /// The partition.
        partition: TopicPartition,
        /// The topic id of the position or offset.
        given: TopicId,
        /// The log start offset of the topic that has the name now. Reading from there misses no record.
        start: i64,
    },
    /// The offset is below the log start or above the log end, and `auto.offset.reset` is `none`.
    ///
    /// [`Admin::delete_records`](crate::Admin::delete_records) also returns it for an offset above the log
    /// end. Seek to an offset from `start` to `end`.
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The requested offset.
        requested: i64,
        /// The log start offset.
        start: i64,
        /// The log end offset.
        end: i64,
    },
    /// The group has no committed offset for the partition, but the call needs one.
    ///
    /// `poll` returns it if `auto.offset.reset` is `none`. A reset that shifts committed offsets returns it
    /// as well. Seek, or commit an offset, first.
    NoOffsetForPartition {
        /// The partition.
        partition: TopicPartition,
    },
    /// The topic does not exist, or does not exist any more.
    UnknownTopic {
        /// The name of the topic.
        topic: String,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The requested partition.
        partition: TopicPartition,
        /// The number of partitions of the topic.
        partitions: u32,
    },
    /// A topic of this name exists already.
    TopicExists {
        /// The name of the topic.
        topic: String,
    },
    /// The group does not exist: it has neither members nor committed offsets.
    UnknownGroup {
        /// The name of the group.
        group: String,
    },
    /// The group has members, or has members that subscribe to the topic.
    ///
    /// They would commit their own positions and undo the change. Stop them first.
    GroupNotEmpty {
        /// The name of the group.
        group: String,
    },
    /// The name of a topic or group is not allowed.
    InvalidName {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        reason: NameReason,
    },
    /// A configuration value is out of its range.
    InvalidConfig {
        /// Kafka's key, such as `segment.bytes`.
        key: &'static str,
        /// The value that was given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A record is larger than the topic's `max.message.bytes`. It was not sent.
    RecordTooLarge {
        /// The size of the record as a batch of its own, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The timestamp of a record is farther from the present than `message.timestamp.before.max.ms` or
    /// `message.timestamp.after.max.ms` of its topic allows. It was not sent.
    InvalidTimestamp {
        /// The timestamp of the record.
        timestamp: Timestamp,
        /// The time at which it was sent.
        now: Timestamp,
    },
    /// A record of a compacted topic has no key, so no newer record could replace it. It was not sent. Give it a key,
    /// or change `cleanup.policy` of the topic. (Kafka's `InvalidRecordException`.)
    NullKey {
        /// The name of the topic.
        topic: String,
    },
    /// A call that the topic's `cleanup.policy` does not allow. Nothing was changed. (Kafka's
    /// `PolicyViolationException`.)
    PolicyViolation {
        /// The name of the topic.
        topic: String,
        /// What the policy does not allow, and what to do.
        reason: &'static str,
    },
    /// Another process writes the folder, and has replaced files of the partition by compaction since this process
    /// looked last. Nothing is damaged. Call [`ReadOnlyBroker::refresh`](crate::ReadOnlyBroker::refresh), and read on
    /// from the same position with a new consumer.
    Stale {
        /// The partition.
        partition: TopicPartition,
    },
    /// Something exceeds a limit other than the record size.
    LimitExceeded {
        /// What the limit is about: "bytes of a decompressed batch", "headers of one record", ...
        what: &'static str,
        /// The amount found. It is a lower bound if counting stopped above the limit.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The member was evicted, its epoch is stale, or a consumer without membership commits to a group that
    /// has members.
    ///
    /// Nothing was committed. An evicted member joins again in its next poll. Its partitions may have other
    /// owners that read the uncommitted records again.
    Fenced {
        /// The group.
        group: String,
        /// The reason, such as "the member epoch is stale: the group has rebalanced since".
        reason: &'static str,
    },
    /// Another consumer has taken the place of this static member: the `group.instance.id` is used twice.
    ///
    /// This consumer has lost its partitions and cannot come back. Nothing was committed. Give each consumer
    /// an instance id of its own.
    FencedInstanceId {
        /// The group.
        group: String,
        /// Its `group.instance.id`.
        instance_id: String,
    },
    /// A newer producer has the `transactional.id` of this one, so this one writes nothing more.
    ///
    /// Nothing was applied. Close this producer. If no other was meant to run, give each its own id.
    ProducerFenced {
        /// The `transactional.id`.
        transactional_id: String,
        /// The epoch of this producer.
        epoch: i32,
        /// The epoch of the newest producer; `None` if the id was deleted.
        current: Option<i32>,
    },
    /// A sequence of a producer is not above the one before it. Nothing was applied.
    ///
    /// [`Producer::last_sequence`](crate::Producer::last_sequence) tells where to go on.
    OutOfOrderSequence {
        /// The `transactional.id`.
        transactional_id: String,
        /// The sequence that was given.
        sequence: i64,
        /// The sequence before it.
        last: i64,
    },
    /// No producer had this `transactional.id`.
    UnknownOwner {
        /// The `transactional.id`.
        transactional_id: String,
    },
    /// The end of a partition is not the one that a conditional append expects: another producer was faster.
    /// Nothing was applied.
    ///
    /// Read what is new, decide again, and try with the new end.
    UnexpectedEnd {
        /// The partition.
        partition: TopicPartition,
        /// The expected log end offset.
        expected: i64,
        /// The log end offset.
        end: i64,
    },
    /// The committed offset of a group is not the one that a transaction expects. Nothing was applied.
    UnexpectedCommit {
        /// The group.
        group: Box<str>,
        /// The partition.
        partition: TopicPartition,
        /// The committed offset; `None` if there is none.
        committed: Option<i64>,
    },
    /// A share group refuses the word of a handler about a record. Nothing has changed.
    InvalidRecordState {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the record.
        offset: i64,
        /// Why.
        reason: RecordStateReason,
    },
    /// A group of the other kind has the name: consumer groups and share groups share their names.
    GroupKind {
        /// The group.
        group: String,
        /// Whether the group is a share group.
        is_share: bool,
    },
    /// The share group has no topic for dead letters, so there are none to send back. Nothing was changed. Set
    /// [`dead_letter_topic`](crate::ShareGroupConfig::dead_letter_topic) to the topic that has them.
    NoDeadLetterTopic {
        /// The share group.
        group: String,
    },
    /// The member proposes no assignor that all other members of the group propose too, so it cannot join.
    ///
    /// Give all members at least one assignor in common.
    InconsistentGroupProtocol {
        /// The group.
        group: String,
        /// The assignors that it proposes, from `partition.assignment.strategy`.
        proposed: String,
    },
    /// The member cannot join, because the group has as many members as `group.max.size` allows.
    GroupMaxSizeReached {
        /// The group.
        group: String,
        /// The limit.
        max: u32,
    },
    /// A pattern of topic names is not a valid regular expression.
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full. Nothing was applied. Appends resume by themselves once there is space again.
    DiskFull {
        /// The file or folder that could not be written.
        path: PathBuf,
    },
    /// A file operation failed. `source` says why; the next call tries the operation again.
    Io {
        /// The operation: "open", "write", "sync", ...
        op: &'static str,
        /// The file or folder.
        path: Box<Path>,
        /// The position in the file, in bytes, if the operation has one.
        position: Option<u64>,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed, so the engine writes nothing more until the folder is opened again.
    ///
    /// Reading continues. Find the cause, then open the folder again.
    Failed {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The disk budget has no room for the append. It was not applied.
    ///
    /// Delete records or topics, let retention delete them, or open the folder with a larger
    /// [`disk_budget`](crate::BrokerConfig::disk_budget). The topic's
    /// [`disk.budget.policy`](crate::TopicConfig::disk_budget_policy) says whether an append waits for room, or
    /// has the oldest records deleted. Commits and deletions work meanwhile.
    DiskBudget {
        /// The budget in bytes.
        budget: u64,
        /// What is taken of it in bytes: files, records that are not in their files yet, and what is set aside
        /// for the journal, checkpoints and the reserve.
        taken: u64,
        /// What the append needs in bytes. It is more than the records: it includes a new segment.
        needed: u64,
    },
    /// It is not known whether the change was applied. Open the folder again to find out.
    ///
    /// The change was complete in the journal when its sync failed, or its own write to the journal failed
    /// part way. After an unclean stop the first checkpoint must succeed before anything counts as `Synced`.
    /// If that checkpoint fails and waiting does not help, a wait for `Synced` returns this error as well.
    Indeterminate {
        /// The failure.
        cause: Arc<Error>,
    },
    /// A panic happened while this was being changed, so it cannot be used any more.
    ///
    /// If the panic stopped a consumer, create a new consumer. Otherwise open the folder again.
    Poisoned {
        /// What the panic stopped: "partition orders-3", "the journal thread", ...
        what: String,
    },
    /// A wait exceeded the limit that the caller or `max.block.ms` set. Nothing was applied.
    ///
    /// The same call may succeed later.
    Timeout {
        /// What the call waited for: "journal space", "journal sync".
        what: &'static str,
    },
    /// [`WakeupHandle::wakeup`](crate::WakeupHandle::wakeup) was called. No record was lost; the next poll
    /// continues.
    Wakeup,
    /// The folder changed faster than a reader beside the writer could follow. Try again.
    Busy {
        /// The file or folder that could not be read consistently.
        path: PathBuf,
    },
    /// The broker, producer or consumer was closed.
    Closed,
    /// The process was forked after the folder was opened, and this is the child.
    ///
    /// The folder belongs to the parent. The child may open it read-only, or for writing once the parent has
    /// closed it.
    ForkedChild,
    /// The batch is compressed with a codec that this build does not include. Enable the cargo feature.
    UnsupportedCodec {
        /// The name of the codec, which is also the name of the cargo feature.
        codec: &'static str,
    },
    /// A key or value could not be serialized, or its bytes could not be deserialized.
    Serialization(Box<SerializationFailure>),
    /// The program made a call that is not allowed here, such as `poll` before `subscribe` or `assign`.
    ///
    /// The text says which call must come first, or which argument is wrong. Correct the program.
    Misuse(&'static str),
}

impl Error {
    /// Creates an `Io` error, or `DiskFull` if the cause means that.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => {
                let (path, source) = (path.into_boxed_path(), Arc::new(source));
                Self::Io { op, path, position: None, source }
            }
        }
    }

    /// Adds the position in the file to an `Io` error.
    pub(crate) fn at_byte(mut self, at: u64) -> Self {
        if let Self::Io { position, .. } = &mut self {
            *position = Some(at);
        }
        self
    }

    /// Creates a `Corrupt` error without partition or offsets.
    pub(crate) fn corrupt(path: impl Into<PathBuf>, position: u64, reason: CorruptReason) -> Self {
        Self::Corrupt(Box::new(Corruption {
            path: path.into(),
            position,
            partition: None,
            offsets: None,
            reason,
        }))
    }

    /// Returns whether waiting is enough for the same call to succeed: `DiskFull`, `DiskBudget`, `Timeout`, `Busy`.
    ///
    /// Nothing was applied, so calling again repeats nothing. `Indeterminate` is not retryable, because the
    /// change may have been applied. `Locked` is not retryable, because another broker must close the folder
    /// first.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. }
                | Self::DiskBudget { .. }
                | Self::Timeout { .. }
                | Self::Busy { .. }
        )
    }

    /// Returns whether stored bytes are damaged or missing: `Corrupt`, `MissingSegment`.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::MissingSegment { .. })
    }

    /// Returns whether nothing can be written before the folder is opened again: `Failed`, `Indeterminate`,
    /// `Poisoned`.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Indeterminate { .. } | Self::Poisoned { .. })
    }
}

impl Error {
    /// Writes the text of the errors that keep a folder from being opened.
    fn fmt_of_folder(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, pid } => {
                let path = path.display();
                match pid {
                    Some(pid) if *pid == std::process::id() => {
                        write!(
                            f,
                            "{path} is locked: this process has it open; close that Broker first"
                        )
                    }
                    Some(pid) => write!(f, "{path} is locked by process {pid}; close it first"),
                    None => write!(f, "{path} is locked by another process; close it first"),
                }
            }
            Self::NotADatabase { path, reason } => {
                write!(f, "{} is not a grouplog folder: {reason}", path.display())
            }
            Self::UnsupportedFormat { path, what, found, max } => {
                let age = if found > max { "a newer" } else { "an older" };
                let path = path.display();
                write!(
                    f,
                    "{path} has {what} {found}, but this build knows {max}; use {age} grouplog"
                )
            }
            _ => Ok(()),
        }
    }

    /// Writes the text of the errors that consumers get about positions and groups.
    fn fmt_of_consumer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogTruncated { partition, position, end } => write!(
                f,
                "position {position} of {partition} does not match the log: the record before it is gone or has another leader epoch; seek to offset {end} to continue"
            ),
            Self::UnknownPartition { partition, partitions } => {
                let unit = if *partitions == 1 { "partition" } else { "partitions" };
                write!(f, "{partition} does not exist: the topic has {partitions} {unit}")
            }
            Self::InconsistentTopicId { partition, given, start } => write!(
                f,
                "the position of {partition} belongs to topic id {given}, which was deleted; \
                 another topic has this name now, and begins at offset {start}"
            ),
            Self::Stale { partition } => write!(
                f,
                "compaction has replaced files of {partition}; refresh, and read on from the same position"
            ),
            Self::OffsetOutOfRange { partition, requested, start, end } => write!(
                f,
                "offset {requested} of {partition} is out of range: the log holds {start} to {end}"
            ),
            Self::NoOffsetForPartition { partition } => {
                write!(
                    f,
                    "the group has no committed offset for {partition}, and auto.offset.reset does not choose one"
                )
            }
            Self::UnknownGroup { group } => write!(f, "group {group:?} does not exist"),
            Self::GroupNotEmpty { group } => {
                write!(f, "group {group:?} has members; stop them first")
            }
            Self::Fenced { group, reason } => write!(f, "fenced from group {group:?}: {reason}"),
            Self::FencedInstanceId { group, instance_id } => write!(
                f,
                "fenced from group {group:?}: another consumer uses group.instance.id {instance_id:?}"
            ),
            Self::InvalidRecordState { partition, offset, reason } => {
                write!(f, "record {offset} of {partition} cannot be acknowledged: {reason}")
            }
            Self::NoDeadLetterTopic { group } => write!(
                f,
                "share group {group:?} has no topic for dead letters: set \
                 errors.deadletterqueue.topic.name to the one that has them"
            ),
            Self::GroupKind { group, is_share: true } => {
                write!(f, "group {group:?} is a share group: use a share consumer, or another name")
            }
            Self::GroupKind { group, is_share: false } => {
                write!(f, "group {group:?} is a consumer group: use a consumer, or another name")
            }
            Self::InconsistentGroupProtocol { group, proposed } => write!(
                f,
                "cannot join group {group:?}: no proposed assignor is supported by all members (proposed: {proposed})"
            ),
            Self::GroupMaxSizeReached { group, max } => {
                write!(
                    f,
                    "cannot join group {group:?}: it has {max} members, as many as group.max.size allows"
                )
            }
            Self::InvalidPattern { pattern, reason } => {
                write!(f, "invalid pattern {pattern:?} of topic names: {reason}")
            }
            _ => Ok(()),
        }
    }
}

impl Error {
    /// Writes the text of the errors that refuse a record.
    fn fmt_of_record(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordTooLarge { size, max } => {
                write!(f, "a record of {size} bytes is larger than max.message.bytes allows: {max}")
            }
            Self::InvalidTimestamp { timestamp, now } => write!(
                f,
                "timestamp {} is too far from the present, {}: see message.timestamp.before.max.ms and \
                 message.timestamp.after.max.ms of the topic",
                timestamp.as_millis(),
                now.as_millis(),
            ),
            Self::DiskBudget { budget, taken, needed } => write!(
                f,
                "the disk budget of {budget} bytes has no room for {needed} more: {taken} are taken; \
                 delete records or topics, or raise the budget"
            ),
            Self::NullKey { topic } => write!(
                f,
                "a record of topic {topic:?} needs a key, because cleanup.policy compacts the topic"
            ),
            Self::PolicyViolation { topic, reason } => {
                write!(f, "cleanup.policy of topic {topic:?} does not allow it: {reason}")
            }
            _ => Ok(()),
        }
    }
}

impl Error {
    /// Writes the text of the errors that stop the engine or make a call wait.
    fn fmt_of_engine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull { path } => {
                write!(f, "the disk is full: no space is left for {}", path.display())
            }
            Self::Io { op, path, position, source } => {
                write!(f, "cannot {op} {}", path.display())?;
                position.map_or(Ok(()), |at| write!(f, " at byte {at}"))?;
                write!(f, ": {source}")
            }
            Self::Failed { cause } => {
                write!(f, "an earlier failure stopped all writing; open the folder again: {cause}")
            }
            Self::Indeterminate { cause } => {
                write!(f, "the outcome is unknown; open the folder again to learn it: {cause}")
            }
            Self::Poisoned { what } => write!(f, "a panic stopped {what}"),
            Self::Timeout { what } => write!(f, "timed out waiting for {what}"),
            Self::Busy { path } => {
                write!(f, "{} changes too fast to be read now; try again", path.display())
            }
            _ => Ok(()),
        }
    }

    /// Writes the text of the errors that refuse a transaction.
    fn fmt_of_transaction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProducerFenced { transactional_id, epoch, current: Some(current) } => write!(
                f,
                "producer {transactional_id:?} of epoch {epoch} is fenced: a newer one has epoch {current}"
            ),
            Self::ProducerFenced { transactional_id, epoch, current: None } => write!(
                f,
                "producer {transactional_id:?} of epoch {epoch} is fenced: its transactional.id was deleted"
            ),
            Self::OutOfOrderSequence { transactional_id, sequence, last } => write!(
                f,
                "sequence {sequence} of producer {transactional_id:?} is not above the one before it, {last}"
            ),
            Self::UnknownOwner { transactional_id } => {
                write!(f, "no producer had transactional.id {transactional_id:?}")
            }
            Self::UnexpectedEnd { partition, expected, end } => write!(
                f,
                "{partition} ends at offset {end}, not at {expected}: another producer was faster"
            ),
            Self::UnexpectedCommit { group, partition, committed: Some(offset) } => write!(
                f,
                "group {group:?} has committed offset {offset} for {partition}, not the expected one"
            ),
            Self::UnexpectedCommit { group, partition, committed: None } => {
                write!(f, "group {group:?} has not committed the expected offset for {partition}")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { .. } | Self::NotADatabase { .. } | Self::UnsupportedFormat { .. } => {
                self.fmt_of_folder(f)
            }
            Self::Corrupt(corruption) => fmt::Display::fmt(corruption, f),
            Self::MissingSegment { path, offsets: (first, last) } => {
                write!(f, "{} is missing, with offsets {first} to {last}", path.display())
            }
            Self::UnknownTopic { topic } => write!(f, "topic {topic:?} does not exist"),
            Self::TopicExists { topic } => write!(f, "topic {topic:?} exists already"),
            Self::InvalidName { name, reason } => write!(f, "invalid name {name:?}: {reason}"),
            Self::InvalidConfig { key, value, expected } => {
                write!(f, "invalid value {value:?} for {key}: expected {expected}")
            }
            Self::RecordTooLarge { .. }
            | Self::InvalidTimestamp { .. }
            | Self::DiskBudget { .. }
            | Self::NullKey { .. }
            | Self::PolicyViolation { .. } => self.fmt_of_record(f),
            Self::LimitExceeded { what, found, max } => {
                write!(f, "too many {what}: {found} exceeds the limit of {max}")
            }
            Self::UnknownPartition { .. }
            | Self::LogTruncated { .. }
            | Self::InconsistentTopicId { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Stale { .. }
            | Self::NoOffsetForPartition { .. }
            | Self::UnknownGroup { .. }
            | Self::GroupNotEmpty { .. }
            | Self::Fenced { .. }
            | Self::FencedInstanceId { .. }
            | Self::InconsistentGroupProtocol { .. }
            | Self::InvalidRecordState { .. }
            | Self::GroupKind { .. }
            | Self::NoDeadLetterTopic { .. }
            | Self::GroupMaxSizeReached { .. }
            | Self::InvalidPattern { .. } => self.fmt_of_consumer(f),
            Self::ProducerFenced { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::UnknownOwner { .. }
            | Self::UnexpectedEnd { .. }
            | Self::UnexpectedCommit { .. } => self.fmt_of_transaction(f),
            Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Failed { .. }
            | Self::Indeterminate { .. }
            | Self::Poisoned { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. } => self.fmt_of_engine(f),
            Self::Wakeup => f.write_str("a call of wakeup ended the wait"),
            Self::Closed => f.write_str("the broker or consumer is closed"),
            Self::ForkedChild => f.write_str(
                "the folder was opened before the fork and belongs to the parent process",
            ),
            Self::UnsupportedCodec { codec } => {
                write!(
                    f,
                    "this build does not include codec {codec}; enable the cargo feature {codec:?}"
                )
            }
            Self::Serialization(failure) => fmt::Display::fmt(failure, f),
            Self::Misuse(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source.as_ref()),
            Self::Failed { cause } | Self::Indeterminate { cause } => Some(cause.as_ref()),
            Self::Serialization(failure) => Some(&*failure.cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
