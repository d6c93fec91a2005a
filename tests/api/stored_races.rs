//! Stored appends beside another thread, at fixed points. A storage runs a hook inside one of its calls.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::storage::{
    Crash, DirEntry, FileKind, Memory, OpenMode, Storage, StorageFile, StorageLock,
};
use grouplog::time::SeededRandom;
use grouplog::{
    Acks, Broker, ConsumerConfig, Producer, ProducerConfig, Record, Result, TopicConfig,
    TopicPartition,
};

use crate::world::World;

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

#[derive(Default)]
struct Hooks {
    /// Runs when the first segment of `t-0` is looked up.
    looked_up: Hook,
    /// Runs after a failed `sync_all`, before the caller knows.
    sync_failed: Hook,
    /// Runs before `sync_all`.
    syncs: Hook,
    /// Runs before `sync_dir` of the root, in a thread named "deleter".
    deleter_syncs_root: Hook,
}

#[derive(Clone)]
struct Hooked {
    inner: Memory,
    hooks: Arc<Hooks>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

fn run(hook: &Hook) {
    let hook = hook.lock().unwrap().take();
    if let Some(hook) = hook {
        hook();
    }
}

fn set(hook: &Hook, run: impl FnOnce() + Send + 'static) {
    *hook.lock().unwrap() = Some(Box::new(run));
}

fn is_set(hook: &Hook) -> bool {
    hook.lock().unwrap().is_some()
}

impl Storage for Hooked {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn StorageFile>> {
        self.inner.open(path, mode)
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        if path == Path::new("t-0/00000000000000000000.log") {
            run(&self.hooks.looked_up);
        }
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
        if path == Path::new("") && std::thread::current().name() == Some("deleter") {
            run(&self.hooks.deleter_syncs_root);
        }
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>> {
        self.inner.lock(path)
    }

