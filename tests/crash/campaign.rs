//! The campaign crashes every script at every call that changes files, in every way. It recovers
//! what each crash left, crashes during that recovery, and recovers again.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use grouplog::JournalMode;
use grouplog::storage::Memory;
use grouplog::time::{Random, SeededRandom};

use crate::check::verify;
use crate::folder;
use crate::kinds::{Kind, Point};
use crate::life::{End, Life, Setup};
use crate::oracle::{History, State};
use crate::script::{Script, Step};

/// How much of everything the campaign tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Crashes at one of this many calls of the first life.
    pub(crate) stride: u64,
    /// The number of seeds for each kind of crash that uses one. With 0 the kinds take turns.
    pub(crate) seeds: u64,
    /// The largest number of states to enumerate, as a power of two. With 0 none are.
    pub(crate) state_bits: u32,
    /// Whether to crash the opening after each kill at every call.
    pub(crate) recoveries: bool,
    /// The maximum number of crashes in a row.
    pub(crate) depth: usize,
    /// One of this many crashed states is crashed again in its next life ...
    pub(crate) deeper_stride: u64,
    /// ... at this many of its calls.
    pub(crate) deeper_points: u64,
}

impl Plan {
    const SHORT: Self = Self {
        stride: 1,
        seeds: 0,
        state_bits: 0,
        recoveries: false,
        depth: 3,
        deeper_stride: 41,
        deeper_points: 3,
    };
    const FULL: Self = Self {
        stride: 1,
        seeds: 8,
        state_bits: STATE_BITS,
        recoveries: false,
        depth: 3,
        deeper_stride: 97,
        deeper_points: u64::MAX,
    };

    /// Returns the short plan, or the long one with `GROUPLOG_CRASH=full`. Of short scripts all
    /// states are always tried.
    pub(crate) fn from_env(script: &Script) -> Self {
        if Self::is_full() {
            return Self { recoveries: script.is_short, ..Self::FULL };
        }
        let state_bits = if script.is_short { STATE_BITS } else { 0 };
        let recoveries = script.is_short && script.steps.len() <= FEW_STEPS;
        Self { state_bits, recoveries, ..Self::SHORT }
    }

    /// Returns the plan for scripts that run many times, each with another thread stopped at
    /// another place.
    pub(crate) fn beside_from_env() -> Self {
        if Self::is_full() {
            Self { depth: 1, ..Self::FULL }
        } else {
            Self { stride: 19, depth: 1, ..Self::SHORT }
        }
    }

    /// Returns whether to try everything.
    pub(crate) fn is_full() -> bool {
        std::env::var("GROUPLOG_CRASH").is_ok_and(|wanted| wanted == "full")
    }

    /// A checkpoint is stopped at one of this many possible calls.
    pub(crate) fn pauses_from_env() -> usize {
        if Self::is_full() { 1 } else { 2 }
    }
}

/// Up to this many states at one call, as a power of two, all of them are tried.
const STATE_BITS: u32 = 8;

/// Up to this many steps, the short plan crashes openings too.
const FEW_STEPS: usize = 5;

/// Counts for the log of the run.
#[derive(Debug, Default)]
struct Tally {
    states: [u64; 4],
    known: u64,
    /// The calls at which the first life was crashed, and how many of them in all ways.
    calls: u64,
    exhausted: u64,
}

/// One script in one mode.
pub(crate) struct Campaign<'a> {
    script: &'a Script,
    setup: Setup,
    plan: Plan,
    random: SeededRandom,
    tally: Tally,
    /// Verified states after power loss, and how many changes each contains.
    verified: HashMap<u64, (usize, State)>,
}

/// The beginning of a life: what a crash left, and what is known about it.
struct Start {
    memory: Memory,
    history: History,
    promised: usize,
}

impl Start {
    fn new(script: &Script) -> Self {
        Self { memory: script.storage(1), history: History::default(), promised: 0 }
    }
}

impl<'a> Campaign<'a> {
    pub(crate) fn new(script: &'a Script, mode: JournalMode, plan: Plan) -> Self {
        let random = SeededRandom::new(crc32fast::hash(script.name.as_bytes()).into());
        let setup = Setup {
            mode,
            files: script.journal_files,
            stored_from: script.stored_from,
            budget: script.budget,
        };
        let (tally, verified) = (Tally::default(), HashMap::new());
        Self { script, setup, plan, random, tally, verified }
    }

