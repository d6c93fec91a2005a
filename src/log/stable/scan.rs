//! The scan for transactions (T3).

use std::sync::Arc;

use super::index::{TransactionIndex, extent};
use crate::error::Result;
use crate::log::Log;
use crate::log::read::{At, Met};
use crate::log::segment::{History, Segment};
use crate::log::view::View;
use crate::producer_state::ControlBatch;
use crate::record::{BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError};

/// How far the scan came with one batch.
struct Passed {
    segment: Arc<Segment>,
    /// Where the next batch begins, in bytes.
    next: u64,
    position: i64,
    /// `None` for offsets that compaction has removed.
    batch: Option<(BatchHeader, Option<ControlBatch>)>,
}

impl Log {
    /// Scans the segments of a view.
    ///
    /// # Errors
    /// See [`Log::transactions`].
    pub(super) fn scan_transactions(&self, view: &View) -> Result<TransactionIndex> {
        let end = self.end_offset();
        let mut index = TransactionIndex::new();
        let foreign = |segment: &&Arc<Segment>| !segment.holds_own_appends_alone();
        let (Some(first), Some(last)) =
            (view.segments.iter().find(foreign), view.segments.iter().rev().find(foreign))
        else {
            return Ok(index);
        };
        // A batch in memory may be in a segment already, but not whole.
        let until = last.end_offset().min(view.stored_end(i64::MAX));
        let (mut at, mut offset) = (At::Unknown, first.base_offset());
        while offset < until && !index.is_settled() {
            match self.meet(view, at, offset, &pass) {
                Ok(Passed { segment, next, position, batch }) => {
                    if let Some((header, control)) = batch {
                        index.take(&header, control);
                    }
                    offset = position.max(offset.saturating_add(1));
                    at = At::Stored { segment, next };
                }
                Err(error) if error.is_corruption() && !self.has_changed(view) => {
                    // The writer may have deleted or replaced what this process misses.
                    self.look_again(&error)?;
                    let Some((_, segment)) = view.segment_of(offset) else { return Err(error) };
                    let (lost, next) = extent(&error, offset, segment);
                    index.damaged(lost, error);
                    (at, offset) = (At::Unknown, next);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(index.finish(end))
    }
}

/// Verifies the checksum of a batch, and reads it if it is a marker.
fn pass(met: Met, history: History<'_>) -> Result<Passed> {
    let (stored, segment) = match met {
        Met::Gap { segment, next, position } => {
            return Ok(Passed { segment, next, position, batch: None });
        }
        Met::Batch { stored, segment, .. } => (stored, segment),
    };
    stored.verify(&segment, history)?;
    let header = stored.header;
    let control = || {
        let batch = stored.batch()?;
        let payload = batch.decompressed(DEFAULT_MAX_DECOMPRESSED_BYTES)?;
        ControlBatch::read(&header, &payload)
    };
    let is_marker = header.attributes.is_control() && header.producer_id >= 0;
    let control = is_marker.then(control).transpose().map_err(|error| match error {
        // Its checksum is right, so no other batch is lost with it.
        DecodeError::Corrupt { reason, .. } => {
            let offsets = (header.base_offset, header.last_offset());
            segment.corrupt(stored.start, Some(offsets), reason)
        }
        other => other.into_error(&segment.log_path(), stored.start),
    })?;
    let (next, position) = (stored.next, header.next_offset());
    Ok(Passed { segment, next, position, batch: Some((header, control)) })
}
