//! The write-ahead journal: one global order for every change of state.
//!
//! ```text
//! journal/0.journal  [header | frame frame ... Next]    sealed: waits for a checkpoint beyond it
//! journal/2.journal  [header | frame frame ...     ]    current
//! journal/1.journal  [header |                     ]    spare: header durable, no frame yet
//! ```
//!
//! [`header`], [`frame`] and [`section`] draw the bytes, [`replay`] says how files are chained and how a
//! torn tail is told from damage. What holds while the journal is open:
//!
//! - **J1** A frame is complete in the file before its end is published by [`Journal::end`]; frames are
//!   published in LSN order. LSNs are never reused: every opening begins a new file.
//! - **J2** A header is durable before its file can be named by a Next frame.
//! - **J3** `outstanding credits <= bytes that the current file and the spares surely take`, so an append
//!   that holds a credit finds room without waiting. One spare is never granted to anybody: it is what
//!   the next opening of a full disk goes on in.
//! - **J4** `synced() <= what a finished sync of all files with unsynced bytes, oldest first, covers`, or
//!   below a checkpoint. While held it rises by checkpoints alone. Frames carry it as `known synced`.
//! - **J5** The first failed write or sync is final. A later success counts for nothing.
//! - **J6** A file is used again only when a durable checkpoint lies beyond all of it.
//!
//! Locks, in the order in which they are taken: `prepare` (one preparer at a time, held during I/O) ->
//! `state` (what an append touches; never held during a sync) -> `sync`; `signal` and `thread` are taken
//! alone. The journal calls back (`on_half_full`) under none of them.

mod append;
mod create;
mod field;
mod frame;
mod header;
mod inspect;
mod mark;
#[cfg(all(test, loom))]
mod models;
mod prepare;
mod replay;
mod scan;
mod section;
mod slot;
mod space;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod trouble;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, OnceLock};
use crate::time::{Clock, Random};
use crate::types::{Epoch, Lsn, PanicWatch, planted};

pub(crate) use inspect::{inspect_frames, inspect_header};
pub(crate) use mark::Mark;
pub(crate) use replay::{Frame, Replayed, replay, replay_on};
pub(crate) use scan::check_versions;
pub(crate) use section::{SECTION_HEADER, SectionKind, section_header, sections};
pub(crate) use space::Credit;

use prepare::Preparing;
use state::State;
use sync::SyncState;
use worker::Signal;

/// How frames get into the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalMode {
    /// Through a shared map: no system call. Only where a store cannot fail for want of space.
    Map,
    /// By one positioned write per frame.
    Write,
}

/// What a journal is made with.
#[derive(Debug, Clone)]
pub(crate) struct JournalConfig {
    /// The size of an ordinary file. Frames of more than a quarter of it get a file of their own.
    pub(crate) file_bytes: u32,
    /// What all files together may take. A frame is at most a quarter of it.
    pub(crate) max_bytes: u64,
    /// How frames get into the files.
    pub(crate) mode: JournalMode,
    /// The folder's; files of another folder are refused.
    pub(crate) directory_id: [u8; 16],
    /// The broker epoch, written into every header.
    pub(crate) epoch: Epoch,
    /// How long a frame stays unsynced at most if nobody asks for a sync.
    pub(crate) sync_interval: Duration,
    /// Whether a thread prepares files and syncs. Without one, [`Journal::reserve`] and
    /// [`Journal::step`] do it, and nothing happens unasked.
    pub(crate) background: bool,
}

/// Where a new journal goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// Where the replay of what is there ended; `Lsn::ZERO` for a new folder.
    pub(crate) continues_from: Lsn,
    /// Sequence numbers begin here or higher.
    pub(crate) min_sequence: u32,
    /// Slots that the same replay needs again, until a checkpoint lies in the new file.
    pub(crate) keep: Vec<u32>,
    /// What replay found to be known as synced.
    pub(crate) known_synced: Lsn,
}

impl Start {
    /// Goes on where a replay ended.
    pub(crate) fn after(replayed: &Replayed) -> Self {
        Self {
            continues_from: replayed.end,
            min_sequence: replayed.last_sequence_seen.saturating_add(1),
            keep: replayed.needed.clone(),
            known_synced: replayed.known_synced,
        }
    }
}

/// An open journal.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process whose thread that is: a forked child has none to stop.
    pid: u32,
}

/// What the handle and the journal thread share.
struct Shared {
    storage: Arc<dyn Storage>,
    config: JournalConfig,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    on_half_full: Box<dyn Fn() + Send + Sync>,

    state: Mutex<State>,
    /// Woken when there may be more space, or none ever again.
    space_freed: Condvar,
    prepare: Mutex<Preparing>,
    end: AtomicU64,

