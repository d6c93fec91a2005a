//! Counts the calls that change something and the read-only ones, and makes one of them crash or
//! fail.

use std::io;
use std::sync::Arc;

use crate::time::{Random, SeededRandom};

use super::contents::Inode;
use super::tree::DirChange;

/// A change in progress, with everything necessary to do a part of it.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Write {
        inode: Arc<Inode>,
        position: u64,
        bytes: Box<[u8]>,
    },
    Resize {
        inode: Arc<Inode>,
        len: u64,
    },
    Names(DirChange),
    Sync {
        inode: Arc<Inode>,
    },
    SyncWhole {
        inodes: Vec<Arc<Inode>>,
    },
    /// A change of which no part is visible before it is complete.
    Other,
}

#[derive(Debug)]
pub(super) struct Control {
    pub(super) ops: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crashed: bool,
    /// The change that the crash interrupted.
    pub(super) in_flight: Option<Step>,
    pub(super) fault: Option<Fault>,
    /// The number of read-only calls so far.
    pub(super) reads: u64,
    pub(super) read_fault: Option<Fault>,
    pub(super) random: SeededRandom,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) at: u64,
    pub(super) kind: io::ErrorKind,
    pub(super) persistent: bool,
}

impl Fault {
    /// Returns the outcome of the `count`-th call.
    fn meet(self, count: u64) -> io::Result<()> {
        if count == self.at || (self.persistent && count > self.at) {
            return Err(io::Error::new(self.kind, "injected fault"));
        }
        Ok(())
    }
}

impl Control {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            ops: 0,
            crash_at: None,
            crashed: false,
            in_flight: None,
            fault: None,
            reads: 0,
            read_fault: None,
            random: SeededRandom::new(seed),
        }
    }

    pub(super) fn check_alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("crashed")) } else { Ok(()) }
    }

    /// Allows or rejects a change. A failing write has done a part of its work. A failing sync has
    /// lost the bytes it should have made durable.
    pub(super) fn admit(&mut self, step: impl FnOnce() -> Step) -> io::Result<()> {
        self.count(step, true)
    }

    /// Allows or rejects a store through a map, which cannot fail.
    pub(super) fn admit_store(&mut self, step: impl FnOnce() -> Step) -> io::Result<()> {
        self.count(step, false)
    }

    fn count(&mut self, step: impl FnOnce() -> Step, can_fail: bool) -> io::Result<()> {
        self.check_alive()?;
        self.ops += 1;
        if self.crash_at == Some(self.ops) {
            self.crashed = true;
            self.in_flight = Some(step());
            return self.check_alive();
        }
        let met = self.fault.filter(|_| can_fail).map_or(Ok(()), |fault| fault.meet(self.ops));
        if met.is_err() {
            self.fail(step());
        }
        met
    }

    /// Allows or rejects a read-only call.
    pub(super) fn admit_read(&mut self) -> io::Result<()> {
        self.check_alive()?;
        self.reads += 1;
        self.read_fault.map_or(Ok(()), |fault| fault.meet(self.reads))
    }

    fn fail(&self, step: Step) {
        match step {
            Step::Write { inode, position, bytes } => {
                let done = (self.random.next_u64() % (bytes.len() as u64 + 1)) as usize;
                // The call fails anyway, so a failure of this partial write changes nothing.
                let _ = inode.contents.lock().write(position, &bytes[..done]);
            }
            Step::Sync { inode } => inode.contents.lock().fail_sync(),
            Step::SyncWhole { inodes } => self.fail_some(inodes),
            Step::Resize { .. } | Step::Names(_) | Step::Other => {}
        }
    }

    /// Loses the unsynced bytes of at least one file.
    fn fail_some(&self, mut inodes: Vec<Arc<Inode>>) {
        inodes.retain(|inode| inode.contents.lock().is_dirty());
        let chosen = self.random.next_u64();
        for (number, inode) in inodes.iter().enumerate() {
            let first = number as u64 == chosen % inodes.len() as u64;
            if first || self.random.next_u64().is_multiple_of(2) {
                inode.contents.lock().lose_unsynced();
            }
        }
    }
}
