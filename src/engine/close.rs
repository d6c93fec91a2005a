//! Ending the engine.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::engine::files;
use crate::engine::state::Engine;
use crate::error::Result;

impl Engine {
    /// Ends the engine: everything is written out, nothing is left to replay.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_fork()?;
        // From here on its groups are not in use. Where this cannot be said, the last round said it.
        let _said_before = self.note_active_groups();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.background.stop();
        self.writer.stop();
        self.groups.close();
        // First, so that nothing can come after the last checkpoint, which says so.
        self.journal.stop_appends();
        let written = self.last_checkpoint().and_then(|()| self.finish_files());
        let journal = self.journal.close();
        drop(self.lock.lock().take());
        written.and(journal)
    }

    /// Last index entries, and Kafka's leader epoch files, of the partitions in use.
    fn finish_files(&self) -> Result<()> {
        for topic in self.registry.topics() {
            for log in &topic.logs {
                if log.finish()? {
                    let dir = PathBuf::from(log.partition().to_string());
                    files::write_epochs(&*self.storage, &dir, &log.epochs())?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody had a handle: opening failed. As with the last handle otherwise.
        if !std::thread::panicking() {
            let _unreported = self.close();
        }
    }
}
