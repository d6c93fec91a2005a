use std::collections::{BTreeMap, BTreeSet};

use super::batch::is_typed;
use super::input::Input;
use super::partition::{Delivered, put, read, read_at, restore, segment_path, storage};
use crate::config::IsolationLevel;
use crate::log::{FetchLimits, Log, SegmentImage};
use crate::producer_state::ControlBatch;
use crate::record::crc::crc32c;
use crate::record::header::{ATTRIBUTES_AT, CRC_AT};
use crate::record::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES};
use crate::segment::{Extension, Walk, WalkEnd, rebuild};
use crate::storage::{OpenMode, Storage};
use crate::types::Epoch;

const WHOLE: FetchLimits = FetchLimits { records: usize::MAX, bytes: usize::MAX, until: i64::MAX };
const SMALL: FetchLimits = FetchLimits { records: 3, bytes: 64, until: i64::MAX };

/// Takes any bytes as a segment's file, with any part of its length known as durable. The walk gives a valid
/// prefix, twice the same. A partition over the file cuts it to the durable length. It delivers the records
/// of the valid batches before the first damaged one, and then the damage: nothing more, nothing less, in one
/// step or in many. A reader that seeks behind the range of each damage reaches the end.
pub fn fuzz_segment_recover(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let choice = usize::from(input.u16());
    let mut log = input.rest.to_vec();
    let base = log.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let base = if (0..i64::MAX / 2).contains(&base) { base } else { 0 };
    if flags & 1 != 0 {
        mend(&mut log, base);
    }
    check_walk(&log, base);

    let ends: Vec<u64> =
        Walk::new(&log, base).map(|(at, batch)| at + batch.bytes().len() as u64).collect();
    let hard = if flags & 2 == 0 {
        ends.get(choice % (ends.len() + 1)).copied().unwrap_or(0)
    } else {
        (choice % (log.len() + 1)) as u64
    };
    check_partition(&log, base, hard);
}

