//! The log of one partition: an open batch, frozen batches, and segments. Appends, seals, rolls and reads.
//!
//! Code and tests cite these invariants by number:
//!
//! * **L1** A record is published to readers only after its journal frame is complete. Offsets are assigned
//!   under the append lock, in the order of the frames, without gaps. A failed append consumes no offset.
//! * **L2** The view {segments, frozen batches, open batch} is one `Arc`, swapped as a whole. A view that is
//!   loaded after the end offset was read holds every offset below that end.
//! * **L3** A batch is frozen once and never changes after that, except that its header is prepended to its
//!   records. Frozen batches are written to segments in order, under the write-out lock alone.
//! * **L4** The bytes of a segment below its published length never change.
//! * **L5** A checkpoint captures the written state at exactly the marked offset. The segment may already
//!   contain later batches, but the captured length ends before them.
//! * **L6** Lock order in a partition: write-out lock, then append lock, then view lock. The append lock is
//!   never held over a sync or a wait, and over file I/O only by a large append that writes its own records
//!   ([`stored`]).
//!
//! Imported by `engine`, `producer`, `consumer`, `share`, `transaction` and `internal`.

mod append;
mod batch;
mod buffers;
mod claims;
mod compaction;
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
mod retention;
mod section;
mod segment;
mod settle;
mod stable;
mod store;
mod stored;
mod time;
mod verify;
mod view;
mod write_out;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{BrokerConfig, TopicConfig};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::segment::SegmentId;
use crate::storage::{ForkMark, Ledger, Sparing, Storage, StorageFile};
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Mutex, OnceLock, RwLock};
use crate::types::{Epoch, Lsn, PartitionNumber, TimestampType, TopicId, TopicPartition, planted};

pub(crate) use append::{
    Afterwards, AppendGuard, FreezeGuard, Frozen, Placed, RecordData, frame_bound,
};
use buffers::Buffers;
pub(crate) use compaction::{Compacted, CompactionJob, Pace, Totals};
pub(crate) use delete_records::{LOG_START_SECTION_BYTES, LogStartSection};
pub(crate) use epochs::history_from;
pub(crate) use folder::{METADATA_FILE, read_topic_id};
pub(crate) use image::{LogImage, SegmentImage, is_deleted};
pub(crate) use read::{Chunk, Cursor, FetchLimits, Fetched, FetchedRecord};
pub(crate) use retention::{Amount, Checked, Droppable, Kept, MoveStart, Outlook, Reason};
pub(crate) use section::{APPEND_HEADER_BYTES, AppendSection};
pub(crate) use stored::{STORED_SECTION_BOUND, StoredDebt, StoredSection};
pub(crate) use verify::Verified;
pub(crate) use write_out::{Capture, Captured};

use append::Appender;
use compaction::Compaction;
use open_files::OpenFiles;
use reads::Reads;
use retention::Tally;
use segment::{Segment, SegmentFolder};
use stable::Stable;
use view::View;
use write_out::WriteOut;

/// A sleeper that waits until a partition has more records.
pub(crate) trait Wake: Send + Sync {
    /// Wakes the sleeper. May be called more than once.
    fn wake(&self);
}

/// State that all partitions of a broker share.
pub(crate) struct LogShared {
    /// The storage. It closes the files that are open for reading when too many files are open.
    pub(crate) storage: Arc<dyn Storage>,
    /// The journal. Unset during recovery, and always unset for a reader.
    pub(crate) journal: OnceLock<Arc<Journal>>,
    /// Writes the recovery checkpoint. Set after the folder is opened, unless a background thread writes it.
    pub(crate) recovery: OnceLock<Recovery>,
    /// Finds the current state. Set if another process writes the folder.
    pub(crate) present: OnceLock<Present>,
    /// Moves a log start. Unset for a reader.
    pub(crate) move_start: OnceLock<MoveStart>,
    /// The epoch that new batches carry.
    pub(crate) epoch: AtomicI32,
    /// The size at which an open batch is sealed, in bytes, including the header.
    pub(crate) batch_size: usize,
    /// Buffers of `batch_size` bytes.
    pub(crate) buffers: Buffers,
    /// Partitions with changes since the last checkpoint. Locked after every append lock and before the
    /// journal. While the lock is held, no partition outside the list gets a frame.
    pub(crate) dirty: Mutex<Vec<PartitionNumber>>,
    /// Bytes of all buffers of open and frozen batches.
    pub(crate) memory: AtomicU64,
    /// Counts the segment files that are open for writing.
    pub(crate) open_files: Arc<OpenFiles>,
    /// The segments that are open for reading.
    reads: Arc<Reads>,
    /// Bytes of batches that were written out.
    written_out: AtomicU64,
    /// Set if a write to a segment failed. The next checkpoint must try again.
    pub(crate) write_failed: AtomicBool,
    /// Set if a file that no checkpoint lists could not be removed. The next opening must remove it.
    pub(crate) left_over: AtomicBool,
    /// The account of the disk budget, if there is one.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// What stored appends have written and no checkpoint covers.
    pub(crate) stored: StoredDebt,
    /// Set when the folder is given up, perhaps to its next writer. Whoever changes files checks it under a lock
    /// that the closing thread takes after it is set.
    pub(crate) given_up: AtomicBool,
    /// Marks the process that opened the folder.
    pub(crate) fork: ForkMark,
}

