//! The catalogue of topics. It is pure, and only applying journaled changes modifies it.
//!
//! * **C1** Partition numbers are never reused, even after a deletion.
//! * **C2** No two topic names fold to the same name, so no two topics share a folder on any file system.
//! * **C3** A deleted topic stays in the list of deletions until its folders are removed for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::TopicConfig;
use crate::engine::codec::{Decoder, Encoder};
use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::types::{NameReason, PartitionNumber, TopicId, check_topic_name, fold};

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicImage {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) config: Arc<TopicConfig>,
    /// The numbers of its partitions, in order: one range from its creation, then one from each addition.
    /// Their counts add up to `config.partitions`.
    ranges: Vec<Numbers>,
}

impl TopicImage {
    /// Returns the numbers of the partitions, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = PartitionNumber> + '_ {
        self.ranges.iter().flat_map(|range| range.first..range.end()).map(PartitionNumber)
    }
}

/// A range of consecutive partition numbers. Its end fits a `u32`, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    first: u32,
    count: u32,
}

impl Numbers {
    fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }
}

/// A deleted topic whose folders may still exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deletion {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

/// A journaled change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CatalogueChange {
    Create(TopicImage),
    Delete(TopicId),
    /// Replaces the topic's configuration, but not its number of partitions.
    Alter(TopicId, Arc<TopicConfig>),
    AddPartitions(TopicId, Numbers),
}

/// All topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Catalogue {
    topics: BTreeMap<Arc<str>, TopicImage>,
    folded: BTreeSet<String>,
    next_number: u32,
    deletions: Vec<Deletion>,
}

impl Catalogue {
    /// Returns the topics, ordered by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicImage> {
        self.topics.values()
    }

    pub(crate) fn deletions(&self) -> &[Deletion] {
        &self.deletions
    }

    /// Decides whether a topic of this name can be created. Returns the change.
    pub(crate) fn decide_create(
        &self,
        name: &str,
        config: TopicConfig,
        id: TopicId,
    ) -> Result<CatalogueChange> {
        let invalid = |reason| Error::InvalidName { name: name.to_owned(), reason };
        check_topic_name(name).map_err(invalid)?;
        config.validate()?;
        if self.topics.contains_key(name) {
            return Err(Error::TopicExists { topic: name.to_owned() });
        }
        if self.folded.contains(&fold(name)) {
            return Err(invalid(NameReason::Collides));
        }
        let ranges = vec![self.next_numbers(config.partitions)?];
        let config = Arc::new(config);
        Ok(CatalogueChange::Create(TopicImage { name: name.into(), id, config, ranges }))
    }

    /// Decides whether `change` may modify the topic's configuration. Returns the change of the catalogue.
    pub(crate) fn decide_alter(
        &self,
        name: &str,
        change: impl FnOnce(TopicConfig) -> Result<TopicConfig>,
    ) -> Result<CatalogueChange> {
        let topic = self.topic(name)?;
        let config = change(TopicConfig::clone(&topic.config))?;
        config.validate()?;
        if config.partitions != topic.config.partitions {
            return Err(Error::Misuse("alter_topic cannot change partitions: use add_partitions"));
        }
        Ok(CatalogueChange::Alter(topic.id, Arc::new(config)))
    }

    /// Decides whether the topic can grow to `total` partitions. Returns the change.
    pub(crate) fn decide_add_partitions(&self, name: &str, total: u32) -> Result<CatalogueChange> {
        let topic = self.topic(name)?;
        TopicConfig::clone(&topic.config).partitions(total).validate()?;
        match total.checked_sub(topic.config.partitions) {
            None | Some(0) => Err(Error::InvalidConfig {
                key: "partitions",
                value: total.to_string(),
                expected: "more than the topic has: partitions cannot be removed",
            }),
            Some(more) => Ok(CatalogueChange::AddPartitions(topic.id, self.next_numbers(more)?)),
        }
    }

    /// Returns the topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Result<&TopicImage> {
        self.topics.get(name).ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// Returns `count` numbers that no partition ever had.
    fn next_numbers(&self, count: u32) -> Result<Numbers> {
        if self.next_number.checked_add(count).is_none() {
            let max = u64::from(u32::MAX);
            return Err(Error::LimitExceeded {
                what: "partitions created over the life of the folder",
                found: max + 1,
                max,
            });
        }
        Ok(Numbers { first: self.next_number, count })
    }

    /// Decides whether the topic can be deleted. Returns the change.
    pub(crate) fn decide_delete(&self, name: &str) -> Result<CatalogueChange> {
        Ok(CatalogueChange::Delete(self.topic(name)?.id))
    }

    /// Applies a change. Returns the topic that it created, changed or removed.
    ///
    /// Changes come from `decide_*`, or from a journal or checkpoint. There, a change that does not fit is
    /// damage.
    pub(crate) fn apply(&mut self, change: &CatalogueChange) -> Result<TopicImage, CorruptReason> {
        match change {
            CatalogueChange::Create(topic) => {
                let [numbers] = topic.ranges.as_slice() else { return Err(CorruptReason::Count) };
                let end = self.check_next(*numbers)?;
                if !self.folded.insert(fold(&topic.name)) {
                    return Err(CorruptReason::Field);
                }
                self.next_number = end;
                self.topics.insert(Arc::clone(&topic.name), topic.clone());
                Ok(topic.clone())
            }
            CatalogueChange::Alter(id, config) => {
                let topic = self.by_id(*id)?;
                if topic.config.partitions != config.partitions {
                    return Err(CorruptReason::Count);
                }
                topic.config = Arc::clone(config);
                Ok(topic.clone())
            }
            CatalogueChange::AddPartitions(id, numbers) => {
                let end = self.check_next(*numbers)?;
                let topic = self.by_id(*id)?;
                let total = topic.config.partitions.checked_add(numbers.count);
                let total = total.filter(|&total| numbers.count > 0 && total <= MAX_PARTITIONS);
                Arc::make_mut(&mut topic.config).partitions = total.ok_or(CorruptReason::Count)?;
                topic.ranges.push(*numbers);
                let topic = topic.clone();
                self.next_number = end;
                Ok(topic)
            }
            CatalogueChange::Delete(id) => {
                let topic = self.by_id(*id)?.clone();
                self.topics.remove(&topic.name);
                self.folded.remove(&fold(&topic.name));
                self.deletions.push(Deletion {
                    name: Arc::clone(&topic.name),
                    id: topic.id,
                    partitions: topic.config.partitions,
                });
                Ok(topic)
            }
        }
    }

    fn by_id(&mut self, id: TopicId) -> Result<&mut TopicImage, CorruptReason> {
        self.topics.values_mut().find(|topic| topic.id == id).ok_or(CorruptReason::Field)
    }

    /// Checks that numbers are new (C1). Returns their end.
    fn check_next(&self, numbers: Numbers) -> Result<u32, CorruptReason> {
        let end = numbers.first.checked_add(numbers.count);
        end.filter(|_| numbers.first >= self.next_number).ok_or(CorruptReason::Field)
    }

    /// Forgets a deletion, after the topic's folders are removed for good.
    pub(crate) fn deletion_done(&mut self, id: TopicId) {
        self.deletions.retain(|deletion| deletion.id != id);
    }
}

