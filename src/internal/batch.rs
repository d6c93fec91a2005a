use crate::error::CorruptReason;
use crate::record::crc::crc32c;
use crate::record::header::{ATTRIBUTES_AT, CRC_AT};
use crate::record::{
    Batch, Compression, DecodeError, Header, Records, decompress, encode_record, read_any,
    read_record, seal,
};

/// The limit for a decompressed payload.
const LIMIT: usize = 1 << 20;

/// Decodes any bytes as a batch, as they are and with a right checksum. Nothing panics or uses more memory
/// than the limit. Both decoders of records agree. A decompressed payload fits the limit exactly. Uncompressed bytes that decode encode to
/// the same bytes.
pub fn fuzz_batch_decode(data: &[u8]) {
    decode(data);
    let Ok(batch) = Batch::parse(data) else { return };
    let mut mended = batch.bytes().to_vec();
    let crc = crc32c(mended.get(ATTRIBUTES_AT..).unwrap_or_default());
    if let Some(place) = mended.get_mut(CRC_AT..ATTRIBUTES_AT) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    let batch = Batch::parse(&mended).expect("parsing does not check the checksum");
    assert_eq!(batch.verify_crc(), Ok(()));
    decode(&mended);
}

fn decode(data: &[u8]) {
    let Ok(batch) = Batch::parse(data) else { return };
    assert!(batch.bytes().len() <= data.len());
    assert_eq!(batch.header().encode(), batch.bytes()[..crate::record::HEADER_BYTES]);
    check_limit(&batch);
    check_decoders(batch.payload());
    let records = batch.records(LIMIT);
    if batch.verify_crc().is_ok() {
        assert_eq!(batch.verify(LIMIT).err(), records.as_ref().err().copied(), "one verdict");
    }
    let Ok(records) = records else { return };
    assert_eq!(records.len(), usize::try_from(batch.header().count).unwrap_or(usize::MAX));
    let mut previous = None;
    for record in records.iter() {
        assert!(previous < Some(record.offset()), "offsets rise");
        assert!(record.offset() <= batch.header().last_offset());
        previous = Some(record.offset());
        assert_eq!(record.headers().count(), record.headers().len());
    }
    if batch.header().attributes.compression() == Compression::None && batch.verify_crc().is_ok() {
        encodes_to_the_same(&batch, &records);
    }
}

/// Checks that the decoder of usual records gives what the one of all records gives, and leaves damage to it.
fn check_decoders(bytes: &[u8]) {
    let mut at = 0;
    while let Ok((record, next)) = read_record(bytes, at) {
        assert_eq!(read_any(bytes, at), Ok(record));
        at = next;
    }
    assert_eq!(read_any(bytes, at).err(), read_record(bytes, at).err());
}

/// Checks that a payload decompresses to the same bytes under every limit that it fits, and fails under
/// others.
fn check_limit(batch: &Batch<'_>) {
    let codec = batch.header().attributes.compression();
    let mut out = Vec::new();
    if codec == Compression::None || decompress(codec, batch.payload(), LIMIT, &mut out).is_err() {
        return;
    }
    assert!(out.len() <= LIMIT);
    let mut again = Vec::new();
    assert_eq!(decompress(codec, batch.payload(), out.len(), &mut again), Ok(()));
    assert_eq!(out, again);
    if let Some(less) = out.len().checked_sub(1) {
        let result = decompress(codec, batch.payload(), less, &mut Vec::new());
        assert!(matches!(result, Err(DecodeError::LimitExceeded { .. })), "{codec}: {result:?}");
    }
}

fn encodes_to_the_same(batch: &Batch<'_>, records: &Records<'_>) {
    let mut out = vec![0; records.bytes().len()];
    let mut at = 0;
    for (raw, record) in records.raw().iter().zip(records.iter()) {
        let headers: Result<Vec<Header<'_>>, _> = record
            .headers()
            .map(|header| header.name().map(|name| Header { name, value: header.value() }))
            .collect();
        // Names that are not UTF-8 can be read but not written.
        let Ok(headers) = headers else { return };
        let room = out.get_mut(at..).unwrap_or_default();
        let (key, value) = (record.key(), record.value());
        let size = encode_record(room, raw.timestamp_delta, raw.offset_delta, key, value, &headers);
        // Numbers and attributes may take more bytes than this writer gives them, as Kafka's writer does. The
        // record is then the same, with fewer bytes.
        at += size.expect("no record grows");
    }
    if at < out.len() || out.iter().zip(records.bytes()).any(|(a, b)| a != b) {
        assert!(!is_canonical(records), "{:?} is {out:?}", records.bytes());
        return;
    }
    let header = seal(batch.header(), &out).expect("as small as before");
    assert_eq!([&header[..], &out].concat(), batch.bytes());
}

/// Returns whether every number has its shortest form and every record's attributes are 0.
fn is_canonical(records: &Records<'_>) -> bool {
    let bytes = records.bytes();
    let mut at = 0;
    let number = |at: usize| {
        let (value, next) = crate::record::varint::read_i64(bytes, at).ok()?;
        let short = next - at == crate::record::varint::encoded_bytes(value);
        short.then_some((usize::try_from(value).unwrap_or(0), next))
    };
    let record = |mut at: usize| -> Option<usize> {
        (_, at) = number(at)?; // length
        if *bytes.get(at)? != 0 {
            return None;
        }
        (_, at) = number(at + 1)?; // timestamp
        (_, at) = number(at)?; // offset
        let field = |at: usize| number(at).map(|(len, next)| next + len);
        at = field(at)?;
        at = field(at)?;
        let (headers, mut at) = number(at)?;
        for _ in 0..headers * 2 {
            at = number(at).map(|(len, next)| next + len)?;
        }
        Some(at)
    };
    while at < bytes.len() {
        match record(at) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

/// Returns whether an error says that the bytes are damaged, beyond limits, or of a codec that is not built
/// in. A reader may report nothing else about a batch.
pub(super) fn is_typed(error: &crate::Error) -> bool {
    use crate::Error::{Corrupt, LimitExceeded, UnsupportedCodec};
    match error {
        Corrupt(corruption) => corruption.reason != CorruptReason::Index,
        LimitExceeded { .. } | UnsupportedCodec { .. } => true,
        _ => false,
    }
}
