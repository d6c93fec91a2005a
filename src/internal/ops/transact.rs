//! Transactions, idempotency ids and sequences of a named owner.

use super::Change;
use super::{GROUP, State, TOPICS, World, producer, record, value};
use crate::config::{Acks, ProducerConfig};
use crate::consumer::GroupMetadata;
use crate::producer::RecordMetadata;
use crate::types::TopicPartition;

const OWNER: &str = "o";
/// How many ids there are.
const IDS: u8 = 4;

/// What one frame changes together.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    records: Vec<Planned>,
    offsets: Vec<(usize, u32, i64)>,
    sequence: Option<i64>,
}

/// A record that is stored.
#[derive(Debug, Clone, Copy)]
struct Planned {
    topic: usize,
    partition: u32,
    number: u64,
    id: Option<u8>,
}

impl State {
    pub(super) fn apply_plan(&mut self, plan: &Plan) {
        for Planned { topic, partition, number, id } in &plan.records {
            let logs = self.topics.get_mut(topic).expect("it is there");
            let log = &mut logs[*partition as usize];
            if let Some(id) = id {
                self.ids.insert((*topic, *id), (*partition, log.len() as i64));
            }
            log.push(*number);
        }
        for (topic, partition, offset) in &plan.offsets {
            self.offsets.insert((*topic, *partition), *offset);
        }
        if let (Some(sequence), Some((_, last))) = (plan.sequence, &mut self.owner) {
            *last = Some(sequence);
        }
    }
}

/// Checks where a record with an id is.
fn check(metadata: &RecordMetadata, place: (u32, i64), is_known: bool) {
    assert_eq!((metadata.partition(), metadata.offset()), place, "{metadata:?}");
    assert_eq!(metadata.is_duplicate(), is_known, "{metadata:?}");
}

impl World {
    /// Sends a record with one of few ids. It is stored if the id is new.
    pub(super) fn send_id(&mut self, topic: usize, partition: u32, shape: u8) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let id = shape % IDS;
        let state = State::of(&self.changes);
        let known = state.ids.get(&(topic, id)).copied();
        let end = state.topics[&topic][partition as usize].len() as i64;
        let number = self.number();
        let new = Planned { topic, partition, number, id: Some(id) };
        let records = if known.is_none() { vec![new] } else { Vec::new() };
        let (value, compacts) = (value(number, usize::from(shape)), self.compacts);
        let change = Change::Transaction(Plan { records, ..Plan::default() });
        self.change(change, false, |broker| {
            let name = [b'i', id];
            let record = record(topic, partition, &value, compacts).id(&name);
            let sent = producer(broker, false)?.send(record)?;
            check(sent.metadata(), known.unwrap_or((partition, end)), known.is_some());
            Ok(())
        });
    }

    /// Lets a producer have the name. Returns whether it has.
    fn own(&mut self) -> bool {
        if self.owner.is_none() {
            let mut made = None;
            self.change(Change::Own, false, |broker| {
                let config = ProducerConfig::new().acks(Acks::Written).transactional_id(OWNER);
                made = Some(broker.producer_with(config)?);
                Ok(())
            });
            self.owner = made;
        }
        self.owner.is_some() && self.is_settled() && !self.memory.has_crashed()
    }

    /// Sends a record with a sequence, which may be one that was stored before.
    pub(super) fn send_sequenced(&mut self, topic: usize, partition: u32, shape: u8) {
        let Some(partition) = self.partition(topic, partition) else { return };
        if !self.own() {
            return;
        }
        let Some(owner) = self.owner.clone() else { return };
        let last = State::of(&self.changes).owner.and_then(|(_, last)| last);
        let sequence = (last.unwrap_or(-1) + i64::from(shape % 4) - 1).max(0);
        let is_old = last.is_some_and(|last| sequence <= last);
        let number = self.number();
        let new = Planned { topic, partition, number, id: None };
        let plan = if is_old {
            Plan::default()
        } else {
            Plan { records: vec![new], sequence: Some(sequence), ..Plan::default() }
        };
        let (value, compacts) = (value(number, usize::from(shape)), self.compacts);
        self.change(Change::Transaction(plan), false, |_| {
            let record = record(topic, partition, &value, compacts);
            let sent = owner.send_sequenced(sequence, record)?;
            assert_eq!(sent.is_none(), is_old, "{sequence} after {last:?}");
            Ok(())
        });
    }

    /// Commits, aborts or drops a transaction of records of both topics and the offset of one of them.
    pub(super) fn transact(&mut self, topic: usize, partition: u32, shape: u8) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let with_sequence = shape & 0x40 != 0;
        if with_sequence && !self.own() {
            return;
        }
        let state = State::of(&self.changes);
        let mut plan = Plan::default();
        for at in 0..usize::from(shape % 4) {
            let topic = (topic + at) % TOPICS.len();
            if let Some(partition) = self.partition(topic, at as u32 % 2) {
                plan.records.push(Planned { topic, partition, number: self.number(), id: None });
            }
        }
        let end = state.topics[&topic][partition as usize].len() as i64;
        if shape & 4 != 0 {
            plan.offsets.push((topic, partition, i64::from(shape) % (end + 1)));
        }
        let sequence = with_sequence && !plan.records.is_empty();
        plan.sequence =
            sequence.then(|| state.owner.and_then(|(_, last)| last).map_or(0, |last| last + 1));
        let ends = shape & 0x18;
        let change = match ends {
            0 | 8 => plan.clone(),
            _ => Plan::default(),
        };
        let owner = self.owner.clone().filter(|_| with_sequence);
        let compacts = self.compacts;
        self.change(Change::Transaction(change), false, |broker| {
            let producer = owner.map_or_else(|| producer(broker, false), Ok)?;
            let mut transaction = producer.begin()?;
            for (at, planned) in plan.records.iter().enumerate() {
                let value = value(planned.number, usize::from(shape));
                let record = record(planned.topic, planned.partition, &value, compacts);
                match plan.sequence {
                    Some(sequence) if at + 1 == plan.records.len() => {
                        assert!(transaction.send_sequenced(sequence, record)?, "{sequence} is new");
                    }
                    _ => transaction.send(record)?,
                }
            }
            for (topic, partition, offset) in &plan.offsets {
                let at = TopicPartition::new(TOPICS[*topic], *partition);
                transaction.send_offsets(&GroupMetadata::of_group(GROUP), [(at, *offset)])?;
            }
            match ends {
                0 | 8 => transaction.commit().map(|_| ()),
                16 => {
                    transaction.abort();
                    Ok(())
                }
                _ => {
                    drop(transaction);
                    Ok(())
                }
            }
        });
    }
}
