//! Deterministic simulation. From one seed, a program with producers and consumers runs through
//! faults, crashes and power losses. After each of them the engine must have kept its promises. See
//! ../README.md for how to run many seeds and how to repeat a failure.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "counts of a run are part of what it says")]

mod action;
mod budget;
mod commit;
mod compact;
mod disturb;
mod ending;
mod ids;
mod member;
mod options;
mod owner;
mod plan;
mod positions;
mod produce;
mod read;
mod seeds;
mod session;
mod shares;
mod trace;
mod transact;
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

/// Runs one seed.
fn simulate(seed: u64) -> Result<Trace, Box<Failure>> {
    let options = Options::of(seed);
    let mut world = World::new(seed, options.clone());
    let Some(what) = caught(|| world.run()) else { return Ok(world.trace) };
    let (options, steps) = (format!("{options:?}"), world.trace.last_steps());
    Err(Box::new(Failure { run: RUN, seed, what, options, steps }))
}

/// Runs a life. Returns the broken promise, if any; a panic is one.
fn caught(live: impl FnOnce() -> Result<(), String>) -> Option<String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(live)) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => Some(format!("panics: {}", text_of(&*panic))),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// A broken promise, with everything necessary to repeat it.
struct Failure {
    run: Run,
    seed: u64,
    what: String,
    options: String,
    steps: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run: Run { test, .. }, seed, what, options, steps } = self;
        write!(
            f,
            "seed {seed}: {what}\n{steps}\n{options}\n  \
             again: GROUPLOG_SEED={seed} cargo test --test simulation {test} -- --nocapture"
        )
    }
}

/// A test that runs seeds: its name, and how many it runs by default.
#[derive(Debug, Clone, Copy)]
struct Run {
    test: &'static str,
    seeds: u64,
}

impl Run {
    /// Returns the seeds to run. `GROUPLOG_SEED=7` runs one and prints its steps,
    /// `GROUPLOG_SEEDS=100000` that many from 0, `GROUPLOG_SEEDS=5000..6000` that range.
    fn range(self) -> Range<u64> {
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
            Err(_) => 0..self.seeds,
        }
    }

    /// Runs the seeds. `run` is told whether its seed is the only one. Returns the range and what was counted.
    fn seeds<T: seeds::Sum>(
        self,
        run: impl Fn(u64, bool) -> Result<T, Box<Failure>> + Sync,
    ) -> Result<String, Box<Failure>> {
        let range = self.range();
        let alone = range.end - range.start == 1;
        let tally = seeds::run_all(range.clone(), |seed| run(seed, alone))?;
        Ok(format!("seeds {range:?}: {tally}"))
    }
}

/// The default number of seeds.
const RUN: Run = Run { test: "seeds", seeds: 2_000 };

#[test]
fn seeds() {
    let done = RUN.seeds(|seed, alone| {
        let trace = simulate(seed)?;
        if alone {
            println!("{}", trace.all_steps());
        }
        Ok(trace.tally)
    });
    match done {
        Ok(tally) => println!("{tally}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Everything depends only on the seed. Otherwise no failure could be repeated.
#[test]
fn a_seed_does_the_same_every_time() {
    for seed in 0..20 {
        let hash = || simulate(seed).map_or_else(|failure| panic!("{failure}"), |t| t.hash());
        assert_eq!(hash(), hash(), "seed {seed}");
    }
    let hash = |seed| simulate(seed).map_or_else(|failure| panic!("{failure}"), |t| t.hash());
    assert_ne!(hash(1), hash(2));
}
