//! Plans moves of a group's committed offsets. Reads logs and offsets, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::registry::Registry;
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, GroupOffsets, OffsetChange, OffsetCommit};
use crate::log::Log;
use crate::types::{Timestamp, TopicPartition};

/// The target of a reset of a group's committed offsets. Kafka's tool `kafka-consumer-groups` has the same
/// choices for `--reset-offsets`.
///
/// Every target is brought into the range from log start to log end.
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
    /// The log start offset.
    Earliest,
    /// The log end offset.
    Latest,
    /// This offset, or the nearest one in the range from log start to log end.
    Offset(i64),
    /// The first record with this timestamp or a later one, or the log end if there is none.
    Timestamp(Timestamp),
    /// The first record that is not older than this, by its timestamp, or the log end if there is none.
    Ago(Duration),
    /// The committed offset plus this number, which may be negative, but not beyond log start or log end. The
    /// reset fails with `NoOffsetForPartition` if a partition has no committed offset.
    Shift(i64),
    /// The committed offset, brought into the range of the log, or the log end if none is committed.
    Current,
}

/// The committed offsets of a group that a call changes or deletes.
///
/// ```
/// use grouplog::{OffsetScope, TopicPartition};
/// let one = OffsetScope::Partitions(vec![TopicPartition::new("orders", 0)]);
/// assert_ne!(one, OffsetScope::Topic("orders".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetScope {
    /// All partitions in which the group has committed an offset.
    Committed,
    /// All partitions of this topic.
    Topic(String),
    /// These partitions. Duplicates count once.
    Partitions(Vec<TopicPartition>),
}

/// The move of one partition's committed offset by a reset.
///
/// [`Admin::plan_reset`](crate::Admin::plan_reset) and [`Admin::reset_offsets`](crate::Admin::reset_offsets)
/// return it.
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
    /// The committed offset before the reset; `None` if there was none.
    pub committed: Option<i64>,
    /// The committed offset after the reset: the offset of the next record to read.
    pub target: i64,
}

/// Returns the partitions of a scope, each once, in order.
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

/// Returns the move of each partition's offset.
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

/// Returns where a reset moves an offset of one partition.
pub(in crate::engine) fn target(
    log: &Log,
    committed: Option<i64>,
    to: ResetTo,
    now: Timestamp,
) -> Result<i64> {
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
    // Both bounds may move meanwhile, but the log start never passes the log end.
    Ok(wanted.clamp(start, end.max(start)))
}

/// Returns the commit that carries out a plan.
pub(in crate::engine) fn commit(
    group: &str,
    logs: &[Arc<Log>],
    plan: &[ResetOffset],
    stamp: Timestamp,
) -> OffsetCommit {
    let entries = logs.iter().zip(plan).map(|(log, reset)| {
        // The epoch of the record in front of the target, so that a loss of that record is noticed (KIP-320).
        let before = reset.target.checked_sub(1).filter(|before| *before >= log.start_offset());
        let leader_epoch = before.and_then(|before| log.epoch_of(before));
        let offset = CommittedOffset {
            offset: reset.target,
            leader_epoch,
            metadata: Arc::default(),
            commit_timestamp: stamp,
            owner: None,
        };
        (log.number(), Some(offset))
    });
    OffsetCommit { group: group.into(), change: OffsetChange::Set(entries.collect()) }
}
