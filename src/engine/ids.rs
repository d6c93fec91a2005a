//! The idempotency ids of topics: `dedup` keeps them, frames register them, checkpoints list them.
//!
//! A topic gets a table with the first frame that has an id for it. Other topics cost nothing. Tables are locked before
//! everything else that a frame locks, in the order of their topics, and stay locked until the frame is applied. So two
//! threads that send one id at once come one after the other: the second finds the place of the first.
//!
//! Imported by `state`, `frame`, `checkpoint`, `recovery` and `engine`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::lock_api::ArcMutexGuard;
use parking_lot::{Mutex, RawMutex};

use crate::config::TopicConfig;
use crate::dedup::{
    ClaimNumber, Claims, Decision, DedupSettings, DedupTable, Frozen, IdHasher, IdSection, Place,
    TopicImage, id_section_bytes, load, load_without_ids, remove_unlisted,
};
use crate::engine::catalogue::Catalogue;
use crate::error::{Error, Result};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::log::{Log, Placed};
use crate::storage::Storage;
use crate::types::{Timestamp, TopicId, planted};

type Table = Arc<Mutex<DedupTable>>;
type TableGuard = ArcMutexGuard<RawMutex, DedupTable>;

/// The tables of the topics that have ids.
#[derive(Debug)]
pub(crate) struct Ids {
    hasher: IdHasher,
    tables: Mutex<BTreeMap<TopicId, Table>>,
}

fn settings(config: &TopicConfig) -> DedupSettings {
    DedupSettings { window_ms: config.dedup_window_ms, max_ids: config.dedup_max_ids }
}

/// The sections of frames with ids, in order, until the tables are loaded.
#[derive(Debug, Default)]
pub(crate) struct ReplayedIds(Vec<IdSection>);

impl ReplayedIds {
    pub(super) fn add(&mut self, section: IdSection) {
        self.0.push(section);
    }
}

impl Ids {
    /// Loads the tables that a checkpoint lists, and registers the ids of the frames above it again.
    ///
    /// If the files of a topic are damaged, its ids are forgotten, and the damage is returned with the topic's name.
    pub(super) fn load(
        storage: &dyn Storage,
        directory_id: &[u8; 16],
        (listed, replayed): (&[TopicImage], &ReplayedIds),
        catalogue: &Catalogue,
        now: Timestamp,
    ) -> Result<(Self, Vec<(String, Error)>)> {
        let (mut tables, mut damaged) = (BTreeMap::new(), Vec::new());
        let now = now.as_millis().max(0);
        let configs: BTreeMap<TopicId, _> =
            catalogue.topics().map(|topic| (topic.id, topic)).collect();
        for image in listed {
            let Some(topic) = configs.get(&image.topic) else { continue };
            let settings = settings(&topic.config);
            let table = match load(storage, image, settings, now) {
                Err(error) if error.is_corruption() => {
                    damaged.push((topic.name.to_string(), error));
                    load_without_ids(image, settings, now)
                }
                table => table?,
            };
            tables.insert(image.topic, table);
        }
        for section in &replayed.0 {
            let Some(topic) = configs.get(&section.topic) else { continue };
            let new = || DedupTable::new(section.topic, settings(&topic.config));
            section.replay(tables.entry(section.topic).or_insert_with(new));
        }
        let tables = tables.into_iter().map(|(id, table)| (id, Arc::new(Mutex::new(table))));
        let tables = Mutex::new(tables.collect());
        Ok((Self { hasher: IdHasher::new(directory_id), tables }, damaged))
    }

    /// Forgets a deleted topic.
    pub(super) fn remove(&self, topic: TopicId) {
        self.tables.lock().remove(&topic);
    }

    /// Returns how many ids a topic remembers, and how many it forgot because there were too many.
    pub(super) fn counts(&self, topic: TopicId) -> (u64, u64) {
        let table = self.tables.lock().get(&topic).cloned();
        table.map_or((0, 0), |table| {
            let table = table.lock();
            (table.len(), table.forgotten())
        })
    }

    /// Gives the memory of expired ids back.
    pub(super) fn expire(&self, now: Timestamp) {
        let tables: Vec<Table> = self.tables.lock().values().cloned().collect();
        for table in tables {
            while table.lock().expire(now.as_millis()) {}
        }
    }

    /// Takes the locks of the tables of these partitions' topics. Creates those that do not exist.
    pub(super) fn lock(&self, logs: &[Arc<Log>], now: Timestamp) -> IdLocks {
        let mut topics: Vec<(TopicId, &Arc<Log>)> =
            logs.iter().map(|log| (log.topic_id(), log)).collect();
        topics.sort_by_key(|(id, _)| *id);
        topics.dedup_by_key(|(id, _)| *id);
        let now = now.as_millis().max(0);
        let tables: Vec<(DedupSettings, Table)> = {
            let mut tables = self.tables.lock();
            let mut find = |(id, log): &(TopicId, &Arc<Log>)| {
                let settings = settings(&log.config());
                let new = || Arc::new(Mutex::new(DedupTable::new(*id, settings)));
                (settings, Arc::clone(tables.entry(*id).or_insert_with(new)))
            };
            topics.iter().map(&mut find).collect()
        };
        let lock = |((id, _), (settings, table)): (&(TopicId, _), (DedupSettings, Table))| {
            let mut table = Mutex::lock_arc(&table);
            table.follow(settings, now);
            let time = table.time(now);
            let (claims, header, body) = (Claims::default(), [0; SECTION_HEADER], Vec::new());
            OfTopic { id: *id, table, claims, time, header, body }
        };
        let topics = topics.iter().zip(tables).map(lock).collect();
        IdLocks { topics, hasher: self.hasher.clone(), now }
    }

