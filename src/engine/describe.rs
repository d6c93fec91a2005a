//! Descriptions of topics and groups.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::groups::summary::{GroupOffset, GroupSummary, MemberSummary};
use crate::engine::registry::{Registry, Topic};
use crate::engine::report::{PartitionDescription, TopicDescription};
use crate::engine::state::Engine;
use crate::engine::usage::{self, DiskUsage};
use crate::error::Result;
use crate::group::{
    CommittedOffset, GroupDescription, GroupOffsets, GroupState, MemberDescription, MemberState,
};
use crate::log::Log;
use crate::types::{Timestamp, TopicPartition};

impl Engine {
    pub(crate) fn list_topics(&self) -> Vec<String> {
        if self.is_forked() {
            return Vec::new();
        }
        self.registry.topics().iter().map(|topic| topic.name.to_string()).collect()
    }

    pub(crate) fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        self.check_fork()?;
        Ok(topic(&*self.registry.topic(name)?))
    }

    pub(crate) fn disk_usage(&self) -> Result<DiskUsage> {
        self.check_fork()?;
        usage::of(&*self.storage, &self.registry)
    }
}

pub(super) fn topic(topic: &Topic) -> TopicDescription {
    let partitions = topic.logs.iter().map(|log| {
        let end_offset = log.end_offset();
        PartitionDescription {
            partition: log.partition().clone(),
            start_offset: log.start_offset(),
            end_offset,
            leader_epoch: log.epoch_of(end_offset),
            bytes: log.size_bytes(),
            segments: log.segment_count(),
        }
    });
    TopicDescription {
        name: topic.name.to_string(),
        id: topic.id,
        config: topic.config.entries(),
        partitions: partitions.collect(),
    }
}

/// A group as of `now`; `members` is `None` where they cannot be seen.
pub(super) fn group(
    name: &str,
    members: Option<&GroupDescription>,
    offsets: Option<&GroupOffsets>,
    registry: &Registry,
    now: Timestamp,
) -> GroupSummary {
    let mut rows: BTreeMap<TopicPartition, GroupOffset> = BTreeMap::new();
    for (number, offset) in offsets.iter().flat_map(|offsets| offsets.iter()) {
        let Some(log) = registry.by_number(number) else { continue };
        rows.insert(log.partition().clone(), row(&log, Some(offset), now));
    }
    let described = members.map(|group| group.members.as_slice()).unwrap_or_default();
    for member in described {
        for partition in &member.owned {
            // One whose topic was deleted a moment ago is still held for a moment.
            let Ok(log) = registry.log(partition) else { continue };
            let row = rows.entry(partition.clone()).or_insert_with(|| row(&log, None, now));
            row.member = Some(member.id.as_str().to_owned());
        }
    }
    GroupSummary {
        name: name.to_owned(),
        state: members.map_or("Unknown", |group| state_name(group.state)),
        epoch: members.map(|group| group.epoch.0),
        assignor: members.map(|group| group.assignor.clone()).filter(|name| !name.is_empty()),
        members: described.iter().map(member).collect(),
        offsets: rows.into_values().collect(),
    }
}

fn row(log: &Log, committed: Option<&CommittedOffset>, now: Timestamp) -> GroupOffset {
    let end_offset = log.end_offset();
    GroupOffset {
        partition: log.partition().clone(),
        committed: committed.map(|committed| committed.offset),
        leader_epoch: committed.and_then(|committed| committed.leader_epoch),
        metadata: committed.map(|committed| committed.metadata.to_string()).unwrap_or_default(),
        commit_timestamp: committed.map(|committed| committed.commit_timestamp),
        end_offset,
        lag: committed.map(|committed| end_offset.saturating_sub(committed.offset)),
        time_lag: committed.and_then(|committed| time_lag(log, committed.offset, now)),
        member: None,
    }
}

/// The age of the first record that is still to be read.
fn time_lag(log: &Log, committed: i64, now: Timestamp) -> Option<Duration> {
    if committed >= log.end_offset() {
        return Some(Duration::ZERO);
    }
    // Damage is reported to who reads the record; here it only means that its age is not known.
    let sent = log.timestamp_at(committed).ok()??;
    let millis = now.as_millis().saturating_sub(sent.as_millis());
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

fn member(member: &MemberDescription) -> MemberSummary {
    MemberSummary {
        id: member.id.as_str().to_owned(),
        client_id: member.client_id.to_string(),
        instance_id: member.instance_id.as_deref().map(str::to_owned),
        state: match member.state {
            MemberState::Stable => "Stable",
            MemberState::UnrevokedPartitions => "UnrevokedPartitions",
            MemberState::UnreleasedPartitions => "UnreleasedPartitions",
        },
        epoch: member.epoch.0,
        subscription: member.subscription.iter().map(ToString::to_string).collect(),
        assignment: member.owned.clone(),
    }
}

fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::Assigning => "Assigning",
        GroupState::Reconciling => "Reconciling",
        GroupState::Stable => "Stable",
    }
}
