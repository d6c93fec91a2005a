//! Runs the cases of `tests/vectors/share.json` and `share_more.json`. An unknown key, operation or expectation is a failure.

mod case;
mod consumer;
mod log;
mod partition;

use serde_json::Value;

use super::initial_start;
use crate::types::OffsetReset;
use case::{Keys, int, text};

fn init(case: &mut Keys<'_>) {
    let mut config = Keys::of(case.take("config").unwrap());
    let reset: OffsetReset = text(config.take("reset").unwrap()).parse().unwrap();
    config.finish();
    let mut log = Keys::of(case.take("log").unwrap());
    let bounds = (int(log.take("start").unwrap()), int(log.take("end").unwrap()));
    let times: Vec<(i64, i64)> = log
        .take("times")
        .map(|times| {
            times.as_array().unwrap().iter().map(|at| (int(&at[0]), int(&at[1]))).collect()
        })
        .unwrap_or_default();
    log.finish();
    let stored = case.take("stored").map(|stored| {
        let mut stored = Keys::of(stored);
        let spso = int(stored.take("spso").unwrap());
        stored.finish();
        spso
    });
    let now = case.take("now").map_or(0, int);
    let at = |time| times.iter().find(|(_, of)| *of >= time).map(|(offset, _)| *offset);
    let start = initial_start(reset, stored, bounds, now, at);
    let mut expect = Keys::of(case.take("expect").unwrap());
    assert_eq!(start, int(expect.take("spso").unwrap()), "spso");
    expect.finish();
}

fn run(case: &Value) {
    let mut case = Keys::of(case);
    for unused in ["name", "source", "note"] {
        case.take(unused);
    }
    match text(case.take("kind").unwrap()) {
        "partition" => partition::run(&mut case),
        "consumer" => consumer::run(&mut case),
        "init" => init(&mut case),
        other => panic!("kind {other}"),
    }
    case.finish();
}

#[test]
fn every_case_of_the_vectors_holds() {
    let given = include_str!("../../../../tests/vectors/share.json");
    let more = include_str!("../../../../tests/vectors/share_more.json");
    let all = [given, more].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let cases: Vec<_> = all.iter().flat_map(|all| all["cases"].as_array().unwrap()).collect();
    let mut failed = Vec::new();
    for case in &cases {
        let outcome = std::panic::catch_unwind(|| run(case));
        if outcome.is_err() {
            failed.push(case["name"].clone());
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases.len());
    assert!(cases.len() >= 85);
}
