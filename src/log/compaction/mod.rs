//! Compaction of a partition's files: runs the algorithm of [`crate::cleaner`] over segments, and puts what it writes
//! in their place.
//!
//! Nothing that a reader may rely on changes: the newest record of each key stays at its offset, and the log keeps
//! its start and end. So a pass needs no frame of the journal. The checkpoint names the files.
//!
//! ```text
//! segments        0.log        800.log         1500.log   2100.log (active)
//! a pass writes   0.1.log  (0 and 800 joined)  1500.1.log
//! the view        0.1.log                      1500.1.log 2100.log      from here on readers see them
//! a checkpoint    lists 0.1, 1500.1, 2100                               then 0, 800 and 1500 are removed
//! ```
//!
//! * **K1** A pass reads and replaces only complete segments that a durable checkpoint lists to their end. Otherwise
//!   power loss could take a record after the pass has removed what it replaced.
//! * **K2** A cleaned segment is a new file of the next generation. It is complete and synced before it enters the
//!   view. Its name is synced by the checkpoint that lists it.
//! * **K3** A replaced file is removed once a durable checkpoint does not list it. Until then the folder holds both.
//!   The next opening removes the one that its checkpoint does not list.
//! * **K4** Cleaned segments enter the view in order, the oldest first. So a checkpoint that comes in between, or a
//!   pass that ends early, never keeps an older value of a key without the tombstone behind it. The first dirty
//!   offset moves only after all of them.
//! * **K5** A pass holds the write-out lock only to swap the view, and no lock while it reads and writes. If
//!   something has deleted its segments meanwhile, it discards its copy.
//! * **K6** A failed read, write or sync of a pass discards its copy and nothing else. Damage ends the pass of that
//!   partition: a damaged batch is neither copied nor dropped.
//! * **K7** A reader that holds a replaced segment may go on in it, because its records are still true, or look its
//!   offset up again if the file is gone.
//! * **K8** Deleting the topic and closing the folder interrupt a pass, and wait for it.
//! * **K9** A pass settles the partition first, because settling removes all files that the view does not name.
//! * **K10** A checkpoint names each segment by its generation, also those of a pass that has not ended.
//! * **K11** A pass begins only if the disk has room for the largest segment that it may write, and begins each segment
//!   only if there is room for that. So a copy does not take the space that the journal needs.
//!
//! A group of segments of which nothing is left becomes a segment without batches. The next pass joins it to a
//! neighbour.
//!
//! Batches of this engine have no producer ids. A pass that meets one, in segments that a Kafka broker wrote, ends and
//! begins again with what [`super::stable`] finds: the aborted transactions, the last stable offset, and the producers
//! whose state must stay.

mod pass;
mod sink;
mod source;
mod swap;

use std::fmt;

use crate::cleaner::{NotCleaned, Stats};
use crate::error::Error;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use crate::types::Timestamp;

/// Slows a pass down, and stops it.
pub(crate) trait Pace: Sync {
    /// Takes note of bytes that were read or written. May wait.
    fn spend(&self, bytes: u64);

    /// Returns whether the pass is to stop.
    fn is_interrupted(&self) -> bool;
}

/// What a pass goes by, besides the settings of the topic.
pub(crate) struct CompactionJob<'a> {
    pub(crate) now: Timestamp,
    /// The memory for the map of keys in bytes.
    pub(crate) map_bytes: usize,
    /// A random key for the hashes of the map.
    pub(crate) hash_key: [u8; 16],
    /// Whether to run also if little or nothing is dirty.
    pub(crate) forced: bool,
    /// The space of the disk that no copy may take, in bytes.
    pub(crate) keep_free: u64,
    pub(crate) pace: &'a dyn Pace,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Compacted {
    /// It has cleaned a part of the log. `again` says that the map was full, so that another pass is due.
    Done { again: bool },
    /// There was nothing to do.
    NotCleaned(NotCleaned),
    /// It was stopped, or its segments were deleted meanwhile.
    Interrupted,
}

/// What compaction has done to a partition since the folder was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Passes that were not interrupted.
    pub(crate) passes: u64,
    pub(crate) stats: Stats,
}

/// The state that only compacted partitions have.
#[derive(Debug, Default)]
pub(in crate::log) struct Compaction {
    /// Held while a pass runs.
    running: Mutex<()>,
    /// Set when the topic is deleted.
    stop: AtomicBool,
    totals: Mutex<Totals>,
    /// The damage that ended the last pass, and the revision of the topic then. The next pass would find it again.
    damage: Mutex<Option<(u32, Error)>>,
}

impl fmt::Debug for dyn Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}
