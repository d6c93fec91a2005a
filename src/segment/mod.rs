//! One segment of a partition: the names of its files, the walk over its batches, and its two indexes. Pure
//! functions over slices; `log` opens, maps and writes the files.
//!
//! ```text
//! orders-0/00000000000000005000.log         batches back to back from byte 0, nothing between them
//!          00000000000000005000.index       8 bytes per entry, see `offset_index`
//!          00000000000000005000.timeindex   12 bytes per entry, see `time_index`
//!          00000000000000005000.sums        checksums of blocks of 64 KiB, see `sums`
//! ```
//!
//! The number is the base offset, a lower bound of the offsets inside. The `.log` file is the truth. Indexes
//! have no checksum and are caches. [`IndexBuilder`] rebuilds an index that is missing, cut, or does not
//! match its log; nothing repairs one.
//!
//! Invariants:
//! - S1: offsets rise from batch to batch; gaps are legal (compaction, control batches).
//! - S2: every offset of a segment is at most its base offset + 2^31 - 1.
//! - S3: an offset entry names the last offset of a batch and the position where it starts; both rise from
//!   entry to entry.
//! - S4: a time entry (t, o) says that no batch up to offset o has a larger timestamp than t; timestamps
//!   rise, offsets do not fall.
//! - S5: a reader compares an entry with the batch that it points to before it trusts the entry
//!   ([`OffsetIndex::locate`], [`TimeIndex::locate`]). A missing entry only costs a longer scan.
//!
//! Imported by `log`, `engine`, `broker` and `internal`.

mod builder;
mod names;
mod offset_index;
mod sums;
mod time_index;
mod walk;

pub(crate) use builder::IndexBuilder;
#[cfg(feature = "__internal")]
pub(crate) use builder::rebuild;
pub(crate) use names::{
    Extension, SegmentId, deleted_folder_name, file_name, folder_name, parse_file_name,
};
pub(crate) use offset_index::OffsetIndex;
pub(crate) use sums::{BLOCK_BYTES, Sums};
pub(crate) use time_index::TimeIndex;
pub(crate) use walk::Headers;
#[cfg(feature = "__internal")]
pub(crate) use walk::{Walk, WalkEnd};
