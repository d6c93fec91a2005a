//! Positions that transactions take from a consumer, and what becomes of them.
//!
//! A transaction does not borrow the consumer whose positions it commits. Both share [`Outcomes`].
//!
//! * **T1** Positions of one partition are committed in the order in which they were taken. A transaction is
//!   refused while an earlier one with the same partition is open, and after an earlier one has failed. Otherwise
//!   it would mark the records of the other one as done.
//! * **T2** If a transaction fails or is dropped, the consumer goes back to where its uncommitted records begin,
//!   at its next call that uses positions. What earlier transactions hold, which are open, is left out: they may
//!   still commit it. Until then no transaction takes positions there, and who tries gives all its records back:
//!   what it has made of them is lost with its transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::held::Held;
use super::{Consumer, ConsumerRecord, OffsetAndMetadata, Position};
use crate::engine::{EngineHandle, GroupHandle};
use crate::error::{Error, Result};
use crate::group::{MemberEpoch, MemberId};
use crate::log::Log;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::types::{PartitionNumber, planted};

/// The fate of positions that transactions have taken.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Whether something became of a transaction that the consumer does not know yet.
    news: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next ticket. Each taking of positions gets one.
    next_ticket: u64,
    /// The tickets of open transactions.
    open: BTreeMap<(PartitionNumber, u64), Ticket>,
    /// What was committed since the consumer looked.
    committed: BTreeMap<PartitionNumber, Position>,
    /// Partitions to rewind.
    failed: BTreeSet<PartitionNumber>,
}

#[derive(Debug)]
struct Ticket {
    /// The first ticket of the transaction, which identifies it.
    transaction: u64,
    position: Position,
    /// Whether a transaction has failed that had taken earlier positions.
    refused: bool,
}

const FAILED_BEFORE: Error = Error::Misuse(
    "an earlier transaction with positions of this consumer failed or was aborted: poll again, its records come back",
);
const GONE_BACK: Error = Error::Misuse(
    "the consumer has gone back to a place before this record: poll again, the record comes back",
);
const OPEN_BEFORE: Error = Error::Misuse(
    "an earlier transaction with positions of this consumer is open: end transactions in the order in which they took positions",
);

/// A position that a transaction took.
#[derive(Debug)]
pub(crate) struct TakenPosition {
    pub(crate) log: Arc<Log>,
    pub(crate) position: OffsetAndMetadata,
}

/// The positions that a transaction took from one consumer at one time.
#[derive(Debug)]
pub(crate) struct Taking {
    pub(crate) group: Arc<GroupHandle>,
    pub(crate) member: Option<(MemberId, MemberEpoch)>,
    pub(crate) positions: Vec<TakenPosition>,
    outcomes: Arc<Outcomes>,
}

/// The positions that a transaction holds of one consumer. Dropping it means that the transaction failed.
#[derive(Debug)]
pub(crate) struct Taken {
    outcomes: Arc<Outcomes>,
    /// The first ticket.
    id: u64,
    positions: BTreeMap<PartitionNumber, HeldPosition>,
}

/// The position that a transaction holds in one partition.
#[derive(Debug)]
struct HeldPosition {
    first_ticket: u64,
    last_ticket: u64,
    position: Position,
}

impl Outcomes {
    /// Returns whether a transaction may not take positions in the partitions it wants, because an earlier one has
    /// failed there. Then everything that no transaction has taken comes back.
    fn refuse<'h>(&self, all: &[Held], mut wanted: impl Iterator<Item = &'h Held>) -> bool {
        let mut state = self.state.lock();
        let refused = wanted.any(|held| state.failed.contains(&held.log.number()));
        if refused {
            state.give_back(all);
        }
        refused
    }

    /// Lets everything come back that no transaction has taken: a transaction had no room for it.
    fn give_back(&self, all: &[Held]) {
        self.state.lock().give_back(all);
        self.news.store(true, Ordering::Release);
    }
}

impl Taking {
    /// Moves the positions into those that the transaction holds.
    pub(crate) fn enter(&self, held: &mut Vec<Taken>) {
        let at = held.iter().position(|taken| Arc::ptr_eq(&taken.outcomes, &self.outcomes));
        let mut state = self.outcomes.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket = ticket.saturating_add(1);
        let at = at.unwrap_or_else(|| {
            let outcomes = Arc::clone(&self.outcomes);
            held.push(Taken { outcomes, id: ticket, positions: BTreeMap::new() });
            held.len().saturating_sub(1)
        });
        let Some(taken) = held.get_mut(at) else { return };
        for TakenPosition { log, position } in &self.positions {
            let position = Position::from(position.clone());
            let entry = Ticket { transaction: taken.id, position, refused: false };
            state.open.insert((log.number(), ticket), entry);
            taken
                .positions
                .entry(log.number())
                .and_modify(|held| (held.last_ticket, held.position) = (ticket, position))
                .or_insert(HeldPosition { first_ticket: ticket, last_ticket: ticket, position });
        }
    }
}

impl Taken {
    /// Checks T1, before the commit.
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.outcomes.state.lock();
        for (number, held) in &self.positions {
            for (_, ticket) in state.open.range((*number, 0)..=(*number, held.last_ticket)) {
                if ticket.transaction != self.id && !planted("commit_before_earlier_transaction") {
                    return Err(OPEN_BEFORE);
                }
                if ticket.refused && !planted("commit_after_failed_transaction") {
                    return Err(FAILED_BEFORE);
                }
            }
        }
        Ok(())
    }

    /// Notes that the transaction was committed.
    pub(crate) fn committed(mut self) {
        let positions = std::mem::take(&mut self.positions);
        let mut state = self.outcomes.state.lock();
        for (number, held) in positions {
            state.close(number, held.last_ticket, self.id);
            state.committed.insert(number, held.position);
        }
        self.outcomes.news.store(true, Ordering::Release);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.positions.is_empty() || planted("no_rewind") {
            return;
        }
        let mut state = self.outcomes.state.lock();
        for (number, held) in std::mem::take(&mut self.positions) {
            state.close(number, held.last_ticket, self.id);
            let later = (number, held.first_ticket)..=(number, u64::MAX);
            state.open.range_mut(later).for_each(|(_, ticket)| ticket.refused = true);
            state.failed.insert(number);
        }
        self.outcomes.news.store(true, Ordering::Release);
    }
}

