//! What an operator sees of share groups.

use std::time::Duration;

use super::group::ShareGroup;
use super::state::{GroupSettings, ShareStates};
use crate::config::IsolationLevel;
use crate::engine::registry::Registry;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{MemberNumber, SharePartition, State};
use crate::log::Log;
use crate::types::TopicPartition;

/// A share group, from [`Admin::describe_share_group`](crate::Admin::describe_share_group).
///
/// ```
/// use grouplog::{Broker, Record, ShareGroupConfig, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").value("hello"))?;
/// let mut member = broker.share_consumer("mailers")?;
/// member.subscribe(["emails"])?;
/// let jobs = member.poll(std::time::Duration::ZERO)?;
/// let group = broker.admin().describe_share_group("mailers")?;
/// assert_eq!((group.lag(), group.partitions[0].under_way), (1, 1));
/// # drop(jobs);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupSummary {
    /// The name.
    pub name: String,
    /// The settings that are not defaults, as keys and values.
    pub config: Vec<(&'static str, String)>,
    /// Whether nothing is handed out.
    pub paused: bool,
    /// How many members it has; `None` if another process has them.
    pub members: Option<usize>,
    /// Its partitions in order.
    pub partitions: Vec<SharePartitionSummary>,
}

/// A partition of a share group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharePartitionSummary {
    /// The partition.
    pub partition: TopicPartition,
    /// Below this offset nothing is left but delayed records: Kafka's SPSO.
    pub start_offset: i64,
    /// The log end offset; for a group that reads committed records only, the last stable offset.
    pub end_offset: i64,
    /// How many records are unfinished, which is the sum of the next three: Kafka's lag.
    pub lag: u64,
    /// How many could be handed out now.
    pub not_started: u64,
    /// How many are with handlers, or reserved for one.
    pub under_way: u64,
    /// How many wait for their time: a backoff, or a time of delivery.
    pub delayed: u64,
    /// The offset at fault if `share.partition.max.record.locks` keeps the group from going on: nothing later is handed
    /// out before this record ends.
    pub window_full: Option<i64>,
    /// The first records that are under way, at most 1,000 spans.
    pub records: Vec<RecordUnderWay>,
}

/// Records that a member holds, in a [`SharePartitionSummary`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordUnderWay {
    /// The first offset.
    pub first_offset: i64,
    /// The last offset.
    pub last_offset: i64,
    /// The number of the member; `None` if it belongs to another process.
    pub member: Option<u32>,
    /// Which attempt this is, from 1; the one before if a member has only reserved the records.
    pub delivery_count: u16,
    /// How long the lock lasts; `None` if another process has it, or if it has ended.
    pub lock_left: Option<Duration>,
}

impl ShareGroupSummary {
    /// Returns how many records are unfinished.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.lag).fold(0, u64::saturating_add)
    }
}

/// The most spans of records under way that a summary lists for a partition.
const LISTED_MAX: usize = 1_000;

impl SharePartitionSummary {
    fn of(
        state: &SharePartition,
        log: &Log,
        level: IsolationLevel,
        wall: i64,
        monotonic: Option<Duration>,
    ) -> Result<Self> {
        let end_offset = log.end_for(level)?;
        let lag = state.lag(end_offset, wall);
        let records = state.under_way(i64::MIN).take(LISTED_MAX).map(|held| RecordUnderWay {
            first_offset: held.span.first,
            last_offset: held.span.last,
            member: (held.owner != MemberNumber::NOBODY).then_some(held.owner.0),
            delivery_count: held.count,
            lock_left: monotonic
                .and_then(|now| held.lock_end.checked_sub(now))
                .filter(|_| held.owner != MemberNumber::NOBODY && held.state != State::Available),
        });
        Ok(Self {
            partition: log.partition().clone(),
            start_offset: state.start(),
            end_offset,
            lag: lag.total,
            not_started: lag.not_started,
            under_way: lag.under_way,
            delayed: lag.delayed,
            window_full: state.window_full(),
            records: records.collect(),
        })
    }
}

fn summary(
    name: &str,
    settings: &GroupSettings,
    members: Option<usize>,
    mut partitions: Vec<SharePartitionSummary>,
) -> ShareGroupSummary {
    partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
    ShareGroupSummary {
        name: name.to_owned(),
        config: settings.config.entries(),
        paused: settings.paused,
        members,
        partitions,
    }
}

impl Engine {
    /// Returns the names of the share groups in order.
    pub(crate) fn list_share_groups(&self) -> Vec<String> {
        if self.is_forked() {
            return Vec::new();
        }
        self.shares.all().iter().map(|group| group.name().to_string()).collect()
    }

    /// Describes a share group.
    pub(crate) fn describe_share_group(&self, name: &str) -> Result<ShareGroupSummary> {
        self.check_fork()?;
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        let group = self.shares.find(name).ok_or_else(unknown)?;
        self.summary_of(&group)
    }

    fn summary_of(&self, group: &ShareGroup) -> Result<ShareGroupSummary> {
        let settings = group.settings()?;
        let level = settings.config.isolation_level;
        let parts: Vec<_> = group.partitions.lock().values().cloned().collect();
        let now = self.share_now();
        let mut partitions = Vec::new();
        for part in parts {
            let mut guard = part.state.lock();
            let Some(state) = guard.as_mut() else { continue };
            self.follow_log_start(&part, state);
            let monotonic = Some(now.monotonic);
            partitions.push(SharePartitionSummary::of(
                state,
                part.log(),
                level,
                now.wall,
                monotonic,
            )?);
        }
        let members = group.members.lock().len();
        Ok(summary(group.name(), &settings, Some(members), partitions))
    }
}

impl ShareStates {
    /// Describes a share group beside its writer.
    pub(in crate::engine) fn describe(
        &self,
        name: &str,
        registry: &Registry,
        wall: i64,
    ) -> Result<ShareGroupSummary> {
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        let state = self.get(name).ok_or_else(unknown)?;
        let level = state.settings.config.isolation_level;
        let mut partitions = Vec::new();
        for (number, partition) in &state.partitions {
            let Some(log) = registry.by_number(*number) else { continue };
            let mut partition = SharePartition::clone(partition);
            let start = log.start_offset();
            if start > partition.log_start() {
                partition.apply(&crate::group::share::Section::log_start(start), Duration::ZERO);
            }
            partitions.push(SharePartitionSummary::of(&partition, &log, level, wall, None)?);
        }
        Ok(summary(name, &state.settings, None, partitions))
    }
}
