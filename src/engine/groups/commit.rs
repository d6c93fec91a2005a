//! Changes the committed offsets of a group.

use super::GroupHandle;
use crate::engine::state::{Engine, Offsets};
use crate::error::{Error, Result};
use crate::group::{Group, MemberEpoch, MemberId, OffsetCommit};
use crate::journal::{Credit, SECTION_HEADER, SectionKind, section_header};
use crate::log::Log;
use crate::types::{Lsn, planted};

impl Engine {
    /// Journals a commit of offsets and applies it, if the group accepts it. A commit without a member comes
    /// from outside the group; only a group without members accepts it.
    pub(crate) fn commit_offsets<'p>(
        &self,
        group: &GroupHandle,
        member: Option<(&MemberId, MemberEpoch)>,
        logs: impl IntoIterator<Item = &'p Log> + Clone,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let now = self.clock().monotonic();
        let partitions = logs.clone().into_iter().map(Log::partition);
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
            logs,
            commit,
        )
    }

    /// Journals a change of a group's offsets and applies it, if `check` accepts it. `check` runs under the
    /// lock that changes of members take. `logs` are the partitions that get an offset. The change is
    /// rejected if one of them was deleted, because a deletion removes the offsets, too.
    pub(in crate::engine) fn change_offsets<'p>(
        &self,
        group: &GroupHandle,
        check: impl FnOnce(&mut Group) -> Result<()>,
        logs: impl IntoIterator<Item = &'p Log>,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let (mut credit, body) = self.reserve_for(commit)?;
        let mut state = group.lock();
        check(&mut state.group)?;
        let mut offsets = self.offsets.lock();
        self.check_exist(logs)?;
        self.journal_offsets(&mut credit, &mut offsets, &body, commit)
    }

    /// Checks that the topics of partitions exist. The caller holds the lock of the offsets, which a deletion
    /// also takes.
    pub(in crate::engine) fn check_exist<'p>(
        &self,
        logs: impl IntoIterator<Item = &'p Log>,
    ) -> Result<()> {
        if planted("commit_to_deleted") {
            return Ok(());
        }
        let catalogue = self.catalogue.lock();
        // Partitions of one topic mostly follow each other.
        let mut checked = None;
        for log in logs {
            if checked.replace(log.topic_id()) == Some(log.topic_id()) {
                continue;
            }
            let partition = log.partition();
            if catalogue.topic(partition.topic())?.id != log.topic_id() {
                let start = self.registry.log(partition).map_or(0, |now| now.start_offset());
                let (partition, given) = (partition.clone(), log.topic_id());
                return Err(Error::InconsistentTopicId { partition, given, start });
            }
        }
        Ok(())
    }

    /// Returns whether the topic of a partition exists.
    pub(crate) fn exists(&self, log: &Log) -> bool {
        let catalogue = self.catalogue.lock();
        catalogue.topic(log.partition().topic()).is_ok_and(|topic| topic.id == log.topic_id())
    }

    /// Encodes the section of a change of offsets, and reserves journal space for it.
    pub(in crate::engine) fn reserve_for(
        &self,
        commit: &OffsetCommit,
    ) -> Result<(Credit<'_>, Vec<u8>)> {
        let mut body = Vec::with_capacity(commit.bytes_hint());
        commit.encode(&mut body);
        Ok((self.reserve_urgent(SECTION_HEADER.saturating_add(body.len()))?, body))
    }

    /// Journals a change of offsets and applies it, under the locks of the caller.
    pub(in crate::engine) fn journal_offsets(
        &self,
        credit: &mut Credit<'_>,
        offsets: &mut Offsets,
        body: &[u8],
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let _guard = self.journal.fail_on_panic("a commit of offsets");
        let header = section_header(SectionKind::GROUP_OFFSETS, body.len() as u32);
        let lsn = self.journal.append(credit, &[&header, body])?;
        offsets.store.apply(commit);
        offsets.version = offsets.version.wrapping_add(1);
        Ok(lsn)
    }
}
