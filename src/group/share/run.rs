//! A run of offsets that agree in all that is known of them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::reason::Reason;

/// A member of the group, by the number that the caller gave it. Numbers are not used again while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberNumber(pub(crate) u32);

impl MemberNumber {
    /// Owns what a process before this one had acquired.
    pub(crate) const NOBODY: Self = Self(0);
}

/// The state of a record, Kafka's `RecordState` seen from this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// May be handed out.
    Available = 0,
    /// As Available, but an earlier record of its key comes first.
    Blocked = 1,
    /// Handed to a member that has not begun with it. Only memory knows.
    Reserved = 2,
    /// A handler has it.
    Acquired = 3,
    /// Accepted. Final.
    Acknowledged = 4,
    /// Given up, or nothing to deliver. Final.
    Archived = 5,
    /// Waits for a time, outside of the window.
    Parked = 6,
}

/// The number of states.
pub(super) const STATES: usize = 7;

impl State {
    /// Returns whether the record is done with.
    pub(crate) const fn is_finished(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }

    /// Returns whether a member holds the record.
    pub(crate) const fn is_held(self) -> bool {
        matches!(self, Self::Reserved | Self::Acquired)
    }

    /// Returns whether the record waits in the window to be handed out.
    pub(crate) const fn is_waiting(self) -> bool {
        matches!(self, Self::Available | Self::Blocked)
    }

    /// Returns whether the start of the window may pass the record (H2).
    pub(super) const fn lets_pass(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived | Self::Parked)
    }
}

/// Offsets from `first` to `last`, both included. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first offset.
    pub(crate) first: i64,
    /// The last offset.
    pub(crate) last: i64,
}

impl Span {
    /// Returns the span, or `None` if it is empty.
    pub(crate) fn new(first: i64, last: i64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Returns the number of offsets.
    pub(crate) const fn len(self) -> u64 {
        self.last.abs_diff(self.first).saturating_add(1)
    }

    /// Returns what both have.
    pub(crate) fn meet(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// Returns the part from this offset on.
    pub(crate) fn from(self, first: i64) -> Option<Self> {
        Self::new(self.first.max(first), self.last)
    }

    /// Returns the part below this offset.
    pub(crate) fn below(self, end: i64) -> Option<Self> {
        Self::new(self.first, self.last.min(end.saturating_sub(1)))
    }

    /// Returns the first `len` offsets, or all; `None` if `len` is 0.
    pub(super) fn prefix(self, len: u64) -> Option<Self> {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        self.below(self.first.saturating_add(len))
    }
}

/// What is known of each offset of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// When the lock ends, in microseconds of the monotonic clock; 0 if nobody holds the record.
    pub(super) lock_end: u64,
    /// Who holds it.
    pub(super) owner: MemberNumber,
    /// The attempts so far, the present one included.
    pub(super) count: u16,
    /// The state.
    pub(super) state: State,
    /// How the attempt before ended.
    pub(super) reason: Reason,
}

impl Content {
    /// Returns the content of a record that nobody holds.
    pub(super) const fn free(state: State, count: u16, reason: Reason) -> Self {
        Self { lock_end: 0, owner: MemberNumber::NOBODY, count, state, reason }
    }

    /// Returns the content of a record that nobody has read yet.
    pub(super) const fn fresh() -> Self {
        Self::free(State::Available, 0, Reason::NONE)
    }

    /// Returns whether the record is held and its lock has ended.
    pub(super) const fn has_ended(&self, now: u64) -> bool {
        self.state.is_held() && self.lock_end <= now
    }
}

/// A run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it is.
    pub(super) span: Span,
    /// What is known of its offsets.
    pub(super) content: Content,
}
