//! Looking at a whole folder, beside its writer if there is one.

use std::path::Path;
use std::sync::Arc;

use super::{Seen, Snapshot};
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::recovery::Loaded;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// How often a folder is read again when its writer was faster.
const ATTEMPTS: usize = 10;

pub(super) fn load(storage: &Arc<dyn Storage>) -> Result<Snapshot> {
    let config = BrokerConfig::new();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match look(storage, &config) {
            Ok(snapshot) => return Ok(snapshot),
            // The writer may have gone on to another checkpoint or journal file meanwhile: what looks
            // like damage is believed when it stays.
            Err(error @ (Error::Busy { .. } | Error::Corrupt(_))) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(Error::Busy { path: storage.display_path(Path::new("")) }))
}

fn look(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<Snapshot> {
    // First, so that a checkpoint that comes meanwhile is noticed later.
    let heads = files::checkpoint_heads(&**storage)?;
    let loaded = Loaded::read(storage, config)?;
    Ok(Snapshot {
        registry: loaded.registry,
        offsets: loaded.offsets,
        clock: Arc::clone(&config.clock),
        seen: Seen::new(heads, loaded.image.directory_id, loaded.replayed.mark),
    })
}
