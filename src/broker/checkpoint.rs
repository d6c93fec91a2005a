//! The checkpoint: the exact state at a journal position, made durable outside the journal.
//!
//! In this order, each step durable before the next: segments and their folders, the offset file if it
//! changed, the checkpoint file; only then are journal files below it given back. The state is that at
//! E and nothing above (hazard H4): E is read while the append locks of all changed partitions, the
//! offsets and the catalogue are held, and a partition that is not in the dirty list cannot have a
//! frame below E, because it enters the list before it journals. Topics are deleted under the checkpoint
//! lock, so no partition goes while it is written out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::engine::Engine;
use super::files;
use super::image::{CheckpointImage, OffsetFile};
use crate::error::{Error, Result};
use crate::group::OffsetStore;
use crate::log::{Captured, Frozen, Log, LogImage};
use crate::types::{Lsn, PartitionNumber};

/// What the checkpoint lock protects: the state as the last checkpoint recorded it.
#[derive(Debug)]
pub(super) struct CheckpointState {
    pub(super) generation: u64,
    pub(super) offsets: Option<OffsetFile>,
    /// Whether offsets changed since the offset file was written is told by their version.
    pub(super) offsets_version: u64,
    pub(super) logs: BTreeMap<PartitionNumber, LogImage>,
    /// The state that recovery built, frozen before anything was appended; written out first.
    pub(super) pending: Option<Freeze>,
}

/// The state at E, in memory.
#[derive(Debug)]
pub(super) struct Freeze {
    pub(super) end: Lsn,
    logs: Vec<(Arc<Log>, Frozen)>,
    offsets: Arc<OffsetStore>,
    offsets_version: u64,
    catalogue: Catalogue,
}

