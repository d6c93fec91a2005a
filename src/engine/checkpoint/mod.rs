//! Writes checkpoints: the exact state at a journal position, made durable outside the journal.
//!
//! A checkpoint writes segments and their folders, then the offset file if it changed, then the checkpoint
//! file. Each step is durable before the next begins. Only then are the journal files below its position
//! recycled. Where that is better, one sync of the whole storage makes all segments and folders durable, and
//! their files are closed before it.
//!
//! The state is that at position E, with nothing above it (hazard H4). E is read while the append locks of
//! all changed partitions, the share groups, the tables of ids, the owners, the offsets and the catalogue are held. A partition that is not in the dirty list
//! has no frame below E that the last checkpoint lacks, because it enters the list before it journals. Topics
//! are deleted under the checkpoint lock, so no partition disappears while it is written out.
//!
//! Imported by `state` and `recovery`. The other verbs of the engine call it through `impl Engine`.

mod state;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(in crate::engine) use state::CheckpointState;

use state::{Freeze, Logs, put_back};

use crate::dedup;
use crate::engine::catalogue::{Deletion, TopicImage};
use crate::engine::files;
use crate::engine::image::{CheckpointImage, ImageFile};
use crate::engine::spread;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::log::{Capture, Captured, FreezeGuard, Frozen, Log, LogImage, history_from, is_deleted};
use crate::types::{PartitionNumber, planted};

