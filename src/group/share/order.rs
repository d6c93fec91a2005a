//! The order of the records of a key (H10).
//!
//! * **K1** For each key, `queues` has the known unfinished records of the window, and those that wait for their
//!   backoff, in the order of offsets; but a record under way stays at the head when a scheduled one with a lower
//!   offset becomes due.
//! * **K2** Only the head of a queue may be handed out. The others are Blocked, or parked and blocked.
//! * **K3** The keys of all unfinished records of the window below `known_to` are known. Records from there on are not
//!   handed out until they have been read again, in order. So a process that opens the window finds the same order.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use super::run::Span;

/// What became of a record that entered the queue of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is the head.
    Head,
    /// The first of these records is the head instead of the second one.
    Instead(i64, i64),
    /// It waits.
    Behind,
}

/// The order of the records of keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    queues: BTreeMap<u64, VecDeque<i64>>,
    keys: BTreeMap<i64, u64>,
    pub(super) known_to: i64,
}

impl Order {
    pub(super) fn new(known_to: i64) -> Self {
        Self { known_to, ..Self::default() }
    }

    /// Returns the key of a record, if it is known.
    pub(super) fn key(&self, offset: i64) -> Option<u64> {
        self.keys.get(&offset).copied()
    }

    /// Returns the record of a key that comes first.
    pub(super) fn head(&self, key: u64) -> Option<i64> {
        self.queues.get(&key)?.front().copied()
    }

    /// Adds a record. `head_waits` tells whether the present head waits to be handed out.
    pub(super) fn enter(
        &mut self,
        key: u64,
        offset: i64,
        head_waits: impl FnOnce(i64) -> bool,
    ) -> Entered {
        let queue = self.queues.entry(key).or_default();
        if self.keys.insert(offset, key).is_some() {
            return if queue.front() == Some(&offset) { Entered::Head } else { Entered::Behind };
        }
        let Some(&head) = queue.front() else {
            queue.push_back(offset);
            return Entered::Head;
        };
        if offset < head && head_waits(head) {
            queue.pop_front();
            // The old head finds its place in the order, and so does the new record.
            for one in [head, offset] {
                queue.insert(queue.partition_point(|other| *other < one), one);
            }
            return Entered::Instead(queue.front().copied().unwrap_or(offset), head);
        }
        // The head keeps its place, whatever its offset is.
        let at = queue.partition_point(|other| *other == head || *other < offset);
        queue.insert(at, offset);
        Entered::Behind
    }

    /// Removes a record that is finished. Returns the new head of its key if it was the head.
    pub(super) fn finish(&mut self, offset: i64) -> Option<i64> {
        let key = self.keys.remove(&offset)?;
        let queue = self.queues.get_mut(&key)?;
        let head = queue.front().copied();
        let was_head = head == Some(offset);
        if was_head {
            queue.pop_front();
        } else {
            let at = queue.partition_point(|other| Some(*other) == head || *other < offset);
            queue.remove(at);
        }
        let next = queue.front().copied();
        if next.is_none() {
            self.queues.remove(&key);
        }
        next.filter(|_| was_head)
    }

    /// Returns a record of a span whose key is known.
    pub(super) fn known_in(&self, span: Span) -> Option<i64> {
        self.keys.range(span.first..=span.last).next().map(|(offset, _)| *offset)
    }
}
