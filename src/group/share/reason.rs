//! How the attempt before ended: a number in each run, and the few different texts that programs gave.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::sync::Arc;

/// How the attempt before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reason(u8);

/// Reasons from this number on stand for a text in [`Reasons`].
const FIRST_TEXT: u8 = 16;

impl Reason {
    /// There was no attempt.
    pub(crate) const NONE: Self = Self(0);
    /// The handler released the record.
    pub(crate) const RELEASED: Self = Self(1);
    /// The lock ended.
    pub(crate) const LOCK_ENDED: Self = Self(2);
    /// The member left or was lost.
    pub(crate) const SESSION_ENDED: Self = Self(3);
    /// The handler put the record off; the attempt did not count.
    pub(crate) const SNOOZED: Self = Self(4);
    /// No handler saw the record; the attempt did not count.
    pub(crate) const UNDELIVERED: Self = Self(5);
    /// The producer wanted it later.
    pub(crate) const SCHEDULED: Self = Self(6);
    /// Someone released it by hand.
    pub(crate) const BY_ADMIN: Self = Self(7);
    const LAST: Self = Self::BY_ADMIN;

    /// Returns the number that stands for it in a section or image.
    pub(super) const fn number(self) -> u8 {
        self.0
    }

    /// Returns whether the program gave a text.
    pub(super) const fn has_text(self) -> bool {
        self.0 >= FIRST_TEXT
    }

    /// Returns whether the owner gave the record back himself.
    pub(super) const fn is_said(self) -> bool {
        matches!(self, Self::RELEASED | Self::SNOOZED | Self::UNDELIVERED) || self.has_text()
    }
}

/// The longest text that is kept, in bytes.
const TEXT_MAX_BYTES: usize = 200;
/// The most texts: what is left of a byte.
const TEXTS_MAX: usize = 240;

/// The texts of a section, or of a partition. Beyond 240 different ones a text is lost, and `RELEASED` is left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    texts: Vec<Arc<str>>,
}

impl Reasons {
    /// Returns the reason that stands for a text; of a long one, for its beginning.
    pub(super) fn of_text(&mut self, text: &str) -> Reason {
        let text = text.get(..text.floor_char_boundary(TEXT_MAX_BYTES)).unwrap_or_default();
        if text.is_empty() {
            return Reason::RELEASED;
        }
        let known = self.texts.iter().position(|known| &**known == text);
        let at = known.unwrap_or(self.texts.len());
        if at >= TEXTS_MAX {
            return Reason::RELEASED;
        }
        if known.is_none() {
            self.texts.push(text.into());
        }
        Reason(FIRST_TEXT.saturating_add(at as u8))
    }

    /// Returns the text of a reason, if the program gave one.
    pub(crate) fn text(&self, reason: Reason) -> Option<&Arc<str>> {
        self.texts.get(usize::from(reason.0.checked_sub(FIRST_TEXT)?))
    }

    /// Returns how an attempt ended, in words; `None` if there was none.
    pub(crate) fn describe(&self, reason: Reason) -> Option<Arc<str>> {
        if let Some(text) = self.text(reason) {
            return Some(Arc::clone(text));
        }
        let text = match reason {
            Reason::NONE | Reason::SCHEDULED => return None,
            Reason::LOCK_ENDED => "the lock ended",
            Reason::SESSION_ENDED => "the member left",
            Reason::SNOOZED => "put off",
            Reason::UNDELIVERED => "not handled",
            Reason::BY_ADMIN => "released by an operator",
            _ => "released",
        };
        Some(text.into())
    }

    /// Returns the reason here that stands for what it stands for there.
    pub(super) fn translate(&mut self, there: &Self, reason: Reason) -> Reason {
        match there.text(reason) {
            Some(text) => self.of_text(text),
            None if reason.has_text() => Reason::RELEASED,
            None => reason,
        }
    }

    /// Returns the reason with a number, if it is one.
    pub(super) fn number(&self, number: u8) -> Option<Reason> {
        let reason = Reason(number);
        let known = number <= Reason::LAST.0 || self.text(reason).is_some();
        known.then_some(reason)
    }

    /// Returns the texts in the order of their numbers.
    pub(super) fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// Adds the text with the next number. Returns false if it may not be there.
    pub(super) fn push(&mut self, text: &str) -> bool {
        let fits = !text.is_empty() && text.len() <= TEXT_MAX_BYTES && self.texts.len() < TEXTS_MAX;
        let fits = fits && !self.texts.iter().any(|known| &**known == text);
        if fits {
            self.texts.push(text.into());
        }
        fits
    }

    pub(super) fn clear(&mut self) {
        self.texts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_numbers_until_there_are_too_many() {
        let mut reasons = Reasons::default();
        let first = reasons.of_text("HTTP 503");
        assert_eq!(first, reasons.of_text("HTTP 503"));
        assert_eq!(reasons.text(first).map(|text| &**text), Some("HTTP 503"));
        assert_eq!(reasons.of_text(""), Reason::RELEASED);
        let long = reasons.of_text(&"\u{e4}".repeat(150));
        assert_eq!(reasons.text(long).map(|text| text.len()), Some(200));
        for n in 2..TEXTS_MAX {
            assert!(reasons.of_text(&format!("{n}")).has_text());
        }
        assert_eq!(reasons.of_text("one more"), Reason::RELEASED);
        let mut others = Reasons::default();
        let there = others.translate(&reasons, first);
        assert_eq!(others.text(there).map(|text| &**text), Some("HTTP 503"));
        assert_eq!(others.translate(&reasons, Reason::SNOOZED), Reason::SNOOZED);
        assert_eq!(others.number(17), None);
        assert_eq!(others.number(16), Some(there));
    }
}
