//! Where a dead letter comes from: the headers that say it.
//!
//! They stand behind the headers of the record. The first one is [`TOPIC`], so a letter of a letter can be told apart:
//! the last block is its own, and what stands before belongs to the record.

use super::copies::CopiedRecord;
use crate::record::DELIVER_AT_HEADER;
use crate::types::{TopicId, TopicPartition};

/// The headers of a dead letter, as Kafka names them.
pub(super) const TOPIC: &str = "__dlq.errors.topic";
pub(super) const PARTITION: &str = "__dlq.errors.partition";
pub(super) const OFFSET: &str = "__dlq.errors.offset";
pub(super) const GROUP: &str = "__dlq.errors.group";
pub(super) const MESSAGE: &str = "__dlq.errors.message";
pub(super) const COUNT: &str = "__dlq.errors.delivery.count";
/// The last text with which a handler released the record, if there is one. Kafka has no such header.
pub(super) const REASON: &str = "__dlq.reason";
/// Whether the record was copied. Kafka has no such header, nor the next ones; a redrive needs them.
pub(super) const COPIED: &str = "__dlq.copied";
/// The key of the copied record, if the letter has a key of its own: without a value if the record has no key.
pub(super) const KEY: &str = "__dlq.key";
/// The time of delivery of the copied record, in place of its header. A letter waits for no time.
pub(super) const DELIVER_AT: &str = "__dlq.deliver.at";
/// The id of the topic that has the record, if it was not copied.
pub(super) const TOPIC_ID: &str = "__dlq.topic.id";

/// What the headers of a dead letter say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The group that gave the record up.
    pub(crate) group: String,
    /// Where the record is; `None` if the headers do not say it.
    pub(crate) source: Option<(TopicPartition, i64)>,
    /// The id of its topic, if the letter has it.
    pub(crate) topic_id: Option<TopicId>,
    copied: bool,
    key: KeyOf,
    /// The values of its headers for the time of delivery.
    deliver_at: Vec<Option<Vec<u8>>>,
    /// How many of the letter's headers are the record's.
    headers: usize,
}

/// Where the key of the record is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyOf {
    /// It is the letter's.
    Letter,
    /// It is in a header: `None` if the record has no key.
    Header(Option<Vec<u8>>),
}

/// Returns the key of a letter in a compacted topic, where each must have its own.
pub(super) fn own_key(group: &str, source: &TopicPartition, offset: i64) -> Vec<u8> {
    format!("{group}@{source}-{offset}").into_bytes()
}

impl Origin {
    /// Reads the headers of a letter. Returns `None` if the record is no dead letter.
    pub(crate) fn of(letter: &CopiedRecord) -> Option<Self> {
        let headers = letter.headers.iter().rposition(|(name, _)| name == TOPIC)?;
        let own = letter.headers.get(headers..).unwrap_or_default();
        let find = |wanted: &str| own.iter().find(|(name, _)| name == wanted);
        let text = |wanted| {
            let (_, value) = find(wanted)?;
            std::str::from_utf8(value.as_deref()?).ok()
        };
        let source = || {
            let partition = TopicPartition::new(text(TOPIC)?, text(PARTITION)?.parse().ok()?);
            Some((partition, text(OFFSET)?.parse().ok()?))
        };
        Some(Self {
            group: text(GROUP)?.to_owned(),
            source: source(),
            topic_id: text(TOPIC_ID).and_then(|id| id.parse().ok()),
            copied: text(COPIED) == Some("true"),
            key: find(KEY).map_or(KeyOf::Letter, |(_, key)| KeyOf::Header(key.clone())),
            deliver_at: own
                .iter()
                .filter(|(name, _)| name == DELIVER_AT)
                .map(|(_, value)| value.clone())
                .collect(),
            headers,
        })
    }

    /// Returns the record that the letter is a copy of. Returns the letter back if it holds no whole copy: then only the
    /// source has the record.
    pub(crate) fn original(self, mut letter: CopiedRecord) -> Result<CopiedRecord, CopiedRecord> {
        if !self.copied {
            return Err(letter);
        }
        let own_key = self.has_own_key(&letter);
        match self.key {
            KeyOf::Header(key) => letter.key = key,
            KeyOf::Letter if own_key => return Err(letter),
            KeyOf::Letter => {}
        }
        letter.headers.truncate(self.headers);
        // Where a producer puts it.
        let times = self.deliver_at.into_iter().map(|at| (DELIVER_AT_HEADER.to_owned(), at));
        letter.headers.splice(..0, times);
        Ok(letter)
    }

    /// Returns whether the letter's key is its own, and not that of the record.
    fn has_own_key(&self, letter: &CopiedRecord) -> bool {
        let own = self.source.as_ref().map(|(source, at)| own_key(&self.group, source, *at));
        own.is_some() && own == letter.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(key: &str, blocks: &[(&str, &[(&str, &str)])]) -> CopiedRecord {
        let mut headers = vec![("user".to_owned(), Some(b"1".to_vec()))];
        for (group, more) in blocks {
            let all = [(TOPIC, "jobs"), (PARTITION, "2"), (OFFSET, "7"), (GROUP, group)];
            for (name, value) in all.iter().chain(*more) {
                headers.push(((*name).to_owned(), Some(value.as_bytes().to_vec())));
            }
        }
        let (key, value) = (Some(key.as_bytes().to_vec()), Some(b"v".to_vec()));
        CopiedRecord { offset: 0, key, value, headers }
    }

    #[test]
    fn the_last_block_is_the_letters_own() {
        let inner: (&str, &[(&str, &str)]) = ("g", &[(COPIED, "true"), (KEY, "inner")]);
        let nested = letter("k", &[inner, ("undertaker", &[(COPIED, "true")])]);
        let origin = Origin::of(&nested).unwrap();
        assert_eq!(origin.group, "undertaker");
        assert_eq!(origin.source, Some((TopicPartition::new("jobs", 2), 7)));
        let record = origin.original(nested).unwrap();
        assert_eq!(record.headers.len(), 7);
        assert_eq!(record.key, Some(b"k".to_vec()));
        let origin = Origin::of(&record).unwrap();
        assert_eq!(origin.group, "g");
        let record = origin.original(record).unwrap();
        assert_eq!((record.headers.len(), record.key), (1, Some(b"inner".to_vec())));
    }

    #[test]
    fn what_is_no_whole_copy_is_told_apart() {
        for (key, more) in [
            ("k", &[(COPIED, "false")][..]),
            ("k", &[]),
            // From a compacted topic, without the key of the record.
            ("g@jobs-2-7", &[(COPIED, "true")]),
        ] {
            let bare = letter(key, &[("g", more)]);
            let origin = Origin::of(&bare).unwrap();
            assert!(origin.original(bare).is_err(), "{key}");
        }
        assert_eq!(Origin::of(&letter("k", &[])), None);
        let mut broken = letter("k", &[("g", &[])]);
        broken.headers[2].1 = None;
        assert_eq!(Origin::of(&broken).unwrap().source, None);
    }
}
