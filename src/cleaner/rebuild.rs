//! New bytes of a batch that loses records or gets a delete horizon.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::Error;
use crate::record::{BatchHeader, Compression, HEADER_BYTES, compress, seal, varint};
use crate::types::TimestampType;

use super::BatchError;

/// A record that stays: its bytes in the decompressed payload, and its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Timestamp minus the base timestamp of the source batch.
    pub(super) timestamp_delta: i64,
}

/// Writes the batch with only the records of `kept`, at least one, to `out`. Returns its header.
///
/// Offsets, producer fields, leader epoch, attributes and codec stay. Timestamps stay too, but are counted
/// from another base: from the delete horizon, or from the first record that stays. With LogAppendTime all
/// records have the largest timestamp of the batch, whatever their deltas say.
pub(super) fn rebuild(
    source: &BatchHeader,
    payload: &[u8],
    kept: &[Kept],
    delete_horizon: Option<i64>,
    out: &mut Output,
) -> Result<BatchHeader, BatchError> {
    let is_append_time = source.attributes.timestamp_type() == TimestampType::LogAppendTime;
    // Timestamps wrap on both sides, when they are written and when they are read.
    let timestamp = |record: &Kept| {
        let create_time = source.base_timestamp.wrapping_add(record.timestamp_delta);
        if is_append_time { source.max_timestamp } else { create_time }
    };
    let base_timestamp =
        delete_horizon.or(kept.first().map(timestamp)).unwrap_or(source.base_timestamp);
    let largest = kept.iter().map(timestamp).max().unwrap_or(-1).max(-1);
    out.records.clear();
    for record in kept {
        let raw = payload.get(record.start..record.end).unwrap_or_default();
        let delta = timestamp(record).wrapping_sub(base_timestamp);
        if delta == record.timestamp_delta {
            out.records.extend_from_slice(raw);
        } else {
            put_with_timestamp(raw, delta, &mut out.records)?;
        }
    }
    let header = BatchHeader {
        attributes: source.attributes.with_delete_horizon(delete_horizon.is_some()),
        base_timestamp,
        max_timestamp: if is_append_time { source.max_timestamp } else { largest },
        // No batch holds more records than an i32 counts, and these are fewer.
        count: i32::try_from(kept.len()).unwrap_or(i32::MAX),
        ..*source
    };
    out.seal(&header)
}

/// Writes the header of the batch alone to `out`: the state of its producer and its end offset. Returns it.
pub(super) fn empty(source: &BatchHeader, out: &mut Output) -> Result<BatchHeader, BatchError> {
    let attributes =
        source.attributes.with_compression(Compression::None).with_delete_horizon(false);
    out.records.clear();
    out.seal(&BatchHeader { attributes, base_timestamp: -1, count: 0, ..*source })
}

/// Copies an encoded record with another timestamp delta. Everything behind the delta is copied as it is, so
/// that header names which are not UTF-8 survive.
fn put_with_timestamp(raw: &[u8], delta: i64, out: &mut Vec<u8>) -> Result<(), BatchError> {
    const ATTRIBUTES: usize = 1;
    let (_, body) = varint::read_i32(raw, 0)?;
    let (_, tail) = varint::read_i64(raw, body.saturating_add(ATTRIBUTES))?;
    let tail = raw.get(tail..).unwrap_or_default();
    let length = ATTRIBUTES.saturating_add(varint::encoded_bytes(delta)).saturating_add(tail.len());
    let length = i32::try_from(length).map_err(|_| too_large(length))?;
    // A length of 5 bytes, the attributes, a delta of 10 bytes.
    let mut front = [0; 16];
    let end = varint::write(&mut front, 0, i64::from(length))
        .and_then(|at| varint::write(&mut front, at.saturating_add(ATTRIBUTES), delta));
    out.extend_from_slice(end.and_then(|end| front.get(..end)).unwrap_or_default());
    out.extend_from_slice(tail);
    Ok(())
}

fn too_large(found: usize) -> Error {
    let max = i32::MAX as u64;
    Error::LimitExceeded { what: "bytes of a batch", found: found as u64, max }
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

    /// Makes the batch of `header` and the records.
    fn seal(&mut self, header: &BatchHeader) -> Result<BatchHeader, BatchError> {
        self.batch.clear();
        self.batch.resize(HEADER_BYTES, 0);
        compress(header.attributes.compression(), None, &self.records, &mut self.batch)?;
        let payload = self.batch.get(HEADER_BYTES..).unwrap_or_default();
        let sealed = seal(header, payload).ok_or_else(|| too_large(payload.len()))?;
        if let Some(front) = self.batch.first_chunk_mut() {
            *front = sealed;
        }
        Ok(BatchHeader::parse(&sealed)?)
    }
}
