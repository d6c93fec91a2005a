//! How the group gets a target: it requests one under its lock, the shell computes it outside of
//! the lock, and the group publishes it under the lock.
//!
//! The assignor may be the program's own, and user code never runs under a lock of the engine. So
//! the group may have changed again by the time the target arrives. The group publishes it anyway,
//! as in KIP-848. It leaves out what has disappeared since, and the next target follows at once. So
//! a group that changes faster than its targets are computed still makes progress.

use std::sync::Arc;

use super::Group;
use crate::group::member::{Member, MemberEpoch, MemberId};
use crate::types::{Assignment, Assignor, GroupSubscription, MemberSubscription, TopicPartition};

/// A target to compute, with all inputs.
#[derive(Debug)]
pub(crate) struct AssignmentTask {
    epoch: MemberEpoch,
    assignor: Arc<dyn Assignor>,
    members: Vec<MemberId>,
    subscription: GroupSubscription,
}

impl AssignmentTask {
    /// Computes the target. May run the program's own code, so call it without a lock.
    pub(crate) fn run(self) -> TargetAssignment {
        let assignment = self.assignor.assign(&self.subscription);
        let Self { epoch, assignor, members, subscription } = self;
        TargetAssignment {
            epoch,
            assignor: assignor.name().into(),
            members,
            subscription,
            assignment,
        }
    }
}

/// A computed target, for [`Group::publish`].
#[derive(Debug)]
pub(crate) struct TargetAssignment {
    epoch: MemberEpoch,
    pub(in crate::group) assignor: Arc<str>,
    /// The members to which the lists of the assignment belong, in the same order.
    members: Vec<MemberId>,
    pub(in crate::group) subscription: GroupSubscription,
    pub(in crate::group) assignment: Assignment,
}

impl Group {
    /// Raises the group epoch after a change, which requests a new target.
    pub(super) fn raise(&mut self) {
        self.epoch = self.epoch.next();
        if self.members.is_empty() {
            self.targets.clear();
            self.target_epoch = self.epoch;
        }
    }

    /// Returns the next target to compute, if any.
    pub(crate) fn next_assignment(&self) -> Option<AssignmentTask> {
        if self.target_epoch == self.epoch {
            return None;
        }
        let assignor = self.elect()?;
        let members = self.members.keys().cloned().collect();
        let topics = self.topics.iter().map(|(name, topic)| (Arc::clone(name), topic.partitions));
        let subscriptions = self.members.iter().map(|(id, member)| self.see(id, member));
        let subscription = GroupSubscription::new(topics, subscriptions);
        Some(AssignmentTask { epoch: self.epoch, assignor, members, subscription })
    }

    /// Returns the member as assignors see it.
    fn see(&self, id: &MemberId, member: &Member) -> MemberSubscription {
        let seen = MemberSubscription::shared(Arc::clone(id.text()), Arc::clone(&member.topics))
            .with_owned(self.previous(id, member))
            .with_generation(self.target_epoch.0);
        match id.instance_id() {
            Some(instance) => seen.with_instance_id(instance),
            None => seen,
        }
    }

    /// Returns what the member would keep if nothing moved. That is what it holds and was not told
    /// to give up, plus the part of its target that no other member holds in this sense. No two
    /// members keep the same partition.
    fn previous(&self, id: &MemberId, member: &Member) -> Vec<TopicPartition> {
        let keeps = |member: &Member, partition: &TopicPartition| {
            let held = member.owned.get(partition);
            held.is_some_and(|owned| {
                !owned.revoking && self.existing(partition).is_some_and(|t| t.id == owned.topic)
            })
        };
        let held = member.owned.keys().filter(|partition| keeps(member, partition));
        let free = |partition: &&TopicPartition| {
            let owner = self.owners.get(partition).and_then(|owner| self.members.get(owner));
            !owner.is_some_and(|owner| keeps(owner, partition))
                && self.existing(partition).is_some()
                && self.targets.get(partition) == Some(id)
        };
        held.chain(member.target.iter().filter(free)).cloned().collect()
    }

    /// Makes a computed target the current one and announces it to the members. Ignores a target
    /// that is older than the current one.
    pub(crate) fn publish(&mut self, target: TargetAssignment) {
        if target.epoch <= self.target_epoch {
            return;
        }
        self.target_epoch = target.epoch;
        self.assignor = target.assignor;
        self.targets.clear();
        for member in self.members.values_mut() {
            member.target.clear();
        }
        for (id, partitions) in target.members.iter().zip(target.assignment) {
            let Some(member) = self.members.get_mut(id) else { continue };
            for partition in partitions {
                let topic = self.topics.get(partition.topic());
                let exists = topic.is_some_and(|topic| partition.partition() < topic.partitions);
                // If a partition is assigned twice, the first member keeps it.
                if exists
                    && member.topics.contains(partition.topic())
                    && !self.targets.contains(&partition)
                {
                    self.targets.insert(&partition, id.clone());
                    member.target.push(partition);
                }
            }
            member.target.sort_unstable();
        }
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            self.announce(&id, true);
        }
        if self.target_epoch == self.epoch && self.waits_for_nobody(&target.subscription) {
            self.raise();
        }
    }

    /// Returns whether the assignor withheld a partition because of an owner that no longer has it
    /// or that is away. Then no call of a member would request the next target. A partition that
    /// the assignor always leaves unassigned has no owner the next time, so this ends.
    fn waits_for_nobody(&self, subscription: &GroupSubscription) -> bool {
        let mut claimed = subscription.members().iter().flat_map(MemberSubscription::owned);
        claimed.any(|partition| self.is_withheld(partition) && !self.owners.contains(partition))
    }

    /// Computes and publishes until there is no task left. For callers that hold no lock.
    #[cfg(test)]
    pub(in crate::group) fn assign(&mut self) {
        while let Some(task) = self.next_assignment() {
            self.publish(task.run());
        }
    }
}
