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
    /// Nothing that the member was not told before.
    Unchanged,
    /// What the member must do now.
    Reconcile(Reconcile),
}

/// A step of a member towards its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reconcile {
    /// The epoch for the member's commits from now on.
    pub(crate) epoch: MemberEpoch,
    /// The version of the member that this answer brings it up to.
    pub(crate) version: u64,
    /// What it must give up, and then acknowledge by [`Group::revoked`]. If not empty, `assign` is.
    pub(crate) revoke: Vec<TopicPartition>,
    /// What it holds from now on in addition.
    pub(crate) assign: Vec<TopicPartition>,
}

impl Group {
    /// A poll of the member: starts its interval anew and says what it must do next.
    ///
    /// A `revoke` is repeated until it is acknowledged; an `assign` is said once, the member holds it.
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

    /// The member gave these partitions up: others may have them now.
    ///
    /// What it does not hold is passed over; what it was not asked to give up it may get again.
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
        // The member itself may have reached the epoch, or go on to what it is to get.
        self.announce(id, true);
        if withheld {
            self.raise();
        }
        Ok(())
    }

    /// The member's `poll` went into the engine: its interval starts anew and stands still.
    pub(crate) fn enter_poll(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        let member = self.member_mut(id)?;
        member.silence.enter(now);
        member.silence.refresh(now);
        Ok(())
    }

    /// Another call of the member went into the engine: its interval stands still.
    pub(crate) fn enter(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.enter(now);
        Ok(())
    }

    /// The member's program got control at `now`.
    pub(crate) fn exit(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.exit(now);
        Ok(())
    }

    /// The member made a call that is not a poll, as a commit: its session goes on.
    pub(crate) fn heard(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.member_mut(id)?.silence.heard(now);
        Ok(())
    }

    /// What the member holds and must give up (G5, G6).
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

    /// What the member is to hold and nobody holds (G1), as far as it exists.
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

    /// The topic of a partition, if somebody subscribes to it and the partition exists.
    pub(super) fn existing(&self, partition: &TopicPartition) -> Option<TopicInfo> {
        let topic = self.topics.get(partition.topic()).copied();
        topic.filter(|topic| partition.partition() < topic.partitions)
    }

    /// Whether a partition that somebody should read is in nobody's target, as those that move by
    /// the assignor `cooperative-sticky`.
    pub(super) fn is_withheld(&self, partition: &TopicPartition) -> bool {
        self.existing(partition).is_some() && !self.targets.contains(partition)
    }

    /// Raises the member's version if there is news for it (G7).
    ///
    /// A member that has nothing to give up and nothing to get is at the target: it takes the new epoch
    /// without being woken, and learns of it whenever it polls.
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
