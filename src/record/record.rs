#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::str::Utf8Error;

use super::{DecodeError, varint};
use crate::error::CorruptReason;

/// The place of a key or value. Takes 8 bytes instead of a slice, so it can be stored next to the
/// buffer it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    /// -1 for null.
    len: i32,
}

impl Span {
    /// Returns the bytes, or `None` for null. `bytes` must be the bytes that the record was read
    /// from. With other bytes the result is meaningless.
    #[inline(always)]
    pub fn get(self, bytes: &[u8]) -> Option<&[u8]> {
        let start = self.start as usize;
        let len = usize::try_from(self.len).ok()?;
        bytes.get(start..start.checked_add(len)?)
    }

    /// Returns whether this is null: a null key, or the null value that deletes a key of a
    /// compacted topic.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.len < 0
    }

    /// Returns the number of bytes, 0 for null.
    #[inline]
    pub const fn len(self) -> usize {
        if self.len < 0 { 0 } else { self.len as usize }
    }

    /// Returns whether there are no bytes.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len <= 0
    }
}

/// A decoded record without its bytes. Its 40 bytes say where everything lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord {
    /// Timestamp minus the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// The key.
    pub key: Span,
    /// The value.
    pub value: Span,
    headers_start: u32,
    header_count: u32,
}

impl RawRecord {
    /// Returns the headers. `bytes` must be the bytes that the record was read from.
    #[inline]
    pub fn headers<'a>(&self, bytes: &'a [u8]) -> Headers<'a> {
        Headers { bytes, at: self.headers_start as usize, left: self.header_count }
    }

    /// Returns the number of headers.
    #[inline]
    pub const fn header_count(&self) -> usize {
        self.header_count as usize
    }
}

/// Reads the record that starts at byte `at` of `bytes`. Returns it and the position after it.
///
/// Checks everything in the record, headers included, so later reads through the result cannot
/// fail. Only the names of headers may be any bytes: Kafka's broker does not check that they are
/// UTF-8 either, and a record that it has accepted must stay readable.
///
/// ```
/// use grouplog::record::{encode_record, read_record};
///
/// let mut bytes = [0; 64];
/// let end = encode_record(&mut bytes, 5, 0, Some(b"alice"), Some(b"3 apples"), &[]).unwrap();
/// let (record, next) = read_record(&bytes, 0)?;
/// assert_eq!(next, end);
/// assert_eq!(record.timestamp_delta, 5);
/// assert_eq!(record.key.get(&bytes), Some(&b"alice"[..]));
/// # Ok::<(), grouplog::record::DecodeError>(())
/// ```
#[inline(always)]
pub fn read_record(bytes: &[u8], at: usize) -> Result<(RawRecord, usize), DecodeError> {
    let (length, body) = varint::read_i32(bytes, at)?;
    let end = usize::try_from(length).ok().and_then(|length| body.checked_add(length));
    // Positions take 32 bits: a batch is smaller than 2 GiB + 12.
    let Some(end) = end.filter(|&end| u32::try_from(end).is_ok()) else {
        return Err(DecodeError::corrupt(CorruptReason::Length, at));
    };
    // `record` ends where the record ends, so nothing can read beyond it from here on.
    let Some(record) = bytes.get(..end) else {
        return Err(DecodeError::corrupt(CorruptReason::Length, at));
    };
    // One byte of attributes, unused. A record without it fails at the next field.
    let (timestamp_delta, next) = varint::read_i64(record, body.saturating_add(1))?;
    let (offset_delta, next) = varint::read_i32(record, next)?;
    if offset_delta < 0 {
        return Err(DecodeError::corrupt(CorruptReason::Offsets, at));
    }
    let (key, next) = read_span(record, next)?;
    let (value, next) = read_span(record, next)?;
    let (header_count, headers_start) = varint::read_i32(record, next)?;
    let after = if header_count == 0 {
        headers_start
    } else {
        check_headers(record, headers_start, header_count)?
    };
    if after != end {
        return Err(DecodeError::corrupt(CorruptReason::Length, at));
    }
    let raw = RawRecord {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers_start: headers_start as u32,
        header_count: header_count as u32,
    };
    Ok((raw, end))
}

