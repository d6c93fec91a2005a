//! Files against what the checkpoint says of them.

use std::sync::Arc;

use super::load::Loaded;
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::report::DamagedPartition;
use crate::error::Result;
use crate::log::Log;
use crate::storage::Storage;
use crate::types::planted;

/// Looks at the files of all partitions; those whose files are to be brought to what the checkpoint says. A
/// partition whose files are damaged or gone is left as it is and takes no appends; the others go on. In a
/// folder that was closed each partition is left to its first append, unless damage anywhere is to make opening
/// fail.
pub(super) fn check_files(
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
pub(super) fn cut_files(to_cut: &[Arc<Log>], loaded: &Loaded) -> Result<u64> {
    let again = loaded.replayed.last_epoch_seen > loaded.image.epoch;
    let again = again && !planted("cut_once");
    let mut cut = 0;
    for log in to_cut {
        cut += log.cut_files(again)?;
    }
    Ok(cut)
}
