//! The space of each file, and its sums.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::types::planted;

/// The unit of the count, in bytes.
pub(super) const BLOCK: u64 = 4096;
/// A file of more blocks has one more (B2).
const PIECES_INLINE: u64 = 4;
/// One byte of side files for so many bytes of a segment: an entry of each index for 4 KiB, and sums.
const SIDE_RATIO: u64 = 128;
/// The side files of a segment: two indexes and the sums.
const SIDE_FILES: u64 = 3;

/// Returns the space in bytes of a file of this length (B2).
pub(super) fn space(len: u64) -> u64 {
    let blocks = len.div_ceil(BLOCK);
    let list = u64::from(blocks > PIECES_INLINE);
    blocks.saturating_add(list).saturating_mul(BLOCK)
}

/// Returns the space in bytes that the side files of a segment of this length take at the end (B4).
fn side_space(len: u64) -> u64 {
    space(len / SIDE_RATIO).saturating_add(SIDE_FILES * BLOCK)
}

/// Returns the space in bytes that a batch with a buffer of `capacity` may need (B3): its bytes in a segment
/// that it begins, the side files, and the two small files of a new partition.
pub(super) fn batch_space(capacity: usize) -> u64 {
    let bytes = capacity as u64;
    let partition = 2 * BLOCK;
    space(bytes).saturating_add(BLOCK).saturating_add(side_space(bytes)).saturating_add(partition)
}

/// A counted file. Handles share it.
#[derive(Debug)]
pub(super) struct Extent {
    /// The length. Changes only under the ledger's lock.
    pub(super) len: AtomicU64,
    /// The end of what is written or reserved. At least the length.
    pub(super) end: AtomicU64,
    /// The name, or `None` once the file is removed. It is then not counted any more.
    name: Mutex<Option<PathBuf>>,
}

impl Extent {
    pub(super) fn name(&self) -> Option<PathBuf> {
        self.name.lock().clone()
    }

    fn size(&self) -> Size {
        Size { len: self.len.load(Ordering::Relaxed), end: self.end.load(Ordering::Relaxed) }
    }
}

/// How large a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) len: u64,
    pub(super) end: u64,
}

/// What a file is for the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A journal file, or the reserve.
    System,
    /// The first file of a group: a segment, or the id of a partition.
    Main(PathBuf, Group),
    /// Another file of a group: an index, the sums, or the leader epochs of a partition.
    Side(PathBuf),
    /// Anything else.
    Other,
}

/// Returns what the file of this name is. The names are those of `journal`, `engine`, `segment` and `log`.
pub(super) fn kind(path: &Path) -> Kind {
    let text = |part: Option<&std::ffi::OsStr>| {
        part.and_then(|part| part.to_str()).unwrap_or("").to_owned()
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder.as_os_str().is_empty() {
        return if path == Path::new("reserve") { Kind::System } else { Kind::Other };
    }
    if folder == Path::new("journal") {
        return Kind::System;
    }
    match (text(path.extension()).as_str(), text(path.file_name()).as_str()) {
        ("log", _) => Kind::Main(path.with_extension(""), Group::segment()),
        ("index" | "timeindex" | "sums", _) => Kind::Side(path.with_extension("")),
        (_, "partition.metadata") => Kind::Main(folder.to_owned(), Group::partition()),
        (_, "leader-epoch-checkpoint") => Kind::Side(folder.to_owned()),
        _ => Kind::Other,
    }
}

/// Files that are written one after the other. Those that are missing count beforehand (B4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Group {
    is_segment: bool,
    main: Option<Size>,
    /// The space of the other files in bytes.
    sides: u64,
}

impl Group {
    fn segment() -> Self {
        Self { is_segment: true, ..Self::default() }
    }

    fn partition() -> Self {
        Self::default()
    }

    /// Returns the space of all its files, present or not.
    fn claim(&self) -> u64 {
        let Some(main) = self.main else { return self.sides };
        let expected = if planted("budget_ignores_side_files") {
            0
        } else if self.is_segment {
            side_space(main.len)
        } else {
            BLOCK
        };
        space(main.end).saturating_add(self.sides.max(expected))
    }

