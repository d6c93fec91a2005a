use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use super::{Consumer, OffsetAndMetadata, Position, Source};
use crate::config::Acks;
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, OffsetChange, OffsetCommit};
use crate::log::Log;
use crate::types::{PartitionNumber, Timestamp, TopicId, TopicPartition, planted};

impl Consumer {
    /// Commits the positions, which marks every record returned so far as done.
    ///
    /// When this returns, the commit survives a killed process. It survives power loss from the next sync on,
    /// and never without the records that it covers. With
    /// [`ConsumerConfig::commit_acks`](crate::ConsumerConfig::commit_acks) `Synced` it survives power loss
    /// when this returns.
    ///
    /// # Errors
    /// Nothing was committed, except as `Indeterminate` says.
    ///
    /// * `Fenced` if the member was evicted. Other members have its partitions; the next poll joins again.
    ///   Also if a consumer without membership commits to a group that has active members.
    /// * `UnknownTopic` if a topic was deleted after its records were returned, or `InconsistentTopicId` if
    ///   it was created again as well. The positions in other topics were not committed either. The next poll
    ///   drops the position in the deleted topic, and a commit succeeds after it. A consumer that uses
    ///   [`Consumer::assign`] still gets `UnknownTopic` until the topic is created again or left out of
    ///   another `assign`.
    /// * `Misuse` without `group.id`.
    /// * `Indeterminate` if the sync failed.
    pub fn commit(&mut self) -> Result<()> {
        self.check_not_poisoned()?;
        self.follow_transactions();
        self.pause_interval();
        let committed = self.commit_positions(OfDeleted::Refuse);
        self.leave_engine();
        committed
    }

