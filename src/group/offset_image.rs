//! The offset files `offsets.a` and `offsets.b`: the committed offsets of all groups at a checkpoint.
//!
//! All numbers are big-endian.
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 8 | bytes | magic: `GLOFFSET` |
//! | 8 | 4 | u32 | version: 2 |
//! | 12 | 16 | bytes | directory id of the folder |
//! | 28 | 8 | u64 | generation: rises with each image written |
//! | 36 | 8 | u64 | length of the body, n |
//! | 44 | 4 | u32 | CRC-32 of the body |
//! | 48 | 4 | u32 | CRC-32 of bytes 0..48; as it covers the body's too, it names the whole image |
//! | 52 | n | | the body |
//!
//! The body is a u32 number of groups, then the groups in rising order of their names' bytes. A group is the
//! length of its name (u16, from 1), the name in UTF-8, the time when it was last known to have members (i64,
//! milliseconds since 1970; -1 = never), a u32 number of entries (from 1), and the entries. The entries are
//! in rising order of their partition numbers, in the form that `offset_section` draws; none of them removes.
//! So each store has exactly one image, and any other order is damage.
//!
//! The checkpointer writes the file that the last checkpoint does not name, syncs it, and then writes the
//! checkpoint that names it with its CRC. Recovery reads the named file. The files are preallocated and
//! reused, so bytes behind the image mean nothing. No checkpoint ever names a torn image; a named image that
//! does not verify is damage. Later versions keep the first 52 bytes, so a reader trusts the version only if
//! the header's CRC is right.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use super::offset_section::{Reader, put_entry, put_text};
use super::offsets::{GroupOffsets, OffsetStore};
use crate::error::{CorruptReason, Error, Unreadable};
use crate::types::Timestamp;

const MAGIC: [u8; 8] = *b"GLOFFSET";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 52;
/// The position of the length of the body.
const BODY_BYTES_AT: usize = 36;

/// The smallest size of a group: a name of one byte and one entry without metadata.
const GROUP_MIN_BYTES: usize = 2 + 1 + 8 + 4 + ENTRY_MIN_BYTES;
const NEVER: i64 = -1;
const ENTRY_MIN_BYTES: usize = 4 + 8 + 4 + 8 + 2;

/// A decoded image.
#[derive(Debug)]
pub(crate) struct DecodedImage {
    /// The committed offsets.
    pub(crate) offsets: OffsetStore,
    /// The generation of the image.
    pub(crate) generation: u64,
    /// The directory id of the folder that it was written for.
    pub(crate) directory_id: [u8; 16],
    /// The CRC by which a checkpoint names it.
    pub(crate) crc: u32,
}

/// Why an image cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// It is damaged.
    Corrupt {
        /// The byte of the file where the decoder noticed it.
        position: u64,
        /// What is wrong there.
        reason: CorruptReason,
    },
    /// It is intact, but this build does not know its version.
    Version {
        /// The version.
        found: u32,
        /// The newest version that this build knows.
        max: u32,
    },
}

impl ImageError {
    /// Returns the error for a file at this path.
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Self::Corrupt { position, reason } => Error::corrupt(path, position, reason),
            Self::Version { found, max } => {
                Unreadable::unsupported("format version", found, max).at(path, 8)
            }
        }
    }
}

/// Encodes a store as an image.
pub(crate) fn encode_image(
    offsets: &OffsetStore,
    directory_id: [u8; 16],
    generation: u64,
) -> Vec<u8> {
    // The header is filled in last, when the length and CRC of the body are known.
    let mut image = vec![0; HEADER_BYTES];
    image.extend_from_slice(&(offsets.len() as u32).to_be_bytes());
    let mut groups: Vec<_> = offsets.iter().collect();
    groups.sort_by_key(|(group, _)| *group);
    for (group, entries) in groups {
        put_text(&mut image, group);
        let last_active = entries.last_active().map_or(NEVER, Timestamp::as_millis);
        image.extend_from_slice(&last_active.to_be_bytes());
        image.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        for (partition, offset) in entries.iter() {
            put_entry(&mut image, partition, Some(offset));
        }
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_be_bytes());
    header.extend_from_slice(&directory_id);
    header.extend_from_slice(&generation.to_be_bytes());
    if let Some((space, body)) = image.split_at_mut_checked(HEADER_BYTES) {
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
        space.copy_from_slice(&header);
    }
    image
}

