//! Every batch of every fixture decodes to its description and encodes to the same bytes again.

use grouplog::TimestampType;
use grouplog::record::{
    Batch, Compression, ControlType, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError,
    EndTransactionMarker, Header, Records, compress, decode_records, encode_record,
    encoded_record_bytes, seal,
};

use crate::vectors::{self, Description};

const LIMIT: usize = DEFAULT_MAX_DECOMPRESSED_BYTES;

/// Calls `check` with each batch of the file `name` and its description.
fn for_each_batch(name: &str, mut check: impl FnMut(&Batch<'_>, &vectors::Batch)) {
    let bytes = vectors::read(&format!("{name}.log"));
    let Description { size, valid_bytes, batches } = vectors::description(name);
    assert_eq!((bytes.len(), valid_bytes), (size, size), "{name}");
    let mut position = 0;
    for expected in &batches {
        assert_eq!(expected.position, position, "{name}");
        let batch = Batch::parse(&bytes[position..]).unwrap();
        check(&batch, expected);
        position += batch.bytes().len();
    }
    assert_eq!(position, size, "{name}");
}

/// Returns the records of a batch, or `None` if the build omits its codec.
fn records<'a>(name: &str, batch: &Batch<'a>) -> Option<Records<'a>> {
    match batch.records(LIMIT) {
        Ok(records) => Some(records),
        Err(DecodeError::UnsupportedCodec(codec)) if !codec.is_built_in() => None,
        Err(e) => panic!("{name}: {e}"),
    }
}

#[test]
fn headers_are_read_and_written_as_described() {
    assert!(vectors::names().len() >= 23);
    for name in vectors::names() {
        for_each_batch(&name, |batch, expected| {
            let header = *batch.header();
            let attributes = header.attributes;
            assert_eq!(batch.verify_crc().is_ok(), expected.crc_ok, "{name}");
            assert_eq!(header.total_bytes(), expected.size);
            assert_eq!(header.base_offset, expected.base_offset);
            assert_eq!(header.last_offset(), expected.last_offset);
            assert_eq!(header.leader_epoch, expected.leader_epoch);
            assert_eq!(header.crc, expected.crc);
            assert_eq!(attributes.compression().name(), expected.compression);
            let append_time = attributes.timestamp_type() == TimestampType::LogAppendTime;
            assert_eq!(append_time, expected.timestamp_type == "LogAppendTime");
            assert_eq!(attributes.is_transactional(), expected.is_transactional);
            assert_eq!(attributes.is_control(), expected.is_control);
            let horizon = attributes.has_delete_horizon().then_some(header.base_timestamp);
            assert_eq!(horizon, expected.delete_horizon_ms);
            assert_eq!(header.base_timestamp, expected.base_timestamp);
            assert_eq!(header.max_timestamp, expected.max_timestamp);
            assert_eq!(header.producer_id, expected.producer_id);
            assert_eq!(header.producer_epoch, expected.producer_epoch);
            assert_eq!(header.base_sequence, expected.base_sequence);
            assert_eq!(header.last_sequence(), expected.last_sequence);
            assert_eq!(header.count, expected.count);

            assert_eq!(header.encode(), batch.bytes()[..61], "{name}");
            assert_eq!(seal(&header, batch.payload()).unwrap(), batch.bytes()[..61], "{name}");
        });
    }
}

#[test]
fn records_are_read_as_described() {
    for name in vectors::names() {
        let mut skipped = Vec::new();
        for_each_batch(&name, |batch, expected| {
            let Some(records) = records(&name, batch) else {
                skipped.push(batch.header().attributes.compression().name());
                return;
            };
            assert_eq!(records.len(), expected.records.len(), "{name}");
            for (record, expected) in records.iter().zip(&expected.records) {
                assert_eq!(record.offset(), expected.offset, "{name}");
                assert_eq!(record.timestamp().as_millis(), expected.timestamp, "{name}");
                assert_eq!(record.sequence(), expected.sequence, "{name}");
                assert_eq!(record.key(), vectors::bytes(expected.key.as_ref()).as_deref());
                assert_eq!(record.value(), vectors::bytes(expected.value.as_ref()).as_deref());
                assert_eq!(record.headers().count(), expected.headers.len(), "{name}");
                for (header, (name, value)) in record.headers().zip(&expected.headers) {
                    assert_eq!(header.name().unwrap(), name);
                    assert_eq!(header.value(), vectors::bytes(value.as_ref()).as_deref());
                }
            }
        });
        note_skipped(&name, skipped);
    }
}

