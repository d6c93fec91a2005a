//! Slots: the files of the journal folder, `journal/<slot>.journal`.
//!
//! A slot is used again and again. Each use is a *life* with its own header (sequence, salt). The journal
//! opens a file once and keeps its descriptor until the journal is dropped. The system reports a failed
//! write-back once per descriptor, so closing it could lose that report.
//!
//! Frames get into a life in one of two ways:
//! - *by stores* through a map of the whole file. Each byte of the file has been written before, so a store
//!   needs no new block. Small frames cost least this way.
//! - *by writes*, one for each frame. The file only needs its space reserved. Large frames cost least this
//!   way in a file's first life, because nothing is written twice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{FileKind, OpenMode, Storage, StorageFile, WriteMap};
use crate::types::planted;

use super::frame::{FRAME_HEADER, FrameHeader, NEXT_BYTES, SUMS_AT};
use super::header::{Decoded, FileHeader, HEADER_BYTES, NOTE_AT, NOTE_BYTES};

/// An open slot, whose space is reserved.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) size: u32,
    /// Shared with a sync that may still run when the slot changes its state.
    pub(super) file: Arc<dyn StorageFile>,
    /// Whether the name of the file is durable.
    pub(super) named: bool,
    map: Option<WriteMap>,
    /// The bytes that were surely written, counted from the first.
    written: u32,
}

impl Slot {
    /// Creates a new file. Its name is not durable yet.
    ///
    /// If that fails, removes the file, which frees space on a full disk. If that fails too, the next
    /// attempt goes on with the file.
    pub(super) fn create(storage: &dyn Storage, number: u32, size: u32) -> Result<Self> {
        let path = slot_path(number);
        let made = make(storage, &path, size);
        if made.is_err() {
            drop(storage.remove(&path));
        }
        Ok(Self { number, size, file: made?, named: false, map: None, written: 0 })
    }

    /// Opens an existing file. Keeps its size if it has a valid header and is large enough. Otherwise makes it
    /// `size` bytes long: power loss may have taken the header of a large file.
    ///
    /// None of its bytes counts as written: a copied folder may hold sparse files, and a store into a hole
    /// needs space.
    pub(super) fn open(storage: &dyn Storage, number: u32, size: u32) -> Result<Self> {
        let file = storage.open(&slot_path(number), OpenMode::Write)?;
        let len = file.len()?;
        let size = match read_header(&*file, number)? {
            Decoded::Valid(header) if header.size >= size && u64::from(header.size) <= len => {
                header.size
            }
            _ => size,
        };
        file.preallocate(0, u64::from(size))?;
        if len != u64::from(size) && !(len > u64::from(size) && planted("long_slots_stay")) {
            file.set_len(u64::from(size))?;
        }
        Ok(Self { number, size, file, named: true, map: None, written: 0 })
    }

    /// Makes a filled slot ready for stores.
    ///
    /// Takes the page fault of the first store to each page here, so that appending threads do not. Calls
    /// `pause` from time to time.
    pub(super) fn map(&mut self, pause: &dyn Fn()) -> Result<()> {
        let map = match self.map.take() {
            Some(map) => map,
            None => self.file.map_write(u64::from(self.size))?,
        };
        let mut at = 0;
        while at < self.size as usize {
            pause();
            map.prefault(at..at.saturating_add(4 * WORK as usize))?;
            at = at.saturating_add(4 * WORK as usize);
        }
        self.map = Some(map);
        Ok(())
    }

    /// Takes the pages from a position on out of the map, before a sync of many frames that end at `until`. The
    /// sync takes the prepared pages after them as well.
    pub(super) fn release(&self, from: u32, until: u32) {
        if let Some(map) = &self.map
            && until.saturating_sub(from) >= WORK
        {
            map.release(from as usize..self.size as usize);
        }
    }

    /// Whether the next frames are stored through a map.
    pub(super) fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// Writes zeros over all bytes that were not written yet. Afterwards no store or write needs a new block.
    ///
    /// The zeros are written in small pieces. The cache of the system keeps each piece as one unit, and a
    /// small frame stored into a unit dirties all of it. `synced` says that threads wait for syncs: the device
    /// then gets a unit for each sync, so the units are smallest. Calls `pause` from time to time.
    pub(super) fn fill(&mut self, synced: bool, pause: &dyn Fn()) -> Result<()> {
        let most = if synced { SMALLEST_PIECE } else { PIECE };
        let zeros = [0; PIECE as usize];
        while self.written < self.size {
            if self.written.is_multiple_of(WORK) {
                pause();
            }
            let piece = most - self.written % most;
            let bytes = zeros.get(..piece.min(self.size - self.written) as usize);
            self.file.write_at(bytes.unwrap_or_default(), u64::from(self.written))?;
            self.written += piece.min(self.size - self.written);
        }
        Ok(())
    }

    /// Records that a life ended whose frames filled the file up to `position`.
    pub(super) fn written_to(&mut self, position: u32) {
        self.written = self.written.max(position);
    }

