//! What formats print of a record, whoever read it.

use grouplog::record::RecordHeader;
use grouplog::{ConsumerRecord, ShareRecord, Timestamp};

/// A record to print.
pub(crate) struct Printed<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

enum Headers<'a> {
    Consumed(ConsumerRecord<'a>),
    Shared(&'a ShareRecord),
}

impl<'a> Printed<'a> {
    /// Returns the headers in their order.
    pub(crate) fn headers(&self) -> Box<dyn Iterator<Item = RecordHeader<'a>> + 'a> {
        match &self.headers {
            Headers::Consumed(record) => Box::new(record.headers()),
            Headers::Shared(record) => Box::new(record.headers()),
        }
    }
}

impl<'a> From<ConsumerRecord<'a>> for Printed<'a> {
    fn from(record: ConsumerRecord<'a>) -> Self {
        Self {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key(),
            value: record.value(),
            headers: Headers::Consumed(record),
        }
    }
}

impl<'a> From<&'a ShareRecord> for Printed<'a> {
    fn from(record: &'a ShareRecord) -> Self {
        Self {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key(),
            value: record.value(),
            headers: Headers::Shared(record),
        }
    }
}
