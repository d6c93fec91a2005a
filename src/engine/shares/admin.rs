//! Creates, changes, resets and deletes share groups.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::group::{ShareGroup, SharePart};
use super::look::gone;
use super::state::{GroupSettings, ShareChange, ShareChangeKind};
use super::work::ShareWork;
use crate::config::ShareGroupConfig;
use crate::engine::groups::reset::{self, OffsetScope, ResetOffset, ResetTo};
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{
    ByHand, MemberNumber, Section, SharePartition, ShareSettings, Span, initial_start,
};
use crate::journal::{Credit, SectionKind, section_header};
use crate::log::Log;
use crate::sync::atomic::Ordering;
use crate::types::{Lsn, Timestamp, TopicPartition, check_group_name, planted};

/// The most bytes of a section that sets settings or removes something.
const CHANGE_MAX_BYTES: usize = 4 << 10;

impl Engine {
    /// Returns the share group of this name. Creates it if it does not exist.
    ///
    /// # Errors
    /// `InvalidName`. `GroupKind` if a consumer group has the name.
    pub(crate) fn share_group(&self, name: &str) -> Result<Arc<ShareGroup>> {
        self.share_group_or(name, &ShareGroupConfig::new())
    }

    /// As [`Engine::share_group`], with these settings for a group that is created.
    pub(crate) fn share_group_or(
        &self,
        name: &str,
        config: &ShareGroupConfig,
    ) -> Result<Arc<ShareGroup>> {
        self.check_open()?;
        match self.shares.find(name) {
            Some(group) => Ok(group),
            None => self.set_share_group(name, |settings| {
                let new = || GroupSettings::new(config.clone(), false);
                Ok(settings.cloned().unwrap_or_else(new))
            }),
        }
    }

    /// Changes the settings of a share group. Creates the group if it does not exist.
    pub(crate) fn set_share_group(
        &self,
        name: &str,
        change: impl Fn(Option<&GroupSettings>) -> Result<GroupSettings>,
    ) -> Result<Arc<ShareGroup>> {
        self.check_open()?;
        check_group_name(name)
            .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
        let mut credit = self.reserve_urgent(CHANGE_MAX_BYTES)?;
        let mut groups = self.shares.groups.lock();
        if !groups.get(name).is_some_and(|group| group.settings.lock().is_some()) {
            // Before there is an entry, so that what is refused leaves none.
            self.check_not_consumer_group(name)?;
            change(None)?.config.validate([])?;
        }
        let new = || Arc::new(ShareGroup::unborn(name.into()));
        let group = Arc::clone(groups.entry(name.into()).or_insert_with(new));
        let mut settings = group.settings.lock();
        drop(groups);
        let new = change(settings.as_ref())?;
        Self::validate_share(&group, &new.config)?;
        if settings.as_ref() != Some(&new) {
            let kind = ShareChangeKind::Settings(new.clone());
            self.journal_share(&mut credit, &group, kind)?;
            group.signals.follow(&new);
            for part in group.partitions.lock().values() {
                if let Some(state) = part.state.lock().as_mut() {
                    state.configure(Arc::clone(&new.share));
                }
            }
            *settings = Some(new);
        }
        drop(settings);
        group.signals.wake();
        Ok(group)
    }

    /// Deletes a share group. It is durable when this returns.
    ///
    /// # Errors
    /// `UnknownGroup`. `GroupNotEmpty` if it has members.
    pub(crate) fn delete_share_group(&self, name: &str) -> Result<()> {
        self.check_open()?;
        let mut credit = self.reserve_urgent(CHANGE_MAX_BYTES)?;
        let mut groups = self.shares.groups.lock();
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        let group = groups.get(name).cloned().ok_or_else(unknown)?;
        let mut settings = group.settings.lock();
        if settings.is_none() {
            return Err(unknown());
        }
        group.check_no_members()?;
        let partitions = group.partitions.lock();
        let mut held: Vec<_> = partitions.values().map(|part| part.state.lock()).collect();
        let lsn = self.journal_share(&mut credit, &group, ShareChangeKind::Delete)?;
        for state in &mut held {
            **state = None;
        }
        *settings = None;
        groups.remove(name);
        drop(held);
        drop((partitions, settings, groups));
        self.wait_synced(lsn)
    }

    /// Sets the settings of a share group. Creates the group if it does not exist.
    pub(crate) fn alter_share_group(&self, name: &str, config: &ShareGroupConfig) -> Result<()> {
        self.set_share_group(name, |settings| {
            let paused = settings.is_some_and(|settings| settings.paused);
            Ok(GroupSettings::new(config.clone(), paused))
        })?;
        self.wait_synced(self.journal.end())
    }

