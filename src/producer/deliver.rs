//! When share groups deliver a record, as the text of a header.

use std::io::Write as _;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::types::Timestamp;

/// When share groups deliver a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deliver {
    At(Timestamp),
    /// Counted from the time of the send.
    After(Duration),
}

impl Deliver {
    /// Returns the text of the header.
    pub(super) fn text(self, now: Timestamp) -> Result<TimeText> {
        let at = match self {
            Self::At(at) => at,
            Self::After(delay) => {
                now.checked_add(delay).unwrap_or(Timestamp::from_millis(i64::MAX))
            }
        };
        if at.as_millis() < 0 {
            return Err(Error::Misuse("a record's time of delivery must not be negative"));
        }
        Ok(TimeText::of(at))
    }
}

/// Decimal milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct TimeText {
    digits: [u8; TIME_DIGITS],
    len: usize,
}

/// The most digits of a time that is not negative.
pub(super) const TIME_DIGITS: usize = 19;

impl TimeText {
    fn of(at: Timestamp) -> Self {
        let mut digits = [0; TIME_DIGITS];
        let mut rest = &mut digits[..];
        // It fits, as the time is not negative.
        let _fits = write!(rest, "{}", at.as_millis());
        let len = TIME_DIGITS.saturating_sub(rest.len());
        Self { digits, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_decimal_text_and_never_negative() {
        let text = |deliver: Deliver, now| {
            let text = deliver.text(Timestamp::from_millis(now)).ok()?;
            String::from_utf8(text.bytes().to_vec()).ok()
        };
        let at = |millis| text(Deliver::At(Timestamp::from_millis(millis)), 5);
        assert_eq!(at(0).as_deref(), Some("0"));
        assert_eq!(at(i64::MAX).as_deref(), Some("9223372036854775807"));
        assert_eq!(at(-1), None);
        assert_eq!(text(Deliver::After(Duration::from_secs(1)), 5).as_deref(), Some("1005"));
        assert_eq!(text(Deliver::After(Duration::MAX), 5), at(i64::MAX));
    }
}
