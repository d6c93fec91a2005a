//! Keeps the failures of background work for `health`.

use parking_lot::Mutex;

use crate::error::Error;
use crate::types::TopicPartition;

/// Failures that no call has returned, each until the same work succeeds.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pub(super) checkpoint: Mutex<Option<Error>>,
    pub(super) deletion: Mutex<Option<Error>>,
    /// The first partition where the last check of retention failed.
    pub(super) retention: Mutex<Option<(TopicPartition, Error)>>,
    /// The first partition that the last round of compaction could not compact.
    pub(super) compaction: Mutex<Option<(TopicPartition, Error)>>,
    /// The topics whose idempotency ids could not be read.
    pub(super) damaged_ids: Vec<(String, Error)>,
}

impl Troubles {
    /// Creates the troubles of an opening that found these topics without their ids.
    pub(super) fn with_damaged_ids(damaged_ids: Vec<(String, Error)>) -> Self {
        Self { damaged_ids, ..Self::default() }
    }

    /// Notes the result of a checkpoint.
    pub(super) fn checkpoint(&self, result: Result<(), &Error>) {
        *self.checkpoint.lock() = result.err().cloned();
    }

    /// Notes the result of removing a deleted topic's files.
    pub(super) fn deletion(&self, result: Result<(), &Error>) {
        *self.deletion.lock() = result.err().cloned();
    }
}
