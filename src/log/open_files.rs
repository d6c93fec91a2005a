//! Limits the number of open segment files.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::types::planted;

/// The smallest limit. With it each share is at least one file.
const LIMIT_MIN: u64 = 8;

/// The number of segment files open for writing, and the limit for all open files.
///
/// A quarter of the limit is for segments that appends write to, and another quarter for new files beside
/// them. A quarter is for the segments that a checkpoint writes out at once, with the new files beside them.
/// A quarter is for readers.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    open: AtomicUsize,
    limit: usize,
}

impl OpenFiles {
    /// Creates a count with a limit of at most `max_open_files` (`max.open.files`).
    ///
    /// If the process may have at most `most` files open, the engine takes at most half of them, including
    /// `journal_files` files of the journal. The rest is for the program.
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

    /// Returns whether only checkpoints may open more files.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limit / 4
    }

    /// Returns whether checkpoints, too, should close files before they open more.
    pub(crate) fn is_overfull(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limit / 2
    }

    /// Returns whether files should be closed as soon as they are synced.
    pub(super) fn are_many(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit / 8
    }

    /// Returns how many segments a checkpoint writes out before it syncs them. Some have two files.
    pub(crate) fn at_once(&self) -> usize {
        (self.limit / 8).max(1)
    }

    /// Returns how many segments may be open for reading.
    pub(super) fn for_reading(&self) -> usize {
        self.limit / 4
    }
}
