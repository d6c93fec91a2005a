//! Measures the disk space of a folder.

use std::collections::BTreeMap;
use std::path::Path;

use crate::engine::files::JOURNAL_DIR;
use crate::engine::registry::Registry;
use crate::error::Result;
use crate::storage::{FileKind, Storage};

/// The space that a folder takes, in bytes: the lengths of its files.
///
/// The reserve for a full disk is not counted, because its blocks have no length. It takes as much space as
/// the journal.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// broker.checkpoint()?; // out of the journal, into the segment
/// let usage = broker.admin().disk_usage()?;
/// assert!(usage.topics["orders"] > 0);
/// assert!(usage.total() > usage.topics["orders"] + usage.journal);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUsage {
    /// The size of the journal files, however full they are.
    pub journal: u64,
    /// The size of segments, indexes and other files of partitions, by topic. It does not include records
    /// that are only in the journal.
    pub topics: BTreeMap<String, u64>,
    /// The size of checkpoints, offset files and everything else in the folder.
    pub other: u64,
}

impl DiskUsage {
    /// Returns the sum of all sizes.
    pub fn total(&self) -> u64 {
        let topics: u64 = self.topics.values().sum();
        self.journal.saturating_add(topics).saturating_add(self.other)
    }
}

/// Adds up the files of a folder. A file that vanishes meanwhile counts as empty.
pub(super) fn of(storage: &dyn Storage, registry: &Registry) -> Result<DiskUsage> {
    let topics = registry.topics();
    let owners: BTreeMap<String, &str> = topics
        .iter()
        .flat_map(|topic| topic.logs.iter().map(|log| (log.partition().to_string(), &*topic.name)))
        .collect();
    let mut usage = DiskUsage::default();
    for topic in &topics {
        usage.topics.insert(topic.name.to_string(), 0);
    }
    for entry in storage.list(Path::new(""))? {
        let path = Path::new(&entry.name);
        let bytes = match entry.kind {
            FileKind::File => file_bytes(storage, path)?,
            FileKind::Dir => folder_bytes(storage, path)?,
            _ => 0,
        };
        let place = match (entry.name.as_str(), owners.get(&entry.name)) {
            (_, Some(topic)) => usage.topics.entry((*topic).to_owned()).or_default(),
            (JOURNAL_DIR, _) => &mut usage.journal,
            _ => &mut usage.other,
        };
        *place = place.saturating_add(bytes);
    }
    Ok(usage)
}

fn folder_bytes(storage: &dyn Storage, folder: &Path) -> Result<u64> {
    // The topic may be deleted meanwhile.
    if storage.metadata(folder)?.is_none() {
        return Ok(0);
    }
    let mut bytes: u64 = 0;
    for entry in storage.list(folder)? {
        if entry.kind == FileKind::File {
            bytes = bytes.saturating_add(file_bytes(storage, &folder.join(&entry.name))?);
        }
    }
    Ok(bytes)
}

fn file_bytes(storage: &dyn Storage, path: &Path) -> Result<u64> {
    Ok(storage.metadata(path)?.map_or(0, |(_, bytes)| bytes))
}
