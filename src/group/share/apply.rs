//! What was decided happens: now, or when the journal is replayed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use super::order::Order;
use super::parked::Delay;
use super::partition::{ENDED_MAX, SharePartition, micros};
use super::reason::{Reason, Reasons};
use super::run::{Content, MemberNumber, Span, State};
use super::section::{Item, Section, To};
use crate::types::{ShareOrdering, planted};

impl SharePartition {
    /// Applies a section. It cannot fail, and applying the last one again changes nothing.
    ///
    /// `now` is the monotonic time. A replay passes any: nobody owns what it finds started, and such locks have ended.
    pub(crate) fn apply(&mut self, section: &Section, now: Duration) {
        for item in section.items() {
            match *item {
                Item::LogStart(offset) => self.pass_log_start(offset),
                Item::Reset { start, epoch } => self.reset(start, epoch),
                Item::Set(span, to) => self.apply_span(span, to, &section.reasons, now),
            }
        }
        self.advance();
    }

    fn apply_span(&mut self, span: Span, to: To, there: &Reasons, now: Duration) {
        let to = self.translate(to, there);
        if let Some(below) = span.below(self.start)
            && !(self.outside.is_empty() && self.parked.is_empty())
        {
            self.apply_outside(below, to, now);
        }
        let Some(span) = span.from(self.start) else { return };
        self.extend(span.last);
        self.note_ended(span, to, now);
        if !self.parked.is_empty() {
            self.parked.remove_all(span);
        }
        match to {
            To::Started { count } => self.start_span(span, count, now),
            To::Available { count, reason } => self.window.set(span, waiting(count, reason)),
            // The usual case: the window goes on at once.
            _ if to.is_final() && span.first == self.start => {
                self.window.cut(span);
                self.start = span.last.saturating_add(1);
            }
            To::Acknowledged { count } => {
                self.window.set(span, Content::free(State::Acknowledged, count, Reason::NONE));
            }
            To::Archived { count } => {
                self.window.set(span, Content::free(State::Archived, count, Reason::NONE));
            }
            To::Delayed { count, due, reason, key } => {
                self.window.set(span, Content::free(State::Parked, 0, Reason::NONE));
                self.park(span, Delay { due, count, reason, blocked: false }, key);
            }
        }
        if to.is_final() {
            self.finish_keys(span);
        }
    }

    fn translate(&mut self, to: To, there: &Reasons) -> To {
        match to {
            To::Available { count, reason } if reason.has_text() => {
                To::Available { count, reason: self.reasons.translate(there, reason) }
            }
            To::Delayed { count, due, reason, key } if reason.has_text() => {
                To::Delayed { count, due, reason: self.reasons.translate(there, reason), key }
            }
            _ => to,
        }
    }

    /// Starts attempts: who has reserved a record owns it, and its lock begins.
    fn start_span(&mut self, span: Span, count: u16, now: Duration) {
        let mut at = Some(span);
        while let Some(rest) = at {
            let Some(run) = self.find(rest.first) else { return };
            let part = run.span.meet(rest).unwrap_or(rest);
            let content = self.started(run.content, count, now);
            self.put(part, content);
            self.lock(content.lock_end, part);
            at = part.last.checked_add(1).and_then(|next| rest.from(next));
        }
    }

    fn started(&self, old: Content, count: u16, now: Duration) -> Content {
        let owner = if old.state.is_held() { old.owner } else { MemberNumber::NOBODY };
        let lock_end = if owner == MemberNumber::NOBODY {
            0
        } else {
            micros(now.saturating_add(self.settings.lock_duration))
        };
        let count = if planted("share_start_does_not_count") { old.count } else { count };
        Content { lock_end, owner, count, state: State::Acquired, reason: old.reason }
    }

    fn park(&mut self, span: Span, delay: Delay, key: Option<u64>) {
        for offset in span.first..=span.last {
            self.parked.insert(offset, delay, key);
        }
    }

    /// Lets nobody hold records any more. They may be handed out again.
    pub(super) fn free(&mut self, span: Span, count: u16, reason: Reason) {
        if let Some(below) = span.below(self.start) {
            self.outside.cut(below);
            if let Some(kept) = below.from(self.log_start) {
                let delay = Delay { due: 0, count, reason, blocked: false };
                for offset in kept.first..=kept.last {
                    let key = self.order.as_ref().and_then(|order| order.key(offset));
                    self.parked.insert(offset, delay, key);
                }
            }
        }
        if let Some(inside) = span.from(self.start) {
            self.window.set(inside, waiting(count, reason));
        }
    }

