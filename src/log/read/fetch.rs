//! Fetching records from a cursor's position on.

use std::path::Path;
use std::sync::Arc;

use super::cursor::{At, Cursor, Inside};
use super::decode::{Decode, Decoded};
use super::enter::Entered;
use super::fetched::{FetchLimits, Fetched, Source};
use crate::error::{Error, Result};
use crate::log::view::View;
use crate::log::{Log, check_range};
use crate::types::planted;

impl Log {
    /// Appends records from the cursor's position on to `out`, and moves the cursor past them.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if the position is below the log start or above the log end; `UnknownTopic` if the
    /// topic is deleted; `Corrupt`, `MissingSegment` or another error of reading if it keeps the call from
    /// reading any record. Records before the damage are returned first.
    pub(crate) fn fetch(
        &self,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<()> {
        cursor.held_back = None;
        // Read the end before the view, so the view holds every offset below the end (L2).
        let end = self.end_offset();
        let before = out.records.len();
        check_range(self.partition(), cursor.position, self.start_offset(), end)?;
        let limits = FetchLimits { until: limits.until.min(end), ..limits };
        if cursor.position >= limits.until {
            return Ok(());
        }
        let mut view = self.view();
        while cursor.position < limits.until && !out.full(limits) {
            match self.step(&view, cursor, partition, limits, out) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if out.records.len() > before => break,
                Err(_) if self.has_changed(&view) => {
                    // Compaction may have replaced the segment (K7), or retention deleted it. Look again.
                    check_range(self.partition(), cursor.position, self.start_offset(), end)?;
                    view = self.view();
                    cursor.at = At::Unknown;
                }
                Err(error) if planted("believe_missing_segment") => return Err(error),
                Err(error) => {
                    // If the records were deleted meanwhile, report that instead.
                    self.look_again(&error)?;
                    check_range(self.partition(), cursor.position, self.start_offset(), end)?;
                    return Err(covering(error, cursor.position));
                }
            }
        }
        Ok(())
    }

    /// Reads on in one batch. Returns false if there is nothing to read now.
    fn step(
        &self,
        view: &View,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<bool> {
        let from = cursor.position;
        if cursor.is_committed() && !self.is_stable(from)? {
            cursor.held_back = Some(limits.until);
            return Ok(false);
        }
        if view.is_stored(from) {
            let read = self.fetch_stored(view, cursor, partition, limits, out)?;
            cursor.held_back = (!read).then_some(limits.until);
            return Ok(read);
        }
        let read = Self::fetch_memory(view, cursor, partition, limits, out)?;
        if cursor.is_committed() {
            self.has_passed_plain(from, cursor.position);
        }
        Ok(read)
    }

    /// Returns whether segments have changed since a view was loaded.
    pub(in crate::log) fn has_changed(&self, view: &View) -> bool {
        !Arc::ptr_eq(&view.segments, &self.view().segments)
    }

    fn fetch_memory(
        view: &View,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<bool> {
        let Some(batch) = view.batch_of(cursor.position) else { return Ok(false) };
        let from = match cursor.at {
            At::Memory { id, bytes } if id == batch.id => bytes,
            _ => 0,
        };
        let source = Source::Memory(Arc::clone(batch));
        let decode = Decode {
            source: &source,
            base_offset: batch.base_offset,
            base_timestamp: batch.base_timestamp,
            append_timestamp: batch.append_timestamp(),
            epoch: batch.epoch,
            partition,
            deltas: (-1, i32::MAX),
            end_offset: limits.until,
        };
        let Decoded { at: bytes, last, .. } = cursor
            .decode(&decode, from, limits, out)
            .map_err(|error| error.into_error(Path::new("open batch"), 0))?;
        cursor.at = At::Memory { id: batch.id, bytes };
        if let Some(last) = last {
            let read = batch.base_offset.saturating_add(i64::from(last)).saturating_add(1);
            cursor.position = cursor.position.max(read);
        }
        Ok(last.is_some())
    }

    fn fetch_stored(
        &self,
        view: &View,
        cursor: &mut Cursor,
        partition: usize,
        limits: FetchLimits,
        out: &mut Fetched,
    ) -> Result<bool> {
        let history = Some(&**view.epochs);
        let mut inside = match std::mem::take(&mut cursor.at) {
            At::Inside(inside) => inside,
            at => match self.enter_batch(view, at, cursor.position, cursor.is_committed())? {
                Entered::Batch(inside) => {
                    inside.touch_following();
                    inside
                }
                Entered::Skipped { segment, next, position } => {
                    cursor.position = position;
                    cursor.at = At::Stored { segment, next };
                    return Ok(true);
                }
                Entered::Unstable => return Ok(false),
            },
        };
        let began = inside.at;
        let Decoded { at, last, reached_end, .. } =
            Self::decode_stored(cursor, &mut inside, partition, limits, out)
                .map_err(|error| inside.segment.decode_failed(inside.position, error, history))?;
        inside.at = at;
        inside.last_delta = last.unwrap_or(inside.last_delta);
        if at >= inside.source.bytes().len() {
            cursor.position = cursor.position.max(inside.header.next_offset());
            let Inside { segment, next, .. } = inside;
            cursor.at = At::Stored { segment, next };
        } else {
            let last = inside.header.base_offset.saturating_add(i64::from(inside.last_delta));
            let read = last.saturating_add(1);
            let passed =
                if reached_end && !planted("hole_not_passed") { limits.until } else { read };
            let from = cursor.position;
            cursor.position = from.max(passed);
            cursor.at = At::Inside(inside);
            return Ok(at > began || cursor.position > from);
        }
        Ok(true)
    }
}

/// Extends the range of lost offsets to include `position`. A seek past the range then always makes progress,
/// even if the files contradict it.
fn covering(error: Error, position: i64) -> Error {
    match error {
        Error::Corrupt(mut damage) => {
            damage.offsets = damage
                .offsets
                .map(|(first, last)| (first.min(position), last.max(position)))
                .or(Some((position, position)));
            Error::Corrupt(damage)
        }
        other => other,
    }
}
