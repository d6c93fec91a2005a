use parking_lot::Mutex;

use crate::error::Error;

/// What went wrong where nobody was told, until it goes right.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pub(super) checkpoint: Mutex<Option<Error>>,
    pub(super) deletion: Mutex<Option<Error>>,
}

impl Troubles {
    /// Takes note of how a checkpoint went.
    pub(super) fn checkpoint(&self, result: Result<(), &Error>) {
        *self.checkpoint.lock() = result.err().cloned();
    }

    /// Takes note of how removing a deleted topic's files went.
    pub(super) fn deletion(&self, result: Result<(), &Error>) {
        *self.deletion.lock() = result.err().cloned();
    }
}
