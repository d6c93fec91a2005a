//! What a crash has left: each job's record, its dead letters and results, and whether it still comes.
//!
//! A copy of the folder is opened long after all locks and delays have ended, and an honest member of each group takes
//! whatever comes. So the delivery count of each job that is not finished is seen, and nothing of it is changed.

use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::ManualClock;
use grouplog::{Broker, ConsumerRecord, ShareGroupConfig, ShareRecord, Timestamp};

use super::check::reader_of;
use super::fate::{Fates, Number};
use super::world::World;
use super::{DEAD, GROUPS, RESULTS, TOPICS};
use crate::member::unexpected;
use crate::world::{Step, violation};

const DAY: Duration = Duration::from_hours(24);

/// Returns the number of the job with a value.
pub(super) fn number_of(value: &[u8]) -> Option<Number> {
    std::str::from_utf8(value.get(..8)?).ok()?.parse().ok()
}

impl World {
    /// Looks at what a crash would leave now, and compares it.
    pub(super) fn look_behind(&mut self) -> Step {
        let kind = self.kind_of_crash();
        self.note(format!("look behind {kind:?}"));
        let promised = self.history.promised(!matches!(kind, Crash::Kill));
        let seen = self.observe(self.memory.crash(kind, &self.random))?;
        self.history.explain(&seen, promised).or_else(violation).map(|_| ())
    }

    /// Returns what became of the jobs, as the folder of a process that has ended shows it.
    pub(super) fn observe(&mut self, left: Memory) -> Step<Fates> {
        self.latest = self.latest.max(self.wall());
        let later = Timestamp::from_millis(self.latest + 400 * DAY.as_millis() as i64);
        let clock = Arc::new(ManualClock::at(later));
        let opened = Broker::open_storage(Arc::new(left), self.config(&clock));
        let broker = opened.or_else(unexpected)?;
        let mut fates = Fates::new();
        self.read_jobs(&broker, &mut fates)?;
        self.read_results(&broker, &mut fates)?;
        self.read_letters(&broker, &mut fates)?;
        for (group, name) in GROUPS.into_iter().enumerate() {
            for (number, count) in drain(&broker, name)? {
                let fate = fates.entry(number).or_default();
                if fate.groups[group].open.replace(count).is_some() {
                    return violation(format!("job {number} comes twice in {name}"));
                }
            }
        }
        Ok(fates)
    }

    /// Reads a partition from its start to its end.
    fn read(
        &self,
        broker: &Broker,
        (topic, partition): (&str, u32),
        mut take: impl FnMut(&Self, &ConsumerRecord<'_>) -> Step,
    ) -> Step {
        let mut reader = reader_of(broker, topic, partition).or_else(unexpected)?;
        loop {
            let records = reader.poll(Duration::ZERO).or_else(unexpected)?;
            if records.is_empty() {
                return Ok(());
            }
            for record in &records {
                take(self, &record)?;
            }
        }
    }

    fn read_jobs(&self, broker: &Broker, fates: &mut Fates) -> Step {
        for topic in TOPICS {
            let partitions = broker.describe_topic(topic).map_or(0, |told| told.partitions.len());
            for partition in 0..partitions as u32 {
                self.read(broker, (topic, partition), |world, record| {
                    let number = number_of(record.value().unwrap_or_default());
                    let job = number.and_then(|number| Some((number, world.jobs.get(&number)?)));
                    match job {
                        Some((number, job))
                            if job.place == (topic.to_owned(), partition)
                                && job.offset == record.offset() =>
                        {
                            fates.entry(number).or_default().is_there = true;
                            Ok(())
                        }
                        other => violation(format!("{record:?} was not sent: {other:?}")),
                    }
                })?;
            }
        }
        Ok(())
    }

    fn read_results(&self, broker: &Broker, fates: &mut Fates) -> Step {
        if broker.describe_topic(RESULTS).is_err() {
            return Ok(());
        }
        self.read(broker, (RESULTS, 0), |_, record| {
            let number = number_of(record.value().unwrap_or_default());
            let group = GROUPS.iter().position(|name| record.key() == Some(name.as_bytes()));
            let (Some(number), Some(group)) = (number, group) else {
                return violation(format!("a result of nothing: {record:?}"));
            };
            fates.entry(number).or_default().groups[group].results += 1;
            Ok(())
        })
    }

    fn read_letters(&self, broker: &Broker, fates: &mut Fates) -> Step {
        if broker.describe_topic(DEAD).is_err() {
            return Ok(());
        }
        self.read(broker, (DEAD, 0), |world, record| {
            let (group, number, letter) = world.letter_of(record)?;
            fates.entry(number).or_default().groups[group].letters.push(letter);
            Ok(())
        })
    }
}

/// Takes all that comes in a group. Returns the jobs, with their counts before.
fn drain(broker: &Broker, name: &str) -> Step<Vec<(Number, u16)>> {
    let (mut all, admin) = (Vec::new(), broker.admin());
    // A job without a try left was under way. It comes once more, so that it is seen.
    let config = ShareGroupConfig::new().delivery_count_limit(10_000);
    admin.alter_share_group(name, config).or_else(unexpected)?;
    admin.pause_share_group(name, false).or_else(unexpected)?;
    let mut member = broker.share_consumer(name).or_else(unexpected)?;
    member.subscribe(TOPICS).or_else(unexpected)?;
    loop {
        let mut records = member.poll(Duration::ZERO).or_else(unexpected)?;
        let taken: Vec<ShareRecord> = records.by_ref().collect();
        if taken.is_empty() {
            break;
        }
        for record in &taken {
            let Some(number) = number_of(record.value().unwrap_or_default()) else {
                return violation(format!("{record:?} comes"));
            };
            all.push((number, record.delivery_count() - 1));
        }
        records.accept_all().or_else(unexpected)?;
    }
    let lag = admin.describe_share_group(name).map(|summary| summary.lag());
    if !matches!(lag, Ok(0)) {
        return violation(format!("{name} keeps jobs back: {lag:?}"));
    }
    Ok(all)
}
