//! Records with bytes of their own.

use crate::error::{Error, Result};
use crate::log::{Cursor, FetchLimits, Fetched, Log};

/// A record that was read, with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopiedRecord {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    /// Names and values.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// The most records that one read copies.
const RECORDS: usize = 1_000;

/// Copies some records from `first` on and below `until`, at least one if there is one, and about `bytes` bytes. Also
/// returns the offset behind what was read; `first` if there was nothing to read.
pub(crate) fn copy_records(
    log: &Log,
    first: i64,
    until: i64,
    bytes: usize,
) -> Result<(Vec<CopiedRecord>, i64)> {
    let mut fetched = Fetched::default();
    let mut cursor = Cursor::new(first);
    let limits = FetchLimits { records: RECORDS, bytes, until };
    log.fetch(&mut cursor, 0, limits, &mut fetched)?;
    Ok((records(&fetched), cursor.position()))
}

/// Copies the record at an offset, if the log still has it.
pub(crate) fn copy_record(log: &Log, offset: i64) -> Result<Option<CopiedRecord>> {
    let (records, _) = match copy_records(log, offset, offset.saturating_add(1), usize::MAX) {
        Err(Error::OffsetOutOfRange { .. }) => return Ok(None),
        read => read?,
    };
    Ok(records.into_iter().find(|record| record.offset == offset))
}

fn records(fetched: &Fetched) -> Vec<CopiedRecord> {
    let mut all = Vec::with_capacity(fetched.records.len());
    let mut first = 0;
    for chunk in &fetched.chunks {
        let bytes = chunk.source.bytes();
        for record in fetched.records.get(first..chunk.end).unwrap_or_default() {
            let offset = chunk.base_offset.saturating_add(i64::from(record.offset_delta));
            let own = |bytes: &[u8]| bytes.to_vec();
            let headers = record.headers(bytes).map(|header| {
                let name = String::from_utf8_lossy(header.name_bytes()).into_owned();
                (name, header.value().map(own))
            });
            let (key, value) = (record.key.get(bytes).map(own), record.value.get(bytes).map(own));
            all.push(CopiedRecord { offset, key, value, headers: headers.collect() });
        }
        first = chunk.end;
    }
    all
}
