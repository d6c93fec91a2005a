//! The walk over the batches of a `.log` file (`FileLogInputStream`).
//!
//! From position p in a file of E bytes:
//! 1. E - p = 0 is the clean end; less than 17 bytes (offset, length, epoch, magic) are a torn tail.
//! 2. A length below 14 (Kafka's smallest batch of any version) is damage. So are zeros.
//! 3. p + 12 + length > E is a torn tail, whatever the rest looks like.
//! 4. Then the header must be that of a batch: magic 2, length at least 49, fields in range.
//! 5. Its offsets must rise (S1) and fit the segment (S2).
//!
//! The walk checks no checksums. A caller that needs them calls [`Batch::verify_crc`] on each batch.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::CorruptReason;
use crate::record::header::{LENGTH_AT, LOG_OVERHEAD, MAGIC_AT};
use crate::record::{Batch, BatchHeader, DecodeError};

/// The bytes needed to judge a batch: everything up to the magic number.
const PREFIX_BYTES: usize = MAGIC_AT + 1;
/// `LegacyRecord.RECORD_OVERHEAD_V0`: the smallest batch of any version.
const MIN_ANY_LENGTH: i32 = 14;

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkEnd {
    /// The bytes end where a batch ends.
    Clean,
    /// The bytes end inside a batch that begins here.
    Torn {
        /// Where the torn batch begins.
        position: u64,
    },
    /// No valid batch begins here, so no batch behind it can be found.
    Corrupt {
        /// Where the damaged batch begins.
        position: u64,
        /// What is wrong with it.
        reason: CorruptReason,
    },
}

/// Iterates over the batches of a segment with their positions.
///
/// After the last one, [`Walk::end`] says why it was the last.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    log: &'a [u8],
    position: usize,
    /// The smallest offset that the next batch may have.
    next_offset: i64,
    /// The largest offset of the segment (S2).
    max_offset: i64,
    end: Option<WalkEnd>,
}

impl<'a> Walk<'a> {
    /// Creates a walk over all batches of the segment with this base offset.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn new(log: &'a [u8], base_offset: i64) -> Self {
        Self::from_position(log, base_offset, 0)
    }

    /// Creates a walk from `position`, where a batch must begin.
    pub(crate) fn from_position(log: &'a [u8], base_offset: i64, position: u64) -> Self {
        Self {
            log,
            // A position that memory cannot hold is beyond the log as well.
            position: usize::try_from(position).unwrap_or(usize::MAX),
            next_offset: base_offset,
            max_offset: base_offset.saturating_add(i64::from(i32::MAX)),
            end: None,
        }
    }

    /// Returns why the walk ended, once `next` has returned `None`.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn end(&self) -> Option<WalkEnd> {
        self.end
    }

    /// Checks that the walk ended where a batch ends, once `next` has returned `None`. For bytes that are
    /// known to be whole batches, where a batch that is cut short has a damaged length.
    pub(crate) fn check_end(&self) -> Result<(), DecodeError> {
        match self.end {
            Some(WalkEnd::Corrupt { position, reason }) => {
                Err(DecodeError::corrupt(reason, position as usize))
            }
            Some(WalkEnd::Torn { position }) => {
                Err(DecodeError::corrupt(CorruptReason::Length, position as usize))
            }
            Some(WalkEnd::Clean) | None => Ok(()),
        }
    }

    /// Returns the position of the walk: the end of the last batch that it returned.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    /// Returns the offset after the last batch that the walk returned, at first the base offset.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    fn step(&mut self) -> Result<Batch<'a>, WalkEnd> {
        let position = self.position as u64;
        let corrupt = |reason| WalkEnd::Corrupt { position, reason };
        // A start beyond the end is damage of the index or file that named it, not a torn tail.
        let rest = self.log.get(self.position..).ok_or(corrupt(CorruptReason::Length))?;
        if rest.is_empty() {
            return Err(WalkEnd::Clean);
        }
        let length = rest.get(LENGTH_AT..).and_then(|bytes| bytes.first_chunk());
        let (Some(length), true) = (length, rest.len() >= PREFIX_BYTES) else {
            return Err(WalkEnd::Torn { position });
        };
        let length = i32::from_be_bytes(*length);
        if length < MIN_ANY_LENGTH {
            return Err(corrupt(CorruptReason::Length));
        }
        // Compares in 64 bits, since a length may be nearly 2 GiB.
        if (length as u64).saturating_add(LOG_OVERHEAD as u64) > rest.len() as u64 {
            return Err(WalkEnd::Torn { position });
        }
        let batch = Batch::parse(rest).map_err(|error| {
            corrupt(match error {
                DecodeError::Corrupt { reason, .. } => reason,
                // Parsing a header does not decompress.
                DecodeError::LimitExceeded { .. } | DecodeError::UnsupportedCodec(_) => {
                    CorruptReason::Codec
                }
            })
        })?;
        let header = batch.header();
        if header.base_offset < self.next_offset || header.last_offset() > self.max_offset {
            return Err(corrupt(CorruptReason::Offsets));
        }
        Ok(batch)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (u64, Batch<'a>);

    fn next(&mut self) -> Option<(u64, Batch<'a>)> {
        if self.end.is_some() {
            return None;
        }
        match self.step() {
            Ok(batch) => {
                let position = self.position as u64;
                self.position = self.position.saturating_add(batch.bytes().len());
                self.next_offset = batch.header().next_offset();
                Some((position, batch))
            }
            Err(end) => {
                self.end = Some(end);
                None
            }
        }
    }
}

