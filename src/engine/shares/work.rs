//! What is to be decided about one share-partition. The same work can be decided again: a frame that gets dead letters, or
//! needs more space than was reserved, is decided twice.

use std::borrow::Cow;
use std::time::Duration;

use super::group::SharePart;
use crate::error::{Error, RecordStateReason, Result};
use crate::group::share::{
    AckType, Acknowledgement, ByHand, Decision, Item, MemberNumber, Now, Refusal, Section,
    SharePartition, Span, Why,
};

/// What is to be decided.
#[derive(Debug, Clone)]
pub(crate) enum ShareWork<'w> {
    /// What a member says of records that it has, and the records that it begins with.
    Words { member: MemberNumber, words: Cow<'w, [Word]>, starts: Cow<'w, [Span]> },
    /// The ends of locks that have run out.
    LockEnds,
    /// The end of a member.
    SessionEnd(MemberNumber),
    /// An operator ends attempts.
    ByHand(Span, ByHand),
}

/// What a member says of records that it has.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) span: Span,
    /// The delivery count that it got them with.
    pub(crate) delivery: u16,
    pub(crate) said: Said,
}

/// How an attempt ended, by the word of its handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Accept,
    Release {
        /// `None`: the group's backoff.
        delay: Option<Duration>,
        reason: Option<String>,
    },
    Reject {
        /// For the dead letter.
        reason: Option<String>,
    },
    Cancel,
    Snooze {
        delay: Duration,
    },
}

impl Said {
    fn as_type(&self) -> AckType<'_> {
        match self {
            Self::Accept => AckType::Accept,
            Self::Release { delay, reason } => {
                AckType::Release { delay: *delay, reason: reason.as_deref() }
            }
            Self::Reject { .. } => AckType::Reject,
            Self::Cancel => AckType::Cancel,
            Self::Snooze { delay } => AckType::Snooze { delay: *delay },
        }
    }
}

impl ShareWork<'_> {
    /// Returns the same work, which borrows nothing.
    pub(super) fn to_static(&self) -> ShareWork<'static> {
        match self {
            Self::Words { member, words, starts } => ShareWork::Words {
                member: *member,
                words: Cow::Owned(words.to_vec()),
                starts: Cow::Owned(starts.to_vec()),
            },
            Self::LockEnds => ShareWork::LockEnds,
            Self::SessionEnd(member) => ShareWork::SessionEnd(*member),
            Self::ByHand(span, what) => ShareWork::ByHand(*span, *what),
        }
    }

    /// Decides. Returns whether there is more to decide of the same kind once this is applied.
    pub(super) fn decide(
        &self,
        part: &SharePart,
        state: &SharePartition,
        now: Now,
        random: &mut dyn FnMut() -> u64,
        out: &mut Decision,
    ) -> Result<bool> {
        match self {
            Self::Words { member, words, starts } => {
                for word in words.iter() {
                    let types = [word.said.as_type()];
                    let delivery = Some(word.delivery);
                    let item = Acknowledgement { span: word.span, delivery, types: &types };
                    let mut renewed = Vec::new();
                    state
                        .decide_acknowledge(*member, &[item], now, random, out, &mut renewed)
                        .map_err(|refusal| refused(part, refusal))?;
                }
                let found = out.section.delayed();
                if found > Section::DELAYED_MAX {
                    let (what, max) =
                        ("records to deliver later, in one call", Section::DELAYED_MAX);
                    return Err(Error::LimitExceeded { what, found, max });
                }
                for span in starts.iter() {
                    state
                        .decide_start(*member, *span, now, out)
                        .map_err(|refusal| refused(part, refusal))?;
                }
                Ok(false)
            }
            Self::LockEnds => Ok(state.decide_lock_ends(now, random, out)),
            Self::SessionEnd(member) => Ok(state.decide_session_end(*member, now, random, out)),
            Self::ByHand(span, what) => Ok(state.decide_by_hand(*span, *what, now, out)),
        }
    }

    /// Returns whether the work can be done in parts, each with a frame of its own. A member's words are one request.
    pub(super) fn is_divisible(&self) -> bool {
        !matches!(self, Self::Words { .. })
    }

    /// Returns the reason that the handler gave for rejecting a record.
    pub(super) fn reject_reason(&self, offset: i64) -> Option<&str> {
        match self.said_of(offset)? {
            Said::Reject { reason } => reason.as_deref(),
            _ => None,
        }
    }

    /// Returns the reason that the handler gave for releasing a record.
    pub(super) fn release_reason(&self, offset: i64) -> Option<&str> {
        match self.said_of(offset)? {
            Said::Release { reason, .. } => reason.as_deref(),
            _ => None,
        }
    }

    fn said_of(&self, offset: i64) -> Option<&Said> {
        let Self::Words { words, .. } = self else { return None };
        let word = words.iter().find(|word| (word.span.first..=word.span.last).contains(&offset));
        word.map(|word| &word.said)
    }
}

/// Returns the error for a refused word.
pub(crate) fn refused(part: &SharePart, refusal: Refusal) -> Error {
    let reason = match refusal.why {
        Why::Finished => RecordStateReason::Finished,
        Why::TooLate => RecordStateReason::LockEnded,
        Why::Anothers => RecordStateReason::HeldByAnother,
        Why::NeverDelivered | Why::BeyondEnd | Why::Malformed => RecordStateReason::NotDelivered,
        Why::RenewDisabled => RecordStateReason::RenewDisabled,
    };
    let partition = part.log().partition().clone();
    Error::InvalidRecordState { partition, offset: refusal.offset, reason }
}

/// Returns whether what was decided may let a record be handed out that could not be before.
pub(super) fn frees(decision: &Decision) -> bool {
    use crate::group::share::To;
    decision.section.items().iter().any(|item| {
        !matches!(
            item,
            Item::Set(_, To::Started { .. } | To::Acknowledged { .. } | To::Archived { .. })
        )
    })
}
