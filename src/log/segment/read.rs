//! Reading a segment: through a map of the whole file, or by plain reads of some blocks at a time.
//!
//! The first access to a block compares the block with its sum, once per map or per read. If the sum differs,
//! the batches in the block decide:
//!
//! * If one batch is damaged by its own checksum, the chain of offsets or the leader epoch, that explains the
//!   block. Readers deliver the other batches, which are proven by their own checksums.
//! * If all batches are sound, the bytes belong to another file, however right they look. Readers report
//!   `Corrupt`.
//!
//! The chain of offsets does not prove the batches of a segment that compaction has written: offsets may be
//! missing there. So nothing explains a wrong block of it, and readers report all its offsets as lost.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use crc32fast::Hasher;

use super::Segment;
use super::batch_sum::{BatchSum, PIECE_BYTES};
use crate::error::{CorruptReason, Corruption, Error, Result};
use crate::log::epochs::epoch_at;
use crate::record::{Batch, BatchHeader, DecodeError, HEADER_BYTES};
use crate::segment::{BLOCK_BYTES, Extension, Headers, Sums};
use crate::storage::{OpenMode, ReadMap, StorageFile};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{Epoch, planted};

/// The least number of bytes that a plain read takes, if the segment has as many.
const READ_BYTES: u64 = 128 << 10;

/// The history of a partition's epochs, if batches are to be compared with it.
pub(in crate::log) type History<'a> = Option<&'a [(Epoch, i64)]>;

/// Access to the bytes of a segment, with a record of the checked blocks.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Bytes,
    /// The sums of the bytes that are vouched for, from byte 0 on.
    evidence: Arc<Sums>,
    /// Whether the segment was sealed when the reader was created.
    sealed: bool,
    /// The length of the file, if something truncated it below the length of the segment.
    cut: Option<u64>,
    /// One bit per block of a map, set once the block is checked.
    checked: Box<[AtomicU64]>,
}

#[derive(Debug)]
enum Bytes {
    Map(Arc<ReadMap>),
    File { file: Arc<dyn StorageFile>, last: Mutex<Option<Window>> },
}

/// The bytes of a segment from a position on.
#[derive(Debug, Clone)]
pub(in crate::log) struct Window {
    pub(in crate::log) map: Arc<ReadMap>,
    /// The position of the map's first byte.
    pub(in crate::log) start: u64,
}

impl Window {
    /// Returns the bytes of a range of the file, if the window holds all of them.
    pub(in crate::log) fn slice(&self, range: &Range<u64>) -> Option<&[u8]> {
        let start = range.start.checked_sub(self.start)?;
        self.map.slice(start..range.end.checked_sub(self.start)?)
    }
}

impl Reader {
    /// Returns whether the reader serves the first `len` bytes of the segment in its current state.
    fn reaches(&self, len: u64, sealed: bool) -> bool {
        self.sealed == sealed
            && match &self.bytes {
                // The map must not be accessed beyond the end of the file.
                _ if self.cut.is_some() => true,
                Bytes::Map(map) => map.extend_readable(len) >= len,
                Bytes::File { .. } => true,
            }
    }

    fn is_checked(&self, block: u64) -> bool {
        let word = self.checked.get((block / 64) as usize);
        word.is_none_or(|word| word.load(Ordering::Relaxed) & (1 << (block % 64)) != 0)
    }

    fn set_checked(&self, block: u64) {
        if let Some(word) = self.checked.get((block / 64) as usize) {
            word.fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
    }
}

/// A batch in a segment. Its header and position are checked, its records are not.
#[derive(Debug)]
pub(in crate::log) struct Stored {
    pub(in crate::log) header: BatchHeader,
    pub(in crate::log) window: Window,
    pub(in crate::log) start: u64,
    pub(in crate::log) next: u64,
    /// The checksum of the bytes that the CRC of the batch covers, if it was computed already.
    pub(in crate::log) crc: Option<u32>,
}

impl Stored {
    /// Returns the batch. Its checksum is not verified.
    pub(in crate::log) fn batch(&self) -> Result<Batch<'_>, DecodeError> {
        Batch::parse(self.window.slice(&(self.start..self.next)).unwrap_or_default())
    }

