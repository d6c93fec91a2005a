//! The checkpoint files `checkpoint.a` and `checkpoint.b`: the exact state at a journal position.
//!
//! ```text
//! offset size type  field
//!      0    8       magic "GLCHKPT\0"
//!      8    4 u32   version, 2
//!     12   16       directory id
//!     28    8 u64   generation: rises by one, an even one goes to file a, an odd one to file b
//!     36    4 u32   body length
//!     40    4 u32   CRC-32 of bytes 0..40 and the body
//!     44   ..       body: E, epoch, offset file and whether the writer closed, catalogue with each
//!                   partition's log; see `encode`
//! ```
//!
//! Big-endian. Written in place and synced; the other file still holds the state before. A torn file
//! fails its CRC, and the other one counts as long as the journal reaches back to it. What lies behind
//! the body is left from a longer checkpoint and means nothing.

use std::collections::BTreeMap;

use crate::engine::age_clock::LastSeen;
use crate::engine::catalogue::Catalogue;
use crate::engine::codec::{Decoder, Encoder};
use crate::error::CorruptReason;
use crate::log::{LogImage, SegmentImage};
use crate::types::{Epoch, Lsn, PartitionNumber};

pub(super) const FILES: [&str; 2] = ["checkpoint.a", "checkpoint.b"];

const MAGIC: &[u8; 8] = b"GLCHKPT\0";
pub(super) const VERSION: u32 = 2;
/// With generation and checksum.
pub(super) const HEADER_BYTES: usize = 44;
const CRC_AT: usize = 40;
/// In the byte that names the offset file (0 none, 1 a, 2 b).
const CLOSED: u8 = 4;
/// Magic and version.
pub(super) const HEAD_BYTES: usize = 12;
/// No checkpoint is larger, so that a damaged length allocates nothing.
pub(super) const MAX_BYTES: u64 = 256 << 20;

/// Which offset file belongs to a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetFile {
    /// 0 for `offsets.a`, 1 for `offsets.b`.
    pub(crate) slot: u8,
    pub(crate) generation: u64,
    /// The checksum of the file's image, so that no other one can stand in for it.
    pub(crate) crc: u32,
}

/// What a checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckpointImage {
    pub(crate) directory_id: [u8; 16],
    pub(crate) generation: u64,
    /// Everything below is in the files, nothing above.
    pub(crate) end: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) offsets: Option<OffsetFile>,
    /// Whether the writer closed the folder with it: appends were refused before it was frozen, so neither
    /// the journal nor any file got anything since from that writer.
    pub(crate) closed: bool,
    /// The clocks when it was written; `None` if nobody knows.
    pub(crate) last_seen: Option<LastSeen>,
    pub(crate) catalogue: Catalogue,
    /// Partitions that ever had a record.
    pub(crate) logs: BTreeMap<PartitionNumber, LogImage>,
}

/// Why bytes are not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// They are damaged, torn, or something else.
    Corrupt(CorruptReason),
    /// They are a newer version's.
    Version(u32),
}

impl From<CorruptReason> for ImageError {
    fn from(reason: CorruptReason) -> Self {
        Self::Corrupt(reason)
    }
}

