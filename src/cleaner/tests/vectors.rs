//! The worked cases of `tests/vectors/compaction.json`. Each names itself when it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;

use super::world::{NewRecord, World, horizon};
use crate::cleaner::{LogInfo, SegmentInfo, SelectSettings, select};
use crate::record::{BatchHeader, Compression};

fn cases(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../tests/vectors/compaction.json");
    let json: Value = serde_json::from_str(text).unwrap();
    let all = json["cases"].as_array().unwrap();
    all.iter().filter(|case| case["kind"] == kind).cloned().collect()
}

/// Runs `body` for every case of a kind. Returns the names of those that fail.
fn failing(kind: &str, body: impl Fn(&Value)) -> Vec<String> {
    let name = |case: &Value| case["name"].as_str().unwrap().to_owned();
    let fails = |case: &Value| catch_unwind(AssertUnwindSafe(|| body(case))).is_err();
    cases(kind).iter().filter(|case| fails(case)).map(name).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBatch {
    base: i64,
    #[serde(default)]
    records: Vec<(i64, Value, Option<String>)>,
    producer: Option<Producer>,
    #[serde(default)]
    transactional: bool,
    control: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Producer {
    id: i64,
    epoch: i16,
    sequence: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Expected {
    offsets: Vec<i64>,
    batches: Vec<(i64, i64, usize, Option<i64>)>,
    next_dirty: i64,
    aborted_index: Vec<(i64, i64, i64)>,
}

fn parse<T: for<'a> Deserialize<'a>>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// Returns a map limit that makes room for exactly so many keys.
pub(super) fn map_bytes(keys: u64) -> usize {
    24 * usize::try_from((keys * 10).div_ceil(9)).unwrap()
}

fn world(config: &Value) -> World {
    let mut world = World::default();
    for (key, value) in config.as_object().unwrap() {
        match key.as_str() {
            "delete.retention.ms" => world.delete_retention_ms = value.as_i64().unwrap(),
            "mapSlots" => world.map_bytes = map_bytes(value.as_u64().unwrap()),
            "highWatermark" => world.high_watermark = Some(value.as_i64().unwrap_or(i64::MAX)),
            "segment.bytes" => world.segment_bytes = value.as_u64().unwrap(),
            other => panic!("unknown setting {other}"),
        }
    }
    world
}

fn append(world: &mut World, batch: NewBatch, codec: Compression) {
    let producer = batch.producer.unwrap_or(Producer { id: -1, epoch: -1, sequence: None });
    if let Some(control) = batch.control {
        let commit = match control.as_str() {
            "commit" => true,
            "abort" => false,
            other => panic!("unknown marker {other}"),
        };
        return world.end_transaction(batch.base, (producer.id, producer.epoch), commit);
    }
    let last = batch.records.last().unwrap().0;
    let attributes = BatchHeader::default().attributes;
    let header = BatchHeader {
        base_offset: batch.base,
        leader_epoch: 7,
        attributes: attributes.with_compression(codec).with_transactional(batch.transactional),
        last_offset_delta: i32::try_from(last - batch.base).unwrap(),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.sequence.unwrap_or(-1),
        ..BatchHeader::default()
    };
    let record = |(offset, key, value): (i64, Value, Option<String>)| NewRecord {
        offset,
        timestamp: 1000 + offset,
        key: (!key.is_null()).then(|| key.to_string().into_bytes()),
        value: value.map(String::into_bytes),
        header: None,
    };
    let records: Vec<_> = batch.records.into_iter().map(record).collect();
    world.append(header, &records);
}

fn clean(world: &mut World, step: &Value) {
    let dirty = step["dirty"].as_i64().unwrap_or(world.next_dirty);
    let active = world.segments.last().unwrap().base_offset;
    let uncleanable = step["uncleanable"].as_i64().unwrap_or(active);
    let cleaned = world.clean(step["now"].as_i64().unwrap(), dirty, uncleanable).unwrap();
    let expected: Expected = parse(&step["expect"]);
    let batches = world.batches();
    let offsets: Vec<_> = batches.iter().flat_map(|(_, r)| r.iter().map(|r| r.0)).collect();
    let batch = |(h, records): &(BatchHeader, Vec<_>)| {
        (h.base_offset, h.last_offset(), records.len(), horizon(h))
    };
    let aborted = world.aborted().into_iter();
    let aborted: Vec<_> =
        aborted.map(|entry| (entry.producer_id, entry.first_offset, entry.last_offset)).collect();
    assert_eq!(batches.iter().map(batch).collect::<Vec<_>>(), expected.batches, "batches");
    assert_eq!(offsets, expected.offsets, "offsets");
    assert_eq!(cleaned.next_dirty_offset, expected.next_dirty, "next dirty offset");
    assert_eq!(aborted, expected.aborted_index, "aborted transactions");
}

fn run_clean(case: &Value, codec: Compression) {
    let mut world = world(&case["config"]);
    for step in case["steps"].as_array().unwrap() {
        match step["op"].as_str().unwrap() {
            "append" => append(&mut world, parse(&step["batch"]), codec),
            "roll" => world.roll(),
            "expireProducers" => world.expire(&parse::<Vec<i64>>(&step["ids"])),
            "clean" => clean(&mut world, step),
            other => panic!("unknown step {other}"),
        }
    }
}

#[test]
fn every_case_of_a_pass_holds() {
    assert!(cases("clean").len() >= 27);
    for codec in [Compression::None, Compression::Zstd] {
        let failing = failing("clean", |case| run_clean(case, codec));
        assert!(failing.is_empty(), "{codec}: {failing:#?}");
    }
}

/// Each number and each list of a case is compared: a case with a wrong one fails.
#[test]
fn a_wrong_expectation_fails_its_case() {
    for case in cases("clean") {
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            if step["op"] != "clean" {
                continue;
            }
            for field in ["offsets", "batches", "abortedIndex", "nextDirty"] {
                let mut wrong = case.clone();
                match &mut wrong["steps"][at]["expect"][field] {
                    Value::Array(list) if list.is_empty() => {
                        list.push(serde_json::json!([9, 9, 9]));
                    }
                    Value::Array(list) => drop(list.pop()),
                    number => *number = (number.as_i64().unwrap() + 1).into(),
                }
                let run = || run_clean(&wrong, Compression::None);
                let name = &case["name"];
                assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{name}: {field}");
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ExpectedSelection {
    dirty: i64,
    uncleanable: i64,
    clean_bytes: u64,
    cleanable_bytes: u64,
    ratio: f64,
    must_clean_now: bool,
    chosen: bool,
    reset_checkpoint: bool,
}

fn segments(case: &Value) -> Vec<SegmentInfo> {
    let raw = case["segments"].as_array().unwrap();
    let number = |segment: &Value, field: &str| segment[field].as_i64().unwrap();
    let info = |(at, segment): (usize, &Value)| {
        let base = number(segment, "base");
        let end =
            raw.get(at + 1).map_or(base + number(segment, "count"), |next| number(next, "base"));
        SegmentInfo {
            base_offset: base,
            end_offset: end,
            log_bytes: u64::try_from(number(segment, "size")).unwrap(),
            index_bytes: 0,
            time_index_bytes: 0,
            first_timestamp: number(segment, "firstTs"),
            largest_timestamp: number(segment, "maxTs"),
        }
    };
    raw.iter().enumerate().map(info).collect()
}

fn run_select(case: &Value) {
    let segments = segments(case);
    let setting = |key: &str, default: i64| case["config"][key].as_i64().unwrap_or(default);
    let settings = SelectSettings {
        min_cleanable_dirty_ratio: case["config"]["min.cleanable.dirty.ratio"]
            .as_f64()
            .unwrap_or(0.5),
        min_compaction_lag_ms: setting("min.compaction.lag.ms", 0),
        max_compaction_lag_ms: setting("max.compaction.lag.ms", i64::MAX),
    };
    let log_end_offset =
        case["end"].as_i64().unwrap_or_else(|| segments.last().unwrap().end_offset);
    let log = LogInfo {
        segments: &segments,
        log_start_offset: case["logStart"].as_i64().unwrap_or(segments[0].base_offset),
        log_end_offset,
        last_stable_offset: case["lso"].as_i64().unwrap_or(log_end_offset),
        durable_end_offset: log_end_offset,
        checkpoint: case["checkpoint"].as_i64(),
    };
    let selection = select(&log, &settings, case["now"].as_i64().unwrap());
    let expected: ExpectedSelection = parse(&case["expect"]);
    assert_eq!(selection.first_dirty_offset, expected.dirty);
    assert_eq!(selection.first_uncleanable_offset, expected.uncleanable);
    assert_eq!(selection.clean_bytes, expected.clean_bytes);
    assert_eq!(selection.cleanable_bytes, expected.cleanable_bytes);
    assert!((selection.ratio() - expected.ratio).abs() < 1e-6, "{}", selection.ratio());
    assert_eq!(selection.must_clean_now, expected.must_clean_now);
    assert_eq!(selection.not_cleaned.is_none(), expected.chosen, "{:?}", selection.not_cleaned);
    assert_eq!(selection.reset_checkpoint, expected.reset_checkpoint);
}

#[test]
fn every_case_of_the_selection_holds() {
    assert!(cases("select").len() >= 8);
    let failing = failing("select", run_select);
    assert!(failing.is_empty(), "{failing:#?}");
}

#[test]
fn a_wrong_selection_fails_its_case() {
    for case in cases("select") {
        for field in case["expect"].as_object().unwrap().keys() {
            let mut wrong = case.clone();
            match &mut wrong["expect"][field] {
                Value::Bool(flag) => *flag = !*flag,
                number if number.is_f64() => *number = (number.as_f64().unwrap() + 0.01).into(),
                number => *number = (number.as_i64().unwrap() + 1).into(),
            }
            assert!(catch_unwind(|| run_select(&wrong)).is_err(), "{}: {field}", case["name"]);
        }
    }
}
