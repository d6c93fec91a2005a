//! Damage to what is known to be synced. Opening must reject the whole folder or read it as it was.
//! It must never delete anything (I9, hazards H11 and H12).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{Broker, Error, JournalMode};

use crate::folder::{contents, read_file};
use crate::journal_file::{self, Frame, lsn};
use crate::life::{Life, Setup, config};
use crate::observe::observe;
use crate::oracle::{History, State};
use crate::script::{self, Step};

/// Returns a folder after a kill, and its content.
fn folder(mode: JournalMode, steps: &[Step]) -> (Memory, State) {
    let memory = Memory::crash_simulating(1);
    let mut life = Life::begin(&memory, setup(mode), &mut History::default(), 0, 0).unwrap();
    life.run(steps).unwrap();
    let left = copy(&memory);
    let state = life.history.state().clone();
    life.kill();
    (left, state)
}

fn setup(mode: JournalMode) -> Setup {
    Setup { mode, files: script::FILES, stored_from: script::NEVER, budget: None }
}

/// Returns a copy that shares nothing.
fn copy(memory: &Memory) -> Memory {
    memory.crash(Crash::KeepAll, &SeededRandom::new(0))
}

fn flip(memory: &Memory, path: &Path, at: usize) {
    let byte = read_file(memory, path)[at];
    let file = memory.open(path, OpenMode::Write).unwrap();
    file.write_at(&[byte ^ (1 << (at % 8))], at as u64).unwrap();
}

fn open(memory: &Memory) -> grouplog::Result<Broker> {
    Broker::open_storage(Arc::new(memory.clone()), config(setup(JournalMode::Write), 9))
}

/// Checks that opening finds the damage and leaves everything unchanged.
fn refused(folder: &Memory, path: &Path, at: usize) {
    let memory = copy(folder);
    flip(&memory, path, at);
    let before = contents(&memory);
    match open(&memory) {
        Err(Error::Corrupt(_)) => {}
        other => panic!("byte {at} of {}: {other:?}", path.display()),
    }
    assert!(contents(&memory) == before, "byte {at} of {}: the folder changed", path.display());
}

/// Checks that the damage never changes a record. Returns whether opening found it.
fn found_or_harmless(folder: &Memory, state: &State, path: &Path, at: usize) -> bool {
    let memory = copy(folder);
    flip(&memory, path, at);
    let before = contents(&memory);
    match open(&memory) {
        Ok(broker) => match observe(&broker) {
            Ok(seen) => {
                assert!(state.is(&seen), "byte {at} of {}: {seen}", path.display());
                false
            }
            Err(_) => true,
        },
        Err(error) => {
            assert!(error.is_corruption(), "byte {at} of {}: {error:?}", path.display());
            assert!(contents(&memory) == before, "byte {at} of {}: changed", path.display());
            true
        }
    }
}

/// Returns the frames below the position that a later frame records as synced, with their files.
fn known_synced(folder: &Memory) -> Vec<(PathBuf, Frame)> {
    let files = journal_file::read(folder);
    let frames = files.iter().flat_map(|file| file.frames.iter().map(move |frame| (file, frame)));
    let known = frames.clone().map(|(_, frame)| frame.known_synced).max().unwrap_or(0);
    frames
        .filter(|(file, frame)| lsn(file.sequence, frame.end) <= known)
        .map(|(file, frame)| (file.path.clone(), *frame))
        .collect()
}

#[test]
fn a_flipped_byte_in_a_frame_that_was_synced_is_corruption() {
    for mode in [JournalMode::Map, JournalMode::Write] {
        let (folder, _) = folder(mode, &script::flushes());
        let frames = known_synced(&folder);
        assert!(frames.len() > 8, "the script makes {} frames", frames.len());
        for (path, frame) in frames {
            let header = frame.position..frame.position + journal_file::FRAME_HEADER;
            let payload = header.end..frame.position + frame.bytes;
            let step = (payload.len() / 4).max(1);
            for at in header.step_by(3).chain(payload.step_by(step)) {
                refused(&folder, &path, at);
            }
        }
    }
}

#[test]
fn a_damaged_header_of_a_journal_file_that_must_follow_is_corruption() {
    let (folder, _) = folder(JournalMode::Map, &script::two_files());
    let files = journal_file::read(&folder);
    let used: Vec<_> = files.iter().filter(|file| !file.frames.is_empty()).collect();
    assert!(used.len() >= 2, "the script fills {} files", used.len());
    for file in used {
        for at in (0..72).step_by(5).chain([64]) {
            refused(&folder, &file.path, at);
        }
    }
}

#[test]
fn a_next_frame_that_was_synced_is_not_the_end_when_it_is_damaged() {
    let (folder, _) = folder(JournalMode::Write, &script::two_files());
    let next: Vec<_> = known_synced(&folder).into_iter().filter(|(_, f)| f.kind == 2).collect();
    assert!(!next.is_empty());
    for (path, frame) in next {
        for at in frame.position..frame.position + frame.bytes {
            refused(&folder, &path, at);
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_the_other_or_refused() {
    let (folder, state) = folder(JournalMode::Map, &script::checkpoints());
    for name in ["checkpoint.a", "checkpoint.b", "offsets.a", "offsets.b"] {
        let path = Path::new(name);
        for at in (0..read_file(&folder, path).len()).step_by(3) {
            found_or_harmless(&folder, &state, path, at);
        }
    }
    let both = copy(&folder);
    flip(&both, Path::new("checkpoint.a"), 50);
    refused(&both, Path::new("checkpoint.b"), 50);
}

#[test]
fn a_flipped_byte_in_a_segment_never_gives_another_record() {
    let (folder, state) = folder(JournalMode::Map, &script::checkpoints());
    let path = Path::new("a-0/00000000000000000000.log");
    let bytes = read_file(&folder, path).len();
    let found = (0..61)
        .chain((61..bytes).step_by(11))
        .filter(|at| found_or_harmless(&folder, &state, path, *at))
        .count();
    assert!(found > bytes / 11, "only {found} of {bytes} bytes matter");
}
