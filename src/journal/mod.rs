//! The write-ahead journal: one global order for every change of state.
//!
//! ```text
//! journal/0.journal  [header | frame frame ... Next]    sealed: waits for a checkpoint beyond it
//! journal/2.journal  [header | frame frame ...     ]    current
//! journal/1.journal  [header |                     ]    spare: no frame yet
//! ```
//!
//! [`header`], [`frame`] and [`section`] define the bytes. [`mod@replay`] defines how files form a chain and
//! how a torn tail differs from damage. These invariants hold while the journal is open:
//!
//! - **J1** A frame is complete in the file before [`Journal::end`] publishes its end. Frames are
//!   published in LSN order. An LSN that anything durable names is never used again: every opening begins a
//!   new file. (Power loss may take a file with its header and its sequence number. If the number is used
//!   again, the salt tells the frames of the two lives apart.)
//! - **J2** A file's header, length and name are durable before anything in it, or after it, counts as synced,
//!   and before a checkpoint or the end of a recovery points into it. Until then power loss may take the whole
//!   file. The first file of each opening is durable from the start.
//! - **J3** The frames of all outstanding credits fit into the current file and the spares but the last, in
//!   every order ([`space`]). So an append that holds a credit finds room without waiting. The last spare
//!   is never granted: the next opening on a full disk continues there.
//! - **J4** `synced() <= what a finished sync covers`, or it is below a checkpoint. A sync covers the bytes
//!   [`outside`] the journal that frames rely on, then the names and headers of all files with frames, and
//!   their frames, oldest first. While `synced` is held, only
//!   checkpoints raise it. Frames carry it as `known synced`.
//! - **J5** The first failed write or sync is final. A later success does not undo it. Every thread knows of a
//!   failed sync outside the journal before the next one begins.
//! - **J6** A file is reused only when a durable checkpoint lies beyond all of it.
//!
//! A journal begins with files of some hundred KiB and grows only if its frames come faster than checkpoints
//! free them. It is full at `max_bytes`.
//!
//! Threads take the locks in this order: `prepare` (one preparer at a time, held during I/O) -> `state`
//! (what an append touches; never held during a sync) -> `sync`. `signal` and `thread` are taken alone.
//! `outside_syncs` is held during syncs of bytes outside the journal, and taken before `state`.
//! The journal calls back (`on_checkpoint_due`) while it holds none of them.
//!
//! Imported by `log`, `engine`, `producer` and `internal`.

mod append;
mod create;
mod credits;
mod field;
mod frame;
mod header;
mod inspect;
mod mark;
#[cfg(all(test, loom))]
mod models;
mod outside;
mod prepare;
mod replay;
mod rest;
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
use crate::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use crate::time::{Clock, Random};
use crate::types::{Epoch, Lsn, PanicWatch, planted};

pub(crate) use frame::frame_bytes;
pub(crate) use inspect::{inspect_frames, inspect_header};
pub(crate) use mark::Mark;
pub(crate) use outside::Outside;
#[cfg(any(test, feature = "__internal"))]
pub(crate) use replay::replay;
pub(crate) use replay::{Frame, Replayed, replay_on, replay_until};
pub(crate) use scan::check_versions;
pub(crate) use section::{SECTION_HEADER, SectionKind, section_header, sections};
pub(crate) use space::Credit;

use prepare::Preparing;
use state::State;
use sync::SyncState;
use worker::Signal;

/// How the journal writes frames into its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalMode {
    /// Stores through a shared map, without a system call. Only for storages where a store cannot fail for
    /// lack of space.
    Map,
    /// One positioned write per frame.
    Write,
}

/// The configuration of a journal.
#[derive(Debug, Clone)]
pub(crate) struct JournalConfig {
    /// The size of an ordinary file in bytes. The first files have a sixteenth of it. If the journal grows, they
    /// grow up to four times this size. A larger frame gets a file that it fits into.
    pub(crate) file_bytes: u32,
    /// The most bytes that all files together may take. A frame is at most a quarter of it.
    pub(crate) max_bytes: u64,
    /// How frames are written into the files.
    pub(crate) mode: JournalMode,
    /// The id of the folder. The journal does not accept files of another folder.
    pub(crate) directory_id: [u8; 16],
    /// The broker epoch, which every header carries.
    pub(crate) epoch: Epoch,
    /// The longest time that a frame stays unsynced if no caller asks for a sync.
    pub(crate) sync_interval: Duration,
    /// Whether a thread prepares files and syncs. Without a thread, only [`Journal::reserve`] and
    /// [`Journal::step`] do so, when called.
    pub(crate) background: bool,
}

