use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// Opens a file that is not part of a grouplog folder, or is read as if it were not. Returns it with the
/// length that the system reports.
#[expect(clippy::disallowed_types, reason = "files of the user's own, which no storage holds")]
pub(crate) fn open(path: &Path) -> Result<(impl Read + use<>, u64), Failure> {
    let open = || {
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok((file, metadata.len()))
    };
    open().map_err(|error| cannot_read(path, &error))
}

/// Returns the failure for a file that cannot be read.
pub(crate) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("cannot read {}: {error}", path.display()))
}
