//! The files `shares.a` and `shares.b`: the state of all share groups at a checkpoint.
//!
//! Each begins with the header that the offset files have, too (`group::image_header`): magic `GLSHARES`, version 1.
//!
//! The body is a u32 number of groups, then the groups: name (text), settings as in a section, a u32 number of
//! share-partitions, and each of these: the number of the partition (u32), the length (u32) of its state, and the state as
//! `group::share` draws it. Numbers are big-endian.

use std::path::Path;

use crate::engine::codec::Decoder;
use crate::engine::shares::state::ShareStates;
use crate::error::{Result, Unreadable};
use crate::group::{IMAGE_HEADER_BYTES, ImageHeader, ImageKind};

pub(in crate::engine) const SHARE_IMAGE: ImageKind =
    ImageKind { magic: *b"GLSHARES", versions: (1, 1) };

/// Decodes the image at the start of a file.
pub(in crate::engine) fn decode_share_image(
    bytes: &[u8],
    path: &Path,
) -> Result<(ImageHeader, ShareStates)> {
    let (header, body) = SHARE_IMAGE.open(bytes).map_err(|error| error.at(path))?;
    let mut input = Decoder::new(body);
    let decoded = ShareStates::decode(&mut input);
    let states = decoded.and_then(|states| {
        input.finish()?;
        Ok(states)
    });
    let states = states.map_err(|cause: Unreadable| cause.at(path, IMAGE_HEADER_BYTES as u64))?;
    Ok((header, states))
}

#[cfg(test)]
mod tests;
