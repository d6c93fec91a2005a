//! Where a reader stands.

use std::sync::Arc;

use super::fetched::{FetchedRecord, Source};
use crate::log::segment::Segment;
use crate::record::{BatchHeader, DecodeError, check_records, each_record};
use crate::types::planted;

/// Where a reader of one partition stands.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The next offset to return.
    pub(super) position: i64,
    pub(super) at: At,
    /// Of the batch that it is inside of: all records, if they were read ahead. Kept for the next batch.
    pub(super) ahead: Vec<Ahead>,
}

/// A record that was read ahead, and the byte behind it.
pub(super) type Ahead = (FetchedRecord, usize);

/// So many records of a batch are read ahead at most (384 KiB); those of a larger one are decoded twice.
const AHEAD_RECORDS: usize = 8192;

/// The place that belongs to the position, as far as it is known.
#[derive(Debug, Default)]
pub(super) enum At {
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

impl Cursor {
    /// A cursor in front of the record at `position`.
    pub(crate) fn new(position: i64) -> Self {
        Self { position, at: At::Unknown, ahead: Vec::new() }
    }

    /// The next offset to return.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }
}

/// A batch of a segment that is being read.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) segment: Arc<Segment>,
    /// Where the next batch begins.
    pub(super) next: u64,
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    pub(super) source: Source,
    /// Bytes of the records read so far.
    pub(super) at: usize,
    pub(super) last_delta: i32,
    /// Whether all its records are known to be what the header says.
    pub(super) checked: bool,
    /// How many of its records were taken from those read ahead; `None` if they were not.
    pub(super) ahead: Option<usize>,
}

impl Inside {
    /// Makes sure that no record of the batch is delivered unless all of them are what its header says
    /// ([`Batch::verify`]): looks at all of them before the first is delivered.
    pub(super) fn check(&mut self, ahead: &mut Vec<Ahead>) -> Result<(), DecodeError> {
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
