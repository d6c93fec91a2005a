//! The contract of `Storage`, tested on every storage.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::error::{Error, Result};

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn on_each(check: impl Fn(&dyn Storage)) {
    check(&Memory::new());
    check(&Memory::crash_simulating(1));
    #[cfg(all(unix, not(miri)))]
    {
        let folder = tempfile::tempdir().unwrap();
        check(&Disk::open(folder.path()).unwrap());
    }
}

fn create(storage: &dyn Storage, path: &str, bytes: &[u8]) -> Arc<dyn StorageFile> {
    let file = storage.open(p(path), OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn bytes_of(storage: &dyn Storage, path: &str) -> Vec<u8> {
    let file = storage.open(p(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize + 1];
    let len = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

#[track_caller]
fn fails<T: fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Err(Error::Io { source, .. }) if source.kind() == kind => {}
        other => panic!("expected {kind:?}, got {other:?}"),
    }
}

#[test]
fn bytes_are_read_back_where_they_were_written() {
    on_each(|storage| {
        let file = create(storage, "a", b"hello");
        file.write_at(b"J", 0).unwrap();
        file.write_at_durable(b"y!", 4).unwrap();
        file.write_at(b"end", 10).unwrap();
        assert_eq!(bytes_of(storage, "a"), b"Jelly!\0\0\0\0end");
        assert_eq!(file.len().unwrap(), 13);
        let mut two = [9; 2];
        assert_eq!(file.read_at(&mut two, 12).unwrap(), 1);
        assert_eq!(file.read_at(&mut two, 13).unwrap(), 0);
        assert_eq!(file.read_at(&mut two, 1 << 40).unwrap(), 0);
        assert_eq!(two, [b'd', 9]);
        assert!(file.path().ends_with("a"));
        assert!(!file.is_empty().unwrap());
    });
}

#[test]
fn a_file_is_cut_and_extended_with_zeros() {
    on_each(|storage| {
        let file = create(storage, "a", b"hello");
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(bytes_of(storage, "a"), b"he\0\0");
        file.sync_data().unwrap();
    });
}

#[test]
fn kept_space_does_not_change_the_length() {
    on_each(|storage| {
        let file = create(storage, "a", b"hello");
        file.preallocate(0, 100_000).unwrap();
        file.preallocate(0, 0).unwrap();
        assert_eq!(file.len().unwrap(), 5);
        file.trim().unwrap();
        file.start_writeback(0, 5);
        assert_eq!(bytes_of(storage, "a"), b"hello");
    });
}

#[test]
fn a_file_is_created_once() {
    on_each(|storage| {
        create(storage, "a", b"");
        fails(storage.open(p("a"), OpenMode::CreateNew), ErrorKind::AlreadyExists);
        fails(storage.open(p("b"), OpenMode::Read), ErrorKind::NotFound);
        fails(storage.open(p("b"), OpenMode::Write), ErrorKind::NotFound);
        fails(storage.open(p("c/b"), OpenMode::CreateNew), ErrorKind::NotFound);
        assert_eq!(storage.metadata(p("b")).unwrap(), None);
        assert_eq!(storage.metadata(p("c/b")).unwrap(), None);
    });
}

#[test]
fn a_file_opened_for_reading_is_not_written() {
    on_each(|storage| {
        create(storage, "a", b"hello");
        let file = storage.open(p("a"), OpenMode::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.write_at_durable(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.map_write(1).is_err());
        let file = storage.open(p("a"), OpenMode::Write).unwrap();
        file.write_at(b"J", 0).unwrap();
        assert_eq!(bytes_of(storage, "a"), b"Jello");
    });
}

#[test]
fn folders_hold_names_in_order() {
    on_each(|storage| {
        storage.create_dir(p("d")).unwrap();
        storage.create_dir(p("d")).unwrap();
        storage.create_dir(p("d/e")).unwrap();
        create(storage, "d/b", b"12");
        create(storage, "d/a", b"1");
        let names: Vec<_> =
            storage.list(p("d")).unwrap().into_iter().map(|e| (e.name, e.kind)).collect();
        let expected = [("a", FileKind::File), ("b", FileKind::File), ("e", FileKind::Dir)];
        assert_eq!(names, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(storage.list(p("")).unwrap().len(), 1);
        assert_eq!(storage.metadata(p("d/b")).unwrap(), Some((FileKind::File, 2)));
        assert_eq!(storage.metadata(p("d/e")).unwrap(), Some((FileKind::Dir, 0)));
        assert_eq!(storage.metadata(p("")).unwrap(), Some((FileKind::Dir, 0)));
        fails(storage.list(p("x")), ErrorKind::NotFound);
        fails(storage.list(p("d/a")), ErrorKind::NotADirectory);
        fails(storage.create_dir(p("d/a")), ErrorKind::AlreadyExists);
        fails(storage.create_dir(p("x/y")), ErrorKind::NotFound);
        storage.sync_dir(p("")).unwrap();
        storage.sync_dir(p("d")).unwrap();
        fails(storage.sync_dir(p("x")), ErrorKind::NotFound);
    });
}

#[test]
fn removed_names_are_gone_and_open_files_stay() {
    on_each(|storage| {
        storage.create_dir(p("d")).unwrap();
        let file = create(storage, "d/a", b"hello");
        fails(storage.remove_dir(p("d")), ErrorKind::DirectoryNotEmpty);
        fails(storage.remove(p("d")), ErrorKind::IsADirectory);
        fails(storage.remove_dir(p("d/a")), ErrorKind::NotADirectory);
        storage.remove(p("d/a")).unwrap();
        fails(storage.remove(p("d/a")), ErrorKind::NotFound);
        storage.remove_dir(p("d")).unwrap();
        fails(storage.remove_dir(p("d")), ErrorKind::NotFound);
        let mut read = [0; 5];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 5);
        assert_eq!(&read, b"hello");
    });
}

#[test]
fn a_rename_moves_and_replaces() {
    on_each(|storage| {
        storage.create_dir(p("d")).unwrap();
        create(storage, "a", b"new");
        let old = create(storage, "d/b", b"old");
        storage.rename(p("a"), p("d/b")).unwrap();
        assert_eq!(storage.metadata(p("a")).unwrap(), None);
        assert_eq!(bytes_of(storage, "d/b"), b"new");
        assert_eq!(old.len().unwrap(), 3);
        storage.rename(p("d/b"), p("d/b")).unwrap();
        storage.rename(p("d"), p("e")).unwrap();
        assert_eq!(bytes_of(storage, "e/b"), b"new");
        fails(storage.rename(p("e"), p("e/f")), ErrorKind::InvalidInput);
        fails(storage.rename(p("x"), p("y")), ErrorKind::NotFound);
        create(storage, "c", b"");
        fails(storage.rename(p("e"), p("c")), ErrorKind::NotADirectory);
        fails(storage.rename(p("c"), p("e")), ErrorKind::IsADirectory);
        storage.create_dir(p("f")).unwrap();
        fails(storage.rename(p("f"), p("e")), ErrorKind::DirectoryNotEmpty);
        storage.rename(p("e"), p("f")).unwrap();
        assert_eq!(bytes_of(storage, "f/b"), b"new");
    });
}

#[test]
fn no_path_leads_out() {
    on_each(|storage| {
        for path in ["..", "../a", "/a", "d/../../a"] {
            fails(storage.open(p(path), OpenMode::CreateNew), ErrorKind::InvalidInput);
            fails(storage.metadata(p(path)), ErrorKind::InvalidInput);
            fails(storage.remove(p(path)), ErrorKind::InvalidInput);
            fails(storage.create_dir(p(path)), ErrorKind::InvalidInput);
            fails(storage.remove_dir(p(path)), ErrorKind::InvalidInput);
            fails(storage.rename(p(path), p("b")), ErrorKind::InvalidInput);
            fails(storage.rename(p("b"), p(path)), ErrorKind::InvalidInput);
            fails(storage.list(p(path)), ErrorKind::InvalidInput);
            fails(storage.sync_dir(p(path)), ErrorKind::InvalidInput);
            fails(storage.lock(p(path)).map(drop), ErrorKind::InvalidInput);
        }
        fails(storage.open(p(""), OpenMode::Read), ErrorKind::InvalidInput);
    });
}

#[test]
fn the_lock_is_held_once_and_given_back() {
    on_each(|storage| {
        let held = storage.lock(p("lock")).unwrap();
        let me = std::process::id();
        match storage.lock(p("lock")) {
            Err(Error::Locked { pid, path }) => {
                assert_eq!(pid, Some(me));
                assert_eq!(path, storage.display_path(p("lock")));
            }
            other => panic!("{other:?}"),
        }
        let text = String::from_utf8(bytes_of(storage, "lock")).unwrap();
        assert_eq!(text.trim(), me.to_string());
        drop(held);
        drop(storage.lock(p("lock")).unwrap());
    });
}

#[test]
fn a_read_map_shows_what_was_written_and_outlives_the_name() {
    on_each(|storage| {
        let file = create(storage, "a", b"hello");
        let map = file.map(5, 8192).unwrap();
        file.map(0, 0).unwrap();
        fails(file.map(6, 8192), ErrorKind::UnexpectedEof);
        storage.remove(p("a")).unwrap();
        drop(file);
        assert_eq!(map.slice(1..5), Some(b"ello".as_slice()));
        assert_eq!(map.slice(1..6), None);
        assert_eq!(map.readable(), 5);
    });
}

#[test]
fn stores_through_a_map_are_read_from_the_file() {
    on_each(|storage| {
        let file = create(storage, "a", &[0; 64]);
        let map = file.map_write(64).unwrap();
        fails(file.map_write(65), ErrorKind::UnexpectedEof);
        map.write(60, b"last").unwrap();
        assert!(map.write(61, b"last").is_err());
        file.sync_data().unwrap();
        assert_eq!(&bytes_of(storage, "a")[60..], b"last");
        file.write_at(b"L", 60).unwrap();
        let mut read = [0; 4];
        map.read(60, &mut read).unwrap();
        assert_eq!(&read, b"Last");
    });
}

#[test]
fn several_files_are_synced_at_once() {
    on_each(|storage| {
        let files = [create(storage, "a", b"1"), create(storage, "b", b"2")];
        storage.sync_all(&files).unwrap();
        storage.sync_all(&[]).unwrap();
        assert!(storage.free_space().unwrap() > 0);
    });
}

#[test]
fn the_whole_is_synced_though_a_file_is_closed() {
    on_each(|storage| {
        drop(create(storage, "a", b"1"));
        assert!(!storage.prefers_whole_sync(0));
        if cfg!(target_os = "linux") {
            storage.sync_whole().unwrap();
        }
    });
}

#[test]
fn nothing_changes_through_a_read_only_storage() {
    let memory = Memory::crash_simulating(1);
    create(&memory, "a", b"hello");
    memory.create_dir(p("d")).unwrap();
    let ops = memory.ops();
    let storage = ReadOnly::new(memory.clone());
    let file = storage.open(p("a"), OpenMode::Read).unwrap();
    let kind = ErrorKind::ReadOnlyFilesystem;
    fails(storage.open(p("a"), OpenMode::Write), kind);
    fails(storage.open(p("b"), OpenMode::CreateNew), kind);
    fails(storage.rename(p("a"), p("b")), kind);
    fails(storage.remove(p("a")), kind);
    fails(storage.create_dir(p("e")), kind);
    fails(storage.remove_dir(p("d")), kind);
    fails(storage.sync_dir(p("")), kind);
    fails(storage.lock(p("lock")), kind);
    fails(storage.sync_all(&[]), kind);
    fails(storage.sync_whole(), kind);
    assert!(!storage.prefers_whole_sync(usize::MAX));
    fails(file.write_at(b"x", 0), kind);
    fails(file.write_at_durable(b"x", 0), kind);
    fails(file.set_len(0), kind);
    fails(file.sync_data(), kind);
    fails(file.preallocate(0, 9), kind);
    fails(file.trim(), kind);
    fails(file.map_write(1), kind);
    file.start_writeback(0, 1);
    assert_eq!(memory.ops(), ops);
    assert_eq!(file.map(5, 5).unwrap().slice(0..5), Some(b"hello".as_slice()));
    assert_eq!(bytes_of(&storage, "a"), b"hello");
    assert_eq!(storage.metadata(p("a")).unwrap(), Some((FileKind::File, 5)));
    assert_eq!(storage.list(p("")).unwrap().len(), 2);
    assert!(!storage.supports_write_map());
    assert_eq!(storage.display_path(p("a")), memory.display_path(p("a")));
}
