//! The coordinator of one group: a state machine without clock, lock or thread (the model of KIP-848).
//!
//! Every change of members, subscriptions or topics raises the group epoch and requests a new
//! target assignment. Members then move towards it one by one, each in its own `poll`:
//!
//! ```text
//!   join, subscribe, leave, expire, metadata_changed, enforce_rebalance: group epoch raised
//!                        |
//!          next_assignment -> run, outside of all locks -> publish: target epoch raised
//!                        |
//!        heartbeat: holds more than the target?
//!          yes: Reconcile { revoke } -> commit, listener -> revoked() -> heartbeat again
//!          no:  Reconcile { assign: target - held, less what others still hold }, epoch := target epoch
//! ```
//!
//! After each change the shell runs `next_assignment` and `publish` until there is no task left,
//! then delivers `take_news`. A poll of the shell is a loop: it calls `heartbeat` until the answer
//! is `Unchanged`, and acknowledges each `revoke` by `revoked`.
//!
//! Invariants:
//! - **G1** No two members hold the same partition. A member holds a partition from the answer that
//!   assigns it until it calls `revoked`, leaves, is evicted, or is fenced by a member with the
//!   same instance id.
//! - **G2** In a `Stable` group every partition of every existing, subscribed topic is held, or
//!   kept for a static member that is away. No other partition is held. (Unless the assignor leaves
//!   partitions unassigned.)
//! - **G3** The group epoch never falls. A member's epoch never falls while it is a member, and
//!   never exceeds the target's, which never exceeds the group's.
//! - **G4** A refused call changes nothing.
//! - **G5** A member that was told to give a partition up can get it back only after it gave it up,
//!   because it may have begun to.
//! - **G6** A partition of a topic that was deleted and created again is revoked before it is
//!   assigned again, so that no position carries over.
//! - **G7** If a heartbeat of a member would return something new, its version has risen since the
//!   last heartbeat. If the heartbeat would move a partition, the news names the member as one to
//!   wake.
//! - **G8** A member inside the engine is not evicted.
//! - **G9** A static member that leaves temporarily and returns in time moves no partition and
//!   raises no epoch.
//! - **G10** Every member proposes all assignors that the members agree on.

mod agree;
mod heartbeat;
mod membership;
mod question;
mod refusal;
mod target;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use heartbeat::{Heartbeat, Reconcile};
pub(crate) use refusal::Refusal;
#[cfg(test)]
pub(super) use target::{AssignmentTask, TargetAssignment};

use super::member::{Member, MemberEpoch, MemberId};
use super::partition_map::PartitionMap;
use super::topics::TopicsView;

/// One group. The module documentation lists its invariants.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    name: Arc<str>,
    /// `group.max.size`.
    max_size: u32,
    epoch: MemberEpoch,
    /// The epoch for which the target was computed.
    target_epoch: MemberEpoch,
    /// The name of the assignor that computed it.
    assignor: Arc<str>,
    members: BTreeMap<MemberId, Member>,
    /// The static members, by `group.instance.id`.
    statics: BTreeMap<Arc<str>, MemberId>,
    /// The existing subscribed topics, as of the last change.
    topics: TopicsView,
    /// The holder of each partition: the inverse of `Member::owned` (G1).
    owners: PartitionMap<MemberId>,
    /// The member that should hold each partition: the inverse of `Member::target`. May name
    /// removed members while a new target is pending.
    targets: PartitionMap<MemberId>,
    /// Members whose version rose since `take_news`, and whether to wake them.
    news: BTreeMap<MemberId, bool>,
    /// Members that were evicted or fenced since `take_news`.
    gone: Vec<MemberId>,
}

/// News for one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// The member.
    pub(crate) member: MemberId,
    /// Its current version, which its polls compare. `None` if it is no longer a member.
    pub(crate) version: Option<u64>,
    /// Whether a poll would move partitions, so that waking the member is worthwhile. If not, only
    /// the epoch rose.
    pub(crate) wake: bool,
}

impl Group {
    /// Creates a group without members, which may have up to `max_size` (`group.max.size`) of them.
    pub(crate) fn new(name: impl Into<Arc<str>>, max_size: u32) -> Self {
        Self {
            name: name.into(),
            max_size,
            epoch: MemberEpoch(0),
            target_epoch: MemberEpoch(0),
            assignor: Arc::from(""),
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            topics: TopicsView::new(),
            owners: PartitionMap::new(),
            targets: PartitionMap::new(),
            news: BTreeMap::new(),
            gone: Vec::new(),
        }
    }

    /// Returns the news since the last call.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        let gone = std::mem::take(&mut self.gone);
        let gone = gone.into_iter().map(|member| News { member, version: None, wake: true });
        let news = std::mem::take(&mut self.news);
        let risen = news.into_iter().filter_map(|(member, wake)| {
            let version = Some(self.members.get(&member)?.version);
            Some(News { member, version, wake })
        });
        gone.chain(risen).collect()
    }

    /// Returns the member with this id, which must exist and not be away.
    fn member(&self, id: &MemberId) -> Result<&Member, Refusal> {
        match self.members.get(id) {
            Some(member) if !member.is_away() => Ok(member),
            _ => Err(self.stranger(id)),
        }
    }

    fn member_mut(&mut self, id: &MemberId) -> Result<&mut Member, Refusal> {
        self.member(id)?;
        self.members.get_mut(id).ok_or(Refusal::UnknownMember)
    }

    /// Returns the refusal for an id that is no member: evicted, or fenced by a member of the same
    /// instance id.
    fn stranger(&self, id: &MemberId) -> Refusal {
        let current = id.instance_id().and_then(|instance| self.statics.get(instance));
        match current {
            Some(current) if current != id => Refusal::FencedInstanceId,
            _ => Refusal::UnknownMember,
        }
    }
}