    /// Verifies the checksum of the batch.
    ///
    /// # Errors
    /// `Corrupt` if it is wrong.
    pub(in crate::log) fn verify(&self, segment: &Segment, history: History<'_>) -> Result<()> {
        if planted("batch_checksum_not_checked") {
            return Ok(());
        }
        let verified = self.batch().and_then(|batch| match self.crc {
            Some(crc) => batch.compare_crc(crc),
            None => batch.verify_crc(),
        });
        verified.map_err(|error| segment.decode_failed(self.start, error, history))
    }
}

// Batches.
impl Segment {
    /// Returns the batch at a position.
    ///
    /// # Errors
    /// `Corrupt` if the batch or its block is damaged; `MissingSegment` if the file does not exist; `Io` if
    /// it cannot be read.
    pub(in crate::log) fn stored_batch(
        self: &Arc<Self>,
        position: u64,
        history: History<'_>,
    ) -> Result<Stored> {
        let stored = || {
            let header = self.header_at(position, self.len(), history)?;
            let next = position.saturating_add(header.total_bytes() as u64);
            let mut sum = BatchSum::new(position..next);
            let window = self.window(position..next, history, Some(&mut sum))?;
            let crc = sum.finish(&window.map);
            Ok(Stored { header, window, start: position, next, crc })
        };
        stored().map_err(|error| self.with_range(error, history))
    }

    /// Returns the header of the batch at a position, checked against the bounds of the segment.
    ///
    /// # Errors
    /// `Corrupt` if the header is damaged, without the lost offsets ([`Segment::with_range`] finds them).
    pub(super) fn header_at(
        self: &Arc<Self>,
        position: u64,
        len: u64,
        history: History<'_>,
    ) -> Result<BatchHeader> {
        let range = position..len.min(position.saturating_add(HEADER_BYTES as u64));
        let window = self.window(range.clone(), history, None)?;
        let header = BatchHeader::parse(window.slice(&range).unwrap_or_default())
            .map_err(|error| self.not_decoded(position, error))?;
        let bounds = (len, self.end_offset());
        match self.refuted(position, bounds, &header, history) {
            Some(reason) => Err(self.corrupt(position, None, reason)),
            None => Ok(header),
        }
    }

    /// Returns why a header cannot be right at this position of a segment that ends at `bounds`: a length and
    /// an end offset. Returns `None` if nothing contradicts it.
    pub(super) fn refuted(
        &self,
        position: u64,
        (len, end_offset): (u64, i64),
        header: &BatchHeader,
        history: History<'_>,
    ) -> Option<CorruptReason> {
        if position.saturating_add(header.total_bytes() as u64) > len {
            return Some(CorruptReason::Length);
        }
        if header.base_offset < self.base_offset || header.next_offset() > end_offset {
            return Some(CorruptReason::Offsets);
        }
        let epoch = history.map(|history| epoch_at(history, header.base_offset));
        let other = epoch.is_some_and(|epoch| epoch != Some(header.leader_epoch));
        if other && !planted("epochs_not_checked") {
            return Some(CorruptReason::Epoch);
        }
        None
    }

    /// Returns the error for a batch that cannot be decoded, with the lost offsets.
    pub(in crate::log) fn decode_failed(
        &self,
        position: u64,
        error: DecodeError,
        history: History<'_>,
    ) -> Error {
        self.with_range(self.not_decoded(position, error), history)
    }

    fn not_decoded(&self, position: u64, error: DecodeError) -> Error {
        match error {
            DecodeError::Corrupt { reason, .. } => self.corrupt(position, None, reason),
            other => other.into_error(&self.log_path(), position),
        }
    }

    /// Returns damage by which all offsets of the segment may be lost.
    pub(in crate::log) fn lost(&self, position: u64, reason: CorruptReason) -> Error {
        let last = self.end_offset().saturating_sub(1);
        self.corrupt(position, Some((self.base_offset, last)), reason)
    }

    /// Returns damage at a position by which these offsets are lost.
    pub(in crate::log) fn corrupt(
        &self,
        position: u64,
        offsets: Option<(i64, i64)>,
        reason: CorruptReason,
    ) -> Error {
        Error::Corrupt(Box::new(Corruption {
            path: self.log_path(),
            position,
            partition: Some(self.folder.partition.clone()),
            offsets,
            reason,
        }))
    }
}

