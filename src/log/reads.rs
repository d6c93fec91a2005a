//! Which segments are open for reading: the least recently used ones are closed when there are too many.

use std::fmt;
use std::sync::Weak;

use crate::config::ReadMode;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What the cache holds: something that is open for reading.
pub(super) trait Evict: Send + Sync + fmt::Debug {
    /// Forgets that it was used.
    fn unmark(&self);

    /// Closes it, unless it was used since the last call, or is being opened. Returns whether it is closed.
    fn close_reader(&self) -> bool;
}

/// The segments that are open for reading, at most `limit` (the clock algorithm: a hand goes round, and
/// closes those that were not used since it came by last).
///
/// Closing gives back the map or handle, the sums and the indexes. Records that were delivered keep the map
/// that they lie in.
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

    /// Whether segments are read through maps.
    pub(super) fn maps(&self) -> bool {
        self.mode == ReadMode::Map
    }

    /// Takes note that a segment is used; `used` is its mark.
    #[expect(clippy::unused_self, reason = "the mark is what this cache goes by")]
    pub(super) fn touch(&self, used: &AtomicBool) {
        // Written only where it changes: many threads may read the same segment.
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// Takes in a segment that was opened, and closes others for it. Called without its locks.
    pub(super) fn admit(&self, segment: Weak<dyn Evict>) {
        let mut ring = self.ring.lock();
        ring.segments.push(segment);
        // Twice round at most: the first time takes the marks.
        let mut steps = ring.segments.len().saturating_mul(2);
        while ring.segments.len() > self.limit && steps > 0 {
            steps = steps.saturating_sub(1);
            ring.step();
        }
    }

    /// Closes all that nobody is opening or reading at this moment: the process has no file left. Takes
    /// no lock of a segment that is held.
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
