//! The committed offsets of all groups, in memory.
//!
//! Invariants:
//! - **O1** Offsets are keyed by partition number, which is never reused. A topic created again under an old
//!   name has no offsets.
//! - **O2** The store holds no group without offsets.
//! - **O3** A snapshot never changes. It costs a few hundred reference counts, whatever the number of groups.
//!   A change after it copies one shard's list of groups and one group's offsets.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{PartitionNumber, Timestamp};

/// The committed offset of a group for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The next offset to read; not negative.
    pub(crate) offset: i64,
    /// The epoch of the last record read, if known; not negative.
    pub(crate) leader_epoch: Option<i32>,
    /// The text that the program stores beside it; at most 4096 bytes.
    pub(crate) metadata: Arc<str>,
    /// The time of the commit.
    pub(crate) commit_timestamp: Timestamp,
    /// The named owner whose transaction committed it, if there is one.
    pub(crate) owner: Option<Arc<CommitOwner>>,
}

/// The named owner of a transaction that commits offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitOwner {
    /// The `transactional.id`.
    pub(crate) id: Arc<str>,
    /// The epoch of the producer; not negative.
    pub(crate) epoch: i32,
}

impl CommittedOffset {
    /// Checks that the offset may be committed. Offsets need not grow and need not be in the log, as in
    /// Kafka.
    pub(crate) fn check(&self) -> Result<()> {
        if self.offset < 0 || self.leader_epoch.is_some_and(|epoch| epoch < 0) {
            return Err(Error::Misuse("a committed offset and its leader epoch are not negative"));
        }
        check_metadata(&self.metadata)
    }
}

/// Kafka's `offset.metadata.max.bytes`.
pub(super) const METADATA_MAX_BYTES: usize = 4096;

/// Checks that a text may be stored beside an offset.
pub(crate) fn check_metadata(metadata: &str) -> Result<()> {
    if metadata.len() > METADATA_MAX_BYTES {
        return Err(Error::LimitExceeded {
            what: "bytes of offset metadata",
            found: metadata.len() as u64,
            max: METADATA_MAX_BYTES as u64,
        });
    }
    Ok(())
}

/// The committed offsets of one group, in rising order of the partition numbers.
///
/// A sorted list instead of a tree. Of a million groups most have a few partitions, and the smallest tree
/// takes ten times the memory of its one entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GroupOffsets {
    entries: Vec<(PartitionNumber, CommittedOffset)>,
    /// When the group was last known to have members; `None` if it never was.
    last_active: Option<Timestamp>,
}

impl GroupOffsets {
    /// Creates a group without offsets that has room for `capacity` of them.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), last_active: None }
    }

    /// Returns when the group was last known to have members while it had offsets; `None` if it never was.
    pub(crate) fn last_active(&self) -> Option<Timestamp> {
        self.last_active
    }

    pub(super) fn set_last_active(&mut self, at: Option<Timestamp>) {
        self.last_active = at;
    }

    /// Returns the committed offset for a partition.
    pub(crate) fn get(&self, partition: PartitionNumber) -> Option<&CommittedOffset> {
        self.find(partition).ok().and_then(|at| self.entries.get(at)).map(|(_, offset)| offset)
    }

    /// Returns all partitions with their committed offsets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PartitionNumber, &CommittedOffset)> {
        self.entries.iter().map(|(partition, offset)| (*partition, offset))
    }

    /// Returns the number of committed offsets.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no committed offsets.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an offset. Returns false if its partition number is not above all others.
    pub(super) fn push(&mut self, partition: PartitionNumber, offset: CommittedOffset) -> bool {
        let behind = self.entries.last().is_none_or(|(last, _)| *last < partition);
        if behind {
            self.entries.push((partition, offset));
        }
        behind
    }

    fn set(&mut self, partition: PartitionNumber, offset: Option<&CommittedOffset>) {
        match (self.find(partition), offset) {
            (Ok(at), Some(offset)) => {
                if let Some((_, old)) = self.entries.get_mut(at) {
                    offset.clone_into(old);
                }
            }
            (Ok(at), None) => drop(self.entries.remove(at)),
            (Err(at), Some(offset)) => self.entries.insert(at, (partition, offset.clone())),
            (Err(_), None) => {}
        }
    }

    fn find(&self, partition: PartitionNumber) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&partition, |(number, _)| *number)
    }
}

/// A change of one group's offsets. The journal stores it, and [`OffsetStore::apply`] applies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetCommit {
    /// The group.
    pub(crate) group: Arc<str>,
    /// The change of its offsets.
    pub(crate) change: OffsetChange,
}

/// The kind of change of a group's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OffsetChange {
    /// Sets the offset of each partition in order, or removes it for `None`.
    Set(Vec<(PartitionNumber, Option<CommittedOffset>)>),
    /// Removes all offsets, and the group with them.
    RemoveGroup,
    /// Records that the group had members at this time. Does nothing for a group without offsets.
    Active(Timestamp),
}

/// The committed offsets of all groups. The module documentation lists its invariants.
#[derive(Debug, Clone)]
pub(crate) struct OffsetStore {
    /// The groups, distributed by a hash of their names.
    shards: Vec<Arc<Shard>>,
}

