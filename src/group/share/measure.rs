//! How long records take, and how large the state is. `cargo test --release --lib share::measure -- --ignored --nocapture`
#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it measures, and says what it has found"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reason::Reason;
use super::section::Section;
use super::{
    AckType, Acknowledgement, Contents, Decision, Item, MemberNumber, Now, Read, ReadBatch,
    Reservation, SharePartition, ShareSettings, Span, Take, To,
};

const MEMBERS: u32 = 8;

fn now(at: u64) -> Now {
    Now { monotonic: Duration::from_micros(at), wall: 1_000_000 }
}

fn partition() -> SharePartition {
    let max_record_locks = 10_000_000;
    SharePartition::new(Arc::new(ShareSettings { max_record_locks, ..ShareSettings::default() }), 0)
}

/// Reserves up to `max` records for a member.
fn reserve(partition: &mut SharePartition, member: u32, max: u32, at: u64, got: &mut Reservation) {
    got.clear();
    let Some(fetch) = partition.begin_fetch(now(at)) else { return };
    let base = fetch.from - fetch.from % 1000;
    let batch = [ReadBatch { base, last: base + 999, contents: Contents::Dense }];
    let read = Read { batches: &batch, end: base + 1000 };
    let take = Take { member: MemberNumber(member), max, changes: usize::MAX, now: now(at) };
    partition.reserve(fetch, &read, &take, got);
}

fn accept(partition: &SharePartition, member: u32, span: Span, at: u64, out: &mut Decision) {
    let item = Acknowledgement { span, delivery: Some(1), types: &[AckType::Accept] };
    let mut renewed = Vec::new();
    let (member, now) = (MemberNumber(member), now(at));
    partition.decide_acknowledge(member, &[item], now, &mut || 0, out, &mut renewed).unwrap();
}

/// Members take turns: each acknowledges its record and starts its next one in one frame.
fn singles(records: u64, ahead: bool) -> f64 {
    let mut partition = partition();
    let (mut got, mut decision) = (Reservation::default(), Decision::default());
    let mut queues: Vec<Vec<i64>> = vec![Vec::new(); MEMBERS as usize];
    let mut busy: Vec<Option<i64>> = vec![None; MEMBERS as usize];
    let begin = Instant::now();
    let mut done = 0;
    for at in 0.. {
        let member = (at % u64::from(MEMBERS)) as u32;
        let queue = &mut queues[member as usize];
        if queue.is_empty() {
            reserve(&mut partition, member + 1, 100, at, &mut got);
            let spans = got.deliveries.iter().rev().map(|delivery| delivery.span);
            queue.extend(spans.flat_map(|span| (span.first..=span.last).rev()));
        }
        let next = queue.pop().unwrap();
        let next = Span { first: next, last: next };
        decision.clear();
        if let Some(last) = busy[member as usize].replace(next.first) {
            let last = Span { first: last, last };
            accept(&partition, member + 1, last, at, &mut decision);
            done += 1;
        }
        let number = MemberNumber(member + 1);
        partition.decide_start(number, next, now(at), &mut decision).unwrap();
        if !ahead {
            // Each record alone: one apply to start it, one to acknowledge it.
            partition.apply(&decision.section, now(at).monotonic);
            decision.clear();
            accept(&partition, member + 1, next, at, &mut decision);
            busy[member as usize] = None;
            done += 1;
        }
        partition.apply(&decision.section, now(at).monotonic);
        if done >= records {
            break;
        }
    }
    begin.elapsed().as_nanos() as f64 / records as f64
}

