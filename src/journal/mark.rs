//! Going on where a replay ended: what a reader beside the writer does again and again.
//!
//! What was replayed once need not be read again, as long as it is still what the journal begins with:
//! - **M1** A valid frame never changes in a life of its file, and the next one begins at its end. So a replay
//!   from the end of a Data frame on gives what a longer one would give from there on (R4 says why not from
//!   the end of other frames).
//! - **M2** The end must be reached again: the file that it lies in has the same header, and no file has come
//!   that continues from a position before it. Such a one belongs to a writer that found less in the journal
//!   than this reader did: what lies between is dead. Else the reader starts over.
//! - **M3** Nothing is new if all headers are the same and no frame begins where the walk stopped. That is told
//!   by the bytes there, unless they are the begin of a frame whose rest may still come.
//! - **M4** Files that follow are searched for witnesses (R1) once; after that only those of them in which a first
//!   frame has begun. A frame elsewhere in such a file, whose first one was lost, is found by who starts over.
//!
//! The caller sees to it that the checkpoint is still the one that the replay began at: the journal below a
//! later one is used again.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::Result;
use crate::types::{Lsn, planted};

use super::frame::{FRAME_HEADER, claims};
use super::scan::{Found, Life};

/// Where a replay ended, and what it found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// All files with valid headers, by sequence.
    files: Vec<Life>,
    /// The end of the last Data frame.
    pub(super) end: Lsn,
    /// Where no frame began, and what was there instead.
    stop: Lsn,
    bytes: [u8; FRAME_HEADER],
    /// Files behind it that held no frame.
    pub(super) blank: Vec<Life>,
}

impl Mark {
    pub(super) fn new(files: impl Iterator<Item = Life>) -> Self {
        let (end, stop) = (Lsn::ZERO, Lsn::ZERO);
        Self { files: files.collect(), end, stop, bytes: [0; FRAME_HEADER], blank: Vec::new() }
    }

    /// Takes note of the bytes where no frame began.
    pub(super) fn stop_at(&mut self, stop: Lsn, bytes: &[u8]) {
        self.stop = stop;
        self.bytes = first(bytes);
    }

    /// M3.
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

    /// M2.
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

/// The first bytes, with zeros where there are fewer.
fn first(bytes: &[u8]) -> [u8; FRAME_HEADER] {
    let mut first = [0; FRAME_HEADER];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    first
}
