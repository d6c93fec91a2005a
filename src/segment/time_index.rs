//! The time index of a segment, Kafka's `.timeindex` (`TimeIndex`).
//!
//! ```text
//! 0  8  i64  largest timestamp of all batches so far
//! 8  4  i32  last offset of the first batch that reached it, less the segment's base offset
//! ..         more entries of 12 bytes; no header, no checksum
//! ```
//!
//! An entry is added together with one of the offset index, and once more when the segment is finished. Every
//! entry raises the timestamp.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::offset_index::OffsetIndex;
use super::walk::Headers;
use crate::error::CorruptReason;
use crate::record::{BatchHeader, DecodeError};

const ENTRY_BYTES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    timestamp: i64,
    /// 0 to 2^31 - 1.
    relative_offset: i32,
}

/// The entries of one segment, in memory (S4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeIndex {
    base_offset: i64,
    entries: Vec<Entry>,
}

impl TimeIndex {
    pub(crate) const fn new(base_offset: i64) -> Self {
        Self { base_offset, entries: Vec::new() }
    }

    /// Parses the index of a segment whose offsets lie below `next_offset`. After an error, rebuild it.
    pub(crate) fn parse(
        bytes: &[u8],
        base_offset: i64,
        next_offset: i64,
    ) -> Result<Self, DecodeError> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let mut index = Self { base_offset, entries: Vec::with_capacity(chunks.len()) };
        for (number, chunk) in chunks.iter().enumerate() {
            let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *chunk;
            let entry = Entry {
                timestamp: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                relative_offset: i32::from_be_bytes([o0, o1, o2, o3]),
            };
            let inside = index.absolute(entry).0 < next_offset;
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
            out.extend_from_slice(&entry.timestamp.to_be_bytes());
            out.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        (out, first.saturating_mul(ENTRY_BYTES) as u64)
    }

    /// Adds an entry if it keeps S4 and can be written. Returns whether it did.
    pub(super) fn push(&mut self, timestamp: i64, offset: i64) -> bool {
        match offset.checked_sub(self.base_offset).map(i32::try_from) {
            Some(Ok(relative_offset)) => self.push_entry(Entry { timestamp, relative_offset }),
            _ => false,
        }
    }

    fn push_entry(&mut self, entry: Entry) -> bool {
        let fits = match self.entries.last() {
            Some(last) => {
                entry.timestamp > last.timestamp && entry.relative_offset >= last.relative_offset
            }
            // -1 means "no timestamp" and never gets an entry.
            None => entry.timestamp >= 0 && entry.relative_offset >= 0,
        };
        if fits {
            self.entries.push(entry);
        }
        fits
    }

    /// Returns the number of entries.
    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the last entry: the largest timestamp, and the offset of the batch that reached it first.
    pub(crate) fn last(&self) -> Option<(i64, i64)> {
        self.entries.last().map(|entry| (entry.timestamp, self.absolute(*entry).0))
    }

