//! A reader's position, and the batch that it is reading.

use std::sync::Arc;

use super::fetched::{FetchedRecord, Source};
use super::following;
use crate::config::IsolationLevel;
use crate::log::segment::Segment;
use crate::record::header::MIN_RECORD_BYTES;
use crate::record::{BatchHeader, DecodeError, check_records, each_record};
use crate::types::planted;

/// The position of a reader in one partition.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The next offset to fetch.
    pub(super) position: i64,
    pub(super) isolation: IsolationLevel,
    /// The log end when the last fetch stopped at the last stable offset.
    pub(super) held_back: Option<i64>,
    pub(super) at: At,
    /// All records of the batch that is being read, if they were decoded ahead. The next batch reuses the
    /// buffer.
    pub(super) ahead: Vec<FetchedRecord>,
}

/// The most records of a batch that are decoded ahead (320 KiB). Records of a larger batch are decoded twice.
const AHEAD_RECORDS: usize = 8192;

/// The place that belongs to the position, if it is known.
#[derive(Debug, Default)]
pub(in crate::log) enum At {
    /// Unknown until it is looked up.
    #[default]
    Unknown,
    /// In a segment, before the batch at `next`.
    Stored { segment: Arc<Segment>, next: u64 },
    /// Inside a batch of a segment.
    Inside(Inside),
    /// In a batch in memory, after `bytes` bytes of records.
    Memory { id: u64, bytes: usize },
}

impl Cursor {
    /// Creates a cursor before the record at `position`.
    pub(crate) fn new(position: i64) -> Self {
        Self { position, ..Self::default() }
    }

    /// Returns the cursor with this isolation level, instead of `ReadUncommitted`.
    pub(crate) fn reading(mut self, level: IsolationLevel) -> Self {
        self.isolation = level;
        self
    }

    /// Moves the cursor before the record at `position`, with this isolation level. Does nothing if it is there.
    pub(crate) fn go_to(&mut self, position: i64, level: IsolationLevel) {
        if self.position != position || self.isolation != level {
            let ahead = std::mem::take(&mut self.ahead);
            *self = Self { position, isolation: level, ahead, ..Self::default() };
        }
    }

    /// Returns whether the cursor shows only committed records.
    pub(super) fn is_committed(&self) -> bool {
        self.isolation == IsolationLevel::ReadCommitted
    }

    /// Returns the log end beyond which there may be more to read than there was for the last fetch. Usually this is
    /// the position. A reader that was held back by an open transaction has reached it below the log end.
    pub(crate) fn waits_at(&self) -> i64 {
        self.held_back.unwrap_or(self.position).max(self.position)
    }

    /// Returns the next offset to fetch.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }
}

/// A batch of a segment that is being read.
#[derive(Debug)]
pub(in crate::log) struct Inside {
    pub(super) segment: Arc<Segment>,
    /// Where the next batch begins.
    pub(super) next: u64,
    /// Whether the reader came from the batch before.
    pub(super) sequential: bool,
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    pub(super) source: Source,
    /// The number of bytes of the records read so far.
    pub(super) at: usize,
    pub(super) last_delta: i32,
    /// Whether all records are known to match the header.
    pub(super) checked: bool,
    /// The number of records taken from those decoded ahead. `None` if none were decoded ahead.
    pub(super) ahead: Option<usize>,
}

impl Inside {
    /// Maps the bytes behind this batch, if the reader came from the batch before.
    pub(super) fn touch_following(&self) {
        if let Source::Map { map, .. } = &self.source
            && self.sequential
        {
            following::touch(map, self.next);
        }
    }

    /// Returns the number of records that the header promises, as far as there are bytes for them.
    pub(super) fn most_records(&self) -> usize {
        let fit = self.source.bytes().len() / MIN_RECORD_BYTES;
        usize::try_from(self.header.count).unwrap_or(0).min(fit)
    }

    /// Checks that all records match the header, as `Batch::verify` does, before the first one is delivered.
    pub(super) fn check(&mut self, ahead: &mut Vec<FetchedRecord>) -> Result<(), DecodeError> {
        if self.checked || planted("counts_not_checked") {
            return Ok(());
        }
        let bytes = self.source.bytes();
        if usize::try_from(self.header.count).is_ok_and(|count| count <= AHEAD_RECORDS) {
            ahead.clear();
            each_record(&self.header, bytes, |record| ahead.push(record))?;
            self.ahead = Some(0);
        } else {
            check_records(&self.header, bytes)?;
        }
        self.checked = true;
        Ok(())
    }

    /// Checks a batch after `records` of its records were decoded, up to byte `at`. If those are all records,
    /// decoding them was the check.
    pub(super) fn check_decoded(&mut self, records: usize, at: usize) -> Result<(), DecodeError> {
        let bytes = self.source.bytes();
        let all = at == bytes.len() && usize::try_from(self.header.count) == Ok(records);
        if !all && !self.checked && !planted("counts_not_checked") {
            check_records(&self.header, bytes)?;
        }
        self.checked = true;
        Ok(())
    }
}
