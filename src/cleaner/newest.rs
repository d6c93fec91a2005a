//! Which records of the dirty part are the newest of their keys: a bit for each offset.
//!
//! The map says where the newest record of a key is. Turned round, it says of an offset whether it is the newest of any
//! key. So the copy of the dirty part does not hash its keys again, and does not wait for the memory of the map.
//!
//! ```text
//! map       a: 2   b: 7   c: 4                  of a log that is dirty from 0 on, up to 8
//! window    0  0  1  0  1  0  0  1              the bits of offsets 0 to 7
//! ```
//!
//! The bits cover a window of offsets, which moves with the copy. Laying a window takes a look at every slot of the
//! map. Where offsets are sparse, as in a part that was compacted before, so many windows would take longer than they
//! save. So a window moves only if so many records were judged since that it has paid. Keys are looked up in between.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::OffsetMap;
use crate::record::BatchHeader;

/// The offsets of a window: 1 MiB of bits, which stay in the caches. Tests move it often.
const WINDOW: u64 = if cfg!(test) { 64 } else { 1 << 23 };

/// How many slots are looked at in the time that one key takes.
const SLOTS_A_KEY: u64 = 8;

/// The bits of a window of offsets.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// The first offset of the window.
    first: i64,
    /// The bits, from the lowest of the first word on.
    words: Vec<u64>,
    /// The number of records that were judged since the window was laid, or `None` before the first one.
    judged: Option<u64>,
}

impl Newest {
    /// Returns whether the window holds the whole next batch. Moves it there if that pays.
    pub(super) fn covers(&mut self, header: &BatchHeader, map: &OffsetMap) -> bool {
        let pays = self.judged.is_none_or(|judged| judged >= map.keys().slots() / SLOTS_A_KEY);
        let is_in_map = header.base_offset >= map.first_dirty_offset()
            && header.last_offset() < map.end_offset();
        let covers = is_in_map && (self.holds(header) || pays && self.lay(header, map));
        let count = u64::try_from(header.count).unwrap_or(0);
        self.judged = self.judged.map(|judged| judged.saturating_add(count));
        covers
    }

    /// Returns whether the record at an offset of the window is the newest of its key.
    pub(super) fn contains(&self, offset: i64) -> bool {
        let (word, bit) = place(offset.saturating_sub(self.first));
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn holds(&self, header: &BatchHeader) -> bool {
        let end = (self.words.len() as i64).saturating_mul(i64::from(u64::BITS));
        header.base_offset >= self.first && header.last_offset() < self.first.saturating_add(end)
    }

    /// Lays the window so that it begins with a batch. Returns whether it holds it.
    fn lay(&mut self, header: &BatchHeader, map: &OffsetMap) -> bool {
        let rest = map.end_offset().saturating_sub(header.base_offset);
        let words = (rest as u64).min(WINDOW).div_ceil(u64::from(u64::BITS));
        self.first = header.base_offset;
        self.words.clear();
        self.words.resize(words as usize, 0);
        self.judged = Some(0);
        for offset in map.keys().offsets().filter(|offset| *offset >= self.first) {
            let (word, bit) = place(offset.saturating_sub(self.first));
            if let Some(bits) = self.words.get_mut(word) {
                *bits |= bit;
            }
        }
        self.holds(header)
    }
}

/// Returns the word of a bit, and the bit in it.
fn place(bit: i64) -> (usize, u64) {
    ((bit >> 6) as usize, 1 << (bit & 63))
}
