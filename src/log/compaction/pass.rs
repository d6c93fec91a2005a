//! Runs passes, and says which part of a log one would clean.

use std::sync::Arc;

use super::sink::FileSink;
use super::source::FileSource;
use super::{Compacted, Compaction, CompactionJob, Totals};
use crate::cleaner::{
    CleanError, Cleaned, FilterSettings, GroupLimits, LogInfo, NotCleaned, Pass, SegmentInfo,
    SelectSettings, Selection, group, select,
};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::log::image::is_deleted;
use crate::log::segment::Segment;
use crate::log::stable::TransactionIndex;
use crate::log::view::View;
use crate::log::write_out::Opens;
use crate::producer_state::AbortedIndex;
use crate::record::DEFAULT_MAX_DECOMPRESSED_BYTES;
use crate::sync::atomic::Ordering;
use crate::types::{Timestamp, planted};

/// The least size of a segment of a compacted topic, in bytes, unless `segment.bytes` is smaller.
const LEAST_ROLL: u64 = 1 << 20;

impl Log {
    fn compaction(&self) -> &Compaction {
        self.compaction.get_or_init(Box::default)
    }

    /// Stops a pass, and waits for its end. No pass begins afterwards.
    pub(in crate::log) fn stop_compaction(&self) {
        let compaction = self.compaction();
        compaction.stop.store(true, Ordering::Release);
        drop(compaction.running.lock());
    }

    /// Returns what compaction has done since the folder was opened.
    pub(crate) fn compacted(&self) -> Totals {
        self.compaction.get().map_or_else(Totals::default, |compaction| *compaction.totals.lock())
    }

    /// Returns the damage that keeps the partition from being compacted.
    pub(crate) fn compaction_damage(&self) -> Option<Error> {
        let damage = self.compaction.get()?.damage.lock().clone();
        damage.filter(|(revision, _)| self.is_at(*revision)).map(|(_, damage)| damage)
    }

    /// Returns the size in bytes at which a segment of a compacted topic ends: it is no larger than all complete ones
    /// together. Otherwise a small table would never be compacted, because the active segment is not.
    pub(in crate::log) fn compacted_roll_bytes(&self, most: u64) -> u64 {
        let view = self.view();
        let complete = view.segments.split_last().map_or(&[][..], |(_, complete)| complete);
        let most = most.min(self.most_of_a_copy());
        let mut sum: u64 = 0;
        for segment in complete {
            // Every batch asks for the size, so this looks at no more segments than it needs.
            if sum >= most {
                break;
            }
            sum = sum.saturating_add(segment.len());
        }
        sum.max(LEAST_ROLL).min(most)
    }

    /// Returns how many bytes of segments a disk budget allows to copy at a time.
    fn most_of_a_copy(&self) -> u64 {
        self.shared.ledger.as_ref().map_or(u64::MAX, |ledger| ledger.copy_limit())
    }

    /// Returns which part of the log a pass would clean, and why none is cleaned.
    pub(crate) fn cleanable(&self, now: Timestamp) -> Selection {
        let view = self.view();
        let index = self.known_transactions();
        let end = self.end_offset();
        let stable = index.and_then(|index| index.last_stable_offset(end).ok()).unwrap_or(end);
        self.select(&self.infos(&view, now).0, stable, now)
    }

    fn select(&self, infos: &[SegmentInfo], last_stable_offset: i64, now: Timestamp) -> Selection {
        let config = self.config();
        let end = self.end_offset();
        let checkpoint = self.first_dirty.load(Ordering::Acquire);
        let durable = self.listed_end.load(Ordering::Acquire);
        let log = LogInfo {
            segments: infos,
            log_start_offset: self.start_offset(),
            log_end_offset: end,
            last_stable_offset,
            durable_end_offset: durable,
            checkpoint: (checkpoint >= 0).then_some(checkpoint),
        };
        let settings = SelectSettings {
            min_cleanable_dirty_ratio: config.min_dirty_ratio(),
            min_compaction_lag_ms: signed(config.min_compaction_lag_ms),
            max_compaction_lag_ms: config.max_compaction_lag_ms.map_or(i64::MAX, signed),
        };
        select(&log, &settings, now.as_millis())
    }

    /// Returns the segments that are not deleted, as the selection sees them, and the segments themselves. The last
    /// one is the active one, even if it is empty and has no file.
    fn infos(&self, view: &View, now: Timestamp) -> (Vec<SegmentInfo>, Vec<Arc<Segment>>) {
        let start = self.start_offset();
        let kept = view.segments.iter().filter(|segment| !is_deleted(&segment.image(), start));
        let kept: Vec<_> = kept.cloned().collect();
        let mut infos: Vec<_> = kept.iter().map(|segment| info(segment, now)).collect();
        if kept.last().is_none_or(|last| last.is_sealed()) {
            let end = kept.last().map_or(start, |last| last.end_offset());
            infos.push(SegmentInfo {
                base_offset: end,
                end_offset: end,
                log_bytes: 0,
                index_bytes: 0,
                time_index_bytes: 0,
                first_timestamp: -1,
                largest_timestamp: -1,
            });
        }
        (infos, kept)
    }

