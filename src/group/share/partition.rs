//! A share-partition: what a share group knows of the records of one partition.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::locks::{Lock, Locks};
use super::order::Order;
use super::parked::Parked;
use super::reason::Reasons;
use super::run::{Content, Run, Span, State};
use super::runs::Runs;
use super::section::{Item, Section};
use super::settings::ShareSettings;
use crate::types::{ShareOrdering, planted};

/// The present time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// By the monotonic clock, for locks.
    pub(crate) monotonic: Duration,
    /// In milliseconds since 1970, for delays.
    pub(crate) wall: i64,
}

impl Now {
    pub(super) fn micros(self) -> u64 {
        micros(self.monotonic)
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    // Not `as_micros`: a 128-bit division is slow.
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(u64::from(duration.subsec_micros()))
}

/// How many locks that ended are remembered, to answer a late member well.
pub(super) const ENDED_MAX: usize = 256;

/// The state of one group and one partition. The module documentation lists its invariants.
#[derive(Debug, Clone)]
pub(crate) struct SharePartition {
    pub(super) settings: Arc<ShareSettings>,
    /// Rises with each reset.
    pub(super) epoch: u32,
    /// Nothing is left below.
    pub(super) log_start: i64,
    /// The first offset of the window.
    pub(super) start: i64,
    /// The last offset of the window.
    pub(super) end: i64,
    pub(super) window: Runs,
    /// What is under way below the start (H2), and what members still hold below the log start.
    pub(super) outside: Runs,
    pub(super) parked: Parked,
    pub(super) reasons: Reasons,
    pub(super) locks: Locks,
    /// With `share.ordering=key`.
    pub(super) order: Option<Order>,
    /// The number of the fetch that is reading.
    pub(super) fetching: Option<u64>,
    pub(super) fetches: u64,
    /// Locks that ended: where, and the delivery count.
    pub(super) ended: VecDeque<(Span, u16)>,
}

impl SharePartition {
    /// Creates the state of a group that begins at `start`, see [`initial_start`](super::initial_start).
    pub(crate) fn new(settings: Arc<ShareSettings>, start: i64) -> Self {
        let order = (settings.ordering == ShareOrdering::Key).then(|| Order::new(start));
        Self {
            settings,
            epoch: 0,
            log_start: 0,
            start,
            end: start.saturating_sub(1),
            window: Runs::default(),
            outside: Runs::default(),
            parked: Parked::default(),
            reasons: Reasons::default(),
            locks: Locks::default(),
            order,
            fetching: None,
            fetches: 0,
            ended: VecDeque::new(),
        }
    }

    /// Sets the settings. A lower limit counts when an attempt ends; a lock keeps the duration it began with.
    pub(crate) fn configure(&mut self, settings: Arc<ShareSettings>) {
        let ordering = settings.ordering;
        self.settings = settings;
        if (ordering == ShareOrdering::Key) != self.order.is_some() {
            self.learn_order();
        }
    }

    /// Ends the replay: from here on `now` counts, each lock has ended, and keys are learned anew.
    pub(crate) fn opened(&mut self) {
        self.learn_order();
    }

    /// Returns the section that drops all state and begins at `start` (Kafka's alter offsets). The caller has made sure
    /// that the group has no members.
    pub(crate) fn decide_reset(&self, start: i64, out: &mut Section) {
        let start = start.max(self.log_start);
        out.push(Item::Reset { start, epoch: self.epoch.saturating_add(1) });
    }

    /// Returns the start of the window, Kafka's SPSO.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// Returns the last offset of the window, Kafka's SPEO; just before the start if it is empty.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Returns the offset below which nothing is left.
    pub(crate) fn log_start(&self) -> i64 {
        self.log_start
    }

    /// Returns whether the end of one record may let another one be handed out.
    pub(crate) fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Returns whether the window has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= u64::from(self.settings.max_record_locks)
    }

    /// Returns how often the offsets were reset.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns the texts of reasons.
    pub(crate) fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// Returns the run with an offset, be it in the window or outside.
    #[inline]
    pub(super) fn find(&self, offset: i64) -> Option<Run> {
        if offset >= self.start { self.window.find(offset) } else { self.outside.find(offset) }
    }

    /// Sets the content of a span of records that have runs, and of parked ones that come back.
    #[inline]
    pub(super) fn put(&mut self, span: Span, content: Content) {
        if span.first >= self.start {
            self.window.set(span, content);
        } else {
            self.outside.set(span, content);
        }
    }

    /// Lets the window reach to `last`. What comes in is Available, and nobody has read it.
    #[inline]
    pub(super) fn extend(&mut self, last: i64) {
        if let Some(new) = Span::new(self.end.saturating_add(1), last) {
            self.window.set(new, Content::fresh());
            self.end = last;
        }
    }

    /// Moves the start over all that is finished or parked (H2).
    #[inline]
    pub(super) fn advance(&mut self) {
        while let Some(run) = self.window.first()
            && (run.content.state.lets_pass()
                || (planted("share_start_passes_held") && run.content.state == State::Acquired))
        {
            self.window.pop_first();
            self.start = run.span.last.saturating_add(1);
        }
    }

    /// Returns the number of offsets in the window, finished ones included.
    pub(super) fn in_flight(&self) -> u64 {
        Span::new(self.start, self.end).map_or(0, Span::len)
    }

    /// Adds a lock.
    #[inline]
    pub(super) fn lock(&mut self, end: u64, span: Span) {
        self.locks.push(Lock { end, span });
        if self.locks.is_due(self.window.held().saturating_add(self.outside.held())) {
            let mut locks = std::mem::take(&mut self.locks);
            locks.clean(|lock| self.still_locked(lock));
            self.locks = locks;
        }
    }

    /// Returns the part of a lock from its first record on that still has it.
    pub(super) fn still_locked(&self, lock: Lock) -> Option<Span> {
        let has = |run: &Run| run.content.state.is_held() && run.content.lock_end == lock.end;
        let first = self.over(lock.span).find(has)?;
        lock.span.from(first.span.first)
    }

    /// Returns the runs that meet a span, in the window and outside, whole.
    pub(super) fn over(&self, span: Span) -> impl Iterator<Item = Run> {
        let below = span.below(self.start).filter(|_| !self.outside.is_empty());
        let outside = below.into_iter().flat_map(|span| self.outside.over(span));
        let inside = span.from(self.start).into_iter().flat_map(|span| self.window.over(span));
        outside.chain(inside)
    }

    /// Returns the state of one offset.
    pub(crate) fn state(&self, offset: i64) -> Option<State> {
        let parked = || self.parked.get(offset).map(|_| State::Parked);
        self.find(offset).map(|run| run.content.state).or_else(parked)
    }
}
