//! A batch in memory. It is open while appends add records, then frozen until it is in a segment.

use std::sync::Arc;

use crate::record::{Attributes, BatchHeader, Compression, HEADER_BYTES, MAGIC, seal};
use crate::storage::Charge;
use crate::storage::map::{AppendReader, AppendWriter, append_buffer};
use crate::sync::{Mutex, OnceLock};
use crate::types::{Epoch, TimestampType};

/// The part of a batch in memory that readers see. The view shares it.
#[derive(Debug)]
pub(crate) struct MemBatch {
    /// Identifies the batch within its partition. A batch that moves into a larger buffer keeps its id.
    pub(crate) id: u64,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) epoch: Epoch,
    reader: AppendReader,
    frozen: OnceLock<Frozen>,
    /// What the batch may need of the disk budget, until it is in a segment.
    charge: Option<Charge>,
}

/// The fields that are known once the batch is frozen.
#[derive(Debug)]
struct Frozen {
    count: u32,
    max_timestamp: i64,
    writer: Mutex<Option<AppendWriter>>,
}

impl MemBatch {
    /// Returns the records published so far, back to back.
    pub(crate) fn records(&self) -> &[u8] {
        self.reader.published()
    }

    /// Returns the offset after the last record, or `None` if the batch is open.
    pub(crate) fn end_offset(&self) -> Option<i64> {
        self.frozen.get().map(|frozen| self.base_offset.saturating_add(i64::from(frozen.count)))
    }

    /// Returns the largest timestamp, or `None` if the batch is open.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.frozen.get().map(|frozen| frozen.max_timestamp)
    }

    /// Gives back what the batch was charged. It is in a segment, or dropped.
    pub(super) fn release_charge(&self) {
        if let Some(charge) = &self.charge {
            charge.release();
        }
    }

    /// Returns what it is charged now, in bytes.
    pub(super) fn charged(&self) -> u64 {
        self.charge.as_ref().map_or(0, Charge::bytes)
    }

    /// Returns the buffer of a batch, or `None` if the batch is still in use elsewhere.
    pub(super) fn reclaim(batch: Arc<Self>) -> Option<Box<[u8]>> {
        let Self { reader, frozen, .. } = Arc::into_inner(batch)?;
        drop(frozen);
        reader.reclaim()
    }

    /// Returns the size of the buffer in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.reader.capacity()
    }

    /// Returns the batch as it is in the segment, uncompressed. Returns `None` while the batch is open.
    ///
    /// The first call prepends the header to the records in place.
    pub(crate) fn sealed(&self) -> Option<&[u8]> {
        let frozen = self.frozen.get()?;
        if let Some(mut writer) = frozen.writer.lock().take() {
            let header = seal(&self.header(frozen, Compression::None), self.records())?;
            writer.seal(&header);
        }
        self.reader.sealed()
    }

    /// Returns the header for `payload`, which holds the records compressed by `codec`.
    pub(crate) fn compressed_header(
        &self,
        codec: Compression,
        payload: &[u8],
    ) -> Option<[u8; HEADER_BYTES]> {
        let frozen = self.frozen.get()?;
        seal(&self.header(frozen, codec), payload)
    }

    /// Returns the header without the fields that `seal` computes.
    fn header(&self, frozen: &Frozen, codec: Compression) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset,
            length: 0,
            leader_epoch: self.epoch,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(codec)
                .with_timestamp_type(self.timestamp_type),
            last_offset_delta: frozen.count.saturating_sub(1) as i32,
            base_timestamp: self.base_timestamp,
            max_timestamp: frozen.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: frozen.count as i32,
        }
    }
}

/// The batch that appends add records to. The partition's append lock protects it.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) shared: Arc<MemBatch>,
    pub(super) writer: AppendWriter,
    pub(super) count: u32,
    pub(super) max_timestamp: i64,
}

/// The fields of a new batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFields {
    pub(super) id: u64,
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    pub(super) timestamp_type: TimestampType,
    pub(super) epoch: Epoch,
}

impl OpenBatch {
    /// Creates an empty batch in `memory`, which has room for a header. `charge` is what the budget was charged for
    /// it.
    pub(super) fn new(fields: OpenFields, memory: Box<[u8]>, charge: Option<Charge>) -> Self {
        let (writer, reader) = append_buffer(memory, HEADER_BYTES);
        let shared = Arc::new(MemBatch {
            id: fields.id,
            base_offset: fields.base_offset,
            base_timestamp: fields.base_timestamp,
            timestamp_type: fields.timestamp_type,
            epoch: fields.epoch,
            reader,
            frozen: OnceLock::new(),
            charge,
        });
        Self { shared, writer, count: 0, max_timestamp: fields.base_timestamp }
    }

    /// Returns the same batch in a larger buffer. Also copies the first `staged` bytes after the published
    /// ones. Readers that hold the old buffer keep it. `more` is charged for the larger buffer, beyond the old one.
    pub(super) fn grown(&mut self, memory: Box<[u8]>, staged: usize, more: Option<Charge>) -> Self {
        let fields = OpenFields {
            id: self.shared.id,
            base_offset: self.shared.base_offset,
            base_timestamp: self.shared.base_timestamp,
            timestamp_type: self.shared.timestamp_type,
            epoch: self.shared.epoch,
        };
        if let (Some(more), Some(old)) = (&more, &self.shared.charge) {
            more.join(old);
        }
        let mut grown = Self::new(fields, memory, more);
        let published = self.shared.records();
        grown.writer.spare()[..published.len()].copy_from_slice(published);
        grown.writer.publish(published.len());
        grown.writer.spare()[..staged].copy_from_slice(self.writer.pending(staged));
        grown.count = self.count;
        grown.max_timestamp = self.max_timestamp;
        grown
    }

    /// Freezes the batch. No record can be added after that.
    pub(super) fn freeze(self) -> Arc<MemBatch> {
        let frozen = Frozen {
            count: self.count,
            max_timestamp: self.max_timestamp,
            writer: Mutex::new(Some(self.writer)),
        };
        // This consumes the open batch, so nothing else can have set the field.
        let first = self.shared.frozen.set(frozen).is_ok();
        debug_assert!(first, "a batch was frozen twice");
        self.shared
    }
}

/// The header fields of a batch in memory that readers need to deliver its records.
impl MemBatch {
    /// Returns the timestamp of every record of the batch on a LogAppendTime topic, else `None`.
    pub(crate) fn append_timestamp(&self) -> Option<i64> {
        (self.timestamp_type == TimestampType::LogAppendTime).then_some(self.base_timestamp)
    }
}

/// Returns the timestamp of every record of a stored batch, or `None` if each record has its own.
pub(crate) fn append_timestamp(header: &BatchHeader) -> Option<i64> {
    (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
        .then_some(header.max_timestamp)
}
