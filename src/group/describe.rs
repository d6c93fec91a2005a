use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::{MemberEpoch, MemberId};
use crate::types::{OffsetReset, TopicPartition};

/// The state of a group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// It has no members.
    Empty,
    /// Its target is being computed.
    Assigning,
    /// Some member does not yet hold exactly what it is to hold.
    Reconciling,
    /// Every member holds what it is to hold.
    Stable,
}

/// How far a member is on its way to the target, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It holds what it is to hold.
    Stable,
    /// It holds partitions that it must give up in its next poll.
    UnrevokedPartitions,
    /// It is to get partitions that others hold, or that it has not fetched by a poll.
    UnreleasedPartitions,
}

/// A group as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupDescription {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// Its state.
    pub(crate) state: GroupState,
    /// Its epoch.
    pub(crate) epoch: MemberEpoch,
    /// The name of its assignor.
    pub(crate) assignor: String,
    /// Its members in the order of their ids.
    pub(crate) members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// A group that has never had a member since the broker was opened.
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

/// A member as it is at one moment.
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
    /// The epoch it has reconciled to; -2 of a static member that is away.
    pub(crate) epoch: MemberEpoch,
    /// The topics it subscribes to.
    pub(crate) subscription: BTreeSet<Arc<str>>,
    /// What it holds, sorted.
    pub(crate) owned: Vec<TopicPartition>,
    /// What it is to hold, sorted.
    pub(crate) target: Vec<TopicPartition>,
    /// `auto.offset.reset`.
    pub(crate) offset_reset: OffsetReset,
}
