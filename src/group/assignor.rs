use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::member::MemberId;
use crate::types::TopicPartition;

/// Decides which member is to read which partition.
///
/// A pure function: the same group gives the same assignment, whatever the order of calls. The
/// coordinator drops what makes no sense (partitions that do not exist, given twice, or of a topic the
/// member does not subscribe to); partitions that are given to nobody are read by nobody.
pub(crate) trait Assignor: Send + Sync + fmt::Debug {
    /// The name under which it is chosen, as `range`.
    fn name(&self) -> &str;

    /// The target assignment. Members that are left out get nothing.
    fn assign(&self, group: &GroupSubscription<'_>) -> Assignment;
}

/// What each member is to read.
pub(crate) type Assignment = BTreeMap<MemberId, Vec<TopicPartition>>;

/// A group, as an assignor sees it.
#[derive(Debug)]
pub(crate) struct GroupSubscription<'a> {
    /// The members in the order of their ids.
    pub(crate) members: BTreeMap<&'a MemberId, MemberSubscription<'a>>,
    /// The subscribed topics that exist, and how many partitions each has.
    pub(crate) topics: BTreeMap<&'a Arc<str>, u32>,
}

/// A member, as an assignor sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemberSubscription<'a> {
    /// `group.instance.id`.
    pub(crate) instance_id: Option<&'a str>,
    /// The topics it subscribes to, whether they exist or not.
    pub(crate) topics: &'a BTreeSet<Arc<str>>,
}

/// Kafka's `range` on the server's side: each topic's partitions in consecutive ranges.
///
/// Per topic, of n partitions and k subscribed members each gets n/k, the first n mod k one more.
/// Members with an instance id come first, by it; then by member id. Partitions of the same number of
/// topics with equal counts go to the same member, so they can be joined. Not sticky.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, group: &GroupSubscription<'_>) -> Assignment {
        let mut members: Vec<_> = group.members.iter().collect();
        // `false < true`: those with an instance id first. The sort key ends in the id, which is unique.
        members
            .sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id, **id));

        let mut subscribers: BTreeMap<&Arc<str>, Vec<&MemberId>> = BTreeMap::new();
        for (id, member) in members {
            for topic in member.topics {
                subscribers.entry(topic).or_default().push(id);
            }
        }

        let mut assignment: Assignment =
            group.members.keys().map(|&id| (id.clone(), Vec::new())).collect();
        for (&topic, &partitions) in &group.topics {
            let Some(subscribers) = subscribers.get(topic) else { continue };
            for (id, range) in subscribers.iter().zip(ranges(partitions, subscribers.len())) {
                let numbers = range.map(|p| TopicPartition::new(Arc::clone(topic), p));
                assignment.entry((*id).clone()).or_default().extend(numbers);
            }
        }
        assignment
    }
}

