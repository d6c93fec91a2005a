//! How members move towards their targets.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Group, Refusal};
use crate::group::member::{Member, MemberEpoch, MemberId, Owned};
use crate::group::topics::TopicInfo;
use crate::types::TopicPartition;

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// No news since the last answer.
    Unchanged,
    /// The member must take a step.
    Reconcile(Reconcile),
}

/// A step of a member towards its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reconcile {
    /// The epoch for the member's commits from now on.
    pub(crate) epoch: MemberEpoch,
    /// The version of the member after this answer.
    pub(crate) version: u64,
    /// Partitions that it must give up and then acknowledge by [`Group::revoked`]. If not empty,
    /// `assign` is.
    pub(crate) revoke: Vec<TopicPartition>,
    /// Partitions that it holds from now on in addition.
    pub(crate) assign: Vec<TopicPartition>,
}

impl Group {
    /// Records a poll of the member: restarts its interval and returns what it must do next.
    ///
    /// The answer repeats a `revoke` until the member acknowledges it. It contains an `assign` only
    /// once, because the member then holds the partitions.
    pub(crate) fn heartbeat(&mut self, id: &MemberId, now: Duration) -> Result<Heartbeat, Refusal> {
        let member = self.member(id)?;
        let revoke: Vec<_> = self.pending_revocation(id, member).cloned().collect();
        let assign: Vec<(TopicPartition, TopicInfo)> = if revoke.is_empty() {
            self.assignable(member).map(|(partition, topic)| (partition.clone(), topic)).collect()
        } else {
            Vec::new()
        };
        for (partition, _) in &assign {
            self.owners.insert(partition, id.clone());
        }
        let epoch = self.target_epoch;
        let member = self.member_mut(id)?;
        member.silence.refresh(now);
        for partition in &revoke {
            if let Some(owned) = member.owned.get_mut(partition) {
                owned.revoking = true;
            }
        }
        if revoke.is_empty() {
            member.epoch = epoch;
        }
        for (partition, topic) in &assign {
            let owned = Owned { since: epoch, topic: topic.id, revoking: false };
            member.owned.insert(partition.clone(), owned);
        }
        if revoke.is_empty() && assign.is_empty() && member.told_epoch == member.epoch {
            return Ok(Heartbeat::Unchanged);
        }
        member.told_epoch = member.epoch;
        Ok(Heartbeat::Reconcile(Reconcile {
            epoch: member.epoch,
            version: member.version,
            revoke,
            assign: assign.into_iter().map(|(partition, _)| partition).collect(),
        }))
    }

    /// Records that the member gave these partitions up. Others may have them now.
    ///
    /// Ignores partitions that it does not hold. It may get a partition back that it was not asked
    /// to give up.
    pub(crate) fn revoked(
        &mut self,
        id: &MemberId,
        partitions: &[TopicPartition],
    ) -> Result<(), Refusal> {
        self.member(id)?;
        let mut waiting = BTreeSet::new();
        let mut withheld = false;
        for partition in partitions {
            let Ok(member) = self.member_mut(id) else { break };
            if member.owned.remove(partition).is_some() {
                self.owners.remove(partition);
                waiting.extend(self.targets.get(partition).cloned());
                withheld |= self.is_withheld(partition);
            }
        }
        for next in waiting.iter().filter(|next| *next != id) {
            self.announce(next, false);
        }
        // The member itself may have reached the epoch, or can now get further partitions.
        self.announce(id, true);
        if withheld {
            self.raise();
        }
        Ok(())
    }

    /// Records that the member's `poll` entered the engine: restarts and pauses its interval.
    pub(crate) fn enter_poll(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        let member = self.member_mut(id)?;
        member.silence.enter(now);
        member.silence.refresh(now);
        Ok(())
    }

    /// Records that another call of the member entered the engine: pauses its interval.
    pub(crate) fn enter(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.enter(now);
        Ok(())
    }

    /// Records that the call returned to the member's program at `now`.
    pub(crate) fn exit(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.exit(now);
        Ok(())
    }

    /// Records a call other than `poll`, such as a commit: restarts its session.
    pub(crate) fn heard(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.heard(now);
        Ok(())
    }

    /// Returns what the member holds and must give up (G5, G6).
    pub(super) fn pending_revocation<'a>(
        &'a self,
        id: &'a MemberId,
        member: &'a Member,
    ) -> impl Iterator<Item = &'a TopicPartition> {
        let keeps = move |partition: &TopicPartition, owned: &Owned| {
            let topic = self.topics.get(partition.topic());
            !owned.revoking
                && self.targets.get(partition) == Some(id)
                && topic.is_some_and(|topic| topic.id == owned.topic)
        };
        member
            .owned
            .iter()
            .filter(move |(partition, owned)| !keeps(partition, owned))
            .map(|(partition, _)| partition)
    }

    /// Returns what the member should hold and no member holds (G1), as far as it exists.
    pub(super) fn assignable<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = (&'a TopicPartition, TopicInfo)> {
        let wanted = |partition: &&TopicPartition| {
            !self.owners.contains(partition) && member.topics.contains(partition.topic())
        };
        member
            .target
            .iter()
            .filter(wanted)
            .filter_map(|partition| Some((partition, self.existing(partition)?)))
    }

    /// Returns the topic of a partition if a member subscribes to it and the partition exists.
    pub(super) fn existing(&self, partition: &TopicPartition) -> Option<TopicInfo> {
        let topic = self.topics.get(partition.topic()).copied();
        topic.filter(|topic| partition.partition() < topic.partitions)
    }

    /// Returns whether a partition with subscribers is in no member's target, such as one that
    /// `cooperative-sticky` is moving.
    pub(super) fn is_withheld(&self, partition: &TopicPartition) -> bool {
        self.existing(partition).is_some() && !self.targets.contains(partition)
    }

    /// Raises the member's version if there is news for it (G7).
    ///
    /// A member with nothing to give up and nothing to get has reached the target. It takes the new
    /// epoch without being woken and learns of it in its next poll.
    pub(super) fn announce(&mut self, id: &MemberId, new_epoch: bool) {
        let Ok(member) = self.member(id) else { return };
        let revoke = self.pending_revocation(id, member).next().is_some();
        let wake = revoke || self.assignable(member).next().is_some();
        if !wake && !new_epoch {
            return;
        }
        let epoch = self.target_epoch;
        if let Ok(member) = self.member_mut(id) {
            if !wake {
                member.epoch = epoch;
            }
            member.version = member.version.wrapping_add(1);
            *self.news.entry(id.clone()).or_default() |= wake;
        }
    }
}
