//! Records that were read are handed to a member: reserved, in memory only.
//!
//! What has nothing to deliver, and what shall be delivered later, is *noticed*: the caller journals and applies that
//! before it lets go of the lock. If the journal fails, it is read and noticed again.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::batch::{Contents, Read, ReadBatch, ReadRecord};
use super::fetch::Fetch;
use super::partition::{Now, SharePartition, micros};
use super::reason::Reason;
use super::run::{Content, MemberNumber, Run, Span, State};
use super::section::{Item, Section, To};
use super::throttle;
use crate::types::{AcquireMode, planted};

/// Who wants records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Take {
    /// The member.
    pub(crate) member: MemberNumber,
    /// How many records it wants, at least 1.
    pub(crate) max: u32,
    /// The present time.
    pub(crate) now: Now,
}

/// Records of one delivery count that were reserved for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Their offsets.
    pub(crate) span: Span,
    /// The delivery count that they have once they are started.
    pub(crate) count: u16,
    /// How the attempt before ended.
    pub(crate) reason: Reason,
}

/// What a member got. Keep it and use it again: cleared, it needs no new memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reservation {
    /// What was reserved, in the order in which it was found.
    pub(crate) deliveries: Vec<Delivery>,
    /// What is to be journaled and applied: nothing, unless the log has holes, markers or records for later.
    pub(crate) noticed: Section,
}

impl Reservation {
    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.deliveries.clear();
        self.noticed.clear();
    }
}

/// A fetch that hands out.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    member: MemberNumber,
    lock_end: u64,
    pub(super) wall: i64,
    /// How many more records it may take.
    left: u64,
    pub(super) taken: u64,
    /// Where the window begins once what was noticed is applied.
    start: i64,
    pub(super) out: &'a mut Reservation,
}

/// The batch that is handed out.
#[derive(Debug)]
pub(super) struct InBatch {
    /// How many of its records may be taken.
    pub(super) budget: u64,
    /// Whether a part of it has come into the window: then the rest follows, whether or not there is room.
    entered: bool,
    /// Whether it is handed out with care.
    careful: bool,
}

impl SharePartition {
    /// Reserves records of what a fetch has read for a member. Returns false, and does nothing, if the fetch has ended.
    pub(crate) fn reserve(
        &mut self,
        fetch: Fetch,
        read: &Read<'_>,
        take: &Take,
        out: &mut Reservation,
    ) -> bool {
        if self.fetching != Some(fetch.number) {
            return false;
        }
        self.fetching = None;
        let lock_end = micros(take.now.monotonic.saturating_add(self.settings.lock_duration));
        let (member, wall, left) = (take.member, take.now.wall, u64::from(take.max));
        let mut taking = Taking { member, lock_end, wall, left, taken: 0, start: self.start, out };
        let mut at = fetch.from;
        for batch in read.batches {
            if let Some(hole) = Span::new(at, batch.base.saturating_sub(1))
                && !self.pass_gap(&mut taking, None, hole)
            {
                return true;
            }
            if !self.take_batch(&mut taking, batch) {
                return true;
            }
            at = at.max(batch.last.saturating_add(1));
        }
        if let Some(hole) = Span::new(at, read.end.saturating_sub(1)) {
            self.pass_gap(&mut taking, None, hole);
        }
        true
    }

    /// Takes records of a batch. Returns whether the fetch goes on.
    fn take_batch(&mut self, taking: &mut Taking<'_>, batch: &ReadBatch<'_>) -> bool {
        let Some(span) = Span::new(batch.base, batch.last) else { return true };
        let limit = self.settings.delivery_count_limit;
        let cap = throttle::cap(limit, self.worst_count(span, taking.wall), span.len());
        let cap = cap.filter(|_| !planted("share_no_throttle"));
        if cap.is_some() && taking.taken > 0 {
            return false;
        }
        let wanted = match self.settings.acquire_mode {
            AcquireMode::RecordLimit => taking.left,
            AcquireMode::BatchOptimized => u64::MAX,
        };
        let budget = wanted.min(cap.unwrap_or(u64::MAX));
        let mut in_batch = InBatch { budget, entered: false, careful: cap.is_some() };
        let before = taking.taken;
        let goes_on = match batch.contents {
            Contents::Dense => {
                let goes_on = self.take_data(taking, &mut in_batch, span);
                self.know(Span { last: span.last.min(self.end), ..span });
                goes_on
            }
            Contents::Nothing => self.pass_gap(taking, Some(&mut in_batch), span),
            Contents::Records(records) => self.take_records(taking, &mut in_batch, span, records),
        };
        let taken = taking.taken.saturating_sub(before);
        taking.left = taking.left.saturating_sub(taken);
        goes_on && taking.left > 0 && !(in_batch.careful && taken > 0)
    }

