//! Verifies all stored data of a partition: each byte of its segments against the checksums, each batch, the
//! chain of offsets, the leader epochs, and each index entry.
//!
//! Verifying uses plain reads. A read error becomes a finding, and verifying continues. No map, index or
//! handle stays open. Verifying changes nothing. It covers the data that the partition's image lists; beside
//! a live writer, that is the data of the writer's checkpoint.

use std::sync::Arc;

use super::Log;
use super::epochs::epoch_at;
use super::image::SegmentImage;
use super::segment::{Judge, Segment};
use crate::error::{CorruptReason, Corruption, Error, Result};
use crate::record::{
    Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, HEADER_BYTES,
};
use crate::segment::{BLOCK_BYTES, Extension, IndexBuilder, Sums};
use crate::storage::StorageFile;
use crate::types::Epoch;

/// The number of bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The counts and findings of verifying a partition.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// The number of checked segments.
    pub(crate) segments: u64,
    /// The number of sound batches.
    pub(crate) batches: u64,
    /// The number of records in the sound batches, according to their headers.
    pub(crate) records: u64,
    /// The number of segment bytes read.
    pub(crate) bytes: u64,
    /// All faults, in the order of the segments: `Corrupt` with the file, the position, and the offsets if
    /// they are known; `MissingSegment`; `Io`. The reasons `Index`, `Sums` and `Absent` concern side files,
    /// which can be rebuilt from the log, so no record is lost.
    pub(crate) findings: Vec<Error>,
}

impl Log {
    /// Reads and checks every byte of the partition's segments.
    ///
    /// Calls `progress` after each MiB at the latest, with the number of bytes read since the last call.
    /// Takes as long as reading the files. Appends and reads continue meanwhile.
    ///
    /// `closed` says that the folder was closed. The side files of the last segment are then complete, as
    /// those of the other segments are since the roll.
    pub(crate) fn verify(&self, closed: bool, progress: &mut dyn FnMut(u64)) -> Verified {
        let (segments, epochs) = {
            // The write-out lock keeps lengths, offsets and checksums consistent with each other.
            let _out = self.out.lock();
            let view = self.view();
            let images: Vec<_> = view
                .segments
                .iter()
                .map(|segment| (Arc::clone(segment), segment.image()))
                .collect();
            (images, self.epochs())
        };
        let mut verified = Verified::default();
        let last = segments.len().saturating_sub(1);
        for (number, (segment, image)) in segments.iter().enumerate() {
            add(&mut verified.segments, 1);
            let check = Check { log: self, segment, image: *image, epochs: &epochs };
            let is_last = number == last;
            // Nothing is added to a cleaned segment, even if no other one follows it yet.
            let open = is_last && !segment.is_cleaned();
            let ends = Ends { open, finished: closed || !is_last };
            if let Err(error) = check.run(ends, &mut verified, progress) {
                verified.findings.push(error);
            }
        }
        verified
    }
}

/// Adds without overflow: the counts in a damaged file may be arbitrary numbers.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// Says what may follow the end of a segment, and whether its side files must be complete.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// The segment is being written to, or was when a crash occurred. Bytes after its end are no damage.
    open: bool,
    /// The side files are complete.
    finished: bool,
}

/// One segment being checked.
struct Check<'a> {
    log: &'a Log,
    segment: &'a Segment,
    image: SegmentImage,
    epochs: &'a [(Epoch, i64)],
}

