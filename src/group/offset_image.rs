//! The offset files `offsets.a` and `offsets.b`: the committed offsets of all groups at a checkpoint.
//!
//! Each begins with the header that `image_header` draws: magic `GLOFFSET`, version 2 or 3. All numbers are big-endian.
//!
//! The body is a u32 number of groups, then the groups in rising order of their names' bytes. A group is the
//! length of its name (u16, from 1), the name in UTF-8, the time when it was last known to have members (i64,
//! milliseconds since 1970; -1 = never), a u32 number of entries (from 1), and the entries. The entries are
//! in rising order of their partition numbers, in the form that `offset_section` draws; none of them removes.
//!
//! If a named owner has committed one of the offsets, the version is 3, and behind each entry stand the length of its
//! owner's name (u16; 0 = it has none), the name in UTF-8, and the owner's epoch (i32, not negative). Otherwise it is 2,
//! which earlier builds read. So each store has exactly one image, and any other order is damage.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::sync::Arc;

use super::image_header::{IMAGE_HEADER_BYTES, ImageError, ImageHeader, ImageKind};
use super::offset_section::{Reader, put_entry, put_text};
use super::offsets::{CommitOwner, GroupOffsets, OffsetStore};
use crate::error::CorruptReason;
use crate::types::Timestamp;

pub(crate) const OFFSET_IMAGE: ImageKind = ImageKind { magic: *b"GLOFFSET", versions: (2, 3) };
/// Entries have owners from this version on.
const OWNED: u32 = 3;

/// The smallest size of a group: a name of one byte and one entry without metadata.
const GROUP_MIN_BYTES: usize = 2 + 1 + 8 + 4 + ENTRY_MIN_BYTES;
const NEVER: i64 = -1;
const ENTRY_MIN_BYTES: usize = 4 + 8 + 4 + 8 + 2;

/// Encodes a store as the body of an image. Returns the version and the body.
pub(crate) fn encode_image(offsets: &OffsetStore) -> (u32, Vec<u8>) {
    let has_owner = |offsets: &GroupOffsets| offsets.iter().any(|(_, at)| at.owner.is_some());
    let owned = offsets.iter().any(|(_, offsets)| has_owner(offsets));
    let mut image = Vec::new();
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
            match offset.owner.as_ref() {
                _ if !owned => {}
                None => put_text(&mut image, ""),
                Some(owner) => {
                    put_text(&mut image, &owner.id);
                    image.extend_from_slice(&owner.epoch.to_be_bytes());
                }
            }
        }
    }
    (if owned { OWNED } else { OWNED.saturating_sub(1) }, image)
}

/// Decodes the image at the start of a file's bytes.
pub(crate) fn decode_image(bytes: &[u8]) -> Result<(ImageHeader, OffsetStore), ImageError> {
    let (header, body) = OFFSET_IMAGE.open(bytes)?;
    let mut reader = Reader::new(body);
    let offsets = decode_body(&mut reader, header.version >= OWNED).map_err(|reason| {
        let read = body.len().saturating_sub(reader.rest.len());
        let position = IMAGE_HEADER_BYTES.saturating_add(read) as u64;
        ImageError::Corrupt { position, reason }
    })?;
    Ok((header, offsets))
}

fn decode_body(reader: &mut Reader<'_>, owned: bool) -> Result<OffsetStore, CorruptReason> {
    let mut store = OffsetStore::new();
    let mut owner = None;
    let mut last: Option<Arc<str>> = None;
    for _ in 0..reader.count(GROUP_MIN_BYTES)? {
        let group = reader.name()?;
        if last.is_some_and(|last| last >= group) {
            return Err(CorruptReason::Field);
        }
        last = Some(Arc::clone(&group));
        store.insert_group(group, decode_group(reader, owned, &mut owner)?);
    }
    match reader.rest {
        // Without an owner it would be of the older version.
        [] if owned && owner.is_none() => Err(CorruptReason::Field),
        [] => Ok(store),
        _ => Err(CorruptReason::Length),
    }
}