impl Engine {
    /// Makes everything up to now durable outside the journal.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        self.finish_pending(&mut state)?;
        let freeze = self.freeze();
        self.finish_checkpoint(&mut state, freeze)?;
        drop(state);
        self.finish_deletions()
    }

    /// Writes out the state that recovery built, if that is still to be done.
    pub(crate) fn finish_recovery(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        self.finish_pending(&mut state)?;
        drop(state);
        self.finish_deletions()
    }

    pub(super) fn finish_pending(&self, state: &mut CheckpointState) -> Result<()> {
        if let Some(freeze) = state.pending.take() {
            self.finish_checkpoint(state, freeze)?;
            // From here on all that was replayed is durable (hazard H8).
            self.journal.release_synced();
        }
        Ok(())
    }

    /// Removes the folders of topics whose deletion a crash cut short; the deletion is in the
    /// checkpoint by now.
    fn finish_deletions(&self) -> Result<()> {
        let Some(_one) = self.admin.try_lock() else { return Ok(()) };
        let deletions = self.catalogue.lock().deletions().to_vec();
        deletions.iter().try_for_each(|deletion| self.remove_deleted(deletion))
    }

    /// Freezes the state under all locks (for some microseconds) and reads E.
    pub(super) fn freeze(&self) -> Freeze {
        loop {
            let mut numbers = self.logs.dirty.lock().clone();
            numbers.sort_unstable();
            numbers.dedup();
            let logs: Vec<Arc<Log>> =
                numbers.iter().filter_map(|number| self.registry.by_number(*number)).collect();
            let mut guards: Vec<_> = logs.iter().map(|log| log.lock_for_checkpoint()).collect();
            let offsets = self.offsets.lock();
            let catalogue = self.catalogue.lock();
            let mut dirty = self.logs.dirty.lock();
            if dirty.iter().any(|number| numbers.binary_search(number).is_err()) {
                // A partition became dirty before its lock could be taken: once more, with it.
                continue;
            }
            let end = self.journal.end();
            let frozen: Vec<Frozen> = guards.iter_mut().map(|guard| guard.freeze()).collect();
            dirty.clear();
            drop(guards);
            return Freeze {
                end,
                logs: logs.iter().cloned().zip(frozen).collect(),
                offsets: Arc::new(offsets.store.snapshot()),
                offsets_version: offsets.version,
                catalogue: catalogue.clone(),
            };
        }
    }

    fn finish_checkpoint(&self, state: &mut CheckpointState, freeze: Freeze) -> Result<()> {
        if let Some(cause) = self.journal.state() {
            return Err(Error::Failed { cause });
        }
        match self.write_checkpoint(state, &freeze) {
            Ok(()) => {
                freeze.logs.iter().for_each(|(log, _)| log.checkpointed());
                self.journal.checkpointed(freeze.end);
                Ok(())
            }
            Err(error) => Err(self.checkpoint_failed(state, freeze, error)),
        }
    }

    /// Decides what a failure means: a full disk leaves things to be tried again, anything else may
    /// have lost what was written and stops all writing.
    fn checkpoint_failed(
        &self,
        state: &mut CheckpointState,
        freeze: Freeze,
        error: Error,
    ) -> Error {
        if !error.is_retryable() {
            let cause = Arc::new(error);
            self.journal.fail(Arc::clone(&cause));
            return Error::Failed { cause };
        }
        if self.journal.is_held() {
            // The recovery checkpoint has to come first, at exactly its position: marks and captured
            // states stay as they are.
            state.pending = Some(freeze);
        } else {
            freeze.logs.iter().for_each(|(log, _)| log.checkpoint_failed());
        }
        error
    }

    fn write_checkpoint(&self, state: &mut CheckpointState, freeze: &Freeze) -> Result<()> {
        let mut logs = state.logs.clone();
        self.write_segments(freeze, &mut logs)?;
        let live: std::collections::BTreeSet<PartitionNumber> =
            freeze.catalogue.topics().flat_map(super::catalogue::TopicImage::numbers).collect();
        logs.retain(|number, _| live.contains(number));
        let mut offsets = state.offsets;
        if freeze.offsets_version != state.offsets_version {
            let last = state.offsets.unwrap_or(OffsetFile { slot: 1, generation: 0 });
            let next = OffsetFile { slot: 1 - last.slot, generation: last.generation + 1 };
            files::write_offsets(&*self.storage, self.directory_id, &freeze.offsets, next)?;
            offsets = Some(next);
        }
        let image = CheckpointImage {
            directory_id: self.directory_id,
            generation: state.generation + 1,
            end: freeze.end,
            epoch: self.epoch,
            offsets,
            catalogue: freeze.catalogue.clone(),
            logs,
        };
        files::write_checkpoint(&*self.storage, &image)?;
        state.generation = image.generation;
        state.offsets = offsets;
        state.offsets_version = freeze.offsets_version;
        state.logs = image.logs;
        Ok(())
    }

    /// Writes out, syncs, and records the partitions that changed.
    fn write_segments(
        &self,
        freeze: &Freeze,
        logs: &mut BTreeMap<PartitionNumber, LogImage>,
    ) -> Result<()> {
        let mut captured: Vec<Captured> = Vec::with_capacity(freeze.logs.len());
        for (log, _) in &freeze.logs {
            captured.push(log.capture()?);
        }
        let files: Vec<_> = captured.iter().flat_map(|log| log.files.iter().cloned()).collect();
        if !files.is_empty() {
            self.storage.sync_all(&files)?;
        }
        for folder in captured.iter().filter_map(|log| log.folder.as_deref()) {
            self.storage.sync_dir(folder)?;
        }
        if captured.iter().any(|log| log.folder_created) {
            self.storage.sync_dir(Path::new(""))?;
        }
        for ((log, frozen), captured) in freeze.logs.iter().zip(captured) {
            logs.insert(
                log.number(),
                LogImage {
                    start_offset: log.start_offset(),
                    end_offset: frozen.end_offset,
                    epochs: frozen.epochs.clone(),
                    segments: captured.segments,
                },
            );
        }
        Ok(())
    }
}
