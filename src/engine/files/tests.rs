use super::*;
use crate::engine::catalogue::Catalogue;
use crate::storage::Memory;
use crate::types::Lsn;
use std::collections::BTreeMap;

const ID: [u8; 16] = [7; 16];

fn image(generation: u64) -> CheckpointImage {
    CheckpointImage {
        last_seen: None,
        directory_id: ID,
        generation,
        end: Lsn::new(1, 4096),
        epoch: 1,
        offsets: None,
        shares: None,
        closed: false,
        catalogue: Catalogue::default(),
        owners: Arc::default(),
        ids: Vec::new(),
        logs: BTreeMap::new(),
    }
}

fn put(storage: &Memory, path: &str, bytes: &[u8]) {
    let path = Path::new(path);
    if storage.metadata(path).unwrap().is_some() {
        storage.remove(path).unwrap();
    }
    storage.open(path, OpenMode::CreateNew).unwrap().write_at(bytes, 0).unwrap();
}

fn reason<T: std::fmt::Debug>(result: Result<T>) -> CorruptReason {
    match result {
        Err(Error::Corrupt(damage)) => damage.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_is_new_until_its_checkpoint_is_renamed() {
    let storage = Memory::new();
    assert_eq!(classify(&storage).unwrap(), FolderState::New);
    for name in [LOCK_FILE, META_FILE, RESERVE_FILE, "checkpoint.a.new"] {
        put(&storage, name, b"");
    }
    for name in [JOURNAL_DIR, "lost+found"] {
        storage.create_dir(Path::new(name)).unwrap();
    }
    assert_eq!(classify(&storage).unwrap(), FolderState::New);
    write_first_checkpoint(&storage, &image(0)).unwrap();
    assert_eq!(classify(&storage).unwrap(), FolderState::Existing);
}

#[test]
fn a_folder_with_unknown_files_is_not_a_database() {
    for name in ["orders-0", "checkpoint.b.new", "offsets.a"] {
        let storage = Memory::new();
        put(&storage, name, b"");
        assert!(matches!(classify(&storage), Err(Error::NotADatabase { .. })), "{name}");
    }
    // The names of grouplog's files, but folders in place of files and a file in place of a folder.
    for name in [LOCK_FILE, META_FILE, RESERVE_FILE, "checkpoint.a.new"] {
        let storage = Memory::new();
        storage.create_dir(Path::new(name)).unwrap();
        assert!(matches!(classify(&storage), Err(Error::NotADatabase { .. })), "{name}");
    }
    let storage = Memory::new();
    put(&storage, JOURNAL_DIR, b"");
    assert!(matches!(classify(&storage), Err(Error::NotADatabase { .. })));
}

#[test]
fn the_newest_valid_checkpoint_counts() {
    let storage = Memory::new();
    for generation in 1..4 {
        write_checkpoint(&storage, &image(generation)).unwrap().sync(&storage).unwrap();
        assert_eq!(read_checkpoint(&storage).unwrap().generation, generation);
        assert!(other_checkpoint(&storage, generation).unwrap().is_none());
    }
    // Generation 3 is in the second file.
    put(&storage, image::FILES[1], &image(3).encode().unwrap()[..40]);
    assert_eq!(read_checkpoint(&storage).unwrap().generation, 2);
    let (path, damage) = other_checkpoint(&storage, 2).unwrap().unwrap();
    assert_eq!(path, Path::new(image::FILES[1]));
    assert!(damage.is_corruption());
    storage.remove(Path::new(image::FILES[1])).unwrap();
    storage.create_dir(Path::new(image::FILES[1])).unwrap();
    assert_eq!(read_checkpoint(&storage).unwrap().generation, 2);
    let (_, damage) = other_checkpoint(&storage, 2).unwrap().unwrap();
    assert_eq!(reason::<()>(Err(damage)), CorruptReason::Length);
}

#[test]
fn without_a_valid_checkpoint_the_error_says_what_is_there() {
    let storage = Memory::new();
    assert!(matches!(read_checkpoint(&storage), Err(Error::NotADatabase { .. })));
    // Something else has its name, unless `meta.properties` shows that the folder is grouplog's.
    put(&storage, image::FILES[0], b"no checkpoint at all");
    for meta in [&b""[..], b"# group", b"# somebody's\n"] {
        put(&storage, META_FILE, meta);
        assert!(matches!(read_checkpoint(&storage), Err(Error::NotADatabase { .. })), "{meta:?}");
    }
    write_meta(&storage, TopicId::from_bytes(ID)).unwrap();
    assert_eq!(reason(read_checkpoint(&storage)), CorruptReason::Magic);
    put(&storage, image::FILES[0], &image(2).encode().unwrap()[..40]);
    assert_eq!(reason(read_checkpoint(&storage)), CorruptReason::Length);
}

#[test]
fn a_meta_file_names_one_folder() {
    let storage = Memory::new();
    assert!(!is_meta_of(&storage, ID).unwrap());
    write_meta(&storage, TopicId::from_bytes(ID)).unwrap();
    write_meta(&storage, TopicId::from_bytes(ID)).unwrap();
    assert!(is_meta_of(&storage, ID).unwrap());
    assert!(!is_meta_of(&storage, [8; 16]).unwrap());
    storage.remove(Path::new(META_FILE)).unwrap();
    storage.create_dir(Path::new(META_FILE)).unwrap();
    assert!(!is_meta_of(&storage, ID).unwrap());
}

/// The checkpoint names generation and checksum of the offset file. Another valid file in its place is
/// damage.
#[test]
fn only_the_offset_file_that_the_checkpoint_names_is_read() {
    let storage = Memory::new();
    let offsets = OffsetStore::new();
    let (file, unsynced) = write_offsets(&storage, ID, &offsets, None).unwrap();
    unsynced.sync(&storage).unwrap();
    assert_eq!(read_offsets(&storage, ID, file).unwrap(), offsets);
    let (next, _) = write_offsets(&storage, ID, &offsets, Some(file)).unwrap();
    assert_eq!((next.slot, next.generation), (1 - file.slot, file.generation + 1));
    for other in [
        ImageFile { generation: file.generation + 1, ..file },
        ImageFile { crc: !file.crc, ..file },
    ] {
        assert_eq!(reason(read_offsets(&storage, ID, other)), CorruptReason::Field, "{other:?}");
    }
    assert_eq!(reason(read_offsets(&storage, [8; 16], file)), CorruptReason::Field);
    let path = image_path(OFFSET_FILES, file.slot);
    storage.remove(path).unwrap();
    assert_eq!(reason(read_offsets(&storage, ID, file)), CorruptReason::Missing);
    storage.create_dir(path).unwrap();
    assert_eq!(reason(read_offsets(&storage, ID, file)), CorruptReason::Missing);
}

#[test]
fn removing_a_deleted_topic_keeps_foreign_folders() {
    let storage = Memory::new();
    let id = TopicId::from_bytes([3; 16]);
    let deletion = Deletion { name: "orders".into(), id, partitions: 3 };
    for partition in [0, 2] {
        let dir = folder_name("orders", partition);
        storage.create_dir(Path::new(&dir)).unwrap();
        put(&storage, &format!("{dir}/00000000000000000000.log"), b"records");
    }
    set_aside(&storage, &deletion).unwrap();
    let aside = deleted_folder_name("orders", 0, id);
    assert!(storage.metadata(Path::new("orders-0")).unwrap().is_none());
    // A second call changes nothing, and power loss may undo the renames.
    set_aside(&storage, &deletion).unwrap();
    restore_folder(&storage, "orders", 0, id).unwrap();
    restore_folder(&storage, "orders", 1, id).unwrap();
    assert!(storage.metadata(Path::new("orders-0")).unwrap().is_some());
    assert!(storage.metadata(Path::new("orders-1")).unwrap().is_none());
    set_aside(&storage, &deletion).unwrap();

    let theirs = format!("{aside}/theirs");
    storage.create_dir(Path::new(&theirs)).unwrap();
    assert!(remove_folders(&storage, &deletion).is_err());
    assert!(storage.metadata(Path::new(&theirs)).unwrap().is_some());
    storage.remove_dir(Path::new(&theirs)).unwrap();
    remove_folders(&storage, &deletion).unwrap();
    assert_eq!(storage.list(Path::new("")).unwrap(), []);
}

#[test]
fn epochs_are_exported_and_repaired() {
    let storage = Memory::new();
    let dir = Path::new("orders-0");
    storage.create_dir(dir).unwrap();
    // What every batch says needs no file.
    assert!(export_epochs(&storage, dir, &[(1, 0)]).unwrap().is_none());
    assert!(mend_epochs(&storage, dir, &[(1, 0), (4, 70)]).unwrap().is_none());
    assert_eq!(storage.list(dir).unwrap(), []);
    for (epochs, text) in
        [(&[(1, 0), (4, 70)][..], "0\n2\n1 0\n4 70\n"), (&[(5, 9)], "0\n1\n5 9\n")]
    {
        assert!(export_epochs(&storage, dir, epochs).unwrap().is_some());
        assert!(export_epochs(&storage, dir, epochs).unwrap().is_none());
        let file = storage.open(&dir.join(EPOCHS_FILE), OpenMode::Write).unwrap();
        file.write_at(b"9", 4).unwrap();
        mend_epochs(&storage, dir, epochs).unwrap();
        file.set_len(0).unwrap();
        mend_epochs(&storage, dir, epochs).unwrap();
        let file = storage.open(&dir.join(EPOCHS_FILE), OpenMode::Read).unwrap();
        assert_eq!(read_all(&*file, file.len().unwrap()).unwrap(), text.as_bytes());
    }
}

/// The bytes behind an image are the rest of a longer one. They are not read, however many they are.
#[test]
fn a_long_file_with_a_short_image_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let disk = crate::storage::Disk::open(temp.path()).unwrap();
    write_checkpoint(&disk, &image(2)).unwrap().sync(&disk).unwrap();
    let (named, unsynced) = write_offsets(&disk, ID, &OffsetStore::new(), None).unwrap();
    unsynced.sync(&disk).unwrap();
    for name in [image::FILES[0], OFFSET_FILES[usize::from(named.slot)]] {
        // The file is sparse: 8 TiB take no space.
        disk.open(Path::new(name), OpenMode::Write).unwrap().set_len(8 << 40).unwrap();
    }
    assert_eq!(read_checkpoint(&disk).unwrap().generation, 2);
    keep_checkpoint(&disk, 2).unwrap();
    write_checkpoint(&disk, &image(3)).unwrap().sync(&disk).unwrap();
    assert!(other_checkpoint(&disk, 3).unwrap().is_none());
    assert_eq!(read_offsets(&disk, ID, named).unwrap(), OffsetStore::new());
}

/// The older checkpoint stays.
#[test]
fn a_checkpoint_that_could_not_be_read_is_not_written() {
    let storage = Memory::new();
    write_checkpoint(&storage, &image(2)).unwrap().sync(&storage).unwrap();
    let last = CheckpointImage { epoch: i32::MAX, ..image(4) };
    let refused = write_checkpoint(&storage, &last).map(|_| ());
    assert!(matches!(refused, Err(Error::LimitExceeded { .. })), "{refused:?}");
    assert_eq!(read_checkpoint(&storage).unwrap().generation, 2);
}
