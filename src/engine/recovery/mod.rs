//! Opens a folder: creates it, or recovers it from checkpoint and journal.
//!
//! Recovery applies the journal's frames in order, by the same `apply` that a reader uses. A topic is
//! created, receives its records and is deleted again, as before the crash. These are the steps:
//!
//! 1. Load the checkpoint and replay the whole journal in memory. Damage ends the opening here; no file
//!    changes.
//!    Frames of large appends say what segments hold; if the bytes are not there, the journal ends before
//!    the frame ([`Loaded::read`]).
//! 2. Check files against the *final* catalogue (hazard H5).
//! 3. Begin a new journal file.
//! 4. Truncate segments to the lengths in the checkpoint and in the frames of large appends. The journal holds
//!    everything above (H1, H2).
//! 5. Write the recovery checkpoint, in the background where there is a thread.
//!
//! A folder that was closed cleanly has nothing to replay. Its partitions are checked at their first use; see
//! `log::settle`.
//!
//! Imported by `snapshot`, `verify` and `engine`.

mod check;
mod create;
mod load;
mod start;

use std::path::Path;
use std::sync::Arc;

pub(crate) use load::Loaded;

use crate::config::BrokerConfig;
use crate::engine::files::{self, FolderState};
use crate::engine::handle::EngineHandle;
use crate::engine::report::RecoveryReport;
use crate::error::{Error, Result};
use crate::journal;
use crate::storage::{Ledger, Metered, Storage};
use crate::types::planted;

/// Opens a folder for writing.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
) -> Result<(EngineHandle, RecoveryReport)> {
    config.validate()?;
    let config = config.within_budget();
    let began = config.clock.monotonic();
    // A foreign folder, and one of a newer version, must not get even a lock file.
    let mut state = files::classify(&*storage)?;
    if state == FolderState::New && !config.create {
        return Err(Error::NotADatabase {
            path: storage.display_path(Path::new("")),
            reason: "it is empty, and this opening must not create one",
        });
    }
    let old_text = files::lock_text(&*storage)?;
    match state {
        // Creation replaces the files of an interrupted creation, but not those of a newer version.
        FolderState::New => journal::check_versions(&*storage)?,
        FolderState::Existing => {
            files::check_format(&*storage)?;
            if old_text.is_none() && !planted("newer_gets_a_lock_file") {
                check_sections(&storage, &config)?;
            }
        }
    }
    let lock = storage.lock(Path::new(files::LOCK_FILE))?;
    // Another process may have created the folder in between.
    if state == FolderState::New {
        state = files::classify(&*storage)?;
    }
    let (storage, config) = metered(storage, config)?;
    if state == FolderState::New {
        create::create(&storage, &config)?;
    }
    let loaded = Loaded::read(&storage, &config).map_err(|error| match (error, &old_text) {
        (error @ Error::UnsupportedFormat { .. }, Some(text)) if !planted("newer_gets_a_pid") => {
            // The lock file holds the id of this process. Nothing may change here, so restore the text. If
            // that fails, only the id remains.
            let _left = files::restore_lock_text(&*storage, text);
            error
        }
        (error, _) => error,
    })?;
    // From here on, the storage closes files that are open for reading if another file cannot be opened.
    drop(storage);
    let storage = Arc::clone(&loaded.logs.storage);
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
    let to_cut = check::check_files(&*storage, &config, &loaded, &mut report.damaged)?;
    let (engine, cut) = start::start(storage, config, loaded, &to_cut, report.unclean, lock)?;
    report.segment_bytes_cut = cut;
    report.duration = engine.clock().monotonic().saturating_sub(began);
    Ok((EngineHandle::new(engine), report))
}

/// Counts the space of the folder from here on, if there is a budget.
fn metered(
    storage: Arc<dyn Storage>,
    mut config: BrokerConfig,
) -> Result<(Arc<dyn Storage>, BrokerConfig)> {
    let Some(budget) = config.disk_budget else { return Ok((storage, config)) };
    let ledger = Ledger::open(&*storage, budget, config.journal_space())?;
    config.ledger = Some(Arc::clone(&ledger));
    Ok((Arc::new(Metered::new(storage, ledger)), config))
}

/// Rejects a checkpoint or journal of a newer version, without a lock. Only a folder without a lock file
/// needs this, such as a copy. Every other error is left to the opening that holds the lock.
fn check_sections(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<()> {
    match Loaded::read(storage, config) {
        Err(error @ Error::UnsupportedFormat { .. }) => Err(error),
        _ => Ok(()),
    }
}
