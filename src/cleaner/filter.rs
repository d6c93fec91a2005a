//! The second half of a pass: what becomes of each batch (`RecordFilter`).
//!
//! | the batch | outcome |
//! |---|---|
//! | all records stay, no delete horizon to set | unchanged |
//! | some records stay, or a delete horizon is set | rebuilt |
//! | no record stays, a producer's state or the log end is in it | emptied: the header alone |
//! | no record stays | removed |
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::key_map::AHEAD;
use super::newest::Newest;
use super::rebuild::{Kept, Output, empty, rebuild};
use super::transactions::{Transactions, Verdict};
use super::{BatchError, KeyHash, OffsetMap};
use crate::producer_state::{AbortedIndex, AbortedTransaction, ProducerStates};
use crate::record::{
    Batch, BatchHeader, Compression, DecodeError, HEADER_BYTES, RawRecord, each_record,
};
use crate::types::planted;

/// What a pass needs to know besides the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilterSettings {
    /// The time of the pass in ms. All batches of a pass see the same.
    pub(crate) now: i64,
    /// `delete.retention.ms`, 0 or more.
    pub(crate) delete_retention_ms: i64,
    /// The high watermark, which is the log end offset. The batch before it stays, if only as a header, so that
    /// a log does not forget its end.
    pub(crate) high_watermark: i64,
    /// The limit for the decompressed size of a batch in bytes.
    pub(crate) max_decompressed_bytes: usize,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stays as it is.
    Unchanged,
    /// It stays with fewer records, or with a delete horizon.
    Rebuilt,
    /// Its header stays.
    Emptied,
    /// It goes.
    Removed,
}

/// A filtered batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filtered<'a> {
    /// What became of the batch.
    pub(crate) outcome: Outcome,
    /// The header and all bytes of the batch that stays.
    pub(crate) batch: Option<(BatchHeader, &'a [u8])>,
    /// The number of records in it.
    pub(crate) records: u64,
    /// The entry that belongs into the transaction index of the new segment: the batch is its ABORT marker.
    pub(crate) aborted: Option<AbortedTransaction>,
    /// The number of tombstones that left because their delete horizon has passed.
    pub(crate) tombstones_removed: u64,
}

/// Decides about the batches of one pass. Must see every batch from the log start on, in the order of offsets:
/// it learns from data batches whether a marker may go.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    map: &'a OffsetMap,
    newest: Newest,
    settings: FilterSettings,
    producers: &'a ProducerStates,
    transactions: Transactions<'a>,
    /// The records of the present batch that stay.
    kept: Vec<Kept>,
    /// Records of the present batch whose keys are hashed ahead, each with where it begins.
    ahead: Vec<(usize, RawRecord, Option<KeyHash>)>,
    out: Output,
}

impl<'a> Filter<'a> {
    /// Creates the filter of a pass. `map` covers the dirty part.
    pub(crate) fn new(
        map: &'a OffsetMap,
        settings: FilterSettings,
        aborted: &'a AbortedIndex,
        producers: &'a ProducerStates,
    ) -> Self {
        Self {
            map,
            newest: Newest::default(),
            settings,
            producers,
            transactions: Transactions::new(aborted),
            kept: Vec::new(),
            ahead: Vec::new(),
            out: Output::default(),
        }
    }

    /// Takes the next batch.
    ///
    /// # Errors
    /// If the batch cannot be decoded, or the rebuilt one exceeds the limits of the format. The filter must not
    /// be used then.
    pub(crate) fn batch<'b>(&'b mut self, batch: &Batch<'b>) -> Result<Filtered<'b>, BatchError> {
        batch.verify_crc()?;
        let payload = batch.decompressed(self.settings.max_decompressed_bytes)?;
        let in_batch = |error: DecodeError| error.shifted(HEADER_BYTES);
        let verdict = self.transactions.on_batch(batch.header(), &payload).map_err(in_batch)?;
        let found = self.judge(batch.header(), &payload, verdict).map_err(in_batch)?;
        let (mut outcome, header) = self.decide(batch.header(), &payload, verdict, found)?;
        let is_new = matches!(outcome, Outcome::Emptied | Outcome::Rebuilt);
        if is_new && self.out.bytes() == batch.bytes() {
            // An earlier pass has done the same.
            outcome = Outcome::Unchanged;
        }
        let bytes = if outcome == Outcome::Unchanged { batch.bytes() } else { self.out.bytes() };
        let aborted = match verdict {
            Verdict::AbortMarker(transaction) => Some(transaction),
            _ => None,
        };
        Ok(Filtered {
            outcome,
            batch: header.map(|header| (header, bytes)),
            records: self.kept.len() as u64,
            tombstones_removed: found.tombstones_removed,
            aborted,
        })
    }

    /// Collects the records that stay.
    fn judge(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        verdict: Verdict,
    ) -> Result<Found, DecodeError> {
        let has_passed = delete_horizon(header).is_some_and(|horizon| self.settings.now >= horizon)
            || planted("tombstone_goes_at_once");
        let goes_whole = match verdict {
            Verdict::AbortedData => true,
            Verdict::MarkerWithoutData => has_passed,
            Verdict::Ordinary | Verdict::AbortMarker(_) => false,
        };
        let judged = Judged { header, goes_whole, has_passed, end_offset: self.map.end_offset() };
        self.kept.clear();
        if self.newest.covers(header, self.map) {
            self.judge_by_offsets(&judged, payload)
        } else {
            self.judge_by_keys(&judged, payload)
        }
    }

