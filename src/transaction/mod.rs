//! Transactions: records of any partitions and offsets of any groups that take effect together or not at all.
//!
//! A transaction lives in memory until `commit`, which writes it as one frame of the journal (`engine::frame`, F1 to
//! F5). So an open transaction blocks nobody, an aborted one leaves no trace, and no reader ever sees a part of one
//! after a crash. In segments its records are plain records, as any Kafka reader expects them.
//!
//! Imported by `redrive` and `internal`.

mod buffer;
mod offsets;
mod shares;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::consumer::{Consumer, ConsumerRecord, GroupMetadata, OffsetAndMetadata, Taken, Taking};
use crate::engine::{
    EngineHandle, ExpectedOffset, Frame, FrameContents, FrameRecord as _, FrameRecords, FrameSize,
    OwnerClaim,
};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::producer::{Deliveries, Delivery, Producer, Record, RecordMetadata};
use crate::share::ShareRecord;
use crate::types::{PartitionNumber, TopicPartition, check_group_name};
use buffer::Buffer;
use offsets::Offsets;
use shares::Shares;

/// Records and offsets that take effect together when [`Transaction::commit`] returns, or not at all.
///
/// It covers any topics and partitions, and any number of groups. Nobody sees anything of it before the commit, and
/// nobody waits for it: other producers append meanwhile. Dropping it aborts it. A crash leaves all of it or
/// nothing.
///
/// The loop that reads, transforms and writes exactly once:
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.create_topic("invoices", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// producer.send(Record::to("orders").value("1 pear"))?;
///
/// let config = ConsumerConfig::new().group("billing").enable_auto_commit(false);
/// let mut consumer = broker.consumer_with(config)?;
/// consumer.subscribe(["orders"])?;
/// let records = consumer.poll(Duration::from_secs(1))?;
/// let mut transaction = producer.begin()?;
/// for record in &records {
///     transaction.send(Record::to("invoices").value(record.value().unwrap()))?;
/// }
/// transaction.commit_offsets(&mut consumer)?;
/// // If this fails, the next poll returns the same orders again.
/// let committed = transaction.commit()?;
/// assert_eq!(committed.metadata().next().unwrap().topic(), "invoices");
/// # Ok::<(), grouplog::Error>(())
/// ```
///
/// After the commit there is no transaction any more:
///
/// ```compile_fail,E0382
/// # let broker = grouplog::Broker::open_in_memory()?;
/// let mut transaction = broker.producer()?.begin()?;
/// transaction.commit()?;
/// transaction.send(grouplog::Record::to("orders"))?; // use of moved value
/// # Ok::<(), grouplog::Error>(())
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    producer: Producer,
    buffer: Buffer,
    size: FrameSize,
    expected_ends: BTreeMap<PartitionNumber, (Arc<Log>, i64)>,
    offsets: Offsets,
    shares: Shares,
    /// The first and last sequence of the records sent so far.
    sequences: Option<(i64, i64)>,
}

/// A committed transaction. Its records are `Written`.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut transaction = broker.producer()?.begin()?;
/// transaction.send(Record::to("orders").value("1 pear"))?;
/// let committed = transaction.commit()?;
/// assert_eq!(committed.metadata().next().unwrap().offset(), 0);
/// committed.wait()?; // it survives power loss from here on
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct Committed {
    engine: EngineHandle,
    deliveries: Deliveries,
}

