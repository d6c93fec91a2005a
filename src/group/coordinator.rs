//! The coordinator of one group: a state machine without clock, lock or thread (the model of KIP-848).
//!
//! Every change of members, subscriptions or topics raises the group epoch and computes the target
//! assignment anew. Members are moved towards it one by one, each in its own `poll`:
//!
//! ```text
//!   join -> [ epoch raised, target computed ] <- subscribe, leave, expire, metadata_changed
//!                        |
//!        heartbeat: holds more than the target?
//!          yes: Reconcile { revoke } -> commit, listener -> revoked() -> heartbeat again
//!          no:  Reconcile { assign: target - held, less what others still hold }, epoch := group epoch
//! ```
//!
//! The shell's poll is a loop: `heartbeat` until `Unchanged`, acknowledging each `revoke` by `revoked`.
//!
//! Invariants:
//! - **G1** No partition is held by two members. A member holds a partition from the answer that
//!   assigns it until it calls `revoked`, leaves or is evicted.
//! - **G2** In a `Stable` group every partition of every existing topic that somebody subscribes to is
//!   held, and nothing else is.
//! - **G3** The group epoch never falls; a member's epoch never falls while it is a member, and never
//!   passes the group's.
//! - **G4** A refused call changes nothing.
//! - **G5** What a member was told to give up it can only get back after it gave it up: it may have
//!   begun to.
//! - **G6** A partition of a topic that was deleted and created again is revoked before it is assigned
//!   anew, so that no position is carried over.
//! - **G7** If a heartbeat of a member would tell it something new, then its version has risen since
//!   the last one; if it would move a partition, the member is in the news to be woken.
//! - **G8** A member inside the engine is not evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::assignor::{Assignor, GroupSubscription, MemberSubscription};
use super::describe::{GroupDescription, GroupState, MemberDescription, MemberState};
use super::member::{Member, MemberConfig, MemberEpoch, MemberId, Owned};
use super::topics::{TopicInfo, Topics, TopicsView};
use crate::error::Error;
use crate::types::TopicPartition;

/// One group; see the module for its invariants.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    name: Arc<str>,
    assignor: Arc<dyn Assignor>,
    /// The group epoch, which is always that of the target too.
    epoch: MemberEpoch,
    members: BTreeMap<MemberId, Member>,
    /// The subscribed topics that exist, as of the last change.
    topics: TopicsView,
    /// Who holds a partition: the inverse of `Member::owned` (G1).
    owners: BTreeMap<TopicPartition, MemberId>,
    /// Who is to hold a partition: the inverse of `Member::target`.
    targets: BTreeMap<TopicPartition, MemberId>,
    /// Members whose version rose since `take_news`, and whether they are to be woken.
    news: BTreeMap<MemberId, bool>,
}

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

/// A member whose version rose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// The member.
    pub(crate) member: MemberId,
    /// Its version now, for the number that its polls compare.
    pub(crate) version: u64,
    /// Whether a poll would move partitions, so that it is worth waking. If not, only the epoch rose.
    pub(crate) wake: bool,
}

/// Why a group refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The member was evicted or left; it holds nothing any more and must join again.
    UnknownMember,
    /// The commit's epoch is not the member's, and older than the assignment of a partition in it.
    StaleEpoch {
        /// The member's epoch.
        current: MemberEpoch,
    },
    /// The call is only for groups without members.
    HasMembers,
}

impl Refusal {
    /// The error for the caller of a consumer.
    pub(crate) fn into_error(self, group: &str) -> Error {
        let reason = match self {
            Self::UnknownMember => {
                "the member left or was evicted after max.poll.interval.ms without a poll"
            }
            Self::StaleEpoch { .. } => "the member epoch is stale: the group has rebalanced since",
            Self::HasMembers => "the group has active members",
        };
        Error::Fenced { group: group.to_owned(), reason }
    }
}

// Membership.
impl Group {
    /// A group without members.
    pub(crate) fn new(name: impl Into<Arc<str>>, assignor: Arc<dyn Assignor>) -> Self {
        Self {
            name: name.into(),
            assignor,
            epoch: MemberEpoch(0),
            members: BTreeMap::new(),
            topics: TopicsView::new(),
            owners: BTreeMap::new(),
            targets: BTreeMap::new(),
            news: BTreeMap::new(),
        }
    }

    /// Adds a member; it gets partitions by its next heartbeat.
    ///
    /// An id that is a member already joins from scratch: what it held is free (KIP-848's epoch 0).
    pub(crate) fn join(
        &mut self,
        id: MemberId,
        config: MemberConfig,
        subscription: BTreeSet<Arc<str>>,
        topics: &dyn Topics,
        now: Duration,
    ) {
        self.remove(&id);
        self.members.insert(id, Member::new(config, subscription, now));
        self.look_up(topics);
        self.retarget();
    }

