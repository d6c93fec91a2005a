//! Folders that are not what they should be: links, pipes and devices in the place of files, foreign files,
//! names that collide, permissions (F16, F19, F29 to F32).

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use grouplog::storage::Access;
use grouplog::{
    Acks, Broker, BrokerConfig, Error, NameReason, ProducerConfig, Record, Result, TopicConfig,
};

use crate::fork::in_child;
use crate::world::{AT_ONCE, all, drain, reader, refused, tp};

fn config() -> BrokerConfig {
    BrokerConfig::new().background(false).journal_file_bytes(64 << 10).journal_max_bytes(1 << 20)
}

/// Creates and closes a folder with topic `t` of two partitions and committed offsets.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = Broker::open_with(&path, config().batch_size(1024)).unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap();
    for n in 0..40 {
        producer.send(Record::to("t").partition(n % 2).value(&[n as u8; 300])).unwrap();
    }
    let mut consumer = broker.consumer("g").unwrap();
    consumer.assign([tp("t", 0), tp("t", 1)]).unwrap();
    drain(&mut consumer);
    consumer.commit().unwrap();
    drop((producer, consumer));
    broker.close().unwrap();
    (folder, path)
}

/// Returns every name below a folder: its kind, its mode, and its bytes if it is a file.
fn tree(root: &Path) -> BTreeMap<PathBuf, (String, u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let bytes = if metadata.is_file() { read(&path) } else { Vec::new() };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let kind = format!("{:?}", metadata.file_type());
            found.insert(path, (kind, metadata.permissions().mode(), bytes));
        }
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "looked at from outside of the engine")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "damage from outside of the engine")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "damage from outside of the engine")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

/// Opens in another thread, so that a call that blocks fails the test instead of hanging it.
fn open(path: &Path) -> Result<Broker> {
    let (done, result) = mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || done.send(Broker::open_with(path, config())));
    result.recv_timeout(AT_ONCE).expect("opening blocks")
}

#[derive(Debug, Clone, Copy)]
enum Stranger {
    Link,
    DanglingLink,
    Pipe,
    Folder,
    Device,
}

impl Stranger {
    const ALL: [Self; 5] = [Self::Link, Self::DanglingLink, Self::Pipe, Self::Folder, Self::Device];

    /// Puts it in the place of a file or folder, which moves to `aside`. Returns false if only root could.
    fn replace(self, victim: &Path, aside: &Path) -> bool {
        rename(victim, aside);
        match self {
            Self::Link => symlink(aside, victim).unwrap(),
            Self::DanglingLink => symlink(aside.with_extension("not there"), victim).unwrap(),
            Self::Folder => std::fs::create_dir(victim).unwrap(),
            Self::Pipe => {
                use rustix::fs::{CWD, FileType, Mode, mknodat};
                mknodat(CWD, victim, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }
            Self::Device => {
                use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
                // /dev/full: every write to it fails.
                let device = makedev(1, 7);
                if mknodat(CWD, victim, FileType::CharacterDevice, Mode::RWXU, device).is_err() {
                    rename(aside, victim);
                    return false;
                }
            }
        }
        true
    }
}

#[test]
fn what_lies_in_a_files_place_is_neither_followed_nor_waited_for() {
    let victims = [
        "grouplog.lock",
        "meta.properties",
        "checkpoint.a",
        "checkpoint.b",
        "offsets.a",
        "offsets.b",
        "reserve",
        "journal",
        "journal/0.journal",
        "journal/1.journal",
        "t-0",
        "t-0/00000000000000000000.log",
        "t-0/00000000000000000000.index",
        "t-0/00000000000000000000.timeindex",
        "t-0/partition.metadata",
        "t-0/leader-epoch-checkpoint",
    ];
    let (mut refused, mut opened) = (0, 0);
    for victim in victims {
        for stranger in Stranger::ALL {
            let (folder, path) = folder();
            let (victim, aside) = (path.join(victim), folder.path().join("aside"));
            if !victim.exists() || !stranger.replace(&victim, &aside) {
                continue;
            }
            let (before, aside_before) = (tree(&path), target(&aside));
            let what = format!("{stranger:?} for {}", victim.display());
            match open(&path) {
                Ok(broker) => {
                    opened += 1;
                    // Nothing depended on it, or one partition did.
                    let mut other = broker.consumer_with(grouplog::ConsumerConfig::new()).unwrap();
                    other.assign([tp("t", 1)]).unwrap();
                    assert_eq!(drain(&mut other).len(), 20, "{what}");
                    let own = broker.producer().unwrap().send(Record::to("t").partition(0));
                    if let Err(error) = own {
                        let typed = error.is_corruption() || matches!(error, Error::Io { .. });
                        assert!(typed, "{what}: {error}");
                    }
                    // The close reports what it cannot write.
                    if let Err(error) = broker.close() {
                        assert!(!error.to_string().is_empty(), "{what}");
                    }
                }
                Err(error) => {
                    refused += 1;
                    let typed = matches!(error, Error::Io { .. } | Error::NotADatabase { .. })
                        || error.is_corruption();
                    assert!(typed, "{what}: {error}");
                    assert!(error.to_string().contains("data"), "{what}: {error}");
                    let changed = changes(&before, &tree(&path));
                    assert!(changed.is_empty(), "{what}: {changed:?}");
                }
            }
            assert!(target(&aside) == aside_before, "{what}: it was followed");
            let there = victim.symlink_metadata().unwrap().file_type();
            assert!(!there.is_fifo() || matches!(stranger, Stranger::Pipe), "{what}");
        }
    }
    assert!(refused > 20, "{refused} refused, {opened} opened");
}

/// Returns what the link would lead to.
fn target(aside: &Path) -> BTreeMap<PathBuf, (String, u32, Vec<u8>)> {
    if aside.is_dir() {
        return tree(aside);
    }
    BTreeMap::from([(aside.to_owned(), (String::new(), 0, read(aside)))])
}

/// Returns the names that differ, except the lock file, into which a lock holder writes its process id.
fn changes(
    before: &BTreeMap<PathBuf, (String, u32, Vec<u8>)>,
    after: &BTreeMap<PathBuf, (String, u32, Vec<u8>)>,
) -> Vec<PathBuf> {
    let names = before.keys().chain(after.keys());
    let differ = names
        .filter(|path| before.get(*path) != after.get(*path) && !path.ends_with("grouplog.lock"));
    differ.cloned().collect()
}

#[test]
fn a_text_file_for_a_checkpoint_is_no_folder_of_ours_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("checkpoint.a"), b"step 1000, loss 0.25\n");
    write(&folder.path().join("weights.bin"), &[7; 100]);
    let before = tree(folder.path());
    for error in [refused(open(folder.path())), refused(Broker::open_read_only(folder.path()))] {
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
        assert!(error.to_string().contains("checkpoint.a"), "{error}");
    }
    assert!(before == tree(folder.path()));
}

