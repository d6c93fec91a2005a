//! The state that an append touches: the current file, the files before it and the spares after it.

use std::collections::VecDeque;

use crate::types::{Lsn, planted};

use super::JournalConfig;
use super::credits::Credits;
use super::header::{FIRST_FRAME, FileHeader};
use super::outside::Relied;
use super::slot::{Slot, room};

use super::trouble::Trouble;

/// A slot in one of its lives.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) slot: Slot,
    pub(super) header: FileHeader,
    /// Whether the header is durable.
    pub(super) anchored: bool,
    pub(super) sequence: u32,
    pub(super) salt: u32,
    /// The position of the next frame: `FIRST_FRAME <= synced <= position <= size`.
    pub(super) position: u32,
    /// The position below which frames are durable.
    pub(super) synced: u32,
}

impl Life {
    pub(super) fn new(slot: Slot, header: FileHeader, anchored: bool) -> Self {
        Self {
            slot,
            anchored,
            sequence: header.sequence,
            salt: header.frame_salt(),
            position: FIRST_FRAME,
            synced: FIRST_FRAME,
            header,
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

    /// Returns the number of the slot if its name is not durable.
    pub(super) fn unnamed(&self) -> Option<u32> {
        (!self.slot.named).then_some(self.slot.number)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.synced < self.position
    }

    /// Ends the life.
    pub(super) fn into_slot(mut self) -> Slot {
        self.slot.written_to(self.position);
        self.slot
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

/// How large the frames are.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The number of frames in the current file.
    pub(super) count: u32,
    /// Whether the frames of the last full file were large on average.
    pub(super) are_large: bool,
}

impl Frames {
    /// Records that a file is full, whose frames take `bytes`.
    pub(super) fn fill_file(&mut self, bytes: u32) {
        self.are_large = bytes / self.count.max(1) >= LARGE_FRAME;
        self.count = 0;
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) current: Life,
    /// The position up to which a frame without a credit may reach in the current file, whatever the
    /// outstanding credits need (J3).
    pub(super) free_until: u32,
    /// Files that end with a Next frame, oldest first.
    pub(super) sealed: VecDeque<Life>,
    /// Files with a header and no frame yet, ordered by sequence.
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
    pub(super) credits: Credits,
    /// The bytes outside the journal that unsynced frames rely on.
    pub(super) relied: Relied,
    pub(super) frames: Frames,
    /// Whether a file was synced for the first time, and no spare has a note of it yet.
    pub(super) note_in_spare: bool,
    pub(super) scratch: Vec<u8>,
    /// Whether the journal thread sleeps until an append wakes it.
    pub(super) parked: bool,
    pub(super) checkpoint_due_told: bool,
    pub(super) trouble: Trouble,
}

impl State {
    /// Returns whether enough frames wait in the journal for a checkpoint to be worth its syncs. The last one covers
    /// those before `covered`.
    pub(super) fn is_checkpoint_due(&self, config: &JournalConfig, covered: Lsn) -> bool {
        let lives = || self.sealed.iter().chain([&self.current]);
        let used: u64 = lives().map(|life| u64::from(life.position)).sum();
        let has_it = lives().any(|life| life.sequence == covered.sequence());
        let covered = if has_it { u64::from(covered.position()) } else { 0 };
        let (used, limit) = (used + self.kept_bytes, config.checkpoint_bytes());
        // A large file alone may reach the limit, and it stays after the checkpoint.
        used >= limit && (used - covered >= limit / 4 || planted("checkpoint_for_nothing"))
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

    /// Returns the size of all files that nothing needs and no credit relies on, and the size of the smallest of
    /// them, in bytes.
    pub(super) fn removable_bytes(&self) -> (u64, Option<u64>) {
        let free = self.free.iter().map(|slot| u64::from(slot.size));
        let unopened = self.unopened.iter().map(|(_, bytes)| *bytes);
        let aside = self.aside.iter().map(|unneeded| unneeded.file().1);
        let relied_on = if self.credits.bytes == 0 { 0 } else { self.spares.len() };
        let spares = self.spares.iter().skip(relied_on).map(|spare| u64::from(spare.slot.size));
        let files = free.chain(unopened).chain(aside).chain(spares);
        (files.clone().sum(), files.min())
    }

    /// Returns the number of slots that nothing needs.
    pub(super) fn unneeded(&self) -> usize {
        self.free.len() + self.unopened.len() + self.aside.len()
    }
}

/// The number of spares that a new journal keeps ready.
pub(super) const SPARES_AT_FIRST: usize = 2;
/// The mean size of frames from which on a new file takes them by writes, in bytes.
const LARGE_FRAME: u32 = 16 << 10;