/// Returns the CRC by which a checkpoint names this image; `None` if there is no header.
pub(crate) fn image_crc(bytes: &[u8]) -> Option<u32> {
    bytes.get(..HEADER_BYTES)?.last_chunk().copied().map(u32::from_be_bytes)
}

/// Returns the size of the image that begins a file, as its first bytes state it.
pub(crate) fn image_bytes(head: &[u8]) -> u64 {
    let header = HEADER_BYTES as u64;
    let body = head.get(BODY_BYTES_AT..).and_then(|rest| rest.first_chunk().copied());
    body.map_or(header, |body| header.saturating_add(u64::from_be_bytes(body)))
}

/// Decodes the image at the start of a file's bytes.
pub(crate) fn decode_image(bytes: &[u8]) -> Result<DecodedImage, ImageError> {
    let header = decode_header(bytes)?;
    let corrupt =
        |position: usize, reason| ImageError::Corrupt { position: position as u64, reason };
    let body = usize::try_from(header.body_bytes)
        .ok()
        .and_then(|length| bytes.get(HEADER_BYTES..)?.get(..length))
        .ok_or(corrupt(BODY_BYTES_AT, CorruptReason::Length))?;
    if crc32fast::hash(body) != header.body_crc {
        return Err(corrupt(HEADER_BYTES, CorruptReason::Checksum));
    }
    let mut reader = Reader::new(body);
    let offsets = decode_body(&mut reader).map_err(|reason| {
        let read = body.len().saturating_sub(reader.rest.len());
        corrupt(HEADER_BYTES.saturating_add(read), reason)
    })?;
    Ok(DecodedImage {
        offsets,
        generation: header.generation,
        directory_id: header.directory_id,
        crc: header.crc,
    })
}

#[derive(Debug)]
struct Header {
    directory_id: [u8; 16],
    generation: u64,
    body_bytes: u64,
    body_crc: u32,
    crc: u32,
}

fn decode_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let corrupt = |position, reason| ImageError::Corrupt { position, reason };
    let short = |reason| corrupt(bytes.len() as u64, reason);
    let mut reader = Reader::new(bytes);
    let magic: [u8; 8] = reader.array().map_err(short)?;
    if magic != MAGIC {
        return Err(corrupt(0, CorruptReason::Magic));
    }
    let version = reader.u32().map_err(short)?;
    let directory_id = reader.array().map_err(short)?;
    let generation = reader.array().map(u64::from_be_bytes).map_err(short)?;
    let body_bytes = reader.array().map(u64::from_be_bytes).map_err(short)?;
    let body_crc = reader.u32().map_err(short)?;
    let crc = reader.u32().map_err(short)?;
    // The CRC covers the header except the CRC itself.
    let covered = bytes.get(..HEADER_BYTES.saturating_sub(4)).unwrap_or_default();
    if crc32fast::hash(covered) != crc {
        return Err(corrupt(0, CorruptReason::Checksum));
    }
    if version != VERSION {
        // No build ever wrote version 0. Its CRC is right, so it is not damage either.
        return Err(ImageError::Version { found: version, max: VERSION });
    }
    Ok(Header { directory_id, generation, body_bytes, body_crc, crc })
}

fn decode_body(reader: &mut Reader<'_>) -> Result<OffsetStore, CorruptReason> {
    let mut store = OffsetStore::new();
    let mut last: Option<Arc<str>> = None;
    for _ in 0..reader.count(GROUP_MIN_BYTES)? {
        let group = reader.name()?;
        if last.is_some_and(|last| last >= group) {
            return Err(CorruptReason::Field);
        }
        last = Some(Arc::clone(&group));
        store.insert_group(group, decode_group(reader)?);
    }
    if reader.rest.is_empty() { Ok(store) } else { Err(CorruptReason::Length) }
}

