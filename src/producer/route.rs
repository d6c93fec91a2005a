//! Chooses the partition of a record.
//!
//! Each thread remembers its own state from one record to the next: the topic, to avoid a lookup,
//! and the sticky partition of records without key. So threads that share a producer do not contend
//! before they reach the same partition. The state keeps nothing alive: a topic that was deleted,
//! or whose broker is gone, is looked up again.

use std::cell::Cell;
use std::sync::{Arc, Weak};

use super::Record;
use crate::engine::Topic;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::record::partition_for_key;
use crate::time::Random;
use crate::types::TopicPartition;

thread_local! {
    static ROUTES: Cell<Vec<Route>> = const { Cell::new(Vec::new()) };
}

/// The maximum number of producers, and of topics of each, that a thread remembers.
const MAX_REMEMBERED: usize = 64;

/// Runs `with` on this thread's state for the producer `id`. Meanwhile the thread remembers
/// nothing.
#[inline]
pub(super) fn with_route<T>(id: u64, with: impl FnOnce(&mut Route) -> T) -> T {
    // Taken out and put back, because the result of a closure inside `LocalKey::with` is copied
    // several times. A thread that is ending has no place to remember it.
    let mut routes = ROUTES.try_with(Cell::take).unwrap_or_default();
    if routes.first().is_none_or(|first| first.producer != id) {
        bring_to_front(&mut routes, id);
    }
    let result = match routes.first_mut() {
        Some(route) => with(route),
        // `bring_to_front` leaves at least one.
        None => with(&mut Route::new(id)),
    };
    let _thread_ends = ROUTES.try_with(|kept| kept.set(routes));
    result
}

#[cold]
fn bring_to_front(routes: &mut Vec<Route>, id: u64) {
    let route = match routes.iter().position(|route| route.producer == id) {
        Some(at) => routes.remove(at),
        None => Route::new(id),
    };
    routes.truncate(MAX_REMEMBERED - 1);
    routes.insert(0, route);
}

/// A thread's state for one producer: its topics, that of the last record first.
#[derive(Debug)]
pub(super) struct Route {
    producer: u64,
    topics: Vec<Known>,
}

/// A topic to which records went.
#[derive(Debug)]
pub(super) struct Known {
    name: Arc<str>,
    /// The partitions, each with its revision at the time of the lookup.
    logs: Vec<(Weak<Log>, u32)>,
    pub(super) max_message_bytes: usize,
    /// See [`TopicConfig::timestamp_limits`](crate::TopicConfig).
    pub(super) timestamp_limits: Option<(u64, u64)>,
    /// Whether each record needs a key.
    pub(super) needs_key: bool,
    sticky: Option<u32>,
    /// The number of bytes that went to the sticky partition.
    bytes: usize,
}

impl Route {
    fn new(producer: u64) -> Self {
        Self { producer, topics: Vec::new() }
    }

    /// Returns the topic of this name.
    #[inline]
    pub(super) fn topic(
        &mut self,
        name: &str,
        find: impl FnOnce(&str) -> Result<Arc<Topic>>,
    ) -> Result<&mut Known> {
        if self.topics.first().is_none_or(|first| *first.name != *name) {
            self.look_up(name, find)?;
        }
        self.topics.first_mut().ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// Returns the topic that was requested last.
    #[inline]
    pub(super) fn first(&mut self) -> Option<&mut Known> {
        self.topics.first_mut()
    }

    /// Returns a partition of the topic that was requested last, if it still exists.
    #[inline]
    pub(super) fn log(&self, partition: u32) -> Option<Arc<Log>> {
        self.topics.first()?.log(partition)
    }

    /// Forgets the topic: it may have changed.
    #[cold]
    pub(super) fn forget(&mut self, name: &str) {
        self.topics.retain(|known| *known.name != *name);
    }

    fn look_up(&mut self, name: &str, find: impl FnOnce(&str) -> Result<Arc<Topic>>) -> Result<()> {
        let known = match self.topics.iter().position(|known| *known.name == *name) {
            Some(at) => self.topics.remove(at),
            None => Known::new(&*find(name)?),
        };
        self.topics.truncate(MAX_REMEMBERED - 1);
        self.topics.insert(0, known);
        Ok(())
    }
}

impl Known {
    fn new(topic: &Topic) -> Self {
        Self {
            name: Arc::clone(&topic.name),
            logs: topic.logs.iter().map(|log| (Arc::downgrade(log), log.revision())).collect(),
            max_message_bytes: topic.config.max_message_bytes as usize,
            timestamp_limits: topic.config.timestamp_limits(),
            needs_key: topic.config.cleanup_policy.compacts(),
            sticky: None,
            bytes: 0,
        }
    }

    /// Returns the partition for a record: the one it names, that of its key, or the sticky one.
    #[inline]
    pub(super) fn partition(
        &mut self,
        record: &Record<'_>,
        bytes: usize,
        batch_size: usize,
        random: &dyn Random,
    ) -> Result<u32> {
        let count = self.logs.len() as u32;
        match (record.partition, record.key) {
            (Some(partition), _) if partition >= count => Err(Error::UnknownPartition {
                partition: TopicPartition::new(Arc::clone(&self.name), partition),
                partitions: count,
            }),
            (Some(partition), _) => Ok(partition),
            (None, _) if count == 1 => Ok(0),
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => Ok(self.stick(bytes, batch_size, random)),
        }
    }

    #[inline]
    fn log(&self, partition: u32) -> Option<Arc<Log>> {
        let (log, revision) = self.logs.get(partition as usize)?;
        log.upgrade().filter(|log| log.is_at(*revision))
    }

    /// Returns the sticky partition (KIP-480 and KIP-794). Records without key stay in one
    /// partition for about a batch, then move to another one, chosen at random. Over many records
    /// the bytes even out.
    fn stick(&mut self, bytes: usize, batch_size: usize, random: &dyn Random) -> u32 {
        let partition = match self.sticky {
            Some(partition) if self.bytes < batch_size => partition,
            _ => {
                self.bytes = 0;
                random.next_u64().checked_rem(self.logs.len() as u64).unwrap_or(0) as u32
            }
        };
        self.sticky = Some(partition);
        self.bytes = self.bytes.saturating_add(bytes);
        partition
    }
}
