//! All changes of jobs in their one order, and which prefix of them explains what a crash has left.
//!
//! A call is noted before it is made. Some calls write several frames, in an order that the ledger does not know; a crash
//! inside of them leaves any of their changes. All other calls leave all or nothing.

use std::collections::BTreeSet;

use super::fate::{Fate, Fates, Number};

/// A change: the fate of a job from here on.
pub(super) type Change = (Number, Fate);

/// What one call does.
#[derive(Debug, Default)]
struct Block {
    /// What it does if it succeeds, in its order.
    changes: Vec<Change>,
    /// What else a crash inside of it may leave.
    may: Vec<Change>,
    /// Whether it is one frame.
    is_whole: bool,
}

impl Block {
    fn apply(&self, fates: &mut Fates) {
        fates.extend(self.changes.iter().cloned());
    }

    /// Returns the fates that a crash inside of it may give to a job, besides the one before.
    fn fates_of(&self, number: Number) -> impl Iterator<Item = &Fate> {
        let all = self.changes.iter().chain(&self.may);
        all.filter(move |(of, _)| *of == number).map(|(_, fate)| fate)
    }
}

/// The changes since the folder was opened, and what was promised about them.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The fates when the folder was opened.
    base: Fates,
    blocks: Vec<Block>,
    now: Fates,
    /// This many calls survive a killed process.
    written: usize,
    /// This many calls survive power loss.
    synced: usize,
}

impl History {
    /// Begins with what was found in a folder. All of it is durable.
    pub(super) fn begin(found: Fates) -> Self {
        Self { base: found.clone(), now: found, ..Self::default() }
    }

    pub(super) fn now(&self) -> &Fates {
        &self.now
    }

    pub(super) fn fate(&self, number: Number) -> Fate {
        self.now.get(&number).cloned().unwrap_or_default()
    }

    /// Notes a call of one frame that is about to be made.
    pub(super) fn attempt(&mut self, changes: Vec<Change>) {
        self.push(Block { changes, is_whole: true, ..Block::default() });
    }

    /// Notes a call of several frames that is about to be made.
    pub(super) fn attempt_each(&mut self, changes: Vec<Change>) {
        self.push(Block { changes, ..Block::default() });
    }

    /// Notes a call that may do some of this. What it has done is noted by `did`.
    pub(super) fn attempt_some(&mut self, may: Vec<Change>) {
        self.push(Block { may, ..Block::default() });
    }

    fn push(&mut self, block: Block) {
        block.apply(&mut self.now);
        self.blocks.push(block);
    }

    /// Notes that the last call has done nothing.
    pub(super) fn take_back(&mut self) {
        self.blocks.pop();
        self.now = self.base.clone();
        for block in &self.blocks {
            block.apply(&mut self.now);
        }
    }

    /// Notes what the last call turned out to have done.
    pub(super) fn did(&mut self, number: Number, fate: Fate) {
        self.now.insert(number, fate.clone());
        if let Some(block) = self.blocks.last_mut() {
            block.changes.push((number, fate));
        }
    }

    /// Notes that all calls were acknowledged as `Written`.
    pub(super) fn written(&mut self) {
        self.written = self.blocks.len();
    }

    /// Notes that all calls were acknowledged as `Synced`.
    pub(super) fn synced(&mut self) {
        self.written();
        self.synced = self.written;
    }

    /// Returns how many calls must at least have left what they did, after a kill or a power loss.
    pub(super) fn promised(&self, power_loss: bool) -> usize {
        if power_loss { self.synced } else { self.written }
    }

    /// Finds what explains everything seen. Returns the fates, with the times that can be meant.
    pub(super) fn explain(&self, seen: &Fates, promised: usize) -> Result<Fates, String> {
        let mut state = self.base.clone();
        let (mut found, mut nearest) = (None, Vec::new());
        for cut in 0..=self.blocks.len() {
            let block = self.blocks.get(cut);
            if cut >= promised {
                let inside = block.filter(|block| !block.is_whole);
                let wrong = differences(&state, seen, inside);
                if wrong.is_empty() {
                    let is_first = found.is_none();
                    let fates = found.get_or_insert_with(|| seen.clone());
                    note_times(fates, &state, inside, is_first);
                } else if nearest.is_empty() || wrong.len() < nearest.len() {
                    nearest = wrong;
                }
            }
            if let Some(block) = block {
                block.apply(&mut state);
            }
        }
        found.ok_or_else(|| {
            nearest.truncate(6);
            let (all, nearest) = (self.blocks.len(), nearest.join("\n  "));
            format!("{promised} of {all} calls were promised; nearest:\n  {nearest}")
        })
    }
}

/// Returns how the jobs differ from those that were seen. Inside of a block, each change of it may be there.
fn differences(state: &Fates, seen: &Fates, inside: Option<&Block>) -> Vec<String> {
    let numbers: BTreeSet<Number> = state.keys().chain(seen.keys()).copied().collect();
    let (nothing, mut wrong) = (Fate::default(), Vec::new());
    for number in numbers {
        let of = |fates: &'_ Fates| fates.get(&number).unwrap_or(&nothing).clone();
        let (known, seen) = (of(state), of(seen));
        let is_inside = |block: &Block| block.fates_of(number).any(|fate| fate.is(&seen));
        if !known.is(&seen) && !inside.is_some_and(is_inside) {
            wrong.push(format!("job {number} is {seen:?}, not {known:?}"));
        }
    }
    wrong
}

/// Notes the times that a crash does not show, of one prefix that explains what was seen.
fn note_times(fates: &mut Fates, state: &Fates, inside: Option<&Block>, is_first: bool) {
    for (number, fate) in fates {
        let changes = inside.into_iter().flat_map(|block| block.fates_of(*number));
        let known: Vec<&Fate> = state.get(number).into_iter().chain(changes).collect();
        for (group, standing) in fate.groups.iter_mut().enumerate() {
            let known = known.iter().map(|fate| &fate.groups[group]);
            let due = known.clone().map(|known| known.due).min().unwrap_or(0);
            let until = known.map(|known| known.until).max().unwrap_or(0);
            standing.due = if is_first { due } else { standing.due.min(due) };
            standing.until = standing.until.max(until);
        }
    }
}
