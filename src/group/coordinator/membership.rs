//! Members that join, change, leave and expire.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Group, Refusal};
use crate::group::member::{Member, MemberConfig, MemberEpoch, MemberId};
use crate::group::subscription::Subscription;
use crate::group::topics::{Topics, TopicsView};
use crate::types::GroupMembershipOperation;

impl Group {
    /// Adds a member, which gets partitions by its next heartbeat.
    ///
    /// If the id is already a member, it joins from scratch: everything it held becomes free
    /// (KIP-848's epoch 0). A static member takes the place of the one with its instance id,
    /// whether that one is away or not. The old one is fenced, and its next calls are refused. With
    /// the same subscription and assignors nothing else changes, and no epoch rises (G9).
    pub(crate) fn join(
        &mut self,
        id: &MemberId,
        config: MemberConfig,
        subscription: Subscription,
        topics: &dyn Topics,
        now: Duration,
    ) -> Result<(), Refusal> {
        let before = id.instance_id().and_then(|instance| self.statics.get(instance)).cloned();
        if before.as_ref().is_some_and(|before| before.number() > id.number()) {
            return Err(Refusal::FencedInstanceId);
        }
        let before = before.or_else(|| self.members.contains_key(id).then(|| id.clone()));
        if before.is_none() && self.members.len() >= self.max_size as usize {
            return Err(Refusal::GroupMaxSizeReached { max: self.max_size });
        }
        self.check_agreement(&config, before.as_ref())?;

        let names = self.share(subscription.resolve(topics));
        let mut member = Member::new(id, config, subscription, names, now);
        if let Some(instance) = id.instance_id() {
            self.statics.insert(instance.into(), id.clone());
        }
        let mut unchanged = false;
        if let Some(before) = before
            && let Some(place) = self.take_out(&before)
        {
            let withheld = self.free(&place);
            if id.instance_id().is_some() {
                // A target that is being computed names the predecessor.
                unchanged = !withheld
                    && self.target_epoch == self.epoch
                    && place.topics == member.topics
                    && place.config.proposes_as(&member.config);
                self.inherit(&mut member, id, place);
            }
            if before != *id {
                self.gone.push(before);
            }
        }
        self.members.insert(id.clone(), member);
        if unchanged {
            self.announce(id, true);
            return Ok(());
        }
        self.look_up(topics);
        self.raise();
        Ok(())
    }

    /// Replaces a member's subscription.
    pub(crate) fn subscribe(
        &mut self,
        id: &MemberId,
        subscription: Subscription,
        topics: &dyn Topics,
    ) -> Result<(), Refusal> {
        self.member(id)?;
        let names = self.share(subscription.resolve(topics));
        let member = self.member_mut(id)?;
        member.subscription = subscription;
        if member.topics != names {
            member.topics = names;
            self.look_up(topics);
            self.raise();
        }
        Ok(())
    }

    /// Removes a member, or keeps its place for a while. Everything it held is free at once.
    pub(crate) fn leave(
        &mut self,
        id: &MemberId,
        operation: GroupMembershipOperation,
        now: Duration,
    ) -> Result<(), Refusal> {
        let member = self.member(id)?;
        let remains = match operation {
            GroupMembershipOperation::Default => id.instance_id().is_some(),
            GroupMembershipOperation::LeaveGroup => false,
            GroupMembershipOperation::RemainInGroup => true,
        };
        if remains {
            let absence = member.config.absence();
            self.go_away(id, now, absence);
        } else {
            self.remove(id);
            self.forget_unsubscribed();
            self.raise();
        }
        Ok(())
    }

    /// Requests a new target without a change, as Kafka's `enforceRebalance`. For assignors that
    /// depend on more than the group.
    pub(crate) fn enforce_rebalance(&mut self, id: &MemberId) -> Result<(), Refusal> {
        self.member(id)?;
        self.raise();
        Ok(())
    }

    /// Records that topics were created or deleted, or that partitions were added.
    pub(crate) fn metadata_changed(&mut self, topics: &dyn Topics) {
        let matched = self.match_patterns(topics);
        if self.look_up(topics) || matched {
            self.raise();
        }
    }

