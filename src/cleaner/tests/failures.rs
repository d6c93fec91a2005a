//! Damage, interruptions, and sinks that fail.

use std::cell::Cell;

use super::vectors::map_bytes;
use super::world::{NewRecord, World};
use crate::cleaner::{
    CleanError, FilterSettings, GroupLimits, MemorySink, Pass, SegmentInfo, Sink, Stats,
};
use crate::error::{CorruptReason, Error};
use crate::producer_state::{AbortedIndex, AbortedTransaction};
use crate::record::header::CRC_AT;
use crate::record::{BatchHeader, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, seal};

/// A log of three segments with an aborted transaction. Its pass takes eight batches.
fn world() -> World {
    let mut world = World::default();
    for base in [0, 2, 4, 7] {
        let attributes = BatchHeader::default().attributes;
        let header =
            BatchHeader {
                base_offset: base,
                last_offset_delta: 1,
                producer_id: if base == 2 { 8 } else { -1 },
                attributes: attributes.with_transactional(base == 2).with_compression(
                    if base == 4 { Compression::Zstd } else { Compression::None },
                ),
                ..BatchHeader::default()
            };
        let record = |offset: i64, value: Option<Vec<u8>>| NewRecord {
            offset,
            timestamp: 1,
            key: Some(vec![offset as u8 % 3]),
            value,
            header: None,
        };
        world.append(header, &[record(base, Some(vec![1; 9])), record(base + 1, None)]);
        if base == 4 {
            world.end_transaction(6, (8, -1), false);
        }
        if base != 0 {
            world.roll();
        }
    }
    world
}

fn run(
    world: &World,
    sink: &mut impl Sink,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), CleanError> {
    run_from(0, world, sink, interrupted)
}

fn run_from(
    first_dirty_offset: i64,
    world: &World,
    sink: &mut impl Sink,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), CleanError> {
    let aborted: AbortedIndex = world.aborted().into_iter().collect();
    let pass = Pass {
        segments: &world.infos(),
        first_dirty_offset,
        first_uncleanable_offset: world.log_end(),
        aborted: &aborted,
        producers: &world.producers,
        settings: FilterSettings {
            now: 9,
            delete_retention_ms: 9,
            high_watermark: world.log_end(),
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
        },
        limits: GroupLimits { segment_bytes: 1, index_bytes: 1 },
        map_bytes: map_bytes(100),
        hash_key: &[0; 16],
        interrupted,
    };
    pass.run(&world.segments, sink).map(drop)
}

#[test]
fn damage_is_an_error_that_names_its_place() {
    let good = world();
    run(&good, &mut MemorySink::default(), &|| false).unwrap();
    let mut found = 0;
    for (at, segment) in good.segments.iter().enumerate() {
        let mut starts = Vec::new();
        let mut batches = segment.batches();
        while let Some((position, _)) = crate::cleaner::Batches::next(&mut batches).unwrap() {
            starts.push(position as usize);
        }
        for byte in 0..segment.log.len() {
            let start = *starts.iter().rfind(|start| **start <= byte).unwrap();
            if byte - start < CRC_AT {
                // The checksum does not cover these.
                continue;
            }
            let mut bad = world();
            bad.segments[at].log[byte] ^= 0x10;
            // The map finds damage in the dirty part, the filter finds it in the clean part.
            for first_dirty in [0, bad.log_end()] {
                match run_from(first_dirty, &bad, &mut MemorySink::default(), &|| false) {
                    Err(CleanError::Undecodable { segment: base, position, .. }) => {
                        assert_eq!((base, position as usize), (segment.base_offset, start));
                    }
                    other => panic!("byte {byte} of segment {at}: {other:?}"),
                }
            }
            // The map ends the pass before anything is written.
            let mut sink = MemorySink::default();
            run(&bad, &mut sink, &|| false).unwrap_err();
            assert!(sink.segments.is_empty());
            found += 1;
        }
    }
    assert!(found > 300, "{found}");
}

