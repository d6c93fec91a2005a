//! The offsets that a transaction commits, and those that it expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consumer::{GroupMetadata, OffsetAndMetadata, Taken, TakenPosition, Taking};
use crate::engine::{Committer, Engine, ExpectedOffset, FrameOffsets, GroupHandle, OwnerClaim};
use crate::error::{Error, Result};
use crate::group::{CommitOwner, CommittedOffset, MemberEpoch, MemberId};
use crate::log::Log;
use crate::types::{PartitionNumber, TopicPartition};

/// The offsets of a transaction, by group and partition. A later offset of a partition replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    groups: BTreeMap<Arc<str>, OfGroup>,
    pub(super) taken: Vec<Taken>,
    pub(super) expected: Vec<ExpectedOffset>,
}

#[derive(Debug)]
struct OfGroup {
    group: Arc<GroupHandle>,
    /// Boxed, because the node of a map has room for eleven of them.
    positions: BTreeMap<PartitionNumber, Box<Given>>,
}

/// An offset to commit, with the member that gave it.
#[derive(Debug)]
struct Given {
    log: Arc<Log>,
    committer: Committer,
    position: OffsetAndMetadata,
}

impl Offsets {
    /// Adds the positions taken from a consumer.
    pub(super) fn take(&mut self, taking: Taking) {
        if taking.positions.is_empty() {
            return;
        }
        taking.enter(&mut self.taken);
        let Taking { group, member, positions, .. } = taking;
        for TakenPosition { log, position } in positions {
            self.put(&group, log, member.clone(), position);
        }
    }

    /// Adds offsets that the program chose.
    pub(super) fn send(
        &mut self,
        engine: &Engine,
        metadata: &GroupMetadata,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
    ) -> Result<()> {
        engine.check_not_share_group(&metadata.group)?;
        let group = engine.groups.get(&metadata.group)?;
        let committer = (!metadata.member_id.is_empty()).then(|| {
            let id = MemberId::named(&metadata.member_id, metadata.instance_id.is_some());
            (id, MemberEpoch(metadata.member_epoch))
        });
        let mut resolved = Vec::new();
        for (partition, offset) in offsets {
            let log = engine.registry.log(&partition)?;
            if let Some(given) = offset.topic_id()
                && given != log.topic_id()
            {
                let start = log.start_offset();
                return Err(Error::InconsistentTopicId { partition, given, start });
            }
            // The time of the commit replaces this one.
            offset.to_committed(&log, engine.stamp())?;
            resolved.push((log, offset));
        }
        for (log, offset) in resolved {
            self.put(&group, log, committer.clone(), offset);
        }
        Ok(())
    }

    fn put(
        &mut self,
        group: &Arc<GroupHandle>,
        log: Arc<Log>,
        committer: Committer,
        position: OffsetAndMetadata,
    ) {
        let name = Arc::clone(group.name());
        let new = || OfGroup { group: Arc::clone(group), positions: BTreeMap::new() };
        let of_group = self.groups.entry(name).or_insert_with(new);
        of_group.positions.insert(log.number(), Box::new(Given { log, committer, position }));
    }

    /// Returns the offsets as a frame takes them, sorted by the names of the groups. `owner` commits them.
    pub(super) fn parts(
        &self,
        engine: &Engine,
        owner: Option<&OwnerClaim>,
    ) -> Result<Vec<FrameOffsets>> {
        let now = engine.stamp();
        let of = |owner: &OwnerClaim| CommitOwner { id: Arc::clone(&owner.id), epoch: owner.epoch };
        let owner = owner.map(|owner| Arc::new(of(owner)));
        let part = |OfGroup { group, positions }: &OfGroup| {
            let entries = positions.values().map(|given| {
                let Given { log, committer, position } = &**given;
                let committed = position.to_committed(log, now)?;
                let owner = owner.clone();
                Ok((Arc::clone(log), committer.clone(), CommittedOffset { owner, ..committed }))
            });
            FrameOffsets::new(Arc::clone(group), entries)
        };
        self.groups.values().map(part).collect()
    }
}
