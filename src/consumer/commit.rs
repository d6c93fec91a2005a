use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use super::{Consumer, OffsetAndMetadata, Position, Source};
use crate::config::Acks;
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, OffsetChange, OffsetCommit};
use crate::log::Log;
use crate::types::{PartitionNumber, TopicId, TopicPartition, planted};

impl Consumer {
    /// Commits the positions: everything that was returned so far counts as done. It survives a
    /// killed process when this returns, and power loss with the next sync, never without the records
    /// it speaks of; with [`ConsumerConfig::commit_acks`](crate::ConsumerConfig::commit_acks) `Synced`
    /// it survives power loss when this returns.
    ///
    /// # Errors
    /// `Fenced` if the member was evicted: others have its partitions, nothing was committed.
    /// `UnknownTopic`, or `InconsistentTopicId` if the topic was created again: records of a topic were
    /// returned that was deleted before this commit. Nothing was committed, not for other topics either;
    /// after the next poll the consumer has no position in that topic any more, and a commit succeeds.
    /// After [`Consumer::assign`] that takes a topic that was created again, or another `assign`. `Misuse`
    /// without `group.id`. `Indeterminate` if the sync failed.
    pub fn commit(&mut self) -> Result<()> {
        self.check_not_poisoned()?;
        self.pause_interval();
        let committed = self.commit_positions(OfDeleted::Refuse);
        self.leave_engine();
        committed
    }