    /// Judges a batch whose newest records the window knows.
    fn judge_by_offsets(
        &mut self,
        judged: &Judged<'_>,
        payload: &[u8],
    ) -> Result<Found, DecodeError> {
        let Self { newest, kept, .. } = self;
        let mut found = Found::default();
        let mut start = 0;
        each_record(judged.header, payload, |record| {
            let fate = judged.fate(&record, |offset| newest.contains(offset));
            found.add(fate, start, &record, kept);
            start = record.end();
        })?;
        Ok(found)
    }

    /// Judges any batch.
    fn judge_by_keys(&mut self, judged: &Judged<'_>, payload: &[u8]) -> Result<Found, DecodeError> {
        let mut found = Found::default();
        let mut start = 0;
        self.ahead.clear();
        each_record(judged.header, payload, |record| {
            let key = record.key.get(payload).map(|key| self.map.keys().hash(key));
            self.ahead.push((start, record, key));
            start = record.end();
            if self.ahead.len() >= AHEAD {
                self.judge_ahead(judged, &mut found);
            }
        })?;
        self.judge_ahead(judged, &mut found);
        Ok(found)
    }

    /// Judges the records whose keys are hashed ahead.
    fn judge_ahead(&mut self, judged: &Judged<'_>, found: &mut Found) {
        let Self { map, kept, ahead, .. } = self;
        map.keys().touch(ahead.iter().filter_map(|(.., key)| *key));
        for (start, record, key) in ahead.drain(..) {
            // Nothing can replace a record without key, so a compacted topic does not hold one.
            let is_newest = |offset| key.is_some_and(|key| map.is_newest(key, offset));
            found.add(judged.fate(&record, is_newest), start, &record, kept);
        }
    }

    /// Makes the batch that stays, unless it stays unchanged.
    fn decide(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        verdict: Verdict,
        found: Found,
    ) -> Result<(Outcome, Option<BatchHeader>), BatchError> {
        if self.kept.is_empty() {
            let ends_the_log = header.next_offset() == self.settings.high_watermark;
            if !ends_the_log && !self.producers.are_held_by(header) {
                return Ok((Outcome::Removed, None));
            }
            return Ok((Outcome::Emptied, Some(empty(header, &mut self.out)?)));
        }
        let horizon = delete_horizon(header);
        let needs_horizon = found.keeps_tombstone || verdict == Verdict::MarkerWithoutData;
        let set_horizon = horizon.is_none() && needs_horizon && !planted("horizon_lost");
        if !set_horizon && i32::try_from(self.kept.len()) == Ok(header.count) {
            return Ok((Outcome::Unchanged, Some(*header)));
        }
        let FilterSettings { now, delete_retention_ms, max_decompressed_bytes, .. } = self.settings;
        let new = now.saturating_add(delete_retention_ms).max(0);
        let horizon = if set_horizon { Some(new) } else { horizon };
        // Only compressed records have a limit: they take more memory than their file.
        let max_bytes = match header.attributes.compression() {
            Compression::None => usize::MAX,
            _ => max_decompressed_bytes,
        };
        let rebuilt = rebuild(header, payload, &self.kept, horizon, max_bytes, &mut self.out)?;
        Ok((Outcome::Rebuilt, Some(rebuilt)))
    }
}

/// What a batch holds besides the records that stay.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    keeps_tombstone: bool,
    tombstones_removed: u64,
}

impl Found {
    /// Takes the next record, which begins at `start`.
    #[inline]
    fn add(&mut self, fate: Fate, start: usize, record: &RawRecord, kept: &mut Vec<Kept>) {
        match fate {
            Fate::Stays => {
                let timestamp_delta = record.timestamp_delta;
                kept.push(Kept { start, end: record.end(), timestamp_delta });
                self.keeps_tombstone |= record.value.is_null();
            }
            Fate::Goes => {}
            Fate::Expired => self.tombstones_removed = self.tombstones_removed.saturating_add(1),
        }
    }
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// It is the newest record of its key, a tombstone whose delete horizon has passed.
    Expired,
}

/// What holds for all records of a batch that is judged.
struct Judged<'a> {
    header: &'a BatchHeader,
    /// No record stays.
    goes_whole: bool,
    /// Whether its delete horizon has passed.
    has_passed: bool,
    /// The end of the map.
    end_offset: i64,
}

impl Judged<'_> {
    /// Decides about a record. `is_newest` says whether a record in the map is the newest of its key.
    #[inline]
    fn fate(&self, record: &RawRecord, is_newest: impl FnOnce(i64) -> bool) -> Fate {
        if self.goes_whole {
            return Fate::Goes;
        }
        let offset = self.header.base_offset.saturating_add(i64::from(record.offset_delta));
        if self.header.attributes.is_control() || offset >= self.end_offset {
            Fate::Stays
        } else if !is_newest(offset) {
            Fate::Goes
        } else if record.value.is_null() && self.has_passed {
            Fate::Expired
        } else {
            Fate::Stays
        }
    }
}

/// Returns the time in ms from which tombstones of the batch, or its marker, may go.
fn delete_horizon(header: &BatchHeader) -> Option<i64> {
    header.attributes.has_delete_horizon().then_some(header.base_timestamp)
}
