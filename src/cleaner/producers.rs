//! The state of producers that only segments hold.
//!
//! A producer with sequences continues after the last sequence of its last batch. So that batch must stay, if
//! only as a header. A producer that has only written markers since its epoch changed is known by its last
//! marker, which must stay too.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::record::BatchHeader;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastBatch {
    epoch: i16,
    /// The last offset of the last data batch in this epoch.
    last_data_offset: Option<i64>,
}

/// The producers whose state has not expired.
///
/// Complete once it has seen the headers of all batches of the partition, those of the active segment
/// included. Then the caller removes the producers that have expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ActiveProducers(BTreeMap<i64, LastBatch>);

impl ActiveProducers {
    /// Creates a set without producers.
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes the next batch in the order of offsets.
    ///
    /// A marker of transactions v2 carries the next epoch. It then makes the data of the older epoch
    /// forgettable.
    #[cfg_attr(
        not(any(test, feature = "__internal")),
        expect(dead_code, reason = "batches of this engine have no producer ids")
    )]
    pub(crate) fn on_batch(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let is_control = header.attributes.is_control();
        let epoch = header.producer_epoch;
        let last =
            self.0.entry(header.producer_id).or_insert(LastBatch { epoch, last_data_offset: None });
        if last.epoch != epoch {
            *last = LastBatch { epoch, last_data_offset: None };
        }
        if !is_control {
            last.last_data_offset = Some(header.last_offset());
        }
    }

    /// Removes the producers for which `is_active` is false.
    #[cfg(test)]
    pub(crate) fn retain(&mut self, mut is_active: impl FnMut(i64) -> bool) {
        self.0.retain(|producer, _| is_active(*producer));
    }

    /// Returns whether the state of a producer is in this batch.
    pub(super) fn are_held_by(&self, header: &BatchHeader) -> bool {
        let is_control = header.attributes.is_control();
        self.0.get(&header.producer_id).is_some_and(|last| match last.last_data_offset {
            Some(offset) => !is_control && header.last_offset() == offset,
            None => is_control && header.producer_epoch == last.epoch,
        })
    }
}
