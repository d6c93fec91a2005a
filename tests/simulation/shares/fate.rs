//! What can be known of a job, and what a crash shows of it.

use std::collections::BTreeMap;

use crate::oracle::Place;

/// A job. No two have the same number.
pub(super) type Number = u64;

/// What was sent.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    /// The time before which it is not delivered, in ms, if it has one.
    pub(super) deliver_at: Option<i64>,
}

/// What became of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Whether its record is in the log.
    pub(super) is_there: bool,
    pub(super) groups: [Standing; 2],
}

/// What became of a job in one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// How often it was delivered. `None` if it has ended or is gone.
    pub(super) open: Option<u16>,
    pub(super) letters: Vec<Letter>,
    /// How many results transactions have made of it.
    pub(super) results: usize,
    /// The time before which it does not come again, in ms, and the time at which it does. They differ after a crash, which
    /// does not show them.
    pub(super) due: i64,
    pub(super) until: i64,
    /// Whether a look at its lock may have given it up, in a group without dead letters.
    pub(super) may_have_ended: bool,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Letter {
    pub(super) count: u16,
    pub(super) message: String,
}

/// The message of a letter whose job is out of tries.
pub(super) const OUT_OF_TRIES: &str = "delivery count exceeded";

impl Standing {
    fn is(&self, seen: &Self) -> bool {
        let is_open = self.open == seen.open || self.may_have_ended && seen.open.is_none();
        is_open && (&self.letters, self.results) == (&seen.letters, seen.results)
    }
}

impl Fate {
    /// Returns the fate of a job that was sent.
    pub(super) fn sent() -> Self {
        let open = || Standing { open: Some(0), ..Standing::default() };
        Self { is_there: true, groups: [open(), open()] }
    }

    /// Returns whether this is what was seen.
    pub(super) fn is(&self, seen: &Self) -> bool {
        self.is_there == seen.is_there
            && self.groups.iter().zip(&seen.groups).all(|(known, seen)| known.is(seen))
    }

    /// Returns the same, but its record is gone. Letters and results stay.
    pub(super) fn gone(&self) -> Self {
        let mut gone = Self { is_there: false, ..self.clone() };
        gone.groups.iter_mut().for_each(|standing| standing.open = None);
        gone
    }

    /// Returns the same with another standing in one group.
    pub(super) fn with(&self, group: usize, change: impl FnOnce(&mut Standing)) -> Self {
        let mut fate = self.clone();
        change(&mut fate.groups[group]);
        fate
    }

    /// Returns the same as it is when the group's next attempt begins anew: `None` if it has ended.
    pub(super) fn open_at(&self, group: usize, open: Option<u16>) -> Self {
        self.with(group, |standing| {
            (standing.open, standing.due, standing.until) = (open, 0, 0);
            standing.may_have_ended = false;
        })
    }

    /// Returns the same as it is when the job comes again at a time.
    pub(super) fn open_later(&self, group: usize, count: u16, due: i64) -> Self {
        let fate = self.open_at(group, Some(count));
        fate.with(group, |standing| (standing.due, standing.until) = (due, due))
    }
}

/// The fates of all jobs. Of those that are not here there is nothing.
pub(super) type Fates = BTreeMap<Number, Fate>;
