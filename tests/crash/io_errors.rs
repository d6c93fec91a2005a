//! Makes the n-th change of files fail, for n = 1, 2, ... until a run makes fewer changes: once,
//! and from then on. Whichever call reports the failure, no acknowledged change is lost, and no
//! refused change appears.

use std::io;

use grouplog::JournalMode;
use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;

use crate::campaign::Plan;
use crate::check::verify;
use crate::life::{End, Life, Setup};
use crate::oracle::History;
use crate::script::{self, Script, Step};

/// EIO, ENOSPC and EMFILE, of which two have no `ErrorKind` of their own.
fn kinds() -> [io::ErrorKind; 3] {
    [5, 28, 24].map(|number| io::Error::from_raw_os_error(number).kind())
}

/// Does the steps and continues after those that the fault makes fail. Returns whether the fault
/// was met.
fn run(script: &Script, setup: Setup, memory: &Memory, history: &mut History, op: u64) -> bool {
    let met = || memory.ops() >= op;
    let mut life = match Life::begin(memory, setup, history, 0, 0) {
        Ok(life) => life,
        Err(End::Violation(what)) if met() && what.contains("opening fails") => return true,
        Err(end) => panic!("{end:?}"),
    };
    for step in &script.steps {
        let before = life.history.attempted();
        match life.run(std::slice::from_ref(step)) {
            Ok(()) => {}
            // The change may or may not exist, or the folder is closed: nothing more is written.
            Err(End::Violation(what))
                if met() && (what.contains("Indeterminate") || matches!(step, Step::Reopen)) =>
            {
                break;
            }
            Err(End::Violation(what)) if met() && what.contains("unexpected") => {
                life.history.cut_to(before);
            }
            Err(end) => panic!("{} {setup:?}, change {op} fails: {end:?}", script.name),
        }
    }
    *history = life.history.clone();
    life.kill();
    met()
}

fn fail_each(script: &Script, mode: JournalMode) {
    let setup = Setup {
        mode,
        files: script.journal_files,
        stored_from: script.stored_from,
        budget: script.budget,
    };
    let (mut op, mut states) = (0, 0);
    loop {
        op += 1;
        let mut met = false;
        for (number, kind) in kinds().into_iter().enumerate() {
            for persistent in [false, true] {
                // The kinds take turns unless everything is tried.
                let turn = (op + u64::from(persistent)) % 3 == number as u64;
                if !turn && !Plan::is_full() {
                    continue;
                }
                let memory = script.storage(op);
                let mut history = History::default();
                memory.fail_at(op, kind, persistent);
                met |= run(script, setup, &memory, &mut history, op);
                memory.heal();
                for crash in [Crash::Kill, Crash::LoseAll] {
                    let promised = history.promised(crash != Crash::Kill);
                    let left = memory.crash(crash, &SeededRandom::new(op));
                    verify(&left, setup, &history, promised).unwrap_or_else(|what| {
                        let name = &script.name;
                        panic!(
                            "{name} {mode:?}, change {op} fails ({kind:?}, {persistent}): {what}"
                        )
                    });
                    states += 1;
                }
            }
        }
        if !met {
            println!("{} {mode:?}: {op} changes failed, {states} states", script.name);
            return;
        }
    }
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        mod $name {
            #[test]
            fn map() {
                super::fail_each(&super::script::$name(), grouplog::JournalMode::Map);
            }

            #[test]
            fn write() {
                super::fail_each(&super::script::$name(), grouplog::JournalMode::Write);
            }

            #[test]
            fn whole() {
                super::fail_each(&super::script::$name().whole(), grouplog::JournalMode::Write);
            }
        }
    )*};
}

scripts! { first_open seal_and_roll send_all commits delete_and_recreate compressed }