    /// Replaces a member's subscription.
    pub(crate) fn subscribe(
        &mut self,
        id: &MemberId,
        subscription: BTreeSet<Arc<str>>,
        topics: &dyn Topics,
    ) -> Result<(), Refusal> {
        let member = self.members.get_mut(id).ok_or(Refusal::UnknownMember)?;
        if member.subscription != subscription {
            member.subscription = subscription;
            self.look_up(topics);
            self.retarget();
        }
        Ok(())
    }

    /// Removes a member; what it held is free at once.
    pub(crate) fn leave(&mut self, id: &MemberId) -> Result<(), Refusal> {
        if !self.remove(id) {
            return Err(Refusal::UnknownMember);
        }
        self.forget_unsubscribed();
        self.retarget();
        Ok(())
    }

    /// Topics were created or deleted, or partitions added.
    pub(crate) fn metadata_changed(&mut self, topics: &dyn Topics) {
        if self.look_up(topics) {
            self.retarget();
        }
    }

    /// Evicts the members that were silent for `max.poll.interval.ms`, and returns them.
    ///
    /// Their versions are gone with them: the shell makes their next poll ask the group, which
    /// answers [`Refusal::UnknownMember`].
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<MemberId> {
        let silent = |member: &Member| member.timer.deadline().is_some_and(|at| at <= now);
        let evicted: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| silent(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &evicted {
            self.remove(id);
        }
        if !evicted.is_empty() {
            self.forget_unsubscribed();
            self.retarget();
        }
        evicted
    }

    /// When [`Group::expire`] has something to do, if nothing happens until then.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.members.values().filter_map(|member| member.timer.deadline()).min()
    }

    /// Takes the member out of all maps; the epoch and target are the caller's.
    fn remove(&mut self, id: &MemberId) -> bool {
        self.news.remove(id);
        let Some(member) = self.members.remove(id) else { return false };
        for partition in member.owned.keys() {
            self.owners.remove(partition);
        }
        true
    }

    /// Reads the subscribed topics; whether something changed.
    fn look_up(&mut self, topics: &dyn Topics) -> bool {
        let found: TopicsView = self
            .subscribed()
            .into_iter()
            .filter_map(|name| Some((Arc::clone(name), topics.topic(name)?)))
            .collect();
        let changed = found != self.topics;
        self.topics = found;
        changed
    }

    fn forget_unsubscribed(&mut self) {
        let mut topics = std::mem::take(&mut self.topics);
        let subscribed = self.subscribed();
        topics.retain(|name, _| subscribed.contains(name));
        self.topics = topics;
    }

    fn subscribed(&self) -> BTreeSet<&Arc<str>> {
        self.members.values().flat_map(|member| &member.subscription).collect()
    }
}

// Heartbeats.
impl Group {
    /// A poll of the member: starts its interval anew and says what it must do next.
    ///
    /// A `revoke` is repeated until it is acknowledged; an `assign` is said once, the member holds it.
    pub(crate) fn heartbeat(&mut self, id: &MemberId, now: Duration) -> Result<Heartbeat, Refusal> {
        let member = self.members.get(id).ok_or(Refusal::UnknownMember)?;
        let revoke: Vec<_> = self.pending_revocation(member).cloned().collect();
        let assign: Vec<(TopicPartition, TopicInfo)> = if revoke.is_empty() {
            self.assignable(member).map(|(partition, topic)| (partition.clone(), topic)).collect()
        } else {
            Vec::new()
        };
        for (partition, _) in &assign {
            self.owners.insert(partition.clone(), id.clone());
        }
        let epoch = self.epoch;
        let member = self.members.get_mut(id).ok_or(Refusal::UnknownMember)?;
        member.timer.refresh(now);
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
        let member = self.members.get_mut(id).ok_or(Refusal::UnknownMember)?;
        let mut waiting = BTreeSet::new();
        for partition in partitions {
            if member.owned.remove(partition).is_some() {
                self.owners.remove(partition);
                waiting.extend(self.targets.get(partition).cloned());
            }
        }
        for next in waiting.iter().filter(|next| *next != id) {
            self.announce(next, false);
        }
        // The member itself may have reached the epoch, or go on to what it is to get.
        self.announce(id, true);
        Ok(())
    }

    /// The member's `poll` went into the engine: its interval starts anew and stands still.
    pub(crate) fn enter_poll(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        let member = self.members.get_mut(id).ok_or(Refusal::UnknownMember)?;
        member.timer.enter(now);
        member.timer.refresh(now);
        Ok(())
    }

    /// The member's program got control at `now`, from `poll`.
    pub(crate) fn exit(&mut self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.members.get_mut(id).ok_or(Refusal::UnknownMember)?.timer.exit(now);
        Ok(())
    }

    /// What the member holds and must give up (G5, G6).
    fn pending_revocation<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = &'a TopicPartition> {
        let keeps = move |partition: &TopicPartition, owned: &Owned| {
            let topic = self.topics.get(partition.topic());
            !owned.revoking
                && member.target.contains(partition)
                && topic.is_some_and(|topic| topic.id == owned.topic)
        };
        member
            .owned
            .iter()
            .filter(move |(partition, owned)| !keeps(partition, owned))
            .map(|(partition, _)| partition)
    }

    /// What the member is to hold and nobody holds (G1).
    fn assignable<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = (&'a TopicPartition, TopicInfo)> {
        member
            .target
            .iter()
            .filter(|partition| !self.owners.contains_key(*partition))
            .filter_map(|partition| Some((partition, self.topics.topic(partition.topic())?)))
    }
}