impl CheckpointImage {
    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.bytes(MAGIC);
        out.u32(VERSION);
        out.bytes(&self.directory_id);
        out.u64(self.generation);
        out.u64(0); // Length and CRC, when they are known.
        out.u64(self.end.to_u64());
        out.i32(self.epoch);
        out.u8(self.offsets.map_or(0, |file| file.slot.saturating_add(1))
            | if self.closed { CLOSED } else { 0 });
        out.u64(self.offsets.map_or(0, |file| file.generation));
        out.u32(self.offsets.map_or(0, |file| file.crc));
        self.catalogue.encode(&mut out, |out, number| encode_log(out, self.logs.get(&number)));
        let mut bytes = out.out;
        let body = bytes.len().saturating_sub(HEADER_BYTES) as u32;
        bytes[36..CRC_AT].copy_from_slice(&body.to_be_bytes());
        let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads and validates a file's bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
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
        if version != VERSION {
            return Err(ImageError::Version(version));
        }
        let mut input = Decoder::new(body);
        let end = Lsn::from_u64(input.u64()?);
        let epoch = input.i32()?;
        let flags = input.u8()?;
        let (generation_of_offsets, crc) = (input.u64()?, input.u32()?);
        let closed = flags & CLOSED != 0;
        let offsets = match flags & !CLOSED {
            0 => None,
            file @ 1..=2 => Some(OffsetFile {
                slot: file.saturating_sub(1),
                generation: generation_of_offsets,
                crc,
            }),
            _ => return Err(CorruptReason::Field.into()),
        };
        let mut logs = BTreeMap::new();
        let catalogue = Catalogue::decode(&mut input, |input, number| {
            let log = decode_log(input)?;
            if log != LogImage::default() {
                logs.insert(number, log);
            }
            Ok(())
        })?;
        input.finish()?;
        // What nobody can count on from was never counted to.
        let counted = generation.max(generation_of_offsets);
        if epoch < 0 || epoch == Epoch::MAX || i64::try_from(counted).is_err() {
            return Err(CorruptReason::Field.into());
        }
        let last_seen = None;
        let image = Self {
            directory_id,
            generation,
            end,
            epoch,
            offsets,
            closed,
            last_seen,
            catalogue,
            logs,
        };
        // One state has one form: what this version would not have written is damage, though its
        // checksum is right.
        if bytes.get(..HEADER_BYTES.saturating_add(body_len)) != Some(image.encode().as_slice()) {
            return Err(CorruptReason::Field.into());
        }
        Ok(image)
    }
}

