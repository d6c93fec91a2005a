#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::borrow::Cow;

use super::crc::crc32c;
use super::header::{ATTRIBUTES_AT, CRC_AT, LENGTH_AT, MIN_RECORD_BYTES};
use super::{
    BatchHeader, Compression, DecodeError, HEADER_BYTES, Headers, RawRecord, decompress, read_any,
    read_plain,
};
use crate::error::CorruptReason;
use crate::types::{Timestamp, TimestampType};

/// The default limit for the decompressed size of a batch: 64 MiB.
pub const DEFAULT_MAX_DECOMPRESSED_BYTES: usize = 64 << 20;

/// A batch in borrowed bytes: its decoded header and its payload, not decoded yet.
///
/// ```
/// use grouplog::record::{Batch, BatchHeader, DEFAULT_MAX_DECOMPRESSED_BYTES, encode_record, seal};
///
/// let mut records = [0; 64];
/// let size = encode_record(&mut records, 0, 0, None, Some(b"hello"), &[]).unwrap();
/// let header = BatchHeader { base_offset: 42, count: 1, ..BatchHeader::default() };
/// let sealed = seal(&header, &records[..size]).unwrap();
///
/// let bytes = [&sealed[..], &records[..size]].concat();
/// let batch = Batch::parse(&bytes)?;
/// batch.verify_crc()?;
/// let records = batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES)?;
/// let record = records.get(0).unwrap();
/// assert_eq!((record.offset(), record.value()), (42, Some(&b"hello"[..])));
/// # Ok::<(), grouplog::record::DecodeError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    header: BatchHeader,
    /// The whole batch, header included, without the bytes after it.
    bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Parses the batch at the start of `bytes`, which may be longer. Does not check the checksum;
    /// see [`Batch::verify_crc`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header = BatchHeader::parse(bytes)?;
        match bytes.get(..header.total_bytes()) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(DecodeError::corrupt(CorruptReason::Length, LENGTH_AT)),
        }
    }

    /// Returns the header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the whole batch as it is stored.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the records as they are stored: encoded one after the other, or one compressed
    /// stream.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Checks the checksum. It covers everything but base offset, length, leader epoch and magic.
    pub fn verify_crc(&self) -> Result<(), DecodeError> {
        self.compare_crc(crc32c(self.bytes.get(ATTRIBUTES_AT..).unwrap_or_default()))
    }

    /// Checks the checksum, as [`Batch::verify_crc`] does, if it was computed from the same bytes before.
    pub(crate) fn compare_crc(&self, computed: u32) -> Result<(), DecodeError> {
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(DecodeError::corrupt(CorruptReason::Checksum, CRC_AT))
        }
    }

    /// Verifies that the batch is intact: the checksum matches, the payload decompresses to at most
    /// `limit` bytes, and the records are exactly those that the header describes
    /// ([`decode_records`]).
    ///
    /// This is the one verdict on a stored batch. `Consumer::poll`, `Verify` and `grouplog dump` all
    /// use it. As in Kafka, it does not cover timestamps: a maximum that is too low damages no record.
    ///
    /// # Errors
    /// `Corrupt` if the batch is not intact. `LimitExceeded` and `UnsupportedCodec` leave the question
    /// open.
    ///
    /// ```
    /// use grouplog::record::{Batch, BatchHeader, encode_record, seal};
    ///
    /// let mut records = [0; 64];
    /// let size = encode_record(&mut records, 0, 0, None, Some(b"hello"), &[]).unwrap();
    /// // The checksum is right, but there is one record and the header says none.
    /// let header = BatchHeader { count: 0, ..BatchHeader::default() };
    /// let bytes = [&seal(&header, &records[..size]).unwrap()[..], &records[..size]].concat();
    /// let batch = Batch::parse(&bytes)?;
    /// assert!(batch.verify_crc().is_ok());
    /// assert!(batch.verify(1 << 20).is_err());
    /// # Ok::<(), grouplog::record::DecodeError>(())
    /// ```
    pub fn verify(&self, limit: usize) -> Result<(), DecodeError> {
        self.verify_crc()?;
        let bytes = self.decompressed(limit)?;
        check_records(&self.header, &bytes).map_err(|e| e.shifted(HEADER_BYTES))
    }

    /// Returns the encoded records: borrowed, or decompressed to at most `limit` bytes.
    pub fn decompressed(&self, limit: usize) -> Result<Cow<'a, [u8]>, DecodeError> {
        let codec = self.header.attributes.compression();
        // A batch that compaction emptied may keep its codec, but contains no stream.
        let is_emptied = self.header.count == 0 && self.payload().is_empty();
        if codec == Compression::None || is_emptied {
            return Ok(Cow::Borrowed(self.payload()));
        }
        let mut out = Vec::new();
        decompress(codec, self.payload(), limit, &mut out).map_err(|e| e.shifted(HEADER_BYTES))?;
        Ok(Cow::Owned(out))
    }

    /// Decodes every record. Decompresses a compressed payload to at most `limit` bytes, usually
    /// [`DEFAULT_MAX_DECOMPRESSED_BYTES`].
    ///
    /// All or nothing: if any record is damaged, none is returned.
    pub fn records(&self, limit: usize) -> Result<Records<'a>, DecodeError> {
        let bytes = self.decompressed(limit)?;
        let mut raw = Vec::new();
        decode_records(&self.header, &bytes, &mut raw).map_err(|e| e.shifted(HEADER_BYTES))?;
        Ok(Records { header: self.header, bytes, raw })
    }
}

