//! Checks everything that is stored of a partition: each byte of its segments against the checksums, each
//! batch, the chain of offsets, the leader epochs, each index entry.
//!
//! Files are read by plain reads, so a disk that cannot be read is a finding and ends nothing; no map, index
//! or handle is left open. Nothing is changed, and what is checked is what the partition's image says:
//! beside a live writer that is what its checkpoint knew.

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

/// How much is read at a time.
const READ_BYTES: usize = 1 << 20;

/// What verifying a partition counted and found.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// Segments that were looked at.
    pub(crate) segments: u64,
    /// Batches that are whole.
    pub(crate) batches: u64,
    /// Records in them, by their headers.
    pub(crate) records: u64,
    /// Bytes of segments that were read.
    pub(crate) bytes: u64,
    /// All that is wrong, in the order of the segments: `Corrupt` with file, position, and offsets where
    /// they are known; `MissingSegment`; `Io`. The reasons `Index`, `Sums` and `Absent` are those of side
    /// files, which can be made again from the log: nothing is lost by them.
    pub(crate) findings: Vec<Error>,
}

impl Log {
    /// Reads and checks every byte that the partition has in segments. `progress` is told how many bytes
    /// were read since the last time, after each MiB at the latest. Takes as long as reading the files;
    /// appends and reads go on meanwhile. `closed`: the folder was closed, so the side files of the last
    /// segment have their last entries, as those of the others have since the roll.
    pub(crate) fn verify(&self, closed: bool, progress: &mut dyn FnMut(u64)) -> Verified {
        let (segments, epochs) = {
            // Lengths, offsets and checksums belong together.
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
            let ends = Ends { open: is_last, finished: closed || !is_last };
            if let Err(error) = check.run(ends, &mut verified, progress) {
                verified.findings.push(error);
            }
        }
        verified
    }
}

/// Counts in a damaged file may be any numbers.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// What may be behind the end of a segment that is checked, and what must be beside it.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// It is written to, or was when a crash came.
    open: bool,
    /// Its side files are written.
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
    /// The error is what keeps the rest of the segment from being checked.
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
                // Cut since its length was asked for.
                return Err(self.lost(position, CorruptReason::Short));
            }
            walk.sums.push(buffer.get(kept..).unwrap_or_default());
            position = position.saturating_add(read as u64);
            progress(read as u64);
            let taken = walk.take(self, &buffer, position, position == len);
            buffer.drain(..taken);
        }
        // The file ends where a batch begins that the checkpoint knows of.
        if let Some(position) = walk.position.filter(|position| *position < self.image.len) {
            walk.report(self, position, CorruptReason::Short);
        }
        Ok(())
    }

    /// Compares with the checksum of the checkpoint, and where that differs says which blocks do.
    fn check_sums(&self, walk: &mut Walk<'_>, ends: Ends) -> Result<()> {
        let bytes = self.segment.read_sums_file(self.image.len)?;
        let stored = Sums::decode(&bytes, self.image.len, self.image.checksum);
        let right = walk.sums.whole() == self.image.checksum;
        match stored {
            Some(stored) if right && stored.sums.blocks() == walk.sums.blocks() => {}
            // There is none yet, or power loss took it.
            None if right && bytes.is_empty() && !ends.finished => {}
            _ if right => walk.findings.push(self.side_file(Extension::Sums)?),
            Some(stored) if stored.proven => {
                for index in 0..=self.image.len / BLOCK_BYTES {
                    if let Some((range, sum)) = stored.sums.block(index)
                        && walk.sums.block(index) != Some((range.clone(), sum))
                        && !walk.explained(&range)
                    {
                        let damage = self.damage(range.start, None, CorruptReason::Checksum);
                        walk.findings.push(damage);
                    }
                }
            }
            _ if walk.explained(&(0..self.image.len)) => {}
            _ => walk.findings.push(self.lost(0, CorruptReason::Checksum)),
        }
        Ok(())
    }

    /// Looks for index files that must be there. A segment of a few batches needs none.
    fn check_presence(&self, walk: &mut Walk<'_>) -> Result<()> {
        walk.builder.finish();
        let needed = [walk.builder.offsets().len(), walk.builder.times().len()];
        for (extension, needed, found) in [
            (Extension::Index, needed[0], walk.entries[0]),
            (Extension::TimeIndex, needed[1], walk.entries[1]),
        ] {
            // Of a damaged segment entries may have been left out.
            let misses = needed > 0 && found == Some(0);
            if misses && (walk.damaged.is_empty() || !self.segment.has_file(extension)?) {
                walk.findings.push(self.side_file(extension)?);
            }
        }
        Ok(())
    }

    /// The finding for a side file that is not what it must be.
    fn side_file(&self, extension: Extension) -> Result<Error> {
        let reason = match extension {
            _ if !self.segment.has_file(extension)? => CorruptReason::Absent,
            Extension::Sums => CorruptReason::Sums,
            _ => CorruptReason::Index,
        };
        Ok(Error::corrupt(self.segment.side_path(extension), 0, reason))
    }

    /// All offsets of the segment.
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

