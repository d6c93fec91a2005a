//! The sections of a checkpoint's body.
//!
//! To add one, give it a tag in [`Tag`] and [`Tag::ALL`], its contents in [`Tag::encode`] and
//! [`Tag::decode`], and a line in the table of `image`. A folder without the section must still open, because
//! checkpoints of earlier builds lack it. If builds that do not know the section may still open the folder,
//! return 0 for it from [`Tag::flags`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dedup;
use crate::engine::age_clock::LastSeen;
use crate::engine::catalogue::Catalogue;
use crate::engine::codec::{Decoder, Encoder};
use crate::engine::owners::Owners;
use crate::error::{CorruptReason, Result, Unreadable};
use crate::log::LogImage;
use crate::types::{Lsn, PartitionNumber, Timestamp, planted};

use super::{CheckpointImage, ImageFile, compaction, log, section_length};

/// The kind of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    State = 1,
    Offsets = 2,
    Catalogue = 3,
    Logs = 4,
    Clock = 5,
    Compaction = 6,
    Owners = 7,
    Ids = 8,
    Shares = 9,
}

/// The flag of a section without which a checkpoint cannot be understood.
const MUST_UNDERSTAND: u16 = 1;
/// A flag of the state: the writer closed the folder.
const CLOSED: u8 = 1;
const HEADER_BYTES: usize = 8;

impl Tag {
    /// All tags, in the order of the file.
    pub(super) const ALL: [Self; 9] = [
        Self::State,
        Self::Offsets,
        Self::Catalogue,
        Self::Logs,
        Self::Clock,
        Self::Compaction,
        Self::Owners,
        Self::Ids,
        Self::Shares,
    ];

    /// Returns the flags that this build writes.
    fn flags(self) -> u16 {
        match self {
            Self::State
            | Self::Offsets
            | Self::Catalogue
            | Self::Logs
            | Self::Compaction
            | Self::Owners
            | Self::Ids
            | Self::Shares => MUST_UNDERSTAND,
            // Without this section, ages count from the opening on. They are then too short, never too long.
            Self::Clock => 0,
        }
    }

