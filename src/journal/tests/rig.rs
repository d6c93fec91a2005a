//! A small journal on a storage that tests can inspect, damage and make fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{CorruptReason, Error, Result};
use crate::journal::header::{Decoded, FileHeader};
use crate::journal::slot::{list, read_header, slot_path};
use crate::journal::{Journal, JournalConfig, JournalMode, Replayed, Start, replay};
use crate::storage::{
    DirEntry, FileKind, Memory, OpenMode, ReadMap, Storage, StorageFile, StorageLock, WriteMap,
};
use crate::time::{SeededRandom, SystemClock};
use crate::types::Lsn;

pub(super) const FILE: u32 = 16 << 10;
pub(super) const ID: [u8; 16] = [3; 16];
/// The longest wait in seconds. Only a failing test reaches it.
pub(super) const LONG: Duration = Duration::from_secs(20);
pub(super) const BOTH: [JournalMode; 2] = [JournalMode::Map, JournalMode::Write];

pub(super) fn config(mode: JournalMode) -> JournalConfig {
    JournalConfig {
        file_bytes: FILE,
        max_bytes: u64::from(FILE) * 16,
        mode,
        directory_id: ID,
        epoch: 5,
        sync_interval: Duration::from_secs(1),
        background: false,
    }
}

pub(super) fn open(
    storage: &Arc<dyn Storage>,
    config: JournalConfig,
    start: Start,
) -> Arc<Journal> {
    try_open(storage, config, start).unwrap()
}

pub(super) fn try_open(
    storage: &Arc<dyn Storage>,
    config: JournalConfig,
    start: Start,
) -> Result<Arc<Journal>> {
    try_open_telling(storage, config, start, Box::new(|| ()))
}

/// Opens a journal that asks for checkpoints by `on_checkpoint_due`.
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
pub(super) fn try_open_telling(
    storage: &Arc<dyn Storage>,
    config: JournalConfig,
    start: Start,
    on_checkpoint_due: Box<dyn Fn() + Send + Sync>,
) -> Result<Arc<Journal>> {
    let clock = Arc::new(SystemClock::new());
    let random = Arc::new(SeededRandom::new(u64::from(start.min_sequence)));
    Journal::create(Arc::clone(storage), config, random, clock, &start, on_checkpoint_due)
}

pub(super) fn fresh(mode: JournalMode) -> (Arc<dyn Storage>, Arc<Journal>) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let journal = open(&storage, config(mode), Start::default());
    (storage, journal)
}

/// As `fresh`, for a journal whose syncs prove nothing.
pub(super) fn fresh_held(mode: JournalMode) -> (Arc<dyn Storage>, Arc<Journal>) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let journal = open(&storage, config(mode), Start { held: true, ..Start::default() });
    (storage, journal)
}

/// Appends one frame. Returns its begin and its end.
pub(super) fn append(journal: &Journal, payload: &[u8]) -> (Lsn, Lsn) {
    let mut credit = journal.reserve(payload.len(), LONG).unwrap();
    let end = journal.append(&mut credit, &[payload]).unwrap();
    let frame = (payload.len() as u32 + 32).next_multiple_of(8);
    (Lsn::new(end.sequence(), end.position() - frame), end)
}

pub(super) fn append_synced(journal: &Journal, payload: &[u8]) -> (Lsn, Lsn) {
    let (start, end) = append(journal, payload);
    journal.wait_synced(end, Some(LONG)).unwrap();
    (start, end)
}

/// Returns all payloads from a position on, and the result of the replay.
pub(super) fn read(storage: &dyn Storage, from: Lsn) -> Result<(Vec<Vec<u8>>, Replayed)> {
    let mut payloads = Vec::new();
    let mut last = from;
    let replayed = replay(storage, ID, from, &mut |frame| {
        assert!(last <= frame.lsn && frame.lsn < frame.end);
        last = frame.end;
        payloads.push(frame.payload.to_vec());
        Ok(())
    })?;
    assert_eq!(replayed.frames, payloads.len() as u64);
    assert_eq!(replayed.end, last);
    Ok((payloads, replayed))
}

