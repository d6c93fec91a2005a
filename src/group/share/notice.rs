//! What a fetch notices: that there is nothing to deliver, or that a record shall be delivered later.
//!
//! The caller journals and applies it before it lets go of the lock. If the journal fails, it is read and noticed again.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::batch::ReadRecord;
use super::partition::SharePartition;
use super::reason::Reason;
use super::run::{Content, Span};
use super::section::{Item, To};
use super::taking::{InBatch, Taking};

impl SharePartition {
    /// Notices that there is nothing to deliver in a span. Returns false if the window has no room for it, or if there are
    /// too many changes for one section.
    pub(super) fn pass_gap(
        &mut self,
        taking: &mut Taking<'_>,
        batch: Option<&mut InBatch>,
        span: Span,
    ) -> bool {
        if let Some(left) = self.notice_known_gap(taking, span) {
            if let Some(passed) = Span::new(span.first, left.saturating_sub(1)) {
                self.gap_passed(taking, passed);
            }
            return false;
        }
        if let Some(new) = span.from(self.end.saturating_add(1)) {
            let mut none = InBatch { budget: 0, entered: false, careful: false };
            let batch = batch.unwrap_or(&mut none);
            if self.room(taking, batch).is_none()
                || !taking.notice(Item::Set(new, To::Archived { count: 0 }))
            {
                return false;
            }
            batch.entered = true;
            self.extend(new.last);
        }
        self.gap_passed(taking, span);
        true
    }

    /// Notices that what waits in a span is gone. Returns the first offset that it has not come to, if there are too many
    /// changes.
    fn notice_known_gap(&self, taking: &mut Taking<'_>, span: Span) -> Option<i64> {
        let mut left = None;
        for (offset, delay) in self.parked.in_span(span) {
            let one = Span { first: offset, last: offset };
            if !taking.notice(Item::Set(one, To::Archived { count: delay.count })) {
                left = Some(offset);
                break;
            }
        }
        let Some(inside) = span.from(self.start) else { return left };
        for run in self.window.over(inside).filter(|run| run.content.state.is_waiting()) {
            let Some(part) = run.span.meet(inside) else { continue };
            let to = To::Archived { count: run.content.count };
            if !taking.notice(Item::Set(part, to)) {
                return left.into_iter().chain([part.first]).min();
            }
        }
        left
    }

    fn gap_passed(&mut self, taking: &mut Taking<'_>, span: Span) {
        // What compaction took from under its owner stays until he is done with it.
        if !self.over(span).any(|run| run.content.state.is_held()) {
            taking.pass(span);
        }
        self.know(span);
    }

    /// Notices that a record shall be delivered later. Returns false if the window has no room for it.
    pub(super) fn set_aside(
        &mut self,
        taking: &mut Taking<'_>,
        batch: &mut InBatch,
        record: &ReadRecord,
        due: i64,
    ) -> bool {
        let span = Span { first: record.offset, last: record.offset };
        let is_new = span.first > self.end;
        if is_new && self.room(taking, batch).is_none() {
            return false;
        }
        let key = self.order.as_ref().and(record.key);
        let to = To::Delayed { count: 0, due, reason: Reason::SCHEDULED, key };
        if !taking.notice(Item::Set(span, to)) {
            return false;
        }
        if is_new {
            batch.entered = true;
            self.extend(span.last);
        }
        taking.pass(span);
        self.know(span);
        true
    }

    /// Returns whether a record is new, or no member has had it and it has no place in the order of its key.
    pub(super) fn is_untouched(&self, offset: i64) -> bool {
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
}
