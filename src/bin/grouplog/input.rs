use std::io::{self, Read};
use std::path::Path;

use crate::failure::Failure;

/// Opens a file that is not part of a grouplog folder, or is looked at as if it were not; and its
/// length, as far as the system knows it.
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

/// The failure to read a file.
pub(crate) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("cannot read {}: {error}", path.display()))
}
