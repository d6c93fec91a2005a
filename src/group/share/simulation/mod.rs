//! Random lives of a share-partition, checked from the outside.
//!
//! The model is what a watcher of the members knows: which records were started and by whom, what was said about them,
//! and what the clock showed. Members reserve, start, acknowledge, renew, stall, come too late and leave; the process
//! crashes and replays its sections from an image; journals fail; clocks move, the wall clock in both directions;
//! the log grows, loses its beginning and gets holes; offsets are reset and settings change. After each step the rules
//! of the fact sheet (`share.md`, section 12) and the invariants H1 to H10 are checked. In the end one honest member
//! works until nothing is left.
//!
//! `GROUPLOG_SEEDS=1000000 cargo test --release --lib share::simulation` runs that many seeds instead of 10,000,
//! `GROUPLOG_SEEDS=5000..6000` that range. `GROUPLOG_SEED=7` runs one.

mod act;
mod check;
mod engine;
mod member;
mod operate;
mod truth;
mod world;

use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

const SEEDS: u64 = 10_000;
const STEPS: usize = 100;

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
        world.check();
    }
    world.settle();
}

/// The seeds to run, as the environment says.
fn seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().expect("a number of seeds");
    if let Ok(seed) = std::env::var("GROUPLOG_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("GROUPLOG_SEEDS") {
        Ok(seeds) => match seeds.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&seeds),
        },
        Err(_) => 0..SEEDS,
    }
}

#[test]
fn a_random_queue_keeps_its_rules_and_comes_to_an_end() {
    let Range { start, end } = seeds();
    let next = AtomicU64::new(start);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = catch_unwind(|| live(seed));
                    assert!(outcome.is_ok(), "run it again with GROUPLOG_SEED={seed}");
                }
            });
        }
    });
}

#[test]
fn one_member_without_failures_gets_records_in_order() {
    for seed in 0..1_000 {
        World::new(seed).in_order();
    }
}