/// Whether a file that begins so may be a checkpoint of this version.
pub(super) fn is_current(head: &[u8; HEAD_BYTES]) -> bool {
    head.starts_with(MAGIC) && head.ends_with(&VERSION.to_be_bytes())
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

fn encode_log(out: &mut Encoder, log: Option<&LogImage>) {
    let empty = LogImage::default();
    let log = log.unwrap_or(&empty);
    out.i64(log.start_offset);
    out.i64(log.end_offset);
    out.count(log.epochs.len());
    for &(epoch, start) in &log.epochs {
        out.i32(epoch);
        out.i64(start);
    }
    out.count(log.segments.len());
    for segment in &log.segments {
        out.i64(segment.base_offset);
        out.i64(segment.end_offset);
        out.u64(segment.len);
        out.u32(segment.checksum);
        out.i64(segment.first_timestamp);
        out.i64(segment.max_timestamp);
    }
}

fn decode_log(input: &mut Decoder<'_>) -> Result<LogImage, CorruptReason> {
    let (start_offset, end_offset) = (input.i64()?, input.i64()?);
    let mut log = LogImage { start_offset, end_offset, ..LogImage::default() };
    for _ in 0..input.count(12)? {
        log.epochs.push((input.i32()?, input.i64()?));
    }
    for _ in 0..input.count(44)? {
        log.segments.push(SegmentImage {
            base_offset: input.i64()?,
            end_offset: input.i64()?,
            len: input.u64()?,
            checksum: input.u32()?,
            first_timestamp: input.i64()?,
            max_timestamp: input.i64()?,
        });
    }
    check_log(&log)?;
    Ok(log)
}

/// Offsets are in order and the segments lie end to end up to the log end.
fn check_log(log: &LogImage) -> Result<(), CorruptReason> {
    let ordered = 0 <= log.start_offset && log.start_offset <= log.end_offset;
    let epochs = log.epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
    let chained = log.segments.is_sorted_by(|a, b| a.end_offset == b.base_offset);
    let sane = log.segments.iter().all(|segment| {
        0 <= segment.base_offset
            && segment.base_offset <= segment.end_offset
            && i32::try_from(segment.len).is_ok()
    });
    let ends = log.segments.last().map_or(log.start_offset, |segment| segment.end_offset);
    if ordered && epochs && chained && sane && ends == log.end_offset {
        Ok(())
    } else {
        Err(CorruptReason::Offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;
    use crate::types::TopicId;

    fn image() -> CheckpointImage {
        let mut catalogue = Catalogue::default();
        let id = TopicId::from_bytes([1; 16]);
        let config = TopicConfig::new().partitions(2);
        let change = catalogue.decide_create("orders", config, id).unwrap();
        catalogue.apply(&change).unwrap();
        let segment = |base_offset, end_offset| SegmentImage {
            base_offset,
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
        };
        CheckpointImage {
            directory_id: [7; 16],
            generation: 12,
            end: Lsn::new(3, 4096),
            epoch: 3,
            offsets: Some(OffsetFile { slot: 1, generation: 5, crc: 9 }),
            closed: true,
            last_seen: None,
            catalogue,
            logs: BTreeMap::from([(PartitionNumber(1), log)]),
        }
    }

    #[test]
    fn a_checkpoint_survives_encoding() {
        let mut bytes = image().encode();
        assert_eq!(CheckpointImage::decode(&bytes).unwrap(), image());
        bytes.extend_from_slice(b"left from a longer one");
        assert_eq!(CheckpointImage::decode(&bytes).unwrap(), image());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let bytes = image().encode();
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
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = image().encode();
        bytes[11] = 9;
        let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
        bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(CheckpointImage::decode(&bytes), Err(ImageError::Version(9)));
    }

    /// What no engine writes is damage, though the checksum is right: each alone, so that no other check
    /// refuses it.
    #[test]
    fn a_state_that_cannot_be_is_damage() {
        let with_log = |change: &dyn Fn(&mut LogImage)| {
            let mut image = image();
            image.logs.values_mut().for_each(change);
            CheckpointImage::decode(&image.encode())
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
            let expected = Err(ImageError::Corrupt(CorruptReason::Offsets));
            assert_eq!(refused, expected, "change {number}");
        }
        let uncounted = [
            CheckpointImage { epoch: -1, ..image() },
            CheckpointImage { epoch: Epoch::MAX, ..image() },
            CheckpointImage { generation: 1 << 63, ..image() },
            CheckpointImage {
                offsets: Some(OffsetFile { slot: 2, generation: 5, crc: 9 }),
                ..image()
            },
        ];
        for image in uncounted {
            let refused = CheckpointImage::decode(&image.encode());
            assert_eq!(refused, Err(ImageError::Corrupt(CorruptReason::Field)), "{image:?}");
        }
    }

    #[test]
    fn a_state_has_one_form() {
        let plain = CheckpointImage { offsets: None, ..image() }.encode();
        let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = plain.clone();
            change(&mut bytes);
            let crc = checksum(&bytes[..CRC_AT], &bytes[HEADER_BYTES..]);
            bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
            CheckpointImage::decode(&bytes)
        };
        assert!(resealed(&|_| {}).is_ok());
        // The generation of an offset file that there is not.
        let refused = Err(ImageError::Corrupt(CorruptReason::Field));
        assert_eq!(resealed(&|bytes| bytes[HEADER_BYTES + 13] = 1), refused);
        // A number with a leading zero: "4096" of index.interval.bytes becomes "0096".
        let at = plain.windows(4).position(|text| text == b"4096").unwrap();
        assert_eq!(resealed(&|bytes| bytes[at] = b'0'), refused);
    }

    #[test]
    fn segments_that_do_not_lie_end_to_end_are_refused() {
        let mut image = image();
        let log = image.logs.get_mut(&PartitionNumber(1)).unwrap();
        log.segments[1].base_offset = 31;
        let error = ImageError::Corrupt(CorruptReason::Offsets);
        assert_eq!(CheckpointImage::decode(&image.encode()), Err(error));
    }
}
