//! The fields of sections and images: bytes, and numbers of 7 bits a byte, lowest first (LEB128).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::reason::Reasons;
use super::run::Span;
use crate::error::CorruptReason;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the distance between two offsets or times, small ones in few bytes whatever their sign.
pub(super) fn put_distance(out: &mut Vec<u8>, from: i64, to: i64) {
    let distance = to.wrapping_sub(from);
    put(out, ((distance << 1) ^ (distance >> 63)) as u64);
}

/// Appends texts.
pub(super) fn put_reasons(out: &mut Vec<u8>, reasons: &Reasons) {
    put(out, reasons.texts().len() as u64);
    for text in reasons.texts() {
        put(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Reads fields from the front of untrusted bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn u8(&mut self) -> Result<u8, CorruptReason> {
        let (first, rest) = self.rest.split_first().ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn u64_fixed(&mut self) -> Result<u64, CorruptReason> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// Reads a number in its only form: without needless bytes.
    pub(super) fn u64(&mut self) -> Result<u64, CorruptReason> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(CorruptReason::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CorruptReason::Varint)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CorruptReason> {
        u16::try_from(self.u64()?).map_err(|_| CorruptReason::Field)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CorruptReason> {
        u32::try_from(self.u64()?).map_err(|_| CorruptReason::Field)
    }

    /// Reads an offset or time that is not negative.
    pub(super) fn i64(&mut self) -> Result<i64, CorruptReason> {
        i64::try_from(self.u64()?).map_err(|_| CorruptReason::Field)
    }

    /// Reads what lies at a distance from `from`.
    pub(super) fn at_distance(&mut self, from: i64) -> Result<i64, CorruptReason> {
        let raw = self.u64()?;
        let distance = (raw >> 1) as i64 ^ ((raw & 1) as i64).wrapping_neg();
        Ok(from.wrapping_add(distance))
    }

    /// Reads the length of a span that begins at `first`. The offset behind it exists, too.
    pub(super) fn span(&mut self, first: i64) -> Result<Span, CorruptReason> {
        let more = self.i64()?;
        let last = first.checked_add(more).filter(|last| first >= 0 && *last < i64::MAX);
        Ok(Span { first, last: last.ok_or(CorruptReason::Offsets)? })
    }

    /// Reads a number of things of at least `min_bytes` each. The rest must have room for them.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, CorruptReason> {
        let count = usize::try_from(self.u64()?).map_err(|_| CorruptReason::Count)?;
        match count.checked_mul(min_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(CorruptReason::Count),
        }
    }

    pub(super) fn reasons(&mut self) -> Result<Reasons, CorruptReason> {
        let mut reasons = Reasons::default();
        for _ in 0..self.count(2)? {
            let len = self.count(1)?;
            let (text, rest) = self.rest.split_at_checked(len).ok_or(CorruptReason::Length)?;
            self.rest = rest;
            let text = std::str::from_utf8(text).map_err(|_| CorruptReason::Utf8)?;
            if !reasons.push(text) {
                return Err(CorruptReason::Field);
            }
        }
        Ok(reasons)
    }

    pub(super) fn finish(self) -> Result<(), CorruptReason> {
        if self.rest.is_empty() { Ok(()) } else { Err(CorruptReason::Length) }
    }
}
