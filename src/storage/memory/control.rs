//! Counts the calls that change something and those that only look, and makes one of them crash or fail.

use std::io;
use std::sync::Arc;

use crate::time::{Random, SeededRandom};

use super::contents::Inode;
use super::tree::DirChange;

/// A change under way, with all that is needed to do a part of it.
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
    /// Nothing of it can be seen before it is done.
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
    /// How many calls there were that change nothing.
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
    /// What the `count`-th call comes to.
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

    /// Lets a change happen, or not. A write that fails has done a part of its work, a sync that
    /// fails has lost what it was to make durable.
    pub(super) fn admit(&mut self, step: impl FnOnce() -> Step) -> io::Result<()> {
        self.count(step, true)
    }

    /// As `admit`, for a store through a map, which cannot fail.
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

    /// Lets a call look at something, or not.
    pub(super) fn admit_read(&mut self) -> io::Result<()> {
        self.check_alive()?;
        self.reads += 1;
        self.read_fault.map_or(Ok(()), |fault| fault.meet(self.reads))
    }

    fn fail(&self, step: Step) {
        match step {
            Step::Write { inode, position, bytes } => {
                let done = (self.random.next_u64() % (bytes.len() as u64 + 1)) as usize;
                // The call fails anyway; that a part of it fails on its own changes nothing.
                let _ = inode.contents.lock().write(position, &bytes[..done]);
            }
            Step::Sync { inode } => inode.contents.lock().fail_sync(),
            Step::Resize { .. } | Step::Names(_) | Step::Other => {}
        }
    }
}
