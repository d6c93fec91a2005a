//! Sending records.
//!
//! Imported by `transaction`, `redrive`, `broker` and `internal`.

mod completion;
mod deliver;
mod delivery;
mod record;
mod route;
mod stamp;
mod typed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use delivery::{Deliveries, Delivery, RecordMetadata};
pub use record::Record;
pub use typed::{TypedProducer, TypedRecord};

use crate::config::{Acks, ProducerConfig};
use crate::engine::{
    Appended, Engine, EngineHandle, Frame, FrameContents, FrameRecord, FrameRecords, FrameSize,
    OwnerClaim,
};
use crate::error::{Error, Result};
use crate::journal::Credit;
use crate::log::{Afterwards, Log, Placed, frame_bound};
use crate::types::{Lsn, TimestampType};
use completion::Completion;
use route::{Known, Route, with_route};
use stamp::{stamp_all, stamped, times_of};

/// Sends records. Cheap to clone, and may be shared between threads.
///
/// `send` returns when the record has its offset and is in the journal (`Written`). It needs no
/// system call and no other thread. [`Acks`] decide what [`Delivery::wait`] and [`Producer::flush`]
/// wait for.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4))?;
/// let producer = broker.producer()?;
/// for n in 0..100 {
///     producer.send(Record::to("orders").key("alice").value(&format!("{n} apples")))?;
/// }
/// producer.flush()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: EngineHandle,
    config: ProducerConfig,
    /// The named owner that this producer is, with `transactional.id`.
    owner: Option<OwnerClaim>,
    /// Identifies the producer in the state that each thread remembers.
    id: u64,
    completion: Completion,
}

impl Producer {
    /// Creates a producer. With `transactional.id`, it fences the one before it.
    pub(crate) fn new(engine: EngineHandle, config: ProducerConfig) -> Result<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        config.validate()?;
        let owner = config.transactional_id.as_deref().map(|id| engine.own(id)).transpose()?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let completion = Completion::default();
        Ok(Self { inner: Arc::new(Inner { engine, config, owner, id, completion }) })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `RecordTooLarge`, `LimitExceeded`, `Timeout` (no journal
    /// space within `max.block.ms`), `DiskFull`, `DiskBudget`, `Failed` or `Closed`. `Io`, at once, if the engine
    /// cannot make journal space, as in a removed folder or on a read-only file system. The record
    /// was not appended in any of these cases.
    #[inline]
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        self.as_stored(record, |record| self.inner.send(record))
    }

    /// Appends many records, of any topics and partitions, as one unit. After a crash either all of
    /// them exist or none.
    ///
    /// Together they must fit into a quarter of `journal.max.bytes`. The producer sums the sizes while
    /// it iterates over `records`, so it takes and holds no more of them than fit.
    ///
    /// # Errors
    /// The errors of [`Producer::send`], and `LimitExceeded` if the records do not fit. None of them
    /// was appended then.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// broker.create_topic("audit", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// let sent = producer.send_all([
    ///     Record::to("orders").value("1 pear"),
    ///     Record::to("audit").value("alice ordered"),
    ///     Record::to("orders").value("2 pears"),
    /// ])?;
    /// assert_eq!(sent.metadata().map(|m| m.offset()).collect::<Vec<_>>(), [0, 0, 1]);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn send_all<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<Deliveries> {
        let inner = &*self.inner;
        let mut taken = inner.take(records)?;
        let times = times_of(&taken, || inner.engine.clock().now())?;
        stamp_all(&mut taken, &times);
        let gathered = inner.gather(taken)?;
        if gathered.records.is_empty() {
            return Ok(Deliveries::default());
        }
        inner.append(gathered)
    }

    /// Appends one record and calls `done` when the record has reached or missed the producer's ack
    /// level.
    ///
    /// A thread of the producer calls the callbacks, in the order of the calls of `send_with`. If
    /// `send_with` itself returns an error, it never calls `done`.
    ///
    /// ```
    /// use grouplog::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let producer = broker.producer()?;
    /// let (told, heard) = std::sync::mpsc::channel();
    /// producer.send_with(Record::to("orders").value("1 pear"), move |result| {
    ///     told.send(result.map(|metadata| metadata.offset()).ok()).unwrap();
    /// })?;
    /// assert_eq!(heard.recv().unwrap(), Some(0));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn send_with(
        &self,
        record: Record<'_>,
        done: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Result<()> {
        let Inner { engine, completion, .. } = &*self.inner;
        // First, because an error must mean that the record was not appended.
        let callbacks = completion.start(engine)?;
        let delivery = self.send(record)?;
        let (metadata, lsn) = (delivery.metadata, delivery.lsn);
        let wait = (self.inner.config.acks == Acks::Synced).then_some(lsn);
        completion.push(&callbacks, metadata, wait, Box::new(done))
    }

    /// Waits until everything sent so far, by any producer of the broker, has this producer's ack
    /// level, and until all callbacks of [`Producer::send_with`] have returned.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] if a sync failed.
    pub fn flush(&self) -> Result<()> {
        self.inner.engine.check_open()?;
        let synced = self.await_written();
        self.inner.completion.wait();
        synced
    }
}

