//! The *append* section of a journal frame: records of one open batch of one partition.
//!
//! ```text
//! offset size type field
//!      0    4 u32  partition number (given at creation, never reused)
//!      4    4 u32  record count, at least 1
//!      8    8 i64  base offset of the open batch
//!     16    8 i64  base timestamp of the open batch, ms
//!     24    8 i64  largest timestamp of these records, ms
//!     32    4 u32  offset delta of the first record
//!     36    1 u8   flags: bit 0 = LogAppendTime; a newer version may use others
//!     37    3      zero; a newer version may use them
//!     40   ..      records, as they are in the batch
//! ```
//!
//! Fields are big-endian. The CRC-32 of the frame covers the section. A section never crosses the border of
//! a batch, so replay seals at the same borders and rebuilds the same bytes.

use crate::error::{CorruptReason, Unreadable};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::types::{PartitionNumber, TimestampType};

/// The size of the fixed part before the records in bytes.
const APPEND_SECTION_BYTES: usize = 40;
/// The size of the fixed part with the header that every section has, in bytes.
pub(crate) const APPEND_HEADER_BYTES: usize = SECTION_HEADER + APPEND_SECTION_BYTES;

/// The size of the smallest encoded record: length, attributes, two deltas, two null lengths, header count.
const MIN_RECORD_BYTES: usize = 7;

/// The fixed part before the records of an append section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendSection {
    pub(crate) partition: PartitionNumber,
    pub(crate) count: u32,
    pub(crate) base_offset: i64,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) first_delta: u32,
    pub(crate) timestamp_type: TimestampType,
}

impl AppendSection {
    /// Returns the offset of the first record.
    pub(crate) fn first_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.first_delta))
    }

    /// Encodes the section header and the fixed part for `records_bytes` bytes of records.
    ///
    /// Stores each field directly in its final place. A copy would have to wait until these small stores are
    /// done.
    #[inline]
    pub(crate) fn encode_into(&self, records_bytes: usize, out: &mut [u8; APPEND_HEADER_BYTES]) {
        let body = APPEND_SECTION_BYTES.saturating_add(records_bytes) as u32;
        out[0..8].copy_from_slice(&section_header(SectionKind::APPEND, body));
        out[8..12].copy_from_slice(&self.partition.0.to_be_bytes());
        out[12..16].copy_from_slice(&self.count.to_be_bytes());
        out[16..24].copy_from_slice(&self.base_offset.to_be_bytes());
        out[24..32].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[32..40].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[40..44].copy_from_slice(&self.first_delta.to_be_bytes());
        let append_time = u8::from(self.timestamp_type == TimestampType::LogAppendTime);
        out[44..48].copy_from_slice(&[append_time, 0, 0, 0]);
    }

    /// Decodes a section body. Checks the fixed part, and returns it with the bytes of the records.
    pub(crate) fn decode(body: &[u8]) -> Result<(Self, &[u8]), Unreadable> {
        let (fixed, records) =
            body.split_first_chunk::<APPEND_SECTION_BYTES>().ok_or(CorruptReason::Length)?;
        let section = Self {
            partition: PartitionNumber(u32::from_be_bytes(field(fixed, 0))),
            count: u32::from_be_bytes(field(fixed, 4)),
            base_offset: i64::from_be_bytes(field(fixed, 8)),
            base_timestamp: i64::from_be_bytes(field(fixed, 16)),
            max_timestamp: i64::from_be_bytes(field(fixed, 24)),
            first_delta: u32::from_be_bytes(field(fixed, 32)),
            timestamp_type: match field(fixed, 36) {
                [0, 0, 0, 0] => TimestampType::CreateTime,
                [1, 0, 0, 0] => TimestampType::LogAppendTime,
                flags => {
                    let found = u32::from_le_bytes(flags);
                    return Err(Unreadable::unsupported("append section flags", found, 1_u32));
                }
            },
        };
        let last_delta = section.first_delta.checked_add(section.count.saturating_sub(1));
        let counted = usize::try_from(section.count).is_ok_and(|count| {
            count > 0 && count.checked_mul(MIN_RECORD_BYTES).is_some_and(|n| n <= records.len())
        });
        if !counted || last_delta.is_none_or(|delta| delta > i32::MAX as u32) {
            return Err(CorruptReason::Count.into());
        }
        let end = last_delta.and_then(|delta| section.base_offset.checked_add(i64::from(delta)));
        if section.base_offset < 0 || end.is_none_or(|end| end == i64::MAX) {
            return Err(CorruptReason::Offsets.into());
        }
        Ok((section, records))
    }
}

fn field<const N: usize>(fixed: &[u8; APPEND_SECTION_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|i| fixed[at.saturating_add(i)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> AppendSection {
        AppendSection {
            partition: PartitionNumber(7),
            count: 2,
            base_offset: 1_000,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_009,
            first_delta: 5,
            timestamp_type: TimestampType::LogAppendTime,
        }
    }

    fn body(section: &AppendSection) -> Vec<u8> {
        let mut bytes = [0xff; APPEND_HEADER_BYTES];
        section.encode_into(14, &mut bytes);
        let body = [&bytes[SECTION_HEADER..], &[0; 14]].concat();
        assert_eq!(bytes[..SECTION_HEADER], section_header(SectionKind::APPEND, body.len() as u32));
        body
    }

    #[test]
    fn a_section_survives_encoding() {
        let body = body(&section());
        let (decoded, records) = AppendSection::decode(&body).unwrap();
        assert_eq!(decoded, section());
        assert_eq!(decoded.first_offset(), 1_005);
        assert_eq!(records.len(), 14);
    }

    #[test]
    fn claims_beyond_the_bytes_are_refused() {
        let refused = |change: &dyn Fn(&mut AppendSection)| {
            let mut section = section();
            change(&mut section);
            AppendSection::decode(&body(&section)).unwrap_err()
        };
        assert_eq!(refused(&|s| s.count = 0), CorruptReason::Count.into());
        assert_eq!(refused(&|s| s.count = 3), CorruptReason::Count.into());
        assert_eq!(refused(&|s| s.count = u32::MAX), CorruptReason::Count.into());
        assert_eq!(refused(&|s| s.first_delta = i32::MAX as u32), CorruptReason::Count.into());
        assert_eq!(refused(&|s| s.base_offset = -1), CorruptReason::Offsets.into());
        assert_eq!(refused(&|s| s.base_offset = i64::MAX - 3), CorruptReason::Offsets.into());
        assert_eq!(AppendSection::decode(&[0; 39]).unwrap_err(), CorruptReason::Length.into());
        let mut body = body(&section());
        body[36] = 2;
        let newer = Unreadable::unsupported("append section flags", 2_u32, 1_u32);
        assert_eq!(AppendSection::decode(&body).unwrap_err(), newer);
    }
}
