//! Small value types that several modules share. No files, no clock, no locks.
//!
//! Imported by `sync`, `error`, `time`, `record`, `storage`, `config`, `segment`, `cleaner`, `journal`, `log`, `dedup`,
//! `group`, `engine`, `producer`, `consumer`, `share`, `transaction`, `redrive`, `broker` and `internal`.

mod assignor;
mod backoff;
mod lsn;
mod membership;
mod name;
mod offset_reset;
mod panic_watch;
mod planted;
mod share;
mod timestamp;
mod topic_id;
mod topic_partition;

pub use assignor::{Assignment, Assignor, GroupSubscription, MemberSubscription};
pub use backoff::Backoff;
pub(crate) use lsn::Lsn;
pub use membership::GroupMembershipOperation;
pub use name::NameReason;
pub(crate) use name::{check_group_name, check_topic_name, fold};
pub use offset_reset::OffsetReset;
pub(crate) use panic_watch::PanicWatch;
pub(crate) use planted::planted;
pub(crate) use share::{AcquireMode, ShareOrdering};
pub use timestamp::{Timestamp, TimestampType};
pub use topic_id::TopicId;
pub use topic_partition::TopicPartition;

/// The number of a partition inside the engine: assigned at creation, never reused in a folder.
///
/// The journal names partitions by it. So a topic that is deleted and created again under its old
/// name never receives the records of the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartitionNumber(pub(crate) u32);

/// The number under which a writer appends the records of a partition, new with each open of the
/// folder.
///
/// Starts at 0 and rises by one with every writer that opens the folder. Kafka calls it the leader
/// epoch (KIP-101, KIP-320).
pub(crate) type Epoch = i32;
