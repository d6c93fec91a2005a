//! Crashes of every kind, at every change of the storage, over several lives of the journal.
//!
//! The model holds the frames attempted since the last checkpoint, and how many of them were `Written` and
//! `Synced`. After a kill a replay finds all written frames, after power loss all synced frames. The frames
//! found are always a prefix of those attempted. Replay never takes a crash for damage.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::rig::{BOTH, config, read, try_open};
use crate::journal::{Journal, JournalMode, Replayed, Start};
use crate::storage::{Crash, Memory, Storage};
use crate::time::{Random, SeededRandom};
use crate::types::Lsn;

const KINDS: [Crash; 6] = [
    Crash::Kill,
    Crash::LoseAll,
    Crash::KeepAll,
    Crash::Subset { unit: 512 },
    Crash::Subset { unit: 4096 },
    Crash::TornUnit,
];

#[derive(Debug, Default, Clone)]
struct Model {
    /// The position of the newest checkpoint; `None` until the journal was created.
    from: Option<Lsn>,
    attempted: Vec<Vec<u8>>,
    written: usize,
    synced: usize,
    serial: u8,
}

impl Model {
    /// Appends, syncs and checkpoints until `frames` frames are appended or the storage has crashed.
    fn live(
        &mut self,
        memory: &Memory,
        mode: JournalMode,
        replayed: Option<&Replayed>,
        random: &SeededRandom,
        frames: usize,
    ) -> Option<Arc<Journal>> {
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let start = replayed.map_or_else(Start::default, Start::after);
        let mut held = replayed.is_some_and(|replayed| replayed.frames > 0);
        let journal = try_open(&storage, config(mode), Start { held, ..start }).ok()?;
        if memory.has_crashed() {
            return None;
        }
        self.from.get_or_insert(journal.end());
        // The ends of the frames of this life, which are the last ones attempted.
        let mut ends = Vec::new();
        for _ in 0..frames {
            let size = (random.next_u64() % 3000) as usize;
            self.serial = self.serial.wrapping_add(1);
            self.attempted.push(vec![self.serial; size]);
            let end = append(&journal, &[self.serial].repeat(size))?;
            if memory.has_crashed() {
                return None;
            }
            self.written = self.attempted.len();
            ends.push(end);
            match random.next_u64() % 12 {
                0..3 if !held => {
                    journal.wait_synced(end, None).ok()?;
                    self.synced = self.written;
                }
                3 => drop(journal.wait_synced(end, Some(Duration::ZERO))),
                4 => journal.step().ok()?,
                5 => {
                    journal.request_sync(end);
                    journal.step().ok()?;
                }
                6 => {
                    // An ordinary checkpoint lags behind. A recovery checkpoint lies at the end.
                    let lag = if held { 0 } else { random.next_u64() as usize % ends.len() };
                    journal.anchor(ends[ends.len() - 1 - lag]).ok()?;
                    if memory.has_crashed() {
                        return None;
                    }
                    self.checkpoint(ends[ends.len() - 1 - lag], lag);
                    journal.checkpointed(ends[ends.len() - 1 - lag]);
                    ends.drain(..ends.len() - lag);
                    journal.release_synced();
                    held = false;
                }
                _ => {}
            }
            if memory.has_crashed() {
                return None;
            }
        }
        Some(journal)
    }

    /// Makes a checkpoint durable in the model. `lag` frames lie after it.
    fn checkpoint(&mut self, from: Lsn, lag: usize) {
        let below = self.attempted.len() - lag;
        self.attempted.drain(..below);
        self.from = Some(from);
        self.written = lag;
        self.synced = self.synced.saturating_sub(below);
    }

    /// Checks the result of a replay after a crash. The next life begins with the frames found.
    fn check(&mut self, memory: &Memory, kind: Crash, at: &str) -> Option<Replayed> {
        let from = self.from?;
        let (found, replayed) = read(memory, from).unwrap_or_else(|e| panic!("{at}: {e}"));
        let least = if kind == Crash::Kill { self.written } else { self.synced };
        assert!(self.attempted.starts_with(&found), "{at}: not a prefix");
        assert!(found.len() >= least, "{at}: {} frames of {least}", found.len());
        assert_eq!(read(memory, from).unwrap(), (found.clone(), replayed.clone()), "{at}: again");
        self.attempted = found;
        self.written = self.attempted.len();
        Some(replayed)
    }
}

fn append(journal: &Journal, payload: &[u8]) -> Option<Lsn> {
    let mut credit = journal.reserve(payload.len(), Duration::ZERO).ok()?;
    journal.append(&mut credit, &[payload]).ok()
}

fn crash_everywhere(mode: JournalMode, kind: Crash, frames: usize) {
    for op in 1.. {
        let memory = Memory::crash_simulating(op);
        memory.crash_at(op);
        let mut model = Model::default();
        // Append the same frames whatever the point of the crash, but crash with another seed each time.
        let done = model.live(&memory, mode, None, &SeededRandom::new(1), frames).is_some();
        let random = SeededRandom::new(op);
        let mut after = memory.crash(kind, &random);
        let mut last = kind;
        let mut at = format!("{mode:?} {kind:?} at {op}");
        for _ in 0..2 {
            let replayed = model.check(&after, last, &at);
            let next = random.next_u64() % 60 + 1;
            after.crash_at(next);
            model.live(&after, mode, replayed.as_ref(), &random, 10);
            last = KINDS[(random.next_u64() % KINDS.len() as u64) as usize];
            at = format!("{at}, {last:?} at {next}");
            after = after.crash(last, &random);
        }
        let replayed = model.check(&after, last, &at);
        model.live(&after, mode, replayed.as_ref(), &random, 3).unwrap();
        model.check(&after, Crash::Kill, &at);
        if done {
            break;
        }
    }
}

#[test]
fn a_kill_anywhere_loses_nothing_written() {
    for mode in BOTH {
        crash_everywhere(mode, Crash::Kill, 20);
    }
}

#[test]
fn power_loss_anywhere_loses_nothing_synced() {
    for mode in BOTH {
        for kind in [Crash::LoseAll, Crash::KeepAll, Crash::TornUnit] {
            crash_everywhere(mode, kind, 20);
        }
    }
}

#[test]
fn power_loss_that_keeps_any_part_loses_nothing_synced() {
    for mode in BOTH {
        for unit in [512, 4096] {
            crash_everywhere(mode, Crash::Subset { unit }, 20);
        }
    }
}

/// Every storage call fails once. Then the process is killed, or the power fails.
#[test]
fn an_error_anywhere_loses_nothing_that_was_acknowledged() {
    for mode in BOTH {
        for kind in [Crash::Kill, Crash::LoseAll] {
            for op in 1.. {
                let memory = Memory::crash_simulating(op);
                memory.fail_at(op, io::ErrorKind::Other, false);
                let mut model = Model::default();
                let done = model.live(&memory, mode, None, &SeededRandom::new(1), 12).is_some();
                let over = memory.ops() < op;
                memory.heal();
                let random = SeededRandom::new(op);
                let after = memory.crash(kind, &random);
                let at = format!("{mode:?} {kind:?}, failed at {op}");
                let replayed = model.check(&after, kind, &at);
                model.live(&after, mode, replayed.as_ref(), &random, 3).unwrap();
                model.check(&after, Crash::Kill, &at);
                if done && over {
                    break;
                }
            }
        }
    }
}
