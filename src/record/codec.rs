//! The codecs of compressed batches.
//!
//! | id | codec | written form | feature |
//! |---|---|---|---|
//! | 0 | none | | |
//! | 1 | gzip | one member, level 6 | `gzip` |
//! | 2 | snappy | xerial framing, blocks of 32 KiB | `snappy` |
//! | 3 | lz4 | one frame, independent blocks of 64 KiB, no checksums, no size | `lz4` |
//! | 4 | zstd | one frame, level 3 | always built in |
//!
//! Three bounds limit decompression. The output ends at the caller's limit. The output buffer grows
//! as bytes arrive, not as a stream claims. The memory inside a codec is a constant (zstd windows
//! up to 8 MiB, lz4 blocks up to 4 MiB).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::io;

use super::bounded::{DAMAGED, read_bounded};
use super::{Compression, DecodeError};
use crate::error::{Error, Result};

/// Compresses `input` and appends the result to `out`.
///
/// `level` is the codec's own: 1 to 9 for gzip, -131072 to 22 for zstd. `None` is Kafka's default.
/// Levels outside the range are clamped. Snappy has no levels, and the fast compressor always
/// writes lz4. On an error `out` is unchanged.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    let before = out.len();
    let result = match codec {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Compression::Gzip => compress_gzip(level, input, out),
        #[cfg(feature = "snappy")]
        Compression::Snappy => super::snappy::compress(input, out),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => super::lz4::compress(input, out),
        Compression::Zstd => compress_zstd(level, input, out),
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4")))]
        _ => return Err(Error::UnsupportedCodec { codec: codec.name() }),
    };
    result.map_err(|source| {
        out.truncate(before);
        Error::io("compress", "a record batch", source)
    })
}

/// Decompresses `input` and appends at most `limit` bytes to `out`. On an error `out` is unchanged.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let before = out.len();
    let result = match codec {
        Compression::None if input.len() > limit => Err(DecodeError::LimitExceeded { max: limit }),
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        #[cfg(feature = "gzip")]
        Compression::Gzip => decompress_gzip(input, limit, out),
        #[cfg(feature = "snappy")]
        Compression::Snappy => super::snappy::decompress(input, limit, out),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => super::lz4::decompress(input, limit, out),
        Compression::Zstd => decompress_zstd(input, limit, out),
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4")))]
        _ => Err(DecodeError::UnsupportedCodec(codec)),
    };
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// Kafka's default (`compression.zstd.level`).
const ZSTD_LEVEL: i32 = 3;
/// The largest window of an accepted frame: 8 MiB, which level 19 uses on endless input. Frames
/// with a known size have no larger window, whatever their level.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

fn compress_zstd(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let range = zstd::compression_level_range();
    let level = level.unwrap_or(ZSTD_LEVEL).clamp(*range.start(), *range.end());
    // One call makes a frame with a known size: no window larger than the input, nothing to flush.
    let start = out.len();
    let bound = zstd::zstd_safe::compress_bound(input.len());
    out.resize(start.saturating_add(bound), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = zstd::bulk::compress_to_buffer(input, room, level)?;
    out.truncate(start.saturating_add(written));
    Ok(())
}

fn decompress_zstd(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if input.is_empty() {
        return Err(DAMAGED);
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(|_| DAMAGED)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| DAMAGED)?;
    read_bounded(decoder, input.len(), limit, out)
}

#[cfg(feature = "gzip")]
fn compress_gzip(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    use std::io::Write;

    // Kafka's -1 is zlib's default, 6.
    let level = level.filter(|&level| level != -1).unwrap_or(6).clamp(1, 9);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level as u32));
    encoder.write_all(input)?;
    encoder.finish()?;
    Ok(())
}