    /// Returns the space that the segment holds beyond its length.
    fn ahead(&self) -> u64 {
        let main = self.main.filter(|_| self.is_segment).unwrap_or_default();
        space(main.end).saturating_sub(space(main.len))
    }
}

/// Sums of space in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Of all files.
    pub(super) used: u64,
    /// Of the journal and the reserve.
    pub(super) system: u64,
    /// Of all others, with what they need later.
    pub(super) claims: u64,
    /// Ahead of the ends of segments.
    pub(super) ahead: u64,
}

/// All files of a folder.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: BTreeMap<PathBuf, Arc<Extent>>,
    groups: BTreeMap<PathBuf, Group>,
    pub(super) sums: Sums,
}

impl Files {
    pub(super) fn get(&self, path: &Path) -> Option<Arc<Extent>> {
        self.names.get(path).cloned()
    }

    /// Counts a file that exists.
    pub(super) fn add(&mut self, path: &Path, size: Size) -> Arc<Extent> {
        self.remove(path);
        let extent = Arc::new(Extent {
            len: AtomicU64::new(size.len),
            end: AtomicU64::new(size.end),
            name: Mutex::new(Some(path.to_owned())),
        });
        self.count(path, None, Some(size));
        self.names.insert(path.to_owned(), Arc::clone(&extent));
        extent
    }

    /// Counts a removed file no more.
    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(extent) = self.names.remove(path) {
            self.count(path, Some(extent.size()), None);
            *extent.name.lock() = None;
        }
    }

    /// Counts another size of a file.
    pub(super) fn resize(&mut self, extent: &Extent, size: Size) {
        if let Some(path) = extent.name() {
            self.count(&path, Some(extent.size()), Some(size));
        }
        extent.len.store(size.len, Ordering::Relaxed);
        extent.end.store(size.end, Ordering::Relaxed);
    }

    /// Counts a file or folder under its new name. What had that name is replaced.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let moves = |(path, _): &(&PathBuf, &Arc<Extent>)| path.starts_with(from);
        let after = self.names.range(from.to_owned()..);
        let moved: Vec<PathBuf> = after.take_while(moves).map(|(path, _)| path.clone()).collect();
        for path in moved {
            let Some(extent) = self.names.remove(&path) else { continue };
            let below = path.strip_prefix(from).unwrap_or(Path::new(""));
            let new = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            self.remove(&new);
            self.count(&path, Some(extent.size()), None);
            self.count(&new, None, Some(extent.size()));
            *extent.name.lock() = Some(new.clone());
            self.names.insert(new, extent);
        }
    }

    fn count(&mut self, path: &Path, before: Option<Size>, after: Option<Size>) {
        let held = |size: Option<Size>| size.map_or(0, |size| space(size.end));
        let (from, to) = (held(before), held(after));
        self.sums.used = moved(self.sums.used, from, to);
        let (key, group) = match kind(path) {
            Kind::System => {
                self.sums.system = moved(self.sums.system, from, to);
                return;
            }
            Kind::Other => {
                self.sums.claims = moved(self.sums.claims, from, to);
                return;
            }
            Kind::Main(key, group) => (key, Some(group)),
            Kind::Side(key) => (key, None),
        };
        let known = self.groups.entry(key.clone()).or_default();
        let (claim, ahead) = (known.claim(), known.ahead());
        match group {
            Some(group) => *known = Group { main: after, sides: known.sides, ..group },
            None => known.sides = moved(known.sides, from, to),
        }
        self.sums.claims = moved(self.sums.claims, claim, known.claim());
        self.sums.ahead = moved(self.sums.ahead, ahead, known.ahead());
        if known.main.is_none() && known.sides == 0 {
            self.groups.remove(&key);
        }
    }
}

/// Returns a sum in which a part was `from` and is `to` now.
fn moved(sum: u64, from: u64, to: u64) -> u64 {
    sum.saturating_add(to).saturating_sub(from)
}
