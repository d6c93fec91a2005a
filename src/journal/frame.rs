//! Frames: the content of a journal file from byte 4096 on.
//!
//! ```text
//! offset size field            big-endian; a frame begins at a multiple of 8
//!      0    4 length           of the payload in bytes
//!      4    1 kind             1 Data, 2 Next, 3 SyncMark; a newer version may use others
//!      5    1 flags            0; a newer version may set some
//!      6    2 reserved         0; a newer version may use them
//!      8    8 LSN              sequence of the file and position of this frame in it
//!     16    8 known synced     LSN <= this one; everything below it was durable when this was written
//!     24    4 payload checksum CRC-32 of the payload
//!     28    4 header checksum  CRC-32 of bytes 0..28 followed by the folded salt of the file
//!     32    n payload          then 0 to 7 bytes of padding, of any value, up to a multiple of 8
//! ```
//!
//! - *Data*: the payload is a list of sections, see `section`.
//! - *Next*: the journal continues in another file. The payload is the sequence number of that file (4
//!   bytes) and its folded salt (4 bytes). Bytes after it in this file do not count. Power loss may take the
//!   header of a file that was never synced. The salt tells its frames from all other bytes even then. (Early
//!   builds wrote no salt: they made every header durable before a Next frame named it.)
//! - *SyncMark*: a witness for `known synced`, without a payload.
//!
//! A frame of an earlier life of a recycled file fails by its LSN, because sequence numbers are never
//! reused, and by its salt. A look-alike inside a payload fails because its author does not know the salt.
//! The header checksum covers 32 bytes with the salt. That is two whole blocks of carry-less
//! multiplication, which is faster than 28 bytes with a seed.

use crate::error::{CorruptReason, Unreadable};
use crate::types::{Lsn, planted};

use super::field::{array, u32_at, u64_at};

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 1,
    Next = 2,
    SyncMark = 3,
}

/// The fields of a frame's header that are not constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) payload_bytes: u32,
    pub(super) kind: Kind,
    pub(super) lsn: Lsn,
    pub(super) known_synced: Lsn,
    pub(super) payload_crc: u32,
}

impl FrameHeader {
    #[inline]
    pub(super) fn encode(&self, salt: u32) -> [u8; FRAME_HEADER] {
        let mut bytes = self.encode_salted(salt);
        let sums = self.checksums(&bytes);
        bytes[SUMS_AT..].copy_from_slice(&sums);
        bytes
    }

    /// Encodes the header with the salt in the place of the header checksum.
    #[inline]
    pub(super) fn encode_salted(&self, salt: u32) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..4].copy_from_slice(&self.payload_bytes.to_be_bytes());
        bytes[4] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.lsn.to_u64().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.vouches_for().to_u64().to_be_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_be_bytes());
        bytes[CRC_AT..].copy_from_slice(&salt.to_be_bytes());
        bytes
    }

    /// Returns the last bytes of the header, from `SUMS_AT` on: the checksum of the payload, and the
    /// checksum of the result of `encode_salted`.
    #[inline]
    pub(super) fn checksums(&self, salted: &[u8; FRAME_HEADER]) -> [u8; FRAME_HEADER - SUMS_AT] {
        let both = u64::from(self.payload_crc) << 32 | u64::from(crc32fast::hash(salted));
        both.to_be_bytes()
    }

    /// Returns the synced position that the frame carries. (tests/crash/planted.sh lists the faults by name.)
    #[inline(always)]
    fn vouches_for(&self) -> Lsn {
        if planted("vouch_for_unsynced") { self.lsn } else { self.known_synced }
    }

    /// Decodes the header at the start of `bytes`. Returns `None` if there is no valid header for the
    /// position `lsn`.
    ///
    /// # Errors
    /// The checksum is valid, but this version does not write such a value:
    /// - `Unsupported` if a newer version wrote the kind, the flags or the reserved bytes.
    /// - `Corrupt` if no version writes the value.
    pub(super) fn decode(bytes: &[u8], lsn: Lsn, salt: u32) -> Result<Option<Self>, Unreadable> {
        Self::parse(bytes, lsn, salt).transpose()
    }

    fn parse(bytes: &[u8], lsn: Lsn, salt: u32) -> Option<Result<Self, Unreadable>> {
        // Compare the position first: it differs for nearly all bytes that are no frame, and is cheap.
        if u64_at(bytes, LSN_AT)? != lsn.to_u64() {
            return None;
        }
        let bytes: [u8; FRAME_HEADER] = array(bytes, 0)?;
        let mut salted = bytes;
        salted.last_chunk_mut::<4>()?.copy_from_slice(&salt.to_be_bytes());
        if crc32fast::hash(&salted) != u32_at(&bytes, CRC_AT)? {
            return None;
        }
        let known_synced = Lsn::from_u64(u64_at(&bytes, 16)?);
        let kind = match u32_at(&bytes, 4)?.to_be_bytes() {
            [1, 0, 0, 0] => Kind::Data,
            [2, 0, 0, 0] => Kind::Next,
            [3, 0, 0, 0] => Kind::SyncMark,
            [0, ..] => return Some(Err(CorruptReason::Field.into())),
            [kind, 0, 0, 0] => {
                let max = Kind::SyncMark as u8;
                return Some(Err(Unreadable::unsupported("journal frame kind", kind, max)));
            }
            [_, a, b, c] => {
                let found = u32::from_be_bytes([0, a, b, c]);
                return Some(Err(Unreadable::unsupported("journal frame flags", found, 0_u32)));
            }
        };
        // A frame can only vouch for frames before it.
        if known_synced > lsn {
            return Some(Err(CorruptReason::Field.into()));
        }
        Some(Ok(Self {
            payload_bytes: u32_at(&bytes, 0)?,
            kind,
            lsn,
            known_synced,
            payload_crc: u32_at(&bytes, 24)?,
        }))
    }
}