    /// Applies a change below the start of the window. What has no run there and is not parked is finished (H3).
    fn apply_outside(&mut self, span: Span, to: To, now: Duration) {
        let parked: Vec<i64> = self.parked.in_span(span).map(|(offset, _)| offset).collect();
        let held: Vec<Span> =
            self.outside.over(span).filter_map(|run| run.span.meet(span)).collect();
        for span in held {
            self.note_ended(span, to, now);
            match to {
                To::Started { count } => self.start_span(span, count, now),
                To::Available { count, reason } => self.free(span, count, reason),
                To::Acknowledged { .. } | To::Archived { .. } => self.outside.cut(span),
                To::Delayed { count, due, reason, key } => {
                    self.outside.cut(span);
                    if let Some(kept) = span.from(self.log_start) {
                        self.park(kept, Delay { due, count, reason, blocked: false }, key);
                    }
                }
            }
        }
        for offset in parked {
            let one = Span { first: offset, last: offset };
            match to {
                To::Started { count } => {
                    // Only a replay starts what it has not seen reserved.
                    let Some(delay) = self.parked.remove(offset) else { continue };
                    self.outside.set(one, Content::free(State::Available, count, delay.reason));
                    self.start_span(one, count, now);
                }
                To::Available { count, reason } => {
                    let blocked = self.parked.get(offset).is_some_and(|delay| delay.blocked);
                    let delay = Delay { due: 0, count, reason, blocked };
                    self.parked.insert(offset, delay, self.parked.key(offset));
                }
                To::Acknowledged { .. } | To::Archived { .. } => drop(self.parked.remove(offset)),
                To::Delayed { count, due, reason, key } => {
                    self.park(one, Delay { due, count, reason, blocked: false }, key);
                }
            }
        }
        if to.is_final() {
            self.finish_keys(span);
        }
    }

    /// Remembers locks that ended, so that a late member hears why it is refused.
    fn note_ended(&mut self, span: Span, to: To, now: Duration) {
        let lost = match to {
            To::Available { count, reason } | To::Delayed { count, reason, .. } => {
                (reason == Reason::LOCK_ENDED).then_some(count)
            }
            To::Archived { count } => {
                let ended = |content: Content| content.has_ended(micros(now));
                self.find(span.first).filter(|run| ended(run.content)).map(|_| count)
            }
            _ => None,
        };
        if let Some(count) = lost {
            if self.ended.len() >= ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back((span, count));
        }
    }

    /// The next record of each key that is finished here becomes the first.
    fn finish_keys(&mut self, span: Span) {
        let Some(mut order) = self.order.take() else { return };
        while let Some(offset) = order.known_in(span) {
            if let Some(head) = order.finish(offset) {
                self.unblock(head);
            }
        }
        self.order = Some(order);
    }

    /// Lets a record be handed out: those before it of its key are finished.
    pub(super) fn unblock(&mut self, offset: i64) {
        match self.window.find(offset) {
            Some(run) if run.content.state == State::Blocked => {
                let one = Span { first: offset, last: offset };
                self.window.set(one, Content { state: State::Available, ..run.content });
            }
            _ if self.parked.get(offset).is_some_and(|delay| delay.blocked) => {
                self.parked.set_blocked(offset, false);
            }
            _ => {}
        }
    }

    fn pass_log_start(&mut self, offset: i64) {
        if offset <= self.log_start {
            return;
        }
        self.log_start = offset;
        let gone = Span { first: 0, last: offset.saturating_sub(1) };
        self.parked.remove_all(gone);
        // Members keep what they have until they are done with it; it changes nothing any more.
        let is_held = |content: &Content| {
            content.state == State::Acquired && content.owner != MemberNumber::NOBODY
        };
        let below: Vec<_> = self.over(gone).collect();
        for run in below {
            let Some(span) = run.span.meet(gone) else { continue };
            if span.first >= self.start {
                self.window.cut(span);
            }
            if !is_held(&run.content) {
                self.outside.cut(span);
            } else if span.first >= self.start {
                self.outside.set(span, run.content);
            }
        }
        self.start = self.start.max(offset);
        self.end = self.end.max(self.start.saturating_sub(1));
        self.finish_keys(gone);
        if let Some(order) = &mut self.order {
            order.known_to = order.known_to.max(offset);
        }
    }

    fn reset(&mut self, start: i64, epoch: u32) {
        let (settings, log_start) = (std::sync::Arc::clone(&self.settings), self.log_start);
        let fetches = self.fetches;
        *self = Self::new(settings, start.max(log_start));
        // The fetch that is reading has a number below, so what it brings is refused.
        self.fetches = fetches;
        self.log_start = log_start;
        self.epoch = epoch;
    }

    /// Forgets the keys and learns them anew, as the records of the window are read again (K3).
    pub(super) fn learn_order(&mut self) {
        let blocked: Vec<_> =
            self.window.iter().filter(|run| run.content.state == State::Blocked).collect();
        for run in blocked {
            self.window.set(run.span, Content { state: State::Available, ..run.content });
        }
        let parked: Vec<_> = self.parked.iter().map(|(offset, delay)| (offset, *delay)).collect();
        for (offset, _) in parked.iter().filter(|(_, delay)| delay.blocked) {
            self.parked.set_blocked(*offset, false);
        }
        self.order = None;
        if self.settings.ordering != ShareOrdering::Key {
            return;
        }
        let mut order = Order::new(self.start);
        // A record that was tried was the first of its key. One that was scheduled has no place in the order before it is
        // due, unless an operator has released it: then it waits behind the one that was tried.
        let was_tried = |delay: &Delay| {
            delay.count > 0 || matches!(delay.reason, Reason::SNOOZED | Reason::UNDELIVERED)
        };
        let (tried, others): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|(_, delay)| was_tried(delay));
        let released = others.into_iter().filter(|(_, delay)| delay.reason != Reason::SCHEDULED);
        for (offset, _) in tried.into_iter().chain(released) {
            if let Some(key) = self.parked.key(offset) {
                order.enter(key, offset, |_| false);
                self.parked.set_blocked(offset, order.head(key) != Some(offset));
            }
        }
        self.order = Some(order);
    }
}

/// Returns what a waiting record of the window is.
fn waiting(count: u16, reason: Reason) -> Content {
    Content::free(State::Available, count, reason)
}
