//! What exactly once costs beside doing the same without it: everything `Written`, in one thread.
//!
//! * a transaction of 10 records and one offset, beside `send_all` of the records and one commit;
//! * the loop that consumes, transforms and produces, 1, 10, 100 and 1,000 records a transaction, beside the same loop with
//!   `send_all` and a commit;
//! * a record with an idempotency id, new and repeated, beside one without; a million ids in the table.
//!
//! The measurements of a pair alternate, and the median ratio counts.
//!
//! ```text
//! cargo bench --bench transaction
//! ```

#![allow(clippy::disallowed_methods, reason = "the clock it measures by")]
#![allow(clippy::print_stdout, reason = "a bench reports")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run ends")]

mod common;

use std::time::{Duration, Instant};

use common::{broker, folder};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Producer, ProducerConfig, Record, TopicConfig,
};

const VALUE: [u8; 100] = [b'v'; 100];
const ROUNDS: usize = 7;
/// Transactions of 10 records in one round.
const SMALL: usize = 20_000;
/// Records that go through the loop in one round.
const LOOPED: usize = 1_000_000;
/// Records with ids in one round; all rounds together fill the table.
const WITH_IDS: u64 = 150_000;

fn producer(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

fn member(broker: &Broker, group: &str, records: usize) -> Consumer {
    let config = ConsumerConfig::new().group(group).enable_auto_commit(false);
    let mut member = broker.consumer_with(config.max_poll_records(records)).unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures two ways by turns. Returns the median nanoseconds of each, and the median ratio of the second to the first.
fn pair(
    mut first: impl FnMut() -> Duration,
    mut second: impl FnMut() -> Duration,
    per: usize,
) -> (f64, f64, f64) {
    let (mut firsts, mut seconds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (a, b) = (first().as_secs_f64(), second().as_secs_f64());
        firsts.push(a * 1e9 / per as f64);
        seconds.push(b * 1e9 / per as f64);
        ratios.push(b / a);
    }
    (median(firsts), median(seconds), median(ratios))
}

/// Ten records and the position of a member that has read one more record.
fn small() {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    broker.create_topic("out", TopicConfig::new()).unwrap();
    let producer = producer(&broker);
    let fill = |count: usize| {
        let records = (0..count).map(|_| Record::to("t").value(&VALUE));
        producer.send_all(records).unwrap();
    };
    let ten = || (0..10).map(|_| Record::to("out").value(&VALUE));
    fill(1);
    let (mut plain, mut exact) = (member(&broker, "plain", 1), member(&broker, "exact", 1));
    // Both read one record at a time, and only the rest is timed.
    let rounds = |member: &mut Consumer, each: &dyn Fn(&mut Consumer)| {
        fill(SMALL);
        let mut taken = Duration::ZERO;
        for _ in 0..SMALL {
            assert!(!member.poll(Duration::ZERO).unwrap().is_empty());
            let begin = Instant::now();
            each(member);
            taken += begin.elapsed();
        }
        taken
    };
    let without = |member: &mut Consumer| {
        producer.send_all(ten()).unwrap();
        member.commit().unwrap();
    };
    let with = |member: &mut Consumer| {
        let mut transaction = producer.begin().unwrap();
        for record in ten() {
            transaction.send(record).unwrap();
        }
        transaction.commit_offsets(member).unwrap();
        transaction.commit().unwrap();
    };
    let taken = pair(|| rounds(&mut plain, &without), || rounds(&mut exact, &with), SMALL);
    report("10 records and one offset", "ns", taken);
    broker.close().unwrap();
}

/// Reads everything, `batch` records at a time, and writes it to another topic.
fn looped(batch: usize) {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    broker.create_topic("out", TopicConfig::new().retention_bytes(256 << 20)).unwrap();
    let producer = producer(&broker);
    for _ in 0..LOOPED / 1_000 {
        producer.send_all((0..1_000).map(|_| Record::to("t").value(&VALUE))).unwrap();
    }
    let count = if batch < 100 { LOOPED / 10 } else { LOOPED };
    let groups = std::cell::Cell::new(0);
    let all = |exact: bool| {
        groups.set(groups.get() + 1);
        let mut member = member(&broker, &format!("g{}", groups.get()), batch);
        let (begin, mut done) = (Instant::now(), 0);
        while done < count {
            let records = member.poll(Duration::ZERO).unwrap();
            done += records.len();
            let made =
                records.iter().map(|record| Record::to("out").value(record.value().unwrap()));
            if exact {
                let mut transaction = producer.begin().unwrap();
                for record in made {
                    transaction.send(record).unwrap();
                }
                transaction.commit_offsets(&mut member).unwrap();
                transaction.commit().unwrap();
            } else {
                producer.send_all(made).unwrap();
                member.commit().unwrap();
            }
        }
        begin.elapsed()
    };
    let (first, second, ratio) = pair(|| all(false), || all(true), count);
    report(&format!("loop, {batch} records each"), "ns/record", (first, second, ratio));
    println!("    {:.2} M records/s exactly once", 1e3 / second);
    broker.close().unwrap();
}

fn ids() {
    let folder = folder();
    let broker = broker(folder.path(), TopicConfig::new());
    let producer = producer(&broker);
    let number = std::cell::Cell::new(0_u64);
    let send = |id: Option<u64>| {
        let name = id.map(u64::to_be_bytes);
        let record = Record::to("t").value(&VALUE);
        let record = if let Some(name) = &name { record.id(name) } else { record };
        producer.send(record).unwrap().metadata().is_duplicate()
    };
    let timed = |run: &dyn Fn()| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    let plain = || timed(&|| (0..WITH_IDS).for_each(|_| assert!(!send(None))));
    let new = || {
        let from = number.replace(number.get() + WITH_IDS);
        timed(&|| (from..from + WITH_IDS).for_each(|id| assert!(!send(Some(id)))))
    };
    report("one record, with a new id", "ns", pair(plain, new, WITH_IDS as usize));
    let last = number.get();
    let known = || timed(&|| (last - WITH_IDS..last).for_each(|id| assert!(send(Some(id)))));
    report("one record, with a known id", "ns", pair(plain, known, WITH_IDS as usize));
    println!("    {} ids in the table", broker.describe_topic("t").unwrap().ids);
    broker.close().unwrap();
}

fn report(name: &str, unit: &str, (first, second, ratio): (f64, f64, f64)) {
    println!("{name:<32} {first:>9.0} {second:>9.0} {unit:<10} {ratio:>6.2}");
}

fn main() {
    println!("{:<32} {:>9} {:>9} {:<10} {:>6}", "", "without", "with", "", "ratio");
    small();
    [1, 10, 100, 1_000].into_iter().for_each(looped);
    ids();
}
