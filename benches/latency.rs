//! Time of a record from `send` (`Written`) in one thread to the end of `poll` in another: to a
//! sleeping consumer, and to one that polls without waiting. One record is in flight at a time.
//!
//! Also the cost of a poll that finds nothing: of 64 partitions, and of one in a group of 64
//! members.
//!
//! Next to each latency stands the same between two threads without an engine: by a condition
//! variable, and by an atomic that is read in a loop. Those times belong to the machine. The
//! difference belongs to the engine.
//!
//! ```text
//! cargo bench --bench latency [-- RECORDS]
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "the clock it measures by, and the pause in which the other thread falls asleep"
)]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{broker, folder};
use grouplog::{Acks, Broker, ConsumerConfig, ProducerConfig, Record, TopicConfig};

const LONG: Duration = Duration::from_secs(10);
/// Records before those that are counted.
const WARM_UP: usize = 200;

/// How the receiver waits.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Asleep,
    Busy,
}

impl Wait {
    /// Returns the pause between two records: long enough for the receiver to fall asleep, if that
    /// is measured.
    fn pause(self) {
        match self {
            Self::Asleep => std::thread::sleep(Duration::from_micros(200)),
            Self::Busy => {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(5) {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

/// Counts what the receiver has seen, so that one record is in flight at a time.
#[derive(Default)]
struct Seen(AtomicU64);

impl Seen {
    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn wait_for(&self, count: u64) {
        while self.0.load(Ordering::Acquire) < count {
            std::hint::spin_loop();
        }
    }
}

/// Sends `records` stamps with `send` and measures the time until `receive` returns each of them.
fn measure(
    records: usize,
    wait: Wait,
    mut send: impl FnMut(u64) + Send,
    mut receive: impl FnMut() -> u64 + Send,
) -> Vec<Duration> {
    let start = Instant::now();
    let stamp = || start.elapsed().as_nanos() as u64;
    let seen = Seen::default();
    let total = records + WARM_UP;
    let mut taken = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut taken = Vec::with_capacity(total);
            for _ in 0..total {
                let sent = receive();
                taken.push(Duration::from_nanos(stamp() - sent));
                seen.one_more();
            }
            taken
        });
        for count in 0..total as u64 {
            seen.wait_for(count);
            wait.pause();
            send(stamp());
        }
        receiver.join().unwrap()
    });
    taken.drain(..WARM_UP);
    taken
}

/// Measures through the engine, to a member of a group.
fn engine(broker: &Broker, records: usize, wait: Wait) -> Vec<Duration> {
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let config = ConsumerConfig::new().group(if wait == Wait::Busy { "busy" } else { "asleep" });
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    consumer.seek_to_end(&consumer.assignment()[0]).unwrap();
    let timeout = if wait == Wait::Busy { Duration::ZERO } else { LONG };
    let send = |stamp: u64| {
        producer.send(Record::to("t").value(&stamp.to_be_bytes())).unwrap();
    };
    let receive = move || loop {
        let records = consumer.poll(timeout).unwrap();
        if let Some(record) = records.iter().next() {
            return u64::from_be_bytes(record.value().unwrap().try_into().unwrap());
        }
    };
    measure(records, wait, send, receive)
}

/// Measures the least time that waking a thread takes.
fn condvar(records: usize) -> Vec<Duration> {
    let (slot, changed) = (Mutex::new(None), Condvar::new());
    let send = |stamp| {
        *slot.lock().unwrap() = Some(stamp);
        changed.notify_one();
    };
    let receive = || {
        let mut slot = changed.wait_while(slot.lock().unwrap(), |slot| slot.is_none()).unwrap();
        slot.take().unwrap()
    };
    measure(records, Wait::Asleep, send, receive)
}

/// Measures the least time that a word takes from one core to another.
fn atomic(records: usize) -> Vec<Duration> {
    let slot = AtomicU64::new(0);
    let send = |stamp| slot.store(stamp, Ordering::Release);
    let receive = || loop {
        let stamp = slot.swap(0, Ordering::AcqRel);
        if stamp != 0 {
            return stamp;
        }
        std::hint::spin_loop();
    };
    measure(records, Wait::Busy, send, receive)
}

/// Measures a poll that finds nothing, by one member of a group of `members`.
fn empty_poll(broker: &Broker, group: &str, members: usize) -> Vec<Duration> {
    const AT_ONCE: u32 = 100;
    let join = |_| {
        let mut member = broker.consumer(group).unwrap();
        member.subscribe(["many"]).unwrap();
        member
    };
    let mut members: Vec<_> = (0..members).map(join).collect();
    for _ in 0..2 {
        for member in &mut members {
            member.poll(Duration::ZERO).unwrap();
        }
    }
    let member = &mut members[0];
    let mut taken = Vec::new();
    for _ in 0..2_000 {
        let begin = Instant::now();
        for _ in 0..AT_ONCE {
            member.poll(Duration::ZERO).unwrap();
        }
        taken.push(begin.elapsed() / AT_ONCE);
    }
    taken
}

fn report(name: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |part: f64| {
        let taken = taken[((taken.len() - 1) as f64 * part) as usize];
        format!("{:.2}", taken.as_nanos() as f64 / 1000.0)
    };
    println!("{name:<28} {:>9} {:>9} {:>9}", at(0.5), at(0.99), at(0.999));
}

fn main() {
    let records = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let records = records.unwrap_or(20_000);
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    println!("from send to poll, {records} records; microseconds");
    println!("{:<28} {:>9} {:>9} {:>9}", "", "p50", "p99", "p99.9");
    report("asleep: condition variable", condvar(records));
    report("asleep: poll", engine(&broker, records, Wait::Asleep));
    report("busy: atomic", atomic(records));
    report("busy: poll", engine(&broker, records, Wait::Busy));
    broker.create_topic("many", TopicConfig::new().partitions(64)).unwrap();
    report("nothing: 64 partitions", empty_poll(&broker, "one", 1));
    report("nothing: 1 of 64 members", empty_poll(&broker, "many", 64));
    broker.close().unwrap();
}
