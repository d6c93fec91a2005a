//! Decides which committed offsets have exceeded `offsets.retention.minutes`, by the rules of Kafka 2.1 and
//! later (KIP-211).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::offsets::{GroupOffsets, OffsetChange};
use crate::types::{PartitionNumber, Timestamp};

/// Returns the change that removes a group's expired offsets at `now`; `None` if none has expired.
///
/// `read` holds the topics that the group's members read, and is `None` without members.
///
/// * A group with members keeps the offsets of topics that they read. An offset of another topic expires when
///   its commit is `retention` old.
/// * A group without members loses an offset when two things are `retention` old: the commit, and the time
///   when the group last had members. (Kafka counts from the latter alone, so an offset set for an empty
///   group could expire within a minute.)
pub(crate) fn expired(
    offsets: &GroupOffsets,
    read: Option<&BTreeSet<Arc<str>>>,
    now: Timestamp,
    retention: Duration,
    topic: impl Fn(PartitionNumber) -> Option<Arc<str>>,
) -> Option<OffsetChange> {
    let old = |since: Timestamp| {
        let age = now.as_millis().saturating_sub(since.as_millis());
        u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) >= retention)
    };
    if read.is_none() && !offsets.last_active().is_none_or(old) {
        return None;
    }
    let is_read =
        |number| read.is_some_and(|read| topic(number).is_some_and(|topic| read.contains(&topic)));
    let gone: Vec<_> = offsets
        .iter()
        .filter(|(number, offset)| old(offset.commit_timestamp) && !is_read(*number))
        .map(|(number, _)| (number, None))
        .collect();
    match gone.len() {
        0 => None,
        all if all == offsets.len() => Some(OffsetChange::RemoveGroup),
        _ => Some(OffsetChange::Set(gone)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::offsets::{CommittedOffset, OffsetCommit, OffsetStore};
    use super::*;

    const MINUTE: i64 = 60_000;
    const RETENTION: Duration = Duration::from_mins(10);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * MINUTE)
    }

    /// A group with these partitions, each committed at a minute, and last active at another.
    fn group(commits: &[(u32, i64)], last_active: Option<i64>) -> GroupOffsets {
        let mut store = OffsetStore::new();
        let offset = |minute| CommittedOffset {
            offset: 1,
            leader_epoch: None,
            metadata: Arc::default(),
            commit_timestamp: at(minute),
            owner: None,
        };
        let entries = commits
            .iter()
            .map(|&(number, minute)| (PartitionNumber(number), Some(offset(minute))))
            .collect();
        let changes = [
            Some(OffsetChange::Set(entries)),
            last_active.map(|minute| OffsetChange::Active(at(minute))),
        ];
        for change in changes.into_iter().flatten() {
            store.apply(&OffsetCommit { group: "g".into(), change });
        }
        GroupOffsets::clone(store.group("g").unwrap())
    }

    /// Returns the partitions whose offsets expire at a minute. Partition n belongs to topic tn.
    fn gone(offsets: &GroupOffsets, read: Option<&[&str]>, minute: i64) -> Vec<u32> {
        let read = read.map(|topics| topics.iter().map(|&topic| Arc::from(topic)).collect());
        let topic = |number: PartitionNumber| {
            ["t0", "t1", "t2"].get(number.0 as usize).map(|&topic| Arc::from(topic))
        };
        match expired(offsets, read.as_ref(), at(minute), RETENTION, topic) {
            None => Vec::new(),
            Some(OffsetChange::RemoveGroup) => offsets.iter().map(|(n, _)| n.0).collect(),
            Some(OffsetChange::Set(entries)) => entries.iter().map(|(n, _)| n.0).collect(),
            Some(OffsetChange::Active(_)) => panic!("expiry makes no group active"),
        }
    }

    #[test]
    fn a_group_that_never_had_members_loses_each_offset_by_its_commit() {
        let offsets = group(&[(0, 0), (1, 5)], None);
        assert_eq!(gone(&offsets, None, 9), [0_u32; 0]);
        assert_eq!(gone(&offsets, None, 10), [0]);
        assert_eq!(gone(&offsets, None, 15), [0, 1]);
    }

    #[test]
    fn an_empty_group_keeps_its_offsets_from_when_it_became_empty() {
        let offsets = group(&[(0, 0), (1, 5)], Some(100));
        assert_eq!(gone(&offsets, None, 109), [0_u32; 0]);
        assert_eq!(gone(&offsets, None, 110), [0, 1]);
        // An offset set from outside after that expires by its own commit.
        let offsets = group(&[(0, 0), (1, 105)], Some(100));
        assert_eq!(gone(&offsets, None, 110), [0]);
    }

    #[test]
    fn a_group_with_members_loses_offsets_of_unread_topics() {
        let offsets = group(&[(0, 0), (1, 0), (2, 95)], Some(100));
        assert_eq!(gone(&offsets, Some(&["t0"]), 100), [1]);
        assert_eq!(gone(&offsets, Some(&["t0"]), 105), [1, 2]);
        assert_eq!(gone(&offsets, Some(&["t0", "t1", "t2"]), 1_000), [0_u32; 0]);
        assert_eq!(gone(&offsets, Some(&[]), 1_000), [0, 1, 2]);
    }

    #[test]
    fn a_deleted_partition_counts_as_unread() {
        let offsets = group(&[(0, 0), (9, 0)], None);
        assert_eq!(gone(&offsets, Some(&["t0"]), 10), [9]);
    }

    #[test]
    fn a_clock_that_was_set_back_deletes_nothing() {
        let offsets = group(&[(0, 1_000)], None);
        assert_eq!(gone(&offsets, None, 0), [0_u32; 0]);
        let offsets = group(&[(0, 0)], Some(1_000));
        assert_eq!(gone(&offsets, None, 500), [0_u32; 0]);
    }
}
