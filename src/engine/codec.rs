//! Reading and writing the fields of our own files: big-endian, lengths before contents, every length
//! checked against the bytes that are there.

use crate::error::CorruptReason;

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) out: Vec<u8>,
}

impl Encoder {
    pub(super) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// A count of what follows. Counts here are of things in memory and fit.
    pub(super) fn count(&mut self, value: usize) {
        self.u32(value as u32);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.count(value.len());
        self.bytes(value.as_bytes());
    }
}

/// Takes fields off a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptReason> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CorruptReason> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CorruptReason> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, CorruptReason> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, CorruptReason> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, CorruptReason> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A count of things that take at least `min_bytes` each: more than there are bytes for is
    /// refused, so that nothing is allocated for a claim.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, CorruptReason> {
        let count = usize::try_from(self.u32()?).map_err(|_| CorruptReason::Count)?;
        match count.checked_mul(min_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(CorruptReason::Count),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, CorruptReason> {
        let len = self.count(1)?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(CorruptReason::Length)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| CorruptReason::Utf8)
    }

    /// Nothing may be left over.
    pub(super) fn finish(self) -> Result<(), CorruptReason> {
        if self.rest.is_empty() { Ok(()) } else { Err(CorruptReason::Length) }
    }
}
