//! Groups under real threads: members that join and leave all the time while records are sent.
//!
//! Each record carries its number; a partition's owner marks itself from `assigned` to `revoked`, so two
//! owners at once would meet. Commits are made by the listener alone, when a partition is given up: then
//! each record is processed exactly once.
//!
//! `GROUPLOG_CHURN_SECONDS` says how long it goes on (1); 60 is what a release is tested with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::time::{Clock, Random, SeededRandom, SystemClock};
use grouplog::{
    Acks, AssignmentStrategy, Broker, Consumer, ConsumerConfig, GroupMembershipOperation,
    ProducerConfig, Rebalance, RebalanceListener, Record, TopicConfig, TopicPartition,
};

use crate::world::LONG;

const PARTITIONS: u32 = 64;
const MEMBERS: usize = 8;
const FREE: u32 = u32::MAX;

/// What all members and the checks share.
struct Ledger {
    /// The member that owns a partition, by its own view.
    owners: Vec<AtomicU32>,
    /// How often each record of a partition was processed.
    processed: Vec<Mutex<HashMap<i64, u32>>>,
    sent: Vec<AtomicU64>,
    done: AtomicU64,
    /// No record is sent any more.
    all_sent: AtomicBool,
    /// It takes too long: what is missing is told below.
    given_up: AtomicBool,
}

impl Ledger {
    fn new() -> Self {
        Self {
            owners: (0..PARTITIONS).map(|_| AtomicU32::new(FREE)).collect(),
            processed: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            sent: (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect(),
            done: AtomicU64::new(0),
            all_sent: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    fn hand_over(&self, partitions: &[TopicPartition], from: u32, to: u32) {
        for partition in partitions {
            let owner = &self.owners[partition.partition() as usize];
            let found = owner.swap(to, Ordering::SeqCst);
            assert_eq!(found, from, "{partition} goes to {to}");
        }
    }

    fn is_done(&self) -> bool {
        if self.given_up.load(Ordering::SeqCst) {
            return true;
        }
        let sent: u64 = self.sent.iter().map(|sent| sent.load(Ordering::SeqCst)).sum();
        self.all_sent.load(Ordering::SeqCst) && self.done.load(Ordering::SeqCst) == sent
    }
}

struct Owner {
    number: u32,
    ledger: Arc<Ledger>,
}

impl RebalanceListener for Owner {
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        self.ledger.hand_over(partitions, FREE, self.number);
        Ok(())
    }

    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        consumer.commit()?;
        self.ledger.hand_over(partitions, self.number, FREE);
        Ok(())
    }

    fn on_partitions_lost(
        &mut self,
        partitions: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> grouplog::Result<()> {
        panic!("nobody is silent for five minutes here: {partitions:?}")
    }
}

/// One life of a member: some polls, and then it leaves in order.
fn live(broker: &Broker, ledger: &Arc<Ledger>, number: u32, polls: u64, stay: bool) {
    let config = ConsumerConfig::new()
        .group("g")
        .enable_auto_commit(false)
        .max_poll_records(100)
        .assignment_strategies([AssignmentStrategy::Sticky]);
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.set_rebalance_listener(Owner { number, ledger: Arc::clone(ledger) });
    consumer.subscribe(["t"]).unwrap();
    let mut polled = 0;
    while stay && !ledger.is_done() || polled < polls && !ledger.is_done() {
        poll(&mut consumer, ledger, number);
        polled += 1;
    }
    consumer.close_with(GroupMembershipOperation::LeaveGroup).unwrap();
}

fn poll(consumer: &mut Consumer, ledger: &Ledger, number: u32) {
    let records = consumer.poll(Duration::from_millis(20)).unwrap();
    for partition in records.partitions() {
        let at = partition.partition() as usize;
        let mut processed = ledger.processed[at].lock().unwrap();
        for record in records.records(partition) {
            assert_eq!(ledger.owners[at].load(Ordering::SeqCst), number, "read by its owner");
            *processed.entry(record.offset()).or_default() += 1;
        }
    }
    ledger.done.fetch_add(records.len() as u64, Ordering::SeqCst);
}

fn send(broker: &Broker, ledger: &Ledger, until: Duration, clock: &SystemClock) {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let random = SeededRandom::new(1);
    while clock.monotonic() < until {
        for _ in 0..50 {
            let partition = (random.next_u64() % u64::from(PARTITIONS)) as u32;
            producer.send(Record::to("t").partition(partition).value("v")).unwrap();
            ledger.sent[partition as usize].fetch_add(1, Ordering::SeqCst);
        }
        std::thread::yield_now();
    }
    ledger.all_sent.store(true, Ordering::SeqCst);
}

#[test]
fn members_come_and_go_in_threads_and_each_record_is_processed_exactly_once() {
    let seconds = std::env::var("GROUPLOG_CHURN_SECONDS").ok().and_then(|s| s.parse().ok());
    let until = Duration::from_secs(seconds.unwrap_or(1));
    let clock = SystemClock::new();
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(PARTITIONS)).unwrap();
    let ledger = Arc::new(Ledger::new());
    let lives = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&broker, &ledger, until, &clock));
        let (over, hear) = channel::<()>();
        for number in 0..MEMBERS as u32 {
            let (broker, ledger, lives) = (&broker, &ledger, &lives);
            let over = over.clone();
            scope.spawn(move || {
                let _over = over; // also if it panics
                let random = SeededRandom::new(u64::from(number));
                while !ledger.is_done() {
                    // One stays, so that what the others leave behind is always somebody's.
                    live(broker, ledger, number, random.next_u64() % 40, number == 0);
                    lives.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        drop(over);
        if hear.recv_timeout(until + LONG) == Err(RecvTimeoutError::Timeout) {
            ledger.given_up.store(true, Ordering::SeqCst);
        }
    });
    for (at, (sent, processed)) in ledger.sent.iter().zip(&ledger.processed).enumerate() {
        let sent = sent.load(Ordering::SeqCst);
        let processed = processed.lock().unwrap();
        assert_eq!(processed.len() as u64, sent, "each record of partition {at}");
        assert!(processed.values().all(|times| *times == 1), "exactly once, in partition {at}");
    }
    assert!(ledger.owners.iter().all(|owner| owner.load(Ordering::SeqCst) == FREE));
    let group = broker.describe_group("g").unwrap();
    assert!(group.members.is_empty());
    assert!(group.offsets.iter().all(|offset| offset.lag == Some(0)), "{:?}", group.offsets);
    assert!(lives.load(Ordering::Relaxed) > MEMBERS as u64, "they did come and go");
}
