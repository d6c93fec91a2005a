//! Writes the segments of a pass.

use std::sync::Arc;

use super::{CompactionJob, Pace};
use crate::cleaner::{SegmentInfo, Sink, Stats};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::segment::{BatchPlace, Segment};
use crate::producer_state::AbortedTransaction;
use crate::record::BatchHeader;
use crate::segment::SegmentId;
use crate::storage::{Charge, Ledger};
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// How many bytes are written at a time.
const WRITE_BYTES: usize = 1 << 20;

pub(super) struct FileSink<'a> {
    log: &'a Log,
    segments: &'a [Arc<Segment>],
    pace: &'a dyn Pace,
    /// Batches that are not written yet.
    buffer: Vec<u8>,
    places: Vec<BatchPlace>,
    begun: Option<Begun<'a>>,
    /// The room in the disk budget that the segment may still take.
    charge: Option<Charge>,
    keep_free: u64,
}

/// A segment that is being written.
struct Begun<'a> {
    /// The segments that it replaces.
    sources: &'a [Arc<Segment>],
    segment: Arc<Segment>,
}

impl<'a> FileSink<'a> {
    pub(super) fn new(log: &'a Log, segments: &'a [Arc<Segment>], job: &CompactionJob<'a>) -> Self {
        Self {
            log,
            segments,
            pace: job.pace,
            buffer: Vec::new(),
            places: Vec::new(),
            begun: None,
            charge: None,
            keep_free: job.keep_free,
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(begun) = &self.begun else { return Ok(()) };
        if !self.buffer.is_empty() {
            if let Some(charge) = &self.charge {
                charge.spend(self.buffer.len() as u64);
            }
            begun.segment.append_places(&self.buffer, &self.places)?;
            self.pace.spend(self.buffer.len() as u64);
            self.buffer.clear();
            self.places.clear();
        }
        Ok(())
    }

    /// Removes what was begun.
    fn discard(&mut self) {
        self.buffer.clear();
        self.places.clear();
        let Some(begun) = self.begun.take() else { return };
        begun.segment.close_file();
        let removed = begun.segment.remove_files();
        if !self.log.is_deleted() {
            // A checkpoint may have synced the name meanwhile, so the next one has to sync that it is gone.
            self.log.out.lock().names_changed = true;
            self.log.mark_dirty();
        }
        if removed.is_err() {
            // Nothing lists them, so the next opening removes them.
            self.log.shared.left_over.store(true, Ordering::Release);
        }
    }
}

impl Sink for FileSink<'_> {
    fn begin(&mut self, group: &[SegmentInfo]) -> Result<()> {
        let first = group.first().map_or(0, |first| first.base_offset);
        let at = self.segments.partition_point(|segment| segment.base_offset() < first);
        let sources = self.segments.get(at..at.saturating_add(group.len())).unwrap_or_default();
        let replaced = sources.first().ok_or(Error::Closed)?.id();
        let bytes = group.iter().fold(0_u64, |sum, info| sum.saturating_add(info.log_bytes));
        self.log.check_free(bytes, self.keep_free)?;
        self.charge =
            self.log.shared.ledger.as_ref().map(|ledger| charge(ledger, bytes)).transpose()?;
        let id = SegmentId { generation: replaced.generation.saturating_add(1), ..replaced };
        let interval = self.log.config().index_interval_bytes;
        let segment = Segment::create_cleaned(self.log.segment_folder(), id, interval)?;
        self.begun = Some(Begun { sources, segment: Arc::new(segment) });
        Ok(())
    }

    fn batch(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.places.push(BatchPlace {
            bytes: bytes.len() as u64,
            end_offset: header.next_offset(),
            max_timestamp: header.max_timestamp,
        });
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn aborted(&mut self, _: &AbortedTransaction) -> Result<()> {
        // Readers find it again in the marker, which stays.
        Ok(())
    }

    fn end(&mut self, stats: &Stats) -> Result<()> {
        self.flush()?;
        let Some(Begun { sources, segment }) = &self.begun else { return Ok(()) };
        let as_before = stats.is_unchanged() && sources.len() == 1;
        if !as_before {
            let end_offset = sources.last().map_or(0, |last| last.end_offset());
            segment.complete(end_offset)?;
            if !planted("cleaned_segment_not_synced") {
                segment.file()?.sync_data()?;
            }
            segment.close_file();
            if self.log.replace(sources, segment) {
                self.begun = None;
                return Ok(());
            }
        }
        self.discard();
        if as_before { Ok(()) } else { Err(Error::Closed) }
    }
}

/// Takes room for a copy from the disk budget.
fn charge(ledger: &Arc<Ledger>, bytes: u64) -> Result<Charge> {
    let needed = Ledger::copy_room(bytes);
    ledger.try_charge_copy(needed).ok_or_else(|| ledger.refusal(needed))
}

impl Drop for FileSink<'_> {
    fn drop(&mut self) {
        self.discard();
    }
}
