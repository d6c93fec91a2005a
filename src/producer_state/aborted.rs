#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::record::BatchHeader;

/// An entry of a transaction index (`AbortedTxn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    /// The producer of the transaction.
    pub(crate) producer_id: i64,
    /// The offset of the transaction's first record in the partition.
    pub(crate) first_offset: i64,
    /// The offset of the ABORT marker.
    pub(crate) last_offset: i64,
    /// The last stable offset when the marker was appended.
    pub(crate) last_stable_offset: i64,
}

/// The aborted transactions of a partition: the entries of the transaction indexes of all its segments.
///
/// A transaction may begin in an earlier segment than the one whose index names it. So the cleaner needs the
/// entries of all segments that it reads, and of all after them up to the last stable offset.
#[derive(Debug, Clone, Default)]
pub(crate) struct AbortedIndex(BTreeMap<(i64, i64), AbortedTransaction>);

impl AbortedIndex {
    /// Adds an entry.
    pub(crate) fn insert(&mut self, entry: AbortedTransaction) {
        self.0.insert((entry.producer_id, entry.last_offset), entry);
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the aborted transaction that a data batch belongs to.
    ///
    /// The first marker of a producer behind a batch decides about the batch. So a transaction that was
    /// aborted later, or one whose marker lies before the batch, says nothing about it.
    pub(crate) fn transaction_of(&self, header: &BatchHeader) -> Option<&AbortedTransaction> {
        if !header.attributes.is_transactional() {
            return None;
        }
        let producer = header.producer_id;
        let markers = (producer, header.base_offset)..=(producer, i64::MAX);
        let (_, next) = self.0.range(markers).next()?;
        (next.first_offset <= header.last_offset()).then_some(next)
    }

    /// Returns the aborted transaction that ends with the ABORT marker of this producer and offset.
    pub(crate) fn ended_by(&self, producer: i64, marker: i64) -> Option<&AbortedTransaction> {
        self.0.get(&(producer, marker))
    }
}

impl FromIterator<AbortedTransaction> for AbortedIndex {
    fn from_iter<I: IntoIterator<Item = AbortedTransaction>>(entries: I) -> Self {
        let mut index = Self::default();
        entries.into_iter().for_each(|entry| index.insert(entry));
        index
    }
}