    /// Finds the first batch that has a record with `timestamp` or a later one; `None` if there is none.
    ///
    /// As in [`OffsetIndex::locate`], the entry is compared with the batch that it names (S5).
    /// [`Headers::false_index`] means that one of the indexes should be rebuilt.
    pub(crate) fn locate<L: Headers + ?Sized>(
        &self,
        offsets: &OffsetIndex,
        log: &L,
        timestamp: i64,
    ) -> Result<Option<(u64, BatchHeader)>, L::Error> {
        let entry = self.entry_at_or_before(timestamp);
        let offset = entry.map_or(self.base_offset, |(offset, _)| offset);
        let located = offsets.locate(log, offset)?;
        if let Some((_, expected)) = entry
            && located.is_none_or(|(_, header)| header.max_timestamp != expected)
        {
            return Err(log.false_index(located.map_or(0, |(position, _)| position)));
        }
        let Some((start, _)) = located else { return Ok(None) };
        for item in log.walk(self.base_offset, start) {
            let (position, header) = item?;
            if header.max_timestamp >= timestamp {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// Returns the entries: the last offset of a batch, and the largest timestamp up to it.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.entries.iter().map(|entry| self.absolute(*entry))
    }

    /// Returns the last entry at or before a timestamp, as offset and timestamp.
    fn entry_at_or_before(&self, timestamp: i64) -> Option<(i64, i64)> {
        let after = self.entries.partition_point(|entry| entry.timestamp <= timestamp);
        self.entries.get(after.checked_sub(1)?).map(|entry| self.absolute(*entry))
    }

    fn absolute(&self, entry: Entry) -> (i64, i64) {
        (self.base_offset.saturating_add(i64::from(entry.relative_offset)), entry.timestamp)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::super::walk::tests::batch;
    use super::*;

    fn entries(list: &[(i64, i32)]) -> Vec<u8> {
        list.iter().flat_map(|(t, o)| [&t.to_be_bytes()[..], &o.to_be_bytes()].concat()).collect()
    }

    #[test]
    fn lookup_finds_the_last_entry_at_or_before() {
        let bytes = entries(&[(1000, 6), (2000, 6), (3000, 19)]);
        let index = TimeIndex::parse(&bytes, 5000, 5020).unwrap();
        assert_eq!(index.encode_from(0).0, bytes);
        for (timestamp, entry) in [
            (-1, None),
            (999, None),
            (1000, Some((5006, 1000))),
            (2500, Some((5006, 2000))),
            (3000, Some((5019, 3000))),
            (i64::MAX, Some((5019, 3000))),
        ] {
            assert_eq!(index.entry_at_or_before(timestamp), entry, "{timestamp}");
        }
        assert_eq!((index.len(), index.last()), (3, Some((3000, 5019))));
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        let error = |at| Err(DecodeError::corrupt(CorruptReason::Index, at));
        for (list, at) in [
            (&[(1000, 6), (1000, 7)][..], 12),
            (&[(1000, 6), (1001, 5)], 12),
            (&[(1000, 6), (0, 0)], 12),
            (&[(-1, 6)], 0),
            (&[(1, -1)], 0),
            (&[(1, 20)], 0),
        ] {
            assert_eq!(TimeIndex::parse(&entries(list), 5000, 5020), error(at), "{list:?}");
        }
        assert_eq!(TimeIndex::parse(&[0; 11], 5000, 5020), error(0));
    }

    #[test]
    fn locate_finds_the_first_batch_that_reaches_the_timestamp() {
        // Timestamps need not rise with offsets.
        let parts = [batch(100, 1, 50, 5), batch(101, 1, 20, 5), batch(102, 1, 70, 5)];
        let log = parts.concat();
        let mut offsets = OffsetIndex::new(100);
        let mut times = TimeIndex::new(100);
        assert!(offsets.push(101, parts[0].len() as u64));
        assert!(times.push(50, 100));
        let found = |timestamp| {
            let found = times.locate(&offsets, &log[..], timestamp).unwrap();
            found.map(|(_, header)| header.base_offset)
        };
        assert_eq!(found(0), Some(100));
        assert_eq!(found(20), Some(100));
        assert_eq!(found(50), Some(100));
        assert_eq!(found(51), Some(102));
        assert_eq!(found(71), None);

        // The entry does not match its batch.
        for (timestamp, offset) in [(49, 100), (50, 101), (50, 103)] {
            let mut times = TimeIndex::new(100);
            assert!(times.push(timestamp, offset));
            match times.locate(&offsets, &log[..], 60) {
                Err(DecodeError::Corrupt { reason: CorruptReason::Index, .. }) => {}
                other => panic!("{timestamp} {offset}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_length_that_reaches_beyond_the_log_is_damage() {
        let mut log = [batch(100, 3, 1, 5), batch(103, 2, 2, 5)].concat();
        let at = batch(100, 3, 1, 5).len();
        log[at + 9] ^= 1;
        let (offsets, times) = (OffsetIndex::new(100), TimeIndex::new(100));
        let expected = DecodeError::corrupt(CorruptReason::Length, at);
        assert_eq!(times.locate(&offsets, &log[..], 2), Err(expected));
    }
}
