//! Marks: resuming where an earlier replay ended. A reader beside the writer does this again and again.
//!
//! The reader need not read replayed frames again while the journal still begins with them:
//! - **M1** A valid frame never changes in a life of its file, and the next frame begins at its end. So a
//!   replay from the end of a Data frame gives the same frames as a longer replay gives from there on. (R4
//!   says why it cannot begin at the end of other frames.)
//! - **M2** A replay must still reach the end. So the file that holds the end must have the same header, and
//!   no new file may continue from a position before the end. Such a file belongs to a writer that found
//!   less in the journal than this reader did, and the frames between are dead. The reader then starts over.
//! - **M3** Nothing is new if all headers are the same and no frame begins where the walk stopped. The reader
//!   compares the bytes there. If they are the beginning of a frame, the rest of it may still follow, so
//!   the comparison does not count.
//! - **M4** A replay searches the files that follow for witnesses (R1) once. After that it searches only
//!   those in which a first frame has begun. If the first frame of such a file was lost, only a reader that
//!   starts over finds the frames after it.
//!
//! The caller checks that the checkpoint is still the one that the replay began at. Once a later checkpoint
//! is durable, the journal reuses the files below it.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::Result;
use crate::types::{Lsn, planted};

use super::frame::{FRAME_HEADER, claims};
use super::scan::{Found, Life};

/// The place where a replay ended, and what it found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// All files with valid headers, ordered by sequence.
    files: Vec<Life>,
    /// The end of the last Data frame.
    pub(super) end: Lsn,
    /// The position where no frame began. `bytes` holds the bytes at it.
    stop: Lsn,
    bytes: [u8; FRAME_HEADER],
    /// Later files that held no frame.
    pub(super) blank: Vec<Life>,
}

impl Mark {
    pub(super) fn new(files: impl Iterator<Item = Life>) -> Self {
        let (end, stop) = (Lsn::ZERO, Lsn::ZERO);
        Self { files: files.collect(), end, stop, bytes: [0; FRAME_HEADER], blank: Vec::new() }
    }

    /// Records the position where no frame began, and the bytes at it.
    pub(super) fn stop_at(&mut self, stop: Lsn, bytes: &[u8]) {
        self.stop = stop;
        self.bytes = first(bytes);
    }

    /// Returns whether nothing is new since the mark (M3).
    pub(super) fn is_the_end_of(&self, files: &[Found]) -> Result<bool> {
        let unchanged = files.iter().map(Found::life).eq(self.files.iter().copied());
        let file = files.iter().find(|file| file.life().header.sequence == self.stop.sequence());
        let begun = claims(&self.bytes, self.stop) && !planted("half_a_frame_is_none");
        let Some(file) = file.filter(|_| unchanged && !begun) else { return Ok(false) };
        let left = file.life().header.size.saturating_sub(self.stop.position()) as usize;
        let mut bytes = [0; FRAME_HEADER];
        let room = bytes.get_mut(..left.min(FRAME_HEADER)).unwrap_or_default();
        file.file.read_at(room, u64::from(self.stop.position()))?;
        Ok(bytes == self.bytes)
    }

    /// Returns whether a replay of `files` still reaches the mark (M2).
    pub(super) fn leads_on_in(&self, files: &[Found]) -> bool {
        let mut known = self.files.iter();
        let own = known.find(|life| life.header.sequence == self.end.sequence());
        let is_there = own.is_some_and(|own| files.iter().any(|file| file.life() == *own));
        let last = self.files.last().map_or(0, |life| life.header.sequence);
        let mut fresh = files.iter().map(Found::life).filter(|life| !self.files.contains(life));
        is_there
            && fresh.all(|Life { header, .. }| {
                let from = header.continues_from;
                header.sequence > last && (from == Lsn::ZERO || from >= self.end)
            })
    }
}

/// Returns the first bytes, padded with zeros.
fn first(bytes: &[u8]) -> [u8; FRAME_HEADER] {
    let mut first = [0; FRAME_HEADER];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    first
}