/// For transactions.
impl Producer {
    pub(crate) fn engine(&self) -> &EngineHandle {
        &self.inner.engine
    }

    pub(crate) fn config(&self) -> &ProducerConfig {
        &self.inner.config
    }

    pub(crate) fn owner(&self) -> Option<&OwnerClaim> {
        self.inner.owner.as_ref()
    }

    /// Calls `then` with the record as it is to be stored.
    #[inline]
    pub(crate) fn as_stored<T>(
        &self,
        record: Record<'_>,
        then: impl FnOnce(&Record<'_>) -> Result<T>,
    ) -> Result<T> {
        match record.deliver {
            None => then(&record),
            Some(deliver) => stamped(record, deliver, self.inner.engine.clock().now(), then),
        }
    }

    /// Returns the partition of the record and an upper bound for its size there in bytes.
    pub(crate) fn choose(&self, record: &Record<'_>) -> Result<(Arc<Log>, usize)> {
        self.inner.choose(record)
    }

    /// Appends a frame.
    pub(crate) fn append_frame<R: FrameRecord>(&self, frame: &Frame<'_, R>) -> Result<Deliveries> {
        let Appended { placed, others, lsn } = self.inner.append_frame(frame)?;
        let mut logs = frame.records.logs.clone();
        logs.extend(others);
        Ok(Deliveries { logs, placed, acks: self.inner.config.acks, lsn })
    }

    /// Waits until everything that is in the journal now has this producer's ack level.
    pub(crate) fn await_written(&self) -> Result<()> {
        let engine = &*self.inner.engine;
        match self.inner.config.acks {
            Acks::Synced => engine.wait_synced(engine.journal.end()),
            Acks::Written => Ok(()),
        }
    }
}

impl Inner {
    #[inline]
    fn send(&self, record: &Record<'_>) -> Result<Delivery> {
        let engine = &*self.engine;
        let (log, bound) = self.choose(record)?;
        engine.check_appends()?;
        if engine.stores(bound, self.config.acks) || self.owner.is_some() || record.id.is_some() {
            return self.send_frame(log, bound, record);
        }
        let appended = match append_one(engine, &log, None, record) {
            Ok(Some(done)) => Ok(done),
            Ok(None) => self.append_one_reserved(&log, bound, record),
            Err(error) => Err(error),
        };
        let (placed, lsn, afterwards) = match appended {
            // As the policy of the topic says, there may be room later.
            Err(Error::DiskBudget { .. }) => return self.send_frame(log, bound, record),
            done => done?,
        };
        engine.after_append(&log, afterwards);
        let acks = self.config.acks;
        if acks == Acks::Synced {
            engine.journal.request_sync(lsn);
        }
        Ok(Delivery { metadata: RecordMetadata { log, placed }, acks, lsn })
    }