    /// Runs all of it.
    ///
    /// # Panics
    /// Panics at the first state that breaks a promise, with everything necessary to repeat it.
    pub(crate) fn run(&mut self) {
        let script = self.script;
        self.explore(&mut Vec::new(), &|| Start::new(script));
        if self.plan.recoveries {
            self.crash_recoveries();
        }
        let Tally { states, known, calls, exhausted } = &self.tally;
        println!(
            "{} {:?}: states by depth {states:?}, {known} more known; all states at {exhausted} of {calls} calls",
            self.script.name, self.setup.mode
        );
    }

    /// Fails the power at each call of the opening after each kill. What a kill leaves may be only
    /// in the system's cache, and recovery relies on what it reads.
    fn crash_recoveries(&mut self) {
        let (whole, _) = self.live(&Start::new(self.script), 0, None, &[]);
        for op in 1..=whole.ops() {
            let (end, history) = self.live(&Start::new(self.script), 0, Some(op), &[]);
            let killed = Point { op, kind: Kind::Kill(self.random.next_u64() % 1_000) };
            let found = self.judge(killed.kind, None, &end, &history, &[killed]);
            let start = || Self::after(killed.kind, &end, history.clone(), found);
            for op in 1..=self.opening(start()) {
                let (end, history) = self.live(&start(), 1, Some(op), &[killed]);
                for kind in [Kind::LoseAll, Kind::Torn(self.random.next_u64() % 1_000)] {
                    self.judge(kind, None, &end, &history, &[killed, Point { op, kind }]);
                }
            }
        }
    }

    /// Returns how many calls opening takes.
    fn opening(&self, start: Start) -> u64 {
        let Start { memory, mut history, promised } = start;
        if let Err(end) = Life::begin(&memory, self.setup, &mut history, promised, 1) {
            self.fail(&[], None, &format!("an opening that was verified ends as {end:?}"));
        }
        memory.ops()
    }

    /// Repeats the crashes of a failure.
    pub(crate) fn replay(&mut self, path: &[Point]) {
        let mut start = Start::new(self.script);
        for (depth, point) in path.iter().enumerate() {
            let (end, history) = self.live(&start, depth, Some(point.op), path);
            let state = point.kind.of(&end);
            let promised = history.promised(point.kind.is_power_loss());
            let found = self.hold(&state, &history, promised, &path[..=depth]);
            start = Self::after(point.kind, &end, history, found);
        }
    }

    fn explore(&mut self, path: &mut Vec<Point>, start: &dyn Fn() -> Start) {
        let depth = path.len();
        let (whole, _) = self.live(&start(), depth, None, path);
        for op in self.points(depth, whole.ops()) {
            let (end, history) = self.live(&start(), depth, Some(op), path);
            for (kind, state) in self.outcomes(&end, depth) {
                path.push(Point { op, kind });
                let found = self.judge(kind, state, &end, &history, path);
                let again = self.random.next_u64().is_multiple_of(self.plan.deeper_stride);
                if path.len() < self.plan.depth && (depth > 0 || again) {
                    self.explore(path, &|| Self::after(kind, &end, history.clone(), found));
                }
                path.pop();
            }
        }
    }

    fn after(kind: Kind, end: &Memory, mut history: History, found: usize) -> Start {
        history.found(found, kind.is_power_loss());
        Start { memory: kind.of(end), history, promised: found }
    }

    /// Returns the calls at which to crash the life: all of the first one, some of those after a
    /// crash.
    fn points(&self, depth: usize, ops: u64) -> Vec<u64> {
        if depth == 0 {
            let first = 1 + self.random.next_u64() % self.plan.stride;
            return (first..=ops).step_by(self.plan.stride as usize).collect();
        }
        let count = if depth == 1 { self.plan.deeper_points } else { 1 };
        if count >= ops {
            return (1..=ops).collect();
        }
        (0..count).map(|_| 1 + self.random.next_u64() % ops.max(1)).collect()
    }

    /// Returns the ways in which to crash the life, with the states that are already known.
    fn outcomes(&mut self, end: &Memory, depth: usize) -> Vec<(Kind, Option<Memory>)> {
        let mut outcomes: Vec<_> =
            self.kinds(end, depth).into_iter().map(|kind| (kind, None)).collect();
        if depth == 0 {
            self.tally.calls += 1;
            let bits = Some(self.plan.state_bits).filter(|bits| *bits > 0);
            if let Some(states) = bits.and_then(|bits| end.crash_states(512, bits)) {
                self.tally.exhausted += 1;
                outcomes.retain(|(kind, _)| !kind.is_sampled());
                let numbered = states.into_iter().enumerate();
                outcomes.extend(numbered.map(|(at, state)| (Kind::State(512, at), Some(state))));
            }
        }
        outcomes
    }

