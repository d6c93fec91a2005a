//! What the files of a topic hold.

use crate::types::TopicId;

/// The most entries of a bucket: 2.25 MiB. Buckets are removed as a whole, and a checkpoint lists each of them.
pub(super) const BUCKET_ENTRIES: u32 = 65_536;

/// A bucket as a checkpoint lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketImage {
    /// Names the file. Rises from bucket to bucket, and is never used for another one.
    pub(super) number: u64,
    /// The number of its first entry.
    pub(super) first: u64,
    /// How many entries it holds. They determine the hard length.
    pub(super) count: u32,
    /// The CRC-32 of the bytes below the hard length.
    pub(super) crc: u32,
}

impl BucketImage {
    /// Returns the number after that of its last entry.
    pub(super) const fn end(&self) -> u64 {
        self.first.saturating_add(self.count as u64)
    }
}

/// The ids of a topic as a checkpoint lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicImage {
    pub(crate) topic: TopicId,
    /// The latest time that the table has seen.
    pub(super) seen: i64,
    /// How many ids were forgotten before their window ended.
    pub(super) forgotten: u64,
    /// The number of the first entry that counts.
    pub(super) first: u64,
    /// The number of the next bucket.
    pub(super) next_bucket: u64,
    /// Buckets, oldest first. Their entries are consecutive, and `first` is one of the first bucket.
    pub(super) buckets: Vec<BucketImage>,
}

/// What a table knows of its files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The most entries of a new bucket, at most [`BUCKET_ENTRIES`]. Tests set less.
    pub(super) bucket_entries: u32,
    /// The buckets that the last durable checkpoint lists, without those whose entries have all been removed since.
    pub(super) buckets: Vec<BucketImage>,
    /// The number of the next bucket.
    pub(super) next_bucket: u64,
    /// The entries below this number are in buckets, as far as they still count.
    pub(super) saved_to: u64,
    /// Whether the last bucket may be continued. Not after a checkpoint that failed: it may be durable all the same,
    /// and then it relies on bytes behind the hard length (D4).
    pub(super) continues: bool,
}

impl Files {
    /// Returns the files of a topic that no checkpoint lists.
    pub(super) const fn none() -> Self {
        let buckets = Vec::new();
        let (bucket_entries, continues) = (BUCKET_ENTRIES, true);
        Self { bucket_entries, buckets, next_bucket: 0, saved_to: 0, continues }
    }

    /// Returns the files of a topic whose durable checkpoint lists it like this.
    pub(super) fn listed(image: &TopicImage) -> Self {
        Self {
            bucket_entries: BUCKET_ENTRIES,
            buckets: image.buckets.clone(),
            next_bucket: image.next_bucket,
            saved_to: image.buckets.last().map_or(image.first, BucketImage::end),
            continues: true,
        }
    }

    /// Returns how many further entries the last bucket takes.
    pub(super) fn room(&self) -> u32 {
        let last = self.buckets.last().filter(|_| self.continues);
        last.map_or(0, |last| self.bucket_entries.saturating_sub(last.count))
    }

    /// Drops the buckets whose entries are all below `first`.
    pub(super) fn drop_below(&mut self, first: u64) {
        self.buckets.retain(|bucket| bucket.end() > first);
        self.saved_to = self.saved_to.max(first);
    }
}
