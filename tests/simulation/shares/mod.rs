//! Lives of job queues. A program works with share groups through faults, crashes and power losses, in one thread and
//! with a clock that the seed moves. A ledger knows each job: what was sent, delivered and said of it, in one order of
//! changes (`history`). After each crash, and between the steps for crashes that only a copy of the folder sees, one
//! prefix of that order must explain what every job has come to (`look`).

mod action;
mod admin;
mod check;
mod ending;
mod fate;
mod history;
mod look;
mod member;
mod options;
mod poll;
mod produce;
mod tally;
mod transact;
mod words;
mod world;

use crate::{Failure, Run, caught};
use options::Options;
use tally::Tally;
use world::World;

/// The groups. Both read the same topics.
const GROUPS: [&str; 2] = ["s", "t"];
/// The topics of jobs.
const TOPICS: [&str; 2] = ["a", "b"];
/// The topic whose jobs may go once the first group has ended them.
const CONSUMED: &str = TOPICS[0];
/// The topic of dead letters, of both groups.
const DEAD: &str = "dead";
/// The topic of what transactions make of jobs.
const RESULTS: &str = "results";

/// Runs one seed.
fn simulate(seed: u64) -> Result<World, Box<Failure>> {
    let options = Options::of(seed);
    let mut world = World::new(seed, options.clone());
    let Some(what) = caught(|| world.run()) else { return Ok(world) };
    let (options, steps) = (format!("{options:?}"), world.trace.last_steps());
    Err(Box::new(Failure { run: RUN, seed, what, options, steps }))
}

/// What a failure names, and the default number of seeds.
const RUN: Run = Run { test: "job_queues", seeds: 1_000 };

#[test]
fn job_queues() {
    let done = RUN.seeds(|seed, alone| {
        let world = simulate(seed)?;
        if alone {
            println!("{}", world.trace.all_steps());
        }
        Ok::<Tally, _>(world.tally)
    });
    match done {
        Ok(tally) => println!("{tally}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Everything depends only on the seed. Otherwise no failure could be repeated.
#[test]
fn job_queues_do_the_same_every_time() {
    let hash = |seed| simulate(seed).map_or_else(|failure| panic!("{failure}"), |w| w.trace.hash());
    for seed in 0..10 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}
