//! The *stored* section of a journal frame: where the segments of one partition hold its records.
//!
//! ```text
//! offset size type field
//!      0    4 u32  partition number (given at creation, never reused)
//!      4    4 u32  number of records that this frame adds, at least 1
//!      8    8 i64  offset of the first of them
//!     16   44      image of a segment, at least one, in order:
//!      0    8 i64  base offset
//!      8    8 i64  end offset
//!     16    8 u64  length in bytes
//!     24    4 u32  CRC-32 of these bytes
//!     28    8 i64  largest timestamp of the first batch, ms, or -1
//!     36    8 i64  largest timestamp of all batches, ms, or -1
//! ```
//!
//! Fields are big-endian. The images are those of the segments that changed since the last stored section of
//! the partition. The last one ends after the last record of the frame.

use crate::error::{CorruptReason, Unreadable};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::log::image::SegmentImage;
use crate::types::PartitionNumber;

const FIXED_BYTES: usize = 16;
const IMAGE_BYTES: usize = 44;

/// The most images of a section. An append that would need more goes to the journal.
pub(in crate::log) const MAX_IMAGES: usize = 8;

/// The most bytes that a section takes in a frame.
pub(crate) const STORED_SECTION_BOUND: usize =
    SECTION_HEADER + FIXED_BYTES + MAX_IMAGES * IMAGE_BYTES;

/// A stored section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredSection {
    pub(crate) partition: PartitionNumber,
    pub(crate) count: u32,
    pub(crate) first_offset: i64,
    pub(crate) images: Vec<SegmentImage>,
}

impl StoredSection {
    /// Returns the offset after the last record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.first_offset.saturating_add(i64::from(self.count))
    }

    /// Encodes the section with its header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = FIXED_BYTES.saturating_add(self.images.len().saturating_mul(IMAGE_BYTES));
        let mut out = Vec::with_capacity(SECTION_HEADER.saturating_add(body));
        out.extend(section_header(SectionKind::STORED, body as u32));
        out.extend(self.partition.0.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        out.extend(self.first_offset.to_be_bytes());
        for image in &self.images {
            out.extend(image.base_offset.to_be_bytes());
            out.extend(image.end_offset.to_be_bytes());
            out.extend(image.len.to_be_bytes());
            out.extend(image.checksum.to_be_bytes());
            out.extend(image.first_timestamp.to_be_bytes());
            out.extend(image.max_timestamp.to_be_bytes());
        }
        out
    }

    /// Decodes and checks a section body.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let (fixed, images) =
            body.split_first_chunk::<FIXED_BYTES>().ok_or(CorruptReason::Length)?;
        let (images, rest) = images.as_chunks::<IMAGE_BYTES>();
        if images.is_empty() || !rest.is_empty() {
            return Err(CorruptReason::Length.into());
        }
        let section = Self {
            partition: PartitionNumber(u32::from_be_bytes(field(fixed, 0))),
            count: u32::from_be_bytes(field(fixed, 4)),
            first_offset: i64::from_be_bytes(field(fixed, 8)),
            images: images.iter().map(image).collect(),
        };
        section.check()?;
        Ok(section)
    }

    /// Checks that the images lie end to end, and end with the records of the frame.
    fn check(&self) -> Result<(), CorruptReason> {
        if self.count == 0 {
            return Err(CorruptReason::Count);
        }
        let sane = |image: &SegmentImage| {
            (0..image.end_offset).contains(&image.base_offset)
                && image.len > 0
                && i32::try_from(image.len).is_ok()
        };
        let chained = self.images.is_sorted_by(|a, b| a.end_offset == b.base_offset);
        let end = self.first_offset.checked_add(i64::from(self.count));
        let ends = end.is_some_and(|end| end < i64::MAX)
            && self.images.last().map(|last| last.end_offset) == end;
        let ordered = self.first_offset >= 0 && ends;
        if ordered && chained && self.images.iter().all(sane) {
            Ok(())
        } else {
            Err(CorruptReason::Offsets)
        }
    }
}

fn image(bytes: &[u8; IMAGE_BYTES]) -> SegmentImage {
    SegmentImage {
        base_offset: i64::from_be_bytes(field(bytes, 0)),
        generation: 0,
        end_offset: i64::from_be_bytes(field(bytes, 8)),
        len: u64::from_be_bytes(field(bytes, 16)),
        checksum: u32::from_be_bytes(field(bytes, 24)),
        first_timestamp: i64::from_be_bytes(field(bytes, 28)),
        max_timestamp: i64::from_be_bytes(field(bytes, 36)),
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes.get(at.saturating_add(i)).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> StoredSection {
        let first = SegmentImage {
            base_offset: 100,
            generation: 0,
            end_offset: 130,
            len: 900,
            checksum: 7,
            first_timestamp: 5,
            max_timestamp: 9,
        };
        let second = SegmentImage { base_offset: 130, end_offset: 150, len: 300, ..first };
        StoredSection {
            partition: PartitionNumber(7),
            count: 20,
            first_offset: 130,
            images: vec![first, second],
        }
    }

    #[test]
    fn a_section_survives_encoding() {
        let bytes = section().encode();
        assert_eq!(
            bytes[..SECTION_HEADER],
            section_header(SectionKind::STORED, bytes.len() as u32 - 8)
        );
        assert_eq!(StoredSection::decode(&bytes[SECTION_HEADER..]), Ok(section()));
    }

    #[test]
    fn the_bound_is_that_of_the_largest_section() {
        let images = vec![section().images[0]; MAX_IMAGES];
        let largest = StoredSection { images, ..section() };
        assert_eq!(largest.encode().len(), STORED_SECTION_BOUND);
    }

    #[test]
    fn claims_that_contradict_each_other_are_refused() {
        let refused = |change: &dyn Fn(&mut StoredSection)| {
            let mut section = section();
            change(&mut section);
            StoredSection::decode(&section.encode()[SECTION_HEADER..]).unwrap_err()
        };
        assert_eq!(refused(&|s| s.count = 0), CorruptReason::Count.into());
        assert_eq!(refused(&|s| s.count = 21), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.first_offset = -1), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.first_offset = i64::MAX), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.images[0].end_offset = 131), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.images[0].base_offset = -1), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.images[1].len = 0), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.images[1].len = 1 << 31), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.images.clear()), CorruptReason::Length.into());
        let short = &section().encode()[SECTION_HEADER..][..59];
        assert_eq!(StoredSection::decode(short).unwrap_err(), CorruptReason::Length.into());
    }
}
