//! Sending records.
//!
//! Imported by `broker` and `internal`.

mod completion;
mod delivery;
mod record;
mod route;
mod typed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use delivery::{Deliveries, Delivery, RecordMetadata};
pub use record::Record;
pub use typed::{TypedProducer, TypedRecord};

use crate::config::{Acks, ProducerConfig};
use crate::engine::{Engine, EngineHandle};
use crate::error::{Error, Result};
use crate::journal::{Credit, Outside};
use crate::log::{Afterwards, AppendGuard, Log, Placed, STORED_SECTION_BOUND, frame_bound};
use crate::types::{Lsn, TimestampType, planted};
use completion::Completion;
use route::{Known, Route, with_route};

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
    /// Identifies the producer in the state that each thread remembers.
    id: u64,
    completion: Completion,
}

impl Producer {
    pub(crate) fn new(engine: EngineHandle, config: ProducerConfig) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let completion = Completion::default();
        Self { inner: Arc::new(Inner { engine, config, id, completion }) }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `RecordTooLarge`, `LimitExceeded`, `Timeout` (no journal
    /// space within `max.block.ms`), `DiskFull`, `DiskBudget`, `Failed` or `Closed`. `Io`, at once, if the engine
    /// cannot make journal space, as in a removed folder or on a read-only file system. The record
    /// was not appended in any of these cases.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a record is made for one send")]
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        match self.inner.send_once(&record) {
            Err(failure @ Error::DiskBudget { .. }) => self.inner.send_in_room(&record, failure),
            sent => sent,
        }
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
        let engine = &*inner.engine;
        let gathered = inner.gather(records)?;
        if gathered.records.is_empty() {
            return Ok(Deliveries::default());
        }
        let (placed, lsn) = match inner.append_gathered(&gathered) {
            Err(failure @ Error::DiskBudget { .. }) => inner.append_in_room(&gathered, failure)?,
            done => done?,
        };
        let acks = inner.config.acks;
        if acks == Acks::Synced {
            engine.journal.request_sync(lsn);
        }
        Ok(Deliveries { logs: gathered.logs, placed, acks, lsn })
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
        let engine = &*self.inner.engine;
        engine.check_open()?;
        let synced = match self.inner.config.acks {
            Acks::Synced => engine.wait_synced(engine.journal.end()),
            Acks::Written => Ok(()),
        };
        self.inner.completion.wait();
        synced
    }
}

/// The records of a `send_all`, each with its partition.
struct Gathered<'r> {
    /// The partitions, each once, ordered by number: the order in which they are locked.
    logs: Vec<Arc<Log>>,
    /// Each record with the index of its partition in `logs`.
    records: Vec<(usize, Record<'r>)>,
    /// For each partition an upper bound for the size of its encoded records in bytes.
    sizes: Vec<usize>,
}

impl Inner {
    /// Appends one record. Does nothing if the disk budget has no room for it.
    #[inline]
    fn send_once(&self, record: &Record<'_>) -> Result<Delivery> {
        let engine = &*self.engine;
        let (log, bound) = self.choose(record)?;
        engine.check_appends()?;
        if engine.stores(bound, self.config.acks) {
            return self.send_large(log, bound, record);
        }
        let (placed, lsn, afterwards) = match append_one(engine, &log, None, record)? {
            Some(done) => done,
            None => self.append_one_reserved(&log, bound, record)?,
        };
        engine.after_append(&log, afterwards);
        let acks = self.config.acks;
        if acks == Acks::Synced {
            engine.journal.request_sync(lsn);
        }
        Ok(Delivery { metadata: RecordMetadata { log, placed }, acks, lsn })
    }

    /// Appends one record that found no room in the disk budget, as the policy of its topic says.
    #[cold]
    fn send_in_room(&self, record: &Record<'_>, mut failure: Error) -> Result<Delivery> {
        let mut patience = self.engine.patience(self.config.max_block);
        loop {
            let (log, _) = self.choose(record)?;
            self.engine.make_room(&[log], failure, &mut patience)?;
            failure = match self.send_once(record) {
                Err(failure) => failure,
                sent => return sent,
            };
        }
    }

