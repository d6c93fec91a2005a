//! The ways in which a process or machine ends, each as one reproducible choice.

use std::fmt;
use std::str::FromStr;

use grouplog::storage::{Crash, Memory};
use grouplog::time::SeededRandom;

/// A crash with everything that decides what it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill(u64),
    LoseAll,
    KeepAll,
    Subset(usize, u64),
    Torn(u64),
    /// One of all possible states, for units of this many bytes.
    State(usize, usize),
}

/// Up to this many states are enumerated instead of sampled, as a power of two.
const STATES_MAX_BITS: u32 = 12;

impl Kind {
    pub(crate) fn is_power_loss(self) -> bool {
        !matches!(self, Self::Kill(_))
    }

    /// Returns whether it is a state after power loss that is chosen at random.
    pub(crate) fn is_sampled(self) -> bool {
        matches!(self, Self::Subset(..) | Self::LoseAll | Self::KeepAll)
    }

    /// Returns what it leaves.
    pub(crate) fn of(self, memory: &Memory) -> Memory {
        let by = |crash, seed| memory.crash(crash, &SeededRandom::new(seed));
        match self {
            Self::Kill(seed) => by(Crash::Kill, seed),
            Self::LoseAll => by(Crash::LoseAll, 0),
            Self::KeepAll => by(Crash::KeepAll, 0),
            Self::Subset(unit, seed) => by(Crash::Subset { unit }, seed),
            Self::Torn(seed) => by(Crash::TornUnit, seed),
            Self::State(unit, index) => memory
                .crash_states(unit, STATES_MAX_BITS)
                .and_then(|states| states.into_iter().nth(index))
                .expect("the script has changed: there is no such state"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(seed) => write!(f, "kill:{seed}"),
            Self::LoseAll => write!(f, "lose_all"),
            Self::KeepAll => write!(f, "keep_all"),
            Self::Subset(unit, seed) => write!(f, "subset:{unit}:{seed}"),
            Self::Torn(seed) => write!(f, "torn:{seed}"),
            Self::State(unit, index) => write!(f, "state:{unit}:{index}"),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match *parts.as_slice() {
            ["kill", seed] => Ok(Self::Kill(number(seed)?)),
            ["lose_all"] => Ok(Self::LoseAll),
            ["keep_all"] => Ok(Self::KeepAll),
            ["subset", unit, seed] => Ok(Self::Subset(number(unit)? as usize, number(seed)?)),
            ["torn", seed] => Ok(Self::Torn(number(seed)?)),
            ["state", unit, index] => {
                Ok(Self::State(number(unit)? as usize, number(index)? as usize))
            }
            _ => Err(format!("{text:?} is no kind of crash")),
        }
    }
}

/// A crash at the `op`-th change of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) op: u64,
    pub(crate) kind: Kind,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.kind, self.op)
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, op) = text.split_once('@').ok_or("a crash is written kind@op")?;
        let op = op.parse().map_err(|_| format!("{op:?} is no number"))?;
        Ok(Self { op, kind: kind.parse()? })
    }
}
