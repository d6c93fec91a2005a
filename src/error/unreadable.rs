//! Why stored bytes cannot be decoded: damage, or a newer version.
//!
//! Decoders see bytes and no file, so they return this type. [`Unreadable::at`] adds the place.

use std::path::Path;

use super::{CorruptReason, Error};

/// Why bytes cannot be decoded, although their checksum is right or they have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The bytes are damaged or torn, or are not what the reader expects.
    Corrupt(CorruptReason),
    /// The bytes are intact. A version that this build does not know wrote them.
    Unsupported(Unsupported),
}

/// What this build does not know. The fields are those of [`Error::UnsupportedFormat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) what: String,
    pub(crate) found: u32,
    pub(crate) max: u32,
}

impl Unreadable {
    /// Creates the error for `what`, whose number is above those that this build knows.
    pub(crate) fn unsupported(
        what: impl Into<String>,
        found: impl Into<u32>,
        max: impl Into<u32>,
    ) -> Self {
        Self::Unsupported(Unsupported { what: what.into(), found: found.into(), max: max.into() })
    }

    /// Adds the file and the position in it.
    pub(crate) fn at(self, path: &Path, position: u64) -> Error {
        match self {
            Self::Corrupt(reason) => Error::corrupt(path, position, reason),
            Self::Unsupported(Unsupported { what, found, max }) => {
                Error::UnsupportedFormat { path: path.to_owned(), what, found, max }
            }
        }
    }
}

impl From<CorruptReason> for Unreadable {
    fn from(reason: CorruptReason) -> Self {
        Self::Corrupt(reason)
    }
}
