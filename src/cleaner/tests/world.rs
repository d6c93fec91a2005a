//! A log as a broker would keep it, with what it must remember about every batch that was appended.

use std::collections::BTreeMap;

use crate::cleaner::{
    Batches, CleanError, Cleaned, DEFAULT_MAP_BYTES, FilterSettings, GroupLimits, MemorySegment,
    MemorySink, Pass, SegmentInfo,
};
use crate::producer_state::{
    AbortedIndex, AbortedTransaction, Completed, ControlBatch, ProducerStates,
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
    pub(super) producers: ProducerStates,
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
            producers: ProducerStates::new(1),
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

/// Lets `states` follow a batch of a log.
fn follow(states: &mut ProducerStates, batch: &Batch<'_>) -> Option<Completed> {
    let payload = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).unwrap();
    let control = batch.header().attributes.is_control();
    let control = control.then(|| ControlBatch::read(batch.header(), &payload).unwrap());
    states.follow(batch.header(), control)
}

/// Returns the delete horizon of a batch.
pub(super) fn horizon(header: &BatchHeader) -> Option<i64> {
    header.attributes.has_delete_horizon().then_some(header.base_timestamp)
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

    /// Returns the first offset of the oldest open transaction, or the log end offset.
    pub(super) fn last_stable_offset(&self) -> i64 {
        self.producers.last_stable_offset(self.log_end())
    }

    pub(super) fn has_open_transaction(&self, producer: i64) -> bool {
        self.producers.open_transaction(producer).is_some()
    }

    pub(super) fn aborted(&self) -> Vec<AbortedTransaction> {
        self.segments.iter().flat_map(|segment| segment.aborted.iter().copied()).collect()
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
        let completed = follow(&mut self.producers, &batch);
        self.headers.insert(header.base_offset, header);
        self.contents.extend(contents(&batch).into_iter().map(|content| (content.0, content)));
        let active = self.segments.last_mut().unwrap();
        active.log.extend_from_slice(&bytes);
        active.end_offset = header.next_offset();
        active.aborted.extend(completed.and_then(|completed| completed.aborted));
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
    }

    pub(super) fn expire(&mut self, ids: &[i64]) {
        for id in ids {
            self.producers.forget(*id);
        }
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
        let is_covered = |s: &&MemorySegment| s.base_offset < cleaned.next_dirty_offset;
        assert_eq!(cleaned.segments, self.segments.iter().take_while(is_covered).count(), "C4");
        self.check_stats(&cleaned, &sink);
        let new = sink.segments.into_iter().map(|(segment, _)| segment);
        self.segments.splice(..cleaned.segments, new);
        self.next_dirty = cleaned.next_dirty_offset;
        self.check(&before, now, &cleaned);
        Ok(cleaned)
    }

    pub(super) fn run(
        &self,
        now: i64,
        dirty: i64,
        uncleanable: i64,
        sink: &mut MemorySink,
    ) -> Result<Cleaned, CleanError> {
        let aborted: AbortedIndex = self.aborted().into_iter().collect();
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
    fn check(&self, before: &[(BatchHeader, Vec<Content>)], now: i64, cleaned: &Cleaned) {
        let (mut end, mut scanned) = (0, ProducerStates::new(1));
        for segment in &self.segments {
            assert!(segment.base_offset >= end, "segments rise");
            end = segment.base_offset;
            let mut batches = segment.batches();
            while let Some((_, batch)) = batches.next().unwrap() {
                follow(&mut scanned, &batch);
            }
            for (header, records) in read(segment) {
                assert!(header.base_offset >= end, "offsets rise");
                end = header.next_offset();
                assert!(end <= segment.end_offset);
                let same = |b: &&(BatchHeader, _)| b.0.base_offset == header.base_offset;
                let old = horizon(&before.iter().find(same).unwrap().0);
                self.check_batch(&header, &records);
                self.check_horizon(&header, old, &records, (now, cleaned.next_dirty_offset));
            }
        }
        assert!(self.has_expired_producers || scanned.held() == self.producers.held(), "C8");
    }

    fn check_batch(&self, header: &BatchHeader, records: &[Content]) {
        let original = self.headers[&header.base_offset];
        let attributes = original.attributes;
        let is_empty = records.is_empty();
        let codec = if is_empty { Compression::None } else { attributes.compression() };
        let has_horizon = horizon(header).is_some();
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
        for record in records {
            assert_eq!(record, &self.contents[&record.0], "C3");
        }
        if let Some(largest) = records.iter().map(|record| record.1).max() {
            assert_eq!(header.max_timestamp, largest.max(-1));
            let is_append_time = attributes.timestamp_type() == TimestampType::LogAppendTime;
            assert!(has_horizon || is_append_time || header.base_timestamp == records[0].1);
        } else {
            assert_eq!((header.base_timestamp, header.total_bytes()), (-1, HEADER_BYTES));
            assert!(!has_horizon);
        }
    }

    /// Checks C5 on a batch that had the horizon `old` before the pass.
    fn check_horizon(
        &self,
        header: &BatchHeader,
        old: Option<i64>,
        records: &[Content],
        (now, next_dirty): (i64, i64),
    ) {
        let is_data = !header.attributes.is_control();
        let is_tombstone = |record: &&Content| record.3.is_none() && record.0 < next_dirty;
        let has_tombstone = is_data && records.iter().any(|record| is_tombstone(&record));
        let new = horizon(header);
        assert!(!has_tombstone || new.is_some(), "C5: no horizon");
        assert!(!has_tombstone || old.is_none_or(|old| now < old), "C5: a tombstone stays");
        assert!(old.is_none() || new == old || records.is_empty(), "C5: a horizon moves");
        let first = now + self.delete_retention_ms;
        assert!(old.is_some() || new.is_none_or(|new| new == first), "C5: a false horizon");
    }

    /// Returns all batches of the log.
    pub(super) fn batches(&self) -> Vec<(BatchHeader, Vec<Content>)> {
        self.segments.iter().flat_map(read).collect()
    }
}
