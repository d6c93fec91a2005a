//! The lock of a folder (D4).

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::storage::StorageLock;
use crate::types::planted;

/// The lock files that this process holds, by device and inode. Each entry names the process that
/// took the lock: a forked child inherits its parent's entries, which are not its own.
static HELD: LazyLock<Mutex<HashMap<(u64, u64), u32>>> = LazyLock::new(Mutex::default);

/// How long a process waits for the table. Only a child that was forked while another thread held it waits that long. It
/// goes on without, as there is nothing of its own in it.
const HELD_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct DiskLock {
    file: File,
    _entry: HeldEntry,
    /// The process that took the lock. A forked child shares the descriptor and must not unlock.
    pid: u32,
}

impl DiskLock {
    pub(super) fn take(file: File, path: PathBuf) -> Result<Self> {
        let failed = |e| Error::io("lock", &path, e);
        let metadata = file.metadata().map_err(failed)?;
        let pid = std::process::id();
        let Some(entry) = HeldEntry::insert((metadata.dev(), metadata.ino()), pid) else {
            return Err(Error::Locked { path, pid: Some(pid) });
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Our own process id in the file must be that of a process in another container.
                let pid = read_pid(&file).filter(|found| *found != pid);
                return Err(Error::Locked { path, pid });
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // Made before the pid is written: if that fails, dropping it unlocks.
        let lock = Self { file, _entry: entry, pid };
        lock.write_pid().map_err(failed)?;
        Ok(lock)
    }

    /// Writes the process id for a process that finds the file locked. The text always has the same
    /// length. So it can be overwritten on a full disk, and no reader sees half of it.
    fn write_pid(&self) -> std::io::Result<()> {
        self.file.write_all_at(format!("{:<10}\n", self.pid).as_bytes(), 0)
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if std::process::id() == self.pid && !planted("lock_left_to_children") {
            // Closing is not enough: a child forked meanwhile keeps the lock through its copy of
            // the descriptor. If this fails, the close that follows is the only attempt left.
            let _ = self.file.unlock();
        }
    }
}

impl StorageLock for DiskLock {}

/// Removes the entry from the table when dropped, after the file has been unlocked.
#[derive(Debug)]
struct HeldEntry {
    key: (u64, u64),
    pid: u32,
}

impl HeldEntry {
    fn insert(key: (u64, u64), pid: u32) -> Option<Self> {
        if let Some(mut held) = HELD.try_lock_for(HELD_WAIT) {
            if held.get(&key) == Some(&pid) {
                return None;
            }
            held.insert(key, pid);
        }
        Some(Self { key, pid })
    }
}

impl Drop for HeldEntry {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            return;
        }
        if let Some(mut held) = HELD.try_lock_for(HELD_WAIT)
            && held.get(&self.key) == Some(&self.pid)
        {
            held.remove(&self.key);
        }
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let len = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.trim().parse().ok()
}
