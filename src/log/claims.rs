//! Stored sections at recovery: replayed as claims, compared with the files, then adopted ([`super::stored`]).
//!
//! Replay cannot judge a claim when it comes to it. The topic may be deleted and its files removed by a later
//! frame. So it collects the claims, and the caller judges those of the partitions that exist in the end.

use std::path::Path;
use std::sync::Arc;

use super::Log;
use super::folder::read_topic_id;
use super::image::is_deleted;
use super::segment::Segment;
use super::stored::{Adopted, Claim, Described, Proof, StoredSection};
use super::write_out::WriteOut;
use crate::error::{CorruptReason, Error, Result};
use crate::journal::Outside;
use crate::sync::atomic::Ordering;
use crate::types::{Epoch, Lsn, TopicId, planted};

impl Log {
    /// Replays a stored section of the frame at `lsn`. [`Log::adopt`] must follow before anything is read.
    pub(crate) fn replay_stored(
        &self,
        section: &StoredSection,
        epoch: Epoch,
        lsn: Lsn,
    ) -> Result<(), CorruptReason> {
        let mut out = self.out.lock();
        let mut appender = self.appender.lock();
        if section.first_offset != appender.next_offset {
            return Err(CorruptReason::Offsets);
        }
        // The segments hold everything below the section.
        appender.open = None;
        let mut dropped = 0;
        self.swap_view(|view| {
            dropped = view.batches().map(|batch| batch.capacity()).sum();
            view.frozen.clear();
            view.open = None;
        });
        self.release_memory(dropped);
        if appender.epochs.last().is_none_or(|&(last, _)| last < epoch) {
            let first = appender.next_offset;
            self.begin_epoch(&mut appender, epoch, first);
        }
        appender.next_offset = section.end_offset();
        self.enter_dirty_list(&mut appender);
        out.claims.push(Claim { lsn, images: section.images.clone() });
        self.end.store(appender.next_offset, Ordering::Release);
        Ok(())
    }

    /// Returns whether replay found stored sections.
    pub(crate) fn has_claims(&self) -> bool {
        !self.out.lock().claims.is_empty()
    }

    /// Returns the position of the first frame whose stored section the files in `dir` do not prove. Frames
    /// below `known_synced` need no proof (S3).
    ///
    /// # Errors
    /// `Corrupt` if the sections contradict each other or the checkpoint; errors of reading.
    pub(crate) fn first_unproven(&self, dir: &Path, known_synced: Lsn) -> Result<Option<Lsn>> {
        let out = self.out.lock();
        let mut described = self.described(&out);
        let mut proof: Option<Proof> = None;
        for claim in &out.claims {
            self.add(&mut described, claim, known_synced)?;
            for (before, image) in described.unproven.drain(..) {
                let base = image.base_offset;
                if self.is_gone(&out, base) {
                    continue;
                }
                let mut open = match proof.take() {
                    Some(proof) if proof.is_of(base) => proof,
                    _ => Proof::open(&*self.shared.storage, dir, base, self.shared.reads.maps())?,
                };
                let proven = open.has_grown(&before, &image)?;
                proof = Some(open);
                if !proven && !planted("believe_stored_section") {
                    return Ok(Some(claim.lsn));
                }
            }
        }
        Ok(None)
    }

