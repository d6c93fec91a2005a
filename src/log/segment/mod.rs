//! The files of one segment: written in order, mapped for reading, indexed, and covered by checksums.

mod batch_sum;
mod evidence;
mod extent;
mod index;
mod read;
mod settle;
mod write;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::image::SegmentImage;
use super::open_files::OpenFiles;
use super::reads::{Evict, Reads};
use crate::error::{Error, Result};
use crate::segment::{Extension, IndexBuilder, SegmentId, file_name};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::{TopicPartition, planted};

use evidence::Running;
use index::Indexes;
use read::Reader;

pub(super) use extent::Judge;
pub(super) use read::{History, Stored};
pub(super) use write::{BatchPlace, Unpublished};

/// The folder that holds a segment's files.
#[derive(Debug)]
pub(super) struct SegmentFolder {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) path: PathBuf,
    pub(super) partition: TopicPartition,
    /// Counts the broker's segment files that are open for writing.
    pub(super) open_files: Arc<OpenFiles>,
    /// The broker's segments that are open for reading.
    pub(super) reads: Arc<Reads>,
}

/// A segment. Only the holder of its partition's write-out lock writes to it. Any thread may read it.
#[derive(Debug)]
pub(super) struct Segment {
    folder: Arc<SegmentFolder>,
    base_offset: i64,
    /// See [`SegmentImage::generation`].
    generation: u32,
    interval: u64,
    len: AtomicU64,
    /// The CRC-32 of the first `len` bytes.
    checksum: AtomicU32,
    end_offset: AtomicI64,
    first_timestamp: AtomicI64,
    max_timestamp: AtomicI64,
    /// What retention noticed about timestamps in the future.
    noticed: Mutex<Option<Notice>>,
    /// Set once no batch may follow, although the segment is not full.
    must_roll: AtomicBool,
    /// The log file, while it is open for writing. Readers open it on their own.
    file: Mutex<Option<Arc<dyn StorageFile>>>,
    /// The length and the checksum when the folder was opened.
    found: (u64, u32),
    /// Set once the segment accepts no more batches.
    sealed: AtomicBool,
    /// Set once another segment has taken the place of this one. Its files may be removed.
    replaced: AtomicBool,
    /// Set if a crash may have kept the last entries out of the side files.
    unfinished: AtomicBool,
    reader: RwLock<Option<Arc<Reader>>>,
    /// Whether the segment was read since the cache of open segments last checked.
    used: AtomicBool,
    indexes: Mutex<Option<Indexes>>,
    /// The running sums, which appends extend. Set from the first append on.
    running: Mutex<Option<Running>>,
    preallocated: AtomicU64,
    /// The size in bytes at which the partition begins another segment.
    limit: AtomicU64,
    /// How far bytes were written, also those of refused appends.
    written_to: AtomicU64,
}

/// What retention noticed about a segment whose timestamps are in the future.
#[derive(Debug, Clone, Copy)]
struct Notice {
    /// When it noticed the first of them.
    first: i64,
    /// When it noticed the last change of the segment.
    last: i64,
    /// The end offset after that change.
    end_offset: i64,
}

impl Segment {
    /// Creates an empty segment.
    pub(super) fn create(
        folder: Arc<SegmentFolder>,
        base_offset: i64,
        interval: u32,
    ) -> Result<Self> {
        Self::create_file(folder, SegmentImage::empty(base_offset), interval)
    }

    fn create_file(folder: Arc<SegmentFolder>, image: SegmentImage, interval: u32) -> Result<Self> {
        let segment = Self::existing(folder, image, interval);
        let path = segment.path(Extension::Log);
        let file = segment.folder.storage.open(&path, OpenMode::CreateNew)?;
        segment.keep_open(&mut segment.file.lock(), file);
        *segment.indexes.lock() =
            Some(Indexes::new(IndexBuilder::new(image.base_offset, segment.interval)));
        Ok(segment)
    }

    /// Creates an empty segment that replaces others. Removes what an earlier attempt may have left of it.
    pub(super) fn create_cleaned(
        folder: Arc<SegmentFolder>,
        id: SegmentId,
        interval: u32,
    ) -> Result<Self> {
        let image =
            SegmentImage { generation: id.generation, ..SegmentImage::empty(id.base_offset) };
        Self::existing(Arc::clone(&folder), image, interval).remove_files()?;
        Self::create_file(folder, image, interval)
    }

