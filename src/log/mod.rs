//! One partition: open batch, frozen batches, segments; append, seal, roll, read.
//!
//! Invariants, cited by number in code and tests:
//!
//! * **L1** A record is published to readers only after its journal frame is complete. Offsets are given
//!   under the append lock, in the order of the frames, without gaps; a failed append consumes none.
//! * **L2** The view {segments, frozen batches, open batch} is one `Arc`, swapped whole. Every offset
//!   below the published end is in the view that is loaded after the end was read.
//! * **L3** A batch is frozen once and never changes after that, except that its header is put in front
//!   of its records. Frozen batches are written to segments in order, under the write-out lock alone.
//! * **L4** What a segment holds below its published length never changes.
//! * **L5** At a checkpoint mark the state written out is captured at exactly the marked offset: later
//!   batches may stand in the segment already, but the captured length ends before them.
//! * **L6** Lock order in a partition: write-out lock before append lock before view lock. The append
//!   lock is never held over file I/O, a sync, or a wait.

mod append;
mod batch;
mod buffers;
mod delete_records;
mod epochs;
mod folder;
mod image;
#[cfg(all(test, loom))]
mod models;
mod open_files;
mod read;
mod reads;
mod recover;
mod section;
mod segment;
mod settle;
mod time;
mod verify;
mod view;
mod write_out;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::storage::{ForkMark, Sparing, Storage};
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock, RwLock};
use crate::types::{Epoch, Lsn, PartitionNumber, TimestampType, TopicId, TopicPartition, planted};

pub(crate) use append::{
    Afterwards, AppendGuard, FreezeGuard, Frozen, Placed, RecordData, frame_bound,
};
use buffers::Buffers;
pub(crate) use delete_records::{LOG_START_SECTION_BYTES, LogStartSection};
pub(crate) use epochs::history_from;
pub(crate) use folder::{METADATA_FILE, read_topic_id};
pub(crate) use image::{LogImage, SegmentImage, is_deleted};
pub(crate) use read::{Chunk, Cursor, FetchLimits, Fetched, FetchedRecord};
pub(crate) use section::{APPEND_HEADER_BYTES, AppendSection};
pub(crate) use verify::Verified;
pub(crate) use write_out::{Capture, Captured};

use append::Appender;
use open_files::OpenFiles;
use reads::Reads;
use segment::SegmentFolder;
use view::View;
use write_out::WriteOut;

/// Somebody who sleeps until a partition has more records.
pub(crate) trait Wake: Send + Sync {
    /// Wakes the sleeper; may be called more than once.
    fn wake(&self);
}

/// What all partitions of a broker share.
#[derive(Debug)]
pub(crate) struct LogShared {
    /// Closes what is open for reading when too many files are open.
    pub(crate) storage: Arc<dyn Storage>,
    /// The journal, once there is one: not during recovery, and never for a reader.
    pub(crate) journal: OnceLock<Arc<Journal>>,
    /// Set where no thread does it, once the folder is open.
    pub(crate) recovery: OnceLock<Recovery>,
    /// Set where another process writes the folder.
    pub(crate) present: OnceLock<Present>,
    /// The epoch that new batches carry.
    pub(crate) epoch: AtomicI32,
    /// The size at which an open batch is sealed, in bytes, header included.
    pub(crate) batch_size: usize,
    /// Buffers of that size.
    pub(crate) buffers: Buffers,
    /// Partitions with changes since the last checkpoint. Locked after every append lock and before
    /// the journal, so that whoever holds it knows that no other partition has a frame since.
    pub(crate) dirty: Mutex<Vec<PartitionNumber>>,
    /// Bytes of all buffers of open and frozen batches.
    pub(crate) memory: AtomicU64,
    /// The segment files that are open for writing.
    pub(crate) open_files: Arc<OpenFiles>,
    /// The segments that are open for reading.
    reads: Arc<Reads>,
    /// Set when a write to a segment failed: the next checkpoint has to try again.
    pub(crate) write_failed: AtomicBool,
    /// Set when a file that no checkpoint lists could not be removed: the next opening has to.
    pub(crate) left_over: AtomicBool,
    /// Made when the folder was opened.
    pub(crate) fork: ForkMark,
}

