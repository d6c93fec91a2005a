//! A reserved record reaches a handler (H5).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::decision::Decision;
use super::partition::{Now, SharePartition};
use super::refusal::{Refusal, Why};
use super::run::{MemberNumber, Span, State};
use super::section::{Item, To};

impl SharePartition {
    /// Decides the start of attempts on records that the member has reserved. Their lock begins when it is applied.
    ///
    /// # Errors
    /// The first record that the member has not reserved, or no longer. Nothing is decided then.
    pub(crate) fn decide_start(
        &self,
        member: MemberNumber,
        span: Span,
        now: Now,
        out: &mut Decision,
    ) -> Result<(), Refusal> {
        let (now, before) = (now.micros(), out.section.items().len());
        let mut at = Some(span);
        while let Some(rest) = at {
            let refuse = |why| Refusal { offset: rest.first, why };
            let run = self.find(rest.first).ok_or(Why::NeverDelivered).and_then(|run| {
                let content = run.content;
                match content.state {
                    state if state.is_held() && content.owner != member => Err(Why::Anothers),
                    State::Reserved if content.has_ended(now) => Err(Why::TooLate),
                    State::Reserved => Ok(run),
                    state if state.is_finished() => Err(Why::Finished),
                    _ => Err(Why::NeverDelivered),
                }
            });
            let run = match run {
                Ok(run) => run,
                Err(why) => {
                    out.section.truncate(before);
                    return Err(refuse(why));
                }
            };
            let part = run.span.meet(rest).unwrap_or(rest);
            let count = run.content.count.saturating_add(1);
            out.section.push(Item::Set(part, To::Started { count }));
            at = part.last.checked_add(1).and_then(|next| rest.from(next));
        }
        Ok(())
    }

    /// Gives back records that the member has reserved and will not start. Those that it has not are left as they are.
    /// Memory only.
    pub(crate) fn unreserve(&mut self, member: MemberNumber, span: Span) {
        let mut at = Some(span);
        while let Some(rest) = at {
            let Some(run) = self
                .over(rest)
                .find(|run| run.content.state == State::Reserved && run.content.owner == member)
            else {
                return;
            };
            let Some(part) = run.span.meet(rest) else { return };
            let (count, reason) = (run.content.count, run.content.reason);
            self.free(part, count, reason);
            at = part.last.checked_add(1).and_then(|next| rest.from(next));
        }
    }
}
