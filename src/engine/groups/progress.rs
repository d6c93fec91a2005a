//! Computes how far a group has read in each partition. Reads logs and offsets, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::groups::summary::GroupOffset;
use crate::engine::registry::Registry;
use crate::group::{CommittedOffset, GroupOffsets, MemberDescription};
use crate::log::Log;
use crate::types::{OffsetReset, Timestamp, TopicPartition};

/// Returns one row for each partition that the group reads, in order. These are the partitions of topics that
/// a member subscribes to, those that a member holds, and those of topics in which the group has committed an
/// offset.
pub(in crate::engine) fn rows(
    members: &[MemberDescription],
    offsets: Option<&GroupOffsets>,
    registry: &Registry,
    now: Timestamp,
) -> Vec<GroupOffset> {
    let readers = Readers::new(members);
    let mut logs: BTreeMap<TopicPartition, Arc<Log>> = BTreeMap::new();
    let mut topics: BTreeSet<Arc<str>> =
        readers.subscribers.keys().map(|&t| Arc::clone(t)).collect();
    for (number, _) in offsets.iter().flat_map(|offsets| offsets.iter()) {
        let Some(log) = registry.by_number(number) else { continue };
        topics.insert(Arc::clone(log.partition().topic_name()));
        logs.insert(log.partition().clone(), log);
    }
    // A topic may have been deleted just now, while members still hold it.
    let known = topics.iter().filter_map(|topic| registry.topic(topic).ok());
    for topic in known {
        logs.extend(topic.logs.iter().map(|log| (log.partition().clone(), Arc::clone(log))));
    }
    let held = readers.holders.keys().filter_map(|&partition| registry.log(partition).ok());
    logs.extend(held.map(|log| (log.partition().clone(), log)));
    let row = |log: &Arc<Log>| {
        let committed = offsets.and_then(|offsets| offsets.get(log.number()));
        row(log, committed, &readers, now)
    };
    logs.values().map(row).collect()
}

/// The members of a group, by what they read.
struct Readers<'a> {
    holders: BTreeMap<&'a TopicPartition, &'a MemberDescription>,
    /// For each topic, the distinct policies of the members that subscribe to it.
    subscribers: BTreeMap<&'a Arc<str>, Vec<OffsetReset>>,
}

impl<'a> Readers<'a> {
    fn new(members: &'a [MemberDescription]) -> Self {
        let mut readers = Self { holders: BTreeMap::new(), subscribers: BTreeMap::new() };
        for member in members {
            for partition in &member.owned {
                readers.holders.insert(partition, member);
            }
            for topic in &member.subscription {
                let policies = readers.subscribers.entry(topic).or_default();
                if !policies.contains(&member.offset_reset) {
                    policies.push(member.offset_reset);
                }
            }
        }
        readers
    }

    /// Returns where the group begins in a partition without a committed offset. The policy of the member
    /// that holds the partition decides. If no member holds it, the lowest of the subscribers' choices
    /// counts. Without a subscriber, it is the log start.
    fn start(&self, log: &Log, now: Timestamp) -> i64 {
        let holder = self.holders.get(log.partition()).map(|member| &member.offset_reset);
        let subscribers = || self.subscribers.get(log.partition().topic_name());
        let policies = match holder {
            Some(policy) => std::slice::from_ref(policy),
            None => subscribers().map(Vec::as_slice).unwrap_or_default(),
        };
        // With the policy `none` a member reads nothing until an offset is committed. That may be any offset,
        // so the whole log counts. The same holds if damage prevents following the policy.
        let start = |policy| log.reset_offset(policy, now).ok().flatten();
        let starts = policies.iter().map(|&policy| start(policy).unwrap_or(log.start_offset()));
        starts.min().unwrap_or(log.start_offset())
    }
}

fn row(
    log: &Log,
    committed: Option<&CommittedOffset>,
    readers: &Readers<'_>,
    now: Timestamp,
) -> GroupOffset {
    // Read the log end first: a group that begins there then has no lag, even if records arrive meanwhile.
    let end_offset = log.end_offset();
    let position = committed.map_or_else(|| readers.start(log, now), |committed| committed.offset);
    let lag = log.lag(position, end_offset);
    let holder = readers.holders.get(log.partition());
    let owner = committed.and_then(|committed| committed.owner.as_ref());
    GroupOffset {
        partition: log.partition().clone(),
        committed: committed.map(|committed| committed.offset),
        leader_epoch: committed.and_then(|committed| committed.leader_epoch),
        metadata: committed.map(|committed| committed.metadata.to_string()).unwrap_or_default(),
        transactional_id: owner.map(|owner| owner.id.to_string()),
        producer_epoch: owner.map(|owner| owner.epoch),
        commit_timestamp: committed.map(|committed| committed.commit_timestamp),
        end_offset,
        lag,
        time_lag: if lag == 0 { Some(Duration::ZERO) } else { age(log, position, now) },
        member: holder.map(|member| member.id.as_str().to_owned()),
    }
}

/// Returns the age of the first record at or behind `position`.
fn age(log: &Log, position: i64, now: Timestamp) -> Option<Duration> {
    // A reader of the record gets the damage reported. Here, its age is merely unknown.
    let sent = log.timestamp_at(position).ok()??;
    let millis = now.as_millis().saturating_sub(sent.as_millis());
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}
