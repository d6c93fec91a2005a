use std::sync::Arc;

use grouplog::{
    AssignmentStrategy, ConsumerConfig, GroupMembershipOperation, Rebalance, RebalanceListener,
    TopicPartition,
};

use crate::stage::{LONG, MEMBERS, Random, Stage, duration, records};

/// Commits what was processed before a partition moves, and updates the ledger of owners.
struct CommitFirst {
    stage: Arc<Stage>,
    member: u64,
}

impl RebalanceListener for CommitFirst {
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        self.stage.ledger.take(partitions, self.member);
        Ok(())
    }

    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        consumer.commit()?;
        self.stage.ledger.give_up(partitions, self.member);
        Ok(())
    }

    fn on_partitions_lost(
        &mut self,
        partitions: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        panic!("no member is evicted here: {partitions:?}");
    }
}

/// Runs one member after the other until the run is over.
fn members(stage: &Arc<Stage>, thread: u64, strategy: &AssignmentStrategy) {
    let mut random = Random(thread);
    while !stage.is_over() {
        let member = stage.number();
        let mut config = ConsumerConfig::new()
            .group("g")
            .enable_auto_commit(false)
            .assignment_strategies([strategy.clone()]);
        // Half of the threads are static members, which return to their places.
        if thread.is_multiple_of(2) {
            config = config.group_instance_id(format!("thread-{thread}"));
        }
        let mut consumer = stage.broker.consumer_with(config).unwrap();
        consumer.set_rebalance_listener(CommitFirst { stage: Arc::clone(stage), member });
        consumer.subscribe(["t"]).unwrap();
        stage.register(member, consumer.wakeup_handle());
        for _ in 0..random.below(60) {
            let Some(records) = records(consumer.poll(LONG)) else { break };
            stage.ledger.check_owner(&records, member);
            stage.ledger.process(&records);
            match random.below(40) {
                0 => consumer.commit().unwrap(),
                1 => consumer.enforce_rebalance().unwrap(),
                2 => {
                    consumer.unsubscribe().unwrap();
                    consumer.subscribe(["t"]).unwrap();
                }
                _ => {}
            }
        }
        stage.unregister(member);
        // A static member that never returns must not keep its partitions.
        let last = stage.is_over() || random.below(8) == 0;
        let operation = if last {
            GroupMembershipOperation::LeaveGroup
        } else {
            GroupMembershipOperation::Default
        };
        consumer.close_with(operation).unwrap();
    }
}

fn run(strategy: &AssignmentStrategy) {
    let stage = Arc::new(Stage::new());
    std::thread::scope(|scope| {
        for thread in 0..MEMBERS {
            let (stage, strategy) = (Arc::clone(&stage), strategy.clone());
            scope.spawn(move || members(&stage, thread, &strategy));
        }
        stage.direct(duration());
    });
    assert_eq!(stage.ledger.repeated(), 0);
    let group = stage.broker.describe_group("g").unwrap();
    assert!(group.members.is_empty());
    assert!(group.offsets.iter().all(|offset| offset.lag == 0), "{:?}", group.offsets);
    assert!(stage.ledger.total() > 0);
    println!("{strategy}: {} records, each once, {} members", stage.ledger.total(), stage.number());
}

#[test]
fn each_record_is_processed_exactly_once_by_range() {
    run(&AssignmentStrategy::Range);
}

#[test]
fn each_record_is_processed_exactly_once_by_cooperative_sticky() {
    run(&AssignmentStrategy::CooperativeSticky);
}

#[test]
fn each_record_is_processed_exactly_once_by_sticky() {
    run(&AssignmentStrategy::Sticky);
}

#[test]
fn each_record_is_processed_exactly_once_by_uniform() {
    run(&AssignmentStrategy::Uniform);
}
