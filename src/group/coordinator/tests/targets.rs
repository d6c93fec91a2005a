//! Targets that are computed while the group changes.

use super::*;
use crate::group::assignor::CooperativeStickyAssignor;

fn cooperative(group: &mut Group, number: u64, topics: &TopicsView) {
    let config = proposing(vec![Arc::new(CooperativeStickyAssignor)]);
    group.join(&id(number), config, names(&["t"]), topics, S(0)).unwrap();
    group.assign();
}

#[test]
fn a_withheld_partition_moves_once_its_owner_gave_it_up() {
    let topics = topics(&[("t", 1, 3)]);
    let mut group = group();
    cooperative(&mut group, 1, &topics);
    assert_eq!(step(&mut group, 1), "1 +t-0 +t-1 +t-2");
    cooperative(&mut group, 2, &topics);
    let targets = |group: &Group| -> Vec<usize> {
        group.describe().members.iter().map(|member| member.target.len()).collect()
    };
    assert_eq!(targets(&group), [2, 0]);
    assert_eq!(step(&mut group, 2), "2");
    assert_eq!(step(&mut group, 1), "1 -t-2");
    revoked(&mut group, 1, &[("t", 2)]);
    assert_eq!(targets(&group), [2, 1]);
    assert_eq!(step(&mut group, 2), "3 +t-2");
    assert_eq!(step(&mut group, 1), "3");
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn a_withheld_partition_moves_if_its_owner_leaves_or_gave_it_up_meanwhile() {
    let topics = topics(&[("t", 1, 3)]);
    let mut group = group();
    cooperative(&mut group, 1, &topics);
    step(&mut group, 1);
    cooperative(&mut group, 2, &topics);
    assert_eq!(step(&mut group, 1), "1 -t-2");
    // The next target is computed from what m-1 still holds, and published after it has given that
    // up.
    group.enforce_rebalance(&id(2)).unwrap();
    let task = group.next_assignment().unwrap();
    revoked_unassigned(&mut group, 1, 2);
    group.publish(task.run());
    group.assign();
    assert_eq!(step(&mut group, 2).split_once(' ').map(|(_, step)| step), Some("+t-2"));

    // The same with a member that went away.
    cooperative(&mut group, 3, &topics);
    group.leave(&id(1), GroupMembershipOperation::RemainInGroup, S(0)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 3).split_once(' ').map(|(_, step)| step), Some("+t-1"));
    assert_eq!(group.state(), GroupState::Stable);
}

fn revoked_unassigned(group: &mut Group, number: u64, partition: u32) {
    group.revoked(&id(number), &[TopicPartition::new("t", partition)]).unwrap();
}

#[test]
fn a_late_target_omits_removed_members_and_topics_and_the_next_one_follows() {
    let old = topics(&[("t", 1, 4), ("u", 2, 2)]);
    let mut group = group();
    for number in 1..=2 {
        group.join(&id(number), config(), names(&["t", "u"]), &old, S(0)).unwrap();
    }
    assert_eq!(group.state(), GroupState::Assigning);
    let task = group.next_assignment().unwrap();
    group.leave(&id(2), GroupMembershipOperation::Default, S(0)).unwrap();
    group.metadata_changed(&topics(&[("t", 1, 4)]));
    group.publish(task.run());
    assert_eq!(step(&mut group, 1), "2 +t-0 +t-1", "nothing of u, and m-2 is no more");
    assert_eq!(group.state(), GroupState::Assigning);
    group.assign();
    assert_eq!(step(&mut group, 1), "4 +t-2 +t-3");
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn of_two_targets_the_newer_one_counts_whichever_comes_first() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    group.join(&id(1), config(), names(&["t"]), &topics, S(0)).unwrap();
    let older = group.next_assignment().unwrap();
    group.join(&id(2), config(), names(&["t"]), &topics, S(0)).unwrap();
    let newer = group.next_assignment().unwrap();
    group.publish(newer.run());
    let before = group.describe();
    group.publish(older.run());
    assert_eq!(group.describe(), before);
    assert_eq!(step(&mut group, 1), "2 +t-0");
}

#[test]
fn an_enforced_rebalance_asks_the_assignor_again() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    step(&mut group, 1);
    assert!(group.next_assignment().is_none());
    group.enforce_rebalance(&id(1)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 1), "2");
    assert_eq!(group.enforce_rebalance(&id(9)), Err(Refusal::UnknownMember));
}

/// Leaves the last partition of the topic unassigned.
#[derive(Debug)]
struct AllButOne;

impl Assignor for AllButOne {
    fn name(&self) -> &'static str {
        "all-but-one"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let mut all: Vec<_> = group.partitions().collect();
        all.pop();
        vec![all]
    }
}

#[test]
fn unassigned_partitions_stay_unread_and_cause_no_further_targets() {
    let topics = topics(&[("t", 1, 3)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    assert_eq!(step(&mut group, 1), "1 +t-0 +t-1 +t-2");
    leave(&mut group, 1);
    let config = proposing(vec![Arc::new(AllButOne), Arc::new(RangeAssignor)]);
    group.join(&id(2), config, names(&["t"]), &topics, S(0)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 2), "3 +t-0 +t-1");
    // Range first, then all but one again: only the partitions that must go are given up.
    join(&mut group, 1, &["t"], &topics);
    leave(&mut group, 1);
    step(&mut group, 2);
    assert_eq!(group.state(), GroupState::Stable);
    assert!(group.next_assignment().is_none());
}
