//! One segment's files: written in order, mapped for reading, indexed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::write_out::SegmentImage;
use crate::error::{CorruptReason, Error, Result};
use crate::record::DecodeError;
use crate::segment::{Extension, IndexBuilder, OffsetIndex, TimeIndex, file_name};
use crate::storage::{FileKind, OpenMode, ReadMap, Storage, StorageFile};
use crate::types::TopicPartition;

/// Where a segment's files are.
#[derive(Debug, Clone)]
pub(super) struct SegmentFolder {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) path: PathBuf,
    pub(super) partition: TopicPartition,
    /// How many segment files of the broker are open for writing.
    pub(super) open_files: Arc<AtomicUsize>,
}

/// A segment. Written to under the write-out lock of its partition alone; read by anybody.
#[derive(Debug)]
pub(super) struct Segment {
    folder: SegmentFolder,
    base_offset: i64,
    interval: u64,
    len: AtomicU64,
    end_offset: AtomicI64,
    first_timestamp: AtomicI64,
    max_timestamp: AtomicI64,
    /// The file while it is written to. Readers need it only for as long as it takes to map it.
    file: Mutex<Option<Arc<dyn StorageFile>>>,
    map: RwLock<Option<Arc<ReadMap>>>,
    indexes: Mutex<Option<Indexes>>,
    preallocated: AtomicU64,
}

/// The indexes in memory, and how much of them stands in their files.
#[derive(Debug)]
struct Indexes {
    builder: IndexBuilder,
    written_offsets: usize,
    written_times: usize,
}

/// Space is asked for ahead in steps that grow with the segment, between these bounds: a file that grows
/// by small pieces is slow and erratic, and a small one must not take much.
const FIRST_STEP: u64 = 1 << 20;
const LAST_STEP: u64 = 64 << 20;
/// Files below this size grow as they are written.
const PREALLOCATE_FROM: u64 = 256 << 10;
/// The kernel is asked to begin writing whenever that much is complete.
const WRITEBACK_STEP: u64 = 4 << 20;

impl Segment {
    /// Creates an empty segment.
    pub(super) fn create(folder: SegmentFolder, base_offset: i64, interval: u32) -> Result<Self> {
        let image = SegmentImage {
            base_offset,
            end_offset: base_offset,
            len: 0,
            first_timestamp: -1,
            max_timestamp: -1,
        };
        let segment = Self::existing(folder, image, interval);
        let path = segment.path(Extension::Log);
        let file = segment.folder.storage.open(&path, OpenMode::CreateNew)?;
        segment.keep_open(&mut segment.file.lock(), file);
        let builder = IndexBuilder::new(base_offset, segment.interval);
        *segment.indexes.lock() = Some(Indexes { builder, written_offsets: 0, written_times: 0 });
        Ok(segment)
    }

