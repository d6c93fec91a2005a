//! Maintenance: work that the engine does at intervals, or when a program asks for it.
//!
//! Imported by no module. Its callers use it through `impl Engine` and the trait `Chores`.

mod compaction;
mod expiry;
mod retention;

use std::time::Duration;

use crate::engine::background::Chores;
use crate::engine::cleaner::AtOnce;
use crate::engine::state::Engine;
use crate::error::Result;

impl Engine {
    /// Runs all maintenance once.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.check_open()?;
        let expired = self.expire_offsets().map(|_| ());
        let retained = self.run_retention(None).map(|_| ());
        retained.and(self.compact_and_list()).and(expired)
    }

    /// Compacts what is due, and lets go of what that replaced.
    fn compact_and_list(&self) -> Result<()> {
        let (done, compacted) = self.compact_due(&AtOnce(&self.cleaner));
        // A checkpoint that is being written is not waited for. The next one lets go of the files.
        let due = done || compacted.is_err() && self.has_replaced();
        let idle = due && self.checkpoint.try_lock().is_some();
        compacted.and(if idle { self.checkpoint() } else { Ok(()) })
    }
}

impl Chores for Engine {
    fn checkpoint(&self) -> Result<()> {
        self.checkpoint()
    }

    fn finish_recovery(&self) -> Result<()> {
        self.finish_recovery()
    }

    fn expire_offsets(&self) -> Result<()> {
        self.check_open()?;
        self.expire_offsets().map(|_| ())
    }

    fn retain(&self) -> Duration {
        // `health` keeps a failure.
        let postponed = self.run_retention(None).is_ok_and(|retained| retained.postponed > 0);
        self.retention_interval(postponed)
    }
}