pub(super) fn reason(result: Result<(Vec<Vec<u8>>, Replayed)>) -> CorruptReason {
    match result {
        Err(Error::Corrupt(corruption)) => corruption.reason,
        other => panic!("{other:?}"),
    }
}

/// Returns the path of the slot that holds a sequence, and its header.
pub(super) fn slot_of(storage: &dyn Storage, sequence: u32) -> (PathBuf, FileHeader) {
    for (number, _) in list(storage).unwrap() {
        let file = storage.open(&slot_path(number), OpenMode::Read).unwrap();
        if let Decoded::Valid(header) = read_header(&*file, number).unwrap()
            && header.sequence == sequence
        {
            return (slot_path(number), header);
        }
    }
    panic!("no file with sequence {sequence}");
}

/// Overwrites bytes from `at` on, in the file that holds them.
pub(super) fn damage(storage: &dyn Storage, at: Lsn, bytes: &[u8]) {
    let (path, _) = slot_of(storage, at.sequence());
    let file = storage.open(&path, OpenMode::Write).unwrap();
    file.write_at(bytes, u64::from(at.position())).unwrap();
}

/// A storage that records syncs, and that fails on request.
#[derive(Debug)]
pub(super) struct Spy {
    inner: Arc<dyn Storage>,
    pub(super) seen: Arc<Seen>,
}

#[derive(Debug)]
pub(super) struct Seen {
    /// The names of synced files, in order.
    pub(super) synced: Mutex<Vec<PathBuf>>,
    pub(super) fail_sync: Mutex<bool>,
    pub(super) fail_create: Mutex<bool>,
    pub(super) events: crossbeam_channel::Sender<()>,
}

impl Spy {
    pub(super) fn start() -> (Arc<dyn Storage>, Arc<Seen>, crossbeam_channel::Receiver<()>) {
        let (events, received) = crossbeam_channel::unbounded();
        let seen = Arc::new(Seen {
            synced: Mutex::default(),
            fail_sync: Mutex::default(),
            fail_create: Mutex::default(),
            events,
        });
        let inner = Arc::new(Memory::new());
        (Arc::new(Self { inner, seen: Arc::clone(&seen) }), seen, received)
    }
}

#[derive(Debug)]
struct SpyFile {
    name: PathBuf,
    inner: Arc<dyn StorageFile>,
    seen: Arc<Seen>,
}

impl Storage for Spy {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        if mode == OpenMode::CreateNew && *self.seen.fail_create.lock() {
            return Err(Error::DiskFull { path: path.to_owned() });
        }
        let inner = self.inner.open(path, mode)?;
        let name = path.to_owned();
        Ok(Arc::new(SpyFile { name, inner, seen: Arc::clone(&self.seen) }))
    }
    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.inner.metadata(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.inner.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.inner.list(path)
    }
    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.inner.sync_dir(path)
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

impl StorageFile for SpyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> Result<usize> {
        self.inner.read_at(buf, position)
    }
    fn write_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.inner.write_at(bytes, position)
    }
    fn write_at_durable(&self, bytes: &[u8], position: u64) -> Result<()> {
        self.inner.write_at_durable(bytes, position)
    }
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<()> {
        if *self.seen.fail_sync.lock() {
            let source = std::io::Error::from_raw_os_error(5);
            return Err(Error::io("sync", self.name.clone(), source));
        }
        self.inner.sync_data()?;
        self.seen.synced.lock().push(self.name.clone());
        self.seen.events.send(()).ok();
        Ok(())
    }
    fn preallocate(&self, position: u64, len: u64) -> Result<()> {
        self.inner.preallocate(position, len)
    }
    fn trim(&self) -> Result<()> {
        self.inner.trim()
    }
    fn start_writeback(&self, position: u64, len: u64) {
        self.inner.start_writeback(position, len);
    }
    fn map(&self, len: u64, capacity: u64) -> Result<ReadMap> {
        self.inner.map(len, capacity)
    }
    fn map_write(&self, len: u64) -> Result<WriteMap> {
        self.inner.map_write(len)
    }
    fn path(&self) -> &Path {
        self.inner.path()
    }
}
