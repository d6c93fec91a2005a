#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::crc::Crc32c;
use super::{Compression, DecodeError};
use crate::error::CorruptReason;
use crate::types::TimestampType;

// Each position is the previous field's position plus its size.
pub(crate) const BASE_OFFSET_AT: usize = 0;
pub(crate) const LENGTH_AT: usize = BASE_OFFSET_AT + 8;
pub(crate) const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
pub(crate) const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
pub(crate) const CRC_AT: usize = MAGIC_AT + 1;
pub(crate) const ATTRIBUTES_AT: usize = CRC_AT + 4;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
pub(crate) const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
pub(crate) const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
pub(crate) const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
pub(crate) const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
pub(crate) const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
pub(crate) const COUNT_AT: usize = BASE_SEQUENCE_AT + 4;

/// The number of bytes of a batch before its records.
pub const HEADER_BYTES: usize = COUNT_AT + 4;
const _: () = assert!(HEADER_BYTES == 61);

/// The number of bytes that a batch's length field does not count: base offset and the field
/// itself.
pub(crate) const LOG_OVERHEAD: usize = LEADER_EPOCH_AT;

/// The only supported magic number (format version).
pub const MAGIC: i8 = 2;

/// The smallest value of the length field: that of a header without records.
pub(crate) const MIN_LENGTH: i32 = (HEADER_BYTES - LOG_OVERHEAD) as i32;

/// The smallest size of a record: seven fields of one byte each. Bounds a count read from a file.
pub(crate) const MIN_RECORD_BYTES: usize = 7;

/// The attribute bits of a batch. A value always names a known codec.
///
/// ```
/// use grouplog::record::{Attributes, Compression};
///
/// let attributes = Attributes::default().with_compression(Compression::Zstd);
/// assert_eq!(attributes.bits(), 4);
/// assert_eq!(Attributes::from_bits(4), Some(attributes));
/// assert_eq!(Attributes::from_bits(7), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// Returns the attributes with these bits, or `None` if they name an unknown codec. Keeps
    /// unused bits, which have no meaning.
    pub const fn from_bits(bits: i16) -> Option<Self> {
        match Compression::from_id((bits & Self::CODEC) as u8) {
            Some(_) => Some(Self(bits)),
            None => None,
        }
    }

    /// Returns the bits as they are stored.
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// Returns the codec of the records.
    pub const fn compression(self) -> Compression {
        match Compression::from_id((self.0 & Self::CODEC) as u8) {
            Some(codec) => codec,
            // Unreachable: no constructor accepts an unknown codec.
            None => Compression::None,
        }
    }

    /// Returns the source of the timestamps.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Returns whether the records belong to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Returns whether this is a control batch, whose one record consumers do not get.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Returns whether the base timestamp is the time from which compaction may drop tombstones.
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// Sets the codec.
    #[must_use]
    pub const fn with_compression(self, codec: Compression) -> Self {
        Self(self.0 & !Self::CODEC | codec.id() as i16)
    }

    /// Sets the timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, matches!(kind, TimestampType::LogAppendTime))
    }

    /// Sets or clears the transactional bit.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// Sets or clears the control bit.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// Sets or clears the delete-horizon bit.
    #[must_use]
    pub const fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }

    const fn with(self, mask: i16, on: bool) -> Self {
        Self(if on { self.0 | mask } else { self.0 & !mask })
    }
}

/// The header of a batch. The fields are in the order in which they are stored.
///
/// The default value is an empty batch at offset 0 with Kafka's "none" (-1) everywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record as originally written. Compaction keeps it.
    pub base_offset: i64,
    /// Bytes of the batch after this field, at least 49.
    pub length: i32,
    /// Epoch of the writer that appended the batch, or -1 if unknown.
    pub leader_epoch: i32,
    /// Format version, always [`MAGIC`].
    pub magic: i8,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec, timestamp type and kind of the batch.
    pub attributes: Attributes,
    /// Offset of the last record as originally written, minus `base_offset`.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon. -1 in an empty batch.
    pub base_timestamp: i64,
    /// The largest timestamp of the records, or the append time.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, -1 if none.
    pub producer_id: i64,
    /// Epoch of that producer, -1 if none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 if none.
    pub base_sequence: i32,
    /// The number of records. After compaction there are fewer records than offsets.
    pub count: i32,
}