// Target.
impl Group {
    /// Raises the epoch, computes the target, and tells everybody.
    fn retarget(&mut self) {
        self.epoch = self.epoch.next();
        let assignment = self.assignor.assign(&self.subscription());
        self.targets.clear();
        for (id, partitions) in assignment {
            let Some(member) = self.members.get(&id) else { continue };
            for partition in partitions {
                let exists = self
                    .topics
                    .get(partition.topic())
                    .is_some_and(|topic| partition.partition() < topic.partitions);
                if exists && member.subscription.contains(partition.topic()) {
                    // Given twice: the first keeps it.
                    self.targets.entry(partition).or_insert_with(|| id.clone());
                }
            }
        }
        for member in self.members.values_mut() {
            member.target.clear();
        }
        for (partition, id) in &self.targets {
            if let Some(member) = self.members.get_mut(id) {
                member.target.insert(partition.clone());
            }
        }
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            self.announce(&id, true);
        }
    }

    fn subscription(&self) -> GroupSubscription<'_> {
        GroupSubscription {
            members: self
                .members
                .iter()
                .map(|(id, member)| {
                    let subscription = MemberSubscription {
                        instance_id: member.config.instance_id.as_deref(),
                        topics: &member.subscription,
                    };
                    (id, subscription)
                })
                .collect(),
            topics: self.topics.iter().map(|(name, topic)| (name, topic.partitions)).collect(),
        }
    }

    /// Raises the member's version if there is news for it (G7).
    ///
    /// A member that has nothing to give up and nothing to get is at the target: it takes the new epoch
    /// without being woken, and learns of it whenever it polls.
    fn announce(&mut self, id: &MemberId, new_epoch: bool) {
        let Some(member) = self.members.get(id) else { return };
        let revoke = self.pending_revocation(member).next().is_some();
        let wake = revoke || self.assignable(member).next().is_some();
        if !wake && !new_epoch {
            return;
        }
        let epoch = self.epoch;
        if let Some(member) = self.members.get_mut(id) {
            if !wake {
                member.epoch = epoch;
            }
            member.version = member.version.wrapping_add(1);
            *self.news.entry(id.clone()).or_default() |= wake;
        }
    }

    /// The members whose versions rose since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        let news = std::mem::take(&mut self.news);
        news.into_iter()
            .filter_map(|(member, wake)| {
                let version = self.members.get(&member)?.version;
                Some(News { member, version, wake })
            })
            .collect()
    }
}

// Questions.
impl Group {
    /// Its epoch.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> MemberEpoch {
        self.epoch
    }

    /// Whether the member may commit offsets of these partitions under this epoch.
    ///
    /// As in Kafka (4.2 and later), its own epoch is good for any partition, held or not; an older one
    /// is good for what it holds and had been given by then. One partition refused refuses all: a
    /// commit is one change.
    pub(crate) fn check_commit<'a>(
        &self,
        id: &MemberId,
        epoch: MemberEpoch,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(), Refusal> {
        let member = self.members.get(id).ok_or(Refusal::UnknownMember)?;
        let had = |partition| member.owned.get(partition).is_some_and(|owned| owned.since <= epoch);
        let fresh =
            epoch == member.epoch || (epoch < member.epoch && partitions.into_iter().all(had));
        if fresh { Ok(()) } else { Err(Refusal::StaleEpoch { current: member.epoch }) }
    }

    /// Whether offsets may be committed or changed by somebody who is no member.
    pub(crate) fn check_simple_commit(&self) -> Result<(), Refusal> {
        if self.members.is_empty() { Ok(()) } else { Err(Refusal::HasMembers) }
    }

    /// Its state.
    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.members.values().all(|m| self.member_state(m) == MemberState::Stable) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    fn member_state(&self, member: &Member) -> MemberState {
        if self.pending_revocation(member).next().is_some() {
            MemberState::UnrevokedPartitions
        } else if member.owned.len() < member.target.len() {
            // It keeps everything it holds, so it holds a part of the target.
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        }
    }

    /// Everything about it that a user may see.
    pub(crate) fn describe(&self) -> GroupDescription {
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            id: id.clone(),
            client_id: Arc::clone(&member.config.client_id),
            instance_id: member.config.instance_id.clone(),
            state: self.member_state(member),
            epoch: member.epoch,
            subscription: member.subscription.clone(),
            owned: member.owned.keys().cloned().collect(),
            target: member.target.iter().cloned().collect(),
        });
        GroupDescription {
            name: Arc::clone(&self.name),
            state: self.state(),
            epoch: self.epoch,
            assignor: self.assignor.name().to_owned(),
            members: members.collect(),
        }
    }
}

#[cfg(test)]
mod tests;
