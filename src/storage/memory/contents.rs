//! The bytes of one file in memory, and which of them would survive a crash.
//!
//! C1. `now` is what the process sees. `durable` with all of `pending` applied in order gives the
//!     same bytes and the same length.
//! C2. `sync` moves all of `pending` into `durable`. `write_durable` moves only its own bytes and
//!     earlier changes of the length. It cuts durable bytes out of earlier pending writes, so no
//!     crash can bring back the bytes that they replaced.
//! C3. Writes that were pending when a sync failed stay pending, whatever a later sync reports.
//!     Linux does the same: it marks pages as clean after writing them back has failed.
//! C4. If a sync of the whole storage lost bytes of a file, each handle that was open then reports it
//!     at its next sync, as Linux does. So does a later handle if none has reported it yet.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::sync::Calls;

/// A file without its name.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) id: u64,
    pub(super) contents: Mutex<Contents>,
    /// Each call that reads or changes bytes enters it before it takes any lock.
    pub(super) calls: Calls,
}

impl Inode {
    pub(super) fn new(id: u64, keeps_history: bool, space: Arc<Space>) -> Self {
        let history = keeps_history.then(History::default);
        let losses = Losses::default();
        let contents = Contents { now: Vec::new(), reserved: 0, history, losses, space };
        Self { id, contents: Mutex::new(contents), calls: Calls::new() }
    }

    /// Returns a copy that shares only the given account of space.
    pub(super) fn fork(&self, space: Arc<Space>) -> Self {
        let contents = self.contents.lock();
        space.take_up_to(contents.allocated() as u64, true);
        let copy = Contents {
            now: contents.now.clone(),
            reserved: contents.reserved,
            history: contents.history.clone(),
            // The next process may not learn of them: the system forgets them with the file.
            losses: Losses::default(),
            space,
        };
        Self { id: self.id, contents: Mutex::new(copy), calls: Calls::new() }
    }
}

/// The limit of stored bytes and the number stored.
#[derive(Debug)]
pub(super) struct Space {
    used: AtomicU64,
    capacity: AtomicU64,
}

impl Space {
    pub(super) fn new(capacity: u64) -> Self {
        Self { used: AtomicU64::new(0), capacity: AtomicU64::new(capacity) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity().saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes as much of `wanted` as is free, or all of it if `always`. Returns the taken amount.
    fn take_up_to(&self, wanted: u64, always: bool) -> u64 {
        let mut granted = 0;
        let take = |used: u64| {
            let free = self.capacity().saturating_sub(used);
            granted = if always { wanted } else { wanted.min(free) };
            Some(used.saturating_add(granted))
        };
        // The closure always returns a value, so this cannot fail.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        granted
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Contents {
    pub(super) now: Vec<u8>,
    /// Space reserved by `preallocate`, counted from the first byte.
    reserved: usize,
    pub(super) history: Option<History>,
    pub(super) losses: Losses,
    space: Arc<Space>,
}

/// How often a sync of the whole storage lost bytes of the file (C4).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    count: u64,
    /// How many of them a handle has reported.
    reported: u64,
}

impl Losses {
    /// Returns how many of them a handle that is opened now need not report.
    pub(super) fn seen_at_opening(self) -> u64 {
        self.reported
    }

    /// Reports those that a handle has not seen.
    pub(super) fn report(&mut self, seen: &AtomicU64) -> io::Result<()> {
        self.reported = self.count;
        if seen.swap(self.count, Ordering::Relaxed) == self.count {
            return Ok(());
        }
        Err(io::Error::other("an earlier sync of the whole storage lost bytes of this file"))
    }
}

/// The bytes known to be on the disk, and the changes that may be.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write {
        position: usize,
        bytes: Box<[u8]>,
        /// Set when the sync that should have made it durable failed (C3).
        doomed: bool,
    },
    Resize(usize),
}

impl Contents {
    /// Writes all bytes, or as many as there is space for.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let (position, end) = span(position, bytes.len())?;
        let granted = self.allocate(end);
        let fits = bytes.len().min(granted.saturating_sub(position));
        let stored = &bytes[..fits];
        if !stored.is_empty() {
            put(&mut self.now, position, stored)?;
            if let Some(history) = &mut self.history {
                let bytes = stored.into();
                history.pending.push(Change::Write { position, bytes, doomed: false });
            }
        }
        self.give_back_above(granted);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn write_durable(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(position, bytes)?;
        let (position, _) = span(position, bytes.len())?;
        let Some(history) = self.history.as_mut().filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        history.pending.pop(); // the write itself
        history.settle_lengths();
        history.make_durable(position, bytes)
    }

    pub(super) fn resize(&mut self, len: u64) -> io::Result<()> {
        let (_, len) = span(len, 0)?;
        if len > self.now.len() {
            let granted = self.allocate(len);
            if granted >= len {
                extend(&mut self.now, len)?;
            }
            self.give_back_above(granted);
            if granted < len {
                return Err(io::ErrorKind::StorageFull.into());
            }
        } else {
            let before = self.allocated();
            self.now.truncate(len);
            // As on a real file, truncating also releases the space reserved beyond the end.
            self.reserved = 0;
            self.give_back_above(before);
        }
        if let Some(history) = &mut self.history {
            history.pending.push(Change::Resize(len));
        }
        Ok(())
    }

