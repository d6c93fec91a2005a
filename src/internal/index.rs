use super::input::Input;
use super::partition::{put, read, restore, segment_path, storage};
use crate::log::{FetchLimits, SegmentImage};
use crate::record::{BatchHeader, encode_record, seal};
use crate::segment::{Extension, Walk, rebuild};
use crate::types::Timestamp;

const BASE: i64 = 5000;
const LIMITS: FetchLimits = FetchLimits { records: 1, bytes: usize::MAX, until: i64::MAX };
/// All timestamps lie below it.
const TIMES: i64 = 64;

/// Puts index files of any bytes beside a valid log. Every offset is found as by a scan of all records. So is
/// every timestamp, unless a time entry matches its own batch but is false of earlier ones (S4). The index is
/// a cache that a reader checks against the batch it names (S5), not against all.
pub fn fuzz_index_load(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let interval = u32::from(input.u8()) * 4;
    let (log, times) = log_of(&mut input);
    let end_offset = BASE + times.len() as i64;
    let (offsets, timestamps, _) = rebuild(&log, BASE, u64::from(interval));
    let size = usize::from(input.u8());
    let index = changed(offsets.encode_from(0).0, input.bytes(size), flags & 1 != 0);
    let timeindex = changed(timestamps.encode_from(0).0, input.rest, flags & 1 != 0);

    let storage = storage();
    put(&storage, &segment_path(BASE, Extension::Log), &log);
    if flags & 2 == 0 {
        put(&storage, &segment_path(BASE, Extension::Index), &index);
    }
    if flags & 4 == 0 {
        put(&storage, &segment_path(BASE, Extension::TimeIndex), &timeindex);
    }
    let image = SegmentImage {
        base_offset: BASE,
        generation: 0,
        end_offset,
        len: log.len() as u64,
        checksum: crc32fast::hash(&log),
        first_timestamp: times.first().copied().unwrap_or(-1),
        max_timestamp: times.iter().copied().max().unwrap_or(-1),
    };
    let partition =
        restore(&storage, image, vec![(BatchHeader::default().leader_epoch, BASE)], interval);
    for offset in BASE..end_offset {
        let (records, error) = read(&partition, offset, LIMITS);
        assert!(error.is_none(), "{error:?}");
        let found: Vec<i64> = records.iter().map(|(offset, ..)| *offset).collect();
        assert_eq!(found, (offset..end_offset).collect::<Vec<_>>());
    }
    let sound = flags & 4 != 0 || is_sound(&timeindex, &log);
    for time in 0..=TIMES {
        let target = Timestamp::from_millis(time);
        let found = partition.offset_for_time(target).expect("the log is in order");
        let scan = times.iter().position(|t| *t >= time).map(|at| (BASE + at as i64, times[at]));
        let found = found.map(|(offset, timestamp)| (offset, timestamp.as_millis()));
        if sound {
            assert_eq!(found, scan, "time {time}");
        }
        if let Some((offset, timestamp)) = found {
            assert_eq!(times.get((offset - BASE) as usize), Some(&timestamp));
            assert!(timestamp >= time);
        }
    }
}

/// Builds a log of small batches. Also returns the timestamps of its records in order of their offsets.
fn log_of(input: &mut Input<'_>) -> (Vec<u8>, Vec<i64>) {
    let (mut log, mut times) = (Vec::new(), Vec::new());
    for _ in 0..input.u8() % 24 {
        let count = input.u8() % 4 + 1;
        let padding = [b'x'; 255];
        let value = &padding[..usize::from(input.u8() % 100)];
        let mut records = [0; 1024];
        let (mut at, mut max_timestamp) = (0, -1);
        let base_offset = BASE + times.len() as i64;
        for delta in 0..i32::from(count) {
            let time = i64::from(input.u8()) % TIMES;
            max_timestamp = max_timestamp.max(time);
            times.push(time);
            let room = &mut records[at..];
            at += encode_record(room, time, delta, None, Some(value), &[]).expect("room");
        }
        let header = BatchHeader {
            base_offset,
            last_offset_delta: i32::from(count) - 1,
            base_timestamp: 0,
            max_timestamp,
            count: i32::from(count),
            ..BatchHeader::default()
        };
        log.extend(seal(&header, &records[..at]).expect("small"));
        log.extend(&records[..at]);
    }
    (log, times)
}

/// Returns the right bytes mixed with those of the input, or the input instead of them.
fn changed(right: Vec<u8>, input: &[u8], mix: bool) -> Vec<u8> {
    if !mix {
        return input.to_vec();
    }
    let mut out = right;
    out.iter_mut().zip(input).for_each(|(byte, change)| *byte ^= change);
    // One more byte lengthens or shortens the file.
    match input.get(out.len()) {
        Some(more) if more % 2 == 0 => out.resize(out.len() + usize::from(*more), *more),
        Some(less) => out.truncate(out.len().saturating_sub(usize::from(*less))),
        None => {}
    }
    out
}

/// Returns whether every entry that matches its batch is true of all batches before it.
fn is_sound(timeindex: &[u8], log: &[u8]) -> bool {
    let batches: Vec<(i64, i64)> = Walk::new(log, BASE)
        .map(|(_, batch)| (batch.header().last_offset(), batch.header().max_timestamp))
        .collect();
    let (entries, _) = timeindex.as_chunks::<12>();
    entries.iter().all(|entry| {
        let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *entry;
        let time = i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        let offset = BASE + i64::from(i32::from_be_bytes([o0, o1, o2, o3]));
        let before = batches.iter().filter(|(last, _)| *last < offset);
        before.into_iter().all(|(_, max)| *max < time)
    })
}