impl Check<'_> {
    /// Checks the segment.
    ///
    /// # Errors
    /// The error that keeps the rest of the segment from being checked.
    fn run(
        &self,
        ends: Ends,
        verified: &mut Verified,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let file = self.segment.open_to_read()?;
        let len = file.len()?;
        if len > self.image.len && !ends.open {
            return Err(self.lost(self.image.len, CorruptReason::Length));
        }
        let mut walk = Walk::new(self, &*file, ends.open)?;
        self.read(&*file, len.min(self.image.len), &mut walk, progress)?;
        walk.finish(self);
        add(&mut verified.batches, walk.batches);
        add(&mut verified.records, walk.records);
        add(&mut verified.bytes, walk.sums.len());
        self.check_sums(&mut walk, ends)?;
        if ends.finished {
            self.check_presence(&mut walk)?;
        }
        verified.findings.append(&mut walk.findings);
        Ok(())
    }

    fn read(
        &self,
        file: &dyn StorageFile,
        len: u64,
        walk: &mut Walk<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut position: u64 = 0;
        while position < len {
            let kept = buffer.len();
            let want = len.saturating_sub(position).min(READ_BYTES as u64) as usize;
            buffer.resize(kept.saturating_add(want), 0);
            let read = file.read_at(buffer.get_mut(kept..).unwrap_or_default(), position)?;
            if read < want {
                // The file was truncated after its length was read.
                return Err(self.lost(position, CorruptReason::Short));
            }
            walk.sums.push(buffer.get(kept..).unwrap_or_default());
            position = position.saturating_add(read as u64);
            progress(read as u64);
            let taken = walk.take(self, &buffer, position, position == len);
            buffer.drain(..taken);
        }
        // The file ends at a batch boundary, but the checkpoint lists more batches.
        if let Some(position) = walk.position.filter(|position| *position < self.image.len) {
            walk.report(self, position, CorruptReason::Short);
        }
        Ok(())
    }

    /// Compares the segment with the checksum of the checkpoint. If they differ, reports the blocks that
    /// differ.
    fn check_sums(&self, walk: &mut Walk<'_>, ends: Ends) -> Result<()> {
        let bytes = self.segment.read_sums_file(self.image.len)?;
        let stored = Sums::decode(&bytes, self.image.len, self.image.checksum);
        let right = walk.sums.whole() == self.image.checksum;
        match stored {
            Some(stored) if right && stored.sums.blocks() == walk.sums.blocks() => {}
            // The file is not written yet, or power loss took it.
            None if right && bytes.is_empty() && !ends.finished => {}
            // Large appends are in the segment before the next checkpoint adds their sums.
            _ if right && !ends.finished && walk.sums.continue_file(&bytes) => {}
            _ if right => walk.findings.push(self.side_file(Extension::Sums)?),
            Some(stored) if stored.proven => {
                for index in 0..=self.image.len / BLOCK_BYTES {
                    if let Some((range, sum)) = stored.sums.block(index)
                        && walk.sums.block(index) != Some((range.clone(), sum))
                        && !walk.explained(self, &range)
                    {
                        let damage = self.damage(range.start, None, CorruptReason::Checksum);
                        walk.findings.push(damage);
                    }
                }
            }
            _ if walk.explained(self, &(0..self.image.len)) => {}
            _ => walk.findings.push(self.lost(0, CorruptReason::Checksum)),
        }
        Ok(())
    }

    /// Reports missing index files. A segment of a few batches needs none.
    fn check_presence(&self, walk: &mut Walk<'_>) -> Result<()> {
        walk.builder.finish();
        let needed = [walk.builder.offsets().len(), walk.builder.times().len()];
        for (extension, needed, found) in [
            (Extension::Index, needed[0], walk.entries[0]),
            (Extension::TimeIndex, needed[1], walk.entries[1]),
        ] {
            // The index of a damaged segment may lack entries.
            let misses = needed > 0 && found == Some(0);
            if misses && (walk.damaged.is_empty() || !self.segment.has_file(extension)?) {
                walk.findings.push(self.side_file(extension)?);
            }
        }
        Ok(())
    }

    /// Returns the finding for a wrong or missing side file.
    fn side_file(&self, extension: Extension) -> Result<Error> {
        let reason = match extension {
            _ if !self.segment.has_file(extension)? => CorruptReason::Absent,
            Extension::Sums => CorruptReason::Sums,
            _ => CorruptReason::Index,
        };
        Ok(Error::corrupt(self.segment.side_path(extension), 0, reason))
    }

    /// Returns damage by which all offsets of the segment may be lost.
    fn lost(&self, position: u64, reason: CorruptReason) -> Error {
        let last = self.image.end_offset.saturating_sub(1);
        self.damage(position, Some((self.image.base_offset, last)), reason)
    }

    fn damage(&self, position: u64, offsets: Option<(i64, i64)>, reason: CorruptReason) -> Error {
        Error::Corrupt(Box::new(Corruption {
            path: self.segment.log_path(),
            position,
            partition: Some(self.log.partition().clone()),
            offsets,
            reason,
        }))
    }
}

/// The walk over the batches of a segment while the segment is being read.
struct Walk<'a> {
    sums: Sums,
    /// Finds the extent of damage, by plain reads of its own.
    judge: Judge<'a>,
    /// The position of the next batch. `None` if a read error keeps the walk from finding one.
    position: Option<u64>,
    /// The offset that the next batch must begin with: the end offset of the previous batch.
    expected: i64,
    /// The reported ranges of bytes. The batch after each of them is sound again.
    damaged: Vec<(u64, u64)>,
    offsets: std::vec::IntoIter<(i64, u64)>,
    next_offset_entry: Option<(i64, u64)>,
    times: std::vec::IntoIter<(i64, i64)>,
    next_time_entry: Option<(i64, i64)>,
    max_timestamp: i64,
    /// The number of entries in each index file that can be read: offsets, times.
    entries: [Option<usize>; 2],
    /// Builds the indexes that the sound batches should have.
    builder: IndexBuilder,
    batches: u64,
    records: u64,
    /// Whether the walk met a batch that this build cannot read.
    unread: bool,
    findings: Vec<Error>,
}

