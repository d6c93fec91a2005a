//! Files in memory: for `open_in_memory`, and, with a history of synced and unsynced changes, for
//! crash tests.
//!
//! M1. Names and contents are separate: a file lives as long as a name or a handle refers to it.
//! M2. A storage made by `new` keeps only the present state. One made by `crash_simulating` also
//!     keeps the durable state and, in order, every change since (`contents`, `tree`).
//! M3. A storage that simulates crashes makes one change at a time, so that the count of changes
//!     agrees with the order of the history. Locks are taken in the order tree, control, contents.

mod contents;
mod control;
mod crash;
mod file;
mod tree;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::storage::path::check;
use crate::storage::{DirEntry, FileKind, OpenMode, Storage, StorageFile, StorageLock};
use crate::time::Random;

pub use crash::Crash;

use contents::{Inode, Space};
use control::{Control, Fault, Step};
use file::MemoryFile;
use tree::{DirChange, Node, Tree};

/// A storage in memory.
///
/// [`crash`](Self::crash) returns what a power loss would leave of it:
///
/// ```
/// use std::path::Path;
/// use grouplog::storage::{Crash, Memory, OpenMode, Storage};
/// use grouplog::time::SeededRandom;
///
/// let storage = Memory::crash_simulating(1);
/// let path = Path::new("a");
/// let file = storage.open(path, OpenMode::CreateNew)?;
/// file.write_at(b"synced", 0)?;
/// file.sync_data()?;
/// let random = SeededRandom::new(2);
///
/// // The bytes are durable, but the name is not.
/// let after = storage.crash(Crash::LoseAll, &random);
/// assert_eq!(after.metadata(path)?, None);
///
/// storage.sync_dir(Path::new(""))?;
/// file.write_at(b", and not", 6)?;
/// let after = storage.crash(Crash::LoseAll, &random);
/// assert_eq!(after.open(path, OpenMode::Read)?.len()?, 6);
///
/// // A killed process leaves everything it wrote.
/// let after = storage.crash(Crash::Kill, &random);
/// assert_eq!(after.open(path, OpenMode::Read)?.len()?, 15);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    tree: Mutex<Tree>,
    /// `None` unless crashes are simulated.
    control: Option<Mutex<Control>>,
    space: Arc<Space>,
    locked: Mutex<HashSet<PathBuf>>,
    /// With more changes than this, a sync of the whole is preferred.
    whole_sync_above: AtomicUsize,
}

/// Held while a change is made.
type Permit<'a> = Option<MutexGuard<'a, Control>>;

impl Memory {
    /// Creates an empty folder that keeps only its present state.
    pub fn new() -> Self {
        Self::empty(None)
    }

    /// Creates an empty folder that knows what would survive a crash. `seed` decides how much of a
    /// failing write is done.
    pub fn crash_simulating(seed: u64) -> Self {
        Self::empty(Some(Mutex::new(Control::new(seed))))
    }

    fn empty(control: Option<Mutex<Control>>) -> Self {
        Self::of(Shared {
            tree: Mutex::new(Tree::new(control.is_some())),
            control,
            space: Arc::new(Space::new(u64::MAX)),
            locked: Mutex::default(),
            whole_sync_above: AtomicUsize::new(usize::MAX),
        })
    }

    fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Returns the number of changes so far: creations, writes (through maps as well), resizes,
    /// syncs, renames, removals and preallocations. Always 0 if crashes are not simulated.
    pub fn ops(&self) -> u64 {
        self.shared.control.as_ref().map_or(0, |control| control.lock().ops)
    }

    /// Simulates a crash at the `op`-th change, counted from 1 since the storage was made.
    ///
    /// That change and every later call fail, and stores through maps are ignored.
    /// [`crash`](Self::crash) returns what is left. Does nothing if crashes are not simulated.
    pub fn crash_at(&self, op: u64) {
        if let Some(control) = &self.shared.control {
            control.lock().crash_at = Some(op);
        }
    }

    /// Returns whether the point set by [`crash_at`](Self::crash_at) was reached.
    pub fn has_crashed(&self) -> bool {
        self.shared.control.as_ref().is_some_and(|control| control.lock().crashed)
    }

    /// Makes the `op`-th change fail, counted from 1 since the storage was made, and all later ones
    /// if `persistent`.
    ///
    /// A failing write may have written a part. A failing sync loses the bytes it should have made
    /// durable, whatever later syncs report. Stores through maps cannot fail. Does nothing if
    /// crashes are not simulated.
    pub fn fail_at(&self, op: u64, kind: io::ErrorKind, persistent: bool) {
        if let Some(control) = &self.shared.control {
            control.lock().fault = Some(Fault { at: op, kind, persistent });
        }
    }

    /// Returns the number of read-only calls so far: opening existing files, reads, maps, lengths,
    /// lookups and listings. Always 0 if crashes are not simulated.
    pub fn reads(&self) -> u64 {
        self.shared.control.as_ref().map_or(0, |control| control.lock().reads)
    }

