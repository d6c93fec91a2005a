//! The CRC-32C of a batch, computed while its blocks are compared with their sums.
//!
//! A batch that is read for the first time needs two checksums: its own, and those of its blocks, which also cover
//! what Kafka's CRC leaves out. Neither replaces the other. A writer with bad memory can give right block sums to a
//! batch that no longer has its own checksum. To compute both piece by piece loads the bytes from memory once.

use std::ops::Range;

use crate::record::crc::Crc32c;
use crate::record::header::ATTRIBUTES_AT;
use crate::storage::ReadMap;

/// The bytes that both checksums take at a time. More are slower: two threads share the first cache of a core.
pub(super) const PIECE_BYTES: u64 = 4 << 10;

/// A checksum of the first bytes of a batch.
#[derive(Debug)]
pub(super) struct BatchSum {
    /// What the checksum does not cover yet.
    left: Range<u64>,
    crc: Option<Crc32c>,
}

impl BatchSum {
    /// Creates the checksum of a batch at this range of a segment.
    pub(super) fn new(batch: Range<u64>) -> Self {
        let start = batch.start.saturating_add(ATTRIBUTES_AT as u64);
        Self { left: start.min(batch.end)..batch.end, crc: None }
    }

    /// Adds the bytes of the batch up to this position of the segment.
    pub(super) fn advance(&mut self, map: &ReadMap, until: u64) {
        let until = until.min(self.left.end);
        if until > self.left.start
            && let Some(bytes) = map.slice(self.left.start..until)
        {
            self.crc.get_or_insert_with(Crc32c::new).update(bytes);
            self.left.start = until;
        }
    }

    /// Adds the rest of the batch, and returns the checksum. Returns `None` if nothing was added before: to
    /// compute the checksum at once is faster then.
    pub(super) fn finish(mut self, map: &ReadMap) -> Option<u32> {
        self.crc.as_ref()?;
        self.advance(map, self.left.end);
        self.crc.filter(|_| self.left.is_empty()).map(|crc| crc.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::crc::crc32c;

    #[test]
    fn pieces_of_a_batch_give_its_checksum() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| (n * 7) as u8).collect();
        let map = ReadMap::from_bytes(bytes.as_slice());
        let covered = crc32c(&bytes[1000 + ATTRIBUTES_AT..4000]);
        for steps in [&[0, 2000][..], &[1021, 1022, 3000, 3000, 2500], &[4000], &[5000]] {
            let mut sum = BatchSum::new(1000..4000);
            for until in steps {
                sum.advance(&map, *until);
            }
            assert_eq!(sum.finish(&map), Some(covered), "{steps:?}");
        }
    }

    #[test]
    fn a_batch_of_which_nothing_was_added_has_no_checksum_yet() {
        let map = ReadMap::from_bytes(vec![1; 100]);
        for until in [0, 30, 51] {
            let mut sum = BatchSum::new(30..90);
            sum.advance(&map, until);
            assert_eq!(sum.finish(&map), None);
        }
        // What the map does not hold is not covered.
        let mut sum = BatchSum::new(30..200);
        sum.advance(&map, 80);
        assert_eq!(sum.finish(&map), None);
    }
}
