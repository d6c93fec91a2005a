//! What a watcher knows of a record.

use std::time::Duration;

use super::super::MemberNumber;

/// How a record was finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Accepted,
    /// Rejected, or at the limit: with a dead letter.
    Dead,
    /// Cancelled, a gap, or nothing to deliver.
    Dropped,
    /// The log start has passed it, or it lies before the group's start.
    Gone,
}

/// A started record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) member: MemberNumber,
    pub(super) delivery: u16,
    pub(super) lock_end: Duration,
}

#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(super) struct Truth {
    /// Nothing to deliver: a marker, or compacted.
    pub(super) is_nothing: bool,
    pub(super) key: Option<u64>,
    pub(super) deliver_at: Option<i64>,
    pub(super) finish: Option<Finish>,
    pub(super) attempts: u16,
    pub(super) hold: Option<Hold>,
    pub(super) reserved: Option<(MemberNumber, Duration)>,
    /// Not to be handed out before.
    pub(super) due: i64,
    pub(super) letters: u32,
    /// Whether a fetch has found that the time of its delivery has come.
    pub(super) has_come: bool,
    /// Whether it was ever handed out.
    pub(super) touched: bool,
    /// Whether its last attempt ended without a frame, so that a crash takes it back (H8).
    pub(super) unstored: bool,
    /// How often an operator has released it. Each time, it may be tried once more.
    pub(super) by_hand: u16,
}

impl Truth {
    pub(super) fn finish(&mut self, how: Finish, offset: i64) {
        assert!(
            self.finish.is_none(),
            "rule 1: record {offset} is finished twice: {self:?}, {how:?}"
        );
        self.finish = Some(how);
        self.hold = None;
        self.reserved = None;
    }
}