/// Where a new journal continues.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// The end of the replay of the existing files; `Lsn::ZERO` for a new folder.
    pub(crate) continues_from: Lsn,
    /// The lowest sequence number that the journal may use.
    pub(crate) min_sequence: u32,
    /// The slots that a repeated replay needs, until a checkpoint lies in the new file.
    pub(crate) keep: Vec<u32>,
    /// The highest position that replay found to be known as synced.
    pub(crate) known_synced: Lsn,
    /// Whether syncs do not raise [`Journal::synced`] before [`Journal::release_synced`], or a checkpoint: frames
    /// before the first one of this journal may be in the cache of the system only.
    pub(crate) held: bool,
}

impl Start {
    /// Returns a start that continues where a replay ended.
    pub(crate) fn after(replayed: &Replayed) -> Self {
        Self {
            continues_from: replayed.end,
            min_sequence: replayed.last_sequence_seen.saturating_add(1),
            keep: replayed.needed.clone(),
            known_synced: replayed.known_synced,
            held: false,
        }
    }
}

/// The smallest size of a file in bytes.
const FILE_BYTES_MIN: u32 = 16 << 10;

/// An open journal.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that started the thread. A forked child has no thread to stop.
    pid: u32,
}

/// The state that the handle and the journal thread share.
struct Shared {
    storage: Arc<dyn Storage>,
    config: JournalConfig,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    on_checkpoint_due: Box<dyn Fn() + Send + Sync>,

    state: Mutex<State>,
    /// Notified when there may be more space, or when there will never be any.
    space_freed: Condvar,
    prepare: Mutex<Preparing>,
    end: AtomicU64,

    sync: Mutex<SyncState>,
    sync_done: Condvar,
    /// The position that a Synced ack may rely on (J4).
    synced: AtomicU64,
    /// As `synced`, but syncs raise it also while `synced` is held.
    covered: AtomicU64,
    requested: AtomicU64,
    /// Whether a thread ran a sync for itself since the last file was prepared.
    waited: AtomicBool,
    /// Whether a sync was requested since the last checkpoint.
    requested_lately: AtomicBool,

    signal: Signal,
    closed: AtomicBool,
    failure: OnceLock<Arc<Error>>,
    space_stopped: OnceLock<Arc<Error>>,
    /// Held during each sync of bytes outside the journal ([`Journal::lock_outside_syncs`]). Taken before the
    /// state lock.
    outside_syncs: Mutex<()>,
}

