//! Loads a whole folder, also beside a running writer.

use std::path::Path;
use std::sync::Arc;

use super::{Seen, Snapshot};
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::recovery::Loaded;
use crate::error::{Error, Result};
use crate::log::{Log, Now, Present};
use crate::storage::Storage;

/// How many times a folder is read if its writer keeps overtaking the reader.
const ATTEMPTS: usize = 10;

pub(super) fn load(storage: &Arc<dyn Storage>) -> Result<Snapshot> {
    let config = BrokerConfig::new();
    attempt(storage, || look(storage, &config))
}

/// Reads a folder that its writer may be changing. Tries again if the writer overtook the reader.
fn attempt<T>(storage: &Arc<dyn Storage>, read: impl Fn() -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match read() {
            Ok(found) => return Ok(found),
            // The writer may have moved to another checkpoint or journal file meanwhile. Apparent damage
            // counts only if every attempt finds it.
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
    let folder = Arc::clone(storage);
    // It was created just now, so it is not set yet.
    let _first = loaded.logs.present.set(Present(Box::new(move |log| now(&folder, log))));
    Ok(Snapshot {
        storage: Arc::clone(&loaded.logs.storage),
        registry: loaded.registry,
        offsets: loaded.offsets,
        owners: Arc::new(loaded.owners),
        shares: Arc::new(loaded.shares),
        clock: Arc::clone(&config.clock),
        seen: Seen::new(heads, loaded.image.directory_id, loaded.replayed.mark),
    })
}

/// Returns the current state of a partition of an earlier snapshot, or `None` if the folder cannot be read.
fn now(storage: &Arc<dyn Storage>, log: &Log) -> Result<Option<Now>> {
    let config = BrokerConfig::new();
    let Ok(loaded) = attempt(storage, || Loaded::read(storage, &config)) else { return Ok(None) };
    let now = loaded.registry.by_number(log.number());
    let now = now.filter(|now| now.topic_id() == log.topic_id());
    let topic = || log.partition().topic().to_owned();
    let now = now.ok_or_else(|| Error::UnknownTopic { topic: topic() })?;
    Ok(Some(Now { start_offset: now.start_offset(), segments: now.segment_ids() }))
}
