//! Loads a folder into memory: checkpoint and offset file, with the journal replayed on top.

use std::path::Path;
use std::sync::Arc;

use crate::config::BrokerConfig;
use crate::dedup::IdSection;
use crate::engine::apply::{Target, apply};
use crate::engine::catalogue::{Catalogue, CatalogueChange, Deletion};
use crate::engine::files;
use crate::engine::ids::ReplayedIds;
use crate::engine::image::CheckpointImage;
use crate::engine::owners::Owners;
use crate::engine::registry::{Registry, Topic};
use crate::engine::shares::ShareStates;
use crate::error::{CorruptReason, Error, Result};
use crate::group::OffsetStore;
use crate::journal::{self, Frame, Replayed};
use crate::log::{Log, LogShared};
use crate::storage::Storage;
use crate::types::{Lsn, PartitionNumber, TopicId, planted};

/// The state of a folder, loaded into memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: CheckpointImage,
    pub(crate) logs: Arc<LogShared>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Catalogue,
    pub(crate) offsets: OffsetStore,
    pub(crate) owners: Owners,
    pub(crate) shares: ShareStates,
    pub(super) ids: ReplayedIds,
    pub(crate) replayed: Replayed,
    pub(super) records: u64,
}

impl Loaded {
    /// Returns whether the last writer closed the folder and no later one opened it. Its files match the
    /// checkpoint then.
    ///
    /// A later writer shows by its epoch: its first journal header is durable before it changes anything
    /// else. Power loss may take all its other changes.
    pub(crate) fn is_closed(&self) -> bool {
        let Replayed { frames, torn, last_epoch_seen, .. } = self.replayed;
        let untouched = frames == 0 && !torn && last_epoch_seen <= self.image.epoch;
        self.image.closed && (untouched || planted("closed_once_is_closed"))
    }

    /// Returns whether the checkpoint lists no segment of a deleted topic's partition. Then nothing in the
    /// partition's folder was synced. After power loss, its `partition.metadata` may hold an old disk block
    /// with the id of an earlier topic.
    pub(super) fn is_unlisted(&self, deletion: &Deletion, partition: u32) -> bool {
        let topic = self.image.catalogue.topic(&deletion.name).ok();
        let topic = topic.filter(|topic| topic.id == deletion.id);
        let number = topic.and_then(|topic| topic.numbers().nth(partition as usize));
        let log = number.and_then(|number| self.image.logs.get(&number));
        log.is_none_or(|log| log.segments.is_empty())
    }

    /// Returns whether the topic of this name has this id.
    pub(super) fn is_live(&self, name: &str, id: TopicId) -> bool {
        self.catalogue.topic(name).is_ok_and(|topic| topic.id == id)
    }