    /// Takes all locks, for a checkpoint.
    pub(super) fn lock_all(&self) -> FreezeIds<'_> {
        let tables = self.tables.lock();
        let guards = tables.values().map(Mutex::lock_arc).collect();
        FreezeIds { tables, guards }
    }

    /// Notes that a checkpoint with these images is durable, and removes the files that it does not list. Returns
    /// whether none is left.
    pub(super) fn checkpointed(&self, images: &[TopicImage], storage: &dyn Storage) -> bool {
        for image in images {
            let table = self.tables.lock().get(&image.topic).cloned();
            if let Some(table) = table {
                table.lock().committed(image);
            }
        }
        // What is left is removed after the next checkpoint.
        remove_unlisted(images, storage).is_ok()
    }
}

/// The held locks of all tables.
pub(super) struct FreezeIds<'i> {
    tables: parking_lot::MutexGuard<'i, BTreeMap<TopicId, Table>>,
    guards: Vec<TableGuard>,
}

impl FreezeIds<'_> {
    /// Freezes the tables of the topics that exist.
    pub(super) fn freeze(&mut self, catalogue: &Catalogue) -> Vec<Frozen> {
        if self.guards.is_empty() {
            return Vec::new();
        }
        let live: BTreeSet<TopicId> = catalogue.topics().map(|topic| topic.id).collect();
        // A frame that came too late for its topic may have left an empty table.
        self.tables.retain(|topic, _| live.contains(topic));
        let guards = self.guards.iter_mut().filter(|table| live.contains(&table.topic()));
        guards.map(|table| table.freeze()).collect()
    }
}

/// The held tables of a frame, and what it registers.
pub(super) struct IdLocks {
    topics: Vec<OfTopic>,
    hasher: IdHasher,
    now: i64,
}

struct OfTopic {
    id: TopicId,
    table: TableGuard,
    claims: Claims,
    time: i64,
    header: [u8; SECTION_HEADER],
    body: Vec<u8>,
}

/// The claim of a record to register its id: the topic among those of the frame, and the claim there.
pub(super) type IdClaim = (usize, ClaimNumber);

/// What becomes of a record with an id.
pub(super) enum Fate {
    /// It is stored, and its place registered.
    Store(Option<IdClaim>),
    /// An earlier record has its id.
    Duplicate(Place),
}

impl IdLocks {
    /// Decides on the next record of a frame.
    ///
    /// # Errors
    /// `Misuse` or `LimitExceeded` if no record can have the id.
    pub(super) fn decide(&mut self, log: &Log, id: &[u8]) -> Result<Fate> {
        let hash = self.hasher.hash(id)?;
        let topic = log.topic_id();
        let Ok(at) = self.topics.binary_search_by_key(&topic, |of| of.id) else {
            return Ok(Fate::Store(None));
        };
        let now = self.now;
        let Some(OfTopic { table, claims, .. }) = self.topics.get_mut(at) else {
            return Ok(Fate::Store(None));
        };
        Ok(match claims.decide(table, hash, now) {
            Decision::New(claim) => Fate::Store(Some((at, claim))),
            Decision::Duplicate(_) if planted("duplicate_is_stored") => Fate::Store(None),
            Decision::Duplicate(place) => Fate::Duplicate(place),
            Decision::Off => Fate::Store(None),
            Decision::Repeat(claim) => match claims.place_of(claim) {
                Some(place) => Fate::Duplicate(place),
                None => return Err(Error::Misuse("a record with an id that has no place")),
            },
        })
    }

    /// Notes where a record went that is to be registered.
    pub(super) fn place(&mut self, (at, claim): IdClaim, log: &Log, placed: Placed) {
        if let Some(of) = self.topics.get_mut(at) {
            of.claims.place(claim, Place { partition: log.number(), offset: placed.offset });
        }
    }

    /// Adds the sections of the frame to `parts`.
    pub(super) fn sections<'s>(&'s mut self, parts: &mut Vec<&'s [u8]>) {
        for of in &mut self.topics {
            if of.claims.len() > 0 && !planted("ids_not_journaled") {
                of.claims.encode(of.id, of.time, &mut of.body);
                of.header = section_header(SectionKind::IDS, of.body.len() as u32);
                parts.extend([&of.header[..], &of.body]);
            }
        }
    }

    /// Registers the ids of a frame that is in the journal.
    pub(super) fn apply(self) {
        for mut of in self.topics {
            of.claims.register(&mut of.table, of.time);
        }
    }
}

/// Returns the most bytes that the sections of a frame with `ids` ids in `topics` topics take.
pub(super) fn section_bound(ids: usize, topics: usize) -> usize {
    let each = SECTION_HEADER.saturating_add(id_section_bytes(0));
    id_section_bytes(ids).saturating_add(topics.saturating_mul(each))
}
