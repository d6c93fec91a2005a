//! Finds files and folders that nothing refers to.

use std::path::{Path, PathBuf};

use super::FindingKind;
use crate::dedup::DEDUP_DIR;
use crate::engine::catalogue::Catalogue;
use crate::engine::registry::Registry;
use crate::engine::{files, image};
use crate::error::Result;
use crate::log::{Log, METADATA_FILE};
use crate::segment::{deleted_folder_name, folder_name, parse_file_name};
use crate::storage::{DirEntry, FileKind, Storage};

/// The state in which a folder was left.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Whether the journal has no frame behind the checkpoint.
    pub(super) is_empty: bool,
    /// Whether the folder was closed and not opened for writing since.
    pub(super) is_closed: bool,
}

/// Everything that is referred to.
pub(super) struct Listed<'a> {
    pub(super) registry: &'a Registry,
    pub(super) catalogue: &'a Catalogue,
    pub(super) state: State,
}

type Stray = (FindingKind, PathBuf);

impl Listed<'_> {
    /// Returns everything that nothing refers to. Files that a writer is creating look like those of an
    /// interrupted step, so they are not reported unless the folder was closed.
    pub(super) fn strays(&self, storage: &dyn Storage) -> Result<Vec<Stray>> {
        let mut strays = Vec::new();
        let mut known = vec![files::JOURNAL_DIR.to_owned(), DEDUP_DIR.to_owned()];
        for topic in self.registry.topics() {
            for (number, log) in topic.logs.iter().enumerate() {
                let folder = folder_name(&topic.name, number as u32);
                self.strays_in(storage, Path::new(&folder), log, &mut strays)?;
                known.push(folder);
            }
        }
        known.extend(self.catalogue.deletions().iter().flat_map(|gone| {
            (0..gone.partitions).map(|number| deleted_folder_name(&gone.name, number, gone.id))
        }));
        known.sort_unstable();
        for entry in storage.list(Path::new(""))? {
            let kind = match entry.kind {
                FileKind::Dir if known.binary_search(&entry.name).is_ok() => None,
                FileKind::Dir if entry.name.ends_with("-delete") => Some(FindingKind::Leftover),
                FileKind::Dir => foreign(&entry),
                _ if is_root_file(&entry.name) => None,
                _ => self.interrupted_or_foreign(&entry, is_root_file),
            };
            strays.extend(kind.map(|kind| (kind, PathBuf::from(entry.name))));
        }
        Ok(strays)
    }

    fn strays_in(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        log: &Log,
        strays: &mut Vec<Stray>,
    ) -> Result<()> {
        if !matches!(storage.metadata(dir)?, Some((FileKind::Dir, _))) {
            return Ok(());
        }
        let segments = log.segment_ids();
        for entry in storage.list(dir)? {
            let kind = match parse_file_name(&entry.name) {
                _ if is_partition_file(&entry.name) => None,
                None => self.interrupted_or_foreign(&entry, is_partition_file),
                Some(name) => {
                    let listed = segments.binary_search(&name.id).is_ok();
                    // A segment behind the last listed one was begun after the checkpoint, as a cleaned one that
                    // is not listed was. One in the range of a listed cleaned one waits to be removed.
                    let after = segments.partition_point(|known| *known <= name.id);
                    let around = after.checked_sub(1).and_then(|at| segments.get(at));
                    let same_base = segments
                        .get(after)
                        .filter(|known| known.base_offset == name.id.base_offset);
                    let is_replaced =
                        same_base.or(around).is_some_and(|known| known.generation > 0);
                    let is_behind = segments.last().is_none_or(|last| name.id > *last)
                        || name.id.generation > 0;
                    let begun = (is_behind || is_replaced) && !self.state.is_closed;
                    let expected = name.suffix.is_none() && (listed || begun);
                    (!expected).then_some(FindingKind::Leftover)
                }
            };
            strays.extend(kind.map(|kind| (kind, dir.join(&entry.name))));
        }
        Ok(())
    }

    /// Classifies a file with an unknown name: an interrupted rename of a grouplog file, or a foreign file.
    fn interrupted_or_foreign(
        &self,
        entry: &DirEntry,
        is_known: fn(&str) -> bool,
    ) -> Option<FindingKind> {
        let renamed = entry.name.strip_suffix(files::NEW_SUFFIX);
        if entry.kind == FileKind::File && renamed.is_some_and(is_known) {
            return self.state.is_closed.then_some(FindingKind::Leftover);
        }
        foreign(entry)
    }
}

/// Returns `Foreign`, unless the name is one that file systems, desktops or version control create
/// everywhere.
fn foreign(entry: &DirEntry) -> Option<FindingKind> {
    let everywhere = entry.name.starts_with('.') || entry.name == "lost+found";
    (!everywhere).then_some(FindingKind::Foreign)
}

fn is_root_file(name: &str) -> bool {
    [files::LOCK_FILE, files::META_FILE, files::RESERVE_FILE].contains(&name)
        || image::FILES.contains(&name)
        || files::OFFSET_FILES.contains(&name)
        || files::SHARE_FILES.contains(&name)
}

fn is_partition_file(name: &str) -> bool {
    [METADATA_FILE, files::EPOCHS_FILE].contains(&name)
}
