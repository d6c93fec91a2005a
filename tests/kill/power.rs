//! Power losses and kills of an engine with all its threads, on `storage::Memory`.
//!
//! The scripts of the crash tests and the simulation run one thing at a time, so that they can be
//! repeated. Here appends, commits, syncs, checkpoints and write-outs run concurrently, in any
//! order.

use std::sync::Arc;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{Random, SeededRandom};
use grouplog::{Broker, JournalMode, Result};
use parking_lot::Mutex;

use crate::found::Found;
use crate::told::Told;
use crate::work::{Ack, config, work};

/// The default number of losses, and of losses of the same folder.
const LOSSES: u64 = 60;
const LOSSES_OF_A_FOLDER: u64 = 6;

/// The maximum number of calls that change files before the end.
const CALLS_MAX: u64 = 3000;

#[test]
fn what_was_synced_survives_power_loss_while_all_threads_work() {
    let losses = std::env::var("GROUPLOG_KILLS").map_or(LOSSES, |text| text.parse().unwrap());
    let random = SeededRandom::from_os();
    let (mut records, mut acknowledged) = (0, 0);
    for first in (0..losses).step_by(LOSSES_OF_A_FOLDER as usize) {
        let mode = if first.is_multiple_of(2 * LOSSES_OF_A_FOLDER) {
            JournalMode::Map
        } else {
            JournalMode::Write
        };
        let mut memory = Memory::crash_simulating(random.next_u64());
        let mut found = Found::default();
        for run in first..losses.min(first + LOSSES_OF_A_FOLDER) {
            let (calls, kind) = (1 + random.next_u64() % CALLS_MAX, kind(&random));
            let context = format!("run {run}, {mode:?}, {kind:?} after {calls} calls");
            let told = run_until(&memory, mode, run, calls, kind);
            acknowledged += told.count();
            memory = memory.crash(kind, &random);
            found = recover(&memory, mode, &found, &told, run)
                .unwrap_or_else(|what| panic!("{context}: {what}"));
        }
        records += found.count();
    }
    println!("{losses} crashes, {acknowledged} acknowledgements, {records} records found");
    assert!(acknowledged > losses, "the power fails before the first acknowledgement");
}

fn kind(random: &dyn Random) -> Crash {
    match random.next_u64() % 6 {
        0 => Crash::Kill,
        1 => Crash::LoseAll,
        2 => Crash::KeepAll,
        3 => Crash::Subset { unit: 512 },
        4 => Crash::Subset { unit: 4096 },
        _ => Crash::TornUnit,
    }
}

/// Lets all threads work until the storage fails. Returns the acknowledgements whose promises must
/// hold.
fn run_until(memory: &Memory, mode: JournalMode, run: u64, calls: u64, kind: Crash) -> Told {
    memory.crash_at(memory.ops() + calls);
    let told = Mutex::new(Told::default());
    let tell = |ack: Ack| {
        let mut told = told.lock();
        // Stores through a map have no effect after the crash, and the engine does not notice. So
        // only earlier acknowledgements count.
        if !memory.has_crashed() {
            told.add(ack);
        }
    };
    let worked = open(memory, mode).and_then(|broker| work(&broker, run, &tell));
    assert!(memory.has_crashed(), "the work ended before the crash: {worked:?}");
    let mut told = told.into_inner();
    if kind != Crash::Kill {
        told.keep_synced();
    }
    told
}

/// Opens and closes what is left, so that everything found must be found again after the next
/// crash.
fn recover(
    memory: &Memory,
    mode: JournalMode,
    before: &Found,
    told: &Told,
    run: u64,
) -> Result<Found, String> {
    let broker = open(memory, mode).map_err(|error| format!("opening fails: {error:?}"))?;
    let found = before.verify(&broker, told, run)?;
    let health = broker.health();
    broker.close().map_err(|error| format!("closing fails: {error:?}"))?;
    if health.is_ok() { Ok(found) } else { Err(format!("health after opening: {health}")) }
}

fn open(memory: &Memory, mode: JournalMode) -> Result<Broker> {
    Broker::open_storage(Arc::new(memory.clone()), config(mode))
}