    /// Commits chosen offsets: for each partition the next offset to read, with its leader epoch and
    /// metadata. An offset without epoch gets that of the record before it. An offset without topic id is
    /// one of the topic that this consumer reads, or of the one that has the name now if it does not read
    /// the partition. Positions do not move.
    ///
    /// Any offset from 0 on is accepted, in the log or not, as in Kafka. If it is outside the log when the
    /// partition is read from it, `auto.offset.reset` decides where reading begins.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; `UnknownTopic`, `UnknownPartition`; `InconsistentTopicId` for an offset of a
    /// topic that was deleted and created again; `Misuse` for a negative offset or epoch; `LimitExceeded`
    /// for more than 4096 bytes of metadata. All or nothing is committed.
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig, TopicPartition};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.subscribe(["orders"])?;
    /// consumer.poll(Duration::ZERO)?;
    /// let partition = TopicPartition::new("orders", 0);
    /// consumer.commit_offsets([(partition.clone(), 0)])?;
    /// assert_eq!(consumer.committed(&partition)?.unwrap().offset(), 0);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn commit_offsets<O: Into<OffsetAndMetadata>>(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        self.check_not_poisoned()?;
        // Of each partition the last offset counts, so there are no more entries than partitions.
        let mut last = BTreeMap::new();
        for (partition, offset) in offsets {
            let offset = offset.into();
            let log = self.log_of(&partition, offset.topic_id())?;
            last.insert(log.number(), (log, offset));
        }
        let entries: Vec<_> = last.into_values().collect();
        self.pause_interval();
        let committed = self.commit_entries(&entries);
        self.leave_engine();
        committed
    }

    /// The log that an offset belongs to.
    fn log_of(&self, partition: &TopicPartition, topic_id: Option<TopicId>) -> Result<Arc<Log>> {
        let read = self.held.iter().find(|held| held.partition() == partition);
        let Some(given) = topic_id else {
            return match read {
                // That it was deleted is found when it is committed.
                Some(held) => Ok(Arc::clone(&held.log)),
                None => self.source.registry()?.log(partition),
            };
        };
        let log = self.source.registry()?.log(partition)?;
        if log.topic_id() != given {
            let (partition, start) = (partition.clone(), log.start_offset());
            return Err(Error::InconsistentTopicId { partition, given, start });
        }
        Ok(log)
    }

    /// What this consumer's group has committed for a partition of the topic that has the name now; `None`
    /// if it has not. What was committed for a topic goes with it when it is deleted.
    ///
    /// # Errors
    /// `Misuse` without `group.id`; `UnknownTopic`, `UnknownPartition`.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        let Some(group) = &self.config.group else {
            return Err(Error::Misuse("committed needs a group: set group.id"));
        };
        let log = self.source.registry()?.log(partition)?;
        Ok(self.look_up_committed(group, log.number(), |committed| {
            let position = Position::of(committed.offset, committed.leader_epoch, log.topic_id());
            OffsetAndMetadata::from(position).with_metadata(&*committed.metadata)
        }))
    }

    pub(super) fn committed_position(&self, log: &Log) -> Option<Position> {
        let group = self.config.group.as_ref()?;
        self.look_up_committed(group, log.number(), |committed| {
            Position::of(committed.offset, committed.leader_epoch, log.topic_id())
        })
    }

    fn look_up_committed<T>(
        &self,
        group: &str,
        number: PartitionNumber,
        read: impl FnOnce(&CommittedOffset) -> T,
    ) -> Option<T> {
        match &self.source {
            Source::Live(engine) => engine.offsets.lock().store.get(group, number).map(read),
            Source::Snapshot(snapshot) => snapshot.offsets.get(group, number).map(read),
        }
    }

    /// Commits the positions that are not what is committed, by whomever.
    fn commit_positions(&mut self, of_deleted: OfDeleted) -> Result<()> {
        let entries = self.uncommitted(of_deleted)?;
        self.commit_entries(&entries)?;
        for held in self.held.iter_mut().filter(|held| !held.log.is_deleted()) {
            if let Some(offset) = held.offset() {
                held.set_committed(offset);
            }
        }
        Ok(())
    }

    /// The positions that differ from what is committed, all looked up under one lock.
    fn uncommitted(&self, of_deleted: OfDeleted) -> Result<Vec<(Arc<Log>, OffsetAndMetadata)>> {
        let offsets = self.source.engine()?.offsets.lock();
        let group = self.config.group.as_deref().and_then(|group| offsets.store.group(group));
        let counts = |held: &&Held| {
            // What was committed went with the topic: only what was never committed is an error.
            !held.log.is_deleted() || of_deleted == OfDeleted::Refuse && held.to_commit().is_some()
        };
        let changed = self.held.iter().filter(counts).filter_map(|held| {
            let position = held.position()?;
            let committed = group.and_then(|group| group.get(held.log.number()));
            let differs = committed.is_none_or(|committed| committed.offset != position.offset());
            differs.then(|| (Arc::clone(&held.log), position.into()))
        });
        Ok(changed.collect())
    }

    fn commit_entries(&self, entries: &[(Arc<Log>, OffsetAndMetadata)]) -> Result<()> {
        let engine = self.source.engine()?;
        let Some(name) = &self.config.group else {
            return Err(Error::Misuse("commit needs a group: set group.id"));
        };
        let group = match &self.membership {
            Some(member) => Arc::clone(&member.group),
            None => engine.groups.get(name)?,
        };
        let member = self.membership.as_ref().map(|member| (&member.id, member.epoch));
        if entries.is_empty() {
            // Nothing to write, but whoever was evicted must still learn of it.
            return group.check_commit(member);
        }
        let commit_timestamp = engine.stamp();
        let mut offsets = Vec::with_capacity(entries.len());
        for (log, offset) in entries {
            let committed = CommittedOffset {
                offset: offset.offset(),
                leader_epoch: offset.leader_epoch().or_else(|| epoch_before(log, offset.offset())),
                metadata: match offset.metadata() {
                    "" => Arc::default(), // allocates nothing
                    metadata => Arc::from(metadata),
                },
                commit_timestamp,
            };
            committed.check()?;
            offsets.push((log.number(), Some(committed)));
        }
        let commit =
            OffsetCommit { group: Arc::clone(group.name()), change: OffsetChange::Set(offsets) };
        let logs = entries.iter().map(|(log, _)| &**log);
        let lsn = engine.commit_offsets(&group, member, logs, &commit)?;
        if self.config.commit_acks == Acks::Synced {
            engine.wait_synced(lsn)?;
        }
        Ok(())
    }

    /// Kafka's auto-commit: what earlier polls returned, when the interval is over.
    pub(super) fn auto_commit(&mut self) {
        if self.until_auto_commit().is_zero() {
            self.auto_commit_now();
        }
    }

    /// How long nothing is due to be committed; for ever without auto-commit.
    pub(super) fn until_auto_commit(&self) -> Duration {
        if self.config.auto_commits() && self.source.is_live() {
            self.next_auto_commit.saturating_sub(self.source.clock().monotonic())
        } else {
            Duration::MAX
        }
    }

    /// Commits the positions if `enable.auto.commit` is on. As in Kafka a failure is no error: it is
    /// tried again after the next interval, and at worst records are read again.
    pub(super) fn auto_commit_now(&mut self) {
        if self.config.auto_commits() && self.source.is_live() {
            let now = self.source.clock().monotonic();
            self.next_auto_commit = now.saturating_add(self.config.auto_commit_interval);
            let _tried_again = self.commit_positions(OfDeleted::LeaveOut);
        }
    }

    /// Commits the positions for the last time, if `enable.auto.commit` is on.
    pub(super) fn auto_commit_at_close(&mut self) -> Result<()> {
        if self.config.auto_commits() { self.commit_positions(OfDeleted::LeaveOut) } else { Ok(()) }
    }
}

/// What a commit does about positions in topics that were deleted. Nobody can go on from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfDeleted {
    /// The program asked for the commit: it learns that it is too late.
    Refuse,
    /// The consumer commits by itself, and the other positions must not wait for these.
    LeaveOut,
}

/// The epoch of the record before `offset`, if the log holds it: who commits an offset has read it.
fn epoch_before(log: &Log, offset: i64) -> Option<i32> {
    let before = offset.checked_sub(1)?;
    let inside = (log.start_offset()..log.end_offset()).contains(&before);
    if inside && !planted("commit_without_epoch") { log.epoch_of(before) } else { None }
}
