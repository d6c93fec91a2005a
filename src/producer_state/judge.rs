//! Judging what clients and coordinators send (`ProducerAppendInfo`).
//!
//! A batch is judged in this order: duplicate, epoch, sequence, state of the transaction. A refused batch or marker
//! changes nothing.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::entry::{Entry, Remembered};
use super::states::Completed;
use super::{Marker, ProducerStates};

/// A data batch that a client sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Append {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// The sequence number of the first record.
    pub(crate) sequence: i32,
    /// The number of records, at least 1.
    pub(crate) count: i32,
    pub(crate) is_transactional: bool,
    /// Whether the client knows transactions v2 (KIP-890), which raise the epoch at the end of each transaction.
    pub(crate) is_v2: bool,
    /// The offset of the first record, if the batch is taken.
    pub(crate) offset: i64,
    /// The time of the append.
    pub(crate) now: i64,
}

/// A marker that a coordinator sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) marker: Marker,
    /// Whether the transaction is one of v2, whose marker carries the next epoch.
    pub(crate) is_v2: bool,
    /// The offset of the marker, if it is taken.
    pub(crate) offset: i64,
    /// The time of the append.
    pub(crate) now: i64,
}

/// How a batch was judged, if it was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It goes to the log.
    Taken,
    /// The log holds it already, at these offsets.
    Duplicate(i64, i64),
}

/// Why a batch or marker is refused. The names are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A newer epoch of the producer has written to the partition.
    InvalidProducerEpoch,
    /// The sequence numbers do not continue those of the last batch.
    OutOfOrderSequence,
    /// The batch is not transactional, but a transaction of its producer is open.
    InvalidTxnState,
    /// A newer coordinator has ended a transaction of the producer.
    TransactionCoordinatorFenced,
}

/// Returns the sequence number `count` after `sequence`. 0 follows 2147483647.
const fn after(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

impl ProducerStates {
    /// Judges a data batch, and takes it unless it is refused or a duplicate.
    pub(crate) fn append(&mut self, batch: &Append) -> Result<Judged, Refusal> {
        let last_sequence = after(batch.sequence, batch.count.saturating_sub(1));
        if let Some(entry) = self.entries.get(&batch.producer_id) {
            if let Some(known) = duplicate_of(entry, batch, last_sequence) {
                return Ok(Judged::Duplicate(known.first_offset, known.last_offset));
            }
            if batch.epoch < entry.epoch {
                return Err(Refusal::InvalidProducerEpoch);
            }
            check_sequence(entry, batch)?;
            if entry.open.is_some() && !batch.is_transactional {
                return Err(Refusal::InvalidTxnState);
            }
        } else if batch.is_v2 && batch.is_transactional && batch.sequence != 0 {
            return Err(Refusal::OutOfOrderSequence);
        }
        let keeps = self.keeps;
        let entry = self.enter(batch.producer_id, batch.epoch, batch.now);
        let first_offset = batch.offset;
        let last_offset = first_offset.saturating_add(i64::from(batch.count)).saturating_sub(1);
        let first_sequence = batch.sequence;
        let known = Remembered { first_sequence, last_sequence, first_offset, last_offset };
        entry.remember(known, keeps);
        if batch.is_transactional {
            self.begin(batch.producer_id, batch.offset);
        }
        Ok(Judged::Taken)
    }

    /// Judges a marker, and takes it unless it is refused. Returns the transaction that it completes.
    ///
    /// A marker of v2 has a higher epoch than the transaction's batches. One of the same epoch is the marker of
    /// an open transaction's predecessor, or the repetition of a request that was answered already. The latter
    /// succeeds.
    pub(crate) fn end(&mut self, end: &End) -> Result<Option<Completed>, Refusal> {
        if let Some(entry) = self.entries.get(&end.producer_id) {
            let repeated = end.epoch == entry.epoch && entry.open.is_none();
            if end.epoch < entry.epoch || end.is_v2 && end.epoch == entry.epoch && !repeated {
                return Err(Refusal::InvalidProducerEpoch);
            }
            if end.marker.coordinator_epoch < entry.coordinator_epoch {
                return Err(Refusal::TransactionCoordinatorFenced);
            }
        }
        self.enter(end.producer_id, end.epoch, end.now);
        Ok(self.complete(end.producer_id, end.marker, end.offset))
    }

    /// Forgets the producers that were idle for `idle` at the time `now`.
    pub(crate) fn expire(&mut self, now: i64, idle: i64) {
        self.forget_idle(now.saturating_sub(idle).saturating_add(1));
    }

    /// Returns what a restart keeps if it remembers `keeps` batches of each producer. Kafka's snapshot files hold
    /// one.
    pub(crate) fn restarted(mut self, keeps: usize) -> Self {
        self.entries.values_mut().for_each(|entry| entry.forget_oldest(keeps));
        self
    }
}

/// Returns the batch with the same epoch and the same sequence numbers.
fn duplicate_of<'a>(
    entry: &'a Entry,
    batch: &Append,
    last_sequence: i32,
) -> Option<&'a Remembered> {
    let same = |known: &&Remembered| {
        known.first_sequence == batch.sequence && known.last_sequence == last_sequence
    };
    if entry.epoch == batch.epoch { entry.batches.iter().find(same) } else { None }
}

/// Checks that a batch continues where the last one of its epoch ended, or begins with 0.
fn check_sequence(entry: &Entry, batch: &Append) -> Result<(), Refusal> {
    let last = entry.batches.back().filter(|_| entry.epoch == batch.epoch);
    let expected = last.map_or(0, |last| after(last.last_sequence, 1));
    if batch.sequence == expected { Ok(()) } else { Err(Refusal::OutOfOrderSequence) }
}
