//! The ids of one topic.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::entry::{Entry, Packed, Place};
use super::files::Files;
use super::hash::IdHash;
use super::index::{Index, POSITIONS};
use super::ring::{Ring, Run};
use crate::types::TopicId;

/// How many entries that no longer count an insertion removes. More than one, so that they become fewer.
const REMOVED_BY_INSERT: usize = 4;

/// How many entries [`DedupTable::expire`] removes at once: about a millisecond of work.
const REMOVED_AT_ONCE: usize = 8192;

/// How long and how many ids a topic remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DedupSettings {
    /// `dedup.window.ms`; 0 turns deduplication off.
    pub(crate) window_ms: u64,
    /// `dedup.max.ids`, from 1.
    pub(crate) max_ids: u32,
}

/// The ids of one topic and the places of their records.
///
/// An id counts for a window from its registration on. Entries that no longer count are removed bit by bit, so no call
/// takes long; until then, no result depends on them.
#[derive(Debug)]
pub(crate) struct DedupTable {
    topic: TopicId,
    settings: DedupSettings,
    /// The latest time that the table has seen, never negative. Time never goes back.
    seen: i64,
    forgotten: u64,
    /// The number of the first entry that may count. The ring may hold some that do not.
    first: u64,
    ring: Ring,
    /// All entries of the ring.
    index: Index,
    pub(super) files: Files,
}

impl DedupTable {
    /// Creates an empty table, which takes no memory beyond itself.
    pub(crate) fn new(topic: TopicId, settings: DedupSettings) -> Self {
        Self {
            topic,
            settings,
            seen: 0,
            forgotten: 0,
            first: 0,
            ring: Ring::default(),
            index: Index::default(),
            files: Files::none(),
        }
    }

    /// Creates the table of a stored topic, without entries. `first` is the number of the first one that counts.
    pub(super) fn stored(
        topic: TopicId,
        settings: DedupSettings,
        (seen, forgotten, first): (i64, u64, u64),
        files: Files,
    ) -> Self {
        let mut ring = Ring::default();
        ring.clear(first);
        Self { seen, forgotten, first, ring, files, ..Self::new(topic, settings) }
    }

    /// Returns the topic.
    pub(crate) const fn topic(&self) -> TopicId {
        self.topic
    }

    /// Returns whether the topic deduplicates.
    pub(crate) const fn is_on(&self) -> bool {
        self.settings.window_ms > 0
    }

    /// Returns how many ids count.
    pub(crate) fn len(&self) -> u64 {
        self.ring.next().saturating_sub(self.first_that_counts())
    }

    /// Returns how many ids were forgotten before their window ended, because there were too many.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns the latest time that the table has seen.
    pub(super) const fn seen(&self) -> i64 {
        self.seen
    }