impl LogShared {
    /// What the partitions of a folder share that is opened now, before its journal goes on.
    pub(crate) fn new(storage: Arc<dyn Storage>, epoch: Epoch, config: &BrokerConfig) -> Self {
        let batch_size = config.batch_size as usize;
        let journal_files =
            config.journal_max_bytes.checked_div(u64::from(config.journal_file_bytes)).unwrap_or(0);
        let most = storage.max_open_files();
        let open_files = OpenFiles::new(config.max_open_files, most, journal_files);
        let reads = Arc::new(Reads::new(config.read_mode, open_files.for_reading()));
        let cached = Arc::clone(&reads);
        Self {
            storage: Arc::new(Sparing::new(storage, Box::new(move || cached.close_all()))),
            journal: OnceLock::new(),
            recovery: OnceLock::new(),
            present: OnceLock::new(),
            epoch: AtomicI32::new(epoch),
            batch_size,
            buffers: Buffers::new(batch_size),
            dirty: Mutex::default(),
            memory: AtomicU64::new(0),
            open_files: Arc::new(open_files),
            reads,
            write_failed: AtomicBool::new(false),
            left_over: AtomicBool::new(false),
            fork: ForkMark::new(),
        }
    }

    /// Waits until everything up to `lsn` in the journal survives power loss.
    pub(crate) fn wait_synced(&self, lsn: Lsn) -> Result<()> {
        let journal = self.journal.get().ok_or(Error::Closed)?;
        if let Some(Recovery(finish)) = self.recovery.get()
            && journal.is_held()
            && lsn > journal.synced()
        {
            // Nobody else writes the recovery checkpoint, and without it this never ends.
            finish()?;
        }
        journal.wait_synced(lsn, None)
    }
}

/// Writes the recovery checkpoint, which `Synced` waits for. An error says that nobody knows what will
/// survive.
pub(crate) struct Recovery(pub(crate) Box<dyn Fn() -> Result<()> + Send + Sync>);

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recovery")
    }
}

/// Finds out where a partition starts by now, if that can be told. The error says that it is gone.
pub(crate) struct Present(pub(crate) Box<Look>);

type Look = dyn Fn(&Log) -> Result<Option<i64>> + Send + Sync;

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

/// What a partition is.
#[derive(Debug, Clone)]
pub(crate) struct LogIdentity {
    pub(crate) number: PartitionNumber,
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    /// The topic's configuration at first; see [`Log::config`].
    pub(crate) config: Arc<TopicConfig>,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Log {
    identity: LogIdentity,
    folder: Arc<SegmentFolder>,
    shared: Arc<LogShared>,
    appender: Mutex<Appender>,
    view: RwLock<Arc<View>>,
    config: RwLock<Arc<TopicConfig>>,
    /// Of the configuration, what every append asks for: whether it is `LogAppendTime`.
    stamps_appends: AtomicBool,
    /// Whether the files were looked at, or there is no need to; see `settle`.
    settled: AtomicBool,
    start: AtomicI64,
    end: AtomicI64,
    /// The end offset of the checkpoint in progress, or -1 (L5).
    mark: AtomicI64,
    /// Rises when the topic is altered; `DELETED` when it is deleted.
    revision: AtomicU32,
    /// What was found wrong with the files when they were looked at.
    damage: OnceLock<Error>,
    out: Mutex<WriteOut>,
}

impl Log {
    /// A partition without records.
    pub(crate) fn new(identity: LogIdentity, shared: Arc<LogShared>) -> Self {
        let folder = Arc::new(SegmentFolder {
            storage: Arc::clone(&shared.storage),
            path: PathBuf::from(identity.partition.to_string()),
            partition: identity.partition.clone(),
            open_files: Arc::clone(&shared.open_files),
            reads: Arc::clone(&shared.reads),
        });
        let config = Arc::clone(&identity.config);
        Self {
            folder,
            shared,
            stamps_appends: AtomicBool::new(is_log_append_time(&config)),
            settled: AtomicBool::new(true),
            config: RwLock::new(config),
            appender: Mutex::new(Appender::new(0)),
            view: RwLock::new(Arc::new(View::default())),
            start: AtomicI64::new(0),
            end: AtomicI64::new(0),
            mark: AtomicI64::new(-1),
            revision: AtomicU32::new(0),
            damage: OnceLock::new(),
            out: Mutex::new(WriteOut::default()),
            identity,
        }
    }

    pub(crate) fn number(&self) -> PartitionNumber {
        self.identity.number
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.identity.partition
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.identity.topic_id
    }

