//! Reading by offset: a cursor walks segments through maps, then batches in memory.
//!
//! Records are decoded once, into plain ranges over bytes that the result holds on to: a segment map,
//! a batch in memory, or a decompressed buffer. Nothing is copied.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::batch::{MemBatch, append_timestamp};
use super::segment::{History, Segment, Stored};
use super::view::View;
use super::{Log, check_range};
use crate::error::{CorruptReason, Error, Result};
use crate::record::{
    Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, HEADER_BYTES, RawRecord,
    check_records, each_record, read_record,
};
use crate::storage::ReadMap;
use crate::types::planted;

/// Where a reader of one partition stands.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The next offset to return.
    position: i64,
    at: At,
    /// Of the batch that it is inside of: all records, if they were read ahead. Kept for the next batch.
    ahead: Vec<Ahead>,
}

/// A record that was read ahead, and the byte behind it.
type Ahead = (FetchedRecord, usize);

/// So many records of a batch are read ahead at most (384 KiB); those of a larger one are decoded twice.
const AHEAD_RECORDS: usize = 8192;

/// The place that belongs to the position, as far as it is known.
#[derive(Debug, Default)]
enum At {
    /// To be looked up.
    #[default]
    Unknown,
    /// In a segment, in front of the batch at `next`.
    Stored { segment: Arc<Segment>, next: u64 },
    /// Inside a batch of a segment.
    Inside(Inside),
    /// In a batch in memory, behind `bytes` bytes of records.
    Memory { id: u64, bytes: usize },
}

/// A batch of a segment that is being read.
#[derive(Debug)]
struct Inside {
    segment: Arc<Segment>,
    /// Where the next batch begins.
    next: u64,
    position: u64,
    header: BatchHeader,
    source: Source,
    /// Bytes of the records read so far.
    at: usize,
    last_delta: i32,
    /// Whether all its records are known to be what the header says.
    checked: bool,
    /// How many of its records were taken from those read ahead; `None` if they were not.
    ahead: Option<usize>,
}

impl Inside {
    /// Makes sure that no record of the batch is delivered unless all of them are what its header says
    /// ([`Batch::verify`]): looks at all of them before the first is delivered.
    fn check(&mut self, ahead: &mut Vec<Ahead>) -> Result<(), DecodeError> {
        if self.checked || planted("counts_not_checked") {
            return Ok(());
        }
        let bytes = self.source.bytes();
        if usize::try_from(self.header.count).is_ok_and(|count| count <= AHEAD_RECORDS) {
            ahead.clear();
            each_record(&self.header, bytes, |record, end| ahead.push((record, end)))?;
            self.ahead = Some(0);
        } else {
            check_records(&self.header, bytes)?;
        }
        self.checked = true;
        Ok(())
    }

    /// As `check`, of a batch that was decoded in one go: `records` of it were, up to byte `at`.
    fn check_decoded(&mut self, records: usize, at: usize) -> Result<(), DecodeError> {
        let bytes = self.source.bytes();
        let all = at == bytes.len() && usize::try_from(self.header.count) == Ok(records);
        if !all && !self.checked && !planted("counts_not_checked") {
            check_records(&self.header, bytes)?;
        }
        self.checked = true;
        Ok(())
    }
}

/// How much one fetch returns at most. At least one record is returned, however large it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

/// Bytes that delivered records lie in.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Records of an uncompressed batch in a segment.
    Map { map: Arc<ReadMap>, start: u64, end: u64 },
    /// Records of a batch in memory.
    Memory(Arc<MemBatch>),
    /// Decompressed records.
    Owned(Arc<Vec<u8>>),
}

impl Source {
    /// The records, back to back.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map { map, start, end } => map.slice(*start..*end).unwrap_or_default(),
            Self::Memory(batch) => batch.records(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A record as ranges of its source.
pub(crate) type FetchedRecord = RawRecord;

/// Records of one batch among those fetched.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: usize,
    pub(crate) source: Source,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) append_timestamp: Option<i64>,
    pub(crate) epoch: i32,
    /// The chunk's records end here in [`Fetched::records`].
    pub(crate) end: usize,
}

impl Chunk {
    /// The timestamp of one of its records.
    #[inline]
    pub(crate) fn timestamp_of(&self, record: &FetchedRecord) -> i64 {
        self.append_timestamp
            // Wraps as Kafka's does, and as `record::RecordView` does.
            .unwrap_or_else(|| self.base_timestamp.wrapping_add(record.timestamp_delta))
    }
}

/// What fetches of several partitions gathered.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<FetchedRecord>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) bytes: usize,
}

impl FetchLimits {
    /// Whether a whole batch may be added to what was fetched.
    fn hold(&self, fetched: &Fetched, header: &BatchHeader, records: &[u8]) -> bool {
        let count = usize::try_from(header.count).unwrap_or(usize::MAX);
        count <= self.records.saturating_sub(fetched.records.len())
            && records.len() <= self.bytes.saturating_sub(fetched.bytes)
    }
}

