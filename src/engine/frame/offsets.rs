//! The offsets of groups that a frame commits, and those that it expects.

use std::sync::Arc;

use super::Frame;
use crate::engine::groups::{GroupHandle, GroupState};
use crate::engine::owners::OwnerClaim;
use crate::engine::state::{Engine, Offsets};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, MemberEpoch, MemberId, OffsetChange, OffsetCommit};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::log::Log;
use crate::sync::MutexGuard;
use crate::types::planted;

/// The offsets that a frame commits for one group.
#[derive(Debug)]
pub(crate) struct FrameOffsets {
    group: Arc<GroupHandle>,
    /// The partitions that get an offset, each with the member that commits it.
    logs: Vec<(Arc<Log>, Committer)>,
    commit: OffsetCommit,
    header: [u8; SECTION_HEADER],
    body: Vec<u8>,
}

/// The member that commits an offset, with its epoch when it gave the offset. `None` if the group must have no
/// members.
pub(crate) type Committer = Option<(MemberId, MemberEpoch)>;

impl FrameOffsets {
    /// Creates the offsets of one group. Each partition occurs once. Returns the first error among them.
    pub(crate) fn new(
        group: Arc<GroupHandle>,
        offsets: impl ExactSizeIterator<Item = Result<(Arc<Log>, Committer, CommittedOffset)>>,
    ) -> Result<Self> {
        let mut logs = Vec::with_capacity(offsets.len());
        let mut entries = Vec::with_capacity(offsets.len());
        for offset in offsets {
            let (log, committer, offset) = offset?;
            entries.push((log.number(), Some(offset)));
            logs.push((log, committer));
        }
        let change = OffsetChange::Set(entries);
        let commit = OffsetCommit { group: Arc::clone(group.name()), change };
        let mut body = Vec::with_capacity(commit.bytes_hint());
        commit.encode(&mut body);
        let header = section_header(SectionKind::GROUP_OFFSETS, body.len() as u32);
        Ok(Self { group, logs, commit, header, body })
    }

    /// Returns the most bytes of the section of a group, without its entries.
    pub(crate) fn section_bound(group: &str, owner: Option<&OwnerClaim>) -> usize {
        let body = OffsetCommit::bound(group, owner.map(|owner| &*owner.id));
        SECTION_HEADER.saturating_add(body)
    }

    pub(super) fn bytes(&self) -> usize {
        SECTION_HEADER.saturating_add(self.body.len())
    }

    pub(super) fn section(&self) -> [&[u8]; 2] {
        [&self.header, &self.body]
    }

    /// Tells the group that its members are in a call of the engine, or no longer are.
    pub(super) fn tell_presence(&self, engine: &Engine, inside: bool) {
        let now = engine.clock().monotonic();
        let mut last = None;
        for (id, _) in self.logs.iter().filter_map(|(_, committer)| committer.as_ref()) {
            if last.replace(id) != Some(id) {
                if inside { self.group.enter(id, now) } else { self.group.exit(id, now) }
            }
        }
    }

    /// Checks, under the group's lock, that the group accepts the offsets: each member exists, it owns its
    /// partitions, and its epoch is not older than their assignment.
    fn check(&self, engine: &Engine, state: &mut GroupState) -> Result<()> {
        if planted("transaction_of_evicted_member") {
            return Ok(());
        }
        let now = engine.clock().monotonic();
        let group = &mut state.group;
        for (log, committer) in &self.logs {
            let checked = match committer {
                Some((id, epoch)) => group
                    .check_commit(id, *epoch, [log.partition()])
                    .and_then(|()| group.check_owned(id, [log.partition()]))
                    .and_then(|()| group.heard(id, now)),
                None => group.check_simple_commit(),
            };
            let id = committer.as_ref().map(|(id, _)| id);
            checked.map_err(|refusal| refusal.into_error(self.group.name(), id))?;
        }
        Ok(())
    }
}

/// A committed offset that a frame expects.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedOffset {
    pub(crate) group: Arc<str>,
    pub(crate) log: Arc<Log>,
    /// `None` if the group must have committed none.
    pub(crate) offset: Option<i64>,
}

impl ExpectedOffset {
    fn check(&self, offsets: &Offsets) -> Result<()> {
        let committed = offsets.store.get(&self.group, self.log.number());
        let committed = committed.map(|committed| committed.offset);
        if committed == self.offset || planted("expected_commit_not_checked") {
            return Ok(());
        }
        Err(Error::UnexpectedCommit {
            group: (*self.group).into(),
            partition: self.log.partition().clone(),
            committed,
        })
    }
}

/// The held locks of groups and of the offsets.
#[derive(Debug)]
pub(super) struct OffsetLocks<'e> {
    // Dropped in this order.
    offsets: MutexGuard<'e, Offsets>,
    _groups: Vec<MutexGuard<'e, GroupState>>,
}

impl<R> Frame<'_, R> {
    /// Takes the locks of the groups by name, and that of the offsets, and checks everything under them. Returns
    /// `None` if the frame neither commits nor expects offsets.
    pub(super) fn lock_offsets<'e>(
        &'e self,
        engine: &'e Engine,
    ) -> Result<Option<OffsetLocks<'e>>> {
        if self.offsets.is_empty() && self.expected_offsets.is_empty() {
            return Ok(None);
        }
        debug_assert!(self.offsets.is_sorted_by(|a, b| a.group.name() < b.group.name()));
        let mut groups = Vec::with_capacity(self.offsets.len());
        for part in self.offsets {
            let mut state = part.group.lock();
            part.check(engine, &mut state)?;
            groups.push(state);
        }
        if planted("groups_unlocked_before_apply") {
            groups.clear();
        }
        let offsets = engine.offsets.lock();
        engine.check_exist(
            self.offsets.iter().flat_map(|part| part.logs.iter().map(|(log, _)| &**log)),
        )?;
        engine.check_exist(self.expected_offsets.iter().map(|expected| &*expected.log))?;
        self.expected_offsets.iter().try_for_each(|expected| expected.check(&offsets))?;
        Ok(Some(OffsetLocks { offsets, _groups: groups }))
    }
}

impl OffsetLocks<'_> {
    /// Applies the commits of a frame that is in the journal.
    pub(super) fn apply(&mut self, parts: &[FrameOffsets]) {
        for part in parts {
            self.offsets.store.apply(&part.commit);
            self.offsets.version = self.offsets.version.wrapping_add(1);
        }
    }
}
