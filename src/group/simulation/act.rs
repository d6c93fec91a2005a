//! The events of a simulated life.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::{Consumer, Holding};
use super::world::{INSTANCES, MAX_SIZE, World};
use crate::group::coordinator::{Heartbeat, Reconcile, Refusal};
use crate::group::describe::GroupState;
use crate::group::member::{MemberConfig, MemberEpoch, MemberId};
use crate::group::subscription::Subscription;
use crate::types::{
    Assignment, Assignor, GroupMembershipOperation, GroupSubscription, TopicPartition,
};

impl World {
    pub(super) fn join(&mut self) {
        // Evicted members sometimes return under their old id.
        let back = if self.below(3) == 0 { self.gone.pop_first().map(|(id, _)| id) } else { None };
        let id = back.unwrap_or_else(|| self.new_id());
        let (config, subscription) = (self.member_config(), self.subscription());
        self.join_as(&id, config, subscription);
    }

    fn new_id(&mut self) -> MemberId {
        self.next_member += 1;
        match self.below(3 * INSTANCES.len()) {
            i if i < INSTANCES.len() => self.new_instance(INSTANCES[i]),
            _ => MemberId::new("m", self.next_member),
        }
    }

    fn new_instance(&mut self, instance: &str) -> MemberId {
        self.next_member += 1;
        MemberId::of_instance(instance, self.next_member)
    }

    /// Returns the member that has this instance id now, present or away.
    pub(super) fn holder(&self, id: &MemberId) -> Option<MemberId> {
        let same = |other: &&MemberId| {
            id.instance_id().is_some() && other.instance_id() == id.instance_id()
        };
        self.consumers.keys().chain(self.away.keys()).find(same).cloned()
    }

    fn join_as(&mut self, id: &MemberId, config: MemberConfig, subscription: Subscription) {
        let before = self.group.describe();
        let joined =
            self.group.join(id, config.clone(), subscription.clone(), &self.topics, self.now);
        let holder = self.holder(id);
        let size = self.consumers.len() + self.away.len();
        let expected = match &holder {
            Some(holder) if holder.number() > id.number() => Err(Refusal::FencedInstanceId),
            None if size >= MAX_SIZE => Err(Refusal::GroupMaxSizeReached { max: MAX_SIZE as u32 }),
            _ => Ok(()),
        };
        assert_eq!(joined, expected);
        if joined.is_err() {
            assert_eq!(self.group.describe(), before, "G4");
            return;
        }
        if let Some(holder) = holder {
            self.away.remove(&holder);
            if let Some(fenced) = self.consumers.remove(&holder) {
                self.gone.insert(holder, fenced);
            }
        }
        let consumer = Consumer::new(config, subscription, self.now);
        self.consumers.insert(id.clone(), consumer);
    }

    /// Adds a consumer with the instance id of another one that is still present.
    pub(super) fn join_as_a_double(&mut self) {
        let instances: Vec<Arc<str>> =
            self.consumers.keys().filter_map(|id| id.instance_id()).map(Into::into).collect();
        let Some(instance) = instances.first() else { return };
        let id = self.new_instance(instance);
        let (config, subscription) = (self.member_config(), self.subscription());
        self.join_as(&id, config, subscription);
    }

    /// G9: a member that returns in time and unchanged disturbs no other member and gets what it
    /// had.
    pub(super) fn come_back(&mut self) {
        let Some(id) = self.away.keys().find(|id| id.instance_id().is_some()).cloned() else {
            return;
        };
        let before = self.away[&id].0.clone();
        self.publish();
        let group = self.group.describe();
        let place = group.members.iter().find(|member| member.id == id).unwrap().target.clone();
        let new = self.new_instance(id.instance_id().unwrap());
        self.join_as(&new, before.config, before.subscription);
        if group.state == GroupState::Assigning {
            return;
        }
        let after = self.group.describe();
        assert_eq!(after.epoch, group.epoch, "G9");
        let place_now =
            after.members.iter().find(|member| member.id == new).unwrap().target.clone();
        assert_eq!(place_now, place, "G9");
        let news = self.group.clone().take_news();
        assert!(news.iter().all(|news| news.member == new || news.version.is_none()), "{news:?}");
    }

    /// Joins with an assignor that no other member has (G10), and into a full group.
    pub(super) fn join_in_vain(&mut self) {
        if self.consumers.len() + self.away.len() >= MAX_SIZE {
            return self.join();
        }
        if self.consumers.is_empty() && self.away.is_empty() {
            return;
        }
        let before = self.group.describe();
        self.next_member += 1;
        let id = MemberId::new("m", self.next_member);
        let config = MemberConfig { assignors: vec![Arc::new(Foreign)], ..self.member_config() };
        let subscription = self.subscription();
        let joined = self.group.join(&id, config, subscription, &self.topics, self.now);
        let proposed = "foreign".to_owned();
        assert_eq!(joined, Err(Refusal::InconsistentGroupProtocol { proposed }));
        assert_eq!(self.group.describe(), before, "G4");
    }

