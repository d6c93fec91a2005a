//! Questions that a group answers without changing.

use std::sync::Arc;

use super::{Group, Refusal};
use crate::group::describe::{GroupDescription, GroupState, MemberDescription, MemberState};
use crate::group::member::{Member, MemberEpoch, MemberId};
use crate::types::TopicPartition;

impl Group {
    /// Returns the group epoch.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> MemberEpoch {
        self.epoch
    }

    /// Checks whether the member may commit offsets of these partitions under this epoch.
    ///
    /// As in Kafka (4.2 and later), the member's own epoch is valid for any partition, held or not.
    /// An older epoch is valid for partitions that the member holds and had been given by then. A
    /// commit is one change: if one partition is refused, all are.
    pub(crate) fn check_commit<'a>(
        &self,
        id: &MemberId,
        epoch: MemberEpoch,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(), Refusal> {
        let member = self.member(id)?;
        let had = |partition| member.owned.get(partition).is_some_and(|owned| owned.since <= epoch);
        let fresh =
            epoch == member.epoch || (epoch < member.epoch && partitions.into_iter().all(had));
        if fresh { Ok(()) } else { Err(Refusal::StaleEpoch { current: member.epoch }) }
    }

    /// Checks that the member owns these partitions.
    pub(crate) fn check_owned<'a>(
        &self,
        id: &MemberId,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<(), Refusal> {
        let member = self.member(id)?;
        let owned = partitions.into_iter().all(|partition| member.owned.contains_key(partition));
        if owned { Ok(()) } else { Err(Refusal::NotOwned) }
    }

    /// Checks whether a caller that is no member may commit or change offsets.
    pub(crate) fn check_simple_commit(&self) -> Result<(), Refusal> {
        if self.members.is_empty() { Ok(()) } else { Err(Refusal::HasMembers) }
    }

    /// Returns the state of the group.
    pub(crate) fn state(&self) -> GroupState {
        let stable = |(id, member)| self.member_state(id, member) == MemberState::Stable;
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.target_epoch != self.epoch {
            GroupState::Assigning
        } else if self.members.iter().all(stable) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    fn member_state(&self, id: &MemberId, member: &Member) -> MemberState {
        if member.is_away() {
            MemberState::Stable
        } else if self.pending_revocation(id, member).next().is_some() {
            MemberState::UnrevokedPartitions
        } else if member.owned.len() < member.target.len() {
            // It keeps everything it holds, so it holds a part of the target.
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        }
    }

    /// Returns everything about the group that a user may see.
    pub(crate) fn describe(&self) -> GroupDescription {
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            id: id.clone(),
            client_id: Arc::clone(&member.config.client_id),
            instance_id: id.instance_id().map(Into::into),
            state: self.member_state(id, member),
            epoch: member.epoch,
            subscription: (*member.topics).clone(),
            owned: member.owned.keys().cloned().collect(),
            target: member.target.clone(),
            offset_reset: member.config.offset_reset,
        });
        GroupDescription {
            name: Arc::clone(&self.name),
            state: self.state(),
            epoch: self.epoch,
            assignor: (*self.assignor).to_owned(),
            members: members.collect(),
        }
    }
}
