//! Transactions that accept jobs together with what was made of them.

use grouplog::{Error, Record, Transaction};

use super::fate::{Fates, Letter, Number};
use super::history::Change;
use super::member::{Held, Session, Worth};
use super::produce::record_of;
use super::world::World;
use super::{GROUPS, RESULTS};
use crate::member::unexpected;
use crate::world::{Step, violation};

impl World {
    /// Accepts some jobs of a member in a transaction, with a result of each and perhaps a job that follows. Commits it, or
    /// gives it up.
    pub(super) fn transact(&mut self, session: &mut Session) -> Step {
        let Some(at) = self.any_holding(session) else { return Ok(()) };
        let member = &mut session.members[at];
        let count = (1 + self.below(3)).min(member.held.len());
        let some = (0..count).map(|_| member.held.swap_remove(self.below(member.held.len())));
        let held: Vec<Held> = some.collect();
        let (group, is_synced) = (member.group, self.one_in(2));
        self.note(format!("{} accepts in a transaction:", member.name));
        let producer = if is_synced { &session.synced } else { &session.written };
        let begun = producer.begin().or_else(unexpected)?;
        let worths: Vec<(Number, u16, Worth)> =
            held.iter().map(|held| (held.number, held.count, self.worth_of(held))).collect();
        let late = worths.iter().filter(|(_, _, worth)| *worth == Worth::IsLate);
        member.late.extend(late.map(|(number, count, _)| (*number, *count)));
        let follower = if self.one_in(3) { self.new_job(None) } else { None };
        let transaction = self.fill(begun, group, held, follower)?;
        for (number, count, worth) in &worths {
            self.note(format!("  job {number}, delivery {count}, {worth:?}"));
        }
        if self.one_in(4) {
            self.note("  it is given up");
            return self.give_back(session, group, &worths, follower, || drop(transaction));
        }
        self.commit(session, group, &worths, follower, transaction, is_synced)
    }

    fn fill(
        &self,
        mut transaction: Transaction,
        group: usize,
        held: Vec<Held>,
        follower: Option<Number>,
    ) -> Step<Transaction> {
        for Held { number, record, .. } in held {
            let value = format!("{number:08}");
            let result = Record::to(RESULTS).partition(0).key(GROUPS[group]).value(&value);
            transaction.send(result).or_else(unexpected)?;
            transaction.accept(record).or_else(unexpected)?;
        }
        if let Some(number) = follower {
            transaction.send(record_of(&self.jobs[&number], None)).or_else(unexpected)?;
        }
        Ok(transaction)
    }

    fn commit(
        &mut self,
        session: &mut Session,
        group: usize,
        worths: &[(Number, u16, Worth)],
        follower: Option<Number>,
        transaction: Transaction,
        is_synced: bool,
    ) -> Step {
        let is_refused =
            worths.iter().any(|(_, _, worth)| matches!(worth, Worth::IsLate | Worth::HasNoTopic));
        if is_refused {
            let mut committed = None;
            self.give_back(session, group, worths, follower, || {
                committed = Some(transaction.commit());
            })?;
            return match committed {
                Some(Err(Error::InvalidRecordState { .. } | Error::UnknownTopic { .. })) => {
                    self.tally.count("transactions refused");
                    Ok(())
                }
                other => violation(format!("a transaction with {worths:?}: {other:?}")),
            };
        }
        let mut done = Fates::new();
        for (number, _, _) in worths {
            self.loose.remove(&(group, *number));
            // Of a job that is gone, several deliveries may be accepted.
            let fate = done.get(number).cloned().unwrap_or_else(|| self.history.fate(*number));
            let fate = fate.open_at(group, None).with(group, |standing| standing.results += 1);
            done.insert(*number, fate);
        }
        let mut changes: Vec<Change> = done.into_iter().collect();
        changes.extend(Self::sent(follower.as_slice()));
        self.history.attempt(changes);
        let committed = transaction.commit();
        if let Err(error) = &committed
            && self.has_failed(error)
        {
            let (changes, _) = self.released_all(group, worths);
            self.history.attempt_each(changes);
        }
        self.alive()?;
        let committed = committed
            .or_else(|error| violation(format!("a transaction with {worths:?}: {error:?}")))?;
        self.tally.count("transactions");
        self.history.written();
        if is_synced {
            let waited = committed.wait();
            self.alive()?;
            waited.or_else(unexpected)?;
            self.history.synced();
        }
        Ok(())
    }

    /// Ends a transaction without effect. Its jobs are released.
    fn give_back(
        &mut self,
        session: &mut Session,
        group: usize,
        worths: &[(Number, u16, Worth)],
        follower: Option<Number>,
        end: impl FnOnce(),
    ) -> Step {
        if let Some(end) = follower.and_then(|number| self.ends.get_mut(&self.jobs[&number].place))
        {
            *end -= 1;
        }
        let (changes, letters) = self.released_all(group, worths);
        for (number, _) in &changes {
            self.loose.remove(&(group, *number));
        }
        self.history.attempt_each(changes);
        end();
        self.alive()?;
        self.history.written();
        self.expect_letters(session, letters)
    }

    /// Returns what becomes of the jobs of a transaction without effect, and the dead letters.
    fn released_all(
        &self,
        group: usize,
        worths: &[(Number, u16, Worth)],
    ) -> (Vec<Change>, Vec<(Number, Letter)>) {
        let backoff = self.options.groups[group].backoff;
        let (mut changes, mut letters) = (Vec::new(), Vec::new());
        for (number, count, _) in worths.iter().filter(|(_, _, worth)| *worth == Worth::Counts) {
            let (fate, letter) = self.released(group, *number, *count, backoff);
            letters.extend(letter.map(|letter| (*number, letter)));
            changes.push((*number, fate));
        }
        (changes, letters)
    }
}
