//! Reading by timestamp.

use std::sync::Arc;

use super::batch::append_timestamp;
use super::segment::Segment;
use super::{Cursor, FetchLimits, Fetched, Log};
use crate::error::Result;
use crate::types::{Epoch, OffsetReset, Timestamp, planted};

impl Log {
    /// Returns the timestamp of the first record at or after `offset`.
    pub(crate) fn timestamp_at(&self, offset: i64) -> Result<Option<Timestamp>> {
        self.beside_deletions(|| {
            let mut cursor = Cursor::new(offset.max(self.start_offset()));
            let mut fetched = Fetched::default();
            let limits = FetchLimits { records: 1, bytes: 1, until: i64::MAX };
            self.fetch(&mut cursor, 0, limits, &mut fetched)?;
            let first = fetched.chunks.first().zip(fetched.records.first());
            Ok(first.map(|(chunk, record)| Timestamp::from_millis(chunk.timestamp_of(record))))
        })
    }

    /// Returns the offset and timestamp of the first record, by offset, whose timestamp is at least `target`.
    pub(crate) fn offset_for_time(&self, target: Timestamp) -> Result<Option<(i64, Timestamp)>> {
        self.beside_deletions(|| self.search(target))
    }

    /// Returns the offset of the first record, by offset, whose timestamp is at least `target`, or the log
    /// end if there is none.
    pub(crate) fn offset_since(&self, target: Timestamp) -> Result<i64> {
        // Read the end first, so a record that is sent during the search lies at or after it.
        let end = self.end_offset();
        Ok(self.offset_for_time(target)?.map_or(end, |(offset, _)| offset))
    }

    /// Returns the offset at which `auto.offset.reset` begins to read at the time `now`. `None` for the
    /// policy `none`.
    pub(crate) fn reset_offset(&self, reset: OffsetReset, now: Timestamp) -> Result<Option<i64>> {
        Ok(match reset {
            OffsetReset::Earliest => Some(self.start_offset()),
            OffsetReset::Latest => Some(self.end_offset()),
            OffsetReset::ByDuration(age) => Some(self.offset_since(now.saturating_sub(age))?),
            OffsetReset::None => None,
        })
    }

    /// Repeats a lookup that failed while records were being deleted, or segments replaced, because it may have
    /// read deleted or replaced ones.
    pub(super) fn beside_deletions<T>(&self, look: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let start = self.start_offset();
            let view = self.view();
            match look() {
                Err(error) if planted("search_once") => return Err(error),
                Err(error) => {
                    self.look_again(&error)?;
                    if self.start_offset() == start && !self.has_changed(&view) {
                        return Err(error);
                    }
                }
                found => return found,
            }
        }
    }

    fn search(&self, target: Timestamp) -> Result<Option<(i64, Timestamp)>> {
        let target = target.as_millis();
        let end = self.end_offset();
        let view = self.view();
        for segment in view.segments.iter() {
            // A snapshot of the folder may still list segments that its writer has deleted.
            let deleted = segment.end_offset() <= self.start_offset();
            if deleted || segment.max_timestamp() < target {
                continue;
            }
            if let Some(found) = self.in_segment(segment, &view.epochs, target)? {
                return Ok(Some(found));
            }
        }
        for batch in view.batches() {
            if batch.max_timestamp().is_some_and(|max| max < target) {
                continue;
            }
            let batch_end = batch.end_offset().unwrap_or(end);
            if let Some(found) = self.in_range(batch.base_offset, batch_end, target)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn in_segment(
        &self,
        segment: &Arc<Segment>,
        epochs: &[(Epoch, i64)],
        target: i64,
    ) -> Result<Option<(i64, Timestamp)>> {
        let mut next = segment.locate_time(target, Some(epochs))?;
        while next < segment.len() {
            let stored = segment.stored_batch(next, Some(epochs))?;
            let header = stored.header;
            next = stored.next;
            let deleted = header.next_offset() <= self.start_offset();
            if deleted || header.max_timestamp < target || header.attributes.is_control() {
                continue;
            }
            // Compaction may have removed the record at the base offset.
            if let Some(at) = append_timestamp(&header).filter(|_| !segment.is_cleaned()) {
                let first = header.base_offset.max(self.start_offset());
                return Ok(Some((first, Timestamp::from_millis(at))));
            }
            let found = self.in_range(header.base_offset, header.next_offset(), target)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Searches the records at the offsets `from..to`.
    fn in_range(&self, from: i64, to: i64, target: i64) -> Result<Option<(i64, Timestamp)>> {
        let mut cursor = Cursor::new(from.max(self.start_offset()));
        let limits = FetchLimits { records: 1_000, bytes: 1 << 20, until: i64::MAX };
        while cursor.position() < to {
            let mut fetched = Fetched::default();
            let before = cursor.position();
            self.fetch(&mut cursor, 0, limits, &mut fetched)?;
            let mut at = 0;
            for chunk in &fetched.chunks {
                for record in fetched.records.get(at..chunk.end).unwrap_or_default() {
                    let offset = chunk.base_offset.saturating_add(i64::from(record.offset_delta));
                    let timestamp = chunk.timestamp_of(record);
                    if offset < to && timestamp >= target {
                        return Ok(Some((offset, Timestamp::from_millis(timestamp))));
                    }
                }
                at = chunk.end;
            }
            if cursor.position() == before {
                break;
            }
        }
        Ok(None)
    }
}
