//! Polls, and what members must get.

use std::time::Duration;

use grouplog::ShareRecord;
use grouplog::time::Clock;

use super::GROUPS;
use super::fate::{Number, OUT_OF_TRIES};
use super::history::Change;
use super::member::{Held, Session};
use super::world::World;
use crate::world::{Step, violation};

impl World {
    pub(super) fn poll_one(&mut self, session: &mut Session) -> Step {
        if session.members.is_empty() {
            return Ok(());
        }
        let at = self.below(session.members.len());
        self.poll(session, at).map(|_| ())
    }

    /// Polls once. The member holds what it got. Returns how much that is.
    pub(super) fn poll(&mut self, session: &mut Session, at: usize) -> Step<usize> {
        self.history.attempt_some(self.may_be_polled(session, at));
        let polled = session.members[at].consumer.poll(Duration::ZERO);
        self.alive()?;
        let records = match polled {
            Ok(records) => records.collect::<Vec<ShareRecord>>(),
            Err(error) => return violation(format!("a poll fails: {error:?}")),
        };
        let name = session.members[at].name.clone();
        self.note(format!("{name} polls {}", records.len()));
        self.take_letters_of_polls(session)?;
        let count = records.len();
        let group = session.members[at].group;
        check_last_tries(&records, self.options.groups[group].limit)?;
        self.note_silent_ends(session, at, count == 0);
        for record in records {
            self.check_delivery(session, at, record)?;
        }
        if count == 0 {
            self.check_nothing_is_due(session, at)?;
        }
        self.history.written();
        Ok(count)
    }

    /// Polls, and accepts all of it at once, or some and drops the rest.
    pub(super) fn poll_all(&mut self, session: &mut Session) -> Step {
        if session.members.is_empty() {
            return Ok(());
        }
        let at = self.below(session.members.len());
        let count = self.poll(session, at)?;
        let keep = session.members[at].held.len() - count;
        let accepts = self.one_in(2);
        while session.members[at].held.len() > keep {
            let last = session.members[at].held.len() - 1;
            self.accept_or_drop(session, at, last, accepts)?;
        }
        Ok(())
    }

    /// Returns what a poll may do to jobs, if it ends in the middle.
    fn may_be_polled(&self, session: &Session, at: usize) -> Vec<Change> {
        let member = &session.members[at];
        let (group, mut may) = (member.group, Vec::new());
        for (&number, fate) in self.history.now() {
            let Some(count) = fate.groups[group].open else { continue };
            let is_read = member.topics.contains(&self.jobs[&number].place.0.as_str());
            if !is_read || self.is_held(session, group, number) {
                continue;
            }
            if count >= self.options.groups[group].limit {
                may.push((number, self.given_up(group, number, count, OUT_OF_TRIES).0));
            } else {
                may.push((number, fate.open_at(group, Some(count + 1))));
            }
        }
        may
    }

    /// Notes dead letters of jobs whose locks have run out.
    fn take_letters_of_polls(&mut self, session: &mut Session) -> Step {
        for (group, number, letter) in self.new_letters(session)? {
            let open = self.history.fate(number).groups[group].open;
            let is_last = letter.count >= self.options.groups[group].limit;
            let is_right = open == Some(letter.count) && is_last && letter.message == OUT_OF_TRIES;
            if !is_right || self.is_held(session, group, number) {
                return violation(format!("job {number} is dead: {letter:?}, not {open:?}"));
            }
            self.note(format!("  job {number} of {} is out of tries", GROUPS[group]));
            self.tally.count("letters of locks that ended");
            let (fate, _) = self.given_up(group, number, letter.count, OUT_OF_TRIES);
            self.history.did(number, fate);
        }
        Ok(())
    }

    /// Notes the jobs that a poll may have given up without dead letters. An empty one has looked at all of them.
    fn note_silent_ends(&mut self, session: &Session, at: usize, is_sure: bool) {
        let group = session.members[at].group;
        if self.options.groups[group].has_letters {
            return;
        }
        for (number, fate) in self.may_be_polled(session, at) {
            let before = self.history.fate(number);
            if fate.groups[group].open.is_none() && is_sure && self.fault.is_none() {
                self.history.did(number, fate);
            } else if fate.groups[group].open.is_none() {
                let unsure = before.with(group, |standing| standing.may_have_ended = true);
                self.history.did(number, unsure);
            }
        }
    }

