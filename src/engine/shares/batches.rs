//! Records that were read, as the state machine wants to know them.

use std::ops::Range;

use crate::group::share::{Contents, ReadBatch, ReadRecord};
use crate::log::{Chunk, Fetched, FetchedRecord};
use crate::record::DELIVER_AT_HEADER;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Batches {
    all: Vec<Batch>,
    /// The records of those batches in which they have to be told apart.
    records: Vec<ReadRecord>,
    /// How many records have to be told apart, and holes.
    noticed: usize,
    /// Whether there are holes. What is known in a hole is gone, and there may be much of it.
    has_holes: bool,
}

/// How many changes a hole may take. A later fetch goes on with what is left of it.
const CHANGES_IN_HOLES: usize = 100;

#[derive(Debug)]
struct Batch {
    base: i64,
    last: i64,
    /// The range of its records; `None` if there is a plain one at each offset.
    records: Option<Range<usize>>,
}

impl Batches {
    /// Takes what was read from offset `from` up to before `end`. `hash` returns the hash of a key, if keys matter.
    pub(super) fn of(
        fetched: &Fetched,
        (from, end): (i64, i64),
        hash: impl Fn(&[u8]) -> Option<u64>,
    ) -> Self {
        let mut batches = Self::default();
        let (mut first, mut next) = (0, from);
        for chunk in &fetched.chunks {
            let raw = fetched.records.get(first..chunk.end).unwrap_or_default();
            first = chunk.end;
            if let Some((base, last)) = batches.add(chunk, raw, &hash) {
                batches.note_hole(next, base);
                next = last.saturating_add(1);
            }
        }
        batches.note_hole(next, end);
        batches
    }

    fn note_hole(&mut self, from: i64, to: i64) {
        if from < to {
            self.noticed = self.noticed.saturating_add(1);
            self.has_holes = true;
        }
    }

    /// Returns for how many changes to reserve space, at most `max`.
    pub(super) fn changes(&self, max: usize) -> usize {
        let in_holes = if self.has_holes { CHANGES_IN_HOLES } else { 1 };
        self.noticed.saturating_add(in_holes).min(max).max(1)
    }

    fn add(
        &mut self,
        chunk: &Chunk,
        raw: &[FetchedRecord],
        hash: &impl Fn(&[u8]) -> Option<u64>,
    ) -> Option<(i64, i64)> {
        let offset = |record: &FetchedRecord| {
            chunk.base_offset.saturating_add(i64::from(record.offset_delta))
        };
        let (base, last) = (offset(raw.first()?), offset(raw.last()?));
        let bytes = chunk.source.bytes();
        let read = |record: &FetchedRecord| ReadRecord {
            offset: offset(record),
            key: record.key.get(bytes).and_then(hash),
            deliver_at: deliver_at(record, bytes),
        };
        let is_plain = |read: ReadRecord| read.key.is_none() && read.deliver_at.is_none();
        let is_dense = last.abs_diff(base).saturating_add(1) == raw.len() as u64;
        let records = if is_dense && raw.iter().map(read).all(is_plain) {
            None
        } else {
            let start = self.records.len();
            self.records.extend(raw.iter().map(read));
            self.noticed = self.noticed.saturating_add(raw.len()).saturating_add(1);
            self.has_holes |= !is_dense;
            Some(start..self.records.len())
        };
        self.all.push(Batch { base, last, records });
        Some((base, last))
    }

    pub(super) fn views(&self) -> Vec<ReadBatch<'_>> {
        let view = |batch: &Batch| {
            let records = batch.records.clone().map(|range| self.records.get(range));
            let contents = records
                .map_or(Contents::Dense, |records| Contents::Records(records.unwrap_or_default()));
            ReadBatch { base: batch.base, last: batch.last, contents }
        };
        self.all.iter().map(view).collect()
    }
}

/// Returns the time from which on a record is to be delivered, in milliseconds since 1970. What is not such a time is
/// ignored, as the header may be anybody's.
fn deliver_at(record: &FetchedRecord, bytes: &[u8]) -> Option<i64> {
    if !record.has_headers() {
        return None;
    }
    let mut headers = record.headers(bytes);
    let first = headers.find(|header| header.name_bytes() == DELIVER_AT_HEADER.as_bytes());
    std::str::from_utf8(first?.value()?).ok()?.parse().ok().filter(|at| *at >= 0)
}
