//! The actions of a life with share groups.

/// One step of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Send,
    SendSynced,
    /// Sends a job that is not to be delivered before some time has passed.
    SendDelayed,
    SendAll,
    Flush,
    CreateTopic,
    /// Deletes a topic of jobs, and may create it again at once.
    DeleteTopic,
    DeleteRecords,
    /// Retention deletes what the first group has ended.
    Retain,
    Checkpoint,
    /// Compares what the groups say of themselves.
    Look,
    /// Looks at what a crash would leave now.
    LookBehind,
    Join,
    Poll,
    /// Polls, and accepts all of it or drops the rest.
    PollAll,
    /// Says what became of a job.
    Say,
    Renew,
    Transact,
    /// A member closes, is dropped, or panics.
    Leave,
    /// A member keeps what it has and says nothing any more.
    Vanish,
    Tick,
    /// All locks run out.
    Stall,
    SetWallClock,
    Pause,
    Reset,
    DeleteGroup,
    /// An operator ends an attempt.
    ByHand,
    SetFault,
    SetCrash,
}

use Action::*;

/// All actions with their relative frequencies.
pub(super) const ALL: [(Action, u32); 29] = [
    (Send, 24),
    (SendSynced, 8),
    (SendDelayed, 8),
    (SendAll, 12),
    (Flush, 3),
    (CreateTopic, 4),
    (DeleteTopic, 1),
    (DeleteRecords, 2),
    (Retain, 8),
    (Checkpoint, 3),
    (Look, 3),
    (LookBehind, 2),
    (Join, 8),
    (Poll, 24),
    (PollAll, 4),
    (Say, 48),
    (Renew, 6),
    (Transact, 12),
    (Leave, 3),
    (Vanish, 2),
    (Tick, 14),
    (Stall, 4),
    (SetWallClock, 1),
    (Pause, 2),
    (Reset, 1),
    (DeleteGroup, 1),
    (ByHand, 2),
    (SetFault, 1),
    (SetCrash, 1),
];