type Shard = BTreeMap<Arc<str>, Arc<GroupOffsets>>;

const SHARDS: usize = 256;

impl OffsetStore {
    /// Creates a store without groups.
    pub(crate) fn new() -> Self {
        let empty = Arc::new(Shard::new());
        Self { shards: vec![empty; SHARDS] }
    }

    /// Returns a snapshot of the store.
    pub(crate) fn snapshot(&self) -> Self {
        self.clone()
    }

    /// Applies a change. It cannot fail, and applying the last change again changes nothing.
    pub(crate) fn apply(&mut self, commit: &OffsetCommit) {
        let entries = match &commit.change {
            OffsetChange::Set(entries) => entries,
            OffsetChange::RemoveGroup => {
                self.remove_group(&commit.group);
                return;
            }
            OffsetChange::Active(at) => return self.set_last_active(&commit.group, *at),
        };
        let shard = self.shard_mut(&commit.group);
        if !shard.contains_key(&commit.group) {
            if entries.iter().all(|(_, offset)| offset.is_none()) {
                return;
            }
            shard.insert(Arc::clone(&commit.group), Arc::default());
        }
        let Some(offsets) = shard.get_mut(&commit.group) else { return };
        let offsets = Arc::make_mut(offsets);
        for (partition, offset) in entries {
            offsets.set(*partition, offset.as_ref());
        }
        if offsets.is_empty() {
            shard.remove(&commit.group);
        }
    }

    /// Returns the committed offset of a group for a partition.
    pub(crate) fn get(&self, group: &str, partition: PartitionNumber) -> Option<&CommittedOffset> {
        self.group(group)?.get(partition)
    }

    /// Returns all committed offsets of a group.
    pub(crate) fn group(&self, group: &str) -> Option<&Arc<GroupOffsets>> {
        self.shards.get(shard_of(group))?.get(group)
    }

    /// Returns all groups, in an order that depends on nothing but their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<GroupOffsets>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Returns the number of groups that have offsets.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Removes the offsets of all groups for these partitions, for example when their topic was deleted.
    pub(crate) fn remove_partitions(&mut self, partitions: &[PartitionNumber]) {
        let partitions: BTreeSet<_> = partitions.iter().copied().collect();
        // Copies only the affected groups; the others stay shared with snapshots.
        let affected = |offsets: &GroupOffsets| {
            if offsets.len() < partitions.len() {
                offsets.iter().any(|(number, _)| partitions.contains(&number))
            } else {
                partitions.iter().any(|number| offsets.get(*number).is_some())
            }
        };
        for shard in &mut self.shards {
            let groups: Vec<Arc<str>> = shard
                .iter()
                .filter(|(_, offsets)| affected(offsets))
                .map(|(group, _)| Arc::clone(group))
                .collect();
            for group in groups {
                let shard = Arc::make_mut(shard);
                let Some(offsets) = shard.get_mut(&group) else { continue };
                let offsets = Arc::make_mut(offsets);
                offsets.entries.retain(|(number, _)| !partitions.contains(number));
                if offsets.is_empty() {
                    shard.remove(&group);
                }
            }
        }
    }

    fn set_last_active(&mut self, group: &str, at: Timestamp) {
        if self.group(group).is_some()
            && let Some(offsets) = self.shard_mut(group).get_mut(group)
        {
            Arc::make_mut(offsets).last_active = Some(at);
        }
    }

    /// Removes all offsets of a group. Returns whether it had any.
    pub(crate) fn remove_group(&mut self, group: &str) -> bool {
        self.group(group).is_some() && self.shard_mut(group).remove(group).is_some()
    }

    /// Inserts a whole group with its offsets. Returns false if the store already holds the group.
    pub(super) fn insert_group(&mut self, group: Arc<str>, offsets: GroupOffsets) -> bool {
        match self.shard_mut(&group).entry(group) {
            Entry::Occupied(_) => false,
            Entry::Vacant(_) if offsets.is_empty() => true,
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(offsets));
                true
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "shard_of is a remainder by the length")]
    fn shard_mut(&mut self, group: &str) -> &mut Shard {
        Arc::make_mut(&mut self.shards[shard_of(group)])
    }
}

impl Default for OffsetStore {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for OffsetStore {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for OffsetStore {}

/// FNV-1a of the name. Only memory depends on it, so any version may change it.
fn shard_of(group: &str) -> usize {
    let hash = group
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // The low bits of FNV depend on the low bits of the input alone, so the high bits are mixed in.
    (hash ^ (hash >> 16)) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: None,
            metadata: Arc::default(),
            commit_timestamp: Timestamp::from_millis(1),
            owner: None,
        }
    }

    fn set(group: &str, entries: &[(u32, Option<i64>)]) -> OffsetCommit {
        let entries = entries.iter().map(|(p, o)| (PartitionNumber(*p), o.map(at))).collect();
        OffsetCommit { group: group.into(), change: OffsetChange::Set(entries) }
    }

    fn offset(store: &OffsetStore, group: &str, partition: u32) -> Option<i64> {
        store.get(group, PartitionNumber(partition)).map(|committed| committed.offset)
    }