    /// Reads checkpoint, offset file and journal. Changes no file.
    ///
    /// Large appends are in the segments, and the journal only says where. If power loss took some of their
    /// bytes, the journal ends before the frame that relies on them.
    pub(crate) fn read(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<Self> {
        let (mut until, mut suspect) = (None, None);
        loop {
            let loaded = Self::read_until(storage, config, until)?;
            // Without the last frames, a topic may exist that they delete. So this judges all sections again.
            // Frames only get fewer, so the loop ends.
            let Some(unproven) = loaded.first_unproven()? else {
                let known_synced = loaded.replayed.known_synced;
                for log in loaded.changed() {
                    log.adopt(known_synced)?;
                    log.drop_removed()?;
                }
                return Ok(loaded);
            };
            // A running writer may have deleted the topic since the journal was read. It journals the deletion
            // before it removes the bytes, so it is in the journal now. Without a writer, a second look finds the
            // same.
            match suspect.take() {
                None if !planted("believe_first_look") => suspect = Some(unproven),
                Some(other) if other != unproven => {
                    return Err(Error::Busy { path: storage.display_path(Path::new("")) });
                }
                _ => until = Some(unproven),
            }
        }
    }

    /// Returns the first frame that relies on bytes that are not in the segments.
    fn first_unproven(&self) -> Result<Option<Lsn>> {
        let mut first = None;
        for log in self.changed() {
            if log.has_claims() {
                let dir = files::find_folder(&*self.logs.storage, log.partition(), log.topic_id())?;
                let lsn = log.first_unproven(&dir, self.replayed.known_synced)?;
                first = first.into_iter().chain(lsn).min();
            }
        }
        Ok(first)
    }

    /// Returns the partitions that replay changed and that exist in the end.
    pub(super) fn changed(&self) -> Vec<Arc<Log>> {
        let numbers = self.logs.dirty.lock();
        numbers.iter().filter_map(|number| self.registry.by_number(*number)).collect()
    }

    fn read_until(
        storage: &Arc<dyn Storage>,
        config: &BrokerConfig,
        until: Option<Lsn>,
    ) -> Result<Self> {
        let image = files::read_checkpoint(&**storage)?;
        let offsets = match image.offsets {
            Some(file) => files::read_offsets(&**storage, image.directory_id, file)?,
            None => OffsetStore::new(),
        };
        let shares = match image.shares {
            Some(file) => files::read_shares(&**storage, image.directory_id, file)?,
            None => ShareStates::default(),
        };
        let logs = Arc::new(LogShared::new(Arc::clone(storage), image.epoch, config));
        let registry = Registry::load(&image.catalogue, &logs, |number| image.logs.get(&number));
        let (catalogue, owners) = (image.catalogue.clone(), (*image.owners).clone());
        let ids = ReplayedIds::default();
        let mut replay = Replay { catalogue, registry, offsets, owners, shares, ids, logs };
        let mut records: u64 = 0;
        let mut visit = |frame: Frame<'_>| {
            records = records.saturating_add(apply(&mut replay, &frame)?);
            Ok(())
        };
        let id = image.directory_id;
        let replayed = journal::replay_until(&**storage, id, image.end, until, &mut visit)?;
        Ok(Self {
            logs: replay.logs,
            registry: Arc::new(replay.registry),
            catalogue: replay.catalogue,
            offsets: replay.offsets,
            owners: replay.owners,
            shares: replay.shares,
            ids: replay.ids,
            records,
            replayed,
            image,
        })
    }
}

/// The state that replay changes.
struct Replay {
    catalogue: Catalogue,
    registry: Registry,
    offsets: OffsetStore,
    owners: Owners,
    shares: ShareStates,
    ids: ReplayedIds,
    logs: Arc<LogShared>,
}

impl Target for Replay {
    fn log(&mut self, number: PartitionNumber) -> Option<Arc<Log>> {
        self.registry.by_number(number)
    }

    fn offsets(&mut self) -> &mut OffsetStore {
        &mut self.offsets
    }

    fn owners(&mut self) -> &mut Owners {
        &mut self.owners
    }

    fn shares(&mut self) -> &mut ShareStates {
        &mut self.shares
    }

    fn ids(&mut self, ids: IdSection) {
        self.ids.add(ids);
    }

    fn catalogue(&mut self, change: &CatalogueChange) -> Result<(), CorruptReason> {
        let topic = self.catalogue.apply(change)?;
        match change {
            CatalogueChange::Create(_) => {
                self.registry.insert(Arc::new(Topic::new(&topic, &self.logs, |_| None)));
            }
            CatalogueChange::Alter(..) | CatalogueChange::AddPartitions(..) => {
                let altered = self.registry.alter(&topic, &self.logs);
                altered.map_err(|_| CorruptReason::Field)?;
            }
            CatalogueChange::Delete(_) => {
                if let Some(removed) = self.registry.remove(&topic.name) {
                    // Replay has written nothing.
                    removed.logs.iter().for_each(|log| drop(log.delete()));
                }
                let numbers = topic.numbers().collect::<Vec<_>>();
                self.offsets.remove_partitions(&numbers);
                self.shares.remove_partitions(&numbers);
            }
        }
        Ok(())
    }
}