    /// Waits until everything up to `lsn` in the journal survives power loss.
    pub(crate) fn wait_synced(&self, lsn: Lsn) -> Result<()> {
        if self.shared.fork.is_child() {
            return Err(Error::ForkedChild);
        }
        self.shared.wait_synced(lsn)
    }

    /// The topic's configuration as it is now.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// Where timestamps come from now.
    #[inline]
    pub(crate) fn timestamp_type(&self) -> TimestampType {
        if self.stamps_appends.load(Ordering::Relaxed) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// The topic was altered: what is appended and written from now on follows `config`.
    pub(crate) fn alter(&self, config: &Arc<TopicConfig>) {
        self.stamps_appends.store(is_log_append_time(config), Ordering::Relaxed);
        *self.config.write() = Arc::clone(config);
        let next = |revision: u32| revision.checked_add(1).filter(|next| *next < DELETED);
        // Deleted stays deleted; and nobody alters a topic four thousand million times.
        let _kept = self.revision.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Changes with every alteration of the topic, and with its deletion.
    #[inline]
    pub(crate) fn revision(&self) -> u32 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether the topic is there, and was not altered since it had this revision.
    #[inline]
    pub(crate) fn is_at(&self, revision: u32) -> bool {
        let now = self.revision();
        now == revision && now != DELETED
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start.load(Ordering::Acquire)
    }

    /// The offset that the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// How many offsets lie between `position` and `end`, which was the log end a moment ago. Those below the
    /// log start are gone and do not count; beyond the end there is nothing to read.
    pub(crate) fn lag(&self, position: i64, end: i64) -> i64 {
        end.saturating_sub(position.max(self.start_offset())).max(0)
    }

    /// What looks damaged or missing may be what the folder's writer has deleted since this process looked
    /// at it. If so, the log start moves to where it is by now, and no further than the end that is known.
    ///
    /// # Errors
    /// `UnknownTopic` if the writer has deleted the topic.
    fn look_again(&self, error: &Error) -> Result<()> {
        if error.is_corruption()
            && !planted("deletions_not_noticed")
            && let Some(Present(look)) = self.shared.present.get()
            && let Some(start) = look(self)?
        {
            self.start.fetch_max(start.min(self.end_offset()), Ordering::AcqRel);
        }
        Ok(())
    }

    /// The epochs of the records that are still there, each with its first offset.
    pub(crate) fn epochs(&self) -> Vec<(Epoch, i64)> {
        let first = self.view().segments.first().map(|segment| segment.base_offset());
        let first = first.unwrap_or_else(|| self.start_offset());
        history_from(&self.appender.lock().epochs, first).to_vec()
    }

    /// The epoch of the record at `offset`, or the newest one for the log end.
    pub(crate) fn epoch_of(&self, offset: i64) -> Option<Epoch> {
        epochs::epoch_at(&self.appender.lock().epochs, offset)
    }

    /// Where the log parts from that in which `offset` came behind a record of `epoch` (KIP-320): from
    /// there on it holds other records, or none. `None` if that record is still the one before `offset`, or
    /// was deleted since, or if its epoch is not known: an offset alone proves nothing.
    pub(crate) fn divergence(&self, offset: i64, epoch: Option<Epoch>) -> Option<i64> {
        if planted("truncation_not_noticed") {
            return None;
        }
        let end = self.end_offset();
        let epoch = epoch.filter(|_| !planted("positions_without_epoch"));
        let epoch = epoch.filter(|_| offset > self.start_offset())?;
        let before = offset.saturating_sub(1);
        let history = &self.appender.lock().epochs;
        if offset <= end && epochs::epoch_at(history, before) == Some(epoch) {
            return None;
        }
        let known = epochs::end_of_epoch(history, epoch, end);
        let start = self.start_offset();
        Some(known.map_or(start, |(_, ends)| ends.min(offset).max(start)))
    }

    /// Enters an epoch that begins at `first` into the history, before anybody sees that offset.
    fn begin_epoch(&self, appender: &mut Appender, epoch: Epoch, first: i64) {
        appender.epochs.push((epoch, first));
        let epochs = Arc::new(appender.epochs.clone());
        self.swap_view(|view| view.epochs = epochs);
    }

    fn dir(&self) -> &Path {
        &self.folder.path
    }

    /// Bytes of the log: segments and batches in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        let view = self.view();
        let stored: u64 = view.segments.iter().map(|segment| segment.len()).sum();
        let memory: usize = view.batches().map(|batch| batch.records().len()).sum();
        stored.saturating_add(memory as u64)
    }

    /// Bytes in segments.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.view().segments.iter().map(|segment| segment.len()).sum()
    }