#[expect(clippy::print_stderr, reason = "a codec that is not tested must not go unnoticed")]
fn note_skipped(name: &str, mut codecs: Vec<&str>) {
    codecs.dedup();
    if !codecs.is_empty() {
        eprintln!("{name}: records not compared, features are off: {codecs:?}");
    }
}

/// Encodes the decoded records with this crate.
fn encoded(records: &Records<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (record, raw) in records.iter().zip(records.raw()) {
        let headers: Vec<Header<'_>> = record
            .headers()
            .map(|header| Header { name: header.name().unwrap(), value: header.value() })
            .collect();
        let (time, offset) = (raw.timestamp_delta, raw.offset_delta);
        let (key, value) = (record.key(), record.value());
        let size = encoded_record_bytes(time, offset, key, value, &headers);
        let start = out.len();
        out.resize(start + size, 0);
        let written = encode_record(&mut out[start..], time, offset, key, value, &headers);
        assert_eq!(written, Some(size));
    }
    out
}

#[test]
fn batches_are_written_again_byte_for_byte() {
    for name in vectors::names() {
        for_each_batch(&name, |batch, _| {
            let Some(records) = records(&name, batch) else { return };
            // Compressed bytes differ from encoder to encoder, but not their content.
            let payload = encoded(&records);
            assert_eq!(payload, records.bytes(), "{name}");
            if batch.header().attributes.compression() == Compression::None {
                let sealed = seal(batch.header(), &payload).unwrap();
                assert_eq!([&sealed[..], &payload].concat(), batch.bytes(), "{name}");
            }
        });
    }
}

#[test]
fn batches_return_from_every_codec_that_is_built_in() {
    for_each_batch("py_none", |batch, _| {
        for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
            let mut payload = Vec::new();
            compress(codec, None, batch.payload(), &mut payload).unwrap();
            let mut header = *batch.header();
            header.attributes = header.attributes.with_compression(codec);
            let bytes = [&seal(&header, &payload).unwrap()[..], &payload].concat();
            let again = Batch::parse(&bytes).unwrap();
            again.verify_crc().unwrap();
            let records = again.records(LIMIT).unwrap();
            assert_eq!(records.bytes(), batch.payload(), "{codec}");
            let mut raw = Vec::new();
            decode_records(batch.header(), batch.payload(), &mut raw).unwrap();
            assert_eq!(records.raw(), raw, "{codec}");
        }
    });
}

#[test]
fn transaction_markers_are_recognised() {
    let kinds = |name: &str| {
        let mut kinds = Vec::new();
        for_each_batch(name, |batch, _| {
            if !batch.header().attributes.is_control() {
                return;
            }
            let records = batch.records(LIMIT).unwrap();
            let record = records.get(0).unwrap();
            let kind = ControlType::parse(record.key().unwrap()).unwrap();
            if matches!(kind, ControlType::Abort | ControlType::Commit) {
                assert_eq!(batch.bytes().len(), 78);
                EndTransactionMarker::parse(record.value().unwrap()).unwrap();
            }
            kinds.push(kind);
        });
        kinds
    };
    assert_eq!(
        kinds("rs_transactions"),
        [ControlType::Commit, ControlType::Abort, ControlType::Commit]
    );
    assert_eq!(kinds("jv_transactions").len(), 2);
    assert_eq!(kinds("jv_leader_change"), [ControlType::LeaderChange]);
    assert_eq!(kinds("jv_none"), []);
}

#[test]
fn a_flipped_bit_in_any_batch_is_refused() {
    for name in ["jv_compacted", "jv_transactions", "jv_leader_change", "py_extremes"] {
        for_each_batch(name, |batch, _| {
            for bit in 17 * 8..batch.bytes().len() * 8 {
                let mut bytes = batch.bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let refused = Batch::parse(&bytes).and_then(|batch| batch.verify_crc());
                assert!(refused.is_err(), "{name}: bit {bit}");
            }
        });
    }
}
