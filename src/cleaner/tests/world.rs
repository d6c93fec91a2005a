//! A log as a broker would keep it, with what it must remember about every batch that was appended.

use std::collections::BTreeMap;

use crate::cleaner::{
    AbortedIndex, AbortedTransaction, ActiveProducers, Batches, CleanError, Cleaned,
    DEFAULT_MAP_BYTES, FilterSettings, GroupLimits, MemorySegment, MemorySink, Pass, SegmentInfo,
};
use crate::record::{
    Batch, BatchHeader, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, HEADER_BYTES, Header,
    compress, encode_record, seal,
};
use crate::types::TimestampType;

/// Offset, timestamp, key, value, headers.
pub(super) type Content = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>);

/// A record to append.
#[derive(Debug, Clone, Default)]
pub(super) struct NewRecord {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) header: Option<(String, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) struct World {
    /// The last one is the active one.
    pub(super) segments: Vec<MemorySegment>,
    /// Kept up to date as by a broker, from appends alone.
    pub(super) producers: ActiveProducers,
    open_transactions: BTreeMap<i64, i64>,
    headers: BTreeMap<i64, BatchHeader>,
    contents: BTreeMap<i64, Content>,
    pub(super) next_dirty: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) map_bytes: usize,
    pub(super) segment_bytes: u64,
    /// `None` is the log end offset.
    pub(super) high_watermark: Option<i64>,
    has_expired_producers: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            segments: vec![MemorySegment::new(0)],
            producers: ActiveProducers::new(),
            open_transactions: BTreeMap::new(),
            headers: BTreeMap::new(),
            contents: BTreeMap::new(),
            next_dirty: 0,
            delete_retention_ms: 1000,
            map_bytes: DEFAULT_MAP_BYTES,
            segment_bytes: u64::MAX,
            high_watermark: None,
            has_expired_producers: false,
        }
    }
}

/// Returns the bytes of a batch of these records. `header` gives all fields that do not follow from them.
pub(super) fn encode(header: BatchHeader, records: &[NewRecord]) -> Vec<u8> {
    let first = records.first().map_or(-1, |record| record.timestamp);
    let mut payload = Vec::new();
    for record in records {
        let headers: Vec<_> =
            record.header.iter().map(|(name, value)| Header { name, value: Some(value) }).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let mut raw = vec![0; 100 + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)];
        let delta = i32::try_from(record.offset - header.base_offset).unwrap();
        let timestamp = record.timestamp.wrapping_sub(first);
        let size = encode_record(&mut raw, timestamp, delta, key, value, &headers).unwrap();
        payload.extend_from_slice(&raw[..size]);
    }
    let mut packed = Vec::new();
    compress(header.attributes.compression(), None, &payload, &mut packed).unwrap();
    let largest = records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
    let is_append_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    let header = BatchHeader {
        base_timestamp: first,
        max_timestamp: if is_append_time { header.max_timestamp } else { largest.max(-1) },
        count: i32::try_from(records.len()).unwrap(),
        ..header
    };
    [&seal(&header, &packed).unwrap()[..], &packed].concat()
}

/// Returns the batches of a segment: their headers and records.
pub(super) fn read(segment: &MemorySegment) -> Vec<(BatchHeader, Vec<Content>)> {
    let mut out = Vec::new();
    let mut batches = segment.batches();
    while let Some((_, batch)) = batches.next().unwrap() {
        batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES).unwrap();
        out.push((*batch.header(), contents(&batch)));
    }
    out
}

fn contents(batch: &Batch<'_>) -> Vec<Content> {
    let records = batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES).unwrap();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let content = |record: crate::record::RecordView<'_>| {
        let headers = record.headers();
        let headers =
            headers.map(|h| (h.name_bytes().to_vec(), h.value().unwrap_or_default().to_vec()));
        let timestamp = record.timestamp().as_millis();
        (record.offset(), timestamp, owned(record.key()), owned(record.value()), headers.collect())
    };
    records.iter().map(content).collect()
}

impl World {
    pub(super) fn log_end(&self) -> i64 {
        self.segments.last().unwrap().end_offset
    }

