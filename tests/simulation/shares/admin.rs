//! What administrators and operators do, and time.

use std::io;
use std::time::Duration;

use grouplog::time::Clock;
use grouplog::{Error, OffsetScope, ResetTo, Timestamp, TopicConfig};

use super::action::Action;
use super::fate::Number;
use super::history::Change;
use super::member::Session;
use super::world::World;
use super::{CONSUMED, GROUPS, TOPICS};
use crate::member::partition;
use crate::oracle::Place;
use crate::world::{Step, violation};

/// The message of a letter whose job an operator has given up.
const BY_HAND: &str = "client rejected";

impl World {
    pub(super) fn create_topic(&mut self, session: &mut Session) -> Step {
        let name = TOPICS[self.below(TOPICS.len())];
        if self.ends.keys().any(|place| place.0 == name) {
            return Ok(());
        }
        self.create(session, name)
    }

    fn create(&mut self, session: &Session, name: &str) -> Step {
        let partitions = 1 + self.below(self.options.partitions_max) as u32;
        self.note(format!("create {name} {partitions}"));
        let config =
            TopicConfig::new().partitions(partitions).segment_bytes(self.options.segment_bytes);
        let consumed = if name == CONSUMED { &GROUPS[..1] } else { &[] };
        let created =
            session.broker.create_topic(name, config.retention_consumed(consumed.iter().copied()));
        self.alive()?;
        match created {
            Ok(()) => {}
            Err(error) => return violation(format!("{name} cannot be created: {error:?}")),
        }
        self.history.synced();
        self.ends.extend((0..partitions).map(|number| ((name.to_owned(), number), 0)));
        Ok(())
    }

    /// Returns the jobs whose records are in some partitions.
    fn there(&self, is_meant: impl Fn(&Place, i64) -> bool) -> Vec<Number> {
        let there = self.history.now().iter().filter(|(number, fate)| {
            let job = &self.jobs[number];
            fate.is_there && is_meant(&job.place, job.offset)
        });
        there.map(|(number, _)| *number).collect()
    }

    /// Returns the changes that the deletion of jobs makes.
    fn gone(&self, numbers: &[Number]) -> Vec<Change> {
        numbers.iter().map(|number| (*number, self.history.fate(*number).gone())).collect()
    }

    pub(super) fn delete_topic(&mut self, session: &mut Session) -> Step {
        let name = TOPICS[self.below(TOPICS.len())];
        if !self.ends.keys().any(|place| place.0 == name) {
            return Ok(());
        }
        self.note(format!("delete {name}"));
        let jobs = self.there(|place, _| place.0 == name);
        self.history.attempt(self.gone(&jobs));
        let deleted = session.broker.delete_topic(name);
        self.alive()?;
        deleted.or_else(|error| violation(format!("{name} cannot be deleted: {error:?}")))?;
        self.history.synced();
        *self.deletions.entry(name).or_default() += 1;
        self.ends.retain(|place, _| place.0 != name);
        if self.one_in(2) { self.create(session, name) } else { Ok(()) }
    }

    fn any_place(&self) -> Option<(Place, i64)> {
        let count = self.ends.len();
        let at = if count == 0 { 0 } else { self.below(count) };
        self.ends.iter().nth(at).map(|(place, end)| (place.clone(), *end))
    }

    pub(super) fn delete_records(&mut self, session: &mut Session) -> Step {
        let Some((place, end)) = self.any_place() else { return Ok(()) };
        let before = self.below(end as usize + 1) as i64;
        self.note(format!("delete the jobs of {place:?} below {before}"));
        let jobs = self.there(|of, offset| *of == place && offset < before);
        self.history.attempt(self.gone(&jobs));
        let deleted = session.broker.admin().delete_records(&partition(&place), before);
        self.alive()?;
        deleted.or_else(|error| violation(format!("jobs cannot be deleted: {error:?}")))?;
        self.history.synced();
        Ok(())
    }

