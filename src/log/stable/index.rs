//! What a scan has found.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::log::segment::Segment;
use crate::producer_state::{AbortedIndex, ControlBatch, ProducerStates};
use crate::record::BatchHeader;
use crate::types::{Timestamp, planted};

/// The most aborted transactions of a partition that a scan remembers, in about 64 MiB.
pub(super) const MAX_ABORTED: usize = 1 << 20;
/// The most producers that a scan remembers, in about 16 MiB. Beyond that it forgets those without an open
/// transaction.
pub(super) const MAX_PRODUCERS: usize = 1 << 16;

/// How long a producer is remembered that is idle: Kafka's default of `producer.id.expiration.ms`.
const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

/// The transactions of a partition.
#[derive(Debug, Default)]
pub(in crate::log) struct TransactionIndex {
    aborted: AbortedIndex,
    producers: ProducerStates,
    /// Whether a batch of a transaction was found.
    has_transactions: bool,
    /// Where the first damage or another limit of the scan is. Nothing behind it is in the index.
    trouble: Option<(i64, Error)>,
}

impl TransactionIndex {
    pub(super) fn new() -> Self {
        Self { producers: ProducerStates::new(1), ..Self::default() }
    }

    /// Takes the next batch of the log. `control` is what a control batch says.
    pub(super) fn take(&mut self, header: &BatchHeader, control: Option<ControlBatch>) {
        if header.producer_id < 0 {
            return;
        }
        self.has_transactions |= header.attributes.is_transactional();
        if self.trouble.is_some() {
            return;
        }
        let completed = self.producers.follow(header, control);
        if let Some(entry) = completed.and_then(|completed| completed.aborted) {
            self.aborted.insert(entry);
        }
        if self.producers.len() > MAX_PRODUCERS {
            self.producers.forget_idle(i64::MAX);
            self.bound(
                "open transactions in a partition",
                self.producers.len(),
                MAX_PRODUCERS,
                header,
            );
        }
        self.bound("aborted transactions in a partition", self.aborted.len(), MAX_ABORTED, header);
    }

    fn bound(&mut self, what: &'static str, found: usize, max: usize, header: &BatchHeader) {
        if found > max {
            let error = Error::LimitExceeded { what, found: found as u64, max: max as u64 };
            self.trouble = Some((header.base_offset, error));
        }
    }

    /// Takes note of damage that begins with the offset `first` (T5).
    pub(super) fn damaged(&mut self, first: i64, damage: Error) {
        self.trouble.get_or_insert((first, damage));
    }

    /// Returns whether more batches could change anything.
    pub(super) fn is_settled(&self) -> bool {
        self.trouble.is_some() && self.has_transactions
    }

    /// Finishes the index of a log that ends at `end`. Nothing from the damage on can be read.
    pub(super) fn finish(mut self, end: i64) -> Self {
        if !self.has_transactions {
            self.trouble = None;
        }
        let limit = self.producers.last_stable_offset(i64::MAX);
        if let Some((first, error)) = &mut self.trouble {
            *first = limit.min(*first);
            let lost = (*first, end.saturating_sub(1).max(*first));
            match error {
                Error::Corrupt(damage) => damage.offsets = Some(lost),
                Error::MissingSegment { offsets, .. } => *offsets = lost,
                _ => {}
            }
        }
        self
    }

    pub(super) fn is_plain(&self) -> bool {
        !self.has_transactions
    }

    /// Returns the last stable offset of a log that ends at `end`.
    ///
    /// # Errors
    /// What keeps the log from being read so far.
    pub(in crate::log) fn last_stable_offset(&self, end: i64) -> Result<i64> {
        match &self.trouble {
            Some((first, error)) if *first < end => Err(error.clone()),
            _ => Ok(self.producers.last_stable_offset(end)),
        }
    }

    /// Returns whether `position` lies below the last stable offset.
    ///
    /// # Errors
    /// What keeps the log from being read there.
    pub(super) fn is_stable(&self, position: i64) -> Result<bool> {
        match &self.trouble {
            Some((first, error)) if position >= *first => Err(error.clone()),
            _ => Ok(position < self.producers.last_stable_offset(i64::MAX)
                || planted("last_stable_offset_ignored")),
        }
    }

    /// Returns whether the transaction of a batch is aborted.
    pub(super) fn hides(&self, header: &BatchHeader) -> bool {
        self.aborted.transaction_of(header).is_some()
    }

    pub(in crate::log) fn aborted(&self) -> &AbortedIndex {
        &self.aborted
    }

    /// Returns the producers that have not expired at `now`.
    pub(in crate::log) fn producers(&self, now: Timestamp) -> ProducerStates {
        let mut producers = self.producers.clone();
        producers.forget_idle(now.as_millis().saturating_sub(PRODUCER_EXPIRATION_MS));
        producers
    }
}

/// Where the damage that an error tells begins, if it lies at or behind `offset`, and where a scan goes on.
pub(super) fn extent(error: &Error, offset: i64, segment: &Arc<Segment>) -> (i64, i64) {
    let whole = (offset, segment.end_offset().saturating_sub(1));
    let (first, last) = match error {
        Error::Corrupt(damage) => damage.offsets.unwrap_or(whole),
        Error::MissingSegment { offsets, .. } => *offsets,
        _ => whole,
    };
    (first.max(offset), last.max(offset).saturating_add(1))
}
