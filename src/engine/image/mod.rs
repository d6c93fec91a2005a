//! The checkpoint files `checkpoint.a` and `checkpoint.b`: the exact state at a journal position.
//!
//! ```text
//! offset size type  field
//!      0    8       magic "GLCHKPT\0"
//!      8    4 u32   version, 3
//!     12   16       directory id
//!     28    8 u64   generation: rises by one; even goes to file a, odd to file b
//!     36    4 u32   body length
//!     40    4 u32   CRC-32 of bytes 0..40 and the body
//!     44   ..       body: sections, without gaps
//! ```
//!
//! Every version keeps these 44 bytes, so each build can tell a newer version from damage. A section has this
//! form:
//!
//! ```text
//! offset size type  field
//!      0    2 u16   tag
//!      2    2 u16   flags: bit 0 = must be understood; the others are 0
//!      4    4 u32   length of the contents
//!      8   ..       contents
//! ```
//!
//! This build writes these sections in this order, each at most once. Bit 0 is set in all but the clock:
//!
//! | tag | contents |
//! |---|---|
//! | 1 State | E (u64, an LSN), epoch (i32), flags (u8): bit 0 = the writer closed the folder |
//! | 2 Offsets | slot (u8: 0 = `offsets.a`, 1 = `offsets.b`), its generation (u64) and checksum (u32); left out if there is no offset file |
//! | 3 Catalogue | topics and deletions, see `Catalogue::encode` |
//! | 4 Logs | count (u32), then each partition that ever had a record, by ascending number: number (u32) and log, see `log::encode` |
//! | 5 Clock | the count of the age clock (i64) and the wall clock (i64), both in milliseconds since 1970; bit 0 not set; left out if they are unknown |
//! | 6 Compaction | what compaction has done, see `compaction::encode`; left out if it has done nothing |
//! | 7 Owners | the named owners, see `Owners::encode`; left out if there are none |
//! | 8 Ids | the files of idempotency ids, see `dedup::encode_topics`; left out if no topic had one |
//! | 9 Shares | slot (u8: 0 = `shares.a`, 1 = `shares.b`), its generation (u64) and checksum (u32); left out if there never was a share group |
//!
//! A section with an unknown tag is rejected with `UnsupportedFormat` if it must be understood. Otherwise
//! this build ignores it, and the next checkpoint that it writes lacks it. Such a section may only hold what
//! can be lost, like a hint or a statistic.
//!
//! All numbers are big-endian. The file is written in place and synced, while the other file still holds the
//! previous state. A torn file fails its CRC. Then the other one counts, as long as the journal reaches back
//! to it. Bytes behind the body are the rest of a longer checkpoint and mean nothing.
//!
//! [`v2`] reads version 2, which this build does not write.
//!
//! Imported by `files`, `inspect`, `checkpoint`, `recovery`, `verify` and `engine`.

mod compaction;
mod log;
mod section;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dedup;
use crate::engine::age_clock::LastSeen;
use crate::engine::catalogue::{Catalogue, TopicImage};
use crate::engine::codec::{Decoder, Encoder};
use crate::engine::owners::Owners;
use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::log::LogImage;
#[cfg(test)]
use crate::log::SegmentImage;
use crate::types::{Epoch, Lsn, PartitionNumber};

use section::Tag;

pub(super) const FILES: [&str; 2] = ["checkpoint.a", "checkpoint.b"];

const MAGIC: &[u8; 8] = b"GLCHKPT\0";
const VERSION: u32 = 3;
/// Includes generation and checksum.
pub(super) const HEADER_BYTES: usize = 44;
const LENGTH_AT: usize = 36;
const CRC_AT: usize = 40;
/// Covers magic and version.
pub(super) const HEAD_BYTES: usize = 12;

/// A file that belongs to a checkpoint: of committed offsets, or of share groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageFile {
    /// 0 for `.a`, 1 for `.b`.
    pub(crate) slot: u8,
    pub(crate) generation: u64,
    /// The checksum of the file's image, so that no other image can replace it.
    pub(crate) crc: u32,
}

/// The contents of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckpointImage {
    pub(crate) directory_id: [u8; 16],
    pub(crate) generation: u64,
    /// The files contain everything below this position and nothing above it.
    pub(crate) end: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) offsets: Option<ImageFile>,
    /// Whether the writer closed the folder with this checkpoint. It had stopped appends before it froze the
    /// state, so it wrote nothing to the journal or to any file afterwards.
    pub(crate) closed: bool,
    /// The clocks when the checkpoint was written; `None` if they are unknown.
    pub(crate) last_seen: Option<LastSeen>,
    pub(crate) catalogue: Catalogue,
    pub(crate) owners: Arc<Owners>,
    /// The file of share groups.
    pub(crate) shares: Option<ImageFile>,
    /// The idempotency ids of topics, by topic id.
    pub(crate) ids: Vec<dedup::TopicImage>,
    /// The partitions that ever had a record.
    pub(crate) logs: BTreeMap<PartitionNumber, LogImage>,
}

