use std::collections::BTreeMap;

use super::held::Held;
use super::{Consumer, OffsetAndTimestamp, Position};
use crate::error::{Error, Result};
use crate::types::{Timestamp, TopicId, TopicPartition, planted};

impl Consumer {
    /// Moves the position in an assigned partition.
    ///
    /// The next poll checks whether the offset is in the log, and applies `auto.offset.reset` if it is not.
    /// If the position was stored outside of the engine, give it with its leader epoch and topic id, as
    /// [`Consumer::position`] and [`ConsumerRecord::next_position`](super::ConsumerRecord::next_position)
    /// return it. `seek` then detects a record that power loss took (KIP-320), and a topic that was deleted
    /// and created again (KIP-516). A position without a topic id belongs to the topic that this consumer
    /// reads; see [`Position`].
    ///
    /// # Errors
    /// The position stays where it was.
    ///
    /// * `Misuse` if the partition is not assigned to this consumer, or an offset or epoch is negative.
    /// * `LogTruncated` if the record before the position does not have that epoch any more.
    /// * `InconsistentTopicId` if the position belongs to a deleted topic, and another topic has the name
    ///   now. [`Consumer::seek_to_beginning`] continues there.
    /// * `UnknownTopic` if the topic of the position was deleted.
    ///
    /// ```
    /// use grouplog::{Broker, ConsumerConfig, Record, TopicConfig, TopicPartition};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// for value in ["a", "b", "c"] {
    ///     producer.send(Record::to("orders").value(value))?;
    /// }
    /// let partition = TopicPartition::new("orders", 0);
    /// let mut reader = broker.consumer_with(ConsumerConfig::new())?; // no group
    /// reader.assign([partition.clone()])?;
    /// reader.seek(&partition, 2)?;
    /// let records = reader.poll(Duration::ZERO)?;
    /// assert_eq!(records.iter().next().unwrap().value(), Some(&b"c"[..]));
    /// let position = reader.position(&partition)?; // the offset, and the epoch of record "c"
    /// assert_eq!((position.offset(), position.leader_epoch()), (3, Some(1)));
    /// reader.seek(&partition, position)?;
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn seek(
        &mut self,
        partition: &TopicPartition,
        position: impl Into<Position>,
    ) -> Result<()> {
        let position = position.into();
        if position.offset() < 0 || position.leader_epoch().is_some_and(|epoch| epoch < 0) {
            return Err(Error::Misuse("an offset to seek and its leader epoch are not negative"));
        }
        self.follow_transactions();
        let at = self.held(partition)?;
        self.check_topic(at, position.topic_id())?;
        let held = self.held.get_mut(at).ok_or(NOT_ASSIGNED)?;
        if position.leader_epoch().is_some() {
            held.check_not_truncated(position)?;
        }
        held.seek(position);
        Ok(())
    }

    /// Checks that a position belongs to the topic that is read. After `assign`, the consumer changes to a
    /// topic that was created again if the position belongs to that one.
    fn check_topic(&mut self, at: usize, given: Option<TopicId>) -> Result<()> {
        let held = self.held.get_mut(at).ok_or(NOT_ASSIGNED)?;
        let given = given.filter(|_| !planted("topic_id_not_checked"));
        let Some(given) = given.filter(|given| *given != held.log.topic_id()) else {
            return if held.log.is_deleted() { Err(self.source.gone(&held.log)) } else { Ok(()) };
        };
        let now = self.source.registry()?.log(held.partition())?;
        if now.topic_id() != given {
            let (partition, start) = (held.partition().clone(), now.start_offset());
            return Err(Error::InconsistentTopicId { partition, given, start });
        }
        if !self.assigned {
            return Err(Error::Misuse(
                "the topic was created again and its partition is not assigned to this consumer yet: poll first",
            ));
        }
        *held = held.renewed(now);
        Ok(())
    }

    /// Returns the partition as it is now. After `assign`, the consumer changes to a topic that was created
    /// again. A group takes the partition of a deleted topic back by itself.
    pub(super) fn held_now(&mut self, at: usize) -> Result<&mut Held> {
        let held = self.held.get_mut(at).ok_or(NOT_ASSIGNED)?;
        if held.log.is_deleted() {
            if !self.assigned {
                return Err(self.source.gone(&held.log));
            }
            *held = held.renewed(self.source.registry()?.log(held.partition())?);
        }
        Ok(held)
    }

    /// Moves to the log start of an assigned partition.
    ///
    /// If the topic was deleted and created again, a consumer that used [`Consumer::assign`] moves to the log
    /// start of the new topic.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer. `UnknownTopic` or `UnknownPartition` if it
    /// was deleted. `InconsistentTopicId` if the topic was created again and the group has not assigned its
    /// partition yet; the next poll does that.
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> Result<()> {
        self.follow_transactions();
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        held.seek(Position::new(held.log.start_offset()));
        Ok(())
    }

    /// Moves to the log end of an assigned partition, so that only records sent from now on are returned.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`].
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> Result<()> {
        self.follow_transactions();
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        held.seek(Position::new(held.end_offset()?));
        Ok(())
    }

