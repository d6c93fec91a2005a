//! Polls and seeks, and what consumers must see.

use std::collections::BTreeMap;
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, ConsumerRecords, Error, OffsetReset, Position, Timestamp,
    TopicPartition,
};

use crate::member::{GROUPS, Kept, Member, partition, place_of, unexpected};
use crate::oracle::{Place, gone};
use crate::positions::Tenure;
use crate::session::Session;
use crate::world::{Step, World, violation};

impl World {
    pub(crate) fn poll_one(&mut self, session: &mut Session) -> Step {
        if session.members.is_empty() {
            return Ok(());
        }
        let at = self.below(session.members.len());
        self.hinder_reading();
        self.poll(session, at).map(|_| ())
    }

    /// Polls once. Returns whether the poll delivered records or changed the assignment.
    pub(crate) fn poll(&mut self, session: &mut Session, at: usize) -> Step<bool> {
        let member = &mut session.members[at];
        if self.is_evicted(member) {
            member.positions.clear();
            member.paused.clear();
            member.tenures.clear();
            member.joins += 1;
        }
        member.failed.clear();
        let before = member.consumer.assignment();
        let offsets = if member.auto_commit { self.positions_of(member) } else { Vec::new() };
        let group = member.group;
        let mark = self.mark();
        let mut polled = None;
        self.with_commit(session, group, &offsets, |session| {
            polled = Some(session.members[at].consumer.poll(Duration::ZERO));
        })?;
        let member = &mut session.members[at];
        member.polled = self.now();
        match polled {
            Some(Ok(records)) => {
                self.note(format!("{} polls {}", member.name, records.len()));
                self.check_records(member, &records)?;
                self.take_up(member)?;
                let moved = member.consumer.assignment() != before;
                let busy = moved || !records.is_empty();
                member.last = records;
                check_ownership(session)?;
                Ok(busy)
            }
            // Nothing was delivered. The position is unchanged, and the next poll continues there.
            Some(Err(error @ Error::Io { .. })) => {
                self.note(format!("{} polls: {error}", member.name));
                self.judge(&error, mark)?;
                self.take_up(member)?;
                check_ownership(session)?;
                Ok(true)
            }
            // A topic that it had assigned was deleted. The member either gives up, or continues when
            // the topic exists again.
            Some(Err(Error::UnknownTopic { .. } | Error::UnknownPartition { .. }))
                if self.has_lost_a_partition(member) =>
            {
                self.note(format!("{} has lost its topic", member.name));
                if self.one_in(2) {
                    session.members.swap_remove(at);
                } else {
                    self.take_up(member)?;
                }
                Ok(true)
            }
            other => violation(format!("{} polls {other:?}", member.name)),
        }
    }

    /// Returns whether the member assigned itself a partition that does not exist.
    pub(crate) fn has_lost_a_partition(&self, member: &Member) -> bool {
        let chosen = member.consumer.assignment();
        !member.is_subscribed()
            && (self.is_uncertain() || chosen.iter().any(|chosen| !self.exists(&place_of(chosen))))
    }

    fn check_records(&mut self, member: &mut Member, records: &ConsumerRecords) -> Step {
        for record in records {
            let place = place_of(record.topic_partition());
            let log = self.history.state().topics.get(&place.0);
            let model = log
                .and_then(|logs| logs.get(place.1 as usize))
                .and_then(|log| log.get(record.offset() as usize).cloned());
            let seen = crate::observe::model_of(&record);
            let deleted = model.as_ref().is_none_or(|model| **model == *gone());
            if deleted && self.is_uncertain() {
                // The topic or the record may or may not have been deleted.
                continue;
            }
            let Some(model) = model.filter(|model| model.is(&seen)) else {
                return violation(format!("{place:?} {}: not what was sent", record.offset()));
            };
            let incarnation = self.incarnation(&place);
            let expected = match member.positions.get(&place) {
                Some((known, next)) if *known == incarnation => *next,
                known => {
                    self.trace.tally.renewals +=
                        u64::from(known.is_some() && !member.is_subscribed());
                    self.begin(member, &place)
                }
            };
            // If the last commit is uncertain, so is the start position.
            let begins = self.is_uncertain() && !member.positions.contains_key(&place);
            let follows = begins || self.may_follow(&place, expected, record.offset());
            if !follows || member.paused.contains(&place) {
                let offset = record.offset();
                return violation(format!("{place:?} gives {offset}, not {expected}"));
            }
            let next = record.offset() + 1;
            member.positions.insert(place.clone(), (incarnation, next));
            if self.one_in(20) {
                let position = record.next_position();
                self.kept.push(Kept { place, position, record: model });
            }
        }
        Ok(())
    }

