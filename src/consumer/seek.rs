use super::Consumer;
use super::held::Held;
use crate::error::{Error, Result};
use crate::types::{Timestamp, TopicPartition};

impl Consumer {
    /// Goes on at `offset` in an assigned partition. Whether it is in the log is seen by the next poll,
    /// which applies `auto.offset.reset` if it is not.
    ///
    /// # Errors
    /// `Misuse` if the partition is not assigned to this consumer, or for a negative offset.
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
    /// assert_eq!(reader.position(&partition)?, 3);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        let at = self.held(partition)?;
        if offset < 0 {
            return Err(Error::Misuse("an offset to seek must not be negative"));
        }
        if let Some(held) = self.held.get_mut(at) {
            held.seek(offset);
        }
        Ok(())
    }

    /// As [`Consumer::seek`], for a position that was kept outside of the engine together with the
    /// leader epoch of the record before it (KIP-320).
    ///
    /// # Errors
    /// `LogTruncated` if power loss took that record back.
    pub fn seek_with_epoch(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        leader_epoch: i32,
    ) -> Result<()> {
        let at = self.held(partition)?;
        if let Some(held) = self.held.get(at) {
            held.check_not_truncated(offset, Some(leader_epoch))?;
        }
        self.seek(partition, offset)
    }

    /// Goes to the log start of an assigned partition.
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> Result<()> {
        let offset = self.log_bounds(partition)?.0;
        self.seek(partition, offset)
    }

    /// Goes to the log end of an assigned partition: only records sent from now on are returned.
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> Result<()> {
        let offset = self.log_bounds(partition)?.1;
        self.seek(partition, offset)
    }

    /// Goes to the first record by offset with this timestamp or a later one, or to the log end if
    /// there is none.
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<()> {
        let at = self.held(partition)?;
        let Some(held) = self.held.get(at) else { return Ok(()) };
        let found = held.log.offset_for_time(timestamp)?.map(|(offset, _)| offset);
        let offset = found.unwrap_or_else(|| held.log.end_offset());
        self.seek(partition, offset)
    }

    /// The next offset to return.
    pub fn position(&mut self, partition: &TopicPartition) -> Result<i64> {
        let at = self.held(partition)?;
        self.start(at)?;
        let position = self.held.get(at).and_then(Held::position);
        position.ok_or(Error::Misuse("the partition is not assigned to this consumer"))
    }

    /// How many offsets lie between the position and the log end.
    pub fn lag(&mut self, partition: &TopicPartition) -> Result<i64> {
        let position = self.position(partition)?;
        Ok(self.log_bounds(partition)?.1.saturating_sub(position))
    }

    /// The log start offset and the log end offset of a partition of any topic.
    pub fn log_bounds(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        let log = self.source.registry().log(partition)?;
        Ok((log.start_offset(), log.end_offset()))
    }

    /// Returns no records of the partition until [`Consumer::resume`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<()> {
        self.set_paused(partition, true)
    }

    /// Ends [`Consumer::pause`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<()> {
        self.set_paused(partition, false)
    }

    fn set_paused(&mut self, partition: &TopicPartition, paused: bool) -> Result<()> {
        let at = self.held(partition)?;
        if let Some(held) = self.held.get_mut(at) {
            held.paused = paused;
        }
        Ok(())
    }
}
