//! Settling: makes a partition's files match the checkpoint, and checks whether they can.
//!
//! After an unclean stop, opening settles every partition. Nothing describes the bytes that a crash left
//! after the hard lengths. Not even the journal does, if power loss took its frames (hazards H1 to H3). Until
//! the recovery checkpoint, a truncation is only in the system's cache. An opening that is killed before then
//! leaves the header of its journal file, which is durable before anything is truncated. The next opening
//! finds that header, and makes the truncated files durable.
//!
//! A closed folder holds exactly the files that its last checkpoint lists, so there is nothing to settle.
//! Changes that others made to the files meanwhile matter only once the partition is used. Checking each
//! folder would dominate opening: with 10,000 partitions, 0.2 of 0.25 s with a warm cache, and 2.3 of 2.4 s
//! with a cold one. Reads detect such changes by lengths and checksums. A journaled record needs a place to
//! be written out to, so the first append settles the partition.

use std::sync::Arc;

use super::Log;
use super::folder::{METADATA_FILE, check_not_foreign, check_topic_id};
use super::image::is_deleted;
use super::segment::Segment;
use super::write_out::WriteOut;
use crate::error::{Error, Result};
use crate::segment::parse_file_name;
use crate::storage::FileKind;
use crate::sync::atomic::Ordering;
use crate::types::planted;

impl Log {
    /// Defers settling to the first append, because the folder was closed. Called before any append.
    pub(crate) fn settle_later(&self) {
        self.settled.store(false, Ordering::Release);
    }

    /// Settles the files if that was deferred to the first append. The caller must hold no locks of
    /// partitions, groups or the journal.
    ///
    /// Damage makes the partition reject appends.
    ///
    /// # Errors
    /// `Closed` if the folder may belong to its next writer. Any other error fails this call alone; the next call
    /// tries again.
    #[inline]
    pub(crate) fn settle(&self) -> Result<()> {
        if self.settled.load(Ordering::Acquire) { Ok(()) } else { self.settle_now() }
    }

    #[cold]
    fn settle_now(&self) -> Result<()> {
        // Held to the end, so a second caller does not check files that are already being written to.
        let mut out = self.out.lock();
        // The folder of a deleted topic may already belong to the next topic of that name (hazard H9).
        if self.settled.load(Ordering::Acquire) || self.is_deleted() {
            return Ok(());
        }
        if self.is_closed() && !planted("settle_after_close") {
            return Err(Error::Closed);
        }
        match self.check_files() {
            Err(error) if !error.is_corruption() => return Err(error),
            Err(damage) => self.set_damaged(damage),
            Ok(damage) => {
                self.cut_locked(&mut out, false, false)?;
                if let Some(damage) = damage {
                    self.set_damaged(damage);
                }
            }
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// Checks whether the files can hold the data that the checkpoint lists. Changes nothing. Returns the
    /// first damage of an earlier segment, which does not keep the next batch from being written.
    ///
    /// # Errors
    /// `MissingSegment` if the last segment is missing, or if the folder of the segments is; `Corrupt` if the
    /// last segment is too short or the folder belongs to another topic. In each case, the next batch has no
    /// place to be written to.
    pub(crate) fn check_files(&self) -> Result<Option<Error>> {
        let storage = &*self.shared.storage;
        let view = self.view();
        // Nobody reads deleted segments, and no batch is added to them.
        let start = self.start_offset();
        let kept = view.segments.iter().filter(|segment| !is_deleted(&segment.image(), start));
        let kept: Vec<_> = kept.cloned().collect();
        let Some((active, sealed)) = kept.split_last() else {
            if view.stored_end(self.end_offset()) > 0 {
                // The next batch goes into this folder. A missing folder is created again then.
                check_not_foreign(storage, self.dir(), self.topic_id())?;
            }
            return Ok(None);
        };
        if storage.metadata(self.dir())?.is_none() {
            return Err(sealed.first().unwrap_or(active).missing());
        }
        check_topic_id(storage, self.dir(), self.topic_id())?;
        active.check_file()?;
        first_damage(sealed)
    }

    /// Makes the folder hold exactly the files that the checkpoint lists. Truncates the last segment to its
    /// hard length and removes segments begun after the checkpoint. Returns the number of bytes removed.
    ///
    /// The recovery checkpoint makes the truncation durable, before any record is acknowledged as `Synced`.
    /// `again` says that an earlier opening was killed while recovering. Its truncations may be only in the
    /// system's cache, so the files are synced even if they are right.
    pub(crate) fn cut_files(&self, again: bool) -> Result<u64> {
        if let Some(active) = self.view().segments.last() {
            active.set_unfinished();
        }
        // A killed process may have removed segments and not synced that. Power loss would bring their files back,
        // and nobody would remove them.
        let cleaned = self.view().segments.iter().any(|segment| segment.is_cleaned());
        let compacted = (cleaned || self.first_dirty.load(Ordering::Acquire) >= 0)
            && !planted("replaced_not_removed_again");
        let removed = self.start_offset() > 0 && !planted("removals_not_synced_again") || compacted;
        self.cut_locked(&mut self.out.lock(), again, removed)
    }

    fn cut_locked(&self, out: &mut WriteOut, again: bool, removed: bool) -> Result<u64> {
        if self.shared.storage.metadata(self.dir())?.is_none() {
            return Ok(0);
        }
        out.names_changed |= again || removed;
        let mut cut = self.remove_unlisted_files(out)?;
        let view = self.view();
        // A crash leaves bytes after the end of the segment being written to. After the end of any other
        // segment they are damage, which readers report. A cleaned one was complete before it was listed.
        if let Some(active) = view.segments.last()
            && !active.is_cleaned()
            && !planted("believe_segment")
        {
            if let Some((bytes, file)) = active.cut_to_hard_length()? {
                cut = cut.saturating_add(bytes);
                out.unsynced.push(file);
            } else if again {
                out.unsynced.push(active.file()?);
            }
        }
        if out.names_changed || !out.unsynced.is_empty() {
            self.mark_dirty();
        }
        Ok(cut)
    }

    fn remove_unlisted_files(&self, out: &mut WriteOut) -> Result<u64> {
        let storage = &*self.shared.storage;
        let view = self.view();
        let mut bytes: u64 = 0;
        for entry in storage.list(self.dir())? {
            let Some(name) = parse_file_name(&entry.name) else { continue };
            let listed = view.segments.iter().any(|segment| segment.id() == name.id);
            let unlisted = entry.kind == FileKind::File && !listed;
            if unlisted && !planted("keep_unlisted_segment") {
                let path = self.dir().join(&entry.name);
                bytes = bytes.saturating_add(storage.metadata(&path)?.map_or(0, |(_, len)| len));
                storage.remove(&path)?;
                out.names_changed = true;
            }
        }
        // The crash interrupted the creation of the folder. The first batch creates it again. A folder whose
        // records are all deleted is complete.
        let metadata = self.dir().join(METADATA_FILE);
        let was_being_made = view.segments.is_empty() && view.stored_end(self.end_offset()) == 0;
        if was_being_made && storage.metadata(&metadata)?.is_some() {
            storage.remove(&metadata)?;
            out.names_changed = true;
        }
        Ok(bytes)
    }
}

/// Returns the damage of the first segment that is missing or too short.
fn first_damage(segments: &[Arc<Segment>]) -> Result<Option<Error>> {
    for segment in segments {
        match segment.check_file() {
            Ok(()) => {}
            Err(error) if error.is_corruption() => return Ok(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