    pub(super) fn preallocate(&mut self, len: u64) -> io::Result<()> {
        let (_, len) = span(len, 0)?;
        let granted = self.allocate(len);
        if granted < len {
            self.give_back_above(granted);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.reserved = self.reserved.max(len);
        Ok(())
    }

    pub(super) fn trim(&mut self) {
        let before = self.allocated();
        self.reserved = 0;
        self.give_back_above(before);
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        history.settle_lengths();
        let mut writes = std::mem::take(&mut history.pending).into_iter();
        while let Some(change) = writes.next() {
            match change {
                Change::Write { position, bytes, doomed: false } => {
                    if let Err(e) = history.make_durable(position, &bytes) {
                        history.pending.push(Change::Write { position, bytes, doomed: false });
                        history.pending.extend(writes);
                        return Err(e);
                    }
                }
                change => history.pending.push(change),
            }
        }
        extend(&mut history.durable, self.now.len())
    }

    /// Applies the effect of a failing sync of the whole storage (C3, C4).
    pub(super) fn lose_unsynced(&mut self) {
        self.losses.count += 1;
        self.fail_sync();
    }

    /// Returns whether a sync would write anything.
    pub(super) fn is_dirty(&self) -> bool {
        self.history.as_ref().is_some_and(|history| !history.pending.is_empty())
    }

    /// Applies the effect of a failing sync (C3).
    pub(super) fn fail_sync(&mut self) {
        let pending = self.history.iter_mut().flat_map(|history| &mut history.pending);
        for change in pending {
            if let Change::Write { doomed, .. } = change {
                *doomed = true;
            }
        }
    }

    /// Sets the state that a crash left: these bytes, all of them durable.
    pub(super) fn settle(&mut self, bytes: Vec<u8>) {
        let before = self.allocated() as u64;
        self.reserved = 0;
        self.history = Some(History { durable: bytes.clone(), pending: Vec::new() });
        self.now = bytes;
        self.space.give_back(before);
        self.space.take_up_to(self.allocated() as u64, true);
    }

    pub(super) fn allocated(&self) -> usize {
        self.now.len().max(self.reserved)
    }

    /// Takes space for the first `end` bytes. Returns how far the space reaches.
    fn allocate(&mut self, end: usize) -> usize {
        let allocated = self.allocated();
        let wanted = end.saturating_sub(allocated);
        let granted = self.space.take_up_to(wanted as u64, false) as usize;
        allocated.saturating_add(granted)
    }

    /// Releases the space that was taken up to `end` and is not in use.
    fn give_back_above(&self, end: usize) {
        self.space.give_back(end.saturating_sub(self.allocated()) as u64);
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.space.give_back(self.allocated() as u64);
    }
}

impl History {
    /// Makes the length durable, but not the writes. Bytes that a resize cut off disappear from
    /// both views.
    fn settle_lengths(&mut self) {
        let mut last = None;
        let mut limit = usize::MAX;
        let mut writes = Vec::with_capacity(self.pending.len());
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            match change {
                Change::Resize(len) => {
                    last = last.or(Some(len));
                    limit = limit.min(len);
                }
                Change::Write { position, bytes, doomed } => {
                    let keep = limit.saturating_sub(position).min(bytes.len());
                    if keep > 0 {
                        let bytes = bytes[..keep].into();
                        writes.push(Change::Write { position, bytes, doomed });
                    }
                }
            }
        }
        writes.reverse();
        self.pending = writes;
        self.durable.truncate(limit);
        if let Some(len) = last.filter(|len| *len > self.durable.len()) {
            self.durable.resize(len, 0);
        }
    }

    fn make_durable(&mut self, position: usize, bytes: &[u8]) -> io::Result<()> {
        put(&mut self.durable, position, bytes)?;
        let end = position + bytes.len();
        let pending = std::mem::take(&mut self.pending);
        self.pending =
            pending.into_iter().flat_map(|change| cut_out(change, position, end)).collect();
        Ok(())
    }
}

/// Returns the rest of a pending change outside of a range that has become durable.
fn cut_out(change: Change, start: usize, end: usize) -> impl Iterator<Item = Change> {
    let parts = match change {
        Change::Resize(_) => [Some(change), None],
        Change::Write { position, bytes, doomed } => {
            let write_end = position + bytes.len();
            if write_end <= start || end <= position {
                [Some(Change::Write { position, bytes, doomed }), None]
            } else {
                let part = |from: usize, to: usize| {
                    (from < to).then(|| {
                        let bytes = bytes[from - position..to - position].into();
                        Change::Write { position: from, bytes, doomed }
                    })
                };
                [part(position, start), part(end, write_end)]
            }
        }
    };
    parts.into_iter().flatten()
}

/// Returns a range of positions in memory.
fn span(position: u64, len: usize) -> io::Result<(usize, usize)> {
    let end = position.checked_add(len as u64).filter(|end| isize::try_from(*end).is_ok());
    let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok((position as usize, end as usize))
}

/// Copies bytes to a position. Fills with zeros up to a position beyond the end.
fn put(into: &mut Vec<u8>, position: usize, bytes: &[u8]) -> io::Result<()> {
    extend(into, position + bytes.len())?;
    into[position..position + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// Appends zeros up to a length. Reports a full disk if there is no memory for that length.
fn extend(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    if let Some(more) = len.checked_sub(bytes.len()) {
        bytes.try_reserve(more).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        bytes.resize(len, 0);
    }
    Ok(())
}
