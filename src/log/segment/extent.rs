//! The extent of damage: finds the sound batches of a segment, and the offsets that are lost between them.
//!
//! A damaged header cannot be trusted. Its surroundings can:
//!
//! * The checkpoint knows the segment's length, base offset, and end offset.
//! * A batch is sound if it agrees with its checksum, its records, its leader epoch, and the bounds of the
//!   segment.
//!   Kafka's checksum does not cover the base offset, so the base offset needs a second witness.
//! * An entry of the offset index is true if a sound batch with that last offset begins at its position.
//!   Such an entry is a second witness. So is the chain of offsets: a segment loses batches only by compaction,
//!   so each batch of another segment begins with the offset after the previous one.
//!
//! The lost offsets begin where the chain breaks that starts at the nearest trusted batch before the damage.
//! They end before the nearest trusted batch after it, or at the end of the segment. Readers, `verify` and
//! opening all use this module, so they report the same range, and a reader that seeks past it can continue.

use std::ops::Range;
use std::sync::Arc;

use super::Segment;
use super::read::{Batches, History};
use crate::error::{CorruptReason, Corruption, Error, Result};
use crate::record::header::{LAST_OFFSET_DELTA_AT, LENGTH_AT, LOG_OVERHEAD, MIN_LENGTH};
use crate::record::{
    Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, HEADER_BYTES,
};
use crate::segment::Headers;
use crate::storage::StorageFile;
use crate::types::planted;

/// The damage at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::log) struct Extent {
    /// The position of the first damaged batch.
    pub(in crate::log) position: u64,
    /// The first lost offset.
    pub(in crate::log) first: i64,
    /// The position of the next sound batch, or the end of the segment.
    pub(in crate::log) next: u64,
    /// The first offset of that batch, or the end offset of the segment.
    pub(in crate::log) resume: i64,
}

impl Extent {
    /// Returns the first and the last lost offset.
    pub(in crate::log) fn offsets(&self) -> (i64, i64) {
        (self.first, self.resume.saturating_sub(1).max(self.first))
    }
}

// Damage, with the offsets that it loses.
impl Segment {
    /// Returns the error for damage at a position that a reader reached, with the lost offsets.
    pub(in crate::log) fn damaged(
        &self,
        position: u64,
        reason: CorruptReason,
        history: History<'_>,
    ) -> Error {
        self.with_range(self.corrupt(position, None, reason), history)
    }

    /// Adds the lost offsets to damage of the log that lacks them. Returns the read error instead if the file
    /// cannot be read.
    pub(super) fn with_range(&self, error: Error, history: History<'_>) -> Error {
        let Error::Corrupt(mut damage) = error else { return error };
        if damage.offsets.is_none() && damage.reason != CorruptReason::Index {
            match self.extent(damage.position, history) {
                Ok(extent) => {
                    damage.position = extent.position;
                    damage.offsets = Some(extent.offsets());
                }
                Err(error) => return error,
            }
        }
        Error::Corrupt(damage)
    }

    fn extent(&self, position: u64, history: History<'_>) -> Result<Extent> {
        let file = self.open_to_read()?;
        Judge::new(self, &*file, history)?.extent(position)
    }

    /// Returns the error for a file that was truncated to `len`. The batches after the last complete one are
    /// lost.
    pub(in crate::log) fn cut_short(&self, len: u64) -> Error {
        self.damaged(len.min(self.len().saturating_sub(1)), CorruptReason::Short, None)
    }

    /// Returns whether a batch in `range` is damaged by itself, which explains a wrong block sum. Uses plain
    /// reads.
    pub(super) fn explained(&self, range: &Range<u64>, history: History<'_>) -> Result<bool> {
        if self.is_cleaned() && !planted("explain_cleaned_blocks") {
            return Ok(false);
        }
        let file = self.open_to_read()?;
        let judge = Judge::new(self, &*file, history)?;
        let (mut at, mut offset) = judge.anchor(range.start.saturating_add(1))?;
        loop {
            let (lost, first) = judge.follow(at, offset, range.end)?;
            if lost >= range.end || !judge.is_ours(at..lost)? {
                return Ok(false);
            }
            (at, offset) = judge.resume(lost, first)?;
            if at > range.start {
                return Ok(true);
            }
        }
    }

    /// Returns the position from which to read `offset`, after the lookup met damage.
    ///
    /// # Errors
    /// The damage, if `offset` is lost by it or by damage after it.
    pub(super) fn locate_behind(
        self: &Arc<Self>,
        met: Error,
        offset: i64,
        history: History<'_>,
    ) -> Result<u64> {
        match met {
            Error::Corrupt(damage)
                if damage.offsets.is_none() && damage.reason != CorruptReason::Index =>
            {
                self.locate_past(&damage, offset, history)
            }
            other => Err(other),
        }
    }

