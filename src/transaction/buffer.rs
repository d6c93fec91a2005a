//! The records of a transaction until it is committed.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use crate::engine::FrameRecords;
use crate::error::{Error, Result};
use crate::log::{Log, RecordData};
use crate::producer::{Producer, Record};
use crate::record::Header;
use crate::types::{PartitionNumber, Timestamp};

/// Copies of records, each with its partition.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    memory: Memory,
    /// The partitions, each once, in the order in which the transaction met them.
    logs: Vec<Arc<Log>>,
    /// For each partition an upper bound for the size of its encoded records in bytes.
    sizes: Vec<usize>,
    /// How many of the records have an idempotency id.
    ids: usize,
}

/// The memory that grows with the records. A thread keeps that of its last transaction for the next one, which then
/// allocates little.
#[derive(Debug, Default)]
struct Memory {
    /// Keys, values and headers, one behind the other.
    bytes: Vec<u8>,
    headers: Vec<BufferedHeader>,
    records: Vec<BufferedRecord>,
    /// The partitions, sorted by number.
    places: Vec<Place>,
}

/// Where a transaction keeps a partition.
#[derive(Debug)]
struct Place {
    number: PartitionNumber,
    /// Its index among the partitions.
    at: usize,
    /// The revision of its settings when the transaction met it.
    revision: u32,
}

thread_local! {
    static SPARE: Cell<Option<Memory>> = const { Cell::new(None) };
}

/// A thread keeps no more bytes than this, and no more records than fit into as many.
const SPARE_BYTES: usize = 256 << 10;

impl Drop for Buffer {
    fn drop(&mut self) {
        let Memory { mut bytes, mut headers, mut records, mut places } =
            std::mem::take(&mut self.memory);
        let sizes = [
            bytes.capacity(),
            headers.capacity().saturating_mul(size_of::<BufferedHeader>()),
            records.capacity().saturating_mul(size_of::<BufferedRecord>()),
            places.capacity().saturating_mul(size_of::<Place>()),
        ];
        let is_used = sizes.iter().any(|size| *size > 0);
        if is_used && sizes.iter().all(|size| *size <= SPARE_BYTES) {
            bytes.clear();
            headers.clear();
            records.clear();
            places.clear();
            let spare = Memory { bytes, headers, records, places };
            // A thread that ends keeps nothing.
            let _ended = SPARE.try_with(|kept| kept.set(Some(spare)));
        }
    }
}

#[derive(Debug)]
struct BufferedHeader {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

#[derive(Debug)]
struct BufferedRecord {
    log: usize,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    timestamp: Option<Timestamp>,
    id: Option<Range<usize>>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let mut new = Self::default();
        if let Ok(Some(spare)) = SPARE.try_with(Cell::take) {
            new.memory = spare;
        }
        new
    }

    pub(super) fn len(&self) -> usize {
        self.memory.records.len()
    }

    /// Returns whether no record of the transaction goes to a partition so far.
    pub(super) fn is_new(&self, log: &Arc<Log>) -> bool {
        let last = self.memory.records.last().and_then(|last| self.logs.get(last.log));
        let places = &self.memory.places;
        !last.is_some_and(|known| Arc::ptr_eq(known, log))
            && places.binary_search_by_key(&log.number(), |place| place.number).is_err()
    }

    /// Returns the index of a partition among those of the transaction. Adds it if it is new.
    pub(super) fn place(&mut self, log: &Arc<Log>) -> usize {
        if let Some(last) = self.memory.records.last()
            && self.logs.get(last.log).is_some_and(|known| Arc::ptr_eq(known, log))
        {
            return last.log;
        }
        let (number, places) = (log.number(), &mut self.memory.places);
        match places.binary_search_by_key(&number, |place| place.number) {
            Ok(found) => places.get(found).map_or(0, |place| place.at),
            Err(before) => {
                let at = self.logs.len();
                places.insert(before, Place { number, at, revision: log.revision() });
                self.logs.push(Arc::clone(log));
                self.sizes.push(0);
                at
            }
        }
    }