impl LogShared {
    /// Creates the shared state of a folder that is being opened, before its journal continues.
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
            move_start: OnceLock::new(),
            epoch: AtomicI32::new(epoch),
            batch_size,
            buffers: Buffers::new(batch_size),
            dirty: Mutex::default(),
            memory: AtomicU64::new(0),
            open_files: Arc::new(open_files),
            reads,
            written_out: AtomicU64::new(0),
            write_failed: AtomicBool::new(false),
            left_over: AtomicBool::new(false),
            ledger: config.ledger.clone(),
            stored: StoredDebt::new(config.journal_max_bytes),
            given_up: AtomicBool::new(false),
            fork: ForkMark::new(),
        }
    }

    /// Returns how many bytes of batches were written to segments since the folder was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_out.load(Ordering::Relaxed).saturating_add(self.stored.written())
    }

    /// Returns how many of `count` partitions may be written out before their files are synced. All of them
    /// if one sync of the whole storage follows, because that needs no open file.
    pub(crate) fn written_at_once(&self, count: usize) -> usize {
        let whole = self.storage.prefers_whole_sync(count);
        if whole { count.max(1) } else { self.open_files.at_once() }
    }

    /// Waits until all journal frames up to `lsn` survive power loss.
    pub(crate) fn wait_synced(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<()> {
        let journal = self.journal.get().ok_or(Error::Closed)?;
        if let Some(Recovery(finish)) = self.recovery.get()
            && journal.is_held()
            && lsn > journal.synced()
        {
            // No other thread writes the recovery checkpoint, and without it this wait never ends.
            finish()?;
        }
        journal.wait_synced(lsn, timeout)
    }
}

/// Writes the recovery checkpoint, which a `Synced` acknowledgement waits for. After an error it is
/// unknown which records survive power loss.
pub(crate) struct Recovery(pub(crate) Box<dyn Fn() -> Result<()> + Send + Sync>);

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recovery")
    }
}

/// Finds the current state of a partition that another process writes. Returns `None` if it cannot be
/// determined, and an error if the partition is deleted.
pub(crate) struct Present(pub(crate) Box<Look>);

type Look = dyn Fn(&Log) -> Result<Option<Now>> + Send + Sync;

/// The current state of a partition that another process writes.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) start_offset: i64,
    pub(crate) segments: Vec<SegmentId>,
}

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

/// Identifies a partition.
#[derive(Debug, Clone)]
pub(crate) struct LogIdentity {
    pub(crate) number: PartitionNumber,
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    /// The topic's initial configuration. [`Log::config`] returns the current one.
    pub(crate) config: Arc<TopicConfig>,
}

/// One partition.
pub(crate) struct Log {
    identity: LogIdentity,
    folder: Arc<SegmentFolder>,
    shared: Arc<LogShared>,
    appender: Mutex<Appender>,
    view: RwLock<Arc<View>>,
    config: RwLock<Arc<TopicConfig>>,
    /// Whether the timestamp type is `LogAppendTime`. A copy from `config`, because every append reads it.
    stamps_appends: AtomicBool,
    /// Whether the files were settled, or do not need to be. See `settle`.
    settled: AtomicBool,
    start: AtomicI64,
    end: AtomicI64,
    /// The end offset of the checkpoint in progress, or -1 (L5).
    mark: AtomicI64,
    /// Incremented when the topic is altered. `DELETED` once the topic is deleted.
    revision: AtomicU32,
    /// The first damage found in the files.
    damage: OnceLock<Error>,
    /// Whether files of deleted segments could not be removed.
    unremoved: AtomicBool,
    /// What retention has deleted. Unset where it has deleted nothing.
    tally: OnceLock<Box<Tally>>,
    /// Where the last pass of compaction ended, or -1. Changes under the write-out lock.
    first_dirty: AtomicI64,
    /// Where the log ends in the last durable checkpoint. Changes under the write-out lock.
    listed_end: AtomicI64,
    /// Unset where nothing was compacted.
    compaction: OnceLock<Box<Compaction>>,
    /// Unset where nobody has read committed records. A branch shares it.
    stable: OnceLock<Arc<Stable>>,
    out: Mutex<WriteOut>,
    /// Whether a thread holds the write-out lock to write out what waits, which may take long.
    writes_out: AtomicBool,
}

