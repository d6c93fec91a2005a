//! The records of a frame.

use std::sync::Arc;

use crate::engine::state::Engine;
use crate::log::{Log, RecordData, STORED_SECTION_BOUND, frame_bound};
use crate::types::planted;

/// A record that a frame carries.
pub(crate) trait FrameRecord {
    fn data(&self) -> RecordData<'_>;
}

impl<R: FrameRecord> FrameRecord for &R {
    fn data(&self) -> RecordData<'_> {
        (**self).data()
    }
}

impl FrameRecord for RecordData<'_> {
    fn data(&self) -> RecordData<'_> {
        *self
    }
}

/// The records of a frame, each with its partition.
#[derive(Debug)]
pub(crate) struct FrameRecords<R> {
    /// The partitions, each once. After [`FrameRecords::sort`] they are ordered by number: the order in which
    /// they are locked.
    pub(crate) logs: Vec<Arc<Log>>,
    /// Each record with the index of its partition in `logs`.
    pub(crate) records: Vec<(usize, R)>,
    /// For each partition an upper bound for the size of its encoded records in bytes.
    pub(crate) sizes: Vec<usize>,
    /// How many of the records have an idempotency id.
    pub(crate) ids: usize,
}

impl<R: FrameRecord> FrameRecords<R> {
    /// Creates the records of a frame with one record, which takes at most `bound` bytes.
    pub(crate) fn of_one(log: Arc<Log>, bound: usize, record: R) -> Self {
        let ids = usize::from(record.data().id.is_some());
        Self { logs: vec![log], records: vec![(0, record)], sizes: vec![bound], ids }
    }
}

impl<R> FrameRecords<R> {
    /// Returns the partitions that get records. Those of the others are only expected to end somewhere.
    pub(super) fn appended(&self) -> Vec<Arc<Log>> {
        let all = self.logs.iter().zip(&self.sizes);
        let gets = |size: usize| size > 0 || planted("policy_of_expected_counts");
        all.filter(|(_, size)| gets(**size)).map(|(log, _)| Arc::clone(log)).collect()
    }

    /// Returns an upper bound for the payload of the frame, if the `large` ones of the appends are stored.
    pub(super) fn frame_bound(&self, engine: &Engine, large: &[bool]) -> usize {
        let small = self.sizes.iter().zip(large).filter(|(_, large)| !**large);
        let (count, bytes) = small.fold((0_usize, 0_usize), |(count, bytes), (size, _)| {
            (count.saturating_add(1), bytes.saturating_add(*size))
        });
        let stored = large.len().saturating_sub(count).saturating_mul(STORED_SECTION_BOUND);
        frame_bound(bytes, count, engine.logs.batch_size).saturating_add(stored)
    }

    /// Sorts the partitions into the order in which they are locked. Returns where each of them went, or
    /// `None` if they were in order.
    pub(crate) fn sort(&mut self) -> Option<Vec<usize>> {
        if self.logs.is_sorted_by_key(|log| log.number()) {
            return None;
        }
        let mut order: Vec<usize> = (0..self.logs.len()).collect();
        order.sort_unstable_by_key(|&at| self.logs.get(at).map(|log| log.number()));
        let mut moved = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            if let Some(slot) = moved.get_mut(from) {
                *slot = to;
            }
        }
        self.logs.sort_unstable_by_key(|log| log.number());
        self.sizes = order.iter().filter_map(|&from| self.sizes.get(from).copied()).collect();
        for (at, _) in &mut self.records {
            *at = moved.get(*at).copied().unwrap_or(*at);
        }
        Some(moved)
    }
}
