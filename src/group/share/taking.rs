//! What a member asks for and gets, and where a fetch is while it hands out.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::partition::Now;
use super::reason::Reason;
use super::run::{MemberNumber, Span};
use super::section::{Item, Section};
use crate::types::planted;

/// Who wants records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    /// The member.
    pub(crate) member: MemberNumber,
    /// How many records it wants.
    pub(crate) max: u32,
    /// How many changes may be noticed, at least 1.
    pub(crate) changes: usize,
    /// The present time.
    pub(crate) now: Now,
}

/// Records of one delivery count that were reserved for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Their offsets.
    pub(crate) span: Span,
    /// The delivery count that they have once they are started.
    pub(crate) count: u16,
    /// How the attempt before ended.
    pub(crate) reason: Reason,
}

/// What a member got. Keep it and use it again: cleared, it needs no new memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservation {
    /// What was reserved, in the order in which it was found.
    pub(crate) deliveries: Vec<Delivery>,
    /// What is to be journaled and applied: nothing, unless the log has holes, markers or records for later.
    pub(crate) noticed: Section,
}

impl Reservation {
    /// Empties it.
    #[cfg(test)]
    pub(crate) fn clear(&mut self) {
        self.deliveries.clear();
        self.noticed.clear();
    }
}

/// A fetch that hands out.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    pub(super) member: MemberNumber,
    pub(super) lock_end: u64,
    pub(super) wall: i64,
    /// How many more records it may take.
    pub(super) left: u64,
    pub(super) taken: u64,
    /// How many more changes may be noticed.
    pub(super) changes: usize,
    /// Where the window begins once what was noticed is applied.
    pub(super) start: i64,
    pub(super) out: &'a mut Reservation,
}

/// The batch that is handed out.
#[derive(Debug)]
pub(super) struct InBatch {
    /// How many of its records may be taken.
    pub(super) budget: u64,
    /// Whether a part of it has come into the window: then the rest follows, whether or not there is room.
    pub(super) entered: bool,
    /// Whether it is handed out with care.
    pub(super) careful: bool,
}

impl Taking<'_> {
    /// Notices a change. Returns false if there may be no more of them. A later fetch notices it then.
    pub(super) fn notice(&mut self, item: Item) -> bool {
        // Counted before they are merged: readers limit the delayed records of a section.
        let left = self.changes.checked_sub(1);
        if left.is_none() && !planted("share_notices_any_number") {
            return false;
        }
        self.changes = left.unwrap_or(0);
        self.out.noticed.push(item);
        true
    }

    /// Moves the start that counts over offsets that will not hold it up.
    pub(super) fn pass(&mut self, span: Span) {
        if span.first <= self.start && self.start <= span.last {
            self.start = span.last.saturating_add(1);
        }
    }
}
