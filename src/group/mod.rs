//! Consumer groups: which member reads which partition, and how far each group has read.
//!
//! Everything in this folder is pure: no files, no clock, no threads, no locks. The shell above
//! keeps a [`Group`] in a lock and passes the monotonic time in. It runs the assignor outside of
//! the lock, wakes the members named by [`Group::take_news`], and journals each [`OffsetCommit`]
//! before it applies it.
//!
//! Imported by `engine`, `consumer`, `share`, `transaction`, `broker` and `internal`.

#[expect(
    clippy::arithmetic_side_effects,
    reason = "indexes and counts of members and partitions that are in memory"
)]
mod assignor;
mod coordinator;
mod describe;
mod expiry;
mod image_header;
mod member;
mod offset_image;
mod offset_section;
mod offsets;
mod partition_map;
pub(crate) mod share;
mod silence;
mod subscription;
mod topics;

#[cfg(test)]
mod simulation;

pub(crate) use assignor::{
    CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor, UniformAssignor,
};
pub(crate) use coordinator::{Group, Heartbeat, Reconcile, Refusal};
pub(crate) use describe::{GroupDescription, GroupState, MemberDescription, MemberState};
pub(crate) use expiry::expired;
pub(crate) use image_header::{IMAGE_HEADER_BYTES, ImageHeader, ImageKind, image_bytes};
pub(crate) use member::{MemberConfig, MemberEpoch, MemberId};
pub(crate) use offset_image::{OFFSET_IMAGE, decode_image, encode_image};
pub(crate) use offsets::{
    CommitOwner, CommittedOffset, GroupOffsets, OffsetChange, OffsetCommit, OffsetStore,
};
pub(crate) use subscription::{Subscription, TopicPattern};
pub(crate) use topics::{TopicInfo, Topics};