    /// Copies a record, which takes at most `bound` bytes when it is encoded.
    pub(super) fn push(&mut self, log: &Arc<Log>, bound: usize, record: &RecordData<'_>) {
        let at = self.place(log);
        if let Some(size) = self.sizes.get_mut(at) {
            *size = size.saturating_add(bound);
        }
        let key = record.key.map(|key| self.copy(key));
        let value = record.value.map(|value| self.copy(value));
        let first = self.memory.headers.len();
        for header in record.headers {
            let name = self.copy(header.name.as_bytes());
            let value = header.value.map(|value| self.copy(value));
            self.memory.headers.push(BufferedHeader { name, value });
        }
        let headers = first..self.memory.headers.len();
        let timestamp = record.timestamp;
        let id = record.id.map(|id| self.copy(id));
        self.ids = self.ids.saturating_add(usize::from(id.is_some()));
        self.memory.records.push(BufferedRecord { log: at, key, value, headers, timestamp, id });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.memory.bytes.len();
        self.memory.bytes.extend_from_slice(bytes);
        start..self.memory.bytes.len()
    }

    fn text(&self, range: &Range<usize>) -> &[u8] {
        self.memory.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Checks the records against settings that have changed since they were sent.
    ///
    /// # Errors
    /// Those of a send. `UnknownTopic` if the topic was replaced.
    pub(super) fn check_again(&self, producer: &Producer) -> Result<()> {
        let is_same =
            |place: &Place| self.logs.get(place.at).is_some_and(|log| log.is_at(place.revision));
        if self.memory.places.iter().all(is_same) {
            return Ok(());
        }
        let headers = self.headers();
        for (at, data) in self.records(&headers) {
            let Some(log) = self.logs.get(at) else { continue };
            let partition = log.partition();
            let record = Record::of_data(partition.topic(), partition.partition(), &data);
            let (now, _) = producer.choose(&record)?;
            if !Arc::ptr_eq(&now, log) {
                return Err(Error::UnknownTopic { topic: partition.topic().to_owned() });
            }
        }
        Ok(())
    }

    /// Returns all headers of all records, one behind the other.
    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        let header = |header: &BufferedHeader| Header {
            // It was copied from a `str`.
            name: std::str::from_utf8(self.text(&header.name)).unwrap_or_default(),
            value: header.value.as_ref().map(|value| self.text(value)),
        };
        self.memory.headers.iter().map(header).collect()
    }

    /// Takes the partitions and their sizes out, for [`Buffer::frame_records`].
    pub(super) fn take_partitions(&mut self) -> (Vec<Arc<Log>>, Vec<usize>) {
        (std::mem::take(&mut self.logs), std::mem::take(&mut self.sizes))
    }

    /// Returns the records as a frame takes them, not sorted yet. `headers` is what [`Buffer::headers`] returned.
    pub(super) fn frame_records<'a>(
        &'a self,
        (logs, sizes): (Vec<Arc<Log>>, Vec<usize>),
        headers: &'a [Header<'a>],
    ) -> FrameRecords<RecordData<'a>> {
        FrameRecords { logs, records: self.records(headers).collect(), sizes, ids: self.ids }
    }

    /// Returns the records, each with the index of its partition.
    fn records<'a>(
        &'a self,
        headers: &'a [Header<'a>],
    ) -> impl Iterator<Item = (usize, RecordData<'a>)> {
        self.memory.records.iter().map(|record| {
            let data = RecordData {
                key: record.key.as_ref().map(|key| self.text(key)),
                value: record.value.as_ref().map(|value| self.text(value)),
                headers: headers.get(record.headers.clone()).unwrap_or_default(),
                timestamp: record.timestamp,
                id: record.id.as_ref().map(|id| self.text(id)),
            };
            (record.log, data)
        })
    }
}
