//! What every look at a share-partition begins with.

use super::group::SharePart;
use crate::engine::state::Engine;
use crate::error::Error;
use crate::group::share::{Now, Section, SharePartition};
use crate::sync::atomic::Ordering;

impl Engine {
    /// Returns the present time, for share-partitions.
    pub(super) fn share_now(&self) -> Now {
        let clock = self.clock();
        Now { monotonic: clock.monotonic(), wall: clock.now().as_millis() }
    }

    /// Applies a log start that has moved. The journal has it already.
    pub(super) fn follow_log_start(&self, part: &SharePart, state: &mut SharePartition) {
        let start = part.log().start_offset();
        if start > state.log_start() {
            let now = self.clock().monotonic();
            state.apply(&Section::log_start(start), now);
            self.shares.version.fetch_add(1, Ordering::Relaxed);
            // The window may have room now.
            part.signals.wake();
        }
    }
}

pub(super) fn gone(part: &SharePart) -> Error {
    Error::UnknownTopic { topic: part.log().partition().topic().to_owned() }
}
