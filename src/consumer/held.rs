use std::sync::Arc;

use super::Position;
use crate::config::OffsetReset;
use crate::error::{Error, Result};
use crate::log::{Cursor, FetchLimits, Fetched, Log};
use crate::time::Clock;
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

/// Where a partition is read from if nothing else decides.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) reset: OffsetReset,
    pub(super) clock: &'a dyn Clock,
}

impl Held {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, cursor: None, epoch: None, committed: None, paused: false }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        self.log.partition()
    }

    /// The next offset to return, if it is decided.
    pub(super) fn offset(&self) -> Option<i64> {
        self.cursor.as_ref().map(Cursor::position)
    }

    /// As `offset`, with the epoch of the record before it.
    pub(super) fn position(&self) -> Option<Position> {
        self.offset().map(|offset| Position::of(offset, self.epoch))
    }

    /// The position, if there is something new to commit.
    pub(super) fn to_commit(&self) -> Option<Position> {
        self.position().filter(|position| Some(position.offset()) != self.committed)
    }

    /// `offset` was committed.
    pub(super) fn set_committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    /// Goes on at `position`.
    pub(super) fn seek(&mut self, position: Position) {
        self.cursor = Some(Cursor::new(position.offset()));
        self.epoch = position.leader_epoch();
    }

    /// Decides the position: the committed one, else what the policy says.
    pub(super) fn start(&mut self, committed: Option<Position>, policy: Policy<'_>) -> Result<()> {
        if self.cursor.is_some() {
            return Ok(());
        }
        if let Some(position) = committed {
            self.check_not_truncated(position)?;
            self.seek(position);
            self.committed = Some(position.offset());
        } else {
            let offset = self.reset_offset(policy)?.ok_or_else(|| Error::NoOffsetForPartition {
                partition: self.partition().clone(),
            })?;
            self.seek(Position::new(offset));
        }
        Ok(())
    }

    /// KIP-320: the record before the position must be the one that was read. Power loss may have taken
    /// it, and another one may have its offset.
    pub(super) fn check_not_truncated(&self, position: Position) -> Result<()> {
        match self.log.divergence(position.offset(), position.leader_epoch()) {
            None => Ok(()),
            Some(end) => Err(Error::LogTruncated {
                partition: self.partition().clone(),
                position: position.offset(),
                end,
            }),
        }
    }

    /// Reads on into `fetched`. Out of range is answered by the policy.
    pub(super) fn fetch(
        &mut self,
        partition: usize,
        limits: FetchLimits,
        policy: Policy<'_>,
        fetched: &mut Fetched,
    ) -> Result<()> {
        let chunks = fetched.chunks.len();
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let result = match self.log.fetch(cursor, partition, limits, fetched) {
            Err(Error::OffsetOutOfRange { partition: at, requested, start, end }) => {
                let Some(offset) = self.reset_offset(policy)? else {
                    return Err(Error::OffsetOutOfRange { partition: at, requested, start, end });
                };
                self.seek(Position::new(offset));
                let Some(cursor) = &mut self.cursor else { return Ok(()) };
                self.log.fetch(cursor, partition, limits, fetched)
            }
            other => other,
        };
        if let Some(last) = fetched.chunks.get(chunks..).and_then(<[_]>::last) {
            self.epoch = Some(last.epoch);
        }
        result
    }

    fn reset_offset(&self, policy: Policy<'_>) -> Result<Option<i64>> {
        Ok(match policy.reset {
            OffsetReset::Earliest => Some(self.log.start_offset()),
            OffsetReset::Latest => Some(self.log.end_offset()),
            OffsetReset::ByDuration(duration) => {
                let oldest = policy.clock.now().saturating_sub(duration);
                let end = self.log.end_offset();
                let found = self.log.offset_for_time(oldest)?;
                Some(found.map_or(end, |(offset, _)| offset))
            }
            OffsetReset::None => None,
        })
    }
}
