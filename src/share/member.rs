//! A member of a share group.

use std::sync::Arc;

use crate::engine::{EngineHandle, ShareGroup};
use crate::error::Result;
use crate::group::share::MemberNumber;
use crate::sync::atomic::{AtomicBool, Ordering};

/// A member. It leaves when the last handle is gone: the consumer's, or that of a record in the hands of a program.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) engine: EngineHandle,
    pub(crate) group: Arc<ShareGroup>,
    pub(crate) number: MemberNumber,
    left: AtomicBool,
}

impl Member {
    /// Joins a group that reads these topics.
    pub(crate) fn join(
        engine: &EngineHandle,
        group: &Arc<ShareGroup>,
        topics: Vec<String>,
    ) -> Result<Arc<Self>> {
        let number = engine.join_share(group, None, topics)?;
        let (engine, group) = (engine.clone(), Arc::clone(group));
        Ok(Arc::new(Self { engine, group, number, left: AtomicBool::new(false) }))
    }

    /// Reads other topics.
    pub(crate) fn read(&self, topics: Vec<String>) -> Result<()> {
        self.engine.join_share(&self.group, Some(self.number), topics).map(|_| ())
    }

    /// Leaves the group. What the member holds comes again at once.
    pub(crate) fn leave(&self) -> Result<()> {
        if self.left.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.engine.leave_share(&self.group, self.number)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // If it cannot be journaled, its locks end by themselves.
        let _ended_later = self.leave();
    }
}