    fn check_delivery(&mut self, session: &mut Session, at: usize, record: ShareRecord) -> Step {
        let group = session.members[at].group;
        let count = record.delivery_count();
        let number = self.job_of(&record)?;
        let fate = self.history.fate(number);
        let name = GROUPS[group];
        self.note(format!("  job {number} of {name}, delivery {count}"));
        let open = fate.groups[group].open;
        let Some(before) = open.filter(|_| fate.is_there) else {
            return violation(format!("job {number} comes again in {name} after its end"));
        };
        if count != before + 1 || count > self.options.groups[group].limit {
            return violation(format!("job {number} has count {count} in {name} after {before}"));
        }
        if self.is_held(session, group, number) {
            return violation(format!("job {number} is under way twice in {name}"));
        }
        let due = self.jobs[&number].deliver_at.unwrap_or(0).max(fate.groups[group].due);
        if due > self.latest.max(self.wall()) {
            return violation(format!("job {number} comes in {name} before {due}"));
        }
        if self.is_paused[group] {
            return violation(format!("job {number} comes although {name} is paused"));
        }
        if self.options.groups[group].is_ordered {
            self.check_order(session, group, number)?;
        }
        self.tally.count(if count == 1 { "first deliveries" } else { "later deliveries" });
        self.history.did(number, fate.open_at(group, Some(count)));
        self.loose.insert((group, number), None);
        let lock_end = self.clock.monotonic() + self.options.groups[group].lock;
        let topic = self.jobs[&number].place.0.as_str();
        let deletions = self.deletions.get(topic).copied().unwrap_or(0);
        session.members[at].held.push(Held { number, count, lock_end, deletions, record });
        Ok(())
    }

    /// Returns the job of a record, if it is what was sent.
    fn job_of(&self, record: &ShareRecord) -> Step<Number> {
        let value = record.value().unwrap_or_default();
        let place = (record.topic().to_owned(), record.partition());
        let found = super::look::number_of(value)
            .and_then(|number| Some((number, self.jobs.get(&number)?)));
        match found {
            Some((number, job))
                if job.place == place
                    && job.offset == record.offset()
                    && job.value == value
                    && job.key.as_deref() == record.key() =>
            {
                Ok(number)
            }
            other => violation(format!("{record:?} is not what was sent: {other:?}")),
        }
    }

    /// Checks the order of a key, before a job of it is noted as delivered.
    fn check_order(&self, session: &Session, group: usize, number: Number) -> Step {
        let job = &self.jobs[&number];
        let is_new = self.history.fate(number).groups[group].open == Some(0);
        let others = self.same_key(group, number);
        for (other, known) in others {
            if self.is_held(session, group, other) {
                return violation(format!("jobs {other} and {number} of a key are under way"));
            }
            let may_have_ended = self.history.fate(other).groups[group].may_have_ended;
            let comes_first =
                known.offset < job.offset && known.deliver_at.is_none() && !may_have_ended;
            if is_new && comes_first {
                return violation(format!("job {number} comes before job {other} of its key"));
            }
        }
        Ok(())
    }

    /// Returns the other unfinished jobs of a job's key.
    fn same_key(
        &self,
        group: usize,
        number: Number,
    ) -> impl Iterator<Item = (Number, &super::fate::Job)> {
        let job = &self.jobs[&number];
        let open = self.history.now().iter();
        let open = open.filter(move |(_, fate)| fate.groups[group].open.is_some());
        open.map(|(other, _)| (*other, &self.jobs[other])).filter(move |(other, known)| {
            *other != number
                && known.place == job.place
                && known.key.is_some()
                && known.key == job.key
        })
    }

    /// Checks that there was nothing that a poll had to deliver.
    fn check_nothing_is_due(&mut self, session: &Session, at: usize) -> Step {
        let member = &session.members[at];
        let (group, options) = (member.group, self.options.groups[member.group]);
        if self.fault.is_some() || self.is_paused[group] {
            return Ok(());
        }
        let open = self.history.now().iter().filter_map(|(&number, fate)| {
            let count = fate.groups[group].open?;
            Some((number, count, fate.groups[group].until))
        });
        let open: Vec<_> = open.collect();
        for (number, count, until) in open {
            let is_read = member.topics.contains(&self.jobs[&number].place.0.as_str());
            if !is_read || self.is_held(session, group, number) {
                continue;
            }
            if count >= options.limit {
                return violation(format!("job {number} is out of tries and not given up"));
            }
            if options.backoff > 0
                && let Some(latest) = self.loose.get_mut(&(group, number))
                && latest.is_none()
            {
                // This poll has found out that its lock has ended, or an earlier one, when the clock may have shown more.
                *latest = Some(self.latest.max(self.clock.now().as_millis()) + options.backoff);
            }
            let until = until.max(self.loose.get(&(group, number)).copied().flatten().unwrap_or(0));
            let due = until.max(self.jobs[&number].deliver_at.unwrap_or(0));
            let waits = options.is_ordered && self.same_key(group, number).next().is_some();
            if due <= self.wall() && !waits && options.window.is_none() {
                return violation(format!("job {number} is not delivered, which is due"));
            }
        }
        Ok(())
    }
}

/// Checks that a job on its last try comes with no other one of its partition: it may end the process.
fn check_last_tries(records: &[ShareRecord], limit: u16) -> Step {
    for last in records.iter().filter(|record| limit > 2 && record.delivery_count() >= limit) {
        let same = |other: &&ShareRecord| other.topic_partition() == last.topic_partition();
        if records.iter().filter(same).count() > 1 {
            return violation(format!("{last:?} on its last try comes with others"));
        }
    }
    Ok(())
}
