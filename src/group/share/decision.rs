//! What was decided and not yet done.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::reason::Reason;
use super::run::Span;
use super::section::{Item, Section, To};

/// Why a record becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A handler rejected it.
    Rejected,
    /// Its last attempt ended.
    Limit,
}

impl Cause {
    /// Returns the text of Kafka's header `__dlq.errors.message`.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Rejected => "client rejected",
            Self::Limit => "delivery count exceeded",
        }
    }
}

/// Records that become dead letters, if the group has a topic for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// Their offsets.
    pub(crate) span: Span,
    /// The attempts.
    pub(crate) count: u16,
    /// Why.
    pub(crate) cause: Cause,
    /// How the attempt before the last one ended.
    pub(crate) before: Reason,
}

/// What was decided. Journal the section with the dead letters in one frame, then apply it.
///
/// Keep it and use it again: cleared, it needs no new memory. Several calls may decide into the same one, as long as
/// they are about different records.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// The changes.
    pub(crate) section: Section,
    /// The dead letters that belong to them.
    pub(crate) letters: Vec<DeadLetter>,
    /// The most records that become dead letters, unless they belong to one request of a member. What is left has its
    /// turn in the next decision.
    pub(crate) most_letters: u64,
}

impl Default for Decision {
    fn default() -> Self {
        Self { section: Section::default(), letters: Vec::new(), most_letters: u64::MAX }
    }
}

impl Decision {
    /// Returns how many more records may become dead letters.
    pub(super) fn room(&self) -> u64 {
        let taken = self.letters.iter().map(|letter| letter.span.len());
        self.most_letters.saturating_sub(taken.fold(0, u64::saturating_add))
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.section.clear();
        self.letters.clear();
    }

    /// Keeps only what may happen although it cannot be journaled (H8): records become available again. What is final
    /// waits for a journal that works, and so do dead letters. Nothing is delayed: the start of the window could pass
    /// what is parked, and fall back after a crash. Use it for the end of locks and sessions.
    pub(crate) fn keep_unstored(&mut self) {
        self.section.retain_mut(|item| {
            let Item::Set(_, to) = item else { return false };
            if let To::Delayed { count, reason, .. } = *to {
                *to = To::Available { count, reason };
            }
            matches!(to, To::Available { .. })
        });
        self.letters.clear();
    }
}
