//! Time of a record from `send` (`Written`) in one thread to the end of `poll` in another, which is a
//! member of a group.
//!
//! ```text
//! cargo bench --bench latency [-- --rate 500000]    # about a minute; --help lists the arguments
//! ```
//!
//! * At a fixed rate, to a consumer that polls without waiting, in a fresh folder. Record number `i`
//!   is due at `i / rate`, and its time counts from then, however late the producer is. So a pause
//!   counts for every record that it delays. A plain file is the comparison: one `write` for each
//!   record, and a reader that learns of it through an atomic and reads it with `pread`.
//! * One record at a time, to a sleeping consumer, and to one that polls without waiting. Next to
//!   them stands the same between two threads without an engine: by a condition variable, and by an
//!   atomic that is read in a loop. Those times belong to the machine. The difference belongs to the
//!   engine.
//! * The cost of a poll that finds nothing: of 64 partitions, and of one in a group of 64 members.

#![allow(
    clippy::disallowed_methods,
    reason = "the clock it measures by, and the pause in which the other thread falls asleep"
)]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::hint::spin_loop;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use common::arguments::{Arguments, Own};
use common::chart::{Bar, Bars, Section, Tone};
use common::report::Report;
use common::table::{Table, digits, median};
use common::{VALUE, broker, fresh_folder, plain_file};
use grouplog::{Acks, Consumer, ConsumerConfig, Producer, ProducerConfig, Record};
use grouplog::{TopicConfig, TopicPartition};

const LONG: Duration = Duration::from_secs(10);
/// Records before those that are counted, if there is one at a time.
const WARM_UP: usize = 200;

/// What to measure.
struct Setup {
    dir: PathBuf,
    /// Records that are sent one at a time.
    records: usize,
    /// Records a second, and for how long.
    rate: u64,
    lasts: Duration,
}

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
                    spin_loop();
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
            spin_loop();
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

/// Sends records at a fixed rate. `send` gets a value that begins with the time at which it is due.
/// `receive` calls its argument with each value that has arrived.
fn open_loop(
    setup: &Setup,
    mut send: impl FnMut(&[u8]),
    mut receive: impl FnMut(&mut dyn FnMut(&[u8])) + Send,
) -> Vec<Duration> {
    let total = (setup.rate as f64 * setup.lasts.as_secs_f64()) as usize;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut taken = Vec::with_capacity(total);
            while taken.len() < total {
                receive(&mut |value| {
                    let due = u64::from_le_bytes(value[..8].try_into().unwrap());
                    taken.push(start.elapsed().saturating_sub(Duration::from_nanos(due)));
                });
                spin_loop();
            }
            taken
        });
        let mut value = VALUE;
        // The reader's thread needs a moment to begin.
        let first = start.elapsed() + Duration::from_millis(10);
        for i in 0..total as u64 {
            let due = first + Duration::from_nanos(i * 1_000_000_000 / setup.rate);
            while start.elapsed() < due {
                spin_loop();
            }
            value[..8].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
            send(&value);
        }
        reader.join().unwrap()
    })
}

/// Measures a plain file at a fixed rate.
fn fixed_rate_plain(setup: &Setup) -> Vec<Duration> {
    const LEN: u64 = VALUE.len() as u64;
    let folder = fresh_folder(&setup.dir);
    let mut file = plain_file(folder.path(), "plain");
    let reader = file.try_clone().unwrap();
    let written = AtomicU64::new(0);
    let send = |value: &[u8]| {
        file.write_all(value).unwrap();
        written.fetch_add(LEN, Ordering::Release);
    };
    let (mut seen, mut buffer) = (0, vec![0; 500 * VALUE.len()]);
    let receive = |take: &mut dyn FnMut(&[u8])| {
        let new = written.load(Ordering::Acquire) - seen;
        let part = &mut buffer[..new.min(500 * LEN) as usize];
        reader.read_exact_at(part, seen).unwrap();
        part.chunks(VALUE.len()).for_each(take);
        seen += part.len() as u64;
    };
    open_loop(setup, send, receive)
}

/// A broker in a fresh folder, a producer, and a member of a group that has read everything.
fn engine(setup: &Setup, run: impl FnOnce(&Producer, Consumer) -> Vec<Duration>) -> Vec<Duration> {
    let folder = fresh_folder(&setup.dir);
    let broker = broker(folder.path(), TopicConfig::new());
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    let mut consumer = broker.consumer_with(ConsumerConfig::new().group("g")).unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer.poll(Duration::ZERO).unwrap();
    assert_eq!(consumer.assignment(), [TopicPartition::new("t", 0)]);
    let taken = run(&producer, consumer);
    broker.close().unwrap();
    taken
}

/// Measures through the engine at a fixed rate.
fn fixed_rate_engine(setup: &Setup) -> Vec<Duration> {
    engine(setup, |producer, mut consumer| {
        let send = |value: &[u8]| {
            producer.send(Record::to("t").value(value)).unwrap();
        };
        let receive = move |take: &mut dyn FnMut(&[u8])| {
            let records = consumer.poll(Duration::ZERO).unwrap();
            records.iter().for_each(|record| take(record.value().unwrap()));
        };
        open_loop(setup, send, receive)
    })
}

/// Measures through the engine, one record at a time.
fn one_at_a_time(setup: &Setup, wait: Wait) -> Vec<Duration> {
    let timeout = if wait == Wait::Busy { Duration::ZERO } else { LONG };
    engine(setup, |producer, mut consumer| {
        let send = |stamp: u64| {
            producer.send(Record::to("t").value(&stamp.to_be_bytes())).unwrap();
        };
        let receive = move || loop {
            let records = consumer.poll(timeout).unwrap();
            if let Some(record) = records.iter().next() {
                return u64::from_be_bytes(record.value().unwrap().try_into().unwrap());
            }
        };
        measure(setup.records, wait, send, receive)
    })
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
        spin_loop();
    };
    measure(records, Wait::Busy, send, receive)
}

