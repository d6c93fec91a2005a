//! Retention: deletes the oldest segments of a partition when they are too old, too many, or read.
//!
//! Only whole segments go, from the front, and each of the reasons ends at the first segment that it does not
//! cover, as in Kafka (`UnifiedLog.deleteOldSegments`). A deletion is a new log start:
//!
//! * **R1** The log start moves by a journal frame, as [`super::delete_records`] does it. Files are removed once
//!   that frame is synced, and not before: otherwise power loss could take the frame and leave a checkpoint that
//!   lists missing files.
//! * **R2** Removing files waits for no checkpoint. Recovery drops segments below the replayed log start whose
//!   files are gone, and asks for no proof of what they held. It removes no such files itself before the
//!   recovery checkpoint. If no segment is left, the folder may be gone too, and no checkpoint syncs it then.
//! * **R3** A checkpoint that was begun before the log start moved lists the removed segments nevertheless. It
//!   is the exact state at its position (L5), and the frame lies above that position.
//! * **R4** With `retention.bytes`, a partition is checked after each batch that it writes out, by the thread
//!   that writes it, under the write-out lock. So the limit holds however fast producers are. Large appends that
//!   write their own records check before them, without an append lock.
//! * **R5** Maintenance judges by what is in memory. It opens no file of a partition where nothing is due.

use std::fmt;
use std::sync::Arc;

use super::Log;
use super::folder::check_not_foreign;
use super::image::SegmentImage;
use super::segment::Segment;
use super::view::View;
use super::write_out::WriteOut;
use crate::config::TopicConfig;
use crate::error::{Error, Result};
use crate::record::Compression;
use crate::segment::Extension;
use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use crate::types::{Timestamp, planted};

/// Moves the log start of a partition by a synced journal frame. Returns false if that is not possible now. The
/// caller holds the write-out lock, so this waits neither for a checkpoint nor for journal space.
pub(crate) struct MoveStart(pub(crate) Box<Mover>);

type Mover = dyn Fn(&Log, i64) -> Result<bool> + Send + Sync;

impl fmt::Debug for MoveStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MoveStart")
    }
}

/// Why segments were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// They lie below the log start, which something else has moved.
    LogStart,
    /// `retention.bytes`.
    Bytes,
    /// `retention.ms`.
    Time,
    /// `retention.consumed`.
    Consumed,
    /// The disk budget, for a topic that drops its oldest.
    Budget,
}

impl Reason {
    pub(crate) const ALL: [Self; 5] =
        [Self::LogStart, Self::Bytes, Self::Time, Self::Consumed, Self::Budget];
}

/// How much was deleted for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
}

/// How much each reason has deleted since the folder was opened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    log_start: Count,
    bytes: Count,
    time: Count,
    consumed: Count,
    budget: Count,
    /// The log start up to which the budget has counted what it deletes.
    dropped: AtomicI64,
}

#[derive(Debug, Default)]
struct Count {
    segments: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    fn of(&self, reason: Reason) -> &Count {
        match reason {
            Reason::LogStart => &self.log_start,
            Reason::Bytes => &self.bytes,
            Reason::Time => &self.time,
            Reason::Consumed => &self.consumed,
            Reason::Budget => &self.budget,
        }
    }

    fn add(&self, reason: Reason, segment: &Segment) {
        let count = self.of(reason);
        count.segments.fetch_add(1, Ordering::Relaxed);
        count.bytes.fetch_add(segment.len(), Ordering::Relaxed);
    }
}

/// A segment that may go to make room in the disk budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Droppable {
    /// The time from which it ages.
    pub(crate) since: i64,
    pub(crate) bytes: u64,
    /// The log start offset without it.
    pub(crate) end_offset: i64,
}

/// What a check of retention goes by, besides the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The time at which ages end.
    pub(crate) now: Timestamp,
    /// The offset that every group of `retention.consumed` has committed. `None` if one has committed nothing.
    pub(crate) consumed: Option<i64>,
}

/// A segment as retention sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aged {
    image: SegmentImage,
    /// The time from which the segment ages, or `None` if it does not.
    since: Option<i64>,
}

/// Why a segment does not go for one of the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The topic does not ask for that, or it is not looked at now.
    NotAsked,
    /// It is empty, or an append is under way.
    Incomplete,
    /// The rest of the partition has fewer bytes than `retention.bytes`.
    Few { behind: u64, limit: u64 },
    /// Its newest record is not older than `retention.ms` before this time.
    Young { until: i64 },
    /// Nothing says how old it is.
    Ageless,
    /// A group of `retention.consumed` has not committed past it.
    Unread { end_offset: i64 },
}