    pub(super) fn leave(&mut self) {
        let Some(id) = self.pick() else { return };
        let operation = match self.below(4) {
            0 => GroupMembershipOperation::LeaveGroup,
            1 => GroupMembershipOperation::RemainInGroup,
            _ => GroupMembershipOperation::Default,
        };
        let stays = match operation {
            GroupMembershipOperation::Default => id.instance_id().is_some(),
            GroupMembershipOperation::LeaveGroup => false,
            GroupMembershipOperation::RemainInGroup => true,
        };
        self.group.leave(&id, operation, self.now).unwrap();
        let consumer = self.consumers.remove(&id).unwrap();
        if stays {
            let until = self.now + consumer.config.absence();
            self.away.insert(id, (consumer, until));
        } else {
            self.gone.insert(id, consumer);
        }
    }

    pub(super) fn subscribe(&mut self) {
        let Some(id) = self.pick() else { return };
        let subscription = self.subscription();
        self.group.subscribe(&id, subscription.clone(), &self.topics).unwrap();
        self.consumers.get_mut(&id).unwrap().subscription = subscription;
    }

    /// Polls once. `acknowledge` says whether the member finishes giving up its partitions.
    pub(super) fn poll(&mut self, id: &MemberId, acknowledge: bool) {
        let consumer = self.consumers.get_mut(id).unwrap();
        consumer.polled = self.now;
        consumer.heard = self.now;
        consumer.inside = false;
        let has_news = consumer.has_news();
        self.group.enter_poll(id, self.now).unwrap();
        self.check_missed_nothing(id, has_news);
        while let Heartbeat::Reconcile(step) = self.group.heartbeat(id, self.now).unwrap() {
            if !self.follow(id, step, acknowledge) {
                break;
            }
        }
        if acknowledge {
            self.consumers.get_mut(id).unwrap().woken = false;
        }
        self.read(id);
        self.group.exit(id, self.now).unwrap();
    }

    /// Applies an answer in the consumer. Returns false if its listener is stuck.
    fn follow(&mut self, id: &MemberId, step: Reconcile, acknowledge: bool) -> bool {
        assert!(step.revoke.is_empty() || step.assign.is_empty());
        // A member that must give partitions up has not reconciled to the newest epoch.
        assert!(step.revoke.is_empty() || step.epoch < self.group.epoch());
        let Self { consumers, topics, logs, .. } = self;
        let consumer = consumers.get_mut(id).unwrap();
        assert!(step.epoch >= consumer.epoch, "G3");
        consumer.epoch = step.epoch;
        consumer.seen = step.version;
        for partition in step.assign {
            let topic = topics[partition.topic()].id;
            let position = logs.entry((topic, partition.clone())).or_default().committed;
            let holding = Holding { topic, since: step.epoch, position };
            let before = consumer.holds.insert(partition, holding);
            assert_eq!(before, None, "it was assigned a partition that it holds");
        }
        for partition in &consumer.revoking {
            assert!(step.revoke.contains(partition), "G5: {partition:?} was taken back");
        }
        if step.revoke.is_empty() {
            return true;
        }
        consumer.revoking = step.revoke;
        if acknowledge {
            let all = consumer.revoking.len();
            self.acknowledge(id, all);
        }
        acknowledge
    }

    /// The listener commits and gives up the first `count` partitions of those that the member must
    /// give up.
    fn acknowledge(&mut self, id: &MemberId, count: usize) {
        self.commit(id);
        let consumer = self.consumers.get_mut(id).unwrap();
        let revoked: Vec<_> = consumer.revoking.drain(..count).collect();
        for partition in &revoked {
            assert!(
                consumer.holds.remove(partition).is_some(),
                "it revoked a partition that it does not hold"
            );
        }
        self.group.revoked(id, &revoked).unwrap();
    }

    pub(super) fn poll_somebody(&mut self) {
        if let Some(id) = self.pick() {
            let acknowledge = self.below(3) > 0;
            self.poll(&id, acknowledge);
        }
    }

    /// A slow listener finishes, for some of the partitions.
    pub(super) fn acknowledge_somebody(&mut self) {
        let Some(id) = self.pick() else { return };
        let count = self.consumers[&id].revoking.len();
        let some = self.below(count + 1);
        self.acknowledge(&id, some);
    }

    /// Blocks in a poll, or returns from it.
    pub(super) fn go_inside_or_out(&mut self) {
        let Some(id) = self.pick() else { return };
        let consumer = self.consumers.get_mut(&id).unwrap();
        if consumer.inside {
            self.group.exit(&id, self.now).unwrap();
        } else {
            self.group.enter_poll(&id, self.now).unwrap();
        }
        consumer.inside = !consumer.inside;
        consumer.polled = self.now;
        consumer.heard = self.now;
    }

    pub(super) fn write(&mut self) {
        let count = self.topics.len();
        if count == 0 {
            return;
        }
        let at = self.below(count);
        let (name, topic) = self.topics.iter().nth(at).map(|(n, t)| (Arc::clone(n), *t)).unwrap();
        for number in 0..topic.partitions {
            let more = self.below(3) as i64;
            self.log(topic.id, &TopicPartition::new(Arc::clone(&name), number)).end += more;
        }
    }

