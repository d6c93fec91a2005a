//! LZ4 frames as Kafka writes them (`Lz4BlockOutputStream`).
//!
//! ```text
//! 0  4  04 22 4D 18    magic, little-endian as everything in a frame
//! 4  1  FLG            0x60 written: version 01, independent blocks, no checksums, no content size
//! 5  1  BD             0x40 written: blocks of at most 64 KiB
//! 6  1  HC             checksum of FLG and BD
//! 7     blocks         u32 size, high bit = stored, and that many bytes
//! ..  4  0             end mark; behind it the content checksum if FLG says so
//! ```
//!
//! The decoder accepts everything that Kafka's `Lz4BlockInputStream` accepts: checksums, a content
//! size, blocks up to 4 MiB. Like that class, it rejects dependent blocks, dictionaries and a
//! second frame.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::DecodeError;
use super::bounded::{DAMAGED, read_bounded};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
const FLG_AT: usize = 4;
const INDEPENDENT: u8 = 0x20;
const CONTENT_CHECKSUM: u8 = 0x04;
const END_MARK: [u8; 4] = [0; 4];

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let flags = *input.get(FLG_AT).ok_or(DAMAGED)?;
    if !input.starts_with(&MAGIC) || flags & INDEPENDENT == 0 {
        return Err(DAMAGED);
    }
    // The decoder accepts an input that ends between two blocks as a whole frame.
    let checksum = if flags & CONTENT_CHECKSUM == 0 { 0 } else { 4 };
    let end = input.len().checked_sub(checksum).and_then(|end| input.get(..end));
    if !end.is_some_and(|frame| frame.ends_with(&END_MARK)) {
        return Err(DAMAGED);
    }
    let mut decoder = FrameDecoder::new(input);
    read_bounded(&mut decoder, input.len(), limit, out)?;
    // The decoder stops after the first end mark. Any bytes left would be a second frame.
    if decoder.get_ref().is_empty() { Ok(()) } else { Err(DAMAGED) }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;

    fn frame(info: FrameInfo, input: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(input).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(input: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::new();
        decompress(input, 10 << 20, &mut out).map(|()| out)
    }

    #[test]
    fn the_frame_is_kafkas() {
        let mut out = Vec::new();
        compress(&vec![1; 100_000], &mut out).unwrap();
        assert_eq!(out[..7], [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82]);
        assert!(out.ends_with(&END_MARK));
        assert_eq!(decompressed(&out).unwrap(), vec![1; 100_000]);
    }

    #[test]
    fn all_options_that_kafka_reads_are_read() {
        let input: Vec<u8> = (0..2_000_000_u32).map(|i| (i / 7) as u8).collect();
        let base = || FrameInfo::new().block_mode(BlockMode::Independent);
        for info in [
            base().block_checksums(true),
            base().content_checksum(true).block_checksums(true),
            base().content_size(Some(input.len() as u64)),
            base().block_size(BlockSize::Max4MB),
        ] {
            assert_eq!(decompressed(&frame(info, &input)).as_ref(), Ok(&input));
        }
    }

    #[test]
    fn dependent_blocks_a_second_frame_and_a_missing_end_are_refused() {
        let linked = FrameInfo::new().block_mode(BlockMode::Linked);
        assert_eq!(decompressed(&frame(linked, b"hello")), Err(DAMAGED));
        let mut one = Vec::new();
        compress(b"hello", &mut one).unwrap();
        assert_eq!(decompressed(&one.repeat(2)), Err(DAMAGED));
        assert_eq!(decompressed(&one[..one.len() - 4]), Err(DAMAGED));
    }
}
