//! The journal's section for registered ids.
//!
//! All numbers are big-endian.
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 1 | u8 | version: 1 |
//! | 1 | 16 | bytes | topic id |
//! | 17 | 8 | i64 | when the ids are registered, milliseconds since 1970, not negative |
//! | 25 | 4 | u32 | number of ids, from 1 |
//! | 29 | ... | | the ids, to the end of the section |
//!
//! An id:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 16 | u128 | hash |
//! | 16 | 4 | u32 | partition number |
//! | 20 | 8 | i64 | offset of the record, not negative |
//!
//! The section is in the frame that holds the records, so that both are there or none. It has no checksum; that of
//! the frame covers it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::bytes::{ID_BYTES, Reader, put_id};
use super::claims::Claims;
use super::entry::Place;
use super::hash::IdHash;
use super::table::DedupTable;
use crate::error::{CorruptReason, Unreadable};
use crate::types::TopicId;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 16 + 8 + 4;

/// A decoded section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdSection {
    pub(crate) topic: TopicId,
    /// When the ids were registered.
    pub(crate) time: i64,
    /// The ids in the order of their registration.
    pub(crate) ids: Vec<(IdHash, Place)>,
}

/// Returns the size of a section with so many ids.
pub(crate) const fn id_section_bytes(ids: usize) -> usize {
    HEADER_BYTES.saturating_add(ids.saturating_mul(ID_BYTES))
}

impl Claims {
    /// Appends the section that registers the ids. There must be some, all placed. `time` comes from
    /// [`DedupTable::time`].
    pub(crate) fn encode(&self, topic: TopicId, time: i64, out: &mut Vec<u8>) {
        debug_assert!(self.len() > 0 && time >= 0, "no section for nothing");
        encode(topic, time, self.len(), self.ids(), out);
    }
}

impl IdSection {
    /// Appends the section.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        encode(self.topic, self.time, self.ids.len(), self.ids.iter().copied(), out);
    }

    /// Decodes a section that fills `bytes`.
    ///
    /// The frame's checksum is right, so an unknown version comes from a newer version of grouplog.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Unreadable::unsupported("id section version", version, VERSION));
        }
        let topic = reader.topic()?;
        let time = reader.natural()?;
        let count = reader.count(ID_BYTES)?;
        if count == 0 {
            return Err(CorruptReason::Count.into());
        }
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(reader.id()?);
        }
        reader.finish()?;
        Ok(Self { topic, time, ids })
    }

    /// Registers the ids again.
    pub(crate) fn replay(&self, table: &mut DedupTable) {
        for (hash, place) in &self.ids {
            table.insert(*hash, *place, self.time);
        }
    }
}

fn encode(
    topic: TopicId,
    time: i64,
    count: usize,
    ids: impl Iterator<Item = (IdHash, Place)>,
    out: &mut Vec<u8>,
) {
    out.reserve(id_section_bytes(count));
    out.push(VERSION);
    out.extend_from_slice(&topic.to_bytes());
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&(count as u32).to_be_bytes());
    for (hash, place) in ids {
        put_id(out, hash, place);
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::PartitionNumber;

    fn section() -> impl Strategy<Value = IdSection> {
        let id = (any::<[u8; 16]>(), any::<u32>(), 0..=i64::MAX).prop_map(
            |(hash, partition, offset)| {
                (IdHash::from_bytes(hash), Place { partition: PartitionNumber(partition), offset })
            },
        );
        (any::<[u8; 16]>(), 0..=i64::MAX, prop::collection::vec(id, 1..8)).prop_map(
            |(topic, time, ids)| IdSection { topic: TopicId::from_bytes(topic), time, ids },
        )
    }

    fn encoded(section: &IdSection) -> Vec<u8> {
        let mut out = Vec::new();
        section.encode(&mut out);
        assert_eq!(out.len(), id_section_bytes(section.ids.len()));
        out
    }

    fn small() -> IdSection {
        let hash = IdHash { high: 1, low: 2 };
        let place = Place { partition: PartitionNumber(3), offset: 4 };
        IdSection { topic: TopicId::from_bytes([9; 16]), time: 5, ids: vec![(hash, place)] }
    }

    #[test]
    fn the_bytes_are_those_of_the_diagram() {
        let id =
            [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4];
        let expected = [&[1], &[9; 16][..], &[0, 0, 0, 0, 0, 0, 0, 5], &[0, 0, 0, 1], &id].concat();
        assert_eq!(encoded(&small()), expected);
    }

    #[test]
    fn fields_out_of_their_range_are_told_apart() {
        let changed = |at: usize, byte: u8| {
            let mut bytes = encoded(&small());
            bytes[at] = byte;
            IdSection::decode(&bytes)
        };
        assert_eq!(changed(0, 1), Ok(small()));
        let version = Unreadable::unsupported("id section version", 2_u32, 1_u32);
        assert_eq!(changed(0, 2), Err(version));
        assert_eq!(changed(17, 0x80), Err(CorruptReason::Field.into()));
        assert_eq!(changed(28, 0), Err(CorruptReason::Count.into()));
        assert_eq!(changed(28, 2), Err(CorruptReason::Count.into()));
        assert_eq!(changed(25, 0xff), Err(CorruptReason::Count.into()));
        assert_eq!(changed(49, 0x80), Err(CorruptReason::Field.into()));
        assert_eq!(IdSection::decode(&[]), Err(CorruptReason::Length.into()));
        let longer = [encoded(&small()), vec![0]].concat();
        assert_eq!(IdSection::decode(&longer), Err(CorruptReason::Length.into()));
    }

    proptest! {
        #[test]
        fn a_section_comes_back_as_it_was(section in section()) {
            prop_assert_eq!(IdSection::decode(&encoded(&section)), Ok(section));
        }

        #[test]
        fn a_section_cut_short_is_refused(section in section(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&section);
            prop_assert!(IdSection::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_changed_byte_is_read_or_refused(
            section in section(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut bytes = encoded(&section);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(section) = IdSection::decode(&bytes) {
                prop_assert_eq!(encoded(&section), bytes);
            }
        }
    }
}
