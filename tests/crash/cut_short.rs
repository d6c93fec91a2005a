//! Until its checkpoint, what an opening truncates and removes is only in the system's cache. If it
//! is killed before that, the next opening finds nothing to truncate. Still, once the folder is
//! closed, power loss must not bring the truncated bytes back.

use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;
use grouplog::{JournalMode, TopicConfig};

use crate::folder;
use crate::life::{End, Life, Setup};
use crate::oracle::History;
use crate::script::{self, Step};

/// Some records in the checkpoint, and more after it, in the segment and in a new one. Nothing of
/// the latter is synced.
fn steps() -> Vec<Step> {
    let config = TopicConfig::new().segment_bytes(4096).index_interval_bytes(256);
    let create = Step::Create { topic: "a", config, partitions: 1 };
    let sends = |count| std::iter::repeat_n(Step::Send("a", 0, 400), count);
    let first = std::iter::once(create).chain(sends(5)).chain([Step::Checkpoint]);
    first.chain(sends(12)).collect()
}

#[test]
fn a_closed_folder_holds_what_its_checkpoint_says_though_openings_were_cut_short() {
    for mode in [JournalMode::Map, JournalMode::Write] {
        let setup = Setup { mode, files: script::FILES, stored_from: script::NEVER, budget: None };
        let memory = Memory::crash_simulating(1);
        let mut life = Life::begin(&memory, setup, &mut History::default(), 0, 0).unwrap();
        life.run(&steps()).unwrap();
        let history = life.history.clone();
        let mut tried = 0;
        for seed in 0..60 {
            let lost = memory.crash(Crash::Subset { unit: 4096 }, &SeededRandom::new(seed));
            tried += cut_each_opening_short(&lost, setup, &history);
        }
        life.kill();
        assert!(tried > 100, "{tried}");
        println!("{mode:?}: {tried} openings cut short");
    }
}

/// Kills the opening of a folder at each of its calls, if it has something to truncate. Returns the
/// number of those calls.
fn cut_each_opening_short(lost: &Memory, setup: Setup, history: &History) -> u64 {
    let copy = || lost.crash(Crash::KeepAll, &SeededRandom::new(0));
    let whole = copy();
    let promised = history.promised(true);
    let life = Life::begin(&whole, setup, &mut history.clone(), promised, 1).unwrap();
    let ops = whole.ops();
    let cuts = life.broker.recovery_report().segment_bytes_cut > 0;
    life.kill();
    if !cuts {
        return 0;
    }
    for op in 1..=ops {
        let memory = copy();
        memory.crash_at(op);
        let crashed = Life::begin(&memory, setup, &mut history.clone(), promised, 2);
        assert!(matches!(crashed, Err(End::Crash)), "{crashed:?}");
        let killed = memory.crash(Crash::Kill, &SeededRandom::new(op));
        let mut life = Life::begin(&killed, setup, &mut history.clone(), promised, 3).unwrap();
        life.close().unwrap();
        let mut all = life.history.clone();
        drop(life);

        let left = killed.crash(Crash::LoseAll, &SeededRandom::new(0));
        let found = all.attempted();
        let life = Life::begin(&left, setup, &mut all, found, 4).unwrap();
        folder::check(&left, &life.broker, setup.files)
            .unwrap_or_else(|what| panic!("killed at {op} of {ops}: {what}"));
        life.kill();
    }
    ops
}