/// Reads a length and that many bytes, or -1 for null.
#[inline(always)]
fn read_span(record: &[u8], at: usize) -> Result<(Span, usize), DecodeError> {
    let (len, start) = varint::read_i32(record, at)?;
    // One comparison for the common case, a value that is not null.
    if let Ok(bytes) = usize::try_from(len) {
        // Does not overflow: `start` is at most u32::MAX and `len` at most i32::MAX on the 64-bit
        // systems that have such slices. On others the sum saturates beyond every slice.
        let end = start.saturating_add(bytes);
        if end <= record.len() {
            return Ok((Span { start: start as u32, len }, end));
        }
    } else if len == -1 {
        return Ok((Span { start: start as u32, len }, start));
    }
    Err(DecodeError::corrupt(CorruptReason::Length, at))
}

#[inline(never)]
fn check_headers(record: &[u8], start: usize, count: i32) -> Result<usize, DecodeError> {
    // At least two bytes for each header, so a wrong count does not count down from 2^31.
    let most = record.len().saturating_sub(start) >> 1;
    if usize::try_from(count).map_or(true, |count| count > most) {
        return Err(DecodeError::corrupt(CorruptReason::Count, start));
    }
    let mut at = start;
    for _ in 0..count {
        let (name, next) = read_span(record, at)?;
        if name.is_null() {
            return Err(DecodeError::corrupt(CorruptReason::Length, at));
        }
        (_, at) = read_span(record, next)?;
    }
    Ok(at)
}

/// Iterator over the headers of a record, in their order. Decodes them while it advances.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Headers<'a> {
    /// Returns the number of headers left.
    pub const fn len(&self) -> usize {
        self.left as usize
    }

    /// Returns whether no headers are left.
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Returns the last header of this name, the one that counts if a name is repeated (Kafka's
    /// `Headers.lastHeader`).
    pub fn get(&self, name: &str) -> Option<RecordHeader<'a>> {
        self.clone().filter(|header| header.name_bytes() == name.as_bytes()).last()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        // `read_record` has read the same bytes, so neither `?` ends the iteration early.
        let (name, next) = read_span(self.bytes, self.at).ok()?;
        let (value, next) = read_span(self.bytes, next).ok()?;
        self.at = next;
        Some(RecordHeader { name: name.get(self.bytes)?, value: value.get(self.bytes) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

/// One header of a record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> RecordHeader<'a> {
    /// Returns the name, or an error if the writer did not write UTF-8. See
    /// [`RecordHeader::name_bytes`].
    pub const fn name(&self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.name)
    }

    /// Returns the name as it is stored.
    pub const fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// Returns the value, or `None` for null.
    pub const fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

/// One header of a record to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    /// The name. May be empty, and may be repeated.
    pub name: &'a str,
    /// The value, `None` for null.
    pub value: Option<&'a [u8]>,
}

/// Returns the exact size of the encoded record: the number of bytes that [`encode_record`] needs.
#[inline]
pub fn encoded_record_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let body = body_bytes(timestamp_delta, offset_delta, key, value, headers);
    body.saturating_add(varint::encoded_bytes(body as i64))
}

/// Returns the size of everything after the length field. Saturates: the result may exceed any
/// record.
#[inline(always)]
fn body_bytes(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    // The attributes byte and a header count of 0.
    let mut bytes = if headers.is_empty() { 2 } else { headers_bytes(headers).saturating_add(1) };
    bytes = bytes.saturating_add(varint::encoded_bytes(timestamp_delta));
    bytes = bytes.saturating_add(varint::encoded_bytes(i64::from(offset_delta)));
    bytes = bytes.saturating_add(span_bytes(key));
    bytes.saturating_add(span_bytes(value))
}

