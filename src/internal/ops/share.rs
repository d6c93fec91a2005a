//! A share group: which records it has finished.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{COMPACTED, Change, GONE, State, TOPICS, World, may_be_missing};
use crate::broker::Broker;
use crate::config::{Acks, ShareConsumerConfig, ShareGroupConfig};
use crate::error::Result;
use crate::share::ShareRecord;

const GROUP: &str = "s";

/// Takes up to `records` records of a topic as a new member, which has gone when this returns: its records keep it.
fn take(broker: &Broker, topic: usize, records: u32, synced: bool) -> Result<Vec<ShareRecord>> {
    // Records that are given back must not run out of tries.
    let settings = ShareGroupConfig::new().delivery_count_limit(10_000);
    broker.admin().alter_share_group(GROUP, settings)?;
    let acks = if synced { Acks::Synced } else { Acks::Written };
    let config = ShareConsumerConfig::new().max_poll_records(records).acks(acks);
    let mut member = broker.share_consumer_with(GROUP, config)?;
    member.subscribe([TOPICS[topic]])?;
    Ok(member.poll(Duration::ZERO)?.collect())
}

/// Returns the offsets of a partition that the group has finished.
pub(super) fn finished(broker: &Broker, topic: usize, number: u32, end: i64) -> BTreeSet<i64> {
    let engine = &broker.engine;
    let topic = engine.registry.topic(TOPICS[topic]).expect("it is there");
    let progress = engine.share_progress(GROUP, &topic.logs[number as usize]);
    (0..end).filter(|offset| !progress.is_unfinished(*offset)).collect()
}

impl State {
    /// Returns whether the records that were seen are finished exactly if they are here. What compaction has removed is
    /// finished as well, also if the machine then lost power, and with it the new files: the record is there again.
    pub(super) fn has_finished_as(&self, seen: &Self) -> bool {
        let logs = seen.topics.iter().flat_map(|(topic, logs)| {
            (0..).zip(logs).map(move |(partition, log)| ((*topic, partition), log))
        });
        let was_removed = |(topic, partition): (usize, u32), log: &[u64], offset: i64| {
            let end = self.compacted.get(&partition).copied().filter(|_| topic == COMPACTED);
            let known = &self.topics[&topic][partition as usize];
            may_be_missing(known, log, offset as usize, end.unwrap_or(0))
        };
        let has = |state: &Self, place: &(usize, u32), offset: i64| {
            state.finished.get(place).is_some_and(|all| all.contains(&offset))
        };
        logs.into_iter().all(|(place, log)| {
            let mut there = (0..).zip(log).filter(|(_, number)| **number != GONE);
            there.all(|(offset, _)| match (has(self, &place, offset), has(seen, &place, offset)) {
                (false, true) => was_removed(place, log, offset),
                (known, found) => known == found,
            })
        })
    }
}

impl World {
    /// Takes records of a topic. Finishes one of them, and gives the others back.
    pub(super) fn share(&mut self, topic: usize, shape: u8) {
        if self.partition(topic, 0).is_none() {
            return;
        }
        let (synced, mut taken) = (shape & 0x20 != 0, Vec::new());
        self.call(false, |broker| {
            taken = take(broker, topic, u32::from(shape % 8) + 1, synced)?;
            Ok(())
        });
        if taken.is_empty() || self.memory.has_crashed() {
            return;
        }
        let state = State::of(&self.changes);
        for record in &taken {
            let place = (topic, record.partition());
            let finished = state.finished.get(&place);
            assert!(finished.is_none_or(|all| !all.contains(&record.offset())), "{self:?}");
            let log = &state.topics[&topic][record.partition() as usize];
            let header = || record.headers().next().and_then(|header| header.value());
            let bytes = record.value().or_else(header).expect("all have one");
            assert_eq!(
                bytes.first_chunk(),
                Some(&log[record.offset() as usize].to_be_bytes()),
                "{self:?}"
            );
        }
        let record = taken.swap_remove(usize::from(shape >> 3) % taken.len());
        drop(taken);
        if self.memory.has_crashed() {
            return;
        }
        let change = Change::Finish(topic, record.partition(), record.offset());
        self.change(change, synced, |_| match shape >> 6 {
            0 | 1 => record.accept(),
            2 => record.reject("no"),
            _ => record.cancel(),
        });
    }
}
