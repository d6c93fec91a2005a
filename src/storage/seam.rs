use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{ReadMap, WriteMap};
use crate::error::Result;

/// How [`Storage::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// The file must exist; it is only read.
    Read,
    /// The file must exist; it is read and written.
    Write,
    /// The file must not exist; it is created (mode 0600 unless widened), then read and written.
    CreateNew,
}

/// What a name in a folder stands for.
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

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name, without the folder's. Names that are not UTF-8 are left out of listings.
    pub name: String,
    /// What it stands for.
    pub kind: FileKind,
}

/// A folder of files. All calls may be made from any thread.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens or creates a regular file. A symbolic link or a special file is refused, and opening
    /// never blocks.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>>;

    /// What the name stands for and its length in bytes (0 for folders), or `None` if it is not there.
    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>>;

    /// Gives a file or folder another name; an existing file of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Creates a folder (mode 0700 unless widened); that it exists already is no error.
    fn create_dir(&self, path: &Path) -> Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// The names in a folder, ordered by name. The root is the empty path.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// Makes the names in a folder durable: created, renamed and removed ones.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Takes the lock of the whole storage, by the file `path`, into which the process id is written
    /// as text. Fails with [`Error::Locked`](crate::Error::Locked) if it is held, by this process or
    /// another one. Dropping the guard gives it back.
    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>>;

    /// Makes all files durable that were written and not synced, in fewer steps than one sync each
    /// where the system can; the same guarantee as `sync_data` on each of `files`.
    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        files.iter().try_for_each(|file| file.sync_data())
    }

    /// Bytes that can still be written, as far as the system tells.
    fn free_space(&self) -> Result<u64>;

    /// How many files the process may have open, if there is a limit. The engine uses at most half of them.
    fn max_open_files(&self) -> Option<u64> {
        None
    }

    /// The full path of a relative one, for messages.
    fn display_path(&self, path: &Path) -> std::path::PathBuf;

    /// Whether a shared map of a fully written file is a safe place to write to: blocks are
    /// allocated for good, so that a store can fail only with the disk (ext4 and tmpfs on Linux).
    fn supports_write_map(&self) -> bool;
}

/// An open regular file. All calls may be made from any thread.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Reads into `buf` at `position` until it is full or the file ends; the number of bytes read.
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize>;

    /// Writes all of `bytes` at `position`. On an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()>;

    /// As `write_at`, and these bytes (and the length) are durable when it returns. Other bytes of
    /// the file that were written earlier need not be.
    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()>;

    /// The length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Makes everything written to this file so far durable, and its length; not its name.
    fn sync_data(&self) -> Result<()>;

    /// Asks the system to keep disk space for `len` bytes from `position` on without changing the length.
    /// May do nothing.
    fn preallocate(&self, position: u64, len: u64) -> Result<()>;

    /// Gives back space kept by `preallocate` beyond the length. May do nothing. Not to be called
    /// beside a write that makes the file longer.
    fn trim(&self) -> Result<()>;

    /// Asks the system to begin writing a range to the device. A hint; may do nothing.
    fn start_writeback(&self, position: u64, len: u64);

    /// Maps the file for reading from byte 0: at least `len` bytes, which the caller knows to have
    /// been written, and up to `capacity` bytes, of which those beyond `len` may be touched only
    /// after they have been written. The map stays valid after the file is closed, renamed or removed.
    /// The file must never be cut below what is read through a map.
    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap>;

    /// Maps the first `len` bytes for writing; they must all have been written before.
    fn map_write(&self, len: u64) -> Result<WriteMap>;

    /// The full path, for messages.
    fn path(&self) -> &Path;
}

/// A held lock; dropping it gives it back.
pub trait StorageLock: Send + Sync + fmt::Debug {}
