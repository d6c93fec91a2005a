//! How attempts end: the limit, the backoff, dead letters (H6).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use super::decision::{Cause, DeadLetter, Decision};
use super::partition::{Now, SharePartition};
use super::reason::Reason;
use super::run::{MemberNumber, Run, Span, State};
use super::section::{Item, To};
use crate::types::{Backoff, planted};

/// The most runs that one decision about locks or sessions covers; with a delay, the most records. Its frame stays small.
pub(super) const ENDS_MAX: u64 = 8_192;

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Accept,
    /// Given up without a dead letter: there is no such record, or it was cancelled.
    Drop,
    Reject,
    /// Comes again. `delay` is `None` if the group's backoff says how long it waits.
    Retry {
        delay: Option<Duration>,
        reason: Reason,
    },
    /// Comes again, and the attempt does not count.
    Uncounted {
        delay: Duration,
        reason: Reason,
    },
}

impl SharePartition {
    /// Returns the part of a span whose attempts can end now: as many records as the decision takes dead letters.
    pub(super) fn fitting(&self, run: &Run, span: Span, end: End, out: &Decision) -> Option<Span> {
        let is_letter = match end {
            End::Reject => true,
            End::Retry { .. } => run.content.count >= self.settings.delivery_count_limit,
            End::Accept | End::Drop | End::Uncounted { .. } => false,
        };
        if is_letter { span.prefix(out.room()) } else { Some(span) }
    }

    /// Decides the end of the attempts on a part of a run.
    pub(super) fn end_attempt(
        &self,
        run: &Run,
        span: Span,
        end: End,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
    ) {
        let count = run.content.count;
        // Of what retention took, nothing can be delivered again, and nothing becomes a dead letter.
        if let Some(gone) = span.below(self.log_start) {
            out.section.push(Item::Set(gone, To::Archived { count }));
        }
        let Some(span) = span.from(self.log_start) else { return };
        let (to, cause) = match end {
            End::Accept => (To::Acknowledged { count }, None),
            End::Drop => (To::Archived { count }, None),
            End::Reject => (To::Archived { count }, Some(Cause::Rejected)),
            End::Retry { .. }
                if count >= self.settings.delivery_count_limit
                    && !planted("share_limit_ignored") =>
            {
                (To::Archived { count }, Some(Cause::Limit))
            }
            End::Retry { delay, reason } => {
                let delay_ms = delay.map_or_else(
                    || self.settings.backoff.delay_ms(count, random()),
                    |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                );
                return self.come_again(run, span, (count, reason), delay_ms, now, out);
            }
            End::Uncounted { delay, reason } => {
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                let count = count.saturating_sub(1);
                return self.come_again(run, span, (count, reason), delay_ms, now, out);
            }
        };
        out.section.push(Item::Set(span, to));
        if let Some(cause) = cause.filter(|_| !planted("share_no_dead_letter")) {
            out.letters.push(DeadLetter { span, count, cause, before: run.content.reason });
        }
    }

    fn come_again(
        &self,
        run: &Run,
        span: Span,
        (count, reason): (u16, Reason),
        delay_ms: u64,
        now: Now,
        out: &mut Decision,
    ) {
        let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
        let due = now.wall.saturating_add(delay).max(0);
        let at_once = To::Available { count, reason };
        if delay_ms == 0 {
            return out.section.push(Item::Set(span, at_once));
        }
        let Some(order) = &self.order else {
            return out
                .section
                .push(Item::Set(span, To::Delayed { count, due, reason, key: None }));
        };
        for offset in span.first..=span.last {
            let one = Span { first: offset, last: offset };
            let to = match order.key(offset) {
                // A record whose key this process has not read would not hold up its key while it waits. So it does
                // not wait.
                None if offset >= order.known_to || run.content.owner == MemberNumber::NOBODY => {
                    at_once
                }
                key => To::Delayed { count, due, reason, key },
            };
            out.section.push(Item::Set(one, to));
        }
    }

    /// Decides the end of the attempts whose locks have ended, of at most a few thousand runs, and as many as the decision
    /// takes dead letters. Call it again after applying, until it returns false.
    pub(crate) fn decide_lock_ends(
        &self,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
    ) -> bool {
        let micros = now.micros();
        let delays = self.settings.backoff != Backoff::NONE;
        let mut left = ENDS_MAX;
        let mut ended: Vec<(Span, Run)> = Vec::new();
        'locks: for lock in self.locks.ended(micros) {
            for run in self.over(lock.span) {
                if !run.content.state.is_held() || run.content.lock_end != lock.end {
                    continue;
                }
                let Some(span) = run.span.meet(lock.span) else { continue };
                // What is delayed is tracked record by record. The rest of a long run has its turn later.
                let part = if delays { span.prefix(left) } else { Some(span) };
                let Some(part) = part else { break 'locks };
                ended.push((part, run));
                left = left.saturating_sub(if delays { part.len() } else { 1 });
                if left == 0 {
                    break 'locks;
                }
            }
        }
        // A record that was locked twice until the same moment is there twice.
        ended.sort_by_key(|(span, _)| span.first);
        let mut from = i64::MIN;
        for (span, run) in ended {
            let Some(span) = span.from(from) else { continue };
            self.give_back(&run, span, Reason::LOCK_ENDED, now, random, out);
            from = span.last.saturating_add(1);
        }
        left < ENDS_MAX
    }

    /// Decides the end of the session of a member: all that it has comes again at once, or is given up at the limit. Of
    /// what no handler saw, nothing is counted. Covers a few thousand runs, and as many as the decision takes dead letters;
    /// call it again after applying, until it returns false.
    pub(crate) fn decide_session_end(
        &self,
        member: MemberNumber,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
    ) -> bool {
        let held = self.outside.iter().chain(self.window.iter());
        let held = held.filter(|run| run.content.state.is_held() && run.content.owner == member);
        let mut any = false;
        for run in held.take(ENDS_MAX as usize) {
            self.give_back(&run, run.span, Reason::SESSION_ENDED, now, random, out);
            any = true;
        }
        any
    }

    /// Decides that what a member holds comes again, or not.
    fn give_back(
        &self,
        run: &Run,
        span: Span,
        reason: Reason,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
    ) {
        let content = run.content;
        if content.state == State::Reserved {
            // No attempt began, so none ends.
            let reason = out.section.reasons.translate(&self.reasons, content.reason);
            let to = To::Available { count: content.count, reason };
            return out.section.push(Item::Set(span, to));
        }
        // A member that leaves is no sign that the record is bad.
        let delay = (reason == Reason::SESSION_ENDED).then_some(Duration::ZERO);
        let end = End::Retry { delay, reason };
        if let Some(span) = self.fitting(run, span, end, out) {
            self.end_attempt(run, span, end, now, random, out);
        }
    }
}
