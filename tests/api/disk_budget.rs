//! The disk budget: what the files of a folder take is limited at every moment, and an append that finds no room
//! is treated as its topic says.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::storage::{Crash, Memory, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, BrokerConfig, BudgetUsage, DiskBudgetPolicy, Error, HealthStatus, JournalMode,
    OffsetScope, Problem, Producer, ProducerConfig, Record, ResetTo, Timestamp, TopicConfig,
};

use crate::faulty::{Act, Faulty};
use crate::world::{World, all, refused, tp};

const MIB: u64 = 1 << 20;
/// The least that is possible.
pub(crate) const BUDGET: u64 = 2 * MIB;

/// A world with a budget. `most` is the most that the files ever took, counted at each call of the engine.
struct Limited {
    world: World,
    faulty: Faulty,
    most: Arc<AtomicU64>,
}

impl Limited {
    fn new(mode: JournalMode) -> Self {
        Self::on(World::on(Memory::new()), mode)
    }

    fn on(mut world: World, mode: JournalMode) -> Self {
        world.config = world.config.journal_mode(mode).disk_budget(BUDGET);
        let faulty = Faulty::new(world.storage.clone());
        let most = Arc::new(AtomicU64::new(0));
        let (counted, storage) = (Arc::clone(&most), world.storage.clone());
        faulty.spy(move || {
            counted.fetch_max(storage.disk_blocks(), Ordering::Relaxed);
        });
        Self { world, faulty, most }
    }

    fn open(&self) -> Broker {
        Broker::open_storage(Arc::new(self.faulty.clone()), self.world.config.clone()).unwrap()
    }

    /// Checks that the budget was never exceeded, neither by the blocks nor by the engine's count.
    fn check(&self, broker: &Broker) {
        let (used, account) = Self::at_one_moment(&self.world.storage, broker);
        let most = used.max(self.most.load(Ordering::Relaxed));
        assert!(most <= BUDGET && account.used <= BUDGET, "{most} {account:?}");
        assert!(used <= account.used, "{used} {account:?}");
        assert!(account.used <= account.taken && account.limit == BUDGET, "{account:?}");
    }

    /// The blocks of the files and the engine's account of them. The engine's threads may write
    /// between the two looks, so the blocks count only if the account is the same before and after.
    fn at_one_moment(storage: &Memory, broker: &Broker) -> (u64, BudgetUsage) {
        let account = || broker.admin().disk_usage().unwrap().budget.unwrap();
        loop {
            let (before, used, after) = (account(), storage.disk_blocks(), account());
            if before == after {
                return (used, after);
            }
            std::thread::yield_now();
        }
    }
}

/// Runs a test in both journal modes, with records that go to the journal and with large ones that do not.
fn each(test: impl Fn(&Limited, usize)) {
    for mode in [JournalMode::Map, JournalMode::Write] {
        for bytes in [700, 7_000, 30_000] {
            test(&Limited::new(mode), bytes);
        }
    }
}

fn topic(policy: DiskBudgetPolicy) -> TopicConfig {
    TopicConfig::new().disk_budget_policy(policy)
}

fn producer(broker: &Broker) -> Producer {
    let config = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_millis(30));
    broker.producer_with(config).unwrap()
}

/// Sends until the budget is used up. Returns the number of records and the error.
fn fill(broker: &Broker, topic: &str, bytes: usize) -> (i64, Error) {
    let producer = producer(broker);
    let value = vec![b'x'; bytes];
    for count in 0..100_000 {
        if let Err(error) = producer.send(Record::to(topic).partition(0).value(&value)) {
            return (count, error);
        }
    }
    panic!("the budget has no end");
}

fn start(broker: &Broker, topic: &str) -> i64 {
    broker.describe_topic(topic).unwrap().partitions[0].start_offset
}

fn end(broker: &Broker, topic: &str) -> i64 {
    broker.describe_topic(topic).unwrap().partitions[0].end_offset
}

