//! One segment's files: written in order, mapped for reading, indexed, vouched for by checksums.

mod evidence;
mod extent;
mod index;
mod read;
mod settle;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use super::image::SegmentImage;
use super::open_files::OpenFiles;
use super::reads::{Evict, Reads};
use crate::error::Result;
use crate::segment::{Extension, IndexBuilder, file_name};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::types::TopicPartition;

use evidence::Running;
use index::Indexes;
use read::Reader;

pub(super) use extent::Judge;
pub(super) use read::{History, Stored};

/// Where a segment's files are.
#[derive(Debug)]
pub(super) struct SegmentFolder {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) path: PathBuf,
    pub(super) partition: TopicPartition,
    /// The segment files of the broker that are open for writing.
    pub(super) open_files: Arc<OpenFiles>,
    /// The segments of the broker that are open for reading.
    pub(super) reads: Arc<Reads>,
}

/// A segment. Written to under the write-out lock of its partition alone; read by anybody.
#[derive(Debug)]
pub(super) struct Segment {
    folder: Arc<SegmentFolder>,
    base_offset: i64,
    interval: u64,
    len: AtomicU64,
    /// The CRC-32 of the first `len` bytes.
    checksum: AtomicU32,
    end_offset: AtomicI64,
    first_timestamp: AtomicI64,
    max_timestamp: AtomicI64,
    /// The file while it is written to. Readers need it only for as long as it takes to map it.
    file: Mutex<Option<Arc<dyn StorageFile>>>,
    /// Length and checksum as they were found when the folder was opened.
    found: (u64, u32),
    /// Set when nothing is added any more.
    sealed: AtomicBool,
    /// Set when a crash may have kept its side files from getting their last entries.
    unfinished: AtomicBool,
    reader: RwLock<Option<Arc<Reader>>>,
    /// Whether it was read since the cache of open segments looked last.
    used: AtomicBool,
    indexes: Mutex<Option<Indexes>>,
    /// The sums that what is appended is added to; from the first append on.
    running: Mutex<Option<Running>>,
    preallocated: AtomicU64,
}

impl Segment {
    /// Creates an empty segment.
    pub(super) fn create(
        folder: Arc<SegmentFolder>,
        base_offset: i64,
        interval: u32,
    ) -> Result<Self> {
        let image = SegmentImage {
            base_offset,
            end_offset: base_offset,
            len: 0,
            checksum: 0,
            first_timestamp: -1,
            max_timestamp: -1,
        };
        let segment = Self::existing(folder, image, interval);
        let path = segment.path(Extension::Log);
        let file = segment.folder.storage.open(&path, OpenMode::CreateNew)?;
        segment.keep_open(&mut segment.file.lock(), file);
        *segment.indexes.lock() =
            Some(Indexes::new(IndexBuilder::new(base_offset, segment.interval)));
        Ok(segment)
    }

    /// A segment that is there; its files are opened when they are needed.
    pub(super) fn existing(folder: Arc<SegmentFolder>, image: SegmentImage, interval: u32) -> Self {
        Self {
            folder,
            base_offset: image.base_offset,
            interval: u64::from(interval),
            len: AtomicU64::new(image.len),
            checksum: AtomicU32::new(image.checksum),
            end_offset: AtomicI64::new(image.end_offset),
            first_timestamp: AtomicI64::new(image.first_timestamp),
            max_timestamp: AtomicI64::new(image.max_timestamp),
            file: Mutex::new(None),
            found: (image.len, image.checksum),
            sealed: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
            reader: RwLock::new(None),
            used: AtomicBool::new(false),
            indexes: Mutex::new(None),
            running: Mutex::new(None),
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

    /// Consistent only where nothing is appended meanwhile: under the write-out lock.
    pub(super) fn image(&self) -> SegmentImage {
        SegmentImage {
            base_offset: self.base_offset,
            end_offset: self.end_offset(),
            len: self.len(),
            checksum: self.checksum.load(Ordering::Relaxed),
            first_timestamp: self.first_timestamp.load(Ordering::Relaxed),
            max_timestamp: self.max_timestamp(),
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Nothing is added from here on; its side files are written.
    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn has_reader(&self) -> bool {
        self.reader.read().is_some()
    }

    /// The full path of the log file, for messages.
    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.storage.display_path(&self.path(Extension::Log))
    }

    /// The full path of another of its files, for messages.
    pub(super) fn side_path(&self, extension: Extension) -> PathBuf {
        self.folder.storage.display_path(&self.path(extension))
    }

    fn path(&self, extension: Extension) -> PathBuf {
        self.folder.path.join(file_name(self.base_offset, extension))
    }

    /// The log file, if it is open.
    pub(super) fn open_file(&self) -> Option<Arc<dyn StorageFile>> {
        self.file.lock().clone()
    }

    /// The log file, open for writing from here on.
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

    /// Closes the log file. Only when everything in it is synced: an error that the system has to
    /// report would be lost with the handle.
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
        // Those of a segment that is written to may be ahead of their files.
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
