//! What members say about the records that they have.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use super::decision::Decision;
use super::ends::End;
use super::partition::{Now, SharePartition};
use super::reason::Reason;
use super::refusal::{Refusal, Why};
use super::run::{Content, MemberNumber, Run, Span, State};
use super::section::{Item, Section};
use crate::types::planted;

/// What a member says about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckType<'a> {
    /// It saw that there is no such record.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "the word of a client that reads batches, which the worked cases have"
        )
    )]
    Gap,
    /// Done.
    Accept,
    /// To be delivered again, after this delay or that of the group's backoff.
    Release { delay: Option<Duration>, reason: Option<&'a str> },
    /// Never again: a dead letter.
    Reject,
    /// Never again, and no dead letter either.
    Cancel,
    /// To be delivered again after this delay. The attempt does not count.
    Snooze { delay: Duration },
    /// No handler saw it. To be delivered again at once; the attempt does not count.
    #[cfg_attr(not(test), expect(dead_code, reason = "records that no handler saw are unreserved"))]
    Undelivered,
    /// The lock begins anew, and nothing else changes.
    Renew,
}

/// What a member says about some records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledgement<'a> {
    /// The records.
    pub(crate) span: Span,
    /// The delivery that is meant. Kafka does not tell them apart: `None`.
    pub(crate) delivery: Option<u16>,
    /// One type for all, or one for each offset.
    pub(crate) types: &'a [AckType<'a>],
}

/// Who says it, and about which delivery.
#[derive(Debug, Clone, Copy)]
struct Word {
    member: MemberNumber,
    delivery: Option<u16>,
    now: u64,
}

