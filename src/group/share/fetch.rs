//! Where to read next. One fetch reads at a time, without the lock; its number makes sure that nobody else's result is
//! taken for its own.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

use super::partition::{Now, SharePartition};
use super::run::Span;

/// When the locks of an earlier process end: before all others.
const FOREIGN_END: u64 = 0;

/// What a fetch shall read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// Its number.
    pub(super) number: u64,
    /// The first offset to read.
    pub(crate) from: i64,
    /// The last offset that is of use. Whole batches are read, so what is read may reach further.
    pub(crate) to: i64,
}

impl SharePartition {
    /// Begins a fetch. Returns `None` if another one is reading, or if something must end first: the window is full, and
    /// all of it is under way; or, with an order of keys, locks of an earlier process have not ended.
    pub(crate) fn begin_fetch(&mut self, now: Now) -> Option<Fetch> {
        if self.fetching.is_some() || self.has_foreign_locks() {
            return None;
        }
        let span = self.next_position(now)?;
        self.fetches = self.fetches.saturating_add(1);
        self.fetching = Some(self.fetches);
        Some(Fetch { number: self.fetches, from: span.first, to: span.last })
    }

    /// Returns whether what an earlier process had acquired still waits for the end of its locks. Its keys are not known,
    /// so a record of the same key could be handed out (H10). As long as the journal does not take their end, it would
    /// not take a start either.
    fn has_foreign_locks(&mut self) -> bool {
        if self.order.is_none() || self.locks.next_end() != Some(FOREIGN_END) {
            return false;
        }
        self.clean_locks();
        self.locks.next_end() == Some(FOREIGN_END)
    }

    /// Returns whether a fetch is reading.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetching.is_some()
    }

    /// Ends a fetch that brings nothing, for example because reading failed.
    pub(crate) fn cancel_fetch(&mut self, fetch: Fetch) {
        if self.fetching == Some(fetch.number) {
            self.fetching = None;
        }
    }

    /// Returns what to read next: parked records that are due first, since they are older; then what is available in
    /// the window; then what follows it.
    fn next_position(&self, now: Now) -> Option<Span> {
        let unknown = self.order.as_ref().map(|order| order.known_to.max(self.start));
        let unknown = unknown.filter(|unknown| *unknown <= self.end);
        if let Some((due, first)) = self.parked.first_due()
            && due <= now.wall
            // The records before it have been read (K3).
            && unknown.is_none_or(|unknown| first < unknown)
        {
            return Some(Span { first, last: self.due_together(first, now) });
        }
        let has_room = self.in_flight() < u64::from(self.settings.max_record_locks);
        let last = if has_room { i64::MAX } else { self.end };
        let available = self.window.available_from(self.start).map(|run| run.span.first);
        let next = available.into_iter().chain(unknown).min();
        match next {
            Some(first) => Some(Span { first, last }),
            None if has_room => Some(Span { first: self.end.saturating_add(1), last }),
            None => None,
        }
    }

    /// Returns how far the parked records that are due follow each other without a hole.
    fn due_together(&self, first: i64, now: Now) -> i64 {
        let mut last = first;
        let due = self.parked.due(now.wall).skip_while(|offset| *offset != first).skip(1);
        for offset in due.take(1_000) {
            if last.checked_add(1) != Some(offset) {
                break;
            }
            last = offset;
        }
        last
    }

    /// Returns until when there is nothing to do: when the next lock ends, by the monotonic clock, and when the next
    /// parked record is due, in milliseconds since 1970.
    pub(crate) fn next_deadline(&mut self) -> (Option<Duration>, Option<i64>) {
        self.clean_locks();
        let end = self.locks.next_end().map(Duration::from_micros);
        (end, self.parked.first_due().map(|(due, _)| due))
    }

    fn clean_locks(&mut self) {
        let mut locks = std::mem::take(&mut self.locks);
        locks.clean_front(|lock| self.still_locked(lock));
        self.locks = locks;
    }
}
