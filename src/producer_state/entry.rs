//! The state of one producer in one partition (`ProducerStateEntry`).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::VecDeque;

/// A data batch of a producer, as far as its entry remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
}

/// What is known of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) epoch: i16,
    /// The last batches of this epoch, the oldest first. Empty if only markers came since the epoch changed.
    pub(super) batches: VecDeque<Remembered>,
    /// The highest epoch of a coordinator that has ended a transaction, or -1.
    pub(super) coordinator_epoch: i32,
    /// The time of the last batch or marker.
    pub(super) last_timestamp: i64,
    /// The first offset of the open transaction.
    pub(super) open: Option<i64>,
}

impl Entry {
    /// Creates the entry of a producer that was unknown.
    pub(super) const fn new(epoch: i16) -> Self {
        Self {
            epoch,
            batches: VecDeque::new(),
            coordinator_epoch: -1,
            last_timestamp: -1,
            open: None,
        }
    }

    /// Changes to the epoch of a batch or marker (P4).
    pub(super) fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }

    /// Remembers a data batch of the present epoch, and at most `keeps` of the last ones.
    pub(super) fn remember(&mut self, batch: Remembered, keeps: usize) {
        self.batches.push_back(batch);
        self.forget_oldest(keeps);
    }

    /// Forgets all but the last `keeps` batches.
    pub(super) fn forget_oldest(&mut self, keeps: usize) {
        let surplus = self.batches.len().saturating_sub(keeps);
        self.batches.drain(..surplus);
    }
}
