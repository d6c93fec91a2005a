//! What opening a folder makes of a segment's file.

use std::sync::Arc;

use super::Segment;
use crate::error::{CorruptReason, Error, Result};
use crate::segment::Extension;
use crate::storage::{FileKind, StorageFile};

impl Segment {
    /// Whether the file can hold what the checkpoint says of it.
    pub(in crate::log) fn check_file(&self) -> Result<()> {
        let path = self.path(Extension::Log);
        match self.folder.storage.metadata(&path)? {
            None => Err(self.missing()),
            Some((FileKind::File, len)) if len >= self.len() => Ok(()),
            Some((FileKind::File, len)) => {
                Err(Error::Corrupt(Box::new(crate::error::Corruption {
                    path: self.log_path(),
                    position: len,
                    partition: Some(self.folder.partition.clone()),
                    offsets: Some((self.base_offset, self.end_offset() - 1)),
                    reason: CorruptReason::Short,
                })))
            }
            Some(_) => Err(Error::corrupt(self.log_path(), 0, CorruptReason::Field)),
        }
    }

    /// Cuts what lies above the hard length, where old batches must not show again behind new ones
    /// (hazards H1 to H3): the bytes cut, and the file, to be synced before the first `Synced` ack.
    pub(in crate::log) fn cut_to_hard_length(&self) -> Result<Option<(u64, Arc<dyn StorageFile>)>> {
        let path = self.path(Extension::Log);
        let hard = self.len();
        let len = self.folder.storage.metadata(&path)?.map_or(hard, |(_, len)| len);
        if len <= hard {
            return Ok(None);
        }
        let file = self.file()?;
        file.set_len(hard)?;
        Ok(Some((len - hard, file)))
    }
}