#[test]
fn a_refused_append_says_why_and_everything_else_works() {
    each(|limited, bytes| {
        let broker = limited.open();
        broker.create_topic("t", TopicConfig::new().segment_bytes(100_000)).unwrap();
        let (sent, error) = fill(&broker, "t", bytes);
        let Error::DiskBudget { budget, taken, needed } = error else { panic!("{error:?}") };
        assert!(error.is_retryable() && budget == BUDGET && taken + needed > BUDGET, "{error:?}");
        assert!(needed >= bytes as u64 && taken <= BUDGET + BUDGET / 64, "{error:?}");
        // More than half of the smallest budget is for records.
        assert!(sent * bytes as i64 > 1_000_000, "{sent} of {bytes}");
        assert_eq!(end(&broker, "t"), sent);
        limited.check(&broker);
        let health = broker.health();
        assert_eq!(health.status(), HealthStatus::Degraded);
        assert!(
            matches!(health.problems(), [Problem::DiskBudget { budget: BUDGET, .. }]),
            "{health}"
        );
        // All of this needs space.
        let scope = OffsetScope::Topic("t".to_owned());
        for group in 0..20 {
            let admin = broker.admin();
            admin.reset_offsets(&format!("g{group}"), &scope, ResetTo::Latest).unwrap();
        }
        broker.create_topic("other", TopicConfig::new().partitions(3)).unwrap();
        broker.checkpoint().unwrap();
        assert!(matches!(fill(&broker, "other", 60_000).1, Error::DiskBudget { .. }));
        limited.check(&broker);
        assert_eq!(all(&broker, "t").len() as i64, sent);

        broker.admin().delete_records(&tp("t", 0), sent / 2).unwrap();
        producer(&broker).send(Record::to("t").value(&vec![b'y'; bytes])).unwrap();
        assert!(broker.health().is_ok(), "{}", broker.health());
        let (more, _) = fill(&broker, "t", bytes);
        assert!(more > sent / 4, "{more} of {sent}");
        broker.delete_topic("t").unwrap();
        broker.create_topic("t", TopicConfig::new()).unwrap();
        assert!(fill(&broker, "t", bytes).0 > sent / 2);
        limited.check(&broker);
        broker.close().unwrap();
        let broker = limited.open();
        assert!(matches!(fill(&broker, "t", bytes).1, Error::DiskBudget { .. }));
        limited.check(&broker);
    });
}

#[test]
fn the_oldest_records_go_and_nothing_is_refused() {
    each(|limited, bytes| {
        let broker = limited.open();
        broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest)).unwrap();
        let producer = producer(&broker);
        let count = 6 * MIB / bytes as u64;
        for n in 0..count {
            let value = [n.to_string().as_bytes(), &vec![b' '; bytes]].concat();
            producer.send(Record::to("t").value(&value)).unwrap();
            if n % (count / 5) == 0 {
                limited.world.clock.advance(Duration::from_millis(10));
            }
            if n % 20 == 0 {
                // Nine tenths, and a batch that was charged before the last look.
                let account = broker.admin().disk_usage().unwrap().budget.unwrap();
                assert!(account.taken <= BUDGET / 10 * 9 + (128 << 10), "{account:?}");
            }
        }
        limited.check(&broker);
        let partition = &broker.describe_topic("t").unwrap().partitions[0];
        let deleted = partition.deleted;
        assert_eq!(deleted.total(), deleted.budget);
        assert!(deleted.budget.segments > 20 && deleted.budget.bytes > 4 * MIB, "{deleted:?}");
        let kept = (partition.end_offset - partition.start_offset) as usize * bytes;
        assert!(kept > 650_000, "{kept} of {bytes}");
        let expected: Vec<_> = (partition.start_offset..count as i64).collect();
        let offsets: Vec<_> = all(&broker, "t").iter().map(|record| record.offset).collect();
        assert_eq!(offsets, expected);
        assert!(broker.health().is_ok(), "{}", broker.health());
        broker.close().unwrap();
        let broker = limited.open();
        assert_eq!(all(&broker, "t").len(), expected.len());
        producer_sends(&broker, "t", bytes, 200);
        limited.check(&broker);
    });
}