#[inline(never)]
fn headers_bytes(headers: &[Header<'_>]) -> usize {
    let count = varint::encoded_bytes(headers.len() as i64);
    headers.iter().fold(count, |sum, header| {
        let name = span_bytes(Some(header.name.as_bytes()));
        sum.saturating_add(name).saturating_add(span_bytes(header.value))
    })
}

#[inline(always)]
fn span_bytes(span: Option<&[u8]>) -> usize {
    match span {
        None => 1,
        Some(bytes) => bytes.len().saturating_add(varint::encoded_bytes(bytes.len() as i64)),
    }
}

/// Writes a record to the start of `out`. Returns the number of bytes written.
///
/// Returns `None` and writes nothing if `out` is too short, or if the record exceeds the format's
/// limit (2 GiB). `timestamp_delta` and `offset_delta` are relative to the batch.
#[inline]
pub fn encode_record(
    out: &mut [u8],
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> Option<usize> {
    let body = body_bytes(timestamp_delta, offset_delta, key, value, headers);
    // Every length inside is smaller than the body, so this check covers them all.
    let length = i32::try_from(body).ok()?;
    let total = body.saturating_add(varint::encoded_bytes(i64::from(length)));
    let out = out.get_mut(..total)?;
    let at = varint::write(out, 0, i64::from(length))?;
    *out.get_mut(at)? = 0;
    let at = varint::write(out, at.saturating_add(1), timestamp_delta)?;
    let at = varint::write(out, at, i64::from(offset_delta))?;
    let at = write_span(out, at, key)?;
    let at = write_span(out, at, value)?;
    if headers.is_empty() {
        *out.get_mut(at)? = 0;
    } else {
        write_headers(out, at, headers)?;
    }
    Some(total)
}

#[inline(never)]
fn write_headers(out: &mut [u8], at: usize, headers: &[Header<'_>]) -> Option<usize> {
    let mut at = varint::write(out, at, headers.len() as i64)?;
    for header in headers {
        at = write_span(out, at, Some(header.name.as_bytes()))?;
        at = write_span(out, at, header.value)?;
    }
    Some(at)
}

#[inline(always)]
fn write_span(out: &mut [u8], at: usize, span: Option<&[u8]>) -> Option<usize> {
    let Some(bytes) = span else { return varint::write(out, at, -1) };
    let at = varint::write(out, at, bytes.len() as i64)?;
    let end = at.checked_add(bytes.len())?;
    out.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(reason: CorruptReason, position: usize) -> Result<(RawRecord, usize), DecodeError> {
        Err(DecodeError::corrupt(reason, position))
    }

    #[test]
    fn descriptors_take_40_bytes() {
        assert_eq!(size_of::<RawRecord>(), 40);
    }

    #[test]
    fn the_smallest_record_takes_seven_bytes() {
        let mut out = [0xEE; 8];
        assert_eq!(encode_record(&mut out, 0, 0, None, None, &[]), Some(7));
        assert_eq!(out, [12, 0, 0, 0, 1, 1, 0, 0xEE]);
        let (record, next) = read_record(&out, 0).unwrap();
        assert_eq!((next, record.key.is_null(), record.value.is_null()), (7, true, true));
        assert!(record.headers(&out).is_empty());
    }

    #[test]
    fn null_and_empty_differ() {
        let mut out = [0; 32];
        let headers = [Header { name: "", value: None }, Header { name: "", value: Some(b"") }];
        let size = encode_record(&mut out, 0, 0, Some(b""), None, &headers).unwrap();
        let (record, next) = read_record(&out, 0).unwrap();
        assert_eq!(next, size);
        assert_eq!((record.key.get(&out), record.value.get(&out)), (Some(&b""[..]), None));
        let values: Vec<_> = record.headers(&out).map(|h| h.value()).collect();
        assert_eq!(values, [None, Some(&b""[..])]);
        assert_eq!(record.headers(&out).get("").unwrap().value(), Some(&b""[..]));
        assert_eq!(record.headers(&out).get("x"), None);
    }

    #[test]
    fn damaged_records_are_refused() {
        // length, attributes, timestamp, offset, key, value, header count
        let cases: &[(&[u8], CorruptReason)] = &[
            (&[], CorruptReason::Length),
            (&[1, 0, 0, 0, 1, 1, 0], CorruptReason::Length),
            (&[14, 0, 0, 0, 1, 1, 0], CorruptReason::Length),
            (&[10, 0, 0, 0, 1, 1, 0], CorruptReason::Length),
            (&[0], CorruptReason::Length),
            (&[14, 0, 0, 0, 1, 1, 0, 0], CorruptReason::Length),
            (&[12, 0, 0, 1, 1, 1, 0], CorruptReason::Offsets),
            (&[12, 0, 0, 0, 3, 1, 0], CorruptReason::Length),
            (&[12, 0, 0, 0, 1, 2, 0], CorruptReason::Length),
            (&[12, 0, 0, 0, 1, 1, 1], CorruptReason::Count),
            (&[12, 0, 0, 0, 1, 1, 2], CorruptReason::Count),
            (&[16, 0, 0, 0, 1, 1, 2, 1, 1], CorruptReason::Length),
            (&[16, 0, 0, 0, 1, 1, 2, 2, 1], CorruptReason::Length),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff], CorruptReason::Varint),
        ];
        for (bytes, expected) in cases {
            match read_record(bytes, 0) {
                Err(DecodeError::Corrupt { reason, .. }) => {
                    assert_eq!(reason, *expected, "{bytes:?}");
                }
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
        assert_eq!(read_record(&[12, 0, 0, 0, 1, 1, 0], 8), error(CorruptReason::Length, 8));
    }

    #[test]
    fn a_header_name_that_is_not_utf8_is_read_as_bytes() {
        let bytes = [20, 0, 0, 0, 1, 1, 2, 4, 0xC3, 0x28, 1];
        let (record, _) = read_record(&bytes, 0).unwrap();
        let header = record.headers(&bytes).next().unwrap();
        assert!(header.name().is_err());
        assert_eq!(header.name_bytes(), [0xC3, 0x28]);
    }

    type Fields = (i64, i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn fields() -> impl Strategy<Value = Fields> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
        let headers = proptest::collection::vec((".{0,12}", bytes()), 0..4);
        (any::<i64>(), 0..=i32::MAX, bytes(), bytes(), headers)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read((time, offset, key, value, headers) in fields(), room in 0_usize..64) {
            let list: Vec<Header<'_>> =
                headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
            let size = encoded_record_bytes(time, offset, key.as_deref(), value.as_deref(), &list);
            let mut out = vec![0xEE; size + room];
            let written = encode_record(&mut out, time, offset, key.as_deref(), value.as_deref(), &list);
            prop_assert_eq!(written, Some(size));
            prop_assert!(out[size..].iter().all(|&byte| byte == 0xEE));

            let (record, next) = read_record(&out, 0).unwrap();
            prop_assert_eq!(next, size);
            prop_assert_eq!((record.timestamp_delta, record.offset_delta), (time, offset));
            prop_assert_eq!(record.key.get(&out), key.as_deref());
            prop_assert_eq!(record.value.get(&out), value.as_deref());
            let read: Vec<Header<'_>> = record
                .headers(&out)
                .map(|header| Header { name: header.name().unwrap(), value: header.value() })
                .collect();
            prop_assert_eq!(read, list);

            // A truncated record is rejected, and nothing is written to a slice that is too small.
            prop_assert!(read_record(&out[..size - 1], 0).is_err());
            let mut small = vec![0xEE; size - 1];
            let written = encode_record(&mut small, time, offset, key.as_deref(), value.as_deref(), &[]);
            if written.is_none() {
                prop_assert!(small.iter().all(|&byte| byte == 0xEE));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..90,
        ) {
            if let Ok((record, next)) = read_record(&bytes, at) {
                prop_assert!(next <= bytes.len() && next > at);
                prop_assert_eq!(record.key.is_null(), record.key.get(&bytes).is_none());
                prop_assert_eq!(record.headers(&bytes).count(), record.header_count());
            }
        }
    }
}