    /// Reads everything of the partitions that the member holds and was not told to give up.
    fn read(&mut self, id: &MemberId) {
        let Self { consumers, logs, .. } = self;
        let consumer = consumers.get_mut(id).unwrap();
        for (partition, holding) in &mut consumer.holds {
            if !consumer.revoking.contains(partition) {
                let log = logs.entry((holding.topic, partition.clone())).or_default();
                holding.position = log.end;
                log.read = log.read.max(log.end);
            }
        }
    }

    pub(super) fn commit_somebody(&mut self) {
        let Some(id) = self.pick() else { return };
        self.commit(&id);
        self.check_refused_commits(&id);
    }

    /// Commits the positions. A member may always commit what it holds, with the epoch of its last
    /// answer.
    fn commit(&mut self, id: &MemberId) {
        let Self { consumers, logs, group, now, .. } = self;
        let consumer = consumers.get_mut(id).unwrap();
        group.check_commit(id, consumer.epoch, consumer.holds.keys()).unwrap();
        group.heard(id, *now).unwrap();
        consumer.heard = *now;
        for (partition, holding) in &consumer.holds {
            let log = logs.get_mut(&(holding.topic, partition.clone())).unwrap();
            assert!(holding.position >= log.committed, "{id} takes {partition} back");
            assert!(holding.position <= log.read, "a position is beyond what has been read");
            log.committed = holding.position;
        }
    }

    pub(super) fn enforce_rebalance(&mut self) {
        let Some(id) = self.pick() else { return };
        self.group.enforce_rebalance(&id).unwrap();
    }

    pub(super) fn let_time_pass(&mut self) {
        let passed = self.below(8_000) as u64;
        self.now += Duration::from_millis(passed);
        let now = self.now;
        let silent = |(id, consumer): (&MemberId, &Consumer)| {
            let grace = id.instance_id().map_or(Duration::ZERO, |_| consumer.config.absence());
            consumer.deadline(grace).is_some_and(|at| at <= now).then(|| id.clone())
        };
        let lost = self.away.iter().filter(|(_, (_, until))| *until <= now);
        let mut due: BTreeSet<MemberId> = lost.map(|(id, _)| id.clone()).collect();
        due.extend(self.consumers.iter().filter_map(silent));
        let deadline = self.group.next_deadline();
        assert_eq!(deadline.is_some_and(|at| at <= now), !due.is_empty());
        // G8, and no other member is evicted either.
        assert!(self.group.expire(now).iter().eq(&due));
        for id in due {
            match self.consumers.remove(&id).or(self.away.remove(&id).map(|(c, _)| c)) {
                Some(consumer) => drop(self.gone.insert(id, consumer)),
                None => panic!("{id} was there"),
            }
        }
    }

    /// G4: calls of former members change nothing.
    pub(super) fn call_from_beyond(&mut self) {
        self.publish();
        let before = self.group.describe();
        let away = self.away.iter().map(|(id, (consumer, _))| (id, consumer));
        for (id, consumer) in self.gone.iter().chain(away) {
            let holder = self.holder(id);
            let unknown: Result<(), Refusal> = Err(match holder {
                Some(holder) if holder != *id => Refusal::FencedInstanceId,
                _ => Refusal::UnknownMember,
            });
            let group = &mut self.group;
            let held: Vec<_> = consumer.holds.keys().cloned().collect();
            assert_eq!(group.check_commit(id, consumer.epoch, &held), unknown);
            assert_eq!(group.revoked(id, &held), unknown);
            assert_eq!(group.heartbeat(id, self.now).map(|_| ()), unknown);
            let nothing = Subscription::Topics(BTreeSet::new());
            assert_eq!(group.subscribe(id, nothing, &self.topics), unknown);
            assert_eq!(group.enter_poll(id, self.now), unknown);
            assert_eq!(group.heard(id, self.now), unknown);
            assert_eq!(group.enforce_rebalance(id), unknown);
            assert_eq!(group.leave(id, GroupMembershipOperation::Default, self.now), unknown);
        }
        assert_eq!(self.group.describe(), before);
        assert!(self.group.take_news().is_empty());
    }

    /// Makes commits that must be refused: of a future epoch, of one before the partition was
    /// assigned, of strangers.
    fn check_refused_commits(&mut self, id: &MemberId) {
        let consumer = &self.consumers[id];
        let stale = |refused| matches!(refused, Err(Refusal::StaleEpoch { .. }));
        let newer = MemberEpoch(self.group.epoch().0 + 1);
        assert!(stale(self.group.check_commit(id, newer, [])));
        if let Some((partition, holding)) = consumer.holds.first_key_value() {
            let before = MemberEpoch(holding.since.0 - 1);
            assert!(stale(self.group.check_commit(id, before, [partition])));
        }
        assert_eq!(self.group.check_simple_commit(), Err(Refusal::HasMembers));
    }
}

/// An assignor that no other member proposes.
#[derive(Debug)]
struct Foreign;

impl Assignor for Foreign {
    fn name(&self) -> &'static str {
        "foreign"
    }

    fn assign(&self, _: &GroupSubscription) -> Assignment {
        Vec::new()
    }
}
