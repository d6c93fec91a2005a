//! A cache of the segments that are open for reading. It closes the least recently used ones when there are
//! too many.

use std::fmt;
use std::sync::Weak;

use crate::config::ReadMode;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// An entry of the cache, which is open for reading.
pub(super) trait Evict: Send + Sync + fmt::Debug {
    /// Clears the mark that it was used.
    fn unmark(&self);

    /// Closes the entry, unless it was used since the last call or is being opened. Returns whether it is
    /// closed.
    fn close_reader(&self) -> bool;
}

/// The segments that are open for reading, at most `limit`. It uses the clock algorithm: a hand goes round
/// and closes the segments that were not used since it last passed them.
///
/// Closing releases the map or handle, the checksums and the indexes. Delivered records keep the map that
/// holds them.
#[derive(Debug)]
pub(super) struct Reads {
    mode: ReadMode,
    limit: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    segments: Vec<Weak<dyn Evict>>,
    hand: usize,
}

impl Reads {
    pub(super) fn new(mode: ReadMode, limit: usize) -> Self {
        Self { mode, limit: limit.max(1), ring: Mutex::default() }
    }

    /// Returns whether segments are read through maps.
    pub(super) fn maps(&self) -> bool {
        self.mode == ReadMode::Map
    }

    /// Records that a segment is used. `used` is its mark.
    #[expect(clippy::unused_self, reason = "the cache decides by this mark")]
    pub(super) fn touch(&self, used: &AtomicBool) {
        // Store only a change: many threads may read the same segment, and a store would contend.
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// Adds a segment that was opened, and closes others for it. The caller holds none of its locks.
    pub(super) fn admit(&self, segment: Weak<dyn Evict>) {
        let mut ring = self.ring.lock();
        ring.segments.push(segment);
        // Go round at most twice: the first round clears the marks.
        let mut steps = ring.segments.len().saturating_mul(2);
        while ring.segments.len() > self.limit && steps > 0 {
            steps = steps.saturating_sub(1);
            ring.step();
        }
    }

    /// Closes all segments that no thread is opening or reading at this moment. Called when the process can
    /// open no more files. Does not wait for the lock of a segment.
    pub(super) fn close_all(&self) {
        let mut ring = self.ring.lock();
        ring.segments.retain(|segment| {
            segment.upgrade().is_some_and(|segment| {
                segment.unmark();
                !segment.close_reader()
            })
        });
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.ring.lock().segments.len()
    }
}

impl Ring {
    fn step(&mut self) {
        if self.hand >= self.segments.len() {
            self.hand = 0;
        }
        let Some(segment) = self.segments.get(self.hand) else { return };
        match segment.upgrade() {
            Some(segment) if !segment.close_reader() => self.hand = self.hand.saturating_add(1),
            _ => {
                self.segments.swap_remove(self.hand);
            }
        }
    }
}
