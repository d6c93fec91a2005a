//! Describes topics and groups.

use crate::engine::compaction_report::PartitionCompaction;
use crate::engine::groups::progress;
use crate::engine::groups::summary::{GroupSummary, MemberSummary};
use crate::engine::registry::{Registry, Topic};
use crate::engine::report::{PartitionDescription, Retained, TopicDescription};
use crate::engine::retention_report::{Circumstances, PartitionRetention};
use crate::engine::state::Engine;
use crate::engine::usage::{self, DiskUsage};
use crate::error::{Error, Result};
use crate::group::{GroupDescription, GroupOffsets, GroupState, MemberDescription, MemberState};
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
        let (now, opening) = (self.now_for_ages(), self.journal.is_held());
        let failed = self.troubles.retention.lock().clone();
        let by = Circumstances { now, read: &|group, log| self.read_by(group, log), opening };
        let described = topic(&*self.registry.topic(name)?, by, failed.as_ref());
        let (ids, forgotten_ids) = self.ids.counts(described.id);
        Ok(TopicDescription { ids, forgotten_ids, ..described })
    }

    pub(crate) fn disk_usage(&self) -> Result<DiskUsage> {
        self.check_fork()?;
        let budget = self.budget();
        Ok(DiskUsage { budget, ..usage::of(&*self.storage, &self.registry)? })
    }
}

/// Describes a topic. `failed` is the partition where the last check of retention has failed.
pub(super) fn topic(
    topic: &Topic,
    by: Circumstances<'_>,
    failed: Option<&(TopicPartition, Error)>,
) -> TopicDescription {
    let failure = |log: &Log| {
        let failed = failed.filter(|(partition, _)| partition == log.partition());
        failed.map(|(_, error)| error.to_string())
    };
    let partitions = topic.logs.iter().map(|log| {
        let end_offset = log.end_offset();
        PartitionDescription {
            partition: log.partition().clone(),
            start_offset: log.start_offset(),
            end_offset,
            last_stable_offset: log.known_stable_end(),
            leader_epoch: log.epoch_of(end_offset),
            bytes: log.size_bytes(),
            segments: log.segment_count(),
            deleted: Retained::of(log),
            retention: PartitionRetention::of(log, by, failure(log)),
            compaction: PartitionCompaction::of(log, by.now),
        }
    });
    TopicDescription {
        name: topic.name.to_string(),
        id: topic.id,
        config: topic.config.entries(),
        partitions: partitions.collect(),
        ids: 0,
        forgotten_ids: 0,
    }
}

/// Describes a group as of `now`. `members` is `None` where they are not visible.
pub(super) fn group(
    name: &str,
    members: Option<&GroupDescription>,
    offsets: Option<&GroupOffsets>,
    registry: &Registry,
    now: Timestamp,
) -> GroupSummary {
    let described = members.map(|group| group.members.as_slice()).unwrap_or_default();
    GroupSummary {
        name: name.to_owned(),
        state: members.map_or("Unknown", |group| state_name(group.state)),
        epoch: members.map(|group| group.epoch.0),
        assignor: members.map(|group| group.assignor.clone()).filter(|name| !name.is_empty()),
        members: described.iter().map(member).collect(),
        offsets: progress::rows(described, offsets, registry, now),
    }
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