    /// Runs a pass, if one is due. The caller runs one pass at a time and holds no lock of the partition.
    ///
    /// # Errors
    /// `Corrupt` or `MissingSegment` if the pass meets damage; other errors of reading, writing and syncing. The log
    /// is as it was before, except for segments that are already replaced.
    pub(crate) fn compact(&self, job: &CompactionJob<'_>) -> Result<Compacted> {
        let compaction = self.compaction();
        let _running = compaction.running.lock();
        if compaction.stop.load(Ordering::Acquire) {
            return Ok(Compacted::Interrupted);
        }
        let mut index = self.known_transactions();
        loop {
            if let Some(compacted) = self.try_to_compact(job, index.as_deref())? {
                return Ok(compacted);
            }
            index = Some(self.beside_deletions(|| self.transactions())?);
        }
    }

    /// Returns `None` if the pass met a batch of a producer, and the caller gave no index. A log of this engine alone
    /// holds none, so it needs no scan.
    fn try_to_compact(
        &self,
        job: &CompactionJob<'_>,
        index: Option<&TransactionIndex>,
    ) -> Result<Option<Compacted>> {
        let compaction = self.compaction();
        let view = self.view();
        let (infos, segments) = self.infos(&view, job.now);
        let end = self.end_offset();
        let stable = index.map_or(Ok(end), |index| index.last_stable_offset(end));
        let selection = self.select(&infos, stable.as_ref().copied().unwrap_or(end), job.now);
        match selection.not_cleaned {
            Some(NotCleaned::DirtyRatio { .. } | NotCleaned::NothingDirty) if job.forced => {}
            Some(reason) => return Ok(Some(Compacted::NotCleaned(reason))),
            None => {}
        }
        if self.compaction_damage().is_some() && !job.forced {
            return Ok(Some(Compacted::Interrupted));
        }
        // Settling removes all files that the view does not name. So it comes before the copies of a pass, and before
        // the replaced segments that wait for a checkpoint.
        if !planted("pass_before_settling") {
            self.check_deletable()?;
        }
        self.check_room(job, &selection, &infos)?;
        let revision = self.revision();
        let source = FileSource::new(&segments, job.pace, index.is_some());
        let cleaned = stable.and_then(|_| self.run_pass(job, &selection, &infos, &source, index));
        let damage = cleaned.as_ref().err().filter(|error| error.is_corruption()).cloned();
        *compaction.damage.lock() = damage.map(|damage| (revision, damage));
        let Some(Cleaned { next_dirty_offset, stats, .. }) = cleaned? else {
            return Ok((!source.has_met_producer()).then_some(Compacted::Interrupted));
        };
        self.covered(next_dirty_offset);
        let mut totals = compaction.totals.lock();
        totals.passes = totals.passes.saturating_add(1);
        totals.stats.add(&stats);
        let again = next_dirty_offset < selection.first_uncleanable_offset;
        Ok(Some(Compacted::Done { again }))
    }

    /// Checks that the disk has room for each segment that a pass would write. What it replaces makes room for the
    /// next one.
    fn check_room(
        &self,
        job: &CompactionJob<'_>,
        selection: &Selection,
        infos: &[SegmentInfo],
    ) -> Result<()> {
        let end = selection.first_uncleanable_offset;
        let count = infos.partition_point(|info| info.end_offset <= end);
        let covered = infos.get(..count.min(infos.len().saturating_sub(1))).unwrap_or_default();
        let sizes = group(covered, self.copy_limits()).into_iter().map(|range| {
            let group = covered.get(range).unwrap_or_default();
            group.iter().fold(0_u64, |sum, info| sum.saturating_add(info.log_bytes))
        });
        self.check_free(sizes.max().unwrap_or(0), job.keep_free)
    }

    /// Checks that the disk has room for a copy of so many bytes.
    ///
    /// # Errors
    /// `DiskFull`.
    pub(super) fn check_free(&self, bytes: u64, keep_free: u64) -> Result<()> {
        // A storage that cannot tell says so when it is full.
        let free = self.shared.storage.free_space().unwrap_or(u64::MAX);
        if free < bytes.saturating_add(keep_free) {
            return Err(Error::DiskFull { path: self.shared.storage.display_path(self.dir()) });
        }
        Ok(())
    }

    /// Returns the limits of a segment that a pass writes.
    fn copy_limits(&self) -> GroupLimits {
        GroupLimits {
            segment_bytes: u64::from(self.config().segment_bytes).min(self.most_of_a_copy()),
            index_bytes: u64::MAX,
        }
    }

