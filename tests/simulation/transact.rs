//! Transactions: they are filled, committed, given up, or left open while others end.

use grouplog::{Committed, Error, Transaction};

use crate::disturb::Mark;
use crate::member::{GROUPS, partition};
use crate::oracle::Place;
use crate::owner::Standing;
use crate::plan::{Against, Plan};
use crate::positions::{have_failed, were_committed};
use crate::produce::record;
use crate::session::Session;
use crate::world::{Step, World, violation};

/// The most transactions that are open from one step to the next.
const OPEN_MAX: usize = 3;

/// A transaction, and what its commit must make of it.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) transaction: Transaction,
    pub(crate) plan: Plan,
    /// Whether its producer has `Acks::Synced`.
    synced: bool,
}

impl World {
    /// Begins a transaction and fills it. Commits it, gives it up, or leaves it open.
    pub(crate) fn transact(&mut self, session: &mut Session) -> Step {
        if self.is_uncertain() || session.open.len() >= OPEN_MAX {
            return Ok(());
        }
        let Some(mut open) = self.begin_transaction(session)? else { return Ok(()) };
        self.fill(&mut open)?;
        self.expect(&mut open)?;
        for _ in 0..self.below(3) {
            self.take(session, &mut open)?;
        }
        if self.one_in(3) {
            self.send_offsets(session, &mut open)?;
        }
        match self.below(4) {
            0 | 1 => self.commit_transaction(session, open),
            2 => {
                self.note("the transaction stays open");
                session.open.push(open);
                Ok(())
            }
            _ => {
                self.give_up(session, open);
                Ok(())
            }
        }
    }

    /// Ends one of the transactions that are open, often not in their order.
    pub(crate) fn end_transaction(&mut self, session: &mut Session) -> Step {
        if session.open.is_empty() {
            return Ok(());
        }
        let at = if self.one_in(4) { self.below(session.open.len()) } else { 0 };
        let open = session.open.remove(at);
        if self.one_in(4) || self.is_uncertain() {
            self.give_up(session, open);
            return Ok(());
        }
        self.commit_transaction(session, open)
    }

    fn begin_transaction(&mut self, session: &Session) -> Step<Option<Open>> {
        let named = session.named.len();
        let owner = (named > 0 && self.one_in(2)).then(|| session.named[self.below(named)].clone());
        let synced = owner.is_some() || self.one_in(2);
        let unnamed = if synced { &session.synced } else { &session.written };
        let producer = owner.as_ref().map_or(unnamed, |owner| &owner.producer);
        let standing = owner.as_ref().map(|owner| self.standing(owner));
        match producer.begin() {
            Ok(_) if standing == Some(Standing::Fenced) => {
                violation("a fenced producer begins a transaction")
            }
            Ok(transaction) => {
                let plan = Plan { owner, ..Plan::default() };
                Ok(Some(Open { transaction, plan, synced }))
            }
            Err(Error::ProducerFenced { .. }) if standing == Some(Standing::Fenced) => Ok(None),
            Err(error) => self.judge(&error, Mark::default()).map(|()| None),
        }
    }

    /// Adds records.
    fn fill(&mut self, open: &mut Open) -> Step {
        let mut bytes = 0;
        let standing = open.plan.owner.as_ref().map(|owner| self.standing(owner));
        let stored = standing.and_then(Standing::last);
        let mut sequence = (stored.unwrap_or(-1) + self.below(3) as i64).max(0);
        let sequenced = open.plan.owner.is_some() && self.one_in(2);
        for _ in 0..self.below(4) {
            let Some((place, model)) = self.any_record() else { break };
            bytes += model.value.as_ref().map_or(0, Vec::len);
            if bytes > 50_000 {
                break;
            }
            let record = record(&place, &model);
            if sequenced {
                let is_new = stored.is_none_or(|stored| sequence > stored);
                match open.transaction.send_sequenced(sequence, record) {
                    Ok(added) if added == is_new => {}
                    other => return violation(format!("{sequence} after {stored:?}: {other:?}")),
                }
                sequence += 1;
                if !is_new {
                    continue;
                }
                let last = sequence - 1;
                open.plan.sequences =
                    Some((open.plan.sequences.map_or(last, |(first, _)| first), last));
            } else if let Err(error) = open.transaction.send(record) {
                return violation(format!("a transaction takes no record: {error:?}"));
            }
            open.plan.topics.insert((place.0.clone(), self.incarnation(&place)));
            open.plan.records.push((place, model));
        }
        let sent = |(place, model): &(Place, _)| {
            let model: &std::sync::Arc<crate::oracle::RecordModel> = model;
            (place.clone(), model.id.map(|id| id.name))
        };
        let sent: Vec<_> = open.plan.records.iter().map(sent).collect();
        self.note(format!("a transaction of {sent:?}, sequences {:?}", open.plan.sequences));
        Ok(())
    }