// Short, because they are part of values that programs print, such as the metadata of a record.
impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("partition", self.partition())
            .field("topic_id", &self.topic_id())
            .field("start_offset", &self.start_offset())
            .field("end_offset", &self.end_offset())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LogShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogShared").finish_non_exhaustive()
    }
}

impl Log {
    /// Creates a partition without records.
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
            unremoved: AtomicBool::new(false),
            tally: OnceLock::new(),
            first_dirty: AtomicI64::new(-1),
            listed_end: AtomicI64::new(0),
            compaction: OnceLock::new(),
            stable: OnceLock::new(),
            out: Mutex::new(WriteOut::default()),
            writes_out: AtomicBool::new(false),
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

    /// Waits until all journal frames up to `lsn` survive power loss.
    ///
    /// # Errors
    /// `ForkedChild` in a forked child of the process that opened the folder; `Closed` if there is no journal
    /// yet; the errors of the journal and of the recovery checkpoint.
    pub(crate) fn wait_synced(&self, lsn: Lsn) -> Result<()> {
        if self.shared.fork.is_child() {
            return Err(Error::ForkedChild);
        }
        self.shared.wait_synced(lsn, None)
    }

    /// Returns the topic's current configuration.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read())
    }

    /// Returns the current timestamp type.
    #[inline]
    pub(crate) fn timestamp_type(&self) -> TimestampType {
        if self.stamps_appends.load(Ordering::Relaxed) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Applies an altered configuration. Appends and writes from now on follow `config`.
    pub(crate) fn alter(&self, config: &Arc<TopicConfig>) {
        self.stamps_appends.store(is_log_append_time(config), Ordering::Relaxed);
        *self.config.write() = Arc::clone(config);
        let next = |revision: u32| revision.checked_add(1).filter(|next| *next < DELETED);
        // A deleted topic stays deleted. The revision cannot overflow in practice.
        let _kept = self.revision.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Returns the revision. It changes whenever the topic is altered, and when it is deleted.
    #[inline]
    pub(crate) fn revision(&self) -> u32 {
        self.revision.load(Ordering::Acquire)
    }

    /// Returns whether the topic exists and was not altered since `revision`.
    #[inline]
    pub(crate) fn is_at(&self, revision: u32) -> bool {
        let now = self.revision();
        now == revision && now != DELETED
    }

    /// Returns the first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start.load(Ordering::Acquire)
    }

    /// Returns the offset of the next record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns the number of offsets between `position` and `end`, a recent log end. Deleted offsets below
    /// the log start do not count. The lag of a position beyond the end is 0.
    pub(crate) fn lag(&self, position: i64, end: i64) -> i64 {
        end.saturating_sub(position.max(self.start_offset())).max(0)
    }

    /// Checks whether the folder's writer deleted the records that seem damaged or missing, after this
    /// process read the checkpoint. If so, moves the log start to the current one, but not beyond the known
    /// end.
    ///
    /// # Errors
    /// `UnknownTopic` if the writer has deleted the topic; `Stale` if compaction has replaced the segment.
    fn look_again(&self, error: &Error) -> Result<()> {
        if error.is_corruption()
            && !planted("deletions_not_noticed")
            && let Some(Present(look)) = self.shared.present.get()
            && let Some(Now { start_offset, segments }) = look(self)?
        {
            self.start.fetch_max(start_offset.min(self.end_offset()), Ordering::AcqRel);
            let is_named = |segment: &&Arc<Segment>| match error {
                Error::MissingSegment { path, .. } => segment.log_path() == *path,
                _ => false,
            };
            let view = self.view();
            let missing = view.segments.iter().find(is_named);
            let listed = |segment: &Arc<Segment>| segments.binary_search(&segment.id()).is_ok();
            let deleted = |segment: &Arc<Segment>| segment.end_offset() <= self.start_offset();
            if missing.is_some_and(|segment| !deleted(segment) && !listed(segment))
                && !planted("stale_is_damage")
            {
                return Err(Error::Stale { partition: self.partition().clone() });
            }
        }
        Ok(())
    }

    /// Returns the epochs of the records that are not deleted, each with its first offset.
    pub(crate) fn epochs(&self) -> Vec<(Epoch, i64)> {
        let first = self.view().segments.first().map(|segment| segment.base_offset());
        let first = first.unwrap_or_else(|| self.start_offset());
        history_from(&self.appender.lock().epochs, first).to_vec()
    }

    /// Returns the epoch of the record at `offset`, or the newest epoch for the log end.
    pub(crate) fn epoch_of(&self, offset: i64) -> Option<Epoch> {
        epochs::epoch_at(&self.appender.lock().epochs, offset)
    }

    /// Returns the offset at which this log diverges from one in which a record of `epoch` precedes `offset`
    /// (KIP-320). From there on, this log holds other records or none.
    ///
    /// Returns `None` if that record still precedes `offset`, or was deleted since, or if its epoch is
    /// unknown. An offset alone proves nothing.
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

    /// Adds an epoch that begins at `first` to the history, before that offset is published.
    fn begin_epoch(&self, appender: &mut Appender, epoch: Epoch, first: i64) {
        appender.epochs.push((epoch, first));
        let epochs = Arc::new(appender.epochs.clone());
        self.swap_view(|view| view.epochs = epochs);
    }

    fn dir(&self) -> &Path {
        &self.folder.path
    }

    /// Returns the size of the log in bytes: segments and batches in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        let view = self.view();
        let stored: u64 = view.segments.iter().map(|segment| segment.len()).sum();
        let memory: usize = view.batches().map(|batch| batch.records().len()).sum();
        stored.saturating_add(memory as u64)
    }

    /// Returns the number of bytes in segments.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.view().segments.iter().map(|segment| segment.len()).sum()
    }

    /// Returns the segments, in order.
    pub(crate) fn segment_ids(&self) -> Vec<SegmentId> {
        self.view().segments.iter().map(|segment| segment.id()).collect()
    }

    /// Rebuilds the indexes and block sums of the segment that the side file `path` belongs to. Returns
    /// whether it rebuilt them. The caller must have exclusive access to the folder.
    pub(crate) fn rebuild_side_files(&self, path: &Path) -> Result<bool> {
        for segment in self.view().segments.iter() {
            if segment.has_side_file(path) {
                return segment.rebuild_side_files();
            }
        }
        Ok(false)
    }

    /// Returns the number of segments.
    pub(crate) fn segment_count(&self) -> usize {
        self.view().segments.len()
    }

    /// Deletes the partition: rejects further appends and drops the batches in memory. No thread writes to
    /// the folder once this returns.
    ///
    /// Returns the files that are not synced. Keep them until the deletion is durable: until then, frames may
    /// rely on them.
    #[must_use]
    pub(crate) fn delete(&self) -> Vec<Arc<dyn StorageFile>> {
        self.stop_compaction();
        let mut out = self.out.lock();
        let mut appender = self.appender.lock();
        self.revision.store(DELETED, Ordering::Release);
        appender.open = None;
        let view = std::mem::take(&mut *self.view.write());
        self.release_memory(view.batches().map(|batch| batch.capacity()).sum());
        view.batches().for_each(|batch| batch.release_charge());
        let unsynced = std::mem::take(&mut *out).unsynced;
        let sleepers = std::mem::take(&mut appender.sleepers);
        drop((appender, out));
        wake_all(sleepers);
        unsynced
    }

    /// Returns whether the journal has stopped appends. The folder may then belong to its next writer. Call it with
    /// the write-out lock, which the close takes afterwards.
    fn is_closed(&self) -> bool {
        self.shared.journal.get().is_some_and(|journal| journal.is_closed())
    }

    /// Waits until nothing is being written to the partition's files.
    pub(crate) fn await_writes(&self) {
        drop(self.out.lock());
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.revision() == DELETED
    }

    /// Registers a sleeper to be woken once the log grows beyond `position`. Returns false, and registers
    /// nothing, if the log has already grown beyond it or is deleted.
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

    /// Unregisters a sleeper that `sleep_on` registered. Does nothing in a forked child, where the lock may be held for
    /// ever.
    pub(crate) fn wake_no_more(&self, sleeper: &Arc<dyn Wake>) {
        if self.shared.fork.is_child() {
            return;
        }
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

    /// Rejects appends from now on, because a segment is damaged or missing. Sound records stay readable.
    /// Only the first damage is kept.
    pub(crate) fn set_damaged(&self, damage: Error) {
        if self.damage.set(damage).is_ok() {
            self.appender.lock().poisoned = true;
        }
    }

    /// Returns why a partition that is not deleted rejects appends: damage or a panic. `None` if it accepts
    /// appends.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.appender.lock().poisoned.then(|| self.poisoned())
    }

    fn poisoned(&self) -> Error {
        self.damage.get().cloned().unwrap_or_else(|| Error::Poisoned {
            what: format!("partition {}", self.identity.partition),
        })
    }
}

/// The revision of a deleted partition.
const DELETED: u32 = u32::MAX;

fn is_log_append_time(config: &TopicConfig) -> bool {
    config.timestamp_type == TimestampType::LogAppendTime
}

/// Wakes the sleepers of a partition. The caller must hold none of its locks.
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

/// Rejects an offset below `start` or above `end` with `OffsetOutOfRange`.
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