    /// Makes the `read`-th read-only call fail, counted from 1 since the storage was made, and all
    /// later ones if `persistent`.
    ///
    /// Loads through existing maps cannot fail. Does nothing if crashes are not simulated.
    pub fn fail_read_at(&self, read: u64, kind: io::ErrorKind, persistent: bool) {
        if let Some(control) = &self.shared.control {
            control.lock().read_fault = Some(Fault { at: read, kind, persistent });
        }
    }

    /// Cancels the failures set by [`fail_at`](Self::fail_at) and
    /// [`fail_read_at`](Self::fail_read_at).
    pub fn heal(&self) {
        if let Some(control) = &self.shared.control {
            let mut control = control.lock();
            control.fault = None;
            control.read_fault = None;
        }
    }

    /// Limits the total bytes of all files, preallocated ones included. A call that would exceed
    /// the limit fails with [`Error::DiskFull`]. Bytes that are already stored stay.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.space.set_capacity(bytes);
    }

    /// Returns the bytes that all files take on disk, in blocks of 4 KiB, as one moment has them: no
    /// file appears or goes while they are counted. Works after a crash too.
    pub fn disk_blocks(&self) -> u64 {
        self.shared.tree.lock().disk_blocks()
    }

    /// Makes [`prefers_whole_sync`](Storage::prefers_whole_sync) return true for more than `changes`
    /// files and folders. By default it never does. What a crash leaves does the same.
    pub fn sync_whole_above(&self, changes: usize) {
        self.shared.whole_sync_above.store(changes, Ordering::Relaxed);
    }

    /// Returns what a crash now would leave, as a separate, unlocked storage.
    ///
    /// This storage does not change. A storage that does not simulate crashes loses nothing.
    #[must_use]
    pub fn crash(&self, kind: Crash, random: &dyn Random) -> Self {
        self.shared.after(kind, random)
    }

    /// Returns every state that a power loss now could leave, for units of `unit` bytes, or `None`
    /// if there are more than 2 to the power of `max_bits`.
    pub fn crash_states(&self, unit: usize, max_bits: u32) -> Option<Vec<Self>> {
        self.shared.every_state_after(unit, max_bits)
    }

    /// Runs a lookup on the names.
    fn look<T>(
        &self,
        op: &'static str,
        path: &Path,
        find: impl FnOnce(&Tree) -> io::Result<T>,
    ) -> Result<T> {
        check(op, path)?;
        let tree = self.shared.tree.lock();
        let found = self.shared.admit_read().and_then(|()| find(&tree));
        found.map_err(|e| Error::io(op, self.display_path(path), e))
    }

    /// Changes names as `plan` says, after `plan` has checked that it may. An empty plan succeeds.
    fn change<T>(
        &self,
        op: &'static str,
        path: &Path,
        plan: impl FnOnce(&mut Tree) -> io::Result<(Option<DirChange>, T)>,
    ) -> Result<T> {
        check(op, path)?;
        let mut tree = self.shared.tree.lock();
        let changed = self.shared.check_alive().and_then(|()| {
            let (change, value) = plan(&mut tree)?;
            if let Some(change) = change {
                let _permit = self.shared.admit(|| Step::Names(change.clone()))?;
                tree.apply(change);
            }
            Ok(value)
        });
        changed.map_err(|e| Error::io(op, self.display_path(path), e))
    }

    fn create(&self, path: &Path) -> Result<Arc<Inode>> {
        let shared = &self.shared;
        self.change("create", path, |tree| {
            let name = tree.name(path)?;
            if tree.get(&name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let history = shared.control.is_some();
            let inode = Inode::new(tree.new_id(), history, Arc::clone(&shared.space));
            let inode = Arc::new(inode);
            Ok((Some(DirChange::Link(name, Node::File(Arc::clone(&inode)))), inode))
        })
    }

    fn find(&self, op: &'static str, path: &Path) -> Result<Arc<Inode>> {
        self.look(op, path, |tree| match tree.get(&tree.name(path)?) {
            Some(Node::File(inode)) => Ok(Arc::clone(inode)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        })
    }

    fn handle(&self, inode: Arc<Inode>, path: &Path, writable: bool) -> MemoryFile {
        MemoryFile::new(Arc::clone(&self.shared), inode, self.display_path(path), writable)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn check_alive(&self) -> io::Result<()> {
        self.control.as_ref().map_or(Ok(()), |control| control.lock().check_alive())
    }

    fn admit_read(&self) -> io::Result<()> {
        self.control.as_ref().map_or(Ok(()), |control| control.lock().admit_read())
    }

    fn admit(&self, step: impl FnOnce() -> Step) -> io::Result<Permit<'_>> {
        let Some(control) = &self.control else { return Ok(None) };
        let mut control = control.lock();
        control.admit(step)?;
        Ok(Some(control))
    }

    fn admit_store(&self, step: impl FnOnce() -> Step) -> io::Result<Permit<'_>> {
        let Some(control) = &self.control else { return Ok(None) };
        let mut control = control.lock();
        control.admit_store(step)?;
        Ok(Some(control))
    }
}