#[cfg(feature = "gzip")]
fn decompress_gzip(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if input.is_empty() {
        return Err(DAMAGED);
    }
    read_bounded(flate2::bufread::MultiGzDecoder::new(input), input.len(), limit, out)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn built_in() -> impl Iterator<Item = Compression> {
        Compression::ALL.into_iter().filter(|codec| codec.is_built_in())
    }

    fn compressed(codec: Compression, input: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        compress(codec, None, input, &mut out).unwrap();
        out.split_off(6)
    }

    fn decompressed(
        codec: Compression,
        input: &[u8],
        limit: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut out = b"before".to_vec();
        let result = decompress(codec, input, limit, &mut out);
        if result.is_err() {
            assert_eq!(out, b"before", "{codec}");
        }
        result.map(|()| out.split_off(6))
    }

    #[test]
    fn names_and_ids_are_kafkas() {
        let names = Compression::ALL.map(|codec| codec.to_string());
        assert_eq!(names, ["none", "gzip", "snappy", "lz4", "zstd"]);
        for (id, codec) in Compression::ALL.into_iter().enumerate() {
            assert_eq!(Compression::from_id(id as u8), Some(codec));
            assert_eq!(usize::from(codec.id()), id);
            assert_eq!(codec.name().parse::<Compression>().unwrap(), codec);
        }
        assert_eq!(Compression::from_id(5), None);
        assert!("ZSTD".parse::<Compression>().is_err());
    }

    #[test]
    fn a_codec_that_is_left_out_says_so() {
        for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_built_in()) {
            let result = decompressed(codec, b"x", 10);
            assert_eq!(result, Err(DecodeError::UnsupportedCodec(codec)));
            let error = compress(codec, None, b"x", &mut Vec::new()).unwrap_err();
            assert!(
                matches!(error, Error::UnsupportedCodec { codec: name } if name == codec.name())
            );
        }
    }

    #[test]
    fn output_ends_at_the_limit() {
        let zeros = vec![0; 3 << 20];
        for codec in built_in() {
            let small = compressed(codec, &zeros);
            assert_eq!(decompressed(codec, &small, zeros.len()).as_ref(), Ok(&zeros), "{codec}");
            for limit in [0, 1, 4095, 4096, 65536, zeros.len() - 1] {
                let result = decompressed(codec, &small, limit);
                assert_eq!(result, Err(DecodeError::LimitExceeded { max: limit }), "{codec}");
            }
        }
    }

    #[test]
    fn memory_stays_near_the_limit() {
        let small = compressed(Compression::Zstd, &vec![7; 10_000_000]);
        let mut out = Vec::new();
        decompress(Compression::Zstd, &small, 10_000_000, &mut out).unwrap();
        assert!(out.capacity() <= 10_000_001, "{}", out.capacity());
    }

    #[test]
    fn several_frames_or_members_are_read_on() {
        for codec in [Compression::Gzip, Compression::Zstd] {
            if codec.is_built_in() {
                let both = [compressed(codec, b"one "), compressed(codec, b"two")].concat();
                assert_eq!(decompressed(codec, &both, 100).unwrap(), b"one two");
            }
        }
    }

    #[test]
    fn streams_cut_short_or_empty_are_damage() {
        let text: Vec<u8> = (0..5000_u32).flat_map(u32::to_be_bytes).collect();
        for codec in built_in().filter(|&codec| codec != Compression::None) {
            let whole = compressed(codec, &text);
            for cut in [0, 1, 4, 7, 12, whole.len() / 2, whole.len() - 1] {
                let result = decompressed(codec, &whole[..cut], 1 << 20);
                assert_eq!(result, Err(DAMAGED), "{codec} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_window_beyond_8_mib_is_refused() {
        use std::io::Write;

        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(&[1; 100]).unwrap();
        let frame = encoder.finish().unwrap();
        assert_eq!(decompressed(Compression::Zstd, &frame, 1000), Err(DAMAGED));
    }

    #[test]
    fn levels_out_of_range_are_brought_into_it() {
        for codec in built_in() {
            for level in [i32::MIN, -1, 0, 1, i32::MAX] {
                let mut out = Vec::new();
                compress(codec, Some(level), b"some bytes", &mut out).unwrap();
                assert_eq!(decompressed(codec, &out, 100).unwrap(), b"some bytes");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_compressed_returns(
            pattern in proptest::collection::vec(any::<u8>(), 0..300), times in 0_usize..600,
        ) {
            let input = pattern.repeat(times);
            for codec in built_in() {
                let packed = compressed(codec, &input);
                prop_assert_eq!(decompressed(codec, &packed, input.len()), Ok(input.clone()));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..100),
            position: prop::sample::Index,
        ) {
            for codec in built_in() {
                prop_assert!(decompressed(codec, &noise, 10_000).map_or(true, |o| o.len() <= 10_000));
                let mut damaged = compressed(codec, &[9; 500]);
                let at = position.index(damaged.len());
                damaged.splice(at.., noise.iter().copied());
                prop_assert!(decompressed(codec, &damaged, 10_000).map_or(true, |o| o.len() <= 10_000));
            }
        }
    }
}