    /// Writes a frame.
    ///
    /// Through a map it stores the header last, and the checksums last of all with their own store. So a
    /// reader beside the writer rarely sees half a frame. Otherwise it gathers the frame in `scratch` and
    /// writes it with one call.
    ///
    /// If several small stores have just made some bytes, a larger load of them waits until all earlier
    /// stores are done. So the header is encoded before the payload is stored, and its checksum is computed
    /// after.
    #[inline]
    pub(super) fn write_frame(
        &self,
        position: u32,
        header: &FrameHeader,
        salt: u32,
        parts: &[&[u8]],
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let position = position as usize;
        if let Some(map) = &self.map {
            let salted = header.encode_salted(salt);
            let mut at = position + FRAME_HEADER;
            for part in parts {
                map.write(at, part)?;
                at += part.len();
            }
            let sums = header.checksums(&salted);
            map.write(position, &salted[..SUMS_AT])?;
            return map.write(position + SUMS_AT, &sums);
        }
        scratch.clear();
        scratch.extend_from_slice(&header.encode(salt));
        for part in parts {
            scratch.extend_from_slice(part);
        }
        let written = self.file.write_at(scratch, position as u64);
        if scratch.capacity() > SCRATCH_KEPT {
            *scratch = Vec::new();
        }
        written
    }
}

/// Returns the size of the largest frame that fits at `position`, with room left for the Next frame.
#[inline]
pub(super) fn room(size: u32, position: u32) -> u32 {
    size.saturating_sub(NEXT_BYTES).saturating_sub(position)
}

/// Creates a file and reserves its space.
fn make(storage: &dyn Storage, path: &Path, size: u32) -> Result<Arc<dyn StorageFile>> {
    let mode = match storage.metadata(path)? {
        None => OpenMode::CreateNew,
        // An earlier attempt failed, and so did its cleanup.
        Some(_) => OpenMode::Write,
    };
    let file = storage.open(path, mode)?;
    file.preallocate(0, u64::from(size))?;
    file.set_len(u64::from(size))?;
    Ok(file)
}

/// Removes files that an early build left unfinished.
pub(super) fn remove_unfinished(storage: &dyn Storage) -> Result<()> {
    for entry in storage.list(Path::new(FOLDER))? {
        let path = Path::new(FOLDER).join(&entry.name);
        if entry.kind == FileKind::File && path.extension().is_some_and(|e| e == UNFINISHED) {
            storage.remove(&path)?;
        }
    }
    Ok(())
}

/// Writes all bytes of a slot again in place and syncs them.
pub(super) fn rewrite(storage: &dyn Storage, number: u32) -> Result<()> {
    let file = storage.open(&slot_path(number), OpenMode::Write)?;
    let mut bytes = vec![0; 1 << 16];
    for position in (0..file.len()?).step_by(bytes.len()) {
        let read = file.read_at(&mut bytes, position)?;
        if !planted("believe_cached_journal") {
            file.write_at(bytes.get(..read).unwrap_or_default(), position)?;
        }
    }
    file.sync_data()
}

/// Makes a slot's header invalid, durably.
pub(super) fn erase_header(storage: &dyn Storage, number: u32) -> Result<()> {
    storage.open(&slot_path(number), OpenMode::Write)?.write_at_durable(&[0; HEADER_BYTES], 0)
}

/// Reads the header of the file in slot `number`. A header that was written for another slot is invalid: it
/// was left on the disk by a removed file.
pub(super) fn read_header(file: &dyn StorageFile, number: u32) -> Result<Decoded> {
    let mut bytes = [0; NOTE_AT + NOTE_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    let bytes = bytes.get(..read).unwrap_or_default();
    Ok(match FileHeader::decode(bytes) {
        Decoded::Valid(header)
            if header.slot.is_some_and(|slot| slot != number) && !planted("any_slots_header") =>
        {
            Decoded::Invalid
        }
        Decoded::Valid(header) => {
            Decoded::Valid(header.with_note(bytes.get(NOTE_AT..).unwrap_or_default()))
        }
        decoded => decoded,
    })
}

/// Returns the slot numbers in the folder, with the lengths of their files.
pub(super) fn list(storage: &dyn Storage) -> Result<Vec<(u32, u64)>> {
    if storage.metadata(Path::new(FOLDER))?.is_none() {
        return Ok(Vec::new());
    }
    let mut slots = Vec::new();
    for entry in storage.list(Path::new(FOLDER))? {
        let Some(number) = entry.name.strip_suffix(".journal").and_then(|n| n.parse().ok()) else {
            continue;
        };
        let path = slot_path(number);
        if entry.kind != FileKind::File || path.file_name() != Some(entry.name.as_ref()) {
            continue;
        }
        if let Some((FileKind::File, bytes)) = storage.metadata(&path)? {
            slots.push((number, bytes));
        }
    }
    slots.sort_unstable();
    Ok(slots)
}

/// Returns the lowest slot number that is not taken.
pub(super) fn free_number(numbers: &BTreeSet<u32>) -> u32 {
    (0..u32::MAX).find(|number| !numbers.contains(number)).unwrap_or(u32::MAX)
}

pub(super) fn slot_path(number: u32) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{number}.journal"))
}

/// The folder of the slots.
pub(super) const FOLDER: &str = "journal";
/// The extension of files that an early build had not finished yet.
const UNFINISHED: &str = "new";
/// The size of the pieces in which a file is filled, in bytes.
const PIECE: u32 = 16 << 10;
const SMALLEST_PIECE: u32 = 4 << 10;
/// How much of a file is prepared before a pause, in bytes.
const WORK: u32 = 64 << 10;
const SCRATCH_KEPT: usize = 1 << 20;
