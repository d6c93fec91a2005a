//! The append path: stage under the append lock, journal, apply.
//!
//! Staging and applying are separate steps, so that one frame can carry records of many partitions.
//! [`AppendGuard`] holds the partition's append lock. `stage` encodes records after the published ones,
//! where no reader reads. The caller journals the staged sections as one frame. `apply` publishes them.
//! Dropping a guard without `apply` leaves no trace of the staged records.

use std::sync::Arc;

use super::batch::{OpenBatch, OpenFields};
use super::store::StoredAppend;
use super::view::View;
use super::{APPEND_HEADER_BYTES, AppendSection, Log, Wake};
use crate::error::{Error, Result};
use crate::journal::Outside;
use crate::record::{Compression, HEADER_BYTES, Header, encode_record, encoded_record_bytes};
use crate::storage::{Charge, Ledger};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::{Epoch, PanicWatch, PartitionNumber, Timestamp, TimestampType, planted};

/// The capacity of the first buffer of a partition in bytes. The buffer grows up to the batch size on demand.
const FIRST_CAPACITY: usize = 4 << 10;

/// Returns an upper bound for the payload of a frame that carries records of `partitions` partitions.
pub(crate) fn frame_bound(records_bytes: usize, partitions: usize, batch_size: usize) -> usize {
    // The records of each partition begin one piece. Every further piece begins where a batch is full.
    // A batch is full when the next record does not fit, so any two neighbouring pieces fill a batch.
    let full = records_bytes.saturating_mul(2).checked_div(batch_size).unwrap_or(records_bytes);
    let pieces = partitions.saturating_add(full).saturating_add(1);
    records_bytes.saturating_add(pieces.saturating_mul(APPEND_HEADER_BYTES + 8))
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordData<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [Header<'a>],
    /// The timestamp of the record, or `None` for the time of the append.
    pub(crate) timestamp: Option<Timestamp>,
    /// The idempotency id. It is not stored with the record.
    pub(crate) id: Option<&'a [u8]>,
}

impl RecordData<'_> {
    /// Returns the most bytes that the encoded record can take.
    pub(crate) fn bound(&self) -> usize {
        encoded_record_bytes(i64::MAX, i32::MAX, self.key, self.value, self.headers)
    }

    /// Returns the bytes that the record takes as the only record of a batch.
    pub(crate) fn bytes_alone(&self) -> usize {
        encoded_record_bytes(0, 0, self.key, self.value, self.headers)
    }
}

/// The offset and timestamp that a record got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    /// Whether this is the place of an earlier record with the same idempotency id.
    pub(crate) duplicate: bool,
}

impl Placed {
    /// Returns the place of an earlier record. Its timestamp is not read.
    pub(crate) fn of_duplicate(offset: i64) -> Self {
        Self { offset, timestamp: Timestamp::from_millis(-1), duplicate: true }
    }
}

/// The state that the append lock of a partition protects.
#[derive(Debug)]
pub(super) struct Appender {
    pub(super) open: Option<OpenBatch>,
    pub(super) next_offset: i64,
    pub(super) epochs: Vec<(Epoch, i64)>,
    pub(super) sleepers: Vec<Arc<dyn Wake>>,
    pub(super) poisoned: bool,
    /// Whether the partition has been in the dirty list since the last checkpoint.
    pub(super) dirty: bool,
    pub(super) next_batch_id: u64,
    /// The capacity that the next batch begins with.
    pub(super) next_capacity: usize,
    /// The records staged into the open batch. Empty between appends, as `fresh` is.
    staged: Piece,
    /// New batches after the open one, each with the records staged into it.
    fresh: Vec<(OpenBatch, Piece)>,
}

/// Records staged into one batch, after the published ones.
#[derive(Debug)]
struct Piece {
    count: u32,
    bytes: usize,
    max_timestamp: i64,
    header: [u8; APPEND_HEADER_BYTES],
}

