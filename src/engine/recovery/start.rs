//! Starts the engine on loaded state.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Weak};

use super::check::cut_files;
use super::load::Loaded;
use crate::config::{BrokerConfig, JournalMode};
use crate::engine::age_clock::AgeClock;
use crate::engine::background::Background;
use crate::engine::checkpoint::CheckpointState;
use crate::engine::cleaner::Cleaner;
use crate::engine::dropper::Dropper;
use crate::engine::groups::Groups;
use crate::engine::ids::Ids;
use crate::engine::registry::Topic;
use crate::engine::reserve::Reserve;
use crate::engine::shares::Shares;
use crate::engine::state::{Engine, Offsets, indeterminate};
use crate::engine::troubles::Troubles;
use crate::engine::writer::Writer;
use crate::error::{Error, Result};
use crate::journal::{self, Journal, JournalConfig, Start};
use crate::log::{Log, MoveStart, Recovery};
use crate::storage::Storage;
use crate::sync::Mutex;
use crate::types::{Epoch, planted};

/// Starts the engine on loaded state. Returns it with the number of bytes cut from segments.
pub(super) fn start(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
    loaded: Loaded,
    to_cut: &[Arc<Log>],
    unclean: bool,
    lock: Box<dyn crate::storage::StorageLock>,
) -> Result<(Arc<Engine>, u64)> {
    let last = loaded.image.epoch.max(loaded.replayed.last_epoch_seen);
    let epoch = if planted("reuse_epoch") { last } else { epoch_after(last)? };
    loaded.logs.epoch.store(epoch, std::sync::atomic::Ordering::Release);
    let background = Background::new();
    // Replayed frames may exist only in the page cache. Also, until a checkpoint points into the new journal
    // file, a damaged header of that file would look like the end of the journal (hazard H12).
    let early = planted("synced_before_recovery");
    let start = Start { held: !early, ..Start::after(&loaded.replayed) };
    let wake = Box::new(background.requester());
    let journal = start_journal(&storage, &config, loaded.image.directory_id, epoch, &start, wake)?;
    let cut = cut_files(&*storage, &config, to_cut, &loaded)?;
    let Loaded { image, logs, registry, catalogue, offsets, owners, shares, ids, .. } = loaded;
    let listed = (image.ids.as_slice(), &ids);
    let now = config.clock.now();
    let (ids, damaged) = Ids::load(&*storage, &image.directory_id, listed, &catalogue, now)?;
    let first = logs.journal.set(Arc::clone(&journal)).is_ok();
    debug_assert!(first, "a folder is started once");
    let reserve = Reserve::new(Arc::clone(&storage));
    match reserve.fit(journal.total_bytes()) {
        // Opening works on a full disk: programs can read, delete and commit.
        Err(Error::DiskFull { .. }) if !planted("opening_needs_space") => {}
        Ok(()) => {}
        Err(error) => return Err(error),
    }
    // Where there never was a share group, no file is written for them.
    let changed = unclean && (image.shares.is_some() || shares.iter().next().is_some());
    let shares = Shares::new(shares, &registry, &image.directory_id, changed);
    let ages = AgeClock::resume(image.last_seen, &*config.clock);
    let engine = Arc::new(Engine {
        storage,
        reserve,
        troubles: Troubles::with_damaged_ids(damaged),
        directory_id: image.directory_id,
        epoch,
        journal,
        logs,
        registry,
        admin: Mutex::new(()),
        dropping: Mutex::new(()),
        checkpoint: Mutex::new(CheckpointState::new(image)),
        offsets: Mutex::new(Offsets { store: offsets, version: u64::from(unclean) }),
        shares,
        ids,
        owners: Mutex::new(Arc::new(owners)),
        catalogue: Mutex::new(catalogue),
        groups: Groups::new(config.group_max_size),
        background,
        cleaner: Cleaner::new(),
        dropper: Dropper::new(),
        writer: Writer::new(),
        ages: Mutex::new(ages),
        lock: Mutex::new(Some(lock)),
        closed: AtomicBool::new(false),
        handles: AtomicUsize::new(0),
        config,
    });
    engine.keep_room_for_copies();
    let weak = Arc::downgrade(&engine);
    let mover = move |log: &Log, before| {
        weak.upgrade()
            .map_or(Err(Error::Closed), |engine: Arc<Engine>| engine.move_start(log, before))
    };
    let first = engine.logs.move_start.set(MoveStart(Box::new(mover))).is_ok();
    debug_assert!(first, "a folder is started once");
    // Freeze before anything can be appended: E is the start of the new journal file.
    let freeze = engine.freeze(0);
    engine.checkpoint.lock().pending = Some(freeze);
    if engine.config.background {
        start_threads(&engine)?;
        return Ok((engine, cut));
    }
    recover_without_thread(&engine, early)?;
    Ok((engine, cut))
}

/// Starts the background thread, and lets the others start when they have something to do.
fn start_threads(engine: &Arc<Engine>) -> Result<()> {
    let weak: Weak<Engine> = Arc::downgrade(engine);
    engine.dropper.set_drops(Weak::<Engine>::clone(&weak));
    let clock = Arc::clone(&engine.config.clock);
    let interval = engine.config.offsets_retention_check_interval;
    let started = engine.background.start(weak, clock, interval);
    started.map_err(|error| Error::io("start a thread for", engine.path(), error))?;
    engine.background.request_recovery();
    start_cleaner(engine)
}

/// Lets the thread that compacts start with the first compacted topic.
fn start_cleaner(engine: &Arc<Engine>) -> Result<()> {
    let rounds: Weak<Engine> = Arc::downgrade(engine);
    engine.cleaner.set_rounds(rounds, engine.config.cleaner_interval);
    let compacts = |topic: &Arc<Topic>| topic.config.cleanup_policy.compacts();
    if !engine.registry.topics().iter().any(compacts) {
        return Ok(());
    }
    let path = engine.path();
    engine.cleaner.request().map_err(|error| Error::io("start a thread for", path, error))
}

/// Writes the recovery checkpoint where there is no background thread. On a full disk, the first caller that
/// waits for `Synced` tries again.
fn recover_without_thread(engine: &Arc<Engine>, early: bool) -> Result<()> {
    let weak = Arc::downgrade(engine);
    let finish = move || {
        let checkpoint = weak.upgrade().map_or(Err(Error::Closed), |engine| engine.checkpoint());
        // The frames of the waiting callers are in the journal already.
        checkpoint.map_err(indeterminate)
    };
    let first = engine.logs.recovery.set(Recovery(Box::new(finish))).is_ok();
    debug_assert!(first, "a folder is started once");
    if early {
        return Ok(());
    }
    match engine.finish_recovery() {
        Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the epoch of the next writer.
///
/// # Errors
/// `LimitExceeded` if a checkpoint could not hold that epoch.
fn epoch_after(last: Epoch) -> Result<Epoch> {
    let next = last.checked_add(1).filter(|next| *next < Epoch::MAX);
    next.ok_or(Error::LimitExceeded {
        what: "openings over the life of the folder",
        found: u64::from(Epoch::MAX.unsigned_abs()),
        max: u64::from((Epoch::MAX - 1).unsigned_abs()),
    })
}

/// Begins a new journal file in the mode that the settings and the storage allow.
pub(super) fn start_journal(
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