    pub(super) fn roll(&mut self) {
        self.segments.push(MemorySegment::new(self.log_end()));
    }

    /// Appends a batch, as `header` says and with what follows from the records.
    pub(super) fn append(&mut self, header: BatchHeader, records: &[NewRecord]) {
        assert!(header.base_offset >= self.log_end(), "offsets rise");
        let bytes = encode(header, records);
        let batch = Batch::parse(&bytes).unwrap();
        let header = *batch.header();
        self.producers.on_batch(&header);
        if header.attributes.is_transactional() && !header.attributes.is_control() {
            self.open_transactions.entry(header.producer_id).or_insert(header.base_offset);
        }
        self.headers.insert(header.base_offset, header);
        self.contents.extend(contents(&batch).into_iter().map(|content| (content.0, content)));
        let active = self.segments.last_mut().unwrap();
        active.log.extend_from_slice(&bytes);
        active.end_offset = header.next_offset();
    }

    /// Appends a marker.
    pub(super) fn end_transaction(&mut self, base_offset: i64, producer: (i64, i16), commit: bool) {
        let (producer_id, producer_epoch) = producer;
        let header = BatchHeader {
            base_offset,
            attributes: BatchHeader::default()
                .attributes
                .with_transactional(true)
                .with_control(true),
            producer_id,
            producer_epoch,
            leader_epoch: 7,
            ..BatchHeader::default()
        };
        let record = NewRecord {
            offset: base_offset,
            timestamp: 1000 + base_offset,
            key: Some(vec![0, 0, 0, u8::from(commit)]),
            value: Some(vec![0; 6]),
            header: None,
        };
        self.append(header, &[record]);
        let first = self.open_transactions.remove(&producer_id);
        if let (Some(first_offset), false) = (first, commit) {
            let others = self.open_transactions.values().min();
            self.segments.last_mut().unwrap().aborted.push(AbortedTransaction {
                producer_id,
                first_offset,
                last_offset: base_offset,
                last_stable_offset: others.copied().unwrap_or(base_offset + 1),
            });
        }
    }

