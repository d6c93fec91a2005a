//! The one error type of the crate.

mod corruption;
mod serialization;
mod unreadable;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use corruption::{CorruptReason, Corruption};
pub use serialization::{BoxError, RecordPart, SerializationFailure, SerializationPlace};
pub(crate) use unreadable::Unreadable;

use crate::types::{NameReason, TopicId, TopicPartition};

/// The result of every fallible call of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and by how much.
///
/// An error of `send`, `commit` or another call that changes something means *not applied*: nothing
/// of it will ever appear. The one exception is [`Error::Indeterminate`].
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
    /// Another process, or another `Broker` of this one, has the folder open for writing.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// The folder holds files that are not grouplog's; nothing was touched.
    NotADatabase {
        /// What was found.
        path: PathBuf,
        /// Why it is not one.
        reason: &'static str,
    },
    /// Another version of grouplog wrote the folder, and this build cannot read all of it. The folder is as
    /// it was before the call.
    UnsupportedFormat {
        /// The file that says so.
        path: PathBuf,
        /// What is not known: "format version", "journal section kind", ...
        what: String,
        /// The version or number in the file.
        found: u32,
        /// The highest version or number that this build knows.
        max: u32,
    },
    /// Stored bytes are damaged. No record of the damaged part was delivered.
    Corrupt(Box<Corruption>),
    /// A segment file that the checkpoint lists is not there.
    MissingSegment {
        /// The file.
        path: PathBuf,
        /// The offsets that are lost by it, first and last inclusive.
        offsets: (i64, i64),
    },
    /// The leader epoch of a position or committed offset does not match the log (KIP-320): records that
    /// were read are not in it any more, and others may have their offsets. This happens when power loss took
    /// back records that were `Written` but not `Synced`, when an older copy of the folder was put back, or
    /// when the position was made from numbers that never belonged together.
    ///
    /// An offset beyond the log end without a leader epoch is [`Error::OffsetOutOfRange`].
    LogTruncated {
        /// The partition.
        partition: TopicPartition,
        /// The position that does not match.
        position: i64,
        /// Where the log differs from what was read: from there on it holds other records, or none. Reading
        /// on from there returns what came instead.
        end: i64,
    },
    /// A position or offset belongs to a topic that was deleted. Another topic has its name now, and the
    /// offset says nothing about that one (KIP-516).
    InconsistentTopicId {
        /// The partition.
        partition: TopicPartition,
        /// The topic id of the position.
        given: TopicId,
        /// The log start offset of the topic that has the name now: reading on from there misses nothing.
        start: i64,
    },
    /// The offset is below the log start or above the log end, and `auto.offset.reset` is `none`.
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset asked for.
        requested: i64,
        /// The log start offset.
        start: i64,
        /// The log end offset.
        end: i64,
    },
    /// The group has no committed offset for the partition where one is needed: `auto.offset.reset` is
    /// `none`, or offsets are to be shifted.
    NoOffsetForPartition {
        /// The partition.
        partition: TopicPartition,
    },
    /// The topic does not exist, or not any more.
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The topic has no such partition.
    UnknownPartition {
        /// The partition asked for.
        partition: TopicPartition,
        /// How many partitions the topic has.
        partitions: u32,
    },
    /// A topic of this name exists already.
    TopicExists {
        /// Its name.
        topic: String,
    },
    /// The group does not exist.
    UnknownGroup {
        /// Its name.
        group: String,
    },
    /// The group has members, or some that subscribe to the topic: they would go on from where they are
    /// and undo the change. Stop them first.
    GroupNotEmpty {
        /// Its name.
        group: String,
    },
    /// The name of a topic or group is not allowed.
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: NameReason,
    },
    /// A configuration value is out of its range.
    InvalidConfig {
        /// Kafka's key, as `segment.bytes`.
        key: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A record is larger than the topic's `max.message.bytes`.
    RecordTooLarge {
        /// Its size as a batch of its own, in bytes.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Something is larger than a limit that is not the record size.
    LimitExceeded {
        /// What there is too much of: "bytes of a decompressed batch", "headers of one record", ...
        what: &'static str,
        /// How much of it there is, or would be at least: counting ends above the limit.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The member was evicted, or its epoch is not the current one; nothing was committed.
    Fenced {
        /// The group.
        group: String,
        /// Why: "the member was evicted after max.poll.interval.ms", ...
        reason: &'static str,
    },
    /// Another consumer has taken the place of this static member in its group: the instance id is used
    /// twice. This consumer has lost its partitions and cannot come back; nothing was committed.
    FencedInstanceId {
        /// The group.
        group: String,
        /// Its `group.instance.id`.
        instance_id: String,
    },
    /// The member proposes no assignor that all other members of the group propose too, so it cannot join.
    InconsistentGroupProtocol {
        /// The group.
        group: String,
        /// What it proposes: its `partition.assignment.strategy`.
        proposed: String,
    },
    /// The group has as many members as `group.max.size` allows.
    GroupMaxSizeReached {
        /// The group.
        group: String,
        /// The limit.
        max: u32,
    },
    /// A pattern of topic names is not a regular expression.
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full; nothing was applied. Appends resume when there is space again.
    DiskFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// A file operation failed.
    Io {
        /// The operation: "open", "write", "sync", ...
        op: &'static str,
        /// The file or folder.
        path: Box<Path>,
        /// Where in the file, in bytes, for what is read or written at a place.
        position: Option<u64>,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed, so nothing more is written until the folder is opened again.
    /// Reading goes on.
    Failed {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The outcome is not known: the change was complete in the journal when its sync failed, so it
    /// may or may not be there after the folder is opened again. After an unclean stop also the first
    /// checkpoint must succeed before anything counts as `Synced`; if it fails and waiting does not help, this
    /// is returned, too.
    Indeterminate {
        /// The failure.
        cause: Arc<Error>,
    },
    /// A panic happened while this was being changed; it is not used any more.
    Poisoned {
        /// What the panic stopped: "partition orders-3", "the journal thread", ...
        what: String,
    },
    /// Waiting took longer than the limit that the caller or `max.block.ms` set; nothing was applied.
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// `Consumer::wakeup` was called.
    Wakeup,
    /// The folder changed faster than a reader beside the writer could follow; try again.
    Busy {
        /// What could not be read consistently.
        path: PathBuf,
    },
    /// The broker, producer or consumer was closed.
    Closed,
    /// The process was forked after the folder was opened, and this is the child: the folder is the
    /// parent's. The child may open it for reading, or for writing once the parent has closed it.
    ForkedChild,
    /// The batch is compressed with a codec that this build leaves out.
    UnsupportedCodec {
        /// The codec's name, which is also the name of the cargo feature.
        codec: &'static str,
    },
    /// A key or value that has no bytes, or bytes that are no key or value.
    Serialization(Box<SerializationFailure>),
    /// A call that the program should not make, as `poll` without `subscribe` or `assign`.
    Misuse(&'static str),
}

impl Error {
    /// An `Io` error, or `DiskFull` where that is what it means.
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

    /// As it is, and where in the file it happened.
    pub(crate) fn at_byte(mut self, at: u64) -> Self {
        if let Self::Io { position, .. } = &mut self {
            *position = Some(at);
        }
        self
    }

    /// A `Corrupt` error without partition or offsets.
    pub(crate) fn corrupt(path: impl Into<PathBuf>, position: u64, reason: CorruptReason) -> Self {
        Self::Corrupt(Box::new(Corruption {
            path: path.into(),
            position,
            partition: None,
            offsets: None,
            reason,
        }))
    }

    /// Whether the same call may succeed later without anything being mended: by waiting
    /// (`DiskFull`, `Timeout`, `Busy`). Nothing was applied, so calling again repeats nothing.
    ///
    /// `Indeterminate` is not: what was sent may be there already. `Locked` is not: somebody has to
    /// close the folder.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Timeout { .. } | Self::Busy { .. })
    }

    /// Whether stored bytes are damaged or gone.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::MissingSegment { .. })
    }

    /// Whether nothing can be written before the folder is opened again.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Indeterminate { .. } | Self::Poisoned { .. })
    }
}

impl Error {
    /// The text of what keeps a folder from being opened.
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
                write!(f, "{path} has {what} {found}, this build knows {max}; use {age} grouplog")
            }
            _ => Ok(()),
        }
    }

    /// The text of what positions and groups refuse to consumers.
    fn fmt_of_consumer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogTruncated { partition, position, end } => write!(
                f,
                "position {position} of {partition} does not match the log: the record before it is gone or has another leader epoch; seek to offset {end} to read on"
            ),
            Self::UnknownPartition { partition, partitions } => {
                let unit = if *partitions == 1 { "partition" } else { "partitions" };
                write!(f, "{partition} does not exist: the topic has {partitions} {unit}")
            }
            Self::InconsistentTopicId { partition, given, start } => write!(
                f,
                "the position of {partition} belongs to topic id {given}, which was deleted: \
                 the topic of this name is another one now, and begins at offset {start}"
            ),
            Self::OffsetOutOfRange { partition, requested, start, end } => write!(
                f,
                "offset {requested} of {partition} is out of range: the log holds {start} to {end}"
            ),
            Self::NoOffsetForPartition { partition } => {
                write!(
                    f,
                    "the group has no committed offset for {partition}, and none may be assumed"
                )
            }
            Self::UnknownGroup { group } => write!(f, "group {group:?} does not exist"),
            Self::GroupNotEmpty { group } => {
                write!(f, "group {group:?} has members; stop them first")
            }
            Self::Fenced { group, reason } => write!(f, "fenced from group {group:?}: {reason}"),
            Self::FencedInstanceId { group, instance_id } => write!(
                f,
                "fenced from group {group:?}: another consumer has group.instance.id {instance_id:?}"
            ),
            Self::InconsistentGroupProtocol { group, proposed } => write!(
                f,
                "cannot join group {group:?}: not all of its members have one of the assignors {proposed}"
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { .. } | Self::NotADatabase { .. } | Self::UnsupportedFormat { .. } => {
                self.fmt_of_folder(f)
            }
            Self::Corrupt(corruption) => fmt::Display::fmt(corruption, f),
            Self::MissingSegment { path, offsets: (first, last) } => {
                write!(f, "{} is missing, and with it offsets {first} to {last}", path.display())
            }
            Self::UnknownTopic { topic } => write!(f, "topic {topic:?} does not exist"),
            Self::TopicExists { topic } => write!(f, "topic {topic:?} exists already"),
            Self::InvalidName { name, reason } => write!(f, "invalid name {name:?}: {reason}"),
            Self::InvalidConfig { key, value, expected } => {
                write!(f, "invalid value {value:?} for {key}: expected {expected}")
            }
            Self::RecordTooLarge { size, max } => {
                write!(f, "a record of {size} bytes is larger than max.message.bytes allows: {max}")
            }
            Self::LimitExceeded { what, found, max } => {
                write!(f, "too many {what}: {found} exceeds the limit of {max}")
            }
            Self::UnknownPartition { .. }
            | Self::LogTruncated { .. }
            | Self::InconsistentTopicId { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::NoOffsetForPartition { .. }
            | Self::UnknownGroup { .. }
            | Self::GroupNotEmpty { .. }
            | Self::Fenced { .. }
            | Self::FencedInstanceId { .. }
            | Self::InconsistentGroupProtocol { .. }
            | Self::GroupMaxSizeReached { .. }
            | Self::InvalidPattern { .. } => self.fmt_of_consumer(f),
            Self::DiskFull { path } => {
                write!(f, "the disk is full: no space is left for {}", path.display())
            }
            Self::Io { op, path, position, source } => {
                write!(f, "cannot {op} {}", path.display())?;
                position.map_or(Ok(()), |at| write!(f, " at byte {at}"))?;
                write!(f, ": {source}")
            }
            Self::Failed { cause } => {
                write!(f, "an earlier failure stopped all writing, open the folder again: {cause}")
            }
            Self::Indeterminate { cause } => {
                write!(f, "the outcome is not known until the folder is opened again: {cause}")
            }
            Self::Poisoned { what } => write!(f, "a panic stopped {what}"),
            Self::Timeout { what } => write!(f, "timed out waiting for {what}"),
            Self::Wakeup => f.write_str("the wait was ended by a call of wakeup"),
            Self::Busy { path } => {
                write!(f, "{} changes too fast to be read now; try again", path.display())
            }
            Self::Closed => f.write_str("the broker or consumer is closed"),
            Self::ForkedChild => f.write_str(
                "the folder was opened before the fork and belongs to the parent process",
            ),
            Self::UnsupportedCodec { codec } => {
                write!(f, "codec {codec} is not built in: enable the cargo feature {codec:?}")
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
