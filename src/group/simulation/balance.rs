//! Whether a new target is balanced, and moves no more than balance needs.

use std::collections::BTreeSet;

use super::world::World;
use crate::group::coordinator::{AssignmentTask, TargetAssignment};
use crate::group::member::MemberId;
use crate::types::{GroupSubscription, TopicPartition};

impl World {
    /// Computes a target and judges it by what the assignor was told; and that by what members hold.
    pub(super) fn run(&self, task: AssignmentTask) -> TargetAssignment {
        let target = task.run();
        self.check_claims(&target.subscription);
        check_target(&target);
        target
    }

    /// What a member holds and was not told to give up, the assignor knows of, and no claim twice.
    fn check_claims(&self, subscription: &GroupSubscription) {
        let mut claims = BTreeSet::new();
        for member in subscription.members() {
            for partition in member.owned() {
                assert!(claims.insert(partition), "{partition} is claimed twice");
            }
            let is_member = |(id, _): &(&MemberId, _)| id.as_str() == member.id();
            let Some((_, consumer)) = self.consumers.iter().find(is_member) else { continue };
            for (partition, holding) in &consumer.holds {
                let topic = subscription.topics().iter().find(|(t, _)| **t == *partition.topic());
                let exists = topic.is_some_and(|(name, partitions)| {
                    partition.partition() < *partitions && self.topics[name].id == holding.topic
                });
                let keeps = exists && !consumer.revoking.contains(partition);
                assert!(!keeps || member.owned().contains(partition), "{partition} is held");
            }
        }
    }
}

/// Where all members subscribe alike, the numbers say what is balanced, and how much must move.
fn check_target(target: &TargetAssignment) {
    let sticky = ["sticky", "cooperative-sticky", "uniform"];
    let members = target.subscription.members();
    let alike = members.iter().all(|member| member.same_topics(&members[0]));
    if !alike || !sticky.contains(&&*target.assignor) {
        return;
    }
    let counts: Vec<usize> = target.assignment.iter().map(Vec::len).collect();
    let given: usize = counts.iter().sum();
    let all = target.subscription.partitions().count();
    let moved = |(member, list): (usize, &Vec<TopicPartition>)| {
        list.iter().filter(|partition| !members[member].owned().contains(partition)).count()
    };
    let new: usize = target.assignment.iter().enumerate().map(moved).sum();
    let kept = given - new;
    let (quota, extra) = (all / members.len(), all % members.len());
    if &*target.assignor == "cooperative-sticky" {
        // What moves is in nobody's list, and nobody is beyond balance.
        assert!(counts.iter().all(|count| *count <= quota + usize::from(extra > 0)), "{target:?}");
    } else {
        assert_eq!(given, all, "{target:?}");
        assert!(counts.iter().all(|count| (quota..=quota + 1).contains(count)), "{target:?}");
    }
    let owned: Vec<usize> = members.iter().map(|member| member.owned().len()).collect();
    let within: usize = owned.iter().map(|owned| (*owned).min(quota)).sum();
    let above = owned.iter().filter(|owned| **owned > quota).count();
    assert_eq!(kept, within + above.min(extra), "moves more than it must: {target:?}");
}