impl Journal {
    /// Opens a journal by beginning a new file after the existing ones.
    ///
    /// The caller has replayed the existing files, or the folder is new. A thread that appends or reserves
    /// calls `on_checkpoint_due` when the journal holds two ordinary files, or half of `max_bytes` if that is
    /// less, and when a thread waits for space. The callback must not block and must not call the journal.
    ///
    /// Replayed frames do not count as synced. If replay found any (`frames > 0`), `start` has to be `held`, and
    /// [`Journal::release_synced`] follows the recovery checkpoint.
    pub(crate) fn create(
        storage: Arc<dyn Storage>,
        config: JournalConfig,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
        start: &Start,
        on_checkpoint_due: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Arc<Self>> {
        let shared =
            Arc::new(create::create(storage, config, random, clock, start, on_checkpoint_due)?);
        let thread = shared.config.background.then(|| worker::start(&shared)).transpose()?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread), pid: std::process::id() }))
    }

    /// Reserves space for one frame with a payload of at most `bytes`. Waits up to `max_block` if there is
    /// not enough.
    ///
    /// The caller must not hold any of its own locks. A thread that holds a credit must not ask for another.
    ///
    /// # Errors
    /// - `LimitExceeded` if the frame is larger than a quarter of `max_bytes`.
    /// - `Timeout` if there was no space within `max_block`, or `DiskFull` if the journal could not grow.
    ///   Without a thread the call never waits for a checkpoint: it returns `Timeout` at once.
    /// - The reason why no file can be prepared, at once, if time does not mend it (see [`trouble`]).
    /// - The reason why the last checkpoint failed, at once, if time does not mend it and only a checkpoint
    ///   makes space.
    /// - `Failed` if the journal has failed, or if it is full and no checkpoint will be written any more.
    /// - `Closed` if appends were stopped.
    #[inline]
    pub(crate) fn reserve(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.shared.reserve(bytes, max_block)
    }

    /// As [`Journal::reserve`], for changes that a journal full of records must still accept: catalogue
    /// changes, deletions, commits. Also uses the space that is held back for them.
    pub(crate) fn reserve_urgent(&self, bytes: usize, max_block: Duration) -> Result<Credit<'_>> {
        self.shared.reserve_urgent(bytes, max_block)
    }

    /// Reserves space if there is some now and nobody waits for it; for an `urgent` frame also the space that is held
    /// back. Otherwise nothing has happened, and [`Journal::reserve`] says why.
    pub(crate) fn try_reserve(&self, bytes: usize, urgent: bool) -> Option<Credit<'_>> {
        self.shared.try_reserve(bytes, urgent)
    }

    /// Appends a Data frame whose payload is the concatenation of `parts`. Returns the end of the frame.
    ///
    /// The frame is `Written` when this returns. The call never waits for space, a sync or a thread.
    ///
    /// # Errors
    /// - `Failed` if the journal has failed, or `Closed` if appends were stopped. The frame was not written.
    /// - `Indeterminate` if writing the frame failed. Part or all of it may be in the file.
    /// - `Misuse` if the credit is too small.
    #[inline]
    pub(crate) fn append(&self, credit: &mut Credit<'_>, parts: &[&[u8]]) -> Result<Lsn> {
        self.shared.append(credit, parts)
    }

    /// As [`Journal::append`], for a frame that relies on bytes outside the journal. They are written, and
    /// the frame counts as synced only when they are durable too (J4).
    pub(crate) fn append_relying_on(
        &self,
        credit: &mut Credit<'_>,
        parts: &[&[u8]],
        outside: &[Outside],
    ) -> Result<Lsn> {
        self.shared.append_relying_on(credit, parts, outside)
    }

    /// Takes the lock for a sync of bytes outside the journal. Hold it until a failure was told to
    /// [`Journal::lose_outside`]: a sync that fails takes the error with it, and the next one of the same file
    /// succeeds without the bytes.
    pub(crate) fn lock_outside_syncs(&self) -> MutexGuard<'_, ()> {
        self.shared.outside_syncs.lock()
    }

    /// Records that a sync of bytes outside the journal failed. If unsynced frames rely on such bytes, the journal
    /// fails. Otherwise appends continue, but no frame may rely on such bytes any more.
    ///
    /// No checkpoint will be written any more, so no checkpoint frees space. Appends continue until the space is
    /// used up, and no thread waits for more. The journal keeps the first cause.
    pub(crate) fn lose_outside(&self, cause: &Arc<Error>) {
        self.shared.lose_outside(cause);
    }

    /// Returns whether a sync was requested since the last checkpoint.
    #[inline]
    pub(crate) fn is_sync_requested(&self) -> bool {
        self.shared.requested_lately.load(Ordering::Relaxed)
    }

    /// As [`Journal::append`], without a credit. Returns `None` if there is no room for the frame now.
    ///
    /// With `None` nothing was written. The caller then releases its locks and reserves a credit.
    #[inline]
    pub(crate) fn try_append(&self, parts: &[&[u8]]) -> Result<Option<Lsn>> {
        self.shared.try_append(parts)
    }

    /// Returns the end of the last frame.
    #[inline]
    pub(crate) fn end(&self) -> Lsn {
        self.shared.end()
    }

    /// Returns the position below which everything is durable, in the journal or through a checkpoint.
    #[inline]
    pub(crate) fn synced(&self) -> Lsn {
        self.shared.synced()
    }

    /// Requests a sync up to `lsn`. The thread runs it after about a millisecond, unless a waiter runs one
    /// earlier. Without a thread the next [`Journal::step`] runs it.
    #[inline]
    pub(crate) fn request_sync(&self, lsn: Lsn) {
        self.shared.request_sync(lsn);
    }

    /// Waits until everything below `lsn` is durable. A waiter that finds no sync running runs one for all
    /// waiters.
    ///
    /// # Errors
    /// - `Indeterminate` after a failure.
    /// - `Indeterminate` if the journal is [`held`](Start::held) and a checkpoint fails in a way that time
    ///   does not mend: nothing else would end the wait.
    /// - `Timeout` if `timeout` has passed. The frame may still become durable.
    /// - `Misuse` if `lsn` lies beyond the end of the journal.
    pub(crate) fn wait_synced(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<()> {
        self.shared.wait_synced(lsn, timeout)
    }

    /// Ends [`Start::held`]. The caller has made the recovery checkpoint durable.
    pub(crate) fn release_synced(&self) {
        self.shared.release_synced();
    }

    /// Makes all replayed frames durable in place, and all frames written since.
    ///
    /// Replayed frames may be in the cache of the system only, and an earlier sync of them may have failed.
    /// So this writes them again before it syncs. It needs no space. The caller has written the bytes `outside` of
    /// the journal again that replayed frames rely on.
    pub(crate) fn keep_replayed(&self, outside: &[Outside]) -> Result<()> {
        self.shared.keep_replayed(outside)
    }

    /// Returns whether the journal is [`held`](Start::held).
    pub(crate) fn is_held(&self) -> bool {
        self.shared.is_held()
    }

    /// Makes durable what a replay from `lsn` on needs besides frames: the header and the name of the file
    /// that holds `lsn`. Call it before a checkpoint points there.
    ///
    /// # Errors
    /// `Failed` if that fails. The failure is final.
    pub(crate) fn anchor(&self, lsn: Lsn) -> Result<()> {
        if planted("header_not_durable") { Ok(()) } else { self.shared.anchor(lsn) }
    }

    /// Frees the files that lie wholly below `end`. The caller has made a checkpoint durable that covers
    /// everything below `end`.
    pub(crate) fn checkpointed(&self, end: Lsn) {
        self.shared.checkpointed(end);
    }

    /// Returns the size of all journal files in bytes.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.shared.state.lock().total_bytes
    }

    /// Stops all writing. The journal keeps the first cause.
    pub(crate) fn fail(&self, cause: Arc<Error>) {
        self.shared.fail(cause);
    }

    /// Returns the failure that stopped all writing, if there is one.
    pub(crate) fn state(&self) -> Option<Arc<Error>> {
        self.shared.failure.get().cloned()
    }

    /// Returns why no checkpoint frees space any more, or `None` if they do. Appends continue until the space is
    /// used up, and no thread waits for more.
    pub(crate) fn space_stopped(&self) -> Option<Arc<Error>> {
        self.shared.space_stopped.get().cloned()
    }

    /// Returns why the last file could not be prepared; `None` after a success.
    pub(crate) fn preparation_failure(&self) -> Option<Error> {
        self.shared.state.lock().trouble.files.error().cloned()
    }

    /// Records that a checkpoint failed. The caller tries again.
    ///
    /// If time does not mend the failure, this ends the waits that need a checkpoint: for space, or for
    /// `Synced` after recovery.
    pub(crate) fn checkpoint_failed(&self, error: &Error) {
        self.shared.checkpoint_failed(error);
    }

    /// Returns a guard that fails the journal if the scope that holds it unwinds. The change that the scope
    /// was making is then incomplete.
    #[must_use]
    pub(crate) fn fail_on_panic(&self, what: &'static str) -> PanicGuard<'_> {
        PanicGuard::new(&self.shared, what)
    }

    /// Does once what the thread does: prepares files, runs a requested sync, appends a witness.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) fn step(&self) -> Result<()> {
        self.shared.step()
    }

    /// Returns whether appends were stopped.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Makes later appends fail with `Closed`. Appends in progress have finished when this returns.
    pub(crate) fn stop_appends(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Takes the state lock, so it waits for an append in progress.
        self.shared.notify_space();
    }

    /// Continues in a small file, if the journal is large. Call it after `stop_appends` and before the last
    /// checkpoint. If it fails, the journal only stays large.
    pub(crate) fn rest(&self) -> Result<()> {
        self.shared.rest()
    }

    /// Does the same as [`trim`](Self::trim) if all files are small.
    pub(crate) fn trim_small(&self) -> Result<()> {
        self.shared.trim_small()
    }

    /// Removes the files that the last checkpoint freed.
    pub(crate) fn trim(&self) -> Result<()> {
        self.shared.trim()
    }

    /// Stops appends, stops and joins the thread, and syncs all unsynced frames.
    pub(crate) fn close(&self) -> Result<()> {
        self.stop_appends();
        self.stop();
        // A caller may be preparing a file. The next one finds the journal closed.
        if !planted("close_beside_preparation") {
            drop(self.shared.prepare.lock());
        }
        let synced = match self.state() {
            Some(cause) => Err(Error::Failed { cause }),
            None => self.shared.sync_now(),
        };
        self.shared.end_waits();
        synced
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

    /// As `fail`, for a caller that holds the state lock.
    fn fail_locked(&self, cause: Arc<Error>) {
        if self.failure.set(cause).is_ok() {
            // Take and release the lock, so that no waiter between its check and its wait misses this.
            if !planted("failure_wakes_early") {
                drop(self.sync.lock());
            }
            self.sync_done.notify_all();
            self.space_freed.notify_all();
        }
    }

    fn lose_outside(&self, cause: &Arc<Error>) {
        let state = self.state.lock();
        if !state.relied.is_empty() && !planted("go_on_without_stored_bytes") {
            self.fail_locked(Arc::clone(cause));
        }
        let first = self.space_stopped.set(Arc::clone(cause)).is_ok();
        drop(state);
        if first && !planted("leave_waiters_alone") {
            self.notify_space();
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