    /// A segment that is there; its files are opened when they are needed.
    pub(super) fn existing(folder: SegmentFolder, image: SegmentImage, interval: u32) -> Self {
        Self {
            folder,
            base_offset: image.base_offset,
            interval: u64::from(interval),
            len: AtomicU64::new(image.len),
            end_offset: AtomicI64::new(image.end_offset),
            first_timestamp: AtomicI64::new(image.first_timestamp),
            max_timestamp: AtomicI64::new(image.max_timestamp),
            file: Mutex::new(None),
            map: RwLock::new(None),
            indexes: Mutex::new(None),
            preallocated: AtomicU64::new(0),
        }
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset after the last batch written.
    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Bytes of complete batches (L4).
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Relaxed)
    }

    pub(super) fn image(&self) -> SegmentImage {
        SegmentImage {
            base_offset: self.base_offset,
            end_offset: self.end_offset(),
            len: self.len(),
            first_timestamp: self.first_timestamp.load(Ordering::Relaxed),
            max_timestamp: self.max_timestamp(),
        }
    }

    /// The full path of the log file, for messages.
    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.storage.display_path(&self.path(Extension::Log))
    }

    fn path(&self, extension: Extension) -> PathBuf {
        self.folder.path.join(file_name(self.base_offset, extension))
    }

    /// The log file, if it is open.
    pub(super) fn open_file(&self) -> Option<Arc<dyn StorageFile>> {
        self.file.lock().clone()
    }

    /// The log file, open for writing from here on.
    fn file(&self) -> Result<Arc<dyn StorageFile>> {
        let mut slot = self.file.lock();
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let opened = self.folder.storage.open(&self.path(Extension::Log), OpenMode::Write)?;
        self.keep_open(&mut slot, Arc::clone(&opened));
        Ok(opened)
    }

    fn keep_open(&self, slot: &mut Option<Arc<dyn StorageFile>>, file: Arc<dyn StorageFile>) {
        *slot = Some(file);
        self.folder.open_files.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes the log file. Only when everything in it is synced: an error that the system has to
    /// report would be lost with the handle.
    pub(super) fn close_file(&self) {
        if self.file.lock().take().is_some() {
            self.folder.open_files.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.close_file();
    }
}

// Writing.
impl Segment {
    /// Appends one batch, and publishes it when it is complete in the file. After a failure the same
    /// place is written again.
    pub(super) fn append(
        &self,
        bytes: &[u8],
        end_offset: i64,
        max_timestamp: i64,
    ) -> Result<Arc<dyn StorageFile>> {
        let file = self.file()?;
        let position = self.len();
        let after = position + bytes.len() as u64;
        self.preallocate(&*file, after)?;
        self.load_indexes()?;
        file.write_at(bytes, position)?;
        if position == 0 {
            self.first_timestamp.store(max_timestamp, Ordering::Relaxed);
        }
        self.max_timestamp.fetch_max(max_timestamp, Ordering::Relaxed);
        if let Some(indexes) = &mut *self.indexes.lock() {
            let size = bytes.len() as u64;
            indexes.builder.on_batch(end_offset - 1, position, size, max_timestamp);
        }
        self.end_offset.store(end_offset, Ordering::Release);
        self.len.store(after, Ordering::Release);
        let step = after / WRITEBACK_STEP;
        if step > position / WRITEBACK_STEP {
            file.start_writeback((step - 1) * WRITEBACK_STEP, WRITEBACK_STEP);
        }
        Ok(file)
    }

    fn preallocate(&self, file: &dyn StorageFile, after: u64) -> Result<()> {
        if after < PREALLOCATE_FROM || after <= self.preallocated.load(Ordering::Relaxed) {
            return Ok(());
        }
        let until = after + after.clamp(FIRST_STEP, LAST_STEP);
        self.preallocated.store(until, Ordering::Relaxed);
        match file.preallocate(until) {
            // The batch itself may still fit.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes index entries that are not in the files yet. They are caches: not synced, and whatever a
    /// crash leaves of them is checked before it is believed.
    pub(super) fn flush_indexes(&self) -> Result<()> {
        let mut indexes = self.indexes.lock();
        let Some(indexes) = &mut *indexes else { return Ok(()) };
        let (offsets, times) = (indexes.builder.offsets(), indexes.builder.times());
        if offsets.len() > indexes.written_offsets {
            self.write_index(Extension::Index, &offsets.encode())?;
            indexes.written_offsets = offsets.len();
        }
        if times.len() > indexes.written_times {
            self.write_index(Extension::TimeIndex, &times.encode())?;
            indexes.written_times = times.len();
        }
        Ok(())
    }

    fn write_index(&self, extension: Extension, bytes: &[u8]) -> Result<()> {
        let path = self.path(extension);
        let mode = match self.folder.storage.metadata(&path)? {
            Some(_) => OpenMode::Write,
            None => OpenMode::CreateNew,
        };
        let file = self.folder.storage.open(&path, mode)?;
        file.write_at(bytes, 0)?;
        if file.len()? > bytes.len() as u64 { file.set_len(bytes.len() as u64) } else { Ok(()) }
    }

    /// At a roll and at a clean close, of a segment that was written to: Kafka's last time entry, and
    /// space that was kept ahead goes back. Whether there was anything to do.
    pub(super) fn finish(&self) -> Result<bool> {
        if let Some(indexes) = &mut *self.indexes.lock() {
            indexes.builder.finish();
        } else {
            return Ok(false);
        }
        self.flush_indexes()?;
        if self.preallocated.swap(0, Ordering::Relaxed) > 0
            && let Some(file) = self.open_file()
        {
            file.trim()?;
        }
        Ok(true)
    }
}

// Reading.
impl Segment {
    /// A map of at least the first `len` bytes, which were published.
    pub(super) fn map(&self, len: u64) -> Result<Arc<ReadMap>> {
        if let Some(map) = &*self.map.read()
            && map.extend_readable(len) >= len
        {
            return Ok(Arc::clone(map));
        }
        let mut slot = self.map.write();
        if let Some(map) = &*slot
            && map.extend_readable(len) >= len
        {
            return Ok(Arc::clone(map));
        }
        // Mapped ahead of what is written, so that a growing segment is mapped a few times only.
        let capacity = len.saturating_mul(2).max(1 << 20);
        let file = match self.open_file() {
            Some(file) => Ok(file),
            None => self.folder.storage.open(&self.path(Extension::Log), OpenMode::Read),
        };
        let map = file.and_then(|file| file.map(len, capacity)).map_err(|error| {
            // A file that is gone or too short is told as what it is.
            self.check_file().err().filter(Error::is_corruption).unwrap_or(error)
        })?;
        let map = Arc::new(map);
        *slot = Some(Arc::clone(&map));
        Ok(map)
    }

    /// The position of the batch that holds `offset`, or of the first one after it.
    pub(super) fn locate(&self, offset: i64) -> Result<u64> {
        self.with_indexes(|offsets, _, log| offsets.locate(log, offset))
    }

    /// The position of the first batch with a record of this timestamp or a later one.
    pub(super) fn locate_time(&self, timestamp: i64) -> Result<u64> {
        self.with_indexes(|offsets, times, log| times.locate(offsets, log, timestamp))
    }

    /// Asks the indexes; where they turn out to be wrong they are made anew and asked again.
    fn with_indexes<T>(
        &self,
        ask: impl Fn(&OffsetIndex, &TimeIndex, &[u8]) -> Result<Option<(u64, T)>, DecodeError>,
    ) -> Result<u64> {
        self.load_indexes()?;
        let len = self.len();
        if len == 0 {
            return Ok(0);
        }
        let map = self.map(len)?;
        let log = map.slice(0..len).unwrap_or_default();
        let mut slot = self.indexes.lock();
        let Some(indexes) = &*slot else { return Ok(0) };
        let mut found = ask(indexes.builder.offsets(), indexes.builder.times(), log);
        if matches!(found, Err(DecodeError::Corrupt { reason: CorruptReason::Index, .. })) {
            let mut builder = IndexBuilder::new(self.base_offset, self.interval);
            builder.scan(log, 0);
            found = ask(builder.offsets(), builder.times(), log);
            *slot = Some(Indexes { builder, written_offsets: 0, written_times: 0 });
        }
        match found {
            Ok(Some((position, _))) => Ok(position),
            Ok(None) => Ok(len),
            Err(DecodeError::Corrupt { reason, position }) => {
                Err(Error::Corrupt(Box::new(crate::error::Corruption {
                    path: self.log_path(),
                    position: position as u64,
                    partition: Some(self.folder.partition.clone()),
                    offsets: None,
                    reason,
                })))
            }
            Err(error) => Err(error.into_error(&self.log_path(), 0)),
        }
    }

    /// Reads the index files, or rebuilds what does not fit the log.
    fn load_indexes(&self) -> Result<()> {
        let mut slot = self.indexes.lock();
        if slot.is_some() {
            return Ok(());
        }
        let len = self.len();
        let end_offset = self.end_offset();
        let offsets = self.read_index(Extension::Index)?;
        let times = self.read_index(Extension::TimeIndex)?;
        // What was written behind the checkpoint went with the batches it pointed to.
        let offsets = keep_entries(&offsets, |entry: &[u8; 8]| {
            let [_, _, _, _, p0, p1, p2, p3] = *entry;
            u64::from(u32::from_be_bytes([p0, p1, p2, p3])) < len
        });
        let times = keep_entries(&times, |entry: &[u8; 12]| {
            let [.., o0, o1, o2, o3] = *entry;
            let relative = i64::from(i32::from_be_bytes([o0, o1, o2, o3]));
            self.base_offset.saturating_add(relative) < end_offset
        });
        let parsed = OffsetIndex::parse(offsets, self.base_offset, len).and_then(|offsets| {
            Ok((offsets, TimeIndex::parse(times, self.base_offset, end_offset)?))
        });
        let map = self.map(len.max(1)).ok().filter(|_| len > 0);
        let log = map.as_ref().and_then(|map| map.slice(0..len)).unwrap_or_default();
        let resumed = parsed.ok().and_then(|(offsets, times)| {
            let written = (offsets.len(), times.len());
            Some((written, IndexBuilder::resume(offsets, times, self.interval, log)?))
        });
        let indexes = if let Some(((written_offsets, written_times), resumed)) = resumed {
            let (mut builder, from) = resumed;
            builder.scan(log, from);
            Indexes { builder, written_offsets, written_times }
        } else {
            let mut builder = IndexBuilder::new(self.base_offset, self.interval);
            builder.scan(log, 0);
            Indexes { builder, written_offsets: 0, written_times: 0 }
        };
        *slot = Some(indexes);
        Ok(())
    }

    /// The bytes of an index file, none if it is not there. No more are read than its log can need.
    fn read_index(&self, extension: Extension) -> Result<Vec<u8>> {
        let path = self.path(extension);
        let Some((FileKind::File, len)) = self.folder.storage.metadata(&path)? else {
            return Ok(Vec::new());
        };
        // Each entry speaks of a batch, which has at least 61 bytes.
        let most = (self.len() / 61 + 1).saturating_mul(12);
        let mut bytes = vec![0; usize::try_from(len.min(most)).unwrap_or(0)];
        let read = self.folder.storage.open(&path, OpenMode::Read)?.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The whole entries of an index file up to the first that does not qualify: those behind it are of
/// batches that are gone.
fn keep_entries<const N: usize>(bytes: &[u8], keep: impl Fn(&[u8; N]) -> bool) -> &[u8] {
    let (entries, _) = bytes.as_chunks::<N>();
    let count = entries.iter().position(|entry| !keep(entry)).unwrap_or(entries.len());
    bytes.get(..count * N).unwrap_or_default()
}

// Recovery.
impl Segment {
    /// Whether the file can hold what the checkpoint says of it.
    pub(super) fn check_file(&self) -> Result<()> {
        let path = self.path(Extension::Log);
        match self.folder.storage.metadata(&path)? {
            None => Err(Error::MissingSegment { path: self.log_path() }),
            Some((FileKind::File, len)) if len >= self.len() => Ok(()),
            Some((FileKind::File, len)) => {
                Err(Error::Corrupt(Box::new(crate::error::Corruption {
                    path: self.log_path(),
                    position: len,
                    partition: Some(self.folder.partition.clone()),
                    offsets: Some((self.base_offset, self.end_offset() - 1)),
                    reason: CorruptReason::Short,
                })))
            }
            Some(_) => Err(Error::corrupt(self.log_path(), 0, CorruptReason::Field)),
        }
    }

    /// Cuts what lies above the hard length, where old batches must not show again behind new ones
    /// (hazards H1 to H3): the bytes cut, and the file, to be synced before the first `Synced` ack.
    pub(super) fn cut_to_hard_length(&self) -> Result<Option<(u64, Arc<dyn StorageFile>)>> {
        let path = self.path(Extension::Log);
        let hard = self.len();
        let len = self.folder.storage.metadata(&path)?.map_or(hard, |(_, len)| len);
        if len <= hard {
            return Ok(None);
        }
        let file = self.file()?;
        file.set_len(hard)?;
        Ok(Some((len - hard, file)))
    }
}
