//! A storage that stops one thread before one of its calls. So two threads meet at the same point
//! in every run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;

use grouplog::Result;
use grouplog::storage::{
    DirEntry, FileKind, Memory, OpenMode, ReadMap, Storage, StorageFile, StorageLock, WriteMap,
};

/// Stops the watched thread before one of its calls that change files.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    state: Mutex<Turn>,
    changed: Condvar,
    scale: Option<Scale>,
}

/// Weighs the files after each call that may make one larger.
#[derive(Debug)]
struct Scale {
    memory: Memory,
    budget: u64,
    /// The largest weight beyond the budget.
    excess: AtomicU64,
}

impl Scale {
    fn weigh(&self) {
        // Without the rest of each last block. The sum of blocks takes long.
        let about = u64::MAX - self.memory.free_space().unwrap_or(0);
        if about > self.budget / 2 {
            let blocks = self.memory.disk_blocks();
            if blocks > self.budget {
                self.excess.fetch_max(blocks, Ordering::Relaxed);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Turn {
    watched: Option<ThreadId>,
    watched_name: Option<&'static str>,
    calls_before: u32,
    stopped: bool,
    open: bool,
    done: bool,
}

impl Turnstile {
    /// Creates one that weighs all files if there is a budget.
    pub(crate) fn weighing(memory: &Memory, budget: Option<u64>) -> Self {
        let (memory, excess) = (memory.clone(), AtomicU64::new(0));
        Self { scale: budget.map(|budget| Scale { memory, budget, excess }), ..Self::default() }
    }

    /// Returns the most that the files took, if that was more than the budget.
    pub(crate) fn excess(&self) -> Option<u64> {
        let excess = self.scale.as_ref()?.excess.load(Ordering::Relaxed);
        (excess > 0).then_some(excess)
    }

    /// Stops the thread that requests it before its `pause`-th call.
    pub(crate) fn arm(&self, pause: u32) {
        *self.lock() = Turn { calls_before: pause, ..Turn::default() };
    }

    /// Stops the thread with this name before its first call.
    pub(crate) fn arm_for(&self, name: &'static str) {
        *self.lock() = Turn { watched_name: Some(name), ..Turn::default() };
    }

    /// Makes the calling thread the one to stop.
    pub(crate) fn watch_me(&self) {
        self.lock().watched = Some(std::thread::current().id());
    }

    /// Notes that the watched thread has no more work.
    pub(crate) fn done(&self) {
        self.lock().done = true;
        self.changed.notify_all();
    }

    /// Waits until the watched thread is stopped or done.
    pub(crate) fn wait_stopped(&self) {
        let mut turn = self.lock();
        while !turn.stopped && !turn.done {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the watched thread continue.
    pub(crate) fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }

    /// Makes a call. After a failed call the gate stops no thread: the caller may next wait for the
    /// stopped one.
    fn pass<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        self.wait_turn();
        let result = self.look(call);
        if let Some(scale) = &self.scale {
            scale.weigh();
        }
        result
    }

    /// Makes a read-only call.
    fn look<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = call();
        if result.is_err() {
            self.open();
        }
        result
    }

    fn wait_turn(&self) {
        let mut turn = self.lock();
        let thread = std::thread::current();
        let watched = turn.watched == Some(thread.id())
            || turn.watched_name.is_some_and(|name| thread.name() == Some(name));
        if !watched || turn.open {
            return;
        }
        if turn.calls_before > 1 {
            turn.calls_before -= 1;
            return;
        }
        turn.stopped = true;
        self.changed.notify_all();
        while !turn.open {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Memory`] behind the gate.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) inner: Memory,
    pub(crate) turnstile: Arc<Turnstile>,
}

#[derive(Debug)]
struct GatedFile {
    inner: Arc<dyn StorageFile>,
    turnstile: Arc<Turnstile>,
}

impl Storage for Gated {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        let open = || self.inner.open(path, mode);
        let created = mode == OpenMode::CreateNew;
        let inner = if created { self.turnstile.pass(open) } else { self.turnstile.look(open) }?;
        Ok(Arc::new(GatedFile { inner, turnstile: Arc::clone(&self.turnstile) }))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.turnstile.look(|| self.inner.metadata(path))
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.turnstile.look(|| self.inner.disk_bytes(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.turnstile.pass(|| self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.turnstile.pass(|| self.inner.remove(path))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.turnstile.pass(|| self.inner.create_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.turnstile.pass(|| self.inner.remove_dir(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.turnstile.look(|| self.inner.list(path))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.turnstile.pass(|| self.inner.sync_dir(path))
    }

    fn prefers_whole_sync(&self, changes: usize) -> bool {
        self.inner.prefers_whole_sync(changes)
    }

    fn sync_whole(&self) -> Result<()> {
        self.turnstile.pass(|| self.inner.sync_whole())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.inner.lock(path)
    }

    fn free_space(&self) -> Result<u64> {
        self.inner.free_space()
    }

    fn display_path(&self, path: &Path) -> PathBuf {
        self.inner.display_path(path)
    }

    fn supports_write_map(&self) -> bool {
        self.inner.supports_write_map()
    }
}

impl StorageFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.turnstile.look(|| self.inner.read_at(buf, position))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.turnstile.pass(|| self.inner.write_at(bytes, position))
    }

    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.turnstile.pass(|| self.inner.write_at_durable(bytes, position))
    }

    fn len(&self) -> Result<u64> {
        self.turnstile.look(|| self.inner.len())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.turnstile.pass(|| self.inner.set_len(len))
    }

    fn sync_data(&self) -> Result<()> {
        self.turnstile.pass(|| self.inner.sync_data())
    }

    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        self.turnstile.pass(|| self.inner.preallocate(position, len))
    }

    fn trim(&self) -> Result<()> {
        self.turnstile.pass(|| self.inner.trim())
    }

    fn start_writeback(&self, position: u64, len: u64) {
        self.inner.start_writeback(position, len);
    }

    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.turnstile.look(|| self.inner.map(len, capacity))
    }

    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.turnstile.look(|| self.inner.map_write(len))
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}
