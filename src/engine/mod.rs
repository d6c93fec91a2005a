//! The engine: an open folder and all operations on it.
//!
//! State is below, verbs are above. The state is `state::Engine` and its parts: `registry`, `catalogue`,
//! `groups`, `shares`, `reserve`, `writer`, `background`, `cleaner`, `dropper`. The verbs are `impl Engine` blocks in files of their own,
//! such as `recovery`, `checkpoint`, `maintenance`, `verify` and `inspect`.
//!
//! Imported by `producer`, `consumer`, `share`, `transaction`, `redrive`, `broker` and `internal`, of which the engine
//! imports none.

mod age_clock;
mod append;
mod apply;
mod background;
mod budget;
mod catalogue;
mod checkpoint;
mod cleaner;
mod close;
mod codec;
mod compaction_report;
mod describe;
mod dropper;
mod event;
mod files;
mod frame;
mod groups;
mod handle;
mod health;
mod ids;
mod image;
mod inspect;
#[cfg(test)]
mod kafka_folder;
mod maintenance;
mod owners;
mod records;
mod recovery;
mod registry;
mod report;
mod reserve;
mod retention_report;
mod shares;
mod snapshot;
mod spread;
mod state;
mod topics;
mod troubles;
mod usage;
mod verify;
mod writer;

pub use compaction_report::{CompactionTotals, NotCompacted, PartitionCompaction};
pub(crate) use event::Event;
pub(crate) use frame::{
    Appended, Committer, ExpectedOffset, Frame, FrameContents, FrameOffsets, FrameRecord,
    FrameRecords, FrameSize,
};
pub use groups::reset::{OffsetScope, ResetOffset, ResetTo};
pub use groups::summary::{GroupOffset, GroupSummary, MemberSummary};
pub(crate) use groups::{GroupHandle, MemberSignal, assignor};
pub(crate) use handle::EngineHandle;
pub use health::{Health, HealthStatus, Problem};
#[cfg(feature = "__internal")]
pub(crate) use image::CheckpointImage;
pub use inspect::{Entry, EntryValue};
#[cfg(test)]
pub(crate) use kafka_folder::{KafkaSegment, bring_in};
pub(crate) use owners::OwnerClaim;
pub use owners::OwnerSummary;
pub(crate) use recovery::open;
pub(crate) use registry::{Registry, Topic};
pub use report::{
    DamagedPartition, Deleted, PartitionDescription, RecoveryReport, Retained, TopicDescription,
};
pub use retention_report::{NotDeleted, PartitionRetention};
pub(crate) use shares::{
    CopiedRecord, Origin, Said, ShareClaim, ShareGroup, ShareLimits, SharePart, ShareProgress,
    ShareWork, TakenRecords, Word, copy_record, copy_records,
};
pub use shares::{RecordUnderWay, ShareGroupSummary, SharePartitionSummary};
pub(crate) use snapshot::Snapshot;
pub(crate) use state::Engine;
pub use usage::{BudgetUsage, DiskUsage};
pub use verify::{Finding, FindingKind, Verify, VerifyReport};
