//! Finding the batch that holds an offset.

use std::borrow::Cow;
use std::sync::Arc;

use super::cursor::{At, Inside};
use super::fetched::Source;
use crate::error::{CorruptReason, Error, Result};
use crate::log::Log;
use crate::log::segment::{History, Segment, Stored};
use crate::log::view::View;
use crate::record::{DEFAULT_MAX_DECOMPRESSED_BYTES, HEADER_BYTES, check_records};
use crate::types::planted;

/// What a reader of committed records does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) enum Verdict {
    /// It reads the batch, unless that is a control batch.
    Shown,
    /// It passes the batch, whose transaction is aborted.
    Hidden,
    /// It stops before the batch.
    Unstable,
}

/// What lies at an offset.
#[derive(Debug)]
pub(in crate::log) enum Met {
    /// The batch that holds it. Its checksum is not verified yet.
    Batch { stored: Stored, segment: Arc<Segment>, sequential: bool },
    /// The end of a segment that has lost the offset to compaction. The next one begins with `position`.
    Gap { segment: Arc<Segment>, next: u64, position: i64 },
}

/// The batch found for a position.
#[derive(Debug)]
pub(super) enum Entered {
    Batch(Inside),
    /// A batch without records for the consumer was skipped.
    Skipped {
        segment: Arc<Segment>,
        next: u64,
        position: i64,
    },
    /// What follows is not stable yet.
    Unstable,
}

impl Log {
    /// Finds the batch that holds `offset`, verifies its checksum, and decompresses its records. A reader of
    /// committed records only enters batches that it may see.
    pub(super) fn enter_batch(
        &self,
        view: &View,
        at: At,
        offset: i64,
        committed: bool,
    ) -> Result<Entered> {
        self.meet(view, at, offset, &|met, history| match met {
            Met::Gap { segment, next, position } => {
                // As within a segment: a reader passes a hole together with the batch behind it.
                let held_back = committed && position < self.end_offset();
                if held_back && !self.is_stable(position)? {
                    return Ok(Entered::Unstable);
                }
                if committed {
                    self.has_passed_plain(offset, position);
                }
                Ok(Entered::Skipped { segment, next, position })
            }
            Met::Batch { stored, segment, sequential } => {
                stored.verify(&segment, history)?;
                let Stored { header, next, .. } = stored;
                match if committed { self.judge(&header, offset)? } else { Verdict::Shown } {
                    Verdict::Shown => open_batch(stored, segment, sequential, history),
                    Verdict::Unstable => Ok(Entered::Unstable),
                    Verdict::Hidden => {
                        Ok(Entered::Skipped { segment, next, position: header.next_offset() })
                    }
                }
            }
        })
    }

    /// Finds what lies at `offset`, and takes it with `open`. Looks past damage whose header claims the offset.
    pub(in crate::log) fn meet<T>(
        &self,
        view: &View,
        at: At,
        offset: i64,
        open: &dyn Fn(Met, History<'_>) -> Result<T>,
    ) -> Result<T> {
        let history = Some(&**view.epochs);
        let from = |segment, next, expected| {
            let met = self.meet_from(view, segment, next, expected, offset);
            met.and_then(|met| open(met, history))
        };
        let mut entered = match at {
            At::Stored { segment, next } if next < segment.len() && !segment.is_replaced() => {
                from(segment, next, Some(offset))
            }
            _ => {
                let Some((_, segment)) = view.segment_of(offset) else {
                    return Err(self.gone());
                };
                let next = segment.locate(offset, history)?;
                from(Arc::clone(segment), next, None)
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
            entered = from(Arc::clone(segment), next, None);
        }
    }

    /// Finds the batch that holds `offset`, beginning with the batch at `next`. If `expected` is known, that
    /// batch must begin with it.
    fn meet_from(
        &self,
        view: &View,
        mut segment: Arc<Segment>,
        mut next: u64,
        mut expected: Option<i64>,
        offset: i64,
    ) -> Result<Met> {
        let history = Some(&**view.epochs);
        loop {
            if next >= segment.len() {
                let end_offset = segment.end_offset();
                if segment.is_cleaned() && offset < end_offset {
                    // Compaction has removed the records from `offset` to the end of the segment.
                    return Ok(Met::Gap { segment, next, position: end_offset });
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
                let sequential = expected.is_some();
                return Ok(Met::Batch { stored, segment, sequential });
            }
            next = stored.next;
            expected = Some(header.next_offset());
        }
    }
}

/// Decompresses a batch with a right checksum, if needed.
fn open_batch(
    stored: Stored,
    segment: Arc<Segment>,
    sequential: bool,
    history: History<'_>,
) -> Result<Entered> {
    let failed = |error| segment.decode_failed(stored.start, error, history);
    let batch = stored.batch().map_err(failed)?;
    let records = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(failed)?;
    let owned = if let Cow::Owned(records) = records { Some(records) } else { None };
    let Stored { header, window, start, next, .. } = stored;
    let source = if let Some(records) = owned {
        Source::Owned(Arc::new(records))
    } else {
        let first = start.saturating_sub(window.start);
        let end = next.saturating_sub(window.start);
        Source::Map { map: window.map, start: first.saturating_add(HEADER_BYTES as u64), end }
    };
    if header.attributes.is_control() || header.count == 0 {
        if !planted("counts_not_checked") {
            check_records(&header, source.bytes())
                .map_err(|error| segment.decode_failed(start, error, history))?;
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
