//! Compaction within a disk budget.

use grouplog::{Broker, CleanupPolicy, DiskBudgetPolicy, Error, Record, TopicConfig};

use crate::compaction::{compacted, world};
use crate::world::{World, all, refused};

const BUDGET: u64 = 8 << 20;

fn limited() -> (World, Broker) {
    let mut world = world();
    world.config = world.config.disk_budget(BUDGET);
    let broker = world.open();
    (world, broker)
}

/// Sends values of ten keys until the budget has no room. Returns how many were sent.
fn fill(broker: &Broker) -> usize {
    let producer = broker.producer().unwrap();
    for sent in 0.. {
        let (key, value) = (format!("k{}", sent % 10), format!("{sent} {}", "x".repeat(900)));
        match producer.send(Record::to("t").key(&key).value(&value)) {
            Ok(_) => {}
            Err(Error::DiskBudget { .. }) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

#[test]
fn a_full_folder_becomes_smaller_by_compaction_within_the_budget() {
    let (world, broker) = limited();
    broker.create_topic("t", compacted().segment_bytes(64 << 20)).unwrap();
    for _ in 0..3 {
        let sent = fill(&broker);
        assert!(sent > 1000, "{sent}");
        broker.admin().compact("t").unwrap();
        let usage = broker.admin().disk_usage().unwrap().budget.unwrap();
        assert!(usage.taken < BUDGET * 3 / 4 && usage.used <= usage.taken, "{usage:?}");
        assert!((10..20).contains(&all(&broker, "t").len()));
    }
    broker.close().unwrap();
    let broker = world.open();
    assert!(fill(&broker) > 1000);
}

#[test]
fn the_newest_values_of_keys_are_not_dropped_for_the_budget() {
    let (_, broker) = limited();
    let drops = |config: TopicConfig| config.disk_budget_policy(DiskBudgetPolicy::DropOldest);
    let invalid = refused(broker.create_topic("t", drops(compacted())));
    assert!(matches!(invalid, Error::InvalidConfig { key: "disk.budget.policy", .. }));
    let both = compacted().cleanup_policy(CleanupPolicy::CompactDelete);
    broker.create_topic("t", drops(both)).unwrap();
    let admin = broker.admin();
    assert!(admin.alter_topic("t", [("cleanup.policy", "compact")]).is_err());
}