impl CheckpointImage {
    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// `LimitExceeded` if [`CheckpointImage::decode`] would reject the result. Then nothing is written, and
    /// the previous checkpoint still counts.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        self.check_counters()?;
        let mut out = Encoder::default();
        out.bytes(MAGIC);
        out.u32(VERSION);
        out.bytes(&self.directory_id);
        out.u64(self.generation);
        out.u64(0); // Length and CRC are filled in below.
        for tag in Tag::ALL {
            tag.write(self, &mut out)?;
        }
        let mut bytes = out.out;
        let body = section_length(bytes.len().saturating_sub(HEADER_BYTES))?;
        bytes[LENGTH_AT..CRC_AT].copy_from_slice(&body.to_be_bytes());
        let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        Ok(bytes)
    }

    /// Reads and validates the bytes of a file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut input = Decoder::new(bytes);
        if input.array::<8>()? != *MAGIC {
            return Err(CorruptReason::Magic.into());
        }
        let version = input.u32()?;
        let directory_id = input.array()?;
        let generation = input.u64()?;
        let body_len = input.u32()? as usize;
        let crc = input.u32()?;
        let (header, rest) = bytes.split_at_checked(CRC_AT).ok_or(CorruptReason::Length)?;
        let body = rest.get(4..).and_then(|rest| rest.get(..body_len));
        let body = body.ok_or(CorruptReason::Length)?;
        if checksum(header, body) != crc {
            return Err(CorruptReason::Checksum.into());
        }
        let mut image = Self { directory_id, generation, ..Self::default() };
        match version {
            2 => v2::decode(body, &mut image)?,
            VERSION => image.decode_sections(body)?,
            _ => return Err(Unreadable::unsupported("format version", version, VERSION)),
        }
        image.check_counters().map_err(|_| CorruptReason::Field)?;
        image.check_logs()?;
        Ok(image)
    }

    fn decode_sections(&mut self, body: &[u8]) -> Result<(), Unreadable> {
        let mut rest = body;
        let mut known = Vec::new();
        while !rest.is_empty() {
            let section = section::split(rest)?;
            if let Some(tag) = section.tag {
                let mut input = Decoder::new(section.contents);
                tag.decode(&mut input, self)?;
                input.finish()?;
                known.push(section.bytes);
            }
            rest = section.rest;
        }
        // One state has one form. Any other form is damage, even with a correct checksum. That includes a
        // section that is missing, comes twice or is out of order.
        let encoded = self.encode().map_err(|_| CorruptReason::Field)?;
        let mut expected = encoded.get(HEADER_BYTES..).unwrap_or_default();
        for bytes in known {
            expected = expected.strip_prefix(bytes).ok_or(CorruptReason::Field)?;
        }
        if expected.is_empty() { Ok(()) } else { Err(CorruptReason::Field.into()) }
    }

    /// Checks that no counter is exhausted. No version writes such a counter, because the engine could not
    /// increase it.
    fn check_counters(&self) -> Result<()> {
        let max = i64::MAX as u64;
        let counted = self.generation.max(self.offsets.map_or(0, |file| file.generation));
        if counted > max {
            return Err(Error::LimitExceeded {
                what: "checkpoints over the life of the folder",
                found: counted,
                max,
            });
        }
        if self.epoch < 0 || self.epoch == Epoch::MAX {
            return Err(Error::LimitExceeded {
                what: "openings over the life of the folder",
                found: u64::from(self.epoch.unsigned_abs()),
                max: u64::from((Epoch::MAX - 1).unsigned_abs()),
            });
        }
        Ok(())
    }

    /// Checks that every log belongs to a partition of a topic.
    fn check_logs(&self) -> Result<(), CorruptReason> {
        let numbers: BTreeSet<_> = self.catalogue.topics().flat_map(TopicImage::numbers).collect();
        let known = self.logs.keys().all(|number| numbers.contains(number));
        if known { Ok(()) } else { Err(CorruptReason::Field) }
    }
}

/// Returns the length of the image at the start of a file, as its first [`HEADER_BYTES`] state it.
pub(super) fn image_bytes(head: &[u8]) -> u64 {
    let length = head.get(LENGTH_AT..CRC_AT).and_then(|bytes| bytes.first_chunk().copied());
    let body = length.map_or(0, |length| u64::from(u32::from_be_bytes(length)));
    body.saturating_add(HEADER_BYTES as u64)
}

