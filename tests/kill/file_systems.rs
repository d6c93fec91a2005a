//! Kills on other file systems than the one the tests run on, and file systems that stop: what they had not
//! given to their device is lost, as when the power fails.

use std::path::Path;
use std::time::Duration;

use grouplog::time::{Random, SeededRandom};
use grouplog::{Broker, JournalMode};

use crate::found::Found;
use crate::mounted::{Kind, Mounted};
use crate::told::Told;
use crate::{fail, kill_after, kill_one, reopen};

/// The ends of one folder, on each file system and in each mode.
const ENDS: u64 = 2;
/// The most lives of one folder: those that end before their first acknowledgement do not count as ends.
const LIVES: u64 = 1000;
/// XFS accepts no less than 300 MiB. The image is sparse.
const IMAGE: u64 = 320 << 20;
const MODES: [JournalMode; 2] = [JournalMode::Auto, JournalMode::Write];

fn mount(kind: Kind) -> Option<Mounted> {
    Mounted::image(kind, IMAGE, Mounted::tmpfs("400m")?)
}

fn ends() -> u64 {
    std::env::var("GROUPLOG_KILLS").map_or(ENDS, |text| (text.parse::<u64>().unwrap() / 24).max(1))
}

fn delay(random: &dyn Random) -> Duration {
    Duration::from_micros(50_000 + random.next_u64() % 150_000)
}

#[test]
fn what_was_acknowledged_survives_sigkill_on_tmpfs() {
    Mounted::tmpfs("400m").inspect(survives_sigkill);
}

#[test]
fn what_was_acknowledged_survives_sigkill_on_xfs() {
    mount(Kind::Xfs).as_ref().inspect(|disk| survives_sigkill(disk));
}

#[test]
fn what_was_acknowledged_survives_sigkill_on_btrfs() {
    mount(Kind::Btrfs).as_ref().inspect(|disk| survives_sigkill(disk));
}

fn survives_sigkill(disk: &Mounted) {
    let random = SeededRandom::from_os();
    for (mode, name) in MODES.into_iter().zip(["map", "write"]) {
        let path = disk.path(name);
        let (mut found, mut left) = (Found::default(), ends());
        for run in 0..LIVES.max(2 * left) {
            let delay = delay(&random);
            let told = kill_one(&path, mode, run, delay);
            assert_eq!(told.failed, None);
            if told.count() == 0 && Broker::open_read_only(&path).is_err() {
                // The folder was not created completely.
                continue;
            }
            found = look(&path, mode, &found, &told, run, &format!("killed after {delay:?}"));
            left -= u64::from(told.count() > 0);
            if left == 0 {
                break;
            }
        }
        assert!(found.count() > 0, "the children are killed before their first acknowledgement");
    }
}

#[test]
fn what_was_synced_survives_an_ext4_that_stops() {
    survives_a_stop(Kind::Ext4);
}

#[test]
fn what_was_synced_survives_an_xfs_that_stops() {
    survives_a_stop(Kind::Xfs);
}

fn survives_a_stop(kind: Kind) {
    let random = SeededRandom::from_os();
    for mode in MODES {
        let Some(mut disk) = mount(kind) else { return };
        let (mut found, mut left) = (Found::default(), ends());
        for run in 0..LIVES.max(2 * left) {
            let delay = delay(&random);
            // Where power is lost, no program goes on. Here it does: a sync of an ext4 that is under way may return
            // success although the file system has aborted the transaction that it needs.
            let stop = || stop(disk.root());
            let mut told = kill_after(&disk.path("data"), mode, run, delay, Some(&stop));
            told.keep_synced();
            disk = disk.again().unwrap();
            let path = disk.path("data");
            if told.count() == 0 && Broker::open_read_only(&path).is_err() {
                // The folder was not created completely.
                continue;
            }
            found = look(&path, mode, &found, &told, run, &format!("stopped after {delay:?}"));
            left -= u64::from(told.count() > 0);
            if left == 0 {
                break;
            }
        }
        assert!(found.count() > 0, "all file systems stop before the first acknowledgement");
    }
}

/// Checks what is left, and closes the folder, so that everything found must be found again later.
fn look(path: &Path, mode: JournalMode, before: &Found, told: &Told, run: u64, end: &str) -> Found {
    let context = format!("run {run}, {mode:?}, {end}");
    let reader = Broker::open_read_only(path).unwrap();
    let found = before.verify(&reader, told, run).unwrap_or_else(|what| fail(&context, &what));
    drop(reader);
    reopen(path, mode, &found, run).unwrap_or_else(|what| fail(&context, &what));
    found
}

/// Stops a file system at once. It gives nothing more to its device, its log neither.
fn stop(root: &Path) {
    /// `FS_IOC_SHUTDOWN` of ext4 and `XFS_IOC_GOINGDOWN` are the same call.
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    static WITHOUT_LOG: u32 = 2;
    use std::os::fd::AsRawFd as _;
    #[expect(
        clippy::disallowed_types,
        reason = "the root of a file system is no file of the engine"
    )]
    let root = std::fs::File::open(root).unwrap();
    // SAFETY: the descriptor is open, and the call reads one u32.
    #[expect(unsafe_code, reason = "there is no safe way to stop a file system")]
    let stopped = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const WITHOUT_LOG) };
    assert_eq!(stopped, 0, "{}", std::io::Error::last_os_error());
}