    /// As `append_gathered`, after that has found no room in the disk budget.
    #[cold]
    fn append_in_room(
        &self,
        gathered: &Gathered<'_>,
        mut failure: Error,
    ) -> Result<(Vec<(usize, Placed)>, Lsn)> {
        let mut patience = self.engine.patience(self.config.max_block);
        loop {
            self.engine.make_room(&gathered.logs, failure, &mut patience)?;
            failure = match self.append_gathered(gathered) {
                Err(failure) => failure,
                done => return done,
            };
        }
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

    /// Sends one large record. The slow path of [`Producer::send`].
    #[cold]
    fn send_large(&self, log: Arc<Log>, bound: usize, record: &Record<'_>) -> Result<Delivery> {
        let records = vec![(0, record.clone())];
        let gathered = Gathered { logs: vec![log], records, sizes: vec![bound] };
        let (placed, lsn) = self.append_gathered(&gathered)?;
        let (Some((_, placed)), Some(log)) = (placed.first(), gathered.logs.into_iter().next())
        else {
            return Err(Error::Misuse("a record without a place"));
        };
        let metadata = RecordMetadata { log, placed: *placed };
        Ok(Delivery { metadata, acks: self.config.acks, lsn })
    }

    /// Appends the records as one frame. Large appends go to the segments if possible, else to the journal.
    fn append_gathered(&self, gathered: &Gathered<'_>) -> Result<(Vec<(usize, Placed)>, Lsn)> {
        let engine = &*self.engine;
        let acks = self.config.acks;
        let large: Vec<bool> = gathered
            .logs
            .iter()
            .zip(&gathered.sizes)
            .map(|(log, bytes)| engine.stores(*bytes, acks) && log.takes_stored_appends())
            .collect();
        let none = vec![false; large.len()];
        let mut done = None;
        if large.contains(&true) {
            let mut credit =
                engine.reserve(gathered.frame_bound(engine, &large), self.config.max_block)?;
            done = append_all(engine, gathered, &large, &mut credit)?;
        }
        if done.is_none() {
            let bytes = gathered.frame_bound(engine, &none);
            let mut credit = engine.reserve(bytes, self.config.max_block)?;
            done = append_all(engine, gathered, &none, &mut credit)?;
        }
        let (placed, lsn, afterwards) =
            done.ok_or(Error::Misuse("an append to the journal that has no place"))?;
        for (log, afterwards) in gathered.logs.iter().zip(afterwards) {
            engine.after_append(log, afterwards);
        }
        Ok((placed, lsn))
    }

    /// Chooses the partitions of many records.
    fn gather<'r>(&self, records: impl IntoIterator<Item = Record<'r>>) -> Result<Gathered<'r>> {
        // The caller's iterator runs here, before anything is borrowed: it may use this producer
        // too. It may also be endless, so each record's size is checked at once.
        let mut size = FrameSize::new(&self.engine);
        let records = records.into_iter();
        // A size hint may claim anything.
        let mut taken = Vec::with_capacity(records.size_hint().0.min(RECORDS_AT_FIRST));
        for record in records {
            let bound = record.data().bound();
            size.add(bound)?;
            // The index of the partition replaces the bound below.
            taken.push((bound, record));
        }
        let mut gathered = Gathered { logs: Vec::new(), records: taken, sizes: Vec::new() };
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

/// The size of the frame for which records are gathered, as a bound.
struct FrameSize {
    batch_size: usize,
    records_bytes: usize,
    max: u64,
}

impl FrameSize {
    fn new(engine: &Engine) -> Self {
        let max = engine.config.journal_max_bytes / 4;
        Self { batch_size: engine.logs.batch_size, records_bytes: 0, max }
    }

    /// Adds a record of at most `bound` bytes. Fails if one frame cannot hold it together with the
    /// earlier ones.
    fn add(&mut self, bound: usize) -> Result<()> {
        self.records_bytes = self.records_bytes.saturating_add(bound);
        // Frame headers take far less than the records, so the exact bound matters only near the limit.
        if self.records_bytes as u64 <= self.max / 2 {
            return Ok(());
        }
        let found = frame_bound(self.records_bytes, 1, self.batch_size) as u64;
        if found > self.max {
            return Err(Error::LimitExceeded {
                what: "bytes of one send_all",
                found,
                max: self.max,
            });
        }
        Ok(())
    }
}

impl Gathered<'_> {
    /// Returns an upper bound for the payload of the frame, if the `large` ones of the appends are stored.
    fn frame_bound(&self, engine: &Engine, large: &[bool]) -> usize {
        let small = self.sizes.iter().zip(large).filter(|(_, large)| !**large);
        let (count, bytes) = small.fold((0_usize, 0_usize), |(count, bytes), (size, _)| {
            (count.saturating_add(1), bytes.saturating_add(*size))
        });
        let stored = large.len().saturating_sub(count).saturating_mul(STORED_SECTION_BOUND);
        frame_bound(bytes, count, engine.logs.batch_size).saturating_add(stored)
    }

