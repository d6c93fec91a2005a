//! The buffer of an open batch. One writer appends, and many readers read the published bytes.
//!
//! ```text
//! 0          prefix              published            capacity
//! | reserved | records, readable | spare: the writer's | end
//! ```
//!
//! A1. Bytes in `[prefix, published)` were written before `published` was stored with `Release`,
//!     and are never written again. `published` never falls.
//! A2. Only the one [`AppendWriter`] touches bytes in `[published, capacity)`.
//! A3. `seal` writes bytes in `[0, prefix)` once, before it stores `sealed` with `Release`. No
//!     reader reads them before that.
//! A4. Nothing is written after `seal`: the spare part is empty from then on.
//! A5. The memory comes as a `Box<[u8]>`. The last handle frees it, or hands it back as one. So
//!     every byte is initialised for as long as a handle lives.
//!
//! A shared slice made by a reader covers `[prefix, published)`, or the whole once sealed. So it
//! never overlaps the writer's exclusive slice, and nothing it covers changes: there is neither
//! aliasing of `&mut` nor a data race. All slices come from one raw pointer and cover exactly their
//! range.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use crate::sync::Accesses;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::types::planted;

/// Creates a buffer in `memory`, whose content does not matter. Reserves the first `prefix` bytes
/// for `seal`.
///
/// # Panics
///
/// Panics if `prefix` is larger than the memory.
pub(crate) fn append_buffer(memory: Box<[u8]>, prefix: usize) -> (AppendWriter, AppendReader) {
    let capacity = memory.len();
    assert!(prefix <= capacity, "the reserved prefix does not fit into the buffer");
    let bytes = Box::into_raw(memory);
    let shared = Arc::new(Shared {
        // SAFETY: `Box::into_raw` never returns null.
        start: unsafe { NonNull::new_unchecked(bytes.cast()) },
        capacity,
        prefix,
        published: AtomicUsize::new(prefix),
        sealed: AtomicBool::new(false),
        accesses: Accesses::new(),
    });
    let reader = AppendReader { shared: Arc::clone(&shared) };
    (AppendWriter { shared, published: prefix, sealed: false }, reader)
}

struct Shared {
    start: NonNull<u8>,
    capacity: usize,
    prefix: usize,
    /// `prefix <= published <= capacity`
    published: AtomicUsize,
    sealed: AtomicBool,
    accesses: Accesses,
}

// SAFETY: this value owns the memory behind `start` and frees it once, in `drop`. Bytes are not
// bound to a thread.
unsafe impl Send for Shared {}
// SAFETY: A1 to A4 keep everything that shared access can reach disjoint.
unsafe impl Sync for Shared {}

impl Shared {
    /// Returns the bytes from `from` to `to`.
    ///
    /// # Safety
    ///
    /// `from <= to <= capacity`, and no thread writes to the range while the slice lives.
    unsafe fn slice(&self, from: usize, to: usize) -> &[u8] {
        self.accesses.read(from, to);
        // SAFETY: the range is inside the one allocation, which lives as long as `self` and is
        // initialised (A5). The caller promises the rest.
        unsafe {
            slice::from_raw_parts(self.start.as_ptr().add(from).cast_const(), to.wrapping_sub(from))
        }
    }
}

impl Shared {
    /// Takes the memory out, to reuse or free it.
    ///
    /// # Safety
    ///
    /// Must be called once, by the owner of the last handle, which does not use `self` afterwards.
    unsafe fn take_memory(&mut self) -> Box<[u8]> {
        let bytes = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.capacity);
        // SAFETY: pointer and length came from `Box::into_raw` of a boxed slice in `append_buffer`.
        // The caller promises that nothing else refers to it.
        unsafe { Box::from_raw(bytes) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the last handle is gone. `AppendReader::reclaim` does not drop the value.
        drop(unsafe { self.take_memory() });
    }
}

/// The only writing end of an open batch's buffer.
pub(crate) struct AppendWriter {
    shared: Arc<Shared>,
    /// The same value as in `shared`, readable without an atomic load.
    published: usize,
    sealed: bool,
}