    /// Returns the partition of the record and an upper bound for its size there in bytes.
    #[inline]
    fn choose(&self, record: &Record<'_>) -> Result<(Arc<Log>, usize)> {
        let bound = record.data().bound();
        with_route(self.id, |route| {
            let partition = self.place(route, record, bound)?;
            let (log, _) = self.resolve(route, record, partition, bound)?;
            Ok((log, bound))
        })
    }

    #[inline]
    fn place(&self, route: &mut Route, record: &Record<'_>, bound: usize) -> Result<u32> {
        self.place_as_known(route, record, bound).or_else(|_| {
            // The error may concern a topic that no longer exists.
            route.forget(record.topic);
            self.place_as_known(route, record, bound)
        })
    }

    #[inline]
    fn place_as_known(&self, route: &mut Route, record: &Record<'_>, bound: usize) -> Result<u32> {
        let topic = route.topic(record.topic, |name| self.engine.registry.topic(name))?;
        self.place_in(topic, record, bound)
    }

    #[inline]
    fn place_in(&self, topic: &mut Known, record: &Record<'_>, bound: usize) -> Result<u32> {
        record.check(bound, topic.max_message_bytes)?;
        if topic.needs_key && record.data().key.is_none() {
            return Err(Error::NullKey { topic: record.topic.to_owned() });
        }
        if let Some(limits) = topic.timestamp_limits {
            record.check_timestamp(limits, self.engine.clock().now())?;
        }
        topic.partition(record, bound, self.engine.logs.batch_size, self.engine.random())
    }

    /// Returns the partition where `place` put the record. If the topic has been replaced since,
    /// places the record again: the new topic may have other partitions and limits.
    #[inline]
    fn resolve(
        &self,
        route: &mut Route,
        record: &Record<'_>,
        partition: u32,
        bound: usize,
    ) -> Result<(Arc<Log>, u32)> {
        if let Some(log) = route.log(partition) {
            return Ok((log, partition));
        }
        route.forget(record.topic);
        let partition = self.place_as_known(route, record, bound)?;
        let log = route.log(partition);
        let gone = || Error::UnknownTopic { topic: record.topic.to_owned() };
        log.map(|log| (log, partition)).ok_or_else(gone)
    }

    /// Appends one record after waiting for journal space. Slow path of `append_one`.
    #[cold]
    fn append_one_reserved(
        &self,
        log: &Log,
        bound: usize,
        record: &Record<'_>,
    ) -> Result<(Placed, Lsn, Afterwards)> {
        let bytes = frame_bound(bound, 1, self.engine.logs.batch_size);
        let mut credit = self.engine.reserve(bytes, self.config.max_block)?;
        append_one(&self.engine, log, Some(&mut credit), record)?
            .ok_or(Error::Misuse("a record is larger than the space reserved for it"))
    }

    /// Sends one record as a frame of its own. The slow path of [`Producer::send`].
    #[cold]
    fn send_frame(&self, log: Arc<Log>, bound: usize, record: &Record<'_>) -> Result<Delivery> {
        let sent = self.append(FrameRecords::of_one(log, bound, record))?;
        sent.into_first().ok_or(Error::Misuse("a record without a place"))
    }

    /// Appends records as one frame.
    fn append<R: FrameRecord>(&self, records: FrameRecords<R>) -> Result<Deliveries> {
        let frame = Frame { owner: self.owner.as_ref(), ..Frame::of_records(&records) };
        let Appended { placed, others, lsn } = self.append_frame(&frame)?;
        let mut logs = records.logs;
        logs.extend(others);
        Ok(Deliveries { logs, placed, acks: self.config.acks, lsn })
    }

    fn append_frame<R: FrameRecord>(&self, frame: &Frame<'_, R>) -> Result<Appended> {
        self.engine.append_frame(frame, self.config.acks, self.config.max_block)
    }

