use std::collections::BTreeMap;

use super::held::Held;
use super::{Consumer, OffsetAndTimestamp, Position};
use crate::error::{Error, Result};
use crate::types::{Timestamp, TopicId, TopicPartition, planted};

impl Consumer {
    /// Goes on at a position in an assigned partition. Whether its offset is in the log is seen by the
    /// next poll, which applies `auto.offset.reset` if it is not.
    ///
    /// A position that was kept outside of the engine is given with the leader epoch and the topic id that
    /// [`Consumer::position`] or [`ConsumerRecord::next_position`](super::ConsumerRecord::next_position)
    /// told: then a record that power loss took back is noticed (KIP-320), and so is a topic that was
    /// deleted and created again (KIP-516). [`Position`] says what a position without them means.
    ///
    /// # Errors
    /// The position stays where it was. `Misuse` if the partition is not assigned to this consumer, or for
    /// a negative offset or epoch; `LogTruncated` if the record before the position is not the one of that
    /// epoch any more; `InconsistentTopicId` if the position belongs to a topic that was deleted, and the name
    /// to another one now: [`Consumer::seek_to_beginning`] goes on there. A position without id belongs to
    /// the topic that this consumer reads. `UnknownTopic` if that topic was deleted.
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
        let at = self.held(partition)?;
        self.check_topic(at, position.topic_id())?;
        let held = self.held.get_mut(at).ok_or(NOT_ASSIGNED)?;
        if position.leader_epoch().is_some() {
            held.check_not_truncated(position)?;
        }
        held.seek(position);
        Ok(())
    }

    /// Checks that a position belongs to the topic that is read. A consumer that chose its partitions goes
    /// over to a topic that was created again, if that is the one the position belongs to.
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
                "the partition of the topic created again is not assigned to this consumer yet: poll first",
            ));
        }
        *held = held.renewed(now);
        Ok(())
    }

    /// The partition as it is now. A consumer that chose its partitions goes over to a topic that was
    /// created again; a group takes the partition of a deleted topic back by itself.
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

    /// Goes to the log start of an assigned partition. If its topic was deleted and created again, a
    /// consumer with [`Consumer::assign`] goes to the log start of the new topic.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer; `UnknownTopic`, `UnknownPartition` if it
    /// was deleted; `InconsistentTopicId` if the topic was created again and the group has not assigned
    /// its partition yet, which the next poll does.
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> Result<()> {
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        held.seek(Position::new(held.log.start_offset()));
        Ok(())
    }

    /// Goes to the log end of an assigned partition: only records sent from now on are returned.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`].
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> Result<()> {
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        held.seek(Position::new(held.log.end_offset()));
        Ok(())
    }

    /// Goes to the first record by offset with this timestamp or a later one, or to the log end if
    /// there is none.
    ///
    /// # Errors
    /// As [`Consumer::seek_to_beginning`]; `Corrupt`, `Io` from looking.
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<()> {
        let at = self.held(partition)?;
        let held = self.held_now(at)?;
        let offset = held.log.offset_since(timestamp)?;
        held.seek(Position::new(offset));
        Ok(())
    }

    /// The next offset to return, the leader epoch of the record before it if that is known, and the id of
    /// the topic. If the topic was deleted, that is still where the consumer stands in it, until a poll.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer. Where the position is not decided yet
    /// and cannot be: `NoOffsetForPartition`, `LogTruncated`, and those of [`Consumer::seek_to_beginning`].
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Position> {
        // Where it begins may have to be looked up.
        self.source.registry()?;
        let at = self.held(partition)?;
        if self.held.get(at).is_some_and(|held| held.offset().is_none()) {
            self.held_now(at)?;
            self.start(at)?;
        }
        self.held.get(at).and_then(Held::position).ok_or(NOT_ASSIGNED)
    }

    /// How many offsets lie between the position and the log end: at most so many records are still to be
    /// returned. Never negative.
    ///
    /// The count begins at the log start if the position lies below it, since the offsets below are gone. A
    /// position beyond the log end has lag 0. Offsets without a record count: Kafka's control batches, and
    /// offsets that compaction left out.
    ///
    /// # Errors
    /// Those of [`Consumer::position`]; `UnknownTopic`, `UnknownPartition`, `InconsistentTopicId` if the
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
        let log = &self.held.get(at).ok_or(NOT_ASSIGNED)?.log;
        if log.is_deleted() {
            return Err(self.source.gone(log));
        }
        Ok(log.lag(position.offset(), log.end_offset()))
    }

    /// The log start offsets of partitions of any topic.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`.
    pub fn beginning_offsets<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let start = |partition| Ok(self.source.registry()?.log(partition)?.start_offset());
        partitions.into_iter().map(|p| Ok((p.clone(), start(p)?))).collect()
    }

    /// The log end offsets of partitions of any topic: what the next record gets. Positions do not
    /// move.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`.
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
        let end = |partition| Ok(self.source.registry()?.log(partition)?.end_offset());
        partitions.into_iter().map(|p| Ok((p.clone(), end(p)?))).collect()
    }

    /// For each partition, of any topic, the first record by offset with this timestamp or a later
    /// one; `None` if there is none. Timestamps need not be in order: it is the first by offset.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `Misuse` for a negative timestamp; `Corrupt`, `Io`.
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
            let first = log.offset_for_time(timestamp)?.map(|(offset, timestamp)| {
                let (leader_epoch, topic_id) = (log.epoch_of(offset), log.topic_id());
                OffsetAndTimestamp { offset, timestamp, leader_epoch, topic_id }
            });
            found.insert(partition, first);
        }
        Ok(found)
    }

    /// Returns no records of the partition until [`Consumer::resume`]. The position stays, and so does
    /// the partition: a rebalance that leaves it here leaves it paused.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer.
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<()> {
        self.held_mut(partition)?.paused = true;
        Ok(())
    }

    /// Ends [`Consumer::pause`].
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer.
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<()> {
        self.held_mut(partition)?.paused = false;
        Ok(())
    }

    /// The partitions that are paused, in order.
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
