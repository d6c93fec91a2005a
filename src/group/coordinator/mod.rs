//! The coordinator of one group: a state machine without clock, lock or thread (the model of KIP-848).
//!
//! Every change of members, subscriptions or topics raises the group epoch, and asks for a new target
//! assignment. Members are moved towards it one by one, each in its own `poll`:
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
//! After each change the shell runs `next_assignment` and `publish` until there is none, and then passes
//! on `take_news`. Its poll is a loop: `heartbeat` until `Unchanged`, acknowledging each `revoke` by
//! `revoked`.
//!
//! Invariants:
//! - **G1** No partition is held by two members. A member holds a partition from the answer that
//!   assigns it until it calls `revoked`, leaves, is evicted, or is fenced by its double.
//! - **G2** In a `Stable` group every partition of every existing topic that somebody subscribes to is
//!   held, or kept for a static member that is away; and nothing else is. (Unless the assignor gives
//!   partitions to nobody.)
//! - **G3** The group epoch never falls; a member's epoch never falls while it is a member, and never
//!   passes the target's, which never passes the group's.
//! - **G4** A refused call changes nothing.
//! - **G5** What a member was told to give up it can only get back after it gave it up: it may have
//!   begun to.
//! - **G6** A partition of a topic that was deleted and created again is revoked before it is assigned
//!   anew, so that no position is carried over.
//! - **G7** If a heartbeat of a member would tell it something new, then its version has risen since
//!   the last one; if it would move a partition, the member is in the news to be woken.
//! - **G8** A member inside the engine is not evicted.
//! - **G9** A static member that leaves for now and comes back in time moves no partition and raises no
//!   epoch.
//! - **G10** All assignors that the members agree on are proposed by every member.

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

/// One group; see the module for its invariants.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    name: Arc<str>,
    /// `group.max.size`.
    max_size: u32,
    epoch: MemberEpoch,
    /// The epoch that the target was computed for.
    target_epoch: MemberEpoch,
    /// The name of the assignor that computed it.
    assignor: Arc<str>,
    members: BTreeMap<MemberId, Member>,
    /// The static members, by `group.instance.id`.
    statics: BTreeMap<Arc<str>, MemberId>,
    /// The subscribed topics that exist, as of the last change.
    topics: TopicsView,
    /// Who holds a partition: the inverse of `Member::owned` (G1).
    owners: PartitionMap<MemberId>,
    /// Who is to hold a partition: the inverse of `Member::target`; may name members that are gone
    /// while a new target is asked for.
    targets: PartitionMap<MemberId>,
    /// Members whose version rose since `take_news`, and whether they are to be woken.
    news: BTreeMap<MemberId, bool>,
    /// Members that were evicted or fenced since `take_news`.
    gone: Vec<MemberId>,
}

/// What a member is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// The member.
    pub(crate) member: MemberId,
    /// Its version now, for the number that its polls compare; `None` if it is no member any more.
    pub(crate) version: Option<u64>,
    /// Whether a poll would move partitions, so that it is worth waking. If not, only the epoch rose.
    pub(crate) wake: bool,
}

impl Group {
    /// A group without members, that may have as many as `group.max.size` says.
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

    /// What there is to tell since the last call.
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

    /// The member of this id, which must be there and not away.
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

    /// Who is no member: evicted, or fenced by a member of the same instance id.
    fn stranger(&self, id: &MemberId) -> Refusal {
        let current = id.instance_id().and_then(|instance| self.statics.get(instance));
        match current {
            Some(current) if current != id => Refusal::FencedInstanceId,
            _ => Refusal::UnknownMember,
        }
    }
}
