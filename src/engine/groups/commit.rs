//! Changing the committed offsets of a group.

use super::GroupHandle;
use crate::engine::state::{Engine, Offsets};
use crate::error::Result;
use crate::group::{Group, MemberEpoch, MemberId, OffsetCommit};
use crate::journal::{Credit, SECTION_HEADER, SectionKind, section_header};
use crate::types::{Lsn, TopicPartition};

impl Engine {
    /// Journals a commit of offsets and applies it, if the group accepts it: as a member's, or as that
    /// of somebody outside, which only a group without members takes.
    pub(crate) fn commit_offsets<'p>(
        &self,
        group: &GroupHandle,
        member: Option<(&MemberId, MemberEpoch)>,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let now = self.clock().monotonic();
        self.change_offsets(
            group,
            |members| {
                match member {
                    Some((id, epoch)) => {
                        let checked = members.check_commit(id, epoch, partitions);
                        checked.and_then(|()| members.heard(id, now))
                    }
                    None => members.check_simple_commit(),
                }
                .map_err(|refusal| refusal.into_error(group.name(), member.map(|(id, _)| id)))
            },
            commit,
        )
    }

    /// Journals a change of a group's offsets and applies it, if `check` lets it pass under the lock that
    /// a change of the group's members takes.
    pub(in crate::engine) fn change_offsets(
        &self,
        group: &GroupHandle,
        check: impl FnOnce(&mut Group) -> Result<()>,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let (mut credit, body) = self.reserve_for(commit)?;
        let mut state = group.lock();
        check(&mut state.group)?;
        let mut offsets = self.offsets.lock();
        self.journal_offsets(&mut credit, &mut offsets, &body, commit)
    }

    /// The section of a change of offsets, and journal space for it.
    pub(in crate::engine) fn reserve_for(
        &self,
        commit: &OffsetCommit,
    ) -> Result<(Credit<'_>, Vec<u8>)> {
        let mut body = Vec::with_capacity(commit.bytes_hint());
        commit.encode(&mut body);
        Ok((self.reserve_urgent(SECTION_HEADER.saturating_add(body.len()))?, body))
    }

    /// Journals a change of offsets and applies it.
    pub(in crate::engine) fn journal_offsets(
        &self,
        credit: &mut Credit<'_>,
        offsets: &mut Offsets,
        body: &[u8],
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let _guard = self.journal.fail_on_panic("the committed offsets");
        let header = section_header(SectionKind::GROUP_OFFSETS, body.len() as u32);
        let lsn = self.journal.append(credit, &[&header, body])?;
        offsets.store.apply(commit);
        offsets.version = offsets.version.wrapping_add(1);
        Ok(lsn)
    }
}
