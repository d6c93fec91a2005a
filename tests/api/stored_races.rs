//! Stored appends beside another thread, at fixed points. A storage runs a hook inside one of its calls.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::storage::{
    Crash, DirEntry, FileKind, Memory, OpenMode, Storage, StorageFile, StorageLock,
};
use grouplog::time::{Clock, ManualClock, SeededRandom};
use grouplog::{
    Acks, Broker, ConsumerConfig, Error, Producer, ProducerConfig, Record, Result, Timestamp,
    TopicConfig, TopicPartition,
};

use crate::world::{AT_ONCE, World};

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
    /// Decides by thread, operation and path which calls fail.
    refuses: Mutex<Option<Refuses>>,
}

type Refuses = Arc<dyn Fn(&str, &str, &Path) -> Option<Error> + Send + Sync>;

impl Hooks {
    fn check(&self, op: &str, path: &Path) -> Result<()> {
        let refuses = self.refuses.lock().unwrap().clone();
        let thread = std::thread::current();
        let refused = refuses.and_then(|refuses| refuses(thread.name().unwrap_or(""), op, path));
        refused.map_or(Ok(()), Err)
    }

    fn refuse(&self, refuses: impl Fn(&str, &str, &Path) -> Option<Error> + Send + Sync + 'static) {
        *self.refuses.lock().unwrap() = Some(Arc::new(refuses));
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a refusal returns")]
fn disk_full(path: &Path) -> Option<Error> {
    Some(Error::DiskFull { path: path.to_owned() })
}

#[expect(clippy::unnecessary_wraps, reason = "what a refusal returns")]
fn io_error(path: &Path) -> Option<Error> {
    let source = Arc::new(std::io::Error::other("refused"));
    Some(Error::Io { op: "open", path: path.into(), position: None, source })
}

fn is_checkpoint(op: &str, path: &Path) -> bool {
    op == "write" && path.to_str().is_some_and(|path| path.starts_with("checkpoint"))
}

const CHECKPOINTER: &str = "grouplog-checkpoint";

fn in_thread<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    let run = move || {
        let _unheard = tell.send(run());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap();
    told
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
        self.hooks.check(if mode == OpenMode::Read { "read" } else { "write" }, path)?;
        self.inner.open(path, mode)
    }

    fn metadata(&self, path: &Path) -> Result<Option<(FileKind, u64)>> {
        if path == Path::new("t-0/00000000000000000000.log") {
            run(&self.hooks.looked_up);
        }
        let found = self.inner.metadata(path);
        self.hooks.check("found", path)?;
        found
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
        self.hooks.check("sync_dir", path)?;
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

/// A clock of the program that runs a hook when the time is read.
struct HookedClock {
    inner: Arc<ManualClock>,
    read: Hook,
    /// Runs in the thread that writes checkpoints.
    checkpointer: Hook,
}

impl std::fmt::Debug for HookedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedClock")
    }
}

impl Clock for HookedClock {
    fn now(&self) -> Timestamp {
        run(&self.read);
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        if std::thread::current().name() == Some(CHECKPOINTER) {
            run(&self.checkpointer);
        }
        self.inner.monotonic()
    }
}

/// A `send` that began before `close` settles its partition late, when the next writer has the folder. It must not cut
/// what that writer has written.
#[test]
fn a_late_send_does_not_cut_the_files_of_the_next_writer() {
    let (world, _) = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    producer(&broker, Acks::Written).send(Record::to("t").value(&[1; 5000])).unwrap();
    broker.close().unwrap();

    // The partition is settled by its first append.
    let clock = Arc::new(HookedClock {
        inner: Arc::clone(&world.clock),
        read: Hook::default(),
        checkpointer: Hook::default(),
    });
    let config = world.config.clone().clock(Arc::clone(&clock) as _);
    let broker = Broker::open_storage(Arc::new(world.storage.clone()), config).unwrap();
    let late = producer(&broker, Acks::Written);
    let next = Arc::new(Mutex::new(None));
    let (closes, opens, opened) = (broker.clone(), world.again(), Arc::clone(&next));
    set(&clock.read, move || {
        closes.close().unwrap();
        let next = opens.open();
        producer(&next, Acks::Written).send(Record::to("t").value(&[2; 5000])).unwrap();
        next.checkpoint().unwrap();
        *opened.lock().unwrap() = Some(next);
    });
    assert!(late.send(Record::to("t").value(b"late")).is_err());
    let next = next.lock().unwrap().take().expect("the hook has run");
    let found = segment(&world.storage);
    assert!(found > 10_000, "the file of the next writer was cut to {found} bytes");
    let lost = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
    let again = World { storage: lost, ..world.again() }.open();
    assert!(again.recovery_report().damaged.is_empty(), "{:?}", again.recovery_report().damaged);
    assert_eq!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t"), 2);
    drop(next);
}

fn segment(storage: &Memory) -> u64 {
    let path = Path::new("t-0/00000000000000000000.log");
    storage.metadata(path).unwrap().map_or(0, |(_, len)| len)
}

/// The disk is full, so the checkpoint that `Synced` waits for is never written. A close ends the wait.
#[test]
fn a_close_on_a_full_disk_ends_waits_for_synced() {
    let (mut world, storage) = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.close().unwrap();
    world.config = world.config.background(true);
    storage.hooks.refuse(|thread, op, path| {
        let fails = is_checkpoint(op, path) && [CHECKPOINTER, "closer"].contains(&thread);
        fails.then(|| disk_full(path))?
    });
    let broker = open(&world, &storage);
    let sent = producer(&broker, Acks::Synced).send(Record::to("t").value(b"x")).unwrap();
    let waited = in_thread("waiter", move || sent.wait());
    let closed = in_thread("closer", move || broker.close());
    let closed = closed.recv().unwrap();
    assert!(matches!(closed, Err(Error::DiskFull { .. })), "{closed:?}");
    assert!(waited.recv_timeout(AT_ONCE).is_ok(), "the wait never ends");
}

/// A deletion waits for `Synced`, which waits for the recovery checkpoint. A close, which would write that checkpoint,
/// waits for the deletion.
#[test]
fn a_close_beside_a_deletion_that_waits_for_the_recovery_checkpoint_ends() {
    let (mut world, storage) = world();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    broker.close().unwrap();
    world.config = world.config.background(true);
    let (refused, is_refused) = channel();
    let refused = Mutex::new(refused);
    storage.hooks.refuse(move |thread, op, path| {
        match thread {
            // Retried, and so no end of the wait.
            CHECKPOINTER if is_checkpoint(op, path) => disk_full(path),
            // Another error.
            "deleter" if is_checkpoint(op, path) => {
                refused.lock().unwrap().send(()).unwrap();
                io_error(path)
            }
            _ => None,
        }
    });
    let broker = open(&world, &storage);
    let deletes = broker.clone();
    let deleted = in_thread("deleter", move || deletes.delete_topic("t"));
    is_refused.recv().unwrap();
    let closed = in_thread("closer", move || broker.close());
    let closed = closed.recv_timeout(AT_ONCE);
    assert!(closed.is_ok(), "the close never ends");
    assert!(deleted.recv_timeout(AT_ONCE).is_ok());
}

/// Without a pending recovery checkpoint, the thread that should write it takes a deletion for durable.
#[test]
fn a_failed_deletion_is_not_finished_before_a_checkpoint_contains_it() {
    // In some rounds, the journal thread has synced the deletion.
    (0..20).for_each(|_| fail_a_deletion());
}

fn fail_a_deletion() {
    let (mut world, storage) = world();
    let broker = world.open();
    broker.create_topic("v", TopicConfig::new()).unwrap();
    producer(&broker, Acks::Written).send(Record::to("v").value(b"old")).unwrap();
    broker.close().unwrap();

    let clock = Arc::new(HookedClock {
        inner: Arc::clone(&world.clock),
        read: Hook::default(),
        checkpointer: Hook::default(),
    });
    let (goes_on, may_go_on) = channel::<()>();
    set(&clock.checkpointer, move || {
        let _now = may_go_on.recv();
    });
    world.config = world.config.background(true).clock(Arc::clone(&clock) as _);
    let full = std::sync::atomic::AtomicBool::new(false);
    storage.hooks.refuse(move |thread, op, path| {
        use std::sync::atomic::Ordering::SeqCst;
        if thread == "deleter" && is_checkpoint(op, path) {
            full.store(true, SeqCst);
            return disk_full(path);
        }
        let fails = thread == "deleter" && op == "sync_dir" && path == Path::new("journal");
        (fails && full.load(SeqCst)).then(|| io_error(path))?
    });
    let broker = open(&world, &storage);
    let deletes = broker.clone();
    let deleted = in_thread("deleter", move || deletes.delete_topic("v")).recv().unwrap();
    assert!(matches!(deleted, Err(Error::Indeterminate { .. })), "{deleted:?}");
    while is_set(&clock.checkpointer) {
        std::thread::yield_now();
    }
    // The thread asks for the time before it waits for work, and after it.
    let (works, worked) = channel();
    let after = Arc::clone(&clock);
    set(&clock.checkpointer, move || {
        set(&after.checkpointer, move || works.send(()).unwrap());
    });
    goes_on.send(()).unwrap();
    worked.recv().unwrap();
    let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
    drop(broker);
    let again = World { storage: lost, ..world.again() }.open();
    assert!(again.recovery_report().damaged.is_empty(), "{:?}", again.recovery_report().damaged);
    if again.list_topics() == ["v"] {
        assert_eq!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "v"), 1);
    }
}

