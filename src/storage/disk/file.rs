//! One open file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::{ReadMap, StorageFile, WriteMap};

#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    pub(super) fn new(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    fn error(&self, op: &'static str, source: io::Error) -> Error {
        Error::io(op, &self.path, source)
    }

    /// Writes all of `bytes`, with as many calls of `write` as necessary (D3).
    fn write_all(
        &self,
        mut bytes: &[u8],
        mut position: u64,
        write: impl Fn(&[u8], u64) -> io::Result<usize>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            match write(bytes, position) {
                Ok(0) => {
                    let none = io::ErrorKind::WriteZero.into();
                    return Err(self.error("write", none).at_byte(position));
                }
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    position = position.saturating_add(written as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("write", e).at_byte(position)),
            }
        }
        Ok(())
    }

    /// Fails if the file is shorter than the requested map. Touching a page beyond the end would
    /// end the process.
    fn check_len(&self, op: &'static str, len: u64) -> Result<()> {
        if self.len()? < len {
            let source = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is shorter than the requested map",
            );
            return Err(self.error(op, source));
        }
        Ok(())
    }
}

impl StorageFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = position.saturating_add(filled as u64);
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled = filled.saturating_add(read),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("read", e).at_byte(at)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write_all(bytes, position, |bytes, position| self.file.write_at(bytes, position))
    }

    #[cfg(target_os = "linux")]
    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        use rustix::io::{Errno, ReadWriteFlags, pwritev2};
        use std::cell::Cell;

        let fell_back = Cell::new(false);
        self.write_all(bytes, position, |bytes, position| {
            if !fell_back.get() {
                let slices = [io::IoSlice::new(bytes)];
                match pwritev2(&self.file, &slices, position, ReadWriteFlags::DSYNC) {
                    Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => fell_back.set(true),
                    result => return result.map_err(io::Error::from),
                }
            }
            self.file.write_at(bytes, position)
        })?;
        if fell_back.get() { self.sync_data() } else { Ok(()) }
    }

    #[cfg(not(target_os = "linux"))]
    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.write_at(bytes, position)?;
        self.sync_data()
    }

    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.error("look up", e))?.len())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| self.error("resize", e))
    }

    fn sync_data(&self) -> Result<()> {
        // The standard library repeats the call only after a signal. In that case no failure was
        // reported.
        self.file.sync_data().map_err(|e| self.error("sync", e))
    }

    #[cfg(target_os = "linux")]
    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;

        if len == 0 {
            return Ok(());
        }
        match super::retry(|| fallocate(&self.file, FallocateFlags::KEEP_SIZE, position, len)) {
            // Not every file system supports it. It is only an optimisation.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(e) => Err(self.error("preallocate", e.into())),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn preallocate(&self, _position: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn trim(&self) -> Result<()> {
        // Measured on ext4 and tmpfs: setting the current length again frees the blocks beyond it.
        // Punching a hole there frees none on ext4.
        self.set_len(self.len()?)
    }

    fn start_writeback(&self, _position: u64, _len: u64) {
        // sync_file_range needs foreign function calls, and fadvise would also drop clean pages.
        // The kernel starts writing back soon enough by itself, and this call is only a hint.
    }

    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.check_len("map", len)?;
        ReadMap::of_file(self.file.as_fd(), len, capacity).map_err(|e| self.error("map", e))
    }

    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.check_len("map", len)?;
        WriteMap::of_file(self.file.as_fd(), len).map_err(|e| self.error("map", e))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
