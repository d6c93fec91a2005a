//! Files of the operating system.
//!
//! D1. The storage opens everything relative to a handle of the root folder and follows no symbolic
//!     links (the root itself may be one). It accepts only regular files. A pipe or a device in the
//!     place of a file fails at once.
//! D2. Files are created with mode 0600 and folders with 0700, or with the modes of [`Access`]. The
//!     process's umask and the mode of the root folder narrow them further. Existing files and
//!     folders keep their mode.
//! D3. Interrupted and short calls are continued. A write that makes no progress is an error.
//! D4. The lock is `flock` plus a table of this process, keyed by device and inode, because `flock`
//!     alone would belong to one open file. POSIX record locks would be lost as soon as any
//!     descriptor of the file is closed.
#![expect(clippy::disallowed_types, reason = "the one place that opens files")]

mod file;
mod lock;
mod whole;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::storage::path::check;
use crate::storage::{DirEntry, FileKind, OpenMode, Storage, StorageFile, StorageLock};

use file::DiskFile;
use lock::DiskLock;
use whole::Syncfs;

/// A storage in a folder of the file system.
///
/// ```
/// use std::path::Path;
/// use grouplog::storage::{Disk, OpenMode, Storage};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let storage = Disk::open_or_create(&path)?;
/// let file = storage.open(Path::new("a"), OpenMode::CreateNew)?;
/// file.write_at(b"kept", 0)?;
/// file.sync_data()?; // the bytes are durable,
/// storage.sync_dir(Path::new(""))?; // and so is the name
/// assert_eq!(file.len()?, 4);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// Opened before any file. A sync of the whole file system through this handle therefore
    /// reports every later failure to write back.
    dir: OwnedFd,
    device: u64,
    supports_write_map: bool,
    syncfs: Syncfs,
    /// Set once a file was opened that lies on another file system than the root.
    other_device: AtomicBool,
    /// The modes of created files and folders (D2).
    file_mode: Mode,
    dir_mode: Mode,
}

/// Who may read the files that a [`Disk`] creates. Only the owner may write them.
///
/// ```
/// use grouplog::storage::{Access, Disk};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// // For a command line that reads the folder as another user of the group.
/// let storage = Disk::open_or_create_with(&path, Access::GroupReads)?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Access {
    /// Only the owner: folders 0700, files 0600.
    #[default]
    Owner,
    /// The owner and the group: folders 0750, files 0640.
    GroupReads,
    /// Everybody: folders 0755, files 0644.
    AllRead,
}

impl Access {
    /// Returns the mode of folders.
    fn dir_bits(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::GroupReads => 0o750,
            Self::AllRead => 0o755,
        }
    }

    fn dir_mode(self) -> Mode {
        Mode::from_raw_mode(self.dir_bits() as RawMode)
    }
}