/// Decodes a group. `last` is the last owner, as many entries in a row have the same.
fn decode_group(
    reader: &mut Reader<'_>,
    owned: bool,
    last: &mut Option<Arc<CommitOwner>>,
) -> Result<GroupOffsets, CorruptReason> {
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
        let mut offset = offset.ok_or(CorruptReason::Field)?;
        if owned && let Some(owner) = reader.optional_owner()? {
            let same = last.take().filter(|last| **last == owner);
            offset.owner = Some(same.unwrap_or_else(|| Arc::new(owner)));
            last.clone_from(&offset.owner);
        }
        if !offsets.push(partition, offset) {
            return Err(CorruptReason::Field);
        }
    }
    Ok(offsets)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::offset_section::tests::{committed, owner};
    use super::super::offsets::CommittedOffset;
    use super::*;
    use crate::error::Error;
    use crate::types::PartitionNumber;

    fn store() -> impl Strategy<Value = OffsetStore> {
        let owned =
            (committed(), owner()).prop_map(|(offset, owner)| CommittedOffset { owner, ..offset });
        let committed = prop_oneof![committed(), owned];
        let entries =
            prop::collection::btree_map(any::<u32>().prop_map(PartitionNumber), committed, 1..6);
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
            owner: None,
        };
        let mut offsets = GroupOffsets::default();
        offsets.set_last_active(Some(Timestamp::from_millis(8)));
        assert!(offsets.push(PartitionNumber(7), offset));
        let mut store = OffsetStore::new();
        assert!(store.insert_group("g".into(), offsets));
        store
    }

    fn encoded(store: &OffsetStore, directory_id: [u8; 16], generation: u64) -> (Vec<u8>, u32) {
        let (version, body) = encode_image(store);
        let (mut image, crc) = OFFSET_IMAGE.header((version, &body), directory_id, generation);
        image.extend(body);
        (image, crc)
    }

    /// Builds an image with this body and right checksums.
    fn with_body(body: &[u8]) -> Vec<u8> {
        with_header(2, body.len() as u64, body)
    }

    fn with_header(version: u32, length: u64, body: &[u8]) -> Vec<u8> {
        let mut image = OFFSET_IMAGE.magic.to_vec();
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
        let (image, crc) = encoded(&small(), [9; 16], 3);
        assert_eq!(image, with_body(&body));
        let header = ImageHeader { directory_id: [9; 16], generation: 3, version: 2, crc };
        assert_eq!(decode_image(&image), Ok((header, small())));
        assert_eq!(image[48..52], crc.to_be_bytes());
        let mut owned = OffsetStore::new();
        let mut offsets = GroupOffsets::clone(small().group("g").unwrap());
        let owner = Some(Arc::new(CommitOwner { id: "o".into(), epoch: 4 }));
        let offset = offsets.get(PartitionNumber(7)).unwrap().clone();
        assert!(offsets.push(PartitionNumber(8), CommittedOffset { owner, ..offset }));
        assert!(owned.insert_group("g".into(), offsets));
        let entry = &body[19..];
        let body = [&body[..15], &[0, 0, 0, 2], entry, &[0, 0], &[0, 0, 0, 8], &entry[4..]];
        let body = [&body.concat()[..], &[0, 1, b'o', 0, 0, 0, 4]].concat();
        assert_eq!(encode_image(&owned), (3, body.clone()));
        let image = with_header(3, body.len() as u64, &body);
        assert_eq!(decode_image(&image).unwrap().1, owned);
        // An owner that is none, of a version that has some.
        let (_, plain) = encode_image(&small());
        let nobody = [&plain[..], &[0, 0]].concat();
        let image = with_header(3, nobody.len() as u64, &nobody);
        assert_eq!(reason(&image).1, CorruptReason::Field);
    }

    #[test]
    fn bytes_behind_the_image_mean_nothing() {
        let (mut image, _) = encoded(&small(), [9; 16], 3);
        image.extend(encoded(&small(), [8; 16], 2).0);
        assert_eq!(decode_image(&image).unwrap().0.generation, 3);
    }

    #[test]
    fn a_newer_version_is_told_from_a_damaged_one() {
        let newer = with_header(4, 0, &[]);
        let (found, max) = (4, OFFSET_IMAGE.versions.1);
        assert_eq!(decode_image(&newer).unwrap_err(), ImageError::Version { found, max });
        let error = ImageError::Version { found, max }.at(Path::new("offsets.a"));
        assert!(matches!(error, Error::UnsupportedFormat { found: 4, max: 3, .. }));
        let (mut damaged, _) = encoded(&small(), [9; 16], 3);
        damaged[11] ^= 2;
        assert_eq!(reason(&damaged), (0, CorruptReason::Checksum));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let (image, _) = encoded(&small(), [9; 16], 3);
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
        assert_eq!(reason(&with_header(2, u64::MAX, &[])), (36, CorruptReason::Length));
        assert_eq!(reason(&with_body(&[255; 4])), (56, CorruptReason::Count));
        assert_eq!(reason(&with_body(&[0, 0, 0, 0, 1])), (56, CorruptReason::Length));
        let (image, _) = encoded(&small(), [9; 16], 3);
        let group = &image[IMAGE_HEADER_BYTES + 4..];
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
            let (image, crc) = encoded(&store, [1; 16], generation);
            let (version, _) = encode_image(&store);
            let header = ImageHeader { directory_id: [1; 16], generation, version, crc };
            prop_assert_eq!(decode_image(&image), Ok((header, store)));
        }

        #[test]
        fn any_body_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in [2, 3] {
                let _either = decode_image(&with_header(version, body.len() as u64, &body));
            }
            let _either = decode_image(&body);
        }

        #[test]
        fn an_image_that_decodes_encodes_to_the_same_bytes(
            store in store(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let (version, mut body) = encode_image(&store);
            let at = at.index(body.len());
            body[at] = byte;
            let image = with_header(version, body.len() as u64, &body);
            if let Ok((_, offsets)) = decode_image(&image) {
                prop_assert_eq!(encoded(&offsets, [9; 16], 3).0, image);
            }
        }
    }
}
