//! The header: the first bytes of a journal file.
//!
//! ```text
//! offset size field            big-endian
//!      0    8 magic            "GLJRNL\0\x01"
//!      8    4 version          1
//!     12    4 size             of the file in bytes, a multiple of 4096; a longer file is legal
//!     16   16 directory id     of the folder that the file belongs to
//!     32    8 salt             random, new in each life of the file
//!     40    4 sequence         of this life of the file, >= 1, never reused in a folder
//!     44    4 epoch            broker epoch of the writer
//!     48    8 continues from   LSN where replay of the earlier files stops; 0: an ordinary spare,
//!                              which follows the file whose Next frame names it
//!     56    8 known synced     LSN; everything below it was durable when this header was written
//!     64    4 slot             number of the file's slot plus 1; 0: unknown, written by an early build
//!     68    4 checksum         CRC-32 of bytes 0..68
//! ```
//!
//! Frames begin at byte 4096, so a header write and a frame never share a page. The header lies within
//! one 512-byte sector. It becomes durable with the first sync of its file (J2). A file that was never
//! synced may lose it to power loss, and may show the bytes of a removed file instead. The slot number
//! tells such a header from one that was written here.
//!
//! A *note* may follow at byte 512, in a sector of its own. It raises `known synced` of a file that holds no
//! frame yet, without a write to the header. It counts only if its checksum, which includes the salt, is right.
//!
//! ```text
//! offset size field            big-endian
//!    512    8 known synced     LSN
//!    520    4 checksum         CRC-32 of the 8 bytes before, followed by the folded salt
//! ```
//!
//! Magic, version and checksum keep their places in every version, so each build can tell a file of a newer
//! version from a damaged one. For a newer version it returns `UnsupportedFormat` and changes nothing. The
//! version rises when a field of this header or of a frame changes its meaning. A new kind of section needs
//! no new version: the kind itself says whether a reader may skip it (`section`).

use crate::error::{CorruptReason, Error, Result};
use crate::types::{Epoch, Lsn, planted};

use super::field::{array, u32_at, u64_at};

/// The fields of the header of a journal file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) size: u32,
    pub(super) directory_id: [u8; 16],
    pub(super) salt: u64,
    pub(super) sequence: u32,
    pub(super) epoch: Epoch,
    pub(super) continues_from: Lsn,
    pub(super) known_synced: Lsn,
    /// The slot of the file; `None` if an early build wrote the header.
    pub(super) slot: Option<u32>,
}