/// On a full disk, a deletion is made durable without a checkpoint. Another thread has synced its frame already, and
/// with it nothing of what recovery believed by its checksums.
#[test]
fn a_deletion_whose_frame_another_thread_synced_keeps_stored_records_of_before_a_crash() {
    let (world, _) = world();
    let broker = world.open();
    for topic in ["t", "u", "v"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    let written = producer(&broker, Acks::Written);
    written.send(Record::to("v").value(b"old")).unwrap();
    broker.checkpoint().unwrap();
    written.send(Record::to("t").value(&[1; 5000])).unwrap();
    written.send(Record::to("u").value(&[2; 900])).unwrap();
    let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
    let mut world = World { storage: killed, ..world.again() };
    world.config = world.config.background(true);
    let storage = Hooked { inner: world.storage.clone(), hooks: Arc::default() };

    // The checkpoint fails after it has written the bytes of `t` again.
    let flush: Arc<Hook> = Arc::default();
    let flushes = Arc::clone(&flush);
    storage.hooks.refuse(move |thread, op, path| {
        let fails = op == "write" && path.starts_with("u-0");
        if fails && thread == "deleter" {
            run(&flushes);
        }
        fails.then(|| disk_full(path))?
    });
    let broker = open(&world, &storage);
    let synced = producer(&broker, Acks::Synced);
    let flushed: Arc<Mutex<Option<Receiver<Result<()>>>>> = Arc::default();
    let flusher = Arc::clone(&flushed);
    set(&flush, move || {
        let flushed = in_thread("flusher", move || synced.flush());
        // It has synced the journal then, and waits for the recovery checkpoint.
        let _waits = flushed.recv_timeout(Duration::from_millis(100));
        *flusher.lock().unwrap() = Some(flushed);
    });
    let deletes = broker.clone();
    in_thread("deleter", move || deletes.delete_topic("v")).recv().unwrap().unwrap();
    assert!(!is_set(&flush));
    let lost = world.storage.crash(Crash::LoseAll, &SeededRandom::new(0));
    *storage.hooks.refuses.lock().unwrap() = None;
    let flushed = flushed.lock().unwrap().take().unwrap();
    flushed.recv().unwrap().unwrap();
    drop(broker);
    let again = World { storage: lost, ..world.again() }.try_open().unwrap();
    assert!(again.recovery_report().damaged.is_empty(), "{:?}", again.recovery_report().damaged);
    assert_eq!(again.list_topics(), ["t", "u"]);
    assert_eq!(count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t"), 1);
}

/// A producer prepares a journal file while another thread closes the folder, whose journal has failed. The file may
/// belong to the next writer then.
#[test]
fn a_late_preparation_leaves_the_journal_of_the_next_writer_alone() {
    let rounds: Vec<_> = (0..12).map(|round| (round * 20, prepare_late(round * 20))).collect();
    let lost: Vec<_> = rounds.iter().filter(|(_, (_, lost))| lost.is_some()).collect();
    assert!(lost.is_empty(), "the next writer loses records: {lost:?}");
    let late: Vec<_> = rounds.iter().filter(|(_, (late, _))| *late > 0).collect();
    assert!(late.is_empty(), "files change after the close: {late:?}");
}

/// Returns how many changes came late, and what became of the records of the next writer.
fn prepare_late(records: usize) -> (u64, Option<String>) {
    let (world, storage) = world();
    let broker = open(&world, &storage);
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let written = producer(&broker, Acks::Written);
    let send = || written.send(Record::to("t").value(&[1; 900]));
    for _ in 0..records {
        send().unwrap();
    }
    broker.checkpoint().unwrap();

    let prepares: Arc<Hook> = Arc::default();
    let prepared = Arc::clone(&prepares);
    storage.hooks.refuse(move |_, op, path| {
        if op == "found" && path.starts_with("journal") {
            run(&prepared);
        }
        None
    });
    let next = Arc::new(Mutex::new(None));
    let (opened, closes, opens) = (Arc::clone(&next), broker.clone(), world.again());
    let synced = producer(&broker, Acks::Synced);
    set(&prepares, move || {
        opens.storage.fail_at(opens.storage.ops() + 1, std::io::ErrorKind::Other, false);
        synced.flush().unwrap_err();
        opens.storage.heal();
        let done = in_thread("closer", move || {
            closes.close().unwrap_err();
            let next = opens.open();
            let found = count(next.consumer_with(ConsumerConfig::new()).unwrap(), "t");
            let synced = producer(&next, Acks::Synced);
            synced.send(Record::to("t").value(b"next")).unwrap().wait().unwrap();
            (next, found, opens.storage.ops())
        });
        // It waits for the preparation.
        let early = done.recv_timeout(Duration::from_millis(20)).ok();
        *opened.lock().unwrap() = Some((early, done));
    });
    while send().is_ok() {}
    let (early, done) = next.lock().unwrap().take().expect("a file was prepared");
    let (next, found, changes) = early.unwrap_or_else(|| done.recv().unwrap());
    let late = world.storage.ops() - changes;
    let killed = world.storage.crash(Crash::Kill, &SeededRandom::new(0));
    let again = World { storage: killed, ..world.again() }.try_open();
    drop(next);
    let again = match again {
        Ok(again) => again,
        Err(error) => return (late, Some(error.to_string())),
    };
    let left = count(again.consumer_with(ConsumerConfig::new()).unwrap(), "t");
    (late, (left != found + 1).then(|| format!("{left} of {}", found + 1)))
}
