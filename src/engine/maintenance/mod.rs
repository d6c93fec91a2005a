//! Maintenance: work that the engine does at intervals, or when a program asks for it.
//!
//! Imported by no module. Its callers use it through `impl Engine` and the trait `Chores`.

mod expiry;

use crate::engine::background::Chores;
use crate::engine::state::Engine;
use crate::error::Result;

impl Engine {
    /// Runs all maintenance once.
    pub(crate) fn maintain(&self) -> Result<()> {
        self.check_open()?;
        self.expire_offsets().map(|_| ())
    }
}

impl Chores for Engine {
    fn checkpoint(&self) -> Result<()> {
        self.checkpoint()
    }

    fn finish_recovery(&self) -> Result<()> {
        self.finish_recovery()
    }

    fn maintain(&self) -> Result<()> {
        self.maintain()
    }
}