    /// Retention may take what the first group has ended, and nothing else.
    pub(super) fn retain(&mut self, session: &mut Session) -> Step {
        if !self.ends.keys().any(|place| place.0 == CONSUMED) {
            return Ok(());
        }
        self.note(format!("retention of {CONSUMED}"));
        let may = self.there(|place, _| place.0 == CONSUMED);
        let may: Vec<Number> = may.into_iter().filter(|number| self.is_ended(*number)).collect();
        self.history.attempt_some(self.gone(&may));
        let done = session.broker.admin().run_retention_of(CONSUMED);
        self.alive()?;
        done.or_else(|error| violation(format!("retention fails: {error:?}")))?;
        let topic = session.broker.describe_topic(CONSUMED);
        let topic = topic.or_else(|error| violation(format!("{CONSUMED}: {error:?}")))?;
        let mut takes = false;
        for told in topic.partitions {
            let start = told.start_offset;
            let place = (CONSUMED.to_owned(), told.partition.partition());
            for number in self.there(|of, offset| *of == place && offset < start) {
                if !self.is_ended(number) {
                    return violation(format!("retention takes job {number}, which is not ended"));
                }
                self.tally.count("jobs taken by retention");
                self.history.did(number, self.history.fate(number).gone());
                takes = true;
            }
        }
        // What goes was made durable before.
        if takes {
            self.history.synced();
        }
        self.history.written();
        Ok(())
    }

    fn is_ended(&self, number: Number) -> bool {
        let standing = &self.history.fate(number).groups[0];
        standing.open.is_none() || standing.may_have_ended
    }

    pub(super) fn pause(&mut self, session: &mut Session) -> Step {
        let group = self.below(GROUPS.len());
        let paused = !self.is_paused[group] && self.one_in(2);
        self.note(format!("{} is paused: {paused}", GROUPS[group]));
        let done = session.broker.admin().pause_share_group(GROUPS[group], paused);
        self.alive()?;
        done.or_else(|error| violation(format!("no pause: {error:?}")))?;
        self.is_paused[group] = paused;
        self.history.synced();
        Ok(())
    }

    /// Lets all members of a group leave, also those that say nothing any more.
    fn end_members(&mut self, session: &mut Session, group: usize) -> Step {
        for from_vanished in [false, true] {
            loop {
                let members =
                    if from_vanished { &mut session.vanished } else { &mut session.members };
                let Some(at) = members.iter().position(|member| member.group == group) else {
                    break;
                };
                let member = members.swap_remove(at);
                self.leave(session, member)?;
            }
        }
        Ok(())
    }

    /// A group begins elsewhere in one partition.
    pub(super) fn reset(&mut self, session: &mut Session) -> Step {
        let Some((place, end)) = self.any_place() else { return Ok(()) };
        let group = self.below(GROUPS.len());
        if !session.members.is_empty() && self.one_in(2) {
            return self.reset_with_members(session);
        }
        self.end_members(session, group)?;
        let to = self.below(end as usize + 1) as i64;
        self.note(format!("reset {} to {to} of {place:?}", GROUPS[group]));
        let mut changes = Vec::new();
        for number in self.there(|of, _| *of == place) {
            let open = (self.jobs[&number].offset >= to).then_some(0);
            changes.push((number, self.history.fate(number).open_at(group, open)));
            self.loose.remove(&(group, number));
        }
        self.history.attempt(changes);
        let scope = OffsetScope::Partitions(vec![partition(&place)]);
        let admin = session.broker.admin();
        let reset = admin.reset_share_group(GROUPS[group], &scope, ResetTo::Offset(to));
        self.alive()?;
        reset.or_else(|error| violation(format!("no reset: {error:?}")))?;
        self.history.synced();
        Ok(())
    }

    fn reset_with_members(&mut self, session: &mut Session) -> Step {
        let group = session.members[0].group;
        self.note(format!("reset {} with members", GROUPS[group]));
        let Some((place, _)) = self.any_place() else { return Ok(()) };
        let scope = OffsetScope::Partitions(vec![partition(&place)]);
        let admin = session.broker.admin();
        let reset = admin.reset_share_group(GROUPS[group], &scope, ResetTo::Earliest);
        self.alive()?;
        match reset {
            Err(Error::GroupNotEmpty { .. }) => Ok(()),
            other => violation(format!("a group with members is reset: {other:?}")),
        }
    }