impl<'a> Walk<'a> {
    fn new(check: &Check<'a>, file: &'a dyn StorageFile, last: bool) -> Result<Self> {
        let bounds = (check.image.len, check.image.end_offset);
        let judge = Judge::within(check.segment, file, Some(check.epochs), bounds)?;
        let (offsets, times) = check.segment.stored_indexes(last)?;
        let mut findings = Vec::new();
        let mut refused = |extension, error: &DecodeError| {
            findings.push(index_error(check, extension, error));
        };
        let offsets: Option<Vec<_>> = offsets
            .map(|index| index.entries().collect())
            .inspect_err(|error| refused(Extension::Index, error))
            .ok();
        let times: Option<Vec<_>> = times
            .map(|index| index.entries().collect())
            .inspect_err(|error| refused(Extension::TimeIndex, error))
            .ok();
        let entries = [offsets.as_ref().map(Vec::len), times.as_ref().map(Vec::len)];
        let interval = u64::from(check.log.config().index_interval_bytes);
        let (offsets, times) = (offsets.unwrap_or_default(), times.unwrap_or_default());
        let (mut offsets, mut times) = (offsets.into_iter(), times.into_iter());
        Ok(Self {
            sums: Sums::new(),
            judge,
            position: Some(0),
            expected: check.image.base_offset,
            damaged: Vec::new(),
            next_offset_entry: offsets.next(),
            offsets,
            next_time_entry: times.next(),
            times,
            max_timestamp: -1,
            entries,
            builder: IndexBuilder::new(check.image.base_offset, interval),
            batches: 0,
            records: 0,
            unread: false,
            findings,
        })
    }

    /// Checks the complete batches in `buffer`, which ends at `end` in the file. `complete` says that nothing
    /// follows. Returns the number of bytes that are done.
    fn take(&mut self, check: &Check<'_>, buffer: &[u8], end: u64, complete: bool) -> usize {
        let begin = end.saturating_sub(buffer.len() as u64);
        while let Some(position) = self.position {
            let rest = position.checked_sub(begin).map(|skip| skip as usize);
            let rest = rest.and_then(|skip| buffer.get(skip..)).unwrap_or_default();
            match self.batch(check, position, rest, complete) {
                Some(next) => self.position = Some(next),
                None if self.position == Some(position) => break,
                None => {}
            }
        }
        let done = self.position.map_or(end, |position| position.min(end));
        done.saturating_sub(begin) as usize
    }

    /// Checks the batch at the start of `rest`. Returns where the next batch begins. Returns `None` if that
    /// is not known yet, or if `report` has moved the walk.
    fn batch(
        &mut self,
        check: &Check<'_>,
        position: u64,
        rest: &[u8],
        complete: bool,
    ) -> Option<u64> {
        if rest.is_empty() {
            return None;
        }
        let header = match BatchHeader::parse(rest) {
            Ok(header) if header.total_bytes() <= rest.len() => header,
            // The rest of the batch is not read yet, unless the file ends or the segment is too short for it.
            Ok(header) if !complete && fits(check, position, &header) => return None,
            Err(_) if !complete && rest.len() < HEADER_BYTES => return None,
            Ok(header) if fits(check, position, &header) => {
                return self.report(check, position, CorruptReason::Short);
            }
            Ok(_) => return self.report(check, position, CorruptReason::Length),
            Err(_) if rest.len() < HEADER_BYTES && self.sums.len() < check.image.len => {
                return self.report(check, position, CorruptReason::Short);
            }
            Err(error) => return self.report(check, position, reason_of(&error)),
        };
        if let Some(reason) = self.judge(check, position, rest, &header) {
            return self.report(check, position, reason);
        }
        self.check_entries(check, position, &header);
        self.builder.on_header(position, &header);
        add(&mut self.batches, 1);
        add(&mut self.records, u64::from(header.count.cast_unsigned()));
        self.expected = header.next_offset();
        Some(position.saturating_add(header.total_bytes() as u64))
    }