    /// Creates an existing segment from its image. Its files are opened when they are needed.
    pub(super) fn existing(folder: Arc<SegmentFolder>, image: SegmentImage, interval: u32) -> Self {
        Self {
            folder,
            base_offset: image.base_offset,
            generation: image.generation,
            interval: u64::from(interval),
            len: AtomicU64::new(image.len),
            checksum: AtomicU32::new(image.checksum),
            end_offset: AtomicI64::new(image.end_offset),
            first_timestamp: AtomicI64::new(image.first_timestamp),
            max_timestamp: AtomicI64::new(image.max_timestamp),
            noticed: Mutex::new(None),
            must_roll: AtomicBool::new(false),
            file: Mutex::new(None),
            found: (image.len, image.checksum),
            sealed: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            reader: RwLock::new(None),
            used: AtomicBool::new(false),
            indexes: Mutex::new(None),
            running: Mutex::new(None),
            preallocated: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            written_to: AtomicU64::new(0),
        }
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Returns what tells the segment's files from those of others.
    pub(super) fn id(&self) -> SegmentId {
        SegmentId { base_offset: self.base_offset, generation: self.generation }
    }

    /// Returns whether compaction has written the segment. Its offsets rise, but some may be missing.
    pub(super) fn is_cleaned(&self) -> bool {
        self.generation > 0 && !planted("gaps_are_damage")
    }

    /// Returns whether this process has appended all that the segment holds.
    pub(super) fn holds_own_appends_alone(&self) -> bool {
        self.found.0 == 0 && self.generation == 0
    }

    /// Returns whether a batch with this base offset, or the end of the segment, may follow a batch that ends before
    /// `next_offset`. A segment loses batches only by compaction.
    pub(super) fn may_follow(&self, next_offset: i64, base_offset: i64) -> bool {
        if self.is_cleaned() { base_offset >= next_offset } else { base_offset == next_offset }
    }

    /// Returns the offset after the last written batch.
    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Returns the published length: the bytes of complete batches (L4).
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Relaxed)
    }

    /// Records that the segment's timestamps are in the future at `now`. Returns when that was first noticed.
    pub(super) fn notice(&self, now: i64) -> i64 {
        let end_offset = self.end_offset();
        let mut noticed = self.noticed.lock();
        let notice = noticed.get_or_insert(Notice { first: now, last: now, end_offset });
        if notice.end_offset != end_offset {
            (notice.last, notice.end_offset) = (now, end_offset);
        }
        notice.first
    }

    /// Returns the time by which retention had noticed timestamps in the future, if nothing was appended since.
    pub(super) fn noticed(&self) -> Option<i64> {
        let end = self.end_offset();
        self.noticed.lock().filter(|notice| notice.end_offset == end).map(|notice| notice.last)
    }

    /// Lets no batch follow.
    pub(super) fn roll_next(&self) {
        self.must_roll.store(true, Ordering::Relaxed);
    }

    pub(super) fn must_roll(&self) -> bool {
        self.must_roll.load(Ordering::Relaxed)
    }

    /// Removes the segment's files. After a failure it goes on with the others.
    pub(super) fn remove_files(&self) -> Result<()> {
        let mut removed = Ok(());
        for extension in Extension::ALL {
            // Some kinds are rare, and a call that fails is no cheaper than one that asks.
            let remove = || self.folder.storage.remove(&self.path(extension));
            let there = self.has_file(extension);
            match there.and_then(|there| if there { remove() } else { Ok(()) }) {
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                result => removed = result.and(removed),
            }
        }
        removed
    }

    /// Returns the segment's image. Consistent only under the write-out lock, which keeps appends out.
    pub(super) fn image(&self) -> SegmentImage {
        SegmentImage {
            base_offset: self.base_offset,
            generation: self.generation,
            end_offset: self.end_offset(),
            len: self.len(),
            checksum: self.checksum.load(Ordering::Relaxed),
            first_timestamp: self.first_timestamp.load(Ordering::Relaxed),
            max_timestamp: self.max_timestamp(),
        }
    }

    /// Records that another segment has taken the place of this one.
    pub(super) fn set_replaced(&self) {
        self.replaced.store(true, Ordering::Release);
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Sets the size in bytes at which the partition begins another segment. No more is preallocated.
    pub(super) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Seals the segment. It accepts no more batches, and its side files are complete.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn has_reader(&self) -> bool {
        self.reader.read().is_some()
    }

    /// Returns the full path of the log file, for messages.
    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.storage.display_path(&self.path(Extension::Log))
    }

    /// Returns the full path of a side file, for messages.
    pub(super) fn side_path(&self, extension: Extension) -> PathBuf {
        self.folder.storage.display_path(&self.path(extension))
    }

    fn path(&self, extension: Extension) -> PathBuf {
        self.folder.path.join(file_name(self.id(), extension))
    }

    /// Returns the log file, if it is open for writing.
    pub(super) fn open_file(&self) -> Option<Arc<dyn StorageFile>> {
        self.file.lock().clone()
    }

    /// Returns the log file, and opens it for writing if it is not open. It stays open until `close_file`.
    pub(in crate::log) fn file(&self) -> Result<Arc<dyn StorageFile>> {
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
        self.folder.open_files.opened();
    }

    /// Closes the log file. The file must be synced, or be covered by a sync of the whole storage to come:
    /// closing the handle would lose an error that the system has still to report.
    pub(super) fn close_file(&self) {
        if self.file.lock().take().is_some() {
            self.folder.open_files.closed();
        }
    }
}

impl Evict for Segment {
    fn unmark(&self) {
        self.used.store(false, Ordering::Relaxed);
    }

    fn close_reader(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return false;
        }
        let Some(mut reader) = self.reader.try_write() else { return false };
        *reader = None;
        // The indexes of a segment that is written to may be ahead of their files.
        if let Some(running) = self.running.try_lock()
            && running.is_none()
            && let Some(mut indexes) = self.indexes.try_lock()
        {
            *indexes = None;
        }
        true
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.close_file();
    }
}
