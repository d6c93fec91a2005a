//! Measures the disk space of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engine::files::{JOURNAL_DIR, RESERVE_FILE};
use crate::engine::registry::Registry;
use crate::error::Result;
use crate::storage::{FileKind, Storage};

/// The space that a folder takes on the disk, in bytes: what `du` counts.
///
/// It includes space that the engine reserves: journal files are as large as they may become, longer segments
/// grow into space that a close gives back, and the reserve for a full disk is as large as the journal.
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
/// assert_eq!(usage.total(), usage.topics["orders"] + usage.journal + usage.reserve + usage.other);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskUsage {
    /// The journal files, however full they are.
    pub journal: u64,
    /// The segments, indexes and other files of partitions, by topic. It does not include records that are
    /// only in the journal.
    pub topics: BTreeMap<String, u64>,
    /// The space that the engine releases when the disk is full.
    pub reserve: u64,
    /// Checkpoints, offset files and everything else, and the folder itself.
    pub other: u64,
    /// The account of the disk budget, if the folder was opened with one.
    pub budget: Option<BudgetUsage>,
}

/// The account of the [disk budget](crate::BrokerConfig::disk_budget), in bytes.
///
/// ```
/// use std::sync::Arc;
///
/// use grouplog::storage::Memory;
/// use grouplog::{Broker, BrokerConfig};
///
/// let config = BrokerConfig::new().disk_budget(64 << 20);
/// let broker = Broker::open_storage(Arc::new(Memory::new()), config)?;
/// let budget = broker.admin().disk_usage()?.budget.unwrap();
/// assert_eq!(budget.limit, 64 << 20);
/// assert!(budget.used < budget.taken);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUsage {
    /// The budget.
    pub limit: u64,
    /// The space of all files by the engine's own count, in blocks of 4 KiB. It is never above the limit, unless
    /// the folder was already when it was opened, and never below what the file system reports.
    pub used: u64,
    /// What appends cannot have: files, records that are not in their files yet, and what is set aside for
    /// journal, reserve, checkpoints and side files. Appends are refused if they do not fit beside it.
    pub taken: u64,
}

impl DiskUsage {
    /// Returns the sum of all sizes.
    pub fn total(&self) -> u64 {
        let topics: u64 = self.topics.values().sum();
        [self.journal, self.reserve, self.other].into_iter().fold(topics, u64::saturating_add)
    }
}

/// Adds up a folder. What vanishes meanwhile counts as empty.
pub(super) fn of(storage: &dyn Storage, registry: &Registry) -> Result<DiskUsage> {
    let topics = registry.topics();
    let owners: BTreeMap<String, &str> = topics
        .iter()
        .flat_map(|topic| topic.logs.iter().map(|log| (log.partition().to_string(), &*topic.name)))
        .collect();
    let root = Path::new("");
    let mut usage = DiskUsage { other: storage.disk_bytes(root)?, ..DiskUsage::default() };
    for topic in &topics {
        usage.topics.insert(topic.name.to_string(), 0);
    }
    for entry in storage.list(root)? {
        let bytes = bytes_of(storage, PathBuf::from(&entry.name), entry.kind)?;
        let place = match (entry.name.as_str(), owners.get(&entry.name)) {
            (_, Some(topic)) => usage.topics.entry((*topic).to_owned()).or_default(),
            (JOURNAL_DIR, _) => &mut usage.journal,
            (RESERVE_FILE, _) => &mut usage.reserve,
            _ => &mut usage.other,
        };
        *place = place.saturating_add(bytes);
    }
    Ok(usage)
}

/// Adds up an object, and all that it holds if it is a folder.
fn bytes_of(storage: &dyn Storage, path: PathBuf, kind: FileKind) -> Result<u64> {
    let mut bytes: u64 = 0;
    let mut rest = vec![(path, kind)];
    while let Some((path, kind)) = rest.pop() {
        bytes = bytes.saturating_add(storage.disk_bytes(&path)?);
        // A topic may be deleted meanwhile.
        if kind == FileKind::Dir && storage.metadata(&path)?.is_some() {
            let inside = storage.list(&path)?;
            rest.extend(inside.into_iter().map(|entry| (path.join(entry.name), entry.kind)));
        }
    }
    Ok(bytes)
}
