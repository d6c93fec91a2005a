//! Checks everything that is stored of a partition: each byte of its segments against the checksums, each
//! batch, the chain of offsets, the leader epochs, each index entry.
//!
//! Files are read by plain reads, so a disk that cannot be read is a finding and ends nothing; no map, index
//! or handle is left open. Nothing is changed, and what is checked is what the partition's image says:
//! beside a live writer that is what its checkpoint knew.

use std::sync::Arc;

use super::Log;
use super::epochs::epoch_at;
use super::segment::Segment;
use super::write_out::SegmentImage;
use crate::error::{CorruptReason, Corruption, Error, Result};
use crate::record::{Batch, BatchHeader, DecodeError};
use crate::segment::{BLOCK_BYTES, Extension, Sums};
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
    /// they are known; `MissingSegment`; `Io`. Of the reason `Index` are caches that are made anew by
    /// themselves: nothing is lost by them.
    pub(crate) findings: Vec<Error>,
}

impl Log {
    /// Reads and checks every byte that the partition has in segments. `progress` is told how many bytes
    /// were read since the last time, after each MiB at the latest. Takes as long as reading the files;
    /// appends and reads go on meanwhile.
    pub(crate) fn verify(&self, progress: &mut dyn FnMut(u64)) -> Verified {
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
            if let Err(error) = check.run(number == last, &mut verified, progress) {
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
        last: bool,
        verified: &mut Verified,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let file = self.segment.open_to_read()?;
        self.check_len(file.len()?, last)?;
        let mut walk = Walk::new(self, last)?;
        self.read(&*file, &mut walk, progress)?;
        walk.finish(self);
        add(&mut verified.batches, walk.batches);
        add(&mut verified.records, walk.records);
        add(&mut verified.bytes, walk.sums.len());
        self.check_sums(&mut walk)?;
        verified.findings.append(&mut walk.findings);
        Ok(())
    }

    fn check_len(&self, len: u64, last: bool) -> Result<()> {
        // The last one is written to, or was when a crash came.
        if len < self.image.len {
            return Err(self.lost(len, CorruptReason::Short));
        }
        if len > self.image.len && !last {
            return Err(self.lost(self.image.len, CorruptReason::Length));
        }
        Ok(())
    }

    fn read(
        &self,
        file: &dyn StorageFile,
        walk: &mut Walk,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut position: u64 = 0;
        while position < self.image.len {
            let kept = buffer.len();
            let want = self.image.len.saturating_sub(position).min(READ_BYTES as u64) as usize;
            buffer.resize(kept.saturating_add(want), 0);
            let read = file.read_at(buffer.get_mut(kept..).unwrap_or_default(), position)?;
            if read < want {
                return Err(self.lost(position, CorruptReason::Short));
            }
            walk.sums.push(buffer.get(kept..).unwrap_or_default());
            position = position.saturating_add(read as u64);
            progress(read as u64);
            let taken = walk.take(self, &buffer, position);
            buffer.drain(..taken);
        }
        Ok(())
    }

    /// Compares with the checksum of the checkpoint, and where that differs says which blocks do.
    fn check_sums(&self, walk: &mut Walk) -> Result<()> {
        let bytes = self.segment.read_sums_file(self.image.len)?;
        let stored = Sums::decode(&bytes, self.image.len, self.image.checksum);
        let right = walk.sums.whole() == self.image.checksum;
        match stored {
            Some(stored) if right && stored.sums.blocks() == walk.sums.blocks() => {}
            // Power loss may take the file, or an end of it.
            None if right && bytes.is_empty() => {}
            _ if right => {
                let path = self.segment.side_path(Extension::Sums);
                walk.findings.push(Error::corrupt(path, 0, CorruptReason::Index));
            }
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

/// What is known of the next batch.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The offset it begins with: that behind the batch before.
    First(i64),
    /// The offset it ends with: the index says so.
    Last(i64),
}

impl Expected {
    fn fits(self, header: &BatchHeader) -> bool {
        match self {
            Self::First(offset) => header.base_offset == offset,
            Self::Last(offset) => header.last_offset() == offset,
        }
    }
}

/// The walk over the batches of a segment while it is read.
struct Walk {
    sums: Sums,
    /// Where the next batch begins; `None` once no further one can be found.
    position: Option<u64>,
    expected: Expected,
    /// The ranges of bytes that were reported, and after each one batches are whole again.
    damaged: Vec<(u64, u64)>,
    /// The first of the offsets that are lost by what was reported last, until it is known where they end.
    lost_from: Option<i64>,
    offsets: std::vec::IntoIter<(i64, u64)>,
    next_offset_entry: Option<(i64, u64)>,
    times: std::vec::IntoIter<(i64, i64)>,
    next_time_entry: Option<(i64, i64)>,
    max_timestamp: i64,
    batches: u64,
    records: u64,
    findings: Vec<Error>,
}

impl Walk {
    fn new(check: &Check<'_>, last: bool) -> Result<Self> {
        let (offsets, times) = check.segment.stored_indexes(last)?;
        let mut findings = Vec::new();
        let offsets: Vec<_> = match offsets {
            Ok(index) => index.entries().collect(),
            Err(error) => {
                findings.push(index_error(check, Extension::Index, &error));
                Vec::new()
            }
        };
        let times: Vec<_> = match times {
            Ok(index) => index.entries().collect(),
            Err(error) => {
                findings.push(index_error(check, Extension::TimeIndex, &error));
                Vec::new()
            }
        };
        let (mut offsets, mut times) = (offsets.into_iter(), times.into_iter());
        Ok(Self {
            sums: Sums::new(),
            position: Some(0),
            expected: Expected::First(check.image.base_offset),
            damaged: Vec::new(),
            lost_from: None,
            next_offset_entry: offsets.next(),
            offsets,
            next_time_entry: times.next(),
            times,
            max_timestamp: -1,
            batches: 0,
            records: 0,
            findings,
        })
    }

    /// Checks the whole batches in `buffer`, which ends at `end` in the file; the bytes that are done.
    fn take(&mut self, check: &Check<'_>, buffer: &[u8], end: u64) -> usize {
        let begin = end.saturating_sub(buffer.len() as u64);
        while let Some(position) = self.position {
            let rest = position.checked_sub(begin).map(|skip| skip as usize);
            let rest = rest.and_then(|skip| buffer.get(skip..)).unwrap_or_default();
            let complete = end == check.image.len;
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
            Err(_) if !complete && rest.len() < crate::record::HEADER_BYTES => return None,
            Ok(_) => {
                self.report(check, position, CorruptReason::Length);
                return None;
            }
            Err(error) => {
                self.report(check, position, reason_of(&error));
                return None;
            }
        };
        if let Some(reason) = self.judge(check, rest, &header) {
            self.report(check, position, reason);
            return None;
        }
        self.lost_until(header.base_offset);
        self.check_entries(check, position, &header);
        add(&mut self.batches, 1);
        add(&mut self.records, u64::from(header.count.cast_unsigned()));
        self.expected = Expected::First(header.next_offset());
        Some(position.saturating_add(header.total_bytes() as u64))
    }

    /// What is wrong with a batch that is there in full.
    fn judge(&self, check: &Check<'_>, rest: &[u8], header: &BatchHeader) -> Option<CorruptReason> {
        let checked = Batch::parse(rest).and_then(|batch| batch.verify_crc());
        if let Err(error) = checked {
            return Some(reason_of(&error));
        }
        if !self.expected.fits(header) || header.next_offset() > check.image.end_offset {
            return Some(CorruptReason::Offsets);
        }
        if epoch_at(check.epochs, header.base_offset) != Some(header.leader_epoch) {
            return Some(CorruptReason::Epoch);
        }
        None
    }

    /// Reports a batch, and goes on at the next one that the offset index names.
    fn report(&mut self, check: &Check<'_>, position: u64, reason: CorruptReason) {
        self.findings.push(check.damage(position, None, reason));
        if let Expected::First(first) = self.expected {
            self.lost_from = Some(first);
        }
        while let Some((_, at)) = self.next_offset_entry
            && at <= position
        {
            self.next_offset_entry = self.offsets.next();
        }
        if let Some((last, at)) = self.next_offset_entry {
            self.position = Some(at);
            self.expected = Expected::Last(last);
        } else {
            self.position = None;
        }
        self.damaged.push((position, self.position.unwrap_or(check.image.len)));
    }

    /// Batches are whole again from `offset` on: those before it are lost by what was reported last.
    fn lost_until(&mut self, offset: i64) {
        if let Some(first) = self.lost_from.take()
            && let Some(Error::Corrupt(finding)) = self.findings.last_mut()
        {
            finding.offsets = Some((first, offset.saturating_sub(1)));
        }
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
        self.lost_until(check.image.end_offset);
        let ends = matches!(self.expected, Expected::First(end) if end == check.image.end_offset);
        if !ends && self.damaged.is_empty() {
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
        // Neither parsing a header nor a checksum decompresses anything.
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
