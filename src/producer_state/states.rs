//! The producers of a partition, taken batch by batch.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Remembered};
use super::{AbortedTransaction, ControlBatch, Marker};
use crate::record::BatchHeader;

/// The producers that a partition knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerStates {
    pub(super) entries: BTreeMap<i64, Entry>,
    /// First offset and producer of each open transaction.
    open: BTreeSet<(i64, i64)>,
    /// How many batches of each producer are remembered.
    pub(super) keeps: usize,
}

/// A transaction that a marker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Completed {
    /// The offset of its first record.
    pub(crate) first_offset: i64,
    /// The offset of the marker.
    pub(crate) last_offset: i64,
    /// The entry of the transaction index, if it was aborted.
    pub(crate) aborted: Option<AbortedTransaction>,
}

impl ProducerStates {
    /// Creates the state of an empty partition. A leader remembers five batches of each producer. One is enough to
    /// follow a log.
    pub(crate) fn new(keeps: usize) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// Takes the next batch of a log and judges nothing. `control` is what a control batch says.
    ///
    /// Returns the transaction that it completes.
    pub(crate) fn follow(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlBatch>,
    ) -> Option<Completed> {
        let producer = header.producer_id;
        if producer < 0 {
            return None;
        }
        match control {
            None => {
                let batch = Remembered {
                    first_sequence: header.base_sequence,
                    last_sequence: header.last_sequence(),
                    first_offset: header.base_offset,
                    last_offset: header.last_offset(),
                };
                let keeps = self.keeps;
                let entry = self.enter(producer, header.producer_epoch, header.max_timestamp);
                entry.remember(batch, keeps);
                if header.attributes.is_transactional() {
                    self.begin(producer, header.base_offset);
                }
                None
            }
            Some(ControlBatch::End(marker)) => {
                self.enter(producer, header.producer_epoch, header.max_timestamp);
                self.complete(producer, marker, header.base_offset)
            }
            // Without its record it only tells the epoch.
            Some(ControlBatch::Emptied | ControlBatch::Other) => {
                self.enter(producer, header.producer_epoch, header.max_timestamp);
                None
            }
        }
    }

    /// Returns the last stable offset of a log that ends at `end` (P2).
    pub(crate) fn last_stable_offset(&self, end: i64) -> i64 {
        self.open.first().map_or(end, |(first, _)| *first)
    }

    /// Returns the number of known producers.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets the producers whose last batch or marker is from before `since`, unless a transaction of theirs is
    /// open (P5).
    pub(crate) fn forget_idle(&mut self, since: i64) {
        self.entries.retain(|_, entry| entry.open.is_some() || entry.last_timestamp >= since);
    }

    /// Returns whether the state of a producer is in this batch alone, so that a log must keep its header.
    ///
    /// A producer with sequences continues after its last data batch. One that has only written markers since its
    /// epoch changed is known by a marker of this epoch.
    pub(crate) fn are_held_by(&self, header: &BatchHeader) -> bool {
        let is_control = header.attributes.is_control();
        let Some(entry) = self.entries.get(&header.producer_id) else { return false };
        match entry.batches.back() {
            Some(last) => !is_control && header.last_offset() == last.last_offset,
            None => is_control && header.producer_epoch == entry.epoch,
        }
    }

    /// Returns the entry of a producer, in this epoch.
    pub(super) fn enter(&mut self, producer: i64, epoch: i16, timestamp: i64) -> &mut Entry {
        let entry = self.entries.entry(producer).or_insert_with(|| Entry::new(epoch));
        entry.enter(epoch);
        entry.last_timestamp = timestamp;
        entry
    }

    /// Begins a transaction, unless one is open (P1).
    pub(super) fn begin(&mut self, producer: i64, first_offset: i64) {
        let Some(entry) = self.entries.get_mut(&producer) else { return };
        if entry.open.is_none() {
            entry.open = Some(first_offset);
            self.open.insert((first_offset, producer));
        }
    }

    /// Ends the open transaction of a producer, if there is one.
    pub(super) fn complete(
        &mut self,
        producer: i64,
        marker: Marker,
        last_offset: i64,
    ) -> Option<Completed> {
        let entry = self.entries.get_mut(&producer)?;
        entry.coordinator_epoch = marker.coordinator_epoch;
        let first_offset = entry.open.take()?;
        self.open.remove(&(first_offset, producer));
        let aborted = marker.aborts.then(|| AbortedTransaction {
            producer_id: producer,
            first_offset,
            last_offset,
            last_stable_offset: self.last_stable_offset(last_offset.saturating_add(1)),
        });
        Some(Completed { first_offset, last_offset, aborted })
    }
}

// What only tests ask.
#[cfg(test)]
impl ProducerStates {
    /// Forgets a producer, and its open transaction.
    pub(crate) fn forget(&mut self, producer: i64) {
        if let Some(Entry { open: Some(first), .. }) = self.entries.remove(&producer) {
            self.open.remove(&(first, producer));
        }
    }

    /// Returns the first offset of a producer's open transaction.
    pub(crate) fn open_transaction(&self, producer: i64) -> Option<i64> {
        self.entries.get(&producer).and_then(|entry| entry.open)
    }

    /// Returns the ids of the known producers, in order.
    pub(crate) fn known(&self) -> Vec<i64> {
        self.entries.keys().copied().collect()
    }

    /// Returns what a later scan of the log must find again, even if compaction has removed records: producer,
    /// epoch, and the last offset of the last data batch of that epoch.
    pub(crate) fn held(&self) -> Vec<(i64, i16, Option<i64>)> {
        let held = |(id, entry): (&i64, &Entry)| {
            (*id, entry.epoch, entry.batches.back().map(|last| last.last_offset))
        };
        self.entries.iter().map(held).collect()
    }
}
