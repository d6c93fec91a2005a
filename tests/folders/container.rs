//! A folder as one file. For each file of the folder it holds the length of the path (u32), the path, the
//! length of the contents (u64) and the contents, big-endian. All of it is compressed with zstd.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use grouplog::storage::{FileKind, OpenMode, Storage};

/// The files of a folder, by their paths in it.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Reads all files of a folder, including the lock file.
pub(crate) fn files_of(storage: &dyn Storage) -> Files {
    let mut files = Files::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in storage.list(&dir).unwrap() {
            let path = dir.join(&entry.name);
            if entry.kind == FileKind::Dir {
                dirs.push(path);
                continue;
            }
            let file = storage.open(&path, OpenMode::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            files.insert(path, bytes);
        }
    }
    files
}

/// Writes files into an empty folder.
pub(crate) fn fill(storage: &dyn Storage, files: &Files) {
    for (path, bytes) in files {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            storage.create_dir(parent).unwrap();
        }
        let file = storage.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
}

pub(crate) fn pack(files: &Files) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, bytes) in files {
        let path = path.to_str().unwrap().as_bytes();
        out.extend(u32::try_from(path.len()).unwrap().to_be_bytes());
        out.extend(path);
        out.extend((bytes.len() as u64).to_be_bytes());
        out.extend(bytes);
    }
    zstd::encode_all(out.as_slice(), 19).unwrap()
}

pub(crate) fn unpack(packed: &[u8]) -> Files {
    let unpacked = zstd::decode_all(packed).unwrap();
    let mut rest = unpacked.as_slice();
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at(len);
        rest = left;
        taken.to_vec()
    };
    let total = unpacked.len();
    let (mut files, mut at) = (Files::new(), 0);
    while at < total {
        let path_len = u32::from_be_bytes(take(4).try_into().unwrap()) as usize;
        let path = String::from_utf8(take(path_len)).unwrap();
        let len = usize::try_from(u64::from_be_bytes(take(8).try_into().unwrap())).unwrap();
        files.insert(path.into(), take(len));
        at += 12 + path_len + len;
    }
    files
}

/// The place of the folders of all builds.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/folders")
}
