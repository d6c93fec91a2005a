//! Crashes: wherever a process or machine ends, opening the folder again returns what was promised.
//! See README.md for how to run all of it and how to repeat a failure.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]
#![expect(clippy::print_stdout, reason = "counts of a run are part of what it says")]

mod bits;
mod campaign;
mod check;
mod cut_short;
mod damage;
mod folder;
mod gate;
mod io_errors;
mod journal_file;
mod kinds;
mod life;
mod observe;
mod oracle;
mod read_errors;
mod script;
mod share;

use std::sync::Arc;
use std::time::Duration;

use grouplog::JournalMode;
use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;

use campaign::{Campaign, Plan};
use gate::{Gated, Turnstile};
use kinds::Point;
use life::{Life, Setup};
use oracle::History;
use script::Script;

fn crash(script: &Script, mode: JournalMode) {
    Campaign::new(script, mode, Plan::from_env(script)).run();
}

macro_rules! scripts {
    ($($name:ident: $script:expr;)*) => {$(
        mod $name {
            #[test]
            fn map() {
                super::crash(&$script, grouplog::JournalMode::Map);
            }

            #[test]
            fn write() {
                super::crash(&$script, grouplog::JournalMode::Write);
            }
        }
    )*};
}

scripts! {
    first_open: crate::script::first_open();
    seal_and_roll: crate::script::seal_and_roll();
    send_all: crate::script::send_all();
    transactions: crate::script::transactions();
    ids: crate::script::ids();
    shares: crate::script::shares();
    commits: crate::script::commits();
    groups_go: crate::script::groups_go();
    alter: crate::script::alter();
    delete_records: crate::script::delete_records();
    delete_all_records: crate::script::delete_all_records();
    delete_and_recreate: crate::script::delete_and_recreate();
    recycle: crate::script::recycle();
    compressed: crate::script::compressed();
    look_alike: crate::script::look_alike();
    retention: crate::script::retention();
    retention_bytes: crate::script::retention_bytes();
    stored_and_all_deleted: crate::script::stored_and_all_deleted();
    stored_and_at_once_deleted: crate::script::stored_and_at_once_deleted();
    stored_retention_gap: crate::script::stored_retention_gap();
    stored_retention: crate::script::stored_retention();
    stored_retention_bytes: crate::script::stored_retention_bytes();
    budget: crate::script::budget();
    stored_budget: crate::script::stored_budget();
    compaction: crate::script::compaction();
    stored_compaction: crate::script::stored_compaction();
    compaction_and_deletion: crate::script::compaction_and_deletion();
    stored: crate::script::stored();
    stored_all: crate::script::stored_all();
    stored_and_deleted: crate::script::stored_and_deleted();
    whole_compaction: crate::script::compaction().whole();
    whole_first_open: crate::script::first_open().whole();
    whole_seal_and_roll: crate::script::seal_and_roll().whole();
    whole_delete_all_records: crate::script::delete_all_records().whole();
    whole_delete_and_recreate: crate::script::delete_and_recreate().whole();
}

/// The checkpoint's calls that change files: as many as the scripts cause, and one more.
const PAUSES: std::ops::RangeInclusive<u32> = 1..=18;

fn crash_beside_a_checkpoint(script: fn(u32) -> Script, mode: JournalMode) {
    for pause in PAUSES.step_by(Plan::pauses_from_env()) {
        Campaign::new(&script(pause), mode, Plan::beside_from_env()).run();
    }
}

macro_rules! scripts_beside_a_checkpoint {
    ($($name:ident;)*) => {$(
        mod $name {
            #[test]
            fn map() {
                let script = crate::script::$name;
                super::crash_beside_a_checkpoint(script, grouplog::JournalMode::Map);
            }

            #[test]
            fn write() {
                let script = crate::script::$name;
                super::crash_beside_a_checkpoint(script, grouplog::JournalMode::Write);
            }
        }
    )*};
}

