//! Exactly once, with threads. Eight workers move records from `input` over `middle` to `output`, in transactions.
//! Meanwhile members fall silent, leave, and commit too late, and the broker is closed, is killed, or loses power.
//!
//! What happens beside what is decided by the threads, so a failure cannot be repeated. The seed repeats only the
//! choices of each thread. It runs for a second; `GROUPLOG_EXACTLY_ONCE_SECONDS=60` for a minute.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{Clock as _, ManualClock, Random, SeededRandom, SystemClock};
use grouplog::{
    Acks, Broker, Committed, Consumer, ConsumerConfig, ConsumerRecord, ConsumerRecords, Error,
    Producer, ProducerConfig, Record, Result, TopicConfig, Transaction,
};

use crate::world::{LONG, World, all};

const RECORDS: i64 = 1_500;
const KEYS: i64 = 40;
const PARTITIONS: u32 = 4;
const WORKERS: u64 = 8;
/// Each but the last ends at a random moment.
const LIVES: u64 = 4;
/// Longer than any member may be silent.
const SILENCE: Duration = Duration::from_mins(6);
/// How long a producer waits for space in the journal, by the clock that silences move.
const PATIENCE: Duration = Duration::from_hours(1_000);

/// A group that moves the records of one topic to the next.
#[derive(Clone, Copy)]
struct Stage {
    group: &'static str,
    from: &'static str,
    to: &'static str,
}

const STAGES: [Stage; 2] = [
    Stage { group: "first", from: "input", to: "middle" },
    Stage { group: "second", from: "middle", to: "output" },
];

/// How often what happened.
type Counts = Mutex<BTreeMap<&'static str, u64>>;

/// What all threads of one life of the program share.
struct Life<'l> {
    broker: &'l Broker,
    clock: &'l ManualClock,
    counts: &'l Counts,
    stop: AtomicBool,
}

impl Life<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "counts of a long run are part of what it says")]
fn each_record_passes_three_topics_exactly_once() {
    let seconds = std::env::var("GROUPLOG_EXACTLY_ONCE_SECONDS");
    let limit = Duration::from_secs(seconds.as_ref().map_or(1, |text| text.parse().unwrap()));
    let (clock, seeds) = (SystemClock::new(), SeededRandom::from_os());
    let (counts, mut worlds) = (Counts::default(), 0);
    loop {
        run(seeds.next_u64(), &counts);
        worlds += 1;
        if clock.monotonic() >= limit {
            break;
        }
    }
    let counts = counts.into_inner().unwrap();
    if seconds.is_ok() {
        println!("{worlds} folders with {RECORDS} records each: {counts:?}");
    }
    for what in ["aborted", "committed", "fenced in silence", "left", "named producer fenced"] {
        assert!(counts.contains_key(what), "never {what}: {counts:?}");
    }
}

/// Moves all records through a new folder.
fn run(seed: u64, counts: &Counts) {
    let random = SeededRandom::new(seed);
    let mut world = World::on(Memory::crash_simulating(seed));
    world.config = world.config.background(true);
    for life in 1..=LIVES {
        let broker = world.open();
        let report = broker.recovery_report();
        assert!(report.damaged.is_empty(), "seed {seed}: {:?}", report.damaged);
        for topic in ["input", "middle", "output"] {
            broker.ensure_topic(topic, TopicConfig::new().partitions(PARTITIONS)).unwrap();
        }
        let done = total(&broker, "output");
        let left = (RECORDS - done).cast_unsigned();
        let until = if life == LIVES { RECORDS } else { done + below(&random, left / 2 + 1) };
        let end = if life == LIVES { None } else { end(&random) };
        let left = live(&broker, &world, until, end, &random, counts);
        if life == LIVES {
            verify(&broker, seed);
        }
        match left {
            Some(left) => world.storage = left,
            None => broker.close().unwrap(),
        }
    }
}

/// How a life ends; `None` for an orderly close.
fn end(random: &SeededRandom) -> Option<Crash> {
    match random.next_u64() % 6 {
        0 | 1 => None,
        2 => Some(Crash::Kill),
        3 => Some(Crash::LoseAll),
        4 => Some(Crash::Subset { unit: 512 }),
        _ => Some(Crash::TornUnit),
    }
}

fn below(random: &SeededRandom, bound: u64) -> i64 {
    (random.next_u64() % bound).cast_signed()
}

