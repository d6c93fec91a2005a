//! Opening a folder: create, or recover from checkpoint and journal.
//!
//! Recovery is the ordinary `apply` over the journal, in order: a topic is created, receives its
//! records, is deleted, as it was before. Only when the whole journal was read without damage are files
//! touched: they are judged by the *final* catalogue (hazard H5), a new journal file is begun, they are cut to
//! what the checkpoint says, and everything behind it is rebuilt from the journal (H1, H2). In a folder that was closed there is nothing to
//! rebuild, and no partition is looked at before its first use; see `log::settle`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::Mutex;

use crate::config::{BrokerConfig, JournalMode};
use crate::engine::background::Background;
use crate::engine::catalogue::{Catalogue, CatalogueChange};
use crate::engine::checkpoint::CheckpointState;
use crate::engine::files::{self, FolderState};
use crate::engine::groups::Groups;
use crate::engine::handle::EngineHandle;
use crate::engine::health::Troubles;
use crate::engine::image::CheckpointImage;
use crate::engine::registry::{Registry, Topic};
use crate::engine::report::{DamagedPartition, RecoveryReport};
use crate::engine::reserve::Reserve;
use crate::engine::state::{Engine, Offsets, indeterminate};
use crate::engine::writer::Writer;
use crate::error::{CorruptReason, Error, Result};
use crate::group::{OffsetCommit, OffsetStore};
use crate::journal::{self, Frame, Journal, JournalConfig, Replayed, SectionKind, Start, sections};
use crate::log::{AppendSection, Log, LogShared, LogStartSection, Recovery};
use crate::storage::Storage;
use crate::types::{Epoch, PartitionNumber, TopicId, planted};

/// The state of a folder in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) image: CheckpointImage,
    pub(crate) logs: Arc<LogShared>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Catalogue,
    pub(crate) offsets: OffsetStore,
    pub(crate) replayed: Replayed,
    records: u64,
}

impl Loaded {
    /// Whether the last writer closed the folder and nobody opened it for writing since: its files are what
    /// the checkpoint says. A later writer's first journal header, with its epoch, is durable before it
    /// changes anything else, and power loss may take everything of it but that.
    fn is_closed(&self) -> bool {
        let Replayed { frames, torn, last_epoch_seen, .. } = self.replayed;
        let untouched = frames == 0 && !torn && last_epoch_seen <= self.image.epoch;
        self.image.closed && (untouched || planted("closed_once_is_closed"))
    }

    /// Reads checkpoint, offset file and journal. Changes nothing on disk.
    pub(crate) fn read(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<Self> {
        let image = files::read_checkpoint(&**storage)?;
        let offsets = match image.offsets {
            Some(file) => files::read_offsets(&**storage, image.directory_id, file)?,
            None => OffsetStore::new(),
        };
        let logs = Arc::new(LogShared::new(Arc::clone(storage), image.epoch, config));
        let registry = Registry::load(&image.catalogue, &logs, |number| image.logs.get(&number));
        let mut replay = Replay {
            catalogue: image.catalogue.clone(),
            registry,
            offsets,
            logs,
            records: 0,
            journal: storage.display_path(Path::new(files::JOURNAL_DIR)),
        };
        let replayed = journal::replay(&**storage, image.directory_id, image.end, &mut |frame| {
            replay.apply(&frame)
        })?;
        Ok(Self {
            logs: replay.logs,
            registry: Arc::new(replay.registry),
            catalogue: replay.catalogue,
            offsets: replay.offsets,
            records: replay.records,
            replayed,
            image,
        })
    }
}

/// The state while frames are applied to it.
struct Replay {
    catalogue: Catalogue,
    registry: Registry,
    offsets: OffsetStore,
    logs: Arc<LogShared>,
    records: u64,
    journal: std::path::PathBuf,
}

impl Replay {
    fn apply(&mut self, frame: &Frame<'_>) -> Result<()> {
        for section in sections(frame.payload) {
            section.and_then(|(kind, body)| self.apply_section(frame, kind, body)).map_err(
                |reason| Error::corrupt(&self.journal, u64::from(frame.lsn.position()), reason),
            )?;
        }
        Ok(())
    }

    fn apply_section(
        &mut self,
        frame: &Frame<'_>,
        kind: u8,
        body: &[u8],
    ) -> Result<(), CorruptReason> {
        match kind {
            SectionKind::APPEND | SectionKind::LOG_START => {
                self.records += apply_to_log(frame.epoch, kind, body, |number| {
                    self.registry.by_number(number)
                })?;
            }
            SectionKind::GROUP_OFFSETS => self.offsets.apply(&OffsetCommit::decode(body)?),
            SectionKind::CATALOGUE => {
                let change = CatalogueChange::decode(body)?;
                let topic = self.catalogue.apply(&change)?;
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
                            removed.logs.iter().for_each(|log| log.delete());
                        }
                        self.offsets.remove_partitions(&topic.numbers().collect::<Vec<_>>());
                    }
                }
            }
            _ => return Err(CorruptReason::Field),
        }
        Ok(())
    }
}

