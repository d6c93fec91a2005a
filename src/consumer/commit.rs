use std::sync::Arc;

use super::{Consumer, Source};
use crate::error::{Error, Result};
use crate::group::{CommittedOffset, OffsetChange, OffsetCommit};
use crate::types::{PartitionNumber, TopicPartition};

impl Consumer {
    /// Commits the positions: everything that was returned so far counts as done. It survives a
    /// killed process when this returns, and power loss with the next sync, never without the records
    /// it speaks of.
    ///
    /// # Errors
    /// `Fenced` if the member was evicted: others have its partitions, nothing was committed. `Misuse`
    /// without `group.id`.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_positions()
    }

    /// Commits chosen offsets: for each partition the next offset to read.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; `UnknownTopic`, `UnknownPartition`, `Misuse` for a negative offset.
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
    /// assert_eq!(consumer.committed(&partition)?, Some(0));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<()> {
        let mut entries = Vec::new();
        for (partition, offset) in offsets {
            if offset < 0 {
                return Err(Error::Misuse("a committed offset must not be negative"));
            }
            let number = self.source.registry().log(&partition)?.number();
            entries.push((partition, number, offset, None));
        }
        self.commit_entries(&entries)
    }

    /// The committed offset of this consumer's group: the next offset to read.
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let Some(group) = &self.config.group else {
            return Err(Error::Misuse("committed needs a group: set group.id"));
        };
        let log = self.source.registry().log(partition)?;
        Ok(self.committed_offset(group, log.number()).map(|(offset, _)| offset))
    }

    pub(super) fn committed_offset(
        &self,
        group: &str,
        number: PartitionNumber,
    ) -> Option<(i64, Option<i32>)> {
        let read = |offset: &CommittedOffset| (offset.offset, offset.leader_epoch);
        match &self.source {
            Source::Live(engine) => engine.offsets.lock().store.get(group, number).map(read),
            Source::Snapshot(snapshot) => snapshot.offsets.get(group, number).map(read),
        }
    }

    /// Commits the positions that changed since they were committed last.
    pub(super) fn commit_positions(&mut self) -> Result<()> {
        let entries: Vec<_> = self
            .held
            .iter()
            .filter(|held| !held.log.is_deleted())
            .filter_map(|held| {
                let (offset, epoch) = held.to_commit()?;
                Some((held.partition().clone(), held.log.number(), offset, epoch))
            })
            .collect();
        self.commit_entries(&entries)?;
        for (partition, _, offset, _) in &entries {
            if let Some(held) = self.held.iter_mut().find(|held| held.partition() == partition) {
                held.set_committed(*offset);
            }
        }
        Ok(())
    }

    fn commit_entries(
        &self,
        entries: &[(TopicPartition, PartitionNumber, i64, Option<i32>)],
    ) -> Result<()> {
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
        let commit_timestamp = engine.clock().now();
        let metadata: Arc<str> = Arc::from("");
        let offsets = entries.iter().map(|(_, number, offset, leader_epoch)| {
            let offset = CommittedOffset {
                offset: *offset,
                leader_epoch: *leader_epoch,
                metadata: Arc::clone(&metadata),
                commit_timestamp,
            };
            (*number, Some(offset))
        });
        let commit = OffsetCommit {
            group: Arc::clone(group.name()),
            change: OffsetChange::Set(offsets.collect()),
        };
        let partitions: Vec<_> = entries.iter().map(|(partition, ..)| partition.clone()).collect();
        engine.commit_offsets(&group, member, &partitions, &commit).map(|_| ())
    }

    /// Kafka's auto-commit: what earlier polls returned, when the interval is over.
    pub(super) fn auto_commit(&mut self) {
        if !self.config.enable_auto_commit || self.config.group.is_none() || !self.source.is_live()
        {
            return;
        }
        let now = self.source.clock().monotonic();
        if now >= self.next_auto_commit {
            self.next_auto_commit = now.saturating_add(self.config.auto_commit_interval);
            // As in Kafka: tried again after the next interval; at worst records are read again.
            let _tried_again = self.commit_positions();
        }
    }
}
