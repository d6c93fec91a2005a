//! A reader of journal files by their documented format, independent of the engine's own.

use std::path::{Path, PathBuf};

use grouplog::storage::{Memory, Storage};

use crate::folder::read_file;

/// A journal file in use, with its sequence number and frames.
#[derive(Debug)]
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    pub(crate) sequence: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<Frame>,
}

/// The place of a frame, and what it records as synced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) position: usize,
    /// Header and payload, without padding.
    pub(crate) bytes: usize,
    pub(crate) end: usize,
    pub(crate) known_synced: u64,
    pub(crate) kind: u8,
}

const FIRST_FRAME: usize = 4096;
pub(crate) const FRAME_HEADER: usize = 32;

/// Returns all journal files with a valid magic, by sequence number.
pub(crate) fn read(memory: &Memory) -> Vec<JournalFile> {
    let folder = Path::new("journal");
    let mut files = Vec::new();
    for entry in memory.list(folder).unwrap() {
        let path = folder.join(&entry.name);
        let bytes = read_file(memory, &path);
        if bytes.len() < FIRST_FRAME || !bytes.starts_with(b"GLJRNL\0\x01") {
            continue;
        }
        let sequence = u32::from_be_bytes(bytes[40..44].try_into().unwrap());
        let frames = frames(&bytes, sequence);
        files.push(JournalFile { path, sequence, bytes, frames });
    }
    files.sort_by_key(|file| file.sequence);
    files
}

fn frames(bytes: &[u8], sequence: u32) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut position = FIRST_FRAME;
    while let Some(header) = bytes.get(position..position + FRAME_HEADER) {
        let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap());
        if number(8) != lsn(sequence, position) {
            break;
        }
        let payload = u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
        let bytes = FRAME_HEADER + payload;
        let end = position + bytes.next_multiple_of(8);
        frames.push(Frame { position, bytes, end, known_synced: number(16), kind: header[4] });
        position = end;
    }
    frames
}

/// Returns a position in the journal as it is stored.
pub(crate) fn lsn(sequence: u32, position: usize) -> u64 {
    u64::from(sequence) << 32 | position as u64
}

/// Returns the header of a frame without payload. Everything but the salt is right, because its
/// author cannot know the salt.
pub(crate) fn look_alike(sequence: u32, position: usize) -> [u8; FRAME_HEADER] {
    let mut header = [0; FRAME_HEADER];
    header[4] = 3;
    header[8..16].copy_from_slice(&lsn(sequence, position).to_be_bytes());
    header[16..24].copy_from_slice(&lsn(sequence, position).to_be_bytes());
    // The checksum is computed with the salt in the checksum's own place. Without the salt that
    // place holds zeros.
    let crc = crc32fast::hash(&header);
    header[28..].copy_from_slice(&crc.to_be_bytes());
    header
}
