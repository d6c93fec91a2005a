//! What the program holds of an engine.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::state::Engine;

/// One of the program's handles. Who drops the last one closes the engine, and the folder is free when the
/// drop returns. The engine's own threads hold it while they work and do not count: were it left to the last
/// reference, one that is in the middle of a checkpoint would close it some time later.
#[derive(Debug)]
pub(crate) struct EngineHandle(Arc<Engine>);

impl EngineHandle {
    /// The first handle.
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
        // A panic that unwinds through here leaves what a kill would: recovery does the rest.
        if was_last && !std::thread::panicking() {
            // `Drop` does its best; `close` is there for who wants to know.
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
