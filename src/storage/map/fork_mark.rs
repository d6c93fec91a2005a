use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Distinguishes the process that made it from children forked later, without a system call. The
/// kernel gives a child an empty page in place of this one.
#[derive(Debug)]
pub(crate) struct ForkMark {
    /// `None` where the system lacks such pages. Then the mark compares process ids.
    page: Option<MmapRaw>,
    pid: u32,
}

impl ForkMark {
    pub(crate) fn new() -> Self {
        Self { page: marked_page(), pid: std::process::id() }
    }

    /// Returns whether this process is a child of the one that made the mark.
    #[inline]
    pub(crate) fn is_child(&self) -> bool {
        match &self.page {
            Some(page) => mark_in(page).load(Ordering::Relaxed) == 0,
            None => std::process::id() != self.pid,
        }
    }
}

/// Returns the first byte of the page.
#[inline]
fn mark_in(page: &MmapRaw) -> &AtomicU8 {
    // SAFETY: the pointer is that of a mapping of one byte or more, readable and writable, which
    // lives as long as `page`, whose lifetime the reference takes. All accesses are atomic. The
    // kernel replaces the page only in a forked child, before that child runs.
    unsafe { AtomicU8::from_ptr(page.as_mut_ptr()) }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn marked_page() -> Option<MmapRaw> {
    use rustix::mm::{Advice, madvise};

    let page = MmapRaw::from(MmapOptions::new().len(super::PAGE_BYTES).map_anon().ok()?);
    // SAFETY: the range is that of the private anonymous mapping made above. The advice changes
    // what a child of this process sees of it, and nothing in this process.
    unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }.ok()?;
    mark_in(&page).store(1, Ordering::Relaxed);
    Some(page)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn marked_page() -> Option<MmapRaw> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_made_it_is_no_child() {
        assert!(!ForkMark::new().is_child());
        let asked = ForkMark { page: None, pid: std::process::id() };
        assert!(!asked.is_child());
        assert!(ForkMark { pid: asked.pid + 1, ..asked }.is_child());
    }
}