/// What a partition deletes, and what keeps its first segment after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outlook {
    pub(crate) due: Amount,
    /// The base offset of the first segment that stays, and whether it is the active one.
    pub(crate) segment: Option<(i64, bool)>,
    /// What keeps it, for each setting of the topic.
    pub(crate) kept: Vec<Kept>,
}

/// What a decision goes by.
#[derive(Debug, Clone, Copy)]
struct Rules<'a> {
    start: i64,
    high_watermark: i64,
    config: &'a TopicConfig,
    /// Without it, only limits that need no clock count.
    checked: Option<Checked>,
}

impl Rules<'_> {
    /// Returns what keeps a segment from going for a reason, or `None` if it goes. `behind` is the size of all that
    /// follows it, in bytes.
    fn kept(&self, reason: Reason, Aged { image, since }: Aged, behind: u64) -> Option<Kept> {
        if image.base_offset >= image.end_offset || image.end_offset > self.high_watermark {
            return Some(Kept::Incomplete);
        }
        match (reason, self.checked) {
            (Reason::LogStart, _) => (image.end_offset > self.start).then_some(Kept::NotAsked),
            (Reason::Bytes, _) => match self.config.kept_bytes() {
                Some(limit) => (behind < limit).then_some(Kept::Few { behind, limit }),
                None => Some(Kept::NotAsked),
            },
            (Reason::Budget, _) | (_, None) => Some(Kept::NotAsked),
            (Reason::Time, Some(checked)) => match (self.config.kept_ms(), since) {
                (None, _) => Some(Kept::NotAsked),
                (Some(_), None) => Some(Kept::Ageless),
                (Some(limit), Some(since)) => {
                    let until = since.saturating_add_unsigned(limit);
                    let age = checked.now.as_millis().saturating_sub(since);
                    let is_old = u64::try_from(age).is_ok_and(|age| age > limit);
                    (!is_old).then_some(Kept::Young { until })
                }
            },
            (Reason::Consumed, Some(checked)) => {
                let read = checked.consumed.is_some_and(|consumed| image.end_offset <= consumed);
                let asked = !self.config.kept_for().is_empty();
                let unread = Kept::Unread { end_offset: image.end_offset };
                (!read).then_some(if asked { unread } else { Kept::NotAsked })
            }
        }
    }

    /// Decides which segments go, from the front. Returns the reason of each. `total` is the size of the partition
    /// in bytes.
    fn decide(&self, segments: impl Iterator<Item = Aged>, mut total: u64) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut rest = segments.peekable();
        for reason in Reason::ALL {
            while let Some(segment) = rest.peek().copied() {
                let behind = total.saturating_sub(segment.image.len);
                if self.kept(reason, segment, behind).is_some() {
                    break;
                }
                total = behind;
                reasons.push(reason);
                rest.next();
            }
        }
        reasons
    }

    /// Returns what is decided, and what keeps the first segment that stays.
    fn outlook(&self, segments: impl Iterator<Item = Aged> + Clone, total: u64) -> Outlook {
        let gone = self.decide(segments.clone(), total).len();
        let bytes = segments.clone().take(gone).map(|segment| segment.image.len).sum();
        let mut rest = segments.skip(gone);
        let Some(first) = rest.next() else {
            let due = Amount { segments: gone as u64, bytes };
            return Outlook { due, segment: None, kept: Vec::new() };
        };
        let behind = total.saturating_sub(bytes).saturating_sub(first.image.len);
        let mut kept: Vec<Kept> =
            Reason::ALL.into_iter().filter_map(|reason| self.kept(reason, first, behind)).collect();
        kept.retain(|kept| *kept != Kept::NotAsked);
        kept.dedup();
        Outlook {
            due: Amount { segments: gone as u64, bytes },
            segment: Some((first.image.base_offset, rest.next().is_none())),
            kept,
        }
    }
}

