//! Memory shared with files, between threads and with forked children. The only module of the crate
//! with `unsafe` code.
//!
//! # Why a file never shrinks under a map
//!
//! Touching a mapped page that lies wholly beyond the end of its file ends the process (SIGBUS). A
//! byte that changes under a `&[u8]` is undefined behaviour. The engine's rules for its files and a
//! bound in every map prevent both:
//!
//! M1. Only segment files are mapped for reading. Bytes of a segment below its valid end are never
//!     overwritten and never truncated. Recovery truncates only above the valid end, before it
//!     makes the first map. Deleting a segment unlinks it, which leaves the map's pages in place.
//! M2. A [`ReadMap`] returns only bytes below its `readable` bound. The bound starts at a length
//!     that the storage has checked against the file. It is raised only after the bytes up to the
//!     new bound have been written. The rest of the mapped range is never touched and never part of
//!     a reference: each slice is made from a raw pointer, for exactly the requested range.
//! M3. Only journal files are mapped for writing. Each is filled to its full length before and
//!     never truncated. A [`WriteMap`] copies bytes in and out through raw pointers and forms no
//!     reference to the mapped memory. A journal file is never mapped for reading.
//! M4. The crate cannot protect against other programs that write to the folder's files while it is
//!     open. That holds for every program that maps files. The lock file and the file modes keep
//!     well-meaning programs away.
//!
//! The module of the open batch's buffer, [`AppendBuffer`](append_buffer), states its own argument.
#![expect(unsafe_code, reason = "memory maps and the buffer shared by a writer and readers")]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod append_buffer;
mod fork_mark;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use memmap2::UncheckedAdvice;
use memmap2::{MmapOptions, MmapRaw};

pub(crate) use append_buffer::{AppendReader, AppendWriter, append_buffer};
pub(crate) use fork_mark::ForkMark;

use crate::error::{Error, Result};

/// The bytes of a file, mapped or copied, for reading.
///
/// A map covers `len` bytes, which may be more than the file has yet. [`slice`](Self::slice)
/// returns only bytes that are known to have been written. The map stays valid after the file is
/// closed, renamed or removed.
///
/// ```
/// use grouplog::storage::ReadMap;
///
/// let map = ReadMap::from_bytes(b"grouplog".as_slice());
/// assert_eq!(map.slice(0..5), Some(b"group".as_slice()));
/// assert_eq!(map.slice(5..9), None);
/// ```
pub struct ReadMap {
    bytes: Bytes,
    /// Bytes below this bound may be touched: they have been written and will not change. `<= len`.
    readable: AtomicU64,
}

enum Bytes {
    Mapped(MmapRaw),
    Owned(Arc<[u8]>),
}

impl ReadMap {
    /// Creates a map of bytes in memory, for a storage without files.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let readable = AtomicU64::new(bytes.len() as u64);
        Self { bytes: Bytes::Owned(bytes), readable }
    }

    /// Maps `capacity` bytes of a file, of which the first `readable` may be touched. The storage
    /// has checked that the file has at least `readable` bytes.
    #[cfg(unix)]
    pub(crate) fn of_file(
        file: std::os::fd::BorrowedFd<'_>,
        readable: u64,
        capacity: u64,
    ) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let capacity = usize::try_from(capacity.max(readable))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::FileTooLarge))?;
        let map = MmapOptions::new().len(capacity).map_raw_read_only(file.as_raw_fd())?;
        Ok(Self { bytes: Bytes::Mapped(map), readable: AtomicU64::new(readable) })
    }

    /// Returns the number of covered bytes, written or not.
    pub fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Mapped(map) => map.len() as u64,
            Bytes::Owned(bytes) => bytes.len() as u64,
        }
    }

    /// Returns whether the map covers no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes, counted from the first, are known to have been written.
    pub fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    /// Raises the number of bytes that may be touched to `readable`, or to the covered length if
    /// that is less. Never lowers it. Returns the resulting number.
    ///
    /// The caller has written these bytes to the file, through `write_at` that returned `Ok`, and
    /// will neither change nor truncate them (M1, M2).
    pub(crate) fn extend_readable(&self, readable: u64) -> u64 {
        let readable = readable.min(self.len());
        self.readable.fetch_max(readable, Ordering::AcqRel).max(readable)
    }

    /// Returns the bytes of a range of the file, or `None` if some of them are not known to be
    /// written.
    #[inline]
    pub fn slice(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.readable() {
            return None;
        }
        // Both fit: they are at most `readable`, which never exceeds a length in memory.
        let (start, end) = (range.start as usize, range.end as usize);
        match &self.bytes {
            Bytes::Owned(bytes) => bytes.get(start..end),
            Bytes::Mapped(map) => {
                let len = end.saturating_sub(start);
                // SAFETY: start <= end <= readable <= map.len(), so the range is inside the one
                // mapping, which lives as long as `self`. Every byte of it has been written to the
                // file and is neither changed nor truncated while the map lives (M1, M2). So it can
                // be read and does not change under the reference.
                Some(unsafe { slice::from_raw_parts(map.as_ptr().add(start), len) })
            }
        }
    }
}

