#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]

use super::*;

const KIND: ImageKind = ImageKind { magic: *b"GLTESTED", versions: (3, 3) };
const ID: [u8; 16] = *b"directory id 016";
const BODY: &[u8] = b"the body";

fn image() -> (Vec<u8>, u32) {
    let (header, crc) = KIND.header((3, BODY), ID, 1 << 40);
    (header.into_iter().chain(BODY.iter().copied()).collect(), crc)
}

/// Gives the header a right checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[..48]);
    bytes[48..52].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn an_image_opens_to_its_body() {
    let (mut bytes, crc) = image();
    let header = ImageHeader { directory_id: ID, generation: 1 << 40, version: 3, crc };
    assert_eq!(bytes.len(), IMAGE_HEADER_BYTES + BODY.len());
    assert_eq!(KIND.open(&bytes), Ok((header, BODY)));
    assert_eq!(image_bytes(&bytes), bytes.len() as u64);
    bytes.extend(b"what an earlier image has left");
    assert_eq!(KIND.open(&bytes), Ok((header, BODY)));
    let (empty, crc) = KIND.header((3, b""), ID, 0);
    let header = ImageHeader { directory_id: ID, generation: 0, version: 3, crc };
    assert_eq!(KIND.open(&empty), Ok((header, &b""[..])));
}

#[test]
fn every_cut_and_every_flipped_bit_is_damage() {
    let (bytes, _) = image();
    for cut in 0..bytes.len() {
        let expected = match cut {
            0..IMAGE_HEADER_BYTES => (cut as u64, CorruptReason::Length),
            _ => (36, CorruptReason::Length),
        };
        let (position, reason) = expected;
        assert_eq!(
            KIND.open(&bytes[..cut]),
            Err(ImageError::Corrupt { position, reason }),
            "{cut}"
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (position, reason) = match bit / 8 {
            0..8 => (0, CorruptReason::Magic),
            8..IMAGE_HEADER_BYTES => (0, CorruptReason::Checksum),
            _ => (IMAGE_HEADER_BYTES as u64, CorruptReason::Checksum),
        };
        assert_eq!(KIND.open(&flipped), Err(ImageError::Corrupt { position, reason }), "{bit}");
    }
}

#[test]
fn wrong_fields_with_right_checksums_are_refused() {
    let (bytes, _) = image();
    let other = ImageKind { magic: *b"GLOTHERS", ..KIND };
    let magic = ImageError::Corrupt { position: 0, reason: CorruptReason::Magic };
    assert_eq!(other.open(&bytes), Err(magic));
    for found in [0, 2, 4, u32::MAX] {
        let mut later = bytes.clone();
        later[8..12].copy_from_slice(&found.to_be_bytes());
        let later = sealed(later);
        assert_eq!(KIND.open(&later), Err(ImageError::Version { found, max: 3 }), "not damage");
    }
    let length = ImageError::Corrupt { position: 36, reason: CorruptReason::Length };
    for len in [BODY.len() as u64 + 1, 1 << 40, u64::MAX] {
        let mut longer = bytes.clone();
        longer[36..44].copy_from_slice(&len.to_be_bytes());
        assert_eq!(KIND.open(&sealed(longer)), Err(length), "{len}");
    }
    let mut shorter = bytes;
    shorter[36..44].copy_from_slice(&7_u64.to_be_bytes());
    let sum = ImageError::Corrupt { position: 52, reason: CorruptReason::Checksum };
    assert_eq!(KIND.open(&sealed(shorter)), Err(sum));
}

#[test]
fn the_errors_name_file_and_byte() {
    let path = Path::new("shares.b");
    let damage = ImageError::Corrupt { position: 36, reason: CorruptReason::Length }.at(path);
    let Error::Corrupt(damage) = damage else { panic!("{damage:?}") };
    assert_eq!((&*damage.path, damage.position), (path, 36));
    assert_eq!(damage.reason, CorruptReason::Length);
    let newer = ImageError::Version { found: 9, max: 3 }.at(path);
    assert!(matches!(newer, Error::UnsupportedFormat { found: 9, max: 3, .. }), "{newer:?}");
}

#[test]
fn the_size_of_an_image_is_as_its_head_states_it() {
    let (bytes, _) = image();
    for cut in 0..44 {
        assert_eq!(image_bytes(&bytes[..cut]), 52, "{cut}");
    }
    assert_eq!(image_bytes(&bytes[..44]), 60);
    let mut huge = bytes;
    huge[36..44].fill(0xff);
    assert_eq!(image_bytes(&huge), u64::MAX);
}