/// Puts right checksums into all batches that a walk finds.
pub(super) fn mend(log: &mut [u8], base: i64) {
    let batches: Vec<(usize, usize)> =
        Walk::new(log, base).map(|(at, batch)| (at as usize, batch.bytes().len())).collect();
    for (at, len) in batches {
        if let Some(batch) = log.get_mut(at..at + len) {
            let crc = crc32c(&batch[ATTRIBUTES_AT..]);
            batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

fn check_walk(log: &[u8], base: i64) {
    let mut walk = Walk::new(log, base);
    let (mut position, mut next_offset) = (0, base);
    for (at, batch) in walk.by_ref() {
        assert_eq!(at, position, "no gap in the file");
        assert!(batch.header().base_offset >= next_offset, "offsets rise");
        position += batch.bytes().len() as u64;
        next_offset = batch.header().next_offset();
    }
    assert_eq!(walk.position(), position);
    let end = walk.end();
    match end.expect("the walk has ended") {
        WalkEnd::Clean => assert_eq!(position, log.len() as u64),
        WalkEnd::Torn { position: at } | WalkEnd::Corrupt { position: at, .. } => {
            assert_eq!(at, position);
        }
    }
    let whole = rebuild(log, base, 100);
    assert_eq!(Some(whole.2), end);
    assert_eq!(whole, rebuild(log, base, 100));
    // The valid prefix alone is a clean log with the same indexes.
    let prefix = log.get(..position as usize).expect("inside the log");
    assert_eq!((whole.0, whole.1, WalkEnd::Clean), rebuild(prefix, base, 100));
}

fn check_partition(log: &[u8], base: i64, hard: u64) {
    let kept = log.get(..hard as usize).expect("inside the log");
    let mut walk = Walk::new(kept, base);
    let mut max_timestamp = -1;
    let mut epochs: Vec<(Epoch, i64)> = Vec::new();
    for (_, batch) in walk.by_ref() {
        let header = batch.header();
        max_timestamp = max_timestamp.max(header.max_timestamp);
        if epochs.last().is_none_or(|(last, _)| *last < header.leader_epoch) {
            epochs.push((header.leader_epoch, header.base_offset));
        }
    }
    // A checkpoint may know of a record in bytes that hold none any more.
    let damaged = i64::from(walk.position() < hard);
    let end_offset = walk.next_offset().saturating_add(damaged);
    let image = SegmentImage {
        base_offset: base,
        generation: 0,
        end_offset,
        len: hard,
        checksum: crc32fast::hash(kept),
        first_timestamp: -1,
        max_timestamp,
    };
    let storage = storage();
    let path = segment_path(base, Extension::Log);
    put(&storage, &path, log);

    let cut = log.len() as u64 - hard;
    for cut in [cut, 0] {
        let partition = restore(&storage, image, epochs.clone(), 100);
        assert!(partition.check_files().expect("the folder is in order").is_none());
        assert_eq!(partition.cut_files(false).expect("memory"), cut);
        let file = storage.open(&path, OpenMode::Read).expect("still there");
        assert_eq!(file.len().expect("memory"), hard);

        let expected = expected(kept, base);
        for limits in [WHOLE, SMALL] {
            let (records, error) = read(&partition, base, limits);
            assert!(error.as_ref().is_none_or(is_typed), "{error:?}");
            assert_eq!(records, expected.sound);
            assert_eq!(error.is_none(), expected.clean && damaged == 0, "{error:?}");
        }
        let fresh = || restore(&storage, image, epochs.clone(), 100);
        check_committed(&fresh, kept, base, (&expected, damaged == 0));
        check_progress(&partition, base, kept.len() / 61 + 2);
    }
}

/// Reads committed records from the start and from the middle, each in a partition that knows nothing yet. Compares
/// them with what Kafka's filter lets through, unless damage may hide a marker.
fn check_committed(
    partition: &dyn Fn() -> Log,
    log: &[u8],
    base: i64,
    (expected, whole): (&Expected, bool),
) {
    let clean = whole && expected.clean;
    let filtered = clean.then(|| committed(log, base)).flatten();
    let from_middle = expected.sound.get(expected.sound.len() / 2).map_or(base, |record| record.0);
    for (from, limits) in [(base, WHOLE), (base, SMALL), (from_middle, SMALL)] {
        let (records, error) = read_at(&partition(), from, IsolationLevel::ReadCommitted, limits);
        assert!(error.as_ref().is_none_or(is_typed), "{error:?}");
        assert!(records.iter().all(|record| from <= record.0), "a record before the position");
        if let Some(filtered) = &filtered {
            let shown: Vec<i64> = records.iter().map(|record| record.0).collect();
            let wanted: Vec<i64> = filtered.iter().copied().filter(|o| *o >= from).collect();
            assert!(error.is_none(), "{error:?} from {from}");
            assert_eq!(shown, wanted, "from {from}");
        }
    }
}

/// Returns the offsets that Kafka's filter lets through below the last stable offset (`CompletedFetch`). `None` if a
/// marker cannot be read.
fn committed(log: &[u8], base: i64) -> Option<Vec<i64>> {
    let batches = || Walk::new(log, base).map(|(_, batch)| batch);
    let (mut open, mut index, mut markers) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    for batch in batches().filter(|batch| batch.header().producer_id >= 0) {
        let header = *batch.header();
        if !header.attributes.is_control() {
            if header.attributes.is_transactional() {
                open.entry(header.producer_id).or_insert(header.base_offset);
            }
            continue;
        }
        let payload = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).ok()?;
        let ControlBatch::End(marker) = ControlBatch::read(&header, &payload).ok()? else {
            continue;
        };
        let first = open.remove(&header.producer_id);
        if let (Some(first), true) = (first, marker.aborts) {
            index.push((first, header.producer_id));
            markers.insert(header.base_offset);
        }
    }
    let stable = open.values().copied().min().unwrap_or(i64::MAX);
    index.sort_unstable();
    let (mut ahead, mut present, mut shown) =
        (index.into_iter().peekable(), BTreeSet::new(), vec![]);
    for batch in batches().take_while(|batch| batch.header().base_offset < stable) {
        let header = batch.header();
        while let Some((_, producer)) = ahead.next_if(|(first, _)| *first <= header.last_offset()) {
            present.insert(producer);
        }
        if header.attributes.is_control() {
            if markers.contains(&header.base_offset) {
                present.remove(&header.producer_id);
            }
        } else if !(header.attributes.is_transactional() && present.contains(&header.producer_id)) {
            shown.extend(records(&batch).into_iter().map(|record| record.0));
        }
    }
    Some(shown)
}

/// Seeks behind the range of each damage, at most `most` times.
fn check_progress(partition: &Log, base: i64, most: usize) {
    let mut from = base;
    for _ in 0..=most {
        let (records, error) = read(partition, from, WHOLE);
        let reached = records.last().map_or(from, |(offset, ..)| offset + 1);
        // A batch that this build cannot read is not damage, and has no range.
        let Some(crate::Error::Corrupt(damage)) = error else { return };
        let (first, last) = damage.offsets.expect("damage is reported with its offsets");
        assert!(first <= last && reached <= last.saturating_add(1), "{damage}");
        assert!(last >= from, "{damage} does not hold {from}");
        from = last.saturating_add(1);
        if from >= partition.end_offset() {
            return;
        }
    }
    panic!("no end of damage");
}

/// The expected result for a segment's bytes.
struct Expected {
    /// The records before the first batch that is damaged or whose epoch decreases.
    sound: Vec<Delivered>,
    /// Whether there is no such batch.
    clean: bool,
}

fn expected(log: &[u8], base: i64) -> Expected {
    let mut sound = Vec::new();
    let mut walk = Walk::new(log, base);
    let mut next_offset = base;
    let mut epoch = Epoch::MIN;
    for (_, batch) in walk.by_ref() {
        let header = batch.header();
        let in_order = header.base_offset == next_offset && header.leader_epoch >= epoch;
        if !in_order || batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES).is_err() {
            return Expected { sound, clean: false };
        }
        next_offset = header.next_offset();
        epoch = header.leader_epoch;
        if !header.attributes.is_control() {
            sound.extend(records(&batch));
        }
    }
    let clean = walk.end() == Some(WalkEnd::Clean);
    Expected { sound, clean }
}

/// Returns the records of a whole batch.
fn records(batch: &Batch<'_>) -> Vec<Delivered> {
    let records = batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES).expect("the batch is whole");
    let field = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
    let all = records.iter();
    all.map(|record| (record.offset(), field(record.key()), field(record.value()))).collect()
}
