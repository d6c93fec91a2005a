//! The actions of a life.

/// One step of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Send,
    SendSynced,
    /// Waits for the oldest `Synced` record that has not been waited for.
    Wait,
    SendAll,
    Flush,
    CreateTopic,
    DeleteTopic,
    /// Deletes a topic and creates it again before any consumer polls.
    RecreateTopic,
    /// Deletes all records of a partition, or those below one of them.
    DeleteRecords,
    /// Retention deletes what the group [`READER`](crate::produce::READER) has read.
    Retain,
    /// Compacts what is compacted, on request or as part of all maintenance.
    Compact,
    /// A producer takes a name over.
    Own,
    /// Sends a record to a log end, which may be another one.
    SendAt,
    /// Sends a record with a sequence, which may be an old one.
    SendSequenced,
    /// Fills a transaction, and may end it.
    Transact,
    /// Ends a transaction that was left open.
    EndTransaction,
    Checkpoint,
    /// Reads everything and compares it.
    Look,
    /// Reads everything with a reader next to the writer.
    LookBeside,
    Subscribe,
    Assign,
    Poll,
    Commit,
    CommitOffsets,
    Seek,
    SeekToTimestamp,
    Pause,
    /// A consumer closes, is dropped, or panics.
    Leave,
    /// A member does not poll for longer than allowed, while the others do.
    Stall,
    /// A little time passes.
    Tick,
    /// The wall clock is set to another time.
    SetWallClock,
    FillDisk,
    FreeDisk,
    /// One of the next calls to the storage fails, once or from then on.
    SetFault,
    /// One of the next read-only calls fails, once or from then on.
    SetReadFault,
    Heal,
    /// The process or the machine ends at one of the next changes of files.
    SetCrash,
}

use Action::*;

/// All actions with their relative frequencies.
pub(crate) const ALL: [(Action, u32); 37] = [
    (Send, 40),
    (SendSynced, 12),
    (Wait, 6),
    (SendAll, 8),
    (Flush, 5),
    (CreateTopic, 4),
    (DeleteTopic, 2),
    (RecreateTopic, 2),
    (DeleteRecords, 4),
    (Retain, 4),
    (Compact, 6),
    (Own, 3),
    (SendAt, 3),
    (SendSequenced, 4),
    (Transact, 20),
    (EndTransaction, 8),
    (Checkpoint, 3),
    (Look, 2),
    (LookBeside, 1),
    (Subscribe, 6),
    (Assign, 2),
    (Poll, 40),
    (Commit, 10),
    (CommitOffsets, 4),
    (Seek, 3),
    (SeekToTimestamp, 2),
    (Pause, 2),
    (Leave, 3),
    (Stall, 2),
    (Tick, 6),
    (SetWallClock, 1),
    (FillDisk, 1),
    (FreeDisk, 2),
    (SetFault, 2),
    (SetReadFault, 2),
    (Heal, 4),
    (SetCrash, 1),
];