/// With background threads too, nothing is refused that may hardly wait.
#[test]
fn a_thread_drops_the_oldest() {
    let mut world = World::new();
    world.config = world.config.background(true);
    let limited = Limited::on(world, JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest).partitions(3)).unwrap();
    let patient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_mins(1));
    let producer = broker.producer_with(patient).unwrap();
    let value = vec![b'x'; 3_000];
    let count = 6 * MIB / 3_000;
    for _ in 0..count {
        producer.send(Record::to("t").value(&value)).unwrap();
    }
    limited.check(&broker);
    let partitions = broker.describe_topic("t").unwrap().partitions;
    assert!(partitions.iter().all(|part| part.deleted.total() == part.deleted.budget));
    let deleted: u64 = partitions.iter().map(|part| part.deleted.budget.bytes).sum();
    assert!(deleted > 4 * MIB, "{deleted}");
    assert!(broker.health().is_ok(), "{}", broker.health());
    // What is counted is what is gone.
    let kept: u64 = partitions.iter().map(|part| part.bytes).sum();
    assert!(deleted + kept > count * 3_000, "{deleted} {kept}");
    broker.close().unwrap();
}

/// The room that its first records got is given back when there is none for the next ones.
#[test]
fn a_send_all_asks_for_room_for_all_of_its_records() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest).partitions(4)).unwrap();
    let producer = producer(&broker);
    let value = vec![b'x'; 13_000];
    for _ in 0..200 {
        let each = (0..4).map(|partition| Record::to("t").partition(partition).value(&value));
        producer.send_all(each).unwrap();
    }
    limited.check(&broker);
    let partitions = broker.describe_topic("t").unwrap().partitions;
    assert!(partitions.iter().all(|part| part.start_offset > 0 && part.end_offset == 200));
}

fn producer_sends(broker: &Broker, topic: &str, bytes: usize, count: u64) {
    let producer = producer(broker);
    let value = vec![b'x'; bytes];
    for _ in 0..count {
        producer.send(Record::to(topic).partition(0).value(&value)).unwrap();
    }
}

/// The oldest data goes first over all topics with the policy, and nothing else goes.
#[test]
fn the_oldest_go_over_all_topics_that_allow_it() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    for name in ["late", "early", "idle"] {
        broker.create_topic(name, topic(DiskBudgetPolicy::DropOldest).partitions(2)).unwrap();
    }
    broker.create_topic("kept", TopicConfig::new()).unwrap();
    producer_sends(&broker, "kept", 10_000, 10);
    let producer = producer(&broker);
    let now = 1_700_000_000_000;
    let value = vec![b'x'; 20_000];
    let send = |topic, partition, at| {
        let record = Record::to(topic).partition(partition).value(&value);
        producer.send(record.timestamp(Timestamp::from_millis(at))).unwrap();
    };
    for n in 0..8 {
        send("early", 1, now - 1_000 + n);
        send("idle", 0, now - 2_000 + n);
        // A future timestamp does not keep data.
        send("late", 0, now + 1_000_000);
    }
    let starts = |topic: &str| -> Vec<i64> {
        let topic = broker.describe_topic(topic).unwrap();
        topic.partitions.iter().map(|partition| partition.start_offset).collect()
    };
    let mut seen = Vec::new();
    for n in 0..400 {
        send("late", 1, now + n / 10);
        limited.world.clock.advance(Duration::from_micros(100));
        let first = [starts("idle")[0], starts("early")[1], starts("late")[0], starts("late")[1]];
        if seen.last() != Some(&first) {
            seen.push(first);
        }
    }
    // Each is gone whole, the active segment too, before the next one begins.
    let position = |test: &dyn Fn(&[i64; 4]) -> bool| seen.iter().position(test).unwrap();
    assert!(seen.contains(&[8, 8, 0, 0]) || seen.iter().any(|s| s[0] == 8), "{seen:?}");
    assert!(position(&|s| s[0] == 8) <= position(&|s| s[1] > 0), "{seen:?}");
    assert!(position(&|s| s[1] == 8) <= position(&|s| s[3] > 0), "{seen:?}");
    assert!(position(&|s| s[2] > 0) >= position(&|s| s[1] == 8), "{seen:?}");
    assert_eq!((start(&broker, "kept"), all(&broker, "kept").len()), (0, 10));
    limited.check(&broker);
}

