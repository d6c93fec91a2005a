//! The topics and partitions in memory, by name and by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::config::TopicConfig;
use crate::engine::catalogue::{Catalogue, TopicImage};
use crate::error::{Error, Result};
use crate::group::{TopicInfo, Topics};
use crate::log::{Log, LogIdentity, LogImage, LogShared};
use crate::types::{PartitionNumber, TopicId, TopicPartition};

/// A topic with its partitions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) config: Arc<TopicConfig>,
    pub(crate) logs: Vec<Arc<Log>>,
}

impl Topic {
    /// Creates a topic with the partitions that `image` knows; the others are empty.
    pub(crate) fn new<'a>(
        topic: &TopicImage,
        shared: &Arc<LogShared>,
        image: impl Fn(PartitionNumber) -> Option<&'a LogImage>,
    ) -> Self {
        let log = |(partition, number): (usize, PartitionNumber)| {
            let (identity, shared) = (identity(topic, partition, number), Arc::clone(shared));
            Arc::new(match image(number) {
                Some(image) => Log::restore(identity, shared, image),
                None => Log::new(identity, shared),
            })
        };
        Self::of(topic, topic.numbers().enumerate().map(log).collect())
    }

    /// Returns the topic after a change: the existing partitions, and new ones.
    fn altered(&self, topic: &TopicImage, shared: &Arc<LogShared>) -> Self {
        let log = |(partition, number): (usize, PartitionNumber)| match self.logs.get(partition) {
            Some(log) => Arc::clone(log),
            None => Arc::new(Log::new(identity(topic, partition, number), Arc::clone(shared))),
        };
        Self::of(topic, topic.numbers().enumerate().map(log).collect())
    }

    fn of(topic: &TopicImage, logs: Vec<Arc<Log>>) -> Self {
        Self {
            name: Arc::clone(&topic.name),
            id: topic.id,
            config: Arc::clone(&topic.config),
            logs,
        }
    }

    /// Lets the first append to each partition check its files.
    pub(super) fn settle_later(&self) {
        let stored = self.logs.iter().filter(|log| log.segment_count() > 0);
        stored.for_each(|log| log.settle_later());
    }

    /// Returns one of its partitions.
    pub(crate) fn log(&self, partition: u32) -> Result<&Arc<Log>> {
        self.logs.get(partition as usize).ok_or_else(|| Error::UnknownPartition {
            partition: TopicPartition::new(Arc::clone(&self.name), partition),
            partitions: self.logs.len() as u32,
        })
    }
}

fn identity(topic: &TopicImage, partition: usize, number: PartitionNumber) -> LogIdentity {
    LogIdentity {
        number,
        partition: TopicPartition::new(Arc::clone(&topic.name), partition as u32),
        topic_id: topic.id,
        config: Arc::clone(&topic.config),
    }
}

/// All topics. Reads are short and frequent, and writes are rare.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    topics: HashMap<Arc<str>, Arc<Topic>>,
    logs: HashMap<u32, Arc<Log>>,
}

impl Registry {
    /// Creates a registry of the topics of a catalogue, with the partitions that `image` knows.
    pub(crate) fn load<'a>(
        catalogue: &Catalogue,
        shared: &Arc<LogShared>,
        image: impl Fn(PartitionNumber) -> Option<&'a LogImage>,
    ) -> Self {
        let registry = Self::default();
        for topic in catalogue.topics() {
            registry.insert(Arc::new(Topic::new(topic, shared, &image)));
        }
        registry
    }

    pub(crate) fn insert(&self, topic: Arc<Topic>) {
        let mut maps = self.maps.write();
        for log in &topic.logs {
            maps.logs.insert(log.number().0, Arc::clone(log));
        }
        maps.topics.insert(Arc::clone(&topic.name), topic);
    }

    /// Replaces a topic by its changed version.
    pub(crate) fn alter(&self, topic: &TopicImage, shared: &Arc<LogShared>) -> Result<()> {
        let altered = Arc::new(self.topic(&topic.name)?.altered(topic, shared));
        self.insert(Arc::clone(&altered));
        // Last: producers that cached partitions by revision look them up again after this.
        altered.logs.iter().for_each(|log| log.alter(&topic.config));
        Ok(())
    }

    /// Returns a registry of the same topics, with `changed` partitions in place of those with their numbers.
    pub(super) fn with_logs(&self, changed: &BTreeMap<u32, Arc<Log>>) -> Self {
        let maps = self.maps.read();
        let next = Self {
            maps: RwLock::new(Maps { topics: maps.topics.clone(), logs: maps.logs.clone() }),
        };
        let names: BTreeSet<&str> = changed.values().map(|log| log.partition().topic()).collect();
        for topic in names.iter().filter_map(|name| maps.topics.get(*name)) {
            let now = |log: &Arc<Log>| Arc::clone(changed.get(&log.number().0).unwrap_or(log));
            next.insert(Arc::new(Topic {
                name: Arc::clone(&topic.name),
                id: topic.id,
                config: Arc::clone(&topic.config),
                logs: topic.logs.iter().map(now).collect(),
            }));
        }
        next
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let mut maps = self.maps.write();
        let topic = maps.topics.remove(name)?;
        for log in &topic.logs {
            maps.logs.remove(&log.number().0);
        }
        Some(topic)
    }

    /// Returns the topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let found = self.maps.read().topics.get(name).cloned();
        found.ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// Returns a partition by its topic's name and its number in the topic.
    pub(crate) fn log(&self, partition: &TopicPartition) -> Result<Arc<Log>> {
        self.topic(partition.topic())?.log(partition.partition()).cloned()
    }

    /// Returns a partition by its number in the engine.
    pub(crate) fn by_number(&self, number: PartitionNumber) -> Option<Arc<Log>> {
        self.maps.read().logs.get(&number.0).cloned()
    }

    /// Returns all topics, ordered by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.maps.read().topics.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }
}

impl Topics for Registry {
    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let maps = self.maps.read();
        let topic = maps.topics.get(name)?;
        Some(TopicInfo { id: topic.id, partitions: topic.logs.len() as u32 })
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.maps.read().topics.keys().cloned().collect()
    }
}