    /// The base offsets of the segments, in order.
    pub(crate) fn segment_offsets(&self) -> Vec<i64> {
        self.view().segments.iter().map(|segment| segment.base_offset()).collect()
    }

    /// Makes the indexes and block sums again of the segment that `path` is one of; whether it did.
    /// Only while nobody else has the folder.
    pub(crate) fn rebuild_side_files(&self, path: &Path) -> Result<bool> {
        for segment in self.view().segments.iter() {
            if segment.has_side_file(path) {
                return segment.rebuild_side_files();
            }
        }
        Ok(false)
    }

    /// The number of segment files.
    pub(crate) fn segment_count(&self) -> usize {
        self.view().segments.len()
    }

    /// Ends the partition for good: appends are refused, what is in memory is dropped. Nothing is
    /// being written to its folder when this returns.
    pub(crate) fn delete(&self) {
        let mut out = self.out.lock();
        let mut appender = self.appender.lock();
        self.revision.store(DELETED, Ordering::Release);
        appender.open = None;
        let view = std::mem::take(&mut *self.view.write());
        self.release_memory(view.batches().map(|batch| batch.capacity()).sum());
        *out = WriteOut::default();
        let sleepers = std::mem::take(&mut appender.sleepers);
        drop((appender, out));
        wake_all(sleepers);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.revision() == DELETED
    }

    /// Registers a sleeper to be woken once when the log grows beyond `position`; false if it has
    /// grown already, and nothing is registered.
    pub(crate) fn sleep_on(&self, position: i64, sleeper: &Arc<dyn Wake>) -> bool {
        let mut appender = self.appender.lock();
        if appender.next_offset > position || self.is_deleted() {
            return false;
        }
        if !appender.sleepers.iter().any(|s| Arc::ptr_eq(s, sleeper)) {
            appender.sleepers.push(Arc::clone(sleeper));
        }
        true
    }

    /// Takes back what `sleep_on` registered.
    pub(crate) fn wake_no_more(&self, sleeper: &Arc<dyn Wake>) {
        self.appender.lock().sleepers.retain(|registered| !Arc::ptr_eq(registered, sleeper));
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    fn release_memory(&self, bytes: usize) {
        self.shared.memory.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    fn gone(&self) -> Error {
        Error::UnknownTopic { topic: self.identity.partition.topic().to_owned() }
    }

    /// Refuses appends from now on: a segment is damaged or gone. What can be read is read.
    pub(crate) fn set_damaged(&self, damage: Error) {
        if self.damage.set(damage).is_ok() {
            self.appender.lock().poisoned = true;
        }
    }

    /// Whether there are records that no checkpoint has.
    pub(crate) fn is_dirty(&self) -> bool {
        self.appender.lock().dirty
    }

    /// Why appends are refused although nobody deleted the partition: damage that was found, or a
    /// panic.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.appender.lock().poisoned.then(|| self.poisoned())
    }

    fn poisoned(&self) -> Error {
        self.damage.get().cloned().unwrap_or_else(|| Error::Poisoned {
            what: format!("partition {}", self.identity.partition),
        })
    }
}

/// The revision of a partition that is deleted.
const DELETED: u32 = u32::MAX;

fn is_log_append_time(config: &TopicConfig) -> bool {
    config.timestamp_type == TimestampType::LogAppendTime
}

/// Wakes those who slept on a partition; called without its locks.
pub(crate) fn wake_all(sleepers: Vec<Arc<dyn Wake>>) {
    for sleeper in sleepers {
        sleeper.wake();
    }
}

impl fmt::Debug for dyn Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// Refuses what is below `start` or above `end`.
pub(crate) fn check_range(
    partition: &TopicPartition,
    requested: i64,
    start: i64,
    end: i64,
) -> Result<()> {
    if (start..=end).contains(&requested) {
        Ok(())
    } else {
        Err(Error::OffsetOutOfRange { partition: partition.clone(), requested, start, end })
    }
}

#[cfg(test)]
mod tests;
