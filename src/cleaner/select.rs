//! Which part of a log is cleaned, and whether it is worth a pass (`LogCleanerManager`).
//!
//! ```text
//! log start        first dirty      first uncleanable    log end
//! |-- cleaned before --|-- cleanable -------|-- active, too young, undecided, or not durable --|
//! ```
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::SegmentInfo;

/// The settings of a topic that decide when it is cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SelectSettings {
    /// `min.cleanable.dirty.ratio`, 0 to 1.
    pub(crate) min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`, 0 or more.
    pub(crate) min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`, 1 or more; `i64::MAX` if there is no limit.
    pub(crate) max_compaction_lag_ms: i64,
}

/// A log as the selection sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogInfo<'a> {
    /// All segments, oldest first. The last one is the active one.
    pub(crate) segments: &'a [SegmentInfo],
    /// The log start offset.
    pub(crate) log_start_offset: i64,
    /// The log end offset.
    pub(crate) log_end_offset: i64,
    /// The first offset of the oldest open transaction, or the high watermark.
    pub(crate) last_stable_offset: i64,
    /// The end of the part that no crash can take back.
    pub(crate) durable_end_offset: i64,
    /// Where the last pass ended, if there was one.
    pub(crate) checkpoint: Option<i64>,
}

/// Why a log is not cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NotCleaned {
    /// There is data only in the active segment.
    OnlyActiveSegment,
    /// All data below the active segment is clean.
    NothingDirty,
    /// The oldest dirty segment holds a record that is younger than `min.compaction.lag.ms`.
    MinCompactionLag {
        /// The base offset of that segment.
        segment: i64,
        /// The time in ms from which it is old enough.
        until: i64,
    },
    /// A transaction is open that began in the oldest dirty segment or before it.
    OpenTransaction {
        /// The first offset of the transaction.
        last_stable_offset: i64,
    },
    /// A crash could take back the end of the oldest dirty segment.
    NotDurable {
        /// The end of the part that is durable.
        durable_end_offset: i64,
    },
    /// The dirty part is too small.
    DirtyRatio {
        /// Cleanable bytes by all bytes, 0 to 1.
        ratio: f64,
        /// `min.cleanable.dirty.ratio`, which the ratio must exceed.
        required: f64,
    },
}

/// What is to be cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Selection {
    /// The first offset that no pass has covered.
    pub(crate) first_dirty_offset: i64,
    /// The first offset that must not be cleaned yet. `first_dirty_offset` or more.
    pub(crate) first_uncleanable_offset: i64,
    /// The size of the segments that begin in the clean part, in bytes.
    pub(crate) clean_bytes: u64,
    /// The size of the segments that a pass would make clean, in bytes. A segment that the first dirty offset
    /// splits counts on both sides.
    pub(crate) cleanable_bytes: u64,
    /// Whether a dirty segment is older than `max.compaction.lag.ms`.
    pub(crate) must_clean_now: bool,
    /// Whether the checkpoint lies outside the log and is to be replaced by the first dirty offset.
    pub(crate) reset_checkpoint: bool,
    /// Why the log is not cleaned now, or `None` if it is.
    pub(crate) not_cleaned: Option<NotCleaned>,
}

