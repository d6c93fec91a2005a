//! Maintenance: work that the engine does at intervals, or when a program asks for it.
//!
//! Imported by no module. Its callers use it through `impl Engine` and the trait `Chores`.

mod expiry;
mod retention;

use std::time::Duration;

use crate::engine::background::Chores;
use crate::engine::state::Engine;
use crate::error::Result;

impl Engine {
    /// Runs all maintenance once.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.check_open()?;
        let expired = self.expire_offsets().map(|_| ());
        self.run_retention(None).map(|_| ()).and(expired)
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
