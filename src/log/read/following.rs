//! Loading the bytes that a sequential reader needs next, while it decodes a batch.

use std::hint::black_box;

use crate::storage::ReadMap;

/// The bytes of a map that follow the ones checked so far.
///
/// Checking a batch and a block waits for memory most of the time, and decoding records hardly uses it. So a
/// reader that came from the batch before loads the next batch while it decodes this one. That takes a fifth of the
/// time off reading from a log that is larger than the caches.
#[derive(Debug)]
pub(super) struct Following<'a> {
    map: &'a ReadMap,
    /// Where the bytes of the file begin.
    start: u64,
    /// The number of bytes of the decoded batch for which as many were loaded.
    done: usize,
}

/// The bytes loaded at a time. A processor has only few loads under way at once.
const STEP_BYTES: usize = 1024;

impl<'a> Following<'a> {
    /// Prepares for loading the bytes from `start` on, about as many as the batch has, which has `bytes` bytes.
    pub(super) fn new(map: &'a ReadMap, start: u64, bytes: usize) -> Self {
        // Pages that the process never touched are not loaded. The kernel maps their neighbours with them.
        for at in [start, start.saturating_add(bytes as u64)] {
            black_box(map.slice(at..at.saturating_add(1)).and_then(|bytes| bytes.first().copied()));
        }
        Self { map, start, done: 0 }
    }

    /// Loads as many bytes as were decoded since the last call, when the decoder has reached byte `at`.
    #[inline(always)]
    pub(super) fn load(&mut self, at: usize) {
        if at.saturating_sub(self.done) >= STEP_BYTES {
            let from = self.start.saturating_add(self.done as u64);
            self.done = at;
            self.map.prefetch(from..self.start.saturating_add(at as u64));
        }
    }
}
