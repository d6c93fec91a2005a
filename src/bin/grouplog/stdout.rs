//! Stdout without the error handling of std.
//!
//! std hides that stdout is closed: before `main` it opens `/dev/null` in the place of a closed descriptor,
//! and its `Stdout` treats EBADF as success. Here every failed write is an error.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
use rustix::io::Errno;

/// Writes to stdout, unbuffered.
#[derive(Debug)]
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(io::stdout(), bytes) {
                // Another process that shares the pipe or terminal has made it non-blocking.
                Err(Errno::AGAIN) => wait_for_space()?,
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an error if stdout is not open for writing.
pub(crate) fn check_writable() -> io::Result<()> {
    if access_mode()? == OFlags::RDONLY {
        return Err(io::Error::other("stdout is open for reading only"));
    }
    Ok(())
}

/// Returns whether stdout may have been closed when the process began.
///
/// The only trace of that is that std opened `/dev/null` for reading and writing. Some programs pass exactly
/// that to a child to discard its output (Python's `DEVNULL`). So a command should refuse it only if
/// discarded output loses something.
pub(crate) fn may_have_been_closed() -> io::Result<bool> {
    if access_mode()? != OFlags::RDWR {
        return Ok(false);
    }
    let (own, null) = (fstat(io::stdout())?, stat("/dev/null")?);
    Ok(is(own.st_mode, FileType::CharacterDevice) && own.st_rdev == null.st_rdev)
}

/// Waits for `time`. Fails with `BrokenPipe` as soon as the reader of stdout goes away.
pub(crate) fn wait(time: Duration) -> io::Result<()> {
    let stdout = io::stdout();
    let mode = fstat(&stdout)?.st_mode;
    // Only these have a reader that can go away. Some systems cannot poll devices.
    let has_reader = is(mode, FileType::Fifo) || is(mode, FileType::Socket);
    // An empty set: errors and hang-ups are reported without being asked for.
    let mut all = [PollFd::new(&stdout, PollFlags::empty())];
    let watched = if has_reader { &mut all[..] } else { &mut [] };
    let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(watched, Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => Ok(()),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(error.into()),
    }
}

fn wait_for_space() -> io::Result<()> {
    let stdout = io::stdout();
    match poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn access_mode() -> io::Result<OFlags> {
    Ok(fcntl_getfl(io::stdout())? & OFlags::RWMODE)
}

fn is(mode: rustix::fs::RawMode, kind: FileType) -> bool {
    FileType::from_raw_mode(mode) == kind
}