impl Storage for Memory {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        let inode = match mode {
            OpenMode::CreateNew => self.create(path)?,
            OpenMode::Read | OpenMode::Write => self.find("open", path)?,
        };
        Ok(Arc::new(self.handle(inode, path, mode != OpenMode::Read)))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.look("look up", path, |tree| {
            if path.as_os_str().is_empty() {
                return Ok(Some((FileKind::Dir, 0)));
            }
            let name = match tree.name(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                name => name?,
            };
            Ok(tree.get(&name).map(|node| match node {
                Node::File(inode) => (FileKind::File, inode.contents.lock().now.len() as u64),
                Node::Dir(_) => (FileKind::Dir, 0),
            }))
        })
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.look("look up", path, |tree| {
            if path.as_os_str().is_empty() {
                return Ok(0);
            }
            let name = match tree.name(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
                name => name?,
            };
            Ok(match tree.get(&name) {
                Some(Node::File(inode)) => inode.contents.lock().allocated() as u64,
                Some(Node::Dir(_)) | None => 0,
            })
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        check("rename", to)?;
        self.change("rename", from, |tree| {
            let (from, to) = (tree.name(from)?, tree.name(to)?);
            let node = tree.get(&from).cloned().ok_or(io::ErrorKind::NotFound)?;
            match (&node, tree.get(&to)) {
                _ if from == to => return Ok((None, ())),
                (Node::Dir(id), _) if tree.is_within(to.0, *id) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                (Node::File(_), Some(Node::Dir(_))) => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                (Node::Dir(_), Some(Node::File(_))) => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                (Node::Dir(_), Some(Node::Dir(there))) if !tree.is_empty_dir(*there) => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
            Ok((Some(DirChange::Rename(from, to, node)), ()))
        })
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.change("remove", path, |tree| {
            let name = tree.name(path)?;
            match tree.get(&name) {
                Some(Node::File(_)) => Ok((Some(DirChange::Unlink(name)), ())),
                Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.change("create", path, |tree| {
            let name = tree.name(path)?;
            match tree.get(&name) {
                Some(Node::Dir(_)) => Ok((None, ())),
                Some(Node::File(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    let id = tree.new_id();
                    Ok((Some(DirChange::Link(name, Node::Dir(id))), ()))
                }
            }
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.change("remove", path, |tree| {
            let name = tree.name(path)?;
            match tree.get(&name) {
                Some(Node::Dir(id)) if tree.is_empty_dir(*id) => {
                    Ok((Some(DirChange::Unlink(name)), ()))
                }
                Some(Node::Dir(_)) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
                Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.look("list", path, |tree| {
            let id = tree.dir(path)?;
            let names = tree.dirs.get(&id).into_iter().flat_map(|dir| &dir.now);
            let entries = names.map(|(name, node)| {
                let kind = match node {
                    Node::File(_) => FileKind::File,
                    Node::Dir(_) => FileKind::Dir,
                };
                DirEntry { name: name.clone(), kind }
            });
            Ok(entries.collect())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        check("sync", path)?;
        let mut tree = self.shared.tree.lock();
        let synced = self.shared.check_alive().and_then(|()| {
            let id = tree.dir(path)?;
            let _permit = self.shared.admit(|| Step::Other)?;
            tree.sync(id);
            Ok(())
        });
        synced.map_err(|e| Error::io("sync", self.display_path(path), e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        check("lock", path)?;
        let pid = std::process::id();
        if !self.shared.locked.lock().insert(path.to_owned()) {
            return Err(Error::Locked { path: self.display_path(path), pid: Some(pid) });
        }
        // Made first: if a later step fails, dropping it unlocks.
        let lock = MemoryLock { shared: Arc::clone(&self.shared), path: path.to_owned() };
        let inode = match self.metadata(path)? {
            None => self.create(path)?,
            Some(_) => self.find("lock", path)?,
        };
        // Always the same length, so runs with the same seed make the same changes.
        let text = format!("{pid:<10}\n");
        self.handle(inode, path, true).write_at(text.as_bytes(), 0)?;
        Ok(Box::new(lock))
    }

    fn prefers_whole_sync(&self, changes: usize) -> bool {
        changes > self.shared.whole_sync_above.load(Ordering::Relaxed)
    }

    fn sync_whole(&self) -> Result<()> {
        let mut tree = self.shared.tree.lock();
        let files = tree.files();
        let step = || Step::SyncWhole { inodes: files.clone() };
        let synced = self.shared.admit(step).and_then(|_permit| {
            tree.sync_all();
            files.iter().try_for_each(|inode| inode.contents.lock().sync())
        });
        synced.map_err(|e| Error::io("sync", self.display_path(Path::new("")), e))
    }

    fn free_space(&self) -> Result<u64> {
        Ok(self.shared.space.free())
    }

    fn display_path(&self, path: &Path) -> PathBuf {
        Path::new("memory:").join(path)
    }

    fn supports_write_map(&self) -> bool {
        true
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("simulates_crashes", &self.control.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct MemoryLock {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl StorageLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.shared.locked.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
