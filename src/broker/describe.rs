//! Descriptions of topics and groups.

use std::collections::BTreeMap;

use super::registry::{Registry, Topic};
use super::report::{
    GroupOffset, GroupSummary, MemberSummary, PartitionDescription, TopicDescription,
};
use crate::group::{GroupDescription, GroupOffsets, GroupState};
use crate::types::TopicPartition;

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

pub(super) fn group(
    name: &str,
    members: Option<&GroupDescription>,
    offsets: Option<&std::sync::Arc<GroupOffsets>>,
    registry: &Registry,
) -> GroupSummary {
    let mut rows: BTreeMap<TopicPartition, GroupOffset> = BTreeMap::new();
    for (number, offset) in offsets.iter().flat_map(|offsets| offsets.iter()) {
        let Some(log) = registry.by_number(number) else { continue };
        let end_offset = log.end_offset();
        let row = GroupOffset {
            partition: log.partition().clone(),
            committed: Some(offset.offset),
            end_offset,
            lag: Some(end_offset.saturating_sub(offset.offset)),
            member: None,
        };
        rows.insert(row.partition.clone(), row);
    }
    let described = members.map(|group| group.members.as_slice()).unwrap_or_default();
    for member in described {
        for partition in &member.owned {
            let end_offset = registry.log(partition).map_or(0, |log| log.end_offset());
            let row = rows.entry(partition.clone()).or_insert_with(|| GroupOffset {
                partition: partition.clone(),
                committed: None,
                end_offset,
                lag: None,
                member: None,
            });
            row.member = Some(member.id.as_str().to_owned());
        }
    }
    let members_of = described.iter().map(|member| MemberSummary {
        id: member.id.as_str().to_owned(),
        client_id: member.client_id.to_string(),
        assignment: member.owned.clone(),
    });
    GroupSummary {
        name: name.to_owned(),
        state: members.map_or("Unknown", |group| state_name(group.state)),
        members: members_of.collect(),
        offsets: rows.into_values().collect(),
    }
}

fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::Reconciling => "Reconciling",
        GroupState::Stable => "Stable",
    }
}
