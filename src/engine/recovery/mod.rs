//! Opening a folder: create, or recover from checkpoint and journal.
//!
//! Recovery is the ordinary `apply` over the journal, in order: a topic is created, receives its
//! records, is deleted, as it was before. Only when the whole journal was read without damage are files
//! touched: they are judged by the *final* catalogue (hazard H5), a new journal file is begun, they are cut to
//! what the checkpoint says, and everything behind it is rebuilt from the journal (H1, H2). In a folder that was closed there is nothing to
//! rebuild, and no partition is looked at before its first use; see `log::settle`.

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
        create::create(&storage, &config)?;
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
    let to_cut = check::check_files(&*storage, &config, &loaded, &mut report.damaged)?;
    let (engine, cut) = start::start(storage, config, loaded, &to_cut, report.unclean, lock)?;
    report.segment_bytes_cut = cut;
    report.duration = engine.clock().monotonic().saturating_sub(began);
    Ok((EngineHandle::new(engine), report))
}
