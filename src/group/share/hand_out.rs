//! Records that agree are handed out: what the window has or parked ones, and what comes new into it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::batch::ReadBatch;
use super::partition::SharePartition;
use super::run::{Content, Run, Span, State};
use super::taking::{Delivery, InBatch, Taking};
use super::throttle;
use crate::types::{AcquireMode, planted};

impl SharePartition {
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

    /// Returns the attempts of the first record of a batch that may be handed out and needs care, as Kafka does. What
    /// compaction has removed from the batch counts no more.
    pub(super) fn count_of_first_bad(&self, batch: &ReadBatch<'_>, wall: i64) -> Option<u16> {
        let span = Span::new(batch.base, batch.last)?;
        let threshold = throttle::threshold(self.settings.delivery_count_limit)?;
        let mut at = span.first.max(self.start);
        let mut first: Option<(i64, u16)> = None;
        while let Some(run) = self.window.available_from(at)
            && run.span.first <= span.last
        {
            let found = run.span.meet(span).and_then(|part| batch.first_in(part));
            if let Some(offset) = found.filter(|_| run.content.count >= threshold) {
                first = Some((offset, run.content.count));
                break;
            }
            let Some(next) = run.span.last.checked_add(1) else { break };
            at = next;
        }
        if !self.parked.is_empty() {
            let mut due = self.parked.in_span(span).filter(|(offset, delay)| {
                let is_due = !delay.blocked && delay.due <= wall && delay.count >= threshold;
                is_due && batch.first_in(Span { first: *offset, last: *offset }).is_some()
            });
            let parked = due.next().map(|(offset, delay)| (offset, delay.count));
            first = first.into_iter().chain(parked).min_by_key(|(offset, _)| *offset);
        }
        first.map(|(_, count)| count)
    }
}