impl Appender {
    pub(super) fn new(next_offset: i64) -> Self {
        Self {
            open: None,
            next_offset,
            epochs: Vec::new(),
            sleepers: Vec::new(),
            poisoned: false,
            dirty: false,
            next_batch_id: 0,
            next_capacity: FIRST_CAPACITY,
            staged: Piece::new(),
            fresh: Vec::new(),
        }
    }

    /// Returns the offset after the last staged record.
    fn staged_end(&self) -> i64 {
        let end = self.next_offset.saturating_add(i64::from(self.staged.count));
        self.fresh.iter().fold(end, |end, (_, piece)| end.saturating_add(i64::from(piece.count)))
    }

    pub(super) fn take_batch_id(&mut self) -> u64 {
        self.next_batch_id = self.next_batch_id.wrapping_add(1);
        self.next_batch_id
    }
}

/// A held append lock with records staged after the published ones.
#[derive(Debug)]
pub(crate) struct AppendGuard<'a> {
    log: &'a Log,
    appender: MutexGuard<'a, Appender>,
    watch: PanicWatch,
    /// Set if the records go to the segment before they are journaled.
    stored: Option<Box<StoredAppend<'a>>>,
}

/// The work left for the partition after its append lock was released.
#[derive(Debug)]
#[must_use]
pub(crate) struct Afterwards {
    /// The number of batches that this append filled. They must be written out.
    filled: usize,
    sleepers: Vec<Arc<dyn Wake>>,
}

impl Afterwards {
    /// Wakes pollers. Returns whether the append filled batches, which must be written out. The caller holds
    /// no locks.
    #[inline]
    pub(crate) fn wake(self) -> bool {
        if !self.sleepers.is_empty() {
            super::wake_all(self.sleepers);
        }
        self.filled > 0
    }
}

impl Log {
    /// Takes the append lock. A caller that takes several append locks first calls [`Log::settle`] for all
    /// the partitions.
    #[inline]
    pub(crate) fn begin_append(&self) -> Result<AppendGuard<'_>> {
        self.settle()?;
        let appender = self.appender.lock();
        if appender.poisoned {
            return Err(self.poisoned());
        }
        self.guard(appender)
    }

    /// As [`Log::begin_append`], to delete records. It does not settle the partition, and accepts a damaged one.
    pub(super) fn begin_deletion(&self) -> Result<AppendGuard<'_>> {
        let appender = self.appender.lock();
        if appender.poisoned && self.damage.get().is_none() {
            return Err(self.poisoned());
        }
        self.guard(appender)
    }

    #[inline]
    fn guard<'a>(&'a self, appender: MutexGuard<'a, Appender>) -> Result<AppendGuard<'a>> {
        if self.is_deleted() && !planted("append_to_deleted") {
            return Err(self.gone());
        }
        Ok(AppendGuard { log: self, appender, watch: PanicWatch::begin(), stored: None })
    }

    /// Returns whether large appends may go to the segment at once. Those of a topic that compresses do not: the
    /// thread that writes batches out compresses them.
    pub(crate) fn takes_stored_appends(&self) -> bool {
        self.config().compression == Compression::None
    }

    /// As [`Log::begin_append`], for a large append whose records go to the segment at once ([`super::stored`]).
    /// Also takes the write-out lock. Returns `None` if the segment cannot take records now; they then go to
    /// the journal.
    ///
    /// A caller that takes the locks of several partitions first calls this for all partitions with large
    /// appends, because write-out locks come before append locks.
    pub(crate) fn prepare_stored_append(&self) -> Result<Option<PreparedAppend<'_>>> {
        self.settle()?;
        Ok(StoredAppend::begin(self).map(|stored| PreparedAppend { log: self, stored }))
    }

    /// Takes the append lock for a checkpoint.
    pub(crate) fn lock_for_checkpoint(&self) -> FreezeGuard<'_> {
        FreezeGuard { log: self, appender: self.appender.lock() }
    }

    /// Adds the partition to the list of those that the next checkpoint must write out.
    #[inline]
    pub(super) fn enter_dirty_list(&self, appender: &mut Appender) {
        if !appender.dirty {
            appender.dirty = true;
            self.shared.dirty.lock().push(self.number());
        }
    }

    /// As `enter_dirty_list`, but takes the append lock.
    pub(super) fn mark_dirty(&self) {
        self.enter_dirty_list(&mut self.appender.lock());
    }

    /// Freezes the open batch and swaps the view.
    pub(super) fn freeze_open(&self, appender: &mut Appender) {
        if let Some(open) = appender.open.take() {
            let frozen = open.freeze();
            self.swap_view(|view| {
                view.open = None;
                view.frozen.push(frozen);
            });
        }
    }

    /// Replaces the view with a changed copy. Changes it in place if nobody holds it: with thousands of frozen
    /// batches, as after a replay, a copy for each of them would take longer than anything else.
    pub(super) fn swap_view(&self, change: impl FnOnce(&mut View)) {
        change(Arc::make_mut(&mut self.view.write()));
    }
}

