//! Several threads append and commit while the process or machine may end at any time. The tests
//! compare what survives with the acknowledgements.
//!
//! Real processes, killed: a child reports each acknowledgement through a pipe, and SIGKILL ends
//! it. Machines that lose power (`power`): on `storage::Memory`, with all threads of the engine. Real file
//! systems (`file_systems`): killed on each of them, and stopped under the running child. Job queues (`jobs`): what each
//! handler was called with, over all lives of a folder.
//!
//! `GROUPLOG_KILLS=1000 cargo test --release --test kill` kills more often.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "counts of a run are part of what it says")]

mod child;
mod file_systems;
mod found;
mod jobs;
#[path = "../api/mounted.rs"]
mod mounted;
mod power;
mod told;
mod work;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use grouplog::time::{Random, SeededRandom};
use grouplog::{Broker, JournalMode};

use found::Found;
use told::Told;

/// Tell the child its folder, mode and run.
const FOLDER: &str = "GROUPLOG_KILL_FOLDER";
const MODE: &str = "GROUPLOG_KILL_MODE";
const RUN: &str = "GROUPLOG_KILL_RUN";

/// The default number of kills, and of kills of the same folder.
const KILLS: u64 = 24;
const KILLS_OF_A_FOLDER: u64 = 6;

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let kills = kills(KILLS);
    let random = SeededRandom::from_os();
    let (mut records, mut acknowledged) = (0, 0);
    for first in (0..kills).step_by(KILLS_OF_A_FOLDER as usize) {
        let mode = if first.is_multiple_of(2 * KILLS_OF_A_FOLDER) {
            JournalMode::Auto
        } else {
            JournalMode::Write
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut found = Found::default();
        for run in first..kills.min(first + KILLS_OF_A_FOLDER) {
            let delay = Duration::from_micros(random.next_u64() % 150_000);
            let told = kill_one(&path, mode, run, delay);
            assert_eq!(told.failed, None);
            acknowledged += told.count();
            if told.count() == 0 && Broker::open_read_only(&path).is_err() {
                // The folder was not created completely.
                continue;
            }
            let context = format!("run {run}, {mode:?}, killed after {delay:?}");
            let reader = Broker::open_read_only(&path).unwrap();
            found = found.verify(&reader, &told, run).unwrap_or_else(|what| fail(&context, &what));
            // Every other time the next child must recover the folder after the kill.
            if random.next_u64().is_multiple_of(2) {
                reopen(&path, mode, &found, run).unwrap_or_else(|what| fail(&context, &what));
            }
        }
        records += found.count();
    }
    println!("{kills} kills, {acknowledged} acknowledgements, {records} records found");
    assert!(acknowledged > kills, "the children are killed before their first acknowledgement");
}

/// Returns how often to kill, by default this often.
fn kills(default: u64) -> u64 {
    std::env::var("GROUPLOG_KILLS").map_or(default, |text| text.parse().unwrap())
}

/// Checks that recovery by a writer finds the same, and that a closed folder needs no repair.
fn reopen(path: &Path, mode: JournalMode, found: &Found, run: u64) -> Result<(), String> {
    for closed in [false, true] {
        let broker = Broker::open_with(path, work::config(mode)).map_err(|e| e.to_string())?;
        let report = broker.recovery_report();
        if closed && report.unclean {
            return Err(format!("a closed folder needs repair: {report:?}"));
        }
        let again = found.verify(&broker, &Told::default(), run)?;
        if again.count() != found.count() {
            return Err(format!("{} records, not {}", again.count(), found.count()));
        }
        broker.close().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn fail(context: &str, what: &str) -> ! {
    panic!("{context}: {what}")
}

/// Lets a child work in the folder and kills it. Returns its acknowledgements.
fn kill_one(path: &Path, mode: JournalMode, run: u64, delay: Duration) -> Told {
    kill_after(path, mode, run, delay, None)
}

/// Lets a child work in the folder, calls `stop`, and kills the child. Returns what it acknowledged before `stop`.
fn kill_after(
    path: &Path,
    mode: JournalMode,
    run: u64,
    delay: Duration,
    stop: Option<&dyn Fn()>,
) -> Told {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, path)
        .env(MODE, if mode == JournalMode::Write { "write" } else { "auto" })
        .env(RUN, run.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = child.stderr.take().unwrap();
    let (told, hear) = mpsc::channel();
    let counts = Arc::new(AtomicBool::new(true));
    let counting = Arc::clone(&counts);
    let reader = std::thread::spawn(move || told.send(Told::read(pipe, &counting)));
    // Returns early only if the child ends early.
    let early = hear.recv_timeout(delay).ok();
    if let Some(stop) = stop {
        counts.store(false, Ordering::SeqCst);
        stop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let told = early.unwrap_or_else(|| hear.recv().unwrap());
    reader.join().unwrap().unwrap();
    told
}

/// The child's part. Does nothing unless the parent started it.
#[test]
fn child() {
    if let Ok(folder) = std::env::var(FOLDER) {
        let write = std::env::var(MODE).is_ok_and(|mode| mode == "write");
        let mode = if write { JournalMode::Write } else { JournalMode::Auto };
        child::work_in(Path::new(&folder), mode, std::env::var(RUN).unwrap().parse().unwrap());
    }
}
