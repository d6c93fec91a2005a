//! The reserved records that the threads of one `Workers` take from, and who of them fetches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::SharePart;
use crate::error::Result;
use crate::group::share::Span;
use crate::share::batch::ShareBatch;
use crate::sync::{Condvar, Mutex};
use crate::types::planted;

/// A record that is reserved, and not begun.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    pub(super) batch: Arc<ShareBatch>,
    pub(super) at: usize,
}

impl Reserved {
    pub(super) fn span(&self) -> Span {
        self.batch.span(self.at)
    }

    /// Gives the record back if the group is paused, which may have happened since it was reserved.
    pub(super) fn unless_paused(self) -> Option<Self> {
        if self.batch.part().is_paused() && !planted("share_pause_is_late") {
            self.unreserve();
            return None;
        }
        Some(self)
    }

    /// Gives the record back.
    pub(super) fn unreserve(&self) {
        self.batch.unreserve_some(self.at..self.at.saturating_add(1));
    }

    /// Lets its lock begin anew, if it is begun.
    pub(super) fn renew(&self) -> Result<Duration> {
        self.batch.renew(self.at)
    }
}

/// The reserved records. One thread at a time fetches more, while the others wait here.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the index of its next record.
    batches: VecDeque<(Arc<ShareBatch>, usize)>,
    fetching: bool,
    closed: bool,
}

impl State {
    fn pop(&mut self) -> Option<Reserved> {
        let (batch, next) = self.batches.front_mut()?;
        let reserved = Reserved { batch: Arc::clone(batch), at: *next };
        *next = next.saturating_add(1);
        if *next >= batch.len() {
            self.batches.pop_front();
        }
        Some(reserved)
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns the next record, or `None` once the queue is closed. If there is none, one thread calls `fetch`, which
    /// returns when there are some or the queue is to be closed.
    pub(super) fn next(
        &self,
        mut fetch: impl FnMut() -> Result<Vec<Arc<ShareBatch>>>,
    ) -> Result<Option<Reserved>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Ok(None);
            }
            if let Some(next) = state.pop() {
                return Ok(Some(next));
            }
            if state.fetching {
                self.changed.wait(&mut state);
                continue;
            }
            state.fetching = true;
            drop(state);
            let turn = Turn { queue: self };
            let fetched = fetch();
            if let Ok(batches) = &fetched {
                self.push(batches);
            }
            drop(turn);
            fetched?;
            state = self.state.lock();
        }
    }

    fn push(&self, batches: &[Arc<ShareBatch>]) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            for batch in batches {
                batch.unreserve();
            }
            return;
        }
        state.batches.extend(batches.iter().map(|batch| (Arc::clone(batch), 0)));
        drop(state);
        // This thread takes one of them, and another one has to fetch the next.
        let count = batches.iter().map(|batch| batch.len()).fold(0, usize::saturating_add);
        (0..count.min(MANY)).for_each(|_| {
            self.changed.notify_one();
        });
    }

    /// Returns the next record if it is one of this share-partition. Does not wait.
    pub(super) fn next_of(&self, part: &Arc<SharePart>) -> Option<Reserved> {
        let mut state = self.state.lock();
        let is_same = |batch: &ShareBatch| Arc::ptr_eq(batch.part(), part);
        if state.closed || !state.batches.front().is_some_and(|(batch, _)| is_same(batch)) {
            return None;
        }
        state.pop()
    }

    /// Closes the queue. What is left is given back: it was not begun, so it is not counted.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.batches);
        drop(state);
        self.changed.notify_all();
        for (batch, next) in left {
            batch.unreserve_some(next..batch.len());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

/// More threads than can be waiting.
const MANY: usize = 1 << 10;

/// The turn to fetch. It ends when it is dropped, after a panic too.
struct Turn<'q> {
    queue: &'q Queue,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().fetching = false;
        self.queue.changed.notify_one();
    }
}
