//! Checksums over all bytes of a segment: of the whole file, and of each block of 64 KiB.
//!
//! Kafka's CRC does not cover base offset, length, leader epoch and magic of a batch, and cannot tell whether
//! the batch belongs here. So the checkpoint keeps a CRC-32 of the whole file, computed while the file is
//! written. `<base offset>.sums` keeps one CRC-32 of each block:
//!
//! ```text
//! offset size type  field
//!      0    8       magic "GLSUMS\0\0"
//!      8    4 u32   version, 1
//!     12    8 u64   length of the segment when this header was written
//!     20    4 u32   CRC-32 of what was behind the last full block then, 0 if nothing was
//!     24    4 u32   CRC-32 of bytes 0..24
//!     28    4 u32   CRC-32 of block 0, bytes 0..65,536 of the segment
//!     ..            one more for each full block; what follows those means nothing
//! ```
//!
//! Big-endian. Entries of full blocks never change. The header is written again when entries are added. The
//! file is neither synced nor trusted by itself: its sums joined together must give the checkpoint's
//! checksum, which decides. The sum of the bytes behind the last full block follows from both, so a segment
//! of less than one block has no such file. A missing, torn or foreign file is rebuilt from the segment, if
//! the segment has the checkpoint's checksum.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::ops::Range;

use crc32fast::Hasher;

/// The size of a block. The last block of a segment may be smaller.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

const MAGIC: &[u8; 8] = b"GLSUMS\0\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 28;
const CRC_AT: usize = 24;
const ENTRY_BYTES: usize = 4;

/// The sums of the first bytes of a segment. They grow with the segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    /// One for each full block.
    blocks: Vec<u32>,
    /// Over all full blocks together.
    full: Hasher,
    /// Over the bytes behind the last full block.
    tail: Hasher,
    len: u64,
}

