//! What a crash leaves of files and names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::time::Random;

use super::contents::{Change, History, Inode, Space};
use super::control::{Control, Step};
use super::tree::Tree;
use super::{Memory, Shared};

/// How a process or a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// The process is killed. The effect of every returned call stays, and a random part of the
    /// call in progress. A later power loss may still take unsynced bytes.
    Kill,
    /// A power loss that takes everything unsynced.
    LoseAll,
    /// A power loss just after everything was written back.
    KeepAll,
    /// A power loss that takes some of the unsynced changes. Each unit of `unit` bytes, each file's
    /// length and each name independently takes any state that it had since it was durable.
    Subset {
        /// The unit that a device writes at once, in bytes: 512 or 4096.
        unit: usize,
    },
    /// Like `Subset` with units of 4096 bytes, and one unit of each file is half old, half new.
    TornUnit,
}

/// The source of a crash's decisions.
trait Choose {
    /// Returns a number below `options`, which is not 0.
    fn choose(&mut self, options: usize) -> usize;
}

struct ByChance<'a>(&'a dyn Random);

impl Choose for ByChance<'_> {
    fn choose(&mut self, options: usize) -> usize {
        (self.0.next_u64() % options.max(1) as u64) as usize
    }
}

/// Enumerates all combinations of decisions, like an odometer.
#[derive(Default)]
struct InTurn {
    /// Each decision taken so far: the choice and the number of options.
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl InTurn {
    /// Advances to the next combination. Returns false after the last one.
    fn turn(&mut self) -> bool {
        self.taken.truncate(self.next);
        self.next = 0;
        while let Some((which, options)) = self.taken.pop() {
            if which + 1 < options {
                self.taken.push((which + 1, options));
                return true;
            }
        }
        false
    }
}

impl Choose for InTurn {
    fn choose(&mut self, options: usize) -> usize {
        if self.next == self.taken.len() {
            self.taken.push((0, options));
        }
        self.next += 1;
        self.taken[self.next - 1].0
    }
}

/// The state at the crash, before anything is lost.
struct Wreck {
    tree: Tree,
    space: Arc<Space>,
    in_flight: Option<Step>,
    whole_sync_above: usize,
}

impl Wreck {
    /// Copies everything. The interrupted change points into the copy.
    fn of(shared: &Shared) -> Self {
        let tree = shared.tree.lock();
        let control = shared.control.as_ref().map(|control| control.lock());
        let space = Arc::new(Space::new(shared.space.capacity()));
        let mut copies: HashMap<u64, Arc<Inode>> = HashMap::new();
        let mut fork = |inode: &Arc<Inode>| {
            let copy = copies.entry(inode.id);
            Arc::clone(copy.or_insert_with(|| Arc::new(inode.fork(Arc::clone(&space)))))
        };
        let mut copy = tree.fork(&mut fork);
        if control.is_none() {
            // Nothing is known about syncs, so everything counts as synced.
            copy.begin_history();
            for inode in copy.files() {
                let mut contents = inode.contents.lock();
                let bytes = contents.now.clone();
                contents.settle(bytes);
            }
        }
        let in_flight = control.and_then(|control| control.in_flight.clone());
        let in_flight = in_flight.map(|step| match step {
            Step::Write { inode, position, bytes } => {
                Step::Write { inode: fork(&inode), position, bytes }
            }
            Step::Resize { inode, len } => Step::Resize { inode: fork(&inode), len },
            Step::Names(change) => Step::Names(change.with_nodes(|node| node.forked(&mut fork))),
            Step::Sync { .. } | Step::SyncWhole { .. } | Step::Other => Step::Other,
        });
        let whole_sync_above = shared.whole_sync_above.load(Ordering::Relaxed);
        Self { tree: copy, space, in_flight, whole_sync_above }
    }

    /// Does the part of the interrupted change that `part` chooses, given the number of parts.
    fn finish(&mut self, mut part: impl FnMut(usize) -> usize) {
        // A change that fails on a full disk stops where it failed, as any other does.
        let _ = match self.in_flight.take() {
            Some(Step::Write { inode, position, bytes }) => {
                let done = &bytes[..part(bytes.len())];
                inode.contents.lock().write(position, done)
            }
            Some(Step::Resize { inode, len }) if part(1) == 1 => inode.contents.lock().resize(len),
            Some(Step::Names(change)) if part(1) == 1 => {
                self.tree.apply(change);
                Ok(())
            }
            _ => Ok(()),
        };
    }