    sync: Mutex<SyncState>,
    sync_done: Condvar,
    /// What a Synced ack may rely on (J4).
    synced: AtomicU64,
    /// As `synced`, published or not.
    covered: AtomicU64,
    requested: AtomicU64,

    signal: Signal,
    closed: AtomicBool,
    failure: OnceLock<Arc<Error>>,
    space_stopped: OnceLock<Arc<Error>>,
}

impl Journal {
    /// Begins a new journal file behind what is there. The caller has replayed it, or the folder is
    /// new. `on_half_full` is called, by any thread that appends or reserves, when half of `max_bytes`
    /// is in use and when somebody waits for space; it must not block and not call the journal.
    ///
    /// Nothing that was replayed counts as synced. If there was anything (`frames > 0`), call
    /// [`Journal::hold_synced`] before the first append, and [`Journal::release_synced`] after the
    /// recovery checkpoint.
    pub(crate) fn create(
        storage: Arc<dyn Storage>,
        config: JournalConfig,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
        start: &Start,
        on_half_full: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Arc<Self>> {
        let shared = Arc::new(create::create(storage, config, random, clock, start, on_half_full)?);
        let thread = shared.config.background.then(|| worker::start(&shared)).transpose()?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread), pid: std::process::id() }))
    }

    /// Sets space aside for one frame with a payload of at most `bytes`, before any lock of the caller
    /// is taken. Waits up to `max_block` if there is none. A thread that holds a credit must not ask
    /// for another one.
    ///
    /// # Errors
    /// `LimitExceeded` for more than a quarter of `max_bytes`; `Timeout`, or `DiskFull` if the journal
    /// could not grow; `Failed`; `Closed`. Without a thread it never waits for a checkpoint: `Timeout`.
    /// At once, without waiting to the end of `max_block`: why no file can be prepared, or why the last
    /// checkpoint failed, if only a checkpoint makes space (see [`trouble`]).
    #[inline]
    pub(crate) fn reserve(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.shared.reserve(bytes, max_block)
    }

    /// As [`Journal::reserve`], for what must be possible in a journal full of records: catalogue
    /// changes, deletions, commits. Uses a part that is held back for them.
    pub(crate) fn reserve_urgent(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.shared.reserve_urgent(bytes, max_block)
    }

    /// Appends a Data frame whose payload is `parts` in a row; its end. It is `Written` when this
    /// returns. Never waits for space, a sync or a thread.
    ///
    /// # Errors
    /// `Failed` and `Closed`: not applied. `Indeterminate`: writing it failed. `Misuse`: the credit is
    /// too small.
    #[inline]
    pub(crate) fn append(&self, credit: &mut Credit<'_>, parts: &[&[u8]]) -> Result<Lsn> {
        self.shared.append(credit, parts)
    }

    /// As [`Journal::append`] without a credit: `None` if there is no room for it now. Nothing happened
    /// then, and the caller gives its locks back and gets a credit.
    #[inline]
    pub(crate) fn try_append(&self, parts: &[&[u8]]) -> Result<Option<Lsn>> {
        self.shared.try_append(parts)
    }

    /// The end of the last frame.
    #[inline]
    pub(crate) fn end(&self) -> Lsn {
        self.shared.end()
    }

    /// Everything below is durable, here or where a checkpoint put it.
    #[inline]
    pub(crate) fn synced(&self) -> Lsn {
        self.shared.synced()
    }

    /// Asks for a sync up to `lsn` about a millisecond from now, unless a waiter runs it earlier.
    /// Without a thread the next [`Journal::step`] runs it.
    #[inline]
    pub(crate) fn request_sync(&self, lsn: Lsn) {
        self.shared.request_sync(lsn);
    }

    /// Waits until everything below `lsn` is durable. Whoever finds no sync running runs one, for
    /// everybody.
    ///
    /// # Errors
    /// `Indeterminate` after a failure, and while [`Journal::hold_synced`] is in force if a checkpoint
    /// fails for good: nothing else would end the wait. `Timeout`: the frame may still become durable.
    pub(crate) fn wait_synced(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<()> {
        self.shared.wait_synced(lsn, timeout)
    }

    /// From now on syncs do not raise [`Journal::synced`]: what lies before the first frame of this
    /// journal may be in the cache of the system alone.
    pub(crate) fn hold_synced(&self) {
        self.shared.hold_synced(true);
    }

    /// Ends [`Journal::hold_synced`]: the recovery checkpoint is durable.
    pub(crate) fn release_synced(&self) {
        self.shared.hold_synced(false);
    }

    /// Makes everything that was replayed durable where it is, and everything written since: it may be in
    /// the cache of the system alone, and a sync of it may have failed before, so it is written again.
    /// Needs no space.
    pub(crate) fn keep_replayed(&self) -> Result<()> {
        self.shared.keep_replayed()
    }

    /// Whether [`Journal::hold_synced`] is in force.
    pub(crate) fn is_held(&self) -> bool {
        self.shared.is_held()
    }

    /// Everything below `end` is durable elsewhere, and so is the note that says so: files wholly below
    /// are used again.
    pub(crate) fn checkpointed(&self, end: Lsn) {
        self.shared.checkpointed(end);
    }

    /// Bytes of all journal files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.shared.state.lock().total_bytes
    }

    /// Stops all writing. The first cause stays.
    pub(crate) fn fail(&self, cause: Arc<Error>) {
        self.shared.fail(cause);
    }

    /// The failure that stopped all writing.
    pub(crate) fn state(&self) -> Option<Arc<Error>> {
        self.shared.failure.get().cloned()
    }

    /// No checkpoint will be written any more, so no space is given back: appends go on until there is
    /// none, and nobody waits for it. The first cause stays.
    pub(crate) fn stop_space(&self, cause: Arc<Error>) {
        if self.shared.space_stopped.set(cause).is_ok() && !planted("leave_waiters_alone") {
            self.shared.notify_space();
        }
    }

    /// What [`Journal::stop_space`] was told.
    pub(crate) fn space_stopped(&self) -> Option<Arc<Error>> {
        self.shared.space_stopped.get().cloned()
    }

    /// Why the last file could not be prepared, until one can.
    pub(crate) fn preparation_failure(&self) -> Option<Error> {
        self.shared.state.lock().trouble.files.error().cloned()
    }

    /// A checkpoint failed. It is tried again, but threads that wait for what it would bring (space, or
    /// `Synced` after recovery) learn of a failure that time does not mend.
    pub(crate) fn checkpoint_failed(&self, error: &Error) {
        self.shared.checkpoint_failed(error);
    }

    /// Fails the journal if the scope that holds the guard unwinds: what the scope was changing is half
    /// done.
    #[must_use]
    pub(crate) fn fail_on_panic(&self, what: &'static str) -> PanicGuard<'_> {
        PanicGuard::new(&self.shared, what)
    }

    /// What the thread does, once: prepares files, runs a requested sync, leaves a witness.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn step(&self) -> Result<()> {
        self.shared.step()
    }

    /// Appends fail with `Closed` from here on. Those that were under way are done when this returns.
    pub(crate) fn stop_appends(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Takes the lock that appends hold.
        self.shared.notify_space();
    }

    /// Stops appends, syncs what is not, and stops and joins the thread.
    pub(crate) fn close(&self) -> Result<()> {
        self.stop_appends();
        self.stop();
        if let Some(cause) = self.state() {
            return Err(Error::Failed { cause });
        }
        self.shared.sync_now()
    }

    fn stop(&self) {
        if std::process::id() != self.pid {
            return;
        }
        self.shared.signal.stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            self.shared.fail(Arc::new(Error::Poisoned { what: "the journal thread".into() }));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    #[inline]
    fn end(&self) -> Lsn {
        Lsn::from_u64(self.end.load(Ordering::Acquire))
    }

    #[inline]
    fn synced(&self) -> Lsn {
        Lsn::from_u64(self.synced.load(Ordering::Acquire))
    }

    fn fail(&self, cause: Arc<Error>) {
        let state = self.state.lock();
        self.fail_locked(cause);
        drop(state);
    }

    /// As `fail`, by a thread that holds the state lock.
    fn fail_locked(&self, cause: Arc<Error>) {
        if self.failure.set(cause).is_ok() {
            // Taken and given back, so that nobody between its check and its wait misses the call.
            if !planted("failure_wakes_early") {
                drop(self.sync.lock());
            }
            self.sync_done.notify_all();
            self.space_freed.notify_all();
        }
    }

    fn check_writable(&self) -> Result<()> {
        if let Some(cause) = self.failure.get() {
            return Err(Error::Failed { cause: Arc::clone(cause) });
        }
        if self.closed.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("end", &self.end())
            .field("synced", &self.synced())
            .field("failure", &self.state())
            .finish_non_exhaustive()
    }
}

/// See [`Journal::fail_on_panic`].
pub(crate) struct PanicGuard<'a> {
    shared: &'a Shared,
    what: &'static str,
    watch: PanicWatch,
}

impl<'a> PanicGuard<'a> {
    #[inline]
    fn new(shared: &'a Shared, what: &'static str) -> Self {
        Self { shared, what, watch: PanicWatch::begin() }
    }
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if self.watch.has_panicked() {
            self.shared.fail(Arc::new(Error::Poisoned { what: self.what.into() }));
        }
    }
}