impl fmt::Debug for ReadMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.bytes {
            Bytes::Mapped(_) => "mapped",
            Bytes::Owned(_) => "owned",
        };
        f.debug_struct("ReadMap")
            .field("kind", &kind)
            .field("len", &self.len())
            .field("readable", &self.readable())
            .finish()
    }
}

/// The first bytes of a file as memory that can be written without a system call.
///
/// Written bytes survive a killed process at once, and a power loss after `sync_data` on the file.
/// A map may move to another thread, but two threads cannot share it: there is one writer at a
/// time. Keep it behind the lock of the structure it belongs to.
///
/// ```
/// use std::path::Path;
/// use grouplog::storage::{Memory, OpenMode, Storage};
///
/// let storage = Memory::new();
/// let file = storage.open(Path::new("a"), OpenMode::CreateNew)?;
/// file.write_at(&[0; 8], 0)?;
/// let map = file.map_write(8)?;
/// map.write(4, b"late")?;
/// let mut read = [0; 4];
/// file.read_at(&mut read, 4)?;
/// assert_eq!(&read, b"late");
/// assert!(map.write(5, b"late").is_err());
/// # Ok::<(), grouplog::Error>(())
/// ```
pub struct WriteMap {
    target: Target,
    /// Makes the type `Send` but not `Sync`: two threads cannot copy into it at once.
    one_thread: PhantomData<Cell<()>>,
}

/// The smallest page size of the systems on which this crate maps files.
const PAGE_BYTES: usize = 4096;

enum Target {
    Mapped(MmapRaw),
    Other { len: usize, target: Box<dyn MapTarget> },
}

/// The target of a [`WriteMap`] in a storage without files. The caller has checked the positions.
pub(crate) trait MapTarget: Send {
    /// Stores bytes. Cannot fail, just as a store through a map cannot.
    fn write(&self, position: usize, bytes: &[u8]);

    /// Fills `buf` from `position`.
    fn read(&self, position: usize, buf: &mut [u8]);
}

impl WriteMap {
    /// Maps the first `len` bytes of a file. The storage has checked that the file is at least that
    /// long.
    #[cfg(unix)]
    pub(crate) fn of_file(file: std::os::fd::BorrowedFd<'_>, len: u64) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let len = usize::try_from(len)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::FileTooLarge))?;
        let map = MmapOptions::new().len(len).map_raw(file.as_raw_fd())?;
        Ok(Self { target: Target::Mapped(map), one_thread: PhantomData })
    }

    /// Creates a map whose stores go to `target`.
    pub(crate) fn over(target: Box<dyn MapTarget>, len: usize) -> Self {
        Self { target: Target::Other { len, target }, one_thread: PhantomData }
    }

    /// Returns the number of covered bytes.
    pub fn len(&self) -> usize {
        match &self.target {
            Target::Mapped(map) => map.len(),
            Target::Other { len, .. } => *len,
        }
    }

    /// Returns whether the map covers no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes every page of a mapped file writable now, so later stores need not wait for the
    /// kernel.
    ///
    /// Rewrites one existing byte of each page. Does nothing in other storages.
    pub fn prefault(&self, range: Range<usize>) -> Result<()> {
        if let Target::Mapped(map) = &self.target {
            for page in (range.start..range.end.min(map.len())).step_by(PAGE_BYTES) {
                let mut byte = [0];
                self.read(page, &mut byte)?;
                self.write(page, &byte)?;
            }
        }
        Ok(())
    }

    /// Takes the pages that lie wholly in `range` out of the map. The file keeps their bytes, and the
    /// next access maps them again.
    ///
    /// A sync of the file must make each mapped page read-only, one by one, and tells all processors
    /// each time. This does it for all pages at once. Does nothing in other storages.
    pub fn release(&self, range: Range<usize>) {
        let Target::Mapped(map) = &self.target else { return };
        let start = range.start.next_multiple_of(PAGE_BYTES);
        let end = range.end.min(map.len()) & !(PAGE_BYTES - 1);
        #[cfg(target_os = "linux")]
        if start < end {
            // SAFETY: the range lies in the mapping. The map is a shared map of a file, so dropping
            // its pages loses no byte: the kernel marks them dirty and keeps them in its cache. No
            // reference to mapped bytes exists, because all accesses go through raw pointers.
            let advised = unsafe {
                map.unchecked_advise_range(
                    UncheckedAdvice::DontNeed,
                    start,
                    end.saturating_sub(start),
                )
            };
            // Only a hint: without it, the sync takes longer.
            drop(advised);
        }
        #[cfg(not(target_os = "linux"))]
        let _unused = (start, end);
    }

