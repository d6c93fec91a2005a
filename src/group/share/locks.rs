//! When locks end.
//!
//! One entry for each batch of records that was locked together, in the order of their ends. An entry is a hint: what a
//! run says counts. Entries whose records have been acknowledged meanwhile are left until they are many.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::VecDeque;

use super::run::Span;

/// A span that was locked until `end`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) end: u64,
    pub(super) span: Span,
}

/// The locks, by their ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks {
    queue: VecDeque<Lock>,
    /// The length after the last cleaning.
    kept: usize,
}

impl Locks {
    /// Adds a lock. Usually it ends last.
    #[inline]
    pub(super) fn push(&mut self, lock: Lock) {
        match self.queue.back_mut() {
            Some(back)
                if back.end == lock.end
                    && back.span.last.checked_add(1) == Some(lock.span.first) =>
            {
                back.span.last = lock.span.last;
            }
            Some(back) if back.end > lock.end => {
                let at = self.queue.partition_point(|other| other.end <= lock.end);
                self.queue.insert(at, lock);
            }
            _ => self.queue.push_back(lock),
        }
    }

    /// Returns whether there are so many entries that the outdated ones should go, which takes a look at each.
    #[inline]
    pub(super) fn is_due(&self, held: usize) -> bool {
        self.queue.len() > 64_usize.max(self.kept.max(held).saturating_mul(2))
    }

    /// Keeps what `present` returns of each lock.
    pub(super) fn clean(&mut self, mut present: impl FnMut(Lock) -> Option<Span>) {
        self.queue.retain_mut(|lock| match present(*lock) {
            Some(span) => {
                lock.span = span;
                true
            }
            None => false,
        });
        self.kept = self.queue.len();
    }

    /// Removes outdated locks from the front.
    pub(super) fn clean_front(&mut self, mut present: impl FnMut(Lock) -> Option<Span>) {
        while let Some(front) = self.queue.front_mut() {
            if let Some(span) = present(*front) {
                front.span = span;
                return;
            }
            self.queue.pop_front();
        }
    }

    /// Returns the locks that have ended.
    pub(super) fn ended(&self, now: u64) -> impl Iterator<Item = Lock> {
        self.queue.iter().copied().take_while(move |lock| lock.end <= now)
    }

    /// Returns when the next lock ends. It may be outdated, but none ends before.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.queue.front().map(|lock| lock.end)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
