//! The result of a fetch, and its limits.

use std::sync::Arc;

use crate::log::batch::MemBatch;
use crate::record::{BatchHeader, RawRecord};
use crate::storage::ReadMap;

/// The most that one fetch returns. It returns at least one record, however large that is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchLimits {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    /// No record from this offset on is returned.
    pub(crate) until: i64,
}

/// The bytes that contain delivered records.
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
    /// Returns the bytes of the records, back to back.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map { map, start, end } => map.slice(*start..*end).unwrap_or_default(),
            Self::Memory(batch) => batch.records(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A record, as ranges of its source.
pub(crate) type FetchedRecord = RawRecord;

/// The fetched records of one batch.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: usize,
    pub(crate) source: Source,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) append_timestamp: Option<i64>,
    pub(crate) epoch: i32,
    /// The index in [`Fetched::records`] after the chunk's last record.
    pub(crate) end: usize,
}

impl Chunk {
    /// Returns the timestamp of one of the chunk's records.
    #[inline]
    pub(crate) fn timestamp_of(&self, record: &FetchedRecord) -> i64 {
        self.append_timestamp
            // Wraps around, as in Kafka and in `record::RecordView`.
            .unwrap_or_else(|| self.base_timestamp.wrapping_add(record.timestamp_delta))
    }
}

/// The records fetched from several partitions.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<FetchedRecord>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) bytes: usize,
}

impl FetchLimits {
    /// Returns whether the limits admit all records of a batch.
    pub(super) fn hold(&self, fetched: &Fetched, header: &BatchHeader, records: &[u8]) -> bool {
        let count = usize::try_from(header.count).unwrap_or(usize::MAX);
        header.next_offset() <= self.until
            && count <= self.records.saturating_sub(fetched.records.len())
            && records.len() <= self.bytes.saturating_sub(fetched.bytes)
    }
}

impl Fetched {
    /// Truncates the result to this number of records, chunks and bytes.
    pub(super) fn roll_back(&mut self, (records, chunks, bytes): (usize, usize, usize)) {
        self.records.truncate(records);
        self.chunks.truncate(chunks);
        self.bytes = bytes;
    }

    pub(super) fn full(&self, limits: FetchLimits) -> bool {
        self.records.len() >= limits.records
            || (self.bytes >= limits.bytes && !self.records.is_empty())
    }
}
