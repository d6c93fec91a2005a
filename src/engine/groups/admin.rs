//! Describes groups, and changes their offsets from outside.

use std::sync::Arc;

use crate::engine::describe;
use crate::engine::groups::reset::{self, OffsetScope, ResetOffset, ResetTo};
use crate::engine::groups::summary::GroupSummary;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::{Group, GroupDescription, GroupOffsets, OffsetChange, OffsetCommit};
use crate::log::Log;

impl Engine {
    pub(crate) fn list_groups(&self) -> Vec<String> {
        if self.is_forked() {
            return Vec::new();
        }
        let mut names: Vec<String> =
            self.offsets.lock().store.iter().map(|(name, _)| name.to_string()).collect();
        let now = self.clock().monotonic();
        for group in self.groups.all() {
            if !group.describe(now).members.is_empty() {
                names.push(group.name().to_string());
            }
        }
        names.sort();
        names.dedup();
        names
    }

    pub(crate) fn describe_group(&self, name: &str) -> Result<GroupSummary> {
        self.check_fork()?;
        let members = self.groups.find(name).map(|group| group.describe(self.clock().monotonic()));
        let offsets = self.offsets_of(name);
        if offsets.is_none() && members.as_ref().is_none_or(|group| group.members.is_empty()) {
            return Err(Error::UnknownGroup { group: name.to_owned() });
        }
        let members = members.unwrap_or_else(|| GroupDescription::empty(name));
        let now = self.clock().now();
        Ok(describe::group(name, Some(&members), offsets.as_deref(), &self.registry, now))
    }

    pub(crate) fn plan_reset(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.check_fork()?;
        let offsets = self.offsets_of(group);
        let logs = reset::scope(&self.registry, group, offsets.as_deref(), scope)?;
        reset::plan(&logs, offsets.as_deref(), to, self.clock().now())
    }

    /// Moves the offsets of a group. They are durable when this returns.
    pub(crate) fn reset_offsets(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.check_open()?;
        let now = self.clock().now();
        let offsets = self.offsets_of(group);
        let logs = reset::scope(&self.registry, group, offsets.as_deref(), scope)?;
        let plan = reset::plan(&logs, offsets.as_deref(), to, now)?;
        let commit = reset::commit(group, &logs, &plan, self.stamp());
        self.administer_offsets(&commit, &logs, |members| refuse_members(members, group))?;
        Ok(plan)
    }

    /// Deletes offsets of a group. The deletion is durable when this returns.
    pub(crate) fn delete_offsets(&self, group: &str, scope: &OffsetScope) -> Result<()> {
        self.check_open()?;
        let unknown = || Error::UnknownGroup { group: group.to_owned() };
        let offsets = self.offsets_of(group).ok_or_else(unknown)?;
        let logs = reset::scope(&self.registry, group, Some(&offsets), scope)?;
        let entries = logs.iter().map(|log| (log.number(), None)).collect();
        let commit = OffsetCommit { group: group.into(), change: OffsetChange::Set(entries) };
        self.administer_offsets(&commit, &[], |members| refuse_subscribed(members, group, &logs))
    }

    /// Deletes a group. The deletion is durable when this returns.
    pub(crate) fn delete_group(&self, group: &str) -> Result<()> {
        self.check_open()?;
        let commit = OffsetCommit { group: group.into(), change: OffsetChange::RemoveGroup };
        self.administer_offsets(&commit, &[], |members| {
            refuse_members(members, group)?;
            // Checked under the group's lock, together with the change, so two deletions cannot both succeed.
            let known = self.offsets_of(group).is_some();
            known.then_some(()).ok_or_else(|| Error::UnknownGroup { group: group.to_owned() })
        })
    }

    /// Changes offsets if `check` accepts it. `logs` are the partitions that get an offset; they must still
    /// exist.
    fn administer_offsets(
        &self,
        commit: &OffsetCommit,
        logs: &[Arc<Log>],
        check: impl FnOnce(&Group) -> Result<()>,
    ) -> Result<()> {
        if matches!(&commit.change, OffsetChange::Set(entries) if entries.is_empty()) {
            return Ok(());
        }
        let group = self.groups.get(&commit.group)?;
        group.expire(self.clock().monotonic());
        let logs = logs.iter().map(|log| &**log);
        let lsn = self.change_offsets(&group, |members| check(members), logs, commit)?;
        self.wait_synced(lsn)
    }

    fn offsets_of(&self, group: &str) -> Option<Arc<GroupOffsets>> {
        self.offsets.lock().store.group(group).cloned()
    }
}

fn refuse_members(members: &Group, group: &str) -> Result<()> {
    members.check_simple_commit().map_err(|_| Error::GroupNotEmpty { group: group.to_owned() })
}

/// As in Kafka, a group with members may lose the offsets of topics that no member subscribes to.
fn refuse_subscribed(members: &Group, group: &str, logs: &[Arc<Log>]) -> Result<()> {
    let description = members.describe();
    let reads = |log: &Log| {
        let topic = log.partition().topic();
        description.members.iter().any(|member| {
            member.subscription.contains(topic)
                || member.owned.iter().any(|held| held.topic() == topic)
        })
    };
    if logs.iter().any(|log| reads(log)) {
        return Err(Error::GroupNotEmpty { group: group.to_owned() });
    }
    Ok(())
}
