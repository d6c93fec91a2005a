//! Folders in memory, and which of their names would survive a crash.
//!
//! T1. `now` is what the process sees. `durable` with all of `pending` applied in order gives the
//!     same names.
//! T2. Making a change of names durable also makes earlier changes of the same names durable.
//!     Losing one loses the later ones of the same names. So a name always has the state after some
//!     prefix of its changes. A rename is one change: a file is found under its old name or its new
//!     one, never both or neither.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::contents::Inode;

pub(super) type DirId = u64;

/// A name: the id of its folder and the name in it.
pub(super) type Name = (DirId, String);

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Arc<Inode>),
    Dir(DirId),
}

impl Node {
    pub(super) fn forked(&self, mut fork: impl FnMut(&Arc<Inode>) -> Arc<Inode>) -> Self {
        match self {
            Self::File(inode) => Self::File(fork(inode)),
            Self::Dir(id) => Self::Dir(*id),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            (Self::Dir(a), Self::Dir(b)) => a == b,
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<String, Node>,
    pub(super) durable: BTreeMap<String, Node>,
}

/// A change of names.
#[derive(Debug, Clone)]
pub(super) enum DirChange {
    Link(Name, Node),
    Unlink(Name),
    Rename(Name, Name, Node),
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) dirs: HashMap<DirId, Dir>,
    pub(super) pending: Vec<DirChange>,
    /// Durable bytes of files that are gone for good, as a device still holds them. They may appear
    /// in the lost part of a file that grew.
    pub(super) leftovers: VecDeque<Arc<[u8]>>,
    pub(super) next_id: u64,
    keeps_history: bool,
}

/// The folder of the empty path.
pub(super) const ROOT: DirId = 0;

const LEFTOVERS_MAX: usize = 4;

impl Tree {
    pub(super) fn new(keeps_history: bool) -> Self {
        Self {
            dirs: HashMap::from([(ROOT, Dir::default())]),
            pending: Vec::new(),
            leftovers: VecDeque::new(),
            next_id: ROOT + 1,
            keeps_history,
        }
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<DirId> {
        let mut at = ROOT;
        for name in path.components() {
            let name = name.as_os_str().to_str().ok_or(io::ErrorKind::InvalidInput)?;
            at = match self.dirs.get(&at).and_then(|dir| dir.now.get(name)) {
                Some(Node::Dir(id)) => *id,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
        }
        Ok(at)
    }

    /// Returns the last component of a path, whose folder must exist.
    pub(super) fn name(&self, path: &Path) -> io::Result<Name> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name.to_owned()))
    }

    pub(super) fn get(&self, (dir, name): &Name) -> Option<&Node> {
        self.dirs.get(dir)?.now.get(name)
    }

    /// Returns the blocks of 4 KiB of all files, in bytes.
    pub(super) fn disk_blocks(&self) -> u64 {
        self.disk_blocks_within(ROOT)
    }

    fn disk_blocks_within(&self, id: DirId) -> u64 {
        let nodes = self.dirs.get(&id).into_iter().flat_map(|dir| dir.now.values());
        let blocks = nodes.map(|node| match node {
            Node::Dir(id) => self.disk_blocks_within(*id),
            Node::File(inode) => {
                let bytes = inode.contents.lock().allocated();
                bytes.next_multiple_of(4096) as u64
            }
        });
        blocks.sum()
    }

    pub(super) fn is_empty_dir(&self, id: DirId) -> bool {
        self.dirs.get(&id).is_none_or(|dir| dir.now.is_empty())
    }

    /// Returns whether `inner` is `outer` or lies below it.
    pub(super) fn is_within(&self, inner: DirId, outer: DirId) -> bool {
        if inner == outer {
            return true;
        }
        self.dirs.get(&outer).is_some_and(|dir| {
            dir.now.values().any(|node| match node {
                Node::Dir(id) => self.is_within(inner, *id),
                Node::File(_) => false,
            })
        })
    }

    /// Applies a checked change.
    pub(super) fn apply(&mut self, change: DirChange) {
        let displaced = change.apply_to(&mut self.dirs, |dir| &mut dir.now);
        if self.keeps_history {
            self.pending.push(change);
        } else if let Some(Node::Dir(id)) = displaced {
            self.dirs.remove(&id);
        }
    }

    /// Makes the names of a folder durable.
    pub(super) fn sync(&mut self, id: DirId) {
        let mut names: HashSet<Name> = HashSet::new();
        let mut durable = vec![false; self.pending.len()];
        // From the last to the first, so that the changes a change builds on become durable with it
        // (T2).
        for (change, durable) in self.pending.iter().zip(&mut durable).rev() {
            *durable = change.names().any(|name| name.0 == id || names.contains(name));
            if *durable {
                names.extend(change.names().cloned());
            }
        }
        let mut durable = durable.into_iter();
        self.settle_where(|_| durable.next().unwrap_or_default());
    }

    /// Makes the names of all folders durable.
    pub(super) fn sync_all(&mut self) {
        self.settle_where(|_| true);
    }