/// Applies what changes one partition; how many records it got.
pub(in crate::engine) fn apply_to_log(
    epoch: Epoch,
    kind: u8,
    body: &[u8],
    find: impl FnOnce(PartitionNumber) -> Option<Arc<Log>>,
) -> Result<u64, CorruptReason> {
    if kind == SectionKind::LOG_START {
        let section = LogStartSection::decode(body)?;
        let log = find(section.partition).ok_or(CorruptReason::Field)?;
        log.replay_start(section.start_offset)?;
        return Ok(0);
    }
    let (section, records) = AppendSection::decode(body)?;
    let log = find(section.partition).ok_or(CorruptReason::Field)?;
    log.replay(&section, records, epoch)?;
    Ok(u64::from(section.count))
}

/// Opens a folder for writing.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
) -> Result<(EngineHandle, RecoveryReport)> {
    config.validate()?;
    let began = config.clock.monotonic();
    // Somebody else's folder is left without even a lock file.
    let mut state = files::classify(&*storage)?;
    if state == FolderState::New && !config.create {
        return Err(Error::NotADatabase {
            path: storage.display_path(Path::new("")),
            reason: "it is empty, and was not to be created",
        });
    }
    if state == FolderState::Existing {
        files::check_format(&*storage)?;
    }
    let lock = storage.lock(Path::new(files::LOCK_FILE))?;
    // Another process may have created it while this one waited for nothing.
    if state == FolderState::New {
        state = files::classify(&*storage)?;
    }
    if state == FolderState::New {
        create(&storage, &config)?;
    }
    let loaded = Loaded::read(&storage, &config)?;
    let mut report = RecoveryReport {
        unclean: loaded.replayed.frames > 0 || loaded.replayed.torn,
        frames_replayed: loaded.replayed.frames,
        records_replayed: loaded.records,
        journal_bytes_discarded: loaded.replayed.discarded_bytes,
        ..RecoveryReport::default()
    };
    if !planted("believe_cached_checkpoint") {
        files::keep_checkpoint(&*storage, loaded.image.generation)?;
    }
    let to_cut = check_files(&*storage, &config, &loaded, &mut report.damaged)?;
    let (engine, cut) = start(storage, config, loaded, &to_cut, report.unclean, lock)?;
    report.segment_bytes_cut = cut;
    report.duration = engine.clock().monotonic().saturating_sub(began);
    Ok((EngineHandle::new(engine), report))
}

/// Makes a new folder; its last step makes it one. What an earlier attempt left is replaced.
fn create(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<()> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&config.random.next_u64().to_be_bytes());
    id[8..].copy_from_slice(&config.random.next_u64().to_be_bytes());
    let journal = Path::new(files::JOURNAL_DIR);
    if storage.metadata(journal)?.is_some() {
        for entry in storage.list(journal)? {
            storage.remove(&journal.join(&entry.name))?;
        }
    }
    files::write_meta(&**storage, TopicId::from_bytes(id))?;
    let start = Start { min_sequence: 1, ..Start::default() };
    let journal = start_journal(storage, config, id, 0, &start, Box::new(|| {}))?;
    let image =
        CheckpointImage { directory_id: id, end: journal.end(), ..CheckpointImage::default() };
    journal.close()?;
    files::write_first_checkpoint(&**storage, &image)
}

/// Looks at the files of all partitions; those whose files are to be brought to what the checkpoint says. A
/// partition whose files are damaged or gone is left as it is and takes no appends; the others go on. In a
/// folder that was closed each partition is left to its first append, unless damage anywhere is to make opening
/// fail.
fn check_files(
    storage: &dyn Storage,
    config: &BrokerConfig,
    loaded: &Loaded,
    damaged: &mut Vec<DamagedPartition>,
) -> Result<Vec<Arc<Log>>> {
    // Folders of deleted topics first: a topic of the same name may be there again.
    for deletion in loaded.catalogue.deletions() {
        files::set_aside(storage, deletion)?;
    }
    let mut to_cut = Vec::new();
    if loaded.is_closed() && !config.strict {
        loaded.registry.topics().iter().for_each(|topic| topic.settle_later());
        return Ok(to_cut);
    }
    for topic in loaded.registry.topics() {
        for (partition, log) in topic.logs.iter().enumerate() {
            if !planted("folder_not_restored") {
                files::restore_folder(storage, &topic.name, partition as u32, topic.id)?;
            }
            let damage = match log.check_files() {
                // Its records in the journal would have no place to be written out to.
                Err(error) if !error.is_corruption() || log.is_dirty() => return Err(error),
                Err(damage) => Some(damage),
                Ok(damage) => {
                    to_cut.push(Arc::clone(log));
                    damage
                }
            };
            let Some(cause) = damage else { continue };
            if config.strict {
                return Err(cause);
            }
            log.set_damaged(cause.clone());
            damaged.push(DamagedPartition { partition: log.partition().clone(), cause });
        }
    }
    Ok(to_cut)
}