    /// Commits chosen offsets. Positions do not move.
    ///
    /// Each offset is the next one to read in its partition, with its leader epoch and metadata. Without a
    /// leader epoch, the commit takes the epoch of the record before the offset. Without a topic id, the
    /// offset belongs to the topic that this consumer reads. If the consumer does not read the partition, it
    /// belongs to the topic that has the name now.
    ///
    /// Any offset from 0 up is accepted, whether it is in the log or not, as in Kafka. If reading begins at
    /// an offset outside the log, `auto.offset.reset` decides where it begins instead.
    ///
    /// # Errors
    /// The offsets are committed all together or not at all. As [`Consumer::commit`], and:
    ///
    /// * `UnknownTopic` or `UnknownPartition` if a partition does not exist.
    /// * `InconsistentTopicId` if the topic of an offset was deleted and created again.
    /// * `Misuse` if an offset or leader epoch is negative.
    /// * `LimitExceeded` if metadata is longer than 4096 bytes.
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
        self.follow_transactions();
        // The last offset of each partition counts, so the map holds no more entries than partitions.
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
        committed?;
        for (log, offset) in entries {
            if let Some(held) = self.held.iter_mut().find(|held| Arc::ptr_eq(&held.log, &log)) {
                held.set_committed(offset.into());
            }
        }
        Ok(())
    }

    /// Returns the log that an offset belongs to.
    fn log_of(&self, partition: &TopicPartition, topic_id: Option<TopicId>) -> Result<Arc<Log>> {
        let read = self.held.iter().find(|held| held.partition() == partition);
        let Some(given) = topic_id else {
            return match read {
                // The commit itself finds out whether the topic was deleted.
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

    /// Returns the offset that the group of this consumer has committed for a partition, or `None`.
    ///
    /// The partition belongs to the topic that has the name now. Deleting a topic deletes its committed
    /// offsets.
    ///
    /// # Errors
    /// `Misuse` without `group.id`. `UnknownTopic` or `UnknownPartition` if the partition does not exist.
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

    /// Commits the positions that differ from the committed offsets, no matter which consumer committed
    /// those.
    fn commit_positions(&mut self, of_deleted: OfDeleted) -> Result<()> {
        let mut entries = self.uncommitted(of_deleted)?;
        loop {
            match self.commit_entries(&entries) {
                Err(error @ (Error::UnknownTopic { .. } | Error::InconsistentTopicId { .. })) => {
                    // A topic was deleted since the entries were gathered.
                    let engine = self.source.engine()?;
                    let before = entries.len();
                    entries.retain(|(log, _)| engine.exists(log) || self.refuses(log, of_deleted));
                    if entries.len() == before {
                        return Err(error);
                    }
                }
                other => break other?,
            }
        }
        for held in self.held.iter_mut().filter(|held| !held.log.is_deleted()) {
            if let Some(position) = held.position() {
                held.set_committed(position);
            }
        }
        Ok(())
    }

    /// Returns the positions that differ from the committed offsets. One lock covers all look-ups.
    fn uncommitted(&self, of_deleted: OfDeleted) -> Result<Vec<(Arc<Log>, OffsetAndMetadata)>> {
        let offsets = self.source.engine()?.offsets.lock();
        let group = self.config.group.as_deref().and_then(|group| offsets.store.group(group));
        let counts = |held: &&Held| !held.log.is_deleted() || self.refuses(&held.log, of_deleted);
        let changed = self.held.iter().filter(counts).filter_map(|held| {
            let position = held.position()?;
            let committed = group.and_then(|group| group.get(held.log.number()));
            let differs = committed.is_none_or(|committed| committed.offset != position.offset());
            differs.then(|| (Arc::clone(&held.log), position.into()))
        });
        Ok(changed.collect())
    }

    /// Returns whether a commit fails because the topic of `log` was deleted. Deleting a topic deleted its
    /// committed offsets, too, so only progress that was never committed is an error.
    fn refuses(&self, log: &Arc<Log>, of_deleted: OfDeleted) -> bool {
        let moved = |held: &Held| Arc::ptr_eq(&held.log, log) && held.has_progress();
        of_deleted == OfDeleted::Refuse && self.held.iter().any(moved)
    }

    fn commit_entries(&self, entries: &[(Arc<Log>, OffsetAndMetadata)]) -> Result<()> {
        let engine = self.source.engine()?;
        let Some(name) = &self.config.group else {
            return Err(Error::Misuse("commit needs a group: set group.id"));
        };
        let group = if let Some(member) = &self.membership {
            Arc::clone(&member.group)
        } else {
            engine.check_not_share_group(name)?;
            engine.groups.get(name)?
        };
        let member = self.membership.as_ref().map(|member| (&member.id, member.epoch));
        if entries.is_empty() {
            // There is nothing to write, but an evicted member must still get `Fenced`.
            return group.check_commit(member);
        }
        let commit_timestamp = engine.stamp();
        let mut offsets = Vec::with_capacity(entries.len());
        for (log, offset) in entries {
            let committed = offset.to_committed(log, commit_timestamp)?;
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

    /// Commits what earlier polls returned once the interval has passed. Kafka's auto-commit.
    pub(super) fn auto_commit(&mut self) {
        if self.until_auto_commit().is_zero() {
            self.auto_commit_now();
        }
    }

    /// Returns how long until the next auto-commit; `Duration::MAX` without auto-commit.
    pub(super) fn until_auto_commit(&self) -> Duration {
        if self.config.auto_commits() && self.source.is_live() {
            self.next_auto_commit.saturating_sub(self.source.clock().monotonic())
        } else {
            Duration::MAX
        }
    }

    /// Commits the positions if `enable.auto.commit` is on. As in Kafka, a failure is not an error. The next
    /// interval tries again, and at worst records are read again.
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

/// Decides how a commit treats positions in deleted topics. No consumer can continue from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfDeleted {
    /// The program asked for the commit, so it gets the error that it is too late.
    Refuse,
    /// The consumer commits by itself, and these positions must not keep the others from being committed.
    LeaveOut,
}

impl OffsetAndMetadata {
    /// Returns the offset as it is stored.
    ///
    /// # Errors
    /// `Misuse` or `LimitExceeded` if a field has no value that can be stored.
    pub(crate) fn to_committed(
        &self,
        log: &Log,
        commit_timestamp: Timestamp,
    ) -> Result<CommittedOffset> {
        let committed = CommittedOffset {
            offset: self.offset(),
            leader_epoch: self.leader_epoch().or_else(|| epoch_before(log, self.offset())),
            metadata: match self.metadata() {
                "" => Arc::default(), // allocates nothing
                metadata => Arc::from(metadata),
            },
            commit_timestamp,
            owner: None,
        };
        committed.check()?;
        Ok(committed)
    }
}

/// Returns the epoch of the record before `offset`, if the log holds it. A program that commits an offset has
/// read that record.
fn epoch_before(log: &Log, offset: i64) -> Option<i32> {
    let before = offset.checked_sub(1)?;
    let inside = (log.start_offset()..log.end_offset()).contains(&before);
    if inside && !planted("commit_without_epoch") { log.epoch_of(before) } else { None }
}
