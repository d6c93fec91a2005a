//! Appending to a segment, and writing its index and checksum files.

use std::sync::Arc;

use super::Segment;
use crate::error::{Error, Result};
use crate::log::image::SegmentImage;
use crate::segment::Extension;
use crate::storage::{OpenMode, StorageFile};
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// The bounds of a preallocation step, in bytes. Steps grow with the segment: a file that grows in small
/// pieces is slow and erratic, and a small segment must not take much space.
const FIRST_STEP: u64 = 1 << 20;
const LAST_STEP: u64 = 64 << 20;
/// Files below this size, in bytes, are not preallocated.
const PREALLOCATE_FROM: u64 = 256 << 10;
/// The least preallocated space that a roll releases, in bytes. Releasing it may wait for the file system's
/// journal.
const TRIM_FROM: u64 = 256 << 10;
/// The kernel is asked to start writing back whenever this many bytes are complete.
const WRITEBACK_STEP: u64 = 4 << 20;

/// Batches that are complete in the file and not published yet.
#[derive(Debug)]
pub(in crate::log) struct Unpublished {
    position: u64,
    image: SegmentImage,
    batches: Vec<BatchPlace>,
}

/// A batch, as a segment takes note of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct BatchPlace {
    /// Its size.
    pub(in crate::log) bytes: u64,
    /// The offset after its last record.
    pub(in crate::log) end_offset: i64,
    pub(in crate::log) max_timestamp: i64,
}

impl Unpublished {
    /// Returns the image that the segment has once they are published.
    pub(in crate::log) fn image(&self) -> SegmentImage {
        self.image
    }

    /// Returns the size of the batches in bytes.
    pub(in crate::log) fn bytes(&self) -> u64 {
        self.image.len.saturating_sub(self.position)
    }
}

impl Segment {
    /// Appends one batch, and publishes it once it is complete in the file. After a failure, the next append
    /// overwrites the same position.
    pub(in crate::log) fn append(
        self: &Arc<Self>,
        bytes: &[u8],
        end_offset: i64,
        max_timestamp: i64,
    ) -> Result<Arc<dyn StorageFile>> {
        let written = self.write([(bytes, end_offset, max_timestamp)])?;
        self.publish(&written);
        self.file()
    }

    /// Writes batches, each with its end offset and its largest timestamp, behind the published ones.
    /// [`Segment::publish`] or [`Segment::take_back`] must follow.
    pub(in crate::log) fn write<'b>(
        self: &Arc<Self>,
        batches: impl IntoIterator<Item = (&'b [u8], i64, i64)> + Clone,
    ) -> Result<Unpublished> {
        let file = self.file()?;
        let position = self.len();
        let sizes = batches.clone().into_iter().map(|(bytes, ..)| bytes.len() as u64);
        self.preallocate(&*file, position.saturating_add(sizes.sum()))?;
        let mut running = self.running()?;
        drop(self.load_indexes()?);
        let mut image = self.image();
        for (bytes, ..) in batches.clone() {
            let end = image.len.saturating_add(bytes.len() as u64);
            self.written_to.fetch_max(end, Ordering::Relaxed);
            file.write_at(bytes, image.len)?;
            image.len = end;
        }
        let mut placed = Vec::with_capacity(1);
        for (bytes, end_offset, max_timestamp) in batches {
            image.checksum = running.push(bytes);
            if position == 0 && placed.is_empty() {
                image.first_timestamp = max_timestamp;
            }
            image.max_timestamp = image.max_timestamp.max(max_timestamp);
            image.end_offset = end_offset;
            placed.push(BatchPlace { bytes: bytes.len() as u64, end_offset, max_timestamp });
        }
        Ok(Unpublished { position, image, batches: placed })
    }

    /// Appends batches that lie back to back in `bytes`, by one write. Compaction does so.
    pub(in crate::log) fn append_places(
        self: &Arc<Self>,
        bytes: &[u8],
        batches: &[BatchPlace],
    ) -> Result<()> {
        let mut image = self.image();
        let position = image.len;
        self.written_to.fetch_max(position.saturating_add(bytes.len() as u64), Ordering::Relaxed);
        self.file()?.write_at(bytes, position)?;
        image.len = position.saturating_add(bytes.len() as u64);
        image.checksum = self.running()?.push(bytes);
        if position == 0 {
            image.first_timestamp = batches.first().map_or(-1, |first| first.max_timestamp);
        }
        let times = batches.iter().map(|batch| batch.max_timestamp);
        image.max_timestamp = times.fold(image.max_timestamp, i64::max);
        image.end_offset = batches.last().map_or(image.end_offset, |last| last.end_offset);
        self.publish(&Unpublished { position, image, batches: batches.to_vec() });
        Ok(())
    }

    /// Completes a segment that compaction has written: it ends at `end_offset`, and takes no more batches.
    pub(in crate::log) fn complete(self: &Arc<Self>, end_offset: i64) -> Result<()> {
        self.finish(true)?;
        self.end_offset.store(end_offset, Ordering::Release);
        self.seal();
        *self.running.lock() = None;
        // They are in their files. A pass may write very many segments that nobody reads.
        *self.indexes.lock() = None;
        Ok(())
    }

