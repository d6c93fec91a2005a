//! Removes buckets that no checkpoint needs.

use std::collections::BTreeSet;
use std::path::Path;

use super::bucket::{DEDUP_DIR, bucket_name, is_bucket_name};
use super::files::TopicImage;
use crate::error::Result;
use crate::storage::{FileKind, Storage};

/// Removes all buckets that a durable checkpoint does not list. Leaves files alone that are not buckets.
///
/// Call it only when the checkpoint with these images is durable, and not while [`write_out`](super::write_out) runs.
/// Names need not be made durable: a file that a power loss brings back is removed the next time. Goes on after an
/// error, and returns the first one.
pub(crate) fn remove_unlisted(listed: &[TopicImage], storage: &dyn Storage) -> Result<()> {
    let folder = Path::new(DEDUP_DIR);
    if storage.metadata(folder)?.is_none() {
        return Ok(());
    }
    let names: BTreeSet<String> = listed
        .iter()
        .flat_map(|topic| {
            topic.buckets.iter().map(|bucket| bucket_name(topic.topic, bucket.number))
        })
        .collect();
    let mut result = Ok(());
    for entry in storage.list(folder)? {
        let is_ours = entry.kind == FileKind::File && is_bucket_name(&entry.name);
        if is_ours && !names.contains(&entry.name) {
            result = result.and(storage.remove(&folder.join(&entry.name)));
        }
    }
    result
}
