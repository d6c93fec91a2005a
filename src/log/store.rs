//! Writing an append into the segment before its frame is journaled ([`super::stored`]).

use std::sync::Arc;

use super::Log;
use super::batch::MemBatch;
use super::segment::{Segment, Unpublished};
use super::stored::{MAX_IMAGES, StoredSection};
use super::write_out::{Incoming, Opens, WriteOut};
use crate::error::{Error, Result};
use crate::journal::Outside;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// A held write-out lock of a partition, with the records of one append in the segment.
#[derive(Debug)]
pub(super) struct StoredAppend<'a> {
    out: MutexGuard<'a, WriteOut>,
    ahead: Option<Ahead>,
}

/// Batches in the segment that are not published yet.
#[derive(Debug)]
struct Ahead {
    segment: Arc<Segment>,
    written: Unpublished,
    batches: Vec<Arc<MemBatch>>,
    end_offset: i64,
    section: Vec<u8>,
    outside: Outside,
}

impl<'a> StoredAppend<'a> {
    /// Takes the write-out lock and writes out everything that waits. Returns `None` if that is not possible now;
    /// the append then goes to the journal.
    pub(super) fn begin(log: &'a Log) -> Option<Self> {
        let mut stored = Self { out: log.lock_out_for_append()?, ahead: None };
        let closed = log.is_closed() && !planted("store_after_close");
        if closed {
            return None;
        }
        // What the last stored append has added may be too much.
        log.retain_bytes(&mut stored.out);
        let drained = log.drain(&mut stored.out, Opens::Some);
        is_drained(log, &drained).then_some(stored)
    }

    /// Writes out everything that waits, under the append lock. Returns whether nothing waits any more.
    pub(super) fn catch_up(&mut self, log: &Log) -> bool {
        let drained = log.drain_for_append(&mut self.out);
        is_drained(log, &drained)
    }

    /// Writes the batches behind everything else in the partition's segments. Returns `false` if they do not
    /// fit there.
    pub(super) fn write(&mut self, log: &Log, batches: Vec<Arc<MemBatch>>) -> Result<bool> {
        let sealed: Vec<&[u8]> = batches.iter().map_while(|batch| batch.sealed()).collect();
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(false);
        };
        let first_offset = first.base_offset;
        let end_offset = last.end_offset().ok_or(Error::Closed)?;
        let times = batches.iter().filter_map(|batch| batch.max_timestamp());
        let incoming = Incoming {
            bytes: sealed.iter().map(|bytes| bytes.len() as u64).sum(),
            end_offset,
            max_timestamp: times.max().unwrap_or(-1),
        };
        // All batches of an append go to one segment. If they had to go to two, a refused frame would leave
        // one whose base offset is too high. The segments of a small compacted topic end early, but one of them takes
        // any append that `segment.bytes` allows: the journal does not take large ones.
        if incoming.bytes > log.largest_segment() {
            return Ok(false);
        }
        log.capture_below(&mut self.out, first_offset)?;
        let segment = log.segment_for(&mut self.out, first_offset, &incoming, Opens::Some)?;
        let Some(segment) = segment else { return Ok(false) };
        let written = segment.write(batches.iter().zip(&sealed).filter_map(|(batch, bytes)| {
            Some((*bytes, batch.end_offset()?, batch.max_timestamp()?))
        }))?;
        self.out.add_unsynced(&segment.file()?);
        let ahead = Ahead {
            section: Vec::new(),
            outside: log.outside(&self.out),
            segment,
            written,
            batches,
            end_offset,
        };
        let ahead = self.ahead.insert(ahead);
        let view = log.view();
        let changed = view.segments.iter().filter(|segment| {
            segment.end_offset() > self.out.claimed && !Arc::ptr_eq(segment, &ahead.segment)
        });
        let mut images: Vec<_> = changed.map(|segment| segment.image()).collect();
        images.push(ahead.written.image());
        let section = StoredSection {
            partition: log.number(),
            count: u32::try_from(end_offset.saturating_sub(first_offset)).unwrap_or(u32::MAX),
            first_offset,
            images,
        };
        ahead.section = section.encode();
        Ok(section.images.len() <= MAX_IMAGES)
    }

    /// Returns the section to journal, and what it relies on.
    pub(super) fn section(&self) -> Option<(&[u8], &Outside)> {
        self.ahead.as_ref().map(|ahead| (ahead.section.as_slice(), &ahead.outside))
    }

    /// Returns the offset after the written records.
    pub(super) fn end_offset(&self) -> Option<i64> {
        self.ahead.as_ref().map(|ahead| ahead.end_offset)
    }

    /// Publishes the batches in the segment. The frame is complete in the journal.
    pub(super) fn publish(&mut self, log: &Log) {
        let Some(ahead) = self.ahead.take() else { return };
        ahead.segment.publish(&ahead.written);
        self.out.claimed = ahead.end_offset;
        log.shared.stored.add(ahead.written.bytes());
        for batch in ahead.batches {
            log.give_back(batch);
        }
    }
}

/// Returns whether a write-out has written everything.
fn is_drained(log: &Log, drained: &Result<bool>) -> bool {
    let done = matches!(drained, Ok(true));
    if !done {
        // The next checkpoint tries again, and reports the error.
        log.shared.write_failed.store(true, Ordering::Release);
    }
    done
}

impl Log {
    /// Returns what a frame relies on: all files and names of the partition that are not synced.
    pub(super) fn outside(&self, out: &WriteOut) -> Outside {
        Outside {
            partition: self.number().0,
            files: out.unsynced.iter().map(Arc::downgrade).collect(),
            left: out.has_left(),
            folder: self.dir().to_owned(),
        }
    }
}

impl Drop for StoredAppend<'_> {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.segment.take_back();
        }
    }
}