/// The walk over the batches of a segment while it is read.
struct Walk<'a> {
    sums: Sums,
    /// Says how far damage reaches, by plain reads of its own.
    judge: Judge<'a>,
    /// Where the next batch begins; `None` once no further one can be found.
    position: Option<u64>,
    /// The offset that it begins with: that behind the batch before.
    expected: i64,
    /// The ranges of bytes that were reported, and after each one batches are whole again.
    damaged: Vec<(u64, u64)>,
    offsets: std::vec::IntoIter<(i64, u64)>,
    next_offset_entry: Option<(i64, u64)>,
    times: std::vec::IntoIter<(i64, i64)>,
    next_time_entry: Option<(i64, i64)>,
    max_timestamp: i64,
    /// How many entries the index files have, where they can be read: offsets, times.
    entries: [Option<usize>; 2],
    /// Makes the indexes that belong to the batches that are whole.
    builder: IndexBuilder,
    batches: u64,
    records: u64,
    /// Whether a batch was met that this build cannot read.
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

    /// Checks the whole batches in `buffer`, which ends at `end` in the file; the bytes that are done.
    /// `complete`: nothing follows.
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

    /// Checks the batch at the front of `rest`; where the next one begins, if it is known here.
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
            // The rest of it is still to be read, unless nothing more comes or there cannot be so much.
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

    /// What is wrong with a batch that is there in full: what a reader would say of it.
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
            // It may be whole, and cannot be read by this build: told once for each segment.
            Err(error) if !self.unread => {
                self.unread = true;
                self.findings.push(error.into_error(&check.segment.log_path(), position));
            }
            _ => {}
        }
        if self.expected != header.base_offset || header.next_offset() > check.image.end_offset {
            return Some(CorruptReason::Offsets);
        }
        if epoch_at(check.epochs, header.base_offset) != Some(header.leader_epoch) {
            return Some(CorruptReason::Epoch);
        }
        None
    }

    /// Reports a batch, and goes on at the next one that can be trusted.
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

    /// Compares the index entries of a whole batch with it.
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
            // The largest timestamp may be that of a damaged batch.
            let known = self.damaged.is_empty();
            if known && (last, timestamp) != (header.last_offset(), self.max_timestamp) {
                self.findings.push(untrue(check, Extension::TimeIndex));
            }
            self.next_time_entry = self.times.next();
        }
    }

    /// After the last byte: do the batches end where the partition's image says?
    fn finish(&mut self, check: &Check<'_>) {
        if self.expected != check.image.end_offset && self.damaged.is_empty() {
            let damage = check.damage(check.image.len, None, CorruptReason::Offsets);
            self.findings.push(damage);
        }
        if self.next_offset_entry.is_some() && self.damaged.is_empty() {
            self.findings.push(untrue(check, Extension::Index));
        }
    }

    /// Whether damage in a range was reported already.
    fn explained(&self, range: &std::ops::Range<u64>) -> bool {
        self.damaged.iter().any(|(start, end)| *start < range.end && range.start < *end)
    }
}

/// Whether there can be as much in the segment as the header says.
fn fits(check: &Check<'_>, position: u64, header: &BatchHeader) -> bool {
    position.saturating_add(header.total_bytes() as u64) <= check.image.len
}

fn reason_of(error: &DecodeError) -> CorruptReason {
    match error {
        DecodeError::Corrupt { reason, .. } => *reason,
        // Only parsing a header comes here, which decompresses nothing.
        DecodeError::LimitExceeded { .. } | DecodeError::UnsupportedCodec(_) => {
            CorruptReason::Codec
        }
    }
}

/// An index file that cannot be one of this log.
fn index_error(check: &Check<'_>, extension: Extension, error: &DecodeError) -> Error {
    let position = match error {
        DecodeError::Corrupt { position, .. } => *position as u64,
        DecodeError::LimitExceeded { .. } | DecodeError::UnsupportedCodec(_) => 0,
    };
    Error::corrupt(check.segment.side_path(extension), position, CorruptReason::Index)
}

/// An index entry that names no batch, or says what is not true of it.
fn untrue(check: &Check<'_>, extension: Extension) -> Error {
    Error::corrupt(check.segment.side_path(extension), 0, CorruptReason::Index)
}
