//! Faults around the engine: time, space, the disk, the machine.

use std::io;
use std::time::Duration;

use grouplog::storage::Storage;
use grouplog::time::Clock;
use grouplog::{Error, Timestamp};

use crate::action::Action;
use crate::session::Session;
use crate::world::{Step, World, violation};

/// The faults set in this session.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    fault: Option<Fault>,
    /// Set once a fault has met a change of files since the folder was opened.
    has_fired: bool,
    read_fault: Option<Fault>,
    /// Whether a read has failed since the folder was opened.
    has_read_failed: bool,
    disk_full: bool,
}

/// The `at`-th call of its kind fails, and all later ones if `persistent`.
#[derive(Debug, Clone, Copy)]
struct Fault {
    at: u64,
    kind: io::ErrorKind,
    persistent: bool,
}

impl Fault {
    /// Returns whether it failed a call after the `before`-th, of `now` calls.
    fn met(&self, before: u64, now: u64) -> bool {
        self.at <= now && (self.persistent || self.at > before)
    }
}

/// The number of calls to the storage so far: those that change something, and read-only ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    pub(crate) ops: u64,
    reads: u64,
}

impl World {
    pub(crate) fn disturb(&mut self, action: Action) {
        match action {
            Action::Tick => {
                let time = Duration::from_millis(1 + self.below(900) as u64);
                self.clock.advance(time);
                self.note(format!("tick {time:?}"));
            }
            Action::SetWallClock => {
                self.latest = self.latest.max(self.clock.now().as_millis());
                let time = Timestamp::from_millis(self.below(4_000_000_000_000) as i64);
                self.clock.set_wall(time);
                self.note(format!("wall clock {}", time.as_millis()));
            }
            Action::FillDisk => {
                let left = self.below(40_000) as u64;
                self.free_disk();
                let used = u64::MAX - self.memory.free_space().unwrap();
                self.memory.set_capacity(used + left);
                self.trouble.disk_full = true;
                self.note(format!("disk full but for {left} bytes"));
            }
            Action::FreeDisk => {
                self.free_disk();
                self.note("disk free");
            }
            Action::SetFault => self.set_fault(),
            Action::SetReadFault => {
                let persistent = self.one_in(3);
                let within = [1, 4, 20][self.below(3)];
                self.set_read_fault(within, persistent);
            }
            Action::Heal => {
                self.heal();
                self.note("healed");
            }
            _ => {
                let op = self.memory.ops() + 1 + self.below(40) as u64;
                self.memory.crash_at(op);
                self.note(format!("crash at {op}"));
            }
        }
    }

    fn set_fault(&mut self) {
        self.heal();
        let kind = match self.below(4) {
            0 => io::ErrorKind::StorageFull,
            // EMFILE, which has no `ErrorKind` of its own.
            1 => io::Error::from_raw_os_error(24).kind(),
            _ => io::ErrorKind::Other,
        };
        let fault = Fault {
            at: self.memory.ops() + 1 + self.below(25) as u64,
            kind,
            persistent: self.one_in(3),
        };
        self.memory.fail_at(fault.at, fault.kind, fault.persistent);
        self.trace.tally.faults += 1;
        self.note(format!("{fault:?}"));
        self.trouble.fault = Some(fault);
    }

    /// Makes one of the next `within` read-only calls fail.
    pub(crate) fn set_read_fault(&mut self, within: usize, persistent: bool) {
        self.heal();
        let at = self.memory.reads() + 1 + self.below(within) as u64;
        let fault = Fault { at, kind: io::ErrorKind::Other, persistent };
        self.memory.fail_read_at(fault.at, fault.kind, fault.persistent);
        self.trace.tally.read_faults += 1;
        self.note(format!("read {fault:?}"));
        self.trouble.read_fault = Some(fault);
    }

    /// Sometimes, if there is no other fault, makes a read fail that is about to happen.
    pub(crate) fn hinder_reading(&mut self) {
        if self.options.reads_fail() && !self.is_troubled() && self.one_in(4) {
            self.set_read_fault(10, false);
        }
    }

