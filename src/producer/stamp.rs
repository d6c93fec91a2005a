//! Writes the time of delivery of a record as a header, when the record is sent.

use super::deliver::{Deliver, TIME_DIGITS, TimeText};
use super::record::Record;
use crate::engine::FrameRecord as _;
use crate::error::Result;
use crate::record::{DELIVER_AT_HEADER, Header, encoded_record_bytes};
use crate::types::Timestamp;

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
