//! Decoding the records of one batch.

use super::cursor::{Cursor, Inside};
use super::fetched::{Chunk, FetchLimits, Fetched, FetchedRecord, Source};
use crate::error::CorruptReason;
use crate::log::Log;
use crate::log::batch::append_timestamp;
use crate::record::{DecodeError, check_records, read_any, read_plain};

/// The batch that records are decoded from.
pub(super) struct Decode<'a> {
    pub(super) source: &'a Source,
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    pub(super) append_timestamp: Option<i64>,
    pub(super) epoch: i32,
    pub(super) partition: usize,
    /// Every offset delta must be greater than the first of these, and at most the second.
    pub(super) deltas: (i32, i32),
    /// Records from this offset on are not read. An append publishes its bytes before its offsets, and a
    /// position beyond the log end would be out of range.
    pub(super) end_offset: i64,
}

impl Decode<'_> {
    /// Decodes the record at byte `at`. It follows a record with the offset delta `last`.
    #[inline(always)]
    fn read(
        &self,
        bytes: &[u8],
        at: usize,
        last: Option<i32>,
    ) -> Result<FetchedRecord, DecodeError> {
        let record = match read_plain(bytes, at) {
            Some(record) => record,
            None => read_any(bytes, at)?,
        };
        let (before, most) = self.deltas;
        if record.offset_delta > most || record.offset_delta <= last.unwrap_or(before) {
            return Err(DecodeError::Corrupt { reason: CorruptReason::Offsets, position: at });
        }
        Ok(record)
    }

    /// Adds the source of the records that were taken: those of `out` after the first `before`, of `bytes`
    /// bytes.
    fn deliver(&self, before: usize, bytes: usize, out: &mut Fetched) {
        out.bytes = out.bytes.saturating_add(bytes);
        if out.records.len() > before {
            out.chunks.push(Chunk {
                partition: self.partition,
                source: self.source.clone(),
                base_offset: self.base_offset,
                base_timestamp: self.base_timestamp,
                append_timestamp: self.append_timestamp,
                epoch: self.epoch,
                end: out.records.len(),
            });
        }
    }
}

impl Cursor {
    /// Decodes records from byte `at` of the batch on. Keeps the records from the cursor's position on.
    pub(super) fn decode(
        &self,
        batch: &Decode<'_>,
        mut at: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<Decoded, DecodeError> {
        let bytes = batch.source.bytes();
        let before = out.records.len();
        let room = limits.records.saturating_sub(before);
        let until = at.saturating_add(limits.bytes.saturating_sub(out.bytes)).min(bytes.len());
        let skip_to = self.position.saturating_sub(batch.base_offset);
        let end = batch.end_offset.saturating_sub(batch.base_offset);
        let began = at;
        let mut last = None;
        let (mut taken, mut records): (usize, usize) = (0, 0);
        let mut reached_end = false;
        while at < bytes.len() && taken < room && (at < until || out.records.is_empty()) {
            let record = match batch.read(bytes, at, last) {
                Ok(decoded) => decoded,
                Err(error) => {
                    // No record of a damaged batch is delivered.
                    out.records.truncate(before);
                    return Err(error);
                }
            };
            if i64::from(record.offset_delta) >= end {
                reached_end = true;
                break;
            }
            last = Some(record.offset_delta);
            records = records.saturating_add(1);
            at = record.end();
            if i64::from(record.offset_delta) >= skip_to {
                out.records.push(record);
                taken = taken.saturating_add(1);
            }
        }
        batch.deliver(before, at.saturating_sub(began), out);
        Ok(Decoded { at, last, records, reached_end })
    }

    /// Takes records that were decoded ahead, of which the first begins at byte `at`. Keeps the records from
    /// the cursor's position on.
    fn take(
        &self,
        batch: &Decode<'_>,
        ahead: &[FetchedRecord],
        at: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Decoded {
        let before = out.records.len();
        let skip_to = self.position.saturating_sub(batch.base_offset);
        let skipped = ahead.partition_point(|record| i64::from(record.offset_delta) < skip_to);
        let (passed, wanted) = ahead.split_at(skipped);
        let began = passed.last().map_or(at, FetchedRecord::end);
        // A record is taken if the one before it ends within the limit. The first one is always taken.
        let until = began.saturating_add(limits.bytes.saturating_sub(out.bytes));
        let within = wanted.partition_point(|record| record.end() < until).saturating_add(1);
        let end = batch.end_offset.saturating_sub(batch.base_offset);
        let below = wanted.partition_point(|record| i64::from(record.offset_delta) < end);
        let count = within.min(limits.records.saturating_sub(before)).min(below);
        let taken = wanted.get(..count).unwrap_or_default();
        out.records.extend_from_slice(taken);
        let last = taken.last().or(passed.last());
        let at = last.map_or(at, FetchedRecord::end);
        batch.deliver(before, at.saturating_sub(began), out);
        let records = skipped.saturating_add(count);
        let reached_end = count == below && below < wanted.len();
        Decoded { at, last: last.map(|record| record.offset_delta), records, reached_end }
    }
}

/// How far [`Cursor::decode`] decoded a batch.
pub(super) struct Decoded {
    /// The byte after the last decoded record.
    pub(super) at: usize,
    /// The offset delta of that record.
    pub(super) last: Option<i32>,
    /// The number of decoded records, including those before the cursor's position.
    pub(super) records: usize,
    /// Whether the next record is at or beyond the limit. Compaction may have removed those before it.
    pub(super) reached_end: bool,
}

impl Log {
    /// Decodes records of a batch of a segment. Keeps no record of a batch that does not match its header.
    pub(super) fn decode_stored(
        cursor: &mut Cursor,
        inside: &mut Inside,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<Decoded, DecodeError> {
        // If the limits admit the whole batch, decoding it is the check.
        let whole = inside.at == 0 && limits.hold(out, &inside.header, inside.source.bytes());
        if !whole {
            inside.check(&mut cursor.ahead)?;
        }
        let before = (out.records.len(), out.chunks.len(), out.bytes);
        let decode = Decode {
            source: &inside.source,
            base_offset: inside.header.base_offset,
            base_timestamp: inside.header.base_timestamp,
            append_timestamp: append_timestamp(&inside.header),
            epoch: inside.header.leader_epoch,
            partition,
            deltas: (inside.last_delta, inside.header.last_offset_delta),
            end_offset: limits.until,
        };
        if let Some(taken) = inside.ahead {
            let ahead = cursor.ahead.get(taken..).unwrap_or_default();
            let decoded = cursor.take(&decode, ahead, inside.at, limits, out);
            inside.ahead = Some(taken.saturating_add(decoded.records));
            return Ok(decoded);
        }
        if whole {
            out.records.reserve(inside.most_records());
        }
        let decoded = match cursor.decode(&decode, inside.at, limits, out) {
            Ok(decoded) => inside.check_decoded(decoded.records, decoded.at).map(|()| decoded),
            // Report the same reason as a check of the whole batch.
            Err(error) => {
                Err(check_records(&inside.header, inside.source.bytes()).err().unwrap_or(error))
            }
        };
        if decoded.is_err() {
            out.roll_back(before);
        }
        decoded
    }
}