    /// Returns the size of an empty `send_all`.
    fn frame_size(&self) -> FrameSize {
        FrameSize::new(&self.engine, "bytes of one send_all", u64::MAX)
    }

    /// Takes the records of a `send_all`, each with an upper bound for its size in bytes.
    fn take<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<Vec<(usize, Record<'r>)>> {
        // The caller's iterator runs here, before anything is borrowed: it may use this producer
        // too. It may also be endless, so each record's size is checked at once.
        let mut size = self.frame_size();
        let records = records.into_iter();
        // A size hint may claim anything.
        let mut taken = Vec::with_capacity(records.size_hint().0.min(RECORDS_AT_FIRST));
        for record in records {
            let bound = record.bound();
            size.add(FrameContents::of_record(bound))?;
            taken.push((bound, record));
        }
        Ok(taken)
    }

    /// Chooses the partitions of many records, whose bounds are replaced by the indexes of their partitions.
    fn gather<'r>(&self, taken: Vec<(usize, Record<'r>)>) -> Result<FrameRecords<Record<'r>>> {
        let ids = taken.iter().filter(|(_, record)| record.id.is_some()).count();
        let mut gathered =
            FrameRecords { logs: Vec::new(), records: taken, sizes: Vec::new(), ids };
        let mut places: Vec<(&str, u32)> = Vec::new();
        let mut last = 0;
        with_route(self.id, |route| {
            for (at, record) in &mut gathered.records {
                let bound = *at;
                // Consecutive records often go to the same partition, and name the topic by the same
                // bytes in memory.
                let before = places.get(last).copied();
                let topic = match before {
                    Some((topic, _)) if std::ptr::eq(topic, record.topic) => route.first(),
                    _ => None,
                };
                let placed = topic.map(|topic| self.place_in(topic, record, bound));
                let partition = match placed {
                    Some(Ok(partition)) => partition,
                    _ => self.place(route, record, bound)?,
                };
                let is_same = before.is_some_and(|(topic, known)| {
                    known == partition
                        && (std::ptr::eq(topic, record.topic) || topic == record.topic)
                });
                if !is_same {
                    let place = (record.topic, partition);
                    let known = places.iter().position(|known| *known == place);
                    last = known.unwrap_or(places.len());
                    if known.is_none() {
                        let (log, partition) = self.resolve(route, record, partition, bound)?;
                        gathered.logs.push(log);
                        gathered.sizes.push(0);
                        places.push((record.topic, partition));
                    }
                }
                if let Some(size) = gathered.sizes.get_mut(last) {
                    *size = size.saturating_add(bound);
                }
                *at = last;
            }
            Ok(())
        })?;
        gathered.sort();
        Ok(gathered)
    }
}

/// The largest number of records for which `send_all` reserves memory before it has seen them.
const RECORDS_AT_FIRST: usize = 4096;

/// Stages, journals and publishes one record under its partition's append lock.
///
/// Without a credit, `None` means that there is no journal space now. Nothing has happened then.
#[inline]
fn append_one(
    engine: &Engine,
    log: &Log,
    credit: Option<&mut Credit<'_>>,
    record: &Record<'_>,
) -> Result<Option<(Placed, Lsn, Afterwards)>> {
    let now = match (record.timestamp, log.timestamp_type()) {
        // Read the clock only if its result is used.
        (Some(timestamp), TimestampType::CreateTime) => timestamp,
        _ => engine.clock().now(),
    };
    let mut guard = log.begin_append()?;
    let placed = guard.stage(&record.data(), now)?;
    let Some(section) = guard.single_section() else {
        return Err(Error::Poisoned { what: format!("partition {}", log.partition()) });
    };
    let lsn = match credit {
        Some(credit) => engine.journal.append(credit, &section)?,
        None => match engine.journal.try_append(&section)? {
            Some(lsn) => lsn,
            None => return Ok(None),
        },
    };
    Ok(Some((placed, lsn, guard.apply())))
}
