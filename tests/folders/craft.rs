//! Changes the files of this version to what a later version could write, with right checksums.

use std::path::{Path, PathBuf};

use crate::container::Files;

const FIRST_FRAME: usize = 4096;
const FRAME_HEADER: usize = 32;
/// Kinds of frames.
pub(crate) const DATA: u8 = 1;
const NEXT: u8 = 2;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(crate) fn journals(files: &Files) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = files.keys().filter(|path| is_journal(path)).cloned().collect();
    paths.sort_by_key(|path| u32_at(&files[path], 40));
    paths
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "journal")
}

/// Sets the version of each journal file.
pub(crate) fn journal_version(files: &mut Files, version: u32) {
    for path in journals(files) {
        let bytes = files.get_mut(&path).unwrap();
        put(bytes, 8, &version.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..68]);
        put(bytes, 68, &crc.to_be_bytes());
    }
}

/// Appends a frame behind the last one. Returns the file that holds it.
pub(crate) fn append_frame(files: &mut Files, kind: u8, flags: u8, payload: &[u8]) -> PathBuf {
    // The last file, since a recovery stopped somewhere in the earlier ones.
    for path in journals(files).into_iter().rev() {
        let bytes = files.get_mut(&path).unwrap();
        let Some(end) = open_end(bytes) else { continue };
        let salt = u64_at(bytes, 32);
        let mut header = [0; FRAME_HEADER];
        put(&mut header, 0, &u32::try_from(payload.len()).unwrap().to_be_bytes());
        put(&mut header, 4, &[kind, flags]);
        let lsn = u64::from(u32_at(bytes, 40)) << 32 | end as u64;
        put(&mut header, 8, &lsn.to_be_bytes());
        put(&mut header, 24, &crc32fast::hash(payload).to_be_bytes());
        let folded = (salt >> 32) as u32 ^ salt as u32;
        put(&mut header, 28, &folded.to_be_bytes());
        let crc = crc32fast::hash(&header);
        put(&mut header, 28, &crc.to_be_bytes());
        put(bytes, end, &header);
        put(bytes, end + FRAME_HEADER, payload);
        return path;
    }
    panic!("the journal has no frame to go on behind");
}

/// Returns where the frames of a journal file end, if it has any and the journal does not continue in another
/// file.
fn open_end(bytes: &[u8]) -> Option<usize> {
    let sequence = u64::from(u32_at(bytes, 40));
    let (mut at, mut last) = (FIRST_FRAME, None);
    while at + FRAME_HEADER < bytes.len() && u64_at(bytes, at + 8) == sequence << 32 | at as u64 {
        last = Some(bytes[at + 4]);
        at += (FRAME_HEADER + u32_at(bytes, at) as usize).next_multiple_of(8);
    }
    last.filter(|kind| *kind != NEXT).map(|_| at)
}

/// Builds a section of a Data frame.
pub(crate) fn section(kind: u8, reserved: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, reserved, 0, 0], &length[..], body].concat()
}

/// Changes the checkpoint files that exist.
pub(crate) fn checkpoints(files: &mut Files, change: impl Fn(&mut Vec<u8>)) {
    for name in ["checkpoint.a", "checkpoint.b"] {
        let Some(bytes) = files.get_mut(Path::new(name)) else { continue };
        bytes.truncate(44 + u32_at(bytes, 36) as usize);
        change(bytes);
        let body = u32::try_from(bytes.len() - 44).unwrap();
        put(bytes, 36, &body.to_be_bytes());
        let crc = crc32fast::hash(&[&bytes[..40], &bytes[44..]].concat());
        put(bytes, 40, &crc.to_be_bytes());
    }
}

/// Builds a section of a checkpoint.
pub(crate) fn checkpoint_section(tag: u16, flags: u16, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    [&tag.to_be_bytes()[..], &flags.to_be_bytes(), &length, contents].concat()
}

/// Sets the version of the two files of offsets or of share groups, as far as they exist.
pub(crate) fn image_version(files: &mut Files, names: [&str; 2], version: u32) {
    for name in names {
        let Some(bytes) = files.get_mut(Path::new(name)) else { continue };
        put(bytes, 8, &version.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..48]);
        put(bytes, 48, &crc.to_be_bytes());
    }
}