impl Sums {
    /// Creates the sums of no bytes.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES.saturating_sub(self.tail_len()) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.tail.update(now);
            self.len = self.len.saturating_add(now.len() as u64);
            bytes = later;
            if self.tail_len() == 0 {
                let tail = std::mem::take(&mut self.tail);
                self.full.combine(&tail);
                self.blocks.push(tail.finalize());
            }
        }
    }

    /// Returns the number of bytes added.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    const fn tail_len(&self) -> u64 {
        self.len % BLOCK_BYTES
    }

    /// Returns the CRC-32 of all bytes.
    pub(crate) fn whole(&self) -> u32 {
        let mut whole = self.full.clone();
        whole.combine(&self.tail);
        whole.finalize()
    }

    /// Returns the sums of the full blocks.
    pub(crate) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Returns the bytes that block `index` covers, and their sum; `None` behind the last byte.
    pub(crate) fn block(&self, index: u64) -> Option<(Range<u64>, u32)> {
        let start = index.checked_mul(BLOCK_BYTES).filter(|start| *start < self.len)?;
        let end = start.saturating_add(BLOCK_BYTES).min(self.len);
        let sum = self.blocks.get(usize::try_from(index).ok()?).copied();
        Some((start..end, sum.unwrap_or_else(|| self.tail.clone().finalize())))
    }

    /// Restores the sums of `len` bytes with the checksum `whole`, from the known sums of the full blocks.
    /// Returns `None` if there are too few of them, or they contradict `whole`.
    pub(crate) fn resume(blocks: &[u32], len: u64, whole: u32) -> Option<Self> {
        let blocks = blocks.get(..usize::try_from(len / BLOCK_BYTES).ok()?)?.to_vec();
        let mut full = Hasher::new();
        for sum in &blocks {
            full.combine(&Hasher::new_with_initial_len(*sum, BLOCK_BYTES));
        }
        // The checksum of two parts is that of the first, shifted by the length of the second, xor that of
        // the second.
        let tail_len = len % BLOCK_BYTES;
        let mut moved = full.clone();
        moved.combine(&Hasher::new_with_initial_len(0, tail_len));
        let tail = moved.finalize() ^ whole;
        if tail_len == 0 && tail != 0 {
            return None;
        }
        let tail = Hasher::new_with_initial_len(tail, tail_len);
        Some(Self { blocks, full, tail, len })
    }

    /// Returns whether the file has the sums of some of the first blocks, and no others.
    pub(crate) fn continue_file(&self, file: &[u8]) -> bool {
        let entries = file.get(HEADER_BYTES..).unwrap_or_default().as_chunks::<ENTRY_BYTES>().0;
        let mut both = entries.iter().zip(&self.blocks);
        file.starts_with(MAGIC)
            && entries.len() <= self.blocks.len()
            && both.all(|(entry, sum)| u32::from_be_bytes(*entry) == *sum)
    }

    /// Encodes the header of the file.
    pub(crate) fn encode_header(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let tail = self.tail.clone().finalize();
        let parts: [&[u8]; 4] =
            [MAGIC, &VERSION.to_be_bytes(), &self.len.to_be_bytes(), &tail.to_be_bytes()];
        let crc_of = parts.concat();
        let crc = crc32fast::hash(&crc_of).to_be_bytes();
        for (to, from) in out.iter_mut().zip(crc_of.iter().chain(&crc)) {
            *to = *from;
        }
        out
    }

    /// Encodes the entries from block `first` on. Also returns their position in the file.
    pub(crate) fn encode_entries(&self, first: usize) -> (Vec<u8>, u64) {
        let entries = self.blocks.get(first..).unwrap_or_default();
        let bytes = entries.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        (bytes, first.saturating_mul(ENTRY_BYTES).saturating_add(HEADER_BYTES) as u64)
    }

    /// Returns the length of the file for a segment of `len` bytes; 0 if it has no file.
    pub(crate) fn file_len(len: u64) -> u64 {
        match len / BLOCK_BYTES {
            0 => 0,
            blocks => blocks.saturating_mul(ENTRY_BYTES as u64).saturating_add(HEADER_BYTES as u64),
        }
    }

    /// Decodes the file of a segment of `len` bytes with the checksum `whole`. Returns `None` if the file
    /// does not belong to the segment.
    pub(crate) fn decode(file: &[u8], len: u64, whole: u32) -> Option<Decoded> {
        if len < BLOCK_BYTES {
            return Self::resume(&[], len, whole).map(|sums| Decoded { sums, proven: true });
        }
        let (header, entries) = file.split_at_checked(HEADER_BYTES)?;
        let (covered, crc) = header.split_at_checked(CRC_AT)?;
        if crc32fast::hash(covered).to_be_bytes() != crc || !covered.starts_with(MAGIC) {
            return None;
        }
        let version: [u8; 4] = covered.get(8..12)?.try_into().ok()?;
        let written: [u8; 8] = covered.get(12..20)?.try_into().ok()?;
        let tail: [u8; 4] = covered.get(20..24)?.try_into().ok()?;
        if u32::from_be_bytes(version) != VERSION {
            return None;
        }
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        let blocks: Vec<u32> = entries.iter().map(|entry| u32::from_be_bytes(*entry)).collect();
        let sums = Self::resume(&blocks, len, whole)?;
        let same = u64::from_be_bytes(written) == len
            && u32::from_be_bytes(tail) == sums.tail.clone().finalize();
        let proven = same || sums.tail_len() == 0;
        Some(Decoded { sums, proven })
    }
}

