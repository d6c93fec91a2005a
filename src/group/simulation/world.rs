use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumer;
use crate::group::assignor::{
    CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor, UniformAssignor,
};
use crate::group::coordinator::{Group, TargetAssignment};
use crate::group::member::{MemberConfig, MemberEpoch, MemberId};
use crate::group::subscription::{Subscription, TopicPattern};
use crate::group::topics::{TopicInfo, TopicsView};
use crate::types::{Assignor, OffsetReset, TopicId, TopicPartition};

pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// How long static members may be away, and how long some members may make no call.
pub(super) const SESSION: Duration = Duration::from_secs(6);
pub(super) const MAX_SIZE: usize = 6;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
pub(super) const INSTANCES: [&str; 3] = ["x", "y", "z"];

/// The key of a partition within one life of its topic.
pub(super) type LogKey = (TopicId, TopicPartition);

/// What has been written to a partition, and how far the group has read it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Log {
    pub(super) end: i64,
    pub(super) committed: i64,
    /// Every offset below it was returned to some member.
    pub(super) read: i64,
}

pub(super) struct World {
    random: u64,
    pub(super) now: Duration,
    pub(super) group: Group,
    pub(super) topics: TopicsView,
    ids: u8,
    pub(super) logs: BTreeMap<LogKey, Log>,
    pub(super) consumers: BTreeMap<MemberId, Consumer>,
    /// Members that left, were evicted or were fenced, with their last beliefs.
    pub(super) gone: BTreeMap<MemberId, Consumer>,
    /// Static members that left temporarily, and until when the group keeps their places.
    pub(super) away: BTreeMap<MemberId, (Consumer, Duration)>,
    pub(super) next_member: u64,
    pub(super) group_epoch: MemberEpoch,
    /// The assignor that all members propose. Some propose a second one before it.
    assignor: Arc<dyn Assignor>,
    /// A target that is being computed outside of the group's lock.
    pub(super) computed: Option<TargetAssignment>,
}

fn assignors() -> [Arc<dyn Assignor>; 5] {
    [
        Arc::new(RangeAssignor),
        Arc::new(RoundRobinAssignor),
        Arc::new(StickyAssignor),
        Arc::new(CooperativeStickyAssignor),
        Arc::new(UniformAssignor),
    ]
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let [range, _, sticky, cooperative, uniform] = assignors();
        let assignor = [range, sticky, cooperative, uniform][(seed % 4) as usize].clone();
        let mut world = Self {
            random: seed,
            now: Duration::ZERO,
            group: Group::new("g", MAX_SIZE as u32),
            topics: TopicsView::new(),
            ids: 0,
            logs: BTreeMap::new(),
            consumers: BTreeMap::new(),
            gone: BTreeMap::new(),
            away: BTreeMap::new(),
            next_member: 0,
            group_epoch: MemberEpoch(0),
            assignor,
            computed: None,
        };
        world.change_topic();
        world.change_topic();
        world
    }

    /// SplitMix64.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    pub(super) fn pick(&mut self) -> Option<MemberId> {
        let count = self.consumers.len();
        (count > 0).then(|| self.below(count)).and_then(|i| self.consumers.keys().nth(i).cloned())
    }

    pub(super) fn step(&mut self) {
        match self.below(26) {
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
            16..=17 => self.commit_somebody(),
            18 => self.call_from_beyond(),
            19 | 24 => self.write(),
            20 => self.come_back(),
            21 => self.join_as_a_double(),
            22 => self.join_in_vain(),
            23 => self.enforce_rebalance(),
            _ => self.let_time_pass(),
        }
        self.assign();
        self.publish();
        self.check();
    }

    /// Returns names or a pattern. Most members of one group want the same.
    pub(super) fn subscription(&mut self) -> Subscription {
        match self.below(8) {
            0..=3 => Subscription::Topics(["a".into(), "b".into()].into()),
            4 => Subscription::Pattern(TopicPattern::new("[ac]").unwrap()),
            5 => Subscription::Pattern(TopicPattern::new(".*").unwrap()),
            _ => {
                let chosen = self.below(1 << NAMES.len());
                let names = NAMES.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0);
                Subscription::Topics(names.map(|(_, name)| (*name).into()).collect())
            }
        }
    }

    pub(super) fn member_config(&mut self) -> MemberConfig {
        let mut proposed = vec![Arc::clone(&self.assignor)];
        if self.below(3) == 0 {
            let [_, other, ..] = assignors();
            proposed.insert(self.below(2), other);
        }
        MemberConfig {
            client_id: "m".into(),
            max_poll_interval: INTERVAL,
            session_timeout: (self.below(3) == 0).then_some(SESSION),
            assignors: proposed,
            offset_reset: OffsetReset::default(),
        }
    }

    /// Creates, grows, deletes, or deletes and recreates a topic.
    pub(super) fn change_topic(&mut self) {
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

    /// Does the shell's work after a change. Sometimes its thread is slow, and the group changes
    /// meanwhile.
    fn assign(&mut self) {
        if let Some(target) = self.computed.take() {
            if self.below(3) > 0 {
                self.computed = Some(target);
                return;
            }
            self.group.publish(target);
        }
        while let Some(task) = self.group.next_assignment() {
            let target = self.run(task);
            if self.below(8) == 0 {
                self.computed = Some(target);
                return;
            }
            self.group.publish(target);
        }
    }

    /// Lets the slow thread finish, until there is no target left to compute.
    pub(super) fn finish_assigning(&mut self) {
        if let Some(target) = self.computed.take() {
            self.group.publish(target);
        }
        while let Some(task) = self.group.next_assignment() {
            let target = self.run(task);
            self.group.publish(target);
        }
    }

    /// Does the shell's work after each call.
    pub(super) fn publish(&mut self) {
        for news in self.group.take_news() {
            match (self.consumers.get_mut(&news.member), news.version) {
                (Some(consumer), Some(version)) => {
                    consumer.published = version;
                    consumer.woken |= news.wake;
                }
                (member, version) => assert_eq!((member.is_some(), version), (false, None)),
            }
        }
    }

    pub(super) fn log(&mut self, topic: TopicId, partition: &TopicPartition) -> &mut Log {
        self.logs.entry((topic, partition.clone())).or_default()
    }
}
