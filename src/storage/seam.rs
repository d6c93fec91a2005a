use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{ReadMap, WriteMap};
use crate::error::Result;

/// How [`Storage::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// Opens an existing file for reading.
    Read,
    /// Opens an existing file for reading and writing.
    Write,
    /// Creates a file that must not exist (mode 0600 unless widened), for reading and writing.
    CreateNew,
}

/// The type of the object behind a name in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// Anything else: a symbolic link, a device, a pipe. The engine never follows or opens one.
    Other,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name, without the folder's path. Listings omit names that are not UTF-8.
    pub name: String,
    /// The type of the object behind the name.
    pub kind: FileKind,
}

/// A folder of files. Every method may be called from any thread.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens or creates a regular file. Rejects symbolic links and special files. Never blocks
    /// while opening.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>>;

    /// Returns the type of the object and its length in bytes (0 for folders), or `None` if the
    /// path does not exist.
    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>>;

    /// Returns how many bytes of the disk the object takes, without the content of a folder, or 0 if
    /// the path does not exist. Space reserved by [`StorageFile::preallocate`] counts.
    ///
    /// By default, returns the length.
    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        Ok(self.metadata(path)?.map_or(0, |(_, len)| len))
    }

    /// Renames a file or folder. Replaces an existing file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Creates a folder (mode 0700 unless widened). Succeeds if it already exists.
    fn create_dir(&self, path: &Path) -> Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// Returns the entries of a folder, ordered by name. The empty path is the root.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// Makes created, renamed and removed names in a folder durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Takes the lock of the whole storage, by the file `path`. Writes the process id into it as
    /// text.
    ///
    /// Fails with [`Error::Locked`](crate::Error::Locked) if this process or another one holds the
    /// lock. Dropping the guard releases it.
    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>>;

    /// Makes all `files` durable, with the same guarantee as `sync_data` on each of them. Needs
    /// fewer steps than one sync per file where the system allows it.
    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        files.iter().try_for_each(|file| file.sync_data())
    }

    /// Returns whether one [`sync_whole`](Self::sync_whole) is better than syncing `changes` files
    /// and folders one by one.
    ///
    /// If so, it also covers every file that was opened so far and closed again: closing a file
    /// loses no failure to write its bytes back. The answer for the same number may change when
    /// further files are opened.
    fn prefers_whole_sync(&self, _changes: usize) -> bool {
        false
    }

    /// Makes everything durable that was changed before the call: the bytes and lengths of all
    /// files, open or closed, and the names in all folders.
    ///
    /// Call it only if [`prefers_whole_sync`](Self::prefers_whole_sync) returned true for the files
    /// that rely on it. After a failure any file may have lost what was not synced. A file that is
    /// open meanwhile reports its own loss at its next sync, so nobody else's promise breaks. The
    /// call may also wait for what other programs wrote to the same file system.
    fn sync_whole(&self) -> Result<()> {
        Err(crate::Error::Misuse("this storage cannot be synced as a whole"))
    }

    /// Returns the number of bytes that can still be written, as far as the system reports it.
    fn free_space(&self) -> Result<u64>;

    /// Returns how many files the process may have open, or `None` if there is no limit. The engine
    /// uses at most half of them.
    fn max_open_files(&self) -> Option<u64> {
        None
    }

    /// Returns the full path of a relative one, for messages.
    fn display_path(&self, path: &Path) -> std::path::PathBuf;

    /// Returns whether writing through a shared map of a fully written file is safe.
    ///
    /// True if blocks are allocated for good, so that a store can fail only if the disk fails (ext4
    /// and tmpfs on Linux).
    fn supports_write_map(&self) -> bool;
}

/// An open regular file. Every method may be called from any thread.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Reads into `buf` at `position` until it is full or the file ends. Returns the number of
    /// bytes read.
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize>;

    /// Writes all of `bytes` at `position`. On an error, any part of them may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()>;

    /// Writes all of `bytes` at `position` and makes them and the length durable. Earlier writes to
    /// other bytes of the file may not be durable yet.
    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()>;

    /// Returns the length in bytes.
    fn len(&self) -> Result<u64>;

    /// Returns whether the file holds no byte.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Truncates the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Makes everything written to this file so far durable, and its length. Does not make its name
    /// durable.
    fn sync_data(&self) -> Result<()>;

    /// Asks the system to reserve disk space for `len` bytes from `position` without changing the
    /// length. May do nothing.
    fn preallocate(&self, position: u64, len: u64) -> Result<()>;

    /// Returns space reserved by `preallocate` beyond the length to the system. May do nothing.
    /// Must not run concurrently with a write that makes the file longer.
    fn trim(&self) -> Result<()>;

    /// Asks the system to start writing a range to the device. A hint, which may do nothing.
    fn start_writeback(&self, position: u64, len: u64);

    /// Maps the file for reading from byte 0. The map covers at least `len` bytes, which the caller
    /// knows to be written, and up to `capacity` bytes. Bytes beyond `len` may be touched only
    /// after they have been written.
    ///
    /// The map stays valid after the file is closed, renamed or removed. The file must never be
    /// truncated below the bytes that are read through a map.
    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap>;

    /// Maps the first `len` bytes for writing. All of them must have been written before.
    fn map_write(&self, len: u64) -> Result<WriteMap>;

    /// Returns the full path, for messages.
    fn path(&self) -> &Path;
}

/// A held lock. Dropping it releases the lock.
pub trait StorageLock: Send + Sync + fmt::Debug {}
