//! Reports of what retention waits for.

use std::fmt;
use std::sync::Arc;

use crate::config::TopicConfig;
use crate::log::{Checked, Kept, Log, Outlook};
use crate::types::{Timestamp, planted};

/// What the next check of retention deletes from a partition, and what keeps the segment behind that.
///
/// ```
/// use grouplog::{Broker, NotDeleted, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("jobs", TopicConfig::new().retention_consumed(["workers"]))?;
/// broker.producer()?.send(Record::to("jobs").value("1"))?;
/// broker.checkpoint()?;
/// let partition = &broker.describe_topic("jobs")?.partitions[0];
/// let retention = partition.retention.as_ref().unwrap();
/// assert_eq!(retention.segment, Some(0));
/// assert!(matches!(&*retention.waits_for, [NotDeleted::Group { group, .. }] if group == "workers"));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionRetention {
    /// The number of segments that are due: the next check deletes them.
    pub due_segments: u64,
    /// Their size in bytes.
    pub due_bytes: u64,
    /// The base offset of the first segment that stays. `None` if there is none: the other records are in memory,
    /// where they count as young.
    pub segment: Option<i64>,
    /// Whether that is the active segment, so that records are still added to it. It goes too once all of it is due.
    pub is_active: bool,
    /// What keeps that segment, for each setting of the topic. It goes as soon as one of them is over, unless the last
    /// check has failed.
    pub waits_for: Vec<NotDeleted>,
}

/// Why a segment is not deleted now. Its `Display` is a sentence for people.
///
/// ```
/// use grouplog::NotDeleted;
/// let few = NotDeleted::Bytes { behind: 5, limit: 9 };
/// assert_eq!(few.to_string(), "what follows it has 5 of the 9 bytes of retention.bytes");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDeleted {
    /// The rest of the partition is smaller than `retention.bytes`.
    Bytes {
        /// The size of what follows the segment.
        behind: u64,
        /// The limit.
        limit: u64,
    },
    /// A record of it is not older than `retention.ms`.
    Time {
        /// The time after which it is, by the clock that ages go by.
        until: Timestamp,
    },
    /// Its records have no timestamp, and no check has noticed that yet. It ages from the next check.
    NoTimestamp,
    /// A group of `retention.consumed` has not committed the end of the segment, or is a share group that has not finished
    /// all records of it.
    Group {
        /// The group that is furthest behind.
        group: String,
        /// What it has committed. For a share group: the first record that it has not finished.
        committed: Option<i64>,
        /// The end of the segment.
        end_offset: i64,
    },
    /// It is empty, or an append to it is under way.
    Incomplete,
    /// The opening of the folder is not finished. Nothing is deleted before its checkpoint.
    Opening,
    /// The last check failed here. The next one tries again. [`Health`](crate::Health) reports the failure too.
    Failure(String),
}

/// What a report goes by, besides the partition.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) now: Timestamp,
    pub(super) read: ReadBy<'a>,
    /// Whether the opening of the folder is not finished.
    pub(super) opening: bool,
}

/// Returns the offset below which a group has read a partition: what a consumer group has committed, or the first record
/// that a share group has not finished. `None` if it has read nothing.
pub(super) type ReadBy<'a> = &'a dyn Fn(&str, &Log) -> Option<i64>;

/// The group of `retention.consumed` that is furthest behind, and what it has committed.
pub(super) struct Slowest<'a> {
    pub(super) group: &'a Arc<str>,
    pub(super) committed: Option<i64>,
}

impl<'a> Slowest<'a> {
    /// Returns the slowest group, if the topic names any.
    pub(super) fn of(config: &'a TopicConfig, log: &Log, read: ReadBy<'_>) -> Option<Self> {
        let groups = config.kept_for().iter();
        let all = groups.map(|group| Self { group, committed: read(group, log) });
        // A group without an offset is the slowest.
        all.filter(|group| group.committed.is_some() || !planted("forget_silent_groups"))
            .min_by_key(|group| group.committed)
    }
}

impl PartitionRetention {
    /// Describes a partition. Returns `None` if its topic keeps everything. `failure` is that of the last check.
    pub(super) fn of(log: &Log, by: Circumstances<'_>, failure: Option<String>) -> Option<Self> {
        let config = log.config();
        if !config.has_retention() {
            return None;
        }
        let slowest = Slowest::of(&config, log, by.read);
        let consumed = slowest.as_ref().and_then(|group| group.committed);
        let Outlook { due, segment, kept } = log.outlook(Checked { now: by.now, consumed });
        let kept = kept.into_iter().filter_map(|kept| NotDeleted::of(kept, slowest.as_ref()));
        let failure = failure.map(NotDeleted::Failure);
        let opening = by.opening.then_some(NotDeleted::Opening);
        Some(Self {
            due_segments: due.segments,
            due_bytes: due.bytes,
            segment: segment.map(|(base_offset, _)| base_offset),
            is_active: segment.is_some_and(|(_, is_active)| is_active),
            waits_for: failure.into_iter().chain(opening).chain(kept).collect(),
        })
    }
}

impl NotDeleted {
    fn of(kept: Kept, slowest: Option<&Slowest<'_>>) -> Option<Self> {
        Some(match kept {
            Kept::NotAsked => return None,
            Kept::Incomplete => Self::Incomplete,
            Kept::Few { behind, limit } => Self::Bytes { behind, limit },
            Kept::Young { until } => Self::Time { until: Timestamp::from_millis(until) },
            Kept::Ageless => Self::NoTimestamp,
            Kept::Unread { end_offset } => {
                let Slowest { group, committed } = slowest?;
                Self::Group { group: group.to_string(), committed: *committed, end_offset }
            }
        })
    }
}

impl fmt::Display for NotDeleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes { behind, limit } => {
                write!(f, "what follows it has {behind} of the {limit} bytes of retention.bytes")
            }
            Self::Time { until } => {
                write!(f, "it is not older than retention.ms, until {}", until.as_millis())
            }
            Self::NoTimestamp => f.write_str("it has no timestamp, and ages from the next check"),
            Self::Group { group, committed: Some(committed), end_offset } => write!(
                f,
                "the group {group} has committed {committed}, and the segment ends at {end_offset}"
            ),
            Self::Group { group, committed: None, .. } => {
                write!(f, "the group {group} has committed nothing")
            }
            Self::Incomplete => f.write_str("it is empty or not complete"),
            Self::Opening => f.write_str("the checkpoint that finishes the opening of the folder"),
            Self::Failure(failure) => write!(f, "the last check failed: {failure}"),
        }
    }
}
