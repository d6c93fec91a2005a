//! When share groups deliver a record: a header that is written when the record is sent.

use std::io::Write as _;
use std::time::Duration;

use super::Record;
use crate::engine::FrameRecord as _;
use crate::error::{Error, Result};
use crate::record::{DELIVER_AT_HEADER, Header, encoded_record_bytes};
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
    fn text(self, now: Timestamp) -> Result<TimeText> {
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
const TIME_DIGITS: usize = 19;

impl TimeText {
    fn of(at: Timestamp) -> Self {
        let mut digits = [0; TIME_DIGITS];
        let mut rest = &mut digits[..];
        // It fits, as the time is not negative.
        let _fits = write!(rest, "{}", at.as_millis());
        let len = TIME_DIGITS.saturating_sub(rest.len());
        Self { digits, len }
    }

    fn bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }
}

/// Returns the most bytes that the header takes.
fn header_bound() -> usize {
    let name = DELIVER_AT_HEADER;
    encoded_record_bytes(0, 0, None, None, &[Header { name, value: Some(&[0; TIME_DIGITS]) }])
}

impl<'a> Record<'a> {
    /// Returns the most bytes that the encoded record can take, with the header that it gets.
    #[inline]
    pub(super) fn bound(&self) -> usize {
        let bound = self.data().bound();
        if self.deliver.is_some() { bound.saturating_add(header_bound()) } else { bound }
    }

    /// Writes the time of delivery as a header, which is the first one.
    fn stamp<'t>(&mut self, text: &'t TimeText)
    where
        't: 'a,
    {
        self.deliver = None;
        let header = Header { name: DELIVER_AT_HEADER, value: Some(text.bytes()) };
        self.headers.insert(0, header);
    }
}

/// Calls `then` with the record as it is to be stored, if a time of delivery was set.
#[cold]
pub(super) fn stamped<T>(
    record: Record<'_>,
    deliver: Deliver,
    now: Timestamp,
    then: impl FnOnce(&Record<'_>) -> Result<T>,
) -> Result<T> {
    let text = deliver.text(now)?;
    let mut record = record;
    record.stamp(&text);
    then(&record)
}

/// Returns the texts of those of the records that have a time of delivery.
pub(super) fn times_of(
    records: &[(usize, Record<'_>)],
    now: impl Fn() -> Timestamp,
) -> Result<Vec<TimeText>> {
    if records.iter().all(|(_, record)| record.deliver.is_none()) {
        return Ok(Vec::new());
    }
    let now = now();
    records.iter().filter_map(|(_, record)| record.deliver).map(|at| at.text(now)).collect()
}

/// Writes the times of delivery as headers, and the bounds of those records anew.
pub(super) fn stamp_all<'r>(records: &mut [(usize, Record<'r>)], times: &'r [TimeText]) {
    let delayed = records.iter_mut().filter(|(_, record)| record.deliver.is_some());
    for ((bound, record), time) in delayed.zip(times) {
        record.stamp(time);
        *bound = record.bound();
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