/// A held write-out lock of a partition that is about to store a large append.
#[derive(Debug)]
pub(crate) struct PreparedAppend<'a> {
    log: &'a Log,
    stored: StoredAppend<'a>,
}

impl<'a> PreparedAppend<'a> {
    /// Takes the append lock. Returns `None` if the segment cannot take records now.
    pub(crate) fn begin(self) -> Result<Option<AppendGuard<'a>>> {
        let Self { log, mut stored } = self;
        let mut guard = log.begin_append()?;
        log.freeze_open(&mut guard.appender);
        if !stored.catch_up(log) {
            return Ok(None);
        }
        guard.appender.next_capacity = log.shared.batch_size;
        guard.stored = Some(Box::new(stored));
        Ok(Some(guard))
    }
}

impl AppendGuard<'_> {
    /// Writes the staged records of a large append into the segment. Returns `false` if the segment cannot take
    /// them; the caller then drops the guard, and nothing has happened. Does nothing for other appends.
    pub(crate) fn store(&mut self) -> bool {
        let log = self.log;
        let Some(stored) = &mut self.stored else { return true };
        // Before the write: if the append is refused, it may leave an empty segment, which a checkpoint lists.
        log.enter_dirty_list(&mut self.appender);
        let fresh = std::mem::take(&mut self.appender.fresh);
        let batches = fresh.into_iter().map(|(mut batch, mut piece)| {
            batch.publish(&mut piece);
            batch.freeze()
        });
        let written = stored.write(log, batches.collect());
        if written.is_err() {
            // The next checkpoint tries again, and reports the error.
            log.shared.write_failed.store(true, Ordering::Release);
        }
        written.unwrap_or(false)
    }

    /// Returns what the frame relies on outside the journal.
    pub(crate) fn outside(&self) -> Option<&Outside> {
        Some(self.stored.as_ref()?.section()?.1)
    }

    /// Adds the partition to the list of those that the next checkpoint must write out.
    pub(super) fn mark_dirty(&mut self) {
        self.log.enter_dirty_list(&mut self.appender);
    }

    /// Encodes a record after those staged before. Readers do not see it yet.
    #[inline]
    pub(crate) fn stage(&mut self, record: &RecordData<'_>, now: Timestamp) -> Result<Placed> {
        let appender = &mut *self.appender;
        let offset = appender.staged_end();
        if offset == i64::MAX {
            return Err(Error::LimitExceeded {
                what: "offsets of a partition",
                found: 1 << 63,
                max: i64::MAX as u64,
            });
        }
        let asked = match self.log.timestamp_type() {
            TimestampType::CreateTime => record.timestamp.unwrap_or(now).as_millis(),
            TimestampType::LogAppendTime => now.as_millis(),
        };
        // A program's own clock may show a time before 1970, which no batch can store.
        let asked = asked.max(0);
        loop {
            if let Some(timestamp) = self.log.extend(appender, record, offset, asked) {
                let timestamp = Timestamp::from_millis(timestamp);
                return Ok(Placed { offset, timestamp, duplicate: false });
            }
            let fresh = self.log.fresh_batch(appender, record, offset, asked)?;
            appender.fresh.push((fresh, Piece::new()));
        }
    }

    /// Returns what the disk budget was charged for the staged batches, in bytes. Dropping them gives it back.
    pub(crate) fn charged(&self) -> u64 {
        self.appender.fresh.iter().map(|(batch, _)| batch.shared.charged()).sum()
    }

    /// Adds the sections of the staged records to `parts`, a header and the records for each piece. The
    /// caller journals them in this order.
    pub(crate) fn sections<'s>(&'s mut self, parts: &mut Vec<&'s [u8]>) {
        self.prepare();
        if let Some((section, _)) = self.stored.as_ref().and_then(|stored| stored.section()) {
            parts.push(section);
        }
        let appender = &*self.appender;
        let extended = appender.open.iter().map(|open| (open, &appender.staged));
        let fresh = appender.fresh.iter().map(|(batch, piece)| (batch, piece));
        for (batch, piece) in extended.chain(fresh) {
            if piece.count > 0 {
                parts.extend(piece.section(batch));
            }
        }
    }

    /// As [`AppendGuard::sections`], without a `Vec`. Returns `None` if the append has several pieces.
    #[inline]
    pub(crate) fn single_section(&mut self) -> Option<[&[u8]; 2]> {
        let appender = self.prepare();
        match (&appender.open, appender.fresh.as_slice()) {
            (Some(open), []) => Some(appender.staged.section(open)),
            (_, [(batch, piece)]) if appender.staged.count == 0 => Some(piece.section(batch)),
            _ => None,
        }
    }

    /// Fills in the section headers, and marks the partition as dirty before its frame is journaled.
    #[inline]
    fn prepare(&mut self) -> &Appender {
        let number = self.log.number();
        let appender = &mut *self.appender;
        self.log.enter_dirty_list(appender);
        if let Some(open) = &appender.open {
            appender.staged.fill_header(number, open);
        }
        for (batch, piece) in &mut appender.fresh {
            piece.fill_header(number, batch);
        }
        appender
    }

    /// Returns the offset after the last published record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.appender.next_offset
    }

    /// Returns whether records were staged, or stored, since the lock was taken.
    pub(crate) fn has_staged(&self) -> bool {
        let is_stored = || self.stored.as_ref().is_some_and(|stored| stored.section().is_some());
        self.appender.staged.count > 0 || !self.appender.fresh.is_empty() || is_stored()
    }

    /// As [`AppendGuard::publish`], and releases the lock.
    #[inline]
    pub(crate) fn apply(mut self) -> Afterwards {
        self.publish()
    }

    /// Publishes the staged records. The caller calls it when the frame is complete in the journal (L1).
    #[inline]
    pub(crate) fn publish(&mut self) -> Afterwards {
        if !self.has_staged() {
            return Afterwards { filled: 0, sleepers: Vec::new() };
        }
        let log = self.log;
        let mut stored = self.stored.take();
        let appender = &mut *self.appender;
        let first = appender.next_offset;
        let stored_end = stored.as_ref().and_then(|stored| stored.end_offset());
        appender.next_offset = stored_end.unwrap_or_else(|| appender.staged_end());
        if planted("end_before_records") {
            log.end.store(appender.next_offset, Ordering::Release);
        }
        if let Some(open) = &mut appender.open {
            open.publish(&mut appender.staged);
        }
        let mut filled = 0;
        if !appender.fresh.is_empty() {
            filled = log.open_staged(appender);
        }
        let epoch = log.shared.epoch.load(Ordering::Relaxed);
        if appender.epochs.last().is_none_or(|&(last, _)| last < epoch) {
            log.begin_epoch(appender, epoch, first);
        }
        if let Some(stored) = &mut stored {
            stored.publish(log);
        }
        log.end.store(appender.next_offset, Ordering::Release);
        Afterwards { filled, sleepers: std::mem::take(&mut appender.sleepers) }
    }
}

