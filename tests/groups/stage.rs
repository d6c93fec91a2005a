use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use grouplog::{
    Acks, Broker, ConsumerRecords, Error, ProducerConfig, Record, TopicConfig, TopicPartition,
    WakeupHandle,
};

use crate::ledger::{Ledger, PARTITIONS};

pub(crate) const MEMBERS: u64 = 8;
/// Longer than the test takes: a member that sleeps that long was not woken.
pub(crate) const LONG: Duration = Duration::from_mins(10);
/// The time in which everything sent must be processed once nothing more is sent.
const DRAIN: Duration = Duration::from_mins(1);

/// The state that all threads of a run share.
pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) ledger: Ledger,
    stopped: AtomicBool,
    stop: (Mutex<()>, Condvar),
    handles: Mutex<BTreeMap<u64, WakeupHandle>>,
    next: AtomicU64,
}

/// Returns how long members join and leave.
pub(crate) fn duration() -> Duration {
    let seconds = std::env::var("GROUPLOG_CHURN_SECONDS").ok();
    Duration::from_secs(seconds.map_or(1, |text| text.parse().unwrap()))
}

impl Stage {
    pub(crate) fn new() -> Self {
        let broker = Broker::open_in_memory().unwrap();
        broker.create_topic("t", TopicConfig::new().partitions(PARTITIONS)).unwrap();
        Self {
            broker,
            ledger: Ledger::new(),
            stopped: AtomicBool::new(false),
            stop: (Mutex::new(()), Condvar::new()),
            handles: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Returns a new number, for a member or anything else that needs one.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a member whose `poll` is to be interrupted when the run is over.
    pub(crate) fn register(&self, member: u64, handle: WakeupHandle) {
        let mut handles = self.handles.lock().unwrap();
        if self.is_over() {
            handle.wakeup();
        }
        handles.insert(member, handle);
    }

    pub(crate) fn unregister(&self, member: u64) {
        self.handles.lock().unwrap().remove(&member);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits for `time`, or until the run is over.
    pub(crate) fn stall(&self, time: Duration) {
        let guard = self.stop.0.lock().unwrap();
        let over = self.stop.1.wait_timeout_while(guard, time, |()| !self.is_over());
        drop(over.unwrap());
    }

    /// Sends as fast as members process, until `duration` is over. Then everything must be
    /// processed while members still join and leave, and the run ends.
    pub(crate) fn direct(&self, duration: Duration) {
        let begin = Instant::now();
        let acks = ProducerConfig::new().acks(Acks::Written);
        let producer = self.broker.producer_with(acks).unwrap();
        let mut next = vec![0_u64; PARTITIONS as usize];
        let mut random = Random(7);
        while begin.elapsed() < duration {
            if self.ledger.outstanding() > 2_000 {
                std::thread::yield_now();
                continue;
            }
            let number = random.below(u64::from(PARTITIONS)) as usize;
            let partition = TopicPartition::new("t", number as u32);
            let value = next[number].to_string();
            self.ledger.sent(&partition);
            let record = Record::to("t").partition(number as u32).value(&value);
            producer.send(record).unwrap();
            next[number] += 1;
        }
        let end = Instant::now();
        while self.ledger.outstanding() > 0 && end.elapsed() < DRAIN {
            std::thread::yield_now();
        }
        let left = self.ledger.outstanding();
        let handles = self.handles.lock().unwrap();
        self.stopped.store(true, Ordering::Release);
        drop(self.stop.0.lock().unwrap());
        self.stop.1.notify_all();
        handles.values().for_each(WakeupHandle::wakeup);
        drop(handles);
        assert_eq!(left, 0, "{:#?}", self.broker.describe_group("g"));
    }
}

/// Returns the records of a poll, or `None` if it was interrupted.
pub(crate) fn records(polled: grouplog::Result<ConsumerRecords>) -> Option<ConsumerRecords> {
    match polled {
        Ok(records) => Some(records),
        Err(Error::Wakeup) => None,
        Err(error) => panic!("{error}"),
    }
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}