fn decode_group(reader: &mut Reader<'_>) -> Result<GroupOffsets, CorruptReason> {
    let last_active = match reader.array().map(i64::from_be_bytes)? {
        NEVER => None,
        millis if millis < 0 => return Err(CorruptReason::Field),
        millis => Some(Timestamp::from_millis(millis)),
    };
    let count = reader.count(ENTRY_MIN_BYTES)?;
    if count == 0 {
        return Err(CorruptReason::Count);
    }
    let mut offsets = GroupOffsets::with_capacity(count);
    offsets.set_last_active(last_active);
    for _ in 0..count {
        let (partition, offset) = reader.entry()?;
        let offset = offset.ok_or(CorruptReason::Field)?;
        if !offsets.push(partition, offset) {
            return Err(CorruptReason::Field);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::offset_section::tests::committed;
    use super::super::offsets::CommittedOffset;
    use super::*;
    use crate::types::PartitionNumber;

    fn store() -> impl Strategy<Value = OffsetStore> {
        let entries =
            prop::collection::btree_map(any::<u32>().prop_map(PartitionNumber), committed(), 1..6);
        let offsets = (prop::option::of(0..i64::MAX), entries);
        prop::collection::btree_map("\\PC{1,12}", offsets, 0..12).prop_map(|groups| {
            let mut store = OffsetStore::new();
            for (group, (last_active, entries)) in groups {
                let mut offsets = GroupOffsets::default();
                offsets.set_last_active(last_active.map(Timestamp::from_millis));
                for (partition, offset) in entries {
                    assert!(offsets.push(partition, offset));
                }
                assert!(store.insert_group(group.into(), offsets));
            }
            store
        })
    }

    fn small() -> OffsetStore {
        let offset = CommittedOffset {
            offset: 5,
            leader_epoch: None,
            metadata: Arc::default(),
            commit_timestamp: Timestamp::from_millis(6),
        };
        let mut offsets = GroupOffsets::default();
        offsets.set_last_active(Some(Timestamp::from_millis(8)));
        assert!(offsets.push(PartitionNumber(7), offset));
        let mut store = OffsetStore::new();
        assert!(store.insert_group("g".into(), offsets));
        store
    }

    /// Builds an image with this body and right checksums.
    fn with_body(body: &[u8]) -> Vec<u8> {
        with_header(VERSION, body.len() as u64, body)
    }

    fn with_header(version: u32, length: u64, body: &[u8]) -> Vec<u8> {
        let mut image = MAGIC.to_vec();
        image.extend(version.to_be_bytes());
        image.extend([9; 16]);
        image.extend(3_u64.to_be_bytes());
        image.extend(length.to_be_bytes());
        image.extend(crc32fast::hash(body).to_be_bytes());
        image.extend(crc32fast::hash(&image).to_be_bytes());
        image.extend(body);
        image
    }

    fn reason(bytes: &[u8]) -> (u64, CorruptReason) {
        match decode_image(bytes) {
            Err(ImageError::Corrupt { position, reason }) => (position, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_diagram() {
        #[rustfmt::skip]
        let body = [
            0, 0, 0, 1, 0, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1,
            0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0,
        ];
        let image = encode_image(&small(), [9; 16], 3);
        assert_eq!(image, with_body(&body));
        let decoded = decode_image(&image).unwrap();
        assert_eq!(decoded.offsets, small());
        assert_eq!((decoded.generation, decoded.directory_id), (3, [9; 16]));
        assert_eq!(Some(decoded.crc), image_crc(&image));
        assert_eq!(image_crc(&image[..51]), None);
    }

    #[test]
    fn bytes_behind_the_image_mean_nothing() {
        let mut image = encode_image(&small(), [9; 16], 3);
        image.extend(encode_image(&small(), [8; 16], 2));
        assert_eq!(decode_image(&image).unwrap().generation, 3);
    }

    #[test]
    fn a_newer_version_is_told_from_a_damaged_one() {
        let newer = with_header(VERSION + 1, 0, &[]);
        let (found, max) = (VERSION + 1, VERSION);
        assert_eq!(decode_image(&newer).unwrap_err(), ImageError::Version { found, max });
        let error = ImageError::Version { found, max }.at(Path::new("offsets.a"));
        assert!(matches!(error, Error::UnsupportedFormat { found: 3, max: 2, .. }));
        let mut damaged = encode_image(&small(), [9; 16], 3);
        damaged[11] ^= 2;
        assert_eq!(reason(&damaged), (0, CorruptReason::Checksum));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let image = encode_image(&small(), [9; 16], 3);
        for at in 0..image.len() {
            let mut damaged = image.clone();
            damaged[at] ^= 0x40;
            let error = decode_image(&damaged).unwrap_err();
            assert!(matches!(error, ImageError::Corrupt { .. }), "byte {at}: {error:?}");
            assert!(matches!(decode_image(&image[..at]), Err(ImageError::Corrupt { .. })), "{at}");
        }
    }

    #[test]
    fn a_body_that_breaks_its_rules_is_refused_even_if_its_checksum_is_right() {
        assert_eq!(reason(&with_body(&[])), (52, CorruptReason::Length));
        assert_eq!(reason(&with_header(VERSION, u64::MAX, &[])), (36, CorruptReason::Length));
        assert_eq!(reason(&with_body(&[255; 4])), (56, CorruptReason::Count));
        assert_eq!(reason(&with_body(&[0, 0, 0, 0, 1])), (56, CorruptReason::Length));
        let image = encode_image(&small(), [9; 16], 3);
        let group = &image[HEADER_BYTES + 4..];
        let twice = [&[0, 0, 0, 2], group, group].concat();
        assert_eq!(reason(&with_body(&twice)).1, CorruptReason::Field);
        let before: Vec<u8> = group.iter().map(|&b| if b == b'g' { b'f' } else { b }).collect();
        assert!(decode_image(&with_body(&[&[0, 0, 0, 2], &before[..], group].concat())).is_ok());
        let falling = [&[0, 0, 0, 2], group, &before[..]].concat();
        assert_eq!(reason(&with_body(&falling)).1, CorruptReason::Field);
        let (head, entry) = (&group[..11], &group[15..]);
        let again = [&[0, 0, 0, 1], head, &[0, 0, 0, 2], entry, entry].concat();
        assert_eq!(reason(&with_body(&again)).1, CorruptReason::Field);
        let empty = [&[0, 0, 0, 1], head, &[0, 0, 0, 0], entry].concat();
        assert_eq!(reason(&with_body(&empty)).1, CorruptReason::Count);
        let time = [&[0, 0, 0, 1], &head[..3], &[255, 255, 255, 255, 0, 0, 0, 0], &group[11..]];
        assert_eq!(reason(&with_body(&time.concat())).1, CorruptReason::Field);
    }

    proptest! {
        #[test]
        fn an_image_decodes_to_the_store_that_was_encoded(store in store(), generation in any::<u64>()) {
            let decoded = decode_image(&encode_image(&store, [1; 16], generation)).unwrap();
            prop_assert_eq!(decoded.offsets, store);
            prop_assert_eq!(decoded.generation, generation);
        }

        #[test]
        fn any_body_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _either = decode_image(&with_body(&body));
            let _either = decode_image(&body);
        }

        #[test]
        fn an_image_that_decodes_encodes_to_the_same_bytes(
            store in store(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut body = encode_image(&store, [9; 16], 3).split_off(HEADER_BYTES);
            let at = at.index(body.len());
            body[at] = byte;
            let image = with_body(&body);
            if let Ok(decoded) = decode_image(&image) {
                prop_assert_eq!(encode_image(&decoded.offsets, [9; 16], 3), image);
            }
        }
    }
}
