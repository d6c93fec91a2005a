//! Control records, which brokers write between the records of producers.
//!
//! ```text
//! key                                        value of ABORT and COMMIT (EndTransactionMarker)
//! 0  2  i16  version, 0 or more              0  2  i16  version, 0 or more
//! 2  2  i16  type                            2  4  i32  epoch of the transaction coordinator
//! ```
//!
//! A higher version may append fields, which the parser ignores. A negative version is damage.
//! grouplog writes no control records: its transactions are one journal frame. They occur in
//! segments that a Kafka broker wrote. Consumers do not get them, but each takes an offset.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::DecodeError;
use crate::error::CorruptReason;

/// The type of a control record (`ControlRecordType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlType {
    /// The transaction of the batch's producer is aborted.
    Abort,
    /// The transaction of the batch's producer is committed.
    Commit,
    /// A new leader was elected. Like the following types, only in the metadata log.
    LeaderChange,
    /// A snapshot begins.
    SnapshotHeader,
    /// A snapshot ends.
    SnapshotFooter,
    /// The version of the quorum protocol changed.
    KraftVersion,
    /// The set of voters changed.
    KraftVoters,
    /// A type that this version does not know. Readers skip it.
    Unknown(i16),
}

impl ControlType {
    /// Parses the type from the key of a control record.
    pub fn parse(key: &[u8]) -> Result<Self, DecodeError> {
        let (_, rest) = read_version(key)?;
        let Some(kind) = rest.first_chunk() else {
            return Err(DecodeError::corrupt(CorruptReason::Length, key.len()));
        };
        Ok(match i16::from_be_bytes(*kind) {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KraftVersion,
            6 => Self::KraftVoters,
            other => Self::Unknown(other),
        })
    }
}

/// The value of an ABORT or COMMIT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EndTransactionMarker {
    /// Epoch of the coordinator that ended the transaction.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// Parses the value of an ABORT or COMMIT record.
    pub fn parse(value: &[u8]) -> Result<Self, DecodeError> {
        let (_, rest) = read_version(value)?;
        let Some(epoch) = rest.first_chunk() else {
            return Err(DecodeError::corrupt(CorruptReason::Length, value.len()));
        };
        Ok(Self { coordinator_epoch: i32::from_be_bytes(*epoch) })
    }
}

fn read_version(bytes: &[u8]) -> Result<(i16, &[u8]), DecodeError> {
    let Some((version, rest)) = bytes.split_first_chunk() else {
        return Err(DecodeError::corrupt(CorruptReason::Length, bytes.len()));
    };
    let version = i16::from_be_bytes(*version);
    if version < 0 {
        return Err(DecodeError::corrupt(CorruptReason::Field, 0));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_type_and_newer_versions_are_read_as_far_as_known() {
        assert_eq!(ControlType::parse(&[0, 0, 0, 0]), Ok(ControlType::Abort));
        assert_eq!(ControlType::parse(&[0, 0, 0, 1]), Ok(ControlType::Commit));
        assert_eq!(ControlType::parse(&[0, 9, 0, 2, 1, 2]), Ok(ControlType::LeaderChange));
        assert_eq!(ControlType::parse(&[0, 0, 0xFF, 0xFE]), Ok(ControlType::Unknown(-2)));
        let marker = EndTransactionMarker::parse(&[0, 1, 0, 0, 1, 2, 9]).unwrap();
        assert_eq!(marker.coordinator_epoch, 258);
    }

    #[test]
    fn short_and_negative_are_damage() {
        let error = |reason, at| Err(DecodeError::corrupt(reason, at));
        assert_eq!(ControlType::parse(&[0]), error(CorruptReason::Length, 1));
        assert_eq!(ControlType::parse(&[0, 0, 0]), error(CorruptReason::Length, 3));
        assert_eq!(ControlType::parse(&[0x80, 0, 0, 0]), error(CorruptReason::Field, 0));
        let short = EndTransactionMarker::parse(&[0, 0, 0, 0, 0]);
        assert_eq!(short, Err(DecodeError::corrupt(CorruptReason::Length, 5)));
    }
}
