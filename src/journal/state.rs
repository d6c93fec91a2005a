//! The state that an append touches: the current file, the files before it and the spares after it.

use std::collections::VecDeque;

use crate::types::Lsn;

use super::JournalConfig;
use super::header::{FIRST_FRAME, FileHeader};
use super::slot::{Slot, room, sure_bytes};
use super::trouble::Trouble;

/// A slot in one of its lives.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) slot: Slot,
    pub(super) sequence: u32,
    pub(super) salt: u32,
    /// The position of the next frame: `FIRST_FRAME <= synced <= position <= size`.
    pub(super) position: u32,
    /// The position below which frames are durable.
    pub(super) synced: u32,
}

impl Life {
    pub(super) fn new(slot: Slot, header: &FileHeader) -> Self {
        Self {
            slot,
            sequence: header.sequence,
            salt: header.frame_salt(),
            position: FIRST_FRAME,
            synced: FIRST_FRAME,
        }
    }

    #[inline]
    pub(super) fn end(&self) -> Lsn {
        Lsn::new(self.sequence, self.position)
    }

    #[inline]
    pub(super) fn room(&self) -> u32 {
        room(self.slot.size, self.position)
    }

    #[inline]
    pub(super) fn sure_bytes(&self, frame_max: u32) -> i64 {
        sure_bytes(self.slot.size, self.position, frame_max)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.synced < self.position
    }
}

/// A slot that nothing needs.
#[derive(Debug)]
pub(super) enum Unneeded {
    Open(Slot),
    /// The number of the slot, and the length of its file.
    Unopened(u32, u64),
}

impl Unneeded {
    /// Returns the number of the slot and the length of its file.
    pub(super) fn file(&self) -> (u32, u64) {
        match self {
            Self::Open(slot) => (slot.number, u64::from(slot.size)),
            Self::Unopened(number, bytes) => (*number, *bytes),
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) current: Life,
    /// Files that end with a Next frame, oldest first.
    pub(super) sealed: VecDeque<Life>,
    /// Files with a durable header and no frame yet, ordered by sequence.
    pub(super) spares: VecDeque<Life>,
    /// Open slots that nothing needs.
    pub(super) free: Vec<Slot>,
    /// Slots in the folder that nothing needs and that are not open yet, with the lengths of their files.
    pub(super) unopened: VecDeque<(u32, u64)>,
    /// Slots that nothing needs and that could not be made a spare or be removed. They are taken last, in
    /// turn.
    pub(super) aside: VecDeque<Unneeded>,
    /// Slots that replay needs until a checkpoint lies at `first_sequence` or later.
    pub(super) kept: Vec<(u32, u64)>,
    pub(super) kept_bytes: u64,
    /// The size of all files in the folder.
    pub(super) total_bytes: u64,
    pub(super) first_sequence: u32,
    pub(super) next_sequence: u32,
    /// The number of spares to keep ready. It rises when a thread had to wait for space.
    pub(super) spare_target: usize,
    /// The end of the last Data frame.
    pub(super) data_end: Lsn,
    /// The known-synced LSN in the last frame.
    pub(super) last_witness: Lsn,
    /// The bytes that the files surely take less the outstanding credits (J3). Negative while an exclusive
    /// credit is outstanding.
    pub(super) slack: i64,
    /// The number of threads that wait for space.
    pub(super) waiters: usize,
    pub(super) scratch: Vec<u8>,
    /// Whether the journal thread sleeps until an append wakes it.
    pub(super) parked: bool,
    /// Whether an exclusive credit is outstanding, or a thread waits for one.
    pub(super) exclusive: bool,
    pub(super) half_full_told: bool,
    pub(super) trouble: Trouble,
}

impl State {
    /// Returns the bytes that the current file and the spares surely take (J3).
    pub(super) fn sure_bytes(&self, frame_max: u32) -> i64 {
        self.current.sure_bytes(frame_max)
            + self.spares.iter().map(|spare| spare.sure_bytes(frame_max)).sum::<i64>()
    }

    /// Takes `bytes` out of the slack if at least `leave` bytes stay in it. Returns whether it did.
    #[inline]
    pub(super) fn take(&mut self, bytes: usize, leave: i64) -> bool {
        let enough = self.slack - bytes as i64 >= leave;
        if enough {
            self.slack -= bytes as i64;
        }
        enough
    }

    pub(super) fn is_half_full(&self, config: &JournalConfig) -> bool {
        let sealed: u64 = self.sealed.iter().map(|life| u64::from(life.slot.size)).sum();
        let used = sealed + self.kept_bytes + u64::from(self.current.position);
        used >= config.max_bytes / 2
    }

    /// Takes a slot that nothing needs out of the state, so that it can be removed. Returns its number and
    /// the length of its file.
    pub(super) fn take_unneeded(&mut self) -> Option<(u32, u64)> {
        let unneeded = if let Some(aside) = self.aside.pop_back() {
            aside
        } else if let Some((number, bytes)) = self.unopened.pop_back() {
            Unneeded::Unopened(number, bytes)
        } else {
            Unneeded::Open(self.free.pop()?)
        };
        let (number, bytes) = unneeded.file();
        self.total_bytes = self.total_bytes.saturating_sub(bytes);
        Some((number, bytes))
    }

    /// Returns the size of all files that nothing needs.
    pub(super) fn unneeded_bytes(&self) -> u64 {
        let free: u64 = self.free.iter().map(|slot| u64::from(slot.size)).sum();
        let unopened: u64 = self.unopened.iter().map(|(_, bytes)| bytes).sum();
        let aside: u64 = self.aside.iter().map(|unneeded| unneeded.file().1).sum();
        free + unopened + aside
    }

    /// Returns whether an existing slot can be made a spare.
    pub(super) fn can_recycle(&self) -> bool {
        !self.free.is_empty() || !self.unopened.is_empty()
    }
}

/// The number of spares that a new journal keeps ready.
pub(super) const SPARES_AT_FIRST: usize = 2;