    fn kinds(&self, end: &Memory, depth: usize) -> Vec<Kind> {
        let seed = || self.random.next_u64() % 1_000;
        if depth > 0 {
            let unit = if seed() % 2 == 0 { 512 } else { 4096 };
            return match seed() % 4 {
                0 => vec![Kind::Kill(seed())],
                1 => vec![Kind::LoseAll],
                2 => vec![Kind::Torn(seed())],
                _ => vec![Kind::Subset(unit, seed())],
            };
        }
        if self.plan.seeds == 0 {
            let power_loss = match end.ops() % 5 {
                0 => Kind::LoseAll,
                1 => Kind::Subset(512, seed()),
                2 => Kind::Torn(seed()),
                3 => Kind::KeepAll,
                _ => Kind::Subset(4096, seed()),
            };
            return vec![Kind::Kill(seed()), power_loss];
        }
        let mut kinds = vec![Kind::Kill(seed()), Kind::LoseAll, Kind::KeepAll];
        for _ in 0..self.plan.seeds {
            let sampled = [Kind::Subset(512, seed()), Kind::Subset(4096, seed())];
            kinds.extend(sampled);
            kinds.extend([Kind::Torn(seed()), Kind::Kill(seed())]);
        }
        kinds
    }

    /// Runs one life, to its end or to the call at which it crashes.
    fn live(
        &self,
        start: &Start,
        depth: usize,
        crash_at: Option<u64>,
        path: &[Point],
    ) -> (Memory, History) {
        let Start { memory, history, promised } = start;
        let mut history = history.clone();
        if let Some(op) = crash_at {
            memory.crash_at(op);
        }
        let number = depth as u64;
        let end = match Life::begin(memory, self.setup, &mut history, *promised, number) {
            Err(end) => Err(end),
            Ok(mut life) => {
                let done = life.run(self.steps(depth, &life)).and_then(|()| life.close());
                history = life.history.clone();
                done
            }
        };
        match (end, crash_at) {
            (Err(End::Crash), Some(_)) | (Ok(()), None) => (memory.clone(), history),
            (Err(End::Violation(what)), _) => self.fail(path, crash_at, &what),
            (end, _) => self.fail(path, crash_at, &format!("ends as {end:?}: runs differ")),
        }
    }

    /// Returns the script's steps, or those after a crash if the crash left their topic.
    fn steps(&self, depth: usize, life: &Life) -> &'a [Step] {
        match depth {
            0 => &self.script.steps,
            _ if life.history.state().topics.contains_key("a") => &self.script.second,
            _ => &[],
        }
    }

    /// Verifies one state. Returns how many changes it contains.
    fn judge(
        &mut self,
        kind: Kind,
        state: Option<Memory>,
        end: &Memory,
        history: &History,
        path: &[Point],
    ) -> usize {
        let state = state.unwrap_or_else(|| kind.of(end));
        let promised = history.promised(kind.is_power_loss());
        // After a kill a state is more than its bytes: it includes which of them are synced.
        let print = kind.is_power_loss().then(|| fingerprint(&state));
        if let Some((found, seen)) = print.and_then(|print| self.verified.get(&print)) {
            self.tally.known += 1;
            // Another life may have come to the same bytes by other changes, and count them differently.
            let counts = (promised..=history.attempted()).contains(found);
            if counts && history.at(*found) == *seen {
                return *found;
            }
        }
        let found = self.hold(&state, history, promised, path);
        self.tally.states[path.len()] += 1;
        if let Some(print) = print {
            self.verified.insert(print, (found, history.at(found)));
        }
        found
    }

    fn hold(&self, state: &Memory, history: &History, promised: usize, path: &[Point]) -> usize {
        match verify(state, self.setup, history, promised) {
            Ok(found) => found,
            Err(what) => self.fail(path, None, &what),
        }
    }

    fn fail(&self, path: &[Point], at: Option<u64>, what: &str) -> ! {
        let mut way = format!("{} {:?}", self.script.name, self.setup.mode);
        for point in path {
            // Writing to a String cannot fail.
            let _ok = write!(way, " {point}");
        }
        let at = at.map_or(String::new(), |op| format!(" (in the life crashed at {op})"));
        panic!("{what}\n  way: {way}{at}\n  again: GROUPLOG_CRASH_REPLAY='{way}'");
    }
}

fn fingerprint(memory: &Memory) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (path, bytes) in folder::contents(memory) {
        (path, bytes.len()).hash(&mut hasher);
        // Most of a folder is zeros, and this takes most of the time for known states.
        let units = bytes.chunks(ZEROS.len()).enumerate();
        for (at, unit) in units.filter(|(_, unit)| **unit != ZEROS[..unit.len()]) {
            (at, unit).hash(&mut hasher);
        }
    }
    hasher.finish()
}

const ZEROS: [u8; 512] = [0; 512];