    /// Stores bytes at a position.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the bytes do not fit.
    #[inline]
    pub fn write(&self, position: usize, bytes: &[u8]) -> Result<()> {
        self.check(position, bytes.len())?;
        match &self.target {
            Target::Mapped(map) => {
                // SAFETY: position + bytes.len() <= map.len() was checked, so the destination is
                // inside the one mapping, which lives as long as `self`. No reference to mapped
                // memory exists (M3), so the source does not overlap it. The type is not `Sync`, so
                // no other thread copies through this map at the same time. The file is filled to
                // its length and never truncated (M3), so the pages exist.
                unsafe {
                    ptr::copy_nonoverlapping(
                        bytes.as_ptr(),
                        map.as_mut_ptr().add(position),
                        bytes.len(),
                    );
                }
            }
            Target::Other { target, .. } => target.write(position, bytes),
        }
        Ok(())
    }

    /// Fills `buf` from a position.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the map has too few bytes after `position`.
    pub fn read(&self, position: usize, buf: &mut [u8]) -> Result<()> {
        self.check(position, buf.len())?;
        match &self.target {
            Target::Mapped(map) => {
                // SAFETY: as in `write`, with source and destination swapped.
                unsafe {
                    ptr::copy_nonoverlapping(
                        map.as_ptr().add(position),
                        buf.as_mut_ptr(),
                        buf.len(),
                    );
                }
            }
            Target::Other { target, .. } => target.read(position, buf),
        }
        Ok(())
    }

    #[inline]
    fn check(&self, position: usize, len: usize) -> Result<()> {
        match position.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(Error::Misuse("a position lies beyond the end of a write map")),
        }
    }
}

impl fmt::Debug for WriteMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteMap").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_send<T: Send>() {}
    fn assert_sync<T: Sync>() {}

    #[test]
    fn maps_cross_threads() {
        assert_send::<ReadMap>();
        assert_sync::<ReadMap>();
        assert_send::<WriteMap>();
    }

    #[test]
    fn an_owned_map_gives_out_what_it_holds() {
        let map = ReadMap::from_bytes(vec![1, 2, 3]);
        assert_eq!((map.len(), map.readable()), (3, 3));
        assert_eq!(map.slice(1..3), Some([2, 3].as_slice()));
        assert_eq!(map.slice(3..3), Some([].as_slice()));
        assert_eq!(map.slice(2..4), None);
        assert_eq!(map.slice(u64::MAX..u64::MAX), None);
        #[expect(clippy::reversed_empty_ranges, reason = "the test passes reversed ranges")]
        let reversed = 2..1;
        assert_eq!(map.slice(reversed), None);
        assert_eq!(map.extend_readable(9), 3);
    }

    #[cfg(all(unix, not(miri)))]
    mod files {
        use std::io::Write;
        use std::os::fd::AsFd;

        use super::*;

        #[test]
        fn a_map_reaches_beyond_the_file_and_shows_what_is_written_later() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"first").unwrap();
            let map = ReadMap::of_file(file.as_fd(), 5, 3 * 4096).unwrap();
            assert_eq!((map.len(), map.readable()), (3 * 4096, 5));
            assert_eq!(map.slice(0..5), Some(b"first".as_slice()));
            assert_eq!(map.slice(0..6), None);
            assert_eq!(map.slice(8192..8193), None);

            file.write_all(&[7; 8192]).unwrap();
            assert_eq!(map.extend_readable(5 + 8192), 5 + 8192);
            assert_eq!(map.slice(5..5 + 8192), Some([7; 8192].as_slice()));
            assert_eq!(map.extend_readable(1), 5 + 8192, "the bound never falls");
            assert_eq!(map.slice(0..5 + 8193), None);
        }

        #[test]
        fn an_empty_file_can_be_mapped_ahead() {
            let file = tempfile::tempfile().unwrap();
            let map = ReadMap::of_file(file.as_fd(), 0, 0).unwrap();
            assert_eq!(map.slice(0..0), Some([].as_slice()));
            assert_eq!(map.slice(0..1), None);
        }

        #[test]
        fn stores_reach_the_file() {
            use std::os::unix::fs::FileExt;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[0; 100]).unwrap();
            let map = WriteMap::of_file(file.as_fd(), 100).unwrap();
            map.write(97, b"end").unwrap();
            assert!(matches!(map.write(98, b"end"), Err(Error::Misuse(_))));
            assert!(map.write(usize::MAX, b"end").is_err());
            let mut read = [0; 3];
            file.read_exact_at(&mut read, 97).unwrap();
            assert_eq!(&read, b"end");
            let mut through = [0; 4];
            map.read(96, &mut through).unwrap();
            assert_eq!(&through, b"\0end");
            assert!(map.read(97, &mut through).is_err());
        }
    }
}
