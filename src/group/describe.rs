use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::{MemberEpoch, MemberId};
use crate::types::{OffsetReset, TopicPartition};

/// The state of a group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// The group has no members.
    Empty,
    /// The target is being computed.
    Assigning,
    /// Some member does not hold exactly its target yet.
    Reconciling,
    /// Every member holds its target.
    Stable,
}

/// How close a member is to its target, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It holds its target.
    Stable,
    /// It holds partitions that it must give up in its next poll.
    UnrevokedPartitions,
    /// Its target contains partitions that others hold, or that it has not taken in a poll yet.
    UnreleasedPartitions,
}

/// A group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupDescription {
    /// The name.
    pub(crate) name: Arc<str>,
    /// The state.
    pub(crate) state: GroupState,
    /// The epoch.
    pub(crate) epoch: MemberEpoch,
    /// The name of the assignor.
    pub(crate) assignor: String,
    /// The members in the order of their ids.
    pub(crate) members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// Returns the description of a group that has had no member since the broker was opened.
    pub(crate) fn empty(name: &str) -> Self {
        Self {
            name: name.into(),
            state: GroupState::Empty,
            epoch: MemberEpoch(0),
            assignor: String::new(),
            members: Vec::new(),
        }
    }
}

/// A member at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberDescription {
    /// Its id.
    pub(crate) id: MemberId,
    /// `client.id`.
    pub(crate) client_id: Arc<str>,
    /// `group.instance.id`.
    pub(crate) instance_id: Option<Arc<str>>,
    /// Its state.
    pub(crate) state: MemberState,
    /// The epoch to which it has reconciled, or -2 for a static member that is away.
    pub(crate) epoch: MemberEpoch,
    /// The topics it subscribes to.
    pub(crate) subscription: BTreeSet<Arc<str>>,
    /// The partitions it holds, sorted.
    pub(crate) owned: Vec<TopicPartition>,
    /// The partitions it should hold, sorted.
    pub(crate) target: Vec<TopicPartition>,
    /// `auto.offset.reset`.
    pub(crate) offset_reset: OffsetReset,
}