impl AppendWriter {
    /// Returns the unpublished part, into which the caller encodes. Empty once sealed.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        let (start, len) = (self.published, self.spare_len());
        self.shared.accesses.write(start, start.wrapping_add(len));
        // SAFETY: [published, published + len) is inside the allocation and initialised (A5). No
        // reader reaches it (A2), or it is empty (A4). There is one writer, and `&mut self`
        // excludes other slices of it.
        unsafe { slice::from_raw_parts_mut(self.shared.start.as_ptr().add(start), len) }
    }

    /// Returns the first `len` bytes of the spare part, which the caller has just encoded.
    ///
    /// # Panics
    ///
    /// Panics if the spare part is shorter.
    #[inline]
    pub(crate) fn pending(&self, len: usize) -> &[u8] {
        assert!(len <= self.spare_len(), "more bytes pending than there is room");
        // SAFETY: inside the allocation as asserted. Only this writer could write to it (A2), and
        // it is borrowed while the slice lives.
        unsafe { self.shared.slice(self.published, self.published.wrapping_add(len)) }
    }

    /// Makes the first `len` bytes of the spare part visible to readers.
    ///
    /// # Panics
    ///
    /// Panics if the spare part is shorter.
    #[inline]
    pub(crate) fn publish(&mut self, len: usize) {
        assert!(len <= self.spare_len(), "more bytes published than there is room");
        self.published = self.published.wrapping_add(len);
        // Release: a reader that loads the new length sees the encoded bytes (A1).
        let relaxed = planted("publish_relaxed");
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        self.shared.published.store(self.published, order);
    }

    /// Fills the reserved prefix. Nothing can be written afterwards.
    ///
    /// # Panics
    ///
    /// Panics if the buffer is already sealed, or if `prefix` has another length than the reserved
    /// part.
    pub(crate) fn seal(&mut self, prefix: &[u8]) {
        assert!(!self.sealed, "a buffer can be sealed only once");
        assert_eq!(prefix.len(), self.shared.prefix, "the prefix fills what is reserved for it");
        if planted("sealed_before_prefix") {
            self.shared.sealed.store(true, Ordering::Release);
        }
        self.shared.accesses.write(0, prefix.len());
        // SAFETY: the reserved bytes are inside the allocation and as many as `prefix` has. No
        // slice covers them before `sealed` is set (A3), so the two do not overlap either.
        unsafe {
            ptr::copy_nonoverlapping(prefix.as_ptr(), self.shared.start.as_ptr(), prefix.len());
        }
        self.sealed = true;
        // Release: a reader that sees the flag sees the prefix (A3).
        self.shared.sealed.store(true, Ordering::Release);
    }

    /// Returns how many bytes can still be written.
    #[inline]
    pub(crate) fn spare_len(&self) -> usize {
        if self.sealed { 0 } else { self.shared.capacity.wrapping_sub(self.published) }
    }
}

impl fmt::Debug for AppendWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendWriter")
            .field("len", &self.published)
            .field("capacity", &self.shared.capacity)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

/// A reading end of an open batch's buffer. Keeps the buffer alive.
#[derive(Clone)]
pub(crate) struct AppendReader {
    shared: Arc<Shared>,
}

impl AppendReader {
    /// Returns the bytes published so far, without the prefix. They stay valid and unchanged.
    #[inline]
    pub(crate) fn published(&self) -> &[u8] {
        let end = self.shared.published.load(Ordering::Acquire);
        // SAFETY: prefix <= published <= capacity; these bytes are never written again (A1).
        unsafe { self.shared.slice(self.shared.prefix, end) }
    }

    /// Returns the memory if this is the last handle.
    pub(crate) fn reclaim(self) -> Option<Box<[u8]>> {
        let mut shared = ManuallyDrop::new(Arc::into_inner(self.shared)?);
        // SAFETY: this was the last handle, and `ManuallyDrop` keeps `drop` from taking it again.
        Some(unsafe { shared.take_memory() })
    }

    /// Returns the size of the buffer in bytes, prefix included.
    pub(crate) fn capacity(&self) -> usize {
        self.shared.capacity
    }

    /// Returns how many bytes are published so far, without the prefix.
    #[inline]
    pub(crate) fn published_len(&self) -> usize {
        self.shared.published.load(Ordering::Acquire).wrapping_sub(self.shared.prefix)
    }

    /// Returns the prefix and the published bytes if the buffer is sealed.
    pub(crate) fn sealed(&self) -> Option<&[u8]> {
        if !self.shared.sealed.load(Ordering::Acquire) {
            return None;
        }
        let end = self.shared.published.load(Ordering::Acquire);
        // SAFETY: end <= capacity. The prefix was written before the flag was set (A3), the rest
        // was published (A1), and nothing is written any more (A4).
        Some(unsafe { self.shared.slice(0, end) })
    }
}

