//! What the engine does from time to time, by itself or when a program asks for it.

mod expiry;

use crate::engine::background::Chores;
use crate::engine::state::Engine;
use crate::error::Result;

impl Engine {
    /// Does all of it once.
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
