//! The disk budget on a real file system: its blocks, looked at all the time.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{
    Acks, Broker, BrokerConfig, DiskBudgetPolicy, Error, JournalMode, ProducerConfig, Record,
    TopicConfig, Verify,
};

use crate::world::AT_ONCE;

const BUDGET: u64 = 12 << 20;

/// Returns the blocks of all files below a folder, in bytes, without folders. What vanishes meanwhile counts
/// nothing.
fn blocks(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    let paths = entries.flatten().map(|entry| entry.path());
    let of = |path: std::path::PathBuf| match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => blocks(&path),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    paths.map(of).sum()
}

/// Sends at full speed from two threads for a while, and looks at the blocks meanwhile. Returns the most blocks
/// and the number of looks.
fn run(path: &Path, policy: DiskBudgetPolicy, mode: JournalMode, value: &[u8]) -> (u64, u64) {
    let config = BrokerConfig::new().disk_budget(BUDGET).journal_mode(mode);
    let broker = Broker::open_with(path, config).unwrap();
    let topic = TopicConfig::new().partitions(3).disk_budget_policy(policy);
    broker.create_topic("t", topic).unwrap();
    let clock = SystemClock::new();
    let done = AtomicBool::new(false);
    let (mut most, mut looks) = (0, 0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let config = ProducerConfig::new().acks(Acks::Written);
                let producer =
                    broker.producer_with(config.max_block(Duration::from_millis(20))).unwrap();
                while !done.load(Ordering::Relaxed) {
                    match producer.send(Record::to("t").value(value)) {
                        // The disk may be slower than that.
                        Ok(_) | Err(Error::Timeout { .. }) => {}
                        Err(Error::DiskBudget { .. }) if policy != DiskBudgetPolicy::DropOldest => {
                            // Somebody makes room now and then.
                            let topic = broker.describe_topic("t").unwrap();
                            for partition in topic.partitions {
                                let middle =
                                    i64::midpoint(partition.start_offset, partition.end_offset);
                                let admin = broker.admin();
                                admin.delete_records(&partition.partition, middle).unwrap();
                            }
                        }
                        Err(error) => panic!("{policy:?} {mode:?}: {error}"),
                    }
                }
            });
        }
        // Half of the budget takes longer on a busy machine.
        let enough = |most| clock.monotonic() > Duration::from_millis(250) && most > BUDGET / 2;
        while !enough(most) && clock.monotonic() < AT_ONCE {
            most = most.max(blocks(path));
            let account = broker.admin().disk_usage().unwrap().budget.unwrap();
            assert!(account.used <= BUDGET, "{account:?}");
            looks += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    let health = broker.health();
    let sound = health
        .problems()
        .iter()
        .all(|problem| matches!(problem, grouplog::Problem::DiskBudget { .. }));
    assert!(sound, "{health}");
    broker.close().unwrap();
    (most.max(blocks(path)), looks)
}

#[test]
fn a_budget_is_never_exceeded_at_full_speed() {
    for policy in [DiskBudgetPolicy::Refuse, DiskBudgetPolicy::Block, DiskBudgetPolicy::DropOldest]
    {
        for (mode, bytes) in [(JournalMode::Auto, 1_000), (JournalMode::Write, 20_000)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("data");
            let (most, looks) = run(&path, policy, mode, &vec![b'x'; bytes]);
            assert!(most <= BUDGET, "{policy:?} {mode:?}: {most} in {looks} looks");
            assert!(most > BUDGET / 2 && looks > 5, "{policy:?} {mode:?}: {most} in {looks} looks");
            let report = Verify::new().run(&path).unwrap();
            assert!(report.findings.is_empty(), "{report:?}");
        }
    }
}