    /// Extends the segments to what the claims describe. The caller has found all of them proven.
    ///
    /// # Errors
    /// `Corrupt` if the sections contradict each other or the checkpoint.
    pub(crate) fn adopt(&self, known_synced: Lsn) -> Result<()> {
        let mut out = self.out.lock();
        if out.claims.is_empty() {
            return Ok(());
        }
        let mut described = self.described(&out);
        for claim in &out.claims {
            self.add(&mut described, claim, known_synced)?;
        }
        let view = self.view();
        let interval = self.config().index_interval_bytes;
        let segments: Vec<Arc<Segment>> = described
            .segments
            .iter()
            .map(|image| match view.segments.iter().find(|known| known.image() == *image) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Segment::existing(self.segment_folder(), *image, interval)),
            })
            .collect();
        segments.iter().rev().skip(1).for_each(|sealed| sealed.seal());
        let unproven = !described.unproven.is_empty();
        for (before, image) in described.unproven {
            let base = image.base_offset;
            // Nobody reads deleted records, so their bytes need not be written again.
            if self.is_gone(&out, base) {
                continue;
            }
            if let Some(segment) = segments.iter().find(|segment| segment.base_offset() == base) {
                let segment = Arc::clone(segment);
                out.adopted.push(Adopted { segment, from: before.len, until: image.len });
            }
        }
        out.claims.clear();
        out.claimed = segments.last().map_or(out.claimed, |last| last.end_offset());
        out.names_changed = true;
        out.folder_created |= view.segments.is_empty();
        out.folder_unproven = view.segments.is_empty() && unproven;
        self.swap_view(|view| view.segments = Arc::new(segments));
        Ok(())
    }

    /// Returns whether power loss may have taken `partition.metadata` alone: the folder was new, and only adopted
    /// bytes say that it belongs to the partition, or nothing does, because its records are deleted.
    ///
    /// The file may then hold an old disk block with the id of another topic. `is_of` returns whether the folder is
    /// really that topic's.
    ///
    /// # Errors
    /// Those of reading the folder.
    pub(crate) fn needs_metadata(&self, is_of: impl Fn(TopicId) -> Result<bool>) -> Result<bool> {
        let (unproven, proven) = {
            let out = self.out.lock();
            (out.folder_unproven, !out.adopted.is_empty())
        };
        if !unproven || proven || planted("deleted_folder_not_mended") {
            return Ok(unproven && proven);
        }
        let storage = &*self.shared.storage;
        if storage.metadata(self.dir())?.is_none() {
            return Ok(false);
        }
        match read_topic_id(storage, self.dir())? {
            Some(id) if id != self.topic_id() => Ok(!planted("old_block_believed") && !is_of(id)?),
            _ => Ok(true),
        }
    }

    /// Lets no checkpoint sync the folder if it is not there. Power loss may have taken a folder of which no record is
    /// left, since nothing asks for a proof of deleted records; or somebody has removed it. The next batch creates it
    /// again.
    ///
    /// # Errors
    /// Those of looking for the folder.
    pub(crate) fn forget_lost_folder(&self) -> Result<()> {
        let mut out = self.out.lock();
        if out.names_changed
            && self.shared.storage.metadata(self.dir())?.is_none()
            && !planted("lost_folder_synced")
        {
            (out.folder_created, out.names_changed) = (false, false);
        }
        Ok(())
    }

    /// Writes the adopted bytes again, without a checkpoint. Returns what the caller has to sync, also if a
    /// checkpoint has written them again and then failed.
    pub(crate) fn keep_adopted(&self) -> Result<Option<Outside>> {
        let mut out = self.out.lock();
        out.write_adopted_again()?;
        let unsynced = !out.unsynced.is_empty() || out.has_left();
        Ok(unsynced.then(|| self.outside(&out)))
    }

    /// Returns whether the log start has passed the segment of this base offset, as the last claim describes it.
    /// Its file may be removed.
    fn is_gone(&self, out: &WriteOut, base_offset: i64) -> bool {
        let images = out.claims.iter().rev().flat_map(|claim| &claim.images);
        let mut of_base = images.filter(|image| image.base_offset == base_offset);
        of_base.next().is_some_and(|image| is_deleted(image, self.start_offset()))
            && !planted("prove_deleted_segments")
    }

    fn described(&self, out: &WriteOut) -> Described {
        let segments = self.view().segments.iter().map(|segment| segment.image()).collect();
        let start = if planted("chain_below_log_start") { 0 } else { self.start_offset() };
        Described { segments, hard_end: out.claimed, start, unproven: Vec::new() }
    }

    fn add(&self, described: &mut Described, claim: &Claim, known_synced: Lsn) -> Result<()> {
        let trusted = claim.lsn < known_synced && !planted("prove_synced_sections");
        described.add(claim, trusted).ok_or_else(|| {
            let path = self.shared.storage.display_path(self.dir());
            Error::corrupt(path, 0, CorruptReason::Offsets)
        })
    }
}

impl WriteOut {
    /// Writes the adopted bytes again (S4). The caller then syncs the files.
    pub(super) fn write_adopted_again(&mut self) -> Result<()> {
        if planted("adopted_bytes_not_written_again") {
            return Ok(());
        }
        while let Some(adopted) = self.adopted.last() {
            let file = adopted.write_again()?;
            self.add_unsynced(&file);
            self.adopted.pop();
        }
        Ok(())
    }
}
