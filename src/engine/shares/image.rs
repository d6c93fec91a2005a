//! The files `shares.a` and `shares.b`: the state of all share groups at a checkpoint.
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 8 | bytes | magic: `GLSHARES` |
//! | 8 | 4 | u32 | version: 1 |
//! | 12 | 16 | bytes | directory id of the folder |
//! | 28 | 8 | u64 | generation: rises with each image written |
//! | 36 | 8 | u64 | length of the body, n |
//! | 44 | 4 | u32 | CRC-32 of the body |
//! | 48 | 4 | u32 | CRC-32 of bytes 0..48; as it covers the body's too, it names the whole image |
//! | 52 | n | | the body |
//!
//! The body is a u32 number of groups, then the groups: name (text), settings as in a section, a u32 number of
//! share-partitions, and each of these: the number of the partition (u32), the length (u32) of its state, and the state as
//! `group::share` draws it. Numbers are big-endian.
//!
//! As the offset files, they are written in turn, and a checkpoint names one of them with its CRC. Bytes behind the image
//! mean nothing.

use crate::engine::codec::{Decoder, Encoder};
use crate::engine::shares::state::ShareStates;
use crate::error::{CorruptReason, Unreadable};

const MAGIC: [u8; 8] = *b"GLSHARES";
const VERSION: u32 = 1;
pub(in crate::engine) const SHARE_IMAGE_HEADER: usize = 52;
const BODY_BYTES_AT: usize = 36;
const CRC_AT: usize = 48;

/// A decoded image.
#[derive(Debug)]
pub(in crate::engine) struct DecodedShares {
    pub(in crate::engine) states: ShareStates,
    pub(in crate::engine) generation: u64,
    pub(in crate::engine) directory_id: [u8; 16],
    /// The CRC by which a checkpoint names it.
    pub(in crate::engine) crc: u32,
}

/// Returns the image with this body, and the CRC that names it.
pub(in crate::engine) fn encode_share_image(
    body: &[u8],
    directory_id: [u8; 16],
    generation: u64,
) -> (Vec<u8>, u32) {
    let mut out = Encoder::default();
    out.bytes(&MAGIC);
    out.u32(VERSION);
    out.bytes(&directory_id);
    out.u64(generation);
    out.u64(body.len() as u64);
    out.u32(crc32fast::hash(body));
    let crc = crc32fast::hash(&out.out);
    out.u32(crc);
    out.bytes(body);
    (out.out, crc)
}

/// Returns the length of the image that begins with `head`, as its header states it.
pub(in crate::engine) fn share_image_bytes(head: &[u8]) -> u64 {
    let length = head.get(BODY_BYTES_AT..).and_then(|bytes| bytes.first_chunk().copied());
    length.map_or(0, u64::from_be_bytes).saturating_add(SHARE_IMAGE_HEADER as u64)
}

/// Decodes the image at the start of a file.
pub(in crate::engine) fn decode_share_image(bytes: &[u8]) -> Result<DecodedShares, Unreadable> {
    let mut input = Decoder::new(bytes);
    if input.array()? != MAGIC {
        return Err(CorruptReason::Magic.into());
    }
    let version = input.u32()?;
    let (directory_id, generation) = (input.array()?, input.u64()?);
    let length = usize::try_from(input.u64()?).map_err(|_| CorruptReason::Length)?;
    let (body_crc, crc) = (input.u32()?, input.u32()?);
    let head = bytes.get(..CRC_AT).ok_or(CorruptReason::Length)?;
    if crc32fast::hash(head) != crc {
        return Err(CorruptReason::Checksum.into());
    }
    if version != VERSION {
        return Err(Unreadable::unsupported("format version", version, VERSION));
    }
    let body = input.take_rest().get(..length).ok_or(CorruptReason::Length)?;
    if crc32fast::hash(body) != body_crc {
        return Err(CorruptReason::Checksum.into());
    }
    let mut input = Decoder::new(body);
    let states = ShareStates::decode(&mut input)?;
    input.finish()?;
    Ok(DecodedShares { states, generation, directory_id, crc })
}
