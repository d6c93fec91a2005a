//! Reading by offset: a cursor walks segments through maps, then batches in memory.
//!
//! Records are decoded once, into plain ranges over bytes that the result holds on to: a segment map,
//! a batch in memory, or a decompressed buffer. Nothing is copied.

use std::path::Path;
use std::sync::Arc;

use super::batch::{MemBatch, append_timestamp};
use super::segment::{Segment, Stored};
use super::view::View;
use super::{Log, check_range};
use crate::error::{CorruptReason, Result};
use crate::record::{
    Batch, BatchHeader, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, HEADER_BYTES,
    RawRecord, decompress, read_record,
};
use crate::storage::ReadMap;
use crate::types::planted;

/// Where a reader of one partition stands.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The next offset to return.
    position: i64,
    at: At,
}

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
            .unwrap_or_else(|| self.base_timestamp.saturating_add(record.timestamp_delta))
    }
}

/// What fetches of several partitions gathered.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<FetchedRecord>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) bytes: usize,
}

impl Fetched {
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
}

impl Cursor {
    /// A cursor in front of the record at `position`.
    pub(crate) fn new(position: i64) -> Self {
        Self { position, at: At::Unknown }
    }

    /// The next offset to return.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Decodes records at the cursor's position and further on. Returns the bytes read and the offset
    /// of the last record read.
    fn decode(
        &self,
        batch: &Decode<'_>,
        mut at: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<(usize, Option<i32>), DecodeError> {
        let bytes = batch.source.bytes();
        let before = out.records.len();
        let room = limits.records.saturating_sub(before);
        let until = at.saturating_add(limits.bytes.saturating_sub(out.bytes)).min(bytes.len());
        let skip_to = self.position.saturating_sub(batch.base_offset);
        let end = batch.end_offset.saturating_sub(batch.base_offset);
        let began = at;
        let mut last = None;
        let mut taken: usize = 0;
        while at < bytes.len() && taken < room && (at < until || out.records.is_empty()) {
            let (record, next) = match read_record(bytes, at) {
                Ok((record, _))
                    if record.offset_delta > batch.deltas.1
                        || record.offset_delta <= last.unwrap_or(batch.deltas.0) =>
                {
                    out.records.truncate(before);
                    let reason = CorruptReason::Offsets;
                    return Err(DecodeError::Corrupt { reason, position: at });
                }
                Ok(decoded) => decoded,
                Err(error) => {
                    // No record of a batch that is not what it claims is delivered.
                    out.records.truncate(before);
                    return Err(error);
                }
            };
            if i64::from(record.offset_delta) >= end {
                break;
            }
            last = Some(record.offset_delta);
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
        Ok((at, last))
    }
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
                    check_range(self.partition(), cursor.position, self.start_offset(), end)?;
                    return Err(error);
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
        };
        let (bytes, last) = cursor
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
        let decode = Decode {
            source: &inside.source,
            base_offset: inside.header.base_offset,
            base_timestamp: inside.header.base_timestamp,
            append_timestamp: append_timestamp(&inside.header),
            epoch: inside.header.leader_epoch,
            partition,
            deltas: (inside.last_delta, inside.header.last_offset_delta),
            end_offset: i64::MAX,
        };
        let (at, last) = cursor.decode(&decode, inside.at, limits, out).map_err(|error| {
            inside.segment.decode_failed(inside.position, Some(&inside.header), error)
        })?;
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

    /// Finds the batch that holds `offset`, checks it, and makes its records readable.
    fn enter_batch(&self, view: &View, at: At, offset: i64) -> Result<Entered> {
        let (mut segment, mut next, mut expected) = match at {
            At::Stored { segment, next } if next < segment.len() => (segment, next, Some(offset)),
            _ => {
                let Some((_, segment)) = view.segment_of(offset) else {
                    return Err(self.gone());
                };
                (Arc::clone(segment), segment.locate(offset, Some(&view.epochs))?, None)
            }
        };
        loop {
            if next >= segment.len() {
                let Some(following) = view.segment_of(segment.end_offset()).map(|(_, s)| s) else {
                    return Err(self.gone());
                };
                if following.base_offset() <= segment.base_offset() {
                    return Err(segment.damaged(next, None, CorruptReason::Offsets));
                }
                segment = Arc::clone(following);
                next = 0;
                expected = Some(segment.base_offset());
            }
            let stored = segment.stored_batch(next, Some(&view.epochs))?;
            let header = stored.header;
            // Nothing is ever taken out of a segment here, so a batch begins where the one before ends.
            let chained =
                expected.map_or(header.base_offset <= offset, |e| header.base_offset == e);
            if !chained && !planted("offset_chain_not_checked") {
                return Err(segment.damaged(next, Some(&header), CorruptReason::Offsets));
            }
            if header.next_offset() > offset {
                return open_batch(stored, segment);
            }
            next = stored.next;
            expected = Some(header.next_offset());
        }
    }
}

/// Checks the CRC of the batch and decompresses it where needed.
fn open_batch(stored: Stored, segment: Arc<Segment>) -> Result<Entered> {
    let Stored { header, window, start, next } = stored;
    let failed = |error| segment.decode_failed(start, Some(&header), error);
    let batch = Batch::parse(window.slice(&(start..next)).unwrap_or_default()).map_err(failed)?;
    if !planted("batch_checksum_not_checked") {
        batch.verify_crc().map_err(failed)?;
    }
    if header.attributes.is_control() || header.count == 0 {
        let position = header.next_offset();
        return Ok(Entered::Skipped { segment, next, position });
    }
    let source = match header.attributes.compression() {
        Compression::None => {
            let first = start.saturating_sub(window.start);
            let end = next.saturating_sub(window.start);
            Source::Map { map: window.map, start: first.saturating_add(HEADER_BYTES as u64), end }
        }
        codec => {
            let mut records = Vec::new();
            decompress(codec, batch.payload(), DEFAULT_MAX_DECOMPRESSED_BYTES, &mut records)
                .map_err(failed)?;
            Source::Owned(Arc::new(records))
        }
    };
    Ok(Entered::Batch(Inside {
        segment,
        next,
        position: start,
        header,
        source,
        at: 0,
        last_delta: -1,
    }))
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