    fn lose(&mut self, unit: usize, torn: bool, choice: &mut dyn Choose) {
        self.finish(|all| all);
        self.tree.settle(|| choice.choose(2) == 1);
        for inode in self.tree.files() {
            let mut contents = inode.contents.lock();
            if let Some(history) = contents.history.take() {
                let leftovers = self.tree.leftovers.make_contiguous();
                let bytes = survivors(&history, unit.max(1), torn, leftovers, choice);
                contents.settle(bytes);
            }
        }
    }

    /// Returns a lower bound for the number of states that `lose` can leave: those where it keeps
    /// all names.
    fn states_at_least(mut self, unit: usize) -> usize {
        self.finish(|all| all);
        self.tree.settle(|| true);
        self.tree.files().into_iter().fold(1, |states: usize, inode| {
            let contents = inode.contents.lock();
            let pending = contents.history.as_ref().filter(|history| !history.pending.is_empty());
            let Some(history) = pending else { return states };
            let (lens, extent) = lengths(history);
            let units = touched_units(history, unit.max(1), extent);
            let options = units.iter().map(|(_, changes)| changes.len() + 1);
            options.fold(states.saturating_mul(lens.len()), usize::saturating_mul)
        })
    }

    fn keep(&mut self, all: bool) {
        if all {
            self.finish(|all| all);
        }
        self.tree.settle(|| all);
        for inode in self.tree.files() {
            let mut contents = inode.contents.lock();
            let history = contents.history.take().unwrap_or_default();
            let bytes = if all { contents.now.clone() } else { history.durable };
            contents.settle(bytes);
        }
    }

    fn into_memory(self, seed: u64) -> Memory {
        Memory::of(Shared {
            tree: Mutex::new(self.tree),
            control: Some(Mutex::new(Control::new(seed))),
            space: self.space,
            locked: Mutex::default(),
            whole_sync_above: AtomicUsize::new(self.whole_sync_above),
        })
    }
}

impl Shared {
    pub(super) fn after(&self, kind: Crash, random: &dyn Random) -> Memory {
        let mut wreck = Wreck::of(self);
        let mut choice = ByChance(random);
        match kind {
            Crash::Kill => wreck.finish(|all| choice.choose(all + 1)),
            Crash::LoseAll => wreck.keep(false),
            Crash::KeepAll => wreck.keep(true),
            Crash::Subset { unit } => wreck.lose(unit, false, &mut choice),
            Crash::TornUnit => wreck.lose(4096, true, &mut choice),
        }
        wreck.into_memory(random.next_u64())
    }

    pub(super) fn every_state_after(&self, unit: usize, max_bits: u32) -> Option<Vec<Memory>> {
        let max = 1_usize.checked_shl(max_bits)?;
        // Each state costs a copy of everything.
        if Wreck::of(self).states_at_least(unit) > max {
            return None;
        }
        let mut choice = InTurn::default();
        let mut states = Vec::new();
        loop {
            let mut wreck = Wreck::of(self);
            wreck.lose(unit, false, &mut choice);
            if states.len() == max {
                return None;
            }
            states.push(wreck.into_memory(states.len() as u64));
            if !choice.turn() {
                return Some(states);
            }
        }
    }
}

/// The content of the space of a lost write beyond the old end of its file.
enum Filling<'a> {
    Zeros,
    Noise,
    /// The bytes of a removed file at the same positions.
    Leftover(&'a [u8]),
}

impl Filling<'_> {
    fn byte(&self, position: usize) -> u8 {
        match self {
            Self::Zeros => 0,
            Self::Noise => {
                (position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0] | 1
            }
            Self::Leftover(bytes) => bytes.get(position).copied().unwrap_or_default(),
        }
    }
}

