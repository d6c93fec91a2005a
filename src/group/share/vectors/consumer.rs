//! Cases of consumers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::ledger::{AckMode, Ledger, Said, ToSend};
use super::super::{Acknowledgement, Decision, MemberNumber, Span};
use super::case::{Config, Keys, configure, int, join, kafka_settings, text};
use super::log::Log;
use super::partition::Driver;
use crate::types::AcquireMode;

const MAX_POLL_RECORDS: u32 = 500;

struct Consumer {
    member: MemberNumber,
    ledger: Ledger,
}

/// Sends words about records in one request. A refused one changes nothing.
fn send(driver: &mut Driver, consumer: &mut Consumer, to_send: &[ToSend]) -> Option<&'static str> {
    let types: Vec<_> = to_send.iter().map(|word| [word.said.as_type()]).collect();
    let items: Vec<_> = to_send
        .iter()
        .zip(&types)
        .map(|(word, types)| Acknowledgement {
            span: Span { first: word.place.1, last: word.place.1 },
            // Kafka's client does not say which delivery it means.
            delivery: None,
            types,
        })
        .collect();
    let (mut decision, mut renewed) = (Decision::default(), Vec::new());
    let (member, now) = (consumer.member, driver.now());
    let outcome = driver.partition.decide_acknowledge(
        member,
        &items,
        now,
        &mut || 0,
        &mut decision,
        &mut renewed,
    );
    driver.partition.renew_all(&renewed, now);
    if let Err(refusal) = outcome {
        return Some(refusal.kafka_name());
    }
    driver.commit(&decision);
    for word in to_send.iter().filter(|word| word.said == Said::Renew) {
        consumer.ledger.has_renewed(word.place, word.delivery);
    }
    None
}

type Runs = Vec<(i64, i64, u16)>;

fn poll(driver: &mut Driver, consumer: &mut Consumer) -> Result<(Runs, Vec<i64>), &'static str> {
    let to_send = consumer.ledger.before_poll().map_err(|_| "IllegalState")?;
    // What goes wrong is told to the callback; the poll goes on.
    let _told = send(driver, consumer, &to_send);
    let renewed = consumer.ledger.take_renewed();
    if !renewed.is_empty() {
        let offsets = renewed.iter().map(|((_, offset), _)| *offset).collect();
        return Ok((renewed.iter().map(|((_, at), count)| (*at, *at, *count)).collect(), offsets));
    }
    let deliveries = driver.acquire(consumer.member, MAX_POLL_RECORDS);
    for delivery in &deliveries {
        consumer.ledger.delivered(0, delivery.span, delivery.count);
    }
    let runs = deliveries.iter().map(|one| (one.span.first, one.span.last, one.count));
    Ok((runs.collect(), Vec::new()))
}

fn said(value: &Value) -> Said {
    match text(value) {
        "accept" => Said::Accept,
        "release" => Said::Release,
        "reject" => Said::Reject,
        "renew" => Said::Renew,
        other => panic!("type {other}"),
    }
}

fn step(
    driver: &mut Driver,
    consumers: &mut BTreeMap<String, Consumer>,
    step: &Value,
    config: &Config,
) {
    let mut keys = Keys::of(step);
    keys.take("note");
    let op = text(keys.take("op").unwrap());
    if op == "time" {
        driver.at = int(keys.take("at").unwrap());
        driver.expire();
        return keys.finish();
    }
    let name = text(keys.take("member").unwrap());
    let member = driver.member(name);
    let mode = if config.explicit { AckMode::Explicit } else { AckMode::Implicit };
    let mut consumer =
        consumers.remove(name).unwrap_or_else(|| Consumer { member, ledger: Ledger::new(mode) });
    let (mut found, mut renewed, mut error) = (Runs::new(), Vec::new(), None);
    match op {
        "poll" => match poll(driver, &mut consumer) {
            Ok(polled) => (found, renewed) = polled,
            Err(refused) => error = Some(refused),
        },
        "commit" => {
            let to_send = consumer.ledger.before_commit();
            error = send(driver, &mut consumer, &to_send);
        }
        "acknowledge" => {
            let place = (0, int(keys.take("offset").unwrap()));
            let outcome = consumer.ledger.say(place, said(keys.take("type").unwrap()));
            error = outcome.err().map(|_| "IllegalState");
        }
        "close" => {
            let to_send = consumer.ledger.before_close();
            error = send(driver, &mut consumer, &to_send);
            driver.end_session(member);
        }
        other => panic!("operation {other}"),
    }
    if op != "close" {
        consumers.insert(name.to_owned(), consumer);
    }
    if let Some(expect) = keys.take("expect") {
        let mut expect = Keys::of(expect);
        let runs: Vec<_> =
            join(found).into_iter().map(|run| json!([run.0, run.1, run.2])).collect();
        let expected = expect.take("error").cloned().unwrap_or(Value::Null);
        assert_eq!(json!(error), expected, "error of {step}");
        if let Some(expected) = expect.take("records") {
            assert_eq!(&json!(runs), expected, "records of {step}");
        }
        let expected = expect.take("renewed").cloned().unwrap_or(json!([]));
        assert_eq!(json!(renewed), expected, "renewed of {step}");
        expect.finish();
    }
    keys.finish();
}

pub(super) fn run(case: &mut Keys<'_>) {
    let (mut settings, mut config) = (kafka_settings(), Config::default());
    settings.acquire_mode = AcquireMode::RecordLimit;
    if let Some(value) = case.take("config") {
        configure(value, &mut settings, &mut config);
    }
    let mut log = Log::default();
    let records = int(case.take("records").unwrap());
    if records > 0 {
        log.append(&json!({"base": 0, "last": records - 1}));
    }
    let mut driver = Driver::new(log, settings, config.committed, 0);
    let mut consumers = BTreeMap::new();
    for one in case.take("steps").unwrap().as_array().unwrap() {
        step(&mut driver, &mut consumers, one, &config);
    }
}
