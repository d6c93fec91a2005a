//! The positions that transactions take from members, and where a member goes on when one has failed.

use std::collections::BTreeMap;

use grouplog::{Error, GroupMetadata};

use crate::member::{Member, partition, place_of};
use crate::oracle::Place;
use crate::plan::{Committer, Given, Plan, Ticket};
use crate::session::Session;
use crate::transact::Open;
use crate::world::{Step, World, violation};

/// The group that never has members.
const MEMBERLESS: &str = "t";

/// What a consumer knows of a partition that its group has assigned to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenure {
    /// No two assignments have the same number.
    pub(crate) number: u64,
    /// Where the uncommitted records begin.
    pub(crate) uncommitted: i64,
    pub(crate) committed: Option<i64>,
    /// The offset that a transaction took last.
    pub(crate) taken: Option<i64>,
}

impl World {
    /// Takes positions of a member: all of them, or up to one record.
    pub(crate) fn take(&mut self, session: &mut Session, open: &mut Open) -> Step {
        let transacting = (0..session.members.len()).filter(|at| session.members[*at].transacts);
        let transacting: Vec<usize> = transacting.collect();
        if transacting.is_empty() {
            return Ok(());
        }
        let at = transacting[self.below(transacting.len())];
        if self.one_in(2) {
            self.poll(session, at)?;
            if self.is_uncertain() {
                return Ok(());
            }
        }
        if self.one_in(3) {
            self.take_through(session, at, open)
        } else {
            self.take_all(session, at, open)
        }
    }

    /// Takes all positions of a member. This must be refused after a failure, until the member polls.
    fn take_all(&mut self, session: &mut Session, at: usize, open: &mut Open) -> Step {
        let member = &mut session.members[at];
        let untaken = untaken(member);
        let has_failed = !member.failed.is_empty();
        match open.transaction.commit_offsets(&mut member.consumer) {
            Ok(()) if !has_failed => {}
            Err(Error::Misuse(_)) if has_failed => {
                self.refuse(session, at, &open.plan);
                return Ok(());
            }
            other => return violation(format!("failed: {has_failed}, taking: {other:?}")),
        }
        self.note(format!("  with {untaken:?} of {}", member.name));
        for (place, offset) in untaken {
            self.was_taken(member, place, offset, &mut open.plan);
        }
        Ok(())
    }

    /// Takes the position behind one of the records that the member has polled last.
    fn take_through(&mut self, session: &mut Session, at: usize, open: &mut Open) -> Step {
        let member = &mut session.members[at];
        if member.last.is_empty() {
            return Ok(());
        }
        let Some(record) = member.last.iter().nth(self.below(member.last.len())) else {
            return Ok(());
        };
        let (place, next) = (place_of(record.topic_partition()), record.offset() + 1);
        let tenure = member.tenures.get(&place).copied();
        let known = member.positions.get(&place).copied();
        let ((Some((_, position)), Some(tenure)), true) =
            ((known, tenure), self.is_current(&place, &record.next_position()))
        else {
            return Ok(());
        };
        // Going back behind what was committed or taken makes no sense.
        let is_behind = next <= tenure.uncommitted.max(tenure.taken.unwrap_or(0));
        let is_held = member.consumer.assignment().contains(&partition(&place));
        if is_behind || !is_held || known.map(|(of, _)| of) != Some(self.incarnation(&place)) {
            return Ok(());
        }
        let has_failed = member.failed.contains(&place);
        match open.transaction.commit_through(&mut member.consumer, &record) {
            Ok(()) if !has_failed && next <= position => {}
            Err(Error::Misuse(_)) if has_failed => {
                self.refuse(session, at, &open.plan);
                return Ok(());
            }
            // It has gone back since.
            Err(Error::Misuse(_)) if next > position => return Ok(()),
            other => return violation(format!("failed: {has_failed}, through {next}: {other:?}")),
        }
        self.note(format!("  through {next} of {place:?} of {}", member.name));
        self.was_taken(member, place, next, &mut open.plan);
        Ok(())
    }

    fn was_taken(&mut self, member: &mut Member, place: Place, offset: i64, plan: &mut Plan) {
        if let Some(tenure) = member.tenures.get_mut(&place) {
            tenure.taken = Some(offset);
        }
        let known = member.positions.get(&place).map_or(0, |(incarnation, _)| *incarnation);
        plan.topics.insert((place.0.clone(), known));
        let given = Given { offset, by: Some(committer(member, &place)) };
        plan.offsets.insert((member.group.unwrap_or_default(), place.clone()), given);
        self.trace.tally.taken += 1;
        self.names += 1;
        let (number, member) = (self.names, member.name.clone());
        let incarnation = known;
        plan.tickets.push(Ticket { number, member, place, incarnation, offset, refused: false });
    }

