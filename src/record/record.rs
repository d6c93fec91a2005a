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
    /// The position after the record.
    end: u32,
}

impl RawRecord {
    /// Returns the position after the record in the bytes that it was read from.
    #[inline]
    pub(crate) const fn end(&self) -> usize {
        self.end as usize
    }

    /// Returns whether the record has headers.
    pub(crate) const fn has_headers(&self) -> bool {
        self.header_count > 0
    }

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
    match read_plain(bytes, at) {
        Some(record) => Ok((record, record.end())),
        None => read_any(bytes, at).map(|record| (record, record.end())),
    }
}

/// The most bytes before the key of a record that [`read_plain`] decodes, with some to spare: 2 of the length,
/// 1 of attributes, 3 of the timestamp, 2 of the offset, 2 of the key's length. A null key is followed by
/// 2 of the value's length.
const WINDOW_BYTES: usize = 16;

/// Decodes a record whose numbers take one or two bytes, the timestamp up to three. Nearly all records are such.
/// Returns `None` for any other record, and for one that is damaged.
///
/// Reading all numbers before the key from one window takes one check of bounds instead of one a byte. That
/// takes half of the time of [`read_any`].
#[inline(always)]
pub(crate) fn read_plain(bytes: &[u8], at: usize) -> Option<RawRecord> {
    // No sum overflows: `at` lies in `bytes`, and the numbers added to it are below 2^14.
    let window: &[u8; WINDOW_BYTES] = bytes.get(at..)?.first_chunk()?;
    let (length, k) = short_in(window, 0)?;
    let end = at.wrapping_add(k).wrapping_add(natural(length)? as usize);
    let (timestamp, k) = timestamp_in(window, k.wrapping_add(1))?;
    let (offset, k) = short_in(window, k)?;
    let (key, k) = short_in(window, k)?;
    let key_start = at.wrapping_add(k);
    let (key_len, value, value_start) = if key == NULL {
        let (value, k) = short_in(window, k)?;
        (-1, value, at.wrapping_add(k))
    } else {
        let len = natural(key)?;
        let (value, next) = varint::read_short(bytes, key_start.wrapping_add(len as usize))?;
        (len as i32, value, next)
    };
    let value_len = natural(value)?;
    let value_end = value_start.wrapping_add(value_len as usize);
    let record = bytes.get(..end)?;
    let headers = *record.get(value_end)?;
    let headers_start = value_end.wrapping_add(1);
    let (header_count, after) = if headers == 0 {
        (0, headers_start)
    } else {
        let count = natural(u32::from(headers)).filter(|_| headers < 0x80)?;
        (count, check_headers(record, headers_start, count as i32).ok()?)
    };
    // `end` is the largest of the positions.
    (after == end && u32::try_from(end).is_ok()).then_some(RawRecord {
        timestamp_delta: varint::unzigzag64(u64::from(timestamp)),
        offset_delta: natural(offset)? as i32,
        key: Span { start: key_start as u32, len: key_len },
        value: Span { start: value_start as u32, len: value_len as i32 },
        headers_start: headers_start as u32,
        header_count,
        end: end as u32,
    })
}

/// The zigzag value of -1, the length of null.
const NULL: u32 = 1;

/// Returns the number that is 0 or more with this zigzag value.
#[inline(always)]
fn natural(zigzag: u32) -> Option<u32> {
    (zigzag & 1 == 0).then_some(zigzag >> 1)
}

/// Reads the zigzag value of a number of one or two bytes.
#[inline(always)]
fn short_in(window: &[u8; WINDOW_BYTES], k: usize) -> Option<(u32, usize)> {
    let first = u32::from(byte_of(window, k));
    let next = k.wrapping_add(1);
    if first < 0x80 {
        return Some((first, next));
    }
    let second = u32::from(byte_of(window, next));
    (second < 0x80).then_some((first & 0x7f | second << 7, next.wrapping_add(1)))
}