impl Drop for AppendGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.watch.has_panicked() {
            self.appender.poisoned = true;
        }
        if planted("keep_refused_records") {
            return;
        }
        self.appender.staged.clear();
        if !self.appender.fresh.is_empty() {
            self.appender.fresh.clear();
        }
    }
}

impl Log {
    /// Encodes the record into the batch that is being filled. Returns `None` if there is no such batch or it
    /// is full.
    #[inline]
    fn extend(
        &self,
        appender: &mut Appender,
        record: &RecordData<'_>,
        offset: i64,
        asked: i64,
    ) -> Option<i64> {
        if let Some((batch, piece)) = appender.fresh.last_mut() {
            return self.encode(batch, piece, record, offset, asked, true);
        }
        let open = appender.open.as_mut()?;
        if open.shared.epoch != self.shared.epoch.load(Ordering::Relaxed) {
            return None;
        }
        self.encode(open, &mut appender.staged, record, offset, asked, false)
    }

    /// Opens the newly staged batches one after the other. Returns how many batches this filled.
    #[cold]
    fn open_staged(&self, appender: &mut Appender) -> usize {
        let mut filled: usize = 0;
        for (fresh, mut piece) in std::mem::take(&mut appender.fresh) {
            filled = filled.saturating_add(usize::from(self.open_fresh(appender, fresh)));
            if let Some(open) = &mut appender.open {
                open.publish(&mut piece);
            }
        }
        filled
    }

