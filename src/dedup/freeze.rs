//! The state of a topic's ids that a checkpoint writes.

use super::files::{Files, TopicImage};
use super::ring::Run;
use super::table::DedupTable;
use crate::types::TopicId;

/// The ids of a topic at one moment. New ones are shared with the table, not copied.
///
/// If the checkpoint fails, it is dropped, and the next one freezes the same entries again.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(super) topic: TopicId,
    pub(super) seen: i64,
    pub(super) forgotten: u64,
    /// The number of the first entry that counts.
    pub(super) first: u64,
    /// The files before this checkpoint.
    pub(super) files: Files,
    /// The entries that no bucket holds. Their numbers begin at `files.saved_to`.
    pub(super) new: Run,
}

impl DedupTable {
    /// Freezes the state for a checkpoint. Call it while the table is locked, and no second time before the first
    /// checkpoint has succeeded or failed. Copies at most 1,024 entries.
    pub(crate) fn freeze(&mut self) -> Frozen {
        let first = self.pass_dead();
        self.files.drop_below(first);
        let new = self.share(self.files.saved_to);
        let (topic, seen, forgotten) = (self.topic(), self.seen(), self.forgotten());
        let frozen = Frozen { topic, seen, forgotten, first, files: self.files.clone(), new };
        let entries = frozen.new.len();
        if entries > 0 {
            // Until this checkpoint is known to be durable, nothing that it may list is written again (D4).
            let in_new_buckets = entries.saturating_sub(u64::from(self.files.room()));
            let buckets = in_new_buckets.div_ceil(u64::from(self.files.bucket_entries));
            self.files.next_bucket = self.files.next_bucket.saturating_add(buckets);
            self.files.continues = false;
        }
        frozen
    }

    /// Takes note that the checkpoint with this image of the topic is durable. The image is that of the last freeze.
    pub(crate) fn committed(&mut self, image: &TopicImage) {
        let Files { bucket_entries, continues, .. } = self.files;
        // A bucket whose sync has failed is never continued: a file that failed once cannot be relied on.
        let continues = continues || image.buckets.last() != self.files.buckets.last();
        self.files = Files { bucket_entries, continues, ..Files::listed(image) };
    }
}