/// Converts a length to the form that the file stores.
fn section_length(bytes: usize) -> Result<u32> {
    let max = u64::from(u32::MAX);
    let what = "bytes in a checkpoint";
    u32::try_from(bytes).map_err(|_| Error::LimitExceeded { what, found: bytes as u64, max })
}

/// Returns whether a file with this head may be a checkpoint of a version that this build reads.
pub(super) fn is_readable(head: &[u8; HEAD_BYTES]) -> bool {
    let version = head.last_chunk().copied().map(u32::from_be_bytes);
    head.starts_with(MAGIC) && matches!(version, Some(2..=VERSION))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::engine::owners::{Owner, OwnerChange};
    use crate::types::{Timestamp, TopicId};

    pub(super) fn image() -> CheckpointImage {
        let mut catalogue = Catalogue::default();
        let id = TopicId::from_bytes([1; 16]);
        let config = TopicConfig::new().partitions(2);
        let change = catalogue.decide_create("orders", config, id).unwrap();
        catalogue.apply(&change).unwrap();
        let segment = |base_offset, end_offset| SegmentImage {
            base_offset,
            generation: 0,
            end_offset,
            len: 4_000,
            checksum: 77,
            first_timestamp: 1,
            max_timestamp: 9,
        };
        let log = LogImage {
            start_offset: 0,
            end_offset: 70,
            epochs: vec![(1, 0), (3, 20)],
            segments: vec![segment(0, 30), segment(30, 70)],
            first_dirty_offset: None,
        };
        let mut owners = Owners::default();
        let owner = Some(Owner { epoch: 2, last_sequence: Some(40) });
        owners.apply(&OwnerChange { id: "importer".into(), owner });
        CheckpointImage {
            directory_id: [7; 16],
            generation: 12,
            end: Lsn::new(3, 4096),
            epoch: 3,
            offsets: Some(ImageFile { slot: 1, generation: 5, crc: 9 }),
            closed: true,
            last_seen: Some(LastSeen {
                count: Timestamp::from_millis(1_700_000_000_000),
                wall: Timestamp::from_millis(1_700_000_000_123),
            }),
            catalogue,
            owners: Arc::new(owners),
            ids: Vec::new(),
            shares: None,
            logs: BTreeMap::from([(PartitionNumber(1), log)]),
        }
    }

    #[test]
    fn a_checkpoint_survives_encoding() {
        let mut bytes = image().encode().unwrap();
        assert_eq!(CheckpointImage::decode(&bytes).unwrap(), image());
        bytes.extend_from_slice(b"left from a longer one");
        assert_eq!(CheckpointImage::decode(&bytes).unwrap(), image());
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_detected() {
        let bytes = image().encode().unwrap();
        for at in 0..bytes.len() {
            assert!(CheckpointImage::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(CheckpointImage::decode(&changed).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_distinguished_from_damage() {
        let mut bytes = image().encode().unwrap();
        bytes[11] = 9;
        let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(
            CheckpointImage::decode(&bytes),
            Err(Unreadable::unsupported("format version", 9_u32, 3_u32))
        );
    }

    /// States that no engine writes are damage, even with a correct checksum. Each case breaks one rule, so
    /// that no other check rejects it.
    #[test]
    fn an_impossible_state_is_damage() {
        let with_log = |change: &dyn Fn(&mut LogImage)| {
            let mut image = image();
            image.logs.values_mut().for_each(change);
            CheckpointImage::decode(&image.encode().unwrap())
        };
        assert!(with_log(&|_| {}).is_ok());
        let changes: [&dyn Fn(&mut LogImage); 9] = [
            &|log| log.start_offset = -1,
            &|log| log.start_offset = 71,
            &|log| log.epochs = vec![(3, 0), (1, 20)],
            &|log| log.epochs = vec![(1, 20), (3, 0)],
            &|log| log.segments[0].end_offset = 29,
            &|log| log.segments[0].base_offset = -1,
            &|log| log.segments[0].base_offset = 31,
            &|log| log.segments[0].len = 1 << 31,
            &|log| log.end_offset = 71,
        ];
        for (number, change) in changes.iter().enumerate() {
            let refused = with_log(change);
            let expected = Err(Unreadable::Corrupt(CorruptReason::Offsets));
            assert_eq!(refused, expected, "change {number}");
        }
    }

    /// What could not be read is not written.
    #[test]
    fn exhausted_counters_are_refused_on_write_and_on_read() {
        let uncounted = [
            CheckpointImage { epoch: -1, ..image() },
            CheckpointImage { epoch: Epoch::MAX, ..image() },
            CheckpointImage { generation: 1 << 63, ..image() },
            CheckpointImage {
                offsets: Some(ImageFile { slot: 1, generation: 1 << 63, crc: 9 }),
                ..image()
            },
        ];
        for image in uncounted {
            let refused = image.encode();
            assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{image:?}");
        }
        let mut bytes = image().encode().unwrap();
        bytes[28] = 0x80;
        reseal(&mut bytes);
        assert_eq!(CheckpointImage::decode(&bytes), Err(Unreadable::Corrupt(CorruptReason::Field)));
        let too_long = section_length(1 << 32);
        assert!(matches!(too_long, Err(Error::LimitExceeded { found: 0x1_0000_0000, .. })));
        assert_eq!(section_length(u32::MAX as usize).unwrap(), u32::MAX);
    }

    /// Writes the correct length and checksum into a changed checkpoint.
    pub(super) fn reseal(bytes: &mut [u8]) {
        let body = (bytes.len() - HEADER_BYTES) as u32;
        bytes[LENGTH_AT..CRC_AT].copy_from_slice(&body.to_be_bytes());
        let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    /// Returns the sections of a checkpoint.
    fn sections_of(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut sections) = (&bytes[HEADER_BYTES..], Vec::new());
        while !rest.is_empty() {
            let section = section::split(rest).unwrap();
            sections.push(section.bytes.to_vec());
            rest = section.rest;
        }
        sections
    }

    fn with_sections(sections: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = image().encode().unwrap()[..HEADER_BYTES].to_vec();
        bytes.extend(sections.concat());
        reseal(&mut bytes);
        bytes
    }

    #[test]
    fn a_state_has_one_form() {
        let refused = Err(Unreadable::Corrupt(CorruptReason::Field));
        let sections = sections_of(&image().encode().unwrap());
        assert_eq!(sections.len(), 6);
        assert_eq!(CheckpointImage::decode(&with_sections(&sections)), Ok(image()));
        // Without a required section, with one twice, and in another order.
        for at in [0, 2, 3] {
            let mut fewer = sections.clone();
            fewer.remove(at);
            assert_eq!(CheckpointImage::decode(&with_sections(&fewer)), refused, "without {at}");
        }
        let mut twice = sections.clone();
        twice.insert(1, twice[1].clone());
        assert_eq!(CheckpointImage::decode(&with_sections(&twice)), refused);
        let mut swapped = sections.clone();
        swapped.swap(0, 1);
        assert_eq!(CheckpointImage::decode(&with_sections(&swapped)), refused);
        // A number with a leading zero: "4096" of index.interval.bytes becomes "0096".
        let mut bytes = image().encode().unwrap();
        let at = bytes.windows(4).position(|text| text == b"4096").unwrap();
        bytes[at] = b'0';
        reseal(&mut bytes);
        assert_eq!(CheckpointImage::decode(&bytes), refused);
        // The log of a partition that no topic has.
        let mut stray = image();
        let log = stray.logs[&PartitionNumber(1)].clone();
        stray.logs.insert(PartitionNumber(2), log);
        assert_eq!(CheckpointImage::decode(&stray.encode().unwrap()), refused);
    }

    #[test]
    fn an_unknown_section_is_refused_or_ignored_by_its_flag() {
        let mut sections = sections_of(&image().encode().unwrap());
        let section = |tag: u16, flags: u16| {
            let mut bytes = [tag.to_be_bytes(), flags.to_be_bytes()].concat();
            bytes.extend(3_u32.to_be_bytes());
            bytes.extend(b"new");
            bytes
        };
        for at in 0..=sections.len() {
            let mut skippable = sections.clone();
            skippable.insert(at, section(77, 0));
            skippable.push(section(78, 0xfffe));
            let decoded = CheckpointImage::decode(&with_sections(&skippable)).unwrap();
            assert_eq!(decoded, image());
            // This build does not write it again.
            assert_eq!(decoded.encode().unwrap(), with_sections(&sections));
            let mut must = sections.clone();
            must.insert(at, section(77, 1));
            let newer = Unreadable::unsupported("checkpoint section tag", 77_u32, 9_u32);
            assert_eq!(CheckpointImage::decode(&with_sections(&must)), Err(newer));
        }
        sections[1][3] = 3;
        let newer = Unreadable::unsupported("checkpoint section flags", 3_u32, 1_u32);
        assert_eq!(CheckpointImage::decode(&with_sections(&sections)), Err(newer));
        sections[1][3] = 0;
        let damaged = Err(Unreadable::Corrupt(CorruptReason::Field));
        assert_eq!(CheckpointImage::decode(&with_sections(&sections)), damaged);
    }

    #[test]
    fn segments_that_do_not_lie_end_to_end_are_refused() {
        let mut image = image();
        let log = image.logs.get_mut(&PartitionNumber(1)).unwrap();
        log.segments[1].base_offset = 31;
        let error = Unreadable::Corrupt(CorruptReason::Offsets);
        assert_eq!(CheckpointImage::decode(&image.encode().unwrap()), Err(error));
    }
}
