use super::input::Input;
use crate::dedup::{
    DedupSettings, IdSection, decode_topics, encode_topics, fuzz_bucket, load, write_out,
};

/// Takes any bytes as the section of registered ids, as a checkpoint's list of ids, and as the entries of a bucket
/// with a right checksum. They are refused, or what they hold is written as the same bytes.
pub fn fuzz_dedup_load(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let bytes = input.rest;
    match kind % 3 {
        0 => {
            if let Ok(section) = IdSection::decode(bytes) {
                let mut encoded = Vec::new();
                section.encode(&mut encoded);
                assert_eq!(encoded, bytes);
            }
        }
        1 => {
            if let Ok(topics) = decode_topics(bytes) {
                let mut encoded = Vec::new();
                encode_topics(&topics, &mut encoded);
                assert_eq!(encoded, bytes);
            }
        }
        _ => bucket(bytes),
    }
}

fn bucket(bytes: &[u8]) {
    let (storage, image) = fuzz_bucket(bytes);
    let settings = DedupSettings { window_ms: u64::MAX, max_ids: 100_000_000 };
    let Ok(mut table) = load(&storage, &image, settings, 0) else { return };
    // It holds all that the image lists, so nothing is left to write.
    let frozen = table.freeze();
    let written = write_out(&[frozen], &storage).expect("nothing is written");
    assert_eq!(written, [image]);
}
