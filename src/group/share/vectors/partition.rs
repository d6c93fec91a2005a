//! Cases of one share-partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::section::Section;
use super::super::{
    AckType, Acknowledgement, Decision, Delivery, MemberNumber, Now, Reservation, SharePartition,
    ShareSettings, Span, State, Take,
};
use super::case::{Config, Keys, ack_type, configure, int, join, kafka_settings, text};
use super::log::Log;

/// A share-partition as an engine drives it: what is decided is journaled, and then applied.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) log: Log,
    pub(super) settings: ShareSettings,
    /// Whether it reads committed records alone.
    committed: bool,
    pub(super) partition: SharePartition,
    /// A checkpoint, and the frames behind it.
    image: Vec<u8>,
    journal: Vec<Vec<u8>>,
    members: BTreeMap<String, MemberNumber>,
    pub(super) letters: Vec<(i64, u16, &'static str)>,
    pub(super) at: i64,
    /// The last offset that has ever been in the window.
    entered: i64,
}

impl Driver {
    pub(super) fn new(log: Log, settings: ShareSettings, committed: bool, start: i64) -> Self {
        let mut partition = SharePartition::new(Arc::new(settings.clone()), start);
        partition.apply(&Section::log_start(log.start), Duration::ZERO);
        let mut image = Vec::new();
        partition.encode(&mut image);
        let (members, letters, journal) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (at, entered) = (0, -1);
        Self { log, settings, committed, partition, image, journal, members, letters, at, entered }
    }

