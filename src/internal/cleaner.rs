use std::collections::BTreeMap;

use super::input::Input;
use super::segment::mend;
use crate::cleaner::{
    CleanError, Cleaned, FilterSettings, GroupLimits, MemorySegment, MemorySink, Pass,
};
use crate::producer_state::{AbortedIndex, AbortedTransaction, ControlBatch, ProducerStates};
use crate::record::{Batch, BatchHeader};
use crate::segment::{Walk, WalkEnd};

const LIMIT: usize = 1 << 16;

/// Takes any bytes as two segments and cleans them, twice. Nothing panics. A pass ends with damage exactly if it
/// read damage. Every batch that it writes is intact, and what it keeps was there before. The newest record of
/// each key stays, unless it is a tombstone whose time has passed.
pub fn fuzz_cleaner(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let now = i64::from(input.u16());
    let (keys, cut) = (usize::from(input.u8()), usize::from(input.u8()));
    let mut log = input.rest.to_vec();
    let base = log.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let base = if (0..i64::MAX / 2).contains(&base) { base } else { 0 };
    if flags & 1 != 0 {
        mend(&mut log, base);
    }
    let Some(mut segments) = split(&log, base, cut) else { return };
    let mut first_dirty_offset = base;
    for pass in 0..2 {
        let run = Run {
            segments: &segments,
            first_dirty_offset,
            now: now + i64::from(pass) * i64::from(flags >> 1),
            map_bytes: if flags & 2 == 0 { 24 * (keys + 2) } else { LIMIT },
        };
        let Some((cleaned, new)) = run.run() else { return };
        segments.splice(..cleaned.segments, new);
        first_dirty_offset = cleaned.next_dirty_offset;
    }
}

/// Parts the log between two batches. Returns `None` if no batch is found.
fn split(log: &[u8], base: i64, cut: usize) -> Option<Vec<MemorySegment>> {
    let mut walk = Walk::new(log, base);
    let starts: Vec<_> =
        walk.by_ref().map(|(at, batch)| (at as usize, batch.header().base_offset)).collect();
    let &(at, second) = starts.get(cut % starts.len().max(1))?;
    let segment = |base, end, log: &[u8]| MemorySegment {
        end_offset: end,
        log: log.to_vec(),
        ..MemorySegment::new(base)
    };
    let (first, rest) = log.split_at(at);
    Some(vec![segment(base, second, first), segment(second, walk.next_offset(), rest)])
}

struct Run<'a> {
    segments: &'a Vec<MemorySegment>,
    first_dirty_offset: i64,
    now: i64,
    map_bytes: usize,
}

