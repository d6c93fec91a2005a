//! Deleting records from the front: moves the log start, and removes the segments below it.
//!
//! The log start moves under the append lock together with its frame, so a checkpoint captures it exactly at
//! its position (L5). A segment that lies entirely below the log start stays in the view and in the folder
//! until the frame is synced, or until a checkpoint without the segment is durable. The next opening removes
//! any of its files that a crash leaves. See [`super::retention`] for what recovery makes of missing files.
//!
//! The last segment is removed like the others once all its records are deleted. No batch is added to such a
//! segment; the next batch begins a new one. So a checkpoint that lists no segment can remove every segment
//! below its log end, and no record that was appended meanwhile is in one of them.
//!
//! A damaged partition, which refuses appends, accepts a deletion: it is what frees the space of the damage.

use std::sync::Arc;

use super::segment::Segment;
use super::write_out::WriteOut;
use super::{Log, LogImage, check_range};
use crate::error::{CorruptReason, Result};
use crate::sync::atomic::Ordering;
use crate::types::{PartitionNumber, planted};

/// The body of a section that moves a log start: the partition number (u32) and the new log start (i64), both
/// big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogStartSection {
    pub(crate) partition: PartitionNumber,
    pub(crate) start_offset: i64,
}

/// The length of the body, in bytes.
pub(crate) const LOG_START_SECTION_BYTES: usize = 12;

impl LogStartSection {
    pub(crate) fn encode(&self) -> [u8; LOG_START_SECTION_BYTES] {
        let mut out = [0; LOG_START_SECTION_BYTES];
        let (partition, start_offset) = out.split_at_mut(4);
        partition.copy_from_slice(&self.partition.0.to_be_bytes());
        start_offset.copy_from_slice(&self.start_offset.to_be_bytes());
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, CorruptReason> {
        let (partition, start_offset) = body.split_first_chunk().ok_or(CorruptReason::Length)?;
        let start_offset = start_offset.try_into().map_err(|_| CorruptReason::Length)?;
        Ok(Self {
            partition: PartitionNumber(u32::from_be_bytes(*partition)),
            start_offset: i64::from_be_bytes(start_offset),
        })
    }
}

impl Log {
    /// Deletes the records below `before`, once `journal` has written a frame with the section. Returns
    /// `None` if they are already deleted. Also works on a damaged partition.
    ///
    /// # Errors
    /// `OffsetOutOfRange` if `before` is negative or above the log end; `UnknownTopic` if the topic is deleted; `Poisoned`
    /// after a panic; the errors of `journal`.
    pub(crate) fn delete_records<T>(
        &self,
        before: i64,
        journal: impl FnOnce(LogStartSection) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut guard = self.begin_deletion()?;
        let (start, end) = (self.start_offset(), self.end_offset());
        let requested = if before < 0 { before } else { before.max(start) };
        check_range(self.partition(), requested, start, end)?;
        if before <= start {
            return Ok(None);
        }
        if !planted("log_start_not_dirty") {
            guard.mark_dirty();
        }
        let section = LogStartSection { partition: self.number(), start_offset: before };
        let journaled = journal(section)?;
        self.start.store(before, Ordering::Release);
        Ok(Some(journaled))
    }

    /// Replays a frame that moves the log start.
    ///
    /// # Errors
    /// `Offsets` if `start_offset` is below the log start or above the log end.
    pub(crate) fn replay_start(&self, start_offset: i64) -> Result<(), CorruptReason> {
        if !(self.start_offset()..=self.end_offset()).contains(&start_offset) {
            return Err(CorruptReason::Offsets);
        }
        self.start.store(start_offset, Ordering::Release);
        self.mark_dirty();
        Ok(())
    }

    /// Removes the segments below those that a durable checkpoint lists. The next checkpoint makes the
    /// removal durable.
    pub(super) fn remove_unlisted(&self, out: &mut WriteOut, listed: &LogImage) {
        let first = listed.segments.first().map_or(listed.end_offset, |first| first.base_offset);
        let view = self.view();
        let below = |segment: &Arc<Segment>| segment.base_offset() < first;
        self.remove_first(out, view.segments.iter().take_while(|segment| below(segment)).count());
    }

    /// Removes the first segments, whose records are all deleted. A file that cannot be removed stays until a check
    /// of retention removes it, or the next opening, which removes all files that no checkpoint lists.
    pub(super) fn remove_first(&self, out: &mut WriteOut, count: usize) {
        if count == 0 {
            return;
        }
        let mut gone: Vec<Arc<Segment>> = Vec::new();
        self.swap_view(|view| gone.extend(Arc::make_mut(&mut view.segments).drain(..count)));
        self.forget_transactions();
        if !planted("removed_segments_not_captured") {
            self.capture_removed(out, &gone);
        }
        self.remove_segments(out, gone);
    }

    /// Removes segments that are not in the view any more.
    pub(super) fn remove_segments(&self, out: &mut WriteOut, gone: Vec<Arc<Segment>>) {
        if gone.is_empty() {
            return;
        }
        // An open handle would keep the removed file's space allocated.
        let closed: Vec<_> = gone.iter().filter_map(|segment| segment.open_file()).collect();
        for segment in &gone {
            segment.close_file();
        }
        out.forget_files(&closed);
        if !planted("removal_not_durable") {
            // A folder that somebody removed cannot be synced.
            let there = self.shared.storage.metadata(self.dir()).is_ok_and(|dir| dir.is_some());
            out.names_changed |= there;
            self.mark_dirty();
        }
        out.unremoved.extend(gone);
        // The next check of retention tries again, and reports the error.
        let _later = self.remove_files(out);
    }

    /// Removes the files of deleted segments, also those that could not be removed before.
    pub(super) fn remove_files(&self, out: &mut WriteOut) -> Result<()> {
        let mut removed = Ok(());
        for segment in std::mem::take(&mut out.unremoved) {
            if let Err(error) = segment.remove_files() {
                out.unremoved.push(segment);
                removed = removed.and(Err(error));
            }
        }
        self.unremoved.store(!out.unremoved.is_empty(), Ordering::Relaxed);
        if removed.is_err() {
            self.shared.left_over.store(true, Ordering::Release);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_survives_encoding_and_only_that() {
        let section = LogStartSection { partition: PartitionNumber(7), start_offset: 1 << 40 };
        let bytes = section.encode();
        assert_eq!(LogStartSection::decode(&bytes), Ok(section));
        for cut in 0..bytes.len() {
            assert_eq!(LogStartSection::decode(&bytes[..cut]), Err(CorruptReason::Length));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(LogStartSection::decode(&longer), Err(CorruptReason::Length));
    }
}
