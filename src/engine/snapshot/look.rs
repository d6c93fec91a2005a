//! Loads a whole folder, also beside a running writer.

use std::path::Path;
use std::sync::Arc;

use super::{Seen, Snapshot};
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::recovery::Loaded;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// How often a folder is read again when its writer overtook the reader.
const ATTEMPTS: usize = 10;

pub(super) fn load(storage: &Arc<dyn Storage>) -> Result<Snapshot> {
    let config = BrokerConfig::new();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match look(storage, &config) {
            Ok(snapshot) => return Ok(snapshot),
            // The writer may have moved to another checkpoint or journal file meanwhile. What looks like damage
            // counts only if it stays.
            Err(error @ (Error::Busy { .. } | Error::Corrupt(_))) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(Error::Busy { path: storage.display_path(Path::new("")) }))
}

fn look(storage: &Arc<dyn Storage>, config: &BrokerConfig) -> Result<Snapshot> {
    // Read first, so that a checkpoint written meanwhile is noticed later.
    let heads = files::checkpoint_heads(&**storage)?;
    let loaded = Loaded::read(storage, config)?;
    Ok(Snapshot {
        storage: Arc::clone(&loaded.logs.storage),
        registry: loaded.registry,
        offsets: loaded.offsets,
        clock: Arc::clone(&config.clock),
        seen: Seen::new(heads, loaded.image.directory_id, loaded.replayed.mark),
    })
}
