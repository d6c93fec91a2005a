//! Reading a segment: through a map of the whole file, or by plain reads of some blocks at a time.
//!
//! The first touch of a block compares it with its sum, once for each map, or each read. A block that
//! differs is judged by the batches in it:
//!
//! * One of them is damaged: its own checksum, the chain of offsets or the leader epoch says so. Then that
//!   explains the block, and the others, which prove themselves, are delivered.
//! * All of them are sound. Then these bytes are another file's, however right they look: `Corrupt`.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use super::Segment;
use crate::error::{CorruptReason, Corruption, Error, Result};
use crate::log::epochs::epoch_at;
use crate::record::{BatchHeader, DecodeError, HEADER_BYTES};
use crate::segment::{BLOCK_BYTES, Extension, Headers, Sums};
use crate::storage::{OpenMode, ReadMap, StorageFile};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::{Epoch, planted};

/// How much a plain read takes at least, if there is as much.
const READ_BYTES: u64 = 128 << 10;

/// The history of a partition's epochs, where batches are to be compared with it.
pub(in crate::log) type History<'a> = Option<&'a [(Epoch, i64)]>;

/// How the bytes of a segment are reached, and which of them were checked.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Bytes,
    /// The sums of the bytes that something vouches for, from the first one on.
    evidence: Arc<Sums>,
    /// Whether it was made of a segment that nothing is added to.
    sealed: bool,
    /// The length of the file, if that is shorter than the segment: somebody cut it.
    cut: Option<u64>,
    /// One bit for each block of a map that was compared.
    checked: Box<[AtomicU64]>,
}

#[derive(Debug)]
enum Bytes {
    Map(Arc<ReadMap>),
    File { file: Arc<dyn StorageFile>, last: Mutex<Option<Window>> },
}

/// Bytes of a segment from a position on.
#[derive(Debug, Clone)]
pub(in crate::log) struct Window {
    pub(in crate::log) map: Arc<ReadMap>,
    /// The position of the map's first byte.
    pub(in crate::log) start: u64,
}

impl Window {
    /// The bytes of a range of the file, if they are all here.
    pub(in crate::log) fn slice(&self, range: &Range<u64>) -> Option<&[u8]> {
        let start = range.start.checked_sub(self.start)?;
        self.map.slice(start..range.end.checked_sub(self.start)?)
    }
}