    /// Moves to the first record, by offset, whose timestamp is `timestamp` or later.
    ///
    /// If there is no such record, it moves to the log end.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`]. `Corrupt` or `Io` if the search cannot read the log.
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<()> {
        self.follow_transactions();
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        let offset = held.within(held.log.offset_since(timestamp)?)?;
        held.seek(Position::new(offset));
        Ok(())
    }

    /// Returns the position: the next offset to return, and the id of the topic.
    ///
    /// It also has the leader epoch of the record before that offset, if it is known. If the topic was
    /// deleted, this is still the position in the deleted topic, until the next poll.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer. If the position is not decided yet and
    /// cannot be decided: `NoOffsetForPartition`, `LogTruncated`, and the errors of
    /// [`Consumer::seek_to_beginning`].
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Position> {
        // Deciding where reading begins may read the registry.
        self.source.registry()?;
        self.follow_transactions();
        let at = self.held(partition)?;
        if self.held.get(at).is_some_and(|held| held.offset().is_none()) {
            self.held_now(at)?;
            self.start(at)?;
        }
        self.held.get(at).and_then(Held::position).ok_or(NOT_ASSIGNED)
    }

    /// Returns how many offsets lie between the position and the log end.
    ///
    /// At most that many records are still to be returned. The lag is never negative. If the position lies
    /// below the log start, the count begins at the log start, since the offsets below it are gone. A
    /// position beyond the log end has lag 0. Offsets without a record count, too: Kafka's control batches,
    /// and offsets that compaction removed.
    ///
    /// # Errors
    /// Those of [`Consumer::position`]. `UnknownTopic`, `UnknownPartition` or `InconsistentTopicId` if the
    /// topic was deleted.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    /// let orders = TopicPartition::new("orders", 0);
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.assign([orders.clone()])?;
    /// assert_eq!(consumer.lag(&orders)?, 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn lag(&mut self, partition: &TopicPartition) -> Result<i64> {
        let position = self.position(partition)?;
        let at = self.held(partition)?;
        let held = self.held.get(at).ok_or(NOT_ASSIGNED)?;
        if held.log.is_deleted() {
            return Err(self.source.gone(&held.log));
        }
        Ok(held.log.lag(position.offset(), held.end_offset()?))
    }

    /// Returns the log start offsets of partitions of any topic.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition` if a partition does not exist.
    pub fn beginning_offsets<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let start = |partition| Ok(self.source.registry()?.log(partition)?.start_offset());
        partitions.into_iter().map(|p| Ok((p.clone(), start(p)?))).collect()
    }

    /// Returns the log end offsets of partitions of any topic. Positions do not move.
    ///
    /// The log end offset is the one that the next record gets.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition` if a partition does not exist.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
    /// let partition = TopicPartition::new("orders", 0);
    /// let consumer = broker.consumer("billing")?;
    /// assert_eq!(consumer.beginning_offsets([&partition])?[&partition], 0);
    /// assert_eq!(consumer.end_offsets([&partition])?[&partition], 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn end_offsets<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let level = self.config.isolation_level;
        let end = |partition| self.source.registry()?.log(partition)?.end_for(level);
        partitions.into_iter().map(|p| Ok((p.clone(), end(p)?))).collect()
    }

    /// Finds the first record with a given timestamp or a later one, for partitions of any topic.
    ///
    /// The value is `None` if a partition has no such record. Timestamps need not be in order; the first
    /// record by offset counts.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition` if a partition does not exist. `Misuse` if a timestamp is
    /// negative. `Corrupt` or `Io` if the search cannot read the log.
    pub fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, Timestamp)>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>> {
        let mut found = BTreeMap::new();
        for (partition, timestamp) in times {
            if timestamp.as_millis() < 0 {
                return Err(Error::Misuse("a time to look for must not be negative"));
            }
            let log = self.source.registry()?.log(&partition)?;
            let mut first = log.offset_for_time(timestamp)?;
            if let Some((offset, _)) = first
                && offset >= log.end_for(self.config.isolation_level)?
            {
                first = None;
            }
            let first = first.map(|(offset, timestamp)| {
                let (leader_epoch, topic_id) = (log.epoch_of(offset), log.topic_id());
                OffsetAndTimestamp { offset, timestamp, leader_epoch, topic_id }
            });
            found.insert(partition, first);
        }
        Ok(found)
    }

    /// Stops returning records of the partition until [`Consumer::resume`].
    ///
    /// The position and the assignment stay. If a rebalance leaves the partition with this consumer, it stays
    /// paused.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<()> {
        self.held_mut(partition)?.paused = true;
        Ok(())
    }

    /// Returns records of a paused partition again.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer.
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<()> {
        self.held_mut(partition)?.paused = false;
        Ok(())
    }

    /// Returns the paused partitions, in order.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.held.iter().filter(|held| held.paused);
        paused.map(|held| held.partition().clone()).collect()
    }

    pub(super) fn held(&self, partition: &TopicPartition) -> Result<usize> {
        self.held.iter().position(|held| held.partition() == partition).ok_or(NOT_ASSIGNED)
    }

    fn held_mut(&mut self, partition: &TopicPartition) -> Result<&mut Held> {
        self.held.iter_mut().find(|held| held.partition() == partition).ok_or(NOT_ASSIGNED)
    }
}

const NOT_ASSIGNED: Error = Error::Misuse("the partition is not assigned to this consumer");
