//! New bytes of a batch that loses records or gets a delete horizon.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::Error;
use crate::record::{BatchHeader, Compression, DecodeError, HEADER_BYTES, compress, seal, varint};
use crate::types::TimestampType;

use super::BatchError;

/// The most bytes behind the header of a batch.
const MAX_PAYLOAD_BYTES: usize = i32::MAX as usize - HEADER_BYTES;

/// A record that stays: its bytes in the decompressed payload, and its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Timestamp minus the base timestamp of the source batch.
    pub(super) timestamp_delta: i64,
}

impl Kept {
    fn bytes<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        payload.get(self.start..self.end).unwrap_or_default()
    }
}

/// Writes the batch with only the records of `kept`, at least one, to `out`. Returns its header.
///
/// Offsets, producer fields, leader epoch, attributes and codec stay. Timestamps stay too, but are counted
/// from another base: from the delete horizon, or from the first record that stays. With LogAppendTime all
/// records have the largest timestamp of the batch, whatever their deltas say.
///
/// Larger deltas make larger records. If they exceed `max_bytes`, which no reader would take, the base stays and
/// there is no horizon: the tombstones of this batch live on.
pub(super) fn rebuild(
    source: &BatchHeader,
    payload: &[u8],
    kept: &[Kept],
    delete_horizon: Option<i64>,
    max_bytes: usize,
    out: &mut Output,
) -> Result<BatchHeader, BatchError> {
    let is_append_time = source.attributes.timestamp_type() == TimestampType::LogAppendTime;
    // Timestamps wrap on both sides, when they are written and when they are read.
    let timestamp = |record: &Kept| {
        let create_time = source.base_timestamp.wrapping_add(record.timestamp_delta);
        if is_append_time { source.max_timestamp } else { create_time }
    };
    let largest = kept.iter().map(timestamp).max().unwrap_or(-1).max(-1);
    let mut header = BatchHeader {
        max_timestamp: if is_append_time { source.max_timestamp } else { largest },
        // No batch holds more records than an i32 counts, and these are fewer.
        count: i32::try_from(kept.len()).unwrap_or(i32::MAX),
        ..*source
    };
    let base = delete_horizon.or(kept.first().map(timestamp)).unwrap_or(source.base_timestamp);
    out.records.clear();
    for record in kept {
        let delta = timestamp(record).wrapping_sub(base);
        out.put(record.bytes(payload), record.timestamp_delta, delta)?;
    }
    if out.records.len() <= max_bytes.min(MAX_PAYLOAD_BYTES) {
        header.attributes = header.attributes.with_delete_horizon(delete_horizon.is_some());
        header.base_timestamp = base;
    } else {
        out.records.clear();
        for record in kept {
            out.records.extend_from_slice(record.bytes(payload));
        }
    }
    out.seal(&header)
}

/// Writes the header of the batch alone to `out`: the state of its producer and its end offset. Returns it.
pub(super) fn empty(source: &BatchHeader, out: &mut Output) -> Result<BatchHeader, BatchError> {
    let attributes =
        source.attributes.with_compression(Compression::None).with_delete_horizon(false);
    out.records.clear();
    out.seal(&BatchHeader { attributes, base_timestamp: -1, count: 0, ..*source })
}

/// The bytes of the batch that was written last, and memory that is used again for each.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The records before they are compressed.
    records: Vec<u8>,
    batch: Vec<u8>,
}

impl Output {
    /// Returns the whole batch.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.batch
    }

    /// Adds an encoded record with another timestamp delta. Copies everything behind the delta as it is, so that
    /// header names which are not UTF-8 survive.
    fn put(&mut self, raw: &[u8], old_delta: i64, delta: i64) -> Result<(), DecodeError> {
        const ATTRIBUTES: usize = 1;
        if delta == old_delta {
            self.records.extend_from_slice(raw);
            return Ok(());
        }
        let (_, body) = varint::read_i32(raw, 0)?;
        let (_, tail) = varint::read_i64(raw, body.saturating_add(ATTRIBUTES))?;
        let tail = raw.get(tail..).unwrap_or_default();
        let length =
            ATTRIBUTES.saturating_add(varint::encoded_bytes(delta)).saturating_add(tail.len());
        // A length of 5 bytes, the attributes, a delta of 10 bytes. A longer length is that of a record that
        // exceeds every limit.
        let mut front = [0; 32];
        let end = varint::write(&mut front, 0, length as i64)
            .and_then(|at| varint::write(&mut front, at.saturating_add(ATTRIBUTES), delta));
        self.records.extend_from_slice(end.and_then(|end| front.get(..end)).unwrap_or_default());
        self.records.extend_from_slice(tail);
        Ok(())
    }

    /// Makes the batch of `header` and the records.
    fn seal(&mut self, header: &BatchHeader) -> Result<BatchHeader, BatchError> {
        self.batch.clear();
        self.batch.resize(HEADER_BYTES, 0);
        compress(header.attributes.compression(), None, &self.records, &mut self.batch)?;
        let payload = self.batch.get(HEADER_BYTES..).unwrap_or_default();
        let sealed = seal(header, payload).ok_or(Error::LimitExceeded {
            what: "bytes of a batch",
            found: payload.len() as u64,
            max: MAX_PAYLOAD_BYTES as u64,
        })?;
        if let Some(front) = self.batch.first_chunk_mut() {
            *front = sealed;
        }
        Ok(BatchHeader::parse(&sealed)?)
    }
}
