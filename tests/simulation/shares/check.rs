//! Dead letters as they appear, and what the groups say of themselves.

use std::time::Duration;

use grouplog::{Broker, Consumer, ConsumerConfig, ConsumerRecord, Result, TopicPartition};

use super::fate::{Letter, Number};
use super::look::number_of;
use super::member::Session;
use super::world::World;
use super::{DEAD, GROUPS};
use crate::member::unexpected;
use crate::world::{Step, violation};

/// Returns a consumer of all that a partition has.
pub(super) fn reader_of(broker: &Broker, topic: &str, partition: u32) -> Result<Consumer> {
    let mut consumer = broker.consumer_with(ConsumerConfig::new())?;
    consumer.assign([TopicPartition::new(topic, partition)])?;
    Ok(consumer)
}

impl World {
    /// Returns the dead letters that have come since the last call, each with its group and job.
    pub(super) fn new_letters(
        &mut self,
        session: &mut Session,
    ) -> Step<Vec<(usize, Number, Letter)>> {
        let mut letters = Vec::new();
        if session.letters.is_none() && session.broker.list_topics().iter().any(|name| name == DEAD)
        {
            session.letters = Some(reader_of(&session.broker, DEAD, 0).or_else(unexpected)?);
        }
        let Some(reader) = &mut session.letters else { return Ok(letters) };
        loop {
            let records = reader.poll(Duration::ZERO).or_else(unexpected)?;
            if records.is_empty() {
                return Ok(letters);
            }
            for record in &records {
                letters.push(self.letter_of(&record)?);
            }
        }
    }

    /// Checks that these dead letters have come since the last call, and no others.
    pub(super) fn expect_letters(
        &mut self,
        session: &mut Session,
        mut expected: Vec<(Number, Letter)>,
    ) -> Step {
        let letters = self.new_letters(session)?.into_iter();
        let mut letters: Vec<_> = letters.map(|(_, number, letter)| (number, letter)).collect();
        letters.sort();
        expected.sort();
        if letters != expected {
            return violation(format!("the dead letters are {letters:?}, not {expected:?}"));
        }
        for (_, letter) in letters {
            self.tally.count(format!("letters: {}", letter.message));
        }
        Ok(())
    }

    /// Returns the group and job of a dead letter, if it is a whole copy of what was sent.
    pub(super) fn letter_of(&self, record: &ConsumerRecord<'_>) -> Step<(usize, Number, Letter)> {
        let header = |name: &str| {
            let found = record.headers().find(|header| header.name_bytes() == name.as_bytes());
            let value = found.and_then(|header| header.value()).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let of = |name: &str| header(&format!("__dlq.errors.{name}"));
        let value = record.value().unwrap_or_default();
        let group = GROUPS.iter().position(|name| *name == of("group"));
        let number = number_of(value);
        let job = number.and_then(|number| self.jobs.get(&number));
        let (Some(group), Some(number), Some(job)) = (group, number, job) else {
            return violation(format!("a dead letter of nothing: {record:?}"));
        };
        let is_same = job.value == value && job.key.as_deref() == record.key();
        let from = (of("topic"), of("partition"), of("offset"), header("__dlq.copied"));
        let (topic, partition) = job.place.clone();
        let right = (topic, partition.to_string(), job.offset.to_string(), "true".to_owned());
        if !is_same || from != right {
            return violation(format!(
                "a dead letter of job {number} says {from:?}, not {right:?}"
            ));
        }
        let count = of("delivery.count").parse().unwrap_or(0);
        Ok((group, number, Letter { count, message: of("message") }))
    }

    /// Compares what the groups say of their jobs.
    pub(super) fn look(&mut self, session: &mut Session) -> Step {
        self.note("look");
        for (group, name) in GROUPS.into_iter().enumerate() {
            let summary = session.broker.admin().describe_share_group(name);
            let Ok(summary) = summary else { return violation(format!("{name} is not there")) };
            for row in summary.partitions {
                let place = (row.partition.topic().to_owned(), row.partition.partition());
                let here = self.history.now().iter().filter(|(number, fate)| {
                    fate.groups[group].open.is_some() && self.jobs[number].place == place
                });
                let here: Vec<Number> = here.map(|(number, _)| *number).collect();
                let held = here.iter().filter(|number| self.is_held(session, group, **number));
                let held = held.count() as u64;
                let unsure =
                    |number: &&Number| self.history.fate(**number).groups[group].may_have_ended;
                let (most, unsure) = (here.len(), here.iter().filter(unsure).count());
                let lags = (most - unsure) as u64..=most as u64;
                if !lags.contains(&row.lag) || row.under_way < held {
                    return violation(format!("{name} says {row:?}, {held} held of jobs {here:?}"));
                }
            }
        }
        Ok(())
    }
}
