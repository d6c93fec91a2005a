//! Bringing a partition's files to what the checkpoint says, and finding out whether they can be brought
//! there.
//!
//! After an unclean stop opening settles every partition: what a crash left behind the hard lengths is known
//! to nobody, not even to the journal if power loss took its frames (hazards H1 to H3). Until the recovery
//! checkpoint what was cut is in the cache of the system alone. An opening that is killed before that leaves the
//! header of its journal file, which is durable before anything is cut: the next one makes durable what it finds.
//!
//! A folder that was closed holds exactly what its last checkpoint lists, so nothing is to be done, and what
//! others did to the files meanwhile can wait until somebody wants the partition. Looking into each folder
//! would be nearly all that opening does: of 10,000 partitions, 0.2 of 0.25 s with a warm cache, 2.3 of 2.4 s
//! with a cold one. Reading finds out by itself, by lengths and checksums; appends, for which a journaled
//! record must have a place to be written out to, settle the partition before the first one.

use std::sync::Arc;

use super::Log;
use super::folder::{METADATA_FILE, check_not_foreign, check_topic_id};
use super::segment::Segment;
use super::write_out::WriteOut;
use crate::error::{Error, Result};
use crate::segment::parse_file_name;
use crate::storage::FileKind;
use crate::sync::atomic::Ordering;
use crate::types::planted;

impl Log {
    /// Leaves the files to the first append: the folder was closed. Called before anything can be appended.
    pub(crate) fn settle_later(&self) {
        self.settled.store(false, Ordering::Release);
    }

    /// Settles the files if that was left to the first append. Called without locks of partitions, groups or
    /// the journal. Damage makes the partition refuse appends; an error of another kind is for this call
    /// alone, and the next one tries again.
    #[inline]
    pub(crate) fn settle(&self) -> Result<()> {
        if self.settled.load(Ordering::Acquire) { Ok(()) } else { self.settle_now() }
    }

    #[cold]
    fn settle_now(&self) -> Result<()> {
        // Held to the end: who comes second must not judge files that are written to by then.
        let mut out = self.out.lock();
        // The folder of a deleted topic may be that of the next one of its name (hazard H9).
        if self.settled.load(Ordering::Acquire) || self.is_deleted() {
            return Ok(());
        }
        match self.check_files() {
            Err(error) if !error.is_corruption() => return Err(error),
            Err(damage) => self.set_damaged(damage),
            Ok(damage) => {
                self.cut_locked(&mut out, false)?;
                if let Some(damage) = damage {
                    self.set_damaged(damage);
                }
            }
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the files can hold what the checkpoint says. Changes nothing.
    ///
    /// # Errors
    /// `MissingSegment`, or `Corrupt` for a short file or the folder of another topic, where the next
    /// batch has no place to be written to. Such damage of an earlier segment is returned.
    pub(crate) fn check_files(&self) -> Result<Option<Error>> {
        let storage = &*self.shared.storage;
        let view = self.view();
        let Some((active, sealed)) = view.segments.split_last() else {
            if view.stored_end(self.end_offset()) > 0 {
                // The next batch goes into this folder. It may be gone: it is made again then.
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

    /// Makes the folder hold exactly what the checkpoint lists: cuts segments to their hard length
    /// and removes those begun after it; how many bytes. What was cut becomes durable with the recovery
    /// checkpoint, before anything is acknowledged as `Synced`. `again`: an opening that did so before was cut
    /// short, and what is right by now may be so in the cache of the system alone.
    pub(crate) fn cut_files(&self, again: bool) -> Result<u64> {
        if let Some(active) = self.view().segments.last() {
            active.set_unfinished();
        }
        self.cut_locked(&mut self.out.lock(), again)
    }

    fn cut_locked(&self, out: &mut WriteOut, again: bool) -> Result<u64> {
        if self.shared.storage.metadata(self.dir())?.is_none() {
            return Ok(0);
        }
        out.names_changed |= again;
        let mut cut = self.remove_unlisted_files(out)?;
        let view = self.view();
        // A crash leaves bytes behind the end of the segment that was written to. Behind that of another one
        // they are damage, and told when it is read.
        if let Some(active) = view.segments.last()
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
            let listed =
                view.segments.iter().any(|segment| segment.base_offset() == name.base_offset);
            let unlisted = entry.kind == FileKind::File && !listed;
            if unlisted && !planted("keep_unlisted_segment") {
                let path = self.dir().join(&entry.name);
                bytes = bytes.saturating_add(storage.metadata(&path)?.map_or(0, |(_, len)| len));
                storage.remove(&path)?;
                out.names_changed = true;
            }
        }
        // The folder was being made when the crash came; it is made again with the first batch. A folder whose
        // records are all deleted is whole.
        let metadata = self.dir().join(METADATA_FILE);
        let was_being_made = view.segments.is_empty() && view.stored_end(self.end_offset()) == 0;
        if was_being_made && storage.metadata(&metadata)?.is_some() {
            storage.remove(&metadata)?;
            out.names_changed = true;
        }
        Ok(bytes)
    }
}

/// What is wrong with the first segment that is gone or too short.
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
