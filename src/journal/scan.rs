//! Finds the journal files with valid headers.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::io::ErrorKind;
use std::sync::Arc;

use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::types::planted;

use super::header::{Decoded, FileHeader, MAX_VERSION};
use super::slot::{list, read_header, slot_path};

/// One life of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) slot: u32,
    pub(super) header: FileHeader,
}

impl PartialEq for Life {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot && self.header.is_same_life(&other.header)
    }
}

impl Eq for Life {}

/// A file with a valid header.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) slot: u32,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) header: FileHeader,
}

impl Found {
    pub(super) fn life(&self) -> Life {
        Life { slot: self.slot, header: self.header }
    }

    /// Returns whether the file has lost bytes: its header tells a larger size.
    pub(super) fn is_short(&self) -> Result<bool> {
        Ok(u64::from(self.header.size) > self.file.len()?)
    }

    pub(super) fn corrupt(&self, position: u32, reason: CorruptReason) -> Error {
        Error::corrupt(self.file.path(), u64::from(position), reason)
    }
}

/// Returns all files with valid headers, ordered by sequence.
///
/// Skips files with an invalid header and files of another folder. A crash may have left a file that was
/// being prepared, in disk blocks of a removed file. If such a file should follow in the chain, replay
/// judges whether anything in it was durable.
pub(super) fn scan(storage: &dyn Storage, directory_id: [u8; 16]) -> Result<Vec<Found>> {
    let mut files: Vec<Found> = Vec::new();
    for (slot, _) in list(storage)? {
        let file = match storage.open(&slot_path(slot), OpenMode::Read) {
            Ok(file) => file,
            // The writer has just removed it. A file that replay needs is missed there.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match read_header(&*file, slot)? {
            Decoded::Unsupported(found) => return Err(unsupported(found).at(file.path(), 8)),
            Decoded::Valid(header)
                if header.directory_id == directory_id || planted("replay_foreign_file") =>
            {
                files.push(Found { slot, file, header });
            }
            Decoded::Invalid | Decoded::Valid(_) => {}
        }
    }
    files.sort_by_key(|file| file.header.sequence);
    let twice = files.array_windows().find(|[a, b]| a.header.sequence == b.header.sequence);
    if let Some([_, second]) = twice {
        return Err(second.corrupt(0, CorruptReason::Field));
    }
    Ok(files)
}

/// Checks the headers of all files for a version that this build does not know.
///
/// Needs no lock and changes nothing. Skips a file that cannot be read: the writer may just have removed it,
/// and replay reports other causes.
///
/// # Errors
/// `UnsupportedFormat` if another version wrote a file.
pub(crate) fn check_versions(storage: &dyn Storage) -> Result<()> {
    for (slot, _) in list(storage).unwrap_or_default() {
        let Ok(file) = storage.open(&slot_path(slot), OpenMode::Read) else { continue };
        if let Ok(Decoded::Unsupported(found)) = read_header(&*file, slot) {
            return Err(unsupported(found).at(file.path(), 8));
        }
    }
    Ok(())
}

/// Returns the error for a journal file of version `found`.
pub(super) fn unsupported(found: u32) -> Unreadable {
    Unreadable::unsupported("format version", found, MAX_VERSION)
}
