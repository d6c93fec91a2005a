//! The engine behind all handles: what `Broker`, `Producer`, `Consumer` and `Admin` share.
//!
//! Lock order, outermost first; whoever holds one may only take those below it:
//!
//! 1. `admin`: creating and deleting topics, one at a time
//! 2. `checkpoint`: checkpoints one at a time
//! 3. a partition's write-out lock
//! 4. partitions' append locks, by partition number
//! 5. a group's lock
//! 6. `offsets`
//! 7. `catalogue`
//! 8. the dirty list
//! 9. the journal's own lock, then views, registry and events, which take no further lock
//!
//! Nothing waits for space under locks 2 to 9 (hazard H6: a checkpoint is what makes it), nor for a sync
//! or a thread under locks 3 to 9. User code runs under none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{BrokerConfig, TopicConfig};
use crate::engine::background::Background;
use crate::engine::catalogue::{Catalogue, CatalogueChange, Deletion};
use crate::engine::checkpoint::CheckpointState;
use crate::engine::files;
use crate::engine::groups::{GroupHandle, Groups};
use crate::engine::health::Troubles;
use crate::engine::registry::{Registry, Topic};
use crate::engine::reserve::Reserve;
use crate::engine::writer::Writer;
use crate::error::{Error, Result};
use crate::group::{Group, MemberEpoch, MemberId, OffsetCommit, OffsetStore};
use crate::journal::{Credit, Journal, SECTION_HEADER, SectionKind, section_header};
use crate::log::{Afterwards, LOG_START_SECTION_BYTES, Log, LogShared};
use crate::storage::{Storage, StorageLock};
use crate::time::{Clock, Random};
use crate::types::{Epoch, Lsn, TopicId, TopicPartition, planted};

/// The committed offsets, with a number that rises with every change.
#[derive(Debug)]
pub(crate) struct Offsets {
    pub(crate) store: OffsetStore,
    pub(crate) version: u64,
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) storage: Arc<dyn Storage>,
    pub(crate) config: BrokerConfig,
    pub(super) directory_id: [u8; 16],
    pub(super) epoch: Epoch,
    pub(crate) journal: Arc<Journal>,
    pub(crate) logs: Arc<LogShared>,
    pub(crate) registry: Arc<Registry>,
    pub(super) admin: Mutex<()>,
    pub(super) checkpoint: Mutex<CheckpointState>,
    pub(crate) offsets: Mutex<Offsets>,
    pub(super) catalogue: Mutex<Catalogue>,
    pub(crate) groups: Groups,
    pub(super) reserve: Reserve,
    pub(super) troubles: Troubles,
    pub(super) background: Background,
    pub(super) writer: Writer,
    pub(super) lock: Mutex<Option<Box<dyn StorageLock>>>,
    pub(super) closed: AtomicBool,
    /// How many handles the program has.
    pub(super) handles: AtomicUsize,
}

