//! The invariants that must hold after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::World;
use crate::group::coordinator::Heartbeat;
use crate::group::describe::GroupState;
use crate::group::member::MemberId;
use crate::types::TopicPartition;

impl World {
    pub(super) fn check(&mut self) {
        self.check_ownership();
        let assigning = self.group.state() == GroupState::Assigning;
        assert_eq!(assigning, self.group.next_assignment().is_some());
        if !assigning {
            self.check_sleepers();
        }
        let description = self.group.describe();
        assert!(description.epoch >= self.group_epoch, "G3");
        self.group_epoch = description.epoch;
        assert_eq!(description.members.len(), self.consumers.len() + self.away.len());
        for member in &description.members {
            let Some(consumer) = self.consumers.get(&member.id) else {
                assert!(self.away.contains_key(&member.id) && member.owned.is_empty());
                continue;
            };
            assert!(member.owned.iter().eq(consumer.holds.keys()), "{} differs", member.id);
            assert!(member.epoch <= description.epoch, "G3");
        }
        match description.state {
            GroupState::Empty => assert!(self.consumers.is_empty() && self.away.is_empty()),
            GroupState::Stable => self.check_stable(),
            GroupState::Assigning | GroupState::Reconciling => {}
        }
    }

    /// G1, from the members' own view.
    fn check_ownership(&self) {
        let mut holders: BTreeMap<&TopicPartition, &MemberId> = BTreeMap::new();
        for (id, consumer) in &self.consumers {
            for partition in consumer.holds.keys() {
                let other = holders.insert(partition, id);
                assert_eq!(other, None, "G1: {partition} is held by {id} too");
            }
        }
    }

    /// G7: a member with partitions to move is not asleep.
    fn check_sleepers(&self) {
        for (id, consumer) in &self.consumers {
            if !consumer.woken {
                let answer = self.group.clone().heartbeat(id, self.now).unwrap();
                if let Heartbeat::Reconcile(step) = answer {
                    assert!(step.revoke.is_empty() && step.assign.is_empty(), "{id}: {step:?}");
                }
            }
        }
    }

    /// G7: a poll that did not ask the group has missed nothing.
    pub(super) fn check_missed_nothing(&self, id: &MemberId, has_news: bool) {
        if !has_news && self.group.state() != GroupState::Assigning {
            let answer = self.group.clone().heartbeat(id, self.now).unwrap();
            assert_eq!(answer, Heartbeat::Unchanged, "{:?}", self.group.describe());
        }
    }

    /// G2, and G6 by the topic ids.
    pub(super) fn check_stable(&self) {
        let mut expected = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for member in self.group.describe().members {
            if self.away.contains_key(&member.id) {
                for partition in member.target {
                    let topic = self.topics[partition.topic()].id;
                    kept.insert(partition, topic);
                }
            } else {
                assert_eq!(member.epoch, self.group.epoch());
                assert_eq!(member.owned, member.target);
            }
            for name in member.subscription {
                let Some(topic) = self.topics.get(&name) else { continue };
                for number in 0..topic.partitions {
                    expected.insert(TopicPartition::new(Arc::clone(&name), number), topic.id);
                }
            }
        }
        let held = self.consumers.values().flat_map(|consumer| &consumer.holds);
        for (partition, holding) in held {
            assert_eq!(kept.insert(partition.clone(), holding.topic), None, "{partition}");
        }
        assert_eq!(kept, expected, "G2");
    }
}
