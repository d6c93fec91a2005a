//! The reference that public handles hold.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::state::Engine;

/// A counted reference to the engine. Dropping the last one closes the engine, and the folder is unlocked
/// when the drop returns.
///
/// The engine's own threads hold plain references, which do not count. If the last reference of any kind
/// closed the engine, a thread in the middle of a checkpoint would close it some time after the program's
/// last drop.
#[derive(Debug)]
pub(crate) struct EngineHandle(Arc<Engine>);

impl EngineHandle {
    /// Creates the first handle.
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        engine.handles.store(1, Ordering::Relaxed);
        Self(engine)
    }
}

impl Clone for EngineHandle {
    fn clone(&self) -> Self {
        self.0.handles.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        let was_last = self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && self.0.is_forked() {
            // The locks and channels of the engine may be held for ever. So a child keeps its copy until it ends.
            std::mem::forget(Arc::clone(&self.0));
            return;
        }
        // A panic that unwinds through here has the effect of a kill: the next opening recovers.
        if was_last && !std::thread::panicking() {
            // `Drop` cannot return an error; `close` does.
            let _unreported = self.0.close();
        }
    }
}

impl Deref for EngineHandle {
    type Target = Arc<Engine>;

    #[inline]
    fn deref(&self) -> &Arc<Engine> {
        &self.0
    }
}