    /// Pauses a share group, or ends the pause.
    pub(crate) fn pause_share_group(&self, name: &str, paused: bool) -> Result<()> {
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        self.shares.find(name).ok_or_else(unknown)?;
        self.set_share_group(name, |settings| {
            let settings = settings.ok_or_else(unknown)?;
            Ok(GroupSettings { paused, ..settings.clone() })
        })?;
        self.wait_synced(self.journal.end())
    }

    /// Lets a share group begin elsewhere in some partitions: all that it knows of their records is dropped. It is
    /// durable when this returns.
    pub(crate) fn reset_share_group(
        &self,
        name: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        let group = self.shares.find(name).ok_or_else(unknown)?;
        let logs = match scope {
            OffsetScope::Committed => {
                let partitions = group.partitions.lock();
                let live = partitions.values().filter(|part| part.state.lock().is_some());
                live.map(|part| Arc::clone(part.log())).collect()
            }
            scope => reset::scope(&self.registry, name, None, scope)?,
        };
        let now = self.clock().now();
        let mut moves = Vec::new();
        for log in &logs {
            let start = group.partitions.lock().get(&log.number()).cloned();
            let start =
                start.and_then(|part| part.state.lock().as_ref().map(SharePartition::start));
            let target = reset::target(log, start, to, now)?;
            let partition = log.partition().clone();
            moves.push(ResetOffset { partition, committed: start, target });
        }
        let mut last = None;
        for (log, ResetOffset { target, .. }) in logs.iter().zip(&moves) {
            last = Some(self.reset_share_part(&group, log, *target)?);
        }
        last.map_or(Ok(()), |lsn| self.wait_synced(lsn))?;
        Ok(moves)
    }

