//! A storage that closes files to open others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{DirEntry, FileKind, OpenMode, Storage, StorageFile, StorageLock};
use crate::types::planted;

/// Another storage. A call that fails because too many files are open, in the process (EMFILE) or in the
/// system (ENFILE), is made again after `relieve` has closed files that are open only to save time. Every
/// call on a name may open something: the folder that holds it.
///
/// This is the one place where that is done. `relieve` is called under whatever locks its caller holds, so
/// it must not wait for any of them.
pub(crate) struct Sparing {
    inner: Arc<dyn Storage>,
    relieve: Box<dyn Fn() + Send + Sync>,
}

impl Sparing {
    pub(crate) fn new(inner: Arc<dyn Storage>, relieve: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { inner, relieve }
    }

    fn call<T>(&self, call: impl Fn(&dyn Storage) -> Result<T>) -> Result<T> {
        match call(&*self.inner) {
            Err(error) if error.is_too_many_files() && !planted("spare_no_files") => {
                (self.relieve)();
                call(&*self.inner)
            }
            result => result,
        }
    }
}

impl Storage for Sparing {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        self.call(|inner| inner.open(path, mode))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.call(|inner| inner.metadata(path))
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.call(|inner| inner.disk_bytes(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|inner| inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.call(|inner| inner.remove(path))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.call(|inner| inner.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.call(|inner| inner.remove_dir(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.call(|inner| inner.list(path))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.call(|inner| inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.call(|inner| inner.lock(path))
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

impl std::fmt::Debug for Sparing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sparing").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Error {
    /// Whether the process or the system has too many files open.
    pub(crate) fn is_too_many_files(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(source.raw_os_error(), Some(EMFILE | ENFILE))
    }
}

/// The same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