/// Returns whether the bytes carry the position of a frame that begins at `lsn`, valid or not.
pub(super) fn claims(bytes: &[u8], lsn: Lsn) -> bool {
    u64_at(bytes, LSN_AT) == Some(lsn.to_u64())
}

/// Returns the size of a frame with a payload of `payload` bytes, including header and padding.
pub(crate) const fn frame_bytes(payload: u64) -> Option<u64> {
    match payload.checked_add(FRAME_HEADER as u64) {
        Some(bytes) => bytes.checked_next_multiple_of(8),
        None => None,
    }
}

/// Returns the CRC-32 of the concatenation of `parts`.
#[inline]
pub(super) fn payload_crc(parts: &[&[u8]]) -> u32 {
    if let [part] = parts {
        return crc32fast::hash(part);
    }
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Returns the payload of a Next frame.
pub(super) fn next_payload(sequence: u32, salt: u32) -> [u8; 8] {
    (u64::from(sequence) << 32 | u64::from(salt)).to_be_bytes()
}

/// Decodes the payload of a Next frame: the sequence number and, unless an early build wrote it, the salt.
pub(super) fn named_by(payload: &[u8]) -> Option<(u32, Option<u32>)> {
    Some((u32_at(payload, 0)?, u32_at(payload, 4)))
}

const LSN_AT: usize = 8;
/// The offset of the two checksums.
pub(super) const SUMS_AT: usize = 24;
const CRC_AT: usize = 28;
pub(super) const FRAME_HEADER: usize = 32;
/// The size of a Next frame in bytes. Every file keeps room for one.
pub(super) const NEXT_BYTES: u32 = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = FrameHeader> {
        (any::<u32>(), 1u8..=3, any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
            |(payload_bytes, kind, lsn, known, payload_crc)| FrameHeader {
                payload_bytes,
                kind: [Kind::Data, Kind::Next, Kind::SyncMark][usize::from(kind) - 1],
                lsn: Lsn::from_u64(lsn),
                known_synced: Lsn::from_u64(known.min(lsn)),
                payload_crc,
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_comes_back_as_it_was(header in header(), salt: u32) {
            let bytes = header.encode(salt);
            prop_assert_eq!(FrameHeader::decode(&bytes, header.lsn, salt), Ok(Some(header)));
        }

        #[test]
        fn a_frame_vouches_for_none_behind_it(header in header(), beyond in 1..1_000u64) {
            prop_assume!(header.lsn.to_u64() < u64::MAX - 1_000);
            let known_synced = Lsn::from_u64(header.lsn.to_u64() + beyond);
            let bytes = FrameHeader { known_synced, ..header }.encode(5);
            prop_assert_eq!(FrameHeader::decode(&bytes, header.lsn, 5), Err(CorruptReason::Field.into()));
        }

        #[test]
        fn another_salt_or_position_is_no_header(header in header(), salt: u32, other in 1..u32::MAX) {
            let bytes = header.encode(salt);
            prop_assert_eq!(FrameHeader::decode(&bytes, header.lsn, salt ^ other), Ok(None));
            let elsewhere = Lsn::from_u64(header.lsn.to_u64() ^ u64::from(other));
            prop_assert_eq!(FrameHeader::decode(&bytes, elsewhere, salt), Ok(None));
        }

        #[test]
        fn a_flipped_bit_makes_a_header_invalid(header in header(), bit in 0..FRAME_HEADER * 8) {
            let mut bytes = header.encode(5);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(FrameHeader::decode(&bytes, header.lsn, 5), Ok(None));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>, lsn: u64, salt: u32) {
            prop_assert_eq!(FrameHeader::decode(&bytes, Lsn::from_u64(lsn), salt), Ok(None));
        }

        #[test]
        fn parts_have_the_checksum_of_the_whole(bytes: Vec<u8>, at: prop::sample::Index) {
            let (left, right) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(payload_crc(&[left, right]), payload_crc(&[&bytes]));
        }
    }

    #[test]
    fn an_unknown_kind_or_flag_with_a_right_checksum_is_a_newer_version_s() {
        let lsn = Lsn::new(3, 4096);
        let decoded = |word: [u8; 4]| {
            let (payload_bytes, kind, known_synced) = (0, Kind::SyncMark, Lsn::ZERO);
            let header = FrameHeader { payload_bytes, kind, lsn, known_synced, payload_crc: 0 };
            let mut bytes = header.encode_salted(5);
            bytes[4..8].copy_from_slice(&word);
            let sums = header.checksums(&bytes);
            bytes[SUMS_AT..].copy_from_slice(&sums);
            FrameHeader::decode(&bytes, lsn, 5)
        };
        assert!(matches!(decoded([3, 0, 0, 0]), Ok(Some(_))));
        let kind = Unreadable::unsupported("journal frame kind", 4_u32, 3_u32);
        assert_eq!(decoded([4, 0, 0, 0]), Err(kind));
        let flags = Unreadable::unsupported("journal frame flags", 1_u32 << 16, 0_u32);
        assert_eq!(decoded([1, 1, 0, 0]), Err(flags));
        assert_eq!(decoded([0, 0, 0, 0]), Err(CorruptReason::Field.into()));
    }

    #[test]
    fn frames_are_multiples_of_eight() {
        assert_eq!(frame_bytes(0), Some(32));
        assert_eq!(frame_bytes(1), Some(40));
        assert_eq!(frame_bytes(8), Some(u64::from(NEXT_BYTES)));
        assert_eq!(frame_bytes(u64::MAX), None);
    }
}