    /// Publishes written batches.
    pub(in crate::log) fn publish(&self, written: &Unpublished) {
        let Unpublished { position, image, batches } = written;
        // Nothing closes the indexes of a segment that is written to. If they were closed, the log would
        // rebuild them.
        if let Some(indexes) = &mut *self.indexes.lock() {
            let mut at = *position;
            for BatchPlace { bytes, end_offset, max_timestamp } in batches {
                let last_offset = end_offset.saturating_sub(1);
                indexes.builder.on_batch(last_offset, at, *bytes, *max_timestamp);
                at = at.saturating_add(*bytes);
            }
        }
        self.first_timestamp.store(image.first_timestamp, Ordering::Relaxed);
        self.max_timestamp.store(image.max_timestamp, Ordering::Relaxed);
        self.checksum.store(image.checksum, Ordering::Relaxed);
        self.end_offset.store(image.end_offset, Ordering::Release);
        self.len.store(image.len, Ordering::Release);
        let step = image.len / WRITEBACK_STEP;
        if step > position / WRITEBACK_STEP
            && let Some(file) = self.open_file()
        {
            let from = step.saturating_sub(1).saturating_mul(WRITEBACK_STEP);
            file.start_writeback(from, WRITEBACK_STEP);
        }
    }

    /// Forgets written batches. The next append overwrites them.
    pub(in crate::log) fn take_back(&self) {
        // The sums include them. The next append reads the sums of the published bytes again.
        if !planted("keep_refused_sums") {
            self.set_unfinished();
            *self.running.lock() = None;
        }
    }

    fn preallocate(&self, file: &dyn StorageFile, after: u64) -> Result<()> {
        if after < PREALLOCATE_FROM || after <= self.preallocated.load(Ordering::Relaxed) {
            return Ok(());
        }
        let until = after.saturating_add(after.clamp(FIRST_STEP, LAST_STEP));
        let until = until.min(self.limit.load(Ordering::Relaxed)).max(after);
        self.preallocated.store(until, Ordering::Relaxed);
        // Request only the new range: some file systems visit each page of it.
        match file.preallocate(self.len(), until.saturating_sub(self.len())) {
            // On a full disk, the batch itself may still fit.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the index entries and sums that are not in the files yet. Does not sync them: after a crash,
    /// the remaining entries are checked before they are trusted.
    pub(in crate::log) fn flush_side_files(&self) -> Result<()> {
        self.flush_sums()?;
        let mut indexes = self.indexes.lock();
        let Some(indexes) = &mut *indexes else { return Ok(()) };
        let (offsets, times) = (indexes.builder.offsets(), indexes.builder.times());
        if offsets.len() > indexes.written_offsets {
            let encode_from = |first| offsets.encode_from(first);
            self.write_index(Extension::Index, indexes.written_offsets, encode_from)?;
            indexes.written_offsets = offsets.len();
        }
        if times.len() > indexes.written_times {
            let encode_from = |first| times.encode_from(first);
            self.write_index(Extension::TimeIndex, indexes.written_times, encode_from)?;
            indexes.written_times = times.len();
        }
        Ok(())
    }

    /// Writes the entries from `written` on to the file, or all entries if the file lacks earlier ones.
    fn write_index(
        &self,
        extension: Extension,
        written: usize,
        encode_from: impl Fn(usize) -> (Vec<u8>, u64),
    ) -> Result<()> {
        let path = self.path(extension);
        let there = self.folder.storage.metadata(&path)?.map(|(_, len)| len);
        let mode = if there.is_some() { OpenMode::Write } else { OpenMode::CreateNew };
        let file = self.folder.storage.open(&path, mode)?;
        let (mut bytes, mut position) = encode_from(written);
        if there.unwrap_or(0) < position {
            (bytes, position) = encode_from(0);
        }
        file.write_at(&bytes, position)?;
        let end = position.saturating_add(bytes.len() as u64);
        if there.is_some_and(|there| there > end) { file.set_len(end) } else { Ok(()) }
    }

    /// Records that a crash interrupted writes to the segment. The next roll or close then completes its side
    /// files even if nothing is appended.
    pub(in crate::log) fn set_unfinished(&self) {
        self.unfinished.store(true, Ordering::Relaxed);
    }

    /// Finishes a segment at a roll or a clean close, if it was written to. Adds the last time entry, as
    /// Kafka does, and releases preallocated space. A roll, for which appends wait, leaves a little of it. Returns
    /// whether there was anything to do.
    pub(in crate::log) fn finish(self: &Arc<Self>, rolls: bool) -> Result<bool> {
        self.cut_refused()?;
        if self.running.lock().is_none() {
            if !self.unfinished.load(Ordering::Relaxed) || self.len() == 0 {
                return Ok(false);
            }
            match self.load_side_files() {
                // Readers report damage. No side file is built from a damaged log.
                Err(error) if error.is_corruption() => return Ok(false),
                loaded => loaded?,
            }
        }
        let interrupted = self.unfinished.swap(false, Ordering::Relaxed);
        if let Some(indexes) = &mut *self.indexes.lock() {
            indexes.builder.finish();
        }
        self.flush_side_files()?;
        // A killed process may have left space too.
        let may_have = interrupted && self.len() >= PREALLOCATE_FROM;
        let spare = self.preallocated.load(Ordering::Relaxed).saturating_sub(self.len());
        if spare >= TRIM_FROM || !rolls && spare > 0 || may_have {
            self.trim()?;
            self.preallocated.store(0, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// Cuts off the bytes of refused appends. After the end of a finished segment they would be damage.
    fn cut_refused(&self) -> Result<()> {
        let len = self.len();
        if self.written_to.load(Ordering::Relaxed) > len && !planted("refused_bytes_stay") {
            self.file()?.set_len(len)?;
            self.written_to.store(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Releases preallocated space. A file that was not open is closed again: that loses no failed write.
    fn trim(&self) -> Result<()> {
        let was_open = self.open_file().is_some();
        if !was_open && planted("trim_open_files_only") {
            return Ok(());
        }
        let trimmed = self.file()?.trim();
        if !was_open {
            self.close_file();
        }
        trimmed
    }

    fn load_side_files(self: &Arc<Self>) -> Result<()> {
        self.check_file()?;
        drop(self.load_indexes()?);
        self.running().map(drop)
    }
}
