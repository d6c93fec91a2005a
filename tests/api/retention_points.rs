//! Retention at each step of a checkpoint, and power loss at each step after it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::storage::{
    Crash, DirEntry, FileKind, Memory, OpenMode, Storage, StorageFile, StorageLock,
};
use grouplog::time::SeededRandom;
use grouplog::{Broker, FindingKind, Record, Result, TopicConfig, Verify};

use crate::retention::{DAY, offsets, send, start};
use crate::world::{World, tp};

type Hook = Box<dyn FnOnce() + Send>;

/// Counts the calls of one thread. Runs a hook before one of them, and keeps what crashes would leave after it.
#[derive(Default)]
struct Points {
    calls: AtomicU64,
    at: AtomicU64,
    hook: Mutex<Option<Hook>>,
    left: Mutex<Vec<(u64, String, Memory)>>,
    thread: Mutex<Option<std::thread::ThreadId>>,
    kinds: Mutex<Vec<(Crash, u64)>>,
}

#[derive(Clone)]
struct Pointed {
    inner: Memory,
    points: Arc<Points>,
}

impl std::fmt::Debug for Pointed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pointed")
    }
}

impl Pointed {
    fn keep(&self, what: &str) {
        let call = self.points.calls.load(Ordering::SeqCst);
        let kinds = self.points.kinds.lock().unwrap().clone();
        let mut left = self.points.left.lock().unwrap();
        for (kind, seed) in kinds {
            let state = self.inner.crash(kind, &SeededRandom::new(seed));
            left.push((call, format!("{what} {kind:?} {seed}"), state));
        }
    }