/// Measures a poll that finds nothing, by one member of a group of `members`.
fn empty_poll(setup: &Setup, members: usize) -> Vec<Duration> {
    const AT_ONCE: u32 = 100;
    let folder = fresh_folder(&setup.dir);
    let broker = broker(folder.path(), TopicConfig::new().partitions(64));
    let join = |_| {
        let mut member = broker.consumer("g").unwrap();
        member.subscribe(["t"]).unwrap();
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
    for _ in 0..setup.records / 10 {
        let begin = Instant::now();
        for _ in 0..AT_ONCE {
            member.poll(Duration::ZERO).unwrap();
        }
        taken.push(begin.elapsed() / AT_ONCE);
    }
    taken
}

/// One line of the table.
struct Line {
    section: &'static str,
    name: &'static str,
    tone: Tone,
    run: fn(&Setup) -> Vec<Duration>,
    /// Microseconds of each run: the median, two percentiles and the longest.
    runs: Vec<[f64; 4]>,
}

const COLUMNS: [&str; 4] = ["p50", "p99", "p99.9", "max"];

impl Line {
    /// Returns all lines, in order.
    fn all() -> Vec<Self> {
        const FIXED: &str = "fixed rate, polling all the time";
        const ASLEEP: &str = "one record at a time, asleep";
        const BUSY: &str = "one record at a time, polling all the time";
        const NOTHING: &str = "a poll that finds nothing";
        let line = |section, name, tone, run| Self { section, name, tone, run, runs: Vec::new() };
        vec![
            line(FIXED, "grouplog", Tone::Engine, fixed_rate_engine),
            line(FIXED, "plain file", Tone::Plain, fixed_rate_plain),
            line(ASLEEP, "grouplog", Tone::Engine, |s| one_at_a_time(s, Wait::Asleep)),
            line(ASLEEP, "condition variable", Tone::Plain, |s| condvar(s.records)),
            line(BUSY, "grouplog", Tone::Engine, |s| one_at_a_time(s, Wait::Busy)),
            line(BUSY, "atomic", Tone::Plain, |s| atomic(s.records)),
            line(NOTHING, "64 partitions", Tone::Engine, |s| empty_poll(s, 1)),
            line(NOTHING, "one of 64 members", Tone::Engine, |s| empty_poll(s, 64)),
        ]
    }

    fn run(&mut self, setup: &Setup) {
        let mut taken = (self.run)(setup);
        taken.sort_unstable();
        let at = |part: f64| {
            taken[((taken.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1000.0
        };
        self.runs.push([at(0.5), at(0.99), at(0.999), at(1.0)]);
    }

    fn medians(&self) -> [f64; 4] {
        std::array::from_fn(|i| median(&self.runs.iter().map(|run| run[i]).collect::<Vec<_>>()))
    }
}

/// Formats microseconds for the chart.
fn micros(value: f64) -> String {
    if value >= 999.5 {
        format!("{} ms", digits(value / 1e3))
    } else {
        format!("{} us", digits(value))
    }
}

fn report(arguments: &Arguments, setup: &Setup, lines: &[Line]) {
    let mut table = Table::new(&["", COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3]]);
    let mut sections: Vec<Section> = Vec::new();
    for of_section in lines.chunk_by(|a, b| a.section == b.section) {
        table.section(of_section[0].section);
        let mut bars = Vec::new();
        for line in of_section {
            let [p50, p99, p999, max] = line.medians().map(digits);
            table.row([line.name.to_owned(), p50, p99, p999, max]);
        }
        for (index, column) in COLUMNS.into_iter().enumerate() {
            bars.extend(of_section.iter().map(|line| Bar {
                label: format!("{column}, {}", line.name),
                value: line.medians()[index],
                text: micros(line.medians()[index]),
                tone: line.tone,
            }));
        }
        sections.push(Section { title: of_section[0].section.to_owned(), bars });
    }
    let chart = Bars {
        title: "From send to poll, on a logarithmic scale",
        subtitle: &format!(
            "Blue: grouplog. Grey: without it. The fixed rate is {} records/s.",
            setup.rate
        ),
        step: 10.0,
        from_one: false,
        tick: micros,
        sections,
    };
    let notes = format!(
        "Microseconds from `send` (`Written`) in one thread to the end of `poll` in another; medians \
         of the runs. Fixed rate: {} records/s of 100 bytes for {:?} into a fresh folder, counted \
         from the time at which a record was due. One at a time: {} records.",
        setup.rate, setup.lasts, setup.records
    );
    Report {
        name: "latency",
        title: "Latency from send to poll",
        notes: &notes,
        table: &table,
        svg: &chart.svg(),
    }
    .publish(arguments);
}

fn main() {
    let rate = Own { name: "--rate", value: 100_000, help: "records a second" };
    let Some(arguments) = Arguments::read(vec![rate]) else {
        return;
    };
    let setup = Setup {
        dir: arguments.dir.clone(),
        records: if arguments.quick { 500 } else { 20_000 },
        rate: arguments.own("--rate"),
        lasts: Duration::from_millis(if arguments.quick { 50 } else { 5_000 }),
    };
    let mut lines = Line::all();
    lines.retain(|line| arguments.selects(&format!("{}: {}", line.section, line.name)));
    for _ in 0..arguments.runs {
        for line in &mut lines {
            line.run(&setup);
        }
    }
    report(&arguments, &setup, &lines);
}