    /// Takes records of a batch in which not all are alike.
    fn take_records(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        span: Span,
        records: &[ReadRecord],
    ) -> bool {
        let mut at = span.first;
        let mut alike: Option<Span> = None;
        for record in records.iter().filter(|record| record.offset <= span.last) {
            let offset = record.offset;
            if offset < at {
                continue;
            }
            let due = record.deliver_at.filter(|due| *due > taking.wall);
            let is_special = due.is_some() || self.order.is_some();
            if (is_special || offset > at) && !self.take_alike(taking, batch, alike.take()) {
                return false;
            }
            if let Some(hole) = Span::new(at, offset.saturating_sub(1))
                && !self.pass_gap(taking, Some(batch), hole)
            {
                return false;
            }
            at = offset.saturating_add(1);
            if !is_special {
                let first = alike.map_or(offset, |span| span.first);
                alike = Some(Span { first, last: offset });
                continue;
            }
            let goes_on = match due {
                Some(due) if self.is_untouched(offset) => {
                    self.set_aside(taking, batch, record, due)
                }
                _ => self.take_keyed(taking, batch, record),
            };
            if !goes_on {
                return false;
            }
        }
        let rest = Span::new(at, span.last);
        self.take_alike(taking, batch, alike)
            && rest.is_none_or(|hole| self.pass_gap(taking, Some(batch), hole))
    }

    fn take_alike(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        span: Option<Span>,
    ) -> bool {
        span.is_none_or(|span| self.take_data(taking, batch, span))
    }

    /// Takes records that follow each other. Returns false if the window has no room for what is new.
    pub(super) fn take_data(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        span: Span,
    ) -> bool {
        let known = Span::new(span.first, span.last.min(self.end));
        let mut at = known.filter(|_| batch.budget > 0);
        while let Some(rest) = at {
            let Some((found, old)) = self.next_in(rest, taking.wall) else { break };
            let part = self.take_span(taking, batch, found, old);
            let Some(part) = part.filter(|_| batch.budget > 0) else { break };
            at = part.last.checked_add(1).and_then(|next| rest.from(next));
        }
        let Some(new) = span.from(self.end.saturating_add(1)) else { return true };
        let Some(room) = self.room(taking, batch) else { return false };
        batch.entered = true;
        let limit = match self.settings.acquire_mode {
            AcquireMode::RecordLimit => room.min(batch.budget),
            AcquireMode::BatchOptimized => batch.budget,
        };
        let first = new.prefix(limit);
        if let Some(first) = first {
            self.end = first.last;
            self.deliver(taking, batch, first, Content::fresh());
        }
        self.extend(new.last);
        true
    }

    /// Returns the next records of a span that may be handed out, and what they are now.
    fn next_in(&self, span: Span, wall: i64) -> Option<(Span, Content)> {
        let run = self.window.available_from(span.first.max(self.start));
        let run = run.and_then(|Run { span: of, content }| Some((of.meet(span)?, content)));
        if self.parked.is_empty() {
            return run;
        }
        let parked = self.parked.due_in(span, wall).map(|(offset, delay)| {
            let one = Span { first: offset, last: offset };
            (one, Content::free(State::Parked, delay.count, delay.reason))
        });
        match (run, parked) {
            (Some(run), Some(parked)) if parked.0.first < run.0.first => Some(parked),
            (Some((of, content)), Some(parked)) => {
                Some((of.below(parked.0.first).unwrap_or(of), content))
            }
            (run, parked) => run.or(parked),
        }
    }

    /// Takes records that agree, as many as the throttle and the budget let through. Returns the last ones.
    fn take_span(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        span: Span,
        old: Content,
    ) -> Option<Span> {
        let alone = throttle::goes_alone(self.settings.delivery_count_limit, old.count)
            && !planted("share_no_throttle");
        if alone && taking.taken > 0 {
            batch.budget = 0;
            return None;
        }
        let part = span.prefix(if alone { 1 } else { batch.budget })?;
        if old.state == State::Parked {
            self.parked.remove(part.first);
        }
        self.deliver(taking, batch, part, old);
        if alone {
            batch.budget = 0;
        }
        Some(part)
    }

