//! Why there is no space: what became of the last attempts to make some.
//!
//! A thread that waits for space must tell *later* from *never*. Two things make space: a file is
//! prepared, or a checkpoint gives files back. Both are tried again for as long as somebody waits, so a
//! full disk ([`Error::is_retryable`]) only makes the wait longer. Every other failure (the folder is
//! gone, the file system is read-only, no file may be opened) ends the wait at once. Only attempts that
//! ended after the wait began count, so a cause that was mended meanwhile is never reported.

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

    /// Why the last attempt failed; `None` if it succeeded.
    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// How many attempts failed so far: where a wait begins.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Why waiting is of no use, if an attempt said so after `failed` others.
    pub(super) fn ended_after(&self, failed: u64) -> Option<&Error> {
        let new = self.failed > failed && !planted("wait_for_never");
        self.error.as_ref().filter(|error| new && !error.is_retryable())
    }
}

/// What keeps a journal from having more space.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Preparing files.
    pub(super) files: Attempts,
    /// Checkpoints, which give files back.
    pub(super) checkpoints: Attempts,
}

/// One wait for space.
#[derive(Debug)]
pub(super) struct Wait {
    /// By the monotonic clock.
    pub(super) deadline: std::time::Duration,
    /// Whether it was counted as a stall, after which more files are kept ready.
    pub(super) stalled: bool,
    /// Nothing but a checkpoint can end it well, whatever files could be prepared.
    pub(super) needs_checkpoint: bool,
    /// How many attempts of each kind had failed when it began.
    began: Option<(u64, u64)>,
}

impl Wait {
    pub(super) fn until(deadline: std::time::Duration) -> Self {
        Self { deadline, stalled: false, needs_checkpoint: false, began: None }
    }

    /// The failure that ends it, if there is one.
    pub(super) fn ended_by<'t>(&mut self, trouble: &'t Trouble, more: bool) -> Option<&'t Error> {
        let Trouble { files, checkpoints } = trouble;
        let (prepared, checkpointed) =
            *self.began.get_or_insert((files.failed(), checkpoints.failed()));
        let file = files.ended_after(prepared);
        let checkpoint = checkpoints.ended_after(checkpointed);
        // Without a file, a checkpoint is the last hope.
        let needed = self.needs_checkpoint || !more || files.error().is_some();
        file.or_else(|| checkpoint.filter(|_| needed))
    }
}
