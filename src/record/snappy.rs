//! Snappy as Kafka's Java client frames it (xerial `SnappyOutputStream`).
//!
//! ```text
//! 0   8  82 53 4E 41 50 50 59 00     "\x82SNAPPY\0"
//! 8   4  i32  version, 1             what others write here is not looked at
//! 12  4  i32  compatible version, 1
//! 16  4  i32  bytes of the block     then that many bytes: a raw snappy block of at most 32 KiB
//! ..     more blocks                 of input, each with its length in front, to the end
//! ```
//!
//! Some clients write one raw block without the header. Without the magic the decoder reads such a
//! block.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::io;

use super::DecodeError;
use super::bounded::DAMAGED;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const BLOCK_BYTES: usize = 32 << 10;

/// The largest expansion of a raw block: 64 bytes from a copy of 3 bytes. A block that claims more
/// is damaged. Memory is reserved only for claims that can be true.
const MOST_EXPANSION: usize = 22;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let packed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut left = limit;
    if !input.starts_with(&MAGIC) {
        return decompress_block(input, limit, &mut left, out);
    }
    let mut rest = input.get(HEADER.len()..).ok_or(DAMAGED)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or(DAMAGED)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| DAMAGED)?;
        let (block, behind) = behind.split_at_checked(length).ok_or(DAMAGED)?;
        decompress_block(block, limit, &mut left, out)?;
        rest = behind;
    }
    Ok(())
}

fn decompress_block(
    block: &[u8],
    limit: usize,
    left: &mut usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    // The crate decodes an empty input as an empty block. The format has a length in every block.
    if block.is_empty() {
        return Err(DAMAGED);
    }
    let claimed = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
    if claimed > block.len().saturating_mul(MOST_EXPANSION) {
        return Err(DAMAGED);
    }
    *left = left.checked_sub(claimed).ok_or(DecodeError::LimitExceeded { max: limit })?;
    let start = out.len();
    out.resize(start.saturating_add(claimed), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, room).map_err(|_| DAMAGED)?;
    if written == claimed { Ok(()) } else { Err(DAMAGED) }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;

    fn decompressed(input: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decompress(input, limit, &mut out).map(|()| out)
    }

    #[test]
    fn input_is_cut_into_blocks_of_32_kib() {
        let input = vec![1; 70_000];
        let mut out = Vec::new();
        compress(&input, &mut out).unwrap();
        assert!(out.starts_with(&HEADER));
        let mut rest = &out[16..];
        let mut sizes = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (block, behind) = behind.split_at(i32::from_be_bytes(*length) as usize);
            sizes.push(snap::raw::decompress_len(block).unwrap());
            rest = behind;
        }
        assert_eq!(sizes, [32768, 32768, 4464]);
        assert_eq!(decompressed(&out, 70_000).unwrap(), input);
    }

    #[test]
    fn a_raw_block_and_other_versions_are_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(decompressed(&raw, 100).unwrap(), b"hello hello hello");
        let mut framed = Vec::new();
        compress(b"hello", &mut framed).unwrap();
        framed[8..16].copy_from_slice(&[0xFF; 8]);
        assert_eq!(decompressed(&framed, 100).unwrap(), b"hello");
    }

    #[test]
    fn a_claim_that_its_bytes_cannot_keep_reserves_nothing() {
        // A block of four bytes that claims to contain 1 GiB.
        let mut out = Vec::new();
        let claim = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, 0x41];
        assert_eq!(decompress(&claim, usize::MAX, &mut out), Err(DAMAGED));
        assert_eq!(out.capacity(), 0);
        assert_eq!(decompressed(&[&HEADER[..], &[0x80, 0, 0, 0]].concat(), 10), Err(DAMAGED));
        assert_eq!(decompressed(&[&HEADER[..], &[0, 0, 0, 0]].concat(), 10), Err(DAMAGED));
    }
}
