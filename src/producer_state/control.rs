//! What a control batch says about the transaction of its producer.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::CorruptReason;
use crate::record::{BatchHeader, ControlType, DecodeError, EndTransactionMarker, read_record};

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Whether the transaction is aborted, not committed.
    pub(crate) aborts: bool,
    /// Epoch of the coordinator that ended the transaction.
    pub(crate) coordinator_epoch: i32,
}

/// A control batch, as far as transactions are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlBatch {
    /// A pass of compaction has removed the marker, because no batch of its transaction is left.
    Emptied,
    /// A marker.
    End(Marker),
    /// A control record that ends no transaction.
    Other,
}

impl ControlBatch {
    /// Reads a control batch. `payload` is its decompressed payload, whose checksum is checked.
    pub(crate) fn read(header: &BatchHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.count == 0 {
            return Ok(Self::Emptied);
        }
        // A marker is the only record of its batch.
        let (record, _) = read_record(payload, 0)?;
        let missing = || DecodeError::corrupt(CorruptReason::Length, 0);
        let aborts = match ControlType::parse(record.key.get(payload).ok_or_else(missing)?)? {
            ControlType::Abort => true,
            ControlType::Commit => false,
            _ => return Ok(Self::Other),
        };
        let value = record.value.get(payload).ok_or_else(missing)?;
        let coordinator_epoch = EndTransactionMarker::parse(value)?.coordinator_epoch;
        Ok(Self::End(Marker { aborts, coordinator_epoch }))
    }
}