/// Runs all threads until `output` has a number of records. Returns what a crash in the midst of it leaves.
fn live(
    broker: &Broker,
    world: &World,
    until: i64,
    end: Option<Crash>,
    random: &SeededRandom,
    counts: &Counts,
) -> Option<Memory> {
    let clock = &*world.clock;
    let life = Life { broker, clock, counts, stop: AtomicBool::new(false) };
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let life = &life;
        let seed = random.next_u64();
        scope.spawn(move || feed(life, &SeededRandom::new(seed)));
        for number in 0..WORKERS {
            let (seed, tell) = (random.next_u64(), tell.clone());
            scope.spawn(move || Worker::new(life, number, seed, tell).work());
        }
        drop(tell);
        let moved = await_records(broker, &told, until);
        let left = end.map(|crash| world.storage.crash(crash, random));
        life.stop.store(true, Ordering::Relaxed);
        assert!(moved, "nothing moves, or a worker has failed: {counts:?}");
        left
    })
}

/// Waits until `output` has a number of records. Each message says that it may have more.
fn await_records(broker: &Broker, told: &Receiver<()>, until: i64) -> bool {
    while total(broker, "output") < until {
        if told.recv_timeout(LONG).is_err() {
            return false;
        }
    }
    true
}

fn total(broker: &Broker, topic: &str) -> i64 {
    let described = broker.describe_topic(topic).unwrap();
    described.partitions.iter().map(|partition| partition.end_offset).sum()
}

/// Checks that each topic has each record once, in the same order in each partition.
fn verify(broker: &Broker, seed: u64) {
    let places = |topic| {
        let records = all(broker, topic).into_iter();
        records.map(|record| (record.partition, record.offset, record.value)).collect::<Vec<_>>()
    };
    let input = places("input");
    let number = |value: &Option<Vec<u8>>| -> i64 {
        std::str::from_utf8(value.as_ref().unwrap()).unwrap().parse().unwrap()
    };
    let mut numbers: Vec<_> = input.iter().map(|(_, _, value)| number(value)).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..RECORDS), "seed {seed}: the input is not complete");
    for stage in STAGES {
        assert!(places(stage.to) == input, "seed {seed}: {} differs from the input", stage.to);
        assert_eq!(broker.describe_group(stage.group).unwrap().lag(), 0, "seed {seed}");
    }
}

/// Sends the numbers to `input`, from where the folder says. Sometimes another producer takes over.
fn feed(life: &Life<'_>, random: &SeededRandom) {
    let named = || {
        let config = ProducerConfig::new().transactional_id("feeder").acks(acks(random));
        life.broker.producer_with(config.max_block(PATIENCE)).unwrap()
    };
    let mut producer = named();
    while !life.stopped() {
        let stored = producer.last_sequence().unwrap();
        let next = stored.map_or(0, |last| last + 1);
        if next == RECORDS {
            return;
        }
        let mut transaction = producer.begin().unwrap();
        // Some that are stored come again.
        for number in (next - 3).max(0)..(next + 1 + below(random, 30)).min(RECORDS) {
            let (key, value) = (format!("{}", number % KEYS), format!("{number}"));
            let record = Record::to("input").key(&key).value(&value);
            assert_eq!(transaction.send_sequenced(number, record).unwrap(), number >= next);
        }
        if random.next_u64().is_multiple_of(16) {
            producer = named();
            let refused = transaction.commit();
            assert!(matches!(refused, Err(Error::ProducerFenced { .. })), "{refused:?}");
            life.count("named producer fenced");
        } else {
            transaction.commit().unwrap();
        }
    }
}

fn acks(random: &SeededRandom) -> Acks {
    if random.next_u64().is_multiple_of(4) { Acks::Synced } else { Acks::Written }
}

struct Worker<'l> {
    life: &'l Life<'l>,
    stage: Stage,
    number: u64,
    random: SeededRandom,
    tell: Sender<()>,
    producer: Producer,
    consumer: Consumer,
    /// Members that poll no more, each with a transaction that it still means to commit.
    late: Vec<(Consumer, Transaction)>,
}

impl<'l> Worker<'l> {
    fn new(life: &'l Life<'l>, number: u64, seed: u64, tell: Sender<()>) -> Self {
        let stage = STAGES[(number % 2) as usize];
        let random = SeededRandom::new(seed);
        let config = ProducerConfig::new().acks(acks(&random)).max_block(PATIENCE);
        let producer = life.broker.producer_with(config).unwrap();
        let consumer = member(life.broker, stage, number);
        Self { life, stage, number, random, tell, producer, consumer, late: Vec::new() }
    }