    /// A group is deleted and begins anew.
    pub(super) fn delete_group(&mut self, session: &mut Session) -> Step {
        let group = self.below(GROUPS.len());
        self.end_members(session, group)?;
        self.note(format!("delete {}", GROUPS[group]));
        let mut changes = Vec::new();
        for number in self.there(|_, _| true) {
            changes.push((number, self.history.fate(number).open_at(group, Some(0))));
            self.loose.remove(&(group, number));
        }
        self.history.attempt(changes);
        let admin = session.broker.admin();
        let deleted = admin.delete_share_group(GROUPS[group]);
        self.alive()?;
        deleted.or_else(|error| violation(format!("a group stays: {error:?}")))?;
        self.history.synced();
        let altered = admin.alter_share_group(GROUPS[group], self.options.groups[group].config());
        self.alive()?;
        altered.or_else(|error| violation(format!("no group: {error:?}")))?;
        self.is_paused[group] = false;
        Ok(())
    }

    /// An operator ends the attempt of a job that was delivered at least once, whoever has it.
    pub(super) fn end_by_hand(&mut self, session: &mut Session) -> Step {
        let group = self.below(GROUPS.len());
        let limit = self.options.groups[group].limit;
        let begun = self.history.now().iter().filter_map(|(&number, fate)| {
            let count = fate.groups[group].open.filter(|count| (1..limit).contains(count));
            count.map(|count| (number, count))
        });
        let begun: Vec<(Number, u16)> = begun.collect();
        if begun.is_empty() {
            return Ok(());
        }
        let (number, count) = begun[self.below(begun.len())];
        let (job, how) = (&self.jobs[&number], self.below(3));
        let (at, offsets) = (partition(&job.place), job.offset..=job.offset);
        self.note(format!("{} job {number} by hand", ["finish", "reject", "release"][how]));
        let (fate, letter) = match how {
            0 => (self.history.fate(number).open_at(group, None), None),
            1 => self.given_up(group, number, count, BY_HAND),
            _ => (self.history.fate(number).open_at(group, Some(count)), None),
        };
        self.history.attempt(vec![(number, fate)]);
        let (admin, name) = (session.broker.admin(), GROUPS[group]);
        let done = match how {
            0 => admin.finish_share_records(name, &at, offsets),
            1 => admin.reject_share_records(name, &at, offsets),
            _ => admin.release_share_records(name, &at, offsets),
        };
        self.alive()?;
        done.or_else(|error| violation(format!("nothing by hand: {error:?}")))?;
        session.end_locks_of(group, number);
        self.loose.remove(&(group, number));
        self.history.synced();
        self.expect_letters(session, letter.into_iter().map(|letter| (number, letter)).collect())
    }

    pub(super) fn disturb(&mut self, action: Action) {
        self.latest = self.latest.max(self.wall());
        match action {
            Action::Tick => {
                let time = Duration::from_millis(1 + self.below(900) as u64);
                self.clock.advance(time);
                self.note(format!("tick {time:?}"));
            }
            Action::Stall => {
                let locks = self.options.groups.iter().map(|group| group.lock).max();
                self.clock.advance(locks.unwrap_or_default());
                self.note("stall");
            }
            Action::SetWallClock => {
                let to = self.clock.now().as_millis() + self.below(20_000) as i64 - 10_000;
                self.clock.set_wall(Timestamp::from_millis(to));
                self.note(format!("wall clock {to}"));
            }
            Action::SetFault => {
                let at = self.memory.ops() + 1 + self.below(25) as u64;
                let kind = [io::ErrorKind::StorageFull, io::ErrorKind::Other][self.below(2)];
                let persistent = self.one_in(3);
                self.memory.fail_at(at, kind, persistent);
                self.fault = Some(at);
                self.note(format!("{kind:?} at {at}, persistent: {persistent}"));
            }
            _ => {
                let op = self.memory.ops() + 1 + self.below(40) as u64;
                self.memory.crash_at(op);
                self.note(format!("crash at {op}"));
            }
        }
    }
}
