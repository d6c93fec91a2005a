//! What a pass learns about transactions while it copies batches (`CleanedTransactionMetadata`).
//!
//! A marker may leave only when no data batch of its transaction is left, not even a header-only one. Readers
//! and a later rebuild of the transaction index would otherwise see data without an end. The pass reads all
//! segments from the log start on, so it has seen every batch of a transaction when it meets the marker.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::producer_state::{AbortedIndex, AbortedTransaction, ControlBatch, Marker};
use crate::record::{BatchHeader, DecodeError};

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
            Ok(match ControlBatch::read(header, payload)? {
                ControlBatch::Emptied => Verdict::MarkerWithoutData,
                ControlBatch::End(marker) => self.on_marker(header, marker),
                ControlBatch::Other => Verdict::Ordinary,
            })
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

    fn on_marker(&mut self, header: &BatchHeader, marker: Marker) -> Verdict {
        let (producer, offset) = (header.producer_id, header.base_offset);
        if marker.aborts
            && self.with_aborted_data.remove(&(producer, offset))
            && let Some(transaction) = self.aborted.ended_by(producer, offset)
        {
            return Verdict::AbortMarker(*transaction);
        }
        // Data that the index does not call aborted is kept, so its marker stays with it.
        self.unless_with_data(producer)
    }

    fn unless_with_data(&mut self, producer: i64) -> Verdict {
        if self.with_data.remove(&producer) {
            Verdict::Ordinary
        } else {
            Verdict::MarkerWithoutData
        }
    }
}