    fn point(&self, what: &str, path: &Path) {
        if *self.points.thread.lock().unwrap() != Some(std::thread::current().id()) {
            return;
        }
        let call = self.points.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.points.at.load(Ordering::SeqCst);
        if call == at {
            let hook = self.points.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
        if call >= at {
            self.keep(&format!("before {what} {}", path.display()));
        }
    }
}

impl Storage for Pointed {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        self.point("open", path);
        self.inner.open(path, mode)
    }
    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        self.point("metadata", path);
        self.inner.metadata(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.point("rename", from);
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.point("remove", path);
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
        self.point("sync_dir", path);
        self.inner.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.inner.lock(path)
    }
    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        self.point("sync_all", Path::new(""));
        self.inner.sync_all(files)
    }
    fn sync_whole(&self) -> Result<()> {
        self.point("sync_whole", Path::new(""));
        self.inner.sync_whole()
    }
    fn prefers_whole_sync(&self, changes: usize) -> bool {
        self.inner.prefers_whole_sync(changes)
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

#[derive(Debug, Clone, Copy, PartialEq)]
enum Deletion {
    Some,
    All,
    Records,
}

fn check(left: &World, end: i64, context: &str) -> std::result::Result<(), String> {
    let storage = Arc::new(left.storage.clone()) as Arc<dyn Storage>;
    let report = Verify::new().run_storage(&storage).map_err(|e| format!("{context}: {e}"))?;
    let mut faults = Vec::new();
    let damage: Vec<_> =
        report.findings.iter().filter(|finding| finding.kind == FindingKind::Damage).collect();
    if !damage.is_empty() {
        faults.push(format!("verify says {damage:?}"));
    }
    match left.try_open() {
        Err(error) => faults.push(format!("open says {error:?}")),
        Ok(broker) => {
            if !broker.recovery_report().damaged.is_empty() {
                faults.push(format!("damaged {:?}", broker.recovery_report().damaged));
            }
            let found = offsets(&broker);
            if found != (start(&broker)..end).collect::<Vec<_>>() {
                faults.push(format!("start {} of {end}, found {found:?}", start(&broker)));
            }
            send(&broker, 3);
            if let Err(error) = broker.checkpoint() {
                faults.push(format!("checkpoint says {error:?}"));
            }
            send(&broker, 3);
            if let Err(error) = broker.close() {
                faults.push(format!("close says {error:?}"));
            }
            let report = Verify::new().run_storage(&storage).unwrap();
            if !report.findings.is_empty() {
                faults.push(format!("after close, verify says {:?}", report.findings));
            }
            match left.try_open() {
                Err(error) => faults.push(format!("open again says {error:?}")),
                Ok(broker) => {
                    if broker.recovery_report().unclean {
                        faults.push("unclean".to_owned());
                    }
                    let found = offsets(&broker);
                    if found.last() != Some(&(end + 5)) || !found.is_sorted_by(|a, b| a + 1 == *b) {
                        faults.push(format!("again start {}, found {found:?}", start(&broker)));
                    }
                }
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("{context}: {}", faults.join("; "))) }
}

#[test]
fn retention_at_each_step_of_a_checkpoint() {
    let mut faults = Vec::new();
    for (whole, stored, deletion) in [
        (false, false, Deletion::All),
        (false, false, Deletion::Records),
        (false, true, Deletion::Some),
        (true, true, Deletion::All),
    ] {
        for at in 1.. {
            let Some(found) = delete_at(whole, stored, deletion, at) else { break };
            faults.extend(found);
        }
    }
    faults.truncate(12);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Deletes beside a checkpoint that is at its `at`-th call, and ends the machine at each later call. Returns what is
/// wrong with what is left, or `None` if the checkpoint makes fewer calls.
fn delete_at(whole: bool, stored: bool, deletion: Deletion, at: u64) -> Option<Vec<String>> {
    let (world, pointed, broker) = before_a_checkpoint(whole, stored, deletion);
    let thread = Arc::new(Mutex::new(None));
    let (kept, deletes) = (Arc::clone(&thread), broker.clone());
    pointed.points.at.store(at, Ordering::SeqCst);
    *pointed.points.kinds.lock().unwrap() = vec![
        (Crash::LoseAll, 1),
        (Crash::Kill, 1),
        (Crash::KeepAll, 1),
        (Crash::Subset { unit: 512 }, at),
        (Crash::Subset { unit: 512 }, at + 1000),
    ];
    *pointed.points.hook.lock().unwrap() = Some(Box::new(move || {
        let (done, is_done) = channel();
        *kept.lock().unwrap() = Some(std::thread::spawn(move || {
            let admin = deletes.admin();
            match deletion {
                Deletion::Records => drop(admin.delete_records(&tp("t", 0), 23).unwrap()),
                _ => drop(admin.run_retention().unwrap()),
            }
            let _late = done.send(());
        }));
        // It may have to wait for the checkpoint.
        let _waits = is_done.recv_timeout(Duration::from_millis(15));
    }));
    *pointed.points.thread.lock().unwrap() = Some(std::thread::current().id());
    broker.checkpoint().unwrap();
    let thread = thread.lock().unwrap().take()?;
    thread.join().unwrap();
    pointed.keep("after the checkpoint");
    *pointed.points.thread.lock().unwrap() = None;
    let left = std::mem::take(&mut *pointed.points.left.lock().unwrap());
    let checked = left.into_iter().map(|(call, what, storage)| {
        let context =
            format!("whole {whole}, stored {stored}, {deletion:?} at {at}, {call}: {what}");
        let left = World { storage, clock: Arc::clone(&world.clock), config: world.config.clone() };
        check(&left, 23, &context)
    });
    Some(checked.filter_map(Result::err).collect())
}

/// Fills a folder with records, most or all of which are due.
fn before_a_checkpoint(whole: bool, stored: bool, deletion: Deletion) -> (World, Pointed, Broker) {
    let mut world = World::on(Memory::crash_simulating(1)).batch_size(1024);
    if whole {
        world.storage.sync_whole_above(0);
    }
    world.config = world.config.stored_append_bytes(if stored { 400 } else { 1 << 20 });
    let pointed = Pointed { inner: world.storage.clone(), points: Arc::default() };
    let storage = Arc::new(pointed.clone());
    let broker = Broker::open_storage(storage, world.config.clone()).unwrap();
    let config = TopicConfig::new().segment_bytes(2400).retention(DAY);
    broker.create_topic("a", TopicConfig::new().segment_bytes(1024)).unwrap();
    broker.create_topic("t", config).unwrap();
    send(&broker, 9);
    broker.checkpoint().unwrap();
    send(&broker, 9);
    world.clock.advance(2 * DAY);
    send(&broker, 5);
    let producer = broker.producer().unwrap();
    for _ in 0..5 {
        producer.send(Record::to("a").value(&[1; 900])).unwrap();
    }
    producer.flush().unwrap();
    if deletion == Deletion::All {
        world.clock.advance(2 * DAY);
    }
    (world, pointed, broker)
}

/// Runs retention in the writer at each storage call of a reader beside it. Returns how often it ran.
fn at_each_call(
    stored: u32,
    check: impl Fn(&Pointed, &Broker, &str) -> std::result::Result<(), String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for at in 1.. {
        let mut world = World::on(Memory::crash_simulating(1)).batch_size(1024);
        world.config = world.config.stored_append_bytes(stored);
        let broker = world.open();
        let config = TopicConfig::new().segment_bytes(2400).retention(DAY);
        broker.create_topic("t", config).unwrap();
        send(&broker, 9);
        broker.checkpoint().unwrap();
        send(&broker, 9);
        world.clock.advance(2 * DAY);
        send(&broker, 5);
        broker.producer().unwrap().flush().unwrap();
        let pointed = Pointed { inner: world.storage.clone(), points: Arc::default() };
        pointed.points.at.store(at, Ordering::SeqCst);
        let deletes = broker.clone();
        *pointed.points.hook.lock().unwrap() = Some(Box::new(move || {
            std::thread::spawn(move || deletes.admin().run_retention().unwrap()).join().unwrap();
        }));
        *pointed.points.thread.lock().unwrap() = Some(std::thread::current().id());
        let context = format!("stored {stored}, at {at}");
        if let Err(fault) = check(&pointed, &broker, &context) {
            faults.push(fault);
        }
        if pointed.points.hook.lock().unwrap().is_some() {
            assert!(at > 5);
            return faults;
        }
    }
    faults
}

/// Verifying a folder beside its writer reports no damage while the writer deletes.
#[test]
fn verify_beside_a_deletion_finds_no_damage() {
    for stored in [400, 1 << 20] {
        let faults = at_each_call(stored, |storage, _, context| {
            let storage = Arc::new(storage.clone()) as Arc<dyn Storage>;
            let report = Verify::new()
                .threads(1)
                .run_storage(&storage)
                .map_err(|error| format!("{context}: {error}"))?;
            let found = report.findings;
            if found.is_empty() { Ok(()) } else { Err(format!("{context}: {found:?}")) }
        });
        assert!(
            faults.is_empty(),
            "{} faults: {:#?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
    }
}

/// A reader beside the writer finds what is left, and never an error.
#[test]
fn a_reader_at_each_step_beside_a_deletion_goes_on() {
    for stored in [400, 1 << 20] {
        let faults = at_each_call(stored, |storage, broker, context| {
            let failed = |error: grouplog::Error| format!("{context}: {error:?}");
            let mut reader =
                Broker::open_storage_read_only(Arc::new(storage.clone())).map_err(failed)?;
            let mut consumer = reader.consumer().map_err(failed)?;
            consumer.assign([tp("t", 0)]).map_err(failed)?;
            let mut last = -1;
            loop {
                let records = consumer.poll(Duration::ZERO).map_err(failed)?;
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    if record.offset() <= last {
                        return Err(format!("{context}: {} after {last}", record.offset()));
                    }
                    last = record.offset();
                }
            }
            if last != 22 {
                return Err(format!("{context}: ended at {last}"));
            }
            send(broker, 3);
            reader.refresh().map_err(failed)?;
            let described = reader.describe_topic("t").map_err(failed)?;
            if described.partitions[0].end_offset != 26 {
                return Err(format!("{context}: {described:?}"));
            }
            Ok(())
        });
        assert!(
            faults.is_empty(),
            "{} faults: {:#?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
    }
}

/// Readers in the process of the writer, at each of their storage calls: retention deletes what they read.
#[test]
fn a_reader_in_the_process_goes_on_when_its_segments_go() {
    for mode in [grouplog::ReadMode::Map, grouplog::ReadMode::Pread] {
        let mut faults = Vec::new();
        for at in 1.. {
            let mut world = World::on(Memory::crash_simulating(1)).batch_size(1024);
            world.config = world.config.read_mode(mode);
            let pointed = Pointed { inner: world.storage.clone(), points: Arc::default() };
            let storage = Arc::new(pointed.clone());
            let broker = Broker::open_storage(storage.clone(), world.config.clone()).unwrap();
            let config = TopicConfig::new().segment_bytes(2400).retention(DAY);
            broker.create_topic("t", config).unwrap();
            send(&broker, 18);
            world.clock.advance(2 * DAY);
            send(&broker, 5);
            broker.close().unwrap();
            let broker = Broker::open_storage(storage, world.config.clone()).unwrap();
            pointed.points.at.store(at, Ordering::SeqCst);
            let deletes = broker.clone();
            *pointed.points.hook.lock().unwrap() = Some(Box::new(move || {
                let (done, is_done) = channel();
                std::thread::spawn(move || done.send(deletes.admin().run_retention().unwrap()));
                // It may have to wait for the reader.
                let _waits = is_done.recv_timeout(Duration::from_millis(20));
            }));
            *pointed.points.thread.lock().unwrap() = Some(std::thread::current().id());
            let context = format!("{mode:?} at {at}");
            let config =
                grouplog::ConsumerConfig::new().auto_offset_reset(grouplog::OffsetReset::Earliest);
            let mut consumer = broker.consumer_with(config).unwrap();
            consumer.assign([tp("t", 0)]).unwrap();
            let old = grouplog::Timestamp::from_millis(1_700_000_000_000);
            if let Err(error) = broker.admin().offset_for_time(&tp("t", 0), old) {
                faults.push(format!("{context}: offset_for_time says {error:?}"));
            }
            let mut last = -1;
            loop {
                match consumer.poll(Duration::ZERO) {
                    Ok(records) if records.is_empty() => break,
                    Ok(records) => records.iter().for_each(|record| last = record.offset()),
                    Err(error) => {
                        faults.push(format!("{context}: poll says {error:?}"));
                        break;
                    }
                }
            }
            if last != 22 {
                faults.push(format!("{context}: ended at {last}"));
            }
            if !broker.health().problems().is_empty() {
                faults.push(format!("{context}: {}", broker.health()));
            }
            if pointed.points.hook.lock().unwrap().is_some() {
                assert!(at > 5);
                break;
            }
        }
        assert!(
            faults.is_empty(),
            "{} faults: {:#?}",
            faults.len(),
            &faults[..faults.len().min(5)]
        );
    }
}