/// Reads the zigzag value of a number of up to three bytes: a timestamp up to 17 minutes after the first one.
#[inline(always)]
fn timestamp_in(window: &[u8; WINDOW_BYTES], k: usize) -> Option<(u32, usize)> {
    if let Some(short) = short_in(window, k) {
        return Some(short);
    }
    let byte = |n: usize| u32::from(byte_of(window, k.wrapping_add(n)));
    let third = byte(2);
    let low = byte(0) & 0x7f | (byte(1) & 0x7f) << 7;
    (third < 0x80).then_some((low | third << 14, k.wrapping_add(3)))
}

/// Returns a byte of the window. `k` is always less than its size, as the masked position shows the compiler.
#[inline(always)]
fn byte_of(window: &[u8; WINDOW_BYTES], k: usize) -> u8 {
    window.get(k % WINDOW_BYTES).copied().unwrap_or_default()
}

/// Decodes any record.
#[cold]
#[inline(never)]
pub(crate) fn read_any(bytes: &[u8], at: usize) -> Result<RawRecord, DecodeError> {
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
    Ok(RawRecord {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers_start: headers_start as u32,
        header_count: header_count as u32,
        end: end as u32,
    })
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
        // Nearly all records have small numbers, and a decoder of their own.
        let time = prop_oneof![any::<i64>(), -3_000_000_i64..3_000_000, 0_i64..100];
        let offset = prop_oneof![0..=i32::MAX, 0..20_000];
        (time, offset, bytes(), bytes(), headers)
    }

    fn encoded((time, offset, key, value, headers): &Fields) -> Vec<u8> {
        let list: Vec<Header<'_>> =
            headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
        let (key, value) = (key.as_deref(), value.as_deref());
        let mut out = vec![0; encoded_record_bytes(*time, *offset, key, value, &list)];
        encode_record(&mut out, *time, *offset, key, value, &list).unwrap();
        out
    }

    #[test]
    fn usual_records_are_decoded_the_short_way() {
        for (time, offset, key, value, headers) in [
            (0, 0, None, 100, &[][..]),
            (0, 8191, Some(&b"key"[..]), 7000, &[]),
            (1_000_000, 63, Some(b""), 0, &[]),
            (-8192, 64, None, 20, &[Header { name: "source", value: Some(b"shop") }]),
        ] {
            let mut out = [0; 8000];
            let value = vec![b'v'; value];
            let size = encode_record(&mut out, time, offset, key, Some(&value), headers).unwrap();
            let record = read_plain(&out, 0).unwrap();
            assert_eq!((read_any(&out, 0), record.end()), (Ok(record), size));
        }
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
            prop_assert_eq!(read_any(&out, 0), Ok(record));
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
        fn damage_is_told_by_both_decoders_or_by_none(
            fields in fields(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3),
            cut in any::<proptest::sample::Index>(),
            after in 0_usize..40,
        ) {
            // Most numbers are at the start.
            let mut bytes = encoded(&fields);
            bytes.extend(vec![0; after]);
            for (at, byte) in damage {
                let most = bytes.len().min(14);
                bytes[at.index(most)] ^= byte;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                let read = read_any(bytes, 0);
                if let Some(record) = read_plain(bytes, 0) {
                    prop_assert_eq!(&read, &Ok(record));
                }
                let read = read.map(|record| (record, record.end()));
                prop_assert_eq!(read_record(bytes, 0), read);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..90,
        ) {
            if let Some(record) = read_plain(&bytes, at) {
                prop_assert_eq!(read_any(&bytes, at), Ok(record));
            }
            if let Ok((record, next)) = read_record(&bytes, at) {
                prop_assert_eq!(record.end(), next);
                prop_assert!(next <= bytes.len() && next > at);
                prop_assert_eq!(record.key.is_null(), record.key.get(&bytes).is_none());
                prop_assert_eq!(record.headers(&bytes).count(), record.header_count());
            }
        }
    }
}
