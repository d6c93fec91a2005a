//! Reads and writes the fields of grouplog's own files. Numbers are big-endian, lengths precede contents, and
//! every length is checked against the bytes that follow.

use std::sync::Arc;

use crate::error::{CorruptReason, Unreadable};
use crate::types::check_group_name;

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

    /// Appends the count of what follows. It counts things in memory, so it fits.
    pub(super) fn count(&mut self, value: usize) {
        self.u32(value as u32);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.count(value.len());
        self.bytes(value.as_bytes());
    }
}

/// Reads fields from the front of a slice.
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

    /// Reads a count of things that take at least `min_bytes` each. Rejects a count that the remaining bytes
    /// cannot hold, so that nothing is allocated for a false claim.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, CorruptReason> {
        let count = usize::try_from(self.u32()?).map_err(|_| CorruptReason::Count)?;
        match count.checked_mul(min_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(CorruptReason::Count),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, CorruptReason> {
        std::str::from_utf8(self.slice()?).map_err(|_| CorruptReason::Utf8)
    }

    /// Reads the kind of a section: a number from 1 to `max`. A higher one comes from a newer version of grouplog.
    pub(super) fn kind(&mut self, what: &'static str, max: u8) -> Result<u8, Unreadable> {
        match self.u8()? {
            0 => Err(CorruptReason::Field.into()),
            kind if kind > max => Err(Unreadable::unsupported(what, kind, max)),
            kind => Ok(kind),
        }
    }

    /// Reads a name of a group or of an owner, which is text.
    pub(super) fn group_name(&mut self) -> Result<Arc<str>, CorruptReason> {
        let name = self.text()?;
        check_group_name(name).map_err(|_| CorruptReason::Field)?;
        Ok(name.into())
    }

    /// Reads a length and as many bytes.
    pub(super) fn slice(&mut self) -> Result<&'a [u8], CorruptReason> {
        let len = self.count(1)?;
        let (slice, rest) = self.rest.split_at_checked(len).ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(slice)
    }

    /// Returns all bytes that are left.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Fails if bytes are left over.
    pub(super) fn finish(self) -> Result<(), CorruptReason> {
        if self.rest.is_empty() { Ok(()) } else { Err(CorruptReason::Length) }
    }
}
