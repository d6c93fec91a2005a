//! Opens a folder: creates it, or recovers it from checkpoint and journal.
//!
//! Recovery applies the journal's frames in order, by the same `apply` that a reader uses. A topic is created,
//! receives its records and is deleted again, as before the crash. In these steps:
//!
//! 1. Load the checkpoint and replay the whole journal in memory. Damage ends the opening here; no file changes.
//! 2. Check files against the *final* catalogue (hazard H5).
//! 3. Begin a new journal file.
//! 4. Truncate segments to the lengths in the checkpoint. The journal holds everything above (H1, H2).
//! 5. Write the recovery checkpoint, in the background where there is a thread.
//!
//! A folder that was closed cleanly has nothing to replay. Its partitions are checked at their first use; see
//! `log::settle`.
//!
//! `broker` and `engine::verify` import this module; it imports the state and the files of the engine.

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
use crate::storage::Storage;
use crate::types::planted;

/// Opens a folder for writing.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
) -> Result<(EngineHandle, RecoveryReport)> {
    config.validate()?;
    let began = config.clock.monotonic();
    // A foreign folder must not get even a lock file.
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
    // Another process may have created the folder in between.
    if state == FolderState::New {
        state = files::classify(&*storage)?;
    }
    if state == FolderState::New {
        create::create(&storage, &config)?;
    }
    let loaded = Loaded::read(&storage, &config)?;
    // From here on, files that are open for reading are closed where others cannot be opened.
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
