//! Records that were read are handed to a member: reserved, in memory only.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::batch::{Contents, Read, ReadBatch, ReadRecord};
use super::fetch::Fetch;
use super::partition::{SharePartition, micros};
use super::run::Span;
use super::taking::{InBatch, Reservation, Take, Taking};
use super::throttle;
use crate::types::{AcquireMode, planted};

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
        if take.max == 0 {
            return true;
        }
        let lock_end = micros(take.now.monotonic.saturating_add(self.settings.lock_duration));
        let (member, wall, left) = (take.member, take.now.wall, u64::from(take.max));
        let mut taking = Taking {
            member,
            lock_end,
            wall,
            left,
            taken: 0,
            changes: take.changes,
            start: self.start,
            out,
        };
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
        let bad = self.count_of_first_bad(batch, taking.wall);
        let cap = bad.and_then(|count| throttle::cap(limit, count, span.len()));
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
}
