//! The entries of a table, oldest first.
//!
//! Each entry has a number. Numbers rise by one and are never given twice, also not after a restart. Entries lie in
//! chunks, so the ring grows without moving them, and a full chunk is shared with a checkpoint instead of copied.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::Packed;

/// The entries of a chunk. A power of two, so that dividing by it is cheap.
pub(super) const CHUNK: usize = 1024;

/// Consecutive entries that a checkpoint shares.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// Chunks, and how many of their first entries are not part of the run.
    parts: Vec<(Arc<[Packed]>, usize)>,
}

impl Run {
    pub(super) fn len(&self) -> u64 {
        self.slices().fold(0, |len, slice| len.saturating_add(slice.len() as u64))
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &[Packed]> {
        self.parts.iter().map(|(chunk, skip)| chunk.get(*skip..).unwrap_or_default())
    }
}

/// A queue of entries.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The number of the first entry of the first chunk. It may have been removed.
    base: u64,
    /// The number of the oldest entry.
    first: u64,
    /// Full chunks. They never change.
    chunks: VecDeque<Arc<[Packed]>>,
    /// The newest entries, at most a chunk.
    tail: Vec<Packed>,
}

impl Ring {
    /// Returns the number of the oldest entry, or of the next one if there is none.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that the next entry gets.
    pub(super) fn next(&self) -> u64 {
        let entries = self.chunks.len().saturating_mul(CHUNK).saturating_add(self.tail.len());
        self.base.saturating_add(entries as u64)
    }

    pub(super) fn len(&self) -> usize {
        self.next().saturating_sub(self.first) as usize
    }

    /// Returns the memory that the entries take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let chunk = CHUNK.saturating_mul(size_of::<Packed>());
        let tail = self.tail.capacity().saturating_mul(size_of::<Packed>());
        let table = self.chunks.capacity().saturating_mul(size_of::<Arc<[Packed]>>());
        self.chunks.len().saturating_mul(chunk).saturating_add(tail).saturating_add(table)
    }

    /// Returns the entry with this number.
    pub(super) fn get(&self, number: u64) -> Option<&Packed> {
        if number < self.first {
            return None;
        }
        let at = number.saturating_sub(self.base) as usize;
        match self.chunks.get(at / CHUNK) {
            Some(chunk) => chunk.get(at % CHUNK),
            None => self.tail.get(at.checked_sub(self.chunks.len().saturating_mul(CHUNK))?),
        }
    }

    pub(super) fn newest(&self) -> Option<&Packed> {
        self.get(self.next().checked_sub(1)?)
    }

    pub(super) fn push(&mut self, entry: Packed) {
        if self.tail.len() >= CHUNK {
            self.chunks.push_back(Arc::from(self.tail.as_slice()));
            self.tail.clear();
        }
        self.tail.push(entry);
    }

    /// Removes the oldest entry.
    pub(super) fn pop(&mut self) {
        if self.len() <= 1 {
            return self.clear(self.next());
        }
        self.first = self.first.saturating_add(1);
        let end = self.base.saturating_add(CHUNK as u64);
        if self.first >= end && self.chunks.pop_front().is_some() {
            self.base = end;
        }
    }

    /// Removes all entries and returns their memory. The next entry gets this number.
    pub(super) fn clear(&mut self, next: u64) {
        *self = Self { base: next, first: next, ..Self::default() };
    }

    /// Returns the entries from a number on. Copies at most a chunk of them.
    pub(super) fn share(&self, from: u64) -> Run {
        let skipped = from.max(self.first).saturating_sub(self.base) as usize;
        let whole = self.chunks.iter().skip(skipped / CHUNK).map(Arc::clone);
        let mut parts: Vec<_> = whole.map(|chunk| (chunk, 0)).collect();
        if let Some((_, skip)) = parts.first_mut() {
            *skip = skipped % CHUNK;
        }
        let in_tail = skipped.saturating_sub(self.chunks.len().saturating_mul(CHUNK));
        if let Some(copied @ [_, ..]) = self.tail.get(in_tail..) {
            parts.push((Arc::from(copied), 0));
        }
        Run { parts }
    }

    /// Returns all entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Packed> {
        let removed = self.first.saturating_sub(self.base) as usize;
        self.chunks.iter().flat_map(|chunk| chunk.iter()).chain(&self.tail).skip(removed)
    }

    /// Returns the first number at or after `from` whose entry is not `before`. All entries that are `before` must
    /// precede those that are not.
    pub(super) fn partition_point(&self, from: u64, before: impl Fn(&Packed) -> bool) -> u64 {
        let (mut low, mut high) = (from.max(self.first), self.next());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).is_some_and(&before) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Entry, Place};
    use super::super::hash::IdHash;
    use super::*;
    use crate::types::PartitionNumber;

    fn entry(number: u64) -> Packed {
        let place = Place { partition: PartitionNumber(1), offset: number as i64 };
        Entry { hash: IdHash { high: number, low: 0 }, place, time: number as i64 }.into()
    }

    fn offsets(run: &Run) -> Vec<i64> {
        run.slices().flatten().map(|entry| entry.place().offset).collect()
    }

    #[test]
    fn entries_keep_their_numbers_while_others_come_and_go() {
        let chunk = CHUNK as u64;
        let mut ring = Ring::default();
        ring.clear(7);
        for number in 7..7 + 3 * chunk {
            ring.push(entry(number));
            if number % 2 == 0 {
                ring.pop();
            }
            let range = ring.first()..ring.next();
            assert_eq!((ring.next(), ring.len() as u64), (number + 1, range.end - range.start));
            assert!(ring.get(range.start.wrapping_sub(1)).is_none());
            assert!(ring.get(range.end).is_none());
            for number in [range.start, range.end - 1, range.start.midpoint(range.end)] {
                let found = ring.get(number).map(|entry| entry.place().offset as u64);
                assert_eq!(found, (number < range.end).then_some(number));
            }
        }
        for from in [0, ring.first(), ring.first() + 1, ring.first() + chunk, ring.next() - 1] {
            let expected: Vec<i64> = (from.max(ring.first()) as i64..ring.next() as i64).collect();
            let run = ring.share(from);
            assert_eq!(run.len(), expected.len() as u64);
            assert_eq!(offsets(&run), expected, "from {from}");
        }
        assert_eq!(ring.share(ring.next()).len(), 0);
        assert_eq!(ring.partition_point(0, |entry| entry.time() < 2000), ring.first().max(2000));
        assert_eq!(ring.partition_point(2100, |entry| entry.time() < 2000), 2100);
        assert_eq!(ring.partition_point(0, |_| true), ring.next());
    }

    #[test]
    fn an_empty_ring_takes_no_memory() {
        let mut ring = Ring::default();
        assert_eq!(ring.bytes(), 0);
        (0..3000).for_each(|number| ring.push(entry(number)));
        assert!(ring.bytes() >= 3000 * 40);
        (0..3000).for_each(|_| ring.pop());
        assert_eq!((ring.bytes(), ring.len(), ring.first(), ring.next()), (0, 0, 3000, 3000));
        ring.pop();
        assert_eq!(ring.next(), 3000);
    }
}