    /// Notes that a member gives no positions before it has polled: all that it has not given goes back.
    fn refuse(&mut self, session: &mut Session, at: usize, plan: &Plan) {
        let member = &session.members[at];
        self.note(format!("  {} has to poll first", member.name));
        let (name, untaken) = (member.name.clone(), untaken(member));
        for place in untaken.into_keys() {
            let incarnation = session.members[at].positions[&place].0;
            go_back(session, plan, &name, &(place, incarnation));
        }
    }

    /// Adds offsets that the program chose: of a member that commits otherwise, or of a group without members.
    pub(crate) fn send_offsets(&mut self, session: &Session, open: &mut Open) -> Step {
        let others = session.members.iter().filter(|m| m.is_subscribed() && !m.transacts);
        let others: Vec<&Member> = others.filter(|m| !m.auto_commit).collect();
        let other =
            (!others.is_empty() && self.one_in(2)).then(|| others[self.below(others.len())]);
        let held = |member: &Member| {
            let held: Vec<Place> = member.positions.keys().cloned().collect();
            (!held.is_empty()).then(|| held[self.below(held.len())].clone())
        };
        let place = other.map_or_else(|| self.any_place(), held);
        let Some(place) = place.filter(|place| self.exists(place)) else { return Ok(()) };
        let group = other.map_or(MEMBERLESS, |member| member.group.unwrap_or_default());
        let metadata = other.and_then(|member| member.consumer.group_metadata());
        let metadata = metadata.unwrap_or_else(|| GroupMetadata::of_group(group));
        let (start, end) = (self.history.state().start(&place), self.history.state().end(&place));
        let offset = start + self.below((end - start) as usize + 1) as i64;
        if open.plan.offsets.contains_key(&(group, place.clone())) {
            return Ok(());
        }
        let sent = open.transaction.send_offsets(&metadata, [(partition(&place), offset)]);
        if let Err(error) = sent {
            return violation(format!("offsets cannot be sent: {error:?}"));
        }
        self.note(format!("  with {offset} of {place:?} for {group}"));
        open.plan.topics.insert((place.0.clone(), self.incarnation(&place)));
        let by = other.map(|member| committer(member, &place));
        open.plan.offsets.insert((group, place), Given { offset, by });
        Ok(())
    }
}

fn committer(member: &Member, place: &Place) -> Committer {
    let tenure = member.tenures.get(place).map(|tenure| tenure.number);
    Committer { member: member.name.clone(), joins: member.joins, tenure }
}

/// Returns the positions that are neither committed nor taken.
fn untaken(member: &Member) -> BTreeMap<Place, i64> {
    let mut untaken = BTreeMap::new();
    for (place, (_, offset)) in &member.positions {
        let Some(tenure) = member.tenures.get(place) else { continue };
        if tenure.taken != Some(*offset) && tenure.committed != Some(*offset) {
            untaken.insert(place.clone(), *offset);
        }
    }
    untaken
}

/// Notes that the positions of a transaction are committed.
pub(crate) fn were_committed(session: &mut Session, plan: &Plan) {
    for (_, last) in plan.spans() {
        let member = session.members.iter_mut().find(|member| member.name == last.member);
        let Some(member) = member else { continue };
        let is_same =
            member.positions.get(&last.place).is_some_and(|(known, _)| *known == last.incarnation);
        if let Some(tenure) = member.tenures.get_mut(&last.place).filter(|_| is_same) {
            tenure.uncommitted = last.offset;
            tenure.committed = Some(last.offset);
        }
    }
}

/// Notes that a transaction has failed: later ones with the same partitions are refused, and the members go back.
pub(crate) fn have_failed(session: &mut Session, plan: &Plan) {
    for (first, _) in plan.spans() {
        let open = session.open.iter_mut().flat_map(|open| &mut open.plan.tickets);
        let later = open.filter(|ticket| ticket.is_of(first) && ticket.number > first.number);
        later.for_each(|ticket| ticket.refused = true);
    }
    let nothing = Plan::default();
    for (first, _) in plan.spans() {
        let place = (first.place.clone(), first.incarnation);
        go_back(session, &nothing, &first.member, &place);
    }
}

/// Notes that a member goes back, behind what an open transaction holds that may still be committed. `plan` is that of
/// an open transaction that is being filled.
fn go_back(session: &mut Session, plan: &Plan, name: &str, (place, of): &(Place, u64)) {
    let open = session.open.iter().flat_map(|open| &open.plan.tickets).chain(&plan.tickets);
    let open = open.filter(|t| t.member == name && t.place == *place && t.incarnation == *of);
    let holds = open.filter(|ticket| !ticket.refused);
    let held = holds.max_by_key(|ticket| ticket.number).map(|ticket| ticket.offset);
    let Some(member) = session.members.iter_mut().find(|member| member.name == name) else {
        return;
    };
    let Some((known, next)) = member.positions.get_mut(place) else { return };
    if known != of {
        return;
    }
    let Some(tenure) = member.tenures.get_mut(place) else { return };
    *next = held.unwrap_or(tenure.uncommitted);
    tenure.taken = held;
    member.failed.insert(place.clone());
}
