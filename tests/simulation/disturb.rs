//! What goes wrong around the engine: time, space, the disk, the machine.

use std::io;
use std::time::Duration;

use grouplog::storage::Storage;
use grouplog::{Error, Timestamp};

use crate::action::Action;
use crate::world::{Step, World, violation};

/// What was made to go wrong in this session.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    fault: Option<Fault>,
    /// Whether a fault has met a call since the folder was opened.
    has_fired: bool,
    disk_full: bool,
}

/// The `at`-th change of files fails, and all later ones if `persistent`.
#[derive(Debug, Clone, Copy)]
struct Fault {
    at: u64,
    kind: io::ErrorKind,
    persistent: bool,
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
            // EMFILE, which has no name of its own.
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
        self.had_trouble = true;
        self.note(format!("{fault:?}"));
        self.trouble.fault = Some(fault);
    }

    fn heal(&mut self) {
        self.trouble.has_fired |= self.fault_met_since(0);
        self.memory.heal();
        self.trouble.fault = None;
    }

    fn free_disk(&mut self) {
        self.memory.set_capacity(u64::MAX);
        self.trouble.disk_full = false;
    }

    /// Everything works again, and the folder is about to be opened.
    pub(crate) fn end_trouble(&mut self) {
        self.heal();
        self.free_disk();
        self.trouble.has_fired = false;
    }

    /// A storage after a crash has no faults; a full disk stays full.
    pub(crate) fn end_trouble_of_storage(&mut self) {
        self.trouble.fault = None;
        self.trouble.has_fired = false;
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.trouble.disk_full || self.trouble.fault.is_some() || self.trouble.has_fired
    }

    /// Whether the fault failed a call after the `ops`-th change.
    fn fault_met_since(&self, ops: u64) -> bool {
        let now = self.memory.ops();
        self.trouble
            .fault
            .is_some_and(|fault| fault.at <= now && (fault.persistent || fault.at > ops))
    }

    /// An error must have a cause: of our own doing, during the call that began after the `ops`-th
    /// change, or before it if it is final.
    pub(crate) fn judge(&self, error: &Error, ops: u64) -> Step {
        let met = self.fault_met_since(ops);
        let space = met && self.trouble.fault.is_some_and(|f| f.kind == io::ErrorKind::StorageFull);
        let expected = match error {
            Error::Failed { .. } | Error::Indeterminate { .. } => {
                self.trouble.has_fired || self.fault_met_since(0) || self.trouble.disk_full
            }
            Error::DiskFull { .. } => self.trouble.disk_full || space,
            // A journal file whose header could not be written is not tried again before the folder is
            // opened anew: the journal has room for less, or for nothing more.
            Error::Timeout { .. } => {
                self.trouble.disk_full || self.trouble.has_fired || self.fault_met_since(0)
            }
            Error::Io { .. } => met,
            // Of a topic whose creation may or may not have happened.
            Error::UnknownTopic { .. } => self.is_uncertain(),
            _ => false,
        };
        if expected { Ok(()) } else { violation(format!("unexpected: {error:?}")) }
    }
}
