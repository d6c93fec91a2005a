//! A storage that counts the space of its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Extent, Kind, Size, kind};
use super::ledger::{Ledger, size_of};
use crate::error::Result;
use crate::storage::{
    DirEntry, FileKind, OpenMode, ReadMap, Storage, StorageFile, StorageLock, WriteMap,
};
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// Another storage, whose files are counted.
#[derive(Debug)]
pub(crate) struct Metered {
    inner: Arc<dyn Storage>,
    ledger: Arc<Ledger>,
}

impl Metered {
    pub(crate) fn new(inner: Arc<dyn Storage>, ledger: Arc<Ledger>) -> Self {
        Self { inner, ledger }
    }
}

impl Storage for Metered {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        let file = self.inner.open(path, mode)?;
        let extent = match mode {
            OpenMode::Read => return Ok(file),
            OpenMode::Write => self.ledger.find(&*self.inner, path)?,
            OpenMode::CreateNew => self.ledger.add(path, Size::default()),
        };
        let (storage, ledger) = (Arc::clone(&self.inner), Arc::clone(&self.ledger));
        Ok(Arc::new(MeteredFile { file, extent, storage, ledger }))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.inner.metadata(path)
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.inner.disk_bytes(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)?;
        self.ledger.rename(from, to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        if planted("budget_forgets_before_unlink") {
            self.ledger.remove(path);
        }
        self.inner.remove(path)?;
        self.ledger.remove(path);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.inner.lock(path)
    }

    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        self.inner.sync_all(files)
    }

    fn prefers_whole_sync(&self, changes: usize) -> bool {
        self.inner.prefers_whole_sync(changes)
    }

    fn sync_whole(&self) -> Result<()> {
        self.inner.sync_whole()
    }

    fn free_space(&self) -> Result<u64> {
        self.inner.free_space()
    }

    fn max_open_files(&self) -> Option<u64> {
        self.inner.max_open_files()
    }

    fn display_path(&self, path: &Path) -> PathBuf {
        self.inner.display_path(path)
    }

    fn supports_write_map(&self) -> bool {
        self.inner.supports_write_map()
    }
}

#[derive(Debug)]
struct MeteredFile {
    file: Arc<dyn StorageFile>,
    extent: Arc<Extent>,
    storage: Arc<dyn Storage>,
    ledger: Arc<Ledger>,
}

impl MeteredFile {
    /// Makes a call after which the file is at least this large.
    fn grow(&self, size: Size, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let known = |what: &crate::sync::atomic::AtomicU64| what.load(Ordering::Relaxed);
        let (len, end) = (known(&self.extent.len), known(&self.extent.end));
        // Most writes to the journal stay inside of a file.
        if size.len <= len && size.end <= end {
            return call();
        }
        self.ledger.grow(&self.extent, Size { len: size.len.max(len), end: size.end.max(end) })?;
        self.settled(call())
    }

    /// Looks at the file again if a call failed, which may have done any part of its work.
    fn settled(&self, result: Result<()>) -> Result<()> {
        if result.is_err()
            && let Some(name) = self.extent.name()
            && let Ok(size) = size_of(&*self.storage, &name)
        {
            self.ledger.shrink(&self.extent, size);
        }
        result
    }

    fn cut(&self, len: u64) {
        self.ledger.shrink(&self.extent, Size { len, end: len });
    }

    fn write(&self, bytes: &[u8], position: u64, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let end = position.saturating_add(bytes.len() as u64);
        self.grow(Size { len: end, end }, call)
    }
}

impl StorageFile for MeteredFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.file.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write(bytes, position, || self.file.write_at(bytes, position))
    }

    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write(bytes, position, || self.file.write_at_durable(bytes, position))
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        if len > self.extent.len.load(Ordering::Relaxed) {
            return self.grow(Size { len, end: len }, || self.file.set_len(len));
        }
        self.file.set_len(len)?;
        self.cut(len);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        let mut end = position.saturating_add(len);
        let is_segment = || {
            let kind = self.extent.name().map(|name| kind(&name));
            matches!(kind, Some(Kind::Main(..)))
        };
        if end > self.extent.end.load(Ordering::Relaxed) && is_segment() {
            end = self.ledger.reserve_ahead(&self.extent, end);
            let Some(len) = end.checked_sub(position).filter(|len| *len > 0) else { return Ok(()) };
            return self.settled(self.file.preallocate(position, len));
        }
        self.grow(Size { len: 0, end }, || self.file.preallocate(position, len))
    }

    fn trim(&self) -> Result<()> {
        self.file.trim()?;
        self.cut(self.extent.len.load(Ordering::Relaxed));
        Ok(())
    }

    fn start_writeback(&self, position: u64, len: u64) {
        self.file.start_writeback(position, len);
    }

    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.file.map(len, capacity)
    }

    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.file.map_write(len)
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}