/// Brings files to what the checkpoint says; bytes cut. The new journal file is begun: its epoch tells the next
/// opening that this was under way, for what it did until its checkpoint a kill leaves in the cache alone.
fn cut_files(to_cut: &[Arc<Log>], loaded: &Loaded) -> Result<u64> {
    let again = loaded.replayed.last_epoch_seen > loaded.image.epoch;
    let again = again && !planted("cut_once");
    let mut cut = 0;
    for log in to_cut {
        cut += log.cut_files(again)?;
    }
    Ok(cut)
}

fn start(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
    loaded: Loaded,
    to_cut: &[Arc<Log>],
    unclean: bool,
    lock: Box<dyn crate::storage::StorageLock>,
) -> Result<(Arc<Engine>, u64)> {
    let last = loaded.image.epoch.max(loaded.replayed.last_epoch_seen);
    let epoch = if planted("reuse_epoch") { last } else { last.saturating_add(1) };
    loaded.logs.epoch.store(epoch, std::sync::atomic::Ordering::Release);
    let background = Background::new();
    let start = Start::after(&loaded.replayed);
    let wake = Box::new(background.requester());
    let id = loaded.image.directory_id;
    let journal = start_journal(&storage, &config, id, epoch, &start, wake)?;
    let cut = cut_files(to_cut, &loaded)?;
    let Loaded { image, logs, registry, catalogue, offsets, .. } = loaded;
    // What was replayed may be in the cache of the system alone. And until a checkpoint lies in the
    // new journal file, a rotten header of it would look like the journal's end (hazard H12).
    let early = planted("synced_before_recovery");
    if !early {
        journal.hold_synced();
    }
    let first = logs.journal.set(Arc::clone(&journal)).is_ok();
    debug_assert!(first, "a folder is started once");
    let reserve = Reserve::new(Arc::clone(&storage));
    match reserve.ensure(journal.total_bytes()) {
        // Opening works on a full disk: what is there can be read, deleted and committed.
        Err(Error::DiskFull { .. }) if !planted("opening_needs_space") => {}
        Ok(()) => {}
        Err(error) => return Err(error),
    }
    let engine = Arc::new(Engine {
        storage,
        reserve,
        troubles: Troubles::default(),
        directory_id: image.directory_id,
        epoch,
        journal,
        logs,
        registry,
        admin: Mutex::new(()),
        checkpoint: Mutex::new(CheckpointState::new(image.generation, image.offsets, image.logs)),
        offsets: Mutex::new(Offsets { store: offsets, version: u64::from(unclean) }),
        catalogue: Mutex::new(catalogue),
        groups: Groups::new(config.group_max_size),
        background,
        writer: Writer::new(),
        lock: Mutex::new(Some(lock)),
        closed: AtomicBool::new(false),
        handles: AtomicUsize::new(0),
        config,
    });
    // Frozen before anything can be appended: E is the beginning of the new journal file.
    let freeze = engine.freeze();
    engine.checkpoint.lock().pending = Some(freeze);
    if engine.config.background {
        let path = engine.path();
        let interval = engine.config.offsets_retention_check_interval;
        engine
            .background
            .start(Arc::downgrade(&engine), Arc::clone(&engine.config.clock), interval)
            .map_err(|error| Error::io("start a thread for", path, error))?;
        engine.background.request_recovery();
        return Ok((engine, cut));
    }
    let weak = Arc::downgrade(&engine);
    let finish = move || {
        let checkpoint = weak.upgrade().map_or(Err(Error::Closed), |engine| engine.checkpoint());
        // What waits for it is in the journal all the same.
        checkpoint.map_err(indeterminate)
    };
    let first = engine.logs.recovery.set(Recovery(Box::new(finish))).is_ok();
    debug_assert!(first, "a folder is started once");
    if !early {
        match engine.finish_recovery() {
            Ok(()) | Err(Error::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((engine, cut))
}

fn start_journal(
    storage: &Arc<dyn Storage>,
    config: &BrokerConfig,
    directory_id: [u8; 16],
    epoch: i32,
    start: &Start,
    on_half_full: Box<dyn Fn() + Send + Sync>,
) -> Result<Arc<Journal>> {
    let mode = match config.journal_mode {
        JournalMode::Map => journal::JournalMode::Map,
        JournalMode::Auto if storage.supports_write_map() => journal::JournalMode::Map,
        JournalMode::Write | JournalMode::Auto => journal::JournalMode::Write,
    };
    let journal_config = JournalConfig {
        file_bytes: config.journal_file_bytes,
        max_bytes: config.journal_max_bytes,
        mode,
        directory_id,
        epoch,
        sync_interval: config.sync_interval,
        background: config.background,
    };
    Journal::create(
        Arc::clone(storage),
        journal_config,
        Arc::clone(&config.random),
        Arc::clone(&config.clock),
        start,
        on_half_full,
    )
}