/// Decodes the records of a batch from `bytes`, its decompressed payload, and appends them to
/// `out`.
///
/// The number of records must match the header, and nothing may follow them. Their offset deltas
/// must rise and not exceed the last offset delta. On an error `out` is unchanged.
///
/// This is [`Batch::records`] for callers that provide the bytes and the vector.
pub fn decode_records(
    header: &BatchHeader,
    bytes: &[u8],
    out: &mut Vec<RawRecord>,
) -> Result<(), DecodeError> {
    let before = out.len();
    out.reserve(count_of(header, bytes)?);
    let result = each_record(header, bytes, |record| out.push(record));
    if result.is_err() {
        out.truncate(before);
    }
    result
}

/// Checks that the records are intact, as [`decode_records`] does, without returning them.
pub(crate) fn check_records(header: &BatchHeader, bytes: &[u8]) -> Result<(), DecodeError> {
    each_record(header, bytes, |_| ())
}

/// Returns the count of the header. Fails if there are not enough bytes for that many records.
fn count_of(header: &BatchHeader, bytes: &[u8]) -> Result<usize, DecodeError> {
    usize::try_from(header.count)
        .ok()
        .filter(|count| *count <= bytes.len() / MIN_RECORD_BYTES)
        .ok_or(DecodeError::corrupt(CorruptReason::Count, 0))
}

/// Decodes as [`decode_records`] does, and passes each record to `each`. The caller must discard these
/// records if the result is an error.
#[inline]
pub(crate) fn each_record(
    header: &BatchHeader,
    bytes: &[u8],
    mut each: impl FnMut(RawRecord),
) -> Result<(), DecodeError> {
    let count = count_of(header, bytes)?;
    let mut at = 0;
    let mut previous = -1;
    for _ in 0..count {
        // As in `read_record`. Its result would pass each record through memory.
        let record = match read_plain(bytes, at) {
            Some(record) => record,
            None => read_any(bytes, at)?,
        };
        if record.offset_delta <= previous || record.offset_delta > header.last_offset_delta {
            return Err(DecodeError::corrupt(CorruptReason::Offsets, at));
        }
        previous = record.offset_delta;
        at = record.end();
        each(record);
    }
    if at == bytes.len() { Ok(()) } else { Err(DecodeError::corrupt(CorruptReason::Count, at)) }
}

/// The records of one batch, all of them checked.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
    raw: Vec<RawRecord>,
}

impl Records<'_> {
    /// Returns the number of records.
    pub const fn len(&self) -> usize {
        self.raw.len()
    }

    /// Returns whether there are no records, as in a batch that compaction has emptied.
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Returns the record at `index`, counted from 0 inside the batch.
    pub fn get(&self, index: usize) -> Option<RecordView<'_>> {
        self.raw.get(index).map(|raw| RecordView::new(&self.header, &self.bytes, *raw))
    }

    /// Iterates over the records in the order of their offsets.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> {
        self.raw.iter().map(|raw| RecordView::new(&self.header, &self.bytes, *raw))
    }

    /// Returns the encoded records, decompressed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns where the fields of the records lie in [`Records::bytes`].
    pub fn raw(&self) -> &[RawRecord] {
        &self.raw
    }
}

/// One record of a batch, with the fields it takes from the batch's header.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
    raw: RawRecord,
}

impl<'a> RecordView<'a> {
    /// Creates a view of `raw`, which was read from `bytes`, in the batch with this header.
    #[inline]
    pub const fn new(header: &'a BatchHeader, bytes: &'a [u8], raw: RawRecord) -> Self {
        Self { header, bytes, raw }
    }

    /// Returns the offset.
    #[inline]
    pub const fn offset(&self) -> i64 {
        self.header.base_offset.saturating_add(self.raw.offset_delta as i64)
    }