impl Committed {
    /// Returns where the records went, in the order in which they were sent.
    pub fn metadata(&self) -> impl Iterator<Item = RecordMetadata> + '_ {
        self.deliveries.metadata()
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Returns whether the transaction had no records.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Waits until the transaction has the producer's ack level. Returns at once for
    /// [`Acks::Written`](crate::Acks::Written).
    ///
    /// # Errors
    /// [`Error::Indeterminate`] if the sync failed.
    pub fn wait(self) -> Result<()> {
        self.deliveries.wait_on(&self.engine)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("records", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Producer {
    /// Begins a transaction. It costs nothing before the first record, and any number may be open at once.
    ///
    /// # Errors
    /// `Closed`. `ProducerFenced` if a newer producer has the same
    /// [`transactional.id`](crate::ProducerConfig::transactional_id).
    pub fn begin(&self) -> Result<Transaction> {
        let engine = self.engine();
        engine.check_open()?;
        let what = "bytes of one transaction (transaction.max.bytes)";
        let mut size =
            FrameSize::new(engine, what, self.config().transaction_max_bytes).with_room();
        if let Some(owner) = self.owner() {
            engine.owner(owner)?;
            size.set_sections(owner.bytes())?;
        }
        Ok(Transaction {
            producer: self.clone(),
            buffer: Buffer::new(),
            size,
            expected_ends: BTreeMap::new(),
            offsets: Offsets::default(),
            shares: Shares::default(),
            sequences: None,
        })
    }

    /// Appends one record if the log end of its partition is `expected`. So the record gets that offset, or
    /// none. Event sourcing needs no other lock: read a partition to its end, decide, and append what was decided
    /// if nobody was faster.
    ///
    /// # Errors
    /// `UnexpectedEnd` with the actual end. `Misuse` if the record names no partition and has no key, and its topic
    /// has several partitions. Those of [`Producer::send`]. The record was not appended in any of these cases.
    ///
    /// ```
    /// use grouplog::{Broker, Error, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("account-7", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// producer.send_at(0, Record::to("account-7").value("+10"))?;
    /// // Another thread that has read the empty account comes too late.
    /// let late = producer.send_at(0, Record::to("account-7").value("+99"));
    /// assert!(matches!(late, Err(Error::UnexpectedEnd { end: 1, .. })));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "a record is made for one send")]
    pub fn send_at(&self, expected: i64, record: Record<'_>) -> Result<Delivery> {
        let engine = self.engine();
        if record.is_spread() && engine.registry.topic(record.topic_name())?.logs.len() > 1 {
            return Err(Error::Misuse("send_at needs a record with a partition or a key"));
        }
        let (log, bound) = self.choose(&record)?;
        let records = FrameRecords::of_one(log, bound, &record);
        let frame = Frame {
            expected_ends: &[(0, expected)],
            owner: self.owner(),
            ..Frame::of_records(&records)
        };
        self.append_frame(&frame)?.into_first().ok_or(Error::Misuse("a record without a place"))
    }

    /// Appends one record with a sequence of the program, unless this sequence or a higher one was stored before:
    /// then nothing is appended, and `None` is returned. So a program that sends the same again after a restart
    /// stores it once.
    ///
    /// A sequence is any number from 0 up that rises from one record to the next, with gaps if you like. Often it
    /// is the position in the source of the records. The folder keeps the last one for each
    /// [`transactional.id`](crate::ProducerConfig::transactional_id), for as long as it keeps the id.
    ///
    /// With [`Acks::Synced`](crate::Acks::Synced), what `None` stands for survives power loss.
    ///
    /// # Errors
    /// `Misuse` without `transactional.id`, or if the sequence is negative. `ProducerFenced`. Those of
    /// [`Producer::send`].
    ///
    /// ```
    /// use grouplog::{Broker, ProducerConfig, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("lines", TopicConfig::new())?;
    /// let importer = broker.producer_with(ProducerConfig::new().transactional_id("importer"))?;
    /// assert!(importer.send_sequenced(17, Record::to("lines").value("a line"))?.is_some());
    /// assert!(importer.send_sequenced(17, Record::to("lines").value("a line"))?.is_none());
    /// assert_eq!(importer.last_sequence()?, Some(17));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn send_sequenced(&self, sequence: i64, record: Record<'_>) -> Result<Option<Delivery>> {
        check_sequence(self.owner(), sequence)?;
        let mut transaction = self.begin()?;
        transaction.sequences = Some((sequence, sequence));
        transaction.send(record)?;
        match transaction.commit() {
            Ok(committed) => Ok(committed.deliveries.into_first()),
            Err(Error::OutOfOrderSequence { .. }) => {
                self.await_written()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the last sequence that was stored with this producer's `transactional.id`, by it or a producer
    /// before it. After a restart, a program goes on behind it.
    ///
    /// # Errors
    /// `Misuse` without `transactional.id`. `ProducerFenced`.
    pub fn last_sequence(&self) -> Result<Option<i64>> {
        let owner = self.owner().ok_or(NO_OWNER)?;
        Ok(self.engine().owner(owner)?.last_sequence)
    }
}

const NO_OWNER: Error = Error::Misuse("sequences need a named producer: set transactional.id");

fn check_sequence(owner: Option<&OwnerClaim>, sequence: i64) -> Result<()> {
    if owner.is_none() {
        return Err(NO_OWNER);
    }
    if sequence < 0 {
        return Err(Error::Misuse("a sequence is not negative"));
    }
    Ok(())
}

/// Takes in what a transaction has beside its records, if it fits into the frame: sections of offsets and of share groups.
fn fit(size: &mut FrameSize, producer: &Producer, offsets: usize, shares: usize) -> Result<()> {
    let owner = producer.owner().map_or(0, OwnerClaim::bytes);
    size.set_sections(owner.saturating_add(offsets).saturating_add(shares))
}

impl Transaction {
    /// Adds a record. Its partition is chosen now. Without a timestamp it gets the time of the commit.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `RecordTooLarge`, `InvalidTimestamp` or `NullKey` as [`Producer::send`].
    /// `LimitExceeded` if the transaction would exceed
    /// [`transaction.max.bytes`](crate::ProducerConfig::transaction_max_bytes), or one frame of the journal cannot hold
    /// it. The record was not added then, and the transaction stays as it was: it can be committed without the record.
    pub fn send(&mut self, record: Record<'_>) -> Result<()> {
        let Self { producer, size, buffer, expected_ends, .. } = self;
        producer.as_stored(record, |record| {
            let (log, bound) = producer.choose(record)?;
            size.add(FrameContents {
                records: bound,
                partitions: usize::from(
                    buffer.is_new(&log) && !expected_ends.contains_key(&log.number()),
                ),
                ids: usize::from(record.data().id.is_some()),
                sections: 0,
            })?;
            buffer.push(&log, bound, &record.data());
            Ok(())
        })
    }

    /// Adds a record with a sequence, as [`Producer::send_sequenced`]. Returns `false`, and adds nothing, if this
    /// sequence or a higher one was stored before.
    ///
    /// The commit stores the last sequence together with the records.
    ///
    /// # Errors
    /// `OutOfOrderSequence` if the sequence is not above that of an earlier record of this transaction. `Misuse` and
    /// `ProducerFenced` as [`Producer::send_sequenced`], and those of [`Transaction::send`]. The transaction stays
    /// as it was.
    ///
    /// ```
    /// use grouplog::{Broker, ProducerConfig, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("lines", TopicConfig::new())?;
    /// let importer = broker.producer_with(ProducerConfig::new().transactional_id("importer"))?;
    /// let mut transaction = importer.begin()?;
    /// for (sequence, line) in (0..).zip(["a", "b", "c"]) {
    ///     transaction.send_sequenced(sequence, Record::to("lines").value(line))?;
    /// }
    /// transaction.commit()?;
    /// assert_eq!(importer.last_sequence()?, Some(2));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn send_sequenced(&mut self, sequence: i64, record: Record<'_>) -> Result<bool> {
        check_sequence(self.producer.owner(), sequence)?;
        let stored = self.producer.last_sequence()?;
        if stored.is_some_and(|stored| sequence <= stored) {
            return Ok(false);
        }
        if let (Some((_, last)), Some(owner)) = (self.sequences, self.producer.owner())
            && sequence <= last
        {
            let transactional_id = owner.id.to_string();
            return Err(Error::OutOfOrderSequence { transactional_id, sequence, last });
        }
        self.send(record)?;
        let first = self.sequences.map_or(sequence, |(first, _)| first);
        self.sequences = Some((first, sequence));
        Ok(true)
    }

    /// Commits the positions of a consumer with the transaction: every record that it has returned so far counts
    /// as done when the transaction is committed.
    ///
    /// The consumer is free meanwhile: it may poll further. If the transaction fails or is aborted, the consumer
    /// goes back, and its next poll returns the uncommitted records again, except those that an earlier transaction
    /// holds that is still open. Transactions that take positions of one partition one after the other must be
    /// committed in that order.
    ///
    /// # Errors
    /// * `Misuse` if the consumer has no `group.id`, commits by itself (`enable.auto.commit`), or reads another
    ///   folder, or if an earlier transaction with its positions has failed and it has not polled since. Then its
    ///   next poll returns all records again that no transaction holds: abort this transaction, which was made of
    ///   some of them.
    ///
    /// * `LimitExceeded` if one frame of the journal cannot hold the offsets with what the transaction has. Nothing was
    ///   taken, and the next poll returns all records again that no transaction holds: abort this transaction, and poll
    ///   fewer records or raise `journal.max.bytes`.
    ///
    /// Membership is checked by the commit, not here.
    pub fn commit_offsets(&mut self, consumer: &mut Consumer) -> Result<()> {
        let Self { producer, size, offsets, shares, .. } = self;
        let fits = |taking: &Taking| {
            fit(size, producer, offsets.bytes_with_taken(producer.owner(), taking), shares.bytes())
        };
        let taking = consumer.take_positions(producer.engine(), fits)?;
        offsets.take(producer.owner(), taking);
        Ok(())
    }

    /// As [`Transaction::commit_offsets`], but only up to one record: it and those before it in its partition count
    /// as done. So a program may spread the records of one poll over several transactions.
    ///
    /// # Errors
    /// As [`Transaction::commit_offsets`], and `Misuse` if the consumer does not read the partition of the record, or
    /// has gone back to a place before it.
    ///
    /// ```
    /// use grouplog::{Broker, ConsumerConfig, Record, TopicConfig, TopicPartition};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// producer.send_all([Record::to("orders").value("a"), Record::to("orders").value("b")])?;
    /// let config = ConsumerConfig::new().group("billing").enable_auto_commit(false);
    /// let mut consumer = broker.consumer_with(config)?;
    /// consumer.subscribe(["orders"])?;
    /// for record in &consumer.poll(Duration::from_secs(1))? {
    ///     let mut transaction = producer.begin()?;
    ///     transaction.commit_through(&mut consumer, &record)?;
    ///     transaction.commit()?;
    /// }
    /// assert_eq!(consumer.committed(&TopicPartition::new("orders", 0))?.unwrap().offset(), 2);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn commit_through(
        &mut self,
        consumer: &mut Consumer,
        record: &ConsumerRecord<'_>,
    ) -> Result<()> {
        let Self { producer, size, offsets, shares, .. } = self;
        let fits = |taking: &Taking| {
            fit(size, producer, offsets.bytes_with_taken(producer.owner(), taking), shares.bytes())
        };
        let taking = consumer.take_through(producer.engine(), record, fits)?;
        offsets.take(producer.owner(), taking);
        Ok(())
    }

    /// Accepts a record of a share group with the transaction: a job is done exactly if what it has made is stored.
    ///
    /// If the transaction fails or is aborted, the record is released.
    ///
    /// # Errors
    /// `Misuse` if the record is of another folder. The record is released then. `LimitExceeded` if one frame of the journal
    /// cannot hold its end with what the transaction has. The record comes again then, and this delivery does not count.
    ///
    /// The commit returns `InvalidRecordState` if the lock of the record has ended.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("jobs", TopicConfig::new())?;
    /// broker.create_topic("results", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// producer.send(Record::to("jobs").value("6*7"))?;
    /// let mut member = broker.share_consumer("workers")?;
    /// member.subscribe(["jobs"])?;
    /// for job in member.poll(Duration::from_secs(1))? {
    ///     let mut transaction = producer.begin()?;
    ///     transaction.send(Record::to("results").value("42"))?;
    ///     transaction.accept(job)?;
    ///     transaction.commit()?;
    /// }
    /// assert_eq!(broker.admin().describe_share_group("workers")?.lag(), 0);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn accept(&mut self, record: ShareRecord) -> Result<()> {
        let Self { producer, size, offsets, shares, .. } = self;
        let fits = |bytes| fit(size, producer, offsets.bytes(), bytes);
        shares.add(producer.engine(), record, fits)
    }

    /// Leaves room for the end of a record of a share group. Records that are added next do not take it.
    pub(crate) fn leave_room(&mut self, record: &ShareRecord) -> Result<()> {
        let Self { producer, size, offsets, shares, .. } = self;
        fit(size, producer, offsets.bytes(), shares.bytes_with(record).0)
    }

    /// Commits chosen offsets of a group with the transaction. Kafka's `sendOffsetsToTransaction`.
    ///
    /// `group` comes from [`Consumer::group_metadata`], and says which member commits. The commit refuses the whole
    /// transaction if the member was evicted or does not own the partitions. With [`GroupMetadata::of_group`] there
    /// is no member, and the group must have none. A later offset of a partition replaces an earlier one.
    ///
    /// # Errors
    /// As [`Consumer::commit_offsets`], except for membership, which the commit checks. `LimitExceeded` if one frame of
    /// the journal cannot hold the offsets with what the transaction has. No offset was added then.
    ///
    /// ```
    /// use grouplog::{Broker, GroupMetadata, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let mut transaction = broker.producer()?.begin()?;
    /// let group = GroupMetadata::of_group("billing");
    /// transaction.send_offsets(&group, [(TopicPartition::new("orders", 0), 7)])?;
    /// transaction.commit()?;
    /// assert_eq!(broker.describe_group("billing")?.offsets[0].committed, Some(7));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn send_offsets<O: Into<OffsetAndMetadata>>(
        &mut self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        let offsets = offsets.into_iter().map(|(partition, offset)| (partition, offset.into()));
        let Self { producer, size, offsets: all, shares, .. } = self;
        let fits = |bytes| fit(size, producer, bytes, shares.bytes());
        all.send(producer.engine(), producer.owner(), group, offsets, fits)
    }

    /// Lets the commit succeed only if the log end of a partition is `offset` then. The transaction may append to
    /// the partition or not.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition`. `Misuse` if the transaction expects another end of the partition.
    /// `LimitExceeded` if it is full.
    ///
    /// ```
    /// use grouplog::{Broker, Error, Record, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("accounts", TopicConfig::new().partitions(2))?;
    /// let producer = broker.producer()?;
    /// let mut transfer = producer.begin()?;
    /// transfer.expect_end(&TopicPartition::new("accounts", 0), 0)?;
    /// transfer.send(Record::to("accounts").partition(0).value("-10"))?;
    /// transfer.send(Record::to("accounts").partition(1).value("+10"))?;
    /// producer.send(Record::to("accounts").partition(0).value("closed"))?;
    /// assert!(matches!(transfer.commit(), Err(Error::UnexpectedEnd { end: 1, .. })));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn expect_end(&mut self, partition: &TopicPartition, offset: i64) -> Result<()> {
        let log = self.producer.engine().registry.log(partition)?;
        match self.expected_ends.get(&log.number()) {
            Some((_, expected)) if *expected == offset => Ok(()),
            Some(_) => Err(Error::Misuse("a transaction expects one end of a partition, not two")),
            None => {
                let partitions = usize::from(self.buffer.is_new(&log));
                self.size.add(FrameContents { partitions, ..FrameContents::default() })?;
                self.expected_ends.insert(log.number(), (log, offset));
                Ok(())
            }
        }
    }