impl Fetched {
    /// Takes back what was added since there were so many records, chunks and bytes.
    fn roll_back(&mut self, (records, chunks, bytes): (usize, usize, usize)) {
        self.records.truncate(records);
        self.chunks.truncate(chunks);
        self.bytes = bytes;
    }

    fn full(&self, limits: FetchLimits) -> bool {
        self.records.len() >= limits.records
            || (self.bytes >= limits.bytes && !self.records.is_empty())
    }
}

/// The batch that records are decoded from.
struct Decode<'a> {
    source: &'a Source,
    base_offset: i64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    epoch: i32,
    partition: usize,
    /// The records that are read lie behind the first delta and not beyond the second one.
    deltas: (i32, i32),
    /// Records from this offset on are not read: an append publishes its bytes before its offsets, and a
    /// position beyond the log end would be out of range.
    end_offset: i64,
    /// The records from the first one that is asked for on, if they were read ahead.
    ahead: &'a [Ahead],
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
    /// A cursor in front of the record at `position`.
    pub(crate) fn new(position: i64) -> Self {
        Self { position, at: At::Unknown, ahead: Vec::new() }
    }

    /// The next offset to return.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Decodes records from byte `at` of the batch on, and keeps those from the cursor's position on.
    fn decode(
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
struct Decoded {
    /// The byte behind the last record read.
    at: usize,
    /// The offset delta of that record.
    last: Option<i32>,
    /// How many records were read, those in front of the cursor's position included.
    records: usize,
}

impl Log {
    /// Appends records from the cursor's position on to `out`, and moves the cursor behind them.
    ///
    /// # Errors
    /// `OffsetOutOfRange`; `Corrupt` when nothing could be read before the damaged batch: what lies in
    /// front of it is returned first.
    pub(crate) fn fetch(
        &self,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<()> {
        // The end before the view: every offset below it is then in the view (L2).
        let end = self.end_offset();
        let before = out.records.len();
        check_range(self.partition(), cursor.position, self.start_offset(), end)?;
        if cursor.position == end {
            return Ok(());
        }
        let view = self.view();
        while cursor.position < end && !out.full(limits) {
            let step = if view.is_stored(cursor.position) {
                self.fetch_stored(&view, cursor, partition, limits, out)
            } else {
                Self::fetch_memory(&view, cursor, end, partition, limits, out)
            };
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if out.records.len() > before => break,
                Err(error) if planted("believe_missing_segment") => return Err(error),
                Err(error) => {
                    // If the records were deleted meanwhile, then that is what is wrong.
                    self.look_again(&error)?;
                    check_range(self.partition(), cursor.position, self.start_offset(), end)?;
                    return Err(covering(error, cursor.position));
                }
            }
        }
        Ok(())
    }

    fn fetch_memory(
        view: &View,
        cursor: &mut Cursor,
        end_offset: i64,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<bool> {
        let Some(batch) = view.batch_of(cursor.position) else { return Ok(false) };
        let from = match cursor.at {
            At::Memory { id, bytes } if id == batch.id => bytes,
            _ => 0,
        };
        let source = Source::Memory(Arc::clone(batch));
        let decode = Decode {
            source: &source,
            base_offset: batch.base_offset,
            base_timestamp: batch.base_timestamp,
            append_timestamp: batch.append_timestamp(),
            epoch: batch.epoch,
            partition,
            deltas: (-1, i32::MAX),
            end_offset,
            ahead: &[],
        };
        let Decoded { at: bytes, last, .. } = cursor
            .decode(&decode, from, limits, out)
            .map_err(|error| error.into_error(Path::new("open batch"), 0))?;
        cursor.at = At::Memory { id: batch.id, bytes };
        if let Some(last) = last {
            let read = batch.base_offset.saturating_add(i64::from(last)).saturating_add(1);
            cursor.position = cursor.position.max(read);
        }
        Ok(last.is_some())
    }

    fn fetch_stored(
        &self,
        view: &View,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<bool> {
        let history = Some(&**view.epochs);
        let mut inside = match std::mem::take(&mut cursor.at) {
            At::Inside(inside) => inside,
            at => match self.enter_batch(view, at, cursor.position)? {
                Entered::Batch(inside) => inside,
                Entered::Skipped { segment, next, position } => {
                    cursor.position = position;
                    cursor.at = At::Stored { segment, next };
                    return Ok(true);
                }
            },
        };
        let Decoded { at, last, .. } =
            Self::decode_stored(cursor, &mut inside, partition, limits, out)
                .map_err(|error| inside.segment.decode_failed(inside.position, error, history))?;
        inside.at = at;
        inside.last_delta = last.unwrap_or(inside.last_delta);
        if at >= inside.source.bytes().len() {
            cursor.position = cursor.position.max(inside.header.next_offset());
            cursor.at = At::Stored { segment: inside.segment, next: inside.next };
        } else {
            let last = inside.header.base_offset.saturating_add(i64::from(inside.last_delta));
            let read = last.saturating_add(1);
            cursor.position = cursor.position.max(read);
            cursor.at = At::Inside(inside);
        }
        Ok(true)
    }

    /// Decodes records of a batch of a segment. Nothing is kept of one that is not what its header says.
    fn decode_stored(
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

    /// Finds the batch that holds `offset`, checks it, and makes its records readable.
    fn enter_batch(&self, view: &View, at: At, offset: i64) -> Result<Entered> {
        let history = Some(&**view.epochs);
        let mut entered = match at {
            At::Stored { segment, next } if next < segment.len() => {
                self.enter_from(view, segment, next, Some(offset), offset)
            }
            _ => {
                let Some((_, segment)) = view.segment_of(offset) else {
                    return Err(self.gone());
                };
                let next = segment.locate(offset, history)?;
                self.enter_from(view, Arc::clone(segment), next, None, offset)
            }
        };
        loop {
            // The header of a damaged batch may claim an offset that lies behind it.
            let Err(Error::Corrupt(damage)) = &entered else { return entered };
            let behind = damage.offsets.is_some_and(|(_, last)| last < offset);
            let segment = view.segment_of(offset).map(|(_, segment)| segment);
            let Some(segment) = segment.filter(|s| behind && s.log_path() == damage.path) else {
                return entered;
            };
            let next = segment.locate_past(damage, offset, history)?;
            entered = self.enter_from(view, Arc::clone(segment), next, None, offset);
        }
    }

    /// As `enter_batch`, from the batch at `next` on, which begins with the offset `expected` if that is known.
    fn enter_from(
        &self,
        view: &View,
        mut segment: Arc<Segment>,
        mut next: u64,
        mut expected: Option<i64>,
        offset: i64,
    ) -> Result<Entered> {
        let history = Some(&**view.epochs);
        loop {
            if next >= segment.len() {
                let Some(following) = view.segment_of(segment.end_offset()).map(|(_, s)| s) else {
                    return Err(self.gone());
                };
                if following.base_offset() <= segment.base_offset() {
                    return Err(segment.damaged(next, CorruptReason::Offsets, history));
                }
                segment = Arc::clone(following);
                next = 0;
                expected = Some(segment.base_offset());
            }
            let stored = segment.stored_batch(next, history)?;
            let header = stored.header;
            // Nothing is ever taken out of a segment here, so a batch begins where the one before ends.
            let chained =
                expected.map_or(header.base_offset <= offset, |e| header.base_offset == e);
            if !chained && !planted("offset_chain_not_checked") {
                return Err(segment.damaged(next, CorruptReason::Offsets, history));
            }
            if header.next_offset() > offset {
                return open_batch(stored, segment, history);
            }
            next = stored.next;
            expected = Some(header.next_offset());
        }
    }
}

/// Checks the CRC of the batch and decompresses it where needed.
fn open_batch(stored: Stored, segment: Arc<Segment>, history: History<'_>) -> Result<Entered> {
    let Stored { header, window, start, next } = stored;
    let failed = |error| segment.decode_failed(start, error, history);
    let batch = Batch::parse(window.slice(&(start..next)).unwrap_or_default()).map_err(failed)?;
    if !planted("batch_checksum_not_checked") {
        batch.verify_crc().map_err(failed)?;
    }
    let records = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(failed)?;
    let source = if let Cow::Owned(records) = records {
        Source::Owned(Arc::new(records))
    } else {
        let first = start.saturating_sub(window.start);
        let end = next.saturating_sub(window.start);
        Source::Map { map: window.map, start: first.saturating_add(HEADER_BYTES as u64), end }
    };
    if header.attributes.is_control() || header.count == 0 {
        if !planted("counts_not_checked") {
            check_records(&header, source.bytes()).map_err(failed)?;
        }
        let position = header.next_offset();
        return Ok(Entered::Skipped { segment, next, position });
    }
    Ok(Entered::Batch(Inside {
        segment,
        next,
        position: start,
        header,
        source,
        at: 0,
        last_delta: -1,
        checked: false,
        ahead: None,
    }))
}

/// The error with a range of lost offsets that holds `position`, so that whoever seeks behind the range
/// gets on, whatever the files say.
fn covering(error: Error, position: i64) -> Error {
    match error {
        Error::Corrupt(mut damage) => {
            damage.offsets = damage
                .offsets
                .map(|(first, last)| (first.min(position), last.max(position)))
                .or(Some((position, position)));
            Error::Corrupt(damage)
        }
        other => other,
    }
}

/// What stands at a position.
#[derive(Debug)]
enum Entered {
    Batch(Inside),
    /// A batch without records for consumers was passed over.
    Skipped {
        segment: Arc<Segment>,
        next: u64,
        position: i64,
    },
}
