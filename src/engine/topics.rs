//! Creates, alters and deletes topics.

use std::sync::Arc;

use crate::config::TopicConfig;
use crate::engine::catalogue::{
    Catalogue, CatalogueChange, Deletion, MAX_CHANGE_BYTES, TopicImage,
};
use crate::engine::files;
use crate::engine::registry::Topic;
use crate::engine::state::{Engine, indeterminate};
use crate::error::{Error, Result};
use crate::journal::{Credit, SECTION_HEADER, SectionKind, section_header};
use crate::types::{Lsn, TopicId, planted};

impl Engine {
    /// Creates a topic. It is durable when this returns.
    pub(crate) fn create_topic(&self, name: &str, config: TopicConfig) -> Result<()> {
        self.check_open()?;
        if self.reserve.is_given_up() {
            self.refill_reserve()?;
        }
        let lsn = {
            let _one = self.admin.lock();
            self.check_open()?;
            // A deleted topic may still own a folder of this name.
            if !planted("reuse_deleted_folder") {
                self.set_deleted_aside()?;
            }
            let id = self.new_topic_id();
            let mut credit = self.reserve_catalogue_change()?;
            let (topic, _, lsn) = self.change_catalogue(&mut credit, |catalogue| {
                catalogue.decide_create(name, config, id)
            })?;
            self.registry.insert(Arc::new(Topic::new(&topic, &self.logs, |_| None)));
            if topic.config.has_retention() {
                self.background.request_retention();
            }
            self.request_compaction(&topic.config);
            lsn
        };
        self.groups.metadata_changed(&self.registry);
        // Their members may read the topic.
        self.shares.wake_all();
        self.wait_synced(lsn)
    }

    /// Lets the thread that compacts look at a topic that has come or was changed.
    fn request_compaction(&self, config: &TopicConfig) {
        self.keep_room_for_copies();
        if config.cleanup_policy.compacts() {
            // Without a thread, the topic is not compacted before the next opening, or until a program asks for it.
            let _later = self.cleaner.request();
        }
    }