    /// Ends the faults. A failed write may be final, but everything can be read from here on.
    pub(crate) fn heal(&mut self) {
        self.trouble.has_fired |= self.change_failed_since(Mark::default());
        self.trouble.has_read_failed |= self.read_failed_since(Mark::default());
        self.memory.heal();
        self.trouble.fault = None;
        self.trouble.read_fault = None;
    }

    fn free_disk(&mut self) {
        self.memory.set_capacity(u64::MAX);
        self.trouble.disk_full = false;
    }

    /// Ends all faults before the folder is opened.
    pub(crate) fn end_trouble(&mut self) {
        self.heal();
        self.free_disk();
        self.trouble.has_fired = false;
        self.trouble.has_read_failed = false;
    }

    /// A storage after a crash has no faults. A full disk stays full.
    pub(crate) fn end_trouble_of_storage(&mut self) {
        self.trouble.fault = None;
        self.trouble.read_fault = None;
        self.trouble.has_fired = false;
        self.trouble.has_read_failed = false;
    }

    pub(crate) fn is_troubled(&self) -> bool {
        let Trouble { fault, has_fired, read_fault, disk_full, .. } = &self.trouble;
        *disk_full || fault.is_some() || *has_fired || read_fault.is_some()
    }

    /// Returns whether reading the files now can fail.
    pub(crate) fn can_look(&self) -> bool {
        self.trouble.read_fault.is_none()
    }

    /// Returns the number of calls so far.
    pub(crate) fn mark(&self) -> Mark {
        Mark { ops: self.memory.ops(), reads: self.memory.reads() }
    }

    fn change_failed_since(&self, mark: Mark) -> bool {
        self.trouble.fault.is_some_and(|fault| fault.met(mark.ops, self.memory.ops()))
    }

    pub(crate) fn read_failed_since(&self, mark: Mark) -> bool {
        self.trouble.read_fault.is_some_and(|fault| fault.met(mark.reads, self.memory.reads()))
    }

    /// Returns whether a read was made to fail since the folder was opened.
    pub(crate) fn has_read_failed(&self) -> bool {
        self.trouble.has_read_failed || self.read_failed_since(Mark::default())
    }

    /// Checks that writing stops only after a failed write or sync.
    pub(crate) fn check_health(&self, session: &Session) -> Step {
        if session.has_failed() && !self.has_ever_failed() {
            return violation(format!("without need: {}", session.broker.health()));
        }
        Ok(())
    }

    /// Returns whether a change of files was made to fail since the folder was opened.
    pub(crate) fn has_ever_failed(&self) -> bool {
        self.trouble.has_fired || self.change_failed_since(Mark::default())
    }

    /// Checks that an error has a cause: a fault of the simulation, during the call that began at
    /// `mark`, or before it if the fault is final. A failed read is never final.
    pub(crate) fn judge(&self, error: &Error, mark: Mark) -> Step {
        let met = self.change_failed_since(mark);
        let unread = self.read_failed_since(mark);
        let space = met && self.trouble.fault.is_some_and(|f| f.kind == io::ErrorKind::StorageFull);
        let ever = self.has_ever_failed();
        let expected = match error {
            Error::Failed { .. } => ever,
            Error::Indeterminate { cause } => {
                let unread = unread && matches!(**cause, Error::Io { .. });
                ever || self.trouble.disk_full || unread
            }
            Error::DiskFull { .. } => self.trouble.disk_full || space,
            // Only a full disk prevents the release of journal space without an error of its own.
            Error::Timeout { .. } => self.trouble.disk_full,
            Error::Io { op, path, position, .. } => {
                let placed = !["read", "write"].contains(op) || position.is_some();
                (met || unread) && placed && path.starts_with("memory:")
            }
            Error::DiskBudget { budget, taken, needed } => {
                self.options.budget && taken + needed > *budget
            }
            // Concerns a topic whose creation may or may not have happened.
            Error::UnknownTopic { .. } => self.is_uncertain(),
            _ => false,
        };
        if expected { Ok(()) } else { violation(format!("unexpected: {error:?}")) }
    }
}
