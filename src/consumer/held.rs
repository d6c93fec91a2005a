use std::sync::Arc;

use crate::config::OffsetReset;
use crate::error::{Error, Result};
use crate::log::{Cursor, FetchLimits, Fetched, Log};
use crate::types::TopicPartition;

/// A partition that a consumer reads.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) log: Arc<Log>,
    /// `None` until the position is decided, at the first fetch or question.
    cursor: Option<Cursor>,
    /// The epoch of the last record returned, for commits.
    epoch: Option<i32>,
    /// What was committed last, so that an unchanged position is not committed again.
    committed: Option<i64>,
    pub(super) paused: bool,
}

impl Held {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, cursor: None, epoch: None, committed: None, paused: false }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        self.log.partition()
    }

    /// The next offset to return, if it is decided.
    pub(super) fn position(&self) -> Option<i64> {
        self.cursor.as_ref().map(Cursor::position)
    }

    /// The position and its epoch, if there is something new to commit.
    pub(super) fn to_commit(&self) -> Option<(i64, Option<i32>)> {
        self.position()
            .filter(|position| Some(*position) != self.committed)
            .map(|p| (p, self.epoch))
    }

    /// `offset` was committed.
    pub(super) fn set_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    /// Goes on at `offset`.
    pub(super) fn seek(&mut self, offset: i64) {
        self.cursor = Some(Cursor::new(offset));
        self.epoch = None;
    }

    /// Decides the position: the committed offset, else what the policy says.
    pub(super) fn start(
        &mut self,
        committed: Option<(i64, Option<i32>)>,
        reset: OffsetReset,
    ) -> Result<()> {
        if self.cursor.is_some() {
            return Ok(());
        }
        if let Some((offset, epoch)) = committed {
            self.check_not_truncated(offset, epoch)?;
            self.seek(offset);
            self.epoch = epoch;
            self.committed = Some(offset);
        } else {
            let offset = self.reset_offset(reset).ok_or_else(|| Error::NoOffsetForPartition {
                partition: self.partition().clone(),
            })?;
            self.seek(offset);
        }
        Ok(())
    }

    /// KIP-320: the record before the position must be the one that was read. Power loss may have taken
    /// it, and another one may have its offset.
    pub(super) fn check_not_truncated(&self, offset: i64, epoch: Option<i32>) -> Result<()> {
        let end = self.log.end_offset();
        let before = offset.saturating_sub(1);
        let kept = before < self.log.start_offset()
            || epoch.is_none_or(|epoch| self.log.epoch_of(before) == Some(epoch));
        if offset <= end && kept {
            return Ok(());
        }
        Err(Error::LogTruncated { partition: self.partition().clone(), position: offset, end })
    }

    /// Reads on into `fetched`. Out of range is answered by the policy.
    pub(super) fn fetch(
        &mut self,
        partition: usize,
        limits: FetchLimits,
        reset: OffsetReset,
        fetched: &mut Fetched,
    ) -> Result<()> {
        let chunks = fetched.chunks.len();
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let result = match self.log.fetch(cursor, partition, limits, fetched) {
            Err(Error::OffsetOutOfRange { partition: at, requested, start, end }) => {
                let Some(offset) = self.reset_offset(reset) else {
                    return Err(Error::OffsetOutOfRange { partition: at, requested, start, end });
                };
                let mut cursor = Cursor::new(offset);
                let result = self.log.fetch(&mut cursor, partition, limits, fetched);
                self.cursor = Some(cursor);
                result
            }
            other => other,
        };
        if let Some(last) = fetched.chunks.get(chunks..).and_then(<[_]>::last) {
            self.epoch = Some(last.epoch);
        }
        result
    }

    fn reset_offset(&self, reset: OffsetReset) -> Option<i64> {
        match reset {
            OffsetReset::Earliest => Some(self.log.start_offset()),
            OffsetReset::Latest => Some(self.log.end_offset()),
            OffsetReset::None => None,
        }
    }
}