/// Returns the bytes of one file after a power loss.
fn survivors(
    history: &History,
    unit: usize,
    torn: bool,
    leftovers: &[Arc<[u8]>],
    choice: &mut dyn Choose,
) -> Vec<u8> {
    if history.pending.is_empty() {
        return history.durable.clone();
    }
    let (lens, extent) = lengths(history);
    let len = lens[choice.choose(lens.len())];
    let touched = touched_units(history, unit, extent);
    let torn_unit = if torn { choice.choose(touched.len().max(1)) } else { usize::MAX };
    let mut bytes = history.durable.clone();
    bytes.resize(extent, 0);
    let mut filling = None;
    for (index, (start, changes)) in touched.iter().enumerate() {
        let end = (start + unit).min(extent);
        let kept = choice.choose(changes.len() + 1);
        let before = apply(&history.durable, &changes[..kept.saturating_sub(1)], *start, end);
        let mut now = apply(&history.durable, &changes[..kept], *start, end);
        if index == torn_unit {
            let at = choice.choose(now.len() + 1);
            now[at..].copy_from_slice(&before[at..]);
        }
        // Only lost ranges inside the file can show what was on the device before.
        for lost in lost_ranges(&changes[kept..], history.durable.len(), *start, end.min(len)) {
            let filling = filling.get_or_insert_with(|| match choice.choose(2 + leftovers.len()) {
                0 => Filling::Zeros,
                1 => Filling::Noise,
                other => Filling::Leftover(&leftovers[other - 2]),
            });
            for position in lost {
                if !covered(&changes[..kept], position) {
                    now[position - start] = filling.byte(position);
                }
            }
        }
        bytes[*start..end].copy_from_slice(&now);
    }
    bytes.truncate(len);
    bytes.resize(len, 0);
    bytes
}

/// Returns every length that the file had since it was durable, and the largest of them.
fn lengths(history: &History) -> (Vec<usize>, usize) {
    let mut len = history.durable.len();
    let mut lens = vec![len];
    let mut extent = len;
    for change in &history.pending {
        len = match change {
            Change::Write { position, bytes, .. } => len.max(position + bytes.len()),
            Change::Resize(len) => *len,
        };
        if lens.last() != Some(&len) {
            lens.push(len);
        }
        extent = extent.max(len);
    }
    (lens, extent)
}

/// Returns the units that pending changes touch, each with its start and its changes in order.
fn touched_units(history: &History, unit: usize, extent: usize) -> Vec<(usize, Vec<&Change>)> {
    let mut units: HashMap<usize, Vec<&Change>> = HashMap::new();
    let mut len = history.durable.len();
    for change in &history.pending {
        // Shrinking changes the units that it cuts. Growing changes no byte.
        let (from, to) = match change {
            Change::Write { position, bytes, .. } => (*position, position + bytes.len()),
            Change::Resize(new) => (*new, len),
        };
        len = match change {
            Change::Write { .. } => len.max(to),
            Change::Resize(new) => *new,
        };
        if from < to {
            for index in from / unit..=(to - 1) / unit {
                units.entry(index).or_default().push(change);
            }
        }
    }
    let mut units: Vec<_> = units
        .into_iter()
        .map(|(index, changes)| (index * unit, changes))
        .filter(|(start, _)| *start < extent)
        .collect();
    units.sort_unstable_by_key(|(start, _)| *start);
    units
}

/// Returns the durable bytes of a range with some changes applied.
fn apply(durable: &[u8], changes: &[&Change], start: usize, end: usize) -> Vec<u8> {
    let mut now: Vec<u8> =
        (start..end).map(|position| durable.get(position).copied().unwrap_or_default()).collect();
    for change in changes {
        match change {
            Change::Write { position, bytes, .. } => {
                let from = start.max(*position);
                let to = end.min(position + bytes.len());
                if from < to {
                    now[from - start..to - start]
                        .copy_from_slice(&bytes[from - position..to - position]);
                }
            }
            Change::Resize(len) => {
                let from = start.max(*len).min(end);
                now[from - start..].fill(0);
            }
        }
    }
    now
}

/// Returns the parts of lost writes between `start` and `end` that lie beyond the durable bytes.
fn lost_ranges<'a>(
    lost: &'a [&'a Change],
    durable_len: usize,
    start: usize,
    end: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
    lost.iter().filter_map(move |change| match change {
        Change::Write { position, bytes, .. } => {
            let from = start.max(*position).max(durable_len);
            let to = end.min(position + bytes.len());
            (from < to).then_some(from..to)
        }
        Change::Resize(_) => None,
    })
}

fn covered(kept: &[&Change], at: usize) -> bool {
    kept.iter().any(|change| match change {
        Change::Write { position, bytes, .. } => (*position..position + bytes.len()).contains(&at),
        Change::Resize(_) => false,
    })
}