impl Disk {
    /// Opens an existing folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the folder does not exist, is not a folder, or cannot be read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&root, flags, Mode::empty())
            .map_err(|e| Error::io("open", &root, e.into()))?;
        let stat = rustix::fs::fstat(&dir).map_err(|e| Error::io("open", &root, e.into()))?;
        let dir_mode = Access::Owner.dir_mode();
        Ok(Self {
            file_mode: file_mode(dir_mode),
            dir_mode,
            device: stat.st_dev,
            supports_write_map: allocates_for_good(&dir),
            syncfs: Syncfs::probe(&dir),
            other_device: AtomicBool::new(false),
            dir,
            root,
        })
    }

    /// Opens an existing folder and sets who may read the files created in it.
    ///
    /// The mode of the folder itself is an upper bound: opening a narrow folder with a wider
    /// `access` does not widen it.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open).
    pub fn open_with(root: impl Into<PathBuf>, access: Access) -> Result<Self> {
        let mut disk = Self::open(root)?;
        let stat =
            rustix::fs::fstat(&disk.dir).map_err(|e| disk.error("open", Path::new(""), e))?;
        let wanted = access.dir_mode() & Mode::from_raw_mode(stat.st_mode);
        disk.dir_mode = wanted | Access::Owner.dir_mode();
        disk.file_mode = file_mode(disk.dir_mode);
        Ok(disk)
    }

    /// Opens a folder. Creates it and its missing parents (mode 0700) with durable names.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open), or [`Error::Io`] if the folder cannot be created.
    pub fn open_or_create(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open_or_create_with(root, Access::Owner)
    }

    /// Opens or creates a folder and sets who may read the files created in it.
    ///
    /// See [`open_or_create`](Self::open_or_create) and [`open_with`](Self::open_with).
    ///
    /// # Errors
    ///
    /// The errors of [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_with(root: impl Into<PathBuf>, access: Access) -> Result<Self> {
        let root = root.into();
        let mode = access.dir_bits();
        let missing: Vec<&Path> = root
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .collect();
        for folder in missing.into_iter().rev() {
            let failed = |e| Error::io("create", folder, e);
            match std::fs::DirBuilder::new().mode(mode).create(folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.map_err(failed)?,
            }
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
            let above = File::open(above.unwrap_or(Path::new("."))).map_err(failed)?;
            above.sync_all().map_err(failed)?;
        }
        Self::open_with(root, access)
    }

    /// Returns the path of the root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn error(&self, op: &'static str, path: &Path, errno: Errno) -> Error {
        Error::io(op, self.display_path(path), errno.into())
    }

    /// Opens a path below the root without following links (D1).
    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // openat2 rejects a mode without O_CREAT.
        let creates = flags.contains(OFlags::CREATE);
        let mode = if creates { self.file_mode } else { Mode::empty() };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::ResolveFlags;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match retry(|| rustix::fs::openat2(&self.dir, path, flags, mode, resolve)) {
                // Kernels before 5.6 and some sandboxes lack the call. The fallback guards only the
                // last component of the path.
                Err(Errno::NOSYS | Errno::PERM) => {}
                result => return result,
            }
        }
        retry(|| rustix::fs::openat(&self.dir, path, flags, mode))
    }

    fn open_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file and rejects anything else (D1).
    fn open_file(&self, op: &'static str, path: &Path, flags: OFlags) -> Result<(File, PathBuf)> {
        check(op, path)?;
        let full = self.display_path(path);
        let fd = self.open_at(path, flags).map_err(|e| self.error(op, path, e))?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|e| Error::io(op, &full, e))?;
        if !metadata.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(op, full, source));
        }
        if metadata.dev() != self.device {
            self.other_device.store(true, Ordering::Relaxed);
        }
        Ok((file, full))
    }

    /// Runs a call on a name, relative to the folder that holds it.
    fn in_parent<T>(
        &self,
        path: &Path,
        run: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => retry(|| run(self.dir.as_fd(), name)),
            Some(parent) => {
                let parent = self.open_dir(parent)?;
                retry(|| run(parent.as_fd(), name))
            }
        }
    }

    /// Looks an object up without following links, or the root.
    fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        let stat = if path.as_os_str().is_empty() {
            rustix::fs::fstat(&self.dir)
        } else {
            self.in_parent(path, |parent, name| {
                rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            })
        };
        match stat {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(self.error("look up", path, e)),
        }
    }

    /// Checks the path, runs the call as `in_parent` does, and maps its error.
    fn change(
        &self,
        op: &'static str,
        path: &Path,
        run: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<(), Errno>,
    ) -> Result<()> {
        check(op, path)?;
        self.in_parent(path, run).map_err(|e| self.error(op, path, e))
    }
}