impl Default for BatchHeader {
    fn default() -> Self {
        Self {
            base_offset: 0,
            length: MIN_LENGTH,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        }
    }
}

impl BatchHeader {
    /// Parses the header at the start of `bytes` and checks every field that limits another:
    ///
    /// - magic 2, length >= 49, a known codec;
    /// - 0 <= base offset, 0 <= last offset delta, and the next offset fits an `i64`;
    /// - 0 <= count <= last offset delta + 1, and an uncompressed payload has room for the count.
    ///
    /// Does not check the checksum. The records may be missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let corrupt = |reason, at| Err(DecodeError::corrupt(reason, at));
        let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else {
            return corrupt(CorruptReason::Length, bytes.len());
        };
        let magic = i8::from_be_bytes(field::<MAGIC_AT, 1>(raw));
        if magic != MAGIC {
            return corrupt(CorruptReason::Magic, MAGIC_AT);
        }
        let bits = i16::from_be_bytes(field::<ATTRIBUTES_AT, 2>(raw));
        let Some(attributes) = Attributes::from_bits(bits) else {
            return corrupt(CorruptReason::Codec, ATTRIBUTES_AT);
        };
        let header = Self {
            base_offset: i64::from_be_bytes(field::<BASE_OFFSET_AT, 8>(raw)),
            length: i32::from_be_bytes(field::<LENGTH_AT, 4>(raw)),
            leader_epoch: i32::from_be_bytes(field::<LEADER_EPOCH_AT, 4>(raw)),
            magic,
            crc: u32::from_be_bytes(field::<CRC_AT, 4>(raw)),
            attributes,
            last_offset_delta: i32::from_be_bytes(field::<LAST_OFFSET_DELTA_AT, 4>(raw)),
            base_timestamp: i64::from_be_bytes(field::<BASE_TIMESTAMP_AT, 8>(raw)),
            max_timestamp: i64::from_be_bytes(field::<MAX_TIMESTAMP_AT, 8>(raw)),
            producer_id: i64::from_be_bytes(field::<PRODUCER_ID_AT, 8>(raw)),
            producer_epoch: i16::from_be_bytes(field::<PRODUCER_EPOCH_AT, 2>(raw)),
            base_sequence: i32::from_be_bytes(field::<BASE_SEQUENCE_AT, 4>(raw)),
            count: i32::from_be_bytes(field::<COUNT_AT, 4>(raw)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let corrupt = |reason, at| Err(DecodeError::corrupt(reason, at));
        if self.length < MIN_LENGTH {
            return corrupt(CorruptReason::Length, LENGTH_AT);
        }
        if self.base_offset < 0 {
            return corrupt(CorruptReason::Offsets, BASE_OFFSET_AT);
        }
        // Strictly below the maximum, so that the next offset exists too.
        let last = self.base_offset.checked_add(i64::from(self.last_offset_delta));
        if self.last_offset_delta < 0 || last.is_none_or(|last| last == i64::MAX) {
            return corrupt(CorruptReason::Offsets, LAST_OFFSET_DELTA_AT);
        }
        // Deltas rise from 0 or more, so there are at most last_offset_delta + 1 records.
        let count = i64::from(self.count);
        if count < 0 || count > i64::from(self.last_offset_delta).saturating_add(1) {
            return corrupt(CorruptReason::Count, COUNT_AT);
        }
        if self.attributes.compression() == Compression::None {
            let room = self.total_bytes().saturating_sub(HEADER_BYTES);
            if count as u64 > (room / MIN_RECORD_BYTES) as u64 {
                return corrupt(CorruptReason::Count, COUNT_AT);
            }
        }
        Ok(())
    }

    /// Returns the header as it is stored.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        put::<BASE_OFFSET_AT, 8>(&mut raw, self.base_offset.to_be_bytes());
        put::<LENGTH_AT, 4>(&mut raw, self.length.to_be_bytes());
        put::<LEADER_EPOCH_AT, 4>(&mut raw, self.leader_epoch.to_be_bytes());
        put::<MAGIC_AT, 1>(&mut raw, self.magic.to_be_bytes());
        put::<CRC_AT, 4>(&mut raw, self.crc.to_be_bytes());
        put::<ATTRIBUTES_AT, 2>(&mut raw, self.attributes.bits().to_be_bytes());
        put::<LAST_OFFSET_DELTA_AT, 4>(&mut raw, self.last_offset_delta.to_be_bytes());
        put::<BASE_TIMESTAMP_AT, 8>(&mut raw, self.base_timestamp.to_be_bytes());
        put::<MAX_TIMESTAMP_AT, 8>(&mut raw, self.max_timestamp.to_be_bytes());
        put::<PRODUCER_ID_AT, 8>(&mut raw, self.producer_id.to_be_bytes());
        put::<PRODUCER_EPOCH_AT, 2>(&mut raw, self.producer_epoch.to_be_bytes());
        put::<BASE_SEQUENCE_AT, 4>(&mut raw, self.base_sequence.to_be_bytes());
        put::<COUNT_AT, 4>(&mut raw, self.count.to_be_bytes());
        raw
    }