/// Where other topics hold the budget, the records of one that drops its oldest do not go in vain.
#[test]
fn nothing_is_dropped_for_an_append_that_cannot_fit() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("kept", TopicConfig::new().segment_bytes(100_000)).unwrap();
    broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest)).unwrap();
    producer_sends(&broker, "t", 1_000, 2);
    broker.checkpoint().unwrap();
    while producer(&broker).send(Record::to("kept").value(&[b'x'; 2_000])).is_ok() {}
    // Two segments of it have gone, but it is full of what must stay.
    let error = refused(producer(&broker).send(Record::to("t").value(&vec![b'x'; 60_000])));
    assert!(matches!(error, Error::DiskBudget { .. }), "{error:?}");
    assert_eq!((start(&broker, "t"), end(&broker, "t")), (0, 2));
    limited.check(&broker);
    // Some of the others go, and so a little room is enough.
    let half = end(&broker, "kept") / 2;
    broker.admin().delete_records(&tp("kept", 0), half).unwrap();
    producer_sends(&broker, "t", 30_000, 60);
    assert!(start(&broker, "t") > 2);
    limited.check(&broker);
}

#[test]
fn a_blocked_append_waits_for_room_as_long_as_it_may() {
    let mut world = World::new();
    world.config = world.config.background(true);
    let limited = Limited::on(world, JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", topic(DiskBudgetPolicy::Block).segment_bytes(100_000)).unwrap();
    let (sent, error) = fill(&broker, "t", 7_000);
    assert!(matches!(error, Error::DiskBudget { .. }), "{error:?}");
    let patient = ProducerConfig::new().acks(Acks::Written).max_block(Duration::from_mins(5));
    let patient = broker.producer_with(patient).unwrap();
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            for _ in 0..200 {
                patient.send(Record::to("t").value(&[b'y'; 7_000])).unwrap();
            }
            let both = [Record::to("t").value("1"), Record::to("t").value("2")];
            patient.send_all(both).unwrap();
        });
        while !sends.is_finished() {
            let end = end(&broker, "t");
            broker.admin().delete_records(&tp("t", 0), (end - 30).max(0)).unwrap();
            std::thread::yield_now();
        }
    });
    assert_eq!(end(&broker, "t"), sent + 202);
    limited.check(&broker);
    // A close ends the wait.
    fill(&broker, "t", 7_000);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            while let Ok(sent) = patient.send(Record::to("t").value(&[b'y'; 7_000])) {
                drop(sent);
            }
        });
        broker.clone().close().unwrap();
        waits.join().unwrap();
    });
}

/// Without threads nobody else makes room, so the append does what they would do.
#[test]
fn without_threads_a_blocked_append_lets_retention_make_room() {
    let limited = Limited::new(JournalMode::Map);
    let broker = limited.open();
    let config = topic(DiskBudgetPolicy::Block).segment_bytes(50_000);
    broker.create_topic("t", config.retention(Duration::from_mins(1))).unwrap();
    assert!(matches!(fill(&broker, "t", 7_000).1, Error::DiskBudget { .. }));
    limited.world.clock.advance(Duration::from_mins(2));
    producer_sends(&broker, "t", 7_000, 100);
    assert!(start(&broker, "t") > 0);
    limited.check(&broker);
}

/// What is due may be in memory. A checkpoint makes it a segment, which takes as much, and retention deletes that.
#[test]
fn without_threads_retention_looks_again_behind_the_checkpoint() {
    let mut world = World::on(Memory::new()).batch_size(128 << 10);
    world.config = world.config.journal_max_bytes(512 << 10);
    let limited = Limited::on(world, JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("full", TopicConfig::new()).unwrap();
    let config = topic(DiskBudgetPolicy::Block).partitions(2).retention_consumed(["g"]);
    broker.create_topic("t", config).unwrap();
    let room = || {
        let budget = broker.admin().disk_usage().unwrap().budget.unwrap();
        budget.limit - budget.taken
    };
    // A full batch of 128 KiB is charged 160 KiB. Little more is left than that.
    while room() > 168 << 10 {
        producer_sends(&broker, "full", 1_000, 1);
        broker.checkpoint().unwrap();
    }
    producer_sends(&broker, "t", 4_080, 31);
    let scope = OffsetScope::Topic("t".to_owned());
    broker.admin().reset_offsets("g", &scope, ResetTo::Latest).unwrap();
    assert_eq!((start(&broker, "t"), end(&broker, "t")), (0, 31));
    producer(&broker).send(Record::to("t").partition(1).value(&[b'x'; 4_000])).unwrap();
    assert_eq!((start(&broker, "t"), end(&broker, "t")), (31, 31));
    limited.check(&broker);
}

#[test]
fn the_strictest_policy_decides_about_records_of_several_topics() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("drops", topic(DiskBudgetPolicy::DropOldest)).unwrap();
    broker.create_topic("refuses", TopicConfig::new()).unwrap();
    let producer = producer(&broker);
    let both = || ["drops", "refuses"].map(|topic| Record::to(topic).value(&[b'x'; 7_000]));
    let error = loop {
        if let Err(error) = producer.send_all(both()) {
            break error;
        }
    };
    assert!(matches!(error, Error::DiskBudget { .. }), "{error:?}");
    assert_eq!(end(&broker, "drops"), end(&broker, "refuses"));
    limited.check(&broker);
    producer.send(Record::to("drops").value(&[b'x'; 7_000])).unwrap();
    let error = (0..100).find_map(|_| producer.send_all(both()).err()).unwrap();
    assert!(matches!(error, Error::DiskBudget { .. }), "{error:?}");
    // The policy of a topic may change at any time.
    let key = "disk.budget.policy";
    broker.admin().alter_topic("refuses", [(key, "drop-oldest")]).unwrap();
    for _ in 0..200 {
        producer.send_all(both()).unwrap();
    }
    limited.check(&broker);
    let described = broker.describe_topic("refuses").unwrap();
    assert!(described.config.contains(&(key, "drop-oldest".to_owned())), "{described:?}");
}