    /// Returns the memory that the ids take, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.ring.bytes().saturating_add(self.index.bytes())
    }

    /// Returns the time by the table's clock, which never goes back. `now` is the time by the wall clock.
    pub(crate) fn time(&mut self, now: i64) -> i64 {
        self.seen = self.seen.max(now);
        self.seen
    }

    /// Returns the place of the first record with this id, if it was registered less than a window ago.
    pub(crate) fn lookup(&mut self, hash: IdHash, now: i64) -> Option<Place> {
        let now = self.time(now);
        let mut place = None;
        self.index.find(hash, |position| {
            let number = self.number_at(position);
            let entry = self.ring.get(number).filter(|entry| {
                entry.hash() == hash && number >= self.first && self.is_in_window(entry, now)
            });
            place = entry.map(Packed::place);
            place.is_some()
        });
        place
    }

    /// Registers an id that does not count yet. `time` comes from [`time`](Self::time), or from the journal.
    ///
    /// If there are too many ids, forgets the oldest.
    pub(crate) fn insert(&mut self, hash: IdHash, place: Place, time: i64) {
        let newest = self.ring.newest().map_or(0, Packed::time);
        let entry = Packed::from(Entry { hash, place, time: time.max(newest) });
        let now = self.time(entry.time());
        // Nothing is in the window of a topic that does not deduplicate.
        if self.is_in_window(&entry, now) {
            self.push(entry);
        }
    }

    /// Adds the next entry that is read from a bucket. All that were read before are older.
    pub(super) fn restore(&mut self, number: u64, entry: Entry) {
        let entry = Packed::from(entry);
        if number < self.first || !self.is_in_window(&entry, self.seen) {
            return;
        }
        if self.ring.len() == 0 {
            self.ring.clear(number);
            self.first = number;
        }
        self.push(entry);
    }

    /// Ends the reading of buckets. The next entry gets this number if there are no others.
    pub(super) fn restored(&mut self, next: u64) {
        if self.ring.len() == 0 {
            self.ring.clear(next);
            self.first = next;
        }
    }

    /// Changes the settings if they differ.
    pub(crate) fn follow(&mut self, settings: DedupSettings, now: i64) {
        if settings != self.settings {
            self.configure(settings, now);
        }
    }

    /// Changes the settings. A smaller window or number counts at once. A larger window does not bring ids back.
    pub(crate) fn configure(&mut self, settings: DedupSettings, now: i64) {
        self.time(now);
        self.first = self.first_that_counts();
        self.settings = settings;
        self.first = self.first_that_counts();
        let kept = self.ring.next().saturating_sub(self.first);
        let excess = kept.saturating_sub(u64::from(settings.max_ids));
        self.forgotten = self.forgotten.saturating_add(excess);
        self.first = self.first.saturating_add(excess);
    }

    /// Removes entries that no longer count, and returns their memory. Returns whether there are more of them.
    ///
    /// Insertions do that as well, so it matters for topics to which nobody sends.
    pub(crate) fn expire(&mut self, now: i64) -> bool {
        self.time(now);
        self.remove_dead(REMOVED_AT_ONCE);
        self.ring.first() < self.first_that_counts()
    }

    /// Returns all entries that count, oldest first.
    #[cfg(test)]
    pub(super) fn entries(&self) -> Vec<Entry> {
        let run = self.ring.share(self.first_that_counts());
        run.slices().flatten().map(Packed::entry).collect()
    }

    /// Passes over what no longer counts. Returns the number of the first entry that does.
    pub(super) fn pass_dead(&mut self) -> u64 {
        self.first = self.first_that_counts();
        self.first
    }

    /// Returns the entries from a number on.
    pub(super) fn share(&self, from: u64) -> Run {
        self.ring.share(from)
    }

    fn push(&mut self, entry: Packed) {
        self.make_room();
        if self.index.is_full() {
            self.rebuild_index();
        }
        self.index.insert(entry.hash(), position(self.ring.next()));
        self.ring.push(entry);
    }

    fn make_room(&mut self) {
        let most = u64::from(self.settings.max_ids);
        while self.ring.next().saturating_sub(self.first) >= most {
            let oldest = self.ring.get(self.first);
            if oldest.is_some_and(|oldest| self.is_in_window(oldest, self.seen)) {
                self.forgotten = self.forgotten.saturating_add(1);
            }
            self.first = self.first.saturating_add(1);
        }
        self.remove_dead(REMOVED_BY_INSERT);
    }

    /// Removes up to so many of the oldest entries, as long as they do not count.
    fn remove_dead(&mut self, most: usize) {
        let none_counts =
            self.ring.newest().is_some_and(|newest| !self.is_in_window(newest, self.seen));
        if none_counts || self.first >= self.ring.next() {
            self.ring.clear(self.ring.next());
            self.index = Index::default();
        }
        for _ in 0..most {
            let number = self.ring.first();
            let Some(oldest) = self.ring.get(number) else { break };
            if number >= self.first && self.is_in_window(oldest, self.seen) {
                break;
            }
            let (first, ring) = (number, &self.ring);
            let hash_of = |position| Some(ring.get(number_at(first, position))?.hash());
            self.index.remove(oldest.hash(), position(number), hash_of);
            self.ring.pop();
        }
        self.first = self.first.max(self.ring.first());
        if self.index.is_sparse() {
            self.rebuild_index();
        }
    }

    fn rebuild_index(&mut self) {
        // The old one first, so that two large ones never exist at the same time.
        self.index = Index::default();
        let mut index = Index::with_room_for(self.ring.len());
        let mut number = self.ring.first();
        for entry in self.ring.iter() {
            index.insert(entry.hash(), position(number));
            number = number.saturating_add(1);
        }
        self.index = index;
    }

    fn number_at(&self, position: u32) -> u64 {
        number_at(self.ring.first(), position)
    }

    fn is_in_window(&self, entry: &Packed, now: i64) -> bool {
        // Both are not negative, so the difference cannot overflow.
        (now.saturating_sub(entry.time()).max(0) as u64) < self.settings.window_ms
    }

    /// Returns the number of the first entry that counts. Times do not fall from entry to entry.
    fn first_that_counts(&self) -> u64 {
        self.ring.partition_point(self.first, |entry| !self.is_in_window(entry, self.seen))
    }
}

/// Returns the position of an entry in the index.
#[expect(clippy::arithmetic_side_effects, reason = "the divisor is not 0")]
const fn position(number: u64) -> u32 {
    (number % POSITIONS as u64) as u32
}

/// Returns the number of the entry at a position. `first` is that of the oldest entry.
const fn number_at(first: u64, at: u32) -> u64 {
    let oldest = position(first);
    let distance = match at.checked_sub(oldest) {
        Some(distance) => distance,
        None => at.wrapping_add(POSITIONS).wrapping_sub(oldest),
    };
    first.saturating_add(distance as u64)
}
