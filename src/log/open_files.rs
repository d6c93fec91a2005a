//! How many segment files are open for writing.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::types::planted;

/// Each share of it is one file at least.
const LIMIT_MIN: u64 = 8;

/// A count, and what it may be. Of the limit a quarter is for segments that appends write to, with as
/// much for what is new beside them; a quarter for those that a checkpoint writes out at once, with what is
/// new beside them; and a quarter for readers.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    open: AtomicUsize,
    limit: usize,
}

impl OpenFiles {
    /// At most `max.open.files`. Where the process may have `most` files open, at most half of them are
    /// the engine's, the journal's `journal_files` included: the rest is the program's.
    pub(super) fn new(max_open_files: u32, most: Option<u64>, journal_files: u64) -> Self {
        let half = most.unwrap_or(u64::MAX) / 2;
        let ours = half.saturating_sub(journal_files.min(half / 2));
        let ours = if planted("all_files_are_ours") { u64::MAX } else { ours };
        let limit = u64::from(max_open_files).min(ours).max(LIMIT_MIN);
        Self { open: AtomicUsize::new(0), limit: limit as usize }
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether only checkpoints may open more.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limit / 4
    }

    /// Whether checkpoints, too, should close some before they open more.
    pub(crate) fn is_overfull(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limit / 2
    }

    /// Whether files should be closed as soon as they are synced.
    pub(super) fn are_many(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit / 8
    }

    /// How many segments a checkpoint writes out before it syncs them: some have two files.
    pub(crate) fn at_once(&self) -> usize {
        (self.limit / 8).max(1)
    }

    /// How many segments may be open for reading.
    pub(super) fn for_reading(&self) -> usize {
        self.limit / 4
    }
}
