//! The first half of a pass: the newest offset of each key in the dirty part of the log.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::key_map::AHEAD;
use super::{KeyHash, KeyMap};
use crate::producer_state::AbortedIndex;
use crate::record::{Batch, DecodeError, HEADER_BYTES, each_record};

/// The newest offsets of keys, and how far they reach (`OffsetMap`).
#[derive(Debug)]
pub(crate) struct OffsetMap {
    keys: KeyMap,
    /// first_dirty_offset <= end_offset
    first_dirty_offset: i64,
    end_offset: i64,
    is_full: bool,
    /// Keys that are hashed ahead, with their offsets.
    ahead: Vec<(KeyHash, i64)>,
}

impl OffsetMap {
    /// Creates a map that covers nothing, and ends at `first_dirty_offset`.
    pub(crate) const fn new(keys: KeyMap, first_dirty_offset: i64) -> Self {
        let end_offset = first_dirty_offset;
        Self { keys, first_dirty_offset, end_offset, is_full: false, ahead: Vec::new() }
    }

    /// Takes the next batch in the order of offsets. Returns `false` if the map is full: then no later batch
    /// may follow.
    ///
    /// Records without key, records of aborted transactions and control records do not enter, but count as
    /// covered. A full map ends after the last record that entered, which may be in the middle of a batch. So
    /// each pass makes progress if the map holds at least one key.
    ///
    /// # Errors
    /// If the batch cannot be decoded. The map must not be used then.
    pub(crate) fn add(
        &mut self,
        batch: &Batch<'_>,
        aborted: &AbortedIndex,
        max_decompressed_bytes: usize,
    ) -> Result<bool, DecodeError> {
        let header = batch.header();
        if header.last_offset() < self.first_dirty_offset {
            return Ok(true);
        }
        batch.verify_crc()?;
        if !header.attributes.is_control() && aborted.transaction_of(header).is_none() {
            let payload = batch.decompressed(max_decompressed_bytes)?;
            each_record(header, &payload, |record| {
                if let Some(key) = record.key.get(&payload) {
                    let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
                    self.ahead.push((self.keys.hash(key), offset));
                    if self.ahead.len() >= AHEAD {
                        self.put_ahead();
                    }
                }
            })
            .map_err(|error| error.shifted(HEADER_BYTES))?;
            self.put_ahead();
        }
        if !self.is_full {
            self.end_offset = header.next_offset();
        }
        Ok(!self.is_full)
    }

    fn put_ahead(&mut self) {
        self.keys.touch(self.ahead.iter().map(|(key, _)| *key));
        let mut ahead = std::mem::take(&mut self.ahead);
        for (key, offset) in ahead.drain(..) {
            self.put(key, offset);
        }
        self.ahead = ahead;
    }

    fn put(&mut self, key: KeyHash, offset: i64) {
        if self.is_full || offset < self.first_dirty_offset {
            return;
        }
        if self.keys.put(key, offset) {
            self.end_offset = offset.saturating_add(1);
        } else {
            self.is_full = true;
        }
    }

    /// Covers the gap behind the last batch of a segment that was added to its end.
    pub(crate) fn end_segment(&mut self, end_offset: i64) {
        if !self.is_full {
            self.end_offset = self.end_offset.max(end_offset);
        }
    }

    /// Returns the offset that ends the covered part. It is the next first dirty offset.
    pub(crate) const fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Returns the offset from which on records are in the map.
    pub(super) const fn first_dirty_offset(&self) -> i64 {
        self.first_dirty_offset
    }

    /// Returns the map of keys.
    pub(super) const fn keys(&self) -> &KeyMap {
        &self.keys
    }

    /// Returns whether a record of this key and offset is the newest one, as far as the map knows. A key that
    /// the map does not hold has no record in the dirty part, and one record in the clean part.
    pub(super) fn is_newest(&self, key: KeyHash, offset: i64) -> bool {
        self.keys.get(key).is_none_or(|newest| offset >= newest)
    }
}
