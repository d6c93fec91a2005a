//! The state that the engine keeps for checkpoints: what the last one recorded, and what the next one
//! freezes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dedup;
use crate::engine::catalogue::{Catalogue, Deletion};
use crate::engine::image::{CheckpointImage, ImageFile};
use crate::engine::owners::Owners;
use crate::group::OffsetStore;
use crate::log::{Frozen, Log, LogImage};
use crate::types::{Lsn, PartitionNumber, planted};

/// The partitions that a checkpoint lists.
pub(in crate::engine) type Logs = BTreeMap<PartitionNumber, LogImage>;

/// The state that the last checkpoint recorded. The checkpoint lock protects it.
#[derive(Debug)]
pub(in crate::engine) struct CheckpointState {
    pub(in crate::engine) generation: u64,
    pub(in crate::engine) offsets: Option<ImageFile>,
    /// The version of the offsets in the offset file. Another version means that the offsets changed since.
    pub(in crate::engine) offsets_version: u64,
    /// As for the offsets. `None`: nothing is known of the file, and it is written.
    pub(in crate::engine) shares: Option<ImageFile>,
    pub(in crate::engine) shares_version: u64,
    pub(in crate::engine) logs: Logs,
    /// The deletions that a checkpoint of this opening contains, which is durable. The folders of these topics may
    /// be removed.
    pub(super) deletions: Vec<Deletion>,
    /// Whether there may be buckets of idempotency ids. There may be some in a folder without ids when it is opened:
    /// power loss brings back the names of those that were removed.
    pub(super) may_have_buckets: bool,
    /// Whether the last checkpoint says that the folder is closed.
    pub(super) closed: bool,
    /// The state that recovery built, frozen before the first append. The next checkpoint writes it out
    /// first.
    pub(in crate::engine) pending: Option<Freeze>,
}

impl CheckpointState {
    /// Creates the state from the checkpoint that recovery read. What recovery changed since is still to be
    /// written out.
    pub(in crate::engine) fn new(image: CheckpointImage) -> Self {
        let CheckpointImage { generation, offsets, shares, ids, logs, .. } = image;
        Self {
            generation,
            offsets,
            // The version of the file is 0. Recovery starts with version 1 if it replayed frames.
            offsets_version: 0,
            shares,
            shares_version: 0,
            logs,
            deletions: Vec::new(),
            may_have_buckets: !ids.is_empty() || !planted("returned_buckets_stay"),
            closed: false,
            pending: None,
        }
    }

    /// Leaves the state that recovery built to a later checkpoint, which is just as exact.
    pub(in crate::engine) fn postpone_pending(&mut self) {
        if let Some(freeze) = self.pending.take() {
            put_back(&freeze);
        }
    }
}

/// The state at E, in memory.
#[derive(Debug)]
pub(in crate::engine) struct Freeze {
    pub(in crate::engine) end: Lsn,
    pub(super) logs: Vec<(Arc<Log>, Frozen)>,
    pub(super) offsets: Arc<OffsetStore>,
    pub(super) offsets_version: u64,
    /// The body of the image of the share groups, with its version.
    pub(super) shares: Option<(Vec<u8>, u64)>,
    pub(super) ids: Vec<dedup::Frozen>,
    pub(super) owners: Arc<Owners>,
    pub(super) catalogue: Catalogue,
    /// What stored appends had written.
    pub(super) stored: u64,
    /// Whether no change can follow it.
    pub(super) closed: bool,
}

/// Puts the frozen changes of a failed checkpoint back, so that a later one writes them.
pub(super) fn put_back(freeze: &Freeze) {
    freeze.logs.iter().for_each(|(log, _)| log.checkpoint_failed());
}
