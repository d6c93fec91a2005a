//! Finding the batch that holds an offset.

use std::borrow::Cow;
use std::sync::Arc;

use super::cursor::{At, Inside};
use super::fetched::Source;
use crate::error::{CorruptReason, Error, Result};
use crate::log::Log;
use crate::log::segment::{History, Segment, Stored};
use crate::log::view::View;
use crate::record::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES, HEADER_BYTES, check_records};
use crate::types::planted;

/// The batch found for a position.
#[derive(Debug)]
pub(super) enum Entered {
    Batch(Inside),
    /// A batch without records for consumers was skipped.
    Skipped {
        segment: Arc<Segment>,
        next: u64,
        position: i64,
    },
}

impl Log {
    /// Finds the batch that holds `offset`, verifies its checksum, and decompresses its records.
    pub(super) fn enter_batch(&self, view: &View, at: At, offset: i64) -> Result<Entered> {
        let history = Some(&**view.epochs);
        let mut entered = match at {
            At::Stored { segment, next } if next < segment.len() && !segment.is_replaced() => {
                self.enter_from(view, segment, next, Some(offset), offset)
            }
            _ => {
                let Some((_, segment)) = view.segment_of(offset) else {
                    return Err(self.gone());
                };
                let next = segment.locate(offset, history)?;
                self.enter_from(view, Arc::clone(segment), next, None, offset)
            }
        };
        // Each pass must come further, so this ends whatever the damage is.
        let mut reached = None;
        loop {
            // The header of a damaged batch may claim an offset that lies after the batch. Look past it.
            let Err(Error::Corrupt(damage)) = &entered else { return entered };
            let behind = damage.offsets.is_some_and(|(_, last)| last < offset);
            let segment = view.segment_of(offset).map(|(_, segment)| segment);
            let Some(segment) = segment.filter(|s| behind && s.log_path() == damage.path) else {
                return entered;
            };
            let next = segment.locate_past(damage, offset, history)?;
            if reached.replace(next).is_some_and(|before| next <= before) {
                return entered;
            }
            entered = self.enter_from(view, Arc::clone(segment), next, None, offset);
        }
    }

    /// Finds the batch that holds `offset`, beginning with the batch at `next`. If `expected` is known, that
    /// batch must begin with it.
    fn enter_from(
        &self,
        view: &View,
        mut segment: Arc<Segment>,
        mut next: u64,
        mut expected: Option<i64>,
        offset: i64,
    ) -> Result<Entered> {
        let history = Some(&**view.epochs);
        loop {
            if next >= segment.len() {
                let end_offset = segment.end_offset();
                if segment.is_cleaned() && offset < end_offset {
                    // Compaction has removed the records from `offset` to the end of the segment.
                    return Ok(Entered::Skipped { segment, next, position: end_offset });
                }
                let Some(following) = view.segment_of(segment.end_offset()).map(|(_, s)| s) else {
                    return Err(self.gone());
                };
                if following.base_offset() <= segment.base_offset() {
                    return Err(segment.damaged(next, CorruptReason::Offsets, history));
                }
                segment = Arc::clone(following);
                next = 0;
                expected = Some(segment.base_offset());
            }
            let stored = segment.stored_batch(next, history)?;
            let header = stored.header;
            // A segment loses batches only by compaction, so each batch of another one begins where the previous
            // one ends.
            let chained = match expected {
                Some(expected) => segment.may_follow(expected, header.base_offset),
                None => header.base_offset <= offset || segment.is_cleaned(),
            };
            if !chained && !planted("offset_chain_not_checked") {
                return Err(segment.damaged(next, CorruptReason::Offsets, history));
            }
            if header.next_offset() > offset {
                return open_batch(stored, segment, expected.is_some(), history);
            }
            next = stored.next;
            expected = Some(header.next_offset());
        }
    }
}

/// Verifies the CRC of a batch, and decompresses the batch if needed.
fn open_batch(
    stored: Stored,
    segment: Arc<Segment>,
    sequential: bool,
    history: History<'_>,
) -> Result<Entered> {
    let Stored { header, window, start, next, crc } = stored;
    let failed = |error| segment.decode_failed(start, error, history);
    let batch = Batch::parse(window.slice(&(start..next)).unwrap_or_default()).map_err(failed)?;
    if !planted("batch_checksum_not_checked") {
        crc.map_or_else(|| batch.verify_crc(), |crc| batch.compare_crc(crc)).map_err(failed)?;
    }
    let records = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(failed)?;
    let source = if let Cow::Owned(records) = records {
        Source::Owned(Arc::new(records))
    } else {
        let first = start.saturating_sub(window.start);
        let end = next.saturating_sub(window.start);
        Source::Map { map: window.map, start: first.saturating_add(HEADER_BYTES as u64), end }
    };
    if header.attributes.is_control() || header.count == 0 {
        if !planted("counts_not_checked") {
            check_records(&header, source.bytes()).map_err(failed)?;
        }
        let position = header.next_offset();
        return Ok(Entered::Skipped { segment, next, position });
    }
    Ok(Entered::Batch(Inside {
        segment,
        next,
        sequential,
        position: start,
        header,
        source,
        at: 0,
        last_delta: -1,
        checked: false,
        ahead: None,
    }))
}
