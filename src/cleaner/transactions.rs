//! What a pass learns about transactions while it copies batches (`CleanedTransactionMetadata`).
//!
//! A marker may leave only when no data batch of its transaction is left, not even a header-only one. Readers
//! and a later rebuild of the transaction index would otherwise see data without an end. The pass reads all
//! segments from the log start on, so it has seen every batch of a transaction when it meets the marker.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::{AbortedIndex, AbortedTransaction};
use crate::error::CorruptReason;
use crate::record::{BatchHeader, ControlType, DecodeError, read_record};

/// The state of transactions in one pass. Takes the batches in the order of their offsets.
#[derive(Debug)]
pub(super) struct Transactions<'a> {
    aborted: &'a AbortedIndex,
    /// Producer and marker of the aborted transactions whose data was seen.
    with_aborted_data: BTreeSet<(i64, i64)>,
    /// Producers with data of a transaction that is not aborted, before its marker.
    with_data: BTreeSet<i64>,
}

/// What its transaction says about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Records of no transaction or of a committed one, or a control batch that must stay.
    Ordinary,
    /// Records of an aborted transaction.
    AbortedData,
    /// An ABORT marker that must stay, since data of its transaction was seen.
    AbortMarker(AbortedTransaction),
    /// A marker whose transaction has no data left, or a control batch that an earlier pass emptied.
    MarkerWithoutData,
}

impl<'a> Transactions<'a> {
    pub(super) const fn new(aborted: &'a AbortedIndex) -> Self {
        Self { aborted, with_aborted_data: BTreeSet::new(), with_data: BTreeSet::new() }
    }

    /// Takes the next batch. `payload` is its decompressed and checked payload.
    pub(super) fn on_batch(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
    ) -> Result<Verdict, DecodeError> {
        if header.attributes.is_control() {
            let kind = control_type(header, payload)?;
            Ok(kind.map_or(Verdict::MarkerWithoutData, |kind| self.on_marker(header, kind)))
        } else {
            Ok(self.on_data(header))
        }
    }

    fn on_data(&mut self, header: &BatchHeader) -> Verdict {
        if !header.attributes.is_transactional() {
            return Verdict::Ordinary;
        }
        if let Some(transaction) = self.aborted.transaction_of(header) {
            self.with_aborted_data.insert((transaction.producer_id, transaction.last_offset));
            return Verdict::AbortedData;
        }
        self.with_data.insert(header.producer_id);
        Verdict::Ordinary
    }

    fn on_marker(&mut self, header: &BatchHeader, kind: ControlType) -> Verdict {
        let producer = header.producer_id;
        match kind {
            ControlType::Abort => {
                let marker = (producer, header.base_offset);
                if self.with_aborted_data.remove(&marker)
                    && let Some(transaction) = self.aborted.ended_by(producer, header.base_offset)
                {
                    return Verdict::AbortMarker(*transaction);
                }
                // Data that the index does not call aborted is kept, so its marker stays with it.
                self.unless_with_data(producer)
            }
            ControlType::Commit => self.unless_with_data(producer),
            // Types that do not end a transaction.
            _ => Verdict::Ordinary,
        }
    }

    fn unless_with_data(&mut self, producer: i64) -> Verdict {
        if self.with_data.remove(&producer) {
            Verdict::Ordinary
        } else {
            Verdict::MarkerWithoutData
        }
    }
}

/// Returns the type of a control batch, or `None` if an earlier pass emptied it.
fn control_type(header: &BatchHeader, payload: &[u8]) -> Result<Option<ControlType>, DecodeError> {
    if header.count == 0 {
        return Ok(None);
    }
    let (record, _) = read_record(payload, 0)?;
    match record.key.get(payload) {
        Some(key) => ControlType::parse(key).map(Some),
        None => Err(DecodeError::corrupt(CorruptReason::Length, 0)),
    }
}