    /// Appends the section, or nothing if the image has no contents for it.
    pub(super) fn write(self, image: &CheckpointImage, out: &mut Encoder) -> Result<()> {
        let header = out.out.len();
        out.u32((self as u32) << 16 | u32::from(self.flags()));
        out.u32(0);
        let contents = out.out.len();
        if !self.encode(image, out) {
            out.out.truncate(header);
            return Ok(());
        }
        let length = section_length(out.out.len().saturating_sub(contents))?;
        out.out[contents.saturating_sub(4)..contents].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Appends the contents. Returns whether there are any.
    fn encode(self, image: &CheckpointImage, out: &mut Encoder) -> bool {
        match self {
            Self::State => {
                out.u64(image.end.to_u64());
                out.i32(image.epoch);
                out.u8(if image.closed { CLOSED } else { 0 });
            }
            Self::Offsets => {
                let Some(file) = image.offsets else { return false };
                encode_file(file, out);
            }
            Self::Catalogue => image.catalogue.encode(out),
            Self::Logs => encode_logs(&image.logs, out),
            Self::Clock => {
                let Some(last_seen) = image.last_seen else { return false };
                out.i64(last_seen.count.as_millis());
                out.i64(last_seen.wall.as_millis());
            }
            Self::Compaction => return compaction::encode(&image.logs, out),
            Self::Owners if image.owners.is_empty() || planted("owners_not_in_checkpoint") => {
                return false;
            }
            Self::Owners => image.owners.encode(out),
            Self::Ids if image.ids.is_empty() => return false,
            Self::Ids => dedup::encode_topics(&image.ids, &mut out.out),
            Self::Shares => {
                let Some(file) = image.shares else { return false };
                encode_file(file, out);
            }
        }
        true
    }

    /// Reads the contents into an image.
    pub(super) fn decode(
        self,
        input: &mut Decoder<'_>,
        image: &mut CheckpointImage,
    ) -> Result<(), Unreadable> {
        match self {
            Self::State => {
                image.end = Lsn::from_u64(input.u64()?);
                image.epoch = input.i32()?;
                image.closed = match input.u8()? {
                    0 => false,
                    CLOSED => true,
                    flags => {
                        return Err(Unreadable::unsupported("checkpoint flags", flags, CLOSED));
                    }
                };
            }
            Self::Offsets => image.offsets = Some(decode_file(input)?),
            Self::Catalogue => image.catalogue = Catalogue::decode(input, |_, _| Ok(()))?,
            Self::Logs => image.logs = decode_logs(input)?,
            Self::Clock => {
                let (count, wall) = (input.i64()?, input.i64()?);
                image.last_seen = Some(LastSeen {
                    count: Timestamp::from_millis(count),
                    wall: Timestamp::from_millis(wall),
                });
            }
            Self::Compaction => compaction::decode(input, &mut image.logs)?,
            Self::Owners => image.owners = Arc::new(Owners::decode(input)?),
            Self::Ids => image.ids = dedup::decode_topics(input.take_rest())?,
            Self::Shares => image.shares = Some(decode_file(input)?),
        }
        Ok(())
    }
}

fn encode_file(file: ImageFile, out: &mut Encoder) {
    out.u8(file.slot);
    out.u64(file.generation);
    out.u32(file.crc);
}

fn decode_file(input: &mut Decoder<'_>) -> Result<ImageFile, CorruptReason> {
    let (slot, generation, crc) = (input.u8()?, input.u64()?, input.u32()?);
    if slot > 1 {
        return Err(CorruptReason::Field);
    }
    Ok(ImageFile { slot, generation, crc })
}

fn encode_logs(logs: &BTreeMap<PartitionNumber, LogImage>, out: &mut Encoder) {
    let empty = LogImage::default();
    let logs = || logs.iter().filter(|(_, log)| **log != empty);
    out.count(logs().count());
    for (number, log) in logs() {
        out.u32(number.0);
        log::encode(out, log);
    }
}

fn decode_logs(
    input: &mut Decoder<'_>,
) -> Result<BTreeMap<PartitionNumber, LogImage>, CorruptReason> {
    let mut logs = BTreeMap::new();
    for _ in 0..input.count(28)? {
        let number = PartitionNumber(input.u32()?);
        logs.insert(number, log::decode(input)?);
    }
    Ok(logs)
}

/// The first section of a body.
pub(super) struct Section<'a> {
    /// `None` for an unknown section that may be ignored.
    pub(super) tag: Option<Tag>,
    /// The whole section.
    pub(super) bytes: &'a [u8],
    pub(super) contents: &'a [u8],
    /// The sections that follow.
    pub(super) rest: &'a [u8],
}

/// Splits the first section off `body`.
///
/// # Errors
/// `UnsupportedFormat` if its tag or flags are of a newer version, and `Corrupt` if it does not fit into
/// `body`.
pub(super) fn split(body: &[u8]) -> Result<Section<'_>, Unreadable> {
    let mut input = Decoder::new(body);
    let word = input.u32()?;
    let (number, flags) = (word >> 16, word as u16);
    let length = input.u32()? as usize;
    let end = HEADER_BYTES.checked_add(length).ok_or(CorruptReason::Length)?;
    let (bytes, rest) = body.split_at_checked(end).ok_or(CorruptReason::Length)?;
    let tag = Tag::ALL.into_iter().find(|tag| *tag as u32 == number);
    let must = flags & MUST_UNDERSTAND != 0;
    if tag.is_none() && must {
        let max = Tag::ALL.into_iter().map(|tag| tag as u32).max().unwrap_or(0);
        return Err(Unreadable::unsupported("checkpoint section tag", number, max));
    }
    if (tag.is_some() || must) && flags & !MUST_UNDERSTAND != 0 {
        let what = "checkpoint section flags";
        return Err(Unreadable::unsupported(what, flags, MUST_UNDERSTAND));
    }
    let contents = bytes.get(HEADER_BYTES..).unwrap_or_default();
    Ok(Section { tag, bytes, contents, rest })
}