#[test]
fn checkpoints_that_became_text_are_damage_of_a_folder_of_ours() {
    let (_folder, path) = folder();
    for name in ["checkpoint.a", "checkpoint.b"] {
        write(&path.join(name), b"these are not the bytes you are looking for");
    }
    let before = tree(&path);
    for error in [refused(open(&path)), refused(Broker::open_read_only(&path))] {
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
    }
    assert!(changes(&before, &tree(&path)).is_empty());
}

#[test]
fn a_folder_of_hard_links_is_the_same_folder_and_locked() {
    let (folder, path) = folder();
    let linked = folder.path().join("linked");
    std::fs::create_dir(&linked).unwrap();
    for name in ["grouplog.lock", "meta.properties", "checkpoint.a", "checkpoint.b"] {
        if path.join(name).exists() {
            std::fs::hard_link(path.join(name), linked.join(name)).unwrap();
        }
    }
    let broker = open(&path).unwrap();
    let before = tree(&linked);
    for other in [&linked, &path] {
        let Error::Locked { pid, .. } = refused(open(other)) else { panic!() };
        assert_eq!(pid, Some(std::process::id()));
    }
    let me = std::process::id();
    assert!(in_child(|| {
        matches!(Broker::open(&linked), Err(Error::Locked { pid, .. }) if pid == Some(me))
    }));
    assert!(before == tree(&linked));
    drop(broker);
}

