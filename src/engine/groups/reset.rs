//! Moving a group's committed offsets: what would become of them. Reads logs and offsets, changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::registry::Registry;
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, GroupOffsets, OffsetChange, OffsetCommit};
use crate::log::Log;
use crate::types::{Timestamp, TopicPartition};

/// Where a group's committed offsets are to go; the choices of Kafka's `kafka-consumer-groups
/// --reset-offsets`.
///
/// ```
/// use grouplog::{Broker, OffsetScope, Record, ResetTo, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// for value in ["a", "b", "c"] {
///     producer.send(Record::to("orders").value(value))?;
/// }
/// let admin = broker.admin();
/// let orders = OffsetScope::Topic("orders".to_owned());
/// assert_eq!(admin.reset_offsets("billing", &orders, ResetTo::Latest)?[0].target, 3);
/// assert_eq!(admin.reset_offsets("billing", &orders, ResetTo::Shift(-2))?[0].target, 1);
/// assert_eq!(admin.reset_offsets("billing", &orders, ResetTo::Offset(99))?[0].target, 3); // the end
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetTo {
    /// The log start.
    Earliest,
    /// The log end.
    Latest,
    /// This offset, or the nearest one from log start to log end.
    Offset(i64),
    /// The first record with this timestamp or a later one; the log end if there is none.
    Timestamp(Timestamp),
    /// The first record that is not older than this; the log end if there is none.
    Ago(Duration),
    /// So many offsets behind the committed one, or before it if negative; not beyond log start and
    /// log end. Every partition needs a committed offset.
    Shift(i64),
    /// The committed offset, brought into the range of the log; the log end where none is committed.
    Current,
}

/// Which of a group's offsets are meant.
///
/// ```
/// use grouplog::{OffsetScope, TopicPartition};
/// let one = OffsetScope::Partitions(vec![TopicPartition::new("orders", 0)]);
/// assert_ne!(one, OffsetScope::Topic("orders".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetScope {
    /// All partitions that the group has committed offsets for.
    Committed,
    /// All partitions of a topic.
    Topic(String),
    /// These partitions.
    Partitions(Vec<TopicPartition>),
}

/// What a reset does to one partition's offset.
///
/// ```
/// use grouplog::{Broker, OffsetScope, ResetTo, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let orders = OffsetScope::Topic("orders".to_owned());
/// let plan = broker.admin().plan_reset("billing", &orders, ResetTo::Earliest)?;
/// assert_eq!((plan[0].committed, plan[0].target), (None, 0));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResetOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// What was committed before.
    pub committed: Option<i64>,
    /// What is committed by the reset: the next offset to read.
    pub target: i64,
}

/// The partitions of a scope, each once, in order.
pub(in crate::engine) fn scope(
    registry: &Registry,
    group: &str,
    offsets: Option<&GroupOffsets>,
    scope: &OffsetScope,
) -> Result<Vec<Arc<Log>>> {
    let found: Vec<Arc<Log>> = match scope {
        OffsetScope::Committed => {
            let unknown = || Error::UnknownGroup { group: group.to_owned() };
            let offsets = offsets.ok_or_else(unknown)?;
            offsets.iter().filter_map(|(number, _)| registry.by_number(number)).collect()
        }
        OffsetScope::Topic(topic) => registry.topic(topic)?.logs.clone(),
        OffsetScope::Partitions(partitions) => {
            partitions.iter().map(|partition| registry.log(partition)).collect::<Result<_>>()?
        }
    };
    let by_name: BTreeMap<_, _> =
        found.into_iter().map(|log| (log.partition().clone(), log)).collect();
    Ok(by_name.into_values().collect())
}

/// Where each partition's offset goes.
pub(in crate::engine) fn plan(
    logs: &[Arc<Log>],
    offsets: Option<&GroupOffsets>,
    to: ResetTo,
    now: Timestamp,
) -> Result<Vec<ResetOffset>> {
    let one = |log: &Arc<Log>| {
        let committed = offsets.and_then(|offsets| offsets.get(log.number()));
        let committed = committed.map(|committed| committed.offset);
        let target = target(log, committed, to, now)?;
        Ok(ResetOffset { partition: log.partition().clone(), committed, target })
    };
    logs.iter().map(one).collect()
}

fn target(log: &Log, committed: Option<i64>, to: ResetTo, now: Timestamp) -> Result<i64> {
    let (start, end) = (log.start_offset(), log.end_offset());
    let wanted = match to {
        ResetTo::Earliest => start,
        ResetTo::Latest => end,
        ResetTo::Offset(offset) => offset,
        ResetTo::Timestamp(timestamp) => log.offset_since(timestamp)?,
        ResetTo::Ago(age) => log.offset_since(now.saturating_sub(age))?,
        ResetTo::Shift(by) => {
            let none = || Error::NoOffsetForPartition { partition: log.partition().clone() };
            committed.ok_or_else(none)?.saturating_add(by)
        }
        ResetTo::Current => committed.unwrap_or(end),
    };
    // Both bounds may move meanwhile, but never past each other.
    Ok(wanted.clamp(start, end.max(start)))
}

/// The commit that carries a plan out.
pub(in crate::engine) fn commit(
    group: &str,
    logs: &[Arc<Log>],
    plan: &[ResetOffset],
    stamp: Timestamp,
) -> OffsetCommit {
    let entries = logs.iter().zip(plan).map(|(log, reset)| {
        // The epoch of the record before it, so that a loss of that record is noticed (KIP-320).
        let before = reset.target.checked_sub(1).filter(|before| *before >= log.start_offset());
        let leader_epoch = before.and_then(|before| log.epoch_of(before));
        let offset = CommittedOffset {
            offset: reset.target,
            leader_epoch,
            metadata: Arc::default(),
            commit_timestamp: stamp,
        };
        (log.number(), Some(offset))
    });
    OffsetCommit { group: group.into(), change: OffsetChange::Set(entries.collect()) }
}