    /// Lets the commit succeed only if the committed offset of a group is `offset` then; `None` stands for no
    /// committed offset.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownPartition`. `InvalidName` if no group can have this name.
    ///
    /// ```
    /// use grouplog::{Broker, Error, GroupMetadata, TopicConfig, TopicPartition};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let partition = TopicPartition::new("orders", 0);
    /// let mut transaction = broker.producer()?.begin()?;
    /// transaction.expect_committed("billing", &partition, Some(3))?;
    /// transaction.send_offsets(&GroupMetadata::of_group("billing"), [(partition, 4)])?;
    /// assert!(matches!(transaction.commit(), Err(Error::UnexpectedCommit { committed: None, .. })));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn expect_committed(
        &mut self,
        group: &str,
        partition: &TopicPartition,
        offset: Option<i64>,
    ) -> Result<()> {
        check_group_name(group)
            .map_err(|reason| Error::InvalidName { name: group.to_owned(), reason })?;
        let log = self.producer.engine().registry.log(partition)?;
        self.offsets.expected.push(ExpectedOffset { group: group.into(), log, offset });
        Ok(())
    }

    /// Makes all of it take effect, or nothing. When this returns, it is `Written`; [`Committed::wait`] waits for
    /// the producer's ack level.
    ///
    /// # Errors
    /// Nothing took effect and nothing ever will, except as `Indeterminate` says. The consumers whose positions the
    /// transaction took go back.
    ///
    /// * `Fenced` if a member whose offsets it commits was evicted, or does not own the partitions any more.
    /// * `ProducerFenced` if a newer producer has the same `transactional.id`.
    /// * `OutOfOrderSequence` if another transaction stored the sequences meanwhile.
    /// * `UnexpectedEnd` or `UnexpectedCommit` if an expectation does not hold.
    /// * `UnknownTopic` if a topic was deleted, or `InconsistentTopicId` if it was created again as well.
    /// * `Misuse` if an earlier transaction that took positions of the same partition is open or has failed.
    /// * `Timeout`, `DiskFull`, `DiskBudget`, `Failed`, `Closed` as [`Producer::send`].
    pub fn commit(self) -> Result<Committed> {
        let Self { producer, buffer, size, expected_ends, offsets, shares, sequences } = self;
        let engine = producer.engine();
        engine.check_open()?;
        offsets.taken.iter().try_for_each(Taken::check)?;
        buffer.check_again(&producer)?;
        let mut buffer = buffer;
        let mut ends: Vec<(usize, i64)> =
            expected_ends.values().map(|(log, end)| (buffer.place(log), *end)).collect();
        let partitions = buffer.take_partitions();
        let headers = buffer.headers();
        let mut records = buffer.frame_records(partitions, &headers);
        if let Some(moved) = records.sort() {
            for (at, _) in &mut ends {
                *at = moved.get(*at).copied().unwrap_or(*at);
            }
        }
        let parts = offsets.parts(engine, producer.owner())?;
        let owner = producer.owner().map(|owner| OwnerClaim { sequences, ..owner.clone() });
        let deliveries = shares.commit_with(engine, |claims| {
            let frame = Frame {
                records: &records,
                expected_ends: &ends,
                offsets: &parts,
                expected_offsets: &offsets.expected,
                owner: owner.as_ref(),
                shares: claims,
            };
            debug_assert!(frame.payload(engine) <= size.payload(), "{size:?}");
            producer.append_frame(&frame)
        })?;
        offsets.taken.into_iter().for_each(Taken::committed);
        Ok(Committed { engine: engine.clone(), deliveries })
    }

    /// Gives the transaction up. Dropping it does the same.
    pub fn abort(self) {
        drop(self);
    }
}