/// A source of the batch headers of a log.
pub(crate) trait Headers {
    /// The error of reading them.
    type Error;

    /// Returns the batches with their positions, from `position` on, where a batch must begin. The log ends
    /// where a batch ends, so a batch that is cut short is damage. The iterator ends after an error.
    fn walk(
        &self,
        base_offset: i64,
        position: u64,
    ) -> impl Iterator<Item = Result<(u64, BatchHeader), Self::Error>>;

    /// Returns the error for an index that does not match the batch at `position`.
    fn false_index(&self, position: u64) -> Self::Error;

    /// Returns whether the bytes are damaged, rather than unreadable.
    fn is_damage(error: &Self::Error) -> bool;
}

impl Headers for [u8] {
    type Error = DecodeError;

    fn walk(
        &self,
        base_offset: i64,
        position: u64,
    ) -> impl Iterator<Item = Result<(u64, BatchHeader), DecodeError>> {
        let mut walk = Walk::from_position(self, base_offset, position);
        let mut ended = false;
        std::iter::from_fn(move || match walk.next() {
            Some((position, batch)) => Some(Ok((position, *batch.header()))),
            None if std::mem::replace(&mut ended, true) => None,
            None => walk.check_end().err().map(Err),
        })
    }

    fn false_index(&self, position: u64) -> DecodeError {
        DecodeError::corrupt(CorruptReason::Index, position as usize)
    }

