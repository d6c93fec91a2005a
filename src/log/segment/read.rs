//! Reading a segment through a map.

use std::io;
use std::sync::Arc;

use super::Segment;
use crate::error::{Error, Result};
use crate::segment::Extension;
use crate::storage::{OpenMode, ReadMap, StorageFile};

impl Segment {
    /// The log file, opened anew.
    ///
    /// # Errors
    /// `MissingSegment` if it is not there.
    pub(in crate::log) fn open_to_read(&self) -> Result<Arc<dyn StorageFile>> {
        match self.folder.storage.open(&self.path(Extension::Log), OpenMode::Read) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.missing())
            }
            opened => opened,
        }
    }

    /// The log file is not there.
    pub(in crate::log) fn missing(&self) -> Error {
        let offsets = (self.base_offset, self.end_offset().saturating_sub(1));
        Error::MissingSegment { path: self.log_path(), offsets }
    }

    /// A map of at least the first `len` bytes, which were published.
    pub(in crate::log) fn map(&self, len: u64) -> Result<Arc<ReadMap>> {
        if let Some(map) = &*self.map.read()
            && map.extend_readable(len) >= len
        {
            return Ok(Arc::clone(map));
        }
        let mut slot = self.map.write();
        if let Some(map) = &*slot
            && map.extend_readable(len) >= len
        {
            return Ok(Arc::clone(map));
        }
        // Mapped ahead of what is written, so that a growing segment is mapped a few times only.
        let capacity = len.saturating_mul(2).max(1 << 20);
        let file = match self.open_file() {
            Some(file) => Ok(file),
            None => self.open_to_read(),
        };
        let map = file.and_then(|file| file.map(len, capacity)).map_err(|error| {
            // A file that is gone or too short is told as what it is.
            self.check_file().err().filter(Error::is_corruption).unwrap_or(error)
        })?;
        let map = Arc::new(map);
        *slot = Some(Arc::clone(&map));
        Ok(map)
    }
}
