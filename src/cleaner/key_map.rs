//! The map from keys to their newest offsets, in bounded memory.
//!
//! A key is represented by a keyed hash of 128 bits (SipHash-1-3). The caller gives a random key, so that no
//! sender of records can make two keys collide. By chance, some two of a million keys collide once in about 10^26
//! passes.
//!
//! ```text
//! slot, 24 bytes      0  8  u64  hash, upper half
//!                     8  8  u64  hash, lower half
//!                    16  8  u64  offset + 1, 0 in an empty slot
//! ```
//!
//! Slots are probed one after the other (open addressing). The map holds keys in at most 90 % of its slots, so
//! every search ends at an empty slot.
//!
//! A map of a million keys is larger than the caches, so each access waits for memory. Callers therefore hash some
//! keys ahead, and [`KeyMap::touch`] loads the slots of all of them at the same time.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::hint::black_box;

use siphasher::sip128::SipHasher13;

use crate::types::planted;

/// The default limit for the memory of the map: 32 MiB, room for 1.26 million keys.
#[cfg(test)]
pub(crate) const DEFAULT_MAP_BYTES: usize = 32 << 20;

/// How many keys are hashed ahead.
pub(super) const AHEAD: usize = 32;

/// The hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash {
    high: u64,
    low: u64,
}

type Slot = [u64; 3];
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 24);

/// Newest offsets by key. Allocates once, when it is created.
#[derive(Debug)]
pub(crate) struct KeyMap {
    slots: Vec<Slot>,
    len: usize,
    max_keys: usize,
    hasher: SipHasher13,
}

impl KeyMap {
    /// Creates an empty map that takes at most `max_bytes` bytes.
    ///
    /// `most_keys` is a number that the keys cannot exceed, such as the number of offsets to map. A small one
    /// makes a small map. `hash_key` must be random and secret.
    pub(crate) fn new(max_bytes: usize, most_keys: u64, hash_key: &[u8; 16]) -> Self {
        let limit = max_bytes / SLOT_BYTES;
        let most_keys = usize::try_from(most_keys).unwrap_or(usize::MAX);
        let slots = limit.min(slots_for(most_keys));
        Self {
            // Memory that is zero costs nothing until a key is put there.
            slots: vec![[0; 3]; slots],
            len: 0,
            max_keys: keys_in(slots),
            hasher: SipHasher13::new_with_key(hash_key),
        }
    }

    /// Returns the number of keys.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of keys that the map takes.
    pub(crate) const fn max_keys(&self) -> usize {
        self.max_keys
    }

    /// Sets the newest offset of a key, unless it is newer already. Returns `false` and does nothing if the map
    /// is full. Offsets are 0 or more.
    ///
    /// A full map does not take a newer offset of a key that it holds either, as Kafka's. So all records below
    /// the first refused one are in the map, and none above it.
    #[must_use]
    pub(crate) fn put(&mut self, key: KeyHash, offset: i64) -> bool {
        if self.len >= self.max_keys {
            return false;
        }
        let KeyHash { high, low } = key;
        let stored = (offset as u64).saturating_add(1);
        let Some(slot) = self.position(key).and_then(|at| self.slots.get_mut(at)) else {
            return false;
        };
        let [.., newest] = slot;
        if *newest == 0 {
            self.len = self.len.saturating_add(1);
        }
        *slot = [high, low, stored.max(*newest)];
        true
    }

    /// Returns the newest offset of a key, or `None` if the map does not hold it.
    pub(crate) fn get(&self, key: KeyHash) -> Option<i64> {
        let [.., stored] = self.slots.get(self.position(key)?)?;
        stored.checked_sub(1).map(|offset| offset as i64)
    }

    /// Returns the newest offsets of all keys, in no order.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> {
        self.slots
            .iter()
            .filter_map(|[.., stored]| stored.checked_sub(1))
            .map(|offset| offset as i64)
    }

    /// Returns the number of slots.
    pub(super) const fn slots(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Loads the slots of keys that [`KeyMap::put`] or [`KeyMap::get`] asks for next.
    pub(crate) fn touch(&self, keys: impl Iterator<Item = KeyHash>) {
        for key in keys {
            // A search that begins with a slot often ends in the next cache line.
            let first = self.first(key);
            black_box(self.slots.get(first).map(|[high, ..]| *high));
            black_box(self.slots.get(first.saturating_add(2)).map(|[.., stored]| *stored));
        }
    }

    /// Returns the hash of `key`.
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        let (high, low) = self.hasher.hash(key).as_u64();
        if planted("hash_truncated") {
            return KeyHash { high: high >> 60 << 60, low: 0 };
        }
        KeyHash { high, low }
    }

    /// Returns the position of the slot where the search for a key begins. Scales the hash to the number of slots,
    /// which need not be a power of two.
    fn first(&self, key: KeyHash) -> usize {
        (u128::from(key.high).wrapping_mul(self.slots.len() as u128) >> 64) as usize
    }

    /// Returns the position of the slot that holds the hash, or of the empty slot where it belongs. Returns
    /// `None` only if there are no slots.
    fn position(&self, key: KeyHash) -> Option<usize> {
        let KeyHash { high, low } = key;
        let first = self.first(key);
        let (before, from) = self.slots.split_at_checked(first)?;
        // Empty, or of this hash. One jump a slot, since what a slot holds cannot be predicted.
        let matches = |[h, l, stored]: &Slot| (h ^ high | l ^ low).min(*stored) == 0;
        if let Some(step) = from.iter().position(matches) {
            return Some(first.saturating_add(step));
        }
        before.iter().position(matches)
    }
}

/// Returns the number of keys in so many slots: the load factor 0.9 of `log.cleaner.io.buffer.load.factor`.
const fn keys_in(slots: usize) -> usize {
    slots.saturating_sub(slots.div_ceil(10))
}

/// Returns the smallest number of slots for so many keys.
const fn slots_for(keys: usize) -> usize {
    // Every tenth slot stays empty, and one more in the last, incomplete ten.
    keys.saturating_add(keys.div_ceil(9))
}