/// The batches of the first `len` bytes of a segment. A segment loses batches only by compaction, so each batch of
/// another segment begins with the offset after the previous one.
pub(super) struct Batches<'a> {
    pub(super) segment: &'a Arc<Segment>,
    pub(super) len: u64,
    pub(super) history: History<'a>,
}

impl Headers for Batches<'_> {
    type Error = Error;

    fn walk(
        &self,
        base_offset: i64,
        position: u64,
    ) -> impl Iterator<Item = Result<(u64, BatchHeader)>> {
        let mut position = position;
        let mut expected = (position == 0).then_some(base_offset);
        std::iter::from_fn(move || {
            if position >= self.len {
                return None;
            }
            let at = position;
            let header = match self.segment.header_at(at, self.len, self.history) {
                Ok(header)
                    if expected
                        .is_none_or(|next| self.segment.may_follow(next, header.base_offset)) =>
                {
                    header
                }
                result => {
                    position = self.len;
                    return Some(result.and_then(|_| {
                        Err(self.segment.corrupt(at, None, CorruptReason::Offsets))
                    }));
                }
            };
            expected = Some(header.next_offset());
            position = position.saturating_add(header.total_bytes() as u64);
            Some(Ok((at, header)))
        })
    }

    fn false_index(&self, position: u64) -> Error {
        self.segment.corrupt(position, None, CorruptReason::Index)
    }

    fn is_damage(error: &Error) -> bool {
        error.is_corruption()
    }
}