impl CatalogueChange {
    /// Returns the body of the journal section.
    ///
    /// # Errors
    /// `LimitExceeded` if the body is larger than [`MAX_CHANGE_BYTES`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Encoder::default();
        match self {
            Self::Create(topic) => {
                out.u8(1);
                encode_topic(&mut out, topic);
            }
            Self::Delete(id) => {
                out.u8(2);
                out.bytes(&id.to_bytes());
            }
            Self::Alter(id, config) => {
                out.u8(3);
                out.bytes(&id.to_bytes());
                encode_config(&mut out, config);
            }
            Self::AddPartitions(id, numbers) => {
                out.u8(4);
                out.bytes(&id.to_bytes());
                out.u32(numbers.first);
                out.u32(numbers.count);
            }
        }
        if out.out.len() > MAX_CHANGE_BYTES {
            return Err(Error::LimitExceeded {
                what: "bytes of a topic's name and settings",
                found: out.out.len() as u64,
                max: MAX_CHANGE_BYTES as u64,
            });
        }
        Ok(out.out)
    }

    /// Reads what [`CatalogueChange::encode`] wrote.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let mut input = Decoder::new(body);
        let change = match input.u8()? {
            1 => Self::Create(decode_topic(&mut input)?),
            2 => Self::Delete(TopicId::from_bytes(input.array()?)),
            3 => {
                let id = TopicId::from_bytes(input.array()?);
                Self::Alter(id, Arc::new(decode_config(&mut input)?))
            }
            4 => {
                let id = TopicId::from_bytes(input.array()?);
                Self::AddPartitions(id, Numbers { first: input.u32()?, count: input.u32()? })
            }
            0 => return Err(CorruptReason::Field.into()),
            kind => return Err(Unreadable::unsupported("catalogue change kind", kind, 4_u32)),
        };
        input.finish()?;
        Ok(change)
    }
}

impl Catalogue {
    /// Writes the catalogue into a checkpoint.
    ///
    /// ```text
    /// size type
    ///    4 u32  the next partition number
    ///    4 u32  number of topics, then of each, by name: name, id (16), number of ranges (u32) of partition
    ///           numbers and of each the first and how many (u32, u32), partitions (u32), number of settings
    ///           (u32), then key and value of each; a newer setting is left out where it has its default
    ///    4 u32  number of deletions, then of each: name, id (16), partitions (u32)
    /// ```
    ///
    /// A text is its length (u32), then its bytes in UTF-8.
    pub(super) fn encode(&self, out: &mut Encoder) {
        out.u32(self.next_number);
        out.count(self.topics.len());
        for topic in self.topics.values() {
            encode_topic(out, topic);
        }
        out.count(self.deletions.len());
        for deletion in &self.deletions {
            out.text(&deletion.name);
            out.bytes(&deletion.id.to_bytes());
            out.u32(deletion.partitions);
        }
    }

