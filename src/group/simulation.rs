//! Random life of a group, judged from the members' own view.
//!
//! The model is what the members themselves believe to hold, and nothing of the coordinator's inside:
//! a member adds what an answer assigns, and drops what it was told to revoke when it acknowledges it,
//! perhaps much later. What must hold (G1 to G8 of the coordinator) is checked after every step; in the
//! end everybody polls, and the group must settle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::assignor::RangeAssignor;
use super::coordinator::{Group, Heartbeat, Refusal};
use super::describe::GroupState;
use super::member::{MemberConfig, MemberEpoch, MemberId};
use super::subscription::Subscription;
use super::topics::{TopicInfo, TopicsView};
use crate::types::{GroupMembershipOperation, TopicId, TopicPartition};

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;
const INTERVAL: Duration = Duration::from_secs(10);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A consumer, as it sees itself.
#[derive(Debug, Clone, Default)]
struct Consumer {
    /// What it believes to hold, of which topic, and the epoch in which it got it.
    holds: BTreeMap<TopicPartition, (TopicId, MemberEpoch)>,
    epoch: MemberEpoch,
    /// The version that it has acted upon.
    seen: u64,
    /// The version that the shell has published for it.
    published: u64,
    woken: bool,
    /// Told to give up, not acknowledged yet.
    revoking: Vec<TopicPartition>,
    inside: bool,
    polled: Duration,
}

