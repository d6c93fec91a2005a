//! Bytes outside the journal that frames rely on: records that an append stored in a segment before it journaled
//! where they are. A sync makes them durable together with the frames (J4).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::storage::{Storage, StorageFile};
use crate::types::{Lsn, planted};

/// The files and the folder of one partition that a frame relies on.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    /// The number of the partition.
    pub(crate) partition: u32,
    /// The files with bytes that may not be durable yet. Their owner closes a file only when it is synced, or
    /// where one sync of the whole storage covers closed files.
    pub(crate) files: Vec<Weak<dyn StorageFile>>,
    /// Whether more files were closed unsynced, so that only a sync of the whole storage covers them.
    pub(crate) left: bool,
    /// The folder, whose names may not be durable yet.
    pub(crate) folder: PathBuf,
}

/// What the unsynced frames rely on.
#[derive(Debug, Clone, Default)]
pub(super) struct Relied {
    partitions: BTreeMap<u32, (Outside, Lsn)>,
}

impl Relied {
    /// Adds what the frame that ends at `end` relies on.
    pub(super) fn add(&mut self, outside: &[Outside], end: Lsn) {
        for new in outside {
            let known = self.partitions.entry(new.partition);
            let (known, last) = known.or_insert_with(|| (new.clone(), end));
            *last = end;
            known.left |= new.left;
            for file in &new.files {
                if !known.files.iter().any(|known| known.ptr_eq(file)) {
                    known.files.retain(|file| file.strong_count() > 0);
                    known.files.push(Weak::clone(file));
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Forgets what only frames below `end` rely on. It is durable.
    pub(super) fn settle(&mut self, end: Lsn) {
        self.partitions.retain(|_, (_, last)| *last > end);
    }

    /// Makes all of it durable.
    pub(super) fn sync(&self, storage: &dyn Storage) -> Result<()> {
        let all = || self.partitions.values().map(|(outside, _)| outside);
        let known = || all().flat_map(|outside| &outside.files);
        let files: Vec<Arc<dyn StorageFile>> = known().filter_map(Weak::upgrade).collect();
        let whole = storage.prefers_whole_sync(usize::MAX);
        let closed = whole && files.len() < known().count() && !planted("closed_files_not_synced");
        if closed || all().any(|outside| outside.left) && !planted("left_files_not_relied_on") {
            return storage.sync_whole();
        }
        storage.sync_all(&files)?;
        if planted("stored_names_not_synced") {
            return Ok(());
        }
        for outside in all() {
            match storage.sync_dir(&outside.folder) {
                // The folder of a topic that was deleted meanwhile has another name, and needs no sync.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                synced => synced?,
            }
        }
        // The folders may be new as well.
        storage.sync_dir(Path::new(""))
    }
}
