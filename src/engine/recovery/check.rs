//! Checks and truncates segment files against the checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use super::load::Loaded;
use crate::config::BrokerConfig;
use crate::engine::files;
use crate::engine::report::DamagedPartition;
use crate::engine::spread;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::segment::deleted_folder_name;
use crate::storage::Storage;
use crate::types::{TopicId, TopicPartition, planted};

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
    // First, because this file tells the folders apart. Power loss may have taken it from a folder whose segments
    // are proven to be those of a topic.
    for log in loaded.changed() {
        let partition = log.partition();
        if !log.needs_metadata(|id| is_of_deleted(storage, loaded, partition, id))? {
            continue;
        }
        let (topic, number) = (partition.topic(), partition.partition());
        files::restore_folder(storage, topic, number, log.topic_id())?;
        if !planted("metadata_not_mended") {
            log.write_metadata()?;
        }
    }
    // Folders of deleted topics before the others: a new topic may have the same name.
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
    let topics = loaded.registry.topics();
    let all: Vec<_> = topics
        .iter()
        .flat_map(|topic| (0..).zip(&topic.logs).map(move |(number, log)| (topic, number, log)))
        .collect();
    let threads = spread::threads(config, all.len());
    let checked = spread::try_map(threads, &all, |(topic, number, log)| {
        if !planted("folder_not_restored") {
            files::restore_folder(storage, &topic.name, *number, topic.id)?;
        }
        log.forget_lost_folder()?;
        match log.check_files() {
            // Without a segment, its journaled records could not be written out.
            Err(error) if !error.is_corruption() || log.has_unwritten() => Err(error),
            Err(damage) => Ok((false, Some(damage))),
            Ok(damage) => Ok((true, damage)),
        }
    })?;
    for ((_, _, log), (may_cut, damage)) in all.into_iter().zip(checked) {
        if may_cut {
            to_cut.push(Arc::clone(log));
        }
        let Some(cause) = damage else { continue };
        if config.strict {
            return Err(cause);
        }
        log.set_damaged(cause.clone());
        damaged.push(DamagedPartition { partition: log.partition().clone(), cause });
    }
    Ok(to_cut)
}

/// Returns whether the folder of a partition's name is still that of an earlier topic with this id. Then the deletion
/// of that topic is not finished, and has not renamed the folder.
fn is_of_deleted(
    storage: &dyn Storage,
    loaded: &Loaded,
    partition: &TopicPartition,
    id: TopicId,
) -> Result<bool> {
    let (topic, number) = (partition.topic(), partition.partition());
    let mut deletions = loaded.catalogue.deletions().iter();
    if !deletions.any(|deletion| deletion.id == id && &*deletion.name == topic) {
        return Ok(false);
    }
    let aside = PathBuf::from(deleted_folder_name(topic, number, id));
    Ok(storage.metadata(&aside)?.is_none())
}

/// Truncates files to the lengths in the checkpoint and returns the number of bytes cut.
///
/// The new journal file must exist. Its epoch tells the next opening that a truncation was in progress: after
/// a kill, the truncation may exist only in the page cache.
///
/// Also rewrites the exported epochs after an interrupted close. The recovery checkpoint syncs all files.
pub(super) fn cut_files(
    storage: &dyn Storage,
    config: &BrokerConfig,
    to_cut: &[Arc<Log>],
    loaded: &Loaded,
) -> Result<u64> {
    let again = loaded.replayed.last_epoch_seen > loaded.image.epoch;
    let again = again && !planted("cut_once");
    if storage.prefers_whole_sync(to_cut.len()) {
        let cut = spread::try_map(spread::threads(config, to_cut.len()), to_cut, |log| {
            let cut = cut_one(storage, log, again)?;
            log.leave_written(&log.written());
            Ok::<_, Error>(cut)
        })?;
        return Ok(cut.into_iter().fold(0, u64::saturating_add));
    }
    let mut cut: u64 = 0;
    let mut open = Vec::new();
    for log in to_cut {
        cut = cut.saturating_add(cut_one(storage, log, again)?);
        open.push(log);
        let files = &loaded.logs.open_files;
        if files.is_overfull() || open.len() > files.at_once() {
            // Every partition may have a file to cut. Only so many files may be open.
            sync_written(storage, open.drain(..))?;
        }
    }
    Ok(cut)
}

/// Truncates the files of one partition, and rewrites its exported epochs. Returns the number of bytes cut.
fn cut_one(storage: &dyn Storage, log: &Log, again: bool) -> Result<u64> {
    let cut = log.cut_files(again)?;
    if log.end_offset() > 0 {
        let dir = PathBuf::from(log.partition().to_string());
        if let Some(file) = files::keep_epochs(storage, &dir, &log.epochs())? {
            log.sync_later(file);
        }
    }
    Ok(cut)
}

/// Syncs the files of partitions together, and closes them.
fn sync_written<'a>(storage: &dyn Storage, logs: impl Iterator<Item = &'a Arc<Log>>) -> Result<()> {
    let written: Vec<_> = logs.map(|log| (log, log.written())).collect();
    let files: Vec<_> = written.iter().flat_map(|(_, part)| part.files.iter().cloned()).collect();
    storage.sync_all(&files)?;
    for (log, part) in &written {
        log.written_synced(part);
    }
    Ok(())
}
