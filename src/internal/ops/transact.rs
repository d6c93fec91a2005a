//! Transactions, idempotency ids and sequences of a named owner.

use super::Change;
use super::{GROUP, State, TOPICS, World, producer, record, value};
use crate::config::{Acks, ProducerConfig};
use crate::consumer::GroupMetadata;
use crate::error::Result;
use crate::producer::RecordMetadata;
use crate::transaction::Transaction;
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

/// A record that a transaction sends, and the place that the commit must report.
#[derive(Debug, Clone, Copy)]
struct Sent {
    record: Planned,
    place: (u32, i64),
    /// Whether its id is known, so that it is not stored.
    is_known: bool,
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

    /// Chooses the records of a transaction. They have one id or none, so a record may have that of an earlier one in
    /// its topic: of this transaction, or from before.
    fn choose_records(&mut self, state: &State, topic: usize, shape: u8) -> Vec<Sent> {
        let id = (shape & 0x20 != 0).then_some(shape >> 7 | (shape >> 1) & 2);
        let (mut after, mut all) = (state.clone(), Vec::new());
        for at in 0..usize::from(shape % 4) {
            let topic = (topic + at) % TOPICS.len();
            let Some(partition) = self.partition(topic, (at + at / 2) as u32 % 2) else { continue };
            let record = Planned { topic, partition, number: self.number(), id };
            let known = id.and_then(|id| after.ids.get(&(topic, id)).copied());
            let end = after.topics[&topic][partition as usize].len() as i64;
            if known.is_none() {
                after.apply_plan(&Plan { records: vec![record], ..Plan::default() });
            }
            let place = known.unwrap_or((partition, end));
            all.push(Sent { record, place, is_known: known.is_some() });
        }
        all
    }

    /// Commits, aborts or drops a transaction of records of both topics and the offset of one of them.
    pub(super) fn transact(&mut self, topic: usize, partition: u32, shape: u8) {
        let Some(partition) = self.partition(topic, partition) else { return };
        let with_sequence = shape & 0x40 != 0;
        if with_sequence && !self.own() {
            return;
        }
        let state = State::of(&self.changes);
        let sent = self.choose_records(&state, topic, shape);
        let stored = sent.iter().filter(|sent| !sent.is_known).map(|sent| sent.record);
        let mut plan = Plan { records: stored.collect(), ..Plan::default() };
        let end = state.topics[&topic][partition as usize].len() as i64;
        if shape & 4 != 0 {
            plan.offsets.push((topic, partition, i64::from(shape) % (end + 1)));
        }
        let sequence = with_sequence && !sent.is_empty();
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
            fill(&mut transaction, &plan, &sent, usize::from(shape), compacts)?;
            match ends {
                0 | 8 => {
                    let committed = transaction.commit()?;
                    assert_eq!(committed.len(), sent.len());
                    for (metadata, sent) in committed.metadata().zip(&sent) {
                        check(&metadata, sent.place, sent.is_known);
                    }
                    Ok(())
                }
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

/// Adds the records, and the offsets and the sequence of the plan, to a transaction.
fn fill(
    transaction: &mut Transaction,
    plan: &Plan,
    sent: &[Sent],
    bytes: usize,
    compacts: bool,
) -> Result<()> {
    for (at, Sent { record: planned, .. }) in sent.iter().enumerate() {
        let value = value(planned.number, bytes);
        let name = planned.id.map(|id| [b'i', id]);
        let mut record = record(planned.topic, planned.partition, &value, compacts);
        if let Some(name) = &name {
            record = record.id(name);
        }
        match plan.sequence {
            Some(sequence) if at + 1 == sent.len() => {
                assert!(transaction.send_sequenced(sequence, record)?, "{sequence} is new");
            }
            _ => transaction.send(record)?,
        }
    }
    for (topic, partition, offset) in &plan.offsets {
        let at = TopicPartition::new(TOPICS[*topic], *partition);
        transaction.send_offsets(&GroupMetadata::of_group(GROUP), [(at, *offset)])?;
    }
    Ok(())
}
