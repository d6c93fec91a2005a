//! Closes the engine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::files;
use crate::engine::spread;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::types::PartitionNumber;

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
        self.end_waits_for_room();
        self.cleaner.stop();
        self.background.stop();
        self.dropper.stop();
        self.writer.stop();
        self.groups.close();
        self.shares.wake_all();
        // Before the last checkpoint, which says that nothing follows it.
        self.journal.stop_appends();
        self.await_changes();
        let written = self.write_all();
        let journal = self.journal.close();
        if written.is_ok() {
            // Files that stay are unneeded, and the next opening uses them.
            let _smaller = self.journal.trim();
            let _smaller = self.reserve.remove_at_close();
        }
        self.give_up_folder();
        written.and(journal)
    }

    /// Waits for changes of files that began before the journal was closed: a topic that is created or deleted, an
    /// append that stores its records.
    fn await_changes(&self) {
        drop(self.admin.lock());
        self.await_writes();
    }

    /// Waits until no thread that began earlier writes to a partition's files.
    fn await_writes(&self) {
        let topics = self.registry.topics();
        topics.iter().flat_map(|topic| &topic.logs).for_each(|log| log.await_writes());
    }

    /// Leaves the folder to its next writer. A call of another thread that began before `close` may still run.
    /// It changes no file any more.
    fn give_up_folder(&self) {
        self.logs.given_up.store(true, Ordering::Release);
        drop((self.admin.lock(), self.checkpoint.lock()));
        self.reserve.give_back();
        self.await_writes();
        drop(self.lock.lock().take());
    }

    /// Writes everything out. The checkpoint that says that the folder is closed comes last, because the next
    /// opening checks no file then.
    fn write_all(&self) -> Result<()> {
        let changed: BTreeSet<_> = self.logs.dirty.lock().iter().copied().collect();
        if !changed.is_empty() {
            self.checkpoint()?;
        }
        let finished = self.finish_files(&changed);
        if finished.is_ok() {
            // If this fails, the journal only stays large, or it has failed, which the checkpoint reports.
            let _smaller = self.journal.rest();
        }
        let last = if finished.is_ok() { self.last_checkpoint() } else { self.checkpoint() };
        finished.and(last)
    }

    /// Writes the last index entries of the partitions in use, and Kafka's leader epoch files of those and of
    /// the `changed` ones. The leader epoch files are durable when this returns. The next opening repairs
    /// what an interrupted close leaves of them.
    fn finish_files(&self, changed: &BTreeSet<PartitionNumber>) -> Result<()> {
        let topics = self.registry.topics();
        let logs: Vec<&Arc<Log>> = topics.iter().flat_map(|topic| &topic.logs).collect();
        let threads = spread::threads(&self.config, logs.len());
        let finished = spread::try_map(threads, &logs, |log| log.finish())?;
        // A changed partition that is not in use lost records, and may have no folder.
        let written: Vec<(&Log, bool)> = logs
            .into_iter()
            .zip(finished)
            .filter(|(log, in_use)| *in_use || changed.contains(&log.number()))
            .map(|(log, in_use)| (&**log, in_use))
            .collect();
        for some in written.chunks(self.logs.written_at_once(written.len())) {
            self.export_epochs(some, written.len())?;
        }
        Ok(())
    }

    /// Returns whether the first record of a partition with these epochs came after this opening. It needs no
    /// file then, and no earlier close can have left one.
    fn began_now(&self, epochs: &[(i32, i64)]) -> bool {
        matches!(epochs, [(epoch, 0)] if *epoch == self.epoch)
    }

    /// Writes and syncs the leader epoch files of some of `count` partitions, each with whether it is in use.
    fn export_epochs(&self, some: &[(&Log, bool)], count: usize) -> Result<()> {
        let storage = &*self.storage;
        let threads = spread::threads(&self.config, some.len());
        let exported = spread::try_map(threads, some, |(log, in_use)| {
            let dir = folder_of(log);
            let epochs = log.epochs();
            let written = if self.began_now(&epochs) {
                None
            } else if *in_use {
                files::export_epochs(storage, &dir, &epochs)?
            } else {
                files::mend_epochs(storage, &dir, &epochs)?.map(|file| (file, false))
            };
            Ok::<_, Error>(written.map(|(file, is_new)| {
                // Covered by a sync of the whole storage, the file need not stay open.
                let kept = (!storage.prefers_whole_sync(count)).then_some(file);
                (kept, is_new.then_some(dir))
            }))
        })?;
        let exported: Vec<_> = exported.into_iter().flatten().collect();
        if exported.iter().any(|(file, _)| file.is_none()) {
            storage.sync_whole()?;
        }
        let open = exported.into_iter().filter_map(|(file, dir)| Some((file?, dir)));
        let (files, folders): (Vec<_>, Vec<_>) = open.unzip();
        storage.sync_all(&files)?;
        folders.iter().flatten().try_for_each(|dir| storage.sync_dir(dir))
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
