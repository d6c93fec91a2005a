//! Restoring a partition from the checkpoint and the journal.

use std::sync::Arc;

use super::append::Appender;
use super::batch::{OpenBatch, OpenFields};
use super::image::LogImage;
use super::segment::Segment;
use super::view::View;
use super::{AppendSection, Log, LogIdentity, LogShared};
use crate::error::CorruptReason;
use crate::record::HEADER_BYTES;
use crate::storage::{Charge, Ledger};
use crate::sync::atomic::Ordering;
use crate::types::{Epoch, planted};

impl Log {
    /// Creates the partition as the checkpoint describes it. Opens no file.
    pub(crate) fn restore(identity: LogIdentity, shared: Arc<LogShared>, image: &LogImage) -> Self {
        let log = Self::new(identity, shared);
        let interval = log.config().index_interval_bytes;
        let segments: Vec<_> = image
            .segments
            .iter()
            .map(|segment| Arc::new(Segment::existing(log.segment_folder(), *segment, interval)))
            .collect();
        let last = segments.len().saturating_sub(1);
        for (at, segment) in segments.iter().enumerate() {
            // A cleaned segment is complete, even if no other one follows it yet.
            if at < last || segment.is_cleaned() {
                segment.seal();
            }
        }
        *log.view.write() = Arc::new(View {
            segments: Arc::new(segments),
            epochs: Arc::new(image.epochs.clone()),
            ..View::default()
        });
        {
            let mut appender = log.appender.lock();
            *appender = Appender::new(image.end_offset);
            appender.epochs.clone_from(&image.epochs);
        }
        log.out.lock().claimed = image.end_offset;
        log.first_dirty.store(image.first_dirty_offset.unwrap_or(-1), Ordering::Release);
        log.listed_end.store(image.end_offset, Ordering::Release);
        log.start.store(image.start_offset, Ordering::Release);
        log.end.store(image.end_offset, Ordering::Release);
        log
    }

    /// Returns a copy of the partition that can be replayed further while this one stays unchanged. Copies
    /// the open batch and shares everything else. The caller must ensure that no append runs.
    pub(crate) fn branch(&self) -> Self {
        let identity = LogIdentity { config: self.config(), ..self.identity.clone() };
        let log =
            Self { folder: self.segment_folder(), ..Self::new(identity, self.shared.clone()) };
        let mut view = View::clone(&self.view());
        {
            let mut before = self.appender.lock();
            let open = before.open.as_mut().map(|open| {
                let memory = self.shared.buffers.take(open.shared.capacity());
                open.grown(memory, 0, None)
            });
            view.open = open.as_ref().map(|open| Arc::clone(&open.shared));
            let mut appender = Appender::new(before.next_offset);
            appender.open = open;
            appender.epochs.clone_from(&before.epochs);
            appender.dirty = before.dirty;
            appender.next_batch_id = before.next_batch_id;
            *log.appender.lock() = appender;
        }
        *log.view.write() = Arc::new(view);
        if let Some(stable) = self.stable.get() {
            // The same segments hold the same transactions.
            let _unset = log.stable.set(Arc::clone(stable));
        }
        log.out.lock().claimed = self.out.lock().claimed;
        log.first_dirty.store(self.first_dirty.load(Ordering::Acquire), Ordering::Release);
        log.listed_end.store(self.listed_end.load(Ordering::Acquire), Ordering::Release);
        log.start.store(self.start_offset(), Ordering::Release);
        log.end.store(self.end_offset(), Ordering::Release);
        log
    }

    /// Replays the records of a journal frame. They go into the same open batch as before, so sealing yields
    /// the same bytes.
    pub(crate) fn replay(
        &self,
        section: &AppendSection,
        records: &[u8],
        epoch: Epoch,
    ) -> Result<(), CorruptReason> {
        let mut appender = self.appender.lock();
        if section.first_offset() != appender.next_offset {
            return Err(CorruptReason::Offsets);
        }
        let continues = appender.open.as_ref().is_some_and(|open| {
            let same_batch = open.shared.base_offset == section.base_offset;
            (same_batch || planted("replay_seals_elsewhere")) && open.shared.epoch == epoch
        });
        if !continues {
            if section.first_delta != 0 {
                return Err(CorruptReason::Offsets);
            }
            let fields = OpenFields {
                id: appender.take_batch_id(),
                base_offset: section.base_offset,
                base_timestamp: section.base_timestamp,
                timestamp_type: section.timestamp_type,
                epoch,
            };
            let needed = HEADER_BYTES.saturating_add(records.len());
            // A partition that filled one batch likely fills the next one, as in `open_fresh`.
            let full = appender.next_capacity == self.shared.batch_size;
            let capacity = if full { needed.max(self.shared.batch_size) } else { needed };
            let memory = self.shared.buffers.take(capacity);
            let charge = self.charge_replayed(Ledger::batch_space(capacity));
            let fresh = OpenBatch::new(fields, memory, charge);
            self.open_fresh(&mut appender, fresh);
        }
        if appender.epochs.last().is_none_or(|&(last, _)| last < epoch) {
            let first = appender.next_offset;
            self.begin_epoch(&mut appender, epoch, first);
        }
        self.extend_replayed(&mut appender, section, records);
        self.enter_dirty_list(&mut appender);
        self.end.store(appender.next_offset, Ordering::Release);
        Ok(())
    }

    /// Charges the disk budget, if there is one, for records that the journal holds already.
    fn charge_replayed(&self, bytes: u64) -> Option<Charge> {
        self.shared.ledger.as_ref().map(|ledger| ledger.charge(bytes))
    }

    fn extend_replayed(&self, appender: &mut Appender, section: &AppendSection, records: &[u8]) {
        let Appender { open: Some(open), next_offset, .. } = appender else { return };
        if open.writer.spare().len() < records.len() {
            let capacity = open.shared.capacity();
            let used = HEADER_BYTES.saturating_add(open.shared.records().len());
            let needed = used.saturating_add(records.len());
            // Only the first record of a batch can make it larger than the batch size.
            let larger = needed.max(capacity.saturating_mul(4).min(self.shared.batch_size));
            let more = Ledger::batch_space(larger).saturating_sub(Ledger::batch_space(capacity));
            let more = self.charge_replayed(more);
            let grown = open.grown(self.shared.buffers.take(larger), 0, more);
            self.shared.memory.fetch_add(larger.saturating_sub(capacity) as u64, Ordering::Relaxed);
            let shared = Arc::clone(&grown.shared);
            self.swap_view(|view| view.open = Some(shared));
            *open = grown;
        }
        if let Some(room) = open.writer.spare().get_mut(..records.len()) {
            room.copy_from_slice(records);
            open.writer.publish(records.len());
        }
        open.count = open.count.saturating_add(section.count);
        open.max_timestamp = open.max_timestamp.max(section.max_timestamp);
        *next_offset = next_offset.saturating_add(i64::from(section.count));
    }
}