    pub(super) fn expire(&mut self, ids: &[i64]) {
        self.producers.retain(|id| !ids.contains(&id));
        self.has_expired_producers = true;
    }

    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        self.segments.iter().map(MemorySegment::info).collect()
    }

    /// Runs a pass over `[dirty, uncleanable)` and puts the new segments into place. Checks the invariants that
    /// hold for every pass.
    pub(super) fn clean(
        &mut self,
        now: i64,
        dirty: i64,
        uncleanable: i64,
    ) -> Result<Cleaned, CleanError> {
        let before: Vec<_> = self.segments.iter().flat_map(read).collect();
        let mut sink = MemorySink::default();
        let cleaned = self.run(now, dirty, uncleanable, &mut sink)?;
        self.check_stats(&cleaned, &sink);
        let new = sink.segments.into_iter().map(|(segment, _)| segment);
        self.segments.splice(..cleaned.segments, new);
        self.next_dirty = cleaned.next_dirty_offset;
        self.check(&before, &cleaned);
        Ok(cleaned)
    }

    pub(super) fn run(
        &self,
        now: i64,
        dirty: i64,
        uncleanable: i64,
        sink: &mut MemorySink,
    ) -> Result<Cleaned, CleanError> {
        let aborted: AbortedIndex =
            self.segments.iter().flat_map(|segment| segment.aborted.iter().copied()).collect();
        Pass {
            segments: &self.infos(),
            first_dirty_offset: dirty,
            first_uncleanable_offset: uncleanable,
            aborted: &aborted,
            producers: &self.producers,
            settings: FilterSettings {
                now,
                delete_retention_ms: self.delete_retention_ms,
                high_watermark: self.high_watermark.unwrap_or(self.log_end()),
                max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
            },
            limits: GroupLimits { segment_bytes: self.segment_bytes, index_bytes: u64::MAX },
            map_bytes: self.map_bytes,
            hash_key: &[7; 16],
            interrupted: &|| false,
        }
        .run(&self.segments, sink)
    }

    fn check_stats(&self, cleaned: &Cleaned, sink: &MemorySink) {
        let stats = cleaned.stats;
        let old = &self.segments[..cleaned.segments];
        let bytes = |segments: &[MemorySegment]| segments.iter().map(|s| s.log.len() as u64).sum();
        let records = |s: &MemorySegment| read(s).iter().map(|(_, r)| r.len() as u64).sum::<u64>();
        let new: Vec<_> = sink.segments.iter().map(|(segment, _)| segment.clone()).collect();
        assert_eq!((stats.bytes_in, stats.bytes_out), (bytes(old), bytes(&new)));
        assert_eq!(stats.records_in, old.iter().map(records).sum::<u64>());
        assert_eq!(stats.records_out, new.iter().map(records).sum::<u64>());
        let outcomes = stats.batches_unchanged
            + stats.batches_rebuilt
            + stats.batches_emptied
            + stats.batches_removed;
        assert_eq!(stats.batches_in, outcomes);
        for (_, ended) in &sink.segments {
            assert!(ended.is_some(), "every segment is ended");
        }
        if stats.is_unchanged() {
            let log = |segments: &[MemorySegment]| {
                segments.iter().flat_map(|s| s.log.clone()).collect::<Vec<_>>()
            };
            assert_eq!(log(old), log(&new));
        }
    }

    /// Checks C2, C3, C5 and C8 against what was appended, and `before`, the log before the pass.
    fn check(&self, before: &[(BatchHeader, Vec<Content>)], cleaned: &Cleaned) {
        let (mut end, mut scanned) = (0, ActiveProducers::new());
        for segment in &self.segments {
            assert!(segment.base_offset >= end, "segments rise");
            end = segment.base_offset;
            for (header, records) in read(segment) {
                assert!(header.base_offset >= end, "offsets rise");
                end = header.next_offset();
                assert!(end <= segment.end_offset);
                scanned.on_batch(&header);
                let (old, _) =
                    before.iter().find(|b| b.0.base_offset == header.base_offset).unwrap();
                self.check_batch(&header, old, &records, cleaned.next_dirty_offset);
            }
        }
        assert!(self.has_expired_producers || scanned == self.producers, "C8");
    }

    fn check_batch(
        &self,
        header: &BatchHeader,
        old: &BatchHeader,
        records: &[Content],
        next_dirty: i64,
    ) {
        let original = self.headers[&header.base_offset];
        let attributes = original.attributes;
        let is_empty = records.is_empty();
        let codec = if is_empty { Compression::None } else { attributes.compression() };
        let has_horizon = header.attributes.has_delete_horizon();
        assert_eq!(
            *header,
            BatchHeader {
                length: header.length,
                crc: header.crc,
                attributes: attributes.with_compression(codec).with_delete_horizon(has_horizon),
                base_timestamp: header.base_timestamp,
                max_timestamp: header.max_timestamp,
                count: header.count,
                ..original
            },
            "C3"
        );
        let mut largest = -1;
        for record in records {
            assert_eq!(record, &self.contents[&record.0], "C3");
            largest = largest.max(record.1);
        }
        let horizon =
            |h: &BatchHeader| h.attributes.has_delete_horizon().then_some(h.base_timestamp);
        if is_empty {
            assert_eq!((header.base_timestamp, header.total_bytes()), (-1, HEADER_BYTES));
            assert!(!has_horizon);
        } else {
            assert_eq!(header.max_timestamp, largest);
            assert!(has_horizon || header.base_timestamp == records[0].1);
            assert!(horizon(old).is_none_or(|old| horizon(header) == Some(old)), "C5");
            let is_covered = header.next_offset() <= next_dirty && !attributes.is_control();
            let has_tombstone = records.iter().any(|record| record.3.is_none());
            assert!(!is_covered || !has_tombstone || has_horizon, "C5");
        }
    }

    /// Returns all batches of the log.
    pub(super) fn batches(&self) -> Vec<(BatchHeader, Vec<Content>)> {
        self.segments.iter().flat_map(read).collect()
    }
}
