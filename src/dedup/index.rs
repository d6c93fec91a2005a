//! The index of a table: from hashes to positions in its ring.
//!
//! ```text
//! slot, 4 bytes    5 bits  tag: the upper bits of the hash
//!                 27 bits  position: the entry's number, modulo 2^27 - 1
//! ```
//!
//! An empty slot has all bits set, which no position has. Slots are probed one after the other. The index holds no
//! hashes: a slot whose tag fits is compared with the entry itself. Only one slot in 32 that holds another id has a
//! tag that fits, so an id that is not registered, the usual case, costs one access to memory.
//!
//! The number of slots is a power of two. At most five eighths are taken, so every search ends at an empty slot.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::hash::IdHash;

const EMPTY: u32 = u32::MAX;
const TAG_BITS: u32 = 5;
const POSITION_MASK: u32 = EMPTY >> TAG_BITS;

/// Positions repeat after this many entries. More entries never lie in a ring at the same time.
pub(super) const POSITIONS: u32 = POSITION_MASK;

/// Positions by hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<u32>,
    len: usize,
}

impl Index {
    /// Returns an index for `len` entries with room for as many again, or nearly so.
    pub(super) fn with_room_for(len: usize) -> Self {
        let slots = slots_for(len);
        Self { slots: vec![EMPTY; slots], len: 0 }
    }

    /// Returns whether no further entry fits.
    pub(super) fn is_full(&self) -> bool {
        self.len >= room_in(self.slots.len())
    }

    /// Returns whether a much smaller index would do.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > MIN_SLOTS && self.len < self.slots.len() / 16
    }

    /// Returns the memory that the slots take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity().saturating_mul(size_of::<u32>())
    }

    /// Adds an entry. The index must not be full.
    pub(super) fn insert(&mut self, hash: IdHash, position: u32) {
        debug_assert!(!self.is_full(), "a search would not end");
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == EMPTY {
                *slot = pack(hash, position);
                self.len = self.len.saturating_add(1);
                return;
            }
            at = self.after(at);
        }
    }

    /// Returns the first position with this hash that `is_it` accepts.
    pub(super) fn find(&self, hash: IdHash, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == EMPTY {
                return None;
            }
            let position = slot & POSITION_MASK;
            if slot == pack(hash, position) && is_it(position) {
                return Some(position);
            }
            at = self.after(at);
        }
    }

    /// Removes an entry. `hash_of` returns the hash of the entry at a position.
    ///
    /// Later entries of the same run move up, so that no gap ends the search for them too early.
    pub(super) fn remove(
        &mut self,
        hash: IdHash,
        position: u32,
        hash_of: impl Fn(u32) -> Option<IdHash>,
    ) {
        let Some(mut gap) = self.slot_of(pack(hash, position), hash) else { return };
        self.len = self.len.saturating_sub(1);
        let mut at = gap;
        loop {
            at = self.after(at);
            let slot = self.slots.get(at).copied().unwrap_or(EMPTY);
            if slot == EMPTY {
                break;
            }
            let Some(home) = hash_of(slot & POSITION_MASK).map(|hash| self.home(hash)) else {
                continue;
            };
            // It may move into the gap unless its search begins behind the gap.
            if self.distance(home, at) >= self.distance(gap, at) {
                self.set(gap, slot);
                gap = at;
            }
        }
        self.set(gap, EMPTY);
    }

    fn slot_of(&self, packed: u32, hash: IdHash) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            match *self.slots.get(at)? {
                EMPTY => return None,
                slot if slot == packed => return Some(at),
                _ => at = self.after(at),
            }
        }
    }

    fn set(&mut self, at: usize, value: u32) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }

    const fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    /// Returns where the search for a hash begins.
    const fn home(&self, hash: IdHash) -> usize {
        hash.low as usize & self.mask()
    }

    const fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    /// Returns the number of steps from one slot to another.
    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }
}

const MIN_SLOTS: usize = 8;

/// Returns the number of entries that fit into so many slots.
const fn room_in(slots: usize) -> usize {
    (slots / 8).saturating_mul(5)
}

/// Returns a number of slots for one more than `len` entries.
const fn slots_for(len: usize) -> usize {
    let mut slots = MIN_SLOTS;
    while room_in(slots) <= len {
        slots = slots.saturating_mul(2);
    }
    slots
}

/// Returns the slot of an entry. The tag takes bits of the hash that do not decide where its search begins.
const fn pack(hash: IdHash, position: u32) -> u32 {
    let tag = (hash.high >> (u64::BITS - TAG_BITS)) as u32;
    tag << (u32::BITS - TAG_BITS) | position
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few homes and tags, so that runs are long.
    fn hash(n: u8) -> IdHash {
        IdHash { high: u64::from(n % 3) << 62, low: u64::from(n % 5).wrapping_sub(2) }
    }

    proptest! {
        #[test]
        fn every_entry_is_found_until_it_is_removed(
            steps in prop::collection::vec((any::<u8>(), any::<bool>()), 0..200)
        ) {
            let mut index = Index::default();
            let mut model: BTreeMap<u32, IdHash> = BTreeMap::new();
            for (step, (n, adds)) in steps.into_iter().enumerate() {
                let oldest = model.first_key_value().map(|(position, hash)| (*position, *hash));
                match oldest {
                    Some((position, old)) if !adds => {
                        index.remove(old, position, |position| model.get(&position).copied());
                        model.remove(&position);
                    }
                    _ => {
                        if index.is_full() {
                            index = Index::with_room_for(model.len());
                            for (position, hash) in &model { index.insert(*hash, *position); }
                        }
                        index.insert(hash(n), step as u32);
                        model.insert(step as u32, hash(n));
                    }
                }
                for (position, hash) in &model {
                    prop_assert_eq!(index.find(*hash, |found| found == *position), Some(*position));
                }
                for n in 0..=255 {
                    let mut found = Vec::new();
                    index.find(hash(n), |position| { found.push(position); false });
                    let exact = |p: &u32| model.get(p).is_some_and(|h| *h == hash(n));
                    let expected = model.keys().copied().filter(exact).count();
                    prop_assert_eq!(found.iter().filter(|p| exact(p)).count(), expected);
                }
            }
        }
    }

    #[test]
    fn an_empty_index_takes_no_memory() {
        let index = Index::default();
        assert_eq!((index.bytes(), index.is_full()), (0, true));
        assert_eq!(index.find(hash(1), |_| true), None);
    }
}
