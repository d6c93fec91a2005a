//! A bucket of any bytes, for a fuzz target.

use super::bucket::{ENTRY_BYTES, HEADER_BYTES, bucket_path};
use super::files::{BucketImage, TopicImage};
use crate::storage::{Memory, OpenMode, Storage};
use crate::types::TopicId;

/// Stores the bytes as a bucket, and returns an image that lists it with the right checksum.
pub(crate) fn fuzz_bucket(bytes: &[u8]) -> (Memory, TopicImage) {
    let topic = TopicId::from_bytes([1; 16]);
    let count = (bytes.len().saturating_sub(HEADER_BYTES) / ENTRY_BYTES).max(1);
    let counted = bytes.get(..HEADER_BYTES + count * ENTRY_BYTES).unwrap_or(bytes);
    let crc = crc32fast::hash(counted);
    let bucket = BucketImage { number: 0, first: 0, count: count as u32, crc };
    let (seen, forgotten, first) = (1000, 0, 0);
    let image = TopicImage { topic, seen, forgotten, first, next_bucket: 1, buckets: vec![bucket] };
    let storage = Memory::new();
    let path = bucket_path(topic, 0);
    let stored = path.parent().map_or(Ok(()), |folder| storage.create_dir(folder));
    let file = stored.and_then(|()| storage.open(&path, OpenMode::CreateNew));
    file.and_then(|file| file.write_at(bytes, 0)).expect("a storage in memory takes it");
    (storage, image)
}
