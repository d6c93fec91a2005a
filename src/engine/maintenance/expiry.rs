//! Expires the committed offsets of groups that are no longer used.
//!
//! A group is in use while it has members. Each round and each close journals when the group last had some,
//! so that the time survives the process. The time is accurate to one round. It is never too early, except
//! for the last round before a crash. Expiry removes offsets with the sections that also delete offsets and
//! groups, one frame per group.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::state::Engine;
use crate::error::Result;
use crate::group::{Group, GroupOffsets, OffsetChange, OffsetCommit, expired};
use crate::types::{Timestamp, TopicPartition};

impl Engine {
    /// Runs a round of `offsets.retention.check.interval.ms`. Returns the number of expired offsets.
    pub(crate) fn expire_offsets(&self) -> Result<usize> {
        self.note_active_groups()?;
        let now = self.now_for_ages();
        let store = self.offsets.lock().store.snapshot();
        let mut groups: Vec<_> = store.iter().collect();
        // A deterministic order, so that runs can be reproduced.
        groups.sort_by_key(|(name, _)| *name);
        let mut count: usize = 0;
        for (name, offsets) in groups {
            count = count.saturating_add(self.expire_group(name, offsets, now)?);
        }
        self.groups.forget_idle(self.clock().monotonic());
        self.ids.expire(self.clock().now());
        Ok(count)
    }

    /// Journals the use of each group that had members since the last call.
    pub(in crate::engine) fn note_active_groups(&self) -> Result<()> {
        for group in self.groups.all() {
            // Silent members are not evicted here, because that may run an assignor of the program. Every
            // other look at the group evicts them. A group without offsets has nothing to keep.
            if group.take_active() && self.offsets.lock().store.group(group.name()).is_some() {
                let change = OffsetChange::Active(self.stamp());
                let commit = OffsetCommit { group: Arc::clone(group.name()), change };
                self.change_offsets(&group, |_| Ok(()), [], &commit)?;
            }
        }
        Ok(())
    }

    fn expire_group(
        &self,
        name: &Arc<str>,
        offsets: &Arc<GroupOffsets>,
        now: Timestamp,
    ) -> Result<usize> {
        let handle = self.groups.find(name);
        let read = handle.as_ref().and_then(|group| topics_read(&group.lock().group));
        let topic = |number| {
            let log = self.registry.by_number(number)?;
            Some(Arc::clone(log.partition().topic_name()))
        };
        let retention = self.config.offsets_retention;
        let Some(change) = expired(offsets, read.as_ref(), now, retention, topic) else {
            return Ok(0);
        };
        let count = match &change {
            OffsetChange::Set(entries) => entries.len(),
            OffsetChange::RemoveGroup | OffsetChange::Active(_) => offsets.len(),
        };
        let commit = OffsetCommit { group: Arc::clone(name), change };
        let (mut credit, body) = self.reserve_for(&commit)?;
        let state = handle.as_ref().map(|group| group.lock());
        let mut current = self.offsets.lock();
        // If a member joined, subscribed or committed meanwhile, all offsets stay for another round.
        let unchanged = state.as_ref().and_then(|state| topics_read(&state.group)) == read
            && handle.is_some() == self.groups.find(name).is_some()
            && current.store.group(name).is_some_and(|now| Arc::ptr_eq(now, offsets));
        if !unchanged {
            return Ok(0);
        }
        self.journal_offsets(&mut credit, &mut current, &body, &commit)?;
        Ok(count)
    }
}

/// Returns the topics that the members of a group read, or `None` without members.
fn topics_read(group: &Group) -> Option<BTreeSet<Arc<str>>> {
    let members = group.describe().members;
    let read = members.iter().flat_map(|member| {
        let held = member.owned.iter().map(TopicPartition::topic_name);
        member.subscription.iter().chain(held)
    });
    (!members.is_empty()).then(|| read.cloned().collect())
}
