//! Compaction of a partition's log: the algorithm of Kafka's log cleaner. No files, no clock, no threads.
//!
//! A compacted log keeps at least the newest value of each key. A pass has two halves. The first reads the dirty
//! part, which no pass has covered yet, and maps each key to its newest offset. The second copies all segments
//! from the log start to the end of the map into new segments. It leaves out the records that the map
//! supersedes.
//!
//! ```text
//! before    0:a=1  1:b=1  2:a=2  3:c=1  4:c=null  5:a=null  6:d=1 | 7:b=2     (7: active segment)
//! after            1:b=1                4:c=null  5:a=null  6:d=1 | 7:b=2     c and a have a delete horizon
//! later            1:b=1                                    6:d=1 | 7:b=2     the horizon has passed
//! ```
//!
//! Invariants:
//! - C1: the newest record of each key survives, unless it is a tombstone whose delete horizon has passed.
//! - C2: offsets never change. They rise from batch to batch and from record to record.
//! - C3: batches are never split or merged. A batch keeps its base offset, last offset, producer fields,
//!   sequence, leader epoch and codec, and its records keep their timestamps.
//! - C4: nothing from the first uncleanable offset on is read or changed. Behind the end of the map only records of
//!   aborted transactions and markers go.
//! - C5: a tombstone gets a delete horizon the first time that a pass copies it, even behind the end of the map:
//!   the time of that pass plus `delete.retention.ms`. The first later pass that covers it, at or after the
//!   horizon, removes it. A pass never moves a horizon.
//! - C6: a tombstone goes only together with, or after, all older records of its key.
//! - C7: records of aborted transactions go at once and supersede nothing. A marker goes as a tombstone does, but
//!   gets its horizon only when no batch of its transaction is left. An ABORT marker is in the transaction
//!   index as long as such a batch is left.
//! - C8: a batch without records stays as a header if a producer's state is in it, or if it ends the log. The
//!   state is in the last data batch of a producer's epoch; in its markers if it has no data in that epoch.
//! - C9: a pass covers at least one record more than the last one, as long as the map holds a key.
//! - C10: damage is an error with its place. A batch whose checksum or records are wrong is neither copied nor
//!   dropped.
//!
//! C1 rests on what the caller passes: only batches that cannot be lost any more may be mapped. Otherwise the
//! newest record of a key could vanish after the pass has removed the older ones.
//!
//! [`select`] tells which part of a log is worth a pass, or why none is. [`Pass::run`] does it, from any
//! [`Source`] into any [`Sink`].
//!
//! Imported by `log`, `engine` and `internal`.

mod error;
mod filter;
mod group;
mod key_map;
#[cfg(any(test, feature = "__internal"))]
mod memory;
mod newest;
mod offset_map;
mod pass;
mod rebuild;
mod segment_info;
mod select;
mod stats;
#[cfg(test)]
mod tests;
mod transactions;

pub(crate) use error::{BatchError, CleanError};
pub(crate) use filter::{Filter, FilterSettings, Filtered, Outcome};
pub(crate) use group::{GroupLimits, group};
#[cfg(test)]
pub(crate) use key_map::DEFAULT_MAP_BYTES;
pub(crate) use key_map::{KeyHash, KeyMap};
#[cfg(any(test, feature = "__internal"))]
pub(crate) use memory::{MemorySegment, MemorySink};
pub(crate) use offset_map::OffsetMap;
pub(crate) use pass::{Batches, Cleaned, Pass, Sink, Source};
pub(crate) use segment_info::SegmentInfo;
pub(crate) use select::{LogInfo, NotCleaned, SelectSettings, Selection, select};
pub(crate) use stats::Stats;
