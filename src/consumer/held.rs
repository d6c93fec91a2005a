use std::sync::Arc;

use super::Position;
use super::durable::Durable;
use crate::config::{Acks, ConsumerConfig, IsolationLevel, OffsetReset};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::log::{Cursor, FetchLimits, Fetched, Log, Wake};
use crate::time::Clock;
use crate::types::Lsn;
use crate::types::{TopicPartition, planted};

/// A partition that a consumer reads. It belongs to one log: a topic that is created again under the same
/// name has another log and another `Held`.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) log: Arc<Log>,
    isolation: IsolationLevel,
    /// Set if only durable records are returned.
    durable: Option<Durable>,
    /// `None` until the first fetch or the first call for the position decides it.
    cursor: Option<Cursor>,
    /// The leader epoch of the last record returned, for commits.
    epoch: Option<i32>,
    /// The offset last committed, so that an unchanged position is not committed again.
    committed: Option<i64>,
    /// The offset at which `auto.offset.reset` let reading begin.
    began: Option<i64>,
    /// Where the records begin that were not committed: behind the last commit, or where reading began.
    uncommitted: Option<Position>,
    /// The offset that a transaction took last.
    taken: Option<i64>,
    pub(super) paused: bool,
    /// The event that the log wakes when it grows, once a poll has slept on it.
    sleeper: Option<Arc<dyn Wake>>,
}

/// Decides where reading begins if nothing else does.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) reset: OffsetReset,
    pub(super) clock: &'a dyn Clock,
}

impl Held {
    pub(super) fn new(log: Arc<Log>, config: &ConsumerConfig) -> Self {
        Self::of(log, config.isolation_level, config.read_durability == Acks::Synced)
    }

    fn of(log: Arc<Log>, isolation: IsolationLevel, durable: bool) -> Self {
        Self {
            log,
            isolation,
            durable: durable.then(Durable::default),
            cursor: None,
            epoch: None,
            committed: None,
            began: None,
            uncommitted: None,
            taken: None,
            paused: false,
            sleeper: None,
        }
    }

    /// Returns the same partition of the topic that has the name now. It has no position, and stays paused.
    pub(super) fn renewed(&self, log: Arc<Log>) -> Self {
        let mut renewed = Self::of(log, self.isolation, self.durable.is_some());
        renewed.paused = self.paused;
        if planted("position_carried_over") {
            renewed.cursor = self.offset().map(Cursor::new);
        }
        renewed
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        self.log.partition()
    }

    /// Returns the next offset to return, if it is decided.
    pub(super) fn offset(&self) -> Option<i64> {
        self.cursor.as_ref().map(Cursor::position)
    }

    /// Returns `offset` with the leader epoch of the record before it.
    pub(super) fn position(&self) -> Option<Position> {
        self.offset().map(|offset| Position::of(offset, self.epoch, self.log.topic_id()))
    }

    /// Returns the position if it is not committed yet.
    pub(super) fn to_commit(&self) -> Option<Position> {
        self.position().filter(|position| Some(position.offset()) != self.committed)
    }

    /// Returns whether the position has moved since it was committed, or since reading began without a
    /// committed offset.
    pub(super) fn has_progress(&self) -> bool {
        self.to_commit().is_some_and(|position| Some(position.offset()) != self.began)
    }

    /// Records that `position` was committed.
    pub(super) fn set_committed(&mut self, position: Position) {
        self.committed = Some(position.offset());
        self.uncommitted = Some(position);
    }

    /// Continues at `position`.
    pub(super) fn seek(&mut self, position: Position) {
        self.cursor = Some(Cursor::new(position.offset()).reading(self.isolation));
        self.epoch = position.leader_epoch();
        self.uncommitted = Some(position);
        self.taken = None;
    }

    /// Goes back to the first record that was not committed, or behind those that an open transaction has taken.
    pub(super) fn rewind(&mut self, taken: Option<Position>) {
        let uncommitted = self.uncommitted;
        if let Some(position) = taken.or(uncommitted) {
            self.seek(position);
            // If that transaction fails as well, its records come back, too.
            self.uncommitted = uncommitted;
            self.taken = taken.map(Position::offset);
        }
    }

    /// Returns the position if it is neither committed nor taken by a transaction.
    pub(super) fn to_take(&self) -> Option<Position> {
        self.to_commit().filter(|position| Some(position.offset()) != self.taken)
    }

    /// Records that a transaction took the offset.
    pub(super) fn set_taken(&mut self, offset: i64) {
        self.taken = Some(offset);
    }

    /// Returns the offset from which on records are not to be returned yet.
    pub(super) fn readable_end(&mut self, engine: &Engine) -> i64 {
        self.durable.as_mut().map_or(i64::MAX, |durable| durable.look(&self.log, engine))
    }

    /// Returns how far the journal has to be synced before there is more to return, if that is awaited.
    pub(super) fn awaited_sync(&self) -> Option<Lsn> {
        if self.paused { None } else { self.durable.as_ref()?.awaited() }
    }

    /// Arranges for `sleeper` to be woken when there is more to read. Returns false if there is more already.
    pub(super) fn sleep_on(&mut self, sleeper: &Arc<dyn Wake>) -> bool {
        let Some(position) = self.cursor.as_ref().map(Cursor::waits_at) else { return true };
        if self.paused || self.log.is_deleted() {
            return true;
        }
        let sleeps = self.log.sleep_on(position, sleeper);
        if sleeps && self.sleeper.is_none() {
            self.sleeper = Some(Arc::clone(sleeper));
        }
        sleeps
    }

    /// Decides the position: the committed one if there is one, otherwise the one that `policy` gives.
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
            self.began = Some(offset);
        }
        Ok(())
    }

    /// Checks that the record before the position is the one that was read (KIP-320). Power loss may have
    /// taken it, and another record may have its offset.
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

    /// Reads further records into `fetched`. If the position is out of range, the policy gives a new one.
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
                // Loops, since the log start may move again before the next fetch.
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
        let offset = self.log.reset_offset(policy.reset, policy.clock.now())?;
        match policy.reset {
            OffsetReset::Latest | OffsetReset::ByDuration(_) => {
                offset.map(|offset| self.within(offset)).transpose()
            }
            OffsetReset::Earliest | OffsetReset::None => Ok(offset),
        }
    }

    /// Returns where this consumer's view of the log ends: at the log end, or at the last stable offset.
    pub(super) fn end_offset(&self) -> Result<i64> {
        self.log.end_for(self.isolation)
    }

    /// Returns `offset`, or the end of this consumer's view if that is lower.
    pub(super) fn within(&self, offset: i64) -> Result<i64> {
        Ok(self.end_offset()?.min(offset))
    }
}

impl Drop for Held {
    /// Removes the sleeper from the log. Otherwise an idle log would keep every consumer that ever slept on
    /// it.
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
    fn a_log_forgets_sleepers_that_are_gone() {
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