    #[inline]
    fn encode(
        &self,
        batch: &mut OpenBatch,
        piece: &mut Piece,
        record: &RecordData<'_>,
        offset: i64,
        asked: i64,
        fresh: bool,
    ) -> Option<i64> {
        let base = batch.shared.base_timestamp;
        let own = batch.shared.append_timestamp().filter(|_| !planted("time_of_each_record"));
        let timestamp = own.unwrap_or(asked);
        let delta = i32::try_from(offset.checked_sub(batch.shared.base_offset)?).ok()?;
        let timestamp_delta = timestamp.checked_sub(base)?;
        if batch.shared.capacity() > self.shared.batch_size && delta > 0 {
            // The first record exceeds a batch. It stays alone, however large the buffer is.
            return None;
        }
        loop {
            let room = batch.writer.spare().get_mut(piece.bytes..)?;
            let encoded = encode_record(
                room,
                timestamp_delta,
                delta,
                record.key,
                record.value,
                record.headers,
            );
            if let Some(bytes) = encoded {
                piece.bytes = piece.bytes.saturating_add(bytes);
                piece.count = piece.count.saturating_add(1);
                piece.max_timestamp = piece.max_timestamp.max(timestamp);
                return Some(timestamp);
            }
            self.grow(batch, piece.bytes, record, fresh)?;
        }
    }

    #[cold]
    /// Moves the batch into a larger buffer. Returns `None` if the batch size does not allow one that the
    /// record fits into.
    fn grow(
        &self,
        batch: &mut OpenBatch,
        staged: usize,
        record: &RecordData<'_>,
        fresh: bool,
    ) -> Option<()> {
        let used = HEADER_BYTES.saturating_add(batch.shared.records().len()).saturating_add(staged);
        let needed = used.saturating_add(record.bound());
        let capacity = batch.shared.capacity();
        if needed > self.shared.batch_size || capacity >= self.shared.batch_size {
            return None;
        }
        let larger = needed.max(capacity.saturating_mul(4)).min(self.shared.batch_size);
        // If the budget has no room for it, perhaps it has for a small batch.
        let more = self.charge_growth(capacity, larger).ok()?;
        let grown = batch.grown(self.shared.buffers.take(larger), staged, more);
        if !fresh {
            self.shared.memory.fetch_add(larger.saturating_sub(capacity) as u64, Ordering::Relaxed);
            let shared = Arc::clone(&grown.shared);
            self.swap_view(|view| view.open = Some(shared));
        }
        *batch = grown;
        Some(())
    }

    /// Charges what a batch needs in a larger buffer, beyond the smaller one.
    fn charge_growth(&self, from: usize, to: usize) -> Result<Option<Charge>> {
        let more = Ledger::batch_space(to).saturating_sub(Ledger::batch_space(from));
        self.charge(more)
    }

    /// Charges the disk budget, if there is one, before an append takes a buffer.
    fn charge(&self, bytes: u64) -> Result<Option<Charge>> {
        let Some(ledger) = &self.shared.ledger else { return Ok(None) };
        ledger.try_charge(bytes).map(Some).ok_or_else(|| ledger.refusal(bytes))
    }