impl Storage for Disk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        let (op, flags) = match mode {
            OpenMode::Read => ("open", OFlags::RDONLY),
            OpenMode::Write => ("open", OFlags::RDWR),
            OpenMode::CreateNew => ("create", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL),
        };
        let (file, full) = self.open_file(op, path, flags)?;
        Ok(Arc::new(DiskFile::new(file, full)))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        check("look up", path)?;
        if path.as_os_str().is_empty() {
            return Ok(Some((FileKind::Dir, 0)));
        }
        Ok(self.stat(path)?.map(|stat| {
            let kind = kind_of(FileType::from_raw_mode(stat.st_mode));
            let len = if kind == FileKind::File { stat.st_size.cast_unsigned() } else { 0 };
            (kind, len)
        }))
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        check("look up", path)?;
        // POSIX counts blocks of 512 bytes, whatever those of the file system are.
        Ok(self.stat(path)?.map_or(0, |stat| stat.st_blocks.cast_unsigned().saturating_mul(512)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        check("rename", to)?;
        self.change("rename", from, |from_parent, from_name| {
            self.in_parent(to, |to_parent, to_name| {
                rustix::fs::renameat(from_parent, from_name, to_parent, to_name)
            })
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.change("remove", path, |parent, name| {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        let mode = self.dir_mode;
        let made =
            self.change("create", path, |parent, name| rustix::fs::mkdirat(parent, name, mode));
        match made {
            Err(Error::Io { ref source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists
                    && matches!(self.metadata(path), Ok(Some((FileKind::Dir, _)))) =>
            {
                Ok(())
            }
            made => made,
        }
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.change("remove", path, |parent, name| {
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        check("list", path)?;
        let failed = |e| self.error("list", path, e);
        let dir = self.open_dir(path).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems do not store the type with the name.
                FileType::Unknown => {
                    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(Errno::NOENT) => continue,
                        Err(e) => return Err(failed(e)),
                    }
                }
                known => known,
            };
            entries.push(DirEntry { name: name.to_owned(), kind: kind_of(kind) });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        check("sync", path)?;
        if path.as_os_str().is_empty() {
            // The root is already open.
            return retry(|| rustix::fs::fsync(&self.dir)).map_err(|e| self.error("sync", path, e));
        }
        let dir = self.open_dir(path).map_err(|e| self.error("open", path, e))?;
        retry(|| rustix::fs::fsync(&dir)).map_err(|e| self.error("sync", path, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        let (file, full) = self.open_file("lock", path, OFlags::RDWR | OFlags::CREATE)?;
        Ok(Box::new(DiskLock::take(file, full)?))
    }

    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        if self.prefers_whole_sync(files.len()) {
            return self.sync_whole();
        }
        files.iter().try_for_each(|file| file.sync_data())
    }

    fn prefers_whole_sync(&self, changes: usize) -> bool {
        changes > SYNCFS_FROM
            && self.syncfs.may_be_used()
            && !self.other_device.load(Ordering::Relaxed)
    }

    fn sync_whole(&self) -> Result<()> {
        self.syncfs.run(&self.dir).map_err(|e| Error::io("sync", &self.root, e))
    }

    fn free_space(&self) -> Result<u64> {
        let stat =
            rustix::fs::fstatvfs(&self.dir).map_err(|e| self.error("look up", Path::new(""), e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn max_open_files(&self) -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }

    fn display_path(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn supports_write_map(&self) -> bool {
        self.supports_write_map
    }
}

/// Repeats a call while signals interrupt it.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Returns the mode of files in folders with this mode: the same without execute permission.
fn file_mode(dir_mode: Mode) -> Mode {
    dir_mode - (Mode::XUSR | Mode::XGRP | Mode::XOTH)
}

fn kind_of(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        _ => FileKind::Other,
    }
}

/// Returns whether written blocks stay in place, so that a store through a map needs no new space.
///
/// True on ext4 and tmpfs. False where blocks may be shared or copied on write.
#[cfg(target_os = "linux")]
fn allocates_for_good(dir: &OwnedFd) -> bool {
    const EXT4: u64 = 0xef53;
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::fstatfs(dir).is_ok_and(|stat| matches!(stat.f_type as u64, EXT4 | TMPFS))
}

#[cfg(not(target_os = "linux"))]
fn allocates_for_good(_dir: &OwnedFd) -> bool {
    false
}

/// Above this number of files and folders, one sync of the file system is cheaper than one sync of each.
const SYNCFS_FROM: usize = 64;

#[cfg(test)]
mod tests;
