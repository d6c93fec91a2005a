//! How many segment files are open for writing.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A count, and what it may be. Of `max.open.files` a quarter is for segments that appends write to, with as
/// much for what is new beside them; a quarter for those that a checkpoint writes out at once, with what is
/// new beside them; and a quarter for readers.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    open: AtomicUsize,
    limit: usize,
}

impl OpenFiles {
    pub(super) fn new(max_open_files: u32) -> Self {
        Self { open: AtomicUsize::new(0), limit: max_open_files as usize }
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

    /// Whether files should be closed as soon as they are synced.
    pub(super) fn are_many(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit / 8
    }

    /// How many segments a checkpoint writes out before it syncs them: some have two files.
    pub(crate) fn at_once(&self) -> usize {
        self.limit / 8
    }

    /// How many segments may be open for reading.
    pub(super) fn for_reading(&self) -> usize {
        self.limit / 4
    }
}