impl Log {
    /// Deletes the segments that are due. The caller holds no lock of the partition. Returns false if another
    /// thread is writing the partition out, which may take long: it has to be checked again.
    ///
    /// # Errors
    /// As [`Log::settle`], and those of the journal.
    pub(crate) fn retain(&self, checked: Checked) -> Result<bool> {
        let config = self.config();
        if let Some(limit) = config.kept_ms() {
            self.write_out_old(checked.now, limit, config.roll_ms());
        }
        self.notice(checked.now, config.roll_ms());
        let unremoved = self.unremoved.load(Ordering::Relaxed);
        if !unremoved && self.due(&config, Some(checked)).is_empty() {
            return Ok(true);
        }
        self.check_deletable()?;
        let Some(mut out) = self.lock_out_for_append() else { return Ok(false) };
        let _busy = self.begin_write_out();
        let done = self.delete_due(&mut out, &config, Some(checked))?;
        if !out.unremoved.is_empty() && !self.shared.given_up.load(Ordering::Acquire) {
            self.remove_files(&mut out)?;
        }
        Ok(done)
    }

    /// Deletes segments beyond `retention.bytes`. The caller holds no append lock.
    pub(super) fn retain_bytes(&self, out: &mut WriteOut) {
        let config = self.config();
        let journal = self.shared.journal.get();
        // Before the recovery checkpoint nothing can be deleted, and very many batches may wait.
        if config.kept_bytes().is_some()
            && journal.is_some_and(|journal| !journal.is_held())
            && !planted("bytes_checked_by_maintenance_alone")
        {
            // After a failure the next check deletes them. The journal keeps its own failures.
            let _later = self.delete_due(out, &config, None);
        }
    }

    /// Checks whether records may be deleted: also from a damaged partition, but not if its folder is that of
    /// another topic, whose files must stay.
    pub(crate) fn check_deletable(&self) -> Result<()> {
        // The folder may have changed while it was closed.
        self.settle()?;
        match self.damage.get() {
            None => Ok(()),
            Some(_) => check_not_foreign(&*self.shared.storage, self.dir(), self.topic_id()),
        }
    }

    /// Removes the segments below `start`, a synced log start, without waiting for a checkpoint. Returns false if
    /// another thread is writing the partition out.
    pub(crate) fn remove_below(&self, start: i64) -> bool {
        let Some(mut out) = self.lock_out_for_append() else { return false };
        self.remove_deleted(&mut out, start);
        true
    }

    /// Returns how much each reason has deleted since the folder was opened.
    pub(crate) fn deleted(&self) -> [(Reason, Amount); Reason::ALL.len()] {
        let tally = self.tally.get();
        Reason::ALL.map(|reason| {
            let amount = tally.map_or_else(Amount::default, |tally| {
                let count = tally.of(reason);
                Amount {
                    segments: count.segments.load(Ordering::Relaxed),
                    bytes: count.bytes.load(Ordering::Relaxed),
                }
            });
            (reason, amount)
        })
    }

    /// Returns the log start offset behind what is due, if anything is.
    pub(crate) fn due_start(&self, checked: Checked) -> Option<i64> {
        let reasons = self.due(&self.config(), Some(checked));
        let last = reasons.len().checked_sub(1)?;
        self.view().segments.get(last).map(|segment| segment.end_offset())
    }

    /// Returns the segments that may go for the disk budget, the first one first. Those that are only in memory
    /// take no space yet.
    pub(crate) fn droppable(&self, now: Timestamp) -> Vec<Droppable> {
        self.notice(now, u64::MAX);
        let end = self.end_offset();
        let complete =
            |image: &SegmentImage| image.base_offset < image.end_offset && image.end_offset <= end;
        let view = self.view();
        let some = view.segments.iter().map(aged).take_while(|aged| complete(&aged.image));
        some.map(|Aged { image, since }| Droppable {
            since: since.unwrap_or(i64::MIN),
            bytes: image.len,
            end_offset: image.end_offset,
        })
        .collect()
    }

    /// Counts the segments that a log start at `start` deletes, which moves for the disk budget.
    pub(crate) fn count_dropped(&self, start: i64) {
        let tally = self.tally.get_or_init(Box::default);
        let before = tally.dropped.fetch_max(start, Ordering::Relaxed);
        for segment in self.view().segments.iter() {
            let end = segment.end_offset();
            if before < end && end <= start {
                tally.add(Reason::Budget, segment);
            }
        }
    }

    /// Removes the segments below `start`, a synced log start. The caller holds no lock of the partition.
    ///
    /// # Errors
    /// Those of unlinks.
    pub(crate) fn remove_dropped(&self, start: i64) -> Result<()> {
        let mut out = self.out.lock();
        let _busy = self.begin_write_out();
        self.remove_deleted(&mut out, start);
        if out.unremoved.is_empty() || self.shared.given_up.load(Ordering::Acquire) {
            return Ok(());
        }
        self.remove_files(&mut out)
    }