    /// Lets the commit depend on log ends and committed offsets, which may not be as expected.
    fn expect(&mut self, open: &mut Open) -> Step {
        if let Some(place) = self.any_place().filter(|_| self.one_in(4)) {
            let end = self.near(self.history.state().end(&place));
            if let Err(error) = open.transaction.expect_end(&partition(&place), end) {
                return violation(format!("an end cannot be expected: {error:?}"));
            }
            self.note(format!("  if {place:?} ends at {end}"));
            open.plan.topics.insert((place.0.clone(), self.incarnation(&place)));
            open.plan.ends.insert(place, end);
        }
        if let Some(place) = self.any_place().filter(|_| self.one_in(4)) {
            let group = GROUPS[self.below(GROUPS.len())];
            let committed = self.history.state().offsets.get(&(group.to_owned(), place.clone()));
            let expected = committed.map(|offset| self.near(*offset));
            let expected = if self.one_in(8) { Some(0) } else { expected };
            let partition = partition(&place);
            if let Err(error) = open.transaction.expect_committed(group, &partition, expected) {
                return violation(format!("an offset cannot be expected: {error:?}"));
            }
            self.note(format!("  if {group} has committed {expected:?} of {place:?}"));
            open.plan.topics.insert((place.0.clone(), self.incarnation(&place)));
            open.plan.committed.push((group, place, expected));
        }
        Ok(())
    }

    /// Returns a number, or sometimes one beside it.
    pub(crate) fn near(&self, number: i64) -> i64 {
        if self.one_in(4) { (number + self.below(3) as i64 - 1).max(0) } else { number }
    }

    fn commit_transaction(&mut self, session: &mut Session, open: Open) -> Step {
        let Some(batch) = self.batch(&open.plan.records) else {
            self.give_up(session, open);
            return Ok(());
        };
        let Some(room) = self.before_append(session, &batch.places()) else {
            self.give_up(session, open);
            return Ok(());
        };
        let against = self.against(session, &open.plan);
        self.note(format!("commit the transaction; {against:?}"));
        let had_failed = session.has_failed();
        let Open { transaction, plan, synced } = open;
        let mark = self.mark();
        let change = plan.change(batch.stored());
        let needs_journal = !change.is_nothing();
        if against.causes.is_empty() {
            self.history.attempt(change);
        }
        let committed = transaction.commit();
        self.note_short(committed.as_ref().err());
        self.alive()?;
        match committed {
            Ok(_) if !against.causes.is_empty() => {
                return violation(format!("a transaction succeeds against {against:?}"));
            }
            Ok(_) if had_failed && needs_journal => {
                return violation("a transaction succeeds although a write had failed");
            }
            Ok(committed) => {
                let stored = self.check_sent(&batch, committed.metadata())?;
                self.take_back();
                self.history.attempt(plan.change(stored));
                self.history.written();
                self.trace.tally.transactions += 1;
                were_committed(session, &plan);
                if synced && self.one_in(2) {
                    self.wait_for(committed)?;
                }
            }
            Err(error) => self.was_refused(session, (&plan, &against), &error, mark)?,
        }
        self.after_append(session, room)
    }

    fn wait_for(&mut self, committed: Committed) -> Step {
        let count = self.history.attempted();
        let mark = self.mark();
        let waited = committed.wait();
        self.alive()?;
        match waited {
            Ok(()) => {
                self.history.synced_up_to(count);
                Ok(())
            }
            Err(error) => self.judge(&error, mark),
        }
    }

    fn was_refused(
        &mut self,
        session: &mut Session,
        (plan, against): (&Plan, &Against),
        error: &Error,
        mark: Mark,
    ) -> Step {
        self.note(format!("  {error}"));
        have_failed(session, plan);
        if matches!(error, Error::Indeterminate { .. }) {
            // Otherwise records would come again whose results are there.
            if !session.has_failed() {
                return violation(format!("a transaction may be there, and all goes on: {error}"));
            }
            return self.judge(error, mark);
        }
        if against.causes.is_empty() {
            self.take_back();
        }
        if against.explains(error) {
            self.trace.tally.refused_transactions += 1;
            return Ok(());
        }
        self.judge(error, mark)
    }

    fn give_up(&mut self, session: &mut Session, open: Open) {
        self.note("give the transaction up");
        if self.one_in(2) {
            open.transaction.abort();
        } else {
            drop(open.transaction);
        }
        have_failed(session, &open.plan);
    }
}
