use super::input::Input;
use crate::engine::CheckpointImage;
use crate::group::{OFFSET_IMAGE, OffsetCommit, decode_image, encode_image};

/// Takes any bytes as an offset file, a checkpoint file and the section of a commit, as they are and with
/// right checksums. The decoder refuses them, or what they hold encodes to the same bytes.
pub fn fuzz_offsets_load(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let bytes = input.rest;
    match kind % 3 {
        0 => {
            offsets(bytes);
            // magic, version, directory id, generation; length and checksum of the body; checksum.
            offsets(&mended(bytes, 36, 8, 52, |header, body| {
                header.extend(crc32fast::hash(body).to_be_bytes());
                header.extend(crc32fast::hash(header).to_be_bytes());
            }));
        }
        1 => {
            checkpoint(bytes);
            checkpoint(&mended(bytes, 36, 4, CHECKPOINT_BODY, |header, body| {
                let crc = crc32fast::hash(&[&header[..], body].concat());
                header.extend(crc.to_be_bytes());
            }));
        }
        _ => {
            if let Ok(commit) = OffsetCommit::decode(bytes) {
                let mut encoded = Vec::new();
                commit.encode(&mut encoded);
                assert_eq!(encoded, bytes);
            }
        }
    }
}

/// The position where the body of a checkpoint begins.
const CHECKPOINT_BODY: usize = 44;

/// Returns the bytes with a right length of `width` bytes at `length_at`, and with the fields that `seal`
/// appends. The body begins at `body_at`.
fn mended(
    bytes: &[u8],
    length_at: usize,
    width: usize,
    body_at: usize,
    seal: impl Fn(&mut Vec<u8>, &[u8]),
) -> Vec<u8> {
    let Some((header, body)) = bytes.split_at_checked(body_at) else { return bytes.to_vec() };
    let mut out = header[..length_at].to_vec();
    out.extend(&(body.len() as u64).to_be_bytes()[8 - width..]);
    seal(&mut out, body);
    assert_eq!(out.len(), body_at);
    out.extend(body);
    out
}

fn offsets(bytes: &[u8]) {
    let Ok((header, offsets)) = decode_image(bytes) else { return };
    let (version, body) = encode_image(&offsets);
    let (mut encoded, crc) =
        OFFSET_IMAGE.header((version, &body), header.directory_id, header.generation);
    assert_eq!(crc, header.crc);
    encoded.extend(body);
    // The bytes behind the image mean nothing.
    assert_eq!(Some(encoded.as_slice()), bytes.get(..encoded.len()));
}

fn checkpoint(bytes: &[u8]) {
    let Ok(decoded) = CheckpointImage::decode(bytes) else { return };
    let encoded = decoded.encode().expect("it was read");
    assert_eq!(CheckpointImage::decode(&encoded), Ok(decoded));
    if bytes.get(11) != Some(&3) {
        return;
    }
    // Each state has one form, apart from unknown sections that may be skipped.
    let length = |at: usize| {
        let length = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
        u32::from_be_bytes(length.expect("it was decoded")) as usize
    };
    let (mut at, mut known) = (CHECKPOINT_BODY, Vec::<u8>::new());
    while at < CHECKPOINT_BODY + length(36) {
        let end = at + 8 + length(at + 4);
        if matches!(bytes[at..at + 2], [0, 1..=5]) {
            known.extend(&bytes[at..end]);
        }
        at = end;
    }
    assert_eq!(encoded[CHECKPOINT_BODY..], known);
}
