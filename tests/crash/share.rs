//! Steps of share groups.

use std::sync::Arc;
use std::time::Duration;

use grouplog::{Acks, ShareConsumerConfig, ShareGroupConfig, ShareRecord};

use crate::life::{End, Life, NOW, place, record, unexpected};
use crate::oracle::{Change, Job, Place, RecordModel};
use crate::script::{Outcome, ShareStep};

const GROUP: &str = "s";
/// The topic of dead letters.
const DEAD: &str = "d";
/// The most deliveries.
const LIMIT: u16 = 3;

impl Life {
    pub(crate) fn share_step(&mut self, step: ShareStep) -> Result<(), End> {
        match step {
            ShareStep::Settings => self.share_settings(),
            ShareStep::Work(topic, outcome) => self.work(&place(topic, 0), outcome),
            ShareStep::AcceptHeld => self.accept_held(),
        }
    }

    fn share_settings(&mut self) -> Result<(), End> {
        let config = ShareGroupConfig::new().dead_letter_topic(DEAD).delivery_count_limit(LIMIT);
        self.broker.admin().alter_share_group(GROUP, config).map_err(unexpected)?;
        self.acknowledge(Acks::Synced)
    }

    /// Returns the records that were delivered, and the first one that may be delivered next.
    fn next_job(&self, place: &Place) -> Option<(i64, u16)> {
        let state = self.history.state();
        let jobs = state.jobs.get(&(GROUP.to_owned(), place.clone()));
        (0..state.end(place)).find_map(|offset| match jobs.and_then(|jobs| jobs.get(&offset)) {
            None => Some((offset, 1)),
            Some(Job::Waiting(count)) => Some((offset, count + 1)),
            Some(Job::UnderWay(_) | Job::Done) => None,
        })
    }

    fn note(
        &mut self,
        place: &Place,
        jobs: Vec<(i64, Job)>,
        records: Vec<(Place, Arc<RecordModel>)>,
    ) {
        let (group, place) = (GROUP.to_owned(), place.clone());
        self.history.attempt(Change::Share { group, place, jobs, records });
    }

    /// Returns what an attempt ends with that was released: the record waits, or is a dead letter.
    fn released(&self, place: &Place, offset: i64, count: u16) -> (Job, Option<RecordModel>) {
        if count < LIMIT {
            return (Job::Waiting(count), None);
        }
        (Job::Done, Some(self.letter(place, offset, "delivery count exceeded", count)))
    }

    fn letter(&self, place: &Place, offset: i64, message: &str, count: u16) -> RecordModel {
        let log = &self.history.state().topics[&place.0][place.1 as usize];
        let source = &log[offset as usize];
        let mut headers = source.headers.clone();
        for (name, value) in [
            ("topic", place.0.as_str()),
            ("partition", &place.1.to_string()),
            ("offset", &offset.to_string()),
            ("group", GROUP),
            ("message", message),
            ("delivery.count", &count.to_string()),
        ] {
            headers.push((format!("__dlq.errors.{name}"), Some(value.as_bytes().to_vec())));
        }
        headers.push(("__dlq.copied".to_owned(), Some(b"true".to_vec())));
        let (key, value) = (source.key.clone(), source.value.clone());
        RecordModel { key, value, headers, timestamp: Some(NOW), id: None }
    }

    /// Notes that the locks of earlier lives end: a member that looks finds that out.
    fn note_lock_ends(&mut self, place: &Place) {
        let state = self.history.state();
        let jobs = state.jobs.get(&(GROUP.to_owned(), place.clone())).cloned().unwrap_or_default();
        let (mut ended, mut letters) = (Vec::new(), Vec::new());
        for (offset, job) in jobs {
            if let Job::UnderWay(count) = job
                && !self.kept.contains(&(place.clone(), offset))
            {
                let (job, letter) = self.released(place, offset, count);
                ended.push((offset, job));
                letters.extend(letter.map(|letter| (self::place(DEAD, 0), Arc::new(letter))));
            }
        }
        if !letters.is_empty() {
            self.note_dead_letter_topic();
        }
        if !ended.is_empty() {
            self.note(place, ended, letters);
        }
    }

