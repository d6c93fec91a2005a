//! The offsets that a transaction commits, and those that it expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consumer::{GroupMetadata, OffsetAndMetadata, Taken, TakenPosition, Taking};
use crate::engine::{Committer, Engine, ExpectedOffset, FrameOffsets, GroupHandle, OwnerClaim};
use crate::error::{Error, Result};
use crate::group::{CommitOwner, CommittedOffset, MemberEpoch, MemberId, OffsetCommit};
use crate::log::Log;
use crate::types::{PartitionNumber, TopicPartition};

/// The offsets of a transaction, by group and partition. A later offset of a partition replaces an earlier one.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    groups: BTreeMap<Arc<str>, OfGroup>,
    /// The most bytes of their sections in a frame.
    bytes: usize,
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
    /// Returns the most bytes of the sections in a frame.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes after these offsets are added, each of another partition.
    pub(super) fn bytes_with<'o>(
        &self,
        group: &str,
        owner: Option<&OwnerClaim>,
        offsets: impl IntoIterator<Item = (&'o Log, &'o OffsetAndMetadata)>,
    ) -> usize {
        let of_group = self.groups.get(group);
        let (mut bytes, mut is_new) = (self.bytes, of_group.is_none());
        for (log, offset) in offsets {
            if std::mem::take(&mut is_new) {
                bytes = bytes.saturating_add(FrameOffsets::section_bound(group, owner));
            }
            let before = of_group.and_then(|group| group.positions.get(&log.number()));
            let before = before.map_or(0, |given| entry_bound(&given.position));
            bytes = bytes.saturating_sub(before).saturating_add(entry_bound(offset));
        }
        bytes
    }

    /// Returns the bytes after the positions taken from a consumer are added.
    pub(super) fn bytes_with_taken(&self, owner: Option<&OwnerClaim>, taking: &Taking) -> usize {
        let taken = taking.positions.iter().map(|taken| (&*taken.log, &taken.position));
        self.bytes_with(taking.group.name(), owner, taken)
    }

    /// Adds the positions taken from a consumer.
    pub(super) fn take(&mut self, owner: Option<&OwnerClaim>, taking: Taking) {
        if taking.positions.is_empty() {
            return;
        }
        taking.enter(&mut self.taken);
        let bytes = self.bytes_with_taken(owner, &taking);
        let Taking { group, member, positions, .. } = taking;
        for TakenPosition { log, position } in positions {
            self.put(&group, log, member.clone(), position);
        }
        self.bytes = bytes;
    }

    /// Adds offsets that the program chose, if `fits` takes the bytes that the sections have then.
    pub(super) fn send(
        &mut self,
        engine: &Engine,
        owner: Option<&OwnerClaim>,
        metadata: &GroupMetadata,
        offsets: impl IntoIterator<Item = (TopicPartition, OffsetAndMetadata)>,
        fits: impl FnOnce(usize) -> Result<()>,
    ) -> Result<()> {
        engine.check_not_share_group(&metadata.group)?;
        let group = engine.groups.get(&metadata.group)?;
        let committer = (!metadata.member_id.is_empty()).then(|| {
            let id = MemberId::named(&metadata.member_id, metadata.instance_id.is_some());
            (id, MemberEpoch(metadata.member_epoch))
        });
        let mut resolved = BTreeMap::new();
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
            resolved.insert(log.number(), (log, offset));
        }
        let all = resolved.values().map(|(log, offset)| (&**log, offset));
        let bytes = self.bytes_with(group.name(), owner, all);
        fits(bytes)?;
        for (log, offset) in resolved.into_values() {
            self.put(&group, log, committer.clone(), offset);
        }
        self.bytes = bytes;
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

fn entry_bound(offset: &OffsetAndMetadata) -> usize {
    OffsetCommit::entry_bound(offset.metadata())
}
