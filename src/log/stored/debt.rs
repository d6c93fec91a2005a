//! Counts what recovery would have to read.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The bytes of stored appends that no checkpoint covers yet.
///
/// The journal does not grow by them, so its size cannot tell when a checkpoint is due.
#[derive(Debug)]
pub(crate) struct StoredDebt {
    /// The bytes written since the folder was opened.
    written: AtomicU64,
    /// How many of them the last checkpoint covers.
    covered: AtomicU64,
    /// The debt at which a checkpoint is due.
    due: u64,
    /// Whether a checkpoint was requested since the last one.
    told: AtomicBool,
}

/// Stored appends stop when the debt is this many times what makes a checkpoint due. The journal then slows the
/// producers down to the speed of checkpoints.
const MOST: u64 = 4;

impl StoredDebt {
    /// Creates a debt of nothing. A checkpoint is due when it reaches `due` bytes.
    pub(in crate::log) fn new(due: u64) -> Self {
        Self {
            written: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            due,
            told: AtomicBool::new(false),
        }
    }

    pub(in crate::log) fn add(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes written so far. A checkpoint remembers them while it holds all append locks.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Records that a durable checkpoint covers what was written when `written` was read.
    pub(crate) fn cover(&self, written: u64) {
        self.covered.fetch_max(written, Ordering::Relaxed);
        self.told.store(false, Ordering::Relaxed);
    }

    /// Returns whether a checkpoint is due that was not requested yet.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.bytes() >= self.due && !self.told.swap(true, Ordering::Relaxed)
    }

    /// Returns whether recovery has so much to read that no more may be added.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.due.saturating_mul(MOST)
    }

    fn bytes(&self) -> u64 {
        self.written().saturating_sub(self.covered.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_once() {
        let debt = StoredDebt::new(100);
        debt.add(99);
        assert!(!debt.is_due());
        debt.add(1);
        assert_eq!([debt.is_due(), debt.is_due(), debt.is_full()], [true, false, false]);
        debt.add(300);
        assert!(debt.is_full());
        debt.cover(100);
        assert_eq!([debt.is_full(), debt.is_due(), debt.is_due()], [false, true, false]);
        debt.cover(debt.written());
        assert!(!debt.is_due());
    }
}