    /// Sorts the partitions into the order in which they are locked.
    fn sort(&mut self) {
        if self.logs.is_sorted_by_key(|log| log.number()) {
            return;
        }
        let mut order: Vec<usize> = (0..self.logs.len()).collect();
        order.sort_unstable_by_key(|&at| self.logs.get(at).map(|log| log.number()));
        let mut moved = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            if let Some(slot) = moved.get_mut(from) {
                *slot = to;
            }
        }
        self.logs.sort_unstable_by_key(|log| log.number());
        self.sizes = order.iter().filter_map(|&from| self.sizes.get(from).copied()).collect();
        for (at, _) in &mut self.records {
            *at = moved.get(*at).copied().unwrap_or(*at);
        }
    }
}

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

/// Stages records of several partitions and journals them as one frame. Takes write-out locks, then append
/// locks, each in the order of the partition numbers.
///
/// The `large` appends go to the segments first. Returns `None` if a segment cannot take records now. Nothing has
/// happened then.
#[expect(clippy::type_complexity, reason = "taken apart at once by the only caller")]
fn append_all(
    engine: &Engine,
    gathered: &Gathered<'_>,
    large: &[bool],
    credit: &mut Credit<'_>,
) -> Result<Option<(Vec<(usize, Placed)>, Lsn, Vec<Afterwards>)>> {
    // Before the first lock is taken, because it may read files.
    gathered.logs.iter().try_for_each(|log| log.settle())?;
    let now = engine.clock().now();
    let Some(mut guards) = begin_all(gathered, large)? else { return Ok(None) };
    let mut placed = Vec::with_capacity(gathered.records.len());
    for (at, record) in &gathered.records {
        let Some(guard) = guards.get_mut(*at) else { continue };
        let staged = guard.stage(&record.data(), now);
        placed.push((*at, staged.map_err(|error| for_all(error, &guards))?));
    }
    if !guards.iter_mut().all(AppendGuard::store) {
        return Ok(None);
    }
    let outside: Vec<Outside> = guards.iter().filter_map(AppendGuard::outside).cloned().collect();
    let lsn = {
        let mut parts = Vec::new();
        for guard in &mut guards {
            guard.sections(&mut parts);
        }
        engine.journal.append_relying_on(credit, &parts, &outside)?
    };
    Ok(Some((placed, lsn, guards.into_iter().map(AppendGuard::apply).collect())))
}

/// Returns the error of the whole append. What its first records were charged is given back with it, and they will
/// need it again. Without them, there would seem to be room.
fn for_all(error: Error, guards: &[AppendGuard<'_>]) -> Error {
    match error {
        Error::DiskBudget { budget, taken, needed } if !planted("budget_forgets_staged") => {
            let staged = guards.iter().map(AppendGuard::charged).fold(0, u64::saturating_add);
            let (taken, needed) = (taken.saturating_sub(staged), needed.saturating_add(staged));
            Error::DiskBudget { budget, taken, needed }
        }
        error => error,
    }
}

/// Takes the locks for an append to several partitions.
fn begin_all<'a>(
    gathered: &'a Gathered<'_>,
    large: &[bool],
) -> Result<Option<Vec<AppendGuard<'a>>>> {
    let mut prepared = Vec::with_capacity(large.len());
    for (log, large) in gathered.logs.iter().zip(large) {
        let append = if *large { log.prepare_stored_append()? } else { None };
        if *large && append.is_none() {
            return Ok(None);
        }
        prepared.push(append);
    }
    let mut guards = Vec::with_capacity(large.len());
    for (log, prepared) in gathered.logs.iter().zip(prepared) {
        let guard = match prepared {
            None => Some(log.begin_append()?),
            Some(prepared) => prepared.begin()?,
        };
        let Some(guard) = guard else { return Ok(None) };
        guards.push(guard);
    }
    Ok(Some(guards))
}