    fn sync_all(&self, files: &[Arc<dyn StorageFile>]) -> Result<()> {
        run(&self.hooks.syncs);
        let synced = self.inner.sync_all(files);
        if synced.is_err() {
            run(&self.hooks.sync_failed);
        }
        synced
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

fn world() -> (World, Hooked) {
    let mut world = World::on(Memory::crash_simulating(1));
    world.config = world.config.stored_append_bytes(1000);
    let hooked = Hooked { inner: world.storage.clone(), hooks: Arc::default() };
    (world, hooked)
}

fn open(world: &World, storage: &Hooked) -> Broker {
    Broker::open_storage(Arc::new(storage.clone()), world.config.clone()).unwrap()
}

fn producer(broker: &Broker, acks: Acks) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(acks)).unwrap()
}

fn count(mut consumer: grouplog::Consumer, topic: &str) -> usize {
    consumer.assign([TopicPartition::new(topic, 0)]).unwrap();
    let mut count = 0;
    loop {
        let records = consumer.poll(Duration::ZERO).unwrap();
        if records.is_empty() {
            return count;
        }
        count += records.iter().count();
    }
}

/// A reader that looks for stored bytes while their topic is deleted must not end before them.
#[test]
fn a_reader_beside_a_deletion_sees_what_was_written_before() {
    let (world, storage) = world();
    let broker = open(&world, &storage);
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let written = producer(&broker, Acks::Written);
    written.send(Record::to("t").value(&[1; 5000])).unwrap();
    for _ in 0..5 {
        written.send(Record::to("u").value(b"small")).unwrap();
    }
    let deletes = broker.clone();
    set(&storage.hooks.looked_up, move || deletes.delete_topic("t").unwrap());
    let reader = Broker::open_storage_read_only(Arc::new(storage.clone())).unwrap();
    assert!(!is_set(&storage.hooks.looked_up));
    let consumer = reader.consumer().unwrap();
    assert_eq!(count(consumer, "u"), 5);
    drop(broker);
}

/// A sync fails and loses bytes. Before its thread says so, another thread syncs the same file, which does not
/// fail again.
#[test]
fn nobody_takes_bytes_for_durable_while_their_failed_sync_is_handled() {
    let mut failed = 0;
    for call in 1.. {
        let (world, storage) = world();
        let broker = open(&world, &storage);
        broker.create_topic("t", TopicConfig::new()).unwrap();
        let written = producer(&broker, Acks::Written);
        written.send(Record::to("t").value(&[1; 5000])).unwrap();
        let synced = producer(&broker, Acks::Synced);
        let (tell, told) = channel();
        set(&storage.hooks.sync_failed, move || {
            let (flushed, is_flushed) = channel();
            std::thread::spawn(move || {
                tell.send(synced.flush()).unwrap();
                let _late = flushed.send(());
            });
            // It must not be, before its thread knows of the failure.
            let _waits = is_flushed.recv_timeout(Duration::from_millis(100));
        });
        world.storage.fail_at(world.storage.ops() + call, std::io::ErrorKind::Other, false);
        let checkpoint = broker.checkpoint();
        world.storage.heal();
        // No thread was started, and `tell` is gone, if no sync failed.
        let hook = storage.hooks.sync_failed.lock().unwrap().take();
        drop(hook);
        if let Ok(told) = told.recv() {
            failed += 1;
            if told.is_ok() {
                let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
                let again = World { storage: lost, ..world.again() }.open();
                assert_eq!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t"), 1);
            }
        }
        if checkpoint.is_ok() {
            break;
        }
    }
    assert!(failed > 0);
}

/// A topic with a stored append is deleted while a sync runs that began before. The deletion itself is in the next
/// journal file, and power loss takes it.
#[test]
fn a_deletion_does_not_take_what_a_running_sync_relies_on() {
    let (world, storage) = world();
    let broker = open(&world, &storage);
    for topic in ["t", "u"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let written = producer(&broker, Acks::Written);
    let synced = producer(&broker, Acks::Synced);
    written.send(Record::to("t").value(&[1; 5000])).unwrap();
    let delivery = synced.send(Record::to("u").value(b"small")).unwrap();
    let (stopped, goes_on): (_, Receiver<()>) = channel();
    let (renamed, is_renamed) = channel();
    set(&storage.hooks.deleter_syncs_root, move || {
        let _late = renamed.send(());
        let _stopped = goes_on.recv();
    });
    let deletes = broker.clone();
    let deleter = Arc::new(Mutex::new(None));
    let thread = Arc::clone(&deleter);
    set(&storage.hooks.syncs, move || {
        // Into the next journal file.
        for _ in 0..70 {
            written.send(Record::to("u").value(&[2; 900])).unwrap();
        }
        let delete = move || deletes.delete_topic("t");
        let spawned = std::thread::Builder::new().name("deleter".to_owned()).spawn(delete).unwrap();
        *thread.lock().unwrap() = Some(spawned);
        // Renamed folders would now lose what the sync relies on. The deletion waits for the sync instead.
        let _waits = is_renamed.recv_timeout(Duration::from_millis(100));
    });
    delivery.wait().unwrap();
    assert!(!is_set(&storage.hooks.syncs));
    let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
    drop(stopped);
    let deleter = deleter.lock().unwrap().take().unwrap();
    deleter.join().unwrap().unwrap();
    let again = World { storage: lost, ..world.again() }.open();
    assert!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "u") >= 1);
}

/// With threads, appends begin before the recovery checkpoint, which must sync what recovery believed all the same.
#[test]
fn appends_that_overtake_the_recovery_checkpoint_keep_its_bytes() {
    for round in 0..200 {
        let (world, _) = world();
        let broker = world.open();
        broker.create_topic("t", TopicConfig::new().segment_bytes(4096)).unwrap();
        broker.checkpoint().unwrap();
        let written = producer(&broker, Acks::Written);
        for _ in 0..3 {
            written.send(Record::to("t").value(&[1; 3000])).unwrap();
        }
        let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(round));
        let mut world = World { storage: killed, ..world.again() };
        world.config = world.config.background(true);
        let broker = world.open();
        let written = producer(&broker, Acks::Written);
        written.send(Record::to("t").value(&[2; 3000])).unwrap();
        let synced = producer(&broker, Acks::Synced);
        synced.flush().unwrap();
        let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(round));
        let again = World { storage: lost, ..world.again() };
        let again = again.try_open();
        let again = again.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let report = again.recovery_report();
        assert!(report.damaged.is_empty(), "round {round}: {:?}", report.damaged);
        let found = count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t");
        assert_eq!(found, 4, "round {round}");
    }
}

/// On a full disk, the recovery checkpoint writes stored bytes again, and then fails before it syncs them. A deletion is
/// made durable without that checkpoint, and must not outlive the records before it.
#[test]
fn a_deletion_on_a_full_disk_keeps_stored_records_of_before_a_crash() {
    let (world, _) = world();
    let broker = world.open();
    for topic in ["t", "u", "v"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let written = producer(&broker, Acks::Written);
    written.send(Record::to("v").value(b"old")).unwrap();
    broker.checkpoint().unwrap();
    written.send(Record::to("t").value(&[1; 5000])).unwrap();
    for _ in 0..20 {
        written.send(Record::to("u").value(&[2; 900])).unwrap();
    }
    let mut reached = 0;
    for step in 0..400 {
        let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
        let world = World { storage: killed, ..world.again() };
        for entry in world.storage.list(Path::new("")).unwrap() {
            if entry.name.contains("reserve") {
                world.storage.remove(Path::new(&entry.name)).unwrap();
            }
        }
        world.storage.set_capacity(step * 1024);
        let Ok(broker) = world.try_open() else { continue };
        if broker.delete_topic("v").is_err() {
            continue;
        }
        let full = broker.checkpoint().is_err();
        let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
        lost.set_capacity(u64::MAX);
        let again = World { storage: lost, ..world.again() }.try_open();
        let again = again.unwrap_or_else(|error| panic!("{step}: {error}"));
        assert_eq!(again.list_topics(), ["t", "u"], "{step}");
        assert_eq!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t"), 1, "{step}");
        if !full {
            break;
        }
        reached += 1;
    }
    assert!(reached > 0);
}
