//! Commits: which must succeed, and which must be fenced.

use grouplog::{Consumer, Error};

use crate::member::{INTERVAL, Member, partition, place_of};
use crate::oracle::{Change, Place};
use crate::session::Session;
use crate::world::{Step, World, violation};

impl World {
    pub(crate) fn commit(&mut self, session: &mut Session) -> Step {
        let Some(at) = self.any_of_group(session) else { return Ok(()) };
        let member = &session.members[at];
        let offsets = self.positions_of(member);
        self.note(format!("{} commits {offsets:?}", member.name));
        self.commit_as(session, at, &offsets, Consumer::commit)
    }

    pub(crate) fn commit_offsets(&mut self, session: &mut Session) -> Step {
        let Some(at) = self.any_of_group(session) else { return Ok(()) };
        let Some(place) = self.any_place() else { return Ok(()) };
        let (start, end) = (self.history.state().start(&place), self.history.state().end(&place));
        let offset = start + self.below((end - start) as usize + 1) as i64;
        self.note(format!("{} commits {offset} of {place:?}", session.members[at].name));
        self.commit_as(session, at, &[(place.clone(), offset)], |consumer| {
            consumer.commit_offsets([(partition(&place), offset)])
        })
    }

    fn any_of_group(&self, session: &Session) -> Option<usize> {
        let of_group =
            |at: &usize| session.members[*at].group.is_some() && !session.members[*at].transacts;
        let all: Vec<usize> = (0..session.members.len()).filter(of_group).collect();
        if all.is_empty() { None } else { Some(all[self.below(all.len())]) }
    }

    fn commit_as(
        &mut self,
        session: &mut Session,
        at: usize,
        offsets: &[(Place, i64)],
        commit: impl FnOnce(&mut Consumer) -> grouplog::Result<()>,
    ) -> Step {
        let group = session.members[at].group.unwrap_or_default();
        // A commit of a partition that the member does not hold may succeed or not. That depends on
        // whether the member knows the newest assignment.
        let holds = |(place, _): &(Place, i64)| session.members[at].positions.contains_key(place);
        let fenced = match Some(must_be_fenced(session, at)) {
            Some(false) if !offsets.iter().all(holds) => None,
            fenced => fenced,
        };
        let late = self.may_be_late(&session.members[at]);
        let mut refused = false;
        let had_failed = session.has_failed();
        let change = Change::Commit { group: group.to_owned(), offsets: offsets.to_vec() };
        self.history.attempt(change);
        let mark = self.mark();
        let result = commit(&mut session.members[at].consumer);
        self.alive()?;
        match &result {
            // A commit of nothing needs no journal.
            Ok(()) if had_failed && !offsets.is_empty() && self.memory.ops() > mark.ops => {
                return violation("a commit succeeds although a write had failed");
            }
            Ok(()) if !self.is_settled_but_last() => {
                self.take_back();
            }
            Ok(()) => self.history.written(),
            Err(Error::Fenced { .. }) => {
                refused = true;
                self.take_back();
            }
            // The topic is gone, so nothing was or can be committed.
            Err(Error::UnknownTopic { .. } | Error::InconsistentTopicId { .. }) if late => {
                self.trace.tally.refusals += 1;
                refused = true;
                self.take_back();
            }
            Err(Error::Indeterminate { .. }) => self.is_undecided(session),
            Err(_) => self.take_back(),
        }
        match result {
            Ok(()) if fenced == Some(true) => violation("a commit that must be fenced succeeds"),
            Err(Error::Fenced { .. }) if fenced == Some(false) => {
                violation("a commit of a member in good standing is fenced")
            }
            Ok(()) => check_committed(&session.members[at], offsets),
            Err(_) if refused => Ok(()),
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)
            }
        }
    }

    /// Returns whether the consumer may hold a position in a topic that was deleted.
    fn may_be_late(&self, member: &Member) -> bool {
        let known = &member.positions;
        let assigned = member.consumer.assignment();
        self.is_uncertain()
            || assigned.iter().any(|assigned| !self.exists(&place_of(assigned)))
            || known.iter().any(|(place, (known, _))| *known != self.incarnation(place))
    }

    /// Returns whether all changes but the last one are acknowledged.
    fn is_settled_but_last(&self) -> bool {
        self.history.attempted() <= self.history.promised(false) + 1
    }

    /// Makes a call that may also commit these positions.
    pub(crate) fn with_commit(
        &mut self,
        session: &mut Session,
        group: Option<&'static str>,
        offsets: &[(Place, i64)],
        call: impl FnOnce(&mut Session),
    ) -> Step {
        let Some(group) = group.filter(|_| !offsets.is_empty() && !self.is_uncertain()) else {
            call(session);
            return self.alive();
        };
        self.history.attempt(Change::Commit { group: group.to_owned(), offsets: offsets.to_vec() });
        call(session);
        self.alive()?;
        let summary = session.broker.describe_group(group);
        let rows = summary.map_or(Vec::new(), |summary| summary.offsets);
        let committed = offsets.iter().all(|(place, offset)| {
            let row = rows.iter().find(|row| row.partition == partition(place));
            row.and_then(|row| row.committed) == Some(*offset)
        });
        if committed {
            self.history.written();
        } else if session.has_failed() {
            // The one attempt may still be in the journal.
        } else {
            self.take_back();
        }
        Ok(())
    }

    /// Returns what a commit of all positions contains: those in existing topics.
    pub(crate) fn positions_of(&self, member: &Member) -> Vec<(Place, i64)> {
        let there = |place: &Place| self.history.state().topics.contains_key(&place.0);
        let positions = member.positions.iter();
        let positions = positions
            .filter(|(place, (known, _))| there(place) && *known == self.incarnation(place));
        positions.map(|(place, (_, next))| (place.clone(), *next)).collect()
    }

    pub(crate) fn incarnation(&self, place: &Place) -> u64 {
        self.incarnations.get(&place.0).copied().unwrap_or_default()
    }

    /// Returns whether its next poll finds that it was evicted.
    pub(crate) fn is_evicted(&self, member: &Member) -> bool {
        member.is_subscribed() && self.now() >= member.polled + INTERVAL
    }
}

/// Returns whether the consumer is not, or no longer, a member of a group that has members.
fn must_be_fenced(session: &Session, at: usize) -> bool {
    let member = &session.members[at];
    let summary = session.broker.describe_group(member.group.unwrap_or_default()).ok();
    let members = summary.map_or(Vec::new(), |group| group.members);
    if member.is_subscribed() {
        !members.iter().any(|described| described.client_id == member.name)
    } else {
        !members.is_empty()
    }
}

fn check_committed(member: &Member, offsets: &[(Place, i64)]) -> Step {
    for (place, offset) in offsets {
        match member.consumer.committed(&partition(place)) {
            Ok(Some(committed)) if committed.offset() == *offset => {}
            other => {
                return violation(format!("{offset} of {place:?} is committed: {other:?}"));
            }
        }
    }
    Ok(())
}