impl Engine {
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.config.clock
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.config.random
    }

    /// Refuses calls after `close`, and those of a forked child.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_fork()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Refuses calls of a forked child, also those that a closed engine answers.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::ForkedChild) } else { Ok(()) }
    }

    /// Whether this process is a child of the one that opened the folder. Its threads are not there,
    /// and its locks may be held by them for ever.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.logs.fork.is_child() && !planted("fork_not_noticed")
    }

    /// Refuses appends after `close`, and on a full disk.
    #[inline]
    pub(crate) fn check_appends(&self) -> Result<()> {
        self.check_open()?;
        let full = self.reserve.is_given_up() && !planted("append_on_full_disk");
        if full { self.refill_reserve() } else { Ok(()) }
    }

    /// Reserves journal space for a frame of records. Called without locks; may wait.
    pub(crate) fn reserve(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.check_appends()?;
        if self.config.background {
            return self.journal.reserve(bytes, max_block);
        }
        match self.journal.reserve(bytes, Duration::ZERO) {
            Err(Error::Timeout { .. }) => {
                self.checkpoint()?;
                self.journal.reserve(bytes, Duration::ZERO)
            }
            other => other,
        }
    }

    /// Reserves for a frame that must also fit when records have filled the journal.
    fn reserve_urgent(&self, bytes: usize) -> Result<Credit<'_>> {
        self.check_open()?;
        if self.config.background {
            return self.journal.reserve_urgent(bytes, URGENT_MAX_BLOCK);
        }
        match self.journal.reserve_urgent(bytes, Duration::ZERO) {
            Err(Error::Timeout { .. }) => {
                self.checkpoint()?;
                self.journal.reserve_urgent(bytes, Duration::ZERO)
            }
            other => other,
        }
    }

    /// Appends go on after a full disk only when what is in the journal can be written out again.
    #[cold]
    fn refill_reserve(&self) -> Result<()> {
        self.reserve.ensure(self.journal.total_bytes())
    }

    /// What is left to do after an append, without locks: pollers are woken, a filled batch is written
    /// out, and a checkpoint is asked for if memory wants one.
    #[inline]
    pub(crate) fn after_append(&self, log: &Arc<Log>, afterwards: Afterwards) {
        if afterwards.wake() {
            self.write_out(log);
        }
        if self.logs.memory.load(Ordering::Relaxed) > self.config.open_batches_max_bytes
            || self.logs.write_failed.load(Ordering::Relaxed)
        {
            self.relieve();
        }
    }

    #[cold]
    fn write_out(&self, log: &Arc<Log>) {
        if self.config.background && !log.is_behind() {
            let little =
                self.logs.memory.load(Ordering::Relaxed) < self.config.open_batches_max_bytes / 2;
            if little && log.waiting_batches() < GATHERED
                || self.writer.hand_over(log, &self.journal)
            {
                return;
            }
        }
        let _guard = self.journal.fail_on_panic("writing out a partition");
        log.write_out_some();
    }

    #[cold]
    fn relieve(&self) {
        if self.config.background {
            self.background.request_checkpoint();
        } else {
            // The failure is kept for `health`; the journal's own is reported by the next call.
            let _reported_later = self.checkpoint();
        }
    }

    /// Reserves for the largest change of the catalogue that there is: the configuration of one topic.
    fn reserve_catalogue_change(&self) -> Result<Credit<'_>> {
        self.reserve_urgent(MAX_CATALOGUE_CHANGE)
    }

    /// Journals a change of the catalogue and applies it. Returns what it was applied to, and where
    /// the frame ends.
    fn change_catalogue(
        &self,
        credit: &mut Credit<'_>,
        decide: impl FnOnce(&Catalogue) -> Result<CatalogueChange>,
    ) -> Result<(crate::engine::catalogue::TopicImage, CatalogueChange, Lsn)> {
        let mut offsets = self.offsets.lock();
        let mut catalogue = self.catalogue.lock();
        let change = decide(&catalogue)?;
        let _guard = self.journal.fail_on_panic("the catalogue");
        let body = change.encode();
        let header = section_header(SectionKind::CATALOGUE, body.len() as u32);
        let lsn = self.journal.append(credit, &[&header, &body])?;
        let topic = catalogue
            .apply(&change)
            .map_err(|_| Error::Poisoned { what: "the catalogue".to_owned() })?;
        if matches!(change, CatalogueChange::Delete(_)) {
            let numbers: Vec<_> = topic.numbers().collect();
            offsets.store.remove_partitions(&numbers);
            offsets.version += 1;
        }
        Ok((topic, change, lsn))
    }

    /// Creates a topic; it is durable when this returns.
    pub(crate) fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.check_open()?;
        if self.reserve.is_given_up() {
            self.refill_reserve()?;
        }
        let lsn = {
            let _one = self.admin.lock();
            // A folder of the same name may still be a deleted topic's.
            if !planted("reuse_deleted_folder") {
                self.set_deleted_aside()?;
            }
            let id = self.new_topic_id();
            let mut credit = self.reserve_catalogue_change()?;
            let (topic, _, lsn) = self.change_catalogue(&mut credit, |catalogue| {
                catalogue.decide_create(name, config, id)
            })?;
            self.registry.insert(Arc::new(Topic::new(&topic, &self.logs, |_| None)));
            lsn
        };
        self.groups.metadata_changed(&self.registry);
        self.wait_synced(lsn)
    }

    /// Changes a topic's configuration or gives it more partitions; it is durable when this returns.
    pub(crate) fn alter_topic(
        &self,
        decide: impl FnOnce(&Catalogue) -> Result<CatalogueChange>,
    ) -> Result<()> {
        self.check_open()?;
        let lsn = {
            let _one = self.admin.lock();
            let mut credit = self.reserve_catalogue_change()?;
            let (topic, _, lsn) = self.change_catalogue(&mut credit, decide)?;
            self.registry.alter(&topic, &self.logs)?;
            lsn
        };
        // No lock is held: an assignor may be the program's own.
        self.groups.metadata_changed(&self.registry);
        self.wait_synced(lsn)
    }

    /// Deletes the records of a partition below an offset, for good when this returns; the log start then.
    pub(crate) fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<i64> {
        self.check_open()?;
        let log = self.registry.log(partition)?;
        let mut credit = self.reserve_urgent(SECTION_HEADER + LOG_START_SECTION_BYTES)?;
        let journaled = log.delete_records(before, |section| {
            let body = section.encode();
            let header = section_header(SectionKind::LOG_START, body.len() as u32);
            self.journal.append(&mut credit, &[&header, &body])
        })?;
        drop(credit);
        // Who deleted them before may still wait for the sync.
        self.wait_synced(journaled.unwrap_or_else(|| self.journal.end()))?;
        if journaled.is_some() && self.config.background {
            // Segments go with the next checkpoint; space is wanted now.
            self.background.request_checkpoint();
        }
        Ok(log.start_offset())
    }

    /// Deletes a topic, its records and its committed offsets, for good when this returns.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<()> {
        self.check_open()?;
        let deleted = self.delete_topic_files(name);
        // Whatever became of the files, the topic may be gone. No lock is held: an assignor may be the
        // program's own.
        self.groups.metadata_changed(&self.registry);
        deleted
    }

    fn delete_topic_files(&self, name: &str) -> Result<()> {
        let _one = self.admin.lock();
        let mut credit = self.reserve_catalogue_change()?;
        let (deletion, lsn) = {
            // No checkpoint may be writing out what goes.
            let mut state = self.checkpoint.lock();
            state.postpone_pending();
            let (topic, _, lsn) =
                self.change_catalogue(&mut credit, |catalogue| catalogue.decide_delete(name))?;
            if let Some(removed) = self.registry.remove(name) {
                removed.logs.iter().for_each(|log| log.delete());
            }
            let deletion = Deletion {
                name: Arc::clone(&topic.name),
                id: topic.id,
                partitions: topic.config.partitions,
            };
            // From here on the topic is deleted, whatever becomes of its files: a failure to move or
            // remove them is for `health`, and they are removed later.
            let set_aside = files::set_aside(&*self.storage, &deletion);
            self.troubles.deletion(set_aside.as_ref().copied());
            (deletion, lsn)
        };
        if !planted("unlink_before_sync") {
            self.wait_deleted(lsn)?;
        }
        self.remove_deleted(&deletion);
        Ok(())
    }

    /// Waits until a deletion survives power loss, also where a disk is so full that the recovery
    /// checkpoint, for which `Synced` waits, needs the very space that the deletion frees.
    fn wait_deleted(&self, lsn: Lsn) -> Result<()> {
        let recovered = if self.journal.is_held() { self.checkpoint() } else { Ok(()) };
        match recovered {
            Err(Error::DiskFull { .. }) if !planted("deletion_needs_space") => {
                // Whoever waits for `Synced` goes on waiting for that checkpoint.
                self.background.request_checkpoint();
                self.journal.keep_replayed().map_err(indeterminate)
            }
            // Whatever else is wrong, the journal knows what became of the frame.
            _ => self.wait_synced(lsn),
        }
    }

    /// Moves the folders of deleted topics out of the way.
    fn set_deleted_aside(&self) -> Result<()> {
        let deletions = self.catalogue.lock().deletions().to_vec();
        deletions.iter().try_for_each(|deletion| files::set_aside(&*self.storage, deletion))
    }

    /// Removes the folders of a deleted topic whose deletion is synced. What cannot be removed now is
    /// with the next checkpoint.
    pub(super) fn remove_deleted(&self, deletion: &Deletion) {
        let removed = files::set_aside(&*self.storage, deletion)
            .and_then(|()| files::remove_folders(&*self.storage, deletion));
        self.troubles.deletion(removed.as_ref().copied());
        if removed.is_ok() {
            self.catalogue.lock().deletion_done(deletion.id);
        }
    }

    /// Journals a commit of offsets and applies it, if the group accepts it: as a member's, or as that
    /// of somebody outside, which only a group without members takes.
    pub(crate) fn commit_offsets<'p>(
        &self,
        group: &GroupHandle,
        member: Option<(&MemberId, MemberEpoch)>,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let now = self.clock().monotonic();
        self.change_offsets(
            group,
            |members| {
                match member {
                    Some((id, epoch)) => {
                        let checked = members.check_commit(id, epoch, partitions);
                        checked.and_then(|()| members.heard(id, now))
                    }
                    None => members.check_simple_commit(),
                }
                .map_err(|refusal| refusal.into_error(group.name(), member.map(|(id, _)| id)))
            },
            commit,
        )
    }

    /// Journals a change of a group's offsets and applies it, if `check` lets it pass under the lock that
    /// a change of the group's members takes.
    pub(super) fn change_offsets(
        &self,
        group: &GroupHandle,
        check: impl FnOnce(&mut Group) -> Result<()>,
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let (mut credit, body) = self.reserve_for(commit)?;
        let mut state = group.lock();
        check(&mut state.group)?;
        let mut offsets = self.offsets.lock();
        self.journal_offsets(&mut credit, &mut offsets, &body, commit)
    }

    /// The section of a change of offsets, and journal space for it.
    pub(super) fn reserve_for(&self, commit: &OffsetCommit) -> Result<(Credit<'_>, Vec<u8>)> {
        let mut body = Vec::with_capacity(commit.bytes_hint());
        commit.encode(&mut body);
        Ok((self.reserve_urgent(SECTION_HEADER + body.len())?, body))
    }

    /// Journals a change of offsets and applies it.
    pub(super) fn journal_offsets(
        &self,
        credit: &mut Credit<'_>,
        offsets: &mut Offsets,
        body: &[u8],
        commit: &OffsetCommit,
    ) -> Result<Lsn> {
        let _guard = self.journal.fail_on_panic("the committed offsets");
        let header = section_header(SectionKind::GROUP_OFFSETS, body.len() as u32);
        let lsn = self.journal.append(credit, &[&header, body])?;
        offsets.store.apply(commit);
        offsets.version += 1;
        Ok(lsn)
    }

    /// Waits until everything up to `lsn` survives power loss.
    pub(crate) fn wait_synced(&self, lsn: Lsn) -> Result<()> {
        self.logs.wait_synced(lsn)
    }

    fn new_topic_id(&self) -> TopicId {
        let (high, low) = (self.random().next_u64(), self.random().next_u64());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TopicId::from_bytes(bytes)
    }

    /// Ends the engine: everything is written out, nothing is left to replay.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_fork()?;
        // From here on its groups are not in use. Where this cannot be said, the last round said it.
        let _said_before = self.note_active_groups();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.background.stop();
        self.writer.stop();
        self.groups.close();
        // First, so that nothing can come after the last checkpoint, which says so.
        self.journal.stop_appends();
        let written = self.last_checkpoint().and_then(|()| self.finish_files());
        let journal = self.journal.close();
        drop(self.lock.lock().take());
        written.and(journal)
    }

    /// Last index entries, and Kafka's leader epoch files, of the partitions in use.
    fn finish_files(&self) -> Result<()> {
        for topic in self.registry.topics() {
            for log in &topic.logs {
                if log.finish()? {
                    let dir = PathBuf::from(log.partition().to_string());
                    files::write_epochs(&*self.storage, &dir, &log.epochs())?;
                }
            }
        }
        Ok(())
    }

    /// The folder, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.storage.display_path(Path::new(""))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody had a handle: opening failed. As with the last handle otherwise.
        if !std::thread::panicking() {
            let _unreported = self.close();
        }
    }
}

/// What a failure means to who waits for what is in the journal already.
pub(super) fn indeterminate(error: Error) -> Error {
    match error {
        Error::Indeterminate { .. } => error,
        error => Error::Indeterminate { cause: Arc::new(error) },
    }
}

/// A topic's name and configuration as a section, at most; far more than they ever take.
const MAX_CATALOGUE_CHANGE: usize = 4096;

/// As many filled batches of a partition are gathered before the writer is woken for it: waking a thread
/// costs as much as writing a batch.
const GATHERED: usize = 4;

/// Kafka's `max.block.ms`, for what is not sent by a producer.
const URGENT_MAX_BLOCK: Duration = Duration::from_mins(1);
