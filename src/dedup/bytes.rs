//! Reads the fields of sections, images and buckets. Numbers are big-endian.

use super::entry::Place;
use super::hash::IdHash;
use crate::error::CorruptReason;
use crate::types::{PartitionNumber, TopicId};

/// Reads fields from the front of untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptReason> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CorruptReason> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CorruptReason> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CorruptReason> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, CorruptReason> {
        self.array().map(TopicId::from_bytes)
    }

    /// Reads a number that is not negative: a time or an offset.
    pub(super) fn natural(&mut self) -> Result<i64, CorruptReason> {
        match self.array().map(i64::from_be_bytes)? {
            negative if negative < 0 => Err(CorruptReason::Field),
            natural => Ok(natural),
        }
    }

    pub(super) fn id(&mut self) -> Result<(IdHash, Place), CorruptReason> {
        let hash = IdHash::from_bytes(self.array()?);
        let partition = PartitionNumber(self.u32()?);
        Ok((hash, Place { partition, offset: self.natural()? }))
    }

    /// Reads a number of items of at least `min_bytes` each. The rest must have room for them, so that nothing is
    /// allocated for a false claim.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, CorruptReason> {
        let count = usize::try_from(self.u32()?).map_err(|_| CorruptReason::Count)?;
        match count.checked_mul(min_bytes) {
            Some(needed) if needed <= self.rest.len() => Ok(count),
            _ => Err(CorruptReason::Count),
        }
    }

    /// Fails if bytes are left over.
    pub(super) const fn finish(self) -> Result<(), CorruptReason> {
        if self.rest.is_empty() { Ok(()) } else { Err(CorruptReason::Length) }
    }
}

/// The size of an id with its place in bytes.
pub(super) const ID_BYTES: usize = 16 + 4 + 8;

/// Appends an id with its place.
pub(super) fn put_id(out: &mut Vec<u8>, hash: IdHash, place: Place) {
    out.extend_from_slice(&hash.to_bytes());
    out.extend_from_slice(&place.partition.0.to_be_bytes());
    out.extend_from_slice(&place.offset.to_be_bytes());
}