impl Reader {
    /// Whether it serves the first `len` bytes of the segment as it is now.
    fn reaches(&self, len: u64, sealed: bool) -> bool {
        self.sealed == sealed
            && match &self.bytes {
                // What is not in the file must not be touched in the map.
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

/// A batch in a segment: header and place, checked; records not yet.
#[derive(Debug)]
pub(in crate::log) struct Stored {
    pub(in crate::log) header: BatchHeader,
    pub(in crate::log) window: Window,
    pub(in crate::log) start: u64,
    pub(in crate::log) next: u64,
}

// Batches.
impl Segment {
    /// The batch at a position.
    ///
    /// # Errors
    /// `Corrupt`, `MissingSegment`, `Io`.
    pub(in crate::log) fn stored_batch(
        self: &Arc<Self>,
        position: u64,
        history: History<'_>,
    ) -> Result<Stored> {
        let stored = || {
            let header = self.header_at(position, self.len(), history)?;
            let next = position.saturating_add(header.total_bytes() as u64);
            let window = self.window(position..next, history)?;
            Ok(Stored { header, window, start: position, next })
        };
        stored().map_err(|error| self.with_range(error, history))
    }

    /// The header of the batch at a position, compared with the bounds of the segment. Damage comes
    /// without the offsets that are lost by it ([`Segment::with_range`] finds them).
    pub(super) fn header_at(
        self: &Arc<Self>,
        position: u64,
        len: u64,
        history: History<'_>,
    ) -> Result<BatchHeader> {
        let range = position..len.min(position.saturating_add(HEADER_BYTES as u64));
        let window = self.window(range.clone(), history)?;
        let header = BatchHeader::parse(window.slice(&range).unwrap_or_default())
            .map_err(|error| self.not_decoded(position, error))?;
        let bounds = (len, self.end_offset());
        match self.refuted(position, bounds, &header, history) {
            Some(reason) => Err(self.corrupt(position, None, reason)),
            None => Ok(header),
        }
    }

    /// What a header says that cannot be true of a batch at this position of a segment that ends at these
    /// `bounds`: a length and an offset.
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

    /// A batch that could not be decoded, with the offsets that are lost by it.
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

    /// Damage that all offsets of the segment may be lost by.
    pub(super) fn lost(&self, position: u64, reason: CorruptReason) -> Error {
        let last = self.end_offset().saturating_sub(1);
        self.corrupt(position, Some((self.base_offset, last)), reason)
    }

    pub(super) fn corrupt(
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

/// The batches of the first `len` bytes of a segment. Nothing was ever taken out of it, so each begins with
/// the offset behind the one before.
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
                Ok(header) if expected.is_none_or(|offset| offset == header.base_offset) => header,
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
    /// The log file, opened anew.
    ///
    /// # Errors
    /// `MissingSegment` if it is not there.
    pub(in crate::log) fn open_to_read(&self) -> Result<Arc<dyn StorageFile>> {
        match self.folder.storage.open(&self.path(Extension::Log), OpenMode::Read) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.missing())
            }
            opened => opened,
        }
    }

    /// The log file is not there.
    pub(in crate::log) fn missing(&self) -> Error {
        let offsets = (self.base_offset, self.end_offset().saturating_sub(1));
        Error::MissingSegment { path: self.log_path(), offsets }
    }

    /// At least the bytes of `range`, which were published, checked.
    fn window(self: &Arc<Self>, range: Range<u64>, history: History<'_>) -> Result<Window> {
        let reader = self.reader(range.end, history)?;
        if reader.cut.is_some_and(|cut| cut < range.end) {
            return Err(self.corrupt(range.start, None, CorruptReason::Short));
        }
        match &reader.bytes {
            Bytes::Map(map) => {
                let window = Window { map: Arc::clone(map), start: 0 };
                for block in blocks_of(&range) {
                    if !reader.is_checked(block) {
                        self.check_block(&reader.evidence, block, &window, history)?;
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

    /// Reads whole blocks that hold `range`, and some more, all checked.
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
            match self.check_block(evidence, block, &window, history) {
                // Not asked for; it will be when it is.
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

    /// Compares a block with its sum, if there is one.
    fn check_block(
        &self,
        evidence: &Sums,
        block: u64,
        window: &Window,
        history: History<'_>,
    ) -> Result<()> {
        let Some((range, sum)) = evidence.block(block) else { return Ok(()) };
        let bytes = window.slice(&range).unwrap_or_default();
        if planted("block_sums_not_checked") {
            return Ok(());
        }
        if crc32fast::hash(bytes) == sum || self.explained(&range, history)? {
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
            // Mapped ahead of what is written, so that a growing segment is mapped a few times only.
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

    /// The sums of what was there before this process, or of all once nothing is added: what this process
    /// wrote itself needs no witness while it goes on writing.
    fn evidence(&self, sealed: bool, history: History<'_>) -> Result<Sums> {
        let (len, checksum) =
            if sealed { (self.len(), self.checksum.load(Ordering::Acquire)) } else { self.found };
        if len == 0 {
            return Ok(Sums::new());
        }
        match self.read_sums(len, checksum)? {
            Some(running) => Ok(running.into_sums()),
            // Without sums only the batches can tell which of them are damaged.
            None if self.explained(&(0..len), history)? => Ok(Sums::new()),
            None => Err(self.lost(0, CorruptReason::Checksum)),
        }
    }
}

fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES)
}