    fn is_damage(_error: &DecodeError) -> bool {
        true
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
pub(super) mod tests {
    use super::*;
    use crate::record::{encode_record, seal};
    use proptest::prelude::*;

    /// Builds a batch with one record at each of `count` offsets from `base_offset`.
    pub(crate) fn batch(base_offset: i64, count: i32, max_timestamp: i64, value: usize) -> Vec<u8> {
        let mut payload = vec![0; (value + 30) * count as usize];
        let mut at = 0;
        for delta in 0..count {
            let value = vec![b'v'; value];
            at += encode_record(&mut payload[at..], 0, delta, None, Some(&value), &[]).unwrap();
        }
        payload.truncate(at);
        let header = BatchHeader {
            base_offset,
            count,
            last_offset_delta: count - 1,
            base_timestamp: max_timestamp,
            max_timestamp,
            ..BatchHeader::default()
        };
        [&seal(&header, &payload).unwrap()[..], &payload].concat()
    }

    fn walk(log: &[u8]) -> (Vec<u64>, WalkEnd) {
        let mut walk = Walk::new(log, 100);
        let positions = walk.by_ref().map(|(position, _)| position).collect();
        assert!(walk.next().is_none());
        (positions, walk.end().unwrap())
    }

    #[test]
    fn batches_follow_each_other_and_gaps_are_legal() {
        let first = batch(100, 3, 1, 5);
        let log = [first.clone(), batch(103, 1, 2, 5), batch(200, 1, 3, 5)].concat();
        let second = first.len() as u64;
        let third = second + (log.len() - first.len()) as u64 / 2;
        assert_eq!(walk(&log), (vec![0, second, third], WalkEnd::Clean));
        assert_eq!(walk(b""), (vec![], WalkEnd::Clean));
        let mut walk = Walk::from_position(&log, 100, third);
        assert_eq!(walk.next().unwrap().1.header().base_offset, 200);
        assert_eq!((walk.position(), walk.next_offset()), (log.len() as u64, 201));
        let mut beyond = Walk::from_position(&log, 100, log.len() as u64 + 1);
        assert!(beyond.next().is_none());
        assert!(matches!(beyond.end(), Some(WalkEnd::Corrupt { .. })));
    }

    #[test]
    fn every_cut_of_the_last_batch_is_a_torn_tail() {
        let first = batch(100, 3, 1, 5);
        let log = [first.clone(), batch(103, 1, 2, 5)].concat();
        let position = first.len() as u64;
        for cut in first.len() + 1..log.len() {
            assert_eq!(walk(&log[..cut]), (vec![0], WalkEnd::Torn { position }), "{cut}");
        }
        assert_eq!(walk(&log[..first.len()]), (vec![0], WalkEnd::Clean));
    }

    #[test]
    fn damage_is_told_from_a_torn_tail() {
        let good = batch(100, 1, 1, 5);
        let position = good.len() as u64;
        let with = |tail: &[u8]| walk(&[&good[..], tail].concat()).1;
        let edit = |at: usize, bytes: &[u8]| {
            let mut next = batch(101, 1, 1, 5);
            next[at..at + bytes.len()].copy_from_slice(bytes);
            with(&next)
        };
        let corrupt = |reason| WalkEnd::Corrupt { position, reason };
        assert_eq!(with(&[0; 100]), corrupt(CorruptReason::Length));
        assert_eq!(with(&[0; 16]), WalkEnd::Torn { position });
        assert_eq!(edit(8, &13_i32.to_be_bytes()), corrupt(CorruptReason::Length));
        assert_eq!(edit(8, &(-1_i32).to_be_bytes()), corrupt(CorruptReason::Length));
        assert_eq!(edit(8, &48_i32.to_be_bytes()), corrupt(CorruptReason::Length));
        assert_eq!(edit(8, &i32::MAX.to_be_bytes()), WalkEnd::Torn { position });
        assert_eq!(edit(16, &[1]), corrupt(CorruptReason::Magic));
        assert_eq!(edit(57, &(-1_i32).to_be_bytes()), corrupt(CorruptReason::Count));
        assert_eq!(edit(0, &100_i64.to_be_bytes()), corrupt(CorruptReason::Offsets));
        assert_eq!(edit(0, &(1_i64 << 32).to_be_bytes()), corrupt(CorruptReason::Offsets));
        assert_eq!(
            walk(&batch(99, 1, 1, 5)).1,
            WalkEnd::Corrupt { position: 0, reason: CorruptReason::Offsets }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_walk_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            good: bool,
            from in 0_u64..400,
        ) {
            let log = if good { [batch(100, 1, 1, 5), bytes].concat() } else { bytes };
            let mut walk = Walk::from_position(&log, 100, from);
            let batches = walk.by_ref().count();
            prop_assert!(batches <= log.len() / 61);
            prop_assert!(walk.end().is_some());
        }
    }
}
