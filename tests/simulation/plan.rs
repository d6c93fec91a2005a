//! What a transaction changes, under which conditions, and why its commit must be refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grouplog::Error;

use crate::member::{Member, partition};
use crate::oracle::{Change, Place, RecordModel};
use crate::owner::{Named, Standing};
use crate::session::Session;
use crate::world::World;

/// What a transaction changes, and under which conditions.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) owner: Option<Named>,
    pub(crate) records: Vec<(Place, Arc<RecordModel>)>,
    /// The first and last sequence.
    pub(crate) sequences: Option<(i64, i64)>,
    /// The expected log ends.
    pub(crate) ends: BTreeMap<Place, i64>,
    /// The expected committed offsets.
    pub(crate) committed: Vec<(&'static str, Place, Option<i64>)>,
    /// The topics that it met, with their incarnations.
    pub(crate) topics: BTreeSet<(String, u64)>,
    /// The offsets to commit, by group.
    pub(crate) offsets: BTreeMap<(&'static str, Place), Given>,
    /// The positions that it took, in the order in which it did.
    pub(crate) tickets: Vec<Ticket>,
}

/// An offset to commit, and the member that gave it. There is none if the group has no members.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) offset: i64,
    pub(crate) by: Option<Committer>,
}

/// A member as it was when it gave an offset.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) member: String,
    /// How often the member had joined.
    pub(crate) joins: u64,
    /// The number of the partition's assignment to the member.
    pub(crate) tenure: Option<u64>,
}

/// A position that a transaction took from a member.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Rises from one taking to the next.
    pub(crate) number: u64,
    pub(crate) member: String,
    pub(crate) place: Place,
    /// The incarnation of the topic.
    pub(crate) incarnation: u64,
    pub(crate) offset: i64,
    /// Whether an earlier transaction with positions there has failed.
    pub(crate) refused: bool,
}

/// Why a commit must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Fenced,
    ProducerFenced,
    Sequence,
    End,
    Committed,
    Topic,
    Order,
}

/// What speaks against a commit.
#[derive(Debug, Default)]
pub(crate) struct Against {
    /// Each of these refuses it.
    pub(crate) causes: Vec<Cause>,
    /// Whether it may be fenced without need.
    may_be_fenced: bool,
}

impl Ticket {
    /// Returns whether both are positions of one partition of one member.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.member, &self.place, self.incarnation)
            == (&other.member, &other.place, other.incarnation)
    }
}

impl Cause {
    fn of(error: &Error) -> Option<Self> {
        Some(match error {
            Error::Fenced { .. } => Self::Fenced,
            Error::ProducerFenced { .. } => Self::ProducerFenced,
            Error::OutOfOrderSequence { .. } => Self::Sequence,
            Error::UnexpectedEnd { .. } => Self::End,
            Error::UnexpectedCommit { .. } => Self::Committed,
            Error::UnknownTopic { .. }
            | Error::UnknownPartition { .. }
            | Error::InconsistentTopicId { .. } => Self::Topic,
            Error::Misuse(_) => Self::Order,
            _ => return None,
        })
    }
}

impl Against {
    /// Returns whether an error says what speaks against the commit.
    pub(crate) fn explains(&self, error: &Error) -> bool {
        Cause::of(error).is_some_and(|cause| {
            self.causes.contains(&cause) || self.may_be_fenced && cause == Cause::Fenced
        })
    }
}

impl Plan {
    /// Returns what the transaction changes, if it stores these records.
    pub(crate) fn change(&self, records: Vec<(Place, Arc<RecordModel>)>) -> Change {
        let offsets = self.offsets.iter();
        let offsets = offsets
            .map(|((group, place), given)| ((*group).to_owned(), place.clone(), given.offset));
        let sequence = self.owner.as_ref().zip(self.sequences);
        let sequence = sequence.map(|(owner, (_, last))| (owner.name.to_owned(), last));
        Change::Transaction { records, offsets: offsets.collect(), sequence }
    }

    /// Returns the first and the last ticket of each partition of which it took positions.
    pub(crate) fn spans(&self) -> Vec<(&Ticket, &Ticket)> {
        let mut spans: Vec<(&Ticket, &Ticket)> = Vec::new();
        for ticket in &self.tickets {
            match spans.iter_mut().find(|(first, _)| first.is_of(ticket)) {
                Some((_, last)) => *last = ticket,
                None => spans.push((ticket, ticket)),
            }
        }
        spans
    }
}

impl World {
    /// Returns why the commit must fail, as far as that is known before it.
    pub(crate) fn against(&self, session: &Session, plan: &Plan) -> Against {
        let state = self.history.state();
        let mut against = Against::default();
        let causes = &mut against.causes;
        if let Some(owner) = &plan.owner {
            match (self.standing(owner), plan.sequences) {
                (Standing::Fenced, _) => causes.push(Cause::ProducerFenced),
                (Standing::Owns(Some(stored)), Some((first, _))) if first <= stored => {
                    causes.push(Cause::Sequence);
                }
                _ => {}
            }
        }
        if plan.ends.iter().any(|(place, end)| state.end(place) != *end) {
            causes.push(Cause::End);
        }
        let differs = |(group, place, expected): &(&str, Place, Option<i64>)| {
            state.offsets.get(&((*group).to_owned(), place.clone())) != expected.as_ref()
        };
        if plan.committed.iter().any(differs) {
            causes.push(Cause::Committed);
        }
        let is_there = |(topic, known): &(String, u64)| {
            state.topics.contains_key(topic) && self.incarnations.get(topic) == Some(known)
        };
        if !plan.topics.iter().all(is_there) {
            causes.push(Cause::Topic);
        }
        if is_out_of_order(session, plan) {
            causes.push(Cause::Order);
        }
        for ((group, place), given) in &plan.offsets {
            let Some(by) = &given.by else { continue };
            match member_of(session, group, by) {
                Some(member) if member.consumer.assignment().contains(&partition(place)) => {
                    let tenure = member.tenures.get(place).map(|tenure| tenure.number);
                    against.may_be_fenced |= tenure != by.tenure;
                }
                _ => against.causes.push(Cause::Fenced),
            }
        }
        against
    }
}

/// Returns whether an earlier transaction with positions of the same partitions is open or has failed.
fn is_out_of_order(session: &Session, plan: &Plan) -> bool {
    let open = || session.open.iter().flat_map(|other| &other.plan.tickets);
    plan.tickets.iter().any(|ticket| ticket.refused)
        || plan
            .spans()
            .into_iter()
            .any(|(_, last)| open().any(|other| other.is_of(last) && other.number < last.number))
}

/// Returns the member that gave an offset, if it is still the same member of the group.
fn member_of<'s>(session: &'s Session, group: &str, by: &Committer) -> Option<&'s Member> {
    let described = session.broker.describe_group(group).map_or(Vec::new(), |group| group.members);
    let is_in = described.iter().any(|member| member.client_id == by.member);
    let member = session.members.iter().find(|member| member.name == by.member);
    member.filter(|member| is_in && member.joins == by.joins)
}
