use std::fmt;
use std::path::Path;

use super::Compression;
use crate::error::{CorruptReason, Error};

/// Why bytes are not a batch, a record or a compressed payload.
///
/// Small and `Copy`, because the functions that return it run once per record. It contains no file
/// name. A caller that knows the file converts it into an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are damaged.
    Corrupt {
        /// What is wrong.
        reason: CorruptReason,
        /// The position in bytes from the start of the given slice.
        position: usize,
    },
    /// A payload decompresses to more than the given limit.
    LimitExceeded {
        /// The limit, in bytes.
        max: usize,
    },
    /// The payload is compressed with a codec that this build omits.
    UnsupportedCodec(Compression),
}

impl DecodeError {
    /// Creates the error for damage at `position`.
    #[inline]
    pub(crate) const fn corrupt(reason: CorruptReason, position: usize) -> Self {
        Self::Corrupt { reason, position }
    }

    /// Returns the same damage relative to a slice that starts `bytes` earlier.
    pub(crate) const fn shifted(self, bytes: usize) -> Self {
        match self {
            Self::Corrupt { reason, position } => {
                Self::Corrupt { reason, position: position.saturating_add(bytes) }
            }
            other => other,
        }
    }

    /// Converts into the crate's error for a batch that begins at byte `batch` of the file `path`.
    ///
    /// Drops the position inside the batch. [`crate::Corruption::position`] names the batch, which
    /// is the unit that can be inspected, truncated or skipped.
    pub(crate) fn into_error(self, path: &Path, batch: u64) -> Error {
        match self {
            Self::Corrupt { reason, .. } => Error::corrupt(path, batch, reason),
            Self::LimitExceeded { max } => Error::LimitExceeded {
                what: "bytes of a decompressed batch",
                found: (max as u64).saturating_add(1),
                max: max as u64,
            },
            Self::UnsupportedCodec(codec) => Error::UnsupportedCodec { codec: codec.name() },
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { reason, position } => write!(f, "damaged at byte {position}: {reason}"),
            Self::LimitExceeded { max } => {
                write!(f, "decompressed batch exceeds the limit of {max} bytes")
            }
            Self::UnsupportedCodec(codec) => {
                write!(f, "codec {codec} is not built in: enable the cargo feature \"{codec}\"")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_as_small_as_two_words() {
        assert!(size_of::<DecodeError>() <= 16, "{}", size_of::<DecodeError>());
    }

    #[test]
    fn it_becomes_the_error_of_the_crate_with_the_batchs_position() {
        let path = Path::new("t-0/0.log");
        let damaged = DecodeError::corrupt(CorruptReason::Varint, 7).shifted(61);
        assert_eq!(damaged, DecodeError::corrupt(CorruptReason::Varint, 68));
        match damaged.into_error(path, 4096) {
            Error::Corrupt(c) => assert_eq!((c.position, c.reason), (4096, CorruptReason::Varint)),
            other => panic!("{other:?}"),
        }
        let limit = DecodeError::LimitExceeded { max: 10 }.shifted(1).into_error(path, 0);
        assert!(matches!(limit, Error::LimitExceeded { found: 11, max: 10, .. }), "{limit:?}");
        let codec = DecodeError::UnsupportedCodec(Compression::Lz4).into_error(path, 0);
        assert!(matches!(codec, Error::UnsupportedCodec { codec: "lz4" }), "{codec:?}");
    }
}
