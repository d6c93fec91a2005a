use crate::engine::Said;
use crate::error::Error;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What the threads of [`Workers`](super::Workers) have done so far, in jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkersStats {
    /// The handler returned `Ok`.
    pub accepted: u64,
    /// The handler returned an error, or [`JobError::retry`](super::JobError::retry) or the like. Some of these may
    /// have become dead letters, as their last delivery.
    pub released: u64,
    /// The handler panicked. These jobs were released, and are not counted among `released`.
    pub panicked: u64,
    /// The handler rejected them.
    pub rejected: u64,
    /// The handler cancelled them.
    pub cancelled: u64,
    /// The handler put them off.
    pub snoozed: u64,
    /// What the handler returned came too late: the lock had ended, an operator had ended the delivery, or the topic
    /// was deleted.
    pub late: u64,
    /// Calls of the engine that failed, such as on a full disk or in damaged bytes. The jobs come again.
    /// [`WorkersHandle::last_error`](super::WorkersHandle::last_error) says what it was.
    pub errors: u64,
    /// Handlers that ran on when [`WorkersHandle::shutdown`](super::WorkersHandle::shutdown) gave up waiting. Their
    /// jobs were released.
    pub abandoned: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Accepted,
    Released,
    Panicked,
    Rejected,
    Cancelled,
    Snoozed,
}

impl End {
    pub(super) fn of(said: &Said) -> Self {
        match said {
            Said::Accept => Self::Accepted,
            Said::Release { .. } => Self::Released,
            Said::Reject { .. } => Self::Rejected,
            Said::Cancel => Self::Cancelled,
            Said::Snooze { .. } => Self::Snoozed,
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    ends: [AtomicU64; 6],
    late: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<Error>>,
}

impl Counters {
    pub(super) fn ended(&self, end: End) {
        if let Some(counter) = self.ends.get(end as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn error(&self, error: Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(error);
    }

    pub(super) fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    pub(super) fn stats(&self) -> WorkersStats {
        let ended = |end: End| {
            self.ends.get(end as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
        };
        WorkersStats {
            accepted: ended(End::Accepted),
            released: ended(End::Released),
            panicked: ended(End::Panicked),
            rejected: ended(End::Rejected),
            cancelled: ended(End::Cancelled),
            snoozed: ended(End::Snoozed),
            late: self.late.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            abandoned: 0,
        }
    }
}