    /// Returns where a consumer starts in a topic that is new to it. A partition that it assigned
    /// itself stays paused. A partition assigned by its group does not.
    fn begin(&self, member: &mut Member, place: &Place) -> i64 {
        if member.is_subscribed() {
            member.paused.remove(place);
        }
        let start = self.start_of(member, place);
        let group = member.group.unwrap_or_default().to_owned();
        let committed = self.history.state().offsets.get(&(group, place.clone())).copied();
        let committed = committed.filter(|committed| *committed == start);
        member.begun += 1;
        let tenure = Tenure { number: member.begun, uncommitted: start, committed, taken: None };
        member.tenures.insert(place.clone(), tenure);
        start
    }

    /// Returns where a consumer without a position starts: at the committed offset, or where its
    /// settings say.
    fn start_of(&self, member: &Member, place: &Place) -> i64 {
        let state = self.history.state();
        let group = member.group.unwrap_or_default().to_owned();
        let start = state.start(place);
        let committed = state.offsets.get(&(group, place.clone()));
        match (committed, member.reset) {
            (Some(offset), _) if *offset >= start => *offset,
            (_, OffsetReset::Latest) => state.end(place),
            _ => start,
        }
    }

    /// Compares the positions of everything it holds now, and forgets the rest.
    pub(crate) fn take_up(&self, member: &mut Member) -> Step {
        let held: Vec<Place> = member.consumer.assignment().iter().map(place_of).collect();
        member.positions.retain(|place, _| held.contains(place));
        member.paused.retain(|place| held.contains(place));
        if self.is_uncertain() {
            // The end of a log that may have one more record is unknown.
            return Ok(());
        }
        for place in held {
            // The topic was deleted, and its partition is about to be revoked.
            if !self.exists(&place) {
                if member.is_subscribed() {
                    member.positions.remove(&place);
                }
                continue;
            }
            let incarnation = self.incarnation(&place);
            let position = member.consumer.position(&partition(&place));
            let current = position.as_ref().is_ok_and(|at| self.is_current(&place, at));
            let expected = match member.positions.get(&place).copied() {
                Some((known, next)) if known == incarnation => next,
                // The topic that it assigned was replaced by another one, and no poll has reached
                // that one yet.
                Some((_, next)) if !member.is_subscribed() && !current => {
                    if position.as_ref().is_ok_and(|position| position.offset() == next) {
                        continue;
                    }
                    next
                }
                _ => self.begin(member, &place),
            };
            match position.map(Position::offset) {
                Ok(offset) if current && self.may_follow(&place, expected, offset) => {
                    member.positions.insert(place, (incarnation, offset));
                }
                other => {
                    let name = &member.name;
                    return violation(format!(
                        "{name} is at {other:?} of {place:?}, not {expected}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns whether a reader at one offset may find nothing before another one.
    fn may_follow(&self, place: &Place, from: i64, offset: i64) -> bool {
        from <= offset && (from..offset).all(|passed| self.may_be_missing(place, passed))
    }

    pub(crate) fn seek(&mut self, session: &mut Session) -> Step {
        let Some((at, place)) = self.any_held(session) else { return Ok(()) };
        let (start, end) = (self.history.state().start(&place), self.history.state().end(&place));
        let offset = start + self.below((end - start) as usize + 1) as i64;
        let member = &mut session.members[at];
        self.note(format!("{} seeks to {offset} of {place:?}", member.name));
        self.move_to(
            member,
            place,
            |_, at| at == offset,
            |consumer, partition| consumer.seek(partition, offset),
        )
    }

    pub(crate) fn seek_to_timestamp(&mut self, session: &mut Session) -> Step {
        let Some((at, place)) = self.any_held(session) else { return Ok(()) };
        let log = &self.history.state().topics[&place.0][place.1 as usize];
        let Some(times) = log.iter().map(|record| record.timestamp).collect::<Option<Vec<_>>>()
        else {
            return Ok(());
        };
        let near = if times.is_empty() { 0 } else { times[self.below(times.len())] };
        let time = near + self.below(3) as i64 - 1;
        let found = (0..).zip(&times).filter(|(_, timestamp)| **timestamp >= time);
        let found = found.map(|(offset, _)| offset);
        let found: Vec<i64> = found.chain([times.len() as i64]).collect();
        self.note(format!("{} seeks to the time {time}", session.members[at].name));
        // The first ones may be missing.
        let may_be_found = |world: &Self, at: i64| {
            let passed = found.iter().take_while(|offset| **offset < at);
            found.contains(&at) && passed.into_iter().all(|at| world.may_be_missing(&place, *at))
        };
        let member = &mut session.members[at];
        self.move_to(member, place.clone(), may_be_found, |consumer, partition| {
            consumer.seek_to_timestamp(partition, Timestamp::from_millis(time))
        })
    }

    fn move_to(
        &mut self,
        member: &mut Member,
        place: Place,
        is_right: impl Fn(&Self, i64) -> bool,
        seek: impl FnOnce(&mut Consumer, &TopicPartition) -> grouplog::Result<()>,
    ) -> Step {
        let partition = partition(&place);
        let mark = self.mark();
        if let Err(error) = seek(&mut member.consumer, &partition) {
            self.note(format!("  {error}"));
            self.judge(&error, mark)?;
            return self.take_up(member);
        }
        let offset = member.consumer.position(&partition).or_else(unexpected)?.offset();
        if !is_right(self, offset) {
            return violation(format!("after the seek the position in {place:?} is {offset}"));
        }
        let incarnation = self.incarnation(&place);
        member.positions.insert(place, (incarnation, offset));
        Ok(())
    }

    pub(crate) fn pause(&mut self, session: &mut Session) -> Step {
        let Some((at, place)) = self.any_held(session) else { return Ok(()) };
        let member = &mut session.members[at];
        if member.paused.remove(&place) {
            self.note(format!("{} resumes {place:?}", member.name));
            return member.consumer.resume(&partition(&place)).or_else(unexpected);
        }
        self.note(format!("{} pauses {place:?}", member.name));
        member.consumer.pause(&partition(&place)).or_else(unexpected)?;
        member.paused.insert(place);
        Ok(())
    }

    /// Returns a consumer and a partition whose position in it is known.
    fn any_held(&self, session: &Session) -> Option<(usize, Place)> {
        if session.members.is_empty() || self.is_uncertain() {
            return None;
        }
        let at = self.below(session.members.len());
        let member = &session.members[at];
        if member.transacts {
            return None;
        }
        let held = member.positions.iter().filter(|(place, (known, _))| {
            *known == self.incarnation(place) && self.history.state().topics.contains_key(&place.0)
        });
        let held: Vec<&Place> = held.map(|(place, _)| place).collect();
        if held.is_empty() {
            return None;
        }
        Some((at, held[self.below(held.len())].clone()))
    }

    /// Checks positions kept outside of the engine. Each is valid if its record still exists.
    /// Otherwise `seek` fails with `LogTruncated` (KIP-320), or with `InconsistentTopicId` if the topic
    /// is another one.
    pub(crate) fn check_kept(&mut self, broker: &Broker) -> Step {
        for kept in std::mem::take(&mut self.kept) {
            let log = self.history.state().topics.get(&kept.place.0);
            let Some(log) = log.and_then(|logs| logs.get(kept.place.1 as usize)) else {
                // A topic of this name may exist again later.
                self.kept.push(kept);
                continue;
            };
            let there = log.get(kept.position.offset() as usize - 1).is_some_and(|record| {
                // Contents are unique.
                record.is(&kept.record)
            });
            let partition = partition(&kept.place);
            let mut reader = broker.consumer_with(ConsumerConfig::new()).or_else(unexpected)?;
            reader.assign([partition.clone()]).or_else(unexpected)?;
            match reader.seek(&partition, kept.position) {
                Ok(()) if there => self.kept.push(kept),
                Err(Error::LogTruncated { .. })
                    if !there && self.is_current(&kept.place, &kept.position) => {}
                Err(Error::InconsistentTopicId { .. })
                    if !there && !self.is_current(&kept.place, &kept.position) =>
                {
                    self.trace.tally.refusals += 1;
                }
                other => return violation(format!("{kept:?}, there: {there}: {other:?}")),
            }
        }
        Ok(())
    }
}

/// Checks that no partition has two owners in a group (G1).
fn check_ownership(session: &Session) -> Step {
    for group in GROUPS {
        let Ok(summary) = session.broker.describe_group(group) else { continue };
        let mut owned = BTreeMap::new();
        for described in &summary.members {
            let member = session.members.iter().find(|m| m.name == described.client_id);
            let Some(member) = member else {
                return violation(format!("{} has left {group}", described.client_id));
            };
            for partition in member.consumer.assignment() {
                if let Some(other) = owned.insert(partition.clone(), &member.name) {
                    let name = &member.name;
                    return violation(format!("{name} and {other} both hold {partition}"));
                }
            }
        }
    }
    Ok(())
}