#[test]
fn folders_are_the_owners_alone_unless_widened_and_never_widened_later() {
    let modes = |path: &Path| {
        let modes = tree(path).into_iter().map(|(path, (_, mode, _))| (path, mode & 0o777));
        let own = path.metadata().unwrap().permissions().mode() & 0o777;
        modes.chain([(path.to_owned(), own)]).collect::<Vec<_>>()
    };
    let use_it = |path: &Path, access: Access, topic: &str| {
        let broker = Broker::open_with(path, config().access(access)).unwrap();
        broker.create_topic(topic, TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to(topic).value("v")).unwrap();
        broker.close().unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    for (name, access, dir, file) in [
        ("owner", Access::Owner, 0o700, 0o600),
        ("group", Access::GroupReads, 0o750, 0o640),
        ("all", Access::AllRead, 0o755, 0o644),
    ] {
        let path = folder.path().join(name);
        use_it(&path, access, "t");
        for (path, mode) in modes(&path) {
            // The umask of the process may remove some.
            let most = if path.is_dir() { dir } else { file };
            assert_eq!(mode & !most, 0, "{name}: {} has {mode:o}", path.display());
            assert_eq!(mode & 0o700, most & 0o700, "{name}: {}", path.display());
        }
        let before = modes(&path);
        use_it(&path, Access::AllRead, "u");
        for (path, mode) in modes(&path) {
            let most = if path.is_dir() { dir } else { file };
            assert_eq!(mode & !most, 0, "{name}: {} was widened to {mode:o}", path.display());
        }
        let after = modes(&path);
        assert!(before.iter().all(|known| after.contains(known) || !known.0.exists()));
    }
    // With a umask that removes nothing the modes are exact.
    let path = folder.path().join("exact");
    assert!(in_child(|| {
        rustix::process::umask(rustix::fs::Mode::empty());
        use_it(&path, Access::GroupReads, "t");
        modes(&path).iter().all(|(path, mode)| *mode == if path.is_dir() { 0o750 } else { 0o640 })
    }));
}

#[test]
fn missing_permissions_are_errors_that_name_the_path() {
    let (folder, path) = folder();
    let is_root = rustix::process::geteuid().is_root();
    let denied = |error: &Error| {
        let kind = std::io::ErrorKind::PermissionDenied;
        matches!(error, Error::Io { source, .. } if source.kind() == kind)
            && error.to_string().contains(path.to_str().unwrap())
    };
    let as_nobody = |work: &dyn Fn() -> bool| {
        in_child(|| {
            // SAFETY: only the child changes its user id, and it has one thread.
            #[expect(unsafe_code, reason = "there is no safe way to become another user")]
            let became = !is_root || unsafe { libc::setgid(65534) | libc::setuid(65534) } == 0;
            became && work()
        })
    };
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(folder.path(), 0o755);
    set(&path, 0o000);
    assert!(as_nobody(&|| {
        [Broker::open(&path).unwrap_err(), Broker::open_read_only(&path).unwrap_err()]
            .iter()
            .all(denied)
    }));
    // Readable bytes can be read, although nothing can be written or locked.
    for (name, (kind, _, _)) in tree(&path) {
        let is_dir = kind.contains("is_dir: true");
        set(&name, if is_dir { 0o555 } else { 0o444 });
    }
    set(&path, 0o555);
    assert!(as_nobody(&|| {
        let beside = Broker::open_read_only(&path).unwrap();
        let mut reader = beside.consumer().unwrap();
        reader.assign([tp("t", 0), tp("t", 1)]).unwrap();
        denied(&Broker::open(&path).unwrap_err()) && drain(&mut reader).len() == 40
    }));
    set(&path, 0o755);
}

#[test]
fn names_never_become_other_paths() {
    let (_folder, path) = folder();
    let broker = open(&path).unwrap();
    let before = tree(&path);
    let long = "x".repeat(250);
    for (name, reason) in [
        ("", NameReason::Empty),
        (".", NameReason::Dots),
        ("..", NameReason::Dots),
        ("../up", NameReason::Character),
        ("a/b", NameReason::Character),
        ("a\\b", NameReason::Character),
        ("a\0b", NameReason::Character),
        ("a\nb", NameReason::Character),
        ("\u{e9}", NameReason::Character),
        ("CON", NameReason::Reserved),
        ("lpt1.x", NameReason::Reserved),
        ("T", NameReason::Collides),
        (&long, NameReason::TooLong),
    ] {
        match refused(broker.create_topic(name, TopicConfig::new())) {
            Error::InvalidName { reason: found, .. } => assert_eq!(found, reason, "{name:?}"),
            other => panic!("{name:?}: {other}"),
        }
    }
    assert!(before == tree(&path));
    // A name of the engine's own files, and a name that ends in a dot, cause no collision.
    for name in ["journal", "checkpoint.a", "reserve", "dots..", "-", "t-0"] {
        broker.create_topic(name, TopicConfig::new()).unwrap();
        broker.producer().unwrap().send(Record::to(name).value(name)).unwrap();
    }
    // Group names never become paths.
    let mut consumer = broker.consumer("../../group").unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    drain(&mut consumer);
    consumer.commit().unwrap();
    drop(consumer);
    broker.close().unwrap();
    let broker = open(&path).unwrap();
    assert_eq!(drain(&mut reader(&broker, "t", 2)).len(), 40);
    for name in ["journal", "checkpoint.a", "reserve", "dots..", "-", "t-0"] {
        assert_eq!(all(&broker, name).len(), 1, "{name}");
    }
    assert!(broker.list_groups().contains(&"../../group".to_owned()));
}
