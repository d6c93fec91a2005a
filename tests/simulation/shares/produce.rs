//! What producers send.

use std::time::Duration;

use grouplog::{Error, Record, RecordMetadata};

use super::fate::{Fate, Job, Number};
use super::history::Change;
use super::member::Session;
use super::world::World;
use crate::world::{Step, violation};

/// Returns a record with what a job says.
pub(super) fn record_of(job: &Job, delay: Option<Duration>) -> Record<'_> {
    let record = Record::to(&job.place.0).partition(job.place.1).value(&job.value);
    let record = match &job.key {
        Some(key) => record.key(key),
        None => record,
    };
    match delay {
        Some(delay) => record.deliver_after(delay),
        None => record,
    }
}

impl World {
    /// Returns a new job, which is to be appended next to its partition. `None` if there is no topic.
    pub(super) fn new_job(&mut self, delay: Option<Duration>) -> Option<Number> {
        if self.ends.is_empty() {
            return None;
        }
        let at = self.below(self.ends.len());
        let (place, end) = self.ends.iter_mut().nth(at)?;
        let (place, offset) = (place.clone(), *end);
        *end += 1;
        let number = self.jobs.last_key_value().map_or(1, |(last, _)| last + 1);
        let mut value = format!("{number:08}").into_bytes();
        value.resize(8 + self.below(self.options.value_bytes_max), b'.');
        let keys = self.options.keys;
        let key = (keys > 0).then(|| format!("k{}", self.below(keys)).into_bytes());
        let deliver_at = delay.map(|delay| self.wall() + delay.as_millis() as i64);
        self.jobs.insert(number, Job { place, offset, key, value, deliver_at });
        Some(number)
    }

    /// Returns the changes that the sending of jobs makes.
    pub(super) fn sent(numbers: &[Number]) -> Vec<Change> {
        numbers.iter().map(|number| (*number, Fate::sent())).collect()
    }

    pub(super) fn send(&mut self, session: &mut Session, is_delayed: bool) -> Step {
        let delay = Duration::from_millis([1, 500, 4000][self.below(3)]);
        let delay = is_delayed.then_some(delay);
        let Some(number) = self.new_job(delay) else { return Ok(()) };
        self.note(format!("send job {number} to {:?}, {delay:?}", self.jobs[&number].place));
        self.history.attempt(Self::sent(&[number]));
        let sent = session.written.send(record_of(&self.jobs[&number], delay));
        let metadata = sent.map(|delivery| delivery.metadata().clone());
        self.check_sent(&[number], metadata.map(|metadata| vec![metadata]))?;
        self.history.written();
        Ok(())
    }

    pub(super) fn send_synced(&mut self, session: &mut Session) -> Step {
        let Some(number) = self.new_job(None) else { return Ok(()) };
        self.note(format!("send job {number} to {:?}, synced", self.jobs[&number].place));
        self.history.attempt(Self::sent(&[number]));
        let sent = session.synced.send(record_of(&self.jobs[&number], None));
        let sent = match sent {
            Ok(delivery) => {
                let waited = delivery.wait();
                self.alive()?;
                waited
            }
            Err(error) => Err(error),
        };
        self.check_sent(&[number], sent.map(|metadata| vec![metadata]))?;
        self.history.synced();
        Ok(())
    }

    pub(super) fn send_all(&mut self, session: &mut Session) -> Step {
        let count = 2 + self.below(4);
        let numbers: Vec<Number> = (0..count).filter_map(|_| self.new_job(None)).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let places = numbers.iter().map(|number| (number, &self.jobs[number].place));
        self.note(format!("send jobs {:?}", places.collect::<Vec<_>>()));
        self.history.attempt(Self::sent(&numbers));
        let records = numbers.iter().map(|number| record_of(&self.jobs[number], None));
        let sent = session.written.send_all(records);
        self.check_sent(&numbers, sent.map(|all| all.metadata().collect()))?;
        self.history.written();
        Ok(())
    }

    /// Checks where jobs have got.
    fn check_sent(&mut self, numbers: &[Number], sent: Result<Vec<RecordMetadata>, Error>) -> Step {
        if let Err(error) = &sent {
            self.has_failed(error);
        }
        self.alive()?;
        let sent = sent.or_else(|error| violation(format!("jobs cannot be sent: {error:?}")))?;
        for (number, metadata) in numbers.iter().zip(sent) {
            let offset = self.jobs[number].offset;
            if metadata.offset() != offset {
                return violation(format!("job {number} is at {metadata:?}, not {offset}"));
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, session: &mut Session) -> Step {
        self.note("flush");
        let flushed = session.synced.flush();
        self.alive()?;
        flushed.or_else(|error| violation(format!("a flush fails: {error:?}")))?;
        self.history.synced();
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, session: &mut Session) -> Step {
        self.note("checkpoint");
        let done = session.broker.checkpoint();
        self.alive()?;
        done.or_else(|error| violation(format!("a checkpoint fails: {error:?}")))?;
        self.history.synced();
        Ok(())
    }
}
