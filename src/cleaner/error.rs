use std::fmt;

use crate::error::Error;
use crate::record::DecodeError;

/// Why a cleaning pass ended early. The source is unchanged; what the sink has received is to be discarded.
#[derive(Debug)]
pub(crate) enum CleanError {
    /// A batch of the source cannot be decoded: it is damaged, exceeds the limit for decompression, or needs a
    /// codec that this build omits.
    Undecodable {
        /// The base offset of its segment.
        segment: i64,
        /// The position of the batch in the segment in bytes.
        position: u64,
        /// What is wrong. Its position is relative to the batch.
        error: DecodeError,
    },
    /// Reading, compressing or writing failed.
    Failed(Error),
    /// The memory for the map does not hold a single key, so no pass could make progress.
    MapTooSmall {
        /// The limit for the map in bytes.
        max_bytes: usize,
    },
    /// The caller asked to stop.
    Interrupted,
}

impl From<Error> for CleanError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for CleanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable { segment, position, error } => {
                write!(f, "batch at byte {position} of segment {segment}: {error}")
            }
            Self::Failed(error) => error.fmt(f),
            Self::MapTooSmall { max_bytes } => {
                write!(f, "a key map of {max_bytes} bytes does not hold a single key")
            }
            Self::Interrupted => f.write_str("the pass was interrupted"),
        }
    }
}

/// Why a batch cannot be cleaned, before its place in the log is added.
#[derive(Debug)]
pub(crate) enum BatchError {
    /// The batch cannot be decoded.
    Undecodable(DecodeError),
    /// The rebuilt batch cannot be made, or the sink failed.
    Failed(Error),
}

impl BatchError {
    /// Adds the place of the batch.
    pub(super) fn at(self, segment: i64, position: u64) -> CleanError {
        match self {
            Self::Undecodable(error) => CleanError::Undecodable { segment, position, error },
            Self::Failed(error) => CleanError::Failed(error),
        }
    }
}

impl From<DecodeError> for BatchError {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error)
    }
}

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