struct World {
    random: u64,
    now: Duration,
    group: Group,
    topics: TopicsView,
    ids: u8,
    consumers: BTreeMap<MemberId, Consumer>,
    /// Those that left or were evicted, with their last epoch.
    gone: BTreeMap<MemberId, Consumer>,
    next_member: u64,
    group_epoch: MemberEpoch,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: seed,
            now: Duration::ZERO,
            group: Group::new("g", 6),
            topics: TopicsView::new(),
            ids: 0,
            consumers: BTreeMap::new(),
            gone: BTreeMap::new(),
            next_member: 0,
            group_epoch: MemberEpoch(0),
        };
        world.change_topic();
        world.change_topic();
        world
    }

    /// SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    fn pick(&mut self) -> Option<MemberId> {
        let count = self.consumers.len();
        (count > 0).then(|| self.below(count)).and_then(|i| self.consumers.keys().nth(i).cloned())
    }

    fn step(&mut self) {
        match self.below(20) {
            0..=2 => self.join(),
            3 => self.leave(),
            4 => self.subscribe(),
            5 => {
                self.change_topic();
                self.group.metadata_changed(&self.topics);
            }
            6..=12 => self.poll_somebody(),
            13..=14 => self.acknowledge_somebody(),
            15 => self.go_inside_or_out(),
            16..=17 => self.commit(),
            18 => self.call_from_beyond(),
            _ => self.let_time_pass(),
        }
        self.publish();
        self.check();
    }

    fn subscription(&mut self) -> Subscription {
        let chosen = self.below(1 << NAMES.len());
        let names = NAMES.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0);
        Subscription::Topics(names.map(|(_, name)| (*name).into()).collect())
    }

    fn join(&mut self) {
        if self.consumers.len() >= 6 {
            return;
        }
        // Evicted members come back under their old id, now and then.
        let back = if self.below(3) == 0 { self.gone.pop_first().map(|(id, _)| id) } else { None };
        self.next_member += 1;
        let id = back.unwrap_or_else(|| MemberId::new("m", self.next_member));
        let config = MemberConfig {
            client_id: "m".into(),
            max_poll_interval: INTERVAL,
            session_timeout: None,
            assignors: vec![Arc::new(RangeAssignor)],
        };
        let subscription = self.subscription();
        self.group.join(&id, config, subscription, &self.topics, self.now).unwrap();
        // Some number that is not the version: the first poll always asks.
        let consumer =
            Consumer { polled: self.now, seen: u64::MAX, woken: true, ..Consumer::default() };
        self.consumers.insert(id, consumer);
    }

    fn leave(&mut self) {
        let Some(id) = self.pick() else { return };
        self.group.leave(&id, GroupMembershipOperation::Default, self.now).unwrap();
        let consumer = self.consumers.remove(&id).unwrap();
        self.gone.insert(id, consumer);
    }

    fn subscribe(&mut self) {
        let Some(id) = self.pick() else { return };
        let subscription = self.subscription();
        self.group.subscribe(&id, subscription, &self.topics).unwrap();
    }

    /// Creates, grows, deletes, or deletes and creates a topic.
    fn change_topic(&mut self) {
        let name = NAMES[self.below(NAMES.len())];
        self.ids = self.ids.wrapping_add(1);
        let new =
            TopicInfo { id: TopicId::from_bytes([self.ids; 16]), partitions: self.below(6) as u32 };
        let what = self.below(3);
        match (self.topics.get_mut(name), what) {
            (Some(topic), 0) => topic.partitions += 1,
            (Some(_), 1) => drop(self.topics.remove(name)),
            _ => drop(self.topics.insert(name.into(), new)),
        }
    }

    /// One poll; `acknowledge` says whether it gets through with what it must give up.
    fn poll(&mut self, id: &MemberId, acknowledge: bool) {
        let consumer = self.consumers.get_mut(id).unwrap();
        consumer.polled = self.now;
        self.group.enter_poll(id, self.now).unwrap();
        consumer.inside = false;
        let changed = consumer.seen != consumer.published;
        if !changed && consumer.revoking.is_empty() {
            // G7: a poll that did not ask has missed nothing.
            let before = self.group.describe();
            let answer = self.group.clone().heartbeat(id, self.now).unwrap();
            assert_eq!(answer, Heartbeat::Unchanged, "{before:?}");
        }
        while let Heartbeat::Reconcile(step) = self.group.heartbeat(id, self.now).unwrap() {
            assert!(step.revoke.is_empty() || step.assign.is_empty());
            // Who has to give up has not reconciled to the newest epoch.
            assert!(step.revoke.is_empty() || step.epoch < self.group.epoch());
            assert!(step.epoch >= consumer.epoch, "G3");
            consumer.epoch = step.epoch;
            consumer.seen = step.version;
            for partition in step.assign {
                let topic = self.topics[partition.topic()].id;
                let before = consumer.holds.insert(partition, (topic, step.epoch));
                assert_eq!(before, None, "assigned what it holds");
            }
            for partition in &consumer.revoking {
                assert!(step.revoke.contains(partition), "G5: {partition:?} was taken back");
            }
            if step.revoke.is_empty() {
                continue;
            }
            consumer.revoking = step.revoke;
            if !acknowledge {
                break;
            }
            let revoked = std::mem::take(&mut consumer.revoking);
            for partition in &revoked {
                assert!(
                    consumer.holds.remove(partition).is_some(),
                    "revoked what it does not hold"
                );
            }
            self.group.revoked(id, &revoked).unwrap();
        }
        if acknowledge {
            consumer.woken = false;
        }
        self.group.exit(id, self.now).unwrap();
    }

    fn poll_somebody(&mut self) {
        if let Some(id) = self.pick() {
            let acknowledge = self.below(3) > 0;
            self.poll(&id, acknowledge);
        }
    }

    /// A listener that took long has come to its end, for some of the partitions.
    fn acknowledge_somebody(&mut self) {
        let Some(id) = self.pick() else { return };
        let count = self.consumers[&id].revoking.len();
        let some = self.below(count + 1);
        let consumer = self.consumers.get_mut(&id).unwrap();
        let revoked: Vec<_> = consumer.revoking.drain(..some).collect();
        for partition in &revoked {
            consumer.holds.remove(partition);
        }
        self.group.revoked(&id, &revoked).unwrap();
    }

    /// Blocks in a poll, or returns from it.
    fn go_inside_or_out(&mut self) {
        let Some(id) = self.pick() else { return };
        let consumer = self.consumers.get_mut(&id).unwrap();
        if consumer.inside {
            self.group.exit(&id, self.now).unwrap();
        } else {
            self.group.enter_poll(&id, self.now).unwrap();
        }
        consumer.inside = !consumer.inside;
        consumer.polled = self.now;
    }

    fn commit(&mut self) {
        let Some(id) = self.pick() else { return };
        let consumer = &self.consumers[&id];
        let epoch = consumer.epoch;
        let held: Vec<_> = consumer.holds.keys().cloned().collect();
        let first = consumer.holds.iter().map(|(tp, (_, since))| (tp.clone(), *since)).next();
        // What a member holds it may always commit, with the epoch it was last told.
        self.group.check_commit(&id, epoch, &held).unwrap();
        let newer = MemberEpoch(self.group.epoch().0 + 1);
        assert!(matches!(self.group.check_commit(&id, newer, []), Err(Refusal::StaleEpoch { .. })));
        if let Some((partition, since)) = first {
            let stale = MemberEpoch(since.0 - 1);
            let refused = self.group.check_commit(&id, stale, [&partition]);
            assert!(matches!(refused, Err(Refusal::StaleEpoch { .. })), "{refused:?}");
        }
        assert_eq!(self.group.check_simple_commit(), Err(Refusal::HasMembers));
    }

    /// G4: those that are no members any more change nothing.
    fn call_from_beyond(&mut self) {
        let before = self.group.describe();
        for (id, consumer) in &self.gone {
            let held: Vec<_> = consumer.holds.keys().cloned().collect();
            let unknown: Result<(), Refusal> = Err(Refusal::UnknownMember);
            assert_eq!(self.group.check_commit(id, consumer.epoch, &held), unknown);
            assert_eq!(self.group.revoked(id, &held), unknown);
            assert_eq!(self.group.heartbeat(id, self.now), Err(Refusal::UnknownMember));
            assert_eq!(
                self.group.subscribe(id, Subscription::Topics(BTreeSet::new()), &self.topics),
                unknown
            );
            assert_eq!(self.group.enter_poll(id, self.now), unknown);
            assert_eq!(self.group.leave(id, GroupMembershipOperation::Default, self.now), unknown);
        }
        assert_eq!(self.group.describe(), before);
        assert!(self.group.take_news().is_empty());
    }

    fn let_time_pass(&mut self) {
        let passed = self.below(8_000) as u64;
        self.now += Duration::from_millis(passed);
        let due: Vec<_> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| !consumer.inside && consumer.polled + INTERVAL <= self.now)
            .map(|(id, _)| id.clone())
            .collect();
        let deadline = self.group.next_deadline();
        assert_eq!(deadline.is_some_and(|at| at <= self.now), !due.is_empty());
        // G8, and nobody else either.
        assert_eq!(self.group.expire(self.now), due);
        for id in due {
            let consumer = self.consumers.remove(&id).unwrap();
            self.gone.insert(id, consumer);
        }
    }

    /// What the shell does after each call.
    fn publish(&mut self) {
        self.group.assign();
        for news in self.group.take_news() {
            let Some(version) = news.version else {
                assert!(!self.consumers.contains_key(&news.member));
                continue;
            };
            let consumer = self.consumers.get_mut(&news.member).unwrap();
            consumer.published = version;
            consumer.woken |= news.wake;
        }
    }

    fn check(&mut self) {
        let mut holders: BTreeMap<&TopicPartition, &MemberId> = BTreeMap::new();
        for (id, consumer) in &self.consumers {
            for partition in consumer.holds.keys() {
                let other = holders.insert(partition, id);
                assert_eq!(other, None, "G1: {partition} is held by {id} too");
            }
            // G7: whoever has partitions to move sleeps no longer.
            if !consumer.woken {
                let answer = self.group.clone().heartbeat(id, self.now).unwrap();
                if let Heartbeat::Reconcile(step) = answer {
                    assert!(step.revoke.is_empty() && step.assign.is_empty(), "{id}: {step:?}");
                }
            }
        }
        let description = self.group.describe();
        assert!(description.epoch >= self.group_epoch, "G3");
        self.group_epoch = description.epoch;
        assert_eq!(description.members.len(), self.consumers.len());
        for member in &description.members {
            let holds = self.consumers[&member.id].holds.keys();
            assert!(member.owned.iter().eq(holds), "the coordinator and {} differ", member.id);
            assert!(member.epoch <= description.epoch, "G3");
        }
        match description.state {
            GroupState::Empty => assert!(self.consumers.is_empty()),
            GroupState::Stable => self.check_stable(),
            GroupState::Assigning => panic!("the target is published"),
            GroupState::Reconciling => {}
        }
    }

    /// G2, and G6 by the topic ids.
    fn check_stable(&self) {
        let mut expected = BTreeMap::new();
        for member in self.group.describe().members {
            assert_eq!(member.epoch, self.group.epoch());
            assert_eq!(member.owned, member.target);
            for name in member.subscription {
                let Some(topic) = self.topics.get(&name) else { continue };
                for number in 0..topic.partitions {
                    expected.insert(TopicPartition::new(Arc::clone(&name), number), topic.id);
                }
            }
        }
        let held: BTreeMap<_, _> = self
            .consumers
            .values()
            .flat_map(|consumer| consumer.holds.iter())
            .map(|(partition, (topic, _))| (partition.clone(), *topic))
            .collect();
        assert_eq!(held, expected);
    }

    /// Only those polls that the shell would make: of members that are woken or whose version rose.
    fn settle(&mut self) {
        let ids: Vec<_> = self.consumers.keys().cloned().collect();
        // One round to give up, one to take; a third would be a wait that nobody ends.
        for _ in 0..2 {
            for id in &ids {
                let consumer = &self.consumers[id];
                if consumer.woken || consumer.seen != consumer.published {
                    self.poll(id, true);
                    self.publish();
                    self.check();
                }
            }
        }
        if !ids.is_empty() {
            assert_eq!(self.group.state(), GroupState::Stable, "{:?}", self.group.describe());
            self.check_stable();
        }
        for id in &ids {
            let mut group = self.group.clone();
            assert_eq!(group.heartbeat(id, self.now).unwrap(), Heartbeat::Unchanged);
        }
    }
}

#[test]
fn a_random_group_never_splits_a_partition_and_always_settles() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
