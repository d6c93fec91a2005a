//! A storage that rejects every change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::storage::{
    DirEntry, FileKind, OpenMode, ReadMap, Storage, StorageFile, StorageLock, WriteMap,
};

/// A wrapper around another storage that removes the right to change it.
///
/// Every call that would change something, including taking the lock, fails with [`Error::Io`] of
/// kind [`ReadOnlyFilesystem`](io::ErrorKind::ReadOnlyFilesystem). Such a call never reaches the
/// inner storage.
///
/// ```
/// use std::path::Path;
/// use grouplog::storage::{Memory, OpenMode, ReadOnly, Storage};
///
/// let storage = Memory::new();
/// storage.open(Path::new("a"), OpenMode::CreateNew)?.write_at(b"abc", 0)?;
/// let read_only = ReadOnly::new(storage);
/// let file = read_only.open(Path::new("a"), OpenMode::Read)?;
/// assert_eq!(file.len()?, 3);
/// assert!(file.write_at(b"x", 0).is_err());
/// assert!(read_only.remove(Path::new("a")).is_err());
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReadOnly<S> {
    inner: S,
}

impl<S: Storage> ReadOnly<S> {
    /// Creates a read-only wrapper around `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }

    fn refuse<T>(&self, op: &'static str, path: &Path) -> Result<T> {
        refuse(op, &self.inner.display_path(path))
    }
}

fn refuse<T>(op: &'static str, path: &Path) -> Result<T> {
    Err(Error::io(op, path, io::ErrorKind::ReadOnlyFilesystem.into()))
}

impl<S: Storage> Storage for ReadOnly<S> {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        match mode {
            OpenMode::Read => Ok(Arc::new(ReadOnlyFile(self.inner.open(path, mode)?))),
            OpenMode::Write => self.refuse("open", path),
            OpenMode::CreateNew => self.refuse("create", path),
        }
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.inner.metadata(path)
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.inner.disk_bytes(path)
    }

    fn rename(&self, from: &Path, _to: &Path) -> Result<()> {
        self.refuse("rename", from)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.refuse("remove", path)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.refuse("create", path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.refuse("remove", path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.refuse("sync", path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.refuse("lock", path)
    }

    fn sync_all(&self, _files: &[Arc<dyn StorageFile>]) -> Result<()> {
        self.refuse("sync", Path::new(""))
    }

    fn sync_whole(&self) -> Result<()> {
        self.refuse("sync", Path::new(""))
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
        false
    }
}

#[derive(Debug)]
struct ReadOnlyFile(Arc<dyn StorageFile>);

impl StorageFile for ReadOnlyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.0.read_at(buf, position)
    }

    fn write_at(&self, _bytes: &[u8], _position: u64) -> Result<()> {
        refuse("write", self.path())
    }

    fn write_at_durable(&self, _bytes: &[u8], _position: u64) -> Result<()> {
        refuse("write", self.path())
    }

    fn len(&self) -> Result<u64> {
        self.0.len()
    }

    fn set_len(&self, _len: u64) -> Result<()> {
        refuse("resize", self.path())
    }

    fn sync_data(&self) -> Result<()> {
        refuse("sync", self.path())
    }

    fn preallocate(&self, _position: u64, _len: u64) -> Result<()> {
        refuse("preallocate", self.path())
    }

    fn trim(&self) -> Result<()> {
        refuse("trim", self.path())
    }

    fn start_writeback(&self, _position: u64, _len: u64) {}

    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.0.map(len, capacity)
    }

    fn map_write(&self, _len: u64) -> Result<WriteMap> {
        refuse("map", self.path())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