impl Selection {
    /// Returns the share of cleanable bytes, 0 to 1. Of several logs the one with the largest goes first.
    pub(crate) fn ratio(&self) -> f64 {
        match self.clean_bytes.saturating_add(self.cleanable_bytes) {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }
}

/// Decides whether a log is cleaned at `now` (ms), and which part of it.
pub(crate) fn select(log: &LogInfo<'_>, settings: &SelectSettings, now: i64) -> Selection {
    let (first_dirty_offset, reset_checkpoint) = first_dirty(log);
    let (active, sealed) = match log.segments.split_last() {
        Some((active, sealed)) => (active.base_offset, sealed),
        None => (log.log_end_offset, log.segments),
    };
    let dirty = sealed.get(first_ending_after(sealed, first_dirty_offset)..).unwrap_or_default();
    let young = first_young(dirty, settings.min_compaction_lag_ms, now);
    let bound = log.last_stable_offset.min(log.durable_end_offset).min(active);
    let bound = young.map_or(bound, |segment| bound.min(segment.base_offset));

    // A segment is cleaned as a whole or not at all.
    let end = sealed.get(first_ending_after(sealed, bound)).map_or(active, |s| s.base_offset);
    let cleanable = dirty.iter().take_while(|segment| segment.base_offset < end);
    let clean = sealed.iter().take_while(|segment| segment.base_offset < first_dirty_offset);
    let mut selection = Selection {
        first_dirty_offset,
        first_uncleanable_offset: bound.max(first_dirty_offset),
        clean_bytes: bytes(clean),
        cleanable_bytes: bytes(cleanable),
        must_clean_now: is_overdue(dirty, settings.max_compaction_lag_ms, now),
        reset_checkpoint,
        not_cleaned: None,
    };
    selection.not_cleaned = if selection.cleanable_bytes > 0 {
        ratio_too_low(&selection, settings)
    } else if bytes(sealed.iter()) == 0 {
        Some(NotCleaned::OnlyActiveSegment)
    } else if bytes(dirty.iter()) == 0 {
        Some(NotCleaned::NothingDirty)
    } else {
        Some(held(log, young, settings.min_compaction_lag_ms))
    };
    selection
}

/// Returns the first dirty offset, and whether the checkpoint lies outside the log.
fn first_dirty(log: &LogInfo<'_>) -> (i64, bool) {
    match log.checkpoint {
        None => (log.log_start_offset, false),
        Some(checkpoint) if (log.log_start_offset..=log.log_end_offset).contains(&checkpoint) => {
            (checkpoint, false)
        }
        Some(_) => (log.log_start_offset, true),
    }
}

/// Returns the index of the first segment that holds `offset` or lies behind it.
fn first_ending_after(segments: &[SegmentInfo], offset: i64) -> usize {
    segments.partition_point(|segment| segment.end_offset <= offset)
}

/// Returns the first segment with a record that is too young to be cleaned.
fn first_young(dirty: &[SegmentInfo], min_lag: i64, now: i64) -> Option<&SegmentInfo> {
    let oldest_young = now.saturating_sub(min_lag);
    dirty.iter().find(|segment| min_lag > 0 && segment.largest_timestamp > oldest_young)
}

/// Returns whether a dirty segment has waited for longer than `max.compaction.lag.ms`.
fn is_overdue(dirty: &[SegmentInfo], max_lag: i64, now: i64) -> bool {
    let deadline = now.saturating_sub(max_lag.max(0));
    let first = dirty.iter().map(|segment| segment.first_timestamp).filter(|time| *time > 0).min();
    first.is_some_and(|first| first < deadline)
}

fn ratio_too_low(selection: &Selection, settings: &SelectSettings) -> Option<NotCleaned> {
    let (ratio, required) = (selection.ratio(), settings.min_cleanable_dirty_ratio);
    let is_chosen = selection.must_clean_now || ratio > required;
    (!is_chosen).then_some(NotCleaned::DirtyRatio { ratio, required })
}

/// Returns what holds a log with dirty segments of which none is cleanable.
fn held(log: &LogInfo<'_>, young: Option<&SegmentInfo>, min_lag: i64) -> NotCleaned {
    let LogInfo { last_stable_offset, durable_end_offset, .. } = *log;
    match young {
        Some(segment) if segment.base_offset <= last_stable_offset.min(durable_end_offset) => {
            NotCleaned::MinCompactionLag {
                segment: segment.base_offset,
                until: segment.largest_timestamp.saturating_add(min_lag),
            }
        }
        _ if durable_end_offset < last_stable_offset => {
            NotCleaned::NotDurable { durable_end_offset }
        }
        _ => NotCleaned::OpenTransaction { last_stable_offset },
    }
}

fn bytes<'a>(segments: impl Iterator<Item = &'a SegmentInfo>) -> u64 {
    segments.fold(0, |sum, segment| sum.saturating_add(segment.log_bytes))
}
