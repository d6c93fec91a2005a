//! The end of a life: nothing more happens, and only those members poll that the shell would wake.

use super::world::World;
use crate::group::coordinator::Heartbeat;
use crate::group::describe::GroupState;
use crate::group::member::MemberId;
use crate::types::TopicPartition;

impl World {
    pub(super) fn settle(&mut self) {
        self.finish_assigning();
        self.publish();
        let ids: Vec<MemberId> = self.consumers.keys().cloned().collect();
        // One round to give up and one to take. `cooperative-sticky` requests a new target in
        // between, which may make another member give up. If a further round were necessary, a
        // member would wait forever.
        let rounds = if self.group.describe().assignor == "cooperative-sticky" { 4 } else { 2 };
        for _ in 0..rounds {
            for id in &ids {
                let consumer = &self.consumers[id];
                if consumer.woken || consumer.has_news() {
                    self.poll(id, true);
                    self.finish_assigning();
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
        self.check_progress(&ids);
        self.check_stickiness();
    }

    /// Checks that one poll by the holder of a partition reads what is written to a settled group.
    fn check_progress(&mut self, ids: &[MemberId]) {
        for _ in 0..4 {
            self.write();
        }
        for id in ids {
            self.poll(id, true);
        }
        self.check();
        for consumer in self.consumers.values() {
            for (partition, holding) in &consumer.holds {
                let log = self.logs[&(holding.topic, partition.clone())];
                assert_eq!((holding.position, log.read), (log.end, log.end), "{partition}");
            }
        }
    }

    /// Checks that a settled group that is reassigned without a change moves nothing. That holds
    /// for every assignor here, because each decides by the group alone.
    fn check_stickiness(&mut self) {
        let Some(id) = self.consumers.keys().next().cloned() else { return };
        let targets = |world: &Self| -> Vec<(MemberId, Vec<TopicPartition>)> {
            let members = world.group.describe().members;
            members.into_iter().map(|member| (member.id, member.target)).collect()
        };
        let before = targets(self);
        self.group.enforce_rebalance(&id).unwrap();
        self.finish_assigning();
        self.publish();
        assert_eq!(targets(self), before);
    }
}
