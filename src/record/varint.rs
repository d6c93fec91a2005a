//! Kafka's variable-length integers (`ByteUtils.readVarint`, `readVarlong`).
//!
//! ```text
//! zigzag:  n -> (n << 1) ^ (n >> 31 or 63)      0, -1, 1, -2 -> 0, 1, 2, 3
//! bytes:   7 bits each, least significant first; the high bit says that another byte follows
//!          at most 5 bytes for 32 bits (varint), 10 bytes for 64 bits (varlong)
//! ```
//!
//! The decoder rejects a number that takes more bytes or sets bits beyond its width. Kafka drops
//! such bits silently. No writer makes them, so here they are damage. The decoder accepts padding
//! with empty groups (`80 00` for 0), as Kafka does.
//!
//! Nearly all numbers take one or two bytes. These are decoded inline. The rest is out of line to
//! keep the record decoder small.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::DecodeError;
use crate::error::CorruptReason;

/// Reads a varint at `at`. Returns it and the position after it.
#[inline(always)]
pub(crate) fn read_i32(bytes: &[u8], at: usize) -> Result<(i32, usize), DecodeError> {
    if let Some((raw, next)) = read_short(bytes, at) {
        return Ok((unzigzag32(raw), next));
    }
    read_long(bytes, at, u32::BITS).map(|(raw, next)| (unzigzag32(raw as u32), next))
}

/// Reads a varlong at `at`. Returns it and the position after it.
#[inline(always)]
pub(crate) fn read_i64(bytes: &[u8], at: usize) -> Result<(i64, usize), DecodeError> {
    if let Some((raw, next)) = read_short(bytes, at) {
        return Ok((unzigzag64(u64::from(raw)), next));
    }
    read_long(bytes, at, u64::BITS).map(|(raw, next)| (unzigzag64(raw), next))
}

/// Returns the raw value of a number of one or two bytes. Positions cannot overflow: both are
/// behind an existing byte.
#[inline(always)]
pub(super) fn read_short(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let first = *bytes.get(at)?;
    let next = at.wrapping_add(1);
    if first < 0x80 {
        return Some((u32::from(first), next));
    }
    let second = *bytes.get(next)?;
    if second < 0x80 {
        let raw = u32::from(first & 0x7f) | (u32::from(second) << 7);
        return Some((raw, next.wrapping_add(1)));
    }
    None
}

#[inline(never)]
fn read_long(bytes: &[u8], at: usize, width: u32) -> Result<(u64, usize), DecodeError> {
    let too_long = DecodeError::corrupt(CorruptReason::Varint, at);
    let mut raw = 0_u64;
    let mut shift = 0_u32;
    let mut next = at;
    for byte in bytes.get(at..).unwrap_or_default() {
        if shift >= width {
            return Err(too_long);
        }
        let group = u64::from(byte & 0x7f);
        // The last group of a number has room for 4 bits (varint) or 1 bit (varlong).
        if shift.saturating_add(7) > width && group >> width.saturating_sub(shift) != 0 {
            return Err(too_long);
        }
        raw |= group << shift;
        shift = shift.saturating_add(7);
        next = next.saturating_add(1);
        if byte & 0x80 == 0 {
            return Ok((raw, next));
        }
    }
    // The number exceeds its container, unless it was too long before that.
    Err(if shift >= width { too_long } else { DecodeError::corrupt(CorruptReason::Length, at) })
}

#[inline(always)]
const fn unzigzag32(raw: u32) -> i32 {
    ((raw >> 1) as i32) ^ ((raw & 1) as i32).wrapping_neg()
}

#[inline(always)]
pub(super) const fn unzigzag64(raw: u64) -> i64 {
    ((raw >> 1) as i64) ^ ((raw & 1) as i64).wrapping_neg()
}

#[inline(always)]
const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Returns how many bytes [`write()`] takes for `value`: 1 to 5 for every `i32`, up to 10 for an
/// `i64`.
///
/// One function serves both widths, because a sign-extended 32-bit number has the same zigzag
/// value.
#[inline(always)]
pub(crate) const fn encoded_bytes(value: i64) -> usize {
    let bits = u64::BITS.saturating_sub((zigzag64(value) | 1).leading_zeros());
    // ceil(bits / 7) for 1..=64 without a division.
    (bits.saturating_mul(9).saturating_add(64) >> 6) as usize
}

