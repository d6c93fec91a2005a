//! The cases of kinds `producer` and `read`, on the state alone. The engine's readers run those of `read` again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use crate::producer_state::{
    Append, Completed, ControlBatch, End, Judged, Marker, ProducerStates, Refusal,
};
use crate::record::BatchHeader;

fn cases(kind: &str) -> Vec<Value> {
    let text = include_str!("../../../tests/vectors/transactions.json");
    let json: Value = serde_json::from_str(text).unwrap();
    let all = json["cases"].as_array().unwrap();
    all.iter().filter(|case| case["kind"] == kind).cloned().collect()
}

fn number(value: &Value, field: &str) -> Option<i64> {
    let found = &value[field];
    assert!(found.is_null() || found.is_i64(), "{field}: {found}");
    found.as_i64()
}

fn flag(value: &Value, field: &str) -> bool {
    let found = &value[field];
    assert!(found.is_null() || found.is_boolean(), "{field}: {found}");
    found.as_bool().unwrap_or_default()
}

/// Checks that a value has no field but these, so that no part of a case is passed over.
fn only(value: &Value, fields: &[&str]) {
    for field in value.as_object().unwrap().keys() {
        assert!(fields.contains(&field.as_str()), "unknown field {field}");
    }
}

/// A partition whose appends are judged.
struct Partition {
    states: ProducerStates,
    end: i64,
    now: i64,
    idle: i64,
}

/// Kafka's `producer.id.expiration.ms`.
const DAY: i64 = 86_400_000;

impl Partition {
    fn of(config: &Value) -> Self {
        if config.is_object() {
            only(config, &["producer.id.expiration.ms"]);
        }
        let idle = number(config, "producer.id.expiration.ms");
        Self { states: ProducerStates::new(5), end: 0, now: 0, idle: idle.unwrap_or(DAY) }
    }

    fn step(&mut self, step: &Value) -> Value {
        self.now = number(step, "at").unwrap_or(self.now);
        let mut got = match step["op"].as_str().unwrap() {
            "append" => self.append(step),
            "marker" => self.marker(step),
            other => return self.change(other, step),
        };
        got["lso"] = self.states.last_stable_offset(self.end).into();
        got
    }

    fn append(&mut self, step: &Value) -> Value {
        let fields =
            ["op", "id", "epoch", "sequence", "count", "transactional", "v2", "at", "expect"];
        only(step, &fields);
        let count = number(step, "count").unwrap_or(1);
        let offsets = json!([self.end, self.end + count - 1]);
        let Some(producer_id) = number(step, "id").filter(|id| *id >= 0) else {
            self.end += count;
            return json!({ "offsets": offsets });
        };
        let batch = Append {
            producer_id,
            epoch: number(step, "epoch").unwrap_or(0) as i16,
            sequence: number(step, "sequence").unwrap() as i32,
            count: count as i32,
            is_transactional: flag(step, "transactional"),
            is_v2: flag(step, "v2"),
            offset: self.end,
            now: self.now,
        };
        match self.states.append(&batch) {
            Ok(Judged::Taken) => {
                self.end += count;
                json!({ "offsets": offsets })
            }
            Ok(Judged::Duplicate(first, last)) => json!({ "duplicate": [first, last] }),
            Err(refusal) => json!({ "error": name(refusal) }),
        }
    }

    fn marker(&mut self, step: &Value) -> Value {
        let fields =
            ["op", "id", "epoch", "kind", "txnVersion", "coordinatorEpoch", "at", "expect"];
        only(step, &fields);
        let end = End {
            producer_id: number(step, "id").unwrap(),
            epoch: number(step, "epoch").unwrap_or(0) as i16,
            marker: Marker {
                aborts: aborts(&step["kind"]),
                coordinator_epoch: number(step, "coordinatorEpoch").unwrap_or(0) as i32,
            },
            is_v2: number(step, "txnVersion").unwrap_or(1) >= 2,
            offset: self.end,
            now: self.now,
        };
        match self.states.end(&end) {
            Ok(completed) => {
                let mut got = json!({ "offset": self.end });
                self.end += 1;
                if let Some(Completed { first_offset, last_offset, aborted }) = completed {
                    got["completed"] = json!([first_offset, last_offset]);
                    if let Some(entry) = aborted {
                        got["abortedEntry"] = described(entry);
                    }
                }
                got
            }
            Err(refusal) => json!({ "error": name(refusal) }),
        }
    }

    /// Steps that append nothing. They may tell the known producers or the last stable offset.
    fn change(&mut self, op: &str, step: &Value) -> Value {
        only(step, &["op", "at", "keeps", "id", "expect"]);
        match op {
            "expire" => self.states.expire(self.now, self.idle),
            "restart" => {
                let keeps = match step["keeps"].as_str().unwrap() {
                    "last" => 1,
                    "five" => 5,
                    other => panic!("unknown number {other}"),
                };
                self.states = std::mem::take(&mut self.states).restarted(keeps);
            }
            "forget" => self.states.forget(number(step, "id").unwrap()),
            other => panic!("unknown step {other}"),
        }
        let lso = self.states.last_stable_offset(self.end);
        json!({ "known": self.states.known(), "lso": lso })
    }
}