    /// Returns the timestamp: the batch's append time on a topic with `LogAppendTime`, else the
    /// time set by the producer.
    #[inline]
    pub const fn timestamp(&self) -> Timestamp {
        Timestamp::from_millis(match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            // Wraps as Kafka's does. No writer makes a delta that overflows.
            TimestampType::CreateTime => {
                self.header.base_timestamp.wrapping_add(self.raw.timestamp_delta)
            }
        })
    }

    /// Returns the sequence number, or -1 if there is none.
    pub const fn sequence(&self) -> i32 {
        self.header.sequence_at(self.raw.offset_delta)
    }

    /// Returns the key.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key.get(self.bytes)
    }

    /// Returns the value. `None` deletes the key on a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value.get(self.bytes)
    }

    /// Returns the headers.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.raw.headers(self.bytes)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::super::{Attributes, Header, encode_record, encoded_record_bytes, seal};
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = DEFAULT_MAX_DECOMPRESSED_BYTES;

    /// Encodes records with these offset deltas. Timestamps and values follow from them.
    fn encode(deltas: &[i32]) -> Vec<u8> {
        let mut out = Vec::new();
        for &delta in deltas {
            let time = i64::from(delta) * 10;
            let value = format!("value {delta}");
            let headers = [Header { name: "h", value: None }];
            let size = encoded_record_bytes(time, delta, None, Some(value.as_bytes()), &headers);
            let start = out.len();
            out.resize(start + size, 0);
            encode_record(&mut out[start..], time, delta, None, Some(value.as_bytes()), &headers);
        }
        out
    }

    fn batch(header: BatchHeader, payload: &[u8]) -> Vec<u8> {
        [&seal(&header, payload).unwrap()[..], payload].concat()
    }

    fn header(count: i32, last_offset_delta: i32) -> BatchHeader {
        BatchHeader { base_offset: 100, count, last_offset_delta, ..BatchHeader::default() }
    }

    fn reason(bytes: &[u8]) -> CorruptReason {
        match Batch::parse(bytes).and_then(|batch| batch.records(LIMIT)) {
            Err(DecodeError::Corrupt { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_return_with_what_the_header_adds() {
        let head = BatchHeader {
            base_timestamp: 1000,
            max_timestamp: 5000,
            producer_id: 1,
            base_sequence: i32::MAX,
            ..header(2, 3)
        };
        let mut bytes = batch(head, &encode(&[0, 3]));
        bytes.extend_from_slice(b"the next batch");
        let parsed = Batch::parse(&bytes).unwrap();
        parsed.verify_crc().unwrap();
        let records = parsed.records(LIMIT).unwrap();
        let seen: Vec<_> = records
            .iter()
            .map(|r| (r.offset(), r.timestamp().as_millis(), r.sequence(), r.value().unwrap()))
            .collect();
        assert_eq!(seen[0], (100, 1000, i32::MAX, &b"value 0"[..]));
        assert_eq!(seen[1], (103, 1030, 2, &b"value 3"[..]));
        assert_eq!(parsed.header().next_offset(), 104);
        assert_eq!(records.get(1).unwrap().headers().len(), 1);
        assert!(records.get(2).is_none());

        let attributes = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
        let bytes = batch(BatchHeader { attributes, ..head }, &encode(&[0, 3]));
        let records = Batch::parse(&bytes).unwrap().records(LIMIT).unwrap();
        assert!(records.iter().all(|r| r.timestamp().as_millis() == 5000));
    }

    #[test]
    fn a_batch_that_compaction_emptied_has_no_records() {
        let bytes = batch(header(0, 4), b"");
        let batch = Batch::parse(&bytes).unwrap();
        assert!(batch.records(LIMIT).unwrap().is_empty());
        assert_eq!(batch.header().next_offset(), 105);
    }

    #[test]
    fn counts_and_offsets_that_do_not_match_are_refused() {
        let two = encode(&[0, 3]);
        assert_eq!(reason(&batch(header(1, 3), &two)), CorruptReason::Count);
        assert_eq!(reason(&batch(header(3, 3), &two)), CorruptReason::Length);
        assert_eq!(reason(&batch(header(0, 3), &two)), CorruptReason::Count);
        assert_eq!(reason(&batch(header(2, 2), &two)), CorruptReason::Offsets);
        assert_eq!(reason(&batch(header(2, 9), &encode(&[3, 3]))), CorruptReason::Offsets);
        assert_eq!(reason(&batch(header(2, 9), &encode(&[3, 0]))), CorruptReason::Offsets);
        let whole = batch(header(2, 3), &two);
        assert_eq!(reason(&whole[..whole.len() - 1]), CorruptReason::Length);
    }

    #[test]
    fn a_failed_decode_leaves_the_vector_as_it_was() {
        let mut out = Vec::new();
        decode_records(&header(2, 3), &encode(&[0, 3]), &mut out).unwrap();
        assert!(decode_records(&header(2, 3), &encode(&[0, 4]), &mut out).is_err());
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn every_flipped_bit_under_the_checksum_is_noticed() {
        let good = batch(header(3, 2), &encode(&[0, 1, 2]));
        for bit in CRC_AT * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let refused = Batch::parse(&bad).and_then(|batch| batch.verify_crc());
            assert!(refused.is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Batch::parse(&bytes).and_then(|batch| batch.records(LIMIT));
        }

        #[test]
        fn any_payload_behind_a_good_header_is_refused_or_read_without_a_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            codec in 0_u8..5,
            count in 0_i32..20,
        ) {
            let attributes = Attributes::default().with_compression(Compression::from_id(codec).unwrap());
            let bytes = batch(BatchHeader { attributes, ..header(count, 100) }, &payload);
            if let Ok(records) = Batch::parse(&bytes).and_then(|batch| batch.records(1 << 16)) {
                prop_assert_eq!(records.len(), count as usize);
            }
        }
    }
}
