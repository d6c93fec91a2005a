//! One sync of the file system that holds the folder.
//!
//! It may stand for a sync of each file only where it reports every failure to write a file back:
//! - The kernel must be Linux 5.8 or later. Earlier ones write everything, and report nothing.
//! - The file system must be one that is known to report. One in user space or on the network may
//!   write without a report, and one on top of another one keeps the reports of that one apart.
//! - The process must be allowed the call. A sandbox may refuse it.
//!
//! Linux keeps a failure until it was reported once through every open file description: a failure
//! of one file for those of the file, and a failure anywhere for those that `syncfs` is called with.
//! The handle of the folder was opened before any file, so it misses none. It reports a failure of
//! another program's file too, since nothing tells them apart.
//!
//! Imported by `disk`.

use std::io;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;

use crate::types::planted;

/// Syncs of the file system.
#[derive(Debug)]
pub(super) struct Syncfs {
    reports_failures: bool,
    /// Whether one failed. Locked during each sync: of two at a time, the system would tell only one
    /// of a failure that concerns both.
    failed: Mutex<bool>,
}

impl Syncfs {
    /// Asks the system, which writes nothing for that.
    pub(super) fn probe(dir: &OwnedFd) -> Self {
        Self { reports_failures: system::reports_failures(dir), failed: Mutex::new(false) }
    }

    /// Returns whether a sync of the file system may stand for a sync of each file. After a failure it
    /// may not: a file that is open reports its own loss.
    pub(super) fn may_be_used(&self) -> bool {
        self.reports_failures && !*self.failed.lock()
    }

    /// Syncs the file system.
    ///
    /// # Errors
    /// The first failure is final. It may have lost bytes of any file that is closed, and the system
    /// tells of them only once.
    pub(super) fn run(&self, dir: &OwnedFd) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if *failed {
            return Err(io::Error::other("an earlier sync of the file system failed"));
        }
        let synced = system::sync(dir);
        *failed = synced.is_err() && !planted("forget_failed_whole_sync");
        synced
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    pub(super) fn sync(dir: &OwnedFd) -> io::Result<()> {
        Ok(super::super::retry(|| rustix::fs::syncfs(dir))?)
    }

    pub(super) fn reports_failures(dir: &OwnedFd) -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        release.is_ok_and(|release| is_new_enough(&release))
            && rustix::fs::fstatfs(dir).is_ok_and(|stat| is_known(stat.f_type as u64))
            && is_permitted(dir)
    }

    pub(super) fn is_new_enough(release: &str) -> bool {
        let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
        numbers.next().zip(numbers.next()).is_some_and(|version| version >= (5, 8))
    }

    /// Returns whether a file system of this type reports each failure.
    pub(super) fn is_known(magic: u64) -> bool {
        /// Also ext2 and ext3.
        const EXT4: u64 = 0xef53;
        /// A segment that grows also changes XFS's own log, whose sync flushes the device.
        const XFS: u64 = 0x5846_5342;
        const BTRFS: u64 = 0x9123_683e;
        const TMPFS: u64 = 0x0102_1994;
        matches!(magic, EXT4 | XFS | BTRFS | TMPFS)
    }

    /// Calls `syncfs` with a handle that it refuses. Where the call is missing or forbidden, the error
    /// says so.
    fn is_permitted(dir: &OwnedFd) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(dir, ".", flags, Mode::empty());
        handle.is_ok_and(|handle| rustix::fs::syncfs(handle) == Err(Errno::BADF))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) fn sync(_dir: &OwnedFd) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn reports_failures(_dir: &OwnedFd) -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_and_a_file_system_that_report_are_relied_on() {
        for release in ["5.8.0-1", "5.10", "6.1.0-13-amd64", "10.0"] {
            assert!(system::is_new_enough(release), "{release}");
        }
        for release in ["4.4.0", "5.7.19", "5", "", "five.eight"] {
            assert!(!system::is_new_enough(release), "{release}");
        }
        assert!(system::is_known(0xef53));
        let (overlay, fuse, nfs) = (0x794c_7630, 0x6573_5546, 0x6969);
        assert!(![overlay, fuse, nfs].into_iter().any(system::is_known));
    }

    #[test]
    fn a_failed_sync_of_the_file_system_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let open = |flags| {
            let flags = flags | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open(folder.path(), flags, rustix::fs::Mode::empty()).unwrap()
        };
        let dir = open(rustix::fs::OFlags::DIRECTORY);
        let syncfs = Syncfs { reports_failures: true, failed: Mutex::new(false) };
        syncfs.run(&dir).unwrap();
        assert!(syncfs.may_be_used());
        syncfs.run(&open(rustix::fs::OFlags::PATH)).unwrap_err();
        assert!(!syncfs.may_be_used());
        syncfs.run(&dir).unwrap_err();
    }
}