impl SharePartition {
    /// Decides what becomes of records that a member has: all of the request or nothing. Renewed locks are added to
    /// `renewed`; pass them to [`renew_all`](Self::renew_all), even if the request is refused (as Kafka does).
    ///
    /// Records that the log start has passed are ignored, and so are all below the start if no delivery is named.
    ///
    /// # Errors
    /// The first record at fault. Nothing is decided then.
    pub(crate) fn decide_acknowledge(
        &self,
        member: MemberNumber,
        items: &[Acknowledgement<'_>],
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
        renewed: &mut Vec<Span>,
    ) -> Result<(), Refusal> {
        let before = (out.section.items().len(), out.letters.len());
        let mut highest = i64::MIN;
        for item in items {
            let rising = item.span.first > highest;
            highest = highest.max(item.span.last);
            let since = if rising { usize::MAX } else { before.0 };
            let word = Word { member, delivery: item.delivery, now: now.micros() };
            if let Err(refusal) = self.decide_item(word, item, since, now, random, out, renewed) {
                out.section.truncate(before.0);
                out.letters.truncate(before.1);
                return Err(refusal);
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a request")]
    fn decide_item(
        &self,
        word: Word,
        item: &Acknowledgement<'_>,
        since: usize,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
        renewed: &mut Vec<Span>,
    ) -> Result<(), Refusal> {
        let span = item.span;
        let refuse = |why| Refusal { offset: span.first, why };
        let types = item.types.len() as u64;
        if span.last < span.first || (types != 1 && types != span.len()) || self.is_too_much(item) {
            return Err(refuse(Why::Malformed));
        }
        if span.last >= self.start {
            if self.end < self.start {
                return Err(refuse(Why::NeverDelivered));
            }
            if span.last > self.end {
                return Err(Refusal {
                    offset: span.first.max(self.end.saturating_add(1)),
                    why: Why::BeyondEnd,
                });
            }
        }
        let mut at = self.first_of(word, span)?;
        while let Some(rest) = at {
            let run = match self.find(rest.first) {
                Some(run) if run.content.state != State::Parked => run,
                _ => return Err(self.without_run(word, rest.first)),
            };
            let mut part = run.span.meet(rest).unwrap_or(rest);
            if let Some(gone) = part.below(self.log_start) {
                part = gone;
            }
            let is_gone = part.last < self.log_start
                && (check(word, &run).is_err() || self.is_void(word, item, part, since, out));
            if is_gone || (word.delivery.is_none() && is_nothing(&run)) {
                at = self.rest_after(word, part, rest)?;
                continue;
            }
            check(word, &run).map_err(|why| Refusal { offset: rest.first, why })?;
            let said = match item.types {
                [one] => *one,
                each => {
                    part.last = rest.first;
                    let at = usize::try_from(rest.first.abs_diff(span.first)).unwrap_or(usize::MAX);
                    each.get(at).copied().ok_or(refuse(Why::Malformed))?
                }
            };
            if said == AckType::Renew {
                if !self.settings.renew_enabled {
                    return Err(Refusal { offset: part.first, why: Why::RenewDisabled });
                }
                Self::check_once(part, since, out)?;
                renewed.push(part);
            } else {
                Self::check_once(part, since, out)?;
                let end = end_of(said, out);
                self.end_attempt(&run, part, end, now, random, out);
            }
            at = self.rest_after(word, part, rest)?;
        }
        Ok(())
    }

    /// Returns what comes after a part. Below the start only what is under way counts.
    fn rest_after(&self, word: Word, part: Span, rest: Span) -> Result<Option<Span>, Refusal> {
        match part.last.checked_add(1).and_then(|next| rest.from(next)) {
            Some(rest) if rest.first < self.start => self.first_of(word, rest),
            other => Ok(other),
        }
    }

    /// Returns whether a word about a record below the log start is to be ignored, although the member has the record:
    /// without a delivery, it may be said twice, and it may renew where nothing can be renewed.
    fn is_void(
        &self,
        word: Word,
        item: &Acknowledgement<'_>,
        part: Span,
        since: usize,
        out: &Decision,
    ) -> bool {
        let renews = || item.types.iter().all(|said| *said == AckType::Renew);
        word.delivery.is_none()
            && (Self::check_once(part, since, out).is_err()
                || (!self.settings.renew_enabled && renews()))
    }

    /// Returns the part of a span that begins with the first record that counts.
    fn first_of(&self, word: Word, span: Span) -> Result<Option<Span>, Refusal> {
        if span.first >= self.start {
            return Ok(Some(span));
        }
        let below = Span { first: span.first, last: span.last.min(self.start.saturating_sub(1)) };
        let held = self.outside.at_or_after(below.first).map(|run| run.span.first.max(below.first));
        let held = held.filter(|first| *first <= below.last);
        if word.delivery.is_none() {
            let parked = self.parked.in_span(below).next().map(|(offset, _)| offset);
            let first = held.into_iter().chain(parked).min().unwrap_or(self.start);
            return Ok(span.from(first));
        }
        let first = below.first.max(self.log_start);
        if first <= below.last && held.is_none_or(|held| held > first) {
            return Err(self.without_run(word, first));
        }
        Ok(span.from(held.unwrap_or(self.start)))
    }

    /// Answers about a record that is neither in the window nor under way.
    fn without_run(&self, word: Word, offset: i64) -> Refusal {
        let why = match (word.delivery, self.parked.get(offset)) {
            (None, _) => Why::NeverDelivered,
            (Some(delivery), Some(delay)) => waiting(delivery, delay.count, delay.reason),
            (Some(delivery), None) if self.has_ended(delivery, offset) => Why::TooLate,
            (Some(_), None) => Why::Finished,
        };
        Refusal { offset, why }
    }

    /// Returns whether the lock of a delivery is known to have ended.
    fn has_ended(&self, delivery: u16, offset: i64) -> bool {
        let same = |(span, count): &(Span, u16)| {
            *count == delivery && (span.first..=span.last).contains(&offset)
        };
        self.ended.iter().any(same)
    }

    /// Refuses to hear about a record twice in a request. Only items that are out of order (`since`) can do that.
    fn check_once(part: Span, since: usize, out: &Decision) -> Result<(), Refusal> {
        let said = out.section.items().get(since..).unwrap_or_default();
        let again = said.iter().find_map(|item| match item {
            Item::Set(span, _) => span.meet(part),
            _ => None,
        });
        again.map_or(Ok(()), |both| Err(Refusal { offset: both.first, why: Why::Finished }))
    }

    /// Returns whether more records would be delayed than a section holds.
    fn is_too_much(&self, item: &Acknowledgement<'_>) -> bool {
        item.span.len() > Section::DELAYED_MAX
            && item.span.from(self.start).is_some_and(|span| span.len() > Section::DELAYED_MAX)
            && item
                .types
                .iter()
                .any(|said| matches!(said, AckType::Snooze { .. } | AckType::Release { .. }))
    }

    /// Restarts the locks of a request.
    pub(crate) fn renew_all(&mut self, renewed: &[Span], now: Now) {
        let end =
            super::partition::micros(now.monotonic.saturating_add(self.settings.lock_duration));
        for span in renewed {
            let mut at = Some(*span);
            while let Some(rest) = at {
                let Some(run) = self.find(rest.first) else { break };
                let part = run.span.meet(rest).unwrap_or(rest);
                if run.content.state.is_held() {
                    self.put(part, Content { lock_end: end, ..run.content });
                    self.lock(end, part);
                }
                at = part.last.checked_add(1).and_then(|next| rest.from(next));
            }
        }
    }

    /// Restarts the lock of one delivery. Memory only.
    ///
    /// # Errors
    /// As [`decide_acknowledge`](Self::decide_acknowledge).
    pub(crate) fn renew(
        &mut self,
        member: MemberNumber,
        span: Span,
        delivery: u16,
        now: Now,
    ) -> Result<(), Refusal> {
        let item = Acknowledgement { span, delivery: Some(delivery), types: &[AckType::Renew] };
        let (mut decision, mut renewed) = (Decision::default(), Vec::new());
        self.decide_acknowledge(member, &[item], now, &mut || 0, &mut decision, &mut renewed)?;
        self.renew_all(&renewed, now);
        Ok(())
    }
}

/// Returns whether there was nothing to deliver: a hole, a marker, aborted data. Kafka's clients may name them in a span.
fn is_nothing(run: &Run) -> bool {
    run.content.state == State::Archived && run.content.count == 0
}

/// Checks that the member has the record by this delivery, and that its lock has not ended (H4).
fn check(word: Word, run: &Run) -> Result<(), Why> {
    let content = run.content;
    let delivery = word.delivery.unwrap_or(content.count);
    match content.state {
        State::Acquired => {
            if content.count < delivery {
                return Err(Why::NeverDelivered);
            }
            if content.count > delivery && !planted("share_any_delivery_counts") {
                return Err(Why::TooLate);
            }
            if content.owner != word.member {
                // What a process before this one had acquired is nobody's.
                let lost = content.owner == MemberNumber::NOBODY;
                return Err(if lost { Why::TooLate } else { Why::Anothers });
            }
            if content.has_ended(word.now) && !planted("share_late_word_counts") {
                return Err(Why::TooLate);
            }
            Ok(())
        }
        State::Acknowledged | State::Archived if content.count > delivery => Err(Why::TooLate),
        State::Acknowledged | State::Archived if content.count < delivery => {
            Err(Why::NeverDelivered)
        }
        State::Acknowledged | State::Archived => Err(Why::Finished),
        _ => Err(waiting(word.delivery.unwrap_or(content.count), content.count, content.reason)),
    }
}

/// Why a word about a record that waits is refused.
fn waiting(delivery: u16, count: u16, reason: Reason) -> Why {
    // What did not count has taken one from the count.
    let uncounted = matches!(reason, Reason::SNOOZED | Reason::UNDELIVERED);
    let last = if uncounted { count.saturating_add(1) } else { count };
    match delivery {
        0 => Why::NeverDelivered,
        _ if delivery > last => Why::NeverDelivered,
        _ if delivery == last && reason.is_said() => Why::Finished,
        _ => Why::TooLate,
    }
}

fn end_of(said: AckType<'_>, out: &mut Decision) -> End {
    match said {
        AckType::Accept | AckType::Renew => End::Accept,
        AckType::Gap | AckType::Cancel => End::Drop,
        AckType::Reject => End::Reject,
        AckType::Release { delay, reason } => {
            let reason = reason.map_or(Reason::RELEASED, |text| out.section.reasons.of_text(text));
            End::Retry { delay, reason }
        }
        AckType::Snooze { delay } => End::Uncounted { delay, reason: Reason::SNOOZED },
        AckType::Undelivered => {
            End::Uncounted { delay: Duration::ZERO, reason: Reason::UNDELIVERED }
        }
    }
}