/// Batches of 100 are started and acknowledged as wholes.
fn batches(records: u64) -> f64 {
    let mut partition = partition();
    let (mut got, mut decision) = (Reservation::default(), Decision::default());
    let begin = Instant::now();
    for at in 0..records / 100 {
        reserve(&mut partition, 1, 100, at, &mut got);
        for delivery in &got.deliveries {
            decision.clear();
            partition.decide_start(MemberNumber(1), delivery.span, now(at), &mut decision).unwrap();
            partition.apply(&decision.section, now(at).monotonic);
            decision.clear();
            accept(&partition, 1, delivery.span, at, &mut decision);
            partition.apply(&decision.section, now(at).monotonic);
        }
    }
    begin.elapsed().as_nanos() as f64 / records as f64
}

/// 10 M finished records, and every hundredth one not: the worst for runs.
fn scattered() -> SharePartition {
    let mut partition = partition();
    let mut section = Section::default();
    section.push(Item::Set(Span { first: 0, last: 9_999_999 }, To::Acknowledged { count: 1 }));
    partition.apply(&section, Duration::ZERO);
    let mut partition_start = Section::default();
    partition.decide_reset(0, &mut partition_start);
    partition.apply(&partition_start, Duration::ZERO);
    section.clear();
    for n in 0..100_000 {
        let first = n * 101;
        let count = 1 + (n % 4) as u16;
        let reason = Reason::RELEASED;
        section.push(Item::Set(Span { first, last: first }, To::Available { count, reason }));
        section.push(Item::Set(
            Span { first: first + 1, last: first + 100 },
            To::Acknowledged { count: 1 },
        ));
    }
    partition.apply(&section, Duration::ZERO);
    partition
}

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_large_state_is_stored_in_little_room() {
    let partition = scattered();
    let mut image = Vec::new();
    let begin = Instant::now();
    partition.encode(&mut image);
    let encoded = begin.elapsed();
    let begin = Instant::now();
    let again = SharePartition::decode(&image, Arc::new(ShareSettings::default())).unwrap();
    let decoded = begin.elapsed();
    assert_eq!(again.lag(10_100_000, 0), partition.lag(10_100_000, 0));
    assert_eq!(partition.lag(10_100_000, 0).total, 100_000);
    eprintln!(
        "10 M finished, 100,000 not: {} bytes, encoded {encoded:?}, decoded {decoded:?}",
        image.len()
    );
    assert!(image.len() < 4 << 20);
    assert!(decoded < Duration::from_millis(100) || cfg!(debug_assertions));
}

#[test]
#[ignore = "measures: cargo test --release --lib share::measure -- --ignored --nocapture"]
fn measure() {
    let before = memory();
    let mut partition = partition();
    let mut section = Section::default();
    for n in 0..1_000_000_i64 {
        // Due times in any order.
        let due = 1_000_000 + (n * 7_919) % 1_000_003;
        let to = To::Delayed { count: 0, due, reason: Reason::SCHEDULED, key: None };
        section.push(Item::Set(Span { first: n, last: n }, to));
    }
    let begin = Instant::now();
    partition.apply(&section, Duration::ZERO);
    let parked = begin.elapsed();
    drop(section);
    let bytes = memory() - before;
    let begin = Instant::now();
    let due = partition.begin_fetch(now(0));
    eprintln!(
        "a million delayed: {parked:?}, {} MB resident with their section, the next due one {:?} in {:?}",
        bytes >> 20,
        due.map(|fetch| fetch.from),
        begin.elapsed()
    );
    let mut image = Vec::new();
    partition.encode(&mut image);
    let begin = Instant::now();
    SharePartition::decode(&image, Arc::new(ShareSettings::default())).unwrap();
    eprintln!("  image of {} MB, decoded in {:?}", image.len() >> 20, begin.elapsed());
    drop(partition);
    for _ in 0..2 {
        eprintln!(
            "reserve 100, start 1, acknowledge 1: {:.0} ns a record",
            singles(10_000_000, false)
        );
        eprintln!(
            "8 workers, acknowledge n and start n + 1: {:.0} ns a record",
            singles(10_000_000, true)
        );
        eprintln!("batches of 100: {:.1} ns a record", batches(100_000_000));
    }
}