fn aborts(kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "abort" => true,
        "commit" => false,
        other => panic!("unknown marker {other}"),
    }
}

fn name(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::InvalidProducerEpoch => "InvalidProducerEpoch",
        Refusal::OutOfOrderSequence => "OutOfOrderSequence",
        Refusal::InvalidTxnState => "InvalidTxnState",
        Refusal::TransactionCoordinatorFenced => "TransactionCoordinatorFenced",
    }
}

fn described(entry: crate::producer_state::AbortedTransaction) -> Value {
    json!({
        "producerId": entry.producer_id,
        "firstOffset": entry.first_offset,
        "lastOffset": entry.last_offset,
        "lastStableOffset": entry.last_stable_offset,
    })
}

/// The fields that a case may leave out although the step has them. A marker tells its entry of the index only in
/// some cases.
const MAY_BE_LEFT_OUT: [&str; 3] = ["lso", "known", "abortedEntry"];

fn check_step(expected: &Value, got: &Value) {
    let fields = got.as_object().unwrap().keys().chain(expected.as_object().unwrap().keys());
    for field in fields {
        let left_out = expected[field].is_null() && MAY_BE_LEFT_OUT.contains(&field.as_str());
        assert!(left_out || expected[field] == got[field], "{expected} is not {got}");
    }
}

fn run_producer(case: &Value) {
    let mut partition = Partition::of(&case["config"]);
    for step in case["steps"].as_array().unwrap() {
        let got = partition.step(step);
        if step["expect"].is_object() {
            check_step(&step["expect"], &got);
        }
    }
}

/// Follows the log of a case without judging it. Returns its end, its last stable offset and the index.
fn followed(log: &Value) -> Value {
    let (mut states, mut index, mut end) = (ProducerStates::new(1), Vec::new(), 0);
    for batch in log.as_array().unwrap() {
        only(
            batch,
            &["base", "last", "records", "producerId", "epoch", "transactional", "control"],
        );
        let (base, last) = (number(batch, "base").unwrap(), number(batch, "last").unwrap());
        let attributes = BatchHeader::default().attributes;
        let header = BatchHeader {
            base_offset: base,
            last_offset_delta: (last - base) as i32,
            producer_id: number(batch, "producerId").unwrap_or(-1),
            producer_epoch: number(batch, "epoch").unwrap_or(0) as i16,
            attributes: attributes.with_transactional(flag(batch, "transactional")),
            ..BatchHeader::default()
        };
        let control = batch
            .get("control")
            .map(|kind| ControlBatch::End(Marker { aborts: aborts(kind), coordinator_epoch: 0 }));
        let completed = states.follow(&header, control);
        index.extend(completed.and_then(|completed| completed.aborted).map(described));
        end = last + 1;
    }
    json!({ "logEnd": end, "lso": states.last_stable_offset(end), "abortedIndex": index })
}

fn run_read(case: &Value) {
    let got = followed(&case["log"]);
    for field in ["logEnd", "lso", "abortedIndex"] {
        assert_eq!(case["expect"][field], got[field], "{field}");
    }
}

/// Runs `body` for every case of a kind. Returns the names of those that fail.
fn failing(kind: &str, body: impl Fn(&Value)) -> Vec<String> {
    let fails = |case: &Value| catch_unwind(AssertUnwindSafe(|| body(case))).is_err();
    let name = |case: &Value| case["name"].as_str().unwrap().to_owned();
    cases(kind).iter().filter(|case| fails(case)).map(name).collect()
}

#[test]
fn every_case_of_a_producer_holds() {
    assert!(cases("producer").len() >= 22);
    let failing = failing("producer", run_producer);
    assert!(failing.is_empty(), "{failing:#?}");
}

#[test]
fn every_log_has_its_index_and_last_stable_offset() {
    assert!(cases("read").len() >= 14);
    let failing = failing("read", run_read);
    assert!(failing.is_empty(), "{failing:#?}");
}

/// Each expectation of a step is compared: a case with a wrong one fails.
#[test]
fn a_wrong_expectation_fails_its_case() {
    for case in cases("producer") {
        for (at, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            for (field, expected) in step["expect"].as_object().unwrap() {
                let mut wrong = case.clone();
                wrong["steps"][at]["expect"][field] = match expected {
                    Value::Number(number) => json!(number.as_i64().unwrap() + 1),
                    Value::Array(_) => json!([77]),
                    _ => json!("Other"),
                };
                let run = || run_producer(&wrong);
                assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{}: {field}", case["name"]);
            }
        }
    }
}
