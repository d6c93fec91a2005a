//! The catalogue: which topics there are. Pure; changed only by applying journaled changes.
//!
//! * **C1** Partition numbers are given once and never again, also after a deletion.
//! * **C2** No two topics' names fold alike, so that no two share a folder anywhere.
//! * **C3** A deleted topic stays listed among the deletions until its folders are gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::codec::{Decoder, Encoder};
use crate::config::TopicConfig;
use crate::error::{CorruptReason, Error, Result};
use crate::types::{NameReason, PartitionNumber, TopicId, check_topic_name, fold};

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicImage {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) config: Arc<TopicConfig>,
    /// The first partition's number; the others follow it.
    pub(crate) first_number: u32,
}

impl TopicImage {
    /// The numbers of the partitions, in order.
    pub(crate) fn numbers(&self) -> impl ExactSizeIterator<Item = PartitionNumber> + use<> {
        (self.first_number..self.first_number + self.config.partitions).map(PartitionNumber)
    }
}

/// A deleted topic whose folders may still be there.
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
    /// The topics by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicImage> {
        self.topics.values()
    }

    pub(crate) fn deletions(&self) -> &[Deletion] {
        &self.deletions
    }

    /// Whether a topic of this name can be created, and how.
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
        if self.next_number.checked_add(config.partitions).is_none() {
            let max = u64::from(u32::MAX);
            return Err(Error::LimitExceeded { what: "partition number", found: max + 1, max });
        }
        Ok(CatalogueChange::Create(TopicImage {
            name: name.into(),
            id,
            config: Arc::new(config),
            first_number: self.next_number,
        }))
    }

    /// Whether the topic can be deleted, and how.
    pub(crate) fn decide_delete(&self, name: &str) -> Result<CatalogueChange> {
        match self.topics.get(name) {
            Some(topic) => Ok(CatalogueChange::Delete(topic.id)),
            None => Err(Error::UnknownTopic { topic: name.to_owned() }),
        }
    }

    /// Applies a change; the topic that it created or removed. Changes come from `decide_*`, or from
    /// a journal or checkpoint, where one that does not fit is damage.
    pub(crate) fn apply(&mut self, change: &CatalogueChange) -> Result<TopicImage, CorruptReason> {
        match change {
            CatalogueChange::Create(topic) => {
                let end = topic.first_number.checked_add(topic.config.partitions);
                let end = end.ok_or(CorruptReason::Field)?;
                let folded = fold(&topic.name);
                if topic.first_number < self.next_number || !self.folded.insert(folded) {
                    return Err(CorruptReason::Field);
                }
                self.next_number = end;
                self.topics.insert(Arc::clone(&topic.name), topic.clone());
                Ok(topic.clone())
            }
            CatalogueChange::Delete(id) => {
                let found = self.topics.values().find(|topic| topic.id == *id).cloned();
                let topic = found.ok_or(CorruptReason::Field)?;
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

    /// The folders of a deleted topic are gone for good.
    pub(crate) fn deletion_done(&mut self, id: TopicId) {
        self.deletions.retain(|deletion| deletion.id != id);
    }
}

impl CatalogueChange {
    /// The body of the journal section.
    pub(crate) fn encode(&self) -> Vec<u8> {
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
        }
        out.out
    }

    /// The inverse of [`CatalogueChange::encode`].
    pub(crate) fn decode(body: &[u8]) -> Result<Self, CorruptReason> {
        let mut input = Decoder::new(body);
        let change = match input.u8()? {
            1 => Self::Create(decode_topic(&mut input)?),
            2 => Self::Delete(TopicId::from_bytes(input.array()?)),
            _ => return Err(CorruptReason::Field),
        };
        input.finish()?;
        Ok(change)
    }
}

impl Catalogue {
    /// Writes the catalogue into a checkpoint, `partition` after each topic's partitions in turn.
    pub(super) fn encode(
        &self,
        out: &mut Encoder,
        mut partition: impl FnMut(&mut Encoder, PartitionNumber),
    ) {
        out.u32(self.next_number);
        out.count(self.topics.len());
        for topic in self.topics.values() {
            encode_topic(out, topic);
            for number in topic.numbers() {
                partition(out, number);
            }
        }
        out.count(self.deletions.len());
        for deletion in &self.deletions {
            out.text(&deletion.name);
            out.bytes(&deletion.id.to_bytes());
            out.u32(deletion.partitions);
        }
    }

    /// The inverse of [`Catalogue::encode`], validated.
    pub(super) fn decode(
        input: &mut Decoder<'_>,
        mut partition: impl FnMut(&mut Decoder<'_>, PartitionNumber) -> Result<(), CorruptReason>,
    ) -> Result<Self, CorruptReason> {
        let next_number = input.u32()?;
        let mut numbers = BTreeSet::new();
        let mut catalogue = Self { next_number, ..Self::default() };
        for _ in 0..input.count(20)? {
            let topic = decode_topic(input)?;
            let end = topic.first_number.checked_add(topic.config.partitions);
            if end.is_none_or(|end| end > next_number)
                || !catalogue.folded.insert(fold(&topic.name))
            {
                return Err(CorruptReason::Field);
            }
            for number in topic.numbers() {
                if !numbers.insert(number) {
                    return Err(CorruptReason::Field);
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
                return Err(CorruptReason::Count);
            }
            catalogue.deletions.push(Deletion { name, id, partitions });
        }
        Ok(catalogue)
    }
}

fn encode_topic(out: &mut Encoder, topic: &TopicImage) {
    out.text(&topic.name);
    out.bytes(&topic.id.to_bytes());
    out.u32(topic.first_number);
    out.u32(topic.config.partitions);
    let entries = topic.config.entries();
    out.count(entries.len());
    for (key, value) in entries {
        out.text(key);
        out.text(&value);
    }
}

fn decode_topic(input: &mut Decoder<'_>) -> Result<TopicImage, CorruptReason> {
    let name = decode_name(input)?;
    let id = TopicId::from_bytes(input.array()?);
    let first_number = input.u32()?;
    let mut config = TopicConfig::new().partitions(input.u32()?);
    for _ in 0..input.count(8)? {
        let (key, value) = (input.text()?, input.text()?);
        config = config.set(key, value).map_err(|_| CorruptReason::Field)?;
    }
    // A codec that this build leaves out is no damage: sealing then leaves batches uncompressed.
    match config.validate() {
        Ok(()) | Err(Error::UnsupportedCodec { .. }) => {}
        Err(_) => return Err(CorruptReason::Field),
    }
    Ok(TopicImage { name, id, config: Arc::new(config), first_number })
}

fn decode_name(input: &mut Decoder<'_>) -> Result<Arc<str>, CorruptReason> {
    let name = input.text()?;
    check_topic_name(name).map_err(|_| CorruptReason::Field)?;
    Ok(name.into())
}

/// As in [`TopicConfig::partitions`].
const MAX_PARTITIONS: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn created(catalogue: &mut Catalogue, name: &str, partitions: u32) -> TopicImage {
        let id = TopicId::from_bytes([partitions as u8; 16]);
        let config = TopicConfig::new().partitions(partitions).segment_bytes(4096);
        let change = catalogue.decide_create(name, config, id).unwrap();
        assert_eq!(CatalogueChange::decode(&change.encode()).unwrap(), change);
        catalogue.apply(&change).unwrap()
    }

    #[test]
    fn partition_numbers_are_never_given_again() {
        let mut catalogue = Catalogue::default();
        let first = created(&mut catalogue, "a", 3);
        assert_eq!(first.numbers().collect::<Vec<_>>(), [0, 1, 2].map(PartitionNumber));
        catalogue.apply(&catalogue.decide_delete("a").unwrap()).unwrap();
        let second = created(&mut catalogue, "a", 2);
        assert_eq!(second.numbers().collect::<Vec<_>>(), [3, 4].map(PartitionNumber));
        assert_eq!(catalogue.deletions().len(), 1);
    }

    #[test]
    fn names_that_would_share_a_folder_are_refused() {
        let mut catalogue = Catalogue::default();
        created(&mut catalogue, "a.b", 1);
        let id = TopicId::from_bytes([9; 16]);
        let refused = |name: &str| catalogue.decide_create(name, TopicConfig::new(), id);
        assert!(matches!(refused("a.b"), Err(Error::TopicExists { .. })));
        for name in ["A.b", "a_b", "A_B"] {
            let reason = NameReason::Collides;
            assert!(
                matches!(refused(name), Err(Error::InvalidName { reason: r, .. }) if r == reason)
            );
        }
        assert!(refused("a/b").is_err());
    }

    #[test]
    fn a_catalogue_survives_encoding_and_claims_are_bounded() {
        let mut catalogue = Catalogue::default();
        created(&mut catalogue, "a", 3);
        created(&mut catalogue, "b", 1);
        catalogue.apply(&catalogue.decide_delete("a").unwrap()).unwrap();
        let mut out = Encoder::default();
        let mut seen = Vec::new();
        catalogue.encode(&mut out, |out, number| out.u32(number.0));
        let mut input = Decoder::new(&out.out);
        let decoded = Catalogue::decode(&mut input, |input, number| {
            seen.push(number);
            assert_eq!(input.u32()?, number.0);
            Ok(())
        });
        assert_eq!(decoded.unwrap(), catalogue);
        assert_eq!(seen, [PartitionNumber(3)]);
        for cut in 0..out.out.len() {
            let mut input = Decoder::new(&out.out[..cut]);
            let skip = |input: &mut Decoder<'_>, _| input.u32().map(|_| ());
            assert!(Catalogue::decode(&mut input, skip).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_change_that_does_not_fit_is_damage() {
        let mut catalogue = Catalogue::default();
        let topic = created(&mut catalogue, "a", 1);
        let again = CatalogueChange::Create(topic);
        assert_eq!(catalogue.apply(&again), Err(CorruptReason::Field));
        let unknown = CatalogueChange::Delete(TopicId::from_bytes([3; 16]));
        assert_eq!(catalogue.apply(&unknown), Err(CorruptReason::Field));
    }
}
