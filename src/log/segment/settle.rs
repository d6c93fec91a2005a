//! Checking and truncating a segment's files when a folder is opened, and rebuilding its side files.

use std::path::Path;
use std::sync::Arc;

use super::Segment;
use crate::error::{CorruptReason, Error, Result};
use crate::segment::Extension;
use crate::storage::{FileKind, StorageFile};

impl Segment {
    /// Checks that the file can hold the bytes that the checkpoint lists.
    ///
    /// # Errors
    /// `MissingSegment` if the file does not exist; `Corrupt` if it is too short or not a file.
    pub(in crate::log) fn check_file(&self) -> Result<()> {
        let path = self.path(Extension::Log);
        match self.folder.storage.metadata(&path)? {
            None => Err(self.missing()),
            Some((FileKind::File, len)) if len >= self.len() => Ok(()),
            Some((FileKind::File, len)) => Err(self.cut_short(len)),
            Some(_) => Err(Error::corrupt(self.log_path(), 0, CorruptReason::Field)),
        }
    }

    /// Truncates the file to its hard length, so old batches cannot reappear after new ones (hazards H1 to
    /// H3). Returns the number of bytes removed, and the file, which must be synced before the first `Synced`
    /// acknowledgement. Returns `None` if the file is not longer.
    pub(in crate::log) fn cut_to_hard_length(&self) -> Result<Option<(u64, Arc<dyn StorageFile>)>> {
        let path = self.path(Extension::Log);
        let hard = self.len();
        let len = self.folder.storage.metadata(&path)?.map_or(hard, |(_, len)| len);
        if len <= hard {
            return Ok(None);
        }
        let file = self.file()?;
        file.set_len(hard)?;
        Ok(Some((len.saturating_sub(hard), file)))
    }

    /// Returns whether `path` is the path of one of the side files.
    pub(in crate::log) fn has_side_file(&self, path: &Path) -> bool {
        SIDE_FILES.iter().any(|extension| self.side_path(*extension) == path)
    }

    /// Returns whether one of the segment's files exists.
    pub(in crate::log) fn has_file(&self, extension: Extension) -> Result<bool> {
        Ok(self.folder.storage.metadata(&self.path(extension))?.is_some())
    }

    /// Removes the side files and rebuilds them from the log. Returns false if the log is missing or too
    /// short.
    pub(in crate::log) fn rebuild_side_files(self: &Arc<Self>) -> Result<bool> {
        match self.check_file() {
            Err(error) if error.is_corruption() => return Ok(false),
            other => other?,
        }
        for extension in SIDE_FILES {
            let path = self.path(extension);
            if self.folder.storage.metadata(&path)?.is_some() {
                self.folder.storage.remove(&path)?;
            }
        }
        *self.indexes.lock() = None;
        *self.running.lock() = None;
        self.load_indexes()?.builder.finish();
        // Sums of a damaged log would vouch for the damage.
        match self.running() {
            Ok(_) => {}
            Err(error) if error.is_corruption() => {}
            Err(error) => return Err(error),
        }
        self.flush_side_files()?;
        Ok(true)
    }
}

/// The side files, which can be rebuilt from the log.
const SIDE_FILES: [Extension; 3] = [Extension::Index, Extension::TimeIndex, Extension::Sums];