    /// Removes the files of deleted segments that could not be removed before. Returns whether there were any.
    pub(crate) fn remove_left(&self) -> Result<bool> {
        if !self.unremoved.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(mut out) = self.lock_out_for_append() else { return Ok(false) };
        if self.shared.given_up.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.remove_files(&mut out)?;
        Ok(true)
    }

    fn due(&self, config: &TopicConfig, checked: Option<Checked>) -> Vec<Reason> {
        self.with_rules(config, checked, |rules, view, total| {
            rules.decide(view.segments.iter().map(aged), total)
        })
    }

    /// Returns what the next check of retention deletes, and what keeps the segment behind that.
    pub(crate) fn outlook(&self, checked: Checked) -> Outlook {
        self.with_rules(&self.config(), Some(checked), |rules, view, total| {
            rules.outlook(view.segments.iter().map(aged), total)
        })
    }

    /// Calls a function with what a decision goes by, and the size of the partition in bytes.
    fn with_rules<T>(
        &self,
        config: &TopicConfig,
        checked: Option<Checked>,
        decide: impl FnOnce(Rules<'_>, &View, u64) -> T,
    ) -> T {
        let high_watermark = self.end_offset();
        let view = self.view();
        // Batches in memory may become much smaller when they are written.
        let compresses = config.compression != Compression::None;
        let unwritten = view.batches().filter(|_| !compresses).map(|batch| batch.records().len());
        let unwritten: usize = unwritten.sum();
        let stored: u64 = view.segments.iter().map(|segment| segment.image().len).sum();
        let rules = Rules { start: self.start_offset(), high_watermark, config, checked };
        decide(rules, &view, stored.saturating_add(unwritten as u64))
    }

    fn delete_due(
        &self,
        out: &mut WriteOut,
        config: &TopicConfig,
        checked: Option<Checked>,
    ) -> Result<bool> {
        self.delete_first(out, &self.due(config, checked))
    }

    /// Deletes as many of the first segments as there are reasons.
    fn delete_first(&self, out: &mut WriteOut, reasons: &[Reason]) -> Result<bool> {
        let view = self.view();
        let due = view.segments.get(..reasons.len()).unwrap_or_default();
        let (Some(last), Some(MoveStart(mover))) = (due.last(), self.shared.move_start.get())
        else {
            return Ok(true);
        };
        let start = last.end_offset();
        if !mover(self, start)? {
            return Ok(false);
        }
        let tally = self.tally.get_or_init(Box::default);
        for (reason, segment) in reasons.iter().zip(due) {
            // The budget has counted what it deletes and has not removed yet.
            if segment.end_offset() > tally.dropped.load(Ordering::Relaxed) {
                tally.add(*reason, segment);
            }
        }
        self.remove_deleted(out, start);
        Ok(true)
    }

    /// Writes out the open batch if it holds records that are older than a segment may cover. Otherwise few
    /// records would fill a batch for longer than they are kept.
    pub(super) fn write_out_old(&self, now: Timestamp, limit_ms: u64, roll_ms: u64) {
        let wait = roll_ms.saturating_sub(limit_ms / 16);
        let is_old = |view: &View| {
            let since =
                view.open.as_ref().map(|open| now.as_millis().saturating_sub(open.base_timestamp));
            // A future timestamp says nothing about the age.
            since.is_some_and(|age| u64::try_from(age).is_ok_and(|age| age >= wait) || age < 0)
        };
        if is_old(&self.view()) && !planted("open_batch_never_ages") {
            self.freeze_open(&mut self.appender.lock());
            self.write_out_some();
        }
    }

    /// Notices segments whose timestamps are in the future, or absent. They age from now on, or from their last
    /// change. Timestamps do not say when the active one has to end, so it ends by this time too.
    fn notice(&self, now: Timestamp, roll_ms: u64) {
        for segment in self.view().segments.iter() {
            let timestamp = segment.max_timestamp();
            if timestamp > now.as_millis() || timestamp < 0 {
                let first = segment.notice(now.as_millis());
                let age = now.as_millis().saturating_sub(first);
                if u64::try_from(age).is_ok_and(|age| age >= roll_ms)
                    && !planted("future_segment_grows")
                {
                    segment.roll_next();
                }
            }
        }
    }

    /// Removes the files of segments that lie wholly below `start`, a synced log start (R1).
    pub(super) fn remove_deleted(&self, out: &mut WriteOut, start: i64) {
        // The folder may belong to its next writer.
        if self.shared.given_up.load(Ordering::Acquire) || self.is_deleted() {
            return;
        }
        let view = self.view();
        let deleted = |segment: &Arc<Segment>| super::is_deleted(&segment.image(), start);
        self.remove_first(out, view.segments.iter().take_while(|segment| deleted(segment)).count());
    }

    /// Drops segments below the log start whose files are gone: the log start was synced before they were removed
    /// (R2). The others stay until the recovery checkpoint, because the replayed log start may be only in the
    /// cache of the system.
    pub(crate) fn drop_removed(&self) -> Result<()> {
        let start = self.start_offset();
        // An empty segment below the log start was written to later, and is not known to be empty.
        let below = |image: &SegmentImage| image.end_offset <= start && image.base_offset < start;
        let mut kept = Vec::new();
        for segment in self.view().segments.iter() {
            let there = || {
                Ok::<_, Error>(segment.has_file(Extension::Log)? && !planted("drop_all_deleted"))
            };
            if !below(&segment.image()) || there()? {
                kept.push(Arc::clone(segment));
            }
        }
        if kept.len() < self.segment_count() && !planted("removed_segments_checked") {
            self.swap_view(|view| view.segments = Arc::new(kept));
        }
        Ok(())
    }
}

fn aged(segment: &Arc<Segment>) -> Aged {
    let image = segment.image();
    if image.len == 0 && segment.is_cleaned() {
        // Compaction has left nothing of it. It must not keep what lies behind it.
        return Aged { image, since: Some(i64::MIN) };
    }
    let noticed = segment.noticed();
    let stamped = (image.max_timestamp >= 0).then_some(image.max_timestamp);
    let since = match (stamped, noticed) {
        (Some(stamped), Some(noticed)) => Some(stamped.min(noticed)),
        (stamped, noticed) => stamped.or(noticed),
    };
    Aged { image, since }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn decide(
        segments: impl Iterator<Item = Aged> + Clone,
        (start, high_watermark): (i64, i64),
        unwritten: u64,
        config: &TopicConfig,
        checked: Option<Checked>,
    ) -> Vec<Reason> {
        let stored: u64 = segments.clone().map(|segment| segment.image.len).sum();
        let rules = Rules { start, high_watermark, config, checked };
        let reasons = rules.decide(segments.clone(), stored + unwritten);
        // What is said to keep the next segment is not what has let the others go.
        let outlook = rules.outlook(segments.clone(), stored + unwritten);
        assert_eq!(outlook.due.segments, reasons.len() as u64);
        assert_eq!(outlook.segment.is_some(), segments.count() > reasons.len());
        reasons
    }

    fn number(value: &Value, key: &str) -> i64 {
        value[key].as_i64().unwrap()
    }

    fn segments(case: &Value) -> Vec<Aged> {
        let segment = |segment: &Value| {
            let (base, count) = (number(segment, "base"), number(segment, "count"));
            let timestamp = number(segment, "maxTs");
            // Without a time, a file has none that can be known here.
            let noticed = Some(number(segment, "mtime")).filter(|time| *time > 0);
            Aged {
                image: SegmentImage {
                    end_offset: base + count,
                    len: number(segment, "size") as u64,
                    max_timestamp: timestamp,
                    ..SegmentImage::empty(base)
                },
                since: if timestamp < 0 { noticed } else { Some(timestamp) },
            }
        };
        case["segments"].as_array().unwrap().iter().map(segment).collect()
    }

    fn config(case: &Value) -> TopicConfig {
        let settings = case["config"].as_object().unwrap().iter();
        settings.fold(TopicConfig::new(), |config, (key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            config.set(key, &text).unwrap()
        })
    }

    /// Kafka's cases.
    #[test]
    fn segments_go_as_in_kafka() {
        let text = include_str!("../../tests/vectors/compaction.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let mut run = 0;
        for case in
            vectors["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == "retain")
        {
            let config = config(case);
            let segments = segments(case);
            let end = segments.last().unwrap().image.end_offset;
            let start = case["logStart"].as_i64().unwrap_or(0);
            let watermark = case["hw"].as_i64().unwrap_or(end);
            let checked =
                Checked { now: Timestamp::from_millis(number(case, "now")), consumed: None };
            let reasons =
                decide(segments.iter().copied(), (start, watermark), 0, &config, Some(checked));
            let (gone, kept) = segments.split_at(reasons.len());
            let bases = |some: &[Aged]| some.iter().map(|aged| aged.image.base_offset).collect();
            let mut remaining: Vec<i64> = bases(kept);
            if remaining.is_empty() {
                // Kafka begins an empty segment first. Here a log may have none.
                remaining.push(end);
            }
            let wanted = |key: &str| -> Vec<i64> {
                case["expect"][key]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|n| n.as_i64().unwrap())
                    .collect()
            };
            let name = &case["name"];
            assert_eq!(bases(gone), wanted("deleted"), "{name}");
            assert_eq!(remaining, wanted("remaining"), "{name}");
            let last = gone.last().map_or(start, |last| last.image.end_offset.max(start));
            assert_eq!(last, number(&case["expect"], "logStart"), "{name}");
            run += 1;
        }
        assert_eq!(run, 13);
    }

    fn aged(base: i64, since: Option<i64>) -> Aged {
        let image = SegmentImage { end_offset: base + 10, len: 100, ..SegmentImage::empty(base) };
        Aged { image, since }
    }

    #[test]
    fn each_reason_continues_where_the_one_before_it_ended() {
        let segments: Vec<_> = (0..6).map(|n| aged(n * 10, Some(n))).collect();
        let limited = TopicConfig::new()
            .retention_bytes(1_024)
            .retention(std::time::Duration::from_millis(95));
        let checked = Checked { now: Timestamp::from_millis(98), consumed: Some(45) };
        let reasons = decide(segments.into_iter(), (10, 60), 900, &limited, Some(checked));
        let expected = [Reason::LogStart, Reason::Bytes, Reason::Time, Reason::Consumed];
        // 1,400 bytes without the first; 1,300 without the second is still more than the limit.
        assert_eq!(reasons, [&expected[..2], &[Reason::Bytes, Reason::Bytes]].concat());
        let without = TopicConfig::new().retention(std::time::Duration::from_millis(95));
        let segments: Vec<_> = (0..6).map(|n| aged(n * 10, Some(n))).collect();
        let reasons = decide(segments.into_iter(), (10, 60), 0, &without, Some(checked));
        let times = [Reason::Time, Reason::Time];
        let rest = [Reason::Consumed];
        assert_eq!(reasons, [&expected[..1], &times, &rest].concat());
    }

    /// A segment stays as long as its outlook says, and not longer.
    #[test]
    fn what_keeps_a_segment_is_the_truth() {
        let segments = [aged(0, Some(5)), aged(10, Some(5))];
        let millis = std::time::Duration::from_millis;
        let config = TopicConfig::new()
            .retention(millis(95))
            .retention_bytes(1_024)
            .retention_consumed(["g"]);
        let look = |config: &TopicConfig, now, consumed, total| {
            let checked = Some(Checked { now: Timestamp::from_millis(now), consumed });
            let rules = Rules { start: 0, high_watermark: 20, config, checked };
            rules.outlook(segments.iter().copied(), total)
        };
        let first = look(&config, 100, Some(9), 1_100);
        let few = |behind| Kept::Few { behind, limit: 1_024 };
        let (young, unread) = (Kept::Young { until: 100 }, Kept::Unread { end_offset: 10 });
        assert_eq!((first.due, first.segment), (Amount::default(), Some((0, false))));
        assert_eq!(first.kept, [few(1_000), young, unread]);
        // Each of them is enough for it to go. The last segment is the active one.
        let gone = Amount { segments: 1, bytes: 100 };
        let second = look(&config, 100, Some(10), 1_100);
        assert_eq!((second.due, second.segment), (gone, Some((10, true))));
        assert_eq!(second.kept, [few(900), young, Kept::Unread { end_offset: 20 }]);
        assert_eq!(look(&config, 100, None, 1_124).due, gone);
        assert_eq!(look(&config, 101, None, 200).due.segments, 2);
        assert_eq!(look(&config, 101, None, 200).kept, []);
    }

    #[test]
    fn without_a_time_a_segment_does_not_age() {
        let limited = TopicConfig::new().retention(std::time::Duration::from_millis(1));
        let checked = Checked { now: Timestamp::from_millis(i64::MAX), consumed: None };
        let decided =
            |since| decide([aged(0, since)].into_iter(), (0, 10), 0, &limited, Some(checked)).len();
        assert_eq!((decided(None), decided(Some(5))), (0, 1));
        // No clock, no age.
        assert!(decide([aged(0, Some(5))].into_iter(), (0, 10), 0, &limited, None).is_empty());
    }
}
