//! Checks and truncates segment files against the checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use super::load::Loaded;
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::report::DamagedPartition;
use crate::error::Result;
use crate::log::Log;
use crate::storage::Storage;
use crate::types::planted;

/// Checks the files of all partitions and returns the partitions whose files may be truncated.
///
/// A partition with damaged or missing files stays as it is and rejects appends; it is added to `damaged`.
/// The other partitions work. In a folder that was closed cleanly, each partition is checked by its first
/// append instead, unless `strict` makes any damage fail the opening.
pub(super) fn check_files(
    storage: &dyn Storage,
    config: &BrokerConfig,
    loaded: &Loaded,
    damaged: &mut Vec<DamagedPartition>,
) -> Result<Vec<Arc<Log>>> {
    // Folders of deleted topics first: a new topic may have the same name.
    for deletion in loaded.catalogue.deletions() {
        files::set_aside_with(storage, deletion, |partition, id| {
            loaded.is_unlisted(deletion, partition) && !loaded.is_live(&deletion.name, id)
        })?;
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
            log.mend_metadata()?;
            let damage = match log.check_files() {
                // Without a segment, its journaled records could not be written out.
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

/// Truncates files to the lengths in the checkpoint and returns the number of bytes cut.
///
/// The new journal file must exist. Its epoch tells the next opening that a truncation was in progress: after
/// a kill, the truncation may exist only in the page cache.
///
/// Also rewrites the exported epochs after an interrupted close.
pub(super) fn cut_files(
    storage: &dyn Storage,
    to_cut: &[Arc<Log>],
    loaded: &Loaded,
) -> Result<u64> {
    let again = loaded.replayed.last_epoch_seen > loaded.image.epoch;
    let again = again && !planted("cut_once");
    let mut cut: u64 = 0;
    let mut open = Vec::new();
    for log in to_cut {
        cut = cut.saturating_add(log.cut_files(again)?);
        if log.end_offset() > 0 {
            let dir = PathBuf::from(log.partition().to_string());
            files::mend_epochs(storage, &dir, &log.epochs())?;
        }
        open.push(log);
        if loaded.logs.open_files.is_overfull() {
            // Every partition may have a file to cut. Only so many files may be open.
            for log in open.drain(..) {
                let written = log.written();
                loaded.logs.storage.sync_all(&written.files)?;
                log.written_synced(&written);
            }
        }
    }
    Ok(cut)
}