/// Damage behind a right checksum: a wrong count, a record that is cut short, a marker without type.
#[test]
fn records_that_do_not_match_their_header_are_damage() {
    let edit = |segment: usize, change: &dyn Fn(&mut BatchHeader, &mut Vec<u8>)| {
        let mut world = world();
        let log = &mut world.segments[segment].log;
        let (head, payload) = log.split_at(61);
        let mut header = BatchHeader::parse(head).unwrap();
        let size = header.total_bytes() - 61;
        let (mut first, rest) = (payload[..size].to_vec(), payload[size..].to_vec());
        change(&mut header, &mut first);
        *log = [&seal(&header, &first).unwrap()[..], &first, &rest].concat();
        match run(&world, &mut MemorySink::default(), &|| false) {
            Err(CleanError::Undecodable { error, .. }) => error,
            other => panic!("{other:?}"),
        }
    };
    let reason = |error| match error {
        DecodeError::Corrupt { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(edit(0, &|header, _| header.count = 1)), CorruptReason::Count);
    assert_eq!(
        reason(edit(0, &|_, payload| payload.truncate(payload.len() - 1))),
        CorruptReason::Length
    );
    assert_eq!(reason(edit(0, &|header, _| header.base_offset = 900)), CorruptReason::Offsets);
    let zstd = edit(1, &|_, payload| payload.truncate(9));
    assert_eq!(reason(zstd), CorruptReason::Compression);
    let to_marker = edit(0, &|header, _| {
        header.attributes = header.attributes.with_control(true);
    });
    assert!(matches!(to_marker, DecodeError::Corrupt { .. }));
}

#[test]
fn a_batch_that_is_cut_short_or_out_of_order_is_damage() {
    let mut short = world();
    short.segments[0].log.pop();
    let mut swapped = world();
    let log = &mut swapped.segments[1].log;
    let size = BatchHeader::parse(log).unwrap().total_bytes();
    log.rotate_left(size);
    let mut beyond = world();
    beyond.segments[0].end_offset -= 1;
    for bad in [short, swapped, beyond] {
        let result = run(&bad, &mut MemorySink::default(), &|| false);
        assert!(matches!(result, Err(CleanError::Undecodable { .. })), "{result:?}");
    }
}

#[test]
fn a_pass_stops_between_any_two_batches() {
    let world = world();
    let mut ended = false;
    for allowed in 0..100 {
        let asked = Cell::new(0);
        let interrupted = || asked.replace(asked.get() + 1) == allowed;
        match run(&world, &mut MemorySink::default(), &interrupted) {
            Err(CleanError::Interrupted) => assert!(!ended && asked.get() == allowed + 1),
            Ok(()) => ended = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(ended);
}

#[test]
fn a_map_without_room_is_an_error_unless_nothing_is_dirty() {
    let mut world = world();
    world.map_bytes = 47;
    let mut sink = MemorySink::default();
    let result = world.run(0, 0, world.log_end(), &mut sink);
    assert!(matches!(result, Err(CleanError::MapTooSmall { max_bytes: 47 })), "{result:?}");
    assert!(sink.segments.is_empty());
    world.run(0, world.log_end(), world.log_end(), &mut sink).unwrap();
    world.map_bytes = map_bytes(1);
    assert_eq!(world.run(0, 0, world.log_end(), &mut sink).unwrap().next_dirty_offset, 1);
}

/// A sink that fails at one of its calls.
struct Failing {
    calls_left: usize,
}

impl Failing {
    fn call(&mut self) -> Result<(), Error> {
        let left = self.calls_left.checked_sub(1);
        self.calls_left = left.ok_or(Error::LimitExceeded { what: "calls", found: 1, max: 0 })?;
        Ok(())
    }
}

impl Sink for Failing {
    fn begin(&mut self, _group: &[SegmentInfo]) -> Result<(), Error> {
        self.call()
    }
    fn batch(&mut self, _header: &BatchHeader, _bytes: &[u8]) -> Result<(), Error> {
        self.call()
    }
    fn aborted(&mut self, _transaction: &AbortedTransaction) -> Result<(), Error> {
        self.call()
    }
    fn end(&mut self, _stats: &Stats) -> Result<(), Error> {
        self.call()
    }
}

#[test]
fn an_error_of_the_sink_ends_the_pass() {
    let world = world();
    let mut calls = 0;
    while let Err(error) = run(&world, &mut Failing { calls_left: calls }, &|| false) {
        assert!(matches!(error, CleanError::Failed(Error::LimitExceeded { max: 0, .. })));
        assert_eq!(error.to_string(), "too many calls: 1 exceeds the limit of 0");
        calls += 1;
    }
    // Three segments begin and end; two data batches, a header and a marker stay, with one index entry.
    assert_eq!(calls, 3 * 2 + 4 + 1);
}