// Bytes.
impl Segment {
    /// Opens the log file for reading, with a handle of its own.
    ///
    /// # Errors
    /// `MissingSegment` if the file does not exist.
    pub(in crate::log) fn open_to_read(&self) -> Result<Arc<dyn StorageFile>> {
        match self.folder.storage.open(&self.path(Extension::Log), OpenMode::Read) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.missing())
            }
            opened => opened,
        }
    }

    /// Returns the error for a missing log file.
    pub(in crate::log) fn missing(&self) -> Error {
        let offsets = (self.base_offset, self.end_offset().saturating_sub(1));
        Error::MissingSegment { path: self.log_path(), offsets }
    }

    /// Returns a window of checked bytes that holds at least `range`, which must be published. Adds bytes to
    /// `sum` that it checks in a map.
    fn window(
        self: &Arc<Self>,
        range: Range<u64>,
        history: History<'_>,
        mut sum: Option<&mut BatchSum>,
    ) -> Result<Window> {
        let reader = self.reader(range.end, history)?;
        if reader.cut.is_some_and(|cut| cut < range.end) {
            return Err(self.corrupt(range.start, None, CorruptReason::Short));
        }
        match &reader.bytes {
            Bytes::Map(map) => {
                let window = Window { map: Arc::clone(map), start: 0 };
                for block in blocks_of(&range) {
                    if !reader.is_checked(block) {
                        let sum = sum.as_deref_mut();
                        self.check_block(&reader.evidence, block, &window, history, sum)?;
                        reader.set_checked(block);
                    }
                }
                Ok(window)
            }
            Bytes::File { file, last } => {
                let mut last = last.lock();
                if let Some(window) = &*last
                    && window.slice(&range).is_some()
                {
                    return Ok(window.clone());
                }
                let window = self.read_window(&**file, &reader.evidence, &range, history)?;
                *last = Some(window.clone());
                Ok(window)
            }
        }
    }

    /// Reads and checks the blocks that hold `range`, and some more after them.
    fn read_window(
        &self,
        file: &dyn StorageFile,
        evidence: &Sums,
        range: &Range<u64>,
        history: History<'_>,
    ) -> Result<Window> {
        let start = (range.start / BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        let end = range.end.max(start.saturating_add(READ_BYTES));
        let end =
            end.checked_next_multiple_of(BLOCK_BYTES).map_or(self.len(), |end| end.min(self.len()));
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        let read = file.read_at(&mut bytes, start)?;
        bytes.truncate(read);
        let end = start.saturating_add(read as u64);
        if end < range.end {
            return Err(self.corrupt(range.start, None, CorruptReason::Short));
        }
        let window = Window { map: Arc::new(ReadMap::from_bytes(bytes)), start };
        for block in blocks_of(&(start..end)) {
            match self.check_block(evidence, block, &window, history, None) {
                // This block was not requested. A read that requests it will report the damage.
                Err(_) if block.saturating_mul(BLOCK_BYTES) >= range.end => {
                    let kept = start..block.saturating_mul(BLOCK_BYTES);
                    let bytes = window.slice(&kept).unwrap_or_default();
                    return Ok(Window { map: Arc::new(ReadMap::from_bytes(bytes)), start });
                }
                result => result?,
            }
        }
        Ok(window)
    }

    /// Compares a block with its sum, if it has one. Adds its bytes to `batch`, which needs a window that begins
    /// with the segment.
    fn check_block(
        &self,
        evidence: &Sums,
        block: u64,
        window: &Window,
        history: History<'_>,
        mut batch: Option<&mut BatchSum>,
    ) -> Result<()> {
        let Some((range, sum)) = evidence.block(block) else { return Ok(()) };
        if planted("block_sums_not_checked") {
            return Ok(());
        }
        let mut found = Hasher::new();
        for start in range.clone().step_by(PIECE_BYTES as usize) {
            let end = start.saturating_add(PIECE_BYTES).min(range.end);
            found.update(window.slice(&(start..end)).unwrap_or_default());
            if let Some(batch) = &mut batch {
                batch.advance(&window.map, end);
            }
        }
        if found.finalize() == sum || self.explained(&range, history)? {
            return Ok(());
        }
        Err(self.lost(range.start, CorruptReason::Checksum))
    }

    fn reader(self: &Arc<Self>, len: u64, history: History<'_>) -> Result<Arc<Reader>> {
        self.folder.reads.touch(&self.used);
        let sealed = self.is_sealed();
        if let Some(reader) = &*self.reader.read()
            && reader.reaches(len, sealed)
        {
            return Ok(Arc::clone(reader));
        }
        let mut slot = self.reader.write();
        if let Some(reader) = &*slot
            && reader.reaches(len, sealed)
        {
            return Ok(Arc::clone(reader));
        }
        let reader = Arc::new(self.open_reader(len, sealed, slot.as_deref(), history)?);
        let first = slot.replace(Arc::clone(&reader)).is_none();
        drop(slot);
        if first {
            let segment: Weak<Self> = Arc::downgrade(self);
            self.folder.reads.admit(segment);
        }
        Ok(reader)
    }

    fn open_reader(
        &self,
        len: u64,
        sealed: bool,
        before: Option<&Reader>,
        history: History<'_>,
    ) -> Result<Reader> {
        let file = self.open_to_read()?;
        let published = self.len();
        let there = file.len()?;
        let cut = (there < published).then_some(there);
        if sealed && there > published && !planted("longer_segment_taken") {
            return Err(self.lost(published, CorruptReason::Length));
        }
        let evidence = match before.filter(|before| before.sealed == sealed) {
            Some(before) => Arc::clone(&before.evidence),
            None => Arc::new(self.evidence(sealed, history)?),
        };
        let blocks = evidence.len().div_ceil(BLOCK_BYTES);
        let bytes = if self.folder.reads.maps() {
            // The map reaches beyond the written bytes, so a growing segment is mapped only a few times.
            let capacity = if sealed { len } else { len.saturating_mul(2).max(1 << 20) };
            Bytes::Map(Arc::new(match cut {
                Some(0) => ReadMap::from_bytes(Vec::new()),
                Some(cut) => file.map(cut, cut)?,
                None => file.map(published, capacity.max(published))?,
            }))
        } else {
            Bytes::File { file, last: Mutex::default() }
        };
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Reader { bytes, evidence, sealed, cut, checked })
    }

    /// Returns the sums of the bytes that existed when the folder was opened, or of all bytes once the
    /// segment is sealed. Bytes that this process wrote need no witness while it still writes the segment.
    fn evidence(&self, sealed: bool, history: History<'_>) -> Result<Sums> {
        let (len, checksum) =
            if sealed { (self.len(), self.checksum.load(Ordering::Acquire)) } else { self.found };
        if len == 0 {
            return Ok(Sums::new());
        }
        match self.read_sums(len, checksum)? {
            Some(running) => Ok(running.into_sums()),
            // Without sums, only the batches themselves can show which of them are damaged.
            None if self.explained(&(0..len), history)? => Ok(Sums::new()),
            None => Err(self.lost(0, CorruptReason::Checksum)),
        }
    }
}

fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
}
