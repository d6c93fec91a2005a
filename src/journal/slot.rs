//! Slots: the files of the journal folder, `journal/<slot>.journal`.
//!
//! A slot is filled with zeros once and then reused many times. Each use is a *life* with its own header
//! (sequence, salt). The journal opens a file once and keeps its descriptor until the journal is dropped.
//! The system reports a failed write-back once per descriptor, so closing it could lose that report.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{FileKind, OpenMode, Storage, StorageFile, WriteMap};
use crate::types::planted;

use super::JournalMode;
use super::frame::{FRAME_HEADER, FrameHeader, NEXT_BYTES, SUMS_AT};
use super::header::{Decoded, FileHeader, HEADER_BYTES};

/// An open slot, filled to its size.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) size: u32,
    /// Shared with a sync that may still run when the slot changes its state.
    pub(super) file: Arc<dyn StorageFile>,
    map: Option<WriteMap>,
}

impl Slot {
    /// Creates a new file.
    ///
    /// The file gets its name when its zeros are durable. Before that, power loss may leave any bytes in
    /// it, even the header of a removed file.
    pub(super) fn create(
        storage: &dyn Storage,
        number: u32,
        size: u32,
        mode: JournalMode,
    ) -> Result<Self> {
        let path = slot_path(number);
        let unfinished = path.with_extension(UNFINISHED);
        let made = make(storage, &unfinished, &path, size);
        if made.is_err() {
            // Frees space on a full disk. If this fails too, the next opening removes the file.
            drop(storage.remove(&unfinished));
        }
        made?;
        Self::new(number, size, storage.open(&path, OpenMode::Write)?, mode)
    }

    /// Opens an existing file. Keeps it as it is if it has a valid header and is large enough. Otherwise
    /// fills it with zeros.
    pub(super) fn open(
        storage: &dyn Storage,
        number: u32,
        size: u32,
        mode: JournalMode,
    ) -> Result<Self> {
        let file = storage.open(&slot_path(number), OpenMode::Write)?;
        let size = match read_header(&*file)? {
            Decoded::Valid(header)
                if header.size >= size && u64::from(header.size) <= file.len()? =>
            {
                // A copied folder may hold sparse files, and a store into a hole needs space.
                file.preallocate(0, u64::from(header.size))?;
                header.size
            }
            _ => {
                fill(&*file, size)?;
                storage.sync_dir(Path::new(FOLDER))?;
                size
            }
        };
        Self::new(number, size, file, mode)
    }

    fn new(number: u32, size: u32, file: Arc<dyn StorageFile>, mode: JournalMode) -> Result<Self> {
        let map = match mode {
            JournalMode::Map => Some(file.map_write(u64::from(size))?),
            JournalMode::Write => None,
        };
        Ok(Self { number, size, file, map })
    }

    /// Begins a new life of the slot.
    ///
    /// Syncs only the header. Flushing the stale dirty pages of the previous life would cost more than
    /// everything else. Takes the page fault of the first store to each page here, so that appending
    /// threads do not.
    pub(super) fn begin(&self, header: &FileHeader) -> Result<()> {
        if planted("header_not_durable") {
            return self.file.write_at(&header.encode(), 0);
        }
        self.file.write_at_durable(&header.encode(), 0)?;
        match &self.map {
            Some(map) => map.prefault(),
            None => Ok(()),
        }
    }

    /// Writes a frame.
    ///
    /// Through a map it stores the header last, and the checksums last of all with their own store. So a
    /// reader beside the writer rarely sees half a frame. In Write mode it gathers the frame in `scratch` and
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

/// Returns the bytes of frames that a file surely takes from `position` on, if no frame is larger than
/// `frame_max`. The first frame that does not fit leaves less than `frame_max` bytes unused.
#[inline]
pub(super) fn sure_bytes(size: u32, position: u32, frame_max: u32) -> i64 {
    (i64::from(room(size, position)) - i64::from(frame_max)).max(0)
}

/// Returns the size of the largest frame that fits at `position`, with room left for the Next frame.
#[inline]
pub(super) fn room(size: u32, position: u32) -> u32 {
    size.saturating_sub(NEXT_BYTES).saturating_sub(position)
}

/// Writes zeros over the whole file and syncs them. Afterwards no store needs a new block.
///
/// The zeros are written in small pieces. Then a small frame stored through a map dirties a small page of
/// the cache, not a large one.
fn fill(file: &dyn StorageFile, size: u32) -> Result<()> {
    let zeros = [0; PAGE as usize];
    for position in (0..u64::from(size)).step_by(PAGE as usize) {
        file.write_at(&zeros, position)?;
    }
    if planted("zeros_not_synced") { Ok(()) } else { file.sync_data() }
}

fn make(storage: &dyn Storage, unfinished: &Path, path: &Path, size: u32) -> Result<()> {
    let file = if storage.metadata(unfinished)?.is_none() {
        storage.open(unfinished, OpenMode::CreateNew)?
    } else {
        // An earlier attempt failed, and so did its cleanup. The steps below report the cause. Removing the
        // file first would only report that it cannot be removed.
        let file = storage.open(unfinished, OpenMode::Write)?;
        file.set_len(u64::from(size))?;
        file
    };
    fill(&*file, size)?;
    drop(file);
    storage.rename(unfinished, path)?;
    // Make the name durable before a header is written: from then on replay may have to find the file.
    storage.sync_dir(Path::new(FOLDER))
}

/// Removes unfinished files that a crash left.
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

pub(super) fn read_header(file: &dyn StorageFile) -> Result<Decoded> {
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(FileHeader::decode(bytes.get(..read).unwrap_or_default()))
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
/// The extension of files that are not finished yet.
const UNFINISHED: &str = "new";
const PAGE: u32 = 4096;
const SCRATCH_KEPT: usize = 1 << 20;