/// A partition that a transaction only expects to end somewhere gets nothing.
#[test]
fn the_policy_of_an_expected_partition_does_not_count() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("drops", topic(DiskBudgetPolicy::DropOldest)).unwrap();
    broker.create_topic("refuses", TopicConfig::new()).unwrap();
    producer_sends(&broker, "drops", 7_000, 100);
    // A refusal has batches written out, which makes a little room once more.
    while fill(&broker, "refuses", 7_000).0 > 0 {}
    let producer = producer(&broker);
    let value = vec![b'x'; 50_000];
    let send = |to: &str, expected: &str| {
        let mut transaction = producer.begin().unwrap();
        transaction.expect_end(&tp(expected, 0), end(&broker, expected)).unwrap();
        transaction.send(Record::to(to).partition(0).value(&value)).unwrap();
        transaction.commit().map(|_| ())
    };
    let before = start(&broker, "drops");
    send("drops", "refuses").unwrap();
    assert!(start(&broker, "drops") > before);
    limited.check(&broker);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_changes() {
    let storage = Memory::new();
    for budget in [0, BUDGET - 1] {
        let config = BrokerConfig::new().disk_budget(budget);
        let error = refused(Broker::open_storage(Arc::new(storage.clone()), config));
        let Error::InvalidConfig { key, value, expected } = &error else { panic!("{error:?}") };
        assert_eq!((*key, value.as_str()), ("disk.budget", &*budget.to_string()));
        assert!(expected.contains("2097152"), "{error}");
    }
    assert!(storage.list(Path::new("")).unwrap().is_empty());
    let broker = Broker::open_storage(Arc::new(storage), BrokerConfig::new()).unwrap();
    assert_eq!(broker.admin().disk_usage().unwrap().budget, None);
    for value in ["", "drop", "Refuse"] {
        let error = refused(TopicConfig::new().set("disk.budget.policy", value));
        assert!(matches!(error, Error::InvalidConfig { key: "disk.budget.policy", .. }));
    }
    broker.create_topic("t", topic(DiskBudgetPolicy::Block)).unwrap();
    let wrong = [("disk.budget.policy", "ask")];
    assert!(matches!(refused(broker.admin().alter_topic("t", wrong)), Error::InvalidConfig { .. }));
    let config = broker.describe_topic("t").unwrap().config;
    assert!(config.contains(&("disk.budget.policy", "block".to_owned())), "{config:?}");
}

