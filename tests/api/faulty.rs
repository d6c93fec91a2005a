//! A storage whose calls fail when told to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use grouplog::storage::{
    DirEntry, FileKind, OpenMode, ReadMap, Storage, StorageFile, StorageLock, WriteMap,
};
use grouplog::time::ManualClock;
use grouplog::{Error, Result};

/// The effect of an order on a call.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The call fails with this system error number (5 is EIO, 24 EMFILE, 28 ENOSPC).
    Fail(i32),
    /// The call panics, as a bug of the engine might.
    Panic,
    /// The call meets another thread at the barrier, and once more before it continues.
    Meet(Arc<Barrier>),
    /// The call succeeds and takes this long on this clock.
    Take(Arc<ManualClock>, Duration),
}

/// Operation, part of the path, and effect.
type Order = (&'static str, &'static str, Act);

/// Wraps another storage. Calls fail if their operation is `op` and their path contains `part`.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<Mutex<Arc<dyn Storage>>>,
    orders: Arc<Mutex<Vec<Order>>>,
    /// The number of open files, and its limit.
    files: Arc<Mutex<(usize, usize)>>,
    spy: Spy,
}

/// Runs before each call that an order may concern.
#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Option<Look>>>);

type Look = Arc<dyn Fn() + Send + Sync>;

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spy")
    }
}

impl Faulty {
    pub(crate) fn new(inner: impl Storage + 'static) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Arc::new(inner))),
            orders: Arc::default(),
            files: Arc::new(Mutex::new((0, usize::MAX))),
            spy: Spy::default(),
        }
    }

    /// Replaces the storage for all holders, as if the machine had restarted.
    pub(crate) fn replace(&self, inner: impl Storage + 'static) {
        *self.inner.lock().unwrap() = Arc::new(inner);
    }

    fn inner(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    /// Adds an order for all later calls. Operations: open, create, look up, rename, remove, list, sync,
    /// read, write, resize, preallocate, map.
    pub(crate) fn order(&self, op: &'static str, part: &'static str, act: Act) {
        self.orders.lock().unwrap().push((op, part, act));
    }

    /// Runs `look` before each of the calls that orders may concern. It must not use this storage.
    pub(crate) fn spy(&self, look: impl Fn() + Send + Sync + 'static) {
        *self.spy.0.lock().unwrap() = Some(Arc::new(look));
    }

    /// As `order`, for syncs of folders only.
    pub(crate) fn order_folder_sync(&self, part: &'static str, act: Act) {
        self.order("sync folder", part, act);
    }

    /// Returns the number of open files.
    pub(crate) fn open_files(&self) -> usize {
        self.files.lock().unwrap().0
    }

    /// Makes opening more than `most` files fail with EMFILE.
    pub(crate) fn limit_files(&self, most: usize) {
        self.files.lock().unwrap().1 = most;
    }

    /// Removes all orders, so everything works again.
    pub(crate) fn heal(&self) {
        self.limit_files(usize::MAX);
        self.orders.lock().unwrap().clear();
    }

    fn closed(&self) {
        self.files.lock().unwrap().0 -= 1;
    }

    fn check(&self, op: &'static str, path: &Path) -> Result<()> {
        let look = self.spy.0.lock().unwrap().clone();
        if let Some(look) = look {
            look();
        }
        let fits =
            |order: &&(&str, &str, Act)| order.0 == op && path.to_string_lossy().contains(order.1);
        let found = self.orders.lock().unwrap().iter().find(fits).map(|order| order.2.clone());
        match found {
            None => Ok(()),
            Some(Act::Take(clock, time)) => {
                clock.advance(time);
                Ok(())
            }
            Some(Act::Meet(barrier)) => {
                barrier.wait();
                barrier.wait();
                Ok(())
            }
            Some(Act::Panic) => panic!("ordered: {op} {}", path.display()),
            Some(Act::Fail(28)) => Err(Error::DiskFull { path: path.to_owned() }),
            Some(Act::Fail(number)) => {
                let source = Arc::new(io::Error::from_raw_os_error(number));
                Err(Error::Io { op, path: path.into(), position: None, source })
            }
        }
    }
}

impl Storage for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        self.check(if mode == OpenMode::CreateNew { "create" } else { "open" }, path)?;
        {
            let mut files = self.files.lock().unwrap();
            if files.0 >= files.1 {
                let source = Arc::new(io::Error::from_raw_os_error(24));
                return Err(Error::Io { op: "open", path: path.into(), position: None, source });
            }
            files.0 += 1;
        }
        let inner = self.inner().open(path, mode).inspect_err(|_| self.closed())?;
        Ok(Arc::new(FaultyFile { inner, storage: self.clone() }))
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.check("look up", path)?;
        self.inner().metadata(path)
    }

    fn disk_bytes(&self, path: &Path) -> Result<u64> {
        self.check("look up", path)?;
        self.inner().disk_bytes(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.check("rename", from)?;
        self.inner().rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.check("remove", path)?;
        self.inner().remove(path)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.check("create", path)?;
        self.inner().create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.check("remove", path)?;
        self.inner().remove_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.check("list", path)?;
        self.inner().list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.check("sync", path)?;
        self.check("sync folder", path)?;
        self.inner().sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.inner().lock(path)
    }

    fn free_space(&self) -> Result<u64> {
        self.inner().free_space()
    }

    fn display_path(&self, path: &Path) -> PathBuf {
        self.inner().display_path(path)
    }

    fn supports_write_map(&self) -> bool {
        self.inner().supports_write_map()
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn StorageFile>,
    storage: Faulty,
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.storage.closed();
    }
}

impl FaultyFile {
    fn check(&self, op: &'static str) -> Result<()> {
        self.storage.check(op, self.inner.path())
    }
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.check("read")?;
        self.inner.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.check("write")?;
        self.inner.write_at(bytes, position)
    }

    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.check("write")?;
        self.inner.write_at_durable(bytes, position)
    }

    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check("resize")?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.check("sync")?;
        self.inner.sync_data()
    }

    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        self.check("preallocate")?;
        self.inner.preallocate(position, len)
    }

    fn trim(&self) -> Result<()> {
        self.inner.trim()
    }

    fn start_writeback(&self, position: u64, len: u64) {
        self.inner.start_writeback(position, len);
    }

    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.check("map")?;
        self.inner.map(len, capacity)
    }

    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.check("map")?;
        self.inner.map_write(len)
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}