impl Engine {
    /// Writes a checkpoint: makes everything up to now durable outside the journal.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.checkpoint_as(false)
    }

    /// Writes the last checkpoint, after the journal has stopped appends.
    ///
    /// The checkpoint says that the folder is closed if nothing is left to be done to the files of
    /// partitions. Segments below a log start are removed only after a durable checkpoint that does not list
    /// them, so a second checkpoint may be necessary to say it.
    pub(in crate::engine) fn last_checkpoint(&self) -> Result<()> {
        self.checkpoint_as(true)?;
        if self.checkpoint.lock().closed || self.logs.left_over.load(Ordering::Acquire) {
            return Ok(());
        }
        self.checkpoint_as(true)
    }

    fn checkpoint_as(&self, closed: bool) -> Result<()> {
        let mut state = self.checkpoint.lock();
        if state.closed && !closed && !planted("checkpoint_after_close") {
            // A late call must not make the closed folder an open one.
            return Err(Error::Closed);
        }
        self.finish_pending(&mut state)?;
        let freeze = {
            let _guard = self.journal.fail_on_panic("a checkpoint");
            Freeze { closed, ..self.freeze(state.shares_version) }
        };
        self.finish_checkpoint(&mut state, &freeze)?;
        let durable = std::mem::take(&mut state.deletions);
        drop(state);
        self.finish_deletions(&durable);
        Ok(())
    }

    /// Writes out the state that recovery built, unless that is done.
    pub(crate) fn finish_recovery(&self) -> Result<()> {
        let mut state = self.checkpoint.lock();
        self.finish_pending(&mut state)?;
        let durable = std::mem::take(&mut state.deletions);
        drop(state);
        self.finish_deletions(&durable);
        Ok(())
    }

    pub(in crate::engine) fn finish_pending(&self, state: &mut CheckpointState) -> Result<()> {
        if let Some(freeze) = state.pending.take() {
            self.finish_checkpoint(state, &freeze)?;
            self.give_back_last_file();
        }
        Ok(())
    }

    /// Removes the journal file that the opening has replaced, unless the journal is large and in use.
    fn give_back_last_file(&self) {
        // Files that stay are unneeded, and an idle journal removes them later.
        let _smaller = self.journal.trim_small();
        if !self.reserve.is_given_up() {
            let _kept = self.reserve.fit(self.journal.total_bytes());
        }
    }

    /// Removes the folders of topics whose deletion was interrupted by a crash or an error. A durable checkpoint
    /// contains these deletions.
    fn finish_deletions(&self, durable: &[Deletion]) {
        let Some(_one) = self.admin.try_lock() else { return };
        if self.logs.given_up.load(Ordering::Acquire) {
            return;
        }
        let mut deletions = self.catalogue.lock().deletions().to_vec();
        if !planted("finish_undurable_deletions") {
            deletions.retain(|open| durable.iter().any(|known| known.id == open.id));
        }
        for deletion in &deletions {
            self.remove_deleted(deletion);
        }
    }

    /// Freezes the state under all locks, for some microseconds, and reads E.
    ///
    /// `shares_version` is the version of the share groups that the last checkpoint has.
    pub(in crate::engine) fn freeze(&self, shares_version: u64) -> Freeze {
        let shares = self.shares.lock_groups();
        shares.with_all(shares_version, |shares| self.freeze_with(shares))
    }

    fn freeze_with(&self, mut shares: Option<(Vec<u8>, u64)>) -> Freeze {
        loop {
            let mut numbers = self.logs.dirty.lock().clone();
            numbers.sort_unstable();
            numbers.dedup();
            let logs: Vec<Arc<Log>> =
                numbers.iter().filter_map(|number| self.registry.by_number(*number)).collect();
            let mut ids = self.ids.lock_all();
            let owners = self.owners.lock();
            let mut guards: Vec<_> = logs.iter().map(|log| log.lock_for_checkpoint()).collect();
            let offsets = self.offsets.lock();
            let catalogue = self.catalogue.lock();
            let mut dirty = self.logs.dirty.lock();
            if dirty.iter().any(|number| numbers.binary_search(number).is_err()) {
                // A partition became dirty before its lock was taken. Freeze again, with that partition.
                continue;
            }
            let end = self.journal.end();
            let stored = self.logs.stored.written();
            let frozen: Vec<Frozen> = guards.iter_mut().map(FreezeGuard::freeze).collect();
            dirty.clear();
            drop(guards);
            return Freeze {
                end,
                logs: logs.iter().cloned().zip(frozen).collect(),
                offsets: Arc::new(offsets.store.snapshot()),
                offsets_version: offsets.version,
                shares: shares.take(),
                ids: ids.freeze(&catalogue),
                owners: Arc::clone(&owners),
                catalogue: catalogue.clone(),
                stored,
                closed: false,
            };
        }
    }

    fn finish_checkpoint(&self, state: &mut CheckpointState, freeze: &Freeze) -> Result<()> {
        let _guard = self.journal.fail_on_panic("a checkpoint");
        let finished = self.try_checkpoint(state, freeze);
        self.troubles.checkpoint(finished.as_ref().copied());
        finished
    }

    fn try_checkpoint(&self, state: &mut CheckpointState, freeze: &Freeze) -> Result<()> {
        if let Some(cause) = self.journal.state().or_else(|| self.journal.space_stopped()) {
            put_back(freeze);
            return Err(Error::Failed { cause });
        }
        if self.logs.given_up.load(Ordering::Acquire) && !planted("checkpoint_after_close") {
            put_back(freeze);
            return Err(Error::Closed);
        }
        if planted("recycle_early") {
            self.journal.checkpointed(freeze.end);
        }
        match self.write_checkpoint_with_reserve(state, freeze) {
            Ok(()) => {
                // All replayed frames are durable from here on (hazard H8).
                self.journal.release_synced();
                let unlisted = LogImage::default();
                for (log, _) in &freeze.logs {
                    log.checkpointed(state.logs.get(&log.number()).unwrap_or(&unlisted));
                }
                self.journal.checkpointed(freeze.end);
                self.logs.stored.cover(freeze.stored);
                if !self.reserve.is_given_up() {
                    // The journal may have another size. The reserve remembers a lack of space.
                    let _kept = self.reserve.fit(self.journal.total_bytes());
                }
                Ok(())
            }
            Err(Failure::Sync(error)) if !planted("retry_failed_checkpoint") => {
                // The failed sync may have lost earlier writes, even if a later sync succeeds. So no
                // checkpoint that relies on them is written any more. The journal holds everything, frees
                // nothing, and continues.
                let cause = Arc::new(error);
                self.lose(&cause);
                put_back(freeze);
                Err(Error::Failed { cause })
            }
            Err(Failure::Retry(error) | Failure::Sync(error)) => {
                put_back(freeze);
                self.logs.write_failed.store(true, Ordering::Release);
                self.journal.checkpoint_failed(&error);
                Err(error)
            }
        }
    }

    /// Records that a sync of a checkpoint failed.
    fn lose(&self, cause: &Arc<Error>) {
        if self.journal.is_held() {
            // `Synced` waits for this checkpoint, which will never succeed.
            self.journal.fail(Arc::clone(cause));
        } else {
            self.journal.lose_outside(cause);
        }
    }

    /// Runs a sync of segments, alone among all syncs of bytes that frames may rely on. All threads know of a
    /// failure before the next one begins.
    fn sync_alone(&self, sync: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let _alone = self.journal.lock_outside_syncs();
        if let Some(cause) = self.journal.state() {
            return Err(Failure::Retry(Error::Failed { cause }));
        }
        let synced = sync();
        if let Err(Failure::Sync(error)) = &synced
            && !planted("retry_failed_checkpoint")
        {
            self.lose(&Arc::new(error.clone()));
        }
        synced
    }

    /// Writes a checkpoint. On a full disk, releases the reserve and tries again.
    fn write_checkpoint_with_reserve(
        &self,
        state: &mut CheckpointState,
        freeze: &Freeze,
    ) -> Result<(), Failure> {
        match self.write_checkpoint(state, freeze) {
            Err(Failure::Retry(full @ Error::DiskFull { .. })) => {
                if self.reserve.give_up()? {
                    self.write_checkpoint(state, freeze)
                } else {
                    Err(Failure::Retry(full))
                }
            }
            written => written,
        }
    }

    fn write_checkpoint(
        &self,
        state: &mut CheckpointState,
        freeze: &Freeze,
    ) -> Result<(), Failure> {
        let storage = &*self.storage;
        let mut logs = state.logs.clone();
        // Partitions with an open file first, so that handles are returned early.
        let (mut ordered, closed): (Vec<_>, Vec<_>) =
            freeze.logs.iter().partition(|(log, _)| log.is_open());
        ordered.extend(closed);
        for some in ordered.chunks(self.logs.written_at_once(ordered.len())) {
            self.write_segments(some, ordered.len(), &mut logs)?;
        }
        let live: BTreeSet<PartitionNumber> =
            freeze.catalogue.topics().flat_map(TopicImage::numbers).collect();
        logs.retain(|number, _| live.contains(number));
        let offsets = self.write_offset_file(state, freeze)?;
        let shares = self.write_share_file(state, freeze)?;
        // A bucket whose sync has failed is never continued (D4), so a failure is not final.
        state.may_have_buckets |= !freeze.ids.is_empty();
        let ids = dedup::write_out(&freeze.ids, storage)?;
        let mut owners = Arc::clone(&freeze.owners);
        if planted("owners_above_e") {
            owners = Arc::clone(&self.owners.lock());
        }
        let is_unlisted = |(log, _): &(Arc<Log>, Frozen)| {
            let unlisted = |image: &LogImage| image.segments.len() < log.segment_count();
            logs.get(&log.number()).is_some_and(unlisted) || log.has_replaced()
        };
        let closed = freeze.closed
            && !self.logs.left_over.load(Ordering::Acquire)
            && !freeze.logs.iter().any(is_unlisted);
        let image = CheckpointImage {
            directory_id: self.directory_id,
            generation: state.generation.saturating_add(1),
            end: freeze.end,
            epoch: self.epoch,
            offsets,
            closed,
            last_seen: Some(self.last_seen()),
            catalogue: freeze.catalogue.clone(),
            owners,
            shares,
            ids,
            logs,
        };
        self.journal.anchor(freeze.end)?;
        let unsynced = files::write_checkpoint(storage, &image)?;
        if !planted("checkpoint_not_synced") {
            unsynced.sync(storage).map_err(Failure::of_sync)?;
        }
        state.generation = image.generation;
        state.offsets = offsets;
        state.offsets_version = freeze.offsets_version;
        state.shares = shares;
        if let Some((_, version)) = freeze.shares {
            state.shares_version = version;
        }
        state.logs = image.logs;
        if state.may_have_buckets {
            let removed = self.ids.checkpointed(&image.ids, storage);
            state.may_have_buckets = !(removed && image.ids.is_empty());
        }
        state.deletions = image.catalogue.deletions().to_vec();
        state.closed = image.closed;
        self.logs.write_failed.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes the committed offsets, if they have changed.
    fn write_offset_file(
        &self,
        state: &CheckpointState,
        freeze: &Freeze,
    ) -> Result<Option<ImageFile>, Failure> {
        if freeze.offsets_version == state.offsets_version {
            return Ok(state.offsets);
        }
        let storage = &*self.storage;
        let mut store = Arc::clone(&freeze.offsets);
        if planted("offsets_above_e") {
            store = Arc::new(self.offsets.lock().store.snapshot());
        }
        let (file, unsynced) =
            files::write_offsets(storage, self.directory_id, &store, state.offsets)?;
        if !planted("offsets_not_synced") {
            unsynced.sync(storage).map_err(Failure::of_sync)?;
        }
        Ok(Some(file))
    }

    /// Writes the share groups, if they have changed.
    fn write_share_file(
        &self,
        state: &CheckpointState,
        freeze: &Freeze,
    ) -> Result<Option<ImageFile>, Failure> {
        let Some((body, _)) = &freeze.shares else { return Ok(state.shares) };
        let storage = &*self.storage;
        let (file, unsynced) = files::write_shares(storage, self.directory_id, body, state.shares)?;
        if !planted("shares_not_synced") {
            unsynced.sync(storage).map_err(Failure::of_sync)?;
        }
        Ok(Some(file))
    }

    /// Writes out a partition, which is one of `count`.
    ///
    /// If one sync of the whole storage will follow, closes the files, so that any number of partitions can
    /// be written out before it. Otherwise, if the partition needs more files than may be open at once, syncs
    /// them in parts.
    fn capture(&self, log: &Log, count: usize) -> Result<Captured, Failure> {
        loop {
            let captured = log.capture()?;
            let leave = self.storage.prefers_whole_sync(count);
            match captured {
                Capture::Whole(_) if leave => return Ok(log.leave_captured()),
                Capture::Whole(captured) => return Ok(captured),
                Capture::Part(part) if leave => log.leave_written(&part),
                Capture::Part(part) => {
                    self.sync_alone(|| self.storage.sync_all(&part.files).map_err(Failure::Sync))?;
                    log.written_synced(&part);
                }
            }
        }
    }

    /// Writes out some of `count` partitions, step by step: a close that begins meanwhile lends its threads
    /// to the next step. While the engine runs, producers and consumers need the processors.
    fn capture_all(
        &self,
        some: &[&(Arc<Log>, Frozen)],
        count: usize,
    ) -> Result<Vec<Captured>, Failure> {
        let mut captured = Vec::with_capacity(some.len());
        for step in some.chunks(STEP) {
            let closes = self.closed.load(Ordering::Acquire);
            let threads = if closes { spread::threads(&self.config, step.len()) } else { 1 };
            captured.extend(spread::try_map(threads, step, |(log, _)| self.capture(log, count))?);
        }
        Ok(captured)
    }

    /// Makes written partitions durable: files, names in their folders, and names of folders.
    fn sync_captured(&self, captured: &[Captured]) -> Result<(), Failure> {
        let storage = &*self.storage;
        if captured.iter().any(|log| log.left) && !planted("files_left_not_synced") {
            storage.sync_whole().map_err(Failure::Sync)?;
        }
        let files: Vec<_> = captured.iter().flat_map(|log| log.files.iter().cloned()).collect();
        if !files.is_empty() && !planted("segments_not_synced") {
            storage.sync_all(&files).map_err(Failure::Sync)?;
        }
        let folders = captured.iter().filter_map(|log| log.folder.as_deref());
        for folder in folders.filter(|_| !planted("folder_not_synced")) {
            storage.sync_dir(folder).map_err(Failure::of_sync)?;
        }
        if captured.iter().any(|log| log.folder_created) {
            storage.sync_dir(Path::new("")).map_err(Failure::of_sync)?;
        }
        Ok(())
    }

    /// Writes out and syncs some of the `count` changed partitions, and records them in `logs`.
    fn write_segments(
        &self,
        some: &[&(Arc<Log>, Frozen)],
        count: usize,
        logs: &mut Logs,
    ) -> Result<(), Failure> {
        let captured = self.capture_all(some, count)?;
        self.sync_alone(|| self.sync_captured(&captured))?;
        for ((log, frozen), captured) in some.iter().zip(captured) {
            log.synced();
            let mut end_offset = frozen.end_offset;
            if planted("checkpoint_above_e") {
                end_offset = captured.segments.last().map_or(end_offset, |last| last.end_offset);
            }
            let mut start_offset = frozen.start_offset;
            if planted("log_start_above_e") {
                start_offset = log.start_offset();
            }
            let (mut segments, first_dirty_offset) =
                (captured.segments, captured.first_dirty_offset);
            // A segment that was empty at the last checkpoint may lie before those that retention removed.
            let later = segments.len().saturating_sub(1);
            let deleted = (0..).zip(&segments).take_while(|(at, segment)| {
                is_deleted(segment, start_offset)
                    || *at < later && segment.end_offset <= start_offset
            });
            let deleted = deleted.count();
            segments.drain(..deleted);
            let first = segments.first().map_or(start_offset, |segment| segment.base_offset);
            let epochs = history_from(&frozen.epochs, first).to_vec();
            let image = LogImage { start_offset, end_offset, epochs, segments, first_dirty_offset };
            if planted("remove_segments_early") {
                log.checkpointed(&image);
            }
            logs.insert(log.number(), image);
        }
        Ok(())
    }
}

/// How many partitions are written out before the number of threads is chosen again.
const STEP: usize = 1_024;

/// A failed checkpoint.
enum Failure {
    /// A sync failed, which is final.
    Sync(Error),
    /// A file could not be opened or written, for example for lack of space or of file handles. The engine
    /// retries.
    Retry(Error),
}

impl Failure {
    /// Converts the error of a call that opens a file and syncs it. If the file could not be opened, no sync
    /// failed.
    fn of_sync(error: Error) -> Self {
        if error.is_too_many_files() { Self::Retry(error) } else { Self::Sync(error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Retry(error)
    }
}

#[cfg(test)]
mod tests;