/// B7: the budget may be lower than what is there.
#[test]
fn a_folder_beyond_a_lowered_budget_opens() {
    for killed in [false, true] {
        let mut world = World::on(Memory::crash_simulating(1));
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().segment_bytes(100_000)).unwrap();
        broker.create_topic("u", TopicConfig::new()).unwrap();
        producer_sends(&broker, "t", 10_000, 400);
        if killed {
            world.storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        }
        drop(broker);
        world.config = world.config.disk_budget(BUDGET);
        let broker = world.open();
        assert!(world.storage.disk_blocks() > BUDGET);
        assert_eq!(all(&broker, "t").len(), 400);
        for topic in ["t", "u"] {
            let error = refused(producer(&broker).send(Record::to(topic).value("x")));
            assert!(matches!(error, Error::DiskBudget { .. }), "{error:?}");
        }
        let problems = broker.health();
        assert!(matches!(problems.problems(), [Problem::DiskBudget { .. }]), "{problems}");
        let scope = OffsetScope::Topic("t".to_owned());
        broker.admin().reset_offsets("g", &scope, ResetTo::Latest).unwrap();
        broker.create_topic("v", TopicConfig::new()).unwrap();
        broker.checkpoint().unwrap();
        broker.admin().delete_records(&tp("t", 0), 380).unwrap();
        broker.checkpoint().unwrap();
        assert!(world.storage.disk_blocks() < BUDGET);
        producer_sends(&broker, "t", 10_000, 30);
        assert!(broker.health().is_ok(), "{}", broker.health());
        // From here on the limit holds.
        fill(&broker, "t", 10_000);
        assert!(world.storage.disk_blocks() <= BUDGET);
        broker.close().unwrap();
        assert_eq!(world.open().recovery_report().damaged.len(), 0);
    }
}

/// A budget that is hardly larger than the folder: what never asks finds space, or goes on as on a full disk.
#[test]
fn a_folder_just_below_a_lowered_budget_opens() {
    for (killed, extra) in [false, true].into_iter().flat_map(|k| [0, 2, 10, 80].map(|e| (k, e))) {
        let mut world = World::on(Memory::crash_simulating(1));
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().segment_bytes(100_000)).unwrap();
        producer_sends(&broker, "t", 10_000, 300);
        if killed {
            world.storage = world.storage.crash(Crash::Kill, &SeededRandom::new(1));
        } else {
            broker.clone().close().unwrap();
        }
        drop(broker);
        let budget = world.storage.disk_blocks() + extra * 4096;
        world.config = world.config.disk_budget(budget);
        let broker = world.open();
        let keeps = || {
            let account = broker.admin().disk_usage().unwrap().budget.unwrap();
            assert!(world.storage.disk_blocks() <= account.used, "{account:?}");
            account.used <= budget
        };
        assert_eq!(all(&broker, "t").len(), 300);
        let error = refused(producer(&broker).send(Record::to("t").value("x")));
        assert!(matches!(error, Error::DiskBudget { .. }), "{killed} {extra}: {error:?}");
        let scope = OffsetScope::Topic("t".to_owned());
        broker.admin().reset_offsets("g", &scope, ResetTo::Latest).unwrap();
        broker.admin().delete_records(&tp("t", 0), 250).unwrap();
        broker.checkpoint().unwrap();
        producer_sends(&broker, "t", 10_000, 30);
        assert!(broker.health().is_ok() && keeps(), "{}", broker.health());
        broker.close().unwrap();
        assert!(world.storage.disk_blocks() <= budget);
    }
}

/// A topic that drops its oldest gets below a lowered budget at the next check.
#[test]
fn a_lowered_budget_drops_at_the_next_check() {
    let mut world = World::new();
    let broker = world.open();
    let config = topic(DiskBudgetPolicy::DropOldest).segment_bytes(100_000);
    broker.create_topic("t", config).unwrap();
    producer_sends(&broker, "t", 10_000, 400);
    broker.close().unwrap();
    world.config = world.config.disk_budget(BUDGET);
    let broker = world.open();
    let retained = broker.admin().run_retention().unwrap();
    assert!(retained.budget.bytes > MIB && retained.total() == retained.budget, "{retained:?}");
    assert!(world.storage.disk_blocks() < BUDGET && start(&broker, "t") > 250);
    assert_eq!(end(&broker, "t"), 400);
}

/// Many partitions have open batches that are charged for more than they take. A refusal settles that.
#[test]
fn open_batches_of_many_partitions_are_settled() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", TopicConfig::new().partitions(25)).unwrap();
    let producer = producer(&broker);
    let (mut sent, mut refusals) = (0_i64, 0);
    for round in 0..100 {
        for partition in 0..25 {
            let record = Record::to("t").partition(partition).value(&[b'x'; 100]);
            match producer.send(record) {
                Ok(_) => sent += 1,
                Err(Error::DiskBudget { .. }) => refusals += 1,
                Err(error) => panic!("round {round}: {error}"),
            }
        }
    }
    limited.check(&broker);
    assert!(refusals < 100 && sent > 2_000, "{sent} sent, {refusals} refused");
    broker.close().unwrap();
    let broker = limited.open();
    assert_eq!(all(&broker, "t").len() as i64, sent);
    limited.check(&broker);
}

