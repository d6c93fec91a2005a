//! The checksums that vouch for a segment's bytes. Appends keep them current; otherwise they are read from
//! the side file, or rebuilt from the bytes if the checksum of the whole segment matches.

use super::Segment;
use crate::error::{CorruptReason, Result};
use crate::segment::{BLOCK_BYTES, Extension, Sums};
use crate::storage::{FileKind, OpenMode, StorageFile};
use crate::sync::{MappedMutexGuard, MutexGuard};
use crate::types::planted;

/// The number of bytes read at a time when a whole file is read.
const READ_BYTES: usize = 1 << 20;

/// The sums of the written bytes, and how many of them are in the side file.
#[derive(Debug, Default)]
pub(super) struct Running {
    sums: Sums,
    written_blocks: usize,
}

impl Running {
    fn in_file(sums: Sums) -> Self {
        Self { written_blocks: sums.blocks().len(), sums }
    }

    pub(super) fn into_sums(self) -> Sums {
        self.sums
    }

    /// Adds appended bytes. Returns the checksum of the whole segment.
    pub(super) fn push(&mut self, bytes: &[u8]) -> u32 {
        self.sums.push(bytes);
        self.sums.whole()
    }
}

impl Segment {
    /// Returns the sums of the existing bytes, to be continued by an append.
    ///
    /// # Errors
    /// `Corrupt` if the file does not match the checkpoint. Nothing must be appended to it.
    pub(super) fn running(&self) -> Result<MappedMutexGuard<'_, Running>> {
        let mut slot = self.running.lock();
        if slot.is_none() {
            let image = self.image();
            let running = match image.len {
                0 => Some(Running::default()),
                len => self.read_sums(len, image.checksum)?,
            };
            *slot = Some(running.ok_or_else(|| self.lost(0, CorruptReason::Checksum))?);
        }
        Ok(MutexGuard::map(slot, |slot| slot.get_or_insert_default()))
    }

    /// Returns the sums of all bytes of a complete segment.
    ///
    /// # Errors
    /// `Corrupt` if the file does not match the checkpoint.
    pub(in crate::log) fn proven_sums(&self) -> Result<Sums> {
        let image = self.image();
        if image.len == 0 {
            return Ok(Sums::new());
        }
        let running = self.read_sums(image.len, image.checksum)?;
        running.map(Running::into_sums).ok_or_else(|| self.lost(0, CorruptReason::Checksum))
    }

    /// Returns whether bytes can be appended. Before the first append, checks that the block to be appended
    /// to matches the checkpoint.
    pub(in crate::log) fn can_go_on(&self) -> Result<bool> {
        if self.len() == 0 || self.running.lock().is_some() || planted("append_behind_damage") {
            return Ok(true);
        }
        let proven = self.tail_is_proven();
        if !matches!(proven, Ok(true)) {
            // If the sums were kept, the next attempt would skip this check.
            *self.running.lock() = None;
        }
        proven
    }

    fn tail_is_proven(&self) -> Result<bool> {
        let last = self.running().map(|running| running.sums.block(self.len() / BLOCK_BYTES));
        let last = match last {
            Ok(last) => last,
            Err(error) if error.is_corruption() => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some((range, sum)) = last else { return Ok(true) };
        let mut found = Sums::new();
        sum_range(&*self.open_to_read()?, range, &mut found)?;
        Ok(found.whole() == sum)
    }

    /// Writes the sums of the blocks that were filled since the last call, and the header.
    pub(super) fn flush_sums(&self) -> Result<()> {
        let mut slot = self.running.lock();
        let Some(running) = &mut *slot else { return Ok(()) };
        if running.sums.blocks().is_empty() {
            return Ok(());
        }
        let path = self.path(Extension::Sums);
        let there = self.folder.storage.metadata(&path)?.map(|(_, len)| len);
        let mode = if there.is_some() { OpenMode::Write } else { OpenMode::CreateNew };
        let file = self.folder.storage.open(&path, mode)?;
        let (mut entries, mut position) = running.sums.encode_entries(running.written_blocks);
        if there.unwrap_or(0) < position {
            (entries, position) = running.sums.encode_entries(0);
        }
        file.write_at(&entries, position)?;
        file.write_at(&running.sums.encode_header(), 0)?;
        running.written_blocks = running.sums.blocks().len();
        Ok(())
    }

    /// Returns the sums of the first `len` bytes, which had the checksum `whole`. Returns `None` if the bytes
    /// have changed and no stored sum shows where.
    pub(super) fn read_sums(&self, len: u64, whole: u32) -> Result<Option<Running>> {
        let decoded = Sums::decode(&self.read_sums_file(len)?, len, whole);
        if let Some(decoded) = &decoded
            && (decoded.proven || planted("believe_sums"))
        {
            return Ok(Some(Running::in_file(decoded.sums.clone())));
        }
        let file = self.open_to_read()?;
        if let Some(decoded) = decoded
            && let Some((range, sum)) = decoded.sums.block(len / BLOCK_BYTES)
        {
            let mut tail = Sums::new();
            sum_range(&*file, range, &mut tail)?;
            if tail.whole() == sum {
                return Ok(Some(Running::in_file(decoded.sums)));
            }
        }
        let mut sums = Sums::new();
        sum_range(&*file, 0..len, &mut sums)?;
        let right = sums.len() == len && sums.whole() == whole;
        let right = right || planted("whole_checksum_not_checked");
        Ok(right.then_some(Running { sums, written_blocks: 0 }))
    }

    /// Returns the bytes of the side file, at most as many as a segment of `len` bytes needs. Empty if the
    /// file does not exist.
    pub(in crate::log) fn read_sums_file(&self, len: u64) -> Result<Vec<u8>> {
        let path = self.path(Extension::Sums);
        let needed = Sums::file_len(len);
        if needed == 0 {
            return Ok(Vec::new());
        }
        let Some((FileKind::File, there)) = self.folder.storage.metadata(&path)? else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; usize::try_from(needed.min(there)).unwrap_or(0)];
        let read = self.folder.storage.open(&path, OpenMode::Read)?.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Adds the bytes of `range` to `sums`, up to the end of the file.
fn sum_range(file: &dyn StorageFile, range: std::ops::Range<u64>, sums: &mut Sums) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES.min(range.end.saturating_sub(range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let want = buffer.len().min(range.end.saturating_sub(at) as usize);
        let read = file.read_at(buffer.get_mut(..want).unwrap_or_default(), at)?;
        if read == 0 {
            return Ok(());
        }
        sums.push(buffer.get(..read).unwrap_or_default());
        at = at.saturating_add(read as u64);
    }
    Ok(())
}