    /// Returns the damage of a batch that is present in full, as a reader would report it.
    fn judge(
        &mut self,
        check: &Check<'_>,
        position: u64,
        rest: &[u8],
        header: &BatchHeader,
    ) -> Option<CorruptReason> {
        let checked =
            Batch::parse(rest).and_then(|batch| batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES));
        match checked {
            Err(error @ DecodeError::Corrupt { .. }) => return Some(reason_of(&error)),
            // The batch may be sound, but this build cannot read it. Report that once for each segment.
            Err(error) if !self.unread => {
                self.unread = true;
                self.findings.push(error.into_error(&check.segment.log_path(), position));
            }
            _ => {}
        }
        if !check.segment.may_follow(self.expected, header.base_offset)
            || header.next_offset() > check.image.end_offset
        {
            return Some(CorruptReason::Offsets);
        }
        if epoch_at(check.epochs, header.base_offset) != Some(header.leader_epoch) {
            return Some(CorruptReason::Epoch);
        }
        None
    }

    /// Reports damage, and continues with the next batch that can be trusted.
    fn report(&mut self, check: &Check<'_>, position: u64, reason: CorruptReason) -> Option<u64> {
        match self.judge.extent(position) {
            Ok(extent) => {
                let offsets = Some(extent.offsets());
                self.findings.push(check.damage(extent.position, offsets, reason));
                self.position = Some(extent.next);
                self.expected = extent.resume;
                self.damaged.push((extent.position, extent.next));
            }
            Err(error) => {
                self.findings.push(error);
                self.position = None;
                self.damaged.push((position, check.image.len));
            }
        }
        while let Some((_, at)) = self.next_offset_entry
            && self.position.is_none_or(|next| at < next)
        {
            self.next_offset_entry = self.offsets.next();
        }
        None
    }

    /// Compares the index entries of a sound batch with the batch.
    fn check_entries(&mut self, check: &Check<'_>, position: u64, header: &BatchHeader) {
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        while let Some((last, at)) = self.next_offset_entry
            && at <= position
        {
            if (last, at) != (header.last_offset(), position) {
                self.findings.push(untrue(check, Extension::Index));
            }
            self.next_offset_entry = self.offsets.next();
        }
        while let Some((last, timestamp)) = self.next_time_entry
            && last <= header.last_offset()
        {
            // The maximum timestamp may belong to a damaged batch.
            let known = self.damaged.is_empty();
            if known && (last, timestamp) != (header.last_offset(), self.max_timestamp) {
                self.findings.push(untrue(check, Extension::TimeIndex));
            }
            self.next_time_entry = self.times.next();
        }
    }

    /// Checks, after the last byte, that the batches end where the partition's image says.
    fn finish(&mut self, check: &Check<'_>) {
        let ends = check.segment.may_follow(self.expected, check.image.end_offset);
        if !ends && self.damaged.is_empty() {
            let damage = check.damage(check.image.len, None, CorruptReason::Offsets);
            self.findings.push(damage);
        }
        if self.next_offset_entry.is_some() && self.damaged.is_empty() {
            self.findings.push(untrue(check, Extension::Index));
        }
    }

    /// Returns whether damage in `range` was already reported, and explains a wrong sum.
    fn explained(&self, check: &Check<'_>, range: &std::ops::Range<u64>) -> bool {
        !check.segment.is_cleaned()
            && self.damaged.iter().any(|(start, end)| *start < range.end && range.start < *end)
    }
}

/// Returns whether a batch of the length in the header fits into the segment.
fn fits(check: &Check<'_>, position: u64, header: &BatchHeader) -> bool {
    position.saturating_add(header.total_bytes() as u64) <= check.image.len
}

fn reason_of(error: &DecodeError) -> CorruptReason {
    match error {
        DecodeError::Corrupt { reason, .. } => *reason,
        // Callers pass only errors of damage and of parsing a header, which decompresses nothing.
        DecodeError::LimitExceeded { .. } | DecodeError::UnsupportedCodec(_) => {
            CorruptReason::Codec
        }
    }
}

/// Returns the finding for an index file that cannot belong to this log.
fn index_error(check: &Check<'_>, extension: Extension, error: &DecodeError) -> Error {
    let position = match error {
        DecodeError::Corrupt { position, .. } => *position as u64,
        DecodeError::LimitExceeded { .. } | DecodeError::UnsupportedCodec(_) => 0,
    };
    Error::corrupt(check.segment.side_path(extension), position, CorruptReason::Index)
}

/// Returns the finding for an index entry that points to no batch, or contradicts its batch.
fn untrue(check: &Check<'_>, extension: Extension) -> Error {
    Error::corrupt(check.segment.side_path(extension), 0, CorruptReason::Index)
}
