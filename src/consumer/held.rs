use std::sync::Arc;

use super::Position;
use crate::config::OffsetReset;
use crate::error::{Error, Result};
use crate::log::{Cursor, FetchLimits, Fetched, Log, Wake};
use crate::time::Clock;
use crate::types::{TopicPartition, planted};

/// A partition that a consumer reads. Everything in it belongs to this one log: where the topic was created
/// again under its name, that is another log, and another `Held`.
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
    /// Who sleeps until the log grows, if somebody did.
    sleeper: Option<Arc<dyn Wake>>,
}

/// Where a partition is read from if nothing else decides.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) reset: OffsetReset,
    pub(super) clock: &'a dyn Clock,
}

impl Held {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, cursor: None, epoch: None, committed: None, paused: false, sleeper: None }
    }

    /// The same partition of the topic that has the name now: without a position, and paused if it was.
    pub(super) fn renewed(&self, log: Arc<Log>) -> Self {
        let mut renewed = Self::new(log);
        renewed.paused = self.paused;
        if planted("position_carried_over") {
            renewed.cursor = self.offset().map(Cursor::new);
        }
        renewed
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
        self.offset().map(|offset| Position::of(offset, self.epoch, self.log.topic_id()))
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

    /// Has `sleeper` woken when there is more to read; false if there is already.
    pub(super) fn sleep_on(&mut self, sleeper: &Arc<dyn Wake>) -> bool {
        let Some(position) = self.offset() else { return true };
        if self.paused || self.log.is_deleted() {
            return true;
        }
        let sleeps = self.log.sleep_on(position, sleeper);
        if sleeps && self.sleeper.is_none() {
            self.sleeper = Some(Arc::clone(sleeper));
        }
        sleeps
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
        let result = loop {
            let Some(cursor) = &mut self.cursor else { return Ok(()) };
            match self.log.fetch(cursor, partition, limits, fetched) {
                // Again where the log start moves on meanwhile: the policy answers that, too.
                Err(Error::OffsetOutOfRange { partition: at, requested, start, end }) => {
                    let Some(offset) = self.reset_offset(policy)? else {
                        return Err(Error::OffsetOutOfRange {
                            partition: at,
                            requested,
                            start,
                            end,
                        });
                    };
                    self.seek(Position::new(offset));
                }
                other => break other,
            }
        };
        if let Some(last) = fetched.chunks.get(chunks..).and_then(<[_]>::last) {
            self.epoch = Some(last.epoch);
        }
        result
    }

    fn reset_offset(&self, policy: Policy<'_>) -> Result<Option<i64>> {
        self.log.reset_offset(policy.reset, policy.clock.now())
    }
}

impl Drop for Held {
    /// A log to which nothing is ever appended must not remember everybody who once slept on it.
    fn drop(&mut self) {
        if let Some(sleeper) = &self.sleeper {
            self.log.wake_no_more(sleeper);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{BrokerConfig, ConsumerConfig, TopicConfig};
    use crate::consumer::{Consumer, Source};
    use crate::engine::open;
    use crate::storage::Memory;

    #[test]
    fn a_log_forgets_those_who_slept_on_it() {
        let (engine, _) = open(Arc::new(Memory::new()), BrokerConfig::new()).unwrap();
        engine.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
        let mut consumer =
            Consumer::new(Source::Live(engine.clone()), ConsumerConfig::new()).unwrap();
        let event = Arc::clone(&consumer.event);
        let idle = Arc::strong_count(&event);
        consumer.assign((0..2).map(|p| TopicPartition::new("t", p))).unwrap();
        consumer.poll(Duration::from_millis(1)).unwrap();
        consumer.poll(Duration::from_millis(1)).unwrap();
        assert_eq!(Arc::strong_count(&event), idle + 4, "each log, and each partition held");
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        assert_eq!(Arc::strong_count(&event), idle + 2);
        drop(consumer);
        assert_eq!(Arc::strong_count(&event), 1);
    }
}