    /// Moves the changes for which `durable` returns true to the durable names. The others stay
    /// pending.
    fn settle_where(&mut self, mut durable: impl FnMut(&DirChange) -> bool) {
        for change in std::mem::take(&mut self.pending) {
            if durable(&change) {
                let replaced = change.apply_to(&mut self.dirs, |dir| &mut dir.durable);
                if let Some(Node::File(inode)) = replaced {
                    self.leave(&inode);
                }
            } else {
                self.pending.push(change);
            }
        }
    }

    /// Sets the tree to the state after a crash. Of the pending changes, those survive for which
    /// `keep` returns true. Everything is durable afterwards.
    pub(super) fn settle(&mut self, mut keep: impl FnMut() -> bool) {
        let mut lost: HashSet<Name> = HashSet::new();
        self.settle_where(|change| {
            let kept = !change.names().any(|name| lost.contains(name)) && keep();
            if !kept {
                lost.extend(change.names().cloned());
            }
            kept
        });
        self.pending.clear();
        for dir in self.dirs.values_mut() {
            dir.now = dir.durable.clone();
        }
        self.drop_unreachable();
    }

    /// Returns every file that has a name.
    pub(super) fn files(&self) -> Vec<Arc<Inode>> {
        let mut files: Vec<_> = self
            .dirs
            .values()
            .flat_map(|dir| dir.now.values())
            .filter_map(|node| match node {
                Node::File(inode) => Some(Arc::clone(inode)),
                Node::Dir(_) => None,
            })
            .collect();
        files.sort_unstable_by_key(|inode| inode.id);
        files.dedup_by_key(|inode| inode.id);
        files
    }

    /// Returns a copy that shares nothing. `fork` copies each file.
    pub(super) fn fork(&self, mut fork: impl FnMut(&Arc<Inode>) -> Arc<Inode>) -> Self {
        let mut node = |node: &Node| node.forked(&mut fork);
        let mut names = |names: &BTreeMap<String, Node>| {
            names.iter().map(|(name, to)| (name.clone(), node(to))).collect()
        };
        let dirs = self
            .dirs
            .iter()
            .map(|(id, dir)| (*id, Dir { now: names(&dir.now), durable: names(&dir.durable) }));
        let dirs = dirs.collect();
        let pending = self.pending.iter().map(|change| change.with_nodes(&mut node)).collect();
        let leftovers = self.leftovers.clone();
        Self { dirs, pending, leftovers, next_id: self.next_id, keeps_history: self.keeps_history }
    }

    /// Makes all names durable and keeps a history from here on.
    pub(super) fn begin_history(&mut self) {
        self.keeps_history = true;
        for dir in self.dirs.values_mut() {
            dir.durable = dir.now.clone();
        }
    }

    fn leave(&mut self, inode: &Inode) {
        let contents = inode.contents.lock();
        let Some(history) = contents.history.as_ref().filter(|h| !h.durable.is_empty()) else {
            return;
        };
        if self.leftovers.len() == LEFTOVERS_MAX {
            self.leftovers.pop_front();
        }
        self.leftovers.push_back(history.durable.as_slice().into());
    }

    fn drop_unreachable(&mut self) {
        let mut reachable = HashSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(dir) = next.pop().and_then(|id| self.dirs.get(&id)) {
            for node in dir.now.values() {
                if let Node::Dir(id) = node
                    && reachable.insert(*id)
                {
                    next.push(*id);
                }
            }
        }
        self.dirs.retain(|id, _| reachable.contains(id));
    }
}

impl DirChange {
    fn names(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Self::Link(name, _) | Self::Unlink(name) => (name, None),
            Self::Rename(from, to, _) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// Applies the change to one of the two views. Returns the node that lost its name to it.
    fn apply_to(
        &self,
        dirs: &mut HashMap<DirId, Dir>,
        view: impl Fn(&mut Dir) -> &mut BTreeMap<String, Node>,
    ) -> Option<Node> {
        match self {
            Self::Link((dir, name), node) => {
                if let Node::Dir(id) = node {
                    dirs.entry(*id).or_default();
                }
                view(dirs.get_mut(dir)?).insert(name.clone(), node.clone())
            }
            Self::Unlink((dir, name)) => view(dirs.get_mut(dir)?).remove(name),
            Self::Rename((from_dir, from), (to_dir, to), node) => {
                let names = view(dirs.get_mut(from_dir)?);
                if names.get(from).is_some_and(|there| there.is(node)) {
                    names.remove(from);
                }
                view(dirs.get_mut(to_dir)?).insert(to.clone(), node.clone())
            }
        }
    }

    pub(super) fn with_nodes(&self, mut node: impl FnMut(&Node) -> Node) -> Self {
        match self {
            Self::Link(name, to) => Self::Link(name.clone(), node(to)),
            Self::Unlink(name) => Self::Unlink(name.clone()),
            Self::Rename(from, to, moved) => Self::Rename(from.clone(), to.clone(), node(moved)),
        }
    }
}
