//! One open file in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::error::{Error, Result};
use crate::storage::map::MapTarget;
use crate::storage::{ReadMap, StorageFile, WriteMap};

use super::Shared;
use super::contents::{Contents, Inode};
use super::control::Step;

#[derive(Debug, Clone)]
pub(super) struct MemoryFile {
    shared: Arc<Shared>,
    inode: Arc<Inode>,
    path: PathBuf,
    writable: bool,
    /// The losses that this handle has reported (C4).
    seen: Arc<AtomicU64>,
}

impl MemoryFile {
    pub(super) fn new(
        shared: Arc<Shared>,
        inode: Arc<Inode>,
        path: PathBuf,
        writable: bool,
    ) -> Self {
        let seen = inode.contents.lock().losses.seen_at_opening();
        Self { shared, inode, path, writable, seen: Arc::new(AtomicU64::new(seen)) }
    }

    fn tell<T>(&self, op: &'static str, result: io::Result<T>) -> Result<T> {
        result.map_err(|e| Error::io(op, &self.path, e))
    }

    fn may_look(&self, op: &'static str) -> Result<()> {
        self.tell(op, self.shared.admit_read())
    }

    fn check_writable(&self, op: &'static str) -> Result<()> {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        self.tell(op, if self.writable { Ok(()) } else { Err(refused()) })
    }

    fn write_with(
        &self,
        bytes: &[u8],
        position: u64,
        write: impl FnOnce(&mut Contents, u64, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        self.check_writable("write")?;
        let written = self
            .shared
            .admit(|| self.write_step(bytes, position))
            .and_then(|_permit| write(&mut self.inode.contents.lock(), position, bytes));
        self.tell("write", written).map_err(|error| error.at_byte(position))
    }

    fn write_step(&self, bytes: &[u8], position: u64) -> Step {
        Step::Write { inode: Arc::clone(&self.inode), position, bytes: bytes.into() }
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.inode.calls.enter();
        self.may_look("read").map_err(|error| error.at_byte(position))?;
        let contents = self.inode.contents.lock();
        let there = usize::try_from(position).ok().and_then(|from| contents.now.get(from..));
        let there = there.unwrap_or_default();
        let len = there.len().min(buf.len());
        buf[..len].copy_from_slice(&there[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.inode.calls.enter();
        self.write_with(bytes, position, Contents::write)
    }

    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write_with(bytes, position, Contents::write_durable)
    }

    fn len(&self) -> Result<u64> {
        self.may_look("look up")?;
        Ok(self.inode.contents.lock().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check_writable("resize")?;
        let step = || Step::Resize { inode: Arc::clone(&self.inode), len };
        let permit = self.tell("resize", self.shared.admit(step))?;
        let resized = self.inode.contents.lock().resize(len);
        drop(permit);
        self.tell("resize", resized)
    }

    fn sync_data(&self) -> Result<()> {
        self.inode.calls.enter();
        let step = || Step::Sync { inode: Arc::clone(&self.inode) };
        let permit = self.tell("sync", self.shared.admit(step))?;
        let synced = {
            let mut contents = self.inode.contents.lock();
            let reported = contents.losses.report(&self.seen);
            contents.sync().and(reported)
        };
        drop(permit);
        self.tell("sync", synced)
    }

    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        self.check_writable("preallocate")?;
        let permit = self.tell("preallocate", self.shared.admit(|| Step::Other))?;
        let kept = self.inode.contents.lock().preallocate(position.saturating_add(len));
        drop(permit);
        self.tell("preallocate", kept)
    }

    fn trim(&self) -> Result<()> {
        self.check_writable("trim")?;
        let _permit = self.tell("trim", self.shared.admit(|| Step::Other))?;
        self.inode.contents.lock().trim();
        Ok(())
    }

    fn start_writeback(&self, _position: u64, _len: u64) {}

    /// Copies the first `len` bytes. The copy has no room for bytes that are written later.
    fn map(&self, len: u64, _capacity: u64) -> Result<ReadMap> {
        self.may_look("map")?;
        let contents = self.inode.contents.lock();
        let there = usize::try_from(len).ok().and_then(|len| contents.now.get(..len));
        let there = there.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
        Ok(ReadMap::from_bytes(self.tell("map", there)?))
    }

    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.check_writable("map")?;
        self.may_look("map")?;
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let there = self.inode.contents.lock().now.len();
        let len = usize::try_from(len).ok().filter(|len| *len <= there).ok_or_else(short);
        Ok(WriteMap::over(Box::new(self.clone()), self.tell("map", len)?))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl MapTarget for MemoryFile {
    fn write(&self, position: usize, bytes: &[u8]) {
        self.inode.calls.enter();
        let step = || self.write_step(bytes, position as u64);
        // After a crash no process is left that could store anything.
        let Ok(_permit) = self.shared.admit_store(step) else { return };
        // The mapped bytes exist already, so this needs no space and cannot fail.
        let _ = self.inode.contents.lock().write(position as u64, bytes);
    }

    fn read(&self, position: usize, buf: &mut [u8]) {
        let contents = self.inode.contents.lock();
        if let Some(there) = contents.now.get(position..position.saturating_add(buf.len())) {
            buf.copy_from_slice(there);
        }
    }
}