    fn reset_share_part(&self, group: &ShareGroup, log: &Arc<Log>, start: i64) -> Result<Lsn> {
        let part = self.share_part(group, log)?;
        let mut credit = self.reserve_urgent(CHANGE_MAX_BYTES)?;
        // Members join under the lock of the settings: none comes meanwhile.
        let _settings = group.settings.lock();
        group.check_no_members()?;
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Err(gone(&part)) };
        self.follow_log_start(&part, state);
        let mut section = Section::default();
        state.decide_reset(start, &mut section);
        let kind = ShareChangeKind::Partition(log.number(), section.clone());
        let lsn = self.journal_share(&mut credit, group, kind)?;
        state.apply(&section, self.clock().monotonic());
        Ok(lsn)
    }

    /// Ends attempts for whoever has the records.
    pub(crate) fn end_by_hand(
        &self,
        name: &str,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
        what: ByHand,
    ) -> Result<()> {
        let unknown = || Error::UnknownGroup { group: name.to_owned() };
        let group = self.shares.find(name).ok_or_else(unknown)?;
        let part = self.share_part(&group, &self.registry.log(partition)?)?;
        let last = part.log().end_offset().saturating_sub(1).min(*offsets.end());
        let Some(span) = Span::new(*offsets.start(), last) else { return Ok(()) };
        loop {
            let done = self.share_work(&part, &ShareWork::ByHand(span, what))?;
            if !done.more {
                return self.wait_synced(done.lsn);
            }
        }
    }

    /// Checks settings with what the members of the group read, and with what it has read.
    fn validate_share(group: &ShareGroup, config: &ShareGroupConfig) -> Result<()> {
        let members = group.members.lock();
        let partitions = group.partitions.lock();
        let known = partitions.values().map(|part| part.log().partition().topic());
        config.validate(members.values().flatten().map(String::as_str).chain(known))
    }

    fn check_not_consumer_group(&self, name: &str) -> Result<()> {
        let has_offsets = self.offsets.lock().store.group(name).is_some();
        let has_members = self
            .groups
            .find(name)
            .is_some_and(|group| group.lock().group.check_simple_commit().is_err());
        if (has_offsets || has_members) && !planted("share_group_of_any_name") {
            return Err(Error::GroupKind { group: name.to_owned(), is_share: false });
        }
        Ok(())
    }

    /// Checks that no share group has the name of a consumer group.
    pub(crate) fn check_not_share_group(&self, name: &str) -> Result<()> {
        if self.shares.find(name).is_some() {
            return Err(Error::GroupKind { group: name.to_owned(), is_share: true });
        }
        Ok(())
    }

    /// Journals a change of a group. The caller holds the lock of what changes.
    fn journal_share(
        &self,
        credit: &mut Credit<'_>,
        group: &ShareGroup,
        kind: ShareChangeKind,
    ) -> Result<Lsn> {
        let body = ShareChange { group: Arc::clone(group.name()), kind }.encode();
        let header = section_header(SectionKind::SHARE, body.len() as u32);
        let _guard = self.journal.fail_on_panic("a change of a share group");
        let lsn = self.journal.append(credit, &[&header, &body])?;
        self.shares.version.fetch_add(1, Ordering::Relaxed);
        Ok(lsn)
    }

    /// Returns the share-partition of a group and a partition. Creates it if it does not exist: it begins where
    /// `share.auto.offset.reset` says.
    pub(crate) fn share_part(&self, group: &ShareGroup, log: &Arc<Log>) -> Result<Arc<SharePart>> {
        if let Some(part) = group.partitions.lock().get(&log.number())
            && part.state.lock().is_some()
        {
            return Ok(Arc::clone(part));
        }
        self.check_open()?;
        // Before the locks, because it may read files.
        let start = self.share_start_offset(group, log)?;
        let mut credit = self.reserve_urgent(CHANGE_MAX_BYTES)?;
        let settings = group.settings.lock();
        let share = settings.as_ref().map(|settings| Arc::clone(&settings.share));
        let share = share.ok_or_else(|| group.unknown())?;
        let mut partitions = group.partitions.lock();
        let new = || Arc::new(group.unborn_part(log));
        let part = Arc::clone(partitions.entry(log.number()).or_insert_with(new));
        // A freeze that comes now finds it in the list, and waits for its lock (G2).
        let mut state = part.state.lock();
        drop(partitions);
        drop(settings);
        if state.is_none() {
            // If that fails, it stays in the list without a state, and does not exist: others may wait for its lock.
            *state = Some(self.begin_share_part(&mut credit, group, log, (share, start))?);
        }
        drop(state);
        Ok(part)
    }

    /// Journals the start of a share-partition. The caller holds its lock.
    fn begin_share_part(
        &self,
        credit: &mut Credit<'_>,
        group: &ShareGroup,
        log: &Arc<Log>,
        (share, start): (Arc<ShareSettings>, i64),
    ) -> Result<SharePartition> {
        self.check_exist([&**log])?;
        let mut new = SharePartition::new(share, 0);
        let mut section = Section::default();
        new.decide_reset(start, &mut section);
        let kind = ShareChangeKind::Partition(log.number(), section.clone());
        self.journal_share(credit, group, kind)?;
        new.apply(&section, self.clock().monotonic());
        new.opened();
        Ok(new)
    }

    fn share_start_offset(&self, group: &ShareGroup, log: &Log) -> Result<i64> {
        let config = group.settings()?.config;
        let now = self.clock().now().as_millis();
        let bounds = (log.start_offset(), log.end_for(config.isolation_level)?);
        let mut failed = Ok(());
        let since = |time| match log.offset_since(Timestamp::from_millis(time)) {
            Ok(offset) => Some(offset.min(bounds.1)),
            Err(error) => {
                failed = Err(error);
                None
            }
        };
        let start = initial_start(config.auto_offset_reset, None, bounds, now, since);
        failed.map(|()| start)
    }

    /// Adds a member that reads these topics.
    ///
    /// # Errors
    /// `InvalidConfig` if one of them is the group's topic for dead letters.
    pub(crate) fn join_share(
        &self,
        group: &ShareGroup,
        member: Option<MemberNumber>,
        topics: Vec<String>,
    ) -> Result<MemberNumber> {
        self.check_open()?;
        let settings = group.settings.lock();
        let config = &settings.as_ref().ok_or_else(|| group.unknown())?.config;
        config.validate(topics.iter().map(String::as_str))?;
        let member = member.unwrap_or_else(|| self.shares.next_member());
        group.members.lock().insert(member, topics);
        Ok(member)
    }

    /// Removes a member. What it holds comes again at once.
    pub(crate) fn leave_share(&self, group: &ShareGroup, member: MemberNumber) -> Result<()> {
        // In a forked child, the locks may be held for ever.
        self.check_fork()?;
        group.members.lock().remove(&member);
        let parts: Vec<_> = group.partitions.lock().values().cloned().collect();
        let mut left = Ok(());
        for part in parts {
            left = left.and(self.end_session(&part, member));
        }
        left
    }

    fn end_session(&self, part: &Arc<SharePart>, member: MemberNumber) -> Result<()> {
        loop {
            match self.share_work(part, &ShareWork::SessionEnd(member)) {
                Ok(done) if done.more => {}
                // Its topic was deleted, and what the member had of it with it.
                Ok(_) | Err(Error::UnknownTopic { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
