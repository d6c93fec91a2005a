//! What the engine keeps for its checkpoints: what the last one recorded, and what the next one freezes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::catalogue::Catalogue;
use crate::engine::image::OffsetFile;
use crate::group::OffsetStore;
use crate::log::{Frozen, Log, LogImage};
use crate::types::{Lsn, PartitionNumber};

/// The partitions of a checkpoint.
pub(in crate::engine) type Logs = BTreeMap<PartitionNumber, LogImage>;

/// What the checkpoint lock protects: the state as the last checkpoint recorded it.
#[derive(Debug)]
pub(in crate::engine) struct CheckpointState {
    pub(in crate::engine) generation: u64,
    pub(in crate::engine) offsets: Option<OffsetFile>,
    /// Whether offsets changed since the offset file was written is told by their version.
    pub(in crate::engine) offsets_version: u64,
    pub(in crate::engine) logs: Logs,
    /// Whether the last checkpoint says that the folder is closed.
    pub(super) closed: bool,
    /// The state that recovery built, frozen before anything was appended; written out first.
    pub(in crate::engine) pending: Option<Freeze>,
}

impl CheckpointState {
    /// As a checkpoint that was read recorded it, with what recovery made of it since to be written out.
    pub(in crate::engine) fn new(generation: u64, offsets: Option<OffsetFile>, logs: Logs) -> Self {
        Self {
            generation,
            offsets,
            // Replayed commits made the offsets differ from their file.
            offsets_version: 0,
            logs,
            closed: false,
            pending: None,
        }
    }

    /// Leaves the state that recovery built to a later checkpoint, which is as exact.
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
    pub(super) catalogue: Catalogue,
    /// Whether nothing can come after it.
    pub(super) closed: bool,
}

/// What was frozen belongs to a later checkpoint.
pub(super) fn put_back(freeze: &Freeze) {
    freeze.logs.iter().for_each(|(log, _)| log.checkpoint_failed());
}
