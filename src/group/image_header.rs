//! The header of the files that hold the state of groups at a checkpoint: `offsets.a` and `.b`, `shares.a` and `.b`.
//!
//! All numbers are big-endian.
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 8 | bytes | magic |
//! | 8 | 4 | u32 | version |
//! | 12 | 16 | bytes | directory id of the folder |
//! | 28 | 8 | u64 | generation: rises with each image written |
//! | 36 | 8 | u64 | length of the body, n |
//! | 44 | 4 | u32 | CRC-32 of the body |
//! | 48 | 4 | u32 | CRC-32 of bytes 0..48; as it covers the body's too, it names the whole image |
//! | 52 | n | | the body |
//!
//! The checkpointer writes the file that the last checkpoint does not name, syncs it, and then writes the
//! checkpoint that names it with its CRC. Recovery reads the named file. The files are preallocated and
//! reused, so bytes behind the image mean nothing. No checkpoint ever names a torn image; a named image that
//! does not verify is damage. Later versions keep these 52 bytes, so a reader trusts the version only if the
//! header's CRC is right.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::Path;

use super::offset_section::Reader;
use crate::error::{CorruptReason, Error, Unreadable};

/// The bytes before the body.
pub(crate) const IMAGE_HEADER_BYTES: usize = 52;
/// The position of the length of the body.
const BODY_BYTES_AT: usize = 36;

/// What an image is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageKind {
    pub(crate) magic: [u8; 8],
    /// The oldest and the newest version that this build reads.
    pub(crate) versions: (u32, u32),
}

/// What the header of an intact image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageHeader {
    /// The directory id of the folder that it was written for.
    pub(crate) directory_id: [u8; 16],
    /// The generation of the image.
    pub(crate) generation: u64,
    /// The version of its body.
    pub(crate) version: u32,
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

impl ImageKind {
    /// Returns the header of an image with this body, and the CRC that names the image.
    pub(crate) fn header(
        self,
        (version, body): (u32, &[u8]),
        directory_id: [u8; 16],
        generation: u64,
    ) -> (Vec<u8>, u32) {
        let mut header = Vec::with_capacity(IMAGE_HEADER_BYTES);
        header.extend_from_slice(&self.magic);
        header.extend_from_slice(&version.to_be_bytes());
        header.extend_from_slice(&directory_id);
        header.extend_from_slice(&generation.to_be_bytes());
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
        let crc = crc32fast::hash(&header);
        header.extend_from_slice(&crc.to_be_bytes());
        (header, crc)
    }

    /// Checks the image at the start of a file's bytes. Returns its header and its body.
    pub(crate) fn open(self, bytes: &[u8]) -> Result<(ImageHeader, &[u8]), ImageError> {
        let corrupt = |position, reason| ImageError::Corrupt { position, reason };
        let short = |reason| corrupt(bytes.len() as u64, reason);
        let mut reader = Reader::new(bytes);
        let magic: [u8; 8] = reader.array().map_err(short)?;
        if magic != self.magic {
            return Err(corrupt(0, CorruptReason::Magic));
        }
        let version = reader.u32().map_err(short)?;
        let directory_id = reader.array().map_err(short)?;
        let generation = reader.array().map(u64::from_be_bytes).map_err(short)?;
        let body_bytes = reader.array().map(u64::from_be_bytes).map_err(short)?;
        let body_crc = reader.u32().map_err(short)?;
        let crc = reader.u32().map_err(short)?;
        // The CRC covers the header except the CRC itself.
        let covered = bytes.get(..IMAGE_HEADER_BYTES.saturating_sub(4)).unwrap_or_default();
        if crc32fast::hash(covered) != crc {
            return Err(corrupt(0, CorruptReason::Checksum));
        }
        let (oldest, newest) = self.versions;
        if !(oldest..=newest).contains(&version) {
            // No build ever wrote version 0. Its CRC is right, so it is not damage either.
            return Err(ImageError::Version { found: version, max: newest });
        }
        let body = usize::try_from(body_bytes).ok().and_then(|length| reader.rest.get(..length));
        let body = body.ok_or(corrupt(BODY_BYTES_AT as u64, CorruptReason::Length))?;
        if crc32fast::hash(body) != body_crc {
            return Err(corrupt(IMAGE_HEADER_BYTES as u64, CorruptReason::Checksum));
        }
        Ok((ImageHeader { directory_id, generation, version, crc }, body))
    }
}

/// Returns the size of the image that begins a file, as its first bytes state it.
pub(crate) fn image_bytes(head: &[u8]) -> u64 {
    let header = IMAGE_HEADER_BYTES as u64;
    let body = head.get(BODY_BYTES_AT..).and_then(|rest| rest.first_chunk().copied());
    body.map_or(header, |body| header.saturating_add(u64::from_be_bytes(body)))
}

#[cfg(test)]
mod tests;
