//! The bytes and the names of buckets: files that entries are appended to, in the folder `dedup`.
//!
//! All numbers are big-endian. A bucket:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 8 | bytes | magic: `GLDEDUP\0` |
//! | 8 | 4 | u32 | version: 1 |
//! | 12 | 16 | bytes | topic id |
//! | 28 | 8 | u64 | number of the bucket |
//! | 36 | ... | | entries, oldest first, at most 65,536 |
//!
//! An entry:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 16 | u128 | hash |
//! | 16 | 4 | u32 | partition number |
//! | 20 | 8 | i64 | offset of the record, not negative |
//! | 28 | 8 | i64 | when the id was registered, milliseconds since 1970; not negative, and not below the entry before |
//!
//! There is no checksum in the file: the checkpoint lists the one of all bytes that count, so a bucket of another
//! time or place is noticed as well.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::bytes::{ID_BYTES, Reader, put_id};
use super::entry::{Entry, Packed};
use super::files::BucketImage;
use crate::error::{CorruptReason, Unreadable};
use crate::types::TopicId;

/// The folder of all buckets.
pub(crate) const DEDUP_DIR: &str = "dedup";

pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 8;
pub(super) const ENTRY_BYTES: usize = ID_BYTES + 8;

const MAGIC: [u8; 8] = *b"GLDEDUP\0";
const VERSION: u32 = 1;
const SUFFIX: &str = ".ids";
/// The position of the version, for messages.
const VERSION_AT: u64 = 8;

/// Returns the name of a bucket's file.
pub(super) fn bucket_name(topic: TopicId, number: u64) -> String {
    format!("{}-{number:020}{SUFFIX}", topic.to_hex())
}

/// Returns the path of a bucket's file.
pub(super) fn bucket_path(topic: TopicId, number: u64) -> PathBuf {
    Path::new(DEDUP_DIR).join(bucket_name(topic, number))
}

/// Returns whether a file of this name is a bucket.
pub(super) fn is_bucket_name(name: &str) -> bool {
    let parts = name.strip_suffix(SUFFIX).and_then(|name| name.split_once('-'));
    parts.is_some_and(|(topic, number)| {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        topic.len() == 32
            && topic.bytes().all(is_hex)
            && number.len() == 20
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Returns the length of a bucket with so many entries.
pub(super) const fn bucket_bytes(entries: u32) -> u64 {
    (entries as u64).saturating_mul(ENTRY_BYTES as u64).saturating_add(HEADER_BYTES as u64)
}

pub(super) fn put_header(out: &mut Vec<u8>, topic: TopicId, number: u64) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&topic.to_bytes());
    out.extend_from_slice(&number.to_be_bytes());
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Packed) {
    put_id(out, entry.hash(), entry.place());
    out.extend_from_slice(&entry.time().to_be_bytes());
}

/// Checks the header of a listed bucket. Returns the position of what is wrong with it.
pub(super) fn check_header(
    bytes: &[u8],
    topic: TopicId,
    bucket: &BucketImage,
) -> Result<(), (u64, Unreadable)> {
    let mut reader = Reader::new(bytes);
    let short = |reason: CorruptReason| (0, reason.into());
    if reader.array::<8>().map_err(short)? != MAGIC {
        return Err(short(CorruptReason::Magic));
    }
    let version = reader.u32().map_err(short)?;
    if version != VERSION {
        return Err((VERSION_AT, Unreadable::unsupported("format version", version, VERSION)));
    }
    if reader.topic().map_err(short)? != topic {
        return Err(short(CorruptReason::TopicId));
    }
    if reader.u64().map_err(short)? != bucket.number {
        return Err(short(CorruptReason::Field));
    }
    Ok(())
}

/// Decodes an entry. `earliest` is the time of the entry before, `latest` a time that no entry exceeds.
pub(super) fn decode_entry(
    bytes: &[u8],
    earliest: i64,
    latest: i64,
) -> Result<Entry, CorruptReason> {
    let mut reader = Reader::new(bytes);
    let (hash, place) = reader.id()?;
    let time = reader.natural()?;
    reader.finish()?;
    if !(earliest..=latest).contains(&time) {
        return Err(CorruptReason::Field);
    }
    Ok(Entry { hash, place, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = bucket_name(TopicId::from_bytes([0xab; 16]), 7);
        assert_eq!(name, "abababababababababababababababab-00000000000000000007.ids");
        assert!(is_bucket_name(&name));
        assert!(is_bucket_name(&bucket_name(TopicId::from_bytes([0; 16]), u64::MAX)));
        for stranger in [
            "",
            ".ids",
            "notes.txt",
            "abababababababababababababababab-7.ids",
            "ABABABABABABABABABABABABABABABAB-00000000000000000007.ids",
            "abababababababababababababababab-00000000000000000007.ids.bak",
            "abababababababababababababababab-0000000000000000000x.ids",
        ] {
            assert!(!is_bucket_name(stranger), "{stranger}");
        }
    }
}
