use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn disk() -> (tempfile::TempDir, Disk) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    (folder, disk)
}

fn p(path: &str) -> &Path {
    Path::new(path)
}

#[test]
fn a_missing_root_is_created_with_its_parents_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b");
    assert!(matches!(Disk::open(&root), Err(Error::Io { op: "open", .. })));
    let disk = Disk::open_or_create(&root).unwrap();
    assert_eq!(disk.root(), root);
    drop(Disk::open_or_create(&root).unwrap());
    disk.create_dir(p("c")).unwrap();
    disk.open(p("c/f"), OpenMode::CreateNew).unwrap();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path().join("a")), 0o700);
    assert_eq!(mode(root.clone()), 0o700);
    assert_eq!(mode(root.join("c")), 0o700);
    assert_eq!(mode(root.join("c/f")), 0o600);
}

#[test]
fn links_and_special_files_are_refused_without_blocking() {
    let (folder, disk) = disk();
    disk.open(p("real"), OpenMode::CreateNew).unwrap();
    disk.create_dir(p("dir")).unwrap();
    disk.open(p("dir/inner"), OpenMode::CreateNew).unwrap();
    symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
    symlink("dir", folder.path().join("dirlink")).unwrap();
    let fifo = folder.path().join("fifo");
    let made = rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0);
    made.unwrap();
    for name in ["link", "fifo", "dir", "dirlink/inner", "dirlink"] {
        for mode in [OpenMode::Read, OpenMode::Write, OpenMode::CreateNew] {
            let opened = disk.open(p(name), mode);
            assert!(matches!(opened, Err(Error::Io { .. })), "{name} {mode:?} {opened:?}");
        }
        assert!(disk.lock(p(name)).is_err());
    }
    assert_eq!(disk.metadata(p("link")).unwrap(), Some((FileKind::Other, 0)));
    assert_eq!(disk.metadata(p("fifo")).unwrap(), Some((FileKind::Other, 0)));
    assert!(disk.create_dir(p("dirlink")).is_err());
    assert!(disk.list(p("dirlink")).is_err());
}

#[test]
fn another_process_and_this_one_are_kept_out_by_the_lock() {
    let (folder, disk) = disk();
    let held = disk.lock(p("lock")).unwrap();
    let text = std::fs::read_to_string(folder.path().join("lock")).unwrap();
    assert_eq!(text.trim(), std::process::id().to_string());

    let alias = folder.path().join("alias");
    symlink(folder.path(), &alias).unwrap();
    let same = Disk::open(&alias).unwrap();
    let me = Some(std::process::id());
    assert!(matches!(same.lock(p("lock")), Err(Error::Locked { pid, .. }) if pid == me));
    drop(held);

    // A separate open file stands for another process: the table does not know it.
    let other = File::options().read(true).write(true).open(folder.path().join("lock")).unwrap();
    other.try_lock().unwrap();
    other.set_len(0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&other, b"4242\n", 0).unwrap();
    assert!(matches!(disk.lock(p("lock")), Err(Error::Locked { pid: Some(4242), .. })));
    drop(other);
    drop(same.lock(p("lock")).unwrap());
    drop(disk.lock(p("lock")).unwrap());
}

#[test]
fn a_lock_is_given_back_though_a_copy_of_its_descriptor_lives() {
    let (folder, disk) = disk();
    let (file, full) = disk.open_file("lock", p("lock"), OFlags::RDWR | OFlags::CREATE).unwrap();
    let copy = file.try_clone().unwrap(); // as a forked child would have
    drop(DiskLock::take(file, full).unwrap());
    let other = File::open(folder.path().join("lock")).unwrap();
    other.try_lock().unwrap();
    drop(copy);
}

#[test]
fn preallocated_space_is_given_back() {
    let (folder, disk) = disk();
    let file = disk.open(p("a"), OpenMode::CreateNew).unwrap();
    file.write_at(&[1; 5000], 0).unwrap();
    file.preallocate(0, 4 << 20).unwrap();
    let blocks = || folder.path().join("a").metadata().unwrap().blocks() * 512;
    assert_eq!(file.len().unwrap(), 5000);
    if blocks() >= 4 << 20 {
        file.trim().unwrap();
        assert!(blocks() <= 16384, "{}", blocks());
        assert_eq!(file.len().unwrap(), 5000);
    }
}

#[test]
fn many_files_are_synced_in_one_go() {
    let (_folder, disk) = disk();
    let files: Vec<Arc<dyn StorageFile>> = (0..70)
        .map(|n| {
            let file = disk.open(p(&format!("f{n}")), OpenMode::CreateNew).unwrap();
            file.write_at(b"x", 0).unwrap();
            file
        })
        .collect();
    disk.sync_all(&files).unwrap();
    disk.sync_all(&files[..3]).unwrap();
    assert!(!disk.prefers_whole_sync(files[..3].len()));
    if disk.prefers_whole_sync(files.len()) {
        disk.sync_whole().unwrap();
        // A sync of this file system would not cover a file on another one.
        disk.other_device.store(true, Ordering::Relaxed);
        assert!(!disk.prefers_whole_sync(usize::MAX));
        disk.sync_all(&files).unwrap();
    }
}

#[test]
fn files_without_write_access_fail_with_their_path() {
    let (folder, disk) = disk();
    disk.open(p("a"), OpenMode::CreateNew).unwrap().write_at(b"abc", 0).unwrap();
    let file = disk.open(p("a"), OpenMode::Read).unwrap();
    let error = file.write_at(b"x", 0).unwrap_err();
    assert!(
        matches!(&error, Error::Io { op: "write", path, .. } if **path == *folder.path().join("a"))
    );
    assert!(file.map_write(3).is_err());
    assert!(file.write_at_durable(b"x", 0).is_err());
}

#[test]
fn a_map_beyond_the_end_is_refused() {
    let (_folder, disk) = disk();
    let file = disk.open(p("a"), OpenMode::CreateNew).unwrap();
    file.write_at(b"abc", 0).unwrap();
    assert!(matches!(file.map(4, 8), Err(Error::Io { op: "map", .. })));
    assert!(file.map_write(4).is_err());
}

#[test]
fn a_full_device_is_reported_as_such() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let file = DiskFile::new(full, PathBuf::from("/dev/full"));
    // A device has no meaningful positions, but /dev/full fails as a full disk does.
    assert!(matches!(file.write_at(b"x", 0), Err(Error::DiskFull { .. })));
}