/// The result of decoding the first bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Valid(FileHeader),
    /// Never written, half written or damaged.
    Invalid,
    /// Intact, but of this version, which the build does not know.
    Unsupported(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.directory_id);
        bytes[32..40].copy_from_slice(&self.salt.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[44..48].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.continues_from.to_u64().to_be_bytes());
        bytes[56..64].copy_from_slice(&self.known_synced.to_u64().to_be_bytes());
        let slot = self.slot.map_or(0, |slot| slot.saturating_add(1));
        bytes[64..68].copy_from_slice(&slot.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Decoded {
        Self::parse(bytes).unwrap_or(Decoded::Invalid)
    }

    fn parse(bytes: &[u8]) -> Option<Decoded> {
        let bytes: [u8; HEADER_BYTES] = array(bytes, 0)?;
        let sum = u32_at(&bytes, CRC_AT)?;
        if !bytes.starts_with(&MAGIC) || crc32fast::hash(bytes.get(..CRC_AT)?) != sum {
            return None;
        }
        let version = u32_at(&bytes, 8)?;
        if version != VERSION {
            return Some(Decoded::Unsupported(version));
        }
        let header = Self {
            size: u32_at(&bytes, 12)?,
            directory_id: array(&bytes, 16)?,
            salt: u64_at(&bytes, 32)?,
            sequence: u32_at(&bytes, 40)?,
            epoch: i32::from_be_bytes(array(&bytes, 44)?),
            continues_from: Lsn::from_u64(u64_at(&bytes, 48)?),
            known_synced: Lsn::from_u64(u64_at(&bytes, 56)?),
            slot: u32_at(&bytes, 64)?.checked_sub(1),
        };
        header.check().is_ok().then_some(Decoded::Valid(header))
    }

    fn check(&self) -> Result<(), CorruptReason> {
        let sane = self.sequence > 0
            && self.size > FIRST_FRAME
            && self.size.is_multiple_of(8)
            && self.continues_from.sequence() < self.sequence
            && self.known_synced.sequence() <= self.sequence;
        if sane { Ok(()) } else { Err(CorruptReason::Field) }
    }

    /// Encodes a note that raises the synced position.
    pub(super) fn encode_note(&self, known_synced: Lsn) -> [u8; NOTE_BYTES] {
        let mut bytes = [0; NOTE_BYTES];
        bytes[..8].copy_from_slice(&known_synced.to_u64().to_be_bytes());
        let sum = self.note_checksum(&bytes[..8]);
        bytes[8..].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Returns the header with the synced position of its note, if `bytes` is one.
    pub(super) fn with_note(self, bytes: &[u8]) -> Self {
        let note = || {
            let known_synced = Lsn::from_u64(u64_at(bytes, 0)?);
            let right = u32_at(bytes, 8)? == self.note_checksum(bytes.get(..8)?);
            let noted = Self { known_synced: self.known_synced.max(known_synced), ..self };
            (right && noted.check().is_ok()).then_some(noted)
        };
        note().unwrap_or(self)
    }

    fn note_checksum(&self, known_synced: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(known_synced);
        hasher.update(&self.frame_salt().to_be_bytes());
        hasher.finalize()
    }

    /// Returns whether the headers are of one life of one file. The synced position may differ: a note can
    /// raise it.
    pub(super) fn is_same_life(&self, other: &Self) -> bool {
        Self { known_synced: other.known_synced, ..*self } == *other
    }

    /// Returns the salt that the frame checksums of this life of the file include.
    pub(super) fn frame_salt(&self) -> u32 {
        if planted("no_salt") {
            return 0;
        }
        (self.salt >> 32) as u32 ^ self.salt as u32
    }
}

const MAGIC: [u8; 8] = *b"GLJRNL\0\x01";
const VERSION: u32 = 1;
const CRC_AT: usize = 68;
pub(super) const HEADER_BYTES: usize = 72;
/// The position of the note in the file.
pub(super) const NOTE_AT: usize = 512;
pub(super) const NOTE_BYTES: usize = 12;
pub(super) const MAX_VERSION: u32 = VERSION;
/// The position of the first frame of a file.
pub(super) const FIRST_FRAME: u32 = 4096;

/// Returns the next sequence number.
///
/// # Errors
/// `LimitExceeded` after 4,294,967,295 files.
pub(super) fn sequence_after(sequence: u32) -> Result<u32> {
    sequence.checked_add(1).ok_or(Error::LimitExceeded {
        what: "journal files ever begun",
        found: u64::from(u32::MAX) + 1,
        max: u64::from(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> FileHeader {
        FileHeader {
            size: 1 << 20,
            directory_id: [7; 16],
            salt: 0x1122_3344_5566_7788,
            sequence: 9,
            epoch: 3,
            continues_from: Lsn::new(8, 4096),
            known_synced: Lsn::new(7, 5000),
            slot: Some(2),
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        assert_eq!(FileHeader::decode(&header().encode()), Decoded::Valid(header()));
    }

    #[test]
    fn zeros_and_short_files_are_no_header() {
        assert_eq!(FileHeader::decode(&[0; 512]), Decoded::Invalid);
        assert_eq!(FileHeader::decode(&header().encode()[..71]), Decoded::Invalid);
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[11] = 2;
        assert_eq!(FileHeader::decode(&bytes), Decoded::Invalid);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(FileHeader::decode(&bytes), Decoded::Unsupported(2));
    }

    #[test]
    fn a_header_that_no_version_writes_is_damage() {
        let insane = [
            FileHeader {
                sequence: 0,
                continues_from: Lsn::ZERO,
                known_synced: Lsn::ZERO,
                ..header()
            },
            FileHeader { size: FIRST_FRAME, ..header() },
            FileHeader { size: (1 << 20) + 4, ..header() },
            FileHeader { continues_from: Lsn::new(9, 4096), ..header() },
            FileHeader { known_synced: Lsn::new(10, 4096), ..header() },
        ];
        for header in insane {
            assert_eq!(FileHeader::decode(&header.encode()), Decoded::Invalid, "{header:?}");
        }
    }

    #[test]
    fn a_note_raises_the_synced_position_of_its_life_alone() {
        let (higher, lower) = (Lsn::new(8, 5000), Lsn::new(6, 5000));
        let note = header().encode_note(higher);
        assert_eq!(header().with_note(&note).known_synced, higher);
        assert_eq!(header().with_note(&header().encode_note(lower)), header());
        let other = FileHeader { salt: 1, ..header() };
        assert_eq!(other.with_note(&note), other, "a note of another life");
        assert_eq!(header().with_note(&note[..11]), header());
        let beyond = header().encode_note(Lsn::new(10, 5000));
        assert_eq!(header().with_note(&beyond), header(), "no header may know that");
        for bit in 0..NOTE_BYTES * 8 {
            let mut torn = note;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(header().with_note(&torn), header());
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_makes_a_header_invalid(bit in 0..HEADER_BYTES * 8) {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FileHeader::decode(&bytes), Decoded::Invalid);
        }
    }
}
