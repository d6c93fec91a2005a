//! What the state machine reads of a share group's settings. `config` parses and checks them.

use std::time::Duration;

use crate::types::{AcquireMode, Backoff, ShareOrdering};

/// The settings of a share group that decide what becomes of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareSettings {
    /// How long a member may keep a record without a word.
    pub(crate) lock_duration: Duration,
    /// The most attempts. Looked at when an attempt ends (H6).
    pub(crate) delivery_count_limit: u16,
    /// The longest window.
    pub(crate) max_record_locks: u32,
    /// Whether members may renew their locks.
    pub(crate) renew_enabled: bool,
    /// How many records a fetch takes.
    pub(crate) acquire_mode: AcquireMode,
    /// What is promised about the order of records.
    pub(crate) ordering: ShareOrdering,
    /// How long a record waits after an attempt that failed.
    pub(crate) backoff: Backoff,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_secs(30),
            delivery_count_limit: 5,
            max_record_locks: 100_000,
            renew_enabled: true,
            acquire_mode: AcquireMode::RecordLimit,
            ordering: ShareOrdering::None,
            backoff: Backoff::NONE,
        }
    }
}