/// The contents of a file of sums.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    pub(crate) sums: Sums,
    /// Whether the checksum of the segment proves all sums. Otherwise they are right only if the bytes behind
    /// the last full block have the sum that follows from them.
    pub(crate) proven: bool,
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: usize = BLOCK_BYTES as usize;

    fn data(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
    }

    fn sums_of(data: &[u8]) -> Sums {
        let mut sums = Sums::new();
        sums.push(data);
        sums
    }

    fn file_of(sums: &Sums) -> Vec<u8> {
        let (entries, at) = sums.encode_entries(0);
        assert_eq!(at, HEADER_BYTES as u64);
        [&sums.encode_header()[..], &entries].concat()
    }

    /// The file of a segment that is written to lags behind.
    #[test]
    fn a_file_that_lags_behind_has_the_first_sums() {
        let mut sums = Sums::new();
        let mut files = Vec::new();
        for block in 0..3_u8 {
            sums.push(&vec![block; BLOCK_BYTES as usize]);
            files.push([&sums.encode_header()[..], &sums.encode_entries(0).0].concat());
        }
        assert!(files.iter().all(|file| sums.continue_file(file)));
        files[1][31] ^= 1;
        assert!(!sums.continue_file(&files[1]));
        assert!(!Sums::new().continue_file(&files[0]) && !sums.continue_file(&[]));
    }

    #[test]
    fn sums_of_another_kind_or_version_are_refused() {
        let data = data(2 * BLOCK + 5);
        let sums = sums_of(&data);
        let decode = |file: &[u8]| Sums::decode(file, data.len() as u64, sums.whole());
        let file = file_of(&sums);
        assert!(decode(&file).is_some());
        for at in [0, 11] {
            let mut other = file.clone();
            other[at] ^= 1;
            let crc = crc32fast::hash(&other[..CRC_AT]);
            other[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
            assert!(decode(&other).is_none(), "byte {at}");
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_sums_of_the_whole() {
        let data = data(3 * BLOCK + 100);
        let mut sums = Sums::new();
        for piece in data.chunks(10_007) {
            sums.push(piece);
        }
        assert_eq!((sums.len(), sums.whole()), (data.len() as u64, crc32fast::hash(&data)));
        for index in 0..4 {
            let (range, sum) = sums.block(index).unwrap();
            assert_eq!(sum, crc32fast::hash(&data[range.start as usize..range.end as usize]));
        }
        assert_eq!(sums.block(3).unwrap().0, 3 * BLOCK_BYTES..3 * BLOCK_BYTES + 100);
        assert_eq!(sums.block(4), None);
        assert_eq!(Sums::new().block(0), None);
    }

    #[test]
    fn a_file_is_trusted_if_it_gives_the_checksum() {
        for len in [BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK - 1] {
            let data = data(len);
            let sums = sums_of(&data);
            let file = file_of(&sums);
            assert_eq!(file.len() as u64, Sums::file_len(len as u64));
            let decoded = Sums::decode(&file, len as u64, sums.whole()).unwrap();
            assert!(decoded.proven);
            assert_eq!(
                (decoded.sums.whole(), decoded.sums.blocks()),
                (sums.whole(), sums.blocks())
            );
            for at in 0..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1;
                let decoded = Sums::decode(&changed, len as u64, sums.whole());
                assert!(decoded.is_none_or(|decoded| !decoded.proven), "byte {at}");
                assert!(
                    Sums::decode(&file[..at], len as u64, sums.whole()).is_none(),
                    "cut at {at}"
                );
            }
            let foreign = Sums::decode(&file, len as u64, sums.whole() ^ 1);
            assert!(foreign.is_none_or(|decoded| !decoded.proven));
        }
    }

    #[test]
    fn a_longer_file_gives_the_sums_of_an_earlier_length() {
        let data = data(4 * BLOCK + 7);
        let longer = file_of(&sums_of(&data));
        let before = sums_of(&data[..2 * BLOCK + 500]);
        let mut decoded = Sums::decode(&longer, before.len(), before.whole()).unwrap();
        assert!(!decoded.proven, "only the bytes behind the last full block can prove it");
        assert_eq!(decoded.sums.block(2), before.block(2));
        decoded.sums.push(&data[2 * BLOCK + 500..]);
        assert_eq!(file_of(&decoded.sums), longer);
    }

    #[test]
    fn less_than_a_block_needs_no_file() {
        let data = data(BLOCK - 1);
        let sums = sums_of(&data);
        assert_eq!(Sums::file_len(sums.len()), 0);
        let decoded = Sums::decode(&[], sums.len(), sums.whole()).unwrap();
        assert!(decoded.proven);
        assert_eq!(decoded.sums.block(0), sums.block(0));
        assert!(Sums::decode(&[], 0, 0).is_some());
        assert!(Sums::decode(&[], 0, 1).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            len: u64,
            whole: u32,
        ) {
            if let Some(decoded) = Sums::decode(&bytes, len, whole) {
                prop_assert_eq!(decoded.sums.whole(), whole);
                prop_assert_eq!(decoded.sums.len(), len);
            }
        }
    }
}