    /// Returns the position from which to read `offset`, after damage `met` in this segment's log.
    ///
    /// # Errors
    /// The damage, if `offset` is lost by it or by damage after it.
    pub(in crate::log) fn locate_past(
        self: &Arc<Self>,
        met: &Corruption,
        offset: i64,
        history: History<'_>,
    ) -> Result<u64> {
        let (mut position, mut reason) = (met.position, met.reason);
        loop {
            let extent = self.extent(position, history)?;
            if offset < extent.resume {
                return Err(self.corrupt(extent.position, Some(extent.offsets()), reason));
            }
            let log = Batches { segment: self, len: self.len(), history };
            let mut walk = log.walk(extent.resume, extent.next);
            let found = walk.find(|batch| {
                !batch.as_ref().is_ok_and(|(_, header)| header.last_offset() < offset)
            });
            match found {
                None => return self.end_of_batches(offset, history),
                Some(Ok((position, _))) => return Ok(position),
                Some(Err(Error::Corrupt(damage))) if damage.offsets.is_none() => {
                    (position, reason) = (damage.position, damage.reason);
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Returns the end of the segment if no batch claims to hold `offset` or a later one.
    ///
    /// # Errors
    /// `Corrupt` if the segment should hold `offset`. A batch then claims too few offsets, unless compaction has
    /// removed the last ones.
    pub(super) fn end_of_batches(&self, offset: i64, history: History<'_>) -> Result<u64> {
        let len = self.len();
        if offset < self.end_offset() && !self.is_cleaned() {
            return Err(self.damaged(len.saturating_sub(1), CorruptReason::Offsets, history));
        }
        Ok(len)
    }
}

/// Judges batches by plain reads, without the sums of their blocks.
pub(in crate::log) struct Judge<'a> {
    segment: &'a Segment,
    file: &'a dyn StorageFile,
    history: History<'a>,
    /// The length of the segment, and its end offset.
    bounds: (u64, i64),
    /// The stored offset index. An entry is trusted only if a batch confirms it.
    entries: Vec<(i64, u64)>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        segment: &'a Segment,
        file: &'a dyn StorageFile,
        history: History<'a>,
    ) -> Result<Self> {
        // Read the offset after the length, because appends publish it first.
        let bounds = (segment.len(), segment.end_offset());
        Self::within(segment, file, history, bounds)
    }

    /// Creates a judge of the segment as it was when it ended at `bounds`: a length and an end offset.
    pub(in crate::log) fn within(
        segment: &'a Segment,
        file: &'a dyn StorageFile,
        history: History<'a>,
        bounds: (u64, i64),
    ) -> Result<Self> {
        let (offsets, _) = segment.stored_indexes(true)?;
        let entries = offsets.map(|index| index.entries().collect()).unwrap_or_default();
        Ok(Self { segment, file, history, bounds, entries })
    }

    /// Returns the damage at `position`, or the damage that led a reader there. A wrong length leads into the
    /// middle of a sound batch.
    pub(in crate::log) fn extent(&self, position: u64) -> Result<Extent> {
        let mut until = position;
        loop {
            let (start, base_offset) = self.anchor(until)?;
            if let Some(extent) = self.last_damage(start, base_offset, until, position)? {
                return Ok(extent);
            }
            if start == 0 {
                // No damage leads to the position, so nothing in the segment is certain.
                let (next, resume) = self.bounds;
                return Ok(Extent { position, first: self.segment.base_offset, next, resume });
            }
            // All batches from `start` on are sound, so damage before `start` led the reader to `position`.
            until = start;
        }
    }

    /// Returns the last damage between the trusted batch at `start` and `until`. `until` is either
    /// `position`, which is damaged unless it lies inside a sound batch, or a trusted batch before
    /// `position`.
    fn last_damage(
        &self,
        start: u64,
        base_offset: i64,
        until: u64,
        position: u64,
    ) -> Result<Option<Extent>> {
        let (mut at, mut offset, mut last) = (start, base_offset, None);
        loop {
            let (lost, first) = self.follow(at, offset, until)?;
            if lost > until || lost == until && until < position {
                return Ok(last);
            }
            (at, offset) = self.resume(lost, first)?;
            last = Some(Extent { position: lost, first, next: at, resume: offset });
            let behind = at > until || at == until && until < position;
            if behind || at >= self.bounds.0 {
                return Ok(last);
            }
        }
    }

    /// Returns whether the index agrees with the sound batches of a range. If neither the index nor the sums
    /// agree with them, the batches belong to another file.
    fn is_ours(&self, range: Range<u64>) -> Result<bool> {
        let behind = self.entries.partition_point(|(_, at)| *at <= range.start);
        let inside = self.entries.iter().skip(behind).take_while(|(_, at)| *at < range.end);
        for (last_offset, at) in inside {
            if self.named(*at, *last_offset)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the position and base offset of the nearest batch before `position` that an index entry
    /// vouches for, or those of the segment's first batch.
    fn anchor(&self, position: u64) -> Result<(u64, i64)> {
        let before = self.entries.partition_point(|(_, at)| *at < position);
        for (last_offset, at) in self.entries.iter().take(before).rev() {
            if let Some(header) = self.named(*at, *last_offset)? {
                return Ok((*at, header.base_offset));
            }
        }
        Ok((0, self.segment.base_offset))
    }

    /// Follows the chain of sound batches up to `until`. Returns where it ends, and the offset that the next
    /// batch would begin with.
    fn follow(&self, position: u64, base_offset: i64, until: u64) -> Result<(u64, i64)> {
        let (mut at, mut offset) = (position, base_offset);
        while at < until
            && let Some(header) = self.sound(at, Some(offset))?
        {
            at = at.saturating_add(header.total_bytes() as u64);
            offset = header.next_offset();
        }
        Ok((at, offset))
    }

    /// Returns the position and base offset of the nearest trusted batch after the damaged one at `lost`, or
    /// the end of the segment. The base offset of such a batch is greater than `first`.
    fn resume(&self, lost: u64, first: i64) -> Result<(u64, i64)> {
        let neighbour = self.neighbour(lost, first)?;
        let behind = self.entries.partition_point(|(_, at)| *at <= lost);
        for (last_offset, at) in self.entries.iter().skip(behind) {
            if let Some(neighbour) = neighbour.filter(|(next, _)| next <= at) {
                return Ok(neighbour);
            }
            if let Some(header) = self.named(*at, *last_offset)?
                && header.base_offset > first
            {
                return Ok((*at, header.base_offset));
            }
        }
        Ok(neighbour.unwrap_or(self.bounds))
    }

    /// Returns the batch that follows the damaged one according to the damaged one's length. It is trusted if
    /// the damaged batch claims the same next offset, or if the chain leads from it to an index entry or to
    /// the end of the segment.
    fn neighbour(&self, lost: u64, first: i64) -> Result<Option<(u64, i64)>> {
        let Some((bytes, last_offset_delta)) = self.claims(lost)? else { return Ok(None) };
        let at = lost.saturating_add(bytes);
        let Some(header) = self.sound(at, None)?.filter(|header| header.base_offset > first) else {
            return Ok(None);
        };
        let base_offset = header.base_offset;
        let claimed = first.saturating_add(i64::from(last_offset_delta)).saturating_add(1);
        let agreed = base_offset == claimed;
        let proven = agreed || self.leads_to_anchor(at, base_offset)?;
        Ok(proven.then_some((at, base_offset)))
    }

    /// Returns the total length and the last offset delta that the header at a position claims, right or
    /// wrong.
    fn claims(&self, position: u64) -> Result<Option<(u64, i32)>> {
        let mut bytes = [0; HEADER_BYTES];
        if self.file.read_at(&mut bytes, position)? < HEADER_BYTES {
            return Ok(None);
        }
        let field = |at: usize| {
            bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map(i32::from_be_bytes)
        };
        let (Some(length), Some(delta)) = (field(LENGTH_AT), field(LAST_OFFSET_DELTA_AT)) else {
            return Ok(None);
        };
        Ok((length >= MIN_LENGTH)
            .then(|| ((length as u64).saturating_add(LOG_OVERHEAD as u64), delta)))
    }

    fn leads_to_anchor(&self, position: u64, base_offset: i64) -> Result<bool> {
        let behind = self.entries.partition_point(|(_, at)| *at < position);
        let entry = self.entries.get(behind).copied();
        let until = entry.map_or(self.bounds.0, |(_, at)| at);
        let (at, offset) = self.follow(position, base_offset, until)?;
        Ok(match entry {
            None => at == self.bounds.0 && self.segment.may_follow(offset, self.bounds.1),
            Some((last_offset, entry)) => {
                let named = self.named(entry, last_offset)?;
                let follows =
                    |header: &BatchHeader| self.segment.may_follow(offset, header.base_offset);
                at == entry && named.as_ref().is_some_and(follows)
            }
        })
    }

    /// Returns the header of the sound batch that an index entry points to.
    fn named(&self, position: u64, last_offset: i64) -> Result<Option<BatchHeader>> {
        let header = self.sound(position, None)?;
        Ok(header.filter(|header| header.last_offset() == last_offset))
    }

    /// Returns the header of the batch at a position if the batch is sound and begins with `expected`.
    fn sound(&self, position: u64, expected: Option<i64>) -> Result<Option<BatchHeader>> {
        let mut bytes = vec![0; HEADER_BYTES];
        let read = self.file.read_at(&mut bytes, position)?;
        let Ok(header) = BatchHeader::parse(bytes.get(..read).unwrap_or_default()) else {
            return Ok(None);
        };
        if self.segment.refuted(position, self.bounds, &header, self.history).is_some()
            || expected.is_some_and(|next| !self.segment.may_follow(next, header.base_offset))
        {
            return Ok(None);
        }
        // At most the length of the segment: `refuted` checked that.
        bytes.resize(header.total_bytes(), 0);
        let read = self.file.read_at(&mut bytes, position)?;
        let batch = Batch::parse(bytes.get(..read).unwrap_or_default());
        // A batch that this build cannot decompress is not damaged.
        let damaged = |batch: &Batch<'_>| {
            let verified = batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES);
            matches!(verified, Err(DecodeError::Corrupt { .. }))
        };
        let whole = batch.is_ok_and(|batch| !damaged(&batch));
        Ok(whole.then_some(header))
    }
}