    /// Reserves records that agree.
    fn deliver(&mut self, taking: &mut Taking<'_>, batch: &mut InBatch, span: Span, old: Content) {
        let (lock_end, owner) = (taking.lock_end, taking.member);
        let content = Content { lock_end, owner, state: State::Reserved, ..old };
        self.put(span, content);
        self.lock(lock_end, span);
        batch.budget = batch.budget.saturating_sub(span.len());
        taking.taken = taking.taken.saturating_add(span.len());
        let (count, reason) = (old.count.saturating_add(1), old.reason);
        match taking.out.deliveries.last_mut() {
            Some(before)
                if before.span.last.checked_add(1) == Some(span.first)
                    && (before.count, before.reason) == (count, reason) =>
            {
                before.span.last = span.last;
            }
            _ => taking.out.deliveries.push(Delivery { span, count, reason }),
        }
    }

    /// Notices that there is nothing to deliver in a span. Returns false if the window has no room for it.
    fn pass_gap(
        &mut self,
        taking: &mut Taking<'_>,
        batch: Option<&mut InBatch>,
        span: Span,
    ) -> bool {
        for (offset, delay) in self.parked.in_span(span) {
            let one = Span { first: offset, last: offset };
            taking.out.noticed.push(Item::Set(one, To::Archived { count: delay.count }));
        }
        if let Some(inside) = span.from(self.start) {
            for run in self.window.over(inside).filter(|run| run.content.state.is_waiting()) {
                let Some(part) = run.span.meet(inside) else { continue };
                let to = To::Archived { count: run.content.count };
                taking.out.noticed.push(Item::Set(part, to));
            }
        }
        if let Some(new) = span.from(self.end.saturating_add(1)) {
            let mut none = InBatch { budget: 0, entered: false, careful: false };
            let batch = batch.unwrap_or(&mut none);
            if self.room(taking, batch).is_none() {
                return false;
            }
            batch.entered = true;
            self.extend(new.last);
            taking.out.noticed.push(Item::Set(new, To::Archived { count: 0 }));
        }
        // What compaction took from under its owner stays until he is done with it.
        if !self.over(span).any(|run| run.content.state.is_held()) {
            taking.pass(span);
        }
        self.know(span);
        true
    }

    /// Notices that a record shall be delivered later. Returns false if the window has no room for it.
    fn set_aside(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        record: &ReadRecord,
        due: i64,
    ) -> bool {
        let span = Span { first: record.offset, last: record.offset };
        if span.first > self.end {
            if self.room(taking, batch).is_none() {
                return false;
            }
            batch.entered = true;
            self.extend(span.last);
        }
        let key = self.order.as_ref().and(record.key);
        let to = To::Delayed { count: 0, due, reason: Reason::SCHEDULED, key };
        taking.out.noticed.push(Item::Set(span, to));
        taking.pass(span);
        self.know(span);
        true
    }

    /// Returns whether a record is new, or no member has had it and it has no place in the order of its key.
    fn is_untouched(&self, offset: i64) -> bool {
        if self.order.as_ref().is_some_and(|order| order.key(offset).is_some()) {
            return false;
        }
        let untouched = |content: Content| {
            content.state.is_waiting() && content.count == 0 && content.reason == Reason::NONE
        };
        offset > self.end
            || (offset >= self.start
                && self.window.find(offset).is_some_and(|run| untouched(run.content)))
    }

    /// Returns how many records may come into the window, or `None` if none may.
    pub(super) fn room(&self, taking: &Taking<'_>, batch: &InBatch) -> Option<u64> {
        let taken = Span::new(taking.start, self.end).map_or(0, Span::len);
        let room = u64::from(self.settings.max_record_locks).saturating_sub(taken);
        (room > 0 || batch.entered || planted("share_no_window_limit")).then_some(room)
    }

    pub(super) fn enter(&mut self, batch: &mut InBatch, last: i64) {
        batch.entered = true;
        self.extend(last);
    }

    /// Returns the most attempts of a record of a span that may be handed out.
    fn worst_count(&self, span: Span, wall: i64) -> u16 {
        let mut worst = 0;
        let mut at = span.first.max(self.start);
        while let Some(run) = self.window.available_from(at)
            && run.span.first <= span.last
        {
            worst = worst.max(run.content.count);
            let Some(next) = run.span.last.checked_add(1) else { break };
            at = next;
        }
        if self.parked.is_empty() {
            return worst;
        }
        let due =
            self.parked.in_span(span).filter(|(_, delay)| !delay.blocked && delay.due <= wall);
        due.map(|(_, delay)| delay.count).fold(worst, u16::max)
    }
}

impl Taking<'_> {
    /// Moves the start that counts over offsets that will not hold it up.
    fn pass(&mut self, span: Span) {
        if span.first <= self.start && self.start <= span.last {
            self.start = span.last.saturating_add(1);
        }
    }
}
