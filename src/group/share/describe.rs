//! What an operator sees, and what he does by hand.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use super::decision::Decision;
use super::ends::End;
use super::partition::{Now, SharePartition};
use super::reason::Reason;
use super::run::{Content, MemberNumber, Run, Span, State};
use super::section::{Item, To};

/// Unfinished records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lag {
    /// All of them; Kafka's lag. 0 exactly if nothing is unfinished.
    pub(crate) total: u64,
    /// Those that could be handed out now, whether or not they have been tried before.
    pub(crate) not_started: u64,
    /// Those that members hold.
    pub(crate) under_way: u64,
    /// Those whose time has not come: scheduled, or waiting for their backoff.
    pub(crate) delayed: u64,
}

/// Records that a member holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// Their offsets.
    pub(crate) span: Span,
    /// Reserved or Acquired.
    pub(crate) state: State,
    /// Who holds them.
    pub(crate) owner: MemberNumber,
    /// The attempts, a present one included.
    pub(crate) count: u16,
    /// When the lock ends, by the monotonic clock.
    pub(crate) lock_end: Duration,
    /// How the attempt before ended.
    pub(crate) reason: Reason,
}

/// What an operator does with records by hand, whoever has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByHand {
    /// They count as accepted.
    Finish,
    /// They become dead letters.
    Reject,
    /// They may be handed out at once, and the attempts so far do not hinder that.
    Release,
}

impl SharePartition {
    /// Returns how many records are unfinished. `log_end` is the high watermark, or the last stable offset for a group
    /// that reads committed records only.
    pub(crate) fn lag(&self, log_end: i64, wall: i64) -> Lag {
        let all = Span::new(self.start, log_end.saturating_sub(1)).map_or(0, Span::len);
        let window = |state| self.window.records(state);
        let passed = window(State::Acknowledged)
            .saturating_add(window(State::Archived))
            .saturating_add(window(State::Parked));
        // What retention has taken is finished, whoever still holds it.
        let kept = |run: Run| run.span.from(self.log_start).map_or(0, Span::len);
        let outside = self.outside.iter().map(kept).fold(0_u64, u64::saturating_add);
        let parked = self.parked.len() as u64;
        let total = all.saturating_sub(passed).saturating_add(outside).saturating_add(parked);
        let under_way =
            outside.saturating_add(window(State::Reserved)).saturating_add(window(State::Acquired));
        // Those that wait for their key's turn are not delayed: their time has come.
        let is_delayed = |delay: &super::parked::Delay| delay.due > wall;
        let delayed = if self.order.is_some() {
            self.parked.iter().filter(|(_, delay)| is_delayed(delay)).count() as u64
        } else {
            parked.saturating_sub(self.parked.due(wall).count() as u64)
        };
        let not_started = total.saturating_sub(under_way).saturating_sub(delayed);
        Lag { total, not_started, under_way, delayed }
    }

    /// Returns the first unfinished record: retention by consumption may go up to it.
    pub(crate) fn oldest_unfinished(&self) -> i64 {
        let parked = self.parked.iter().next().map(|(offset, _)| offset);
        let outside =
            self.outside.at_or_after(self.log_start).map(|run| run.span.first.max(self.log_start));
        parked.into_iter().chain(outside).min().unwrap_or(self.start).min(self.start)
    }

    /// Returns the records that members hold, from an offset on.
    pub(crate) fn under_way(&self, from: i64) -> impl Iterator<Item = UnderWay> {
        let all = Span { first: from, last: i64::MAX };
        self.over(all).filter(|run| run.content.state.is_held()).map(|Run { span, content }| {
            let Content { lock_end, owner, count, state, reason } = content;
            let lock_end = Duration::from_micros(lock_end);
            UnderWay { span, state, owner, count, lock_end, reason }
        })
    }

    /// Returns the offset at fault if the window is full and nothing of it can be handed out: the first unfinished one.
    pub(crate) fn window_full(&self) -> Option<i64> {
        let is_full = self.is_full() && self.window.available_from(self.start).is_none();
        is_full.then_some(self.start)
    }

    /// Returns the runs of the window: first and last offset, state, count and owner.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Span, State, u16, MemberNumber)> {
        self.window
            .iter()
            .map(|Run { span, content }| (span, content.state, content.count, content.owner))
    }

    /// Returns the records that wait for a time: offset, due time in milliseconds since 1970, count, reason.
    pub(crate) fn delayed(&self, from: i64) -> impl Iterator<Item = (i64, i64, u16, Reason)> {
        let all = Span { first: from, last: i64::MAX };
        self.parked
            .in_span(all)
            .map(|(offset, delay)| (offset, delay.due, delay.count, delay.reason))
    }

    /// Decides what an operator wants of records that are under way or wait. Finished ones stay finished. Those that the
    /// window has not reached are left alone, but they can be finished if none is left out before them: perhaps they
    /// cannot be read. Returns whether some are left because the decision takes no more
    /// dead letters: call it again after applying, until it returns false.
    pub(crate) fn decide_by_hand(
        &self,
        span: Span,
        what: ByHand,
        now: Now,
        out: &mut Decision,
    ) -> bool {
        let mut is_cut = false;
        let runs: Vec<Run> = self.over(span).collect();
        let parked = self.parked.in_span(span).map(|(offset, delay)| Run {
            span: Span { first: offset, last: offset },
            content: Content::free(State::Parked, delay.count, delay.reason),
        });
        let runs = runs.into_iter().filter(|run| !run.content.state.lets_pass());
        for run in runs.chain(parked) {
            let Some(part) = run.span.meet(span) else { continue };
            if what == ByHand::Reject && out.room() == 0 {
                return true;
            }
            // Its limit does not count: an operator decides.
            let end = match what {
                ByHand::Finish => End::Accept,
                ByHand::Reject => End::Reject,
                ByHand::Release => {
                    self.release_by_hand(&run, part, out);
                    continue;
                }
            };
            let fitting = self.fitting(&run, part, end, out);
            is_cut |= fitting != Some(part);
            if let Some(fitting) = fitting {
                self.end_attempt(&run, fitting, end, now, &mut || 0, out);
            }
        }
        let next = self.end.saturating_add(1);
        if what == ByHand::Finish
            && span.first <= next
            && let Some(unread) = span.from(next)
        {
            out.section.push(Item::Set(unread, To::Acknowledged { count: 0 }));
        }
        is_cut
    }

    fn release_by_hand(&self, run: &Run, span: Span, out: &mut Decision) {
        if span.last < self.log_start || run.content.state.is_waiting() {
            return;
        }
        let (count, reason) = (run.content.count, Reason::BY_ADMIN);
        out.section.push(Item::Set(span, To::Available { count, reason }));
    }
}