    #[test]
    fn the_last_commit_of_a_partition_counts_and_may_go_back() {
        let mut store = OffsetStore::new();
        store.apply(&set("g", &[(1, Some(10)), (2, Some(20))]));
        store.apply(&set("g", &[(1, Some(5))]));
        store.apply(&set("h", &[(1, Some(7)), (1, Some(8))]));
        assert_eq!(offset(&store, "g", 1), Some(5));
        assert_eq!(offset(&store, "g", 2), Some(20));
        assert_eq!(offset(&store, "g", 3), None);
        assert_eq!(offset(&store, "h", 1), Some(8));
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn a_group_without_offsets_is_no_group() {
        let mut store = OffsetStore::new();
        let active = OffsetChange::Active(Timestamp::from_millis(5));
        store.apply(&OffsetCommit { group: "g".into(), change: active });
        store.apply(&set("g", &[(1, None)]));
        assert!(store.insert_group("g".into(), GroupOffsets::default()));
        assert_eq!((store.len(), store.group("g").is_some()), (0, false));
        store.apply(&set("g", &[(1, Some(3))]));
        assert!(!store.insert_group("g".into(), GroupOffsets::default()), "the group exists");
        assert_eq!(offset(&store, "g", 1), Some(3));
    }

    proptest! {
        #[test]
        fn the_store_is_a_map_of_maps(
            steps in prop::collection::vec((0..4_u8, 0..6_u32, prop::option::of(0..9_i64)), 0..60)
        ) {
            let mut store = OffsetStore::new();
            let mut model: BTreeMap<(u8, u32), i64> = BTreeMap::new();
            for (group, partition, change) in steps {
                store.apply(&set(&group.to_string(), &[(partition, change)]));
                match change {
                    Some(offset) => model.insert((group, partition), offset),
                    None => model.remove(&(group, partition)),
                };
                let mut found = BTreeMap::new();
                for (group, offsets) in store.iter() {
                    prop_assert!(!offsets.is_empty());
                    prop_assert!(offsets.iter().is_sorted_by_key(|(number, _)| number));
                    for (number, committed) in offsets.iter() {
                        found.insert((group.parse().unwrap(), number.0), committed.offset);
                    }
                }
                prop_assert_eq!(&found, &model);
            }
        }
    }

    #[test]
    fn a_group_without_offsets_is_gone() {
        let mut store = OffsetStore::new();
        store.apply(&set("g", &[(1, None)]));
        assert_eq!(store.len(), 0);
        store.apply(&set("g", &[(1, Some(1))]));
        store.apply(&set("g", &[(1, None), (9, None)]));
        assert_eq!(store.len(), 0);
        store.apply(&set("g", &[(1, Some(1))]));
        store.apply(&OffsetCommit { group: "g".into(), change: OffsetChange::RemoveGroup });
        assert_eq!(store.len(), 0);
        assert!(!store.remove_group("g"));
    }

    #[test]
    fn a_snapshot_does_not_change_and_shares_what_did_not_change() {
        let mut store = OffsetStore::new();
        store.apply(&set("g", &[(1, Some(1)), (2, Some(2))]));
        store.apply(&set("h", &[(1, Some(1))]));
        let before = store.snapshot();
        store.apply(&set("g", &[(1, Some(9))]));
        store.remove_partitions(&[PartitionNumber(2)]);
        store.apply(&set("i", &[(1, Some(1))]));
        assert_eq!(offset(&before, "g", 1), Some(1));
        assert_eq!(offset(&before, "g", 2), Some(2));
        assert_eq!(before.len(), 2);
        assert_eq!(offset(&store, "g", 1), Some(9));
        assert_eq!(offset(&store, "g", 2), None);
        let (old, new) = (before.group("h").unwrap(), store.group("h").unwrap());
        assert!(Arc::ptr_eq(old, new));
    }

    #[test]
    fn the_offsets_of_a_deleted_topic_go_from_every_group() {
        let mut store = OffsetStore::new();
        for group in 0..1_000 {
            store.apply(&set(&format!("g{group}"), &[(group % 3, Some(1)), (3, Some(1))]));
        }
        store.remove_partitions(&[PartitionNumber(3), PartitionNumber(1)]);
        assert_eq!(store.len(), 667);
        for (_, offsets) in store.iter() {
            assert!(offsets.iter().all(|(number, _)| number.0 == 0 || number.0 == 2));
        }
    }

    #[test]
    fn too_much_metadata_and_negative_offsets_are_refused() {
        let mut committed = at(0);
        committed.metadata = "m".repeat(4096).into();
        assert!(committed.check().is_ok());
        committed.metadata = "m".repeat(4097).into();
        assert!(matches!(
            committed.check(),
            Err(Error::LimitExceeded { found: 4097, max: 4096, .. })
        ));
        assert!(matches!(at(-1).check(), Err(Error::Misuse(_))));
        let epoch = CommittedOffset { leader_epoch: Some(-1), ..at(1) };
        assert!(matches!(epoch.check(), Err(Error::Misuse(_))));
    }
}