    /// Returns `None` if the pass was interrupted.
    fn run_pass(
        &self,
        job: &CompactionJob<'_>,
        selection: &Selection,
        infos: &[SegmentInfo],
        source: &FileSource<'_>,
        index: Option<&TransactionIndex>,
    ) -> Result<Option<Cleaned>> {
        let segments = source.segments();
        let (no_aborted, producers) =
            (AbortedIndex::default(), index.map(|i| i.producers(job.now)));
        let config = self.config();
        let stop = &self.compaction().stop;
        // A changed setting ends the pass too: it may be the policy.
        let revision = self.revision();
        let interrupted =
            || stop.load(Ordering::Acquire) || !self.is_at(revision) || job.pace.is_interrupted();
        let sealed = infos.get(..infos.len().saturating_sub(1)).unwrap_or_default();
        let pass = Pass {
            segments: sealed,
            first_dirty_offset: selection.first_dirty_offset,
            first_uncleanable_offset: selection.first_uncleanable_offset,
            aborted: index.map_or(&no_aborted, |index| index.aborted()),
            producers: &producers.unwrap_or_default(),
            settings: FilterSettings {
                now: job.now.as_millis(),
                delete_retention_ms: signed(config.delete_retention_ms),
                high_watermark: self.end_offset(),
                max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
            },
            limits: self.copy_limits(),
            map_bytes: job.map_bytes,
            hash_key: &job.hash_key,
            interrupted: &interrupted,
        };
        let mut sink = FileSink::new(self, segments, job);
        let cleaned = pass.run(source, &mut sink);
        drop(sink);
        match cleaned {
            Ok(cleaned) => Ok(Some(cleaned)),
            Err(CleanError::Interrupted) => Ok(None),
            Err(CleanError::Failed(error)) => self.unless_gone(segments, error),
            Err(CleanError::Undecodable { segment, position, error }) => {
                let damaged = segments.iter().find(|known| known.base_offset() == segment);
                let path = damaged.map(|segment| segment.log_path()).unwrap_or_default();
                Err(error.into_error(&path, position))
            }
            Err(CleanError::MapTooSmall { max_bytes }) => Err(Error::LimitExceeded {
                what: "bytes for one key, while log.cleaner.dedupe.buffer.size",
                found: 24,
                max: max_bytes as u64,
            }),
        }
    }

    /// Returns the error of a pass, or `None` if it comes from segments that were deleted meanwhile.
    fn unless_gone(&self, segments: &[Arc<Segment>], error: Error) -> Result<Option<Cleaned>> {
        let view = self.view();
        let is_there =
            |segment: &Arc<Segment>| view.segments.iter().any(|known| Arc::ptr_eq(known, segment));
        let start = self.start_offset();
        // Those that the pass itself has replaced are complete, so it does not read them any more.
        let gone = segments.iter().any(|segment| {
            !segment.is_replaced() && (!is_there(segment) || is_deleted(&segment.image(), start))
        });
        if gone || self.is_deleted() { Ok(None) } else { Err(error) }
    }

    /// Ends the active segment, so that the next pass may cover it. What is in memory goes into it first. Returns
    /// false if that is not possible now.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn roll(&self) -> Result<bool> {
        self.settle()?;
        if self.failure().is_some() {
            return Ok(false);
        }
        self.freeze_open(&mut self.appender.lock());
        let mut out = self.out.lock();
        let _busy = self.begin_write_out();
        if self.is_deleted() || self.is_closed() || !self.drain(&mut out, Opens::Some)? {
            return Ok(false);
        }
        let Some(active) = self.view().segments.last().cloned() else { return Ok(false) };
        if active.is_sealed() || active.len() == 0 || !active.can_go_on()? {
            return Ok(false);
        }
        active.finish(true)?;
        active.seal();
        Ok(true)
    }

    /// Ends the active segment if it holds a record that is older than `max.compaction.lag.ms`.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn roll_old(&self, now: Timestamp) -> Result<()> {
        let config = self.config();
        let Some(lag) = config.max_compaction_lag_ms else { return Ok(()) };
        self.write_out_old(now, lag, config.roll_ms());
        let view = self.view();
        let is_old = |active: &Arc<Segment>| {
            let first = active.image().first_timestamp;
            let age = now.as_millis().saturating_sub(first);
            !active.is_sealed() && first > 0 && u64::try_from(age).is_ok_and(|age| age > lag)
        };
        if view.segments.last().is_some_and(is_old) {
            self.roll()?;
        }
        Ok(())
    }
}

fn info(segment: &Arc<Segment>, now: Timestamp) -> SegmentInfo {
    let image = segment.image();
    let stamped = (image.max_timestamp >= 0).then_some(image.max_timestamp);
    // Without a timestamp, or with one in the future, they age from when that was first seen, as for retention.
    if segment.is_sealed() && stamped.is_none_or(|stamped| stamped > now.as_millis()) {
        segment.notice(now.as_millis());
    }
    let largest = match (stamped, segment.noticed()) {
        (Some(stamped), Some(noticed)) => Some(stamped.min(noticed)),
        (stamped, noticed) => stamped.or(noticed),
    };
    SegmentInfo {
        base_offset: image.base_offset,
        end_offset: image.end_offset,
        log_bytes: image.len,
        // Their files have no limit here.
        index_bytes: 0,
        time_index_bytes: 0,
        first_timestamp: image.first_timestamp,
        largest_timestamp: largest.unwrap_or(-1),
    }
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
