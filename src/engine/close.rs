//! Closes the engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::files;
use crate::engine::state::Engine;
use crate::error::Result;
use crate::log::Log;

impl Engine {
    /// Closes the engine: writes everything out, so that nothing is left to replay. A second call does
    /// nothing.
    pub(crate) fn close(&self) -> Result<()> {
        self.check_fork()?;
        // The groups count as unused from here on. If this cannot be journaled, the last maintenance round
        // did it.
        let _said_before = self.note_active_groups();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.background.stop();
        self.writer.stop();
        self.groups.close();
        // Before the last checkpoint, which says that nothing follows it.
        self.journal.stop_appends();
        let written = self.write_all();
        let journal = self.journal.close();
        if written.is_ok() {
            // Files that stay are unneeded, and the next opening uses them.
            let _smaller = self.journal.trim();
        }
        drop(self.lock.lock().take());
        written.and(journal)
    }

    /// Writes everything out. The checkpoint that says that the folder is closed comes last, because the next
    /// opening checks no file then.
    fn write_all(&self) -> Result<()> {
        let changed = self.logs.dirty.lock().clone();
        if !changed.is_empty() {
            self.checkpoint()?;
        }
        let finished = self.finish_files().and_then(|()| {
            // Partitions that lost records and are otherwise not in use.
            let logs = changed.iter().filter_map(|number| self.registry.by_number(*number));
            logs.into_iter().try_for_each(|log| {
                files::mend_epochs(&*self.storage, &folder_of(&log), &log.epochs())
            })
        });
        if finished.is_ok() {
            // If this fails, the journal only stays large, or it has failed, which the checkpoint reports.
            let _smaller = self.journal.rest();
        }
        let last = if finished.is_ok() { self.last_checkpoint() } else { self.checkpoint() };
        finished.and(last)
    }

    /// Writes the last index entries and Kafka's leader epoch files of the partitions in use. The leader
    /// epoch files are durable when this returns. The next opening repairs what an interrupted close leaves
    /// of them.
    fn finish_files(&self) -> Result<()> {
        let mut in_use = Vec::new();
        for topic in self.registry.topics() {
            for log in &topic.logs {
                if log.finish()? {
                    in_use.push(Arc::clone(log));
                }
            }
        }
        // Many at a time, because syncing many files costs little more than syncing one.
        for some in in_use.chunks(self.logs.open_files.at_once().saturating_mul(4)) {
            let (mut files, mut new) = (Vec::new(), Vec::new());
            for log in some {
                let dir = folder_of(log);
                let (file, is_new) = files::write_epochs(&*self.storage, &dir, &log.epochs())?;
                files.push(file);
                if is_new {
                    new.push(dir);
                }
            }
            self.storage.sync_all(&files)?;
            new.iter().try_for_each(|dir| self.storage.sync_dir(dir))?;
        }
        Ok(())
    }
}

fn folder_of(log: &Log) -> PathBuf {
    PathBuf::from(log.partition().to_string())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Opening failed before a handle existed. Otherwise the last handle has closed the engine.
        if !std::thread::panicking() {
            let _unreported = self.close();
        }
    }
}
