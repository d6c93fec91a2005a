//! Decoding records of one batch.

use super::cursor::{Ahead, Cursor, Inside};
use super::fetched::{Chunk, FetchLimits, Fetched, FetchedRecord, Source};
use crate::error::CorruptReason;
use crate::log::Log;
use crate::log::batch::append_timestamp;
use crate::record::{DecodeError, check_records, read_record};

/// The batch that records are decoded from.
pub(super) struct Decode<'a> {
    pub(super) source: &'a Source,
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    pub(super) append_timestamp: Option<i64>,
    pub(super) epoch: i32,
    pub(super) partition: usize,
    /// The records that are read lie behind the first delta and not beyond the second one.
    pub(super) deltas: (i32, i32),
    /// Records from this offset on are not read: an append publishes its bytes before its offsets, and a
    /// position beyond the log end would be out of range.
    pub(super) end_offset: i64,
    /// The records from the first one that is asked for on, if they were read ahead.
    pub(super) ahead: &'a [Ahead],
}

impl Decode<'_> {
    /// Reads the record at byte `at`, which comes behind that of the offset delta `last`.
    #[inline(always)]
    fn read(
        &self,
        bytes: &[u8],
        at: usize,
        last: Option<i32>,
    ) -> Result<(FetchedRecord, usize), DecodeError> {
        let (record, next) = read_record(bytes, at)?;
        let (before, most) = self.deltas;
        if record.offset_delta > most || record.offset_delta <= last.unwrap_or(before) {
            return Err(DecodeError::Corrupt { reason: CorruptReason::Offsets, position: at });
        }
        Ok((record, next))
    }
}

impl Cursor {
    /// Decodes records from byte `at` of the batch on, and keeps those from the cursor's position on.
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
        while at < bytes.len() && taken < room && (at < until || out.records.is_empty()) {
            let (record, next) = match batch.ahead.get(records) {
                Some(ahead) => *ahead,
                None => match batch.read(bytes, at, last) {
                    Ok(decoded) => decoded,
                    Err(error) => {
                        // No record of a batch that is not what it claims is delivered.
                        out.records.truncate(before);
                        return Err(error);
                    }
                },
            };
            if i64::from(record.offset_delta) >= end {
                break;
            }
            last = Some(record.offset_delta);
            records = records.saturating_add(1);
            at = next;
            if i64::from(record.offset_delta) >= skip_to {
                out.records.push(record);
                taken = taken.saturating_add(1);
            }
        }
        out.bytes = out.bytes.saturating_add(at.saturating_sub(began));
        if taken > 0 {
            out.chunks.push(Chunk {
                partition: batch.partition,
                source: batch.source.clone(),
                base_offset: batch.base_offset,
                base_timestamp: batch.base_timestamp,
                append_timestamp: batch.append_timestamp,
                epoch: batch.epoch,
                end: out.records.len(),
            });
        }
        Ok(Decoded { at, last, records })
    }
}

/// What [`Cursor::decode`] got through.
pub(super) struct Decoded {
    /// The byte behind the last record read.
    pub(super) at: usize,
    /// The offset delta of that record.
    pub(super) last: Option<i32>,
    /// How many records were read, those in front of the cursor's position included.
    pub(super) records: usize,
}

impl Log {
    /// Decodes records of a batch of a segment. Nothing is kept of one that is not what its header says.
    pub(super) fn decode_stored(
        cursor: &mut Cursor,
        inside: &mut Inside,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<Decoded, DecodeError> {
        // Where all of them are decoded now, that is the check.
        let whole = inside.at == 0 && limits.hold(out, &inside.header, inside.source.bytes());
        if !whole {
            inside.check(&mut cursor.ahead)?;
        }
        let before = (out.records.len(), out.chunks.len(), out.bytes);
        let ahead = inside.ahead.and_then(|taken| cursor.ahead.get(taken..)).unwrap_or_default();
        let decode = Decode {
            source: &inside.source,
            base_offset: inside.header.base_offset,
            base_timestamp: inside.header.base_timestamp,
            append_timestamp: append_timestamp(&inside.header),
            epoch: inside.header.leader_epoch,
            partition,
            deltas: (inside.last_delta, inside.header.last_offset_delta),
            end_offset: i64::MAX,
            ahead,
        };
        let decoded = match cursor.decode(&decode, inside.at, limits, out) {
            Ok(decoded) => inside.check_decoded(decoded.records, decoded.at).map(|()| decoded),
            // The reason is that which a look at the whole batch gives.
            Err(error) => {
                Err(check_records(&inside.header, inside.source.bytes()).err().unwrap_or(error))
            }
        };
        match &decoded {
            Ok(decoded) => {
                inside.ahead = inside.ahead.map(|taken| taken.saturating_add(decoded.records));
            }
            Err(_) => out.roll_back(before),
        }
        decoded
    }
}