    /// Evicts the members that were silent or away for too long, and returns them.
    ///
    /// Their versions disappear with them. So the shell makes their next poll ask the group, which
    /// answers [`Refusal::UnknownMember`].
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<MemberId> {
        let silent = |member: &Member| member.silence.deadline().is_some_and(|at| at <= now);
        let evicted: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| silent(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &evicted {
            self.remove(id);
            self.gone.push(id.clone());
        }
        if !evicted.is_empty() {
            self.forget_unsubscribed();
            self.raise();
        }
        evicted
    }

    /// Returns the earliest time at which [`Group::expire`] may have work. A thread may sleep until
    /// then even if it is not notified when other threads leave the engine and fall silent.
    pub(crate) fn next_expiry(&self, now: Duration) -> Option<Duration> {
        self.members.values().map(|member| member.silence.earliest(now)).min()
    }

    /// Returns the time at which [`Group::expire`] has work, if nothing happens until then.
    #[cfg(test)]
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.members.values().filter_map(|member| member.silence.deadline()).min()
    }

    /// Marks a static member as away. Its target is kept for it.
    fn go_away(&mut self, id: &MemberId, now: Duration, absence: Duration) {
        self.news.remove(id);
        let Some(mut member) = self.members.remove(id) else { return };
        let withheld = self.free(&member);
        member.owned.clear();
        member.epoch = MemberEpoch::AWAY;
        member.silence.go_away(now, absence);
        self.members.insert(id.clone(), member);
        if withheld {
            self.raise();
        }
    }

    /// Gives the newcomer the target of the member whose place it takes.
    fn inherit(&mut self, member: &mut Member, id: &MemberId, place: Member) {
        for partition in &place.target {
            self.targets.insert(partition, id.clone());
        }
        member.target = place.target;
        // Versions continue, so no answer to the predecessor looks like news or like an old answer.
        member.version = place.version;
    }

    /// Removes the member from all maps, and the instance id if it is still this member's. The
    /// caller raises the epoch.
    fn remove(&mut self, id: &MemberId) {
        if let Some(member) = self.take_out(id) {
            self.free(&member);
        }
        if let Some(instance) = id.instance_id()
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
    }

    fn take_out(&mut self, id: &MemberId) -> Option<Member> {
        self.news.remove(id);
        self.members.remove(id)
    }

    /// Frees everything the member held, and announces that to the members waiting for it. Returns
    /// whether some of it is in no member's target, which requires a new target.
    fn free(&mut self, member: &Member) -> bool {
        let mut withheld = false;
        let mut waiting = BTreeSet::new();
        for partition in member.owned.keys() {
            self.owners.remove(partition);
            waiting.extend(self.targets.get(partition).cloned());
            withheld |= self.is_withheld(partition);
        }
        for next in &waiting {
            self.announce(next, false);
        }
        withheld
    }

    /// Returns the set, shared with a member that has an equal one. Shared sets are cheap to
    /// compare.
    fn share(&self, names: BTreeSet<Arc<str>>) -> Arc<BTreeSet<Arc<str>>> {
        let same = self.members.values().find(|member| *member.topics == names);
        same.map_or_else(|| Arc::new(names), |member| Arc::clone(&member.topics))
    }

    /// Matches all patterns again. Returns whether a member's topics changed.
    fn match_patterns(&mut self, topics: &dyn Topics) -> bool {
        let mut changed = false;
        let by_pattern = |member: &Member| matches!(member.subscription, Subscription::Pattern(_));
        let ids: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| by_pattern(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let Some(member) = self.members.get(&id) else { continue };
            let names = member.subscription.resolve(topics);
            if *member.topics != names {
                let names = self.share(names);
                if let Some(member) = self.members.get_mut(&id) {
                    member.topics = names;
                    changed = true;
                }
            }
        }
        changed
    }

    /// Looks the subscribed topics up. Returns whether something changed.
    fn look_up(&mut self, topics: &dyn Topics) -> bool {
        let found: TopicsView = self
            .subscribed()
            .into_iter()
            .filter_map(|name| Some((Arc::clone(name), topics.topic(name)?)))
            .collect();
        let changed = found != self.topics;
        self.topics = found;
        changed
    }

    fn forget_unsubscribed(&mut self) {
        let mut topics = std::mem::take(&mut self.topics);
        let subscribed = self.subscribed();
        topics.retain(|name, _| subscribed.contains(name));
        self.topics = topics;
    }

    fn subscribed(&self) -> BTreeSet<&Arc<str>> {
        let mut names = BTreeSet::new();
        let mut last: Option<&Arc<BTreeSet<Arc<str>>>> = None;
        for member in self.members.values() {
            // Most members of a group subscribe to the same topics.
            if !last.is_some_and(|last| Arc::ptr_eq(last, &member.topics)) {
                names.extend(&*member.topics);
            }
            last = Some(&member.topics);
        }
        names
    }
}
