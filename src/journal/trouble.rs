//! Why there is no space: the results of the last attempts to make some.
//!
//! A thread that waits for space must tell *later* from *never*. Two things make space: preparing a file,
//! or a checkpoint that frees files. The journal retries both while a thread waits, so a full disk
//! ([`Error::is_retryable`]) only makes the wait longer. Every other failure (the folder is gone, the file
//! system is read-only, no file may be opened) ends the wait at once. Only attempts that ended after the
//! wait began count. So a wait never reports a cause that was mended before it began.

use crate::error::Error;
use crate::types::planted;

/// The failures of one kind of attempt, until one succeeds.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u64,
    error: Option<Error>,
}

impl Attempts {
    pub(super) fn fail(&mut self, error: Error) {
        self.failed += 1;
        self.error = Some(error);
    }

    pub(super) fn succeed(&mut self) {
        self.error = None;
    }

    /// Returns why the last attempt failed, or `None` if it succeeded.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Returns the number of attempts that failed so far. A wait notes it when it begins.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns the error that makes waiting useless, if an attempt failed with it after the first `failed`
    /// failures.
    pub(super) fn ended_after(&self, failed: u64) -> Option<&Error> {
        let new = self.failed > failed && !planted("wait_for_never");
        self.error.as_ref().filter(|error| new && !error.is_retryable())
    }
}

/// The failures that keep a journal from getting more space.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Attempts to prepare a file.
    pub(super) files: Attempts,
    /// Checkpoints, which free files.
    pub(super) checkpoints: Attempts,
}

/// One wait for space.
#[derive(Debug)]
pub(super) struct Wait {
    /// The end of the wait on the monotonic clock.
    pub(super) deadline: std::time::Duration,
    /// Whether the wait was counted as a stall. A stall raises the number of spares kept ready.
    pub(super) stalled: bool,
    /// Whether only a checkpoint can make the space, whichever files could be prepared.
    pub(super) needs_checkpoint: bool,
    /// The numbers of failed attempts of each kind when the wait began.
    began: Option<(u64, u64)>,
}

impl Wait {
    pub(super) fn until(deadline: std::time::Duration) -> Self {
        Self { deadline, stalled: false, needs_checkpoint: false, began: None }
    }

    /// Returns the failure that ends the wait, if there is one. `more` says whether a spare can be prepared
    /// without a checkpoint.
    pub(super) fn ended_by<'t>(&mut self, trouble: &'t Trouble, more: bool) -> Option<&'t Error> {
        let Trouble { files, checkpoints } = trouble;
        let (prepared, checkpointed) =
            *self.began.get_or_insert((files.failed(), checkpoints.failed()));
        let file = files.ended_after(prepared);
        let checkpoint = checkpoints.ended_after(checkpointed);
        // If no file can be prepared, only a checkpoint can still make space.
        let needed = self.needs_checkpoint || !more || files.error().is_some();
        file.or_else(|| checkpoint.filter(|_| needed))
    }
}
