//! Reads the ids that a checkpoint lists.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::bucket::{
    ENTRY_BYTES, HEADER_BYTES, bucket_bytes, bucket_path, check_header, decode_entry,
};
use super::files::{BucketImage, Files, TopicImage};
use super::table::{DedupSettings, DedupTable};
use crate::error::{CorruptReason, Error, Result};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::types::TopicId;

/// How many entries are read at once.
const READ_ENTRIES: usize = 1820;

/// Reads the ids of a topic. Those whose window has passed at `now`, the time by the wall clock, are left out.
///
/// # Errors
/// `Corrupt` with the path of the bucket that is damaged, too short or missing. `UnsupportedFormat` if a newer version
/// wrote it. Any error of the storage.
pub(crate) fn load(
    storage: &dyn Storage,
    image: &TopicImage,
    settings: DedupSettings,
    now: i64,
) -> Result<DedupTable> {
    let files = Files::listed(image);
    let next = files.saved_to;
    let counters = (image.seen.max(now), image.forgotten, image.first);
    let mut table = DedupTable::stored(image.topic, settings, counters, files);
    // Entries are no later than what the table had seen when they were written.
    let mut times = (0, image.seen);
    for bucket in &image.buckets {
        let mut reader = BucketReader::open(storage, image.topic, bucket)?;
        reader.verify(image.topic)?;
        reader.read_into(&mut table, &mut times)?;
    }
    table.restored(next);
    Ok(table)
}

/// Returns the table of a topic whose buckets cannot be read. It has no ids, and uses no number again (D3, D5).
pub(crate) fn load_without_ids(
    image: &TopicImage,
    settings: DedupSettings,
    now: i64,
) -> DedupTable {
    let files = Files::listed(image);
    let next = files.saved_to;
    let counters = (image.seen.max(now), image.forgotten, next);
    let mut table = DedupTable::stored(image.topic, settings, counters, files);
    table.restored(next);
    table
}

struct BucketReader<'a> {
    file: std::sync::Arc<dyn StorageFile>,
    bucket: &'a BucketImage,
    buffer: Vec<u8>,
}

impl<'a> BucketReader<'a> {
    fn open(storage: &dyn Storage, topic: TopicId, bucket: &'a BucketImage) -> Result<Self> {
        let path = bucket_path(topic, bucket.number);
        if storage.metadata(&path)?.is_none() {
            return Err(Error::corrupt(storage.display_path(&path), 0, CorruptReason::Missing));
        }
        let file = storage.open(&path, OpenMode::Read)?;
        let length = file.len()?;
        if length < bucket_bytes(bucket.count) {
            return Err(Error::corrupt(file.path(), length, CorruptReason::Short));
        }
        Ok(Self { file, bucket, buffer: Vec::new() })
    }

    /// Reads all bytes that count once, before any of them is believed.
    fn verify(&mut self, topic: TopicId) -> Result<()> {
        let mut crc = crc32fast::Hasher::new();
        let header = self.read(HEADER_BYTES, 0)?.to_vec();
        crc.update(&header);
        for (position, length) in self.pieces() {
            crc.update(self.read(length, position)?);
        }
        if crc.finalize() != self.bucket.crc {
            return Err(self.corrupt(0, CorruptReason::Checksum));
        }
        check_header(&header, topic, self.bucket)
            .map_err(|(position, unreadable)| unreadable.at(self.file.path(), position))
    }

    /// Adds the entries to the table. `times` are those of the entry before, and of the latest possible one.
    fn read_into(&mut self, table: &mut DedupTable, times: &mut (i64, i64)) -> Result<()> {
        let mut number = self.bucket.first;
        for (position, length) in self.pieces() {
            let file = std::sync::Arc::clone(&self.file);
            let bytes = self.read(length, position)?;
            for (at, bytes) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
                let entry = decode_entry(bytes, times.0, times.1).map_err(|reason| {
                    let before = at.saturating_mul(ENTRY_BYTES) as u64;
                    Error::corrupt(file.path(), position.saturating_add(before), reason)
                })?;
                times.0 = entry.time;
                table.restore(number, entry);
                number = number.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Returns position and length of the pieces in which the entries are read.
    fn pieces(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let count = self.bucket.count;
        (0..count).step_by(READ_ENTRIES).map(move |first| {
            let entries = (count.saturating_sub(first) as usize).min(READ_ENTRIES);
            (bucket_bytes(first), entries.saturating_mul(ENTRY_BYTES))
        })
    }

    fn read(&mut self, length: usize, position: u64) -> Result<&[u8]> {
        self.buffer.resize(length, 0);
        let read = self.file.read_at(&mut self.buffer, position)?;
        if read < length {
            let end = position.saturating_add(read as u64);
            return Err(self.corrupt(end, CorruptReason::Short));
        }
        Ok(&self.buffer)
    }

    fn corrupt(&self, position: u64, reason: CorruptReason) -> Error {
        Error::corrupt(self.file.path(), position, reason)
    }
}
