//! Deterministic simulation: from one seed a program with producers and consumers lives through faults,
//! crashes and power losses, and after everything it is held to what was promised. See ../README.md for
//! how to run many seeds and how to see a failure again.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "counts of a run are part of what it says")]

mod action;
mod commit;
mod disturb;
mod ending;
mod member;
mod options;
mod produce;
mod read;
mod seeds;
mod session;
mod trace;
mod world;

#[path = "../crash/folder.rs"]
mod folder;
#[path = "../crash/observe.rs"]
mod observe;
#[path = "../crash/oracle.rs"]
#[expect(dead_code, reason = "nobody forgets a group, adds partitions or deletes records here")]
mod oracle;

use std::ops::Range;

use options::Options;
use trace::Trace;
use world::World;

/// What one seed did.
fn simulate(seed: u64) -> Result<Trace, Box<Failure>> {
    let options = Options::of(seed);
    let mut world = World::new(seed, options.clone());
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let what = match done {
        Ok(Ok(())) => return Ok(world.trace),
        Ok(Err(what)) => what,
        Err(panic) => format!("panics: {}", text_of(&*panic)),
    };
    Err(Box::new(Failure { seed, what, options, steps: world.trace.last_steps() }))
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A broken promise, with all that is needed to see it again.
struct Failure {
    seed: u64,
    what: String,
    options: Options,
    steps: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, what, options, steps } = self;
        write!(
            f,
            "seed {seed}: {what}\n{steps}\n{options:?}\n  \
             again: GROUPLOG_SEED={seed} cargo test --test simulation seeds -- --nocapture"
        )
    }
}

/// `GROUPLOG_SEED=7` runs one seed and tells its steps, `GROUPLOG_SEEDS=100000` so many from 0,
/// `GROUPLOG_SEEDS=5000..6000` those.
fn seeds_from_env() -> Range<u64> {
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

/// So many by default.
const SEEDS: u64 = 2_000;

#[test]
fn seeds() {
    let range = seeds_from_env();
    let alone = range.end - range.start == 1;
    let done = seeds::run_all(range.clone(), |seed| {
        let trace = simulate(seed)?;
        if alone {
            println!("{}", trace.all_steps());
        }
        Ok(trace.tally)
    });
    match done {
        Ok(tally) => println!("seeds {range:?}: {tally}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Everything that happens hangs on the seed alone; otherwise no failure could be seen again.
#[test]
fn a_seed_does_the_same_every_time() {
    for seed in 0..20 {
        let hash = || simulate(seed).map_or_else(|failure| panic!("{failure}"), |t| t.hash());
        assert_eq!(hash(), hash(), "seed {seed}");
    }
    let hash = |seed| simulate(seed).map_or_else(|failure| panic!("{failure}"), |t| t.hash());
    assert_ne!(hash(1), hash(2));
}