/// `0..partitions` in `members` consecutive ranges, the longer ones first.
fn ranges(partitions: u32, members: usize) -> impl Iterator<Item = std::ops::Range<u32>> {
    // More members than u32 counts: the quota is 0 for everyone past the first `partitions` anyway.
    let members = u32::try_from(members).unwrap_or(u32::MAX).max(1);
    let (quota, extras) = (partitions / members, partitions % members);
    let mut start = 0;
    (0..members).map(move |i| {
        let end = start + quota + u32::from(i < extras);
        std::mem::replace(&mut start, end)..end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, partitions, members (`id[instance]: topics`), result.
    type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

    /// The examples of Kafka's range assignors: RG those of the client's, SR those of the server's.
    const CASES: &[Case] = &[
        ("RG1 SR1", "t:3", &["C0: t", "C1: t"], &["t-0 t-1", "t-2"]),
        (
            "RG2 SR2",
            "t0:3 t1:3",
            &["C0: t0 t1", "C1: t0 t1"],
            &["t0-0 t0-1 t1-0 t1-1", "t0-2 t1-2"],
        ),
        ("RG3 SR3", "t:2", &["C0: t", "C1: t", "C2: t"], &["t-0", "t-1", ""]),
        (
            "RG4 SR4",
            "t1:3 t2:2",
            &["C0: t1", "C1: t1 t2", "C2: t1"],
            &["t1-0", "t1-1 t2-0 t2-1", "t1-2"],
        ),
        ("RG5", "t1:3 t2:2", &["C0: t1 t2", "C1: t1 t2"], &["t1-0 t1-1 t2-0", "t1-2 t2-1"]),
        (
            "RG6 SR5",
            "a:10",
            &["m1: a", "m10: a", "m2: a"],
            &["a-0 a-1 a-2 a-3", "a-4 a-5 a-6", "a-7 a-8 a-9"],
        ),
        ("RG7 SR6", "a:4 b:1", &["A: a b", "B: a b", "C: b"], &["a-0 a-1 b-0", "a-2 a-3", ""]),
        (
            "RG8 SR7",
            "t1:3 t2:2",
            &["C0[z]: t1 t2", "C1: t1 t2", "C2[a]: t1 t2"],
            &["t1-1 t2-1", "t1-2", "t1-0 t2-0"],
        ),
        ("RG9", "t:7", &["C0: t", "C1:", "C2: t"], &["t-0 t-1 t-2 t-3", "", "t-4 t-5 t-6"]),
        ("RG10", "t:5 u:0", &["C0: t u", "C1: t u ghost"], &["t-0 t-1 t-2", "t-3 t-4"]),
        ("RG11 SR9", "a:1 b:1 c:1", &["C0: a b c", "C1: a b c"], &["a-0 b-0 c-0", ""]),
    ];

    fn partitions(text: &str) -> BTreeSet<TopicPartition> {
        text.split_whitespace()
            .map(|tp| tp.rsplit_once('-').unwrap())
            .map(|(topic, number)| TopicPartition::new(topic, number.parse().unwrap()))
            .collect()
    }

    fn run(topics: &str, members: &[&str]) -> BTreeMap<MemberId, BTreeSet<TopicPartition>> {
        let topics: BTreeMap<Arc<str>, u32> = topics
            .split_whitespace()
            .map(|t| t.split_once(':').unwrap())
            .map(|(name, count)| (name.into(), count.parse().unwrap()))
            .collect();
        let members: Vec<_> = members
            .iter()
            .map(|text| {
                let (who, subscription) = text.split_once(':').unwrap();
                let (id, instance) = who.strip_suffix(']').map_or((who, None), |who| {
                    let (id, instance) = who.split_once('[').unwrap();
                    (id, Some(instance))
                });
                let subscription: BTreeSet<Arc<str>> =
                    subscription.split_whitespace().map(Into::into).collect();
                (MemberId::from_text(id), instance, subscription)
            })
            .collect();
        let group = GroupSubscription {
            members: members
                .iter()
                .map(|(id, instance_id, topics)| {
                    (id, MemberSubscription { instance_id: *instance_id, topics })
                })
                .collect(),
            topics: topics.iter().map(|(name, count)| (name, *count)).collect(),
        };
        let assignment = RangeAssignor.assign(&group);
        assignment.into_iter().map(|(id, list)| (id, list.into_iter().collect())).collect()
    }

    #[test]
    fn range_gives_the_results_of_kafkas_own_assignors() {
        for (name, topics, members, results) in CASES {
            let found: Vec<_> = run(topics, members).into_values().collect();
            let expected: Vec<_> = results.iter().map(|text| partitions(text)).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn ranges_cover_everything_once_and_differ_by_at_most_one() {
        for partitions in 0..40 {
            for members in 1..12 {
                let ranges: Vec<_> = ranges(partitions, members).collect();
                let all: Vec<u32> = ranges.iter().cloned().flatten().collect();
                assert_eq!(all, (0..partitions).collect::<Vec<_>>());
                assert!(ranges.is_sorted_by_key(|r| std::cmp::Reverse(r.len())));
                assert!(ranges[0].len() - ranges[members - 1].len() <= 1);
            }
        }
    }
}