    pub(super) fn member(&mut self, name: &str) -> MemberNumber {
        let next = MemberNumber(self.members.len() as u32 + 1);
        *self.members.entry(name.to_owned()).or_insert(next)
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: Duration::from_millis(self.at as u64), wall: self.at }
    }

    pub(super) fn commit(&mut self, decision: &Decision) {
        for letter in &decision.letters {
            for offset in letter.span.first..=letter.span.last {
                self.letters.push((offset, letter.count, letter.cause.message()));
            }
        }
        self.commit_section(&decision.section);
    }

    fn commit_section(&mut self, section: &Section) {
        if section.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        section.encode(&mut bytes);
        self.partition.apply(&Section::decode(&bytes).unwrap(), self.now().monotonic);
        self.journal.push(bytes);
    }

    pub(super) fn expire(&mut self) {
        let mut decision = Decision::default();
        while self.partition.decide_lock_ends(self.now(), &mut || 0, &mut decision) {
            self.commit(&decision);
            decision.clear();
        }
    }

    /// Reserves and starts in one go, as Kafka does.
    pub(super) fn acquire(&mut self, member: MemberNumber, max: u32) -> Vec<Delivery> {
        let Some(fetch) = self.partition.begin_fetch(self.now()) else { return Vec::new() };
        let read = self.log.read(fetch.from, fetch.to, self.committed);
        let mut got = Reservation::default();
        let take = Take { member, max, changes: usize::MAX, now: self.now() };
        let below = self.front_below_start(read.first_base());
        assert!(read.with(|read| self.partition.reserve(fetch, &read, &take, &mut got)));
        self.commit_section(&got.noticed);
        let mut decision = Decision::default();
        for delivery in &got.deliveries {
            self.partition.decide_start(member, delivery.span, self.now(), &mut decision).unwrap();
        }
        self.commit(&decision);
        self.entered = self.entered.max(self.partition.end());
        got.deliveries.sort_by_key(|delivery| delivery.span.first);
        let is_first =
            |first: &Delivery| below.is_some_and(|below| first.span.first == below.last + 1);
        if let Some(first) = got.deliveries.first_mut().filter(|first| is_first(first)) {
            first.span.first = below.unwrap().first;
        }
        got.deliveries
    }

    /// Returns the front of a batch that lies below the start. While members still hold records that the log start has
    /// passed, Kafka hands out the front of the next batch although it is below the start, too. Its acknowledgement has
    /// no effect. It does so for batches that were not in its window before. This engine reads from the position on and does not do that.
    fn front_below_start(&self, base: Option<i64>) -> Option<Span> {
        let start = self.partition.start();
        let held = self.partition.under_way(0).filter(|held| held.span.last < start);
        let last_held = held.map(|held| held.span.last).max()?;
        let is_new = |base: &i64| *base > last_held.max(self.entered);
        Span::new(base.filter(is_new)?, start - 1)
    }

    pub(super) fn restart(&mut self) {
        // Sometimes a checkpoint comes before.
        if self.journal.len() % 2 == 1 {
            self.image.clear();
            self.partition.encode(&mut self.image);
            self.journal.clear();
        }
        let settings = Arc::new(self.settings.clone());
        let mut partition = SharePartition::decode(&self.image, settings).unwrap();
        for bytes in &self.journal {
            partition.apply(&Section::decode(bytes).unwrap(), Duration::ZERO);
        }
        partition.opened();
        self.partition = partition;
        self.expire();
        self.image.clear();
        self.partition.encode(&mut self.image);
        self.journal.clear();
    }

    fn acknowledge(&mut self, member: MemberNumber, items: &Value) -> Option<&'static str> {
        let mut known = Vec::new();
        let mut unknown = false;
        for item in items.as_array().unwrap() {
            let item = item.as_array().unwrap();
            assert_eq!(item.len(), 3, "an item has first, last and type");
            let span = Span { first: int(&item[0]), last: int(&item[1]) };
            let types: Option<Vec<AckType<'_>>> = match &item[2] {
                Value::Array(each) => each.iter().map(ack_type).collect(),
                one => ack_type(one).map(|one| vec![one]),
            };
            let Some(types) = types else {
                unknown = true;
                break;
            };
            known.push((span, types));
        }
        let items: Vec<_> = known
            .iter()
            .map(|(span, types)| Acknowledgement { span: *span, delivery: None, types })
            .collect();
        let (mut decision, mut renewed) = (Decision::default(), Vec::new());
        let outcome = self.partition.decide_acknowledge(
            member,
            &items,
            self.now(),
            &mut || 0,
            &mut decision,
            &mut renewed,
        );
        self.partition.renew_all(&renewed, self.now());
        match outcome {
            Err(refusal) => Some(refusal.kafka_name()),
            Ok(()) if unknown => Some("InvalidRequest"),
            Ok(()) => {
                self.commit(&decision);
                None
            }
        }
    }

    fn states(&self) -> Value {
        let shown = self.partition.runs().flat_map(|(span, state, count, owner)| {
            (span.first..=span.last).map(move |offset| (offset, offset, (state, count, owner)))
        });
        let nothing = |offset| !self.log.has_data(offset) || self.log.is_aborted(offset);
        let shown = shown.filter(|(at, _, (state, ..))| !(state.is_finished() && nothing(*at)));
        let mut shown: Vec<_> = join(shown);
        while shown.last().is_some_and(|(.., (state, count, _))| state.is_waiting() && *count == 0)
        {
            shown.pop();
        }
        let name = |owner| {
            let found = self.members.iter().find(|(_, number)| **number == owner);
            found.map(|(name, _)| name.clone())
        };
        let shown = shown.into_iter().map(|(first, last, (state, count, owner))| match state {
            State::Available | State::Blocked => json!([first, last, "Available", count]),
            State::Acquired => json!([first, last, "Acquired", count, name(owner)]),
            other => json!([first, last, format!("{other:?}"), count]),
        });
        Value::Array(shown.collect())
    }

    fn check(&self, expect: &Value, delivered: &[Delivery], error: Option<&str>, dlq: bool) {
        let mut expect = Keys::of(expect);
        let mut same = |key: &str, found: Value| {
            if let Some(expected) = expect.take(key) {
                assert_eq!(&found, expected, "{key} at {}", self.at);
            }
        };
        let runs = delivered.iter().map(|one| (one.span.first, one.span.last, one.count));
        let runs: Vec<_> = join(runs).into_iter().map(|run| json!([run.0, run.1, run.2])).collect();
        same("delivered", json!(runs));
        same("error", json!(error));
        same("spso", json!(self.partition.start()));
        same("states", self.states());
        same("lag", json!(self.partition.lag(self.log.end, self.at).total));
        same("speo", json!(self.partition.end()));
        let mut letters: Vec<_> = self.letters.iter().filter(|_| dlq).collect();
        letters.sort();
        same("deadLetters", json!(letters));
        expect.finish();
    }

    fn step(&mut self, step: &Value, config: &mut Config) {
        let mut keys = Keys::of(step);
        keys.take("note");
        self.at = int(keys.take("at").unwrap());
        self.letters.clear();
        self.expire();
        let (mut delivered, mut error) = (Vec::new(), None);
        let member = keys.take("member").map(|name| self.member(text(name)));
        match text(keys.take("op").unwrap()) {
            "acquire" => {
                let max = int(keys.take("max").unwrap()) as u32;
                delivered = self.acquire(member.unwrap(), max);
            }
            "ack" => error = self.acknowledge(member.unwrap(), keys.take("items").unwrap()),
            "release" => self.end_session(member.unwrap()),
            "tick" => {}
            "logStart" => {
                let offset = int(keys.take("offset").unwrap());
                self.log.move_start(offset);
                self.commit_section(&Section::log_start(offset));
            }
            "append" => self.log.append(keys.take("batch").unwrap()),
            "compact" => self.log.compact(keys.take("remove").unwrap()),
            "config" => {
                configure(keys.take("set").unwrap(), &mut self.settings, config);
                self.committed = config.committed;
                self.partition.configure(Arc::new(self.settings.clone()));
            }
            "restart" => self.restart(),
            other => panic!("operation {other}"),
        }
        if let Some(expect) = keys.take("expect") {
            self.check(expect, &delivered, error, config.dlq);
        }
        keys.finish();
    }

    pub(super) fn end_session(&mut self, member: MemberNumber) {
        let mut decision = Decision::default();
        while self.partition.decide_session_end(member, self.now(), &mut || 0, &mut decision) {
            self.commit(&decision);
            decision.clear();
        }
    }
}

pub(super) fn run(case: &mut Keys<'_>) {
    let (mut settings, mut config) = (kafka_settings(), Config::default());
    if let Some(value) = case.take("config") {
        configure(value, &mut settings, &mut config);
    }
    let mut log = Log::default();
    (log.start, log.end) = (config.log_start, config.log_start);
    for batch in case.take("log").map_or(&Vec::new(), |log| log.as_array().unwrap()) {
        log.append(batch);
    }
    let start = config.spso.unwrap_or(config.log_start);
    let mut driver = Driver::new(log, settings, config.committed, start);
    for step in case.take("steps").unwrap().as_array().unwrap() {
        driver.step(step, &mut config);
    }
}