    /// Returns the offset of the last record as originally written.
    ///
    /// [`BatchHeader::parse`] rejects headers for which it does not exist. On others it saturates
    /// at the largest offset.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// Returns the offset after the batch, where a reader continues even if the batch's last
    /// records are gone.
    pub const fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Returns the sequence number of the last record, or -1 if there are none. Sequence numbers
    /// wrap to 0.
    pub const fn last_sequence(&self) -> i32 {
        self.sequence_at(self.last_offset_delta)
    }

    /// Returns the sequence number of the record with this offset delta, or -1 if there are none.
    pub(crate) const fn sequence_at(&self, offset_delta: i32) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(offset_delta) & i32::MAX
    }

    /// Returns the size in bytes of the whole batch, header included. Counts 0 payload bytes if the
    /// length is invalid.
    pub const fn total_bytes(&self) -> usize {
        let length = if self.length < MIN_LENGTH { MIN_LENGTH } else { self.length };
        (length as usize).saturating_add(LOG_OVERHEAD)
    }
}

/// Makes the header of a batch whose payload is `records`. Computes the length and the checksum,
/// sets the magic to 2, and takes all other fields from `header`.
///
/// Returns `None` if the payload exceeds the length field's maximum (2 GiB).
pub fn seal(header: &BatchHeader, records: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    let length = i32::try_from(records.len()).ok()?.checked_add(MIN_LENGTH)?;
    let mut raw = BatchHeader { length, magic: MAGIC, ..*header }.encode();
    let (_, covered) = raw.split_at(ATTRIBUTES_AT);
    let mut crc = Crc32c::new();
    crc.update(covered);
    crc.update(records);
    put::<CRC_AT, 4>(&mut raw, crc.value().to_be_bytes());
    Some(raw)
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a constant range, checked when it is compiled")]
fn field<const AT: usize, const N: usize>(raw: &[u8; HEADER_BYTES]) -> [u8; N] {
    const { assert!(AT + N <= HEADER_BYTES) };
    let mut out = [0; N];
    out.copy_from_slice(&raw[const { AT }..const { AT + N }]);
    out
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a constant range, checked when it is compiled")]
fn put<const AT: usize, const N: usize>(raw: &mut [u8; HEADER_BYTES], value: [u8; N]) {
    const { assert!(AT + N <= HEADER_BYTES) };
    raw[const { AT }..const { AT + N }].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(header: BatchHeader) -> Result<BatchHeader, CorruptReason> {
        match BatchHeader::parse(&header.encode()) {
            Ok(header) => Ok(header),
            Err(DecodeError::Corrupt { reason, .. }) => Err(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_field_returns() {
        let header = BatchHeader {
            base_offset: 0x0102_0304_0506_0708,
            length: 0x1112_1314,
            leader_epoch: 0x2122_2324,
            magic: MAGIC,
            crc: 0xF1F2_F3F4,
            attributes: Attributes::default()
                .with_compression(Compression::Lz4)
                .with_timestamp_type(TimestampType::LogAppendTime)
                .with_transactional(true)
                .with_control(true)
                .with_delete_horizon(true),
            last_offset_delta: 0x3132_3334,
            base_timestamp: -0x4142_4344_4546_4748,
            max_timestamp: 0x5152_5354_5556_5758,
            producer_id: 0x6162_6364_6566_6768,
            producer_epoch: 0x7172,
            base_sequence: 0x0182_8384,
            count: 0x0192_9394,
        };
        assert_eq!(reason(header), Ok(header));
        assert_eq!(header.attributes.bits(), 0x7B);
        assert_eq!(reason(BatchHeader::default()), Ok(BatchHeader::default()));
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let good = BatchHeader::default();
        let zstd = good.attributes.with_compression(Compression::Zstd);
        for (bad, expected) in [
            (BatchHeader { magic: 1, ..good }, CorruptReason::Magic),
            (BatchHeader { length: 48, ..good }, CorruptReason::Length),
            (BatchHeader { length: -1, ..good }, CorruptReason::Length),
            (BatchHeader { base_offset: -1, ..good }, CorruptReason::Offsets),
            (BatchHeader { last_offset_delta: -1, ..good }, CorruptReason::Offsets),
            (BatchHeader { base_offset: i64::MAX, ..good }, CorruptReason::Offsets),
            (BatchHeader { count: -1, ..good }, CorruptReason::Count),
            (BatchHeader { count: 1, length: 49 + 6, ..good }, CorruptReason::Count),
            (BatchHeader { count: 2, attributes: zstd, ..good }, CorruptReason::Count),
            (BatchHeader { attributes: Attributes(5), ..good }, CorruptReason::Codec),
        ] {
            assert_eq!(reason(bad), Err(expected), "{bad:?}");
        }
        assert!(reason(BatchHeader { count: 1, length: 49 + 7, ..good }).is_ok());
        assert!(reason(BatchHeader { count: 1, attributes: zstd, ..good }).is_ok());
        assert!(reason(BatchHeader { base_offset: i64::MAX - 1, ..good }).is_ok());
        let short = &good.encode()[..60];
        assert_eq!(BatchHeader::parse(short), Err(DecodeError::corrupt(CorruptReason::Length, 60)));
    }

    #[test]
    fn unused_attribute_bits_are_kept_and_ignored() {
        let attributes = Attributes::from_bits(0x7F80_u16 as i16).unwrap();
        assert_eq!(attributes.compression(), Compression::None);
        assert_eq!(attributes.with_compression(Compression::Gzip).bits(), 0x7F81);
        assert!(!attributes.is_control() && !attributes.is_transactional());
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        let header = BatchHeader { base_sequence: i32::MAX - 1, ..BatchHeader::default() };
        let sequences: Vec<i32> = (0..4).map(|delta| header.sequence_at(delta)).collect();
        assert_eq!(sequences, [i32::MAX - 1, i32::MAX, 0, 1]);
        assert_eq!(BatchHeader::default().last_sequence(), -1);
    }

    #[test]
    fn a_sealed_header_says_the_length_and_the_checksum() {
        let raw = seal(&BatchHeader { length: 0, ..BatchHeader::default() }, b"1234567").unwrap();
        let header = BatchHeader::parse(&raw).unwrap();
        assert_eq!((header.length, header.total_bytes()), (56, 68));
        let covered = [&raw[ATTRIBUTES_AT..], b"1234567"].concat();
        assert_eq!(header.crc, super::super::crc::crc32c(&covered));
    }
}