impl State {
    /// Notes that everything is to come back that no transaction has taken.
    fn give_back(&mut self, all: &[Held]) {
        if planted("refusal_rewinds_nothing") {
            return;
        }
        let untaken = all.iter().filter(|held| held.to_take().is_some());
        self.failed.extend(untaken.map(|held| held.log.number()));
    }

    /// Returns the last position that an open transaction holds which can still be committed.
    fn last_open(&self, number: PartitionNumber) -> Option<Position> {
        let tickets = self.open.range((number, 0)..=(number, u64::MAX));
        let mut may_commit = tickets.filter(|(_, ticket)| !ticket.refused);
        may_commit.next_back().map(|(_, ticket)| ticket.position)
    }

    /// Removes the tickets of a transaction up to `ticket`.
    fn close(&mut self, number: PartitionNumber, ticket: u64, id: u64) {
        let tickets = (number, 0)..=(number, ticket);
        self.open.extract_if(tickets, |_, ticket| ticket.transaction == id).for_each(drop);
    }
}

impl Consumer {
    /// Takes the positions that are neither committed nor taken yet, for a transaction of `engine`.
    ///
    /// Takes nothing if `fits` refuses them. Then all records come back that no transaction has taken.
    pub(crate) fn take_positions(
        &mut self,
        engine: &EngineHandle,
        fits: impl FnOnce(&Taking) -> Result<()>,
    ) -> Result<Taking> {
        self.take(engine, |_| true, None, fits)
    }

    /// Takes the position behind one record of the consumer. `fits` as for [`Consumer::take_positions`].
    pub(crate) fn take_through(
        &mut self,
        engine: &EngineHandle,
        record: &ConsumerRecord<'_>,
        fits: impl FnOnce(&Taking) -> Result<()>,
    ) -> Result<Taking> {
        let position = record.next_position();
        let of = |log: &Log| {
            record.is_of(log.partition()) && Some(log.topic_id()) == position.topic_id()
        };
        let taking = self.take(engine, of, Some(position), fits)?;
        if taking.positions.is_empty() && !self.held.iter().any(|held| of(&held.log)) {
            return Err(Error::Misuse(
                "the record is of a partition that this consumer does not read",
            ));
        }
        Ok(taking)
    }

    /// Takes the positions in the partitions that `which` names, or instead of them one `position`.
    fn take(
        &mut self,
        engine: &EngineHandle,
        which: impl Fn(&Log) -> bool,
        position: Option<Position>,
        fits: impl FnOnce(&Taking) -> Result<()>,
    ) -> Result<Taking> {
        self.check_not_poisoned()?;
        if !Arc::ptr_eq(self.source.engine()?, engine) {
            return Err(Error::Misuse(
                "the consumer reads another folder than the transaction writes",
            ));
        }
        if self.config.auto_commits() {
            return Err(Error::Misuse(
                "a transaction commits the offsets of this consumer: turn enable.auto.commit off",
            ));
        }
        let Some(name) = &self.config.group else {
            return Err(Error::Misuse("commit needs a group: set group.id"));
        };
        let group = match &self.membership {
            Some(member) => Arc::clone(&member.group),
            None => engine.groups.get(name)?,
        };
        let member = self.membership.as_ref().map(|member| (member.id.clone(), member.epoch));
        let mut wanted = self.held.iter().filter(|held| which(&held.log));
        if self.outcomes.refuse(&self.held, wanted.clone()) {
            return Err(FAILED_BEFORE);
        }
        if let Some(position) = position
            && wanted.any(|held| held.offset().is_some_and(|at| at < position.offset()))
        {
            return Err(GONE_BACK);
        }
        let to_take = |held: &Held| position.or_else(|| held.to_take());
        let take = |held: &Held| {
            let position = to_take(held)?.into();
            Some(TakenPosition { log: Arc::clone(&held.log), position })
        };
        let positions = self.held.iter().filter(|held| which(&held.log)).filter_map(take).collect();
        let taking = Taking { group, member, positions, outcomes: Arc::clone(&self.outcomes) };
        fits(&taking).inspect_err(|_| self.outcomes.give_back(&self.held))?;
        for held in self.held.iter_mut().filter(|held| which(&held.log)) {
            if let Some(position) = to_take(held) {
                held.set_taken(position.offset());
            }
        }
        Ok(taking)
    }

    /// Notes what became of the transactions that took positions (T2).
    pub(super) fn follow_transactions(&mut self) {
        if !self.outcomes.news.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.outcomes.state.lock();
        self.outcomes.news.store(false, Ordering::Relaxed);
        let committed = std::mem::take(&mut state.committed);
        let failed = std::mem::take(&mut state.failed).into_iter();
        let failed: BTreeMap<_, _> =
            failed.map(|number| (number, state.last_open(number))).collect();
        drop(state);
        for held in &mut self.held {
            if let Some(position) = committed.get(&held.log.number()) {
                held.set_committed(*position);
            }
            if let Some(taken) = failed.get(&held.log.number()) {
                held.rewind(taken.filter(|_| !planted("rewind_into_open_transaction")));
            }
        }
    }
}