impl Run<'_> {
    fn run(&self) -> Option<(Cleaned, Vec<MemorySegment>)> {
        let (aborted, producers) = self.scan();
        let infos: Vec<_> = self.segments.iter().map(MemorySegment::info).collect();
        let end = infos.last()?.end_offset;
        let mut sink = MemorySink::default();
        let pass = Pass {
            segments: &infos,
            first_dirty_offset: self.first_dirty_offset,
            first_uncleanable_offset: end,
            aborted: &aborted.iter().copied().collect::<AbortedIndex>(),
            producers: &producers,
            settings: FilterSettings {
                now: self.now,
                delete_retention_ms: 10,
                high_watermark: end,
                max_decompressed_bytes: LIMIT,
            },
            limits: GroupLimits { segment_bytes: LIMIT as u64, index_bytes: 1 },
            map_bytes: self.map_bytes,
            hash_key: &[1; 16],
            interrupted: &|| false,
        };
        let cleaned = match pass.run(self.segments, &mut sink) {
            Ok(cleaned) => cleaned,
            Err(CleanError::Undecodable { .. }) => {
                let mut all = self.segments.iter().flat_map(batches);
                // A control batch without a type is damage to a pass only.
                let explains = |batch: Option<(BatchHeader, _)>| {
                    batch.is_none_or(|(header, _)| header.attributes.is_control())
                };
                assert!(all.any(explains), "damage that is none");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let new: Vec<_> = sink.segments.into_iter().map(|(segment, _)| segment).collect();
        let read = self.segments.get(..cleaned.segments)?;
        let [before, after] = [read, &new].map(|segments| {
            let all = segments.iter().flat_map(batches).collect::<Option<Vec<_>>>();
            all.expect("no damage is read or written")
        });
        check(&before, &after, &aborted, self.now, cleaned.next_dirty_offset);
        Some((cleaned, new))
    }

    /// Finds the aborted transactions and the producers, as a reader of committed records does.
    fn scan(&self) -> (Vec<AbortedTransaction>, ProducerStates) {
        let (mut aborted, mut producers) = (Vec::new(), ProducerStates::new(1));
        for segment in self.segments {
            for (_, batch) in Walk::new(&segment.log, segment.base_offset) {
                let header = batch.header();
                let control = header.attributes.is_control().then(|| control(&batch));
                let completed = producers.follow(header, control);
                aborted.extend(completed.and_then(|completed| completed.aborted));
            }
        }
        (aborted, producers)
    }
}

/// What is damaged says nothing. The pass finds the damage.
fn control(batch: &Batch<'_>) -> ControlBatch {
    let payload = batch.decompressed(LIMIT).unwrap_or_default();
    ControlBatch::read(batch.header(), &payload).unwrap_or(ControlBatch::Other)
}

/// Offset, timestamp, key, value.
type Plain = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Returns the headers and records of a segment; `None` for what is damaged.
fn batches(segment: &MemorySegment) -> Vec<Option<(BatchHeader, Vec<Plain>)>> {
    let mut walk = Walk::new(&segment.log, segment.base_offset);
    let mut out: Vec<_> = walk.by_ref().map(|(_, batch)| plain(&batch)).collect();
    if walk.end() != Some(WalkEnd::Clean) {
        out.push(None);
    }
    out
}

fn plain(batch: &Batch<'_>) -> Option<(BatchHeader, Vec<Plain>)> {
    batch.verify(LIMIT).ok()?;
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let records = batch.records(LIMIT).ok()?;
    let plain = records.iter().map(|record| {
        let timestamp = record.timestamp().as_millis();
        (record.offset(), timestamp, owned(record.key()), owned(record.value()))
    });
    Some((*batch.header(), plain.collect()))
}

fn check(
    before: &[(BatchHeader, Vec<Plain>)],
    after: &[(BatchHeader, Vec<Plain>)],
    aborted: &[AbortedTransaction],
    now: i64,
    end: i64,
) {
    let old: BTreeMap<i64, _> = before.iter().map(|batch| (batch.0.base_offset, batch)).collect();
    let mut next = 0;
    for (header, records) in after {
        assert!(header.base_offset >= next, "offsets rise");
        next = header.next_offset();
        let (before, contents) = old[&header.base_offset];
        assert_eq!(header.last_offset(), before.last_offset());
        assert_eq!(header.producer_id, before.producer_id);
        assert!(records.iter().all(|record| contents.contains(record)), "no new records");
    }
    let mut newest = BTreeMap::new();
    for (header, records) in before {
        let is_aborted = header.attributes.is_transactional()
            && aborted.iter().any(|entry| {
                let range = entry.first_offset..entry.last_offset;
                entry.producer_id == header.producer_id && range.contains(&header.base_offset)
            });
        if header.attributes.is_control() || is_aborted {
            continue;
        }
        let has_passed = header.attributes.has_delete_horizon() && now >= header.base_timestamp;
        for (offset, _, key, value) in records.iter().filter(|r| r.0 < end && r.2.is_some()) {
            newest.insert(key, (*offset, value.is_none() && has_passed));
        }
    }
    let mut left = after.iter().flat_map(|(_, records)| records.iter().map(|r| r.0)).peekable();
    let mut must_stay: Vec<i64> =
        newest.into_values().filter(|(_, may_go)| !may_go).map(|(offset, _)| offset).collect();
    must_stay.sort_unstable();
    for offset in must_stay {
        while left.next_if(|other| *other < offset).is_some() {}
        assert_eq!(left.next(), Some(offset), "the newest record of a key");
    }
}
