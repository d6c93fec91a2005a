//! The offset index of a segment, Kafka's `.index` (`OffsetIndex`).
//!
//! ```text
//! 0  4  i32  last offset of a batch, less the base offset of the segment
//! 4  4  i32  position in the .log file where that batch starts
//! ..         more entries of 8 bytes; no header, no checksum
//! ```
//!
//! The index is sparse: an entry about every `index.interval.bytes`, and none for the first batch. It is
//! written whole when the segment is finished. A missing, torn or foreign file is rebuilt from the log. (A
//! running Kafka broker has zeros behind the entries of its active segment; such a file is rebuilt here.)
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::walk::Headers;
use crate::error::CorruptReason;
use crate::record::{BatchHeader, DecodeError};
use crate::types::planted;

const ENTRY_BYTES: usize = 8;

/// Both fields have their stored form: 0 to 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    relative_offset: i32,
    position: i32,
}

/// The entries of one segment, in memory (S3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetIndex {
    base_offset: i64,
    entries: Vec<Entry>,
}

impl OffsetIndex {
    pub(crate) const fn new(base_offset: i64) -> Self {
        Self { base_offset, entries: Vec::new() }
    }

    /// Parses the index of a segment whose log holds `log_len` bytes. After an error, rebuild it.
    pub(crate) fn parse(bytes: &[u8], base_offset: i64, log_len: u64) -> Result<Self, DecodeError> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let mut index = Self { base_offset, entries: Vec::with_capacity(chunks.len()) };
        for (number, chunk) in chunks.iter().enumerate() {
            let [o0, o1, o2, o3, p0, p1, p2, p3] = *chunk;
            let entry = Entry {
                relative_offset: i32::from_be_bytes([o0, o1, o2, o3]),
                position: i32::from_be_bytes([p0, p1, p2, p3]),
            };
            let inside = u64::try_from(entry.position).is_ok_and(|position| position < log_len);
            if !inside || !index.push_entry(entry) {
                let at = number.saturating_mul(ENTRY_BYTES);
                return Err(DecodeError::corrupt(CorruptReason::Index, at));
            }
        }
        if !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            return Err(DecodeError::corrupt(CorruptReason::Index, at));
        }
        Ok(index)
    }

    /// Encodes the index from entry `first` on. Also returns the position of that entry in the file.
    pub(crate) fn encode_from(&self, first: usize) -> (Vec<u8>, u64) {
        let entries = self.entries.get(first..).unwrap_or_default();
        let mut out = Vec::with_capacity(entries.len().saturating_mul(ENTRY_BYTES));
        for entry in entries {
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
        }
        (out, first.saturating_mul(ENTRY_BYTES) as u64)
    }

    /// Adds an entry if it keeps S3 and can be written. Returns whether it did. A missing entry only costs a
    /// longer scan.
    pub(super) fn push(&mut self, last_offset: i64, position: u64) -> bool {
        let relative = last_offset.checked_sub(self.base_offset).map(i32::try_from);
        let (Some(Ok(relative_offset)), Ok(position)) = (relative, i32::try_from(position)) else {
            return false;
        };
        self.push_entry(Entry { relative_offset, position })
    }

    fn push_entry(&mut self, entry: Entry) -> bool {
        let rises = match self.entries.last() {
            Some(last) => {
                entry.relative_offset > last.relative_offset && entry.position > last.position
            }
            None => entry.relative_offset >= 0 && entry.position >= 0,
        };
        if rises {
            self.entries.push(entry);
        }
        rises
    }

    /// Returns the number of entries.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entries: the last offset of a batch, and where the batch starts.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        self.entries.iter().map(|entry| self.absolute(*entry))
    }

    pub(crate) const fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Returns the last entry: the last offset of a batch, and where the batch starts.
    pub(crate) fn last(&self) -> Option<(i64, u64)> {
        self.entries.last().map(|entry| self.absolute(*entry))
    }

    /// Returns where to start the scan for the batch that holds `offset`. The batch starts there or later.
    /// Returns 0 if no entry helps.
    pub(crate) fn lookup(&self, offset: i64) -> u64 {
        self.entry_at_or_before(offset).map_or(0, |(_, position)| position)
    }

    /// Finds the first batch whose last offset is `offset` or more. It holds the offset, or follows the gap
    /// that the offset lies in. Returns `None` if the log ends before.
    ///
    /// The entry is compared with the batch that it points to (S5). [`Headers::false_index`] means that they
    /// differ and that the index should be rebuilt. Any other error comes from the log.
    pub(crate) fn locate<L: Headers + ?Sized>(
        &self,
        log: &L,
        offset: i64,
    ) -> Result<Option<(u64, BatchHeader)>, L::Error> {
        let entry = self.entry_at_or_before(offset);
        let start = entry.map_or(0, |(_, position)| position);
        let mut expected = entry.map(|(last_offset, _)| last_offset);
        for item in log.walk(self.base_offset, start) {
            let (position, header) = match item {
                // No batch begins where the entry points to.
                Err(error) if expected.is_some() && L::is_damage(&error) => break,
                item => item?,
            };
            let false_entry = expected.take().is_some_and(|last| last != header.last_offset());
            if false_entry && !planted("believe_index") {
                return Err(log.false_index(position));
            }
            if header.last_offset() >= offset {
                return Ok(Some((position, header)));
            }
        }
        if expected.is_some() { Err(log.false_index(start)) } else { Ok(None) }
    }

    fn entry_at_or_before(&self, offset: i64) -> Option<(i64, u64)> {
        let relative = offset.checked_sub(self.base_offset)?;
        let after =
            self.entries.partition_point(|entry| i64::from(entry.relative_offset) <= relative);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        Some(self.absolute(*entry))
    }

    fn absolute(&self, entry: Entry) -> (i64, u64) {
        let offset = self.base_offset.saturating_add(i64::from(entry.relative_offset));
        // Entries hold no negative position.
        (offset, u64::try_from(entry.position).unwrap_or(0))
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::super::walk::tests::batch;
    use super::*;

    fn entries(list: &[(i32, i32)]) -> Vec<u8> {
        list.iter().flat_map(|(o, p)| [o.to_be_bytes(), p.to_be_bytes()].concat()).collect()
    }

    #[test]
    fn lookup_finds_the_last_entry_at_or_before() {
        let bytes = entries(&[(6, 445), (11, 1320), (19, 1988)]);
        let index = OffsetIndex::parse(&bytes, 5000, 2000).unwrap();
        assert_eq!(index.encode_from(0).0, bytes);
        for (offset, position) in
            [(i64::MIN, 0), (0, 0), (5005, 0), (5006, 445), (5010, 445), (5011, 1320), (9999, 1988)]
        {
            assert_eq!(index.lookup(offset), position, "{offset}");
        }
        assert_eq!((index.len(), index.last()), (3, Some((5019, 1988))));
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        let error = |at| Err(DecodeError::corrupt(CorruptReason::Index, at));
        for (list, at) in [
            (&[(6, 445), (6, 500)][..], 8),
            (&[(6, 445), (7, 445)], 8),
            (&[(6, 445), (0, 0)], 8),
            (&[(-1, 445)], 0),
            (&[(6, -1)], 0),
            (&[(6, 2000)], 0),
        ] {
            assert_eq!(OffsetIndex::parse(&entries(list), 5000, 2000), error(at), "{list:?}");
        }
        let odd = [entries(&[(6, 445)]), vec![0; 7]].concat();
        assert_eq!(OffsetIndex::parse(&odd, 5000, 2000), error(8));
        assert_eq!(OffsetIndex::parse(&[], 5000, 0).unwrap().len(), 0);
    }

    #[test]
    fn entries_that_cannot_be_written_are_left_out() {
        let mut index = OffsetIndex::new(10);
        assert!(!index.push(9, 0));
        assert!(!index.push(10 + (1 << 31), 5));
        assert!(!index.push(10, 1 << 31));
        assert!(index.push(10, 5));
        assert!(!index.push(10, 9) && !index.push(11, 5));
        assert!(index.push(11, 6));
        assert_eq!(index.encode_from(0).0, entries(&[(0, 5), (1, 6)]));
    }

    #[test]
    fn locate_finds_the_batch_or_the_one_after_the_gap() {
        let log = [batch(100, 3, 1, 5), batch(103, 2, 2, 5), batch(200, 1, 3, 5)].concat();
        let second = batch(100, 3, 1, 5).len() as u64;
        let mut index = OffsetIndex::new(100);
        assert!(index.push(104, second));
        let found = |offset| index.locate(&log[..], offset).unwrap().map(|(_, h)| h.base_offset);
        assert_eq!(found(0), Some(100));
        assert_eq!(found(102), Some(100));
        assert_eq!(found(103), Some(103));
        assert_eq!(found(104), Some(103));
        assert_eq!(found(105), Some(200));
        assert_eq!(found(200), Some(200));
        assert_eq!(found(201), None);
    }

    #[test]
    fn an_entry_that_points_elsewhere_is_noticed() {
        let log = [batch(100, 3, 1, 5), batch(103, 2, 2, 5), batch(200, 1, 3, 5)].concat();
        let second = batch(100, 3, 1, 5).len() as u64;
        for (offset, position) in [(103, second), (104, second + 1), (104, 0), (104, 1 << 20)] {
            let mut index = OffsetIndex::new(100);
            assert!(index.push(offset, position));
            match index.locate(&log[..], 104) {
                Err(DecodeError::Corrupt { reason: CorruptReason::Index, .. }) => {}
                other => panic!("{offset} {position}: {other:?}"),
            }
        }
    }

    #[test]
    fn damage_of_the_log_is_not_the_end_of_the_log() {
        let log = [batch(100, 3, 1, 5), vec![0; 100]].concat();
        let index = OffsetIndex::new(100);
        assert_eq!(index.locate(&log[..], 102).unwrap().unwrap().0, 0);
        let at = log.len() - 100;
        assert_eq!(
            index.locate(&log[..], 103),
            Err(DecodeError::corrupt(CorruptReason::Length, at))
        );

        // A length that reaches beyond the log is damage as well, not a torn tail.
        let mut log = [batch(100, 3, 1, 5), batch(103, 2, 2, 5)].concat();
        let at = batch(100, 3, 1, 5).len();
        log[at + 9] ^= 1;
        let expected = DecodeError::corrupt(CorruptReason::Length, at);
        assert_eq!(index.locate(&log[..], 103), Err(expected));
    }
}