/// Writes `value` at `at`. Returns the position after it, or `None` if `out` is too short. In that
/// case some bytes of the number may have been written.
#[inline(always)]
pub(crate) fn write(out: &mut [u8], at: usize, value: i64) -> Option<usize> {
    let raw = zigzag64(value);
    let next = at.wrapping_add(1);
    if raw < 0x80 {
        *out.get_mut(at)? = raw as u8;
        return Some(next);
    }
    if raw < 0x4000 {
        *out.get_mut(at)? = raw as u8 | 0x80;
        *out.get_mut(next)? = (raw >> 7) as u8;
        return Some(next.wrapping_add(1));
    }
    write_long(out, at, raw)
}

#[inline(never)]
fn write_long(out: &mut [u8], at: usize, mut raw: u64) -> Option<usize> {
    let mut next = at;
    for slot in out.get_mut(at..)? {
        next = next.saturating_add(1);
        if raw < 0x80 {
            *slot = raw as u8;
            return Some(next);
        }
        *slot = raw as u8 | 0x80;
        raw >>= 7;
    }
    None
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn encode(value: i64) -> Vec<u8> {
        let mut out = [0; 10];
        let end = write(&mut out, 0, value).unwrap();
        out[..end].to_vec()
    }

    #[test]
    fn kafkas_vectors_hold() {
        let text = include_str!("../../tests/vectors/varint.json");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let vectors = json["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 60);
        for vector in vectors {
            let value = vector["value"].as_i64().unwrap();
            let bytes = hex(vector["varlongHex"].as_str().unwrap());
            assert_eq!(encode(value), bytes, "{value}");
            assert_eq!(encoded_bytes(value), bytes.len(), "{value}");
            assert_eq!(read_i64(&bytes, 0), Ok((value, bytes.len())));
            if let Some(varint) = vector["varintHex"].as_str() {
                let bytes = hex(varint);
                assert_eq!(encode(value), bytes);
                assert_eq!(read_i32(&bytes, 0), Ok((i32::try_from(value).unwrap(), bytes.len())));
            }
        }
        for bad in json["mustReject"].as_array().unwrap() {
            let bytes = hex(bad["hex"].as_str().unwrap());
            assert!(read_i32(&bytes, 0).is_err(), "{bad}");
            if bad["why"].as_str().unwrap().ends_with("(as varint)") {
                assert!(read_i64(&bytes, 0).is_ok(), "{bad}");
            } else {
                assert!(read_i64(&bytes, 0).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn bits_beyond_the_width_are_refused_and_padding_is_read() {
        let error = |reason| Err(DecodeError::corrupt(reason, 0));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f], 0), Ok((i32::MIN, 5)));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f], 0), error(CorruptReason::Varint));
        assert_eq!(read_i32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], 0), error(CorruptReason::Varint));
        assert_eq!(read_i32(&[0x80; 5], 0), error(CorruptReason::Varint));
        assert_eq!(read_i32(&[0x80; 4], 0), error(CorruptReason::Length));
        assert_eq!(read_i32(&[0x80, 0x80, 0x00], 0), Ok((0, 3)));
        assert_eq!(read_i32(&[], 9), Err(DecodeError::corrupt(CorruptReason::Length, 9)));
    }

    #[test]
    fn a_number_that_does_not_fit_is_not_written() {
        for room in 0..5 {
            assert_eq!(write(&mut vec![0; room], 0, i64::from(i32::MAX)), None);
        }
        assert_eq!(write(&mut [0; 5], 0, i64::from(i32::MAX)), Some(5));
        assert_eq!(write(&mut [0; 1], 0, 64), None);
        assert_eq!(write(&mut [0; 1], 5, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64, shift in 0_u32..64) {
            let value = value >> shift;
            let bytes = encode(value);
            prop_assert_eq!(bytes.len(), encoded_bytes(value));
            prop_assert_eq!(read_i64(&bytes, 0), Ok((value, bytes.len())));
            if let Ok(short) = i32::try_from(value) {
                prop_assert_eq!(read_i32(&bytes, 0), Ok((short, bytes.len())));
            } else {
                prop_assert!(read_i32(&bytes, 0).is_err());
            }
        }
    }
}
