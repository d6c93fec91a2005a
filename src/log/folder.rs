//! The folder of a partition, and the topic that it belongs to.

use std::path::Path;

use crate::error::{CorruptReason, Error, Result};
use crate::storage::{FileKind, OpenMode, Storage};
use crate::types::{TopicId, planted};

/// The name of Kafka's file that holds the topic id of the folder.
pub(crate) const METADATA_FILE: &str = "partition.metadata";

/// Returns the topic id in the `partition.metadata` of a folder, or `None` if there is no readable one.
pub(crate) fn read_topic_id(storage: &dyn Storage, dir: &Path) -> Result<Option<TopicId>> {
    let path = dir.join(METADATA_FILE);
    if !matches!(storage.metadata(&path)?, Some((FileKind::File, _))) {
        return Ok(None);
    }
    let file = storage.open(&path, OpenMode::Read)?;
    let mut text = [0; 128];
    let len = file.read_at(&mut text, 0)?;
    let text = std::str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
    Ok(id.and_then(|id| id.trim().parse().ok()))
}

/// Checks that a folder carries the id of the topic. Refuses a folder without an id too.
pub(super) fn check_topic_id(storage: &dyn Storage, dir: &Path, expected: TopicId) -> Result<()> {
    match read_topic_id(storage, dir)? {
        Some(id) if id == expected || planted("take_foreign_folder") => Ok(()),
        Some(_) => Err(foreign(storage, dir)),
        None => {
            let path = dir.join(METADATA_FILE);
            let reason = match storage.metadata(&path)? {
                None => CorruptReason::Absent,
                Some(_) => CorruptReason::Field,
            };
            Err(Error::corrupt(storage.display_path(&path), 0, reason))
        }
    }
}

/// Checks that a folder does not carry the id of another topic. Accepts a folder without an id.
pub(super) fn check_not_foreign(
    storage: &dyn Storage,
    dir: &Path,
    expected: TopicId,
) -> Result<()> {
    match read_topic_id(storage, dir)? {
        Some(id) if id != expected && !planted("take_foreign_folder") => Err(foreign(storage, dir)),
        _ => Ok(()),
    }
}

fn foreign(storage: &dyn Storage, dir: &Path) -> Error {
    let path = storage.display_path(&dir.join(METADATA_FILE));
    Error::corrupt(path, 0, CorruptReason::TopicId)
}
