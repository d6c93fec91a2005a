//! Records that wait for a time outside of the window.
//!
//! * **P1** `by_due` has each record once, except those that wait for another record of their key.
//! * **P2** A million records take less than 128 MB, and the next one that is due is found in O(log n).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::reason::Reason;
use super::run::Span;
use crate::types::planted;

/// A record that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    /// From when on it may be handed out, in milliseconds since 1970; 0 = at once.
    pub(super) due: i64,
    /// The attempts so far.
    pub(super) count: u16,
    /// Why it waits.
    pub(super) reason: Reason,
    /// Whether it waits for another record of its key, whatever its time.
    pub(super) blocked: bool,
}

/// The records that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parked {
    delays: BTreeMap<i64, Delay>,
    by_due: BTreeSet<(i64, i64)>,
    /// The hashes of the keys, where known.
    keys: BTreeMap<i64, u64>,
}

impl Parked {
    /// Creates it from an ascending list.
    pub(super) fn from_ascending(delays: Vec<(i64, Delay)>, keys: Vec<(i64, u64)>) -> Self {
        Self {
            by_due: delays.iter().map(|(offset, delay)| (delay.due, *offset)).collect(),
            delays: delays.into_iter().collect(),
            keys: keys.into_iter().collect(),
        }
    }

    pub(super) fn insert(&mut self, offset: i64, delay: Delay, key: Option<u64>) {
        if let Some(old) = self.delays.insert(offset, delay)
            && !old.blocked
        {
            self.by_due.remove(&(old.due, offset));
        }
        if !delay.blocked {
            self.by_due.insert((delay.due, offset));
        }
        match key {
            Some(key) => drop(self.keys.insert(offset, key)),
            None if self.keys.is_empty() => {}
            None => drop(self.keys.remove(&offset)),
        }
    }

    pub(super) fn remove(&mut self, offset: i64) -> Option<Delay> {
        let delay = self.delays.remove(&offset)?;
        if !delay.blocked {
            self.by_due.remove(&(delay.due, offset));
        }
        if !self.keys.is_empty() {
            self.keys.remove(&offset);
        }
        Some(delay)
    }

    /// Removes all records of a span.
    pub(super) fn remove_all(&mut self, span: Span) {
        while let Some((&offset, _)) = self.delays.range(span.first..=span.last).next() {
            self.remove(offset);
        }
    }

    /// Lets a record wait for another one of its key, or ends that.
    pub(super) fn set_blocked(&mut self, offset: i64, blocked: bool) {
        let Some(delay) = self.delays.get_mut(&offset) else { return };
        delay.blocked = blocked;
        if blocked {
            self.by_due.remove(&(delay.due, offset));
        } else {
            self.by_due.insert((delay.due, offset));
        }
    }

    pub(super) fn get(&self, offset: i64) -> Option<&Delay> {
        self.delays.get(&offset)
    }

    pub(super) fn key(&self, offset: i64) -> Option<u64> {
        self.keys.get(&offset).copied()
    }

    /// Returns the record that is due first, as time and offset.
    pub(super) fn first_due(&self) -> Option<(i64, i64)> {
        self.by_due.first().copied()
    }

    /// Returns the records that are due at a time, in the order in which they became so.
    pub(super) fn due(&self, now: i64) -> impl Iterator<Item = i64> {
        self.by_due.range(..=(now, i64::MAX)).map(|(_, offset)| *offset)
    }

    /// Returns the first record of a span that is due.
    pub(super) fn due_in(&self, span: Span, now: i64) -> Option<(i64, &Delay)> {
        self.in_span(span).find(|(_, delay)| {
            !delay.blocked && (delay.due <= now || planted("share_time_ignored"))
        })
    }

    pub(super) fn in_span(&self, span: Span) -> impl Iterator<Item = (i64, &Delay)> {
        self.delays.range(span.first..=span.last).map(|(offset, delay)| (*offset, delay))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Delay)> {
        self.delays.iter().map(|(offset, delay)| (*offset, delay))
    }

    pub(super) fn len(&self) -> usize {
        self.delays.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delays.is_empty()
    }
}
