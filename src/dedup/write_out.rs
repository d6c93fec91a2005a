//! Writes what a checkpoint has frozen.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use super::bucket::{
    DEDUP_DIR, ENTRY_BYTES, HEADER_BYTES, bucket_bytes, bucket_path, put_entry, put_header,
};
use super::entry::Packed;
use super::files::{BucketImage, TopicImage};
use super::freeze::Frozen;
use crate::error::{CorruptReason, Error, Result};
use crate::storage::{OpenMode, Storage, StorageFile};

/// How many files are synced at the same time, and so are open.
const SYNCED_AT_ONCE: usize = 32;

/// Writes all new entries, and makes files and names durable. Returns what the checkpoint lists, in the order of the
/// frozen topics. Needs no lock.
///
/// Writes only behind the hard lengths that a durable checkpoint lists, and to files that none lists. After an error,
/// the files hold what they held before, as far as any checkpoint relies on them.
pub(crate) fn write_out(frozen: &[Frozen], storage: &dyn Storage) -> Result<Vec<TopicImage>> {
    let mut output = Output { storage, unsynced: Vec::new(), has_created: false };
    let mut images = Vec::with_capacity(frozen.len());
    for topic in frozen {
        images.push(output.write_topic(topic)?);
    }
    output.finish()?;
    Ok(images)
}

struct Output<'a> {
    storage: &'a dyn Storage,
    unsynced: Vec<Arc<dyn StorageFile>>,
    /// Whether there are names that may not be durable.
    has_created: bool,
}

impl Output<'_> {
    fn write_topic(&mut self, frozen: &Frozen) -> Result<TopicImage> {
        let files = &frozen.files;
        let mut image = TopicImage {
            topic: frozen.topic,
            seen: frozen.seen,
            forgotten: frozen.forgotten,
            first: frozen.first,
            next_bucket: files.next_bucket,
            buckets: files.buckets.clone(),
        };
        if frozen.new.len() == 0 {
            return Ok(image);
        }
        let mut open = None;
        if files.room() > 0 {
            let last = image.buckets.pop();
            open = last.map(|last| OpenBucket::continue_at(self, frozen, last)).transpose()?;
        }
        let mut number = files.saved_to;
        for mut rest in frozen.new.slices() {
            while !rest.is_empty() {
                let bucket = if let Some(bucket) = &mut open {
                    bucket
                } else {
                    let next =
                        BucketImage { number: image.next_bucket, first: number, count: 0, crc: 0 };
                    let created = OpenBucket::create(self, frozen, next)?;
                    image.next_bucket = image.next_bucket.saturating_add(1);
                    open.insert(created)
                };
                let (written, left) = rest.split_at(rest.len().min(bucket.room()));
                bucket.append(written)?;
                number = number.saturating_add(written.len() as u64);
                rest = left;
                if bucket.room() == 0 {
                    image.buckets.extend(open.take().map(|bucket| bucket.image));
                }
            }
        }
        image.buckets.extend(open.map(|bucket| bucket.image));
        Ok(image)
    }

    /// Remembers to sync a file. Syncs some, so that few are open at the same time.
    fn sync_later(&mut self, file: Arc<dyn StorageFile>) -> Result<()> {
        if self.unsynced.len() >= SYNCED_AT_ONCE {
            self.storage.sync_all(&self.unsynced)?;
            self.unsynced.clear();
        }
        self.unsynced.push(file);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if !self.unsynced.is_empty() {
            self.storage.sync_all(&self.unsynced)?;
        }
        if self.has_created {
            // The folder may be new as well: the attempt that created it may have failed before it was durable.
            self.storage.sync_dir(Path::new(DEDUP_DIR))?;
            self.storage.sync_dir(Path::new(""))?;
        }
        Ok(())
    }
}

/// A bucket that entries are appended to.
struct OpenBucket {
    file: Arc<dyn StorageFile>,
    image: BucketImage,
    /// The most entries.
    most: u32,
    crc: crc32fast::Hasher,
    buffer: Vec<u8>,
}

impl OpenBucket {
    /// Opens a listed bucket to write behind its hard length.
    fn continue_at(output: &mut Output<'_>, topic: &Frozen, image: BucketImage) -> Result<Self> {
        let path = bucket_path(topic.topic, image.number);
        let file = output.storage.open(&path, OpenMode::Write)?;
        // Writing behind the end would hide that something has cut the file.
        let length = file.len()?;
        if length < bucket_bytes(image.count) {
            return Err(Error::corrupt(file.path(), length, CorruptReason::Short));
        }
        output.sync_later(Arc::clone(&file))?;
        let crc = crc32fast::Hasher::new_with_initial(image.crc);
        Ok(Self { file, image, most: topic.files.bucket_entries, crc, buffer: Vec::new() })
    }

    /// Creates the next bucket of a topic.
    fn create(output: &mut Output<'_>, topic: &Frozen, image: BucketImage) -> Result<Self> {
        let path = bucket_path(topic.topic, image.number);
        output.storage.create_dir(Path::new(DEDUP_DIR))?;
        output.has_created = true;
        // A checkpoint that a crash interrupted may have left a file. No checkpoint lists it (D5).
        let mode = match output.storage.metadata(&path)? {
            Some(_) => OpenMode::Write,
            None => OpenMode::CreateNew,
        };
        let file = output.storage.open(&path, mode)?;
        output.sync_later(Arc::clone(&file))?;
        let mut buffer = Vec::with_capacity(HEADER_BYTES);
        put_header(&mut buffer, topic.topic, image.number);
        let crc = crc32fast::Hasher::new();
        Ok(Self { file, image, most: topic.files.bucket_entries, crc, buffer })
    }

    /// Returns how many further entries fit.
    fn room(&self) -> usize {
        self.most.saturating_sub(self.image.count) as usize
    }

    /// Appends entries, after the header if it is still to be written.
    fn append(&mut self, entries: &[Packed]) -> Result<()> {
        let position = match self.image.count {
            0 => 0,
            count => bucket_bytes(count),
        };
        self.buffer.reserve(entries.len().saturating_mul(ENTRY_BYTES));
        for entry in entries {
            put_entry(&mut self.buffer, entry);
        }
        self.file.write_at(&self.buffer, position)?;
        self.crc.update(&self.buffer);
        self.buffer.clear();
        self.image.count = self.image.count.saturating_add(entries.len() as u32);
        self.image.crc = self.crc.clone().finalize();
        Ok(())
    }
}