scripts_beside_a_checkpoint! {
    during_checkpoint;
    delete_during_checkpoint;
    recycle_during_checkpoint;
    during_compaction;
    retention_during_checkpoint;
    budget_during_checkpoint;
    transactions_during_checkpoint;
    ids_during_checkpoint;
    shares_during_checkpoint;
    stored_during_checkpoint;
}

/// Each opening of a full journal continues in a file beyond its limit. These files must not
/// accumulate.
#[test]
fn a_journal_that_is_full_at_every_kill_stays_within_its_limit() {
    let setup = Setup {
        mode: JournalMode::Write,
        files: script::FILES,
        stored_from: script::NEVER,
        budget: None,
    };
    let mut memory = Memory::crash_simulating(1);
    let mut history = History::default();
    for number in 0..20 {
        let promised = history.attempted();
        let mut life = Life::begin(&memory, setup, &mut history, promised, number)
            .expect("opening goes on where the kill came");
        folder::check(&memory, &life.broker, setup.files).unwrap();
        // Sometimes this is all that the journal holds without a checkpoint.
        life.run(&script::fill(number == 0, 5 + number as usize * 7 % 29)).unwrap();
        history = life.history.clone();
        let after = memory.crash(Crash::Kill, &SeededRandom::new(0));
        life.kill();
        memory = after;
    }
}

/// With threads, opening does not wait for the recovery checkpoint, but `Synced` does (hazard H8).
#[test]
fn synced_after_a_kill_waits_for_the_recovery_checkpoint() {
    for mode in [JournalMode::Map, JournalMode::Write] {
        let setup = Setup { mode, files: script::FILES, stored_from: script::NEVER, budget: None };
        let memory = Memory::crash_simulating(1);
        let mut life = Life::begin(&memory, setup, &mut History::default(), 0, 0).unwrap();
        life.run(&script::fill(true, 2)).unwrap();
        let killed = memory.crash(Crash::Kill, &SeededRandom::new(0));
        let mut history = life.history.clone();
        life.kill();

        let turnstile = Arc::new(Turnstile::default());
        turnstile.arm_for("grouplog-checkpoint");
        let gated = Gated { inner: killed.clone(), turnstile: Arc::clone(&turnstile) };
        let config = life::config(setup, 2).background(true);
        let promised = history.attempted();
        let mut life = Life::begin_with(gated, config, setup, &mut history, promised, 1).unwrap();
        turnstile.wait_stopped();
        let (acknowledge, acknowledged) = std::sync::mpsc::channel();
        let sender = std::thread::spawn(move || {
            life.run(&[script::Step::SendSynced("a", 0, 100)]).unwrap();
            acknowledge.send(life.history.clone()).unwrap();
            life
        });
        // An acknowledgement while the checkpoint is stopped would be too early. The power loss
        // then shows what it is worth.
        let early = acknowledged.recv_timeout(Duration::from_millis(100));
        let history = early.unwrap_or_else(|_| {
            turnstile.open();
            acknowledged.recv().unwrap()
        });
        let lost = killed.crash(Crash::LoseAll, &SeededRandom::new(0));
        turnstile.open();
        drop(sender.join().unwrap());
        check::verify(&lost, setup, &history, history.attempted()).unwrap();
    }
}

/// `GROUPLOG_CRASH_REPLAY='seal_and_roll Map kill:5@77 torn:3@12'` repeats these crashes.
#[test]
fn replay() {
    let Ok(way) = std::env::var("GROUPLOG_CRASH_REPLAY") else { return };
    let mut words = way.split_whitespace();
    let name = words.next().expect("a script");
    let mode = match words.next() {
        Some("Map") => JournalMode::Map,
        _ => JournalMode::Write,
    };
    let path: Vec<Point> = words.map(|word| word.parse().unwrap()).collect();
    let script = script::by_name(name).expect("no such script");
    Campaign::new(&script, mode, Plan::from_env(&script)).replay(&path);
}