    /// Creates a topic unless there is one of this name. Returns whether it was created.
    pub(crate) fn ensure_topic(&self, name: &str, config: TopicConfig) -> Result<bool> {
        self.check_open()?;
        // The common case reserves, journals and waits for nothing.
        if self.registry.topic(name).is_ok() {
            return Ok(false);
        }
        match self.create_topic(name, config) {
            Ok(()) => Ok(true),
            // Another thread was faster.
            Err(Error::TopicExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes a topic's configuration or adds partitions to it. The change is durable when this returns.
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
            self.request_compaction(&topic.config);
            lsn
        };
        self.background.request_retention();
        // No lock is held here: an assignor may be the program's own code.
        self.groups.metadata_changed(&self.registry);
        // Their members may read the topic.
        self.shares.wake_all();
        self.wait_synced(lsn)
    }

    /// Deletes a topic, its records and its committed offsets. The deletion is durable when this returns.
    pub(crate) fn delete_topic(&self, name: &str) -> Result<()> {
        self.check_open()?;
        let deleted = self.delete_topic_files(name);
        // Even if removing files failed, the topic may be gone. No lock is held here: an assignor may be the
        // program's own code.
        self.groups.metadata_changed(&self.registry);
        deleted
    }

    fn delete_topic_files(&self, name: &str) -> Result<()> {
        // A pass over the topic ends at its next batch, and everything else waits for the locks below meanwhile.
        let _hurry = self.cleaner.without_pauses();
        let _one = self.admin.lock();
        let mut credit = self.reserve_catalogue_change()?;
        let (deletion, lsn, unsynced) = {
            // No checkpoint may write out the topic meanwhile.
            let mut state = self.checkpoint.lock();
            state.postpone_pending();
            let (topic, _, lsn) =
                self.change_catalogue(&mut credit, |catalogue| catalogue.decide_delete(name))?;
            let removed = self.registry.remove(name);
            self.shares.remove_partitions(&topic.numbers().collect::<Vec<_>>());
            self.ids.remove(topic.id);
            self.keep_room_for_copies();
            let unsynced: Vec<_> =
                removed.iter().flat_map(|topic| &topic.logs).flat_map(|log| log.delete()).collect();
            let deletion = Deletion {
                name: Arc::clone(&topic.name),
                id: topic.id,
                partitions: topic.config.partitions,
            };
            if planted("rename_before_sync") {
                files::set_aside(&*self.storage, &deletion)?;
            }
            (deletion, lsn, unsynced)
        };
        // From here on the topic is deleted. If its files cannot be moved or removed, `health` says so and a later
        // checkpoint retries.
        if !planted("unlink_before_sync") {
            self.wait_deleted(lsn)?;
        }
        // Not earlier: a sync of frames before the deletion needs these files, under their names.
        drop(unsynced);
        self.remove_deleted(&deletion);
        Ok(())
    }

    /// Waits until a deletion survives power loss.
    ///
    /// On a full disk, `Synced` would wait for the recovery checkpoint, which needs the very space that the
    /// deletion frees. This breaks that circle.
    fn wait_deleted(&self, lsn: Lsn) -> Result<()> {
        let recovered = if self.journal.is_held() { self.checkpoint() } else { Ok(()) };
        match recovered {
            Err(Error::DiskFull { .. }) if !planted("deletion_needs_space") => {
                // Callers that wait for `Synced` keep waiting for that checkpoint.
                self.background.request_checkpoint();
                self.keep_replayed().map_err(indeterminate)
            }
            // `Synced` would wait for another checkpoint. But this thread may hold the lock for changes of topics,
            // which a close waits for.
            Err(error) if self.journal.is_held() && !planted("deletion_waits_for_ever") => {
                Err(indeterminate(error))
            }
            // In every other case the journal knows whether the frame is durable.
            _ => self.wait_synced(lsn),
        }
    }

    /// Makes all replayed changes durable where they are, without a checkpoint.
    pub(super) fn keep_replayed(&self) -> Result<()> {
        let topics = self.registry.topics();
        let kept = topics.iter().flat_map(|topic| &topic.logs).map(|log| log.keep_adopted());
        let outside: Vec<_> = kept.filter_map(Result::transpose).collect::<Result<_>>()?;
        self.journal.keep_replayed(&outside)
    }

    /// Renames the folders of deleted topics, once their deletion is durable.
    fn set_deleted_aside(&self) -> Result<()> {
        let deletions = self.catalogue.lock().deletions().to_vec();
        if !deletions.is_empty() {
            // The deletion may have an unknown outcome. What comes after it was not tried. It may be tried again
            // unless writing has stopped.
            self.wait_deleted(self.journal.end()).map_err(|error| match error {
                Error::Indeterminate { cause } if self.journal.state().is_none() => {
                    Error::clone(&cause)
                }
                Error::Indeterminate { cause } => Error::Failed { cause },
                known => known,
            })?;
        }
        deletions.iter().try_for_each(|deletion| files::set_aside(&*self.storage, deletion))
    }

    /// Removes the folders of a deleted topic whose deletion is synced. The next checkpoint retries what
    /// fails.
    pub(super) fn remove_deleted(&self, deletion: &Deletion) {
        let removed = files::set_aside(&*self.storage, deletion)
            .and_then(|()| files::remove_folders(&*self.storage, deletion));
        self.troubles.deletion(removed.as_ref().copied());
        if removed.is_ok() {
            self.catalogue.lock().deletion_done(deletion.id);
        }
    }

    /// Reserves space for the largest change of the catalogue: the configuration of one topic.
    fn reserve_catalogue_change(&self) -> Result<Credit<'_>> {
        self.reserve_urgent(SECTION_HEADER + MAX_CHANGE_BYTES)
    }

    /// Journals a change of the catalogue and applies it. Returns the topic, the change, and the end of the
    /// frame.
    fn change_catalogue(
        &self,
        credit: &mut Credit<'_>,
        decide: impl FnOnce(&Catalogue) -> Result<CatalogueChange>,
    ) -> Result<(TopicImage, CatalogueChange, Lsn)> {
        let mut offsets = self.offsets.lock();
        let mut catalogue = self.catalogue.lock();
        let change = decide(&catalogue)?;
        let _guard = self.journal.fail_on_panic("a change of the catalogue");
        let body = change.encode()?;
        let header = section_header(SectionKind::CATALOGUE, body.len() as u32);
        let lsn = self.journal.append(credit, &[&header, &body])?;
        let topic = catalogue
            .apply(&change)
            .map_err(|_| Error::Poisoned { what: "a change of the catalogue".to_owned() })?;
        if matches!(change, CatalogueChange::Delete(_)) {
            let numbers: Vec<_> = topic.numbers().collect();
            offsets.store.remove_partitions(&numbers);
            offsets.version = offsets.version.wrapping_add(1);
        }
        Ok((topic, change, lsn))
    }

    fn new_topic_id(&self) -> TopicId {
        let (high, low) = (self.random().next_u64(), self.random().next_u64());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TopicId::from_bytes(bytes)
    }
}
