//! Checks that a new target is balanced and moves no more than balance requires.

use std::collections::BTreeSet;

use super::world::World;
use crate::group::coordinator::{AssignmentTask, TargetAssignment};
use crate::group::member::MemberId;
use crate::types::{GroupSubscription, TopicPartition};

impl World {
    /// Computes a target. Checks it against the assignor's input, and that input against what
    /// members hold.
    pub(super) fn run(&self, task: AssignmentTask) -> TargetAssignment {
        let target = task.run();
        self.check_claims(&target.subscription);
        check_target(&target);
        target
    }

    /// Checks that the assignor knows what each member holds and was not told to give up, and that
    /// no claim occurs twice.
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

/// Checks the balance and the number of moves by arithmetic, if all members subscribe alike.
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
        // A partition that moves is in no member's list, and no member exceeds the balance.
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
