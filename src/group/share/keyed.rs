//! Records are handed out in the order of their keys (H10).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::batch::ReadRecord;
use super::order::{Entered, Order};
use super::partition::SharePartition;
use super::run::{Content, Span, State};
use super::taking::{InBatch, Taking};
use crate::types::planted;

impl SharePartition {
    /// Takes a record if it is the first unfinished one of its key. Returns false if the window has no room for it.
    pub(super) fn take_keyed(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        record: &ReadRecord,
    ) -> bool {
        let offset = record.offset;
        let one = Span { first: offset, last: offset };
        let Some(order) = &self.order else { return self.take_data(taking, batch, one) };
        if offset >= self.start {
            if offset > order.known_to.max(self.start) {
                // Earlier records of its key may be ones that nobody has read yet (K3).
                return true;
            }
            if offset > self.end {
                if self.room(taking, batch).is_none() {
                    return false;
                }
                self.enter_new(taking, batch, record);
                return true;
            }
        }
        self.learn_key(record, taking.wall);
        if !self.is_first_of_key(offset) {
            self.block(offset);
            return true;
        }
        self.take_data(taking, batch, one)
    }

    /// Returns whether no other record of its key comes before this one, as far as its key is known.
    fn is_first_of_key(&self, offset: i64) -> bool {
        let first = self.order.as_ref().and_then(|order| order.head(order.key(offset)?));
        first.is_none_or(|first| first == offset)
    }

    /// Takes a record that is new in the window, as far as the budget allows.
    fn enter_new(&mut self, taking: &mut Taking<'_>, batch: &mut InBatch, record: &ReadRecord) {
        let offset = record.offset;
        let one = Span { first: offset, last: offset };
        let may_take = self.room(taking, batch).is_some_and(|room| room > 0);
        self.enter(batch, offset);
        self.learn_key(record, taking.wall);
        if may_take {
            self.take_data(taking, batch, one);
        }
    }

    /// Adds a record that was read to the queue of its key.
    fn learn_key(&mut self, record: &ReadRecord, wall: i64) {
        let offset = record.offset;
        let is_open = self.state(offset).is_some_and(|state| !state.is_finished());
        let waits_here = self.find(offset).is_none_or(|run| run.content.state != State::Parked);
        // What waits for its time in the window is not in the way of others before that.
        let is_due = self.parked.get(offset).is_none_or(|delay| delay.due <= wall);
        if let Some(key) = record.key
            && is_open
            && (waits_here || is_due)
            && let Some(mut order) = self.order.take()
        {
            if order.key(offset).is_none() && !planted("share_no_key_order") {
                let entered = order.enter(key, offset, |head| self.is_waiting(head, wall));
                match entered {
                    Entered::Head => {}
                    Entered::Instead(first, old) => {
                        self.block(old);
                        if first != offset {
                            self.block(offset);
                            self.unblock(first);
                        }
                    }
                    Entered::Behind => self.block(offset),
                }
            }
            self.order = Some(order);
        }
        self.know(Span { first: offset, last: offset });
    }

    /// Returns whether a record waits to be handed out now.
    fn is_waiting(&self, offset: i64, wall: i64) -> bool {
        match self.find(offset).map(|run| run.content.state) {
            Some(State::Available) => true,
            Some(State::Parked) | None => {
                self.parked.get(offset).is_some_and(|delay| delay.due <= wall)
            }
            Some(_) => false,
        }
    }

    /// Lets a record wait for another one of its key.
    fn block(&mut self, offset: i64) {
        match self.find(offset) {
            Some(run) if run.content.state == State::Available => {
                let one = Span { first: offset, last: offset };
                self.window.set(one, Content { state: State::Blocked, ..run.content });
            }
            _ if self.parked.get(offset).is_some() => self.parked.set_blocked(offset, true),
            _ => {}
        }
    }

    /// Notes that a span has been read, if all before it has.
    pub(super) fn know(&mut self, span: Span) {
        let start = self.start;
        if let Some(Order { known_to, .. }) = &mut self.order
            && span.first <= (*known_to).max(start)
        {
            *known_to = (*known_to).max(span.last.saturating_add(1));
        }
    }
}