    fn work(mut self) {
        while !self.life.stopped() {
            let records = self.consumer.poll(Duration::ZERO).unwrap();
            if records.is_empty() {
                std::thread::yield_now();
            } else {
                self.pass(&records);
            }
            if self.random.next_u64().is_multiple_of(8) {
                self.commit_late();
            }
        }
        while !self.late.is_empty() {
            self.commit_late();
        }
    }

    /// Passes some records on, in one of many ways.
    fn pass(&mut self, records: &ConsumerRecords) {
        match self.random.next_u64() % 16 {
            0 => {
                self.transaction(records).abort();
                self.life.count("aborted");
            }
            1 => self.be_silent(records),
            2 | 3 => {
                let transaction = self.transaction(records);
                let next = member(self.life.broker, self.stage, self.number);
                self.late.push((std::mem::replace(&mut self.consumer, next), transaction));
            }
            4 => {
                self.commit(records);
                self.consumer = member(self.life.broker, self.stage, self.number);
                self.life.count("left");
            }
            5 | 6 => self.commit_one_by_one(records),
            7 => self.commit_two(records),
            _ => self.commit(records),
        }
    }

    fn commit(&mut self, records: &ConsumerRecords) {
        let done = self.transaction(records).commit();
        self.tell(done);
    }

    /// Is silent for too long, and is evicted before it commits.
    fn be_silent(&mut self, records: &ConsumerRecords) {
        let transaction = self.transaction(records);
        self.life.clock.advance(SILENCE);
        // This looks who is silent. A group of nobody but silent members, which has committed nothing, is gone then.
        let _described = self.life.broker.describe_group(self.stage.group);
        let refused = transaction.commit();
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
        self.life.count("fenced in silence");
    }

    fn commit_one_by_one(&mut self, records: &ConsumerRecords) {
        for record in records {
            let mut transaction = self.producer.begin().unwrap();
            self.put(&mut transaction, &record);
            transaction.commit_through(&mut self.consumer, &record).unwrap();
            if !self.tell(transaction.commit()) {
                return;
            }
        }
    }

    /// Has two transactions open at once. If the first fails, so does the second.
    fn commit_two(&mut self, records: &ConsumerRecords) {
        let first = self.transaction(records);
        let Ok(more) = self.consumer.poll(Duration::ZERO) else { return };
        let second = self.transaction(&more);
        let committed = self.tell(first.commit());
        let second = second.commit();
        if committed || more.is_empty() {
            self.tell(second);
        } else if second.is_ok() {
            // It has records of other partitions than the first one.
            self.life.count("second alone");
            let _stopped = self.tell.send(());
        }
    }

    /// Commits what a member left open that polls no more. It may have been evicted or replaced.
    fn commit_late(&mut self) {
        if let Some((consumer, transaction)) = self.late.pop() {
            let committed = self.tell(transaction.commit());
            self.life.count(if committed { "late, committed" } else { "late, refused" });
            drop(consumer);
        }
    }

    /// Creates a transaction that passes some records on.
    fn transaction(&mut self, records: &ConsumerRecords) -> Transaction {
        let mut transaction = self.producer.begin().unwrap();
        for record in records {
            self.put(&mut transaction, &record);
        }
        transaction.commit_offsets(&mut self.consumer).unwrap();
        transaction
    }

    fn put(&self, transaction: &mut Transaction, record: &ConsumerRecord<'_>) {
        let (key, value) = (record.key().unwrap(), record.value().unwrap());
        transaction.send(Record::to(self.stage.to).key(key).value(value)).unwrap();
    }

    /// Tells that records were committed, if they were.
    fn tell(&self, done: Result<Committed>) -> bool {
        match done {
            Ok(committed) => {
                self.life.count("committed");
                if self.random.next_u64().is_multiple_of(8) {
                    committed.wait().unwrap();
                }
                let _stopped = self.tell.send(());
                true
            }
            Err(Error::Fenced { .. }) => {
                self.life.count("fenced");
                false
            }
            Err(Error::FencedInstanceId { .. }) => {
                self.life.count("instance fenced");
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Creates a member. Every third worker is a static member.
fn member(broker: &Broker, stage: Stage, number: u64) -> Consumer {
    let mut config = ConsumerConfig::new().group(stage.group).enable_auto_commit(false);
    if number.is_multiple_of(3) {
        config = config.group_instance_id(format!("worker-{number}"));
    }
    let mut consumer = broker.consumer_with(config.max_poll_records(20)).unwrap();
    consumer.subscribe([stage.from]).unwrap();
    consumer
}
