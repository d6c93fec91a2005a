//! A batch in memory: open while records are added, then frozen until it stands in a segment.

use std::sync::Arc;

use crate::record::{Attributes, BatchHeader, Compression, HEADER_BYTES, MAGIC, seal};
use crate::storage::map::{AppendReader, AppendWriter, append_buffer};
use crate::sync::{Mutex, OnceLock};
use crate::types::{Epoch, TimestampType};

/// What readers see of a batch in memory. Shared through the view.
#[derive(Debug)]
pub(crate) struct MemBatch {
    /// Tells batches of one partition apart; a batch that grew into a larger buffer keeps its id.
    pub(crate) id: u64,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) epoch: Epoch,
    reader: AppendReader,
    frozen: OnceLock<Frozen>,
}

/// What is known once no record can be added any more.
#[derive(Debug)]
struct Frozen {
    count: u32,
    max_timestamp: i64,
    writer: Mutex<Option<AppendWriter>>,
}

impl MemBatch {
    /// The records published so far, back to back.
    pub(crate) fn records(&self) -> &[u8] {
        self.reader.published()
    }

    /// The offset after the last record; only of a frozen batch.
    pub(crate) fn end_offset(&self) -> Option<i64> {
        self.frozen.get().map(|frozen| self.base_offset.saturating_add(i64::from(frozen.count)))
    }

    /// The largest timestamp; only of a frozen batch.
    pub(crate) fn max_timestamp(&self) -> Option<i64> {
        self.frozen.get().map(|frozen| frozen.max_timestamp)
    }

    /// The memory of a batch that nobody else uses any more.
    pub(super) fn reclaim(batch: Arc<Self>) -> Option<Box<[u8]>> {
        let Self { reader, frozen, .. } = Arc::into_inner(batch)?;
        drop(frozen);
        reader.reclaim()
    }

    /// The bytes the buffer takes.
    pub(crate) fn capacity(&self) -> usize {
        self.reader.capacity()
    }

    /// The batch as it stands in the segment, uncompressed: the header is put in front of the records
    /// where they are, at the first call. `None` while the batch is open.
    pub(crate) fn sealed(&self) -> Option<&[u8]> {
        let frozen = self.frozen.get()?;
        if let Some(mut writer) = frozen.writer.lock().take() {
            let header = seal(&self.header(frozen, Compression::None), self.records())?;
            writer.seal(&header);
        }
        self.reader.sealed()
    }

    /// The header over `payload`, the records compressed by `codec`.
    pub(crate) fn compressed_header(
        &self,
        codec: Compression,
        payload: &[u8],
    ) -> Option<[u8; HEADER_BYTES]> {
        let frozen = self.frozen.get()?;
        seal(&self.header(frozen, codec), payload)
    }

    /// All fields of the header but those that `seal` computes.
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

/// The batch that records are added to, as its partition's append lock protects it.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) shared: Arc<MemBatch>,
    pub(super) writer: AppendWriter,
    pub(super) count: u32,
    pub(super) max_timestamp: i64,
}

/// What a new batch is opened with.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenFields {
    pub(super) id: u64,
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    pub(super) timestamp_type: TimestampType,
    pub(super) epoch: Epoch,
}

impl OpenBatch {
    /// An empty batch in `memory`, which has room for a header.
    pub(super) fn new(fields: OpenFields, memory: Box<[u8]>) -> Self {
        let (writer, reader) = append_buffer(memory, HEADER_BYTES);
        let shared = Arc::new(MemBatch {
            id: fields.id,
            base_offset: fields.base_offset,
            base_timestamp: fields.base_timestamp,
            timestamp_type: fields.timestamp_type,
            epoch: fields.epoch,
            reader,
            frozen: OnceLock::new(),
        });
        Self { shared, writer, count: 0, max_timestamp: fields.base_timestamp }
    }

    /// The same batch in a larger buffer, with the first `staged` bytes beyond the published ones
    /// copied too. Readers keep the old buffer for as long as they hold it.
    pub(super) fn grown(&mut self, memory: Box<[u8]>, staged: usize) -> Self {
        let fields = OpenFields {
            id: self.shared.id,
            base_offset: self.shared.base_offset,
            base_timestamp: self.shared.base_timestamp,
            timestamp_type: self.shared.timestamp_type,
            epoch: self.shared.epoch,
        };
        let mut grown = Self::new(fields, memory);
        let published = self.shared.records();
        grown.writer.spare()[..published.len()].copy_from_slice(published);
        grown.writer.publish(published.len());
        grown.writer.spare()[..staged].copy_from_slice(self.writer.pending(staged));
        grown.count = self.count;
        grown.max_timestamp = self.max_timestamp;
        grown
    }

    /// Ends the batch: nothing is added any more.
    pub(super) fn freeze(self) -> Arc<MemBatch> {
        let frozen = Frozen {
            count: self.count,
            max_timestamp: self.max_timestamp,
            writer: Mutex::new(Some(self.writer)),
        };
        // The open batch is consumed here, so nobody else can have set it.
        let first = self.shared.frozen.set(frozen).is_ok();
        debug_assert!(first, "a batch is frozen once");
        self.shared
    }
}

/// The header of a batch in memory as readers need it to deliver its records.
impl MemBatch {
    /// The timestamp that every record of the batch has, on a LogAppendTime topic.
    pub(crate) fn append_timestamp(&self) -> Option<i64> {
        (self.timestamp_type == TimestampType::LogAppendTime).then_some(self.base_timestamp)
    }
}

/// The timestamp that every record of a stored batch has, or `None` where each has its own.
pub(crate) fn append_timestamp(header: &BatchHeader) -> Option<i64> {
    (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
        .then_some(header.max_timestamp)
}