impl fmt::Debug for AppendReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendReader")
            .field("published_len", &self.published_len())
            .field("sealed", &self.shared.sealed.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn zeroed(capacity: usize, prefix: usize) -> (AppendWriter, AppendReader) {
        append_buffer(vec![0; capacity].into(), prefix)
    }

    fn put(writer: &mut AppendWriter, bytes: &[u8]) {
        writer.spare()[..bytes.len()].copy_from_slice(bytes);
        writer.publish(bytes.len());
    }

    #[test]
    fn readers_see_what_is_published_and_no_more() {
        let (mut writer, reader) = zeroed(16, 4);
        assert_eq!((reader.capacity(), writer.spare().len()), (16, 12));
        assert_eq!(reader.published(), b"");
        writer.spare()[..3].copy_from_slice(b"abc");
        assert_eq!(writer.pending(3), b"abc");
        assert_eq!(reader.published(), b"");
        writer.publish(3);
        assert_eq!(reader.published(), b"abc");
        let held = reader.published();
        put(&mut writer, b"de");
        assert_eq!(held, b"abc", "a slice taken earlier stays as it was");
        assert_eq!((reader.published(), reader.published_len()), (b"abcde".as_slice(), 5));
    }

    #[test]
    fn a_sealed_buffer_shows_its_prefix_and_rejects_writes() {
        let (mut writer, reader) = zeroed(16, 4);
        put(&mut writer, b"xyz");
        assert_eq!(reader.sealed(), None);
        let held = reader.published();
        writer.seal(b"head");
        assert_eq!(held, b"xyz");
        assert_eq!(reader.sealed(), Some(b"headxyz".as_slice()));
        assert_eq!(writer.spare(), b"");
        drop(writer);
        assert_eq!(reader.clone().sealed(), Some(b"headxyz".as_slice()));
    }

    #[test]
    fn the_last_handle_gives_the_memory_back() {
        let (mut writer, reader) = zeroed(8, 4);
        put(&mut writer, b"xy");
        let other = reader.clone();
        assert!(other.reclaim().is_none(), "the others still use it");
        drop(writer);
        let memory = reader.reclaim().unwrap();
        assert_eq!(&*memory, b"\0\0\0\0xy\0\0");
        let (_writer, reader) = append_buffer(memory, 4);
        assert_eq!(reader.published(), b"", "what it held before is not published");
    }

    #[test]
    fn empty_buffers_work() {
        let (mut writer, reader) = zeroed(0, 0);
        assert!(writer.spare().is_empty());
        writer.publish(0);
        writer.seal(b"");
        assert_eq!(reader.sealed(), Some(b"".as_slice()));
    }

    #[test]
    #[should_panic(expected = "more bytes published than there is room")]
    fn publishing_more_than_the_spare_part_panics() {
        let (mut writer, _reader) = zeroed(8, 4);
        writer.publish(5);
    }

    #[test]
    #[should_panic(expected = "more bytes published than there is room")]
    fn publishing_after_the_seal_panics() {
        let (mut writer, _reader) = zeroed(8, 4);
        writer.seal(b"head");
        writer.publish(1);
    }

    #[test]
    #[should_panic(expected = "a buffer can be sealed only once")]
    fn sealing_twice_panics() {
        let (mut writer, _reader) = zeroed(8, 4);
        writer.seal(b"head");
        writer.seal(b"head");
    }

    #[test]
    fn a_reader_on_another_thread_sees_whole_appends_in_order() {
        let rounds: u8 = if cfg!(miri) { 20 } else { 200 };
        let (mut writer, reader) = zeroed(4 + 4 * usize::from(rounds), 4);
        let reading = thread::spawn(move || {
            let mut seen = 0;
            loop {
                let published = reader.published();
                assert!(published.len() >= seen && published.len() % 4 == 0);
                for (index, bytes) in published.chunks(4).enumerate() {
                    assert_eq!(bytes, [index as u8; 4]);
                }
                seen = published.len();
                if let Some(sealed) = reader.sealed() {
                    assert_eq!(&sealed[..4], b"head");
                    return sealed.len();
                }
                thread::yield_now();
            }
        });
        for round in 0..rounds {
            put(&mut writer, &[round; 4]);
        }
        writer.seal(b"head");
        assert_eq!(reading.join().unwrap(), 4 + 4 * usize::from(rounds));
    }
}
