//! A registered id.

use super::hash::IdHash;
use crate::types::PartitionNumber;

/// Where the first record with an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: PartitionNumber,
    pub(crate) offset: i64,
}

/// A registered id: its hash, the place of its record, and when it was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) hash: IdHash,
    pub(crate) place: Place,
    /// Milliseconds since 1970, never negative.
    pub(crate) time: i64,
}

/// An entry as it is kept in memory. The numbers of a [`Place`] are taken apart, because padding would make it larger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    high: u64,
    low: u64,
    offset: i64,
    time: i64,
    partition: u32,
}

const _: () = assert!(size_of::<Packed>() == 40);

impl Packed {
    pub(super) const fn hash(&self) -> IdHash {
        IdHash { high: self.high, low: self.low }
    }

    pub(super) const fn time(&self) -> i64 {
        self.time
    }

    pub(super) const fn place(&self) -> Place {
        Place { partition: PartitionNumber(self.partition), offset: self.offset }
    }

    #[cfg(test)]
    pub(super) const fn entry(&self) -> Entry {
        Entry { hash: self.hash(), place: self.place(), time: self.time }
    }
}

impl From<Entry> for Packed {
    fn from(entry: Entry) -> Self {
        let Entry { hash, place, time } = entry;
        let PartitionNumber(partition) = place.partition;
        Self { high: hash.high, low: hash.low, offset: place.offset, time, partition }
    }
}