    #[cold]
    /// Creates a batch for which the record is the first one.
    ///
    /// # Errors
    /// `DiskBudget` if the budget has no room for it.
    fn fresh_batch(
        &self,
        appender: &mut Appender,
        record: &RecordData<'_>,
        offset: i64,
        asked: i64,
    ) -> Result<OpenBatch> {
        let fields = OpenFields {
            id: appender.take_batch_id(),
            base_offset: offset,
            base_timestamp: asked,
            timestamp_type: self.timestamp_type(),
            epoch: self.shared.epoch.load(Ordering::Relaxed),
        };
        let least = HEADER_BYTES.saturating_add(record.bound());
        let capacity = appender.next_capacity.min(self.shared.batch_size).max(least);
        let charge = self.charge(Ledger::batch_space(capacity))?;
        Ok(OpenBatch::new(fields, self.shared.buffers.take(capacity), charge))
    }

    /// Makes `fresh` the open batch. Returns whether this filled another one.
    pub(super) fn open_fresh(&self, appender: &mut Appender, fresh: OpenBatch) -> bool {
        let filled = appender.open.take().map(OpenBatch::freeze);
        if filled.is_some() {
            // A partition that filled one batch will likely fill the next one.
            appender.next_capacity = self.shared.batch_size;
        }
        let was_filled = filled.is_some();
        let shared = Arc::clone(&fresh.shared);
        self.shared.memory.fetch_add(shared.capacity() as u64, Ordering::Relaxed);
        self.swap_view(|view| {
            view.frozen.extend(filled);
            view.open = Some(shared);
        });
        appender.open = Some(fresh);
        was_filled
    }
}

impl OpenBatch {
    /// Publishes the staged records to readers.
    #[inline]
    fn publish(&mut self, piece: &mut Piece) {
        self.writer.publish(piece.bytes);
        self.count = self.count.saturating_add(piece.count);
        self.max_timestamp = self.max_timestamp.max(piece.max_timestamp);
        piece.clear();
    }
}

impl Piece {
    fn new() -> Self {
        Self { count: 0, bytes: 0, max_timestamp: -1, header: [0; APPEND_HEADER_BYTES] }
    }

    #[inline]
    fn clear(&mut self) {
        (self.count, self.bytes, self.max_timestamp) = (0, 0, -1);
    }

    /// Returns the header and the records of the section, as the caller journals them.
    #[inline]
    fn section<'s>(&'s self, batch: &'s OpenBatch) -> [&'s [u8]; 2] {
        [&self.header, batch.writer.pending(self.bytes)]
    }

    #[inline]
    fn fill_header(&mut self, number: PartitionNumber, batch: &OpenBatch) {
        let section = AppendSection {
            partition: number,
            count: self.count,
            base_offset: batch.shared.base_offset,
            base_timestamp: batch.shared.base_timestamp,
            max_timestamp: self.max_timestamp,
            first_delta: batch.count,
            timestamp_type: batch.shared.timestamp_type,
        };
        section.encode_into(self.bytes, &mut self.header);
    }
}

/// A held append lock of a partition that is frozen for a checkpoint.
#[derive(Debug)]
pub(crate) struct FreezeGuard<'a> {
    log: &'a Log,
    appender: MutexGuard<'a, Appender>,
}

/// The state of a partition at a checkpoint, as far as it is in memory.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) start_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) epochs: Vec<(Epoch, i64)>,
}

impl FreezeGuard<'_> {
    /// Freezes the open batch and marks the offset that the checkpoint must capture (L5).
    pub(crate) fn freeze(&mut self) -> Frozen {
        self.log.freeze_open(&mut self.appender);
        self.appender.dirty = false;
        self.log.mark.store(self.appender.next_offset, Ordering::Release);
        Frozen {
            start_offset: self.log.start_offset(),
            end_offset: self.appender.next_offset,
            epochs: self.appender.epochs.clone(),
        }
    }
}