    /// Reads and validates what [`Catalogue::encode`] wrote. Version 2 has more data behind each topic, for
    /// each of its partitions: `partition` reads it.
    pub(super) fn decode(
        input: &mut Decoder<'_>,
        mut partition: impl FnMut(&mut Decoder<'_>, PartitionNumber) -> Result<(), CorruptReason>,
    ) -> Result<Self, Unreadable> {
        let next_number = input.u32()?;
        let mut numbers = BTreeSet::new();
        let mut catalogue = Self { next_number, ..Self::default() };
        for _ in 0..input.count(20)? {
            let topic = decode_topic(input)?;
            let given = |range: &Numbers| {
                range.first.checked_add(range.count).is_some_and(|end| end <= next_number)
            };
            if !topic.ranges.iter().all(given) || !catalogue.folded.insert(fold(&topic.name)) {
                return Err(CorruptReason::Field.into());
            }
            for number in topic.numbers() {
                if !numbers.insert(number) {
                    return Err(CorruptReason::Field.into());
                }
                partition(input, number)?;
            }
            catalogue.topics.insert(Arc::clone(&topic.name), topic);
        }
        for _ in 0..input.count(24)? {
            let name = decode_name(input)?;
            let id = TopicId::from_bytes(input.array()?);
            let partitions = input.u32()?;
            if partitions > MAX_PARTITIONS {
                return Err(CorruptReason::Count.into());
            }
            catalogue.deletions.push(Deletion { name, id, partitions });
        }
        Ok(catalogue)
    }
}

fn encode_topic(out: &mut Encoder, topic: &TopicImage) {
    out.text(&topic.name);
    out.bytes(&topic.id.to_bytes());
    out.count(topic.ranges.len());
    for range in &topic.ranges {
        out.u32(range.first);
        out.u32(range.count);
    }
    encode_config(out, &topic.config);
}

fn encode_config(out: &mut Encoder, config: &TopicConfig) {
    out.u32(config.partitions);
    let defaults = TopicConfig::new().entries();
    let is_written = |(at, entry): &(usize, (&str, String))| {
        *at < ALWAYS_WRITTEN || defaults.get(*at) != Some(entry)
    };
    let entries: Vec<_> = config.entries().into_iter().enumerate().filter(is_written).collect();
    out.count(entries.len());
    for (_, (key, value)) in entries {
        out.text(key);
        out.text(&value);
    }
}

fn decode_topic(input: &mut Decoder<'_>) -> Result<TopicImage, Unreadable> {
    let name = decode_name(input)?;
    let id = TopicId::from_bytes(input.array()?);
    let mut ranges = Vec::new();
    for _ in 0..input.count(8)? {
        ranges.push(Numbers { first: input.u32()?, count: input.u32()? });
    }
    let config = Arc::new(decode_config(input)?);
    let total = ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
    if total != u64::from(config.partitions) {
        return Err(CorruptReason::Count.into());
    }
    Ok(TopicImage { name, id, config, ranges })
}

fn decode_config(input: &mut Decoder<'_>) -> Result<TopicConfig, Unreadable> {
    let mut config = TopicConfig::new().partitions(input.u32()?);
    let count = input.count(8)?;
    for number in 1..=count {
        let (key, value) = (input.text()?, input.text()?);
        config = config.set(key, value).map_err(|_| unknown_setting(key, number))?;
    }
    // A codec that this build leaves out is not damage. Sealing then leaves batches uncompressed.
    match config.validate() {
        Ok(()) | Err(Error::UnsupportedCodec { .. }) => {}
        Err(_) => return Err(CorruptReason::Field.into()),
    }
    Ok(config)
}

/// Returns why a setting is rejected: only a newer version has a setting of this name, or the value is
/// damaged.
fn unknown_setting(key: &str, number: usize) -> Unreadable {
    let known = TopicConfig::new().entries();
    // The number of partitions precedes the settings and is not one of them.
    if known.iter().any(|(known, _)| *known == key) || key == "partitions" {
        return CorruptReason::Field.into();
    }
    let what = format!("topic setting {key:?}, number");
    Unreadable::unsupported(what, number as u32, known.len() as u32)
}

fn decode_name(input: &mut Decoder<'_>) -> Result<Arc<str>, CorruptReason> {
    let name = input.text()?;
    check_topic_name(name).map_err(|_| CorruptReason::Field)?;
    Ok(name.into())
}

/// The largest change, in bytes. The engine reserves that much journal space before it decides on a change.
/// Name and settings of a topic take some hundred bytes.
pub(crate) const MAX_CHANGE_BYTES: usize = 4088;

/// The number of settings that are always written. The others are left out where they have their default, so that
/// a build that does not know them can open the folder.
const ALWAYS_WRITTEN: usize = 6;

/// The limit of [`TopicConfig::partitions`].
const MAX_PARTITIONS: u32 = 100_000;

#[cfg(test)]
mod tests;