    /// Notes that the topic of dead letters is created, if the next one will do so.
    fn note_dead_letter_topic(&mut self) {
        if !self.history.state().topics.contains_key(DEAD) {
            self.history.attempt(Change::Create { topic: DEAD.to_owned(), partitions: 1 });
        }
    }

    fn work(&mut self, place: &Place, outcome: Outcome) -> Result<(), End> {
        let config = ShareConsumerConfig::new().max_poll_records(1);
        let member = self.broker.share_consumer_with(GROUP, config);
        let mut member = member.map_err(unexpected)?;
        member.subscribe([place.0.as_str()]).map_err(unexpected)?;
        self.note_lock_ends(place);
        let next = self.next_job(place);
        if let Some((offset, count)) = next {
            self.note(place, vec![(offset, Job::UnderWay(count))], Vec::new());
        }
        let polled = member.poll(Duration::ZERO);
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        let job = polled.map_err(unexpected)?.next();
        let seen = job.as_ref().map(|job| (job.offset(), job.delivery_count()));
        if seen != next {
            // A record that waits looks as one that was never delivered. So after a power loss the count may be that of
            // a release which the history does not have any more. It never falls.
            match (seen, next) {
                (Some((offset, count)), Some((expected, least)))
                    if offset == expected && count > least && self.found > 0 =>
                {
                    self.note(place, vec![(offset, Job::UnderWay(count))], Vec::new());
                }
                _ => {
                    return Err(End::Violation(format!("{seen:?} is delivered, not {next:?}")));
                }
            }
        }
        if let Some(job) = job {
            self.end(place, job, outcome)?;
        }
        if matches!(outcome, Outcome::Keep | Outcome::Hold) {
            // A member that leaves would give its records back.
            std::mem::forget(member);
        }
        self.acknowledge(Acks::Written)
    }

    /// Accepts a record that was taken before.
    fn accept_held(&mut self) -> Result<(), End> {
        let Some(job) = self.held.pop() else { return Ok(()) };
        let place = place(job.topic(), job.partition());
        self.end(&place, job, Outcome::Accept)?;
        self.acknowledge(Acks::Written)
    }

    fn end(&mut self, place: &Place, job: ShareRecord, outcome: Outcome) -> Result<(), End> {
        let (offset, count) = (job.offset(), job.delivery_count());
        let dead = self::place(DEAD, 0);
        // A script may end before it has created the topic.
        let is_there = self.history.state().topics.contains_key("b");
        let outcome = match outcome {
            Outcome::Transact if !is_there => Outcome::Accept,
            other => other,
        };
        let done = match outcome {
            Outcome::Accept => {
                self.note(place, vec![(offset, Job::Done)], Vec::new());
                job.accept()
            }
            Outcome::Reject => {
                let letter = self.letter(place, offset, "bad", count);
                self.note_dead_letter_topic();
                self.note(place, vec![(offset, Job::Done)], vec![(dead, Arc::new(letter))]);
                job.reject("bad")
            }
            Outcome::Release => {
                let (state, letter) = self.released(place, offset, count);
                if letter.is_some() {
                    self.note_dead_letter_topic();
                }
                let letters = letter.map(|letter| (dead, Arc::new(letter)));
                self.note(place, vec![(offset, state)], letters.into_iter().collect());
                job.release()
            }
            Outcome::Keep => {
                self.kept.insert((place.clone(), offset));
                std::mem::forget(job);
                Ok(())
            }
            Outcome::Hold => {
                self.kept.insert((place.clone(), offset));
                self.held.push(job);
                Ok(())
            }
            Outcome::Transact => {
                let target = self::place("b", 0);
                let value = self.value(50);
                let made = Arc::new(self.model(&target, value));
                let records = vec![(target.clone(), Arc::clone(&made))];
                self.note(place, vec![(offset, Job::Done)], records);
                let mut transaction = self.written.begin().map_err(unexpected)?;
                transaction.send(record(&target, &made)).map_err(unexpected)?;
                transaction.accept(job).map_err(unexpected)?;
                transaction.commit().map(|_| ())
            }
        };
        if self.memory.has_crashed() {
            return Err(End::Crash);
        }
        done.map_err(unexpected)
    }
}