#[test]
fn compressed_topics_and_small_segments_stay_within_the_budget() {
    for (segment_bytes, interval) in [(1 << 10, 0), (5_000, 4096), (64 << 20, 1)] {
        let limited = Limited::new(JournalMode::Write);
        let broker = limited.open();
        let config = topic(DiskBudgetPolicy::DropOldest).segment_bytes(segment_bytes);
        let config = config.index_interval_bytes(interval);
        broker.create_topic("plain", config.clone().partitions(3)).unwrap();
        broker.create_topic("small", config.compression(Compression::Zstd)).unwrap();
        let producer = producer(&broker);
        let random = SeededRandom::new(1);
        for n in 0..3_000_u32 {
            let noise: Vec<u8> =
                (0..n % 900).map(|_| grouplog::time::Random::next_u64(&random) as u8).collect();
            let topic = if n % 4 == 0 { "small" } else { "plain" };
            producer.send(Record::to(topic).value(&noise)).unwrap();
            if n % 100 == 0 {
                broker.checkpoint().unwrap();
            }
        }
        limited.check(&broker);
        assert!(broker.health().is_ok(), "{}", broker.health());
        broker.close().unwrap();
    }
}

/// A deletion that the journal cannot take, or that fails, refuses the append. Nothing is lost.
#[test]
fn a_failed_deletion_refuses_the_append() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest)).unwrap();
    producer_sends(&broker, "t", 10_000, 60);
    limited.faulty.order("remove", ".log", Act::Fail(5));
    for _ in 0..10 {
        let error = fill(&broker, "t", 10_000).1;
        assert!(matches!(error, Error::Io { .. } | Error::DiskBudget { .. }), "{error:?}");
        limited.check(&broker);
    }
    // What could not be removed is not followed by more.
    assert!(start(&broker, "t") < 40, "{}", start(&broker, "t"));
    limited.faulty.heal();
    producer_sends(&broker, "t", 10_000, 200);
    limited.check(&broker);
    let described = broker.describe_topic("t").unwrap().partitions[0].clone();
    let kept = described.end_offset - described.start_offset;
    assert_eq!(all(&broker, "t").len() as i64, kept);
    broker.close().unwrap();
}

/// B3: while a batch cannot be written to its segment, it has its charge.
#[test]
fn a_batch_that_cannot_be_written_keeps_its_charge() {
    let mut limited = Limited::new(JournalMode::Write);
    limited.world.config = limited.world.config.batch_size(4096);
    let broker = limited.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    producer_sends(&broker, "t", 3_000, 10);
    broker.checkpoint().unwrap();
    let taken = || broker.admin().disk_usage().unwrap().budget.unwrap().taken;
    producer_sends(&broker, "t", 3_000, 1);
    let with_one = taken();
    limited.faulty.order("write", ".log", Act::Fail(5));
    // The second one fills the batch of the first, which cannot be written.
    producer_sends(&broker, "t", 3_000, 1);
    let with_two = taken();
    assert!(with_two >= with_one + 4096, "{with_one} {with_two}");
    limited.faulty.heal();
    broker.checkpoint().unwrap();
    assert!(taken() < with_two);
    limited.check(&broker);
}

/// A reader holds batches and segments that are gone meanwhile.
#[test]
fn a_slow_reader_does_not_keep_the_budget() {
    let limited = Limited::new(JournalMode::Write);
    let broker = limited.open();
    broker.create_topic("t", topic(DiskBudgetPolicy::DropOldest)).unwrap();
    let mut held = Vec::new();
    for _ in 0..100 {
        producer_sends(&broker, "t", 5_000, 5);
        let mut reader = crate::world::reader(&broker, "t", 1);
        held.push((reader.poll(Duration::ZERO).unwrap(), reader));
    }
    assert!(
        held.iter().all(|(records, _)| records.iter().all(|r| r.value().unwrap().len() == 5_000))
    );
    limited.check(&broker);
}
